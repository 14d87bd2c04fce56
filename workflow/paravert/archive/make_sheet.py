"""The command make_sheet: from an archive of images to a subject sheet.

NEEDS: a tree of folders with DICOM files or NIfTI files.
MAKES: sheet.csv, series.csv, key.csv and, where axial series compete, series_description.yaml.
sheet.csv holds no dates, no identifiers and no free text but the paths of the images. series.csv
holds SeriesDescription and paths, which may hold names. key.csv holds PatientIDs and dates: only its
owner may read it. None of them belongs into results/.
"""

import logging
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from paravert.archive.assessment import NO, YES, Assessment, assess, assess_nifti
from paravert.archive.descriptions import Proposal, as_configuration, chosen, propose
from paravert.archive.examinations import NIFTI, Examination, Person, group_examinations
from paravert.archive.index import Index, list_tree
from paravert.archive.key import Key, write_table
from paravert.archive.nifti_pattern import compile_pattern, matches
from paravert.errors import InputError, Reason, SubjectFault
from paravert.imaging.nifti import SUFFIXES
from paravert.shards import end_with
from paravert.sheet_file import CELL_LIMIT

log = logging.getLogger(__name__)

DAYS_PER_YEAR = 365.25
RESULTS = "results"
NO_PATHS = (".", "na")  # a sheet reads these cells as unknown
SHOWN_FROM_SUBJECTS = 5  # a description of fewer could be a name, which no log may hold
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
    "contrast",
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
    """An examination with its assessment, the pseudonym of its person, and its number in the sheet.

    number: from 1 in order of date; 0 if it is not in the sheet.
    """

    examination: Examination
    found: Assessment
    subject: str = ""
    number: int = 0

    @property
    def person(self) -> Person:
        """Whose examination it is."""
        return self.examination.person


def make_sheet(
    folder: Annotated[Path, typer.Argument(help="the archive: a folder, searched recursively")],
    out: Annotated[Path, typer.Option(help="subject sheet to write; the other files go beside it")],
    nifti: Annotated[
        str | None,
        typer.Option(
            help="pattern of NIfTI files below the folder, such as '{subject}/{visit}.nii.gz'; "
            "* stands for any part of a name"
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="processes that read; one per core unless given")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="replace a sheet that is there already")
    ] = False,
) -> None:
    """Write a subject sheet for an archive of DICOM or NIfTI images.

    Reads the headers of all files once, one line of the sheet per examination.
    People: PatientID and its issuer, under pseudonyms drawn at random.
    Examinations: StudyInstanceUID; numbered by date if somebody has several.
    A run that was killed goes on where it was.

    Beside the sheet it writes:
    series.csv: every series, and whether conversion would take it. It holds
    descriptions and paths, which may hold names.
    key.csv: pseudonyms and PatientIDs; a later run reuses it. Keep it secret.
    series_description.yaml: patterns that choose one of several axial series.
    """
    archive, out = Path(os.path.abspath(folder)), Path(os.path.abspath(out))
    pattern = compile_pattern(nifti) if nifti else None
    files = _Outputs(out)
    files.check(archive, overwrite=overwrite)
    workers = workers or len(os.sched_getaffinity(0))
    tree = list_tree(archive, files.all)
    with Index(files.index, archive) as index:
        index.fill(tree, workers)
        examinations = group_examinations(index.folders(), str(archive))
        empty = _folders_without_images(index, tree.folders, examinations, archive)
    volumes = _nifti_examinations(pattern, archive, [path for path, *_ in tree.files])
    ways = [partial(assess, files.index, examination) for examination in examinations]
    ways += [partial(_assess_volumes, paths) for _, paths in volumes]
    examinations += [examination for examination, _ in volumes]
    found = _assess_all(ways, workers)
    visits = [Visit(*pair) for pair in zip(examinations, found, strict=True)]
    _refuse_mixed_people(visits)
    _refuse_unusable_paths(visits, out.parent)
    key = Key(files.key)
    subjects = key.subjects_of(visit.person for visit in visits)
    for visit in visits:
        visit.subject = subjects[visit.person]
    _number(visits)
    visits.sort(key=lambda visit: (visit.subject, visit.number, visit.examination.name))
    proposal = propose(_competing(visits))
    key.write(_key_rows(visits))
    write_table(files.series, SERIES_COLUMNS, _series_rows(visits, empty, proposal, out.parent))
    files.write_patterns(proposal)
    columns, rows = _sheet(visits, out.parent)
    write_table(out, columns, rows)
    files.index.unlink()
    _tell(visits, empty, proposal, files)
    if pattern is None and (ignored := sum(p.lower().endswith(SUFFIXES) for p, *_ in tree.files)):
        log.info("%d NIfTI files ignored: --nifti says whose they are", ignored)


