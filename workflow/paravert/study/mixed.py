"""A linear mixed model with a random intercept per subject, fitted by REML.

The likelihood depends on the data through a few sums: cross products of the terms over all rows,
and of their sums per subject. They are computed once, so the time hardly grows with the cohort.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import statsmodels.formula.api as smf
from scipy.optimize import minimize_scalar
from scipy.stats import t as t_distribution
from statsmodels.regression.linear_model import RegressionResultsWrapper

EXACT_FIT = 1e-10  # residual over outcome: below it only rounding is left
# Variance between subjects over residual variance: grid of the first search; the second search is
# between the neighbours of the best of these.
RATIOS = np.logspace(-8, 8, 129)
RATIO_TOLERANCE = 1e-10  # of the logarithm of that ratio


class NotFitted(Exception):
    """The model cannot be fitted to the data; the message says what was found and expected."""


@dataclass(frozen=True)
class Fit:
    """A fitted model.

    names: terms, as in the formula. estimates: (terms,). covariance: (terms, terms).
    df: (terms,), residual degrees of freedom of each term. sd_subjects, sd_residual: spread between
    and within subjects, in the unit of the outcome. notes: remarks for the reader of the table.
    """

    names: tuple[str, ...]
    estimates: np.ndarray
    covariance: np.ndarray
    df: np.ndarray
    sd_subjects: float
    sd_residual: float
    notes: tuple[str, ...]


def fit_mixed(formula: str, data: pd.DataFrame) -> Fit:
    """Fit a formula by REML, column `subject` as random intercept.

    Degrees of freedom follow the between-within rule (Schluchter and Elashoff 1990): a term that is
    constant within subjects has those of the number of subjects, every other one those of the rows.
    Without variance between subjects, or with one row each, the fit is ordinary least squares.
    Raises NotFitted if terms are collinear or the residuals vanish.
    Source of the likelihood: Pinheiro and Bates 2000, chapter 2.
    """
    plain = smf.ols(formula, data)
    basis, triangle = np.linalg.qr(plain.exog)
    if _rank(triangle, len(plain.exog)) < plain.exog.shape[1]:
        raise NotFitted("its terms cannot be told apart in these subjects")
    least_squares = plain.fit()
    if not np.sqrt(least_squares.mse_resid) > EXACT_FIT * np.abs(plain.endog).max():
        raise NotFitted("no variation is left to estimate errors from")
    codes, names = pd.factorize(data["subject"])
    df = degrees_of_freedom(plain.exog, codes)
    if len(names) == len(codes):
        return _from_least_squares(least_squares, df, "one row per subject, no random intercept")
    sums = _sums(basis, np.asarray(least_squares.resid), codes)
    ratio = _best_ratio(sums)
    if (
        _likelihood_at(sums, ratio).minus_two_log_likelihood
        >= _likelihood_at(sums, 0.0).minus_two_log_likelihood
    ):
        why = "no variance between subjects: random intercept 0, ordinary least squares"
        return _from_least_squares(least_squares, df, why)
    found, inverse = _likelihood_at(sums, ratio), np.linalg.inv(triangle)
    vanishing = ratio > RATIOS[-2]
    return Fit(
        names=tuple(plain.exog_names),
        estimates=least_squares.params.to_numpy() + inverse @ found.estimates,
        covariance=inverse @ found.covariance @ inverse.T,
        df=df,
        sd_subjects=float(np.sqrt(ratio * found.variance)),
        sd_residual=float(np.sqrt(found.variance)),
        notes=("hardly any variation within subjects",) if vanishing else (),
    )


def _rank(triangle: np.ndarray, rows: int) -> int:
    """Return the rank of a design from the R of its QR decomposition."""
    sizes = np.linalg.svd(triangle, compute_uv=False)
    return int((sizes > sizes[0] * rows * np.finfo(float).eps).sum())


# --- likelihood ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Sums:
    """Sums of the columns (orthonormal basis of the design, outcome) that the likelihood needs.

    products: cross products over all rows, (terms + 1, terms + 1). sizes: rows per subject, each
    number once, (sizes,). counts: subjects with so many rows, (sizes,). between: cross products of
    these subjects' sums, (sizes, terms + 1, terms + 1).
    """

    products: np.ndarray
    sizes: np.ndarray
    counts: np.ndarray
    between: np.ndarray


@dataclass(frozen=True)
class _Likelihood:
    """Restricted likelihood at a ratio of variances, and the estimates there.

    minus_two_log_likelihood: without its constant. estimates, covariance: of the terms in the
    orthonormal basis. variance: residual.
    """

    minus_two_log_likelihood: float
    estimates: np.ndarray
    covariance: np.ndarray
    variance: float


def _sums(basis: np.ndarray, outcome: np.ndarray, codes: np.ndarray) -> _Sums:
    columns = [*basis.T, outcome]
    of_subjects = np.column_stack([np.bincount(codes, weights=column) for column in columns])
    rows = np.bincount(codes)
    sizes, counts = np.unique(rows, return_counts=True)
    between = [of_subjects[rows == size].T @ of_subjects[rows == size] for size in sizes]
    beside = basis.T @ outcome
    products = np.block([[basis.T @ basis, beside[:, None]], [beside, outcome @ outcome]])
    return _Sums(products, sizes, counts, np.array(between))


def _likelihood_at(sums: _Sums, ratio: float) -> _Likelihood:
    """Return the likelihood at a ratio of the variance between subjects to the residual one."""
    shrinkage = ratio / (1 + sums.sizes * ratio)
    weighted = sums.products - np.tensordot(shrinkage, sums.between, 1)
    information, right = weighted[:-1, :-1], weighted[:-1, -1]
    estimates = np.linalg.solve(information, right)
    df = int(sums.sizes @ sums.counts) - len(estimates)
    variance = max(float(weighted[-1, -1] - right @ estimates) / df, np.finfo(float).tiny)
    minus_two_log_likelihood = df * np.log(variance) + np.linalg.slogdet(information)[1]
    minus_two_log_likelihood += sums.counts @ np.log1p(sums.sizes * ratio)
    covariance = variance * np.linalg.inv(information)
    return _Likelihood(float(minus_two_log_likelihood), estimates, covariance, variance)


def _best_ratio(sums: _Sums) -> float:
    best = int(
        np.argmin([_likelihood_at(sums, ratio).minus_two_log_likelihood for ratio in RATIOS])
    )
    ends = RATIOS[[max(best - 1, 0), min(best + 1, len(RATIOS) - 1)]]
    found = minimize_scalar(
        lambda logarithm: _likelihood_at(sums, np.exp(logarithm)).minus_two_log_likelihood,
        bounds=np.log(ends),
        method="bounded",
        options={"xatol": RATIO_TOLERANCE},
    )
    return float(np.exp(found.x))


def _from_least_squares(result: RegressionResultsWrapper, df: np.ndarray, note: str) -> Fit:
    return Fit(
        names=tuple(result.model.exog_names),
        estimates=result.params.to_numpy(),
        covariance=result.cov_params().to_numpy(),
        df=df,
        sd_subjects=0.0,
        sd_residual=float(np.sqrt(result.mse_resid)),
        notes=(note,),
    )


def degrees_of_freedom(design: np.ndarray, subjects: np.ndarray) -> np.ndarray:
    """Return the between-within degrees of freedom of each column of a design, (columns,).

    design: (rows, columns). subjects: (rows,).
    """
    _, first, codes = np.unique(subjects, return_index=True, return_inverse=True)
    between = np.array([(column == column[first][codes]).all() for column in design.T])
    of_between = len(first) - between.sum()
    of_within = len(design) - len(first) - (~between).sum()
    return np.maximum(1, np.where(between, of_between, of_within))


def interval_and_p(estimate: float, error: float, df: float, level: float = 0.95):
    """Return low and high end of the t interval of an estimate, and its two-sided p value."""
    reach = float(t_distribution.ppf((1 + level) / 2, df)) * error
    p_value = float(2 * t_distribution.sf(abs(estimate) / error, df)) if error > 0 else np.nan
    return estimate - reach, estimate + reach, p_value
