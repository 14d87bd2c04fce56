"""Stacks of images, as read from DICOM or NIfTI: voxels, geometry and warnings of each slice."""

from dataclasses import dataclass, field

import numpy as np

from paravert.errors import Caution, Reason, SubjectFault
from paravert.imaging.geometry import LPS_TO_RAS, tilt_deg
from paravert.imaging.volume import Volume, blank_slices
from paravert.tables import UNKNOWN

# The largest allows 32-bit integers; the squares of all values, which segmentation and measures
# add up, stay far from both ends of float32.
LARGEST_VALUE, SMALLEST_SPREAD = 1e10, 1e-10
STORED_ERROR = 1e-3  # of the spread of a slice: error allowed when values are stored
# Comparison of a slice with its neighbours, see `unlike_neighbours`.
REACH = 2  # slices to either side
FURTHEST_MM = 10.0  # slices further apart are not neighbours
SAMPLES = 64  # at least, of a row or column: as good as all pixels, in a fraction of the time
LEAST_SIDE = 40  # rows and columns; with fewer, a bright spot features like an edge
GRID = 16  # cells along each side, on which content is compared
LEAST_SPREAD = 0.5  # of the largest among the neighbours; below, a slice shows little but noise
NEARBY = 0.03  # of the side length: how far an anatomical edge moves to the next slice
LEAST_SLANT = 0.5  # the slant of a damaged neighbour may be near 0
FAINT_STEP = 0.02  # of the spread: added to the median step; smaller excesses are no edge
# Above the largest values of intact stacks: 4.0 for LARGEST_STEP.
LARGEST_STEP = 4.5
UNLIKE = 0.35  # 1 - correlation with the most similar neighbour
LEAST_DISTANCE = 0.02  # between neighbours: the effect of noise alone
TIMES_INSIDE, TIMES_AT_END = 4.0, 6.0


@dataclass(frozen=True, eq=False)
class ImageSlice:
    """The attributes of one slice of a stack (parallel, evenly spaced slices); unknown is None.

    affine: 4 x 4, index (column, row, 0, 1) to RAS in mm. thickness_mm: SliceThickness (0018,0050).
    slope, intercept: RescaleSlope and RescaleIntercept (0028,1053), (0028,1052), which have been
    applied to the voxels. overlaps: whether the slice crosses or overlaps a slice of an earlier stack
    whose own `overlaps` is False, see `colliding_slices`. cautions: warnings about the slice. sequence:
    class of the pulse sequence by the header, one of `tables.SEQUENCES`, such as "T1" or "unknown".
    """

    affine: np.ndarray
    thickness_mm: float | None = None
    slope: float | None = None
    intercept: float | None = None
    overlaps: bool = False
    cautions: frozenset[Caution] = frozenset()
    sequence: str = UNKNOWN


@dataclass(frozen=True, eq=False)
class ImageStack:
    """The voxels of a stack (parallel, evenly spaced slices), and the attributes of each slice.

    volume: voxels (slices, rows, columns), slices from caudal to cranial, with their affine.
    slices: attributes of each slice, in the same order. slab_source: where the slice spacing of the
    volume comes from: "positions" of the slices (always for NIfTI); of a single DICOM slice,
    "thickness" or "tag", see `slab_length`. water, fat: Dixon images on the same voxels, (slices,
    rows, columns), None if there are none; if only water is there, the volume itself shows fat.
    part_affines: affine of each NIfTI file of water or fat that was added to the stack, with the
    index order of the volume's; but for rounding, only the origins differ. () if none was added.
    """

    volume: Volume
    slices: tuple[ImageSlice, ...]
    slab_source: str
    water: np.ndarray | None = None
    fat: np.ndarray | None = None
    part_affines: tuple[np.ndarray, ...] = ()


@dataclass(frozen=True, eq=False)
class Images:
    """The images of one subject.

    stacks: each a stack of parallel, evenly spaced axial slices; the stacks, and the slices of each,
    are in order from caudal to cranial. header: {column of `tables.HEADER_COLUMNS`, such as
    echo_time_ms: value}; an absent key or None is unknown. cautions: warnings about the subject, with
    those of all its slices. note: text with details of some warnings, such as which slices or series
    are not used, or None. series: one row {column of `tables.SERIES_COLUMNS`: value} per MR series of
    the subject, used or not. sagittal: sagittal series in the same patient coordinates, array (slices,
    rows, columns), slices from left to right, rows towards the feet, columns towards the back; None if
    there is none that can be used.
    """

    stacks: tuple[ImageStack, ...]
    header: dict = field(default_factory=dict)
    cautions: frozenset[Caution] = frozenset()
    note: str | None = None
    series: tuple[dict, ...] = ()
    sagittal: Volume | None = None


