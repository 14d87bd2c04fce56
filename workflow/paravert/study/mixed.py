"""A linear mixed model with a random intercept per subject, with what a table of it needs."""

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
import statsmodels.formula.api as smf
from scipy.stats import t as t_distribution
from statsmodels.regression.linear_model import RegressionResultsWrapper
from statsmodels.regression.mixed_linear_model import MixedLMParams, MixedLMResultsWrapper
from statsmodels.tools.sm_exceptions import ModelWarning

# Variance between subjects over residual variance that counts as none. At that bound statsmodels
# may set fixed effects to 0 without a word (its issue 10239); least squares is right there.
NO_VARIANCE = 1e-5
EXACT_FIT = 1e-10  # residual over outcome: below it only rounding is left


class NotFitted(Exception):
    """The data do not allow the model; the message says what was found and expected."""


@dataclass(frozen=True)
class Fit:
    """A fitted model.

    names: terms, as in the formula. estimates: (terms,). covariance: (terms, terms).
    df: (terms,), residual degrees of freedom of each term. sd_subjects, sd_residual: spread between
    and within subjects, in the unit of the outcome. notes: what a reader should know of the fit.
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
    constant within subjects is judged by the number of subjects, every other one by that of rows.
    Without variance between subjects, or with one row each, ordinary least squares is what remains.
    The outcome is scaled for the fit, and back: statsmodels' tolerances are absolute.
    Raises NotFitted where terms cannot be told apart or the residuals vanish.
    """
    plain = smf.ols(formula, data)
    if np.linalg.matrix_rank(plain.exog) < plain.exog.shape[1]:
        raise NotFitted("its terms cannot be told apart in these subjects")
    least_squares = plain.fit()
    scale = float(np.sqrt(least_squares.mse_resid))
    if not scale > EXACT_FIT * np.abs(plain.endog).max():
        raise NotFitted("no variation is left to estimate errors from")
    df = degrees_of_freedom(plain.exog, data["subject"].to_numpy())
    if data["subject"].is_unique:
        return _from_least_squares(least_squares, df, "one row per subject, no random intercept")
    mixed, notes = _fit_warned(formula, data.assign(**{plain.endog_names: plain.endog / scale}))
    if _no_likelier_than_without(mixed):
        why = "no variance between subjects: random intercept 0, ordinary least squares"
        return _from_least_squares(least_squares, df, why)
    return Fit(
        names=tuple(plain.exog_names),
        estimates=mixed.fe_params.to_numpy() * scale,
        covariance=_covariance(mixed) * scale**2,
        df=df,
        sd_subjects=float(np.sqrt(mixed.cov_re.iloc[0, 0])) * scale,
        sd_residual=float(np.sqrt(mixed.scale)) * scale,
        notes=notes,
    )


def _fit_warned(formula: str, data: pd.DataFrame) -> tuple[MixedLMResultsWrapper, tuple]:
    """Return statsmodels' result and what it warned of as notes.

    Warnings that do not concern the fit are passed on.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = smf.mixedlm(formula, data, groups="subject").fit(reml=True)
        except np.linalg.LinAlgError as error:
            raise NotFitted(f"statsmodels: {error}") from error
    of_fit = [w for w in caught if issubclass(w.category, (ModelWarning, RuntimeWarning))]
    for warning in caught:
        if warning not in of_fit:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    messages = dict.fromkeys(str(warning.message).rstrip(".") for warning in of_fit)
    said = " / ".join(message for message in messages if not message.startswith("Retrying"))
    if result.converged and not said:
        return result, ()
    return result, (f"{'converged' if result.converged else 'not converged'}: {said}",)


def _covariance(mixed: MixedLMResultsWrapper) -> np.ndarray:
    """Return the covariance of the fixed effects by generalised least squares, (terms, terms).

    The inverse of X' V^-1 X, as mixed model programs give it; statsmodels inverts the Hessian, which
    differs where subjects have different numbers of rows, and fails near the bound.
    """
    design, residual = mixed.model.exog, mixed.scale
    _, codes = np.unique(mixed.model.groups, return_inverse=True)
    rows = np.bincount(codes)
    sums = np.column_stack([np.bincount(codes, weights=column) for column in design.T])
    between = mixed.cov_re.iloc[0, 0]
    shrinkage = between / (residual + rows * between)
    information = (design.T @ design - (sums * shrinkage[:, None]).T @ sums) / residual
    return np.linalg.inv(information)


def _no_likelier_than_without(mixed: MixedLMResultsWrapper) -> bool:
    """Tell whether the data are as likely without variance between subjects.

    The search rarely ends at the bound itself: the likelihood there decides, not where it stopped.
    """
    without = MixedLMParams.from_components(
        fe_params=mixed.fe_params.to_numpy(), cov_re=np.array([[NO_VARIANCE]])
    )
    return mixed.model.loglike(without) >= mixed.llf


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
    between = (design == design[first][codes]).all(axis=0)
    of_between = len(first) - between.sum()
    of_within = len(design) - len(first) - (~between).sum()
    return np.maximum(1, np.where(between, of_between, of_within))


def interval_and_p(estimate: float, error: float, df: float, level: float = 0.95):
    """Return low and high end of the t interval of an estimate, and its two-sided p value."""
    reach = float(t_distribution.ppf((1 + level) / 2, df)) * error
    p_value = float(2 * t_distribution.sf(abs(estimate) / error, df)) if error > 0 else np.nan
    return estimate - reach, estimate + reach, p_value
