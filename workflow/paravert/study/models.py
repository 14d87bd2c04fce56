"""Fits the models of the study and writes their tables (outputs.MODEL_TABLES)."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from paravert import codebook
from paravert.study.accuracy import held_out_rows
from paravert.study.claims import paper_claims, size_and_overlap
from paravert.study.data_frames import read_by_scan, read_frame
from paravert.study.inference import (
    ADJUSTED,
    BY_LEVEL,
    BY_LEVEL_OUTCOMES,
    CONTRAST_COLUMNS,
    CSA,
    FAT,
    LEVEL_OUTCOMES,
    MEAN_COLUMNS,
    MODEL_COLUMNS,
    OUTCOMES,
    SEX_AND_AGE,
    StudyModel,
    corrected,
    fit_model,
)
from paravert.study.result_tables import NO_FAMILY, write_result
from paravert.study.scans import (
    first_scans,
    in_order_of_visits,
    of_scans,
    sampled_subjects,
    scan_keys,
)
from paravert.study.selection import weighted_contrasts
from paravert.study.site_effects import site_effects
from paravert.study.specifications import specification_curve
from paravert.study.standard_level import (
    ALL_SLICES,
    level_of_metadata,
    read_covered,
    standard_level,
    standard_number,
)
from paravert.study.summary import counted
from paravert.study.variance_components import variance_components

log = logging.getLogger(__name__)

MOST_LEVEL_SUBJECTS = 2_000  # of the models by level, with up to 80 rows per scan
SEE_BY_LEVEL = "see the rows by level"


def fit_models(
    cohort: Annotated[Path, typer.Option(help="Folder of the cohort tables.")],
    out: Annotated[
        Path,
        typer.Option(
            help="CSV file for the terms of all models; contrasts, adjusted_means, site_effects,"
            " claims, weighted_contrasts and specification_curve are written beside it."
        ),
    ],
    covariates: Annotated[
        list[str] | None,
        typer.Option(
            help="Further covariate of the adjusted model, a column of the table subjects."
        ),
    ] = None,
    bootstrap_samples: Annotated[
        int, typer.Option(min=1, help="Samples of the subject-clustered bootstrap.")
    ] = 1000,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the bootstrap and of random samples.")
    ] = 1,
    share_tables: Annotated[
        bool, typer.Option(help="Blank rows of fewer than 5 subjects, also in notes.")
    ] = False,
    level_standard: Annotated[
        str, typer.Option(help="Vertebra or disc of the level rule in the specification curve.")
    ] = "L3/4",
    quality_cut: Annotated[
        float,
        typer.Option(
            min=0, help="Predicted IoU of a section below which the curve's quality cut drops it."
        ),
    ] = 0.8,
) -> None:
    """Fit the models of area, volume and fat fraction, and the planned contrasts.

    Writes beside the terms of the models: contrasts.csv, adjusted_means.csv, site_effects.csv,
    claims.csv (whether the study reproduces the findings of the paper), weighted_contrasts.csv
    (contrasts weighted for subjects that are missing), and specification_curve.csv (effects of sex and
    age over ways to measure fat). Covariates may be numbers or texts. docs/statistics.md describes the
    models. Raises InputError for a level_standard other than L1 to L5/S1, and KeyError for a covariate
    that the table subjects lacks.
    """
    standard_number(level_standard)  # refuses other names
    data, further = model_data(cohort, covariates or ())
    of_levels, of_whom = level_data(cohort, covariates or (), seed)
    overlap = held_out_rows(read_frame(cohort, codebook.OVERLAP))
    adjusted = StudyModel(ADJUSTED.name, (*ADJUSTED.covariates, *further))
    terms, contrasts, means = [], [], []
    for model in (SEX_AND_AGE, adjusted):  # the fits of the last one are those of the sites
        fits = [fit_model(model, outcome, data) for outcome in OUTCOMES]
        at_levels = [fit_model(model, outcome, data) for outcome in LEVEL_OUTCOMES]
        at_levels += [
            fit_model(model, outcome, of_levels).noted(of_whom) for outcome in BY_LEVEL_OUTCOMES
        ]
        for fitted in (*fits, *at_levels):
            name, note = fitted.outcome.column, fitted.note or "done"
            log.info("fit_models: %s, %s: %s", name, model.name, note)
            terms += fitted.terms()
            means += fitted.adjusted_means()
        contrasts += corrected(
            [row for fitted in (*fits, *at_levels) for row in fitted.contrasts()]
        )
        if model is SEX_AND_AGE:
            weighted = weighted_contrasts(read_frame(cohort, codebook.LEDGER), data, fits)
    areas_mm2 = overlap["pixels_truth"] * overlap["pixel_mm2"]
    sizes = size_and_overlap(overlap.assign(area_mm2=areas_mm2), bootstrap_samples, seed)
    contrasts += corrected(sizes)
    first = first_scans(read_frame(cohort, codebook.SUBJECT_TABLE))
    once = of_scans(data, first)
    covered = read_covered(cohort, first)
    ranges = standard_level(once, covered, level_of_metadata(cohort)).ranges
    for outcome in OUTCOMES:
        terms += variance_components(once, outcome.column, seed)
    contrasts = pd.DataFrame(contrasts, columns=list(CONTRAST_COLUMNS))
    made = {
        out.stem: pd.DataFrame(terms, columns=list(MODEL_COLUMNS)),
        "contrasts": contrasts,
        "adjusted_means": pd.DataFrame(means, columns=list(MEAN_COLUMNS)),
        "site_effects": site_effects(data, fits),
        "claims": paper_claims(contrasts, data, overlap, ranges),
        "weighted_contrasts": weighted,
        "specification_curve": specification_curve(cohort, data, level_standard, quality_cut, seed),
    }
    for name, frame in made.items():
        told = frame if name == "claims" else with_ranges(frame, ranges)
        write_result(out.parent, name, told, share_tables)


def with_ranges(results: pd.DataFrame, ranges: str) -> pd.DataFrame:
    """Return a table of results whose notes say where scans of different ranges are compared.

    results: rows with the columns note, family, estimate (or complete_cases), and outcome and model
    (or level_rule). ranges: from `StandardLevel.ranges`; if it is "", the table is returned as it
    is. It is added to the notes of estimates over all slices: those whose outcome is one of
    inference.OUTCOMES, or whose level_rule is "all slices". Where a row of the same model compares
    the outcome by level, "see the rows by level" is added, too.
    """
    if not ranges or results.empty:
        return results
    estimate = "estimate" if "estimate" in results else "complete_cases"
    known = results[results[estimate].notna()]
    keys = ["outcome", "model", "family"]
    fitted = set(known.reindex(columns=keys).itertuples(index=False, name=None))
    if "outcome" in results:
        whole = known["outcome"].isin([outcome.column for outcome in OUTCOMES])
    else:  # the specification curve
        whole = known["level_rule"] == ALL_SLICES
    notes = results["note"].astype(object)
    for place, row in known[whole].iterrows():
        family = row["family"] if row["family"] == NO_FAMILY else f"{row['family']} by level"
        beside = (BY_LEVEL.get(row.get("outcome")), row.get("model"), family) in fitted
        parts = [row["note"], ranges, SEE_BY_LEVEL * beside]
        notes[place] = "; ".join(part for part in parts if pd.notna(part) and part)
    return results.assign(note=notes)


def model_data(
    cohort: Path, covariates: Sequence[str] = (), rows: pd.DataFrame | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """Return the table of muscles with the covariates of each scan, and the further covariates' names.

    cohort: folder of the cohort tables. covariates: columns of the table of subjects to add, upper
    and lower case not distinguished, or "group", the sheet's name of study_group; KeyError for
    others. rows: to which they are added, with a column subject, and visit if the cohort has
    visits; None: the table of muscles, one row per scan, muscle and side. Returns (these rows, in a
    cohort with visits in the order of `in_order_of_visits`; names of the further covariates as in
    the table). Added columns, unless rows have them: manufacturer, field_strength (text: "3 T"; of
    the header, unless it is a further covariate, a column of the sheet) and the further covariates
    (numbers or text; yes/no becomes text; unknown stays null).
    """
    rows = read_frame(cohort, codebook.MUSCLE_TABLE) if rows is None else rows
    subjects = read_frame(cohort, codebook.SUBJECT_TABLE)
    keys = scan_keys(subjects)
    subjects = subjects.set_index(keys)
    names = {name.lower(): name for name in subjects} | {"group": "study_group"}
    further = [names[covariate.lower()] for covariate in covariates]
    of_header = subjects["field_strength_t"].map("{:g} T".format, na_action="ignore")
    columns = {"field_strength": of_header}
    columns |= {name: _as_covariate(subjects[name]) for name in ("manufacturer", *further)}
    added = pd.DataFrame(columns, index=subjects.index)
    added = added[added.columns.difference(rows.columns)].reset_index()
    return in_order_of_visits(rows, subjects.reset_index()).merge(
        added, on=keys, how="left"
    ), further


def level_data(cohort: Path, covariates: Sequence[str], seed: int) -> tuple[pd.DataFrame, str]:
    """Return area and fat fraction at each level with the covariates of each scan, and a note.

    cohort: folder of the cohort tables. covariates: as in `model_data`. seed: of the random sample
    of MOST_LEVEL_SUBJECTS (2,000) subjects that replaces a larger cohort. One row per scan, level,
    muscle and side with an area above 0. Columns: subject, visit (with visits), muscle, side, level
    (name, such as "L3/4"), csa_by_level_mm2, fat_fraction_by_level (null if unknown),
    codebook.COVARIATE_COLUMNS (sex, age_years, ...) and those that `model_data` adds. The note says if
    a sample was taken, and how many subjects have no row; "" if neither.
    """
    subjects = read_frame(cohort, codebook.SUBJECT_TABLE, ["subject"])["subject"]
    sample, note = sampled_subjects(subjects, MOST_LEVEL_SUBJECTS, seed)
    covariate_names = [column.name for column in codebook.COVARIATE_COLUMNS]
    columns = ["subject", "level", "muscle", "side", *covariate_names, "csa_mm2", "fat_fraction"]
    parts = [
        part[part["subject"].isin(sample) & (part["csa_mm2"] > 0)]
        for part in read_by_scan(cohort, codebook.LEVEL_TABLE, columns)
    ]
    names = {"csa_mm2": BY_LEVEL[CSA], "fat_fraction": BY_LEVEL[FAT]}
    rows = pd.concat(parts, ignore_index=True).rename(columns=names)
    if lacking := len(sample) - rows["subject"].nunique():
        told = f"{counted(lacking, 'subject')} left out, no slices at known levels"
        note = "; ".join(filter(None, [note, told]))
    return model_data(cohort, covariates, rows)[0], note


def _as_covariate(values: pd.Series) -> pd.Series:
    """Return numbers as they are, everything else as text; unknown stays null."""
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        return values.astype(float)
    words = {True: "yes", False: "no"}
    texts = [None if pd.isna(value) else words.get(value, str(value)) for value in values]
    return pd.Series(texts, index=values.index, dtype=object)
