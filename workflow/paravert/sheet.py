"""The subject sheet: read and checked before anything runs; all faults are listed at once."""

import csv
import difflib
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple

from paravert import codebook
from paravert.anatomy import USUAL_LUMBAR
from paravert.errors import InputError, some_of
from paravert.sheet_file import UTF_8, Fault, Row, read_cells

SCHEMA = Path(__file__).parent / "schemas" / "subjects.schema.json"
# Paths of what convert_dicom reads.
CONVERTED_COLUMNS = ("images", "water", "fat", "truth", "truth2", "labels")
PATH_COLUMNS = (*CONVERTED_COLUMNS, "levels")
N_LUMBAR = "n_lumbar"
NUMBER_COLUMNS = ("age_years", "height_cm", "weight_kg")
COVARIATES = ("sex", *NUMBER_COLUMNS, "site", "group")
MODEL_COLUMNS = ("height_cm", "weight_kg", "bmi_kg_m2", "site", "group")  # sex and age always are
SEX_CODES = {"f": "F", "female": "F", "w": "F", "m": "M", "male": "M"}
# The last three: #N/A of Excel as text, in English, German, and Spanish or Italian.
UNKNOWN = frozenset(("", ".", "na", "n/a", "#n/a", "#nv", "#n/d"))
FAULTS_SHOWN = 50
SHOWN = 80  # characters of a faulty cell
is_number = re.compile(r"-?[0-9]+([.,][0-9]+)?([eE][-+]?[0-9]+)?").fullmatch
# With a backslash before the first slash; ./a\b is a name of this system.
is_windows_path = re.compile(r"[A-Za-z]:[\\/]|[^/]*\\").match

# --- types of the other columns ------------------------------------------------------------------

NUMBER, YES_NO, CATEGORY, TEXT, DATE = "number", "yes/no", "category", "text", "date"
FILE_PATH = "path"
NOT_WRITTEN = (DATE, FILE_PATH)  # types of columns that are not carried into the tables: privacy
MOST_CATEGORIES = 50  # a column of more distinct texts is an identifier or a comment
MOST_DIGITS = 15  # that float64 holds exactly
YES, NO = frozenset(("yes", "y", "true")), frozenset(("no", "n", "false"))
MONTH = (  # English and German names
    "(?:jan(?:uary?)?|feb(?:ruary?)?|mar(?:ch)?|märz?|mrz|apr(?:il)?|ma[iy]|jun[ei]?|jul[iy]?|"
    r"aug(?:ust)?|sept?(?:ember)?|o[ck]t(?:ober)?|nov(?:ember)?|de[cz](?:ember)?)\.?"
)
DATE_TEXTS = (
    r"[0-9]{4}([-./])[0-9]{1,2}\1[0-9]{1,2}",
    r"[0-9]{1,2}([-./]) ?[0-9]{1,2}\2 ?[0-9]{2,4}",
    rf"[0-9]{{1,2}}[-./ ]{{0,2}}{MONTH}[-./ ]?[0-9]{{2,4}}",
    rf"{MONTH} [0-9]{{1,2}},? [0-9]{{4}}",
    rf"[0-9]{{4}}[-./ ]?{MONTH}[-./ ]?[0-9]{{1,2}}",
)
is_date = re.compile(f"(?:{'|'.join(DATE_TEXTS)})(?:[T :,].*)?", re.IGNORECASE).fullmatch
is_path = re.compile(
    r"~?/{1,2}[^/\s].*|[A-Za-z]:[\\/].*|\\\\.*|file:.*|.*[\\/][^\\/]*\.[A-Za-z][A-Za-z0-9]{0,7}"
).fullmatch
is_grouped = re.compile(r"-?[1-9][0-9]{0,2}[.,][0-9]{3}").fullmatch
is_short = re.compile("-?[0-9]{1,3}").fullmatch
LIKE_OWN = 0.7  # of difflib, between the name of another column and the one that may be meant
YEARS, DATES = "years_since_first", "date"  # names of columns, in any case
# With / or - after the first two digits, day and month are ambiguous.
DATE_FORMS = ("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%d.%m.%Y", "%d.%m.%y", "%Y%m%d")
DAYS_PER_YEAR = 365.25
is_dicom_date = re.compile(
    r"(19|20)[0-9]{2}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])([0-2][0-9][0-5][0-9]([0-5][0-9])?)?"
).fullmatch
has_digit = re.compile("[0-9]").search


