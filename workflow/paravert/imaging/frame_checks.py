"""Checks of the frames of a series: valid position, orientation, pixel spacing and rescale."""

from collections.abc import Sequence

import numpy as np

from paravert.errors import Reason, SubjectFault
from paravert.imaging.frames import MULTI_FRAME, Frame
from paravert.imaging.geometry import BODY_LIMIT_MM, angle_deg, fits_body

UNIT_TOLERANCE = 0.01  # length of direction vectors that a header rounds to two decimals
ORTHOGONALITY_TOLERANCE_DEG = 0.2
PIXEL_SPACING_RANGE_MM = (0.05, 10.0)
REAL_WORLD_TOLERANCE = 1e-3  # of the scale: the rescale is written as text, rounded
USUAL_SIGNAL = 1000.0  # an offset is judged relative to a signal of this size


def frame_fault(frame: Frame) -> SubjectFault | None:
    """Return the fault that makes a frame of the chosen series unusable, or None."""
    header = frame.header
    if "MOSAIC" in frame.image_type:
        return SubjectFault(Reason.MOSAIC, "ImageType (0008,0008) says MOSAIC")
    if header.sop_class not in MULTI_FRAME and (header.frames_told or 1) > 1:
        return SubjectFault(
            Reason.UNSUPPORTED_PIXELS,
            f"{header.frames_told} frames in one classic MR image, expected one",
        )
    if header.frames_told is not None and header.frames_told < 0:
        return SubjectFault(
            Reason.FRAME_COUNT_MISMATCH,
            f"NumberOfFrames (0028,0008) is {header.frames_told}, expected 1",
        )
    if not frame.rows or not frame.columns:
        return SubjectFault(Reason.UNREADABLE_HEADER, "no Rows (0028,0010) or Columns (0028,0011)")
    return (
        _orientation_fault(frame)
        or _position_fault(frame)
        or _spacing_fault(frame)
        or _rescale_fault(frame)
    )


def has_orientation(frame: Frame) -> bool:
    """Tell whether a frame has a valid ImageOrientationPatient (0020,0037)."""
    return _orientation_fault(frame) is None


def _orientation_fault(frame: Frame) -> SubjectFault | None:
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
    return None


# --- real-world value mappings (0040,9096) -------------------------------------------------------


def scales_differ(frames: Sequence[Frame]) -> bool:
    """Tell whether the real-world value mappings, relative to the rescale, differ between slices.

    False where no frame has a mapping; True where only some have. The mappings are not applied: an
    image may have several, each in a unit of its own, and nothing marks the one of the signal.
    Scanners write a scale that the signal needs as the rescale, which is applied.
    """
    counts = {len(frame.real_world) for frame in frames}
    if len(counts) > 1:
        return True
    slope = np.array([frame.slope for frame in frames])
    if counts == {0} or not slope.all():
        return False
    intercept = np.array([frame.intercept for frame in frames])
    mappings = np.array([frame.real_world for frame in frames])  # (frames, mappings, 2)
    scale = mappings[..., 0] / slope[:, None]
    offset = mappings[..., 1] - scale * intercept[:, None]
    return any(_vary(s, o) for s, o in zip(scale.T, offset.T, strict=True))


def _vary(scale: np.ndarray, offset: np.ndarray) -> bool:
    """Tell whether scale and offset (frames,) of one mapping vary; NaN: a lookup table instead."""
    unknown = np.isnan(scale) | np.isnan(offset)
    if unknown.any():
        return not unknown.all()
    allowed = REAL_WORLD_TOLERANCE * np.abs(scale).max()
    return bool(np.ptp(scale) > allowed or np.ptp(offset) > allowed * USUAL_SIGNAL)
