"""Models of the study: how sex, age, muscle and side go with area and fat fraction."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer

from paravert import codebook
from paravert.anatomy import MUSCLES
from paravert.study.frames import read_frame, write_csv
from paravert.study.mixed import Fit, NotFitted, fit_mixed, interval_and_p
from paravert.study.terms import SCALES, term_label, term_unit

log = logging.getLogger(__name__)

OUTCOMES = {"csa_mean_mm2": "mm2", "fat_fraction": "1"}
PAPER_COVARIATES = ("sex", "age_decades")  # these may differ from muscle to muscle
BODY_SIZE = ("height_10cm", "weight_10kg")  # these act on all muscles alike
CATEGORIES = ("sex", "muscle", "side")
COLUMN_OF = {"sex": "sex"} | {name: column for name, (column, _, _) in SCALES.items()}
SPARE_SUBJECTS = 2  # beyond the terms between subjects; with fewer the errors say nothing
COLUMNS = (
    "outcome", "model", "term", "kind", "label", "estimate", "unit", "standard_error", "low_95",
    "high_95", "df", "p_value", "n_subjects", "n_rows", "formula", "note",
)  # fmt: skip


@dataclass(frozen=True)
class Model:
    """A model to be fitted: its name, its outcome, the muscles it runs over, what it adjusts for.

    covariates: of the subject; sex or keys of SCALES.
    """

    name: str
    outcome: str
    muscles: tuple[str, ...] = MUSCLES
    covariates: tuple[str, ...] = PAPER_COVARIATES

    @property
    def factors(self) -> tuple[str, ...]:
        """Everything the formula would hold if all of it varied."""
        return (*self.covariates, *(("muscle",) if len(self.muscles) > 1 else ()), "side")


def study_models() -> list[Model]:
    """Return the models of the study: per outcome all muscles, adjusted, and each muscle alone.

    Areas of a large muscle scatter more than those of a small one; the model of all muscles has one
    residual variance for both, so the errors within a muscle are those of its own model.
    Fat fractions are taken as they are, not as logits: 0 occurs, and differences of fat fraction
    are what the literature reports.
    """
    models = []
    for outcome in OUTCOMES:
        models += [
            Model("all muscles", outcome),
            Model("all muscles, adjusted", outcome, covariates=(*PAPER_COVARIATES, *BODY_SIZE)),
            *(Model(muscle.replace("_", " "), outcome, (muscle,)) for muscle in MUSCLES),
        ]
    return models


def fit_models(
    cohort: Annotated[Path, typer.Option(help="Folder of the cohort tables.")],
    out: Annotated[Path, typer.Option(help="CSV file for the terms of all models.")],
) -> None:
    """Fit the models of area and fat fraction: sex, age, muscle, side, and subject as random."""
    muscles = read_frame(cohort, codebook.MUSCLE_TABLE)
    rows = []
    for model in study_models():
        of_model = model_rows(model, muscles)
        log.info("fit_models: %s, %s: %s", model.outcome, model.name, of_model[0]["note"] or "done")
        rows += of_model
    write_csv(out, pd.DataFrame(rows, columns=list(COLUMNS)))


def model_rows(model: Model, muscles: pd.DataFrame) -> list[dict]:
    """Return the terms of a model, or one row whose note says why it was not fitted.

    muscles: the cohort's table. Rows without outcome and subjects without a covariate are left out,
    the latter counted in the note; a covariate that does not vary gets a row and a note of its own.
    kind: fixed (term of the formula), mean (sex or age, averaged over the muscles), spread (SD
    between and within subjects). Intervals and p values are those of Student's t.
    """
    rows = muscles[muscles["muscle"].isin(model.muscles)].dropna(subset=[model.outcome])
    columns = [COLUMN_OF[name] for name in model.covariates]
    known = rows.dropna(subset=columns)
    subjects = known["subject"].nunique()
    told = {"outcome": model.outcome, "model": model.name}
    told |= {"n_subjects": subjects, "n_rows": len(known)}
    missing = rows["subject"].nunique() - subjects
    notes = [f"{_counted(missing)} left out, {' or '.join(columns)} unknown"] if missing else []
    try:
        terms, formula, remarks = _fitted_terms(model, known)
    except NotFitted as reason:
        return [told | {"note": "; ".join([f"not fitted: {reason}", *notes])}]
    told |= {"formula": formula, "note": "; ".join([*notes, *remarks])}
    return [told | term for term in terms]


def _fitted_terms(model: Model, known: pd.DataFrame) -> tuple[list[dict], str, tuple[str, ...]]:
    subjects, expected = known["subject"].nunique(), 1 + len(model.covariates) + SPARE_SUBJECTS
    if subjects < expected:
        raise NotFitted(f"{_counted(subjects)}, expected at least {expected}")
    data = _prepared(model, known)
    kept = [name for name in model.factors if data[name].nunique() > 1]
    formula = _formula(model.outcome, kept)
    fit = fit_mixed(formula, data)
    levels = {name: list(data[name].cat.categories) for name in CATEGORIES}
    terms = [*_fixed(model, fit, levels), *_means(model, fit, levels), *_spread(model, fit)]
    terms += [_left_out(name, known) for name in model.factors if name not in kept]
    return terms, formula, fit.notes


def _counted(subjects: int) -> str:
    return f"{subjects} subject" if subjects == 1 else f"{subjects} subjects"


def _prepared(model: Model, known: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with numbers centred at the mean of the subjects and scaled."""
    seen = {name: known[name].cat.remove_unused_categories() for name in CATEGORIES}
    data = known.assign(**seen)
    people = known.drop_duplicates("subject")
    for name in model.covariates:
        if name in SCALES:
            column, step, _ = SCALES[name]
            data[name] = (known[column] - people[column].mean()) / step
    return data


