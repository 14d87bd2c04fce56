"""Bootstrap interval of a median when a subject gives many values."""

from collections.abc import Iterator

import numpy as np

VALUES_AT_ONCE = 1 << 22  # bounds the memory, not the result
LEVEL = 0.95


def median_interval(
    values: np.ndarray, subjects: np.ndarray, samples: int, seed: int, level: float = LEVEL
) -> tuple[float, float]:
    """Return the percentile interval of the median, subjects drawn with replacement.

    values: (n,), finite. subjects: (n,), whose value it is; all values of a subject are drawn
    together, as many times as the subject. The order of the values does not matter.
    (nan, nan) below two subjects: a single one says nothing of the spread between subjects.
    Source: Efron and Tibshirani 1993, chapter 13; Davison and Hinkley 1997, section 3.8.
    """
    drawn = clustered_medians(values, subjects, samples, seed)
    if drawn.size == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def clustered_medians(
    values: np.ndarray, subjects: np.ndarray, samples: int, seed: int
) -> np.ndarray:
    """Return the median of each bootstrap sample, (samples,); empty below two subjects."""
    names, codes = np.unique(subjects, return_inverse=True)
    if len(names) < 2:
        return np.empty(0)
    order = np.argsort(values, kind="stable")
    ascending, codes = values[order], codes[order]
    times = _times_drawn(len(names), samples, seed, len(values))
    return np.concatenate([_weighted_medians(ascending, block[:, codes]) for block in times])


def _times_drawn(subjects: int, samples: int, seed: int, values: int) -> Iterator[np.ndarray]:
    """Yield how often each subject is drawn in each sample, (some samples, subjects)."""
    random = np.random.default_rng(seed)
    at_once = max(1, VALUES_AT_ONCE // values)
    for first in range(0, samples, at_once):
        size = min(at_once, samples - first)
        yield random.multinomial(subjects, np.full(subjects, 1 / subjects), size=size)


def _weighted_medians(ascending: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return the medians of `ascending` with each value taken as often as `times` says, (rows,)."""
    upto = np.cumsum(times, axis=1)
    total = upto[:, -1:]
    lower = ascending[(upto <= (total - 1) // 2).sum(axis=1)]
    upper = ascending[(upto <= total // 2).sum(axis=1)]
    return (lower + upper) / 2
