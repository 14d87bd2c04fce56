"""Otsu's threshold over a set of pixels, and how well it parts them."""

from dataclasses import dataclass

import numpy as np


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
    """Find the value up to which pixels are dark, so that the variance between classes is largest.

    values: signal, (pixels,), of any real type; the classes are parted between two values that
    occur, and the lowest of equally good thresholds is taken. NO_SPLIT where there are no two
    different values. Source: Otsu 1979; `skimage.filters.threshold_otsu` finds the same in whole
    numbers, but sorts others into 256 bins first, and counts in single precision.
    """
    if values.size == 0 or values.min() == values.max():
        return NO_SPLIT
    counts, levels = _histogram(values)
    total = values.size
    deviations = levels - (counts * levels).sum() / total
    dark = counts.cumsum()[:-1]
    dark_sums = (counts * deviations).cumsum()[:-1]  # of the bright class the same, negative
    between = dark_sums**2 * (total / (dark * (total - dark)))
    best = int(between.argmax())
    separability = between[best] / (counts * deviations**2).sum()
    return Split(float(levels[best]), float(min(separability, 1.0)))


def _histogram(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the values that occur, ascending, and how often: counts and levels."""
    if values.dtype.kind in "iu" and int(values.max()) - int(values.min()) <= values.size:
        lowest = int(values.min())
        counts = np.bincount(values.astype(np.int64) - lowest)
        held = np.flatnonzero(counts)
        return counts[held], (held + lowest).astype(np.float64)
    levels, counts = np.unique(values, return_counts=True)
    return counts, levels.astype(np.float64)
