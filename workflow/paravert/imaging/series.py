"""Choosing the series to measure, and checking it: one patient, one study, MR, axial, valid frames."""

import re
from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from paravert.errors import Caution, Reason, SubjectFault
from paravert.imaging.dicom_scan import FolderScan, is_secondary_capture
from paravert.imaging.dixon_parts import acquisitions, split_parts
from paravert.imaging.frames import MULTI_FRAME, Frame, Header
from paravert.imaging.geometry import (
    AXIAL_TILT_DEG,
    BODY_LIMIT_MM,
    MOST_VOXELS_ALONG,
    PIXEL_SPACING_RANGE_MM,
    angle_deg,
    cranial_normal,
    fits_body,
    tilt_deg,
)
from paravert.imaging.header_values import PERSON_TAGS, count_different
from paravert.imaging.parallel_frames import orientation_clusters
from paravert.tables import PASSED_OVER, UNKNOWN

SUPINE = ("", "HFS", "FFS")
AXIAL, OTHER, LOCALIZER, NOWHERE = "axial", "other", "localizer", "nowhere"  # planes of a series
NORMAL_PLANES = ("sagittal", "coronal", "axial")  # of a normal along x, y, z
WHY_NOT = dict(zip((OTHER, LOCALIZER, NOWHERE, AXIAL), PASSED_OVER, strict=True))
POSITION_DECIMALS = 2  # mm
OTHER_PLANE_DEG = 75.0  # steeper slices are sagittal or coronal; others may follow an oblique disc
# A localizer has about as many slices in every plane; a scout within an axial series has few.
AXIAL_PER_OTHER = 2
UNIT_TOLERANCE = 0.01  # length of direction vectors that a header rounds to two decimals
ORTHOGONALITY_TOLERANCE_DEG = 0.2
REAL_WORLD_TOLERANCE = 1e-3  # of the scale: the rescale is written as text, rounded
USUAL_SIGNAL = 1000.0  # an offset is judged relative to a signal of this size


@dataclass(frozen=True, eq=False)
class SeriesPlane:
    """The plane of a series, and its slices in this plane, which are measured if the series is chosen.

    kind: "axial", "other" (no axial slice), "localizer" or "nowhere" (no valid orientation), see
    `series_plane`. frames: of the kind axial, attributes of the axial slices and of those without a
    valid orientation; of other, those of `tilts_deg`; otherwise empty. tilts_deg: angle in degrees between the normal and the
    patient's long axis, of every slice with a valid orientation, without those of ImageType
    LOCALIZER. steep_deg: those of `tilts_deg` above 60, whose slices are excluded from an axial
    series; empty for other kinds. scouts: whether slices of ImageType LOCALIZER are excluded from
    an axial series.
    """

    kind: str
    frames: tuple[Frame, ...] = ()
    tilts_deg: tuple[float, ...] = ()
    steep_deg: tuple[float, ...] = ()
    scouts: bool = False

    @property
    def note(self) -> str | None:
        """A sentence on the slices of `steep_deg`: their number and tilts; None if there are none."""
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
    """The slices to measure, of one series or one Dixon acquisition, and warnings.

    frames: attributes of the slices, without those excluded; of a Dixon acquisition those of the
    fat image. cautions: warnings, also about other series. note: sentences on slices excluded as
    too steep; None if there are none. water: attributes of the Dixon water slices, whose positions
    are not compared yet; () if there are none. found: one row {column of `tables.SERIES_COLUMNS`:
    value} per MR series of the subject, used or not.
    """

    frames: tuple[Frame, ...]
    cautions: frozenset[Caution]
    note: str | None = None
    water: tuple[Frame, ...] = ()
    found: tuple[dict, ...] = ()


