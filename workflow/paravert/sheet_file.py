"""The subject sheet as a file: its lines of cells, whatever the columns mean."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from paravert.errors import InputError, find_unseen, unseen_character

SHEET_LIMIT_BYTES = 1 << 27  # a hundred bytes for each of a million subjects
CELL_LIMIT = 4096  # characters: Linux takes no longer path
LINE_LIMIT = 1 << 16  # characters: more than all columns hold, fewer than the csv module refuses
LINE_ENDS = re.compile(r"\r\n|\r|\n")  # str.splitlines() would also cut at VT, FF, NEL, U+2028
STARTS = (
    (b"PK\x03\x04", "an Excel workbook or another zip archive"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
ADVICE = "save the sheet as CSV, UTF-8"


class Line(NamedTuple):
    """A line that is not blank: its number in the file, from 1, and its cells, without outer spaces.

    faults: why the cells are not to be used.
    """

    number: int
    cells: list[str]
    faults: Sequence[str] = ()


def read_lines(path: Path) -> list[Line]:
    """Return the lines of a sheet, the header first; a line without a filled cell is left out.

    path: tab- or comma-separated, UTF-8. A quote is closed on its line: no cell holds a line break.
    Raises InputError for a file that is no such text; each line has its own faults.
    """
    numbered = enumerate(LINE_ENDS.split(_text(path)), 1)
    filled = [(number, text) for number, text in numbered if text.strip(" \t")]
    if not filled:
        raise InputError(path, "an empty file, expected a header line and a line for each subject")
    delimiter = "\t" if "\t" in filled[0][1] else ","
    header = _line(*filled[0], delimiter, [])
    lines = (_line(number, text, delimiter, header.cells) for number, text in filled[1:])
    return [header, *(line for line in lines if line.faults or any(line.cells))]


def _text(path: Path) -> str:
    content = _content(path)
    for start, kind in STARTS:
        if content.startswith(start):
            raise InputError(path, f"{kind}, expected text; {ADVICE}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if b"\0" in content:
            raise InputError(path, f"a binary file, expected text; {ADVICE}") from None
        line = len(LINE_ENDS.findall(content[: error.start].decode("latin-1"))) + 1
        raise InputError(path, f"line {line} is not UTF-8; {ADVICE}") from None
    if content[:64].count(0) * 3 > len(content[:64]):
        raise InputError(path, f"UTF-16 (or a binary file), expected text; {ADVICE}")
    return text


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(SHEET_LIMIT_BYTES + 1)
    except FileNotFoundError:
        fault = f"no such file in {Path.cwd()}, expected the subject sheet"
        raise InputError(path, fault) from None
    except IsADirectoryError:
        raise InputError(path, "a folder, expected the subject sheet") from None
    except OSError as error:
        raise InputError(path, f"the subject sheet may not be read ({error.strerror})") from None
    if len(content) > SHEET_LIMIT_BYTES:
        limit = SHEET_LIMIT_BYTES >> 20
        raise InputError(path, f"more than {limit} MiB, expected a line for each subject")
    return content


def _line(number: int, text: str, delimiter: str, header: list[str]) -> Line:
    """Return a line's cells or its faults; header: names of the columns, empty for the header."""
    if len(text) > LINE_LIMIT:
        fault = f"line {number}: {len(text)} characters, expected at most {LINE_LIMIT}"
        return Line(number, [], [fault])
    try:
        cells = _cells(text, delimiter)
    except csv.Error:
        place = _place(number, _misquoted(text, delimiter), header)
        return Line(number, [], [f"{place}: a quote that does not close at the end of its cell"])
    faults = []
    if header and len(cells) > len(header):
        faults.append(f"line {number}: {len(cells)} cells, expected {len(header)} as in the header")
    tabs = len(cells) - 1 if delimiter == "\t" else 0
    if find_unseen(text) or text.count("\t") != tabs or len(text) > CELL_LIMIT:
        told = ((_place(number, column, header), _fault(cell)) for column, cell in enumerate(cells))
        faults += [f"{place}: {fault}" for place, fault in told if fault]
    return Line(number, [cell.strip() for cell in cells], faults)


def _cells(text: str, delimiter: str) -> list[str]:
    if '"' not in text:
        return text.split(delimiter)  # the same, three times as fast
    return next(csv.reader([text], delimiter=delimiter, strict=True, skipinitialspace=True))


def _fault(cell: str) -> str:
    if len(cell) > CELL_LIMIT:
        return f"{len(cell)} characters, expected at most {CELL_LIMIT}"
    inner = cell.strip(" \t")
    unseen = "U+0009 (tab)" if "\t" in inner else unseen_character(inner)
    return f"the control character {unseen}, expected text" if unseen else ""


def _place(number: int, column: int, header: list[str]) -> str:
    return f"line {number}, {header[column] if column < len(header) else f'column {column + 1}'}"


def _misquoted(text: str, delimiter: str) -> int:
    """Return the number, from 0, of the first cell that begins with a quote and does not end so."""
    cell = re.compile(rf' *+(?:"(?:[^"]|"")*+"|[^"{delimiter}][^{delimiter}]*+|)(?:{delimiter}|\Z)')
    start = column = 0
    while found := cell.match(text, start):
        start, column = found.end(), column + 1
    return column
