"""How well two measurements of the same subjects agree: Bland-Altman and intraclass correlation."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import f as f_distribution

from paravert.study.bootstrap import LEVEL

NORMAL_95 = 1.96  # limits of agreement, as Bland and Altman 1986 give them


@dataclass(frozen=True)
class Limits:
    """Bland-Altman figures, in the unit of the measurement; nan where too few subjects."""

    bias: float
    sd: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Correlation:
    """An intraclass correlation with its 95 % interval; nan where it cannot be told."""

    icc: float
    low: float
    high: float


def limits_of_agreement(measured: np.ndarray, truth: np.ndarray) -> Limits:
    """Return bias (mean of measured - truth), its SD (n - 1) and bias -+ 1.96 SD.

    measured, truth: (subjects,). bias is nan without subjects, the rest below two.
    Source: Bland and Altman, Lancet 1986.
    """
    difference = np.asarray(measured) - np.asarray(truth)
    bias = float(difference.mean()) if difference.size else float("nan")
    sd = float(difference.std(ddof=1)) if difference.size > 1 else float("nan")
    return Limits(bias, sd, bias - NORMAL_95 * sd, bias + NORMAL_95 * sd)


def absolute_agreement(ratings: np.ndarray) -> Correlation:
    """Return ICC(2,1): two-way random effects, absolute agreement, one measurement.

    ratings: (subjects, measurements). A constant bias lowers it, as it should where one method is
    to stand in for the other. nan below two subjects or where all ratings are equal; no interval
    where the measurements differ by a constant only.
    Source: Shrout and Fleiss 1979, ICC(2,1); McGraw and Wong 1996, ICC(A,1) and its interval.
    """
    subjects, raters = ratings.shape
    unknown = float("nan")
    if subjects < 2 or np.ptp(ratings) == 0:
        return Correlation(unknown, unknown, unknown)
    between, methods, error = _mean_squares(ratings)
    icc = (between - error) / (
        between + (raters - 1) * error + raters * (methods - error) / subjects
    )
    return Correlation(float(icc), *_interval(icc, between, methods, error, ratings.shape))


def _mean_squares(ratings: np.ndarray) -> tuple[float, float, float]:
    """Return the mean squares of subjects, measurements and error of the two-way layout."""
    subjects, raters = ratings.shape
    mean = ratings.mean()
    of_subjects, of_raters = ratings.mean(axis=1), ratings.mean(axis=0)
    residual = ratings - of_subjects[:, None] - of_raters[None, :] + mean
    between = raters * np.sum((of_subjects - mean) ** 2) / (subjects - 1)
    methods = subjects * np.sum((of_raters - mean) ** 2) / (raters - 1)
    error = np.sum(residual**2) / ((subjects - 1) * (raters - 1))
    return between, methods, error


def _interval(
    icc: float, between: float, methods: float, error: float, shape: tuple[int, int]
) -> tuple[float, float]:
    n, k = shape
    if error <= np.finfo(float).eps * between:
        return float("nan"), float("nan")
    spread = n * (1 + (k - 1) * icc) - k * icc
    bias = k * icc * methods / error
    df = (k - 1) * (n - 1) * (bias + spread) ** 2 / ((n - 1) * bias**2 + spread**2)
    f_low = f_distribution.ppf((1 + LEVEL) / 2, n - 1, df)
    f_high = f_distribution.ppf((1 + LEVEL) / 2, df, n - 1)
    rest = k * methods + (k * n - k - n) * error
    low = n * (between - f_low * error) / (f_low * rest + n * between)
    high = n * (f_high * between - error) / (rest + n * f_high * between)
    return float(low), float(high)