class Sheet(NamedTuple):
    """A subject sheet that was read without faults.

    rows: one dict per row, {column: text}, in the order of the file; "" where unknown. Each has all
    columns that paravert defines, named in lower case, even if the file lacks them: paths absolute,
    numbers with a decimal point, sex F or M, in images the path of the fat image where only water and
    fat are given; and the others as in the file. types: {column: "number", "yes/no", "category",
    "text", "date" or "path"} of each column that paravert does not define (also years_since_first, if
    computed), and of n_lumbar if it has values. encoding: of the file, such as "UTF-8". meanings:
    {column: text} for columns in `types`, from another worksheet of the workbook. dated: whether the
    column years_since_first was computed from the column date. doubts: sentences on other columns that
    may be misspelt ones of paravert, on numbers that may have separators of thousands, on words in two
    spellings, on visits of one subject with two sexes, and on dates or years_since_first of visits that are
    not used.
    """

    rows: list[dict[str, str]]
    types: dict[str, str]
    encoding: str
    meanings: Mapping[str, str]
    dated: bool = False
    doubts: tuple[str, ...] = ()

    def notices(self) -> list[str]:
        """Return sentences for the user on how the sheet was read; [] if there is nothing to say.

        They name an encoding other than UTF-8 and the columns that paravert does not define, with their
        types, and those with meanings; they repeat `doubts`, and say if dates or paths are left out of
        the tables or years_since_first is computed.
        """
        told = [] if self.encoding == UTF_8 else [f"read as {self.encoding}"]
        if self.types:
            others = ", ".join(f"{name} ({kind})" for name, kind in self.types.items())
            told.append(f"other columns: {others}")
        told += self.doubts
        if self.meanings:
            told.append(f"meanings of columns: {', '.join(self.meanings)}")
        if DATE in self.types.values():
            told.append("dates are not written into the tables")
        if FILE_PATH in self.types.values():
            told.append("columns with paths of files are not written into the tables")
        if self.dated:
            told.append(f"{YEARS} is computed from the column {DATES}")
        return told

    def check_names(self, columns: Iterable[str], covariates: Iterable[str]) -> None:
        """Raise InputError if one of two settings names a column that it cannot use.

        columns: keys of the setting `columns`; each must be one of `types`. covariates: names in
        the setting fit_models.covariates; each must be one of MODEL_COLUMNS (height_cm, weight_kg,
        bmi_kg_m2, site, group), even if the file lacks it, or one of `types` with a type other than
        path, text or date. sex and age_years, which the models contain anyway, are refused. The
        message names the first wrong column. Case is ignored.
        """
        usable = [name for name, kind in self.types.items() if kind in (NUMBER, YES_NO, CATEGORY)]
        for setting, names, known in (
            ("columns", columns, self.types),
            ("fit_models.covariates", covariates, (*MODEL_COLUMNS, *usable)),
        ):
            allowed = {name.lower() for name in known}
            if unknown := [name for name in map(str, names) if name.lower() not in allowed]:
                raise InputError(setting, f"no {unknown[0]}, expected among {', '.join(known)}")


