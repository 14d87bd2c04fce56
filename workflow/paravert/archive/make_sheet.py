"""The command make_sheet: from an archive of images to a subject sheet.

NEEDS: a tree of folders with DICOM files or NIfTI files.
MAKES: the sheet, series.csv, key.csv and, if an examination in it has several axial series,
series_description.yaml.
The sheet holds no dates, identifiers or free text, unless the paths of the images do. series.csv
and series_description.yaml hold SeriesDescription, series.csv also paths: both may hold names.
key.csv holds PatientIDs and dates: only its owner may read it. None of them belongs into results/.
"""

import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from paravert.archive.assessment import NO, Assessment, assess, assess_nifti
from paravert.archive.descriptions import Proposal, as_configuration, propose
from paravert.archive.examinations import (
    NIFTI,
    Examination,
    Person,
    group_examinations,
    printable,
)
from paravert.archive.index import Index, list_tree
from paravert.archive.key import Key, write_table
from paravert.archive.visits import (
    SERIES_COLUMNS,
    EmptyFolder,
    Visit,
    competing_series,
    key_rows,
    number_visits,
    refuse_mixed_people,
    refuse_unusable_paths,
    series_rows,
    sheet_table,
)
from paravert.errors import InputError, Reason, SubjectFault
from paravert.shards import worker_pool
from paravert.sheet import is_nifti

log = logging.getLogger(__name__)

RESULTS = "results"
MOST_AT_ONCE = 16  # examinations that a process takes at a time
SHOWN_FROM_SUBJECTS = 5  # a description of fewer could be a name, which no log may hold
FIELDS = ("subject", "visit")  # of a pattern of NIfTI paths
PATTERN_PART = re.compile(r"\{([^{}]*)\}|(\*)")


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
        int | None,
        typer.Option(min=0, help="processes that read; 0: one per core, as if not given"),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="replace a sheet that is there already")
    ] = False,
) -> None:
    """Write a subject sheet for an archive of DICOM or NIfTI images.

    Reads the headers of all files; the sheet has a row for each examination that
    may be analysed, also if a fault must be mended first. series.csv tells the
    faults, and why others are left out. NIfTI files need --nifti.
    People: PatientID and its issuer (NIfTI: {subject}), under random pseudonyms.
    Examinations: StudyInstanceUID; numbered by date if somebody has several.
    An interrupted run resumes. With 0 workers there is one per core. The folder of
    the sheet is made if absent.

    Beside the sheet it writes:
    series.csv: every series, and whether conversion would take it. It holds
    descriptions and paths, which may hold names.
    key.csv: pseudonyms, PatientIDs, dates; a later run reuses it. Keep it secret.
    series_description.yaml, if needed: patterns that choose an axial series.

    Raises InputError for a folder that cannot be read, a sheet that may not be
    written (within results, or there already), a faulty pattern or key.csv;
    ChildProcessError if a worker died.
    """
    archive = Path(os.path.abspath(folder))
    out = Path(os.path.realpath(out.parent), out.name)  # read_sheet resolves paths from there
    pattern = compile_pattern(nifti) if nifti else None
    files = _Outputs(out)
    files.check(archive, overwrite=overwrite)
    key = Key(files.key)
    workers = workers or os.cpu_count() or 1
    tree = list_tree(archive, files.all)
    log.info("%d files in %d folders", len(tree.files), len(tree.folders))
    nifti_paths = [path for path, *_ in tree.files if is_nifti(Path(path))]
    volumes = _nifti_examinations(pattern, archive, nifti_paths)
    with Index(files.index, archive) as index:
        index.fill(tree, workers)
        examinations = group_examinations(index.folders(), str(archive))
        places = {place for examination in examinations for _, place in examination.places}
        places |= {str(path.parent) for _, paths in volumes for path in paths}
        common = {one.folder for one in examinations if one.image_folders}
        empty = _folders_without_images(index, tree.folders, places, common, str(archive))
    ways = [partial(assess, files.index, examination) for examination in examinations]
    ways += [partial(_assess_volumes, paths) for _, paths in volumes]
    examinations += [examination for examination, _ in volumes]
    found = _assess_all(ways, workers)
    visits = [Visit(*pair) for pair in zip(examinations, found, strict=True)]
    subjects = key.subjects_of((visit.person, visit.examination.name) for visit in visits)
    for visit in visits:
        visit.subject = subjects[visit.person]
    refuse_mixed_people(visits)
    refuse_unusable_paths(visits, out.parent)
    number_visits(visits)
    visits.sort(key=lambda visit: (visit.subject, visit.number, visit.examination.name))
    proposal = propose(competing_series(visits))
    key.write(key_rows(visits))
    write_table(
        files.series, SERIES_COLUMNS, series_rows(visits, empty, proposal.texts, out.parent)
    )
    files.write_patterns(proposal)
    columns, rows = sheet_table(visits, out.parent)
    write_table(out, columns, rows)
    files.index.unlink()
    _tell(visits, empty, proposal, files)
    ignored = len(nifti_paths) - sum(len(paths) for _, paths in volumes)
    if ignored:
        why = "--nifti says whose they are" if pattern is None else "not of the pattern of --nifti"
        log.info("%d NIfTI files ignored: %s", ignored, why)


