"""Marginal models of an outcome per muscle and side: generalised estimating equations (GEE).

The rows of a subject are correlated, and the outcome's variance differs between muscles. A marginal
model with independent working correlation and errors that are robust within subjects (the cluster)
needs no model of either. Every covariate has a coefficient per muscle, so the estimates are those of
one regression per muscle, which statsmodels fits; their joint covariance, over the subjects, allows
contrasts between muscles.

Source: Liang and Zeger 1986; covariance: Mancl and DeRouen 2001; logit link for fractions: Papke and
Wooldridge 1996.
"""

import ast
import keyword
import re
import unicodedata
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import patsy
import statsmodels.api as sm
from scipy import stats

from paravert.study.summary import counted

IDENTITY, LOGIT = "identity", "logit"
ESTIMATOR = "GEE, independent working correlation"
COVARIANCE = "Mancl and DeRouen"
SPARE_SUBJECTS = 2  # subjects beyond the coefficients of one muscle
LEAST_SUBJECTS = 5  # of a muscle: tables for sharing have no numbers of fewer
WITHIN = ("side", "level")  # factors that differ between the rows of a scan
WITHIN_TERMS = tuple(f"{name}[" for name in WITHIN)
# A column's name that patsy cannot read bare.
QUOTED = re.compile(r"""Q\(('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")\)""")
WEIGHT = "sum of weights"  # of the subjects of a combination of covariates
EXACT_FIT = 1e-10  # residual over outcome: below it only rounding is left
LEAST_REST = 1e-12  # determinant of I - leverage: below it a subject determines a term alone
CHUNK_NUMBERS = 4_000_000  # numbers in memory at once where leverages are computed
TIGHT = 1e-9  # change of the coefficients (log odds) at which the estimating equations are solved


class NotFitted(Exception):
    """Raised if a regression model cannot be fitted; the message is the reason, for its note in the tables.

    muscle: whose regression it is; "" if it is that of all.
    """

    muscle = ""


@dataclass(frozen=True)
class Estimate:
    """An estimate from a regression with its uncertainty, such as a difference of means.

    value, standard_error: on the scale of the link (identity: unit of the outcome; logit: log
    odds). low_95, high_95: 95 % confidence interval on that scale. p_value: two-sided, of the
    hypothesis that value is 0; NaN if standard_error is 0. df: degrees of freedom of both.
    """

    value: float
    standard_error: float
    low_95: float
    high_95: float
    p_value: float
    df: float


