"""Whether slices look like their neighbours: damage that a decoder accepts without a word.

Neighbours are the slices of the stack up to two steps away, so that one damaged slice cannot
condemn a good one. A slice is unlike them if its content correlates with none of them, or if its
strongest step from row to row (or column to column), where a damaged code stream loses its thread,
is out of proportion to that of each of them. Both are blind to scale and offset of the values.
"""

import numpy as np

REACH = 2  # slices to either side
FURTHEST_MM = 10.0  # slices further apart need not look alike
SAMPLING = 8  # of the pixels of a row, every eighth is looked at: as good, in a sixth of the time
GRID = 16  # cells along each side, on which content is compared
# Good stacks, real and synthetic, of slices 4 to 7.5 mm apart stay above 0.88 and below 1.35; most
# damage of more than a tenth of the pixels is far beyond (tests/benchmark/unlike_slices.py).
LEAST_CORRELATION = 0.8
LARGEST_STEP_RATIO = 1.6


def unlike_neighbours(array: np.ndarray) -> np.ndarray:
    """Tell which slices of a stack (slices, rows, columns) do not fit their neighbours.

    Returns booleans, one for each slice. A slice of a single value is neither judged nor anyone's
    neighbour; a slice without neighbours fits.
    """
    looks = [_look(slice_) for slice_ in array]
    return np.array([_is_unlike(index, looks) for index in range(len(looks))], dtype=bool)


def _is_unlike(index: int, looks: list[tuple | None]) -> bool:
    around = range(max(0, index - REACH), min(len(looks), index + REACH + 1))
    others = [looks[other] for other in around if other != index and looks[other] is not None]
    if looks[index] is None or not others:
        return False
    content, steps = looks[index]
    correlation = max(float(content @ other) for other, _ in others)
    ratio = min(float((steps / other).max()) for _, other in others)
    return correlation < LEAST_CORRELATION or ratio > LARGEST_STEP_RATIO


def _look(slice_: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return coarse content (unit length, mean 0) and strongest steps along rows and columns.

    Steps are in standard deviations of the slice. None if nothing is to be seen.
    """
    rows = slice_[:, ::SAMPLING].astype(np.float32)
    columns = slice_[::SAMPLING].T.astype(np.float32)
    content = _coarse(rows[::SAMPLING])
    content -= content.mean()
    spread, length = columns.std(), np.linalg.norm(content)
    steps = np.array([_strongest_step(rows), _strongest_step(columns)])
    if not (spread > 0 and length > 0 and steps.all()):
        return None
    return (content / length).ravel(), steps / spread


def _coarse(values: np.ndarray) -> np.ndarray:
    """Return means of cells, 16 to 31 along each side; what is left over at the end is left out."""
    rows, columns = (max(1, length // GRID) for length in values.shape)
    down, across = values.shape[0] // rows, values.shape[1] // columns
    cells = values[: down * rows, : across * columns].reshape(down, rows, across, columns)
    return cells.mean(axis=(1, 3))


def _strongest_step(rows: np.ndarray) -> float:
    """Return the largest mean difference between a row and the next."""
    return float(np.abs(np.diff(rows, axis=0)).mean(axis=1).max(initial=0))
