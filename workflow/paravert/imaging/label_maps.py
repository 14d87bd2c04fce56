"""Label maps: pixel counts, agreement of two maps (IoU, Dice), and the side that each label is on."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from paravert.anatomy import CLASSES, LABEL_VALUES, MUSCLES, SIDES, label_value
from paravert.imaging.volume import Volume


def slice_pixels(labels: np.ndarray) -> np.ndarray:
    """Return the number of pixels of each label in each slice, (slices, 8), in the order of LABELS.

    labels: label map, (slices, rows, columns), values of LABELS or 0. An absent muscle is 0.
    """
    counts = [np.bincount(plane.ravel(), minlength=CLASSES)[1:] for plane in labels]
    return np.array(counts, dtype=np.int64).reshape(len(labels), CLASSES - 1)


@dataclass(frozen=True)
class Overlap:
    """Agreement of prediction and truth, each array (slices, 8), in the order of LABELS.

    iou, dice: 0-1; NaN (unknown) where both are empty; 0 where only one is.
    """

    iou: np.ndarray
    dice: np.ndarray
    pixels_truth: np.ndarray
    pixels_prediction: np.ndarray


def slice_overlap(prediction: np.ndarray, truth: np.ndarray) -> Overlap:
    """Return IoU and Dice of two label maps, (slices, rows, columns), per slice and label.

    IoU = |I| / |U| and Dice = 2 |I| / (|P| + |T|), over the pixels of one slice; IoU = D / (2 - D).
    Source: the paper, eq. 3. Raises ValueError where the shapes differ.
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction has shape {prediction.shape}, truth {truth.shape}")
    pairs = np.array([_counts_of_pairs(*planes) for planes in zip(prediction, truth, strict=True)])
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
    """Return which labels occur in any of a subject's manual masks, bool (8,), in the order of LABELS.

    truths: label maps, (slices, rows, columns). Some labs segment a few of the muscles only: a label
    that occurs nowhere was not drawn, which does not mean that the muscle is absent.
    """
    shown = np.zeros(CLASSES, dtype=bool)
    for truth in truths:
        shown[np.unique(truth)] = True
    return shown[list(LABEL_VALUES)]


def _counts_of_pairs(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    pairs = prediction.astype(np.uint8) * np.uint8(CLASSES) + truth.astype(np.uint8)
    return np.bincount(pairs.ravel(), minlength=CLASSES**2)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


# --- left and right ------------------------------------------------------------------------------


def left_beyond_right_mm(labels: Volume) -> dict[str, float]:
    """Return how far (mm) each muscle's left label lies to the patient's left of its right label.

    Measured between the centroids over the whole volume; 0 or negative where the sides are swapped.
    Muscles with only one side are left out.
    """
    apart = {}
    box = _bounding_box(labels.array)
    for muscle in MUSCLES:
        left, right = (_left_mm(labels, label_value(muscle, side), box) for side in SIDES)
        if left is not None and right is not None:
            apart[muscle] = left - right
    return apart


def swapped_muscles(labels: Volume) -> list[str]:
    """Return the muscles whose left label does not lie on the patient's left of the right one."""
    return [muscle for muscle, apart_mm in left_beyond_right_mm(labels).items() if apart_mm <= 0]


def _bounding_box(array: np.ndarray) -> tuple[slice, ...]:
    """Return the box around all labels, empty if there are none."""
    rows_columns = array.any(axis=0)
    there = (array.any(axis=(1, 2)), rows_columns.any(axis=1), rows_columns.any(axis=0))
    ends = [np.flatnonzero(one)[[0, -1]] if one.any() else (0, -1) for one in there]
    return tuple(slice(int(first), int(last) + 1) for first, last in ends)


def _left_mm(labels: Volume, value: int, box: tuple[slice, ...]) -> float | None:
    """Return the centroid of a label along the axis to the patient's left (mm); None if absent."""
    mask = labels.array[box] == value
    counts = mask.sum(axis=0, dtype=np.uint32)
    profiles = (np.array([np.count_nonzero(one) for one in mask]), counts.sum(1), counts.sum(0))
    total = profiles[0].sum()
    if not total:
        return None
    slice_, row, column = (
        part.start + float(profile @ np.arange(len(profile))) / total
        for part, profile in zip(box, profiles, strict=True)
    )
    return float(-(labels.affine @ [column, row, slice_, 1])[0])
