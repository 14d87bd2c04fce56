"""Shard tables: Parquet files with the rows of one step for a group of subjects.

The metadata hold the outcome of every subject: analysed, or quarantined and why.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from paravert import tables
from paravert.errors import InputError
from paravert.records import Outcome, Result, outcome_of
from paravert.steps import Step

PASSING = "passing"  # key of the metadata of a table with a subject that the next run tries again


def write_shard_table(path: Path, step: Step, results: Sequence[Result], made_from: str) -> None:
    """Write the table of one step for one shard as a Parquet file, completely or not at all.

    Shard: a group of subjects that one job processes. path: of the file. step: whose table it is.
    results: outcome and rows of each subject; the table keeps their order and adds the column subject.
    If `step.table.per_subject`, it also has the columns of the outcome, and a row for a subject without
    rows. made_from: digest (hexadecimal) of everything the table was made from. The file's metadata
    hold `made_from`, the outcomes of all subjects (JSON), and the key PASSING if one of the results is
    `passing`. Raises the exceptions of `tables.from_rows` and `tables.check` if the rows do not fit the
    table's description.
    """
    rows = []
    for result in results:
        common = {"subject": result.outcome.subject}
        if step.table.per_subject:
            common = outcome_row(result.outcome)
        subject_rows = result.rows or ([{}] if step.table.per_subject else [])
        rows += [common | row for row in subject_rows]
    outcomes = json.dumps([asdict(result.outcome) for result in results])
    metadata = {"outcomes": outcomes, "made_from": made_from}
    if any(result.passing for result in results):
        metadata[PASSING] = "true"
    tables.write(path, step.table, tables.from_rows(step.table, rows), metadata)


def outcome_row(outcome: Outcome) -> dict:
    """Return an outcome as one table row, {column: value} with the columns of tables.OUTCOME.

    These are subject, status, warnings, stage, reason and message. outcome: of one step for one
    subject.
    """
    row = asdict(outcome)
    del row["fingerprint"], row["identity"]
    return row


def read_outcomes(path: Path) -> list[Outcome]:
    """Return the outcome of every subject of a shard table, in the order of the file.

    Shard table: Parquet file with the rows of one step for a group of subjects. Outcome: whether
    the subject was analysed or quarantined, with reason and warnings. Raises InputError if the file
    is missing or not a shard table, OSError if it may not be read.
    """
    metadata = _metadata(path)
    if b"outcomes" not in metadata:
        raise _damaged(path)
    return [outcome_of(fields) for fields in json.loads(metadata[b"outcomes"])]


def read_made_from(path: Path) -> str | None:
    """Return the digest (hexadecimal) of what a table was made from; None if it has none.

    The digest is in the metadata of the Parquet file of a shard or of the cohort. Raises InputError
    if the file is missing or not Parquet, OSError if it may not be read.
    """
    return _made_from(_metadata(path))


def read_lasting_made_from(path: Path) -> str | None:
    """Return `read_made_from` of a shard table; None if the next run is to try one of its subjects again.

    Raises InputError if the file is missing or not Parquet, OSError if it may not be read.
    """
    metadata = _metadata(path)
    return None if PASSING.encode() in metadata else _made_from(metadata)


def _made_from(metadata: dict[bytes, bytes]) -> str | None:
    made_from = metadata.get(b"made_from")
    return made_from and made_from.decode()


def _metadata(path: Path) -> dict[bytes, bytes]:
    with damage_told(path):
        return pq.read_schema(path).metadata or {}


def read_shard_rows(path: Path) -> pa.Table:
    """Return the rows of a shard table as an Arrow table with all its columns.

    Shard table: Parquet file with the rows of one step for a group of subjects. Raises InputError
    if the file is missing or damaged, OSError if it may not be read.
    """
    with damage_told(path), pq.ParquetFile(path) as file:  # no folder, as read_table takes
        return file.read()


@contextmanager
def damage_told(path: Path) -> Iterator[None]:
    """Raise InputError if the Parquet file at path is missing or damaged, as the block of `with` finds.

    Other errors of the system, such as a denied access, stay OSError; Arrow raises one without errno
    for a damaged footer.
    """
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(path, "no such file, expected the table of a step") from None
    except (pa.ArrowInvalid, OSError) as error:
        if path.is_dir():
            raise InputError(path, "a folder, expected the table of a step") from None
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise _damaged(path) from error


def _damaged(path: Path) -> InputError:
    return InputError(path, "not the table that a step wrote here; delete it and run again")
