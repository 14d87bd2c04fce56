"""Whether slices fit their neighbours: a hint at damage that neither decoder nor length betrays.

Code streams tell of most damage themselves (`jpeg2000`, `rle`, `decoder_worker`). This is for the
rest: pixels without compression, and JPEG that loses some bytes in a place where nothing is missing
at the end. Two signs are looked for, both blind to scale and offset of a slice's values:

- a straight edge across the slice, along rows or columns, that the neighbours lack at this place,
  while edges the other way are no stronger than theirs: bytes that were lost, or are of another
  file, begin and end along rows;
- content that differs from that of either neighbour by far more than these differ from each other
  (at an end of the stack: than the next two do), as after a loss that moves all the rest.

Neighbours may differ as they like: what counts is how a slice stands out among them, not how alike
slices of a stack are. So this cannot see changed values within the range of their surroundings, a
stretch of zeros in air or of less than a row, an upside-down or foreign slice where slices differ
much anyway, several damaged slices side by side, or anything in a slice of little content (the end
of a head) and, but for edges, in a stack of two. `tests/benchmark/unlike_slices.py` counts.
"""

from dataclasses import dataclass

import numpy as np

REACH = 2  # slices to either side
FURTHEST_MM = 10.0  # slices further apart are not neighbours
SAMPLES = 64  # of a row or column, at least: as good as all of them, in a fraction of the time
LEAST_SIDE = 40  # rows and columns; with fewer a bright spot is as good as an edge
GRID = 16  # cells along each side, on which content is compared
LEAST_SPREAD = 0.5  # of the largest among the neighbours: with less, noise is all there is
NEARBY = 0.03  # of the length of a side: an edge of anatomy lies so near in the next slice
LEAST_SLANT = 0.5  # a damaged neighbour may have next to none
FAINT = 0.02  # of the spread: a step above that of most rows that is none at all
# With these limits no intact series, real or drawn, is suspected (tests/benchmark/unlike_slices.py).
LARGEST_STEP = 4.5
UNLIKE = 0.35  # 1 - correlation with the most similar neighbour
LEAST_DISTANCE = 0.02  # of neighbours: noise alone makes as much
TIMES_INSIDE, TIMES_AT_END = 4.0, 6.0


@dataclass(frozen=True, eq=False)
class _Look:
    """What is compared of a slice.

    spread: standard deviation of the values. content: coarse, of mean 0 and length 1. steps: mean
    difference of each row to the next, in spreads, and the same of columns; edges: what an edge at
    each place must exceed, the largest step within NEARBY or most steps; slant: the strongest step
    between rows over that between columns, and the reverse.
    """

    spread: float
    content: np.ndarray
    steps: tuple[np.ndarray, np.ndarray]
    edges: tuple[np.ndarray, np.ndarray]
    slant: tuple[float, float]


def unlike_neighbours(array: np.ndarray) -> np.ndarray:
    """Tell which slices of a stack (slices, rows, columns) do not fit their neighbours.

    Returns booleans, one for each slice. A slice of a single value, or of fewer than LEAST_SIDE rows
    or columns, is neither judged nor anyone's neighbour; a slice without neighbours fits.
    """
    looks = [_look(slice_) for slice_ in array]
    return np.array([_is_unlike(index, looks) for index in range(len(looks))], dtype=bool)


def _is_unlike(index: int, looks: list[_Look | None]) -> bool:
    look = looks[index]
    around = range(max(0, index - REACH), min(len(looks), index + REACH + 1))
    others = [looks[other] for other in around if other != index and looks[other] is not None]
    if look is None or not others:
        return False
    if look.spread < LEAST_SPREAD * max(other.spread for other in others):
        return False
    return _largest_step(look, others) > LARGEST_STEP or _stands_alone(index, looks, others)


def _largest_step(look: _Look, others: list[_Look]) -> float:
    """Return how many times a step exceeds those near it in others, times the same of the slant."""
    found = []
    for way in (0, 1):
        edges = np.maximum.reduce([other.edges[way] for other in others])
        excess = float((look.steps[way] / edges).max())
        slant = max(LEAST_SLANT, *(other.slant[way] for other in others))
        found.append(excess * look.slant[way] / slant)
    return max(found)


def _stands_alone(index: int, looks: list[_Look | None], others: list[_Look]) -> bool:
    """Tell whether content is far from that of others, and those next to it near each other."""
    distance = min(_distance(looks[index], other) for other in others)
    inside = 0 < index < len(looks) - 1
    if inside:
        pair = [looks[index - 1], looks[index + 1]]
    else:
        pair = looks[1:3] if index == 0 else looks[-3:-1]
    if distance < UNLIKE or len(pair) < 2 or None in pair:
        return False
    times = TIMES_INSIDE if inside else TIMES_AT_END
    return distance > times * max(LEAST_DISTANCE, _distance(*pair))


def _distance(one: _Look, other: _Look) -> float:
    return 1 - float(one.content @ other.content)


def _look(slice_: np.ndarray) -> _Look | None:
    """Return what is compared of a slice, None if nothing is to be seen."""
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
    return _Look(spread, (content / length).ravel(), steps, edges, slant)


def _coarse(values: np.ndarray) -> np.ndarray:
    """Return means of cells, 16 to 31 along each side; what is left over at the end is left out."""
    rows, columns = (max(1, length // GRID) for length in values.shape)
    down, across = values.shape[0] // rows, values.shape[1] // columns
    cells = values[: down * rows, : across * columns].reshape(down, rows, across, columns)
    return cells.mean(axis=(1, 3))


def _steps(rows: np.ndarray) -> np.ndarray:
    """Return the mean difference of each row to the next."""
    return np.abs(np.diff(rows, axis=0)).mean(axis=1)


def _edges(steps: np.ndarray) -> np.ndarray:
    """Return for each step the largest of its surroundings, and at least the median of all."""
    reach = max(1, round(NEARBY * len(steps)))
    parts = np.maximum.reduceat(steps, np.arange(0, len(steps), reach))
    wide = np.maximum(parts, FAINT + np.median(steps))
    wide[1:] = np.maximum(wide[1:], parts[:-1])
    wide[:-1] = np.maximum(wide[:-1], parts[1:])
    return np.repeat(wide, reach)[: len(steps)]
