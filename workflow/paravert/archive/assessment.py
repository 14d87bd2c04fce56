"""Predicts from the headers of an examination how convert_dicom would treat it, by the same rules."""

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from paravert.archive.examinations import Examination
from paravert.archive.headers import ArchiveFile
from paravert.archive.index import Index
from paravert.errors import Reason, SubjectFault
from paravert.imaging.dicom_scan import FolderScan, check_empty_files
from paravert.imaging.dixon_parts import acquisitions, stacks_with_water
from paravert.imaging.frame_stack import FrameStack, check_extent
from paravert.imaging.frames import Frame
from paravert.imaging.nifti import read_nifti
from paravert.imaging.pixel_format import pixel_format
from paravert.imaging.series import (
    AXIAL,
    choose_series,
    common_sequence,
    plane_name,
    series_plane,
)
from paravert.tables import DIXON_FAT, OLDEST_AGE_YEARS, UNKNOWN

YES, NO = "yes", "no"
# Examinations that conversion refuses for these reasons do not belong to the study. Examinations
# with other faults are in the sheet: the user can repair or configure them.
NOT_FOR_THE_SHEET = (
    Reason.NO_DICOM,
    Reason.WRONG_MODALITY,
    Reason.QUADRUPED,
    Reason.NO_AXIAL_SERIES,
    Reason.MIXED_PATIENTS,
    Reason.MULTIPLE_STUDIES,
)
VALUES_SHOWN = 4
# What stands for an unknown value where identities were removed.
NO_BIRTH_DATES = frozenset(("", "19000101"))
NO_AGES = frozenset((None, 0.0))
FIRST_MR = "1977"  # year of the first image of a person; earlier dates stand for unknown ones


@dataclass(frozen=True)
class Candidate:
    """An axial series, or Dixon acquisition, of an examination; convert_dicom has to choose one.

    rows: indices of its series in `Assessment.series` of the examination. description:
    SeriesDescription (0008,103E), of the fat image of a Dixon acquisition. sequence: class of the
    pulse sequence, one of `tables.SEQUENCES`. accepted: whether `conversion_fault` finds none in
    its files alone.
    """

    rows: tuple[int, ...]
    description: str
    sequence: str
    accepted: bool


@dataclass
class Assessment:
    """What convert_dicom would do with one examination, by its headers, and its date, sex and age.

    images: path of the folder or file for the column images of the sheet, as in the archive, not yet
    relative to the sheet; "" if the examination cannot be in the sheet. fault: why it would be
    quarantined, or is not in the sheet; None if no reason is known. series: a dict per series, sorted
    by SeriesNumber, with the columns of `visits.SERIES_COLUMNS` from folder to message (NIfTI: only
    some). candidates: its axial series and Dixon acquisitions, as `acquisitions` groups them; empty for
    NIfTI. date, time: of the file with the earliest date from 1977 on, as in its header (YYYYMMDD,
    HHMMSS); "" if there is none. sex: "F", "M", or "" if unknown or headers differ. age_years: at the
    examination, at most 90; None if unknown, 0 or headers differ. birth_dates: all dates of birth in
    its headers (YYYYMMDD), without 19000101.
    """

    images: str = ""
    fault: SubjectFault | None = None
    series: list[dict[str, object]] = field(default_factory=list)
    candidates: list[Candidate] = field(default_factory=list)
    date: str = ""
    time: str = ""
    sex: str = ""
    age_years: float | None = None
    birth_dates: frozenset[str] = frozenset()

    @property
    def in_sheet(self) -> bool:
        """Whether the examination gets a row of the sheet: whether `images` is not empty."""
        return bool(self.images)


def assess(index_file: Path, examination: Examination) -> Assessment:
    """Return what convert_dicom would do with a DICOM examination, by the headers in an index.

    index_file: SQLite file of an `Index`, which `Index.fill` has filled with the headers of all
    files of the archive. examination: its folders and identifiers, from `group_examinations`. A
    fault of the examination is in the result, not raised.
    """
    with Index(index_file) as index:
        files = index.files_of(examination.places)
        result = _series_of(files)
        _add_person(result, files)
        place, fault = _place(examination, files, result)
        if fault is None:
            alone = os.path.isfile(place) or not examination.image_folders
            others = [] if alone else index.others_below(place)
            inside = [file for file in files if _is_below(file.path, place)]
            fault = conversion_fault([*inside, *others])
    result.fault = fault
    if fault is None or fault.reason not in NOT_FOR_THE_SHEET:
        result.images = place
    return result


