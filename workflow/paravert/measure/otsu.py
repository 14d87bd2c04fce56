"""Otsu's threshold over a set of pixels, and how well it parts them."""

from dataclasses import dataclass

import numpy as np
from skimage.filters import threshold_otsu

FLOAT_BINS = 256  # what scikit-image takes where the signal is not whole-numbered


@dataclass(frozen=True)
class Split:
    """A threshold and its separability; both NaN where there is nothing to split.

    threshold: in the unit of the signal; pixels above it are the brighter class.
    separability: variance between the two classes over total variance, 0-1.
    """

    threshold: float
    separability: float


NO_SPLIT = Split(float("nan"), float("nan"))


def otsu_split(values: np.ndarray) -> Split:
    """Find the threshold that `skimage.filters.threshold_otsu` finds in these pixels.

    values: signal, (pixels,). Whole-numbered signal is split between its values, any other in 256
    bins from the lowest to the highest. NO_SPLIT where there are no two different values.
    """
    if values.size == 0 or values.min() == values.max():
        return NO_SPLIT
    counts, levels = _histogram(values)
    threshold = float(threshold_otsu(hist=(counts, levels)))
    return Split(threshold, _separability(counts, levels, levels <= threshold))


def _histogram(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return counts and levels; without empty levels, which Otsu's threshold does not see."""
    if values.dtype.kind not in "iu":
        counts, edges = np.histogram(values, bins=FLOAT_BINS)
        levels = (edges[:-1] + edges[1:]) / 2
    elif (lowest := int(values.min())) + values.size < int(values.max()):
        levels, counts = np.unique(values, return_counts=True)
    else:
        counts = np.bincount(values.astype(np.int64) - lowest)
        levels = np.arange(lowest, lowest + counts.size)
    held = counts > 0
    return counts[held], levels[held].astype(np.float64)


def _separability(counts: np.ndarray, levels: np.ndarray, dark: np.ndarray) -> float:
    total = counts.sum()
    levels = levels - (counts * levels).sum() / total
    sums = [(counts * levels)[part].sum() for part in (dark, ~dark)]
    sizes = [counts[part].sum() for part in (dark, ~dark)]
    between = sum(s**2 / n for s, n in zip(sums, sizes, strict=True))
    return float(min(between / (counts * levels**2).sum(), 1.0))