def read_sheet(
    path: Path, sheet_name: str = "", sex_codes: Mapping[str | int, str] | None = None
) -> Sheet:
    """Return the subject sheet (a header line, then a line per subject or visit), checked.

    path: an Excel workbook (.xlsx), or text with cells separated by tabs, semicolons or commas.
    sheet_name: worksheet of the workbook; empty for the first. sex_codes: meaning, F or M, of further
    words in the column sex, such as {1: "M", 2: "F"}; InputError if one already has the other meaning.
    Paths in the sheet are relative to its folder (of the file that `path` leads to) or absolute;
    whether the files exist is not checked. Raises InputError for a file that `read_cells` refuses or
    that has no line below the header. For a sheet with faults, the message of InputError lists the
    first FAULTS_SHOWN (50), at most one per cell, with line and column, and their number.
    """
    words = _sex_words(sex_codes or {})
    header, rows, encoding, meanings = read_cells(path, sheet_name)
    if not header.cells:
        raise InputError(path, _listed(header.faults))
    faults = [*header.faults, *_header_faults(header, rows)]
    faults += [fault for row in rows for fault in row.faults]
    rows = [row for row in rows if row.cells]
    lines = [row.line for row in rows]
    columns: dict[str, list[str]] = {}
    labels = {_own_name(label): label for label in header.cells}
    found = dict(zip(header.cells, zip(*(row.cells for row in rows), strict=True), strict=False))
    for label, column in found.items():
        if label:
            name = _own_name(label)
            columns[name] = _cleaned(name, column, words)
    _take_fat_as_images(columns)
    for name, label in labels.items():
        if name in _properties() and label in found:
            faults += _cell_faults(name, label, found[label], columns[name], lines)
    if "images" not in labels:
        faults += _part_faults(columns, labels, lines)
    told = _repeated(columns.get("subject", []), columns.get("visit"), lines)
    faults += [Fault(line, labels["subject"], fault) for line, fault in told]
    first = columns.get("truth") or [""] * len(rows)
    faults += [
        Fault(line, labels["truth2"], "second masks alone, expected the first in the column truth")
        for line, mask, second in zip(lines, first, columns.get("truth2", []), strict=False)
        if second and not mask
    ]
    if faults or not rows:
        raise InputError(path, _listed(_first_of_each_cell(faults, header.cells)))
    types = {name: type_of(cells) for name, cells in columns.items() if name not in _properties()}
    if any(columns.get(N_LUMBAR, ())):  # a column of paravert's, but also carried into the tables
        types[N_LUMBAR] = NUMBER
    dated, doubts = _add_years(columns, types) if any(columns.get("visit", ())) else (False, ())
    empty = dict.fromkeys(_properties(), "")
    home = str(path.resolve().parent)
    made = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    known = {name.lower(): meaning for name, meaning in meanings.items()}
    own = {name: known[name.lower()] for name in types if name.lower() in known}
    resolved = [_resolved(empty | row, home) for row in made]
    doubts = (
        *_doubts(types, columns),
        *_grouped_numbers(types, columns),
        *_spellings(types, columns),
        *_two_sexes(columns),
        *doubts,
    )
    return Sheet(resolved, types, encoding, own, dated, doubts)


def is_nifti(path: Path) -> bool:
    """Return whether a file name ends with .nii or .nii.gz, in upper or lower case.

    False if it begins with "._": macOS adds such a file, which is no image, to each that it copies to
    a disk of another system.
    """
    return path.name.lower().endswith((".nii", ".nii.gz")) and not path.name.startswith("._")


def scan_of(row: Mapping[str, str]) -> str:
    """Return the name of the scan that a row of the sheet describes, such as "A001" or "A001_2".

    A scan is the unit of work: a subject, or, in a sheet with a column visit, one visit of a
    subject. row: row of the subject sheet, {column: text}.
    """
    return scan_name(row["subject"], row.get("visit", ""))


def scan_name(subject: str, visit: str | None) -> str:
    """Return the name of a scan: "subject_visit", such as "A001_2"; without a visit the subject.

    visit: "" or None in a sheet without visits.
    """
    return f"{subject}_{visit}" if visit else subject


def short_name(name: str, most: int) -> str:
    """Return a name of a subject, site or other category as it is shown where room is short.

    most: letters that there is room for, at least 4; of a longer name the middle becomes "…".
    """
    begin = most // 3
    return name if len(name) <= most else f"{name[:begin]}…{name[begin + 1 - most :]}"