def _formula(outcome: str, kept: list[str]) -> str:
    differ = PAPER_COVARIATES if "muscle" in kept else ()
    parts = [f"{name} * muscle" if name in differ else name for name in kept]
    return f"{outcome} ~ {' + '.join(parts) or '1'}"


# --- rows ----------------------------------------------------------------------------------------


def _fixed(model: Model, fit: Fit, levels: dict) -> list[dict]:
    weights = np.eye(len(fit.names))
    return [
        {"term": term, "kind": "fixed", "label": term_label(term, levels)}
        | _estimated(model, fit, term, weights[index])
        for index, term in enumerate(fit.names)
    ]


def _means(model: Model, fit: Fit, levels: dict) -> list[dict]:
    """Return sex and age averaged over the muscles: the term plus the mean of its interactions."""
    rows = []
    for index, term in enumerate(fit.names):
        partners = np.array([other.startswith(f"{term}:muscle[") for other in fit.names])
        if partners.any():
            weights = partners / len(levels["muscle"])
            weights[index] = 1
            label = f"{term_label(term, levels, at_reference=False)}, mean of the muscles"
            rows.append(
                {"term": term, "kind": "mean", "label": label}
                | _estimated(model, fit, term, weights)
            )
    return rows


def _estimated(model: Model, fit: Fit, term: str, weights: np.ndarray) -> dict:
    """Return estimate and errors of a weighted sum of terms; weights: (terms,)."""
    estimate = float(weights @ fit.estimates)
    error = float(np.sqrt(weights @ fit.covariance @ weights))
    df = int(fit.df[fit.names.index(term)])
    low, high, p_value = interval_and_p(estimate, error, df)
    return {
        "estimate": estimate,
        "unit": term_unit(term, OUTCOMES[model.outcome]),
        "standard_error": error,
        "low_95": low,
        "high_95": high,
        "df": df,
        "p_value": p_value,
    }


def _spread(model: Model, fit: Fit) -> list[dict]:
    told = {"kind": "spread", "unit": OUTCOMES[model.outcome]}
    between = {"term": "sd_subjects", "label": "SD between subjects", "estimate": fit.sd_subjects}
    within = {"term": "sd_residual", "label": "SD within subjects", "estimate": fit.sd_residual}
    return [told | between, told | within]


def _left_out(name: str, known: pd.DataFrame) -> dict:
    column = COLUMN_OF.get(name, name)
    note = f"left out of the model: {column} is {known[column].iloc[0]} in all rows"
    return {"term": name, "kind": "fixed", "label": column, "note": note}
