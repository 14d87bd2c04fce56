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
    for muscle in MUSCLES:
        left, right = (_left_mm(labels, label_value(muscle, side)) for side in SIDES)
        if left is not None and right is not None:
            apart[muscle] = left - right
    return apart


def swapped_muscles(labels: Volume) -> list[str]:
    """Return the muscles whose left label does not lie on the patient's left of the right one."""
    return [muscle for muscle, apart_mm in left_beyond_right_mm(labels).items() if apart_mm <= 0]


def _left_mm(labels: Volume, value: int) -> float | None:
    """Return how far towards the patient's left the centroid of a label lies; None if absent."""
    voxels = np.argwhere(labels.array == value)
    if not len(voxels):
        return None
    slice_, row, column = voxels.mean(axis=0)
    return float(-(labels.affine @ [column, row, slice_, 1])[0])
