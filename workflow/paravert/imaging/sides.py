"""Left and right of a label map, judged by where its labels lie in the patient."""

import numpy as np

from paravert.anatomy import MUSCLES, SIDES, label_value
from paravert.imaging.volume import Volume


def left_beyond_right_mm(labels: Volume) -> dict[str, float]:
    """Return how far each muscle's left label lies to the patient's left of its right label.

    By the centroids over the whole volume, in mm; at most 0 where the sides lie the wrong way
    round. A muscle of which one side is absent cannot be judged and is left out.
    """
    apart = {}
    around = _foreground(labels.array)
    for muscle in MUSCLES:
        left, right = (_left_mm(labels, label_value(muscle, side), around) for side in SIDES)
        if left is not None and right is not None:
            apart[muscle] = left - right
    return apart


def swapped_muscles(labels: Volume) -> list[str]:
    """Return the muscles whose left label does not lie on the patient's left of the right one."""
    return [muscle for muscle, apart_mm in left_beyond_right_mm(labels).items() if apart_mm <= 0]


def _foreground(array: np.ndarray) -> tuple[slice, ...]:
    """Return the box around all labels, empty if there are none."""
    rows_columns = array.any(axis=0)
    there = (array.any(axis=(1, 2)), rows_columns.any(axis=1), rows_columns.any(axis=0))
    ends = [np.flatnonzero(one)[[0, -1]] if one.any() else (0, -1) for one in there]
    return tuple(slice(int(first), int(last) + 1) for first, last in ends)


def _left_mm(labels: Volume, value: int, around: tuple[slice, ...]) -> float | None:
    """Return how far towards the patient's left the centroid of a label lies; None if absent."""
    mask = labels.array[around] == value
    counts = mask.sum(axis=0, dtype=np.uint32)
    profiles = (np.array([np.count_nonzero(one) for one in mask]), counts.sum(1), counts.sum(0))
    total = profiles[0].sum()
    if not total:
        return None
    slice_, row, column = (
        part.start + float(profile @ np.arange(len(profile))) / total
        for part, profile in zip(around, profiles, strict=True)
    )
    return float(-(labels.affine @ [column, row, slice_, 1])[0])
