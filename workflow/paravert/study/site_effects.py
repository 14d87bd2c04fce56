"""How the outcomes differ between sites and scanners, before and after adjustment."""

from collections.abc import Sequence

import pandas as pd

from paravert.study.inference import FittedModel, StudyModel, fit_model
from paravert.study.result_tables import NO_FAMILY

FACTORS = ("site", "manufacturer", "field_strength")
EFFECT_COLUMNS = (
    "factor", "category", "reference", "outcome", "model", "muscle", "n_category", "n_reference", "estimate",
    "unit", "low_95", "high_95", "df", "family", "n_subjects", "n_rows", "estimator", "link", "covariance", "note",
)  # fmt: skip


def site_effects(data: pd.DataFrame, adjusted: Sequence[FittedModel]) -> pd.DataFrame:
    """Return how outcomes differ between sites, manufacturers and field strengths.

    data: table of muscles with covariates, from `models.model_data`, one row per scan, muscle and side.
    adjusted: the fitted adjusted model of each outcome (`inference.fit_model`). One row per outcome,
    model, muscle and category other than the reference; columns EFFECT_COLUMNS, among these factor
    (site, manufacturer or field_strength), category, reference (the category with most subjects in the
    model, with which it is compared), outcome, model, muscle (whose difference it is), n_category and
    n_reference (subjects of the category, and of the reference, with this muscle), estimate, unit,
    low_95, high_95, what the model rests on (`FittedModel.basis`), and its note. estimate: category
    minus reference for areas and volumes, odds ratio of the two for fat fractions. model: "alone" (the
    factor is the only covariate besides muscle and side) or "adjusted". Categories of few subjects are
    pooled as "other" (`covariates.with_model_covariates`). Factors with a single category, or that a
    model left out, have no rows; nor have models that were not fitted.
    """
    rows = []
    for factor in FACTORS:
        if data[factor].nunique() < 2:
            continue
        for fitted in adjusted:
            rows += _differences(
                factor, fit_model(StudyModel("alone", (factor,)), fitted.outcome, data)
            )
            rows += _differences(factor, fitted)
    return pd.DataFrame(rows, columns=list(EFFECT_COLUMNS))


def _differences(factor: str, fitted: FittedModel) -> list[dict]:
    if fitted.fit is None or factor not in fitted.fit.categories:
        return []
    reference, *others = fitted.fit.categories[factor]
    rows = []
    for muscle in fitted.data["muscle"].cat.categories:
        base = fitted.fit.mean_weights(**{"muscle": muscle, factor: reference})
        sizes = fitted.category_subjects(muscle, factor)
        for category in others:
            weights = fitted.fit.mean_weights(**{"muscle": muscle, factor: category}) - base
            rows.append(
                fitted.difference(fitted.fit.estimate(weights))
                | fitted.basis()
                | {
                    "factor": factor,
                    "category": category,
                    "reference": reference,
                    "outcome": fitted.outcome.column,
                    "model": fitted.model.name,
                    "muscle": muscle,
                    "n_category": sizes[category],
                    "n_reference": sizes[reference],
                    "family": NO_FAMILY,
                    "note": fitted.note,
                }
            )
    return rows
