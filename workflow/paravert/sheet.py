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
from paravert.sheet_file import Line, read_lines

SCHEMA = Path(__file__).parent / "schemas" / "subjects.schema.json"
PATH_COLUMNS = ("images", "truth", "labels")
NUMBER_COLUMNS = ("age_years", "height_cm", "weight_kg")
COVARIATES = ("sex", *NUMBER_COLUMNS, "site", "group")
FAULTS_SHOWN = 100  # a sheet with more is at fault as a whole
SHOWN = 80  # characters of a faulty cell
is_number = re.compile(r"-?\d+(\.\d+)?").fullmatch


def read_sheet(path: Path) -> list[dict[str, str]]:
    """Return the sheet's rows: every column as text, empty where unknown, paths made absolute.

    path: as for `sheet_file.read_lines`, one header line. Each line below it that has a filled cell
    is a row. Raises InputError that lists every fault with its line.
    """
    header, *lines = read_lines(path)
    _check_header(path, header)
    rows = [
        (line.number, dict(zip(header.cells, line.cells, strict=False)))
        for line in lines
        if not line.faults
    ]
    faults = [(line.number, fault) for line in lines for fault in line.faults] + _faults(rows)
    if faults or not rows:
        raise InputError(path, _told(faults))
    empty = dict.fromkeys(_schema()["properties"], "")
    home = str(path.resolve().parent)
    return [_resolved(empty | row, home) for _, row in rows]


def _told(faults: list[tuple[int, str]]) -> str:
    """Return what a sheet's faults are, in the order of its lines; no fault: it has no subject."""
    told = [fault for _, fault in sorted(faults, key=lambda fault: fault[0])]
    told = told or ["no subjects, expected at least one line below the header"]
    count = "1 fault" if len(told) == 1 else f"{len(told)} faults"
    more = [f"and {len(told) - FAULTS_SHOWN} more"] if len(told) > FAULTS_SHOWN else []
    shown = "\n".join(f"  {fault}" for fault in told[:FAULTS_SHOWN] + more)
    return f"{count} in the subject sheet:\n{shown}"


@cache
def _schema() -> dict:
    return json.loads(SCHEMA.read_text(encoding="utf-8"))


def _check_header(path: Path, header: Line) -> None:
    if header.faults:
        raise InputError(path, "; ".join(header.faults))
    names, known, required = header.cells, list(_schema()["properties"]), _schema()["required"]
    place = f"line {header.number}"
    if len(names) == 1 and ";" in names[0]:
        raise InputError(path, f"{place}: cells are separated by ;, expected tabs or commas")
    faults = [f"no column {name}" for name in required if name not in names]
    faults += [f"unknown column {_shown(name)}" for name in names if name not in known]
    faults += [f"column {name} twice" for name, count in Counter(names).items() if count > 1]
    if faults:
        raise InputError(path, f"{place}: {'; '.join(faults)}; expected among {', '.join(known)}")


def _faults(rows: list[tuple[int, dict[str, str]]]) -> list[tuple[int, str]]:
    """Return line and sentence for each fault in the cells of rows."""
    fits, required = _cell_checks(), _schema()["required"]
    faults = []
    first_line: dict[str, int] = {}
    for number, row in rows:
        filled = all(row.get(name) for name in required)
        if not (filled and all(fits[name](cell) for name, cell in row.items() if cell)):
            faults += [(number, f"line {number}: {_sentence(error)}") for error in _errors(row)]
        subject = row.get("subject", "").lower()
        if subject and first_line.setdefault(subject, number) != number:
            fault = f"subject {row['subject']} is already on line {first_line[subject]}"
            faults.append((number, f"line {number}: {fault}"))
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
    return f"{name} is {_shown(error.instance)}, expected {error.schema['description']}"


def _shown(value: object) -> str:
    told = repr(value)
    return told if len(told) <= SHOWN else f"{told[:SHOWN]}... ({len(told)} characters)"


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
