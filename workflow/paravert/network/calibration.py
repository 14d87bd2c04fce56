"""Predicted IoU of each muscle in a slice, from the network's probabilities, and its calibration.

Expected IoU: if the probabilities are right, the number of correct pixels of a muscle is the sum of its
probabilities over the pixels labelled with it, and the muscle's true number of pixels is the sum of its
probabilities over the slice. IoU = correct / (labelled + true - correct).
Predicted IoU: networks are overconfident (Guo 2017, "On calibration of modern neural networks"), so the
expected IoU is mapped to the measured one by a monotonic curve per muscle, fitted on held-out slices and
stored in the model file.

Arrays of IoU are (slices, 8), columns in the order of `anatomy.LABELS`; NaN: not known.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from paravert.anatomy import CLASSES, LABELS, MUSCLES
from paravert.network.grid import largest

CERTAIN = 10.0  # difference of the two largest logits: the label is right with p > 0.9996
# Sum of probabilities over a slice, pixels. Of hard synthetic slices, 83 % of those with a missed muscle
# have more, and 20 % of those in which the muscle is absent.
DOUBTED_PX = 0.001
KNOTS = 12  # of a muscle's curve, besides the origin
FEWEST = 60  # pairs of expected and measured IoU for a curve
BINS = 10  # of the reliability diagram


def expected_iou(logits: np.ndarray) -> np.ndarray:
    """Return the expected IoU (intersection over union) of each muscle in a slice, float32 (8,).

    Entry k is of label k + 1 (anatomy.LABELS). logits: float (9, rows, columns), classes: background,
    then the labels 1-8. Not calibrated: IoU = correct / (labelled + true - correct) pixels, where
    correct and true are the sums of the label's probability over the pixels labelled with it and over
    the slice. Pixels whose two largest logits differ by 10 (CERTAIN) or more count as certain. A label
    that has the largest logit in no pixel: NaN, but 0 if its probabilities in the pixels that are not
    certain add up to 0.001 (DOUBTED_PX) or more, so that the muscle may have been missed.
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
    np.divide(correct, union, out=expected, where=(pixels > 0) | (expected_pixels >= DOUBTED_PX))
    return expected[1:].astype(np.float32)


def _margin(planes: np.ndarray) -> np.ndarray:
    """Return the largest minus the second largest of values (classes, pixels), per pixel."""
    best, second = planes[0].copy(), np.full_like(planes[0], -np.inf)
    for one in planes[1:]:
        np.maximum(second, np.minimum(best, one), out=second)
        np.maximum(best, one, out=best)
    return best - second


@dataclass(frozen=True)
class Calibration:
    """Monotonic curves from expected to predicted IoU (intersection over union), one per muscle.

    Expected: estimated from the network's probabilities. Predicted: calibrated on held-out slices.
    knots: {name in anatomy.MUSCLES: (expected IoU, predicted IoU)}, two equally long rising tuples or
    lists, 0-1, of which equal neighbours are allowed; linear between the knots, constant beyond; one
    curve for both sides. Those of `fitted_calibration` start at (0, 0). A muscle without knots has no
    predicted IoU.
    """

    knots: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]]

    def predicted(self, expected: np.ndarray) -> np.ndarray:
        """Return the predicted IoU, float32 (slices, 8), of slices with this expected IoU.

        expected: IoU estimated from the network's probabilities, float (slices, 8), from `expected_iou`.
        Column k of both belongs to label k + 1 (anatomy.LABELS). NaN where the expected IoU is NaN or
        the muscle has no curve. A fitted curve maps 0 (muscle perhaps missed) to 0.
        """
        result = np.full(expected.shape, np.nan, np.float32)
        for column, label in enumerate(LABELS):
            if label.muscle in self.knots:
                result[:, column] = np.interp(expected[:, column], *self.knots[label.muscle])
        return np.where(np.isnan(expected), np.float32(np.nan), result)


NO_CALIBRATION = Calibration({})


def fitted_calibration(
    expected: np.ndarray,
    measured: np.ndarray,
    start: Calibration = NO_CALIBRATION,
    fewest: int = FEWEST,
) -> Calibration:
    """Return the calibration fitted to slices: per muscle a curve from expected to predicted IoU.

    expected: IoU estimated from the network's probabilities, not calibrated. measured: IoU with the true
    labels. Both float (slices, 8), of the same slices in the same order, column k of label k + 1
    (anatomy.LABELS); left and right of a muscle are pooled, pairs with a NaN or an expected IoU of 0 are
    ignored. start: calibration of the model that the training started from; default: without curves.
    fewest: least number of pairs left for a curve, 12 (KNOTS) or more, default 60; a muscle with fewer
    keeps that of start, if it has one. Method: isotonic regression of measured on expected IoU.
    """
    from scipy.optimize import isotonic_regression  # not at the top: segmentation would import it

    knots = dict(start.knots)
    for muscle in MUSCLES:
        columns = [number for number, label in enumerate(LABELS) if label.muscle == muscle]
        x, y = _known_pairs(expected[:, columns], measured[:, columns])
        if len(x) < fewest:
            continue
        rising = isotonic_regression(y).x
        parts = zip(np.array_split(x, KNOTS), np.array_split(rising, KNOTS), strict=True)
        means = np.array([(0.0, 0.0), *((a.mean(), b.mean()) for a, b in parts)]).round(4)
        knots[muscle] = tuple(tuple(row) for row in means.T.tolist())
    return Calibration(knots)


