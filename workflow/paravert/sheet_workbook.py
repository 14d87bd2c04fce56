"""Reads a worksheet of an Excel workbook (.xlsx) as lines of text.

Numbers are not rounded to what Excel shows. A whole number whose format is made of zeros, such as
000, is a code and is padded as Excel shows it (007).
"""

import html
import io
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from datetime import date, datetime, time
from decimal import Decimal
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import openpyxl
from openpyxl.utils.cell import range_boundaries
from openpyxl.utils.exceptions import InvalidFileException
from python_calamine import CalamineError, CalamineWorkbook

from paravert.errors import InputError
from paravert.sheet_file import Line

MOST_DESCRIBED = 10_000  # rows of a worksheet that describes columns
UNPACKED_LIMIT_BYTES = 1 << 31  # twenty times the largest sheet, as XML
UNKNOWN_ERROR = "#N/A"  # Excel's own word for an unknown value
FORMULA_OR_MERGED = re.compile(rb"<(?:\w+:)?(?:f|mergeCell)[ />]")
# What is not plain: formulas, merged cells, errors, escaped characters, single quotes for attributes.
NOT_PLAIN = (b"<f>", b"<f ", b"<f/", b"<mergeCell", b't="e"', b"_x", b"='")
LONG_NUMBER = re.compile(rb"<v>-?\d{16}")  # float64 holds 15 digits
FAR_COLUMN = re.compile(rb' r="(?:[B-Z][A-Z]|[A-Z]{3})\d')  # beyond AZ
ROW_NUMBER = re.compile(rb'<row r="(\d+)"')
FORMAT_CODE = re.compile(rb'formatCode="([^"]*)"')
MOST_EMPTY_ROWS = 1000
CODE_FORMAT = re.compile(r'(?:0|"[^"]*"|\\.|[-_ ])*0(?:0|"[^"]*"|\\.|[-_ ])*')
CODE_PART = re.compile(r'0|"([^"]*)"|\\(.)|([-_ ])')
# What zipfile, ElementTree and openpyxl raise for damaged content.
DAMAGE = (
    *(AttributeError, EOFError, InvalidFileException, LookupError, NotImplementedError, OSError),
    *(OverflowError, RuntimeError, TypeError, ValueError, ElementTree.ParseError, struct.error),
    *(zipfile.BadZipFile, zlib.error, CalamineError),
)


def read_workbook(path: Path, content: bytes, sheet_name: str) -> tuple[list[Line], dict[str, str]]:
    """Return the lines of a worksheet of an Excel workbook, and meanings of columns from others.

    path: of the workbook, for messages. content: bytes of the file. sheet_name: worksheet, in any case;
    empty for the first. Returns (lines with a filled cell or a fault, each with its number, cells as
    text and faults; {column: meaning} from any other worksheet whose first line has the cells `column`
    and `meaning`). Texts are not stripped; a whole number is such as 7, or 007 with the number format
    000; a date is such as 2024-02-29, a truth value TRUE or FALSE; empty cells at the end of a line are
    left out. A merged cell, a formula without a stored value and an error such as #REF! are faults of
    their line; #N/A is an empty cell. Raises InputError for a damaged or too large workbook, another
    zip archive and an unknown worksheet.
    """
    try:
        file = io.BytesIO(content)
        with zipfile.ZipFile(file) as archive, warnings.catch_warnings(action="ignore"):
            if sum(member.file_size for member in archive.infolist()) > UNPACKED_LIMIT_BYTES:
                raise InputError(path, f"more than {UNPACKED_LIMIT_BYTES >> 30} GiB when unpacked")
            book = openpyxl.load_workbook(file, read_only=True, data_only=True)
            worksheet = _worksheet(path, book.worksheets, sheet_name)
            xml = archive.read(worksheet._worksheet_path)  # no public name
            if _is_plain(archive, xml):
                lines = _plain_lines(file, worksheet.title)
            else:
                hidden = _hidden_values(xml)
                worksheet.reset_dimensions()  # some programs store too small ones
                rows = enumerate(worksheet.iter_rows(), 1)
                lines = [_line(number, row, hidden.get(number, {})) for number, row in rows]
            others = (other for other in book.worksheets if other is not worksheet)
            meanings = {name: told for other in others for name, told in _meanings(other)}
            book.close()
    except DAMAGE as error:
        kind = f"a damaged Excel workbook or another zip archive ({type(error).__name__})"
        raise InputError(path, f"{kind}, expected .xlsx or text") from None
    return [line for line in lines if line.cells or line.faults], meanings


def _worksheet(path: Path, worksheets: list, sheet_name: str):
    if not worksheets:
        raise InputError(path, "a workbook without a worksheet")
    for worksheet in worksheets:
        if not sheet_name or worksheet.title.strip().lower() == sheet_name.strip().lower():
            return worksheet
    names = ", ".join(repr(worksheet.title) for worksheet in worksheets)
    raise InputError(path, f"no worksheet {sheet_name!r} (sheet_name), expected among {names}")


# --- plain worksheets, five times as fast ----------------------------------------------------------


