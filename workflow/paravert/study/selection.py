"""Selection: analysed against other subjects, and contrasts weighted for missing subjects."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import statsmodels.api as sm

from paravert import codebook, records
from paravert.sheet import YEARS
from paravert.study.covariates import OTHER, rare_categories
from paravert.study.inference import FAMILIES, FittedModel, fit_model
from paravert.study.marginal_model import effective_n
from paravert.study.scans import first_scans
from paravert.study.summary import counted
from paravert.tables import LABELS_DIGEST, NUMBER, OUTCOME

MOST_CATEGORIES = 20  # a text column with more different values is an identifier, not a group
OWN_COLUMNS = {
    "subject",
    "visit",
    *(column.name for column in (*OUTCOME, LABELS_DIGEST, *codebook.QUALITY_COLUMNS)),
}
SELECTION_COLUMNS = (
    "variable", "category", "unit", "n_analysed", "missing_analysed", "count_analysed", "analysed", "sd_analysed",
    "n_not_analysed", "missing_not_analysed", "count_not_analysed", "not_analysed", "sd_not_analysed",
    "standardised_difference", "n_subjects",
)  # fmt: skip
WEIGHTED_COLUMNS = (
    "family", "outcome", "model", "muscle", "label", "unit", "complete_cases", "complete_cases_low_95",
    "complete_cases_high_95", "weighted", "weighted_low_95", "weighted_high_95",
    "difference_in_standard_errors", "df", "n_subjects", "n_sex", "n_rows", "n_missing", "effective_n", "weight_lowest",
    "weight_highest", "predictors", "left_out", "estimator", "link", "covariance", "note",
)  # fmt: skip
ALWAYS_KNOWN = ("sex", "age_years")  # covariates that every model needs
NO_PREDICTORS = {*OWN_COLUMNS, YEARS, codebook.BMI.name}  # BMI follows from height and weight
LEAST_MISSING = 10  # subjects in the model, and subjects missing from it
SUBJECTS_PER_COEFFICIENT = 5  # of the smaller of both groups
# Weights beyond these percentiles are set to them (Cole and Hernan 2008). Percentiles 1 and 99 left a
# bias of a quarter of an SD at 400 subjects (docs/statistics.md).
TRUNCATED_PERCENT = (0.1, 99.9)
UNITS = {column.name: column.unit for column in codebook.LEDGER.columns if column.type == NUMBER}


def one_row_per_subject(ledger: pd.DataFrame) -> pd.DataFrame:
    """Return one row of the ledger per subject: its first analysed scan, or its first scan if none was.

    ledger: the cohort table with one row per scan of the sheet. First: see `scans.first_scans`, by
    years_since_first, otherwise by the visit's name. Without visits the ledger itself is returned;
    otherwise the analysed subjects come first.
    """
    if "visit" not in ledger:
        return ledger
    analysed = first_scans(ledger[ledger["status"] == records.ANALYSED])
    others = first_scans(ledger[~ledger["subject"].isin(analysed["subject"])])
    return pd.concat([analysed, others], ignore_index=True)


def selection(ledger: pd.DataFrame) -> pd.DataFrame:
    """Return the covariates of analysed and not analysed subjects side by side, with SELECTION_COLUMNS.

    ledger: from `one_row_per_subject`; all its columns but OWN_COLUMNS are covariates. A numeric
    covariate has one row: analysed and not_analysed are the means of both groups, sd_... their SD
    (n - 1). A category has a row per value: analysed and not_analysed are its share (0-1) of the known
    values of each group; a text with more than MOST_CATEGORIES (20) values is left out. missing_...:
    number of subjects without a value; n_...: with one; count_...: with the value of this row, of a
    number with any. standardised_difference: analysed minus not analysed over the pooled SD (Austin
    2009). Each reason of quarantine or exclusion has a row (variable "reason") with its number and its
    share of the subjects not analysed; with several sites also per site ("reason, site A"), of its own
    subjects. n_subjects: n_analysed + n_not_analysed. What does not apply is null.
    """
    inside = ledger["status"] == records.ANALYSED
    groups = ledger[inside], ledger[~inside]
    rows = []
    for name in ledger.columns.difference(OWN_COLUMNS, sort=False):
        values = [group[name] for group in groups]
        if _is_number(ledger[name]):
            rows.append(_number(name, *values))
        elif 0 < ledger[name].nunique() <= MOST_CATEGORIES:
            rows += _categories(name, *values)
    rows += _reasons("reason", groups[1])
    if "site" in ledger and ledger["site"].nunique() > 1:
        for site, own in groups[1].groupby("site"):
            rows += _reasons(f"reason, site {site}", own)
    table = pd.DataFrame(rows, columns=list(SELECTION_COLUMNS))
    table["n_subjects"] = table[["n_analysed", "n_not_analysed"]].sum(axis=1).astype(int)
    return table


def _reasons(variable: str, others: pd.DataFrame) -> list[dict]:
    """Return a row per reason; others: subjects that were not analysed."""
    return [
        {"variable": variable, "category": reason, "unit": "1", "count_not_analysed": count}
        | {"n_not_analysed": len(others), "not_analysed": count / len(others)}
        for reason, count in others["reason"].value_counts().items()
    ]


def _number(name: str, analysed: pd.Series, others: pd.Series) -> dict:
    groups = [values.astype(float) for values in (analysed, others)]
    means, deviations = ([float(getattr(v, part)()) for v in groups] for part in ("mean", "std"))
    pooled = np.sqrt(np.mean(np.square(deviations)))
    row = {"variable": name, "unit": UNITS.get(name, "")} | _counts(*groups)
    row |= {f"count_{group}": row[f"n_{group}"] for group in ("analysed", "not_analysed")}
    row |= {"analysed": means[0], "sd_analysed": deviations[0]}
    row |= {"not_analysed": means[1], "sd_not_analysed": deviations[1]}
    return row | {
        "standardised_difference": (means[0] - means[1]) / pooled if pooled > 0 else np.nan
    }


def _categories(name: str, analysed: pd.Series, others: pd.Series) -> list[dict]:
    groups = [values.dropna().astype(str) for values in (analysed, others)]
    common = {"variable": name, "unit": "1"} | _counts(analysed, others)
    rows = []
    for category in sorted(set().union(*map(set, groups))):
        shares = [
            float((values == category).mean()) if len(values) else np.nan for values in groups
        ]
        pooled = np.sqrt(np.mean([share * (1 - share) for share in shares]))
        difference = (shares[0] - shares[1]) / pooled if pooled > 0 else np.nan
        row = common | {"category": category, "analysed": shares[0], "not_analysed": shares[1]}
        row |= {"count_analysed": int((groups[0] == category).sum())}
        row |= {"count_not_analysed": int((groups[1] == category).sum())}
        rows.append(row | {"standardised_difference": difference})
    return rows


def _counts(analysed: pd.Series, others: pd.Series) -> dict[str, int]:
    return {
        "n_analysed": int(analysed.notna().sum()),
        "missing_analysed": int(analysed.isna().sum()),
        "n_not_analysed": int(others.notna().sum()),
        "missing_not_analysed": int(others.isna().sum()),
    }


# --- complete cases against inverse-probability weights ------------------------------------------


class NotWeighted(Exception):
    """Raised if no weights can be computed for missing subjects; the message says why."""


@dataclass(frozen=True)
class InclusionWeights:
    """Weights of the subjects in a model that correct for those missing from it (inverse probability).

    weights: indexed by subject, mean 1. n_missing: number of subjects not in the model that are in
    the logistic regression which gives the weights. predictors: names of its covariates. left_out:
    texts on subjects and covariates that are not in it.
    """

    weights: pd.Series
    n_missing: int
    predictors: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def effective_n(self) -> float:
        """The effective number of subjects: sum^2 / sum of squares of the weights (Kish 1965); a property."""
        return effective_n(self.weights)


def weighted_contrasts(
    ledger: pd.DataFrame, data: pd.DataFrame, fits: Sequence[FittedModel]
) -> pd.DataFrame:
    """Return the planned comparisons from complete cases and with weights for missing subjects.

    ledger: the cohort table, all scans of the sheet. data: table of muscles with covariates, from
    `models.model_data`, one row per scan, muscle and side. fits: the model of each outcome, from
    `inference.fit_model`, without weights: its subjects are the complete cases. Columns:
    WEIGHTED_COLUMNS; complete_cases and weighted are the two estimates with 95 % intervals;
    difference_in_standard_errors is weighted - complete cases over the standard error of the latter
    (of logarithms for odds ratios); n_missing, effective_n, predictors and left_out are those of
    `InclusionWeights`. If no weights can be computed, the weighted estimate is NaN, n_missing
    counts all subjects outside the model, and the note says why. Models that were not fitted,
    comparisons that are impossible, and outcomes without a planned comparison (volume) have no
    rows.
    """
    people, rows = one_row_per_subject(ledger), []
    for fitted in fits:
        if fitted.fit is None or not any(fitted.outcome.column in f.outcomes for f in FAMILIES):
            continue
        told, weighted = _weighted_fit(people, data, fitted)
        of_weighted = {row["label"]: row for row in weighted if "label" in row}
        for row in fitted.contrasts():
            if "label" in row:
                rows.append(_side_by_side(row, of_weighted.get(row["label"])) | told)
    return pd.DataFrame(rows, columns=list(WEIGHTED_COLUMNS))


def _weighted_fit(
    people: pd.DataFrame, data: pd.DataFrame, fitted: FittedModel
) -> tuple[dict, list[dict]]:
    """Return what is told of the weights, and the contrasts of the weighted fit."""
    inside = people["subject"].isin(fitted.data["subject"].unique())
    told = {"outcome": fitted.outcome.column, "model": fitted.model.name} | fitted.basis()
    told |= {"n_subjects": int(inside.sum()), "n_missing": int((~inside).sum())}
    try:
        found = inclusion_weights(people, inside.to_numpy())
    except NotWeighted as reason:
        return told | {"note": f"not weighted: {reason}"}, []
    own = data[data["subject"].isin(found.weights.index)]
    again = fit_model(fitted.model, fitted.outcome, own, found.weights)
    told |= {
        "n_missing": found.n_missing,
        "effective_n": found.effective_n,
        "weight_lowest": found.weights.min(),
        "weight_highest": found.weights.max(),
        "predictors": ", ".join(found.predictors),
        "left_out": "; ".join(found.left_out),
    }
    if again.fit is None:
        return told | {"note": f"not fitted: {again.note}"}, []
    return told, again.contrasts()


def _side_by_side(complete: dict, weighted: dict | None) -> dict:
    names = ("family", "muscle", "label", "unit", "df", "n_sex")
    row = {name: complete.get(name) for name in names}
    for name, found in (("complete_cases", complete), ("weighted", weighted or {})):
        row[name] = found.get("estimate", np.nan)
        row |= {f"{name}_{end}": found.get(end, np.nan) for end in ("low_95", "high_95")}
    pair = np.array([row["weighted"], row["complete_cases"]])
    pair = np.log(pair) if complete["unit"].startswith("odds ratio") else pair
    row["difference_in_standard_errors"] = (pair[0] - pair[1]) / complete["standard_error"]
    return row


def told_first(weighted: pd.DataFrame) -> pd.DataFrame:
    """Return weighted contrasts with those that have a weighted estimate first, otherwise in their order.

    weighted: from `weighted_contrasts`; in tables for sharing rows of few women or men are blank.
    """
    return weighted.sort_values("weighted", key=pd.isna, kind="stable")


def inclusion_weights(people: pd.DataFrame, inside: np.ndarray) -> InclusionWeights:
    """Return the stabilised inverse-probability weights of the subjects in a model.

    Weight: share of the subjects that are in the model, over the subject's own probability to be in it,
    truncated at its percentiles 0.1 and 99.9 and scaled to mean 1. people: from `one_row_per_subject`.
    inside: bool (subjects,), which of them are in the model. The probability is that of a logistic
    regression on the covariates (all columns but NO_PREDICTORS) that are known for all (linear, age
    quadratic), in the order of the columns, as many as the smaller group allows
    (SUBJECTS_PER_COEFFICIENT (5) subjects per coefficient). Left out are subjects of unknown sex or
    age, and those of a category of which nobody is in the model. Raises NotWeighted if nobody (else) is
    missing, a group has fewer than LEAST_MISSING (10) subjects, there are no predictors, or these
    separate the groups. Source: Seaman and White 2013; truncation: Cole and Hernan 2008.
    """
    people, left_out = _represented(people, inside)
    inside = people["inside"].to_numpy()
    smaller = min(inside.sum(), (~inside).sum())
    except_for = f" (without {'; '.join(left_out)})" if left_out else ""
    if not (~inside).any():
        who = (
            f"no weight can stand for {'; '.join(left_out)}; nobody else" if left_out else "nobody"
        )
        raise NotWeighted(f"{who} is missing")
    if smaller < LEAST_MISSING:
        known, missing = (counted(int(own.sum()), "subject") for own in (inside, ~inside))
        sizes = f"{known} in the model, {missing} missing"
        raise NotWeighted(f"{sizes}{except_for}, expected at least {LEAST_MISSING} each")
    design, used, unused = np.ones((len(people), 1)), [], []
    for name in _possible_predictors(people):
        spare = int(smaller) // SUBJECTS_PER_COEFFICIENT - (design.shape[1] - 1)
        wider = np.column_stack([design, _predictor(people[name], spare)])
        if wider.shape[1] > design.shape[1] and np.linalg.matrix_rank(wider) == wider.shape[1]:
            design, used = wider, [*used, name]
        else:
            unused.append(name)
    if not used:
        raise NotWeighted("no covariate that varies is known for all subjects")
    if unused:
        left_out.append(f"not predictors: {', '.join(unused)}")
    weights = _stabilised(inside, design)
    of_subjects = pd.Series(weights, index=people.loc[inside, "subject"].to_numpy())
    return InclusionWeights(of_subjects, int((~inside).sum()), tuple(used), tuple(left_out))


def _represented(people: pd.DataFrame, inside: np.ndarray) -> tuple[pd.DataFrame, list[str]]:
    """Return the subjects whom others in the model can stand for, and texts on the others.

    With the column inside; texts and yes/no as categories, the rare ones pooled.
    """
    known = people.assign(inside=inside).dropna(subset=list(ALWAYS_KNOWN))
    left_out = []
    if unknown := len(people) - len(known):
        left_out.append(f"{counted(unknown, 'subject')} of unknown {' or '.join(ALWAYS_KNOWN)}")
    for name in _possible_predictors(known):
        if _is_number(known[name]) or known[name].isna().any():
            continue
        texts = known[name].astype(str)
        known[name] = texts.where(~texts.isin(rare_categories(texts)), OTHER)
        present = known[name].isin(known.loc[known["inside"], name])
        if not present.all():
            absent = ", ".join(sorted(set(known.loc[~present, name])))
            left_out.append(
                f"{counted(int((~present).sum()), 'subject')} of {name} {absent}, none in the model"
            )
        known = known[present]
    return known, left_out


def _possible_predictors(people: pd.DataFrame) -> list[str]:
    return [name for name in people if name.lower() not in NO_PREDICTORS and name != "inside"]


def _predictor(values: pd.Series, most: int) -> np.ndarray:
    """Return the columns of a covariate, (subjects, columns).

    No column if it is unknown for some subjects, does not vary or would need more than `most`.
    """
    quadratic = values.name == "age_years"
    needed = 1 + quadratic if _is_number(values) else values.nunique() - 1
    if values.isna().any() or values.nunique() < 2 or needed > most:
        return np.empty((len(values), 0))
    if not _is_number(values):
        return pd.get_dummies(values, drop_first=True).to_numpy(dtype=float)
    scaled = ((values - values.mean()) / values.std()).to_numpy(dtype=float)[:, None]
    return np.column_stack([scaled, scaled**2]) if quadratic else scaled


def _is_number(values: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)


def _stabilised(inside: np.ndarray, design: np.ndarray) -> np.ndarray:
    """Return the weights of the subjects in the model, truncated, mean 1."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of separation: it is checked here
        found = sm.GLM(inside.astype(float), design, family=sm.families.Binomial()).fit()
    probability = np.asarray(found.fittedvalues)
    if probability[inside].min() > probability[~inside].max():
        raise NotWeighted("the covariates separate the subjects in the model from those missing")
    weights = inside.mean() / probability[inside]
    weights = np.clip(weights, *np.percentile(weights, TRUNCATED_PERCENT))
    return weights / weights.mean()
