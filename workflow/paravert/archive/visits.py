"""Visits: the examinations of each person by date; the rows of sheet.csv, series.csv and key.csv."""

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from paravert.archive.assessment import NO, YES, Assessment, Candidate
from paravert.archive.descriptions import chosen_series
from paravert.archive.examinations import NIFTI, Examination, Person, printable
from paravert.errors import Reason, SubjectFault
from paravert.sheet import UNKNOWN, is_windows_path
from paravert.sheet_file import cell_fault

DAYS_PER_YEAR = 365.25
SERIES_COLUMNS = (
    "subject",
    "visit",
    "in_sheet",
    "examination_reason",
    "examination_message",
    "folder",
    "series_number",
    "modality",
    "description",
    "body_part",
    "plane",
    "sequence",
    "files",
    "slices",
    "stacks",
    "spacing_mm",
    "row_spacing_mm",
    "column_spacing_mm",
    "echo_time_ms",
    "repetition_time_ms",
    "inversion_time_ms",
    "accepted",
    "reason",
    "message",
    "chosen",
)


@dataclass
class Visit:
    """An examination as a visit of a person.

    examination: its files and person. found: what convert_dicom would do with it. subject:
    pseudonym of the person, "" until it is set. number: of the visit in the sheet, from 1 by date;
    0 before `number_visits`, and if the examination is not in the sheet.
    """

    examination: Examination
    found: Assessment
    subject: str = ""
    number: int = 0

    @property
    def person(self) -> Person:
        """The person (source, PatientID, issuer) who was examined."""
        return self.examination.person


@dataclass(frozen=True)
class EmptyFolder:
    """A folder of the archive without a file of an examination in or below it.

    folder: its path. fault: that of the first file or folder in it that has one, otherwise
    no-dicom.
    """

    folder: str
    fault: SubjectFault


# --- what may be in the sheet --------------------------------------------------------------------


def refuse_mixed_people(visits: Sequence[Visit]) -> None:
    """Exclude people from the sheet whose examinations have different dates of birth.

    visits: of all people, with pseudonyms; changed in place. Each examination of an excluded person
    gets the fault mixed-patients and an empty path `images`. An examination without a date of birth
    agrees with any; one whose own headers differ excludes its person, too.
    """
    born: dict[str, set[str]] = defaultdict(set)
    for visit in visits:
        born[visit.subject] |= visit.found.birth_dates
    for visit in visits:
        if len(born[visit.subject]) > 1:
            told = "examinations of one person tell different dates of birth"
            visit.found.fault = SubjectFault(Reason.MIXED_PATIENTS, told)
            visit.found.images = ""


def refuse_unusable_paths(visits: Iterable[Visit], home: Path) -> None:
    """Exclude examinations from the sheet whose path a cell of the sheet cannot hold.

    Such a path has invisible characters (`cell_fault`), bytes that are not UTF-8, white space at an
    end, or more than 4096 characters. visits: all examinations; changed in place: an excluded one
    gets the fault unreadable-header and an empty path `images`. home: folder of the sheet, to which
    paths are relative.
    """
    for visit in visits:
        cell = _relative(visit.found.images, home) if visit.found.in_sheet else ""
        if cell_fault(cell) or cell != cell.strip():
            told = "the path holds what a cell of the sheet cannot: rename the folder"
            visit.found.fault = SubjectFault(Reason.UNREADABLE_HEADER, told)
            visit.found.images = ""


def _relative(path: str | Path, home: Path) -> str:
    """Return a path relative to a folder, such that the sheet takes it for a path of this system."""
    told = os.path.relpath(path, home)
    other = told.lower() in UNKNOWN or is_windows_path(told) or told[0] == "#"  # an error of Excel
    return f"./{told}" if other else told


def number_visits(visits: Iterable[Visit]) -> None:
    """Number the examinations of each person in the sheet by date, from 1; unknown dates last.

    visits: of all people, with pseudonyms: those of one pseudonym are of one person, also if the key
    gives it to several PatientIDs. The attribute `number` is set; it stays 0 for examinations that are
    not in the sheet. Equal dates are ordered by time, then by the name of the examination; NIfTI files,
    which have no date, by the name of the visit, numbers in it by their value.
    """
    by_person: dict[str, list[Visit]] = defaultdict(list)
    for visit in visits:
        if visit.found.in_sheet:
            by_person[visit.subject].append(visit)
    for own in by_person.values():
        for number, visit in enumerate(sorted(own, key=_when), start=1):
            visit.number = number


def _when(visit: Visit) -> tuple:
    found, name = visit.found, visit.examination.name
    parts = name if visit.person.source == NIFTI else ""
    numbers = [part.zfill(12) if part.isdigit() else part for part in _runs(parts)]
    return not found.date, found.date, found.time, numbers, name


def _runs(text: str) -> list[str]:
    """Return the runs of digits and of other characters in a text, so that 10 follows 9."""
    runs: list[str] = []
    for letter in text:
        if runs and runs[-1][-1].isdigit() == letter.isdigit():
            runs[-1] += letter
        else:
            runs.append(letter)
    return runs


# --- the tables ----------------------------------------------------------------------------------


