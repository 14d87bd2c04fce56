"""Predicted IoU: how well a muscle is segmented in a slice, estimated from the network's probabilities.

If the probabilities are right, the pixels given to a muscle that are correct are as many as their
probabilities add up to, and the pixels of the muscle are the sum of its probabilities over the whole
slice. Networks are overconfident (Guo 2017), so this expected IoU is calibrated on held-out slices:
a monotonic line per muscle (`calibration`), kept with the model.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from paravert.anatomy import CLASSES, LABELS, MUSCLES
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


KNOTS = 12  # of a muscle's line, besides the origin
FEWEST = 60  # pairs from which a line is drawn
BINS = 10
NONE = Calibration({})


def fitted(
    expected: np.ndarray, found: np.ndarray, start: Calibration = NONE, fewest: int = FEWEST
) -> Calibration:
    """Return the calibration by isotonic regression of found on expected IoU, each (slices, 8).

    One line per muscle, of both sides. NaN is left out. A muscle with fewer pairs than `fewest` keeps
    the starting model's line, if it has one.
    """
    from scipy.optimize import isotonic_regression  # takes longer to import than a slice to segment

    knots = dict(start.knots)
    for muscle in MUSCLES:
        x, y = _pairs(expected, found, muscle)
        if len(x) < fewest:
            continue
        order = np.argsort(x, kind="stable")
        rising = isotonic_regression(y[order]).x
        parts = zip(np.array_split(x[order], KNOTS), np.array_split(rising, KNOTS), strict=True)
        means = np.array([(0.0, 0.0), *((a.mean(), b.mean()) for a, b in parts)]).round(4)
        knots[muscle] = tuple(tuple(row) for row in means.T.tolist())
    return Calibration(knots)


def kept_lines(calibration: Calibration, start: Calibration) -> dict:
    """Return the starting model's lines that a calibration keeps, by muscle."""
    return {name: line for name, line in start.knots.items() if calibration.knots[name] == line}


def error_among_subjects(
    subjects: Sequence[tuple[np.ndarray, np.ndarray]], calibration: Calibration, start: Calibration
) -> float:
    """Return the leave-one-subject-out calibration error: each is predicted by lines of the others.

    subjects: expected and found IoU of each, (slices, 8). calibration: by all of them; lines that it
    keeps of the starting model are used as they are. NaN where nothing is predicted, as with a single
    subject.
    """
    if not subjects:
        return float("nan")
    kept = kept_lines(calibration, start)
    predicted = []
    for own, (expected, _) in enumerate(subjects):
        lines = kept
        if others := [pair for number, pair in enumerate(subjects) if number != own]:
            new = fitted(*together(others), fewest=KNOTS).knots
            lines = {muscle: new[muscle] for muscle in calibration.knots if muscle in new} | kept
        predicted.append(Calibration(lines).predicted(expected))
    return calibration_error(
        np.concatenate(predicted), np.concatenate([found for _, found in subjects])
    )


def together(subjects: Sequence[tuple[np.ndarray, np.ndarray]]) -> Iterator[np.ndarray]:
    """Return the expected and the found IoU of all subjects, each (slices, 8)."""
    return map(np.concatenate, zip(*subjects, strict=True))


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


def told_error(error: float) -> float | None:
    """Return a calibration error as a model's card tells it; None where it is not known."""
    return None if np.isnan(error) else round(error, 4)
