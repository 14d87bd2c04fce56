"""Predicted IoU: how well a muscle is segmented in a slice, estimated from the network's probabilities.

If the probabilities are right, the pixels given to a muscle that are correct are as many as their
probabilities add up to, and the pixels of the muscle are the sum of its probabilities over the whole
slice. Networks are overconfident (Guo 2017), so this expected IoU is calibrated on held-out slices:
a monotonic line per muscle (`calibration`), kept with the model.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from paravert.anatomy import CLASSES, LABELS
from paravert.network.grid import largest

CERTAIN = 10.0  # margin of a logit: the class is wrong once in 2,700 times or less


def expected_iou(logits: np.ndarray) -> np.ndarray:
    """Return the expected IoU of each muscle in a slice, float32 (8,), in the order of LABELS.

    logits: (CLASSES, rows, columns). NaN for a muscle that no pixel is given to.
    """
    planes = logits.reshape(CLASSES, -1)
    given = largest(planes)
    # Most pixels are certain: probabilities are computed for the others alone.
    uncertain = np.flatnonzero(_margin(planes) < CERTAIN)
    probability = softmax(planes[:, uncertain].astype(np.float64), axis=0)
    given_there = given[uncertain]
    pixels = np.bincount(given, minlength=CLASSES)
    certain = pixels - np.bincount(given_there, minlength=CLASSES)
    correct = certain + np.bincount(given_there, probability.max(axis=0), minlength=CLASSES)
    expected_pixels = certain + probability.sum(axis=1)
    union = pixels + expected_pixels - correct
    expected = np.full(CLASSES, np.nan)
    np.divide(correct, union, out=expected, where=pixels > 0)
    return expected[1:].astype(np.float32)


def _margin(planes: np.ndarray) -> np.ndarray:
    """Return by how much the largest of (classes, pixels) exceeds the second largest."""
    best, second = planes[0].copy(), np.full_like(planes[0], -np.inf)
    for one in planes[1:]:
        np.maximum(second, np.minimum(best, one), out=second)
        np.maximum(best, one, out=best)
    return best - second


@dataclass(frozen=True)
class Calibration:
    """Monotonic lines from expected to observed IoU.

    knots: by muscle two rising tuples, expected and observed IoU. Of a muscle without a line no IoU
    is predicted.
    """

    knots: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]]

    def predicted(self, expected: np.ndarray) -> np.ndarray:
        """Return the predicted IoU, float32 (slices, 8), of the expected IoU; NaN stays NaN."""
        result = np.full(expected.shape, np.nan, np.float32)
        for column, label in enumerate(LABELS):
            if label.muscle in self.knots:
                result[:, column] = np.interp(expected[:, column], *self.knots[label.muscle])
        return np.where(np.isnan(expected), np.float32(np.nan), result)
