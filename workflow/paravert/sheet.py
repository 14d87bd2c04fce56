"""The subject sheet: read and checked before anything runs, every fault told at once."""

import csv
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path

from paravert.errors import InputError

SCHEMA = Path(__file__).parent.parent / "schemas" / "subjects.schema.json"
PATH_COLUMNS = ("images", "truth", "labels")
NUMBER_COLUMNS = ("age_years", "height_cm", "weight_kg")
COVARIATES = ("sex", *NUMBER_COLUMNS, "site", "group")
is_number = re.compile(r"-?\d+(\.\d+)?").fullmatch


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
    empty = dict.fromkeys(_schema()["properties"], "")
    home = str(path.resolve().parent)
    return [_resolved(empty | row, home) for _, row in lines]


@cache
def _schema() -> dict:
    return json.loads(SCHEMA.read_text(encoding="utf-8"))


def _lines(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Return the rows with their line numbers, cells stripped; lines without any cell left out."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        fault = f"no such file in {Path.cwd()}, expected the subject sheet"
        raise InputError(path, fault) from None
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
    fits, required = _cell_checks(), _schema()["required"]
    faults = []
    first_line: dict[str, int] = {}
    for number, row in lines:
        filled = all(row.get(name) for name in required)
        if not (filled and all(fits[name](cell) for name, cell in row.items() if cell)):
            faults += [f"line {number}: {_sentence(error)}" for error in _errors(row)]
        subject = row.get("subject", "").lower()
        if subject and first_line.setdefault(subject, number) != number:
            faults.append(
                f"line {number}: subject {row['subject']} is already on line {first_line[subject]}"
            )
    return faults


def _errors(row: dict[str, str]) -> list:
    return list(_validator().iter_errors(_typed(row)))


@cache
def _validator():
    from jsonschema import Draft202012Validator  # only faulty sheets pay for its start

    return Draft202012Validator(_schema())


def _cell_checks() -> dict[str, Callable[[str], object]]:
    """Return a check for each column: true where a filled cell fits the schema.

    The schema decides what a fault is and what is said of it; these only tell the many rows without
    any from the rest, some fifty times faster.
    """
    return {name: _cell_check(column) for name, column in _schema()["properties"].items()}


def _cell_check(column: dict) -> Callable[[str], object]:
    if "enum" in column:
        return frozenset(column["enum"]).__contains__
    if column["type"] == "number":
        lowest, highest = column["minimum"], column["maximum"]
        return lambda cell: is_number(cell) and lowest <= float(cell) <= highest
    return re.compile(column.get("pattern", "")).search


def _typed(row: dict[str, str]) -> dict:
    """Return the known cells of a row, numbers as numbers where they are numbers."""
    known = {name: cell for name, cell in row.items() if cell}
    for name in NUMBER_COLUMNS:
        if is_number(known.get(name, "")):
            known[name] = float(known[name])
    return known


def _sentence(error) -> str:
    if error.validator == "required":
        return f"{error.message.split(' ')[0]} is empty, expected a value".replace("'", "")
    name = error.path[-1]
    return f"{name} is {error.instance!r}, expected {error.schema['description']}"


def _resolved(row: dict[str, str], home: str) -> dict[str, str]:
    for name in PATH_COLUMNS:
        if row[name]:
            row[name] = os.path.normpath(os.path.join(home, row[name]))
    return row


def write_sheet(path: Path, rows: Iterable[Mapping[str, str]]) -> None:
    """Write rows of `read_sheet` as a sheet that reads the same, whole or not at all."""
    draft = path.with_name(f".{path.name}-{os.getpid()}")
    with draft.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(_schema()["properties"]))
        writer.writeheader()
        writer.writerows(rows)
    os.replace(draft, path)