def choose_series(scan: FolderScan, series_description: Sequence[str] = ()) -> ChosenSeries:
    """Return the slices to measure, of the one axial series among a subject's DICOM files, and warnings.

    scan: headers and frames (slices without pixels) of all files of the subject.
    series_description: regular expressions for SeriesDescription (0008,103E), tried in the given
    order while several axial series remain: each keeps the series that it matches, if there are
    any; case is ignored. The series of one Dixon acquisition count as one.

    Raises SubjectFault: no-dicom, mixed-patients, multiple-studies, wrong-modality, quadruped,
    no-axial-series, ambiguous-series; and what `frame_fault` finds in a slice that would be returned,
    or in some slice if no series has a valid orientation: mosaic, unsupported-pixels,
    frame-count-mismatch, unreadable-header, bad-geometry-orientation, bad-geometry-position,
    bad-pixel-spacing.
    """
    _check_subject(scan)
    series = scan.series
    planes = {uid: series_plane(frames) for uid, frames in series.items()}
    candidates = [uid for uid, plane in planes.items() if plane.kind == AXIAL]
    if not candidates:
        raise _no_axial(series, planes)
    chosen = [planes[uid] for uid in _pick(candidates, series, series_description)]
    frames, water = split_parts([frame for plane in chosen for frame in plane.frames])
    for frame in (*frames, *water):
        if fault := frame_fault(frame):
            raise fault
    told = {
        OTHER: Caution.NON_AXIAL_EXCLUDED,
        LOCALIZER: Caution.LOCALIZER_EXCLUDED,
        NOWHERE: Caution.NON_IMAGE_IGNORED,
    }
    cautions = {told[plane.kind] for plane in planes.values() if plane.kind in told}
    if any(plane.steep_deg for plane in chosen):
        cautions.add(Caution.OFF_AXIS_SLICES_EXCLUDED)
    if any(plane.scouts for plane in chosen):
        cautions.add(Caution.LOCALIZER_EXCLUDED)
    cautions |= _cautions((*frames, *water))
    notes = dict.fromkeys(plane.note for plane in chosen if plane.note)
    found = _series_rows(series, planes, (*frames, *water))
    return ChosenSeries(frames, frozenset(cautions), "; ".join(notes) or None, water, found)


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
    # All frames are of MR image classes; Modality only excludes if it names another one.
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
    """Return a text that counts the images by modality; codes that are not two letters: unknown."""
    codes = Counter(
        h.modality if re.fullmatch(r"[A-Z]{2}", h.modality) else "unknown" for h in images
    )
    return ", ".join(f"{count} images of modality {code}" for code, count in sorted(codes.items()))


def _no_axial(series: dict[str, list[Frame]], planes: dict[str, SeriesPlane]) -> SubjectFault:
    found = Counter(plane.kind for plane in planes.values())
    if set(found) == {NOWHERE}:
        frames = (frame for own in series.values() for frame in own)
        return frame_fault(next(frame for frame in frames if orientation_fault(frame)))
    names = {OTHER: "sagittal or coronal", LOCALIZER: "localizer", NOWHERE: "without orientation"}
    listed = ", ".join(f"{found[kind]} {name}" for kind, name in names.items() if found[kind])
    tilts = [tilt for plane in planes.values() for tilt in plane.tilts_deg]
    axial = sum(tilt <= AXIAL_TILT_DEG for tilt in tilts)
    return SubjectFault(
        Reason.NO_AXIAL_SERIES,
        f"{listed} series; {axial} of {len(tilts)} slices are tilted by at most "
        f"{AXIAL_TILT_DEG:g} degrees, expected a series that consists of such mainly",
    )