def lumbar_count(row: Mapping[str, str]) -> int:
    """Return the number of lumbar vertebrae of a subject: column n_lumbar of the sheet, 5 if empty.

    row: row of the subject sheet, {column: text}.
    """
    return int(row.get(N_LUMBAR) or USUAL_LUMBAR)


def selected_scans(rows: Iterable[Mapping[str, str]], selection: str) -> str:
    """Return a selection of subjects or scans as names of scans, comma-separated.

    rows: rows of the subject sheet, {column: text}. selection: comma-separated names. A subject
    ("A001") is replaced by all its scans ("A001_1,A001_2"); any other name is returned unchanged.
    An empty selection stays empty.
    """
    scans: dict[str, list[str]] = {}
    for row in rows:
        scans.setdefault(row["subject"], []).append(scan_of(row))
    names = [name.strip() for name in selection.split(",")]
    return ",".join(scan for name in names for scan in scans.get(name, [name]))


def _listed(faults: Sequence[Fault]) -> str:
    """Return the first faults, one line each, and how many there are."""
    if not faults:
        return "no subjects, expected at least one line below the header"
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    shown = [str(fault) for fault in faults[:FAULTS_SHOWN]]
    if len(faults) > FAULTS_SHOWN:
        shown.append(f"and {len(faults) - FAULTS_SHOWN} more")
    return f"{count} in the subject sheet:" + "".join(f"\n  {line}" for line in shown)


def _first_of_each_cell(faults: Iterable[Fault], header: Sequence[str]) -> list[Fault]:
    """Return faults in the order of lines and columns; of those in one cell the first."""
    first: dict[tuple[int, str], Fault] = {}
    for fault in faults:
        first.setdefault((fault.line, fault.column), fault)
    place = {name: number for number, name in enumerate(header)}
    return sorted(first.values(), key=lambda fault: (fault.line, place.get(fault.column, -1)))


# --- header --------------------------------------------------------------------------------------


@cache
def _schema() -> dict:
    return json.loads(SCHEMA.read_text(encoding="utf-8"))


def _properties() -> dict[str, dict]:
    return _schema()["properties"]


def _own_name(name: str) -> str:
    """Return the name of one of paravert's columns in lower case, any other name as it is."""
    return name.lower() if name.lower() in _properties() else name


@cache
def _taken_names() -> frozenset[str]:
    """Return the names of all columns of the cohort tables.

    Another column of the sheet with such a name would be ambiguous where these tables are joined.
    """
    tables = codebook.COHORT_TABLES
    return frozenset(column.name.lower() for table in tables for column in table.columns)


def _header_faults(header: Row, rows: Sequence[Row]) -> list[Fault]:
    names = [_own_name(name) for name in header.cells]
    first: dict[str, int] = {}
    faults = []
    for name in _schema()["required"]:
        if name not in names and not (name == "images" and {"water", "fat"} <= set(names)):
            near = difflib.get_close_matches(name, header.cells, n=1)
            told = f"no column {name}, expected {_properties()[name]['description']}"
            if near:
                told = f"column {near[0]} is unknown, did you mean {name}?"
            faults.append(Fault(header.line, "", told))
    for number, name in enumerate(names, 1):
        label = header.cells[number - 1] or f"column {number}"
        if not name and any(row.cells and row.cells[number - 1] for row in rows):
            faults.append(Fault(header.line, label, "no name, expected one: the column has values"))
        elif name and first.setdefault(name.lower(), number) != number:
            told = f"also the name of column {first[name.lower()]}, expected each name once"
            faults.append(Fault(header.line, label, told))
        elif name.lower() in _taken_names() - _properties().keys():
            told = "the name of a column of the cohort tables, expected another name"
            faults.append(Fault(header.line, label, told))
    return faults


# --- cells ---------------------------------------------------------------------------------------


def _sex_words(sex_codes: Mapping[str | int, str]) -> dict[str, str]:
    codes = {str(code).strip().lower(): sex for code, sex in sex_codes.items()}
    if clash := [code for code, sex in codes.items() if SEX_CODES.get(code, sex) != sex]:
        raise InputError("sex_codes", f"{clash[0]} already means {SEX_CODES[clash[0]]}")
    return codes | SEX_CODES


