"""Choosing the series to measure: one patient, one study, MR, axial."""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from paravert.errors import Caution, Reason, SubjectFault
from paravert.imaging.dicom_scan import FolderScan, is_secondary_capture
from paravert.imaging.frame_checks import frame_fault, has_orientation, scales_differ
from paravert.imaging.frames import Frame, Header
from paravert.imaging.geometry import AXIAL_TILT_DEG, cranial_normal, tilt_deg
from paravert.imaging.header_values import PERSON_TAGS, count_different
from paravert.imaging.parallel_frames import orientation_clusters

SUPINE = ("", "HFS", "FFS")
AXIAL, OTHER, LOCALIZER, NOWHERE = "axial", "other", "localizer", "nowhere"  # planes of a series
OTHER_PLANE_DEG = 75.0  # steeper slices are sagittal or coronal; others may follow an oblique disc
# A localizer has about as many slices in every plane; a scout within an axial series has few.
AXIAL_PER_OTHER = 2


@dataclass(frozen=True, eq=False)
class SeriesPlane:
    """The plane of a series, and the frames that are measured if it is chosen.

    kind: AXIAL, OTHER, LOCALIZER or NOWHERE. frames: the axial ones, and those without a valid
    orientation. tilts_deg: of all frames with an orientation. steep_deg: tilts of the frames that are
    excluded as too steep. scouts: whether localizer frames are excluded.
    """

    kind: str
    frames: tuple[Frame, ...] = ()
    tilts_deg: tuple[float, ...] = ()
    steep_deg: tuple[float, ...] = ()
    scouts: bool = False

    @property
    def cautions(self) -> frozenset[Caution]:
        """Warnings about excluded slices."""
        told = {
            Caution.OFF_AXIS_SLICES_EXCLUDED: bool(self.steep_deg),
            Caution.LOCALIZER_EXCLUDED: self.scouts,
        }
        return frozenset(caution for caution, holds in told.items() if holds)

    @property
    def note(self) -> str | None:
        """How many slices are excluded as too steep, and their tilts; None if there are none."""
        if not self.steep_deg:
            return None
        low, high = min(self.steep_deg), max(self.steep_deg)
        tilt = f"{low:.1f}" if high - low < 0.1 else f"{low:.1f} to {high:.1f}"
        one = len(self.steep_deg) == 1
        slices = "1 slice" if one else f"{len(self.steep_deg)} slices"
        aside = f"{slices} tilted by {tilt} degrees {'was' if one else 'were'} set aside"
        return f"{aside}, expected at most {AXIAL_TILT_DEG:g}"


@dataclass(frozen=True, eq=False)
class ChosenSeries:
    """The frames of the series to measure, and warnings.

    note: describes slices of the series that are excluded; None if there are none.
    """

    frames: tuple[Frame, ...]
    cautions: frozenset[Caution]
    note: str | None = None


def choose_series(scan: FolderScan, series_description: Sequence[str] = ()) -> ChosenSeries:
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
    planes = {uid: series_plane(frames) for uid, frames in series.items()}
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
    return ChosenSeries(chosen.frames, frozenset(cautions), chosen.note)


def _check_subject(scan: FolderScan) -> None:
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
        _check_one(Reason.MIXED_PATIENTS, f"patients in {tag}", count_different(values))
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


def _no_axial(series: dict[str, list[Frame]], planes: dict[str, SeriesPlane]) -> SubjectFault:
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
    descriptions = {uid: {f.header.description for f in series[uid]} for uid in candidates}
    left = matching_series(descriptions, patterns)
    if len(left) > 1:
        given = "the configured series_description leaves them" if patterns else "none configured"
        raise SubjectFault(
            Reason.AMBIGUOUS_SERIES,
            f"{len(left)} axial series; of the patterns that could choose one, {given}",
        )
    return left[0]


def matching_series(
    descriptions: Mapping[Hashable, Collection[str]], patterns: Sequence[str]
) -> list:
    """Return the series that patterns leave; descriptions: SeriesDescription of each series.

    Patterns are tried in order while several series are left; each that matches any keeps those it
    matches.
    """
    left = list(descriptions)
    for pattern in patterns:
        if len(left) == 1:
            break
        matching = [name for name in left if _describes(pattern, descriptions[name])]
        left = matching or left
    return left


def _describes(pattern: str, descriptions: Collection[str]) -> bool:
    return any(re.search(pattern, description, re.IGNORECASE) for description in descriptions)


def _cautions(frames: Sequence[Frame]) -> set[Caution]:
    headers = [frame.header for frame in frames]
    known = {
        Caution.BURNED_IN_ANNOTATION: any(header.burned_in for header in headers),
        Caution.PATIENT_POSITION: any(h.patient_position not in SUPINE for h in headers),
        Caution.REAL_WORLD_VALUES_DIFFER: scales_differ(frames),
        Caution.FRAME_OF_REFERENCE_DIFFERS: len({h.frame_of_reference for h in headers}) > 1,
    }
    return {caution for caution, holds in known.items() if holds}


# --- the plane of a series -----------------------------------------------------------------------


def series_plane(frames: Sequence[Frame]) -> SeriesPlane:
    """Return the plane of a series, from the tilt of each orientation in it.

    Frames without a valid orientation are kept with the axial ones; `frame_fault` refuses them.
    """
    own = [frame for frame in frames if "LOCALIZER" not in frame.image_type]
    if not own:
        return SeriesPlane(LOCALIZER)
    placed = [frame for frame in own if has_orientation(frame)]
    if not placed:
        return SeriesPlane(NOWHERE)
    tilts = _tilts_deg(placed)
    axial, others = (tilts <= AXIAL_TILT_DEG).sum(), (tilts > OTHER_PLANE_DEG).sum()
    if not axial:
        return SeriesPlane(OTHER, tilts_deg=tuple(tilts))
    if axial <= AXIAL_PER_OTHER * others:
        return SeriesPlane(LOCALIZER, tilts_deg=tuple(tilts))
    steep = {f: float(tilt) for f, tilt in zip(placed, tilts, strict=True) if tilt > AXIAL_TILT_DEG}
    kept = tuple(frame for frame in own if frame not in steep)
    return SeriesPlane(
        AXIAL, kept, tuple(tilts), tuple(steep.values()), scouts=len(own) < len(frames)
    )


def _tilts_deg(frames: Sequence[Frame]) -> np.ndarray:
    """Return the tilt of each frame, (frames,); frames of one orientation share their mean tilt."""
    right = np.array([frame.directions[0] for frame in frames])
    down = np.array([frame.directions[1] for frame in frames])
    tilts = np.empty(len(frames))
    for members in orientation_clusters(right, down):
        normal = cranial_normal(right[members].mean(axis=0), down[members].mean(axis=0))
        tilts[members] = tilt_deg(normal)
    return tilts
