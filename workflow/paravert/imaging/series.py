"""Which series to measure: one patient, one study, MR, axial."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from paravert.errors import Caution, Reason, SubjectFault
from paravert.imaging.checks import frame_fault
from paravert.imaging.frames import Frame, Header
from paravert.imaging.geometry import AXIAL_TILT_DEG
from paravert.imaging.headers import Scan, is_secondary_capture
from paravert.imaging.identity import PERSON_TAGS, different
from paravert.imaging.planes import AXIAL, LOCALIZER, NOWHERE, OTHER, Plane, plane_of
from paravert.imaging.real_world import scales_differ

SUPINE = ("", "HFS", "FFS")


@dataclass(frozen=True, eq=False)
class Chosen:
    """The frames of the series to measure, and what a reader should know of the choice.

    note: of the slices that were set aside; None if there is nothing to tell.
    """

    frames: tuple[Frame, ...]
    cautions: frozenset[Caution]
    note: str | None = None


def choose_series(scan: Scan, series_description: Sequence[str] = ()) -> Chosen:
    """Return the frames of the one axial series.

    series_description: regular expressions, tried in the order given on SeriesDescription
    (0008,103E) when several axial series are left; each that matches any keeps those it matches.
    Raises SubjectFault: no-dicom, mixed-patients, multiple-studies, wrong-modality, quadruped,
    no-axial-series, ambiguous-series, and what `frame_fault` finds in the chosen series.
    """
    _check_subject(scan)
    series: dict[str, list[Frame]] = defaultdict(list)
    for frame in scan.frames:
        series[frame.header.series].append(frame)
    planes = {uid: plane_of(frames) for uid, frames in series.items()}
    candidates = [uid for uid, plane in planes.items() if plane.kind == AXIAL]
    if not candidates:
        raise _no_axial(series, planes)
    chosen = planes[_pick(candidates, series, series_description)]
    for frame in chosen.frames:
        if fault := frame_fault(frame):
            raise fault
    told = {
        OTHER: Caution.NON_AXIAL_EXCLUDED,
        LOCALIZER: Caution.LOCALIZER_EXCLUDED,
        NOWHERE: Caution.NON_IMAGE_IGNORED,
    }
    aside = {told[plane.kind] for plane in planes.values() if plane.kind in told}
    cautions = aside | chosen.cautions | _cautions(chosen.frames)
    return Chosen(chosen.frames, frozenset(cautions), chosen.note)


def _check_subject(scan: Scan) -> None:
    captures = sum(is_secondary_capture(header) for header in scan.images)
    if captures == len(scan.images):
        tag = "SOPClassUID (0008,0016)"
        found = (
            f"no MR image, but {captures} secondary captures by {tag},"
            if captures
            else "no DICOM image"
        )
        raise SubjectFault(
            Reason.NO_DICOM, f"{found} among {scan.files} files, expected one series at least"
        )
    people = zip(*(header.patient for header in scan.images), strict=True)
    for tag, values in zip(PERSON_TAGS.values(), people, strict=True):
        _check_one(Reason.MIXED_PATIENTS, f"patients in {tag}", different(values))
    studies = {header.study for header in scan.images} - {""}
    told = "studies in StudyInstanceUID (0020,000D)"
    _check_one(Reason.MULTIPLE_STUDIES, told, len(studies))
    # Frames are those of MR images alone; a header that does not tell its modality is no other's.
    if not any(frame.header.modality in ("MR", "") for frame in scan.frames):
        raise SubjectFault(
            Reason.WRONG_MODALITY,
            f"{_modalities(scan.images)}, "
            "expected MR by SOPClassUID (0008,0016) and by Modality (0008,0060)",
        )
    if any(frame.header.quadruped for frame in scan.frames):
        raise SubjectFault(Reason.QUADRUPED, "AnatomicalOrientationType (0010,2210) says quadruped")


def _check_one(reason: Reason, what: str, found: int) -> None:
    if found > 1:
        raise SubjectFault(reason, f"{found} {what}, expected one")


def _modalities(images: Sequence[Header]) -> str:
    """Count the images by modality, naming only well-formed codes."""
    codes = Counter(
        h.modality if re.fullmatch(r"[A-Z]{2}", h.modality) else "unknown" for h in images
    )
    return ", ".join(f"{count} images of modality {code}" for code, count in sorted(codes.items()))


def _no_axial(series: dict[str, list[Frame]], planes: dict[str, Plane]) -> SubjectFault:
    found = Counter(plane.kind for plane in planes.values())
    if set(found) == {NOWHERE}:
        return frame_fault(next(iter(series.values()))[0])
    names = {OTHER: "sagittal or coronal", LOCALIZER: "localizer", NOWHERE: "without orientation"}
    listed = ", ".join(f"{found[kind]} {name}" for kind, name in names.items() if found[kind])
    tilts = [tilt for plane in planes.values() for tilt in plane.tilts_deg]
    axial = sum(tilt <= AXIAL_TILT_DEG for tilt in tilts)
    return SubjectFault(
        Reason.NO_AXIAL_SERIES,
        f"{listed} series; {axial} of {len(tilts)} slices are tilted by at most "
        f"{AXIAL_TILT_DEG:g} degrees, expected a series that consists of such mainly",
    )


def _pick(candidates: list[str], series: dict[str, list[Frame]], patterns: Sequence[str]) -> str:
    left = candidates
    for pattern in patterns:
        if len(left) == 1:
            break
        matching = [uid for uid in left if _describes(pattern, series[uid])]
        left = matching or left
    if len(left) > 1:
        given = "the configured series_description leaves them" if patterns else "none configured"
        raise SubjectFault(
            Reason.AMBIGUOUS_SERIES,
            f"{len(left)} axial series; of the patterns that could choose one, {given}",
        )
    return left[0]


def _describes(pattern: str, frames: Sequence[Frame]) -> bool:
    return any(re.search(pattern, f.header.description, re.IGNORECASE) for f in frames)


def _cautions(frames: Sequence[Frame]) -> set[Caution]:
    headers = [frame.header for frame in frames]
    known = {
        Caution.BURNED_IN_ANNOTATION: any(header.burned_in for header in headers),
        Caution.PATIENT_POSITION: any(h.patient_position not in SUPINE for h in headers),
        Caution.REAL_WORLD_VALUES_DIFFER: scales_differ(frames),
        Caution.FRAME_OF_REFERENCE_DIFFERS: len({h.frame_of_reference for h in headers}) > 1,
    }
    return {caution for caution, holds in known.items() if holds}
