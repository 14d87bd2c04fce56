"""Voxel values of a DICOM file: unused bits masked, signed, inverted, rescaled."""

import numpy as np
from pydicom.uid import JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless

from paravert.errors import Caution, Reason, SubjectFault
from paravert.imaging.decoding import stored_frames
from paravert.imaging.formats import Format
from paravert.imaging.frames import Frame, Header

# 32-bit integers lie between; squares, which segmenting and measuring add up, are far from both ends
# of float32.
LARGEST_VALUE, SMALLEST_SPREAD = 1e10, 1e-10
ROUNDING = 1e-3  # of the spread of a slice: what values may change by when they are stored
LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless)


def read_frames(header: Header, frames: list[Frame]) -> tuple[list[np.ndarray], set[Caution]]:
    """Return the values of some frames of one file, each (rows, columns), and warnings.

    Integers where the rescale leaves them so (slope 1), otherwise float64. Rescale slope and
    intercept (0028,1053), (0028,1052) are applied per frame; MONOCHROME1 is inverted within
    the stored range. Call within `quiet_pydicom`.
    Raises SubjectFault: missing-pixels, truncated-pixels, undecodable-pixels, unsupported-pixels,
    frame-count-mismatch.
    """
    form, stored = stored_frames(header, [frame.number for frame in frames])
    cautions = {Caution.MONOCHROME1_INVERTED} if form.inverted else set()
    if header.lossy or form.syntax in LOSSY:
        cautions.add(Caution.LOSSY_COMPRESSED)
    values = [_rescaled(_unpacked(a, form), f) for a, f in zip(stored, frames, strict=True)]
    return values, cautions


def compact(slices: list[np.ndarray]) -> np.ndarray:
    """Stack slices (rows, columns) to (slices, rows, columns): int16 if exact, else float32.

    Raises SubjectFault (unsupported-pixels) for values that float32, or what is computed from it,
    does not hold.
    """
    if all(_fits_int16(slice_) for slice_ in slices):
        return np.stack(slices, dtype=np.int16, casting="unsafe")
    with np.errstate(over="ignore"):
        array = np.stack(slices, dtype=np.float32, casting="unsafe")
    for stored, slice_ in zip(array, slices, strict=True):
        _check_stored(stored, slice_)
    return array


def _check_stored(stored: np.ndarray, values: np.ndarray) -> None:
    """Raise SubjectFault unless float32 keeps the values (rows, columns) of a slice."""
    largest, spread = float(np.abs(stored).max()), float(values.max()) - float(values.min())
    if not largest <= LARGEST_VALUE:  # nor is NaN
        raise SubjectFault(
            Reason.UNSUPPORTED_PIXELS,
            f"values up to {largest:.3g} after the rescale, expected at most {LARGEST_VALUE:g}",
        )
    if not spread:
        return
    if spread < SMALLEST_SPREAD:
        raise SubjectFault(
            Reason.UNSUPPORTED_PIXELS,
            f"values of a slice differ by {spread:.3g} in all after the rescale, "
            f"expected at least {SMALLEST_SPREAD:g}",
        )
    if values.dtype != np.float32 and np.abs(stored - values).max() > ROUNDING * spread:
        raise SubjectFault(
            Reason.UNSUPPORTED_PIXELS,
            f"values up to {largest:.3g} that differ by {spread:.3g} only: float32 loses them",
        )


def _fits_int16(values: np.ndarray) -> bool:
    if np.can_cast(values.dtype, np.int16):
        return True
    limits = np.iinfo(np.int16)
    if values.max() > limits.max or (values.dtype.kind != "u" and values.min() < limits.min):
        return False
    return values.dtype.kind in "iu" or np.array_equal(np.rint(values), values)


def _unpacked(raw: np.ndarray, form: Format) -> np.ndarray:
    """Return stored values: unused bits (overlays) masked, sign extended, MONOCHROME1 inverted."""
    if form.stored == form.allocated and not form.inverted:
        return raw
    values = raw.astype(form.dtype, copy=not raw.flags.writeable)
    values <<= form.bits_above
    values >>= form.allocated - form.stored  # the type says whether the sign extends
    if form.inverted:
        values = (-1 if form.signed else (1 << form.stored) - 1) - values
    return values


def _rescaled(values: np.ndarray, frame: Frame) -> np.ndarray:
    if frame.slope == 0:
        raise SubjectFault(Reason.UNSUPPORTED_PIXELS, "RescaleSlope (0028,1053) is 0")
    if frame.slope == 1 and frame.intercept == 0:
        return values
    with np.errstate(over="ignore"):  # what is not finite then is found when it is stored
        return values * frame.slope + frame.intercept