class _Outputs:
    """The files beside a sheet."""

    def __init__(self, sheet: Path):
        self.sheet = sheet
        self.series = sheet.with_name("series.csv")
        self.key = sheet.with_name("key.csv")
        self.patterns = sheet.with_name("series_description.yaml")
        self.index = sheet.with_name(f".{sheet.name}.index")
        made = (self.sheet, self.series, self.key, self.patterns, self.index)
        self.all = (*made, sheet.with_name(f"{self.index.name}-journal"))

    def check(self, archive: Path, *, overwrite: bool) -> None:
        """Raise InputError where the archive is no folder or the sheet may not be written."""
        if not archive.is_dir():
            raise InputError(archive, "no such folder, expected the archive")
        if RESULTS in self.sheet.parts:
            told = f"a path within a folder {RESULTS}, expected one outside: the key is no result"
            raise InputError(self.sheet, told)
        if self.sheet in (self.series, self.key):
            raise InputError(self.sheet, "the name of another file of this command")
        if self.sheet.exists() and not (overwrite or self.index.exists()):
            raise InputError(self.sheet, "the sheet is there already, expected none or --overwrite")
        self.sheet.parent.mkdir(parents=True, exist_ok=True)

    def write_patterns(self, proposal: Proposal) -> None:
        """Write the proposed configuration; none where no series compete."""
        if not proposal.subjects:
            self.patterns.unlink(missing_ok=True)
            return
        draft = self.patterns.with_name(f".{self.patterns.name}.part")
        draft.write_text(as_configuration(proposal), encoding="utf-8")
        os.replace(draft, self.patterns)


# --- what is in the archive ----------------------------------------------------------------------


@dataclass(frozen=True)
class _Empty:
    """A folder without any DICOM image, and why it is none of a person's."""

    folder: str
    fault: SubjectFault


def _folders_without_images(
    index: Index, folders: Sequence[str], examinations: Sequence[Examination], archive: Path
) -> list[_Empty]:
    """Return the highest folders in which there is no DICOM object, those of examinations left out."""
    full = {str(archive)}
    for examination in examinations:
        for _, place in examination.places:
            while place not in full:
                full.add(place)
                place = os.path.dirname(place)
    above = {e.folder for e in examinations}
    found = []
    for folder in folders:  # sorted: what is above comes first
        parent = os.path.dirname(folder)
        if folder not in full and parent in full and not _is_within(parent, above, str(archive)):
            files = index.others_below(folder)
            told = f"no DICOM image among {len(files)} files"
            faults = [file.fault for file in files if file.fault]
            fault = faults[0] if faults else SubjectFault(Reason.NO_DICOM, told)
            found.append(_Empty(folder, fault))
    return found


def _is_within(folder: str, places: set[str], archive: str) -> bool:
    """Tell whether a folder below the archive is one of some places or below one."""
    while len(folder) > len(archive):
        if folder in places:
            return True
        folder = os.path.dirname(folder)
    return False


def _nifti_examinations(
    pattern: re.Pattern[str] | None, archive: Path, paths: Iterable[str]
) -> list[tuple[Examination, list[Path]]]:
    """Return the examinations that a pattern of paths tells, with their files."""
    if pattern is None:
        return []
    start = len(str(archive)) + 1
    below = (path[start:] for path in paths if path.lower().endswith(SUFFIXES))
    return [
        (Examination(Person(NIFTI, subject, ""), visit), [archive / path for path in found])
        for (subject, visit), found in sorted(matches(pattern, below).items())
    ]


def _assess_volumes(paths: Sequence[Path]) -> Assessment:
    if len(paths) == 1:
        return assess_nifti(paths[0])
    told = f"{len(paths)} files of one subject and visit match the pattern, expected one"
    rows = [{"folder": str(path.parent), "accepted": NO} for path in paths]
    return Assessment(fault=SubjectFault(Reason.AMBIGUOUS_SERIES, told), series=rows)