class _Outputs:
    """The files beside a sheet, whose folder is resolved: without links."""

    def __init__(self, sheet: Path):
        self.sheet = sheet
        self.series = sheet.with_name("series.csv")
        self.key = sheet.with_name("key.csv")
        self.patterns = sheet.with_name("series_description.yaml")
        self.index = sheet.with_name(f".{sheet.name}.index")
        made = (self.sheet, self.series, self.key, self.patterns, self.index)
        self.all = (*made, sheet.with_name(f"{self.index.name}-journal"))

    def check(self, archive: Path, *, overwrite: bool) -> None:
        """Raise InputError if the archive is no folder or the sheet may not be written; make its folder.

        archive: its path. The sheet may not be within ./results, also not by a link, nor be named
        series.csv, key.csv or series_description.yaml. A sheet that is there already is only
        replaced if `overwrite` is True or the index of an interrupted run is there.
        """
        if not os.path.isdir(archive):
            raise InputError(archive, "no such folder, expected the archive")
        if not os.access(archive, os.R_OK | os.X_OK):
            raise InputError(archive, "the archive may not be read")
        if Path(os.path.realpath(RESULTS)) in self.sheet.parents:
            told = f"a path within {RESULTS}, expected one outside: the key is no result"
            raise InputError(self.sheet, told)
        if self.sheet in (self.series, self.key, self.patterns):
            raise InputError(self.sheet, "the name of another file of this command")
        for file in (self.sheet, self.series, self.patterns):
            if os.path.isdir(file):
                raise InputError(file, "a folder, expected a file or none")
        if os.path.exists(self.sheet) and not (overwrite or os.path.exists(self.index)):
            raise InputError(self.sheet, "the sheet is there already, expected none or --overwrite")
        home = self.sheet.parent
        try:
            home.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise InputError(
                home, "a file or within one, expected a folder for the sheet"
            ) from None
        except PermissionError:
            raise InputError(
                home, "no folder may be made there, expected one for the sheet"
            ) from None
        if not os.access(home, os.W_OK | os.X_OK):
            raise InputError(home, "no file may be written there, expected a folder for the sheet")

    def write_patterns(self, proposal: Proposal) -> None:
        """Write series_description.yaml, or delete it if no subject has several axial series.

        proposal: the patterns, from `propose`.
        """
        if not proposal.subjects:
            self.patterns.unlink(missing_ok=True)
            return
        draft = self.patterns.with_name(f".{self.patterns.name}.part")
        draft.write_text(as_configuration(proposal), encoding="utf-8")
        os.replace(draft, self.patterns)


# --- what is in the archive ----------------------------------------------------------------------


def _folders_without_images(
    index: Index, folders: Sequence[str], places: set[str], common: set[str], archive: str
) -> list[EmptyFolder]:
    """Return the highest folders without files of examinations; not those within an examination.

    folders: all, sorted. places: those that hold files of an examination. common: the common folder
    of each DICOM examination that has images.
    """
    full = {archive}
    for place in places:
        while place not in full:
            full.add(place)
            place = os.path.dirname(place)
    found = []
    for folder in folders:
        parent = os.path.dirname(folder)
        if folder not in full and parent in full and not _is_within(parent, common, archive):
            files = index.others_below(folder)
            told = f"no DICOM image among {len(files)} files"
            faults = [file.fault for file in files if file.fault]
            fault = faults[0] if faults else SubjectFault(Reason.NO_DICOM, told)
            found.append(EmptyFolder(folder, fault))
    return found


def _is_within(folder: str, places: set[str], archive: str) -> bool:
    """Return whether a folder below the archive is one of some places or below one."""
    while len(folder) > len(archive):
        if folder in places:
            return True
        folder = os.path.dirname(folder)
    return False