@dataclass(frozen=True)
class MarginalFit:
    """A marginal regression model (GEE) fitted to data with several rows per subject.

    terms: names of the coefficients, by patsy. coefficients: (terms,), on the link's scale. covariance:
    of the coefficients, (terms, terms), by Mancl and DeRouen. df: degrees of freedom of t intervals,
    {muscle: its subjects minus the coefficients of a muscle that compare subjects (not side and
    level)}. link: "identity" (its scale is the outcome's) or "logit" (log odds). formula: of the model, by
    patsy. n_subjects, n_rows: number of subjects and rows that the model was fitted to. categories:
    {factor: its categories, the reference first} of each factor that has several, such as muscle or sex.
    within: {muscle: its combinations of side (and level), one row each}. _designs: patsy's description
    of each muscle's design. _people: from `_combinations`. _known_means: cache of `mean_weights`.
    """

    terms: tuple[str, ...]
    coefficients: np.ndarray
    covariance: np.ndarray
    df: dict[str, float]
    link: str
    formula: str
    n_subjects: int
    n_rows: int
    categories: dict[str, list]
    within: dict[str, pd.DataFrame]
    _designs: dict[str, patsy.DesignInfo]
    _people: pd.DataFrame
    _known_means: dict[tuple, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    def estimate(self, weights: np.ndarray) -> Estimate:
        """Return the linear combination weights @ coefficients with its 95 % interval and p value.

        weights: (terms,), one per entry of `terms`, such as from `mean_weights`. Of several muscles, the
        one with the fewest subjects gives the degrees of freedom.
        """
        value = float(weights @ self.coefficients)
        error = float(np.sqrt(weights @ self.covariance @ weights))
        of_muscles = [len(design.column_names) for design in self._designs.values()]
        used = np.repeat(list(self.df.values()), of_muscles)[weights != 0]
        df = float(used.min()) if used.size else min(self.df.values())
        reach = float(stats.t.ppf(0.975, df)) * error
        p_value = float(2 * stats.t.sf(abs(value) / error, df)) if error > 0 else np.nan
        return Estimate(value, error, value - reach, value + reach, p_value, df)

    def mean_weights(self, **values: object) -> np.ndarray:
        """Return the weights, (terms,), with which `estimate` gives an adjusted mean on the link's scale.

        values: covariates that are fixed, as in the data of the fit (numbers centred), such as
        muscle="multifidus", sex="M". Muscles, and the sides and levels of each, that are not fixed are
        averaged with equal weight, every other covariate over the subjects of the model: categories by
        their shares, numbers at their mean (of a spline, that is not the mean over its values). A
        muscle that is not in the model gives zeros.
        """
        asked = [values.pop("muscle")] if "muscle" in values else list(self._designs)
        weights, start = np.zeros(len(self.terms)), 0
        for muscle, design in self._designs.items():
            stop = start + len(design.column_names)
            if muscle in asked:
                weights[start:stop] = self._mean_of(muscle, values) / len(asked)
            start = stop
        return weights

    def _mean_of(self, muscle: str, values: Mapping[str, object]) -> np.ndarray:
        design = self._designs[muscle]
        key = (id(design), *sorted(values.items()))  # muscles may have one design
        if key not in self._known_means:
            free = self.within[muscle].columns.difference(list(values))
            cells = self._people.merge(self.within[muscle][free].drop_duplicates(), how="cross")
            (matrix,) = patsy.build_design_matrices([design], cells.assign(**values))
            weights = cells[WEIGHT].to_numpy()
            self._known_means[key] = np.average(np.asarray(matrix), axis=0, weights=weights)
        return self._known_means[key]

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
    by_level: bool = False,
) -> MarginalFit:
    """Fit the marginal model outcome ~ muscle * (covariates + side), with subjects as clusters.

    outcome: column of data. data: one row per scan, muscle and side (and level), without missing
    values; columns subject, muscle, side, outcome and covariates. covariates: columns that are constant
    within a scan. link: IDENTITY ("identity") or LOGIT ("logit", for fractions). splines: {covariate:
    degrees of freedom of a natural cubic spline} (Wood 2006); others enter as a straight line or as
    categories. weights: one per subject, indexed by it, which the errors treat as known; None: all 1.
    by_level: whether the column level of data enters, with coefficients of its own for each muscle, and
    for each sex if "sex" is among the covariates. Covariates and factors with one value are left out.
    Errors allow for correlated rows of a subject: Mancl and DeRouen 2001, with t intervals. Raises
    NotFitted if there are fewer subjects than the coefficients of a muscle and SPARE_SUBJECTS (2), or
    than LEAST_SUBJECTS (5); or, with the first such muscle in its attribute muscle, if one muscle has
    too few subjects, its terms are collinear or determined by single subjects, nothing is left to
    estimate errors from, or its fit does not converge.
    """
    n_subjects = data["subject"].nunique()
    _check_enough(n_subjects, 1 + len(covariates))
    inner = WITHIN if by_level else WITHIN[:1]
    # Another column may hide patsy's Q.
    needed = ["subject", "muscle", *inner, outcome, *covariates]
    data = data[needed].sort_values("subject", kind="stable")
    if weights is None:
        weights = pd.Series(1.0, index=data["subject"].unique())
    parts = _parts(data, covariates, inner, splines or {})
    by_muscle = dict(iter(data.groupby("muscle", observed=True)))
    designs = _designs(parts, data, by_muscle, by_level)
    of_muscle = max(sum(map(_is_between, info.column_names)) for info, _ in designs.values())
    _check_enough(n_subjects, of_muscle)
    names, fits, influences, df = pd.Index(data["subject"].unique()), [], [], {}
    for muscle, rows in by_muscle.items():
        values, (_, matrix) = rows[outcome].to_numpy(dtype=float), designs[muscle]
        df[muscle] = float(rows["subject"].nunique() - of_muscle)
        try:
            _check_enough(rows["subject"].nunique(), of_muscle)
            fits.append(_fit_part(values, matrix, rows, link, weights))
            influences.append(fits[-1].influence(names))
        except NotFitted as reason:
            reason.muscle = muscle
            raise
    described = {muscle: info for muscle, (info, _) in designs.items()}
    influence = np.concatenate(influences, axis=1)
    return MarginalFit(
        terms=tuple(_terms(described)),
        coefficients=np.concatenate([fit.coefficients for fit in fits]),
        covariance=influence.T @ influence,
        df=df,
        link=link,
        formula=_formula(outcome, len(fits), parts),
        n_subjects=n_subjects,
        n_rows=len(data),
        categories=_categories(data, ["muscle", *inner, *covariates]),
        within={m: rows[list(inner)].drop_duplicates() for m, rows in by_muscle.items()},
        _designs=described,
        _people=_combinations(data, covariates, weights),
    )


