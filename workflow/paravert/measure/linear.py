"""Fat fraction of a pixel as its place on a line from lean muscle (0) to fat (1).

Both ends come from the images alone, per stack, and each is a plane through rows, columns and
slices, so that the slow shading of the receive coil lifts pixel and references alike:

lean  the mode of the darker muscle pixels of all eight muscles;
fat   the mode of the brighter pixels in a band around the muscles, where subcutaneous, epifascial
      and retroperitoneal fat prevail over vessels, bowel, kidney and fluid.

Darker and brighter are parted by Otsu's threshold over muscles and band together, without what is
darker than muscle. A mode is found by least squares, repeated over the pixels near the plane; the
width of "near" is taken from the side on which nothing else lies (below lean muscle, above fat).

Assumed: fat is brighter than muscle (T1- or T2-weighted, no fat suppression), signal mixes linearly
in a pixel, every stack shows some lean muscle and some fat beside the muscles, shading is slow.
Known bias: noise of lean pixels is clipped at 0, so a muscle without fat reads about 0.4 noise SD
over the distance of fat and lean (.02 to .03 in phantoms); bright fluid in a muscle counts as fat.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import maximum_filter1d

from paravert.measure.otsu import otsu_split

BAND_MM = 10.0  # phantoms: mean absolute error .011 at 5, .012 at 10, .013 at 25 mm
GRID_STEP = 2  # references are looked for in every second row and column
MOST_PIXELS = 20_000  # and in not more pixels than these: a plane has four unknowns
FEWEST_PIXELS = 50  # below this a mode is chance
NEAR = 1.5  # robust standard deviations
REPEATS = 8
DARKEST_PERCENTILE = 5  # of the muscles' signal: lean muscle even where most is fat
LEAST_CONTRAST = 4.0  # fat above lean in robust SD of lean: mere noise below 2, phantoms above 6


Indices = tuple[np.ndarray, ...]  # (slice, row, column) of some pixels, as np.nonzero gives them


class NoReference(Exception):
    """A stack lacks one end of the line; `reason` is the code that stands in the table."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Plane:
    """A signal that changes linearly over a stack.

    shape: slices, rows and columns of the stack. factors: signal in its middle, and what it gains
    from there to the last slice, row and column. width: robust standard deviation of the pixels on
    its clean side.
    """

    shape: tuple[int, int, int]
    factors: np.ndarray
    width: float

    def at(self, indices: Indices) -> np.ndarray:
        """Return the signal at pixels: (slice, row, column) of each."""
        # Not a matrix product: its last digits may depend on the number of threads.
        signal = np.full(indices[0].size, self.factors[0])
        for index, size, factor in zip(indices, self.shape, self.factors[1:], strict=True):
            signal += (factor * _scaled(np.arange(size), size))[index]
        return signal


def linear_fractions(
    image: np.ndarray,
    labels: np.ndarray,
    spacing_mm: tuple[float, float],
    indices: Indices | None = None,
) -> np.ndarray:
    """Place every muscle pixel of a stack between lean muscle (0) and fat (1), clipped to 0-1.

    image, labels: (slices, rows, columns). spacing_mm: between rows, between columns. indices:
    np.nonzero(labels), if it is at hand. Returns (pixels,), in the order of np.nonzero(labels).
    Raises NoReference where the stack has no usable lean muscle ("no-lean-reference") or fat
    ("no-fat-reference").
    """
    lean, fat = reference_planes(image, labels, spacing_mm)
    indices = np.nonzero(labels) if indices is None else indices
    zero = lean.at(indices)
    reach = fat.at(indices) - zero
    if reach.min() < LEAST_CONTRAST * lean.width:
        raise NoReference("no-fat-reference")
    return np.clip((image[indices] - zero) / reach, 0, 1)


def reference_planes(
    image: np.ndarray, labels: np.ndarray, spacing_mm: tuple[float, float]
) -> tuple[Plane, Plane]:
    """Return the signal of lean muscle and of fat over a stack; arguments, Raises as above."""
    coarse = (slice(None), slice(None, None, GRID_STEP), slice(None, None, GRID_STEP))
    muscle = labels[coarse] > 0
    band = band_around(muscle, [BAND_MM / GRID_STEP / spacing for spacing in spacing_mm])
    inside, beside = _thinned(muscle), _thinned(band)
    if inside[0].size < FEWEST_PIXELS:
        raise NoReference("no-lean-reference")
    # Air, bone and vessels go first: Otsu would part these from tissue.
    beside = _where(beside, image[beside] >= np.percentile(image[inside], DARKEST_PERCENTILE))
    threshold = otsu_split(np.concatenate([image[inside], image[beside]])).threshold
    lean = _mode_plane(image, _where(inside, image[inside] <= threshold), clean_side=-1)
    if lean is None:
        raise NoReference("no-lean-reference")
    fat = _mode_plane(image, _where(beside, image[beside] > threshold), clean_side=1)
    if fat is None:
        raise NoReference("no-fat-reference")
    return lean, fat


def band_around(mask: np.ndarray, widths: tuple[float, float]) -> np.ndarray:
    """Return the pixels within a rectangle's reach of a mask, in plane, but not in it.

    mask: (slices, rows, columns), boolean. widths: reach over rows and columns, in pixels.
    """
    reached = mask.astype(np.uint8)
    for axis, width in zip((1, 2), widths, strict=True):
        reached = maximum_filter1d(reached, 2 * max(1, round(width)) + 1, axis, mode="constant")
    return (reached > 0) & ~mask


def _thinned(coarse_mask: np.ndarray) -> Indices:
    """Return where in the whole stack the pixels of a coarse mask are, at most MOST_PIXELS."""
    slices, rows, columns = np.nonzero(coarse_mask)
    every = slice(None, None, max(1, -(-slices.size // MOST_PIXELS)))
    return slices[every], rows[every] * GRID_STEP, columns[every] * GRID_STEP


def _where(indices: Indices, held: np.ndarray) -> Indices:
    return tuple(index[held] for index in indices)


def _scaled(index: np.ndarray, size: int) -> np.ndarray:
    """Return indices as -1 (first) to 1 (last); 0 where there is one."""
    return (2 * index - (size - 1)) / max(size - 1, 1)


def _mode_plane(image: np.ndarray, candidates: Indices, clean_side: int) -> Plane | None:
    """Fit a plane to the mode of the candidates; None where too few lie near it.

    clean_side: -1 where other tissue is brighter, 1 where it is darker.
    """
    signal = image[candidates].astype(np.float64)
    axes = [_scaled(*pair) for pair in zip(candidates, image.shape, strict=True)]
    places = np.stack([np.ones(signal.size), *axes], axis=1)
    near = np.ones(signal.size, dtype=bool)
    for _ in range(REPEATS):
        if near.sum() < FEWEST_PIXELS:
            return None
        factors = _least_squares(places[near], signal[near])
        residual = signal - Plane(image.shape, factors, np.nan).at(candidates)
        width = _robust_sd(residual[residual * clean_side >= 0])
        near = np.abs(residual) <= NEAR * width
    return Plane(image.shape, factors, width)


def _least_squares(places: np.ndarray, signal: np.ndarray) -> np.ndarray:
    squares = np.einsum("ni,nj->ij", places, places)
    # lstsq, not solve: the slices of a stack of one slice have no slope.
    return np.linalg.lstsq(squares, np.einsum("ni,n->i", places, signal), rcond=None)[0]


def _robust_sd(residual: np.ndarray) -> float:
    return 1.4826 * float(np.median(np.abs(residual)))
