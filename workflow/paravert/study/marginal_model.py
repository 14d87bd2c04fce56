"""Marginal models of an outcome per muscle and side: generalised estimating equations (GEE).

The rows of a subject are correlated, and the outcome's variance differs between muscles. A marginal
model with independent working correlation and errors that are robust within subjects (the cluster)
needs no model of either. Every covariate has a coefficient per muscle, so the estimates are those of
one regression per muscle, and their joint covariance allows contrasts between muscles.

Source: Liang and Zeger 1986; small samples: Mancl and DeRouen 2001; logit link for fractions: Papke
and Wooldridge 1996.
"""

import keyword
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import patsy
import statsmodels.api as sm
from scipy import stats
from statsmodels.tools.sm_exceptions import SpecificationWarning

from paravert.study.summary import counted

IDENTITY, LOGIT = "identity", "logit"
# Effective number: below, Mancl and DeRouen's covariance and t intervals; from here on, sandwich and
# normal intervals.
SMALL_SAMPLE_SUBJECTS = 200
SPARE_SUBJECTS = 2  # subjects beyond the coefficients of one muscle
WEIGHT = "sum of weights"  # of the subjects of a combination of covariates
EXACT_FIT = 1e-10  # residual over outcome: below it only rounding is left


class NotFitted(Exception):
    """Raised if a model cannot be fitted; the message says what was found and what was expected."""


@dataclass(frozen=True)
class Estimate:
    """An estimate from a regression with its uncertainty, such as a difference of means.

    value, standard_error: on the scale of the link (identity: unit of the outcome; logit: log
    odds). low_95, high_95: 95 % confidence interval on that scale. p_value: two-sided, of value 0.
    """

    value: float
    standard_error: float
    low_95: float
    high_95: float
    p_value: float


