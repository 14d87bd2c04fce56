"""Stacks of image slices, as read from DICOM or NIfTI: voxels, geometry and warnings per slice."""

from dataclasses import dataclass, field

import numpy as np

from paravert.errors import Caution, Reason, SubjectFault
from paravert.imaging.geometry import LPS_TO_RAS, tilt_deg
from paravert.imaging.slice_similarity import FURTHEST_MM, unlike_neighbours
from paravert.imaging.volume import Volume, blank_slices

# The largest allows 32-bit integers; the squares of all values, which segmentation and measures
# add up, stay far from both ends of float32.
LARGEST_VALUE, SMALLEST_SPREAD = 1e10, 1e-10
STORED_ERROR = 1e-3  # of the spread of a slice: error allowed when values are stored


@dataclass(frozen=True, eq=False)
class ImageSlice:
    """Attributes of one slice of a stack; unknown is None.

    affine: 4 x 4, (column, row, 0, 1) to RAS in mm. slope, intercept: of the rescale, which is applied
    already. overlaps: whether the slice collides with one of an earlier stack.
    """

    affine: np.ndarray
    thickness_mm: float | None = None
    slope: float | None = None
    intercept: float | None = None
    overlaps: bool = False
    cautions: frozenset[Caution] = frozenset()


@dataclass(frozen=True, eq=False)
class ImageStack:
    """A volume and its slices; slab_source: positions, thickness or tag."""

    volume: Volume
    slices: tuple[ImageSlice, ...]
    slab_source: str


@dataclass(frozen=True, eq=False)
class Images:
    """The images of a subject: stacks from caudal to cranial, header facts, warnings.

    header: values of `tables.HEADER_COLUMNS`; absent keys are unknown.
    note: details of a warning, or None.
    """

    stacks: tuple[ImageStack, ...]
    header: dict = field(default_factory=dict)
    cautions: frozenset[Caution] = frozenset()
    note: str | None = None


def content_cautions(array: np.ndarray, spacing_mm: float) -> list[set[Caution]]:
    """Return the warnings about each slice's values; array: (slices, rows, columns)."""
    told = {Caution.BLANK_SLICE: blank_slices(array)}
    if spacing_mm <= FURTHEST_MM:
        told[Caution.SLICE_UNLIKE_NEIGHBOURS] = unlike_neighbours(array)
    return [{caution for caution in told if told[caution][n]} for n in range(len(array))]


def compact_array(slices: list[np.ndarray]) -> np.ndarray:
    """Return slices (rows, columns) as one array (slices, rows, columns): int16 if exact, else float32.

    Raises SubjectFault (unsupported-pixels) for values outside the range or precision of float32 and
    of sums of their squares.
    """
    if all(_fits_int16(slice_) for slice_ in slices):
        return np.stack(slices, dtype=np.int16, casting="unsafe")
    with np.errstate(over="ignore"):
        array = np.stack(slices, dtype=np.float32, casting="unsafe")
    for stored, slice_ in zip(array, slices, strict=True):
        _check_stored(stored, slice_)
    return array


def _check_stored(stored: np.ndarray, values: np.ndarray) -> None:
    """Raise SubjectFault unless float32 keeps the values of a slice, (rows, columns)."""
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
    if values.dtype != np.float32 and np.abs(stored - values).max() > STORED_ERROR * spread:
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


def check_not_blank(stacks: tuple[ImageStack, ...]) -> None:
    """Raise SubjectFault (blank-images) if every slice of every stack is blank."""
    if all(Caution.BLANK_SLICE in slice_.cautions for stack in stacks for slice_ in stack.slices):
        raise SubjectFault(Reason.BLANK_IMAGES, "every slice holds a single value")


def single_slices(stacks: tuple[ImageStack, ...]) -> set[Caution]:
    """Return a warning if a stack has one slice: its slab does not follow from positions."""
    alone = any(len(stack.slices) == 1 for stack in stacks)
    return {Caution.SINGLE_SLICE} if alone else set()


def geometry_rows(stacks: tuple[ImageStack, ...]) -> list[dict]:
    """Return the rows of `tables.GEOMETRY`: stacks from 1, slices from 0."""
    return [
        {"stack": number, "slice": index, **_row(stack, stack.slices[index])}
        for number, stack in enumerate(stacks, start=1)
        for index in range(len(stack.slices))
    ]


def _row(stack: ImageStack, slice_: ImageSlice) -> dict:
    volume = stack.volume
    slices, rows, columns = volume.array.shape
    normal = (LPS_TO_RAS[:3, :3] @ volume.affine[:3, 2]) / volume.slice_spacing_mm
    middle = slice_.affine @ [(columns - 1) / 2, (rows - 1) / 2, 0, 1]
    return {
        "position_mm": float(normal @ (LPS_TO_RAS @ middle)[:3]),
        "tilt_deg": tilt_deg(normal),
        "slab_mm": volume.slice_spacing_mm,
        "slab_source": stack.slab_source,
        "thickness_mm": slice_.thickness_mm,
        "row_spacing_mm": volume.row_spacing_mm,
        "column_spacing_mm": volume.column_spacing_mm,
        "affine": [float(value) for value in slice_.affine.ravel()],
        "rescale_slope": slice_.slope,
        "rescale_intercept": slice_.intercept,
        "overlaps": slice_.overlaps,
        "warnings": sorted(str(caution) for caution in slice_.cautions),
    }
