"""Reads cohort tables as data frames, and writes data frames as CSV."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from paravert.anatomy import MUSCLES, SIDES
from paravert.tables import Table

SEX_CATEGORIES = ("F", "M")
ORDERED = {"muscle": MUSCLES, "side": SIDES, "sex": SEX_CATEGORIES}


def read_frame(cohort: Path, table: Table, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Return a cohort table, or some of its columns, sorted by its keys.

    muscle, side and sex are ordered categories of all possible values.
    """
    frame = pd.read_parquet(
        cohort / f"{table.name}.parquet", columns=None if columns is None else list(columns)
    )
    frame = in_order(frame)
    keys = [key for key in table.keys if key in frame]
    return frame.sort_values(keys, ignore_index=True)


def read_by_subject(cohort: Path, table: Table, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
    """Yield some columns of a cohort table in parts; all rows of a subject are in one part.

    A part is about one row group of the file, which bounds the memory. Raises ValueError if the
    rows of a subject are not contiguous.
    """
    kept, done = None, set()
    with pq.ParquetFile(cohort / f"{table.name}.parquet") as file:
        for number in range(file.num_row_groups):
            part = file.read_row_group(number, columns=list(columns))
            part = part if kept is None else pa.concat_tables([kept, part])
            if not part.num_rows:
                continue
            last = pc.equal(part["subject"], part["subject"][-1])
            kept = part.filter(last)
            yield _whole_subjects(part.filter(pc.invert(last)), done)
        rest = file.schema_arrow.empty_table().select(list(columns)) if kept is None else kept
    yield _whole_subjects(rest, done)


def _whole_subjects(part: pa.Table, done: set[str]) -> pd.DataFrame:
    names = set(pc.unique(part["subject"]).to_pylist())
    if done & names:
        raise ValueError(f"{len(done & names)} subjects whose rows are not contiguous")
    done |= names
    return in_order(part.to_pandas())


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with its columns muscle, side and sex as ordered categories."""
    known = {
        name: pd.Categorical(frame[name], categories=list(values), ordered=True)
        for name, values in ORDERED.items()
        if name in frame
    }
    return frame.assign(**known)


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """Write a frame as CSV, atomically; null is an empty cell, nothing is rounded."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as scratch:
        draft = Path(scratch) / path.name
        frame.to_csv(draft, index=False, lineterminator="\n")
        os.replace(draft, path)
