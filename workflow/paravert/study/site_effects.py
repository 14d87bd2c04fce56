"""How the outcomes differ between sites and scanners, before and after adjustment."""

import numpy as np
import pandas as pd

from paravert.study.inference import (
    ADJUSTED,
    OUTCOMES,
    FittedModel,
    ModelOutcome,
    StudyModel,
    fit_model,
)
from paravert.study.marginal_model import LOGIT

FACTORS = ("site", "manufacturer", "field_strength")
EFFECT_COLUMNS = (
    "factor", "category", "reference", "outcome", "model", "muscle", "estimate", "unit", "low_95", "high_95",
    "n_subjects", "note",
)  # fmt: skip


def site_effects(data: pd.DataFrame, adjusted: dict[str, FittedModel]) -> pd.DataFrame:
    """Return each category's difference from the largest one, per factor, outcome and muscle.

    data: as for the models. adjusted: the adjusted model of each outcome, by column. Areas and volumes:
    difference; fat fraction: odds ratio. model: "alone" (the factor is the only covariate) or "adjusted".
    Factors that do not vary, or that the adjusted model left out, have no rows there.
    """
    rows = []
    for factor in FACTORS:
        if data[factor].nunique() < 2:
            continue
        for outcome in OUTCOMES:
            alone = fit_model(StudyModel("alone", (factor,)), outcome, data)
            rows += _differences(factor, outcome, "alone", alone)
            rows += _differences(factor, outcome, ADJUSTED.name, adjusted[outcome.column])
    return pd.DataFrame(rows, columns=list(EFFECT_COLUMNS))


def _differences(factor: str, outcome: ModelOutcome, model: str, fitted: FittedModel) -> list[dict]:
    if fitted.fit is None or factor not in fitted.fit.formula:
        return []
    sizes = fitted.data.drop_duplicates(["subject", factor])[factor].value_counts()
    reference, *others = sizes.index
    ratio = outcome.link == LOGIT
    shown = np.exp if ratio else float
    rows = []
    for muscle in fitted.data["muscle"].cat.categories:
        base = fitted.fit.mean_weights(**{"muscle": muscle, factor: reference})
        for category in others:
            weights = fitted.fit.mean_weights(**{"muscle": muscle, factor: category}) - base
            found = fitted.fit.estimate(weights)
            rows.append(
                {
                    "factor": factor,
                    "category": category,
                    "reference": reference,
                    "outcome": outcome.column,
                    "model": model,
                    "muscle": muscle,
                    "estimate": float(shown(found.value)),
                    "unit": "odds ratio" if ratio else outcome.unit,
                    "low_95": float(shown(found.low_95)),
                    "high_95": float(shown(found.high_95)),
                    "n_subjects": int(sizes[category]),
                    "note": fitted.note,
                }
            )
    return rows