def _is_plain(archive: zipfile.ZipFile, xml: bytes) -> bool:
    """Return whether calamine reads a worksheet as openpyxl does.

    xml: of the worksheet. Not plain: NOT_PLAIN, number formats that are codes, whole numbers of
    more digits than float64 holds, and cells far from the others, for which calamine would take
    memory.
    """
    if b"<worksheet" not in xml[:1000] or any(mark in xml for mark in NOT_PLAIN):
        return False
    if LONG_NUMBER.search(xml) or FAR_COLUMN.search(xml):
        return False
    names = set(archive.namelist())
    for name in {"xl/styles.xml", "xl/sharedStrings.xml"} & names:
        content = archive.read(name)
        if b"_x" in content or b"='" in content:
            return False
        formats = (html.unescape(code.decode()) for code in FORMAT_CODE.findall(content))
        if any(map(_code_parts, formats)):
            return False
    rows = [int(number) for number in ROW_NUMBER.findall(xml)]
    return len(rows) > 0 and max(rows) <= MOST_EMPTY_ROWS + 2 * len(rows)


def _plain_lines(file: io.BytesIO, title: str) -> list[Line]:
    """Return the lines of a plain worksheet. title: of the worksheet."""
    file.seek(0)
    worksheet = CalamineWorkbook.from_filelike(file).get_sheet_by_name(title)
    lines = []
    for number, row in enumerate(worksheet.to_python(skip_empty_area=False), 1):
        cells = [v if isinstance(v, str) else _text(v, "General") for v in row]
        lines.append(Line(number, _without_blank_end(cells), {}))
    return lines


# --- any worksheet ---------------------------------------------------------------------------------


def _meanings(worksheet) -> Iterator[tuple[str, str]]:
    """Yield name and meaning of columns from a worksheet that describes them, none from others."""
    worksheet.reset_dimensions()
    rows = worksheet.iter_rows(max_row=MOST_DESCRIBED, values_only=True)
    texts = ([str(cell or "").strip() for cell in row] for row in rows)
    header = [cell.lower() for cell in next(texts, [])]
    if {"column", "meaning"} <= set(header):
        name, meaning = header.index("column"), header.index("meaning")
        for row in texts:
            if len(row) > max(name, meaning) and row[name] and row[meaning]:
                yield row[name], " ".join(row[meaning].split())


def _line(number: int, row: tuple, hidden: dict[int, str]) -> Line:
    """Return the line of a row. hidden: see `_hidden_values`."""
    cells, faults = [], dict(hidden)
    for column, cell in enumerate(row):
        value = cell.value
        if value is None or cell.data_type == "e":
            cells.append("")
            if value is not None and value != UNKNOWN_ERROR:
                faults[column] = f"the error {value}, expected a value"
        else:
            cells.append(value if isinstance(value, str) else _text(value, cell.number_format))
    return Line(number, _without_blank_end(cells), faults)


def _without_blank_end(cells: list[str]) -> list[str]:
    """Return cells without the blank ones at the end, which are only formatted."""
    while cells and not cells[-1].strip():
        cells.pop()
    return cells


def _text(value: object, number_format: str) -> str:
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, float) and not value.is_integer():
        text = repr(value)
        return f"{Decimal(text):f}" if "e" in text else text
    if isinstance(value, int | float):
        return _coded(int(value), number_format)
    if isinstance(value, datetime) and value.time() == time():
        value = value.date()
    return value.isoformat() if isinstance(value, date | time) else str(value)


def _coded(value: int, number_format: str) -> str:
    """Return a whole number as Excel shows it if its format is a code of zeros, else as it is."""
    parts = _code_parts(number_format) if value >= 0 else ()
    zeros = parts.count("0")
    if not zeros:
        return str(value)
    digits = f"{value:0{zeros}d}"
    first, rest = digits[: len(digits) - zeros + 1], iter(digits[len(digits) - zeros + 1 :])
    shown, is_first = [], True
    for part in parts:
        if part == "0":
            shown.append(first if is_first else next(rest))
            is_first = False
        else:
            shown.append(part[1:])
    return "".join(shown)


@cache
def _code_parts(number_format: str) -> tuple[str, ...]:
    """Return "0" for each digit of a format and "=text" for text between; () for others."""
    code = number_format.split(";")[0]
    if not CODE_FORMAT.fullmatch(code) or code == "0":
        return ()
    return tuple(
        "0" if part[0] == "0" else "=" + next((text for text in part.groups() if text), "")
        for part in CODE_PART.finditer(code)
    )


def _hidden_values(xml: bytes) -> dict[int, dict[int, str]]:
    """Return faults, {line from 1: {column from 0: fault}}, of cells that openpyxl leaves empty."""
    if not FORMULA_OR_MERGED.search(xml):
        return {}
    faults: dict[int, dict[int, str]] = {}
    for _, element in ElementTree.iterparse(io.BytesIO(xml)):
        kind = element.tag.rpartition("}")[2]
        if kind == "c" and _is_formula_without_value(element):
            place, told = element.get("r"), "a formula without a stored value"
        elif kind == "mergeCell":
            place = element.get("ref")
            told = f"the cells {place} are merged, expected a value in each"
        else:
            if kind == "row":
                element.clear()
            continue
        column, row, _, _ = range_boundaries(place)
        faults.setdefault(row, {})[column - 1] = f"{told}; repair it in Excel"
    return faults


def _is_formula_without_value(cell: ElementTree.Element) -> bool:
    children = {child.tag.rpartition("}")[2]: child.text for child in cell}
    is_text = cell.get("t") == "str"  # which may be empty
    return "f" in children and not children.get("v") and not is_text
