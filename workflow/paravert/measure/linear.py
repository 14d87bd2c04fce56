"""Fat fraction of a pixel as its place on a line from lean muscle (0) to fat (1).

Both ends come from the images alone, per stack, and each is a surface of second order over slices,
rows and columns, so that the slow shading of the receive coil lifts pixel and references alike:

lean  the mode of the darker muscle pixels of all eight muscles;
fat   the mode of the brighter pixels in a band around the muscles, where subcutaneous, epifascial
      and retroperitoneal fat prevail over vessels, bowel, kidney and fluid.

Darker and brighter are parted by Otsu's threshold over muscles and band together, without what is
darker than muscle. A mode is found by least squares, repeated over the pixels near it; the
width of "near" is taken from the side on which nothing else lies (below lean muscle, above fat).

Assumed: fat is brighter than muscle (T1- or T2-weighted, no fat suppression), signal mixes linearly
in a pixel, every stack shows some lean muscle and some fat beside the muscles, shading is slow.
Known bias: noise of lean pixels is clipped at 0, so a muscle without fat reads about 0.4 noise SD
over the distance of fat and lean (.02 to .03 in phantoms); fat spread evenly between the fibres
lifts the lean reference with it, and fat within muscle may be darker than beside it, so that fatty
muscles read .01 to .03 too low; bright fluid in a muscle counts as fat.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import maximum_filter1d

from paravert.measure.otsu import otsu_split
from paravert.measure.pixels import places_of

# Phantoms: mean absolute error .012 at 10 and at 20 mm. Water and fat of a real Dixon scan, added as
# in a T2-weighted image: correlation with its fat fraction .8 (planes in place of surfaces: .2).
BAND_MM = 15.0
GRID_STEP = 2  # references are looked for in every second row and column
MOST_PIXELS = 10_000  # and in not more pixels than these: a surface has eight unknowns
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
class Surface:
    """A signal that changes slowly over a stack.

    shape: slices, rows and columns of the stack. factors: (8,), of 1, then s, s^2, r, r^2, c, c^2
    and r c, where s, r and c go from -1 in the first slice, row and column to 1 in the last.
    width: robust standard deviation of the pixels on its clean side.
    """

    shape: tuple[int, int, int]
    factors: np.ndarray
    width: float

    def at(self, indices: Indices) -> np.ndarray:
        """Return the signal at pixels: (slice, row, column) of each."""
        # Not a matrix product: its last digits may depend on the number of threads.
        axes = [_scaled(np.arange(size), size) for size in self.shape]
        pairs = zip(self.factors[1:7:2], self.factors[2:7:2], axes, indices, strict=True)
        signal = np.full(indices[0].size, self.factors[0])
        for linear, square, axis, index in pairs:
            signal += (linear * axis + square * axis**2)[index]
        return signal + (self.factors[7] * axes[1])[indices[1]] * axes[2][indices[2]]


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
    lean, fat = reference_surfaces(image, labels, spacing_mm)
    indices = places_of(labels) if indices is None else indices
    zero = lean.at(indices)
    reach = fat.at(indices) - zero
    if reach.min() < LEAST_CONTRAST * lean.width:
        raise NoReference("no-fat-reference")
    return np.clip((image[indices] - zero) / reach, 0, 1)


def reference_surfaces(
    image: np.ndarray, labels: np.ndarray, spacing_mm: tuple[float, float]
) -> tuple[Surface, Surface]:
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
    lean = _mode_surface(image, _where(inside, image[inside] <= threshold), clean_side=-1)
    if lean is None:
        raise NoReference("no-lean-reference")
    fat = _mode_surface(image, _where(beside, image[beside] > threshold), clean_side=1)
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
    slices, rows, columns = places_of(coarse_mask)
    every = slice(None, None, max(1, -(-slices.size // MOST_PIXELS)))
    return slices[every], rows[every] * GRID_STEP, columns[every] * GRID_STEP


def _where(indices: Indices, held: np.ndarray) -> Indices:
    return tuple(index[held] for index in indices)


def _scaled(index: np.ndarray, size: int) -> np.ndarray:
    """Return indices as -1 (first) to 1 (last); 0 where there is one."""
    return (2 * index - (size - 1)) / max(size - 1, 1)


def _mode_surface(image: np.ndarray, candidates: Indices, clean_side: int) -> Surface | None:
    """Fit a surface to the mode of the candidates; None where too few lie near it.

    clean_side: -1 where other tissue is brighter, 1 where it is darker.
    """
    signal = image[candidates].astype(np.float64)
    s, r, c = (_scaled(*pair) for pair in zip(candidates, image.shape, strict=True))
    terms = np.stack([np.ones(s.size), s, s**2, r, r**2, c, c**2, r * c], axis=1)
    near = np.ones(signal.size, dtype=bool)
    for _ in range(REPEATS):
        if near.sum() < FEWEST_PIXELS:
            return None
        factors = _least_squares(terms[near], signal[near])
        residual = signal - Surface(image.shape, factors, np.nan).at(candidates)
        width = _robust_sd(residual[residual * clean_side >= 0])
        near = np.abs(residual) <= NEAR * width
    return Surface(image.shape, factors, width)


def _least_squares(terms: np.ndarray, signal: np.ndarray) -> np.ndarray:
    squares = np.einsum("ni,nj->ij", terms, terms)
    # lstsq, not solve: a stack of one slice has no slope over slices, one of two no square.
    return np.linalg.lstsq(squares, np.einsum("ni,n->i", terms, signal), rcond=None)[0]


def _robust_sd(residual: np.ndarray) -> float:
    return 1.4826 * float(np.median(np.abs(residual)))
