"""Reads the cells of a table from text or an Excel workbook; its callers interpret them."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from paravert.errors import InputError, find_unseen, unseen_character

SHEET_LIMIT_BYTES = 1 << 27  # a hundred bytes for each of a million subjects
CELL_LIMIT = 4096  # characters: Linux takes no longer path
LINE_LIMIT = 1 << 16  # characters: more than all columns hold, fewer than the csv module refuses
LINE_ENDS = re.compile(r"\r\n|\r|\n")  # str.splitlines() would also cut at VT, FF, NEL, U+2028
DELIMITERS = "\t;,"
UTF_8, UTF_16, WINDOWS_1252, EXCEL = "UTF-8", "UTF-16", "Windows-1252", "an Excel workbook"
ZIP_START, OLE_START = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"
SHIFTED_LINE_END = re.compile("[\u0a00\u0d00]")  # a line end in UTF-16 after a lost byte
is_excel_error = re.compile(r"#[^\sa-z]{3,}[!?]").fullmatch  # in any language, such as #DIV/0!
ADVICE = "save the sheet as CSV, UTF-8"
LINE = -1  # number of a column that stands for the whole line


class Fault(NamedTuple):
    """A fault in a file of cells, such as the subject sheet, and its place.

    line: number in the file, from 1. column: name of the column, or "column 3" if it has none; ""
    if the fault concerns the whole line. told: what was found and what was expected.
    """

    line: int
    column: str
    told: str

    def __str__(self) -> str:
        return f"line {self.line}{self.column and f', {self.column}'}: {self.told}"


class Line(NamedTuple):
    """A line of a file of cells as it was read, before its cells are checked.

    number: in the file, from 1. cells: texts; may be empty if there are faults. faults: {number of
    the column from 0, or LINE for the whole line: what is wrong}.
    """

    number: int
    cells: list[str]
    faults: dict[int, str]


class Row(NamedTuple):
    """A line of a file of cells after the checks.

    line: its number in the file, from 1. cells: texts without outer spaces, one per column of the
    header, "" where the line is shorter; may be empty if there are faults (too many cells, not
    divided). faults: what is wrong in the line; empty if nothing is.
    """

    line: int
    cells: list[str]
    faults: list[Fault]


class Cells(NamedTuple):
    """The content of a file of cells, such as the subject sheet.

    header: its first line that is not blank, with the names of the columns. rows: all other lines
    with a filled cell or a fault. encoding: "UTF-8", "UTF-16", "Windows-1252" or "an Excel
    workbook". meanings: {column: text}, from another worksheet of the workbook; empty for text
    files.
    """

    header: Row
    rows: list[Row]
    encoding: str
    meanings: dict[str, str]


def read_cells(path: Path, sheet_name: str = "", what: str = "the subject sheet") -> Cells:
    """Read a file of cells, such as the subject sheet, and return its header, lines and encoding.

    path: an Excel workbook (.xlsx), or text: cells separated by tabs, semicolons or commas, whichever
    is most frequent in the header; UTF-8, UTF-16 with byte order mark, or Windows-1252. A quoted cell
    cannot contain a line break. sheet_name: worksheet of the workbook; empty for the first. what: the
    kind of file in words, for messages of InputError. Lines without a filled cell are left out; faults
    of single lines are in their rows. Raises InputError if the file is missing, unreadable, empty,
    larger than 128 MiB, damaged, or of another kind or encoding, or has no such worksheet.
    """
    content = _content(path, what)
    if content.startswith(ZIP_START):
        from paravert.sheet_workbook import read_workbook  # openpyxl is slow to import

        lines, meanings = read_workbook(path, content, sheet_name)
        encoding, found = EXCEL, iter(lines)
    else:
        text, encoding = _decoded(path, content)
        found, meanings = _text_lines(text), {}
    header = next(found, None)
    if header is None:
        raise InputError(path, "an empty file, expected a header line and further lines")
    named = _checked(header, [])
    rows = (_checked(line, named.cells) for line in found)
    rows = [row for row in rows if row.faults or any(row.cells)]
    return Cells(named, rows, encoding, meanings)


def _content(path: Path, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(SHEET_LIMIT_BYTES + 1)
    except FileNotFoundError:
        place = "" if path.is_absolute() else f" in {Path.cwd()}"
        raise InputError(path, f"no such file{place}, expected {what}") from None
    except IsADirectoryError:
        raise InputError(path, f"a folder, expected {what}") from None
    except OSError as error:
        raise InputError(path, f"{what} may not be read ({error.strerror})") from error
    if len(content) > SHEET_LIMIT_BYTES:
        limit = SHEET_LIMIT_BYTES >> 20
        raise InputError(path, f"more than {limit} MiB, expected {what}")
    return content


# --- encodings -----------------------------------------------------------------------------------


def _decoded(path: Path, content: bytes) -> tuple[str, str]:
    """Return the text of a file and its encoding."""
    if content.startswith(OLE_START):
        kind = "an old Excel workbook (.xls), or one with a password"
        raise InputError(path, f"{kind}, expected .xlsx or text; {ADVICE}")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding, text = UTF_16, _strictly(path, content, "utf-16", UTF_16)
        if shifted := SHIFTED_LINE_END.search(text):
            line = _count_lines(text[: shifted.start()])
            raise InputError(path, f"line {line} is damaged UTF-16; {ADVICE}")
    else:
        encoding, text = _bytewise(path, content)
    if text[:64].count("\0") * 3 > len(text[:64]):
        kind = "UTF-16 without a byte order mark (or a binary file)"
        raise InputError(path, f"{kind}, expected text; {ADVICE}")
    return text, encoding


def _bytewise(path: Path, content: bytes) -> tuple[str, str]:
    """Return encoding and text of UTF-8, or of Windows-1252 in which nothing looks like UTF-8."""
    text = content.decode("utf-8-sig", errors="surrogateescape")
    foreign = re.search("[\udc80-\udcff]", text)
    if foreign is None:
        return UTF_8, text
    if b"\0" in content:
        raise InputError(path, f"a binary file, expected text; {ADVICE}")
    if content.startswith(b"\xef\xbb\xbf") or re.search("[\x80-\ud7ff\ue000-\U0010ffff]", text):
        line = _count_lines(text[: foreign.start()])
        raise InputError(path, f"line {line} is not UTF-8, but other text is; {ADVICE}")
    return WINDOWS_1252, _strictly(path, content, "cp1252", f"{UTF_8} or {WINDOWS_1252}")


def _strictly(path: Path, content: bytes, codec: str, named: str) -> str:
    try:
        return content.decode(codec)
    except UnicodeDecodeError as error:
        line = _count_lines(content[: error.start].decode(codec, errors="ignore"))
        raise InputError(path, f"line {line} is not {named}; {ADVICE}") from None


def _count_lines(text: str) -> int:
    return len(LINE_ENDS.findall(text)) + 1


# --- lines of text -------------------------------------------------------------------------------


def _text_lines(text: str) -> Iterator[Line]:
    """Yield the lines that are not blank, the header first; delimiters alone make a blank line."""
    numbered = enumerate(LINE_ENDS.split(text), 1)
    delimiter = ""
    for number, line in numbered:
        if line.strip(f" {DELIMITERS}"):
            delimiter = delimiter or _most_frequent_delimiter(line)
            yield _divided(number, line, delimiter)


def _most_frequent_delimiter(header: str) -> str:
    return max(DELIMITERS, key=re.sub('"[^"]*"', "", header).count)


def _divided(number: int, text: str, delimiter: str) -> Line:
    if len(text) > LINE_LIMIT:
        return Line(number, [], {LINE: f"{len(text)} characters, expected at most {LINE_LIMIT}"})
    if '"' not in text:
        return Line(number, text.split(delimiter), {})  # the same, three times as fast
    try:
        options = {"delimiter": delimiter, "strict": True, "skipinitialspace": True}
        return Line(number, next(csv.reader([text], **options)), {})
    except csv.Error:
        told = "a quote that does not close at the end of its cell"
        return Line(number, [], {_misquoted(text, delimiter): told})


def _misquoted(text: str, delimiter: str) -> int:
    """Return the number, from 0, of the first cell that begins with a quote and does not end so."""
    cell = re.compile(rf' *+(?:"(?:[^"]|"")*+"|[^"{delimiter}][^{delimiter}]*+|)(?:{delimiter}|\Z)')
    start = column = 0
    while found := cell.match(text, start):
        start, column = found.end(), column + 1
    return column


# --- checks of cells -----------------------------------------------------------------------------


def _checked(line: Line, names: list[str]) -> Row:
    """Return a line's row, with the faults of its characters and of its number of cells.

    names: of the columns, none for the header.
    """
    cells, faults = line.cells, dict(line.faults)
    text = "".join(cells)
    if find_unseen(text) or "\t" in text or len(text) > CELL_LIMIT:
        told = {column: cell_fault(cell.strip(" \t")) for column, cell in enumerate(cells)}
        faults |= {column: fault for column, fault in told.items() if fault}
    if "#" in text:
        errors = {column: cell.strip() for column, cell in enumerate(cells)}
        faults |= {
            column: f"the error {cell}, expected a value"
            for column, cell in errors.items()
            if is_excel_error(cell)
        }
    if names and len(cells) > len(names):
        faults, cells = {LINE: f"{len(cells)} cells, expected {len(names)} as in the header"}, []
    elif cells:
        cells = [*map(str.strip, cells), *[""] * (len(names) - len(cells))]
    named = [Fault(line.number, _name(column, names), faults[column]) for column in sorted(faults)]
    return Row(line.number, cells, named)


def cell_fault(cell: str) -> str:
    """Return why a text cannot be in a cell: too long, or an invisible character; "" if it can.

    Too long: more than 4096 (CELL_LIMIT) characters. Invisible: a tab, or as in `unseen_character`.
    """
    if len(cell) > CELL_LIMIT:
        return f"{len(cell)} characters, expected at most {CELL_LIMIT}"
    unseen = "U+0009 (tab)" if "\t" in cell else unseen_character(cell)
    return f"the control character {unseen}, expected text" if unseen else ""


def _name(column: int, names: list[str]) -> str:
    if column == LINE:
        return ""
    return names[column] if column < len(names) and names[column] else f"column {column + 1}"