def _pick(
    candidates: list[str], series: dict[str, list[Frame]], patterns: Sequence[str]
) -> tuple[str, ...]:
    """Return the series to measure: one, or the parts of one Dixon acquisition."""
    descriptions = {
        uids: {frame.header.description for uid in uids for frame in series[uid]}
        for uids in acquisitions({uid: series[uid] for uid in candidates})
    }
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
) -> list[Hashable]:
    """Return the series that regular expressions select: keys of `descriptions`, in its order.

    descriptions: {series: its SeriesDescriptions (0008,103E)}. patterns: tried in order while
    several series remain; each that matches any series keeps those it matches. A pattern may match
    any part of any of the descriptions; case is ignored. Without patterns all series remain.
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
        Caution.REAL_WORLD_VALUES_DIFFER: _scales_differ(frames),
        Caution.FRAME_OF_REFERENCE_DIFFERS: len({h.frame_of_reference for h in headers}) > 1,
    }
    return {caution for caution, holds in known.items() if holds}


# --- the plane of a series -----------------------------------------------------------------------


def series_plane(frames: Sequence[Frame]) -> SeriesPlane:
    """Return the plane of a series by the tilts of its slices, and the slices to measure if it is axial.

    frames: attributes of all slices of the series. Tilt: angle between a slice's normal and the
    patient's long axis. Axial slice: at most 60 degrees; sagittal or coronal: more than 75; between,
    neither. Slices of ImageType (0008,0008) LOCALIZER are left out first. The first kind that
    applies: localizer, if no slice is left; nowhere, if none of them has a valid orientation; other,
    if none is axial; localizer, if at most twice as many are axial as are sagittal or coronal;
    axial. `frames` of an axial result are the slices of at most 60 degrees, and those without a
    valid orientation, which `frame_fault` reports; of other, all slices with a valid orientation.
    """
    own = [frame for frame in frames if "LOCALIZER" not in frame.image_type]
    if not own:
        return SeriesPlane(LOCALIZER)
    placed = [frame for frame in own if orientation_fault(frame) is None]
    if not placed:
        return SeriesPlane(NOWHERE)
    tilts = _tilts_deg(placed)
    axial, others = (tilts <= AXIAL_TILT_DEG).sum(), (tilts > OTHER_PLANE_DEG).sum()
    if not axial:
        return SeriesPlane(OTHER, tuple(placed), tuple(tilts))
    if axial <= AXIAL_PER_OTHER * others:
        return SeriesPlane(LOCALIZER, tilts_deg=tuple(tilts))
    steep = {f: float(tilt) for f, tilt in zip(placed, tilts, strict=True) if tilt > AXIAL_TILT_DEG}
    kept = tuple(frame for frame in own if frame not in steep)
    return SeriesPlane(
        AXIAL, kept, tuple(tilts), tuple(steep.values()), scouts=len(own) < len(frames)
    )


def plane_name(plane: SeriesPlane) -> str:
    """Return the plane of a series in words: axial, sagittal, coronal, localizer or unknown.

    plane: from `series_plane`. Its kinds "axial" and "localizer" stay, "nowhere" becomes unknown, and
    the axis that is on average nearest to the normals of the slices tells what "other" is.
    """
    if plane.kind in (AXIAL, LOCALIZER):
        return plane.kind
    if plane.kind == NOWHERE:
        return UNKNOWN
    normals = [cranial_normal(frame.right, frame.down) for frame in plane.frames]
    return NORMAL_PLANES[int(np.argmax(np.mean(np.abs(normals), axis=0)))]


def common_sequence(frames: Sequence[Frame]) -> str:
    """Return the class of the pulse sequence that all slices of a series share; "unknown" if they differ.

    frames: attributes of the slices. The classes are those of `tables.SEQUENCES`, such as T1.
    """
    found = {frame.sequence for frame in frames}
    return found.pop() if len(found) == 1 else UNKNOWN


def _series_rows(
    series: Mapping[str, Sequence[Frame]],
    planes: Mapping[str, SeriesPlane],
    measured: Sequence[Frame],
) -> tuple[dict, ...]:
    """Return a row of `tables.SERIES_COLUMNS` for each series. measured: frames that were chosen."""
    chosen = {frame.header.series for frame in measured}
    return tuple(
        {
            "series_number": number,
            "plane": plane_name(planes[uid]),
            "sequence": common_sequence(frames),
            "n_slices": len(frames),
            "spacing_mm": _spacing_mm(planes[uid].frames),
            "chosen": uid in chosen,
            "series_reason": None if uid in chosen else WHY_NOT[planes[uid].kind],
        }
        for number, (uid, frames) in enumerate(series.items(), start=1)
    )


def _spacing_mm(frames: Sequence[Frame]) -> float | None:
    placed = [f for f in frames if orientation_fault(f) is None and _position_fault(f) is None]
    if not placed:
        return None
    normal = np.cross(placed[0].right, placed[0].down)
    along = np.unique(np.round([frame.position @ normal for frame in placed], POSITION_DECIMALS))
    gaps = np.diff(along)
    return float(np.median(gaps)) if gaps.size else None


def _tilts_deg(frames: Sequence[Frame]) -> np.ndarray:
    """Return the tilt of each frame in degrees, (frames,); one value per orientation, of its mean."""
    right = np.array([frame.directions[0] for frame in frames])
    down = np.array([frame.directions[1] for frame in frames])
    tilts = np.empty(len(frames))
    for members in orientation_clusters(right, down):
        normal = cranial_normal(right[members].mean(axis=0), down[members].mean(axis=0))
        tilts[members] = tilt_deg(normal)
    return tilts


# --- checks of the frames ------------------------------------------------------------------------


def frame_fault(frame: Frame) -> SubjectFault | None:
    """Return the fault that makes a slice unusable, for the caller to raise; None if none is found.

    frame: attributes of the slice. Checked are: mosaic, number of frames, matrix, orientation,
    position, pixel spacing, rescale (finite, slope not 0).
    """
    header = frame.header
    if "MOSAIC" in frame.image_type:
        return SubjectFault(Reason.MOSAIC, "ImageType (0008,0008) says MOSAIC")
    if header.sop_class not in MULTI_FRAME and (header.declared_frames or 1) > 1:
        return SubjectFault(
            Reason.UNSUPPORTED_PIXELS,
            f"{header.declared_frames} frames in one classic MR image, expected one",
        )
    if header.declared_frames is not None and header.declared_frames < 0:
        return SubjectFault(
            Reason.FRAME_COUNT_MISMATCH,
            f"NumberOfFrames (0028,0008) is {header.declared_frames}, expected 1",
        )
    if (frame.rows or 0) < 1 or (frame.columns or 0) < 1:
        return SubjectFault(
            Reason.UNREADABLE_HEADER,
            f"Rows (0028,0010) {frame.rows}, Columns (0028,0011) {frame.columns}, expected positive numbers",
        )
    if max(frame.rows, frame.columns) > MOST_VOXELS_ALONG:
        return SubjectFault(
            Reason.UNSUPPORTED_PIXELS,
            f"{frame.rows} x {frame.columns} pixels, expected at most {MOST_VOXELS_ALONG} along a side",
        )
    return (
        orientation_fault(frame)
        or _position_fault(frame)
        or _spacing_fault(frame)
        or _rescale_fault(frame)
    )


def orientation_fault(frame: Frame) -> SubjectFault | None:
    """Return the fault of a slice's orientation, for the caller to raise; None if it is valid.

    frame: attributes of the slice. Valid: two directions of length 1 (within 0.01), 90 degrees apart
    (within 0.2).
    """
    tag = "ImageOrientationPatient (0020,0037)"
    if frame.right is None:
        return SubjectFault(
            Reason.BAD_GEOMETRY_ORIENTATION, f"{tag} is absent or not six finite numbers"
        )
    with np.errstate(over="ignore"):
        lengths = np.linalg.norm([frame.right, frame.down], axis=1)
    if np.abs(lengths - 1).max() > UNIT_TOLERANCE:
        return SubjectFault(
            Reason.BAD_GEOMETRY_ORIENTATION,
            f"directions in {tag} have length {lengths[0]:.5g} and {lengths[1]:.5g}, expected 1",
        )
    between = float(angle_deg(frame.right / lengths[0], frame.down / lengths[1]))
    if abs(between - 90) > ORTHOGONALITY_TOLERANCE_DEG:
        return SubjectFault(
            Reason.BAD_GEOMETRY_ORIENTATION,
            f"directions in {tag} are {between:.2f} degrees apart, expected 90",
        )
    return None


def _position_fault(frame: Frame) -> SubjectFault | None:
    tag = "ImagePositionPatient (0020,0032)"
    if frame.position is None:
        told = f"{tag} is absent or not three finite numbers"
    elif not fits_body(frame.position[None]):
        far_mm = np.abs(frame.position).max()
        told = f"{tag} lies {far_mm:.4g} mm from the origin, expected at most {BODY_LIMIT_MM:g}"
    else:
        return None
    return SubjectFault(Reason.BAD_GEOMETRY_POSITION, told)


def _spacing_fault(frame: Frame) -> SubjectFault | None:
    tag = "PixelSpacing (0028,0030)"
    if frame.row_spacing_mm is None or frame.column_spacing_mm is None:
        return SubjectFault(Reason.BAD_PIXEL_SPACING, f"{tag} is absent or not two finite numbers")
    low, high = PIXEL_SPACING_RANGE_MM
    spacings = (frame.row_spacing_mm, frame.column_spacing_mm)
    if not all(low <= spacing <= high for spacing in spacings):
        return SubjectFault(
            Reason.BAD_PIXEL_SPACING,
            f"{tag} is {spacings[0]:g} and {spacings[1]:g} mm, expected {low:g} to {high:g}",
        )
    return None


def _rescale_fault(frame: Frame) -> SubjectFault | None:
    tags = {
        "RescaleSlope (0028,1053)": frame.slope,
        "RescaleIntercept (0028,1052)": frame.intercept,
    }
    for tag, value in tags.items():
        if not np.isfinite(value):
            return SubjectFault(Reason.UNSUPPORTED_PIXELS, f"{tag} is not a finite number")
    if frame.slope == 0:
        return SubjectFault(Reason.UNSUPPORTED_PIXELS, "RescaleSlope (0028,1053) is 0")
    return None


# --- real-world value mappings (0040,9096) -------------------------------------------------------


def _scales_differ(frames: Sequence[Frame]) -> bool:
    """Return whether real-world value mappings (0040,9096) differ, relative to the rescale.

    False where no frame has a mapping; True where only some have. Compared are the numbers that convert
    a rescaled value to the real-world value. The mappings are not applied: an image may have several, each
    in another unit, and nothing marks the one of the signal. Scanners write a scale that the signal needs
    as the rescale, which is applied. Source: PS3.3, C.7.6.16.2.11.
    """
    counts = {len(frame.real_world) for frame in frames}
    if len(counts) > 1:
        return True
    if counts == {0}:
        return False
    slope = np.array([frame.slope for frame in frames])
    intercept = np.array([frame.intercept for frame in frames])
    mappings = np.array([frame.real_world for frame in frames])  # (frames, mappings, 2)
    scale = mappings[..., 0] / slope[:, None]
    offset = mappings[..., 1] - scale * intercept[:, None]
    return any(_vary(s, o) for s, o in zip(scale.T, offset.T, strict=True))


def _vary(scale: np.ndarray, offset: np.ndarray) -> bool:
    """Return whether scale and offset (frames,) of one mapping vary; NaN: a lookup table instead."""
    unknown = np.isnan(scale) | np.isnan(offset)
    if unknown.any():
        return not unknown.all()
    allowed = REAL_WORLD_TOLERANCE * np.abs(scale).max()
    return bool(np.ptp(scale) > allowed or np.ptp(offset) > allowed * USUAL_SIGNAL)
