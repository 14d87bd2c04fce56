"""Left and right of predicted labels, judged by where they lie in the patient."""

import numpy as np

from paravert.anatomy import LABELS, MUSCLES, label_value
from paravert.imaging.volume import Volume


def swapped_muscles(labels: Volume) -> list[str]:
    """Return the muscles whose left label does not lie on the patient's left of the right one.

    Compared are the centroids in the patient's coordinates, over the stack; a muscle of which one
    side is absent is not judged.
    """
    left_to_right = {
        label.value: _mean_x_mm(labels, label.value)
        for label in LABELS
        if (labels.array == label.value).any()
    }
    return [
        muscle
        for muscle in MUSCLES
        for left, right in [(label_value(muscle, "left"), label_value(muscle, "right"))]
        if {left, right} <= left_to_right.keys() and left_to_right[left] >= left_to_right[right]
    ]


def _mean_x_mm(labels: Volume, value: int) -> float:
    """Return the mean RAS x of a label: it grows towards the patient's right."""
    slices, rows, columns = (axis.mean() for axis in np.nonzero(labels.array == value))
    return float((labels.affine @ (columns, rows, slices, 1))[0])
