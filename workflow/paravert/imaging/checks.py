"""Whether a frame says where it lies and what its values mean, and sensibly."""

import numpy as np

from paravert.errors import Reason, SubjectFault
from paravert.imaging.frames import MULTI_FRAME, Frame
from paravert.imaging.geometry import BODY_LIMIT_MM, angle_deg, fits_body

UNIT_TOLERANCE = 0.01  # headers that round directions to two decimals are still that near to 1
ORTHOGONALITY_TOLERANCE_DEG = 0.2
PIXEL_SPACING_RANGE_MM = (0.05, 10.0)


def frame_fault(frame: Frame) -> SubjectFault | None:
    """Return what keeps a frame of a chosen series from being used, or None."""
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
    """Tell whether a frame says how it lies in the patient, and validly."""
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
