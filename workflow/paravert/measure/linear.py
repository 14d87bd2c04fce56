"""Fat fraction per pixel by linear interpolation between lean muscle (0) and fat (1).

Both reference signals are estimated from the images, per stack. Each is a surface of second order
over slices, rows and columns, so that the slow shading of the receive coil affects pixel and
references alike:

- lean: the mode of the darker muscle pixels of all eight muscles;
- fat: the mode of the brighter pixels in a band around the muscles, where subcutaneous, epifascial
  and retroperitoneal fat outnumber vessels, bowel, kidney and fluid.

Otsu's threshold over muscles and band, without band pixels darker than muscle, separates darker
from brighter. The mode is found by least squares, repeated over the pixels near the previous fit.
"Near" is a width found on the clean side, where no other tissue lies: below lean muscle, above fat.

Assumptions: fat is brighter than muscle (T1- or T2-weighted, no fat suppression); signals mix
linearly within a pixel; every stack shows some lean muscle and some fat beside the muscles;
shading is slow. Known bias: the darker muscle pixels are taken to be free of fat, which no pixel is.
Fat fractions are .06 too low in a Dixon volunteer (mean .13) and .01 (psoas major) to .10
(multifidus) too low in phantoms of the general population, the more so the fattier the subject is:
effects of sex and age are too small (docs/fat_estimators.md). `lean_reference` corrects this. Noise
of lean pixels is clipped at 0, so that the fat fraction of a muscle without fat is about 0.4 noise
SD divided by the difference of fat and lean. Bright fluid in a muscle counts as fat.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import maximum_filter1d

from paravert.measure.otsu import otsu_split

# Water and fat of a real Dixon scan, added as in a T2-weighted image: correlation with its fat fraction
# over sections .85.
BAND_MM = 15.0
GRID_STEP = 2  # references come from every second row and column
MOST_PIXELS = 10_000  # used per surface, which has eight unknowns
FEWEST_PIXELS = 50  # per surface; fewer give a mode by chance
NEAR = 1.5  # robust SD from the surface
REPEATS = 8
DARKEST_PERCENTILE = 5  # of the muscles' signal: lean muscle even where most is fat
LEAST_CONTRAST = 4.0  # fat above lean in robust SD of lean: noise alone below 2, phantoms above 6


Indices = tuple[np.ndarray, ...]  # (slice, row, column) of some pixels, as from np.nonzero


class NoReference(Exception):
    """Raised if the signal of lean muscle or of fat in a stack cannot serve as a reference.

    Either has too few pixels, or fat is too little brighter than lean muscle. reason: code for the
    table `fat`, "no-lean-reference" or "no-fat-reference" (few pixels of fat, or little contrast).
    """

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class SignalSurface:
    """A signal that changes slowly over a stack: a polynomial of second order in slice, row and column.

    shape: (slices, rows, columns) of the stack. factors: float (8,), coefficients of 1, s, s^2, r,
    r^2, c, c^2 and r c; s, r and c run from -1 at the first slice, row and column to 1 at the last.
    width: SD of the pixels about the surface, in units of signal; of `reference_surfaces`, 1.4826 times
    the median absolute deviation of the pixels darker than the surface of muscle, or brighter than
    that of fat, where no other tissue lies; of `lean_reference`, the SD of the noise.
    """

    shape: tuple[int, int, int]
    factors: np.ndarray
    width: float

    def at(self, indices: Indices) -> np.ndarray:
        """Return the signal of the surface at some pixels, float (pixels,).

        indices: slice, row and column of the pixels, three int arrays (pixels,).
        """
        # Not a matrix product: its last digits may depend on the number of threads.
        axes = [scaled(np.arange(size), size) for size in self.shape]
        pairs = zip(self.factors[1:7:2], self.factors[2:7:2], axes, indices, strict=True)
        signal = np.full(indices[0].size, self.factors[0])
        for linear, square, axis, index in pairs:
            signal += (linear * axis + square * axis**2)[index]
        return signal + (self.factors[7] * axes[1])[indices[1]] * axes[2][indices[2]]


def fraction_between(
    lean: SignalSurface, fat: SignalSurface, image: np.ndarray, indices: Indices
) -> np.ndarray:
    """Return the signal of some pixels on a scale from lean muscle (0) to fat (1), float (pixels,).

    lean, fat: signals of the two over the stack. image: (slices, rows, columns). indices: slice,
    row and column of the pixels, three int arrays (pixels,), one pixel at least. Values beyond 0
    and 1 are not clipped. Raises NoReference ("no-fat-reference") if at one of the pixels fat is
    less than 4 times lean.width brighter than lean muscle.
    """
    zero = lean.at(indices)
    reach = fat.at(indices) - zero
    if reach.min() < LEAST_CONTRAST * lean.width:
        raise NoReference("no-fat-reference")
    return (image[indices] - zero) / reach


def reference_surfaces(
    image: np.ndarray, labels: np.ndarray, spacing_mm: tuple[float, float]
) -> tuple[SignalSurface, SignalSurface]:
    """Return the signals of lean muscle and of fat over a stack, (lean, fat), as surfaces.

    Lean is the mode of the darker muscle pixels; fat is the mode of the brighter pixels in a band
    outside the muscles, up to about 15 mm along rows and along columns (`band_around`), without
    pixels below the 5th percentile of muscle. Otsu's threshold of both sets together separates
    darker from brighter. Of each set at most 10,000 pixels of every second row and column are used.
    image: (slices, rows, columns). labels: label map of that shape, 0 outside the muscles.
    spacing_mm: distance between rows, and between columns. Raises NoReference ("no-lean-reference",
    "no-fat-reference") if either has fewer than 50 pixels, or fewer than 50 near its mode.
    """
    coarse = (slice(None), slice(None, None, GRID_STEP), slice(None, None, GRID_STEP))
    muscle = labels[coarse] > 0
    band = band_around(muscle, [BAND_MM / GRID_STEP / spacing for spacing in spacing_mm])
    inside, beside = _thinned(muscle), _thinned(band)
    if inside[0].size < FEWEST_PIXELS:
        raise NoReference("no-lean-reference")
    # Leave out air, bone and vessels: Otsu would separate these from all tissue.
    beside = _selected(beside, image[beside] >= np.percentile(image[inside], DARKEST_PERCENTILE))
    threshold = otsu_split(np.concatenate([image[inside], image[beside]])).threshold
    lean = _mode_surface(image, _selected(inside, image[inside] <= threshold), clean_side=-1)
    if lean is None:
        raise NoReference("no-lean-reference")
    fat = _mode_surface(image, _selected(beside, image[beside] > threshold), clean_side=1)
    if fat is None:
        raise NoReference("no-fat-reference")
    return lean, fat


def band_around(mask: np.ndarray, widths: tuple[float, float]) -> np.ndarray:
    """Return the pixels near a mask within each slice, without it, bool (slices, rows, columns).

    mask: bool, the same shape. widths: reach in pixels over rows, and over columns; rounded, at
    least 1. A pixel is near if a rectangle of this reach about it contains a pixel of the mask.
    """
    dilated = mask.astype(np.uint8)
    for axis, width in zip((1, 2), widths, strict=True):
        dilated = maximum_filter1d(dilated, 2 * max(1, round(width)) + 1, axis, mode="constant")
    return (dilated > 0) & ~mask


def nonzero_indices(stack: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the indices of the nonzero pixels of a stack: np.nonzero, but faster.

    stack: (slices, rows, columns). Returns three int arrays (pixels,): slices, rows, columns.
    """
    _, rows, columns = stack.shape
    flat = np.flatnonzero(stack.ravel() != 0)
    number, within = np.divmod(flat, rows * columns)
    return number, *np.divmod(within, columns)