def _assess_all(ways: Sequence[partial], workers: int) -> list[Assessment]:
    bar = partial(tqdm, total=len(ways), unit=" examinations", disable=None)
    with ProcessPoolExecutor(workers, initializer=end_with, initargs=(os.getpid(),)) as pool:
        return list(
            bar(pool.map(_call, ways, chunksize=max(1, min(16, len(ways) // workers // 8))))
        )


def _call(way: partial) -> Assessment:
    return way()


# --- what may be in the sheet --------------------------------------------------------------------


def _refuse_mixed_people(visits: Iterable[Visit]) -> None:
    """Take people out of the sheet whose examinations tell different dates of birth."""
    born: dict[Person, set[str]] = defaultdict(set)
    for visit in visits:
        born[visit.person] |= visit.found.birth_dates
    for visit in visits:
        if len(born[visit.person]) > 1:
            told = "examinations of one PatientID (0010,0020) tell different dates of birth"
            visit.found.fault = SubjectFault(Reason.MIXED_PATIENTS, told)
            visit.found.images = ""


def _refuse_unusable_paths(visits: Iterable[Visit], home: Path) -> None:
    """Take examinations out of the sheet whose path no cell can hold."""
    for visit in visits:
        cell = _relative(visit.found.images, home) if visit.found.in_sheet else ""
        if not cell.isprintable() or cell != cell.strip() or len(cell) > CELL_LIMIT:
            told = "the path holds what a cell of the sheet cannot: rename the folder"
            visit.found.fault = SubjectFault(Reason.UNREADABLE_HEADER, told)
            visit.found.images = ""


def _relative(path: str | Path, home: Path) -> str:
    told = os.path.relpath(path, home)
    return f"./{told}" if told.lower() in NO_PATHS else told


def _number(visits: Iterable[Visit]) -> None:
    """Number the examinations of each person that are in the sheet, by date; unknown dates last."""
    by_person: dict[Person, list[Visit]] = defaultdict(list)
    for visit in visits:
        if visit.found.in_sheet:
            by_person[visit.person].append(visit)
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


def _sheet(visits: Sequence[Visit], home: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Return the columns and rows of the sheet; visits only where somebody has several."""
    lines = [visit for visit in visits if visit.number]
    several = any(visit.number > 1 for visit in lines)
    by_person: dict[Person, list[Visit]] = defaultdict(list)
    for visit in visits:
        by_person[visit.person].append(visit)
    rows = []
    for visit in lines:
        own = by_person[visit.person]
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
    """Return the number of a day, from its date in the header (YYYYMMDD)."""
    try:
        return date(int(told[:4]), int(told[4:6]), int(told[6:8])).toordinal()
    except ValueError:
        return None


def _key_rows(visits: Iterable[Visit]) -> list[dict[str, str]]:
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


def _series_rows(
    visits: Iterable[Visit], empty: Iterable[_Empty], proposal: Proposal, home: Path
) -> list[dict[str, object]]:
    rows = []
    for visit in visits:
        found = visit.found
        taken = chosen(found.candidates, proposal.texts) if found.candidates else None
        for number, cells in enumerate(found.series):
            own = cells | {"folder": _relative(cells["folder"], home)}
            is_chosen = visit.number and (
                taken.row == number if taken else visit.person.source == NIFTI
            )
            own |= {"subject": visit.subject, "visit": visit.number or "", "chosen": NO}
            own |= {"chosen": YES} if is_chosen else {}
            rows.append(own | _examination_cells(found.fault, in_sheet=found.in_sheet))
    for place in empty:
        cells = _examination_cells(place.fault, in_sheet=False)
        rows.append({"folder": _relative(place.folder, home)} | cells)
    return rows


def _examination_cells(fault: SubjectFault | None, *, in_sheet: bool) -> dict[str, str]:
    return {
        "in_sheet": YES if in_sheet else NO,
        "examination_reason": str(fault.reason) if fault else "",
        "examination_message": fault.message if fault else "",
    }


def _competing(visits: Iterable[Visit]) -> Mapping[str, list]:
    """Return the axial series of examinations in the sheet that have several, by subject."""
    found: dict[str, list] = defaultdict(list)
    for visit in visits:
        if visit.number and len(visit.found.candidates) > 1:
            found[visit.subject].append(tuple(visit.found.candidates))
    return found


# --- what the user is told -----------------------------------------------------------------------


def _tell(
    visits: Sequence[Visit], empty: Sequence[_Empty], proposal: Proposal, files: _Outputs
) -> None:
    """Log counts and file names; nothing of what the headers say."""
    lines = [visit for visit in visits if visit.number]
    people = {visit.person for visit in visits}
    inside = {visit.person for visit in lines}
    log.info("%s: %d subjects, %d examinations", files.sheet.name, len(inside), len(lines))
    open_ones = Counter(str(visit.found.fault.reason) for visit in lines if visit.found.fault)
    for reason, count in sorted(open_ones.items()):
        log.info("  of these %d will be quarantined as they are: %s", count, reason)
    out = [visit.found.fault.reason for visit in visits if not visit.number]
    out += [place.fault.reason for place in empty]
    log.info(
        "not in the sheet: %d people, %d examinations or folders", len(people - inside), len(out)
    )
    for reason, count in sorted(Counter(map(str, out)).items()):
        log.info("  %d: %s", count, reason)
    log.info("%s: every series found, with reasons", files.series.name)
    log.info(
        "%s: pseudonyms and PatientIDs; keep it secret, and apart from results", files.key.name
    )
    if proposal.subjects:
        told = "%s: %d subjects have several axial series, %d are settled by the patterns in it"
        log.info(told, files.patterns.name, proposal.subjects, proposal.settled)
        for pattern in proposal.patterns:
            shown = pattern.text if pattern.subjects >= SHOWN_FROM_SUBJECTS else "(see the file)"
            log.info("  %s settles %d more, %s", shown, pattern.settles, pattern.contrast)
