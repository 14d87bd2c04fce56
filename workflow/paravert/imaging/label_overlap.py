"""IoU and Dice of two label maps, slice by slice."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from paravert.anatomy import LABEL_VALUES


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
    """Compare two label maps, (slices, rows, columns), muscle by muscle and slice by slice.

    IoU = |I| / |U| and Dice = 2 |I| / (|P| + |T|), over the pixels of one slice; IoU = D / (2 - D).
    Source: the paper, eq. 3. Raises ValueError where the shapes differ.
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction has shape {prediction.shape}, truth {truth.shape}")
    pairs = np.array([_counts_of_pairs(*planes) for planes in zip(prediction, truth, strict=True)])
    pairs = pairs.reshape(len(truth), _SIZE, _SIZE)
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
    """Return which muscles somebody drew, bool (8,), in the order of LABELS.

    truths: the label maps of a subject. What is in none of them was not drawn, as by a lab that
    measures some of the muscles alone: that says nothing about where it is.
    """
    shown = np.zeros(_SIZE, dtype=bool)
    for truth in truths:
        shown[np.unique(truth)] = True
    return shown[list(LABEL_VALUES)]


_SIZE = 1 + max(LABEL_VALUES)


def _counts_of_pairs(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    pairs = prediction.astype(np.uint8) * np.uint8(_SIZE) + truth.astype(np.uint8)
    return np.bincount(pairs.ravel(), minlength=_SIZE**2)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
