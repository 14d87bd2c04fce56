"""The subject sheet: read and checked before anything runs, every fault told at once."""

import csv
import json
import os
import re
from collections import Counter
from functools import cache
from pathlib import Path

from jsonschema import Draft202012Validator

from paravert.errors import InputError

SCHEMA = Path(__file__).parent.parent / "schemas" / "subjects.schema.json"
PATH_COLUMNS = ("images", "truth", "labels")
NUMBER_COLUMNS = ("age_years", "height_cm", "weight_kg")
COVARIATES = ("sex", *NUMBER_COLUMNS, "site", "group")


def read_sheet(path: Path) -> list[dict[str, str]]:
    """Return the sheet's rows: every column as text, empty where unknown, paths made absolute.

    path: tab- or comma-separated, UTF-8, one header line. Raises InputError that lists every
    fault with its line.
    """
    lines = _lines(path)
    faults = _faults(lines)
    if faults:
        shown = "\n".join(f"  {fault}" for fault in faults)
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise InputError(path, f"{count} in the subject sheet:\n{shown}")
    columns = _schema()["properties"]
    home = path.resolve().parent
    return [_resolved(dict.fromkeys(columns, "") | row, home) for _, row in lines]


@cache
def _schema() -> dict:
    return json.loads(SCHEMA.read_text(encoding="utf-8"))


def _lines(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Return the rows with their line numbers, cells stripped; lines without any cell left out."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(path, "no such file, expected the subject sheet") from None
    except UnicodeDecodeError as error:
        raise InputError(
            path, f"byte {error.start} is not UTF-8; save the sheet as UTF-8"
        ) from None
    delimiter = "\t" if "\t" in text.partition("\n")[0] else ","
    reader = csv.reader(text.splitlines(), delimiter=delimiter)
    header = [name.strip() for name in next(reader, [])]
    _check_header(path, header)
    rows = []
    for cells in reader:
        cells = [cell.strip() for cell in cells]
        if any(cells):
            if len(cells) > len(header):
                found = f"line {reader.line_num}: {len(cells)} cells"
                raise InputError(path, f"{found}, expected {len(header)} as in the header")
            rows.append((reader.line_num, dict(zip(header, cells, strict=False))))
    return rows


def _check_header(path: Path, header: list[str]) -> None:
    known, required = list(_schema()["properties"]), _schema()["required"]
    if len(header) == 1 and ";" in header[0]:
        raise InputError(path, "line 1: cells are separated by ;, expected tabs or commas")
    faults = [f"no column {name}" for name in required if name not in header]
    faults += [f"unknown column {name!r}" for name in header if name not in known]
    faults += [f"column {name} twice" for name, count in Counter(header).items() if count > 1]
    if faults:
        raise InputError(path, f"line 1: {'; '.join(faults)}; expected among {', '.join(known)}")


def _faults(lines: list[tuple[int, dict[str, str]]]) -> list[str]:
    if not lines:
        return ["no subjects, expected at least one line below the header"]
    validator = Draft202012Validator(_schema())
    faults = []
    first_line: dict[str, int] = {}
    for number, row in lines:
        for error in validator.iter_errors(_typed(row)):
            faults.append(f"line {number}: {_sentence(error)}")
        subject = row.get("subject", "").lower()
        if subject and subject in first_line:
            faults.append(
                f"line {number}: subject {row['subject']} is already on line {first_line[subject]}"
            )
        first_line.setdefault(subject, number)
    return faults


def _typed(row: dict[str, str]) -> dict:
    """Return the known cells of a row, numbers as numbers where they are numbers."""
    known = {name: cell for name, cell in row.items() if cell}
    for name in NUMBER_COLUMNS:
        if re.fullmatch(r"-?\d+(\.\d+)?", known.get(name, "")):
            known[name] = float(known[name])
    return known


def _sentence(error) -> str:
    if error.validator == "required":
        return f"{error.message.split(' ')[0]} is empty, expected a value".replace("'", "")
    name = error.path[-1]
    return f"{name} is {error.instance!r}, expected {error.schema['description']}"


def _resolved(row: dict[str, str], home: Path) -> dict[str, str]:
    return row | {name: os.path.normpath(home / row[name]) for name in PATH_COLUMNS if row[name]}
