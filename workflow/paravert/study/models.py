"""Fits the models of the study and writes their tables: models, contrasts, adjusted_means, site_effects, claims."""

import logging
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from paravert import codebook
from paravert.study.accuracy import held_out_rows, scored_pixel_areas
from paravert.study.claims import paper_claims, size_and_overlap
from paravert.study.data_frames import read_frame, write_csv
from paravert.study.inference import (
    ADJUSTED,
    CONTRAST_COLUMNS,
    MEAN_COLUMNS,
    MODEL_COLUMNS,
    OUTCOMES,
    SEX_AND_AGE,
    StudyModel,
    corrected,
    fit_model,
)
from paravert.study.site_effects import site_effects
from paravert.study.variance_components import variance_components

log = logging.getLogger(__name__)


def fit_models(
    cohort: Annotated[Path, typer.Option(help="Folder of the cohort tables.")],
    out: Annotated[
        Path,
        typer.Option(
            help="CSV file for the terms of all models; contrasts, adjusted_means,"
            " site_effects and claims are written beside it."
        ),
    ],
    covariate: Annotated[
        list[str] | None,
        typer.Option(help="Further column of the subjects for the adjusted model."),
    ] = None,
    bootstrap_samples: Annotated[
        int, typer.Option(help="Samples of the subject-clustered bootstrap.")
    ] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 1,
) -> None:
    """Fit the models of area, volume and fat fraction, and the planned contrasts."""
    data = model_data(cohort)
    overlap = held_out_rows(read_frame(cohort, codebook.OVERLAP))
    adjusted = StudyModel(ADJUSTED.name, (*ADJUSTED.covariates, *(covariate or ())))
    terms, contrasts, means, fits = [], [], [], {}
    for model in (SEX_AND_AGE, adjusted):
        of_model = []
        for outcome in OUTCOMES:
            fitted = fit_model(model, outcome, data)
            log.info("fit_models: %s, %s: %s", outcome.column, model.name, fitted.note or "done")
            terms += fitted.terms()
            of_model += fitted.contrasts()
            means += fitted.adjusted_means()
            fits[model.name, outcome.column] = fitted
        contrasts += corrected(of_model)
    sizes = size_and_overlap(scored_areas(cohort, overlap), bootstrap_samples, seed)
    contrasts += corrected(sizes)
    for outcome in OUTCOMES:
        terms += variance_components(data, outcome.column)
    contrasts = pd.DataFrame(contrasts, columns=list(CONTRAST_COLUMNS))
    write_csv(out, pd.DataFrame(terms, columns=list(MODEL_COLUMNS)))
    write_csv(out.parent / "contrasts.csv", contrasts)
    write_csv(out.parent / "adjusted_means.csv", pd.DataFrame(means, columns=list(MEAN_COLUMNS)))
    of_adjusted = {outcome.column: fits[adjusted.name, outcome.column] for outcome in OUTCOMES}
    write_csv(out.parent / "site_effects.csv", site_effects(data, of_adjusted))
    write_csv(out.parent / "claims.csv", paper_claims(contrasts, data, overlap))


def model_data(cohort: Path) -> pd.DataFrame:
    """Return the table of muscles with the scanner of each subject (manufacturer, field_strength as text)."""
    muscles = read_frame(cohort, codebook.MUSCLE_TABLE)
    subjects = read_frame(cohort, codebook.SUBJECT_TABLE)
    known = set(muscles.columns) - {"subject"}
    scanner = subjects[[name for name in subjects.columns if name not in known]]
    strength = subjects["field_strength_t"].map("{:g} T".format, na_action="ignore")
    return muscles.merge(scanner.assign(field_strength=strength), on="subject", how="left")


def scored_areas(cohort: Path, overlap: pd.DataFrame) -> pd.DataFrame:
    """Return subject, muscle, area_mm2 of the manual mask and iou of the rows of an overlap table."""
    areas = overlap.merge(scored_pixel_areas(cohort, overlap), on=["subject", "stack"], how="left")
    areas["area_mm2"] = areas["pixels_truth"] * areas["pixel_mm2"]
    return areas[["subject", "muscle", "area_mm2", "iou"]]