def _thinned(coarse_mask: np.ndarray) -> Indices:
    """Return at most MOST_PIXELS pixels of a coarse mask, as indices into the full stack."""
    slices, rows, columns = nonzero_indices(coarse_mask)
    every = slice(None, None, max(1, -(-slices.size // MOST_PIXELS)))
    return slices[every], rows[every] * GRID_STEP, columns[every] * GRID_STEP


def _selected(indices: Indices, chosen: np.ndarray) -> Indices:
    return tuple(index[chosen] for index in indices)


def scaled(index: np.ndarray, size: int) -> np.ndarray:
    """Return indices along an axis, scaled to -1 at the first and 1 at the last; 0 if `size` is 1.

    index: int array of any shape. size: length of the axis.
    """
    return (2 * index - (size - 1)) / max(size - 1, 1)


def _mode_surface(image: np.ndarray, candidates: Indices, clean_side: int) -> SignalSurface | None:
    """Return the surface of the candidates' mode; None if too few pixels lie near it.

    image: (slices, rows, columns). clean_side: -1 if other tissue is brighter than the candidates,
    1 if it is darker.
    """
    signal = image[candidates].astype(np.float64)
    s, r, c = (scaled(*pair) for pair in zip(candidates, image.shape, strict=True))
    terms = np.stack([np.ones(s.size), s, s**2, r, r**2, c, c**2, r * c], axis=1)
    near = np.ones(signal.size, dtype=bool)
    for _ in range(REPEATS):
        if near.sum() < FEWEST_PIXELS:
            return None
        factors = _least_squares(terms[near], signal[near])
        residual = signal - SignalSurface(image.shape, factors, np.nan).at(candidates)
        width = _robust_sd(residual[residual * clean_side >= 0])
        near = np.abs(residual) <= NEAR * width
    return SignalSurface(image.shape, factors, width)


def _least_squares(terms: np.ndarray, signal: np.ndarray) -> np.ndarray:
    squares = np.einsum("ni,nj->ij", terms, terms)
    # lstsq, not solve: a stack of one slice has no slope over slices, one of two no square.
    return np.linalg.lstsq(squares, np.einsum("ni,n->i", terms, signal), rcond=None)[0]


def _robust_sd(residual: np.ndarray) -> float:
    """Return 1.4826 times the median absolute value: the SD of normally distributed residuals."""
    return 1.4826 * float(np.median(np.abs(residual)))