def _known_pairs(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the known pairs of values in two arrays of one shape, each float64 (pairs,), sorted by x.

    Left out: pairs with a NaN, and those whose x is 0, of a muscle that may have been missed.
    """
    known = (x > 0) & ~np.isnan(y)
    x, y = x[known].astype(float), y[known].astype(float)
    order = np.argsort(x, kind="stable")
    return x[order], y[order]


def kept_curves(calibration: Calibration, start: Calibration) -> dict:
    """Return the curves of the starting model's calibration that the new one contains unchanged.

    calibration: of a trained model, from `fitted_calibration` with this start. start: of the model that
    its training started from. Returns {name in anatomy.MUSCLES: (expected IoU, predicted IoU)}, two
    equally long rising tuples or lists, 0-1; {} if none.
    """
    return {name: line for name, line in start.knots.items() if calibration.knots[name] == line}


def leave_one_out_error(
    subjects: Sequence[tuple[np.ndarray, np.ndarray]], calibration: Calibration, start: Calibration
) -> float:
    """Return the leave-one-subject-out calibration error: mean |predicted - measured IoU|, 0-1.

    The predicted IoU of each subject comes from curves that are fitted to the other subjects, for
    muscles with 12 or more pairs there and a curve in calibration; the error of all is that of
    `calibration_error`, between means in bins. subjects: per subject a pair: IoU estimated from the
    probabilities, and measured IoU, each (slices, 8), column k of label k + 1 (anatomy.LABELS).
    calibration: fitted to all subjects, with this start. start: calibration of the model that the
    training started from; its curves that calibration contains unchanged are used as they are. NaN
    if nothing can be predicted, as for no subject, or a single one without such curves.
    """
    if not subjects:
        return float("nan")
    kept = kept_curves(calibration, start)
    predicted = []
    for own, (expected, _) in enumerate(subjects):
        lines = kept
        if others := [pair for number, pair in enumerate(subjects) if number != own]:
            new = fitted_calibration(*pooled(others), fewest=KNOTS).knots
            lines = {muscle: new[muscle] for muscle in calibration.knots if muscle in new} | kept
        predicted.append(Calibration(lines).predicted(expected))
    return calibration_error(
        np.concatenate(predicted), np.concatenate([measured for _, measured in subjects])
    )


def pooled(subjects: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Return expected and measured IoU of all subjects, each (all slices, 8).

    subjects: one or more; per subject a pair (expected, measured IoU), each (slices, 8); column k
    belongs to label k + 1 (anatomy.LABELS). Slices stay in the order of the subjects.
    """
    expected, measured = map(np.concatenate, zip(*subjects, strict=True))
    return expected, measured


def calibration_curve(predicted: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Return the reliability diagram: rows (mean predicted IoU, mean measured IoU, number of pairs).

    float64 (bins, 3), for ten bins of pairs (muscle and slice) by ascending predicted IoU, whose
    numbers differ by one at most; with fewer than ten pairs, a row each; (0, 3) without any.
    predicted, measured: IoU of the same muscles and slices, of equal shape. Pairs with a NaN or a
    predicted IoU of 0 are ignored.
    """
    x, y = _known_pairs(predicted, measured)
    bins = zip(np.array_split(x, BINS), np.array_split(y, BINS), strict=True)
    return np.array([(a.mean(), b.mean(), len(a)) for a, b in bins if len(a)]).reshape(-1, 3)


def calibration_error(predicted: np.ndarray, measured: np.ndarray) -> float:
    """Return the expected calibration error, 0-1: mean |predicted - measured IoU| of ten bins.

    Of each bin of `calibration_curve`, the difference of the two means, weighted by the number of
    pairs (as Guo 2017, eq. 3). predicted, measured: IoU of the same muscles and slices, of equal
    shape; pairs with a NaN or a predicted IoU of 0 are ignored. NaN if there is no pair.
    """
    x, y, count = calibration_curve(predicted, measured).T
    return float((np.abs(x - y) * count).sum() / count.sum()) if len(x) else float("nan")


def rounded_error(error: float) -> float | None:
    """Return a calibration error, 0-1, rounded to 4 digits for a model's card; None for NaN (not known)."""
    return None if np.isnan(error) else round(error, 4)