@dataclass(frozen=True)
class MarginalFit:
    """A marginal regression model (GEE) fitted to data with several rows per subject.

    terms: names of the coefficients, by patsy. coefficients: (terms,), on the link's scale.
    covariance: of the coefficients, (terms, terms). df: degrees of freedom of t intervals; infinite
    for normal ones. link: IDENTITY (its scale is the outcome's) or LOGIT (log odds).
    covariance_name: how the covariance was estimated. formula: of the model, by patsy. n_subjects,
    n_rows: number of subjects and rows that the model was fitted to. _design: patsy's description of
    the design. _people: each combination of the subjects' categories with its sum of weights, and
    mean numbers. _known_cells: cache of `mean_weights`.
    """

    terms: tuple[str, ...]
    coefficients: np.ndarray
    covariance: np.ndarray
    df: float
    link: str
    covariance_name: str
    formula: str
    n_subjects: int
    n_rows: int
    _design: patsy.DesignInfo
    _people: pd.DataFrame
    _known_cells: dict[tuple, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    def estimate(self, weights: np.ndarray) -> Estimate:
        """Return the linear combination weights @ coefficients with its 95 % interval and p value.

        weights: (terms,).
        """
        value = float(weights @ self.coefficients)
        error = float(np.sqrt(weights @ self.covariance @ weights))
        reach = float(stats.t.ppf(0.975, self.df)) * error
        p_value = float(2 * stats.t.sf(abs(value) / error, self.df)) if error > 0 else np.nan
        return Estimate(value, error, value - reach, value + reach, p_value)

    def mean_weights(self, **values: object) -> np.ndarray:
        """Return the weights, (terms,), with which `estimate` gives an adjusted mean on the link's scale.

        values: covariates that are fixed, such as muscle="multifidus", sex="M". Muscles and sides
        that are not fixed are averaged with equal weight, every other covariate over the subjects
        of the model (a number is set to its mean).
        """
        muscles = self.categories.get("muscle")
        if muscles is None:
            return self._cell_weights(values)
        asked = [values.pop("muscle")] if "muscle" in values else muscles
        cell_values = values | {"muscle": muscles[0]}
        key = tuple(sorted(cell_values.items()))
        if key not in self._known_cells:
            self._known_cells[key] = self._cell_weights(cell_values)
        cell = self._known_cells[key]
        places = {muscle: self._terms_of(muscle) for muscle in muscles}
        weights = np.zeros(len(self.terms))
        for muscle in asked:  # each has the same terms, in the same order
            weights[places[muscle]] = cell[places[muscles[0]]] / len(asked)
        return weights

    def _cell_weights(self, values: Mapping[str, object]) -> np.ndarray:
        cells = self._people.assign(**values)
        sides = self.categories.get("side")
        if sides and "side" not in values:
            cells = cells.merge(pd.DataFrame({"side": sides}), how="cross")
        design = np.asarray(patsy.build_design_matrices([self._design], cells)[0])
        return np.average(design, axis=0, weights=cells[WEIGHT])

    def _terms_of(self, muscle: str) -> list[int]:
        own = f"muscle[{muscle}]"
        return [place for place, term in enumerate(self.terms) if term.partition(":")[0] == own]

    @property
    def categories(self) -> dict[str, list]:
        """{factor: its categories} of each categorical factor of the model, such as muscle or sex."""
        factors = self._design.factor_infos.items()
        return {
            f.name(): list(info.categories) for f, info in factors if info.type == "categorical"
        }

    def response(self, value: float) -> float:
        """Return a value of the link's scale on the outcome's: log odds become a fraction, others stay."""
        return float(1 / (1 + np.exp(-value))) if self.link == LOGIT else value


def fit_marginal(
    outcome: str,
    data: pd.DataFrame,
    covariates: Sequence[str],
    link: str = IDENTITY,
    splines: Mapping[str, int] | None = None,
    weights: pd.Series | None = None,
) -> MarginalFit:
    """Fit the marginal model outcome ~ muscle * (covariates + side), with subjects as clusters.

    outcome: column of data. data: one row per scan, muscle and side, without missing values;
    columns subject, muscle, side, outcome and covariates. covariates: columns that are constant
    within a scan. link: IDENTITY or LOGIT. splines: {covariate: degrees of freedom of a natural
    cubic spline} (Wood 2006); others enter as a straight line or as categories. weights: one per
    subject, indexed by it, taken as known; None: all 1. Factors with one value are left out. Errors
    allow for correlated rows of a subject: Mancl and DeRouen 2001 with t intervals if
    `effective_n` is below SMALL_SAMPLE_SUBJECTS (200), otherwise the cluster-robust sandwich.
    Raises NotFitted if there are too few subjects, terms are collinear or nothing is left to
    estimate errors from.
    """
    n_subjects = data["subject"].nunique()
    _check_enough(n_subjects, 1 + len(covariates))
    # Another column may hide patsy's Q.
    needed = ["subject", "muscle", "side", outcome, *covariates]
    data = data[needed].sort_values("subject", kind="stable")
    formula = _formula(outcome, data, covariates, splines or {})
    response, design = patsy.dmatrices(formula, data, NA_action="raise")
    subjects = pd.factorize(data["subject"])[0]
    terms = tuple(design.design_info.column_names)
    of_muscle = sum("side[" not in term for term in terms) // data["muscle"].nunique()
    _check_enough(n_subjects, of_muscle)
    _check(np.asarray(response).ravel(), np.asarray(design))
    if weights is None:
        weights = pd.Series(1.0, index=data["subject"].unique())
    small = effective_n(weights[data["subject"].unique()]) < SMALL_SAMPLE_SUBJECTS
    result = (_fit_few if small else _fit_many)(
        np.asarray(response),
        np.asarray(design),
        subjects,
        link,
        weights[data["subject"]].to_numpy(),
    )
    covariance = np.asarray(result.cov_params())
    if not (np.isfinite(covariance).all() and (np.diag(covariance) > 0).all()):
        raise NotFitted("single subjects determine terms of the model")
    return MarginalFit(
        terms=terms,
        coefficients=np.asarray(result.params),
        covariance=covariance,
        df=float(n_subjects - of_muscle) if small else np.inf,
        link=link,
        covariance_name="Mancl and DeRouen" if small else "cluster-robust sandwich",
        formula=formula,
        n_subjects=n_subjects,
        n_rows=len(data),
        _design=design.design_info,
        _people=_combinations(data, covariates, weights),
    )


def effective_n(weights: pd.Series) -> float:
    """Return the effective number of subjects with these weights: sum^2 / sum of squares (Kish 1965).

    It is the number of equally weighted subjects whose mean has the same variance.
    """
    return float(weights.sum() ** 2 / (weights**2).sum())


def _formula(
    outcome: str, data: pd.DataFrame, covariates: Sequence[str], splines: Mapping[str, int]
) -> str:
    varying = [name for name in (*covariates, "side") if data[name].nunique() > 1]
    smooth = {
        name: f"cr({name}, df={splines[name]}, constraints='center')"
        for name in varying
        if name in splines
    }
    parts = [smooth.get(name, _quoted(name)) for name in varying]
    if data["muscle"].nunique() < 2:
        return f"{outcome} ~ {' + '.join(parts) or '1'}"
    return f"{outcome} ~ 0 + {' + '.join(['muscle', *(f'muscle:{part}' for part in parts)])}"


def _quoted(name: str) -> str:
    """Return a column's name as patsy takes it."""
    plain = name.isidentifier() and not keyword.iskeyword(name)
    return name if plain else f"Q({name!r})"


def _check_enough(subjects: int, coefficients: int) -> None:
    expected = coefficients + SPARE_SUBJECTS
    if subjects < expected:
        raise NotFitted(f"{counted(subjects, 'subject')}, expected at least {expected}")


def _check(response: np.ndarray, design: np.ndarray) -> None:
    coefficients, _, rank, _ = np.linalg.lstsq(design, response, rcond=None)
    if rank < design.shape[1]:
        raise NotFitted("its terms cannot be told apart in these subjects")
    residual = np.sqrt(np.mean((response - design @ coefficients) ** 2))
    if not residual > EXACT_FIT * np.abs(response).max():
        raise NotFitted("no variation is left to estimate errors from")


def _family(link: str) -> sm.families.Family:
    return sm.families.Binomial() if link == LOGIT else sm.families.Gaussian()


class _WeightedIndependence(sm.cov_struct.Independence):
    """Independent working correlation, the variance of a cluster divided by its weight.

    It weights Mancl and DeRouen's leverages, too. GEE's own `weights` fail with `bias_reduced`
    (statsmodels 0.15).
    weights: (clusters,), in the order of the clusters.
    """

    def __init__(self, weights: np.ndarray) -> None:
        super().__init__()
        self.weights = weights

    def covariance_matrix_solve(self, expval, index, stdev, rhs):
        solved = super().covariance_matrix_solve(expval, index, stdev, rhs)
        return [self.weights[index] * one for one in solved]


def _fit_few(
    response: np.ndarray, design: np.ndarray, subjects: np.ndarray, link: str, weights: np.ndarray
):
    of_clusters = weights[np.unique(subjects, return_index=True)[1]]
    structure = _WeightedIndependence(of_clusters)
    model = sm.GEE(response.ravel(), design, subjects, family=_family(link), cov_struct=structure)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of iterations: convergence is checked below
        try:
            result = model.fit(cov_type="bias_reduced")
        except np.linalg.LinAlgError:
            raise NotFitted("single subjects determine terms of the model") from None
    if not result.converged:
        raise NotFitted("the estimating equations did not converge")
    return result


def _fit_many(
    response: np.ndarray, design: np.ndarray, subjects: np.ndarray, link: str, weights: np.ndarray
):
    """Fit the same equations without a loop over subjects; errors by the sandwich of the clusters."""
    model = sm.GLM(response.ravel(), design, family=_family(link), var_weights=weights)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SpecificationWarning)  # a test compares it with the formula
        return model.fit(cov_type="cluster", cov_kwds={"groups": subjects, "use_correction": False})


def _combinations(
    data: pd.DataFrame, covariates: Sequence[str], weights: pd.Series
) -> pd.DataFrame:
    """Return the combinations of the subjects' categories, the sum of weights of each, and mean numbers.

    The linear predictor is additive in the covariates, so means of numbers suffice, except for
    splines: a mean over the subjects is then taken at the mean of the covariate.
    """
    people = data.drop_duplicates("subject")
    of_people = weights[people["subject"]].to_numpy()
    people = people[list(covariates)].assign(**{WEIGHT: of_people})
    numbers = [name for name in covariates if pd.api.types.is_numeric_dtype(people[name])]
    categories = [name for name in covariates if name not in numbers]
    if not categories:
        sums = pd.DataFrame({WEIGHT: [of_people.sum()]})
    else:
        sums = people.groupby(categories, observed=True)[WEIGHT].sum().reset_index()
    return sums.assign(**{name: np.average(people[name], weights=of_people) for name in numbers})