def _cleaned(name: str, cells: Sequence[str], sex_words: Mapping[str, str]) -> list[str]:
    """Return the cells of a column: unknown is empty, sex is F or M, numbers have a decimal point.

    Columns that are not paravert's own keep their cells as they are, except for unknown ones.
    """
    cleaned = {cell: "" if cell.lower() in UNKNOWN else cell for cell in set(cells)}
    if name == "sex":
        cleaned = {cell: sex_words.get(text.lower(), text) for cell, text in cleaned.items()}
    elif name in NUMBER_COLUMNS:
        point = ((cell, text.replace(",", ".")) for cell, text in cleaned.items())
        cleaned |= {cell: text for cell, text in point if is_number(text)}
    return [cleaned[cell] for cell in cells]


def _take_fat_as_images(columns: dict[str, list[str]]) -> None:
    """Fill empty cells of the column images with the fat image, where water and fat are given."""
    if {"water", "fat"} <= columns.keys():
        images = columns.get("images") or [""] * len(columns["fat"])
        parts = zip(images, columns["water"], columns["fat"], strict=True)
        columns["images"] = [image or (fat if water else "") for image, water, fat in parts]


def _part_faults(
    columns: Mapping[str, Sequence[str]], labels: Mapping[str, str], lines: Sequence[int]
) -> list[Fault]:
    """Return the faults of lines without water or fat, in a sheet without a column images.

    columns: cleaned cells by own name. labels: {own name: name in the file}.
    """
    faults = []
    for name, other in (("water", "fat"), ("fat", "water")):
        parts = zip(lines, columns.get(name, ()), columns.get(other, ()), strict=False)
        for line, part, beside in parts:
            if not part:
                reason = f"{other} is given" if beside else "the sheet has no column images"
                told = f"empty, expected the {name} image because {reason}"
                faults.append(Fault(line, labels[name], told))
    return faults


def _cell_faults(
    name: str, label: str, found: Sequence[str], cells: Sequence[str], lines: Sequence[int]
) -> list[Fault]:
    """Return the faults of a column. label, found: as in the file. cells: cleaned."""
    fits = _cell_check(name)
    wrong = {cell for cell in set(cells) if cell and not fits(cell)}
    if name in _schema()["required"] or (name == "visit" and any(cells)):
        wrong.add("")
    if wrong.isdisjoint(cells):
        return []
    expected = _properties()[name]["description"]
    return [
        Fault(line, label, f"{_kind_of_value(name, shown)}, expected {expected}")
        for line, shown, cell in zip(lines, found, cells, strict=True)
        if cell in wrong
    ]


def _kind_of_value(name: str, cell: str) -> str:
    """Return a cell in words for the message of a fault, such as "empty" or its quoted text."""
    if cell.lower() in UNKNOWN:
        return f"{_shown(cell)} (unknown)" if cell else "empty"
    return _shown(cell) + (", a Windows path" if name in PATH_COLUMNS else "")


def _cell_check(name: str) -> Callable[[str], object]:
    """Return a check of the cells of a column: true where a filled cell fits the schema."""
    column = _properties()[name]
    if "enum" in column:
        return frozenset(column["enum"]).__contains__
    if column.get("type") == "number":
        lowest, highest = column["minimum"], column["maximum"]
        return lambda cell: is_number(cell) and lowest <= float(cell) <= highest
    if name in PATH_COLUMNS:
        return lambda cell: os.name == "nt" or not is_windows_path(cell)
    return re.compile(column.get("pattern", "")).search


def _shown(cell: str) -> str:
    return f"'{cell}'" if len(cell) <= SHOWN else f"'{cell[:SHOWN]}...' ({len(cell)} characters)"