def assess_nifti(file: Path) -> Assessment:
    """Return what convert_dicom would do with a NIfTI file, which is read with its voxels.

    file: path from which it is opened; its text becomes `images` of the result, "" if its slices are not
    axial: such a file cannot be in the sheet. A fault, also of an absent file, is in the result, not
    raised. Candidates are empty; date, sex, age unknown.
    """
    row = {"folder": str(file.parent), "sequence": UNKNOWN, "accepted": YES}
    try:
        (stack,) = read_nifti(file).stacks
    except SubjectFault as fault:
        row |= {"accepted": NO, "reason": str(fault.reason), "message": fault.message}
        kept = fault.reason not in NOT_FOR_THE_SHEET
        return Assessment(str(file) if kept else "", fault, [row])
    rows_mm, columns_mm = stack.volume.pixel_spacing_mm
    row |= {
        "plane": AXIAL,
        "files": 1,
        "slices": len(stack.volume.array),
        "stacks": 1,
        "spacing_mm": _joined([stack.volume.slice_spacing_mm]),
        "row_spacing_mm": _joined([rows_mm]),
        "column_spacing_mm": _joined([columns_mm]),
    }
    return Assessment(str(file), None, [row])


# --- the place of the images ---------------------------------------------------------------------


def _place(
    examination: Examination, files: Sequence[ArchiveFile], known: Assessment
) -> tuple[str, SubjectFault | None]:
    """Return the path for the column images of the sheet, and the fault if that path is not usable.

    The common folder of the examination's images if it holds no other examination; else the common
    folder of its axial series, on the same condition, or the one file that holds them. If neither
    can be used: the common folder, with the fault.
    """
    folder = examination.folder
    if examination.fault is None:
        return folder, None
    rows = {row for candidate in known.candidates for row in candidate.rows}
    names = list(_by_series(files))
    axial = [file.path for file in files if file.is_image and names.index(_key(file)) in rows]
    if not axial:  # a fault of the images comes before one of the folder
        fault = conversion_fault(files)
        return folder, fault if fault and fault.reason in NOT_FOR_THE_SHEET else examination.fault
    if len(axial) == 1:
        return str(axial[0]), None
    narrow = os.path.commonpath([path.parent for path in axial])
    if narrow in examination.own_folders:
        return narrow, None
    return folder, examination.fault


def _is_below(path: Path, place: str) -> bool:
    return str(path) == place or str(path).startswith(f"{place}/")


# --- faults that conversion would raise -------------------------------------------------------------


def conversion_fault(files: Sequence[ArchiveFile]) -> SubjectFault | None:
    """Return the fault that convert_dicom would raise for these files; None if the headers show none.

    files: all that convert_dicom would read for one examination, in any order, also those that are
    not DICOM, from `read_files`. No series_description is applied: several axial series give
    ambiguous-series. Faults that conversion only finds when it reads the pixels are not found:
    pixels that are truncated, damaged, blank or contradict the header, images at one position whose
    pixels differ, Dixon water and fat that are no two parts, and values that the rescale makes too
    large.
    """
    return _checked(sorted(files, key=lambda file: file.path))[0]


def _checked(files: Sequence[ArchiveFile]) -> tuple[SubjectFault | None, list[FrameStack]]:
    """Return the fault that conversion finds in the headers of some files, or the stacks it makes."""
    if fault := next((file.fault for file in files if file.fault), None):
        return fault, []
    headers = tuple(file.header for file in files if file.header)
    frames = tuple(frame for file in files for frame in file.frames)
    try:
        check_empty_files([file.path for file in files], headers)
        chosen = choose_series(FolderScan(frames, headers, frozenset(), len(files)))
        stacks, water, _ = stacks_with_water(chosen.frames, chosen.water)
        _check_pixels((*chosen.frames, *chosen.water))
        for stack in (*stacks, *water):
            check_extent(stack)
    except SubjectFault as fault:
        return SubjectFault(fault.reason, fault.message), []
    return None, stacks


def _check_pixels(frames: Sequence[Frame]) -> None:
    for frame in frames:
        if frame.header.pixels is None:
            raise SubjectFault(Reason.MISSING_PIXELS, "an image without pixel data (7FE0,0010)")
        pixel_format(frame.header.pixels)


# --- series --------------------------------------------------------------------------------------


def _key(file: ArchiveFile) -> str:
    return file.origin.series


def _by_series(files: Sequence[ArchiveFile]) -> dict[str, list[ArchiveFile]]:
    found: dict[str, list[ArchiveFile]] = defaultdict(list)
    for file in files:
        found[_key(file)].append(file)
    ordered = sorted(found, key=lambda uid: (found[uid][0].origin.number or 0, found[uid][0].path))
    return {uid: found[uid] for uid in ordered}


