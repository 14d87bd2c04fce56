"""Reads cohort tables as data frames, and writes and reads data frames as CSV."""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from paravert.anatomy import MUSCLES, SIDES
from paravert.errors import InputError
from paravert.shard_tables import damage_told
from paravert.study.scans import scan_keys
from paravert.tables import VISIT, Table, whole_file

SEX_CATEGORIES = ("F", "M")
# In the column sex of descriptive tables: subjects of any sex, and those of unknown sex.
ALL_SEXES, SEX_UNKNOWN = "all", "unknown"
ORDERED = {"muscle": MUSCLES, "side": SIDES, "sex": SEX_CATEGORIES}
# Columns of tables of results with words of the sheet or of raters, and units, which may look like numbers.
WORDS = ("unit", "variable", "category", "reference", "subject", "visit", "first", "second")


def read_frame(
    cohort: Path,
    table: Table,
    columns: Sequence[str] | None = None,
    filters: Sequence[tuple[str, str, str]] | None = None,
) -> pd.DataFrame:
    """Return a cohort table as a data frame, sorted by the columns of its key that are read.

    cohort: folder of the cohort tables. table: its description. columns: names of the columns to
    read; None reads all. If subject is among them and the table has a column visit, visit is read
    too. filters: conditions on rows (column, operator, value) that must all hold, as in
    pandas.read_parquet; None reads all rows. The columns muscle, side and sex are ordered
    categories with all values that they can have. Raises InputError if the file is missing or damaged.
    """
    file = cohort / f"{table.name}.parquet"
    with damage_told(file):
        schema = pq.read_schema(file)
        names = columns and _with_visit(columns, schema)
        if absent := set(names or ()) - set(schema.names):
            raise InputError(file, f"no column {min(absent)}, expected a table of this version")
        found = pd.read_parquet(file, columns=names, filters=filters)
    frame = with_ordered_categories(found)
    keys = [key for key in (table.keys[0], VISIT.name, *table.keys[1:]) if key in frame]
    return frame.sort_values(keys, ignore_index=True)


def _with_visit(columns: Sequence[str], schema: pa.Schema) -> list[str]:
    has_visit = VISIT.name in schema.names and "subject" in columns
    return list(dict.fromkeys([*columns, VISIT.name])) if has_visit else list(columns)


def read_metadata(file: Path) -> dict[str, str]:
    """Return the key-value metadata of a Parquet file as {key: text}; empty if it has none.

    Raises InputError if the file is missing or damaged.
    """
    with damage_told(file):
        found = pq.read_schema(file).metadata or {}
    return {key.decode(): value.decode() for key, value in found.items()}


def read_by_scan(cohort: Path, table: Table, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
    """Yield a cohort table in parts that hold all rows of their scans, as data frames (not sorted).

    cohort: folder of the cohort tables. table: its description. columns: names of the columns to read,
    subject among them; visit is read too if the table has it. The columns muscle, side and sex are
    ordered categories, as in `read_frame`. Each part is about one row group of the Parquet file, which
    limits the memory needed. A part may have no rows; an empty table yields one such part. Raises
    InputError if the file is missing or damaged, ValueError if the rows of a scan would be in two
    parts, because those of others lie between them.
    """
    kept, done = None, set()
    path = cohort / f"{table.name}.parquet"
    with damage_told(path), pq.ParquetFile(path) as file:
        columns = _with_visit(columns, file.schema_arrow)
        keys = scan_keys(columns)
        for number in range(file.num_row_groups):
            part = file.read_row_group(number, columns=columns)
            part = part if kept is None else pa.concat_tables([kept, part])
            if not part.num_rows:
                continue
            of_last = [pc.equal(part[key], part[key][-1]) for key in keys]
            last = functools.reduce(pc.and_, of_last)
            kept = part.filter(last)
            yield _whole_scans(part.filter(pc.invert(last)), keys, done)
        rest = file.schema_arrow.empty_table().select(columns) if kept is None else kept
    yield _whole_scans(rest, keys, done)


def _whole_scans(part: pa.Table, keys: list[str], done: set[tuple]) -> pd.DataFrame:
    names = part.group_by(keys).aggregate([])
    names = set(zip(*(names[key].to_pylist() for key in keys), strict=True))
    if done & names:
        raise ValueError(f"{len(done & names)} subjects whose rows are not contiguous")
    done |= names
    return with_ordered_categories(part.to_pandas())


def with_ordered_categories(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a copy of the frame with its columns muscle, side and sex as ordered categories.

    Columns that it does not have are ignored; rows keep their order. The categories are all values
    that the column can have: muscles as in anatomy.MUSCLES, left before right, F before M. Any other
    value becomes null.
    """
    known = {
        name: pd.Categorical(frame[name], categories=list(values), ordered=True)
        for name, values in ORDERED.items()
        if name in frame
    }
    return frame.assign(**known)


def by_sex(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return the rows of a table by sex, [(sex, rows)]: all, F, M, and unknown if there are such rows.

    frame: any table with a column sex ("F", "M" or null). The sexes are "all", "F", "M" and "unknown";
    F and M are there without rows, too.
    """
    groups = [(ALL_SEXES, frame), *((sex, frame[frame["sex"] == sex]) for sex in SEX_CATEGORIES)]
    unknown = frame[frame["sex"].isna()]
    return [*groups, (SEX_UNKNOWN, unknown)] if len(unknown) else groups


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """Write a data frame as a CSV file, completely or not at all.

    The index is left out; null is an empty cell; numbers are not rounded. Missing folders are made.
    """
    with whole_file(path) as draft:
        frame.to_csv(draft, index=False, lineterminator="\n")


def read_csv(path: Path) -> pd.DataFrame:
    """Return a table of results that `write_csv` wrote; only empty cells are null.

    A site or group named "None" or "NULL" stays this text, and in the columns WORDS a number such as
    "01".
    """
    words = dict.fromkeys(WORDS, str)
    return pd.read_csv(path, dtype=words, keep_default_na=False, na_values=[""])
