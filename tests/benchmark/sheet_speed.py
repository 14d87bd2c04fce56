"""Measures how long a large subject sheet takes to be read and checked.

python tests/benchmark/sheet_speed.py [--subjects 100000] [--columns 20]
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[2] / "workflow"))

from paravert.sheet import read_sheet, write_sheet  # noqa: E402


def large_sheet(subjects: int, columns: int) -> pd.DataFrame:
    """Return a sheet with all covariates and as many other columns as are wanted, of every type."""
    random = np.random.default_rng(1)
    names = [f"S{number:06d}" for number in range(subjects)]
    sheet = {
        "Subject": names,
        "Images": [f"images/site {n % 40}/{name}/dicom" for n, name in enumerate(names)],
        "Sex": random.choice(["female", "m"], subjects),
        "Age_years": random.uniform(20, 80, subjects).round(1),
        "Height_cm": random.normal(170, 8, subjects).round(1),
        "Weight_kg": random.normal(75, 6, subjects).round(1),
        "Site": random.choice([f"Köln {number}" for number in range(40)], subjects),
        "Group": random.choice(["a", "b", ""], subjects),
    }
    kinds = (
        lambda: random.normal(0, 1, subjects).round(3),
        lambda: random.choice(["low", "middle", "high", "NA"], subjects),
        lambda: [f"note {name}" for name in names],
        lambda: random.choice(["yes", "no"], subjects),
    )
    for number in range(columns - len(sheet)):
        sheet[f"Other {number}"] = kinds[number % len(kinds)]()
    return pd.DataFrame(sheet)


def main() -> None:
    """Print seconds and processor seconds for each form of the sheet."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--subjects", type=int, default=100_000)
    parser.add_argument("--columns", type=int, default=20)
    told = parser.parse_args()
    table = large_sheet(told.subjects, told.columns)
    with tempfile.TemporaryDirectory() as scratch:
        text, excel, run = (Path(scratch) / name for name in ("sheet.csv", "sheet.xlsx", "run.csv"))
        table.to_csv(text, sep=";", decimal=",", index=False, encoding="cp1252")
        table.to_excel(excel, index=False)
        write_sheet(run, _timed("text, Windows-1252", text).rows)
        _timed("the run's own copy, UTF-8", run)
        _timed("Excel workbook", excel)


def _timed(name: str, path: Path):
    start, processor = time.perf_counter(), time.process_time()
    sheet = read_sheet(path)
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    size = f"{len(sheet.rows):,} rows, {path.stat().st_size / 1e6:.0f} MB"
    print(f"{name:26s} {size:24s} {seconds:6.1f} s, {processor:5.1f} s of processor time")
    return sheet


if __name__ == "__main__":
    main()