def _repeated(
    subjects: Sequence[str], visits: Sequence[str] | None, lines: Sequence[int]
) -> list[tuple[int, str]]:
    """Return line and fault of scans that have more than one line.

    Names that differ only in case are one: some disks would hold them in one folder. With visits,
    such names are a fault, too: they could be one subject or two.
    """
    faults = []
    first: dict[tuple[str, str], int] = {}
    spelling: dict[str, tuple[int, str]] = {}
    expected = "each visit of a subject once" if visits and any(visits) else "each subject once"
    visits = visits or [""] * len(subjects)
    for line, subject, visit in zip(lines, subjects, visits, strict=False):
        known = first.setdefault((subject.lower(), visit.lower()), line)
        with_name, spelt = spelling.setdefault(subject.lower(), (line, subject))
        if subject and known != line:
            shown = _shown(subject) + (f", visit {_shown(visit)}," if visit else "")
            faults.append((line, f"{shown} is already on line {known}, expected {expected}"))
        elif subject != spelt:
            told = (
                f"{_shown(subject)} is {_shown(spelt)} on line {with_name}, expected one spelling"
            )
            faults.append((line, told))
    return faults


def _two_sexes(columns: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Return a sentence on subjects whose visits have two sexes; () without any."""
    sexes: dict[str, set[str]] = {}
    for subject, sex in zip(columns["subject"], columns.get("sex", ()), strict=False):
        sexes.setdefault(subject, set()).add(sex)
    both = [subject for subject, found in sexes.items() if {"F", "M"} <= found]
    told = (
        f"column sex: F in one visit and M in another ({some_of(both)}), expected one sex; "
        "models count them as both"
    )
    return (told,) if both else ()


def _resolved(row: dict[str, str], home: str) -> dict[str, str]:
    for name in PATH_COLUMNS:
        if row[name]:
            row[name] = os.path.normpath(os.path.join(home, row[name]))
    return row


# --- other columns -------------------------------------------------------------------------------


def type_of(cells: Iterable[str]) -> str:
    """Return the type of a sheet's column that paravert does not define, found from its cells.

    cells: texts; empty ones are ignored. Returns the first that applies: "date" if there are cells with
    a digit and all of them are dates such as 20240229, maybe with a time such as 1020 or 102030;
    "number" if all are numbers, unless one has leading zeros or is whole with more than 15 digits, or
    there are points as well as commas; "yes/no" if all are yes, y, true, no, n or false in any case;
    "date" if any cell is a date such as 2024-02-29, 29.2.2024, 2/29/24 or 29-Feb-2024 (`DATE_TEXTS`),
    maybe with a time; "path" if any is an absolute path, or has a slash or backslash and the ending of
    a file; "category" for at most 50 different texts, also for none; "text".
    """
    known = set(cells) - {""}
    told = set(filter(has_digit, known))
    if told and all(map(is_dicom_date, told)):
        return DATE
    if known and all(map(_holds_as_number, known)) and len(set(",.") & set("".join(known))) < 2:
        return NUMBER
    if known and {cell.lower() for cell in known} <= YES | NO:
        return YES_NO
    if any(map(is_date, known)):
        return DATE
    if any(map(is_path, known)):
        return FILE_PATH
    return CATEGORY if len(known) <= MOST_CATEGORIES else TEXT


def _doubts(types: Mapping[str, str], columns: Iterable[str]) -> tuple[str, ...]:
    """Return a sentence for each other column whose name is like that of an own one that is absent.

    types: {other column: its type}. columns: names of all columns.
    """
    absent = [name for name in _properties() if name not in columns]
    told = []
    for name, kind in types.items():
        stems = [own for own in absent if own.split("_")[0] == name.lower()]
        near = stems or difflib.get_close_matches(name.lower(), absent, n=1, cutoff=LIKE_OWN)
        if near and name not in _properties():
            use = "not used" if kind in NOT_WRITTEN else "carried into the tables as it is"
            told.append(f"column {name}: did you mean {near[0]}? It is {use}")
    return tuple(told)


def _grouped_numbers(
    types: Mapping[str, str], columns: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    """Yield a sentence for each column of numbers whose comma or point may separate thousands.

    All are then such as 1,234, or whole with at most three digits. With a point that alone is no
    sign: many programs write three decimals.
    """
    for name in (name for name, kind in types.items() if kind == NUMBER):
        known = set(columns[name]) - {""}
        grouped = set(filter(is_grouped, known))
        short = all(map(is_short, known - grouped))
        if grouped and short and (known - grouped or "," in next(iter(grouped))):
            yield f"column {name}: 1,234 and 1.234 are read as a little more than 1, not as thousands"


def _spellings(types: Mapping[str, str], columns: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield a sentence for each column of categories in which words differ in case or blanks alone."""
    categories = [name for name, kind in types.items() if kind == CATEGORY]
    for name in (*(own for own in ("site", "group") if own in columns), *categories):
        words: dict[str, list[str]] = {}
        for cell in sorted(set(columns[name]) - {""}):
            words.setdefault(" ".join(cell.casefold().split()), []).append(cell)
        alike = next((spelt for spelt in words.values() if len(spelt) > 1), ())
        if alike:
            told = " and ".join(map(_shown, alike))
            yield f"column {name}: {told} count as different, expected one spelling"


def _holds_as_number(cell: str) -> bool:
    digits = cell.removeprefix("-")
    if not is_number(cell) or (digits[0] == "0" and digits[1:2].isdigit()):
        return False
    if digits.isdigit():
        return len(digits) <= MOST_DIGITS
    return math.isfinite(float(cell.replace(",", ".")))


def _add_years(
    columns: dict[str, list[str]], types: dict[str, str]
) -> tuple[bool, tuple[str, ...]]:
    """Add the column YEARS from the column DATES, unless it is there or no date is known.

    columns: cells by name. types: of the columns that are not paravert's own. Returns whether it
    was added, and a sentence on cells that are no readable date, or on a column YEARS of other
    text than numbers, () without any. Years are since the earliest date of the subject; empty where
    the date is not readable.
    """
    names = {name.lower(): name for name in columns}
    if own := names.get(YEARS):
        told = f"column {own}: not used, as it holds other text than numbers"
        return False, (told,) if types[own] != NUMBER and any(columns[own]) else ()
    if DATES not in names:
        return False, ()
    cells = columns[names[DATES]]
    days = [_day(cell) if types[names[DATES]] == DATE else None for cell in cells]
    first: dict[str, int] = {}
    for subject, day in zip(columns["subject"], days, strict=True):
        if day is not None:
            first[subject] = min(day, first.get(subject, day))
    if first:
        columns[YEARS] = [
            "" if day is None else f"{(day - first[subject]) / DAYS_PER_YEAR:.4f}"
            for subject, day in zip(columns["subject"], days, strict=True)
        ]
        types[YEARS] = NUMBER
    unread = sum(bool(cell) and day is None for cell, day in zip(cells, days, strict=True))
    told = (
        f"column {names[DATES]}: {unread} of {sum(map(bool, cells))} cells are not read as dates, "
        f"expected such as 2024-02-29 or 29.2.2024; {YEARS} is unknown there"
    )
    return bool(first), (told,) if unread else ()


def _day(cell: str) -> int | None:
    """Return the number of the day of a date, None where it is not one of DATE_FORMS."""
    text = cell[:8] if is_dicom_date(cell) else re.split("[T ,]", cell, maxsplit=1)[0]
    for form in DATE_FORMS:
        try:
            return datetime.strptime(text, form).toordinal()
        except ValueError:
            continue
    return None


# --- the sheet of a run --------------------------------------------------------------------------


def write_sheet(path: Path, rows: Iterable[Mapping[str, str]]) -> None:
    """Write rows as a subject sheet (CSV) that `read_sheet` can read, completely or not at all.

    path: of the file, in an existing folder. rows: one dict per row, {column: text}, all with the
    same keys in the same order; at least one.
    """
    rows = list(rows)
    draft = path.with_name(f".{path.name}-{os.getpid()}")
    with draft.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerow(rows[0])
        csv.writer(file).writerows(row.values() for row in rows)
    os.replace(draft, path)
