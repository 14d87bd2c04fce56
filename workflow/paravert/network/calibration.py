"""Calibration of the predicted IoU: fitted and measured on held-out slices; used by trainings alone."""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.optimize import isotonic_regression

from paravert.anatomy import LABELS, MUSCLES
from paravert.network.confidence import Calibration

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
