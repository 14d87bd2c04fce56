"""Label maps: pixel counts, agreement of two maps (IoU, Dice), and the side of each label.

A label map is an integer array (slices, rows, columns) with values 1 to 8, one for each muscle and side
(anatomy.LABELS), and 0 outside the muscles.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from paravert.anatomy import BACKGROUND, CLASSES, LABEL_VALUES, MUSCLES, SIDES, label_value
from paravert.imaging.volume import Volume


def slice_pixels(labels: np.ndarray) -> np.ndarray:
    """Return the number of pixels of each label in each slice, int64 (slices, 8).

    labels: label map, (slices, rows, columns), 0-8. Column k of the result is of label k + 1
    (anatomy.LABELS: a muscle and side). An absent muscle has 0 pixels.
    """
    counts = [np.bincount(plane.ravel(), minlength=CLASSES)[1:] for plane in labels]
    return np.array(counts, dtype=np.int64).reshape(len(labels), CLASSES - 1)


@dataclass(frozen=True)
class Overlap:
    """Agreement of a predicted and a true label map, per slice and label.

    Each array is (slices, 8), column k of label k + 1 (anatomy.LABELS: a muscle and side). iou,
    dice: float, 0 to 1; NaN (unknown) where the label is in neither map, 0 where it is in only one.
    pixels_truth, pixels_prediction: int, number of pixels of the label in each map.
    """

    iou: np.ndarray
    dice: np.ndarray
    pixels_truth: np.ndarray
    pixels_prediction: np.ndarray


def slice_overlap(prediction: np.ndarray, truth: np.ndarray) -> Overlap:
    """Return IoU, Dice and pixels of each label in each slice of two label maps, (slices, 8) each.

    prediction, truth: label maps, (slices, rows, columns), 0-8. With the label's pixels P in the
    prediction and T in the truth of one slice: IoU = |P and T| / |P or T|, Dice = 2 |P and T| /
    (|P| + |T|). Source: Niemeyer 2021, eq. 3. Raises ValueError if the shapes differ.
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction has shape {prediction.shape}, truth {truth.shape}")
    pairs = np.array([pair_counts(*planes) for planes in zip(prediction, truth, strict=True)])
    pairs = pairs.reshape(len(truth), CLASSES, CLASSES)
    values = list(LABEL_VALUES)
    both = pairs[:, values, values]
    predicted, true = pairs.sum(axis=2)[:, values], pairs.sum(axis=1)[:, values]
    return Overlap(
        iou=_ratio(both, predicted + true - both),
        dice=_ratio(2 * both, predicted + true),
        pixels_truth=true,
        pixels_prediction=predicted,
    )


def drawn_labels(truths: Iterable[np.ndarray]) -> np.ndarray:
    """Return which labels occur in a subject's manual masks, bool (8,).

    truths: one label map, (slices, rows, columns), 0-8, per stack. Entry k of the result is of
    label k + 1 (anatomy.LABELS: a muscle and side). Some labs segment only some muscles: a label
    that occurs nowhere was not drawn, which does not mean that the muscle is absent.
    """
    shown = np.zeros(CLASSES, dtype=bool)
    for truth in truths:
        shown[np.unique(truth)] = True
    return shown[list(LABEL_VALUES)]


def pair_counts(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return how many pixels have each pair of values in two label maps of one shape, int (9, 9).

    first, second: label maps, 0-8, such as one slice or a whole stack. Row of the result: value in
    the first map; column: value in the second.
    """
    pairs = first.astype(np.uint8) * np.uint8(CLASSES) + second.astype(np.uint8)
    return np.bincount(pairs.ravel(), minlength=CLASSES**2).reshape(CLASSES, CLASSES)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


# --- left and right ------------------------------------------------------------------------------


def left_beyond_right_mm(labels: Volume) -> dict[str, float]:
    """Return how far (mm) each muscle's left label lies to the patient's left of its right label.

    labels: label map with its affine. Returns {muscle: distance}, of the centroids over the whole
    volume along the left-right axis (RAS x); 0 or negative if the sides are swapped. Muscles are
    those of anatomy.MUSCLES; one without a label on a side or on both has no entry.
    """
    inside = labels.array != BACKGROUND
    indices, values = np.argwhere(inside), labels.array[inside]  # (voxels, 3): slice, row, column
    apart = {}
    for muscle in MUSCLES:
        sides = [indices[values == label_value(muscle, side)] for side in SIDES]
        if all(len(side) for side in sides):
            left, right = (labels.affine @ [*side.mean(axis=0)[::-1], 1] for side in sides)
            apart[muscle] = float(right[0] - left[0])  # x of RAS grows towards the right
    return apart


def swapped_muscles(labels: Volume) -> list[str]:
    """Return the names of the muscles whose left label is not to the patient's left of the right one.

    labels: label map with its affine; the centroids of both labels over the whole volume are
    compared. Names are those of anatomy.MUSCLES; a muscle without a label on a side is left out.
    """
    return [muscle for muscle, apart_mm in left_beyond_right_mm(labels).items() if apart_mm <= 0]