def sheet_table(visits: Sequence[Visit], home: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Return the columns and the rows of the subject sheet, one row (dict by column) per numbered visit.

    visits: of all people, with pseudonyms, after `number_visits`; the rows keep their order. home:
    folder of the sheet, to which the column images is relative. All cells are text, "" if unknown. The
    columns visit and years_since_first (years after the person's visit 1, two decimals) are only there
    if somebody has several visits. sex: "F" or "M", if all examinations of the person that tell it
    agree.
    """
    lines = [visit for visit in visits if visit.number]
    several = any(visit.number > 1 for visit in lines)
    by_person: dict[str, list[Visit]] = defaultdict(list)
    for visit in visits:
        by_person[visit.subject].append(visit)
    rows = []
    for visit in lines:
        own = by_person[visit.subject]
        sexes = {other.found.sex for other in own} - {""}
        age = visit.found.age_years
        row = {
            "subject": visit.subject,
            "images": _relative(visit.found.images, home),
            "sex": sexes.pop() if len(sexes) == 1 else "",
            "age_years": "" if age is None else f"{age:.4g}",
        }
        first = next((other for other in own if other.number == 1), None)
        rows.append(row | _visit_cells(visit, first) if several else row)
    visit_columns = ["visit", "years_since_first"] if several else []
    return ["subject", *visit_columns, "images", "sex", "age_years"], rows


def _visit_cells(visit: Visit, first: Visit | None) -> dict[str, str]:
    days = [_day(v.found.date) for v in (visit, first) if v is not None]
    known = len(days) == 2 and None not in days
    years = f"{(days[0] - days[1]) / DAYS_PER_YEAR:.2f}" if known else ""
    return {"visit": str(visit.number), "years_since_first": years}


def _day(told: str) -> int | None:
    """Return the number of a day, from its date in the header (YYYYMMDD); None if malformed."""
    try:
        return date(int(told[:4]), int(told[4:6]), int(told[6:8])).toordinal()
    except ValueError:
        return None


def key_rows(visits: Iterable[Visit]) -> list[dict[str, str]]:
    """Return the rows of key.csv (which pseudonym is which patient), one per examination.

    visits: of all people, also those that are not in the subject sheet, with their pseudonyms
    (`subject`), after `number_visits`. Returns dicts {column of `key.COLUMNS`: text} in the given
    order; the cell visit is empty for examinations that are not in the subject sheet.
    """
    return [
        {
            "subject": visit.subject,
            "visit": str(visit.number or ""),
            "source": visit.person.source,
            "patient_id": visit.person.patient_id,
            "issuer_of_patient_id": visit.person.issuer,
            "examination": visit.examination.name,
            "date": visit.found.date,
        }
        for visit in visits
    ]


def series_rows(
    visits: Iterable[Visit], empty: Iterable[EmptyFolder], patterns: Sequence[str], home: Path
) -> list[dict[str, object]]:
    """Return the rows of series.csv: one per series or NIfTI file, and one per folder of `empty`.

    Each is a dict {column of SERIES_COLUMNS: value}; None, "" or no key is unknown. visits: of all
    people, with pseudonyms, after `number_visits`. patterns: regular expressions for SeriesDescription
    (0008,103E), tried in order to choose one of several axial series; `chosen` is "yes" for the series,
    or all series of the Dixon acquisition, that convert_dicom would take, otherwise "no". home: folder
    of the sheet; the column folder, which is `printable`, is relative to it. Rows are in the order of
    `visits`, then of `empty`.
    """
    rows = []
    for visit in visits:
        found = visit.found
        taken = chosen_series(found.candidates, patterns) if found.candidates else None
        for number, cells in enumerate(found.series):
            own = cells | {"folder": printable(_relative(cells["folder"], home))}
            is_chosen = visit.number and (
                number in taken.rows if taken else visit.person.source == NIFTI
            )
            own |= {"subject": visit.subject, "visit": visit.number or "", "chosen": NO}
            own |= {"chosen": YES} if is_chosen else {}
            rows.append(own | _examination_cells(found.fault, in_sheet=found.in_sheet))
    for place in empty:
        cells = _examination_cells(place.fault, in_sheet=False)
        rows.append({"folder": printable(_relative(place.folder, home))} | cells)
    return rows


def _examination_cells(fault: SubjectFault | None, *, in_sheet: bool) -> dict[str, str]:
    return {
        "in_sheet": YES if in_sheet else NO,
        "examination_reason": str(fault.reason) if fault else "",
        "examination_message": fault.message if fault else "",
    }


def competing_series(visits: Iterable[Visit]) -> dict[str, list[tuple[Candidate, ...]]]:
    """Return the axial series (or Dixon acquisitions) of examinations that have several, by subject.

    visits: after `number_visits`; examinations with the number 0, which get no row in the subject
    sheet, are left out. Returns {Visit.subject: examinations}, each examination a tuple of its
    axial series; subjects without such an examination have no entry.
    """
    found: dict[str, list[tuple[Candidate, ...]]] = defaultdict(list)
    for visit in visits:
        if visit.number and len(visit.found.candidates) > 1:
            found[visit.subject].append(tuple(visit.found.candidates))
    return found