CONTENT_CAUTIONS = frozenset((Caution.BLANK_SLICE, Caution.SLICE_UNLIKE_NEIGHBOURS))


def content_cautions(array: np.ndarray, spacing_mm: float) -> list[set[Caution]]:
    """Return the warnings about the pixel values of each slice of a stack, one set per slice.

    array: (slices, rows, columns), in spatial order from either end. spacing_mm: distance of
    neighbouring slices.
    Warnings: blank-slice (all pixels have one value); slice-unlike-neighbours (looks damaged, see
    `unlike_neighbours`), only tested if spacing_mm is at most 10.
    """
    told = {Caution.BLANK_SLICE: blank_slices(array)}
    if spacing_mm <= FURTHEST_MM:
        told[Caution.SLICE_UNLIKE_NEIGHBOURS] = unlike_neighbours(array)
    return [{caution for caution in told if told[caution][n]} for n in range(len(array))]


def compact_array(slices: list[np.ndarray]) -> np.ndarray:
    """Return slices as one array (slices, rows, columns): int16 if that is exact, else float32.

    slices: real numbers, (rows, columns) each, one shape. Raises SubjectFault (unsupported-pixels)
    for values that are not finite or exceed 1e10 in size, for a slice whose largest and smallest
    value differ, but by less than 1e-10, and for a slice whose differences float32 would lose (an
    error above 0.1 % of its range). A slice of one value is valid.
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
    """Raise SubjectFault (blank-images) if every slice of a subject has one value only.

    stacks: of one subject; a slice with the warning blank-slice has one value only.
    """
    if all(Caution.BLANK_SLICE in slice_.cautions for stack in stacks for slice_ in stack.slices):
        raise SubjectFault(Reason.BLANK_IMAGES, "every slice holds a single value")


def geometry_rows(stacks: tuple[ImageStack, ...]) -> list[dict]:
    """Return the rows of the table `tables.GEOMETRY` of one subject, one dict per slice.

    The keys are its columns. position_mm: of the slice's centre along the normal of the stack, towards
    the head, from the LPS origin. stacks: of one subject, numbered from 1 in this order; their slices
    from 0, from caudal to cranial.
    """
    return [
        {"stack": number, "slice": index, **_row(stack, slice_)}
        for number, stack in enumerate(stacks, start=1)
        for index, slice_ in enumerate(stack.slices)
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
        "header_sequence": slice_.sequence,
        "warnings": sorted(str(caution) for caution in slice_.cautions),
    }


# --- slices unlike their neighbours: signs of damage that decoding does not show ------------------
#
# Decoding detects most damage. What remains is damage of uncompressed pixels, and of JPEG streams
# that lose bytes in the middle. Two signs are tested, both independent of scale and offset of the values:
#
# - an edge across the slice, along rows or columns, that the neighbours do not have there, while edges
#   in the other direction are no stronger than theirs: lost or foreign bytes begin and end along rows;
# - content that differs from both neighbours by far more than these differ from each other (at an end
#   of the stack: than the next two slices do), as after a loss that shifts all the rest.
#
# The limit for a slice is how much its neighbours differ from each other, not a fixed similarity. Not detected: changed
# values within the range of their surroundings, zeros in air or in less than a row, an upside-down or
# foreign slice where slices differ much anyway, several adjacent damaged slices, and anything in a
# slice with little content (the end of a head) and, except for edges, in a stack of two.
# `tests/benchmark/unlike_slices.py` measures the rates of detection.


@dataclass(frozen=True, eq=False)
class _Features:
    """The features of a slice that are compared.

    spread: standard deviation of the values. content: means of cells, flat, of mean 0 and norm 1.
    steps: mean absolute difference of each row to the next, in spreads, and the same of columns.
    edges: for each step, the largest step within NEARBY, and at least FAINT_STEP above the median. slant:
    the largest step between rows over that between columns, and the reverse.
    """

    spread: float
    content: np.ndarray
    steps: tuple[np.ndarray, np.ndarray]
    edges: tuple[np.ndarray, np.ndarray]
    slant: tuple[float, float]


def unlike_neighbours(array: np.ndarray) -> np.ndarray:
    """Return which slices of a stack differ from their neighbours as damaged slices do, bool (slices,).

    array: (slices, rows, columns), in spatial order from either end. Signs of damage: an edge
    across a slice, along rows or columns, that the neighbours (up to two on each side) do not have
    there; or content that differs from the neighbours by far more than the adjacent two differ from
    each other (at an end: the next two slices). Not tested, thus False: slices that do not vary
    along both axes, with less than half of the contrast of a neighbour, with fewer than 40 rows or
    columns, or without neighbours.
    """
    features = [_features(slice_) for slice_ in array]
    return np.array([_is_unlike(index, features) for index in range(len(features))], dtype=bool)


def _is_unlike(index: int, features: list[_Features | None]) -> bool:
    own = features[index]
    around = range(max(0, index - REACH), min(len(features), index + REACH + 1))
    others = [features[other] for other in around if other != index and features[other] is not None]
    if own is None or not others:
        return False
    if own.spread < LEAST_SPREAD * max(other.spread for other in others):
        return False
    return _largest_step(own, others) > LARGEST_STEP or _stands_alone(index, features, others)


def _largest_step(own: _Features, others: list[_Features]) -> float:
    """Return the largest ratio of a step to the neighbours' edges there, times the ratio of slants."""
    found = []
    for way in (0, 1):
        edges = np.maximum.reduce([other.edges[way] for other in others])
        excess = float((own.steps[way] / edges).max())
        slant = max(LEAST_SLANT, *(other.slant[way] for other in others))
        found.append(excess * own.slant[way] / slant)
    return max(found)