def _assess_volumes(paths: Sequence[Path]) -> Assessment:
    if len(paths) == 1:
        return assess_nifti(paths[0])
    told = f"{len(paths)} files of one subject and visit match the pattern, expected one"
    rows = [{"folder": str(path.parent), "accepted": NO} for path in paths]
    return Assessment(fault=SubjectFault(Reason.AMBIGUOUS_SERIES, told), series=rows)


def _assess_all(ways: Sequence[partial], workers: int) -> list[Assessment]:
    bar = partial(tqdm, total=len(ways), unit=" examinations", disable=None)
    if workers == 1:
        return list(bar(map(_call, ways)))
    with worker_pool(workers) as pool:
        at_once = max(1, min(MOST_AT_ONCE, len(ways) // workers // 8))
        return list(bar(pool.map(_call, ways, chunksize=at_once)))


def _call(way: partial) -> Assessment:
    return way()


# --- NIfTI files, by a pattern of their paths ----------------------------------------------------


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Return the regular expression, for whole paths, of a pattern such as {subject}/{visit}.nii.gz.

    Use its fullmatch. pattern: of paths relative to the archive. {subject} and {visit} match a part
    of a file or folder name (no slash), at least one character, and become groups of that name; if
    one occurs twice, both must be the same text. * matches any part of a name, also none. Raises
    InputError if it has another field, or no {subject}.
    """
    parts: list[str] = []
    seen: set[str] = set()
    end = 0
    for found in PATTERN_PART.finditer(pattern):
        parts.append(re.escape(pattern[end : found.start()]))
        end = found.end()
        name = found[1]
        if name is None:
            parts.append("[^/]*")
        elif name not in FIELDS:
            raise InputError("--nifti", f"{{{name}}}, expected {{subject}} and {{visit}}")
        else:
            parts.append(f"(?P={name})" if name in seen else f"(?P<{name}>[^/]+?)")
            seen.add(name)
    parts.append(re.escape(pattern[end:]))
    if "subject" not in seen:
        raise InputError("--nifti", "no {subject}, expected for example {subject}/{visit}.nii.gz")
    return re.compile("".join(parts))


def _nifti_examinations(
    pattern: re.Pattern[str] | None, archive: Path, paths: Iterable[str]
) -> list[tuple[Examination, list[Path]]]:
    """Return an examination for each subject and visit of the NIfTI files, with its files, sorted.

    pattern: with a group subject and maybe a group visit, matched with paths relative to the
    archive; None: no examinations. paths: of all NIfTI files of the archive; those that do not match
    are left out.
    """
    if pattern is None:
        return []
    start = len(str(archive)) + 1
    found: dict[tuple[str, str], list[Path]] = {}
    for path in paths:
        if match := pattern.fullmatch(path[start:]):
            fields = match.groupdict()
            key = (printable(fields["subject"]), printable(fields.get("visit", "")))
            found.setdefault(key, []).append(Path(path))
    return [
        (Examination(Person(NIFTI, subject, ""), visit), files)
        for (subject, visit), files in sorted(found.items())
    ]


# --- messages -------------------------------------------------------------------------------------


def _tell(
    visits: Sequence[Visit], empty: Sequence[EmptyFolder], proposal: Proposal, files: _Outputs
) -> None:
    """Log counts, names of our files, and descriptions that several subjects share; no other values."""
    lines = [visit for visit in visits if visit.number]
    people = {visit.subject for visit in visits}
    inside = {visit.subject for visit in lines}
    log.info("%s: subjects: %d, examinations: %d", files.sheet.name, len(inside), len(lines))
    open_ones = Counter(str(visit.found.fault.reason) for visit in lines if visit.found.fault)
    for reason, count in sorted(open_ones.items()):
        log.info("  of these, quarantined as they are: %d: %s", count, reason)
    out = [visit.found.fault.reason for visit in visits if not visit.number]
    out += [place.fault.reason for place in empty]
    log.info(
        "not in the sheet: people: %d, examinations and folders: %d", len(people - inside), len(out)
    )
    for reason, count in sorted(Counter(map(str, out)).items()):
        log.info("  %d: %s", count, reason)
    log.info("%s: every series found, with reasons", files.series.name)
    log.info(
        "%s: pseudonyms and PatientIDs; keep it secret, and apart from results", files.key.name
    )
    if proposal.subjects:
        told = "%s: subjects with several axial series: %d, settled by the patterns in it: %d"
        log.info(told, files.patterns.name, proposal.subjects, proposal.settled)
        for pattern in proposal.patterns:
            shown = pattern.text if pattern.subjects >= SHOWN_FROM_SUBJECTS else "(see the file)"
            log.info("  %s settles %d more, %s", shown, pattern.settles, pattern.sequence)
