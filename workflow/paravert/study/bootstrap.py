"""Bootstrap interval of a median when a subject gives many values."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

NUMBERS_AT_ONCE = 1 << 22  # bounds the memory, not the result
BLOCKS = 64  # of the values in order: in which one a median lies is found first
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
    return median_intervals([values], subjects, samples, seed, level)[0]


def median_intervals(
    columns: Sequence[np.ndarray],
    subjects: np.ndarray,
    samples: int,
    seed: int,
    level: float = LEVEL,
) -> list[tuple[float, float]]:
    """Return the interval of `median_interval` for several values of the same rows, each (n,)."""
    drawn = clustered_medians(columns, subjects, samples, seed)
    if drawn.shape[1] == 0:
        return [(float("nan"), float("nan"))] * len(columns)
    ends = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=1)
    return [(float(low), float(high)) for low, high in ends.T]


def clustered_medians(
    columns: Sequence[np.ndarray], subjects: np.ndarray, samples: int, seed: int
) -> np.ndarray:
    """Return the median of each column in each bootstrap sample, (columns, samples).

    (columns, 0) below two subjects.
    """
    names, codes = np.unique(subjects, return_inverse=True)
    if len(names) < 2:
        return np.empty((len(columns), 0))
    ordered = [_ordered(column, codes, len(names)) for column in columns]
    times = _times_drawn(len(names), samples, seed, len(codes))
    medians = [[_weighted_medians(column, block) for column in ordered] for block in times]
    return np.concatenate(medians, axis=1)


def _times_drawn(subjects: int, samples: int, seed: int, values: int) -> Iterator[np.ndarray]:
    """Yield how often each subject is drawn in each sample, (some samples, subjects)."""
    random = np.random.default_rng(seed)
    at_once = max(1, NUMBERS_AT_ONCE // max(subjects, -(-values // BLOCKS)))
    for first in range(0, samples, at_once):
        size = min(at_once, samples - first)
        yield random.multinomial(subjects, np.full(subjects, 1 / subjects), size=size)


@dataclass(frozen=True)
class _Ordered:
    """Values in ascending order, in blocks.

    values, codes: (n,), codes: whose value it is. ends: (blocks + 1,), where blocks begin and end.
    counts: (subjects, blocks), values of each subject in each block.
    """

    values: np.ndarray
    codes: np.ndarray
    ends: np.ndarray
    counts: np.ndarray


def _ordered(values: np.ndarray, codes: np.ndarray, subjects: int) -> _Ordered:
    order = np.argsort(values, kind="stable")
    blocks = min(BLOCKS, len(values))
    ends = np.linspace(0, len(values), blocks + 1).astype(int)
    block = np.repeat(np.arange(blocks), np.diff(ends))
    cells = np.bincount(codes[order] * blocks + block, minlength=subjects * blocks)
    return _Ordered(
        values[order], codes[order], ends, cells.reshape(subjects, blocks).astype(float)
    )


def _weighted_medians(ordered: _Ordered, times: np.ndarray) -> np.ndarray:
    """Return the medians with each value taken as often as `times` says of its subject, (rows,)."""
    upto = np.cumsum(times @ ordered.counts, axis=1).astype(np.int64)
    total = upto[:, -1]
    lower, upper = (_at_rank(ordered, times, upto, rank) for rank in ((total - 1) // 2, total // 2))
    return (lower + upper) / 2


def _at_rank(
    ordered: _Ordered, times: np.ndarray, upto: np.ndarray, rank: np.ndarray
) -> np.ndarray:
    """Return the value of each row at a rank from 0; upto: (rows, blocks), values drawn so far."""
    block = (upto <= rank[:, None]).sum(axis=1)
    before = np.where(block > 0, np.take_along_axis(upto, block[:, None] - 1, axis=1)[:, 0], 0)
    found = np.empty(len(rank))
    for own in np.unique(block):
        rows = np.flatnonzero(block == own)
        first, last = ordered.ends[own : own + 2]
        drawn = np.cumsum(times[np.ix_(rows, ordered.codes[first:last])], axis=1)
        place = (drawn <= (rank - before)[rows, None]).sum(axis=1)
        found[rows] = ordered.values[first + place]
    return found
