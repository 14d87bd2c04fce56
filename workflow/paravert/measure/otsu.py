"""Otsu's threshold of a set of pixels, and the separability of the two classes."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class OtsuSplit:
    """Otsu's threshold and how well it separates two classes; both NaN if all values are equal.

    threshold: signal; values above it are the brighter class. separability: variance between the
    two classes over total variance, 0 to 1.
    """

    threshold: float
    separability: float


NO_SPLIT = OtsuSplit(float("nan"), float("nan"))


def otsu_split(values: np.ndarray) -> OtsuSplit:
    """Return the threshold that maximises the variance between two classes of pixels (Otsu 1979).

    values: signal, (pixels,), any real type. The threshold is one of the values; of equally good
    ones the lowest. Returns NO_SPLIT, with NaN, if there are no two different values. Unlike
    `skimage.filters.threshold_otsu`, it uses no bins and computes in double precision.
    """
    if values.size == 0 or values.min() == values.max():
        return NO_SPLIT
    counts, levels = _histogram(values)
    total = values.size
    deviations = levels - (counts * levels).sum() / total
    dark = counts.cumsum()[:-1]
    dark_sums = (counts * deviations).cumsum()[:-1]  # the bright class has the negative of it
    between = dark_sums**2 * (total / (dark * (total - dark)))
    best = int(between.argmax())
    separability = between[best] / (counts * deviations**2).sum()
    return OtsuSplit(float(levels[best]), float(min(separability, 1.0)))


def _histogram(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (counts, levels), (levels,) each: the distinct values, ascending, and their numbers."""
    if values.dtype.kind in "iu" and int(values.max()) - int(values.min()) <= values.size:
        lowest = int(values.min())
        counts = np.bincount(values.astype(np.int64) - lowest)
        held = np.flatnonzero(counts)
        return counts[held], (held + lowest).astype(np.float64)
    levels, counts = np.unique(values, return_counts=True)
    return counts, levels.astype(np.float64)
