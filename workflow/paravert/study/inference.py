"""Models of the study: area and fat fraction by sex, age, muscle and side."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer

from paravert import codebook
from paravert.anatomy import MUSCLES
from paravert.study.data_frames import read_frame, write_csv
from paravert.study.mixed import Fit, NotFitted, fit_mixed, interval_and_p

log = logging.getLogger(__name__)

OUTCOMES = {"csa_mean_mm2": "mm2", "fat_fraction": "1"}
PAPER_COVARIATES = ("sex", "age_decades")  # a coefficient per muscle (interaction)
BODY_SIZE = ("height_10cm", "weight_10kg")  # one coefficient for all muscles
CATEGORIES = ("sex", "muscle", "side")
SEX_WORDS = {"F": "women", "M": "men"}
SCALES = {  # covariate of a model: its column, its unit of change, that unit in words
    "age_decades": ("age_years", 10.0, "decade"),
    "height_10cm": ("height_cm", 10.0, "10 cm"),
    "weight_10kg": ("weight_kg", 10.0, "10 kg"),
}
COLUMN_OF = {"sex": "sex"} | {name: column for name, (column, _, _) in SCALES.items()}
SPARE_SUBJECTS = 2  # at least so many more subjects than terms between subjects
MODEL_COLUMNS = (
    "outcome", "model", "term", "kind", "label", "estimate", "unit", "standard_error", "low_95",
    "high_95", "df", "p_value", "n_subjects", "n_rows", "formula", "note",
)  # fmt: skip


@dataclass(frozen=True)
class StudyModel:
    """A mixed model: name, outcome (column), muscles whose rows it uses, covariates of the subject.

    covariates: sex or keys of SCALES.
    """

    name: str
    outcome: str
    muscles: tuple[str, ...] = MUSCLES
    covariates: tuple[str, ...] = PAPER_COVARIATES

    @property
    def factors(self) -> tuple[str, ...]:
        """All terms of the formula; those that do not vary in the data are left out of the fit."""
        return (*self.covariates, *(("muscle",) if len(self.muscles) > 1 else ()), "side")


def study_models() -> list[StudyModel]:
    """Return the models: per outcome all muscles, all muscles adjusted, and each muscle alone.

    The variance of the area grows with the muscle, but a model of all muscles has one residual
    variance: errors for a single muscle come from its own model. Fat fractions are not transformed
    to logits: 0 occurs, and the literature reports differences of fat fraction.
    """
    models = []
    for outcome in OUTCOMES:
        models += [
            StudyModel("all muscles", outcome),
            StudyModel(
                "all muscles, adjusted", outcome, covariates=(*PAPER_COVARIATES, *BODY_SIZE)
            ),
            *(StudyModel(muscle.replace("_", " "), outcome, (muscle,)) for muscle in MUSCLES),
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
    write_csv(out, pd.DataFrame(rows, columns=list(MODEL_COLUMNS)))


def model_rows(model: StudyModel, muscles: pd.DataFrame) -> list[dict]:
    """Return the terms of a model, or one row whose note says why it was not fitted.

    muscles: the cohort's table. Rows without outcome and subjects with a missing covariate are left
    out; the note gives the number of these subjects. A covariate that does not vary has a row with
    a note. kind: fixed (term of the formula), mean (sex or age, averaged over the muscles), spread
    (SD between and within subjects). Intervals and p values: Student's t.
    """
    own = muscles[muscles["muscle"].isin(model.muscles)]
    rows = own.dropna(subset=[model.outcome])
    columns = [COLUMN_OF[name] for name in model.covariates]
    known = rows.dropna(subset=columns)
    subjects = known["subject"].nunique()
    common = {"outcome": model.outcome, "model": model.name}
    common |= {"n_subjects": subjects, "n_rows": len(known)}
    missing = rows["subject"].nunique() - subjects
    notes = [f"{_counted(missing)} left out, {' or '.join(columns)} unknown"] if missing else []
    without = own["subject"].nunique() - rows["subject"].nunique()
    notes += [f"{_counted(without)} left out, no {model.outcome}"] if without else []
    try:
        terms, formula, remarks = _fitted_terms(model, known)
    except NotFitted as reason:
        return [common | {"note": "; ".join([f"not fitted: {reason}", *notes])}]
    common |= {"formula": formula, "note": "; ".join([*notes, *remarks])}
    return [common | term for term in terms]


def _fitted_terms(
    model: StudyModel, known: pd.DataFrame
) -> tuple[list[dict], str, tuple[str, ...]]:
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


def _prepared(model: StudyModel, known: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with numeric covariates centred at the mean of the subjects and scaled."""
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


def _fixed(model: StudyModel, fit: Fit, levels: dict) -> list[dict]:
    weights = np.eye(len(fit.names))
    return [
        {"term": term, "kind": "fixed", "label": term_label(term, levels)}
        | _estimated(model, fit, term, weights[index])
        for index, term in enumerate(fit.names)
    ]


def _means(model: StudyModel, fit: Fit, levels: dict) -> list[dict]:
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


def _estimated(model: StudyModel, fit: Fit, term: str, weights: np.ndarray) -> dict:
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


def _spread(model: StudyModel, fit: Fit) -> list[dict]:
    common = {"kind": "spread", "unit": OUTCOMES[model.outcome]}
    between = {"term": "sd_subjects", "label": "SD between subjects", "estimate": fit.sd_subjects}
    within = {"term": "sd_residual", "label": "SD within subjects", "estimate": fit.sd_residual}
    return [common | between, common | within]


def _left_out(name: str, known: pd.DataFrame) -> dict:
    column = COLUMN_OF.get(name, name)
    note = f"left out of the model: {column} is {known[column].iloc[0]} in all rows"
    return {"term": name, "kind": "fixed", "label": column, "note": note}


# --- terms in words ------------------------------------------------------------------------------


def term_label(term: str, levels: Mapping[str, list[str]], *, at_reference: bool = True) -> str:
    """Return a term in words, such as "men minus women, in psoas major".

    term: name by statsmodels, such as "sex[T.M]:muscle[T.multifidus]". levels: categories of sex,
    muscle and side in the model, the reference first. at_reference: name the reference muscle in
    terms that interact with muscle.
    """
    if term == "Intercept":
        first = [_level_name(values[0]) for values in levels.values()]
        return f"reference: {', '.join(first)}; covariates at their mean"
    first, _, second = term.partition(":")
    if second:
        return f"{_part(first, levels)}, {_part(second, levels)}"
    by_muscle = first.startswith(("sex[", "age_")) and len(levels.get("muscle", [])) > 1
    where = f", in {_level_name(levels['muscle'][0])}" if by_muscle and at_reference else ""
    return _part(first, levels) + where


def term_unit(term: str, unit: str) -> str:
    """Return the unit of a term's estimate; unit: that of the outcome."""
    return next(
        (f"{unit} per {step}" for name, (_, _, step) in SCALES.items() if name in term), unit
    )


def _part(part: str, levels: Mapping[str, list[str]]) -> str:
    if part in SCALES:
        return f"{part.partition('_')[0]}, per {SCALES[part][2]}"
    name, _, level = part.removesuffix("]").partition("[T.")
    return f"{_level_name(level)} minus {_level_name(levels[name][0])}"


def _level_name(level: str) -> str:
    return SEX_WORDS.get(level, level.replace("_", " "))