def _stands_alone(index: int, features: list[_Features | None], others: list[_Features]) -> bool:
    """Return whether the content differs from all others, while the adjacent two are much alike."""
    distance = min(_distance(features[index], other) for other in others)
    inside = 0 < index < len(features) - 1
    if inside:
        pair = [features[index - 1], features[index + 1]]
    else:
        pair = features[1:3] if index == 0 else features[-3:-1]
    if distance < UNLIKE or len(pair) < 2 or None in pair:
        return False
    times = TIMES_INSIDE if inside else TIMES_AT_END
    return distance > times * max(LEAST_DISTANCE, _distance(*pair))


def _distance(one: _Features, other: _Features) -> float:
    return 1 - float(one.content @ other.content)


def _features(slice_: np.ndarray) -> _Features | None:
    """Return the features of a slice, None if it is too small or without contrast."""
    if min(slice_.shape) < LEAST_SIDE:
        return None
    down, across = (max(1, length // SAMPLES) for length in slice_.shape)
    rows = slice_[:, ::across].astype(np.float32)
    columns = slice_[::down].T.astype(np.float32)
    content = _coarse(rows[::down])
    content -= content.mean()
    spread, length = float(columns.std()), float(np.linalg.norm(content))
    if not (spread > 0 and length > 0):
        return None
    steps = _steps(rows) / spread, _steps(columns) / spread
    most = [float(along.max(initial=0)) for along in steps]
    if 0 in most:
        return None
    slant = most[0] / most[1], most[1] / most[0]
    edges = _edges(steps[0]), _edges(steps[1])
    return _Features(spread, (content / length).ravel(), steps, edges, slant)


def _coarse(values: np.ndarray) -> np.ndarray:
    """Return the means of cells, 16 to 31 along each side; an incomplete cell at the end is dropped."""
    rows, columns = (max(1, length // GRID) for length in values.shape)
    down, across = values.shape[0] // rows, values.shape[1] // columns
    cells = values[: down * rows, : across * columns].reshape(down, rows, across, columns)
    return cells.mean(axis=(1, 3))


def _steps(rows: np.ndarray) -> np.ndarray:
    """Return the mean absolute difference of each row to the next, (rows - 1,)."""
    return np.abs(np.diff(rows, axis=0)).mean(axis=1)


def _edges(steps: np.ndarray) -> np.ndarray:
    """Return for each step the largest nearby, and at least FAINT_STEP above the median, (steps,)."""
    reach = max(1, round(NEARBY * len(steps)))
    parts = np.maximum.reduceat(steps, np.arange(0, len(steps), reach))
    wide = np.maximum(parts, FAINT_STEP + np.median(steps))
    wide[1:] = np.maximum(wide[1:], parts[:-1])
    wide[:-1] = np.maximum(wide[:-1], parts[1:])
    return np.repeat(wide, reach)[: len(steps)]
