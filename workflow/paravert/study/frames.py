"""Cohort tables as data frames, and data frames as CSV."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from paravert.anatomy import MUSCLES, SIDES
from paravert.tables import Table

SEXES = ("F", "M")
ORDERED = {"muscle": MUSCLES, "side": SIDES, "sex": SEXES}


def read_frame(cohort: Path, table: Table, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a cohort table, or some of its columns, rows in the order of its keys.

    muscle, side and sex are ordered categories with all their values, seen or not.
    """
    frame = pd.read_parquet(
        cohort / f"{table.name}.parquet", columns=None if columns is None else list(columns)
    )
    frame = in_order(frame)
    keys = [key for key in table.keys if key in frame]
    return frame.sort_values(keys, ignore_index=True)


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with muscle, side and sex, where it has them, as ordered categories."""
    known = {
        name: pd.Categorical(frame[name], categories=list(values), ordered=True)
        for name, values in ORDERED.items()
        if name in frame
    }
    return frame.assign(**known)


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """Write a frame as CSV, whole or not at all; null is an empty cell, nothing is rounded."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as scratch:
        draft = Path(scratch) / path.name
        frame.to_csv(draft, index=False, lineterminator="\n")
        os.replace(draft, path)
