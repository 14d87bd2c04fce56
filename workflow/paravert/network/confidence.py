"""How well a muscle is segmented in a slice, as far as the network itself can tell: a predicted IoU.

Taken at their word, the network's probabilities say what overlap with the truth is to be expected:
of the pixels given to a muscle as many are right as their probabilities add up to, and elsewhere
the muscle is missed as often as its probability there says. Networks are surer of themselves than
they should be (Guo 2017), so what is expected is mapped to what was found on slices that were not
trained on: a rising line per muscle (isotonic regression), kept with the model.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import isotonic_regression

from paravert.anatomy import CLASSES, LABELS, MUSCLES

KNOTS = 12  # of a muscle's line, besides the origin
FEWEST = 60  # pairs from which a line is drawn
BINS = 10
CERTAIN = 10.0  # of a logit before all others: the class is wrong once in 2,700 times or less


def expected_iou(logits: torch.Tensor) -> np.ndarray:
    """Return the IoU to be expected of each slice and muscle, float32 (slices, 8), as in LABELS.

    logits: (slices, CLASSES, rows, columns). NaN where no pixel is given to the muscle.
    """
    return np.stack([_of_slice(one.float()) for one in logits])


def _of_slice(logits: torch.Tensor) -> np.ndarray:
    """Return the expected IoU of one slice, (8,); alone, so that no other slice changes a bit."""
    planes = logits.reshape(CLASSES, -1).contiguous()
    first, given = planes.max(dim=0)
    second = planes.scatter(0, given[None], -torch.inf).amax(dim=0)
    # Of most pixels the class is certain: only of the others are probabilities computed.
    open_ones = torch.nonzero(first - second < CERTAIN)[:, 0]
    probability = planes[:, open_ones].cpu().double().softmax(dim=0)
    given_there = given[open_ones].cpu()
    pixels = torch.bincount(given, minlength=CLASSES).cpu()
    certain = pixels - torch.bincount(given_there, minlength=CLASSES)
    right = certain + torch.bincount(given_there, probability.amax(dim=0), minlength=CLASSES)
    promised = certain + probability.sum(dim=1)
    expected = torch.where(pixels > 0, right / (pixels + promised - right), torch.nan)
    return expected[1:].float().numpy()


@dataclass(frozen=True)
class Calibration:
    """Lines from expected to found IoU.

    knots: by muscle two rising tuples, expected and found. A muscle that is not there has no line,
    and its IoU is not predicted.
    """

    knots: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]]

    def predicted(self, expected: np.ndarray) -> np.ndarray:
        """Return the predicted IoU, (slices, 8), of the expected one; NaN stays NaN."""
        result = np.full(expected.shape, np.nan, np.float32)
        for column, label in enumerate(LABELS):
            if label.muscle in self.knots:
                result[:, column] = np.interp(expected[:, column], *self.knots[label.muscle])
        return np.where(np.isnan(expected), np.float32(np.nan), result)


def fitted(expected: np.ndarray, found: np.ndarray) -> Calibration:
    """Return the calibration of pairs: expected and found IoU, each (slices, 8).

    Sides are taken together. Pairs in which nothing was expected are left out; where the truth is
    empty, what was found is 0. A muscle with fewer than FEWEST pairs gets no line.
    """
    knots = {}
    for muscle in MUSCLES:
        x, y = _pairs(expected, found, muscle)
        if len(x) < FEWEST:
            continue
        order = np.argsort(x, kind="stable")
        rising = isotonic_regression(y[order]).x
        parts = zip(np.array_split(x[order], KNOTS), np.array_split(rising, KNOTS), strict=True)
        means = np.array([(0.0, 0.0), *((a.mean(), b.mean()) for a, b in parts)]).round(4)
        knots[muscle] = tuple(tuple(row) for row in means.T.tolist())
    return Calibration(knots)


def _pairs(x: np.ndarray, y: np.ndarray, muscle: str) -> tuple[np.ndarray, np.ndarray]:
    columns = [number for number, label in enumerate(LABELS) if label.muscle == muscle]
    x, y = x[:, columns].ravel().astype(float), y[:, columns].ravel().astype(float)
    known = ~(np.isnan(x) | np.isnan(y))
    return x[known], y[known]


def reliability(predicted: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Return a row per bin of equally many pairs: mean predicted, mean found, number; (bins, 3).

    predicted, found: IoU of the same slices and muscles, of any shape; NaN is left out.
    """
    known = ~(np.isnan(predicted) | np.isnan(found))
    x, y = predicted[known].astype(float), found[known].astype(float)
    order = np.argsort(x, kind="stable")
    bins = zip(np.array_split(x[order], BINS), np.array_split(y[order], BINS), strict=True)
    return np.array([(a.mean(), b.mean(), len(a)) for a, b in bins if len(a)]).reshape(-1, 3)


def calibration_error(predicted: np.ndarray, found: np.ndarray) -> float:
    """Return the expected calibration error: mean distance of predicted and found IoU over bins.

    NaN where nothing is predicted.
    """
    x, y, count = reliability(predicted, found).T
    return float((np.abs(x - y) * count).sum() / count.sum()) if len(x) else float("nan")