def _series_of(files: Sequence[ArchiveFile]) -> Assessment:
    result = Assessment()
    axial: dict[int, list[ArchiveFile]] = {}
    for row, members in enumerate(_by_series(files).values()):
        cells, is_candidate = _series_cells(members)
        result.series.append(cells)
        if is_candidate:
            axial[row] = members
    frames = {row: [f for file in members for f in file.frames] for row, members in axial.items()}
    for rows in acquisitions(frames):
        shown = next((row for row in rows if result.series[row]["sequence"] == DIXON_FAT), rows[0])
        accepted = result.series[shown]["accepted"] == YES
        if len(rows) > 1:
            accepted = _checked([file for row in rows for file in axial[row]])[0] is None
        description = axial[shown][0].origin.description
        sequence = str(result.series[shown]["sequence"])
        result.candidates.append(Candidate(rows, description, sequence, accepted))
    return result


def _series_cells(files: Sequence[ArchiveFile]) -> tuple[dict[str, object], bool]:
    """Return the cells of a series in series.csv, and whether it is axial."""
    first = files[0].origin
    frames = [frame for file in files for frame in file.frames]
    fault, stacks = _checked(files)
    plane = series_plane(frames) if frames else None
    told_mm = [frame.spacing_tag_mm for frame in frames]
    echo_ms, repetition_ms = (
        _values(frames, lambda frame, name=name: getattr(frame, name))
        for name in ("echo_time_ms", "repetition_time_ms")
    )
    cells = {
        "folder": os.path.commonpath([file.path.parent for file in files]),
        "series_number": first.number,
        "modality": first.modality,
        "description": first.description,
        "body_part": first.body_part,
        "plane": plane_name(plane) if plane else "",
        "sequence": common_sequence(frames) if frames else "",
        "files": len(files),
        "slices": len(frames)
        or sum(file.header.declared_frames or 1 for file in files if file.header),
        "stacks": len(stacks) or None,
        "spacing_mm": _joined([s.slab_mm for s in stacks] if stacks else told_mm),
        "row_spacing_mm": _joined(_values(frames, lambda frame: frame.row_spacing_mm)),
        "column_spacing_mm": _joined(_values(frames, lambda frame: frame.column_spacing_mm)),
        "echo_time_ms": _joined(echo_ms),
        "repetition_time_ms": _joined(repetition_ms),
        "inversion_time_ms": first.inversion_time_ms,
        "accepted": NO if fault else YES,
        "reason": str(fault.reason) if fault else "",
        "message": fault.message if fault else "",
    }
    return cells, plane is not None and plane.kind == AXIAL


def _values(frames: Sequence[Frame], value: Callable[[Frame], float | None]) -> list[float]:
    """Return the different values of frames, sorted, those that are unknown left out."""
    return sorted({told for frame in frames if (told := value(frame)) is not None})


def _joined(values: Sequence[float | None]) -> str:
    """Return the different values as text, rounded to a thousandth; VALUES_SHOWN at most."""
    known = sorted({round(value, 3) for value in values if value is not None})
    told = "; ".join(f"{value:g}" for value in known[:VALUES_SHOWN])
    return told if len(known) <= VALUES_SHOWN else f"{told}; ..."


# --- the person ----------------------------------------------------------------------------------


def _add_person(result: Assessment, files: Sequence[ArchiveFile]) -> None:
    """Add what headers say of the person, and the earliest date; a sex or age that differs is unknown."""
    dates = sorted((f.origin.date, f.origin.time) for f in files if f.origin.date >= FIRST_MR)
    if dates:
        result.date, result.time = dates[0]
    result.birth_dates = frozenset(file.origin.birth_date for file in files) - NO_BIRTH_DATES
    sexes = {file.origin.sex for file in files} & {"F", "M"}
    result.sex = sexes.pop() if len(sexes) == 1 else ""
    ages = {file.header.age_years for file in files if file.header} - NO_AGES
    if not ages and len(result.birth_dates) == 1:
        ages = {_age_years(next(iter(result.birth_dates)), result.date)} - NO_AGES
    result.age_years = ages.pop() if len(ages) == 1 else None


def _age_years(born: str, then: str) -> float | None:
    """Return the whole years, 0 to 90, between two dates (YYYYMMDD); None if malformed or implausible."""
    if not all(len(date) == 8 and date.isascii() and date.isdigit() for date in (born, then)):
        return None
    years = int(then[:4]) - int(born[:4]) - (then[4:] < born[4:])
    return min(float(years), OLDEST_AGE_YEARS) if 0 <= years <= 120 else None