def name_and_rest(term: str) -> tuple[str, str]:
    """Return the column's name in a coefficient's name by patsy, and what follows, such as "[T.yes]".

    term: without the muscle, such as "site[T.B]" or "Q('smokes now')[T.yes]". What follows is "" in the
    name of a number, such as "age_decades".
    """
    if quoted := QUOTED.match(term):
        return ast.literal_eval(quoted[1]), term[quoted.end() :]
    name, bracket, rest = term.partition("[")
    return name, bracket + rest


def effective_n(weights: pd.Series) -> float:
    """Return the effective number of subjects with these weights: sum^2 / sum of squares (Kish 1965).

    It is the number of equally weighted subjects whose mean has the same variance.
    """
    return float(weights.sum() ** 2 / (weights**2).sum())


# --- the regression of one muscle ----------------------------------------------------------------


@dataclass(frozen=True)
class _Part:
    """The regression of one muscle.

    coefficients: (terms,). rows: (rows, terms), the design matrix. score, slope: (rows,), weight x
    residual, and weight x derivative of the mean by the linear predictor. subjects: (rows,), equal
    names stand together.
    """

    coefficients: np.ndarray
    rows: np.ndarray
    score: np.ndarray
    slope: np.ndarray
    subjects: np.ndarray

    def influence(self, names: pd.Index) -> np.ndarray:
        """Return what each subject adds to the errors of the coefficients, (names, terms).

        names: of all subjects. The sum of the outer products is the covariance of Mancl and DeRouen
        2001, whose residuals are divided by 1 - leverage of the subject. With X the rows of a
        subject, V their slopes and B the sum of X'VX over the subjects, that is
        B^-1 (I - X'VX B^-1)^-1 X' score. Raises NotFitted if a subject has leverage 1, the
        errors are not finite or 0, or B cannot be inverted.
        """
        try:
            bread = np.linalg.inv(self.rows.T @ (self.rows * self.slope[:, None]))
        except np.linalg.LinAlgError:  # fractions of a group next to 0 or 1
            raise NotFitted("the estimating equations did not converge") from None
        found = np.zeros((len(names), len(self.coefficients)))
        for first, last, starts in self._chunks():
            own, slope = self.rows[first:last], self.slope[first:last, None]
            score = np.add.reduceat(own * self.score[first:last, None], starts)
            squares = np.add.reduceat(own[:, :, None] * (own * slope)[:, None, :], starts)
            rest = np.eye(own.shape[1]) - squares @ bread
            if (np.abs(np.linalg.det(rest)) < LEAST_REST).any():
                raise NotFitted("single subjects determine terms of the model")
            places = names.get_indexer(self.subjects[first + starts])
            found[places] = np.linalg.solve(rest, score[:, :, None])[:, :, 0] @ bread
        variance = (found**2).sum(axis=0)
        if not (np.isfinite(variance) & (variance > 0)).all():
            raise NotFitted("single subjects determine terms of the model")
        return found

    def _chunks(self) -> Iterator[tuple[int, int, np.ndarray]]:
        """Yield rows of whole subjects: (first, last, where each subject starts behind the first)."""
        starts = np.flatnonzero(np.append(True, self.subjects[1:] != self.subjects[:-1]))
        ends = np.append(starts[1:], len(self.subjects))
        most = max(1, CHUNK_NUMBERS // self.rows.shape[1] ** 2)
        place = 0
        while place < len(starts):
            first = starts[place]
            stop = max(place + 1, int(np.searchsorted(ends, first + most, side="right")))
            yield first, ends[stop - 1], starts[place:stop] - first
            place = stop


def _fit_part(
    values: np.ndarray, matrix: np.ndarray, rows: pd.DataFrame, link: str, weights: pd.Series
) -> _Part:
    """Fit one muscle. values: (rows,), the outcome. matrix: (rows, terms), the design."""
    _check(values, matrix)
    weight = weights[rows["subject"]].to_numpy()
    if link == LOGIT:
        model = sm.GLM(values, matrix, family=sm.families.Binomial(), var_weights=weight)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of iterations: convergence is checked below
            fit = model.fit(tol=TIGHT, tol_criterion="params")
        if not fit.converged:
            raise NotFitted("the estimating equations did not converge")
    else:
        fit = sm.WLS(values, matrix, weights=weight).fit()
    mean = np.asarray(fit.fittedvalues)
    return _Part(
        coefficients=np.asarray(fit.params),
        rows=matrix,
        score=weight * (values - mean),
        slope=weight * (mean * (1 - mean) if link == LOGIT else 1.0),
        subjects=rows["subject"].to_numpy(),
    )


# --- the design ----------------------------------------------------------------------------------


def _parts(
    data: pd.DataFrame, covariates: Sequence[str], inner: Sequence[str], splines: Mapping[str, int]
) -> list[str]:
    """Return the terms of each muscle's regression by patsy, without the intercept."""
    varying = [name for name in (*covariates, *inner) if data[name].nunique() > 1]
    smooth = {
        name: f"cr({name}, df={splines[name]}, constraints='center')"
        for name in varying
        if name in splines
    }
    parts = [smooth.get(name, _quoted(name)) for name in varying]
    by_level = "level" in inner and {"sex", "level"} <= set(varying)
    return [*parts, "sex:level"] if by_level else parts


def _designs(
    parts: Sequence[str], data: pd.DataFrame, by_muscle: Mapping[str, pd.DataFrame], by_level: bool
) -> dict[str, tuple[patsy.DesignInfo, np.ndarray]]:
    """Return patsy's description and the design matrix of each muscle.

    All have the same description, except by level: a muscle has only the levels where it is.
    """
    if by_level:
        matrices = {
            muscle: patsy.dmatrix(_right_side(parts, rows), rows, NA_action="raise")
            for muscle, rows in by_muscle.items()
        }
        return {muscle: (one.design_info, np.asarray(one)) for muscle, one in matrices.items()}
    whole = patsy.dmatrix(_right_side(parts, data), data, NA_action="raise")
    info, matrix = whole.design_info, np.asarray(whole)
    places = data.groupby("muscle", observed=True).indices
    return {muscle: (info, matrix[places[muscle]]) for muscle in by_muscle}


def _right_side(parts: Sequence[str], rows: pd.DataFrame) -> str:
    """Return the right side of a muscle's formula: without level if the muscle has one only."""
    single = "level" in rows and rows["level"].nunique() < 2
    own = [part for part in parts if not (single and part in ("level", "sex:level"))]
    return " + ".join(own) or "1"


def _formula(outcome: str, muscles: int, parts: Sequence[str]) -> str:
    """Return the formula of the whole model; muscles: their number."""
    if muscles < 2:
        return f"{outcome} ~ {' + '.join(parts) or '1'}"
    return f"{outcome} ~ 0 + {' + '.join(['muscle', *(f'muscle:{part}' for part in parts)])}"


def _terms(designs: Mapping[str, patsy.DesignInfo]) -> Iterator[str]:
    """Yield the names of the coefficients, with the muscle in front if there are several."""
    for muscle, design in designs.items():
        for name in design.column_names:
            own = "" if name == "Intercept" else f":{name}"
            yield name if len(designs) < 2 else f"muscle[{muscle}]{own}"


def _is_between(term: str) -> bool:
    """Return whether a term compares subjects, and not sides or levels of a subject."""
    return not any(part.startswith(WITHIN_TERMS) for part in term.split(":"))


def _quoted(name: str) -> str:
    """Return a column's name as patsy takes it.

    Python reads identifiers in their compatibility form (NFKC): a bare micro sign becomes a mu.
    """
    plain = name.isidentifier() and not keyword.iskeyword(name)
    bare = plain and unicodedata.is_normalized("NFKC", name)
    return name if bare else f"Q({name!r})"


def _categories(data: pd.DataFrame, names: Sequence[str]) -> dict[str, list]:
    """Return the categories of the factors among some columns."""
    found = {}
    for name in names:
        values = data[name]
        if isinstance(values.dtype, pd.CategoricalDtype):
            found[name] = list(values.cat.categories)
        elif not pd.api.types.is_numeric_dtype(values):
            found[name] = sorted(values.unique())
    return {name: values for name, values in found.items() if len(values) > 1}


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


# --- checks --------------------------------------------------------------------------------------


def _check_enough(subjects: int, coefficients: int) -> None:
    expected = max(coefficients + SPARE_SUBJECTS, LEAST_SUBJECTS)
    if subjects < expected:
        raise NotFitted(f"{counted(subjects, 'subject')}, expected at least {expected}")


def _check(response: np.ndarray, design: np.ndarray) -> None:
    coefficients, _, rank, _ = np.linalg.lstsq(design, response, rcond=None)
    if rank < design.shape[1]:
        raise NotFitted("its terms cannot be told apart in these subjects")
    residual = np.sqrt(np.mean((response - design @ coefficients) ** 2))
    if not residual > EXACT_FIT * np.abs(response).max():
        raise NotFitted("no variation is left to estimate errors from")
