"""Writes the tables of the study: cohort, normal values, accuracy, fat methods, flow of subjects."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from paravert import codebook
from paravert.anatomy import MUSCLES, SIDES
from paravert.study.accuracy import (
    SCORE_COLUMNS,
    area_agreement,
    compared_areas,
    held_out_rows,
    table1_iou,
)
from paravert.study.change import MEASURES, RANGE_COLUMNS, RANGE_MEASURES, change_table
from paravert.study.data_frames import by_sex, read_frame, write_csv
from paravert.study.published_values import read_published
from paravert.study.reliability import (
    LEVEL_COLUMNS,
    mask_reliability,
    rater_reliability,
    scored_slice_levels,
    visit_reliability,
)
from paravert.study.result_tables import write_result
from paravert.study.scans import first_scans, of_scans, scan_keys
from paravert.study.selection import one_row_per_subject, selection
from paravert.study.standard_level import (
    ALL_SLICES,
    AT_LEVEL,
    StandardLevel,
    both_sides_at_level,
    level_coverage,
    level_of_metadata,
    read_covered,
    standard_level,
)
from paravert.tables import ALL_FAT_METHODS, DIXON, ERODED, HEADLINES

log = logging.getLogger(__name__)

MEASURE_COLUMNS = (
    *("subject", "muscle", "side", "sex"),
    *MEASURES,
    *RANGE_MEASURES,
    *RANGE_COLUMNS,
    *(f"fat_fraction_{method}" for method in ALL_FAT_METHODS),
)
COVARIATE_UNITS = {"age_years": "year", "height_cm": "cm", "weight_kg": "kg", "bmi_kg_m2": "kg/m2"}
LEAN_CAVEAT = (
    "splits the noise of a lean muscle: 0.5 in noise alone, 0.15 to 0.17 too high in phantoms' psoas; "
    "not monotone in the true fraction; not to be read in lean muscle"
)
FAT_CAVEATS = {
    "otsu_muscle": LEAN_CAVEAT,
    "otsu_muscle_slice": LEAN_CAVEAT,
    "otsu_subject": (
        "the threshold of one muscle moves with the fat of the others: differences between subjects in "
        "lean muscles may have the wrong sign"
    ),
    "otsu_image": "the threshold separates whatever fills the image, fat and muscle or not",
    "linear": (
        "takes the darker muscle for free of fat: too low (0.06 in a Dixon volunteer), most in fatty "
        "muscle, and differences between subjects too small; needs fat beside the muscles"
    ),
    "linear_spread": (
        "too high where pure fat lies in streaks beside lean fibres, too low where fat is spread "
        "evenly; needs fat beside the muscles"
    ),
    DIXON: "T1 and T2* of water and fat are not corrected",
}


def write_tables(
    cohort: Annotated[Path, typer.Option(help="Folder of the cohort tables.")],
    out: Annotated[Path, typer.Option(help="Folder for the CSV tables.")],
    bootstrap_samples: Annotated[
        int, typer.Option(min=1, help="Samples of the subject-clustered bootstrap.")
    ] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 1,
    share_tables: Annotated[
        bool, typer.Option(help="Blank rows of fewer than 5 subjects, and values of single ones.")
    ] = False,
) -> None:
    """Write the tables of the study as CSV from the cohort tables.

    Each is a file <name>.csv; outputs.TABLES lists them: Table 1 (overlap with manual masks), cohort,
    normal values, agreement, reliability, flow of subjects and others; with visits also change.csv, the
    change between the first and the last scan of each subject, without rows if share_tables. Without
    visits the change.csv of an earlier sheet is removed.
    """
    overlap = read_frame(cohort, codebook.OVERLAP, (*SCORE_COLUMNS, "pixels_truth2"))
    muscles = read_frame(cohort, codebook.MUSCLE_TABLE, MEASURE_COLUMNS)
    subjects = read_frame(cohort, codebook.SUBJECT_TABLE)
    slice_levels = scored_slice_levels(cohort, overlap)
    ledger = read_frame(cohort, codebook.LEDGER)
    first = first_scans(subjects)
    muscles_once = of_scans(muscles, first)
    covered = read_covered(cohort, first)
    level = standard_level(muscles_once, covered, level_of_metadata(cohort))
    log.info("write_tables: %s", level.note or "no subjects")

    def of_visits() -> pd.DataFrame:  # the whole table of levels is read for visits alone
        levels = read_frame(cohort, codebook.LEVEL_TABLE, LEVEL_COLUMNS)
        return visit_reliability(muscles, subjects, levels)

    compared = compared_areas(cohort, held_out_rows(overlap), level)
    made = {
        "table1_iou": table1_iou(held_out_rows(overlap), bootstrap_samples, seed),
        "cohort": cohort_description(first, muscles_once, level),
        "level_coverage": level_coverage(covered).assign(
            level_standard=level.name, used=level.used, note=level.note
        ),
        "normal_values": normal_values(muscles_once, level),
        "published_values": read_published(),
        "agreement": area_agreement(compared),
        "reliability": pd.concat(
            [
                mask_reliability(held_out_rows(overlap), slice_levels),
                rater_reliability(overlap, slice_levels),
                *([of_visits()] if "visit" in ledger else []),
            ],
            ignore_index=True,
        ),
        "flow": subject_flow(ledger, overlap),
        "selection": selection(one_row_per_subject(ledger)),
        "fat_methods": fat_methods(muscles_once, first.set_index("subject")["fat_fraction_method"]),
    }
    for name, frame in made.items():
        write_result(out, name, frame, share_tables and name != "published_values")
    if "visit" in ledger:  # its rows are of single persons, so none is shared
        change = change_table(muscles, subjects)
        write_csv(out / "change.csv", change[:0] if share_tables else change)
    else:
        (out / "change.csv").unlink(missing_ok=True)
    log.info(
        "write_tables: %d subjects, %d with truth, %d tables in %s",
        len(first), overlap["subject"].nunique(), len(made), out,
    )  # fmt: skip


def distribution_summary(values: pd.Series) -> dict:
    """Return statistics of the known values as {name: number}, in the unit of the values.

    values: numbers; null is unknown. Names: n and missing (numbers of known and unknown values),
    mean, sd (n - 1), lowest, lower_quartile, median, upper_quartile (by linear interpolation),
    highest. All but n and missing are NaN without known values, and sd with only one.
    """
    known = values.dropna().astype(float)
    lower, median, upper = known.quantile([0.25, 0.5, 0.75])
    return {
        "n": len(known),
        "missing": len(values) - len(known),
        "mean": known.mean(),
        "sd": known.std(),
        "lowest": known.min(),
        "lower_quartile": lower,
        "median": median,
        "upper_quartile": upper,
        "highest": known.max(),
    }


def cohort_description(
    subjects: pd.DataFrame, muscles: pd.DataFrame, level: StandardLevel
) -> pd.DataFrame:
    """Return a description of the cohort: statistics per variable, level and sex, one row each.

    subjects, muscles: the cohort tables of these names, one scan per subject. level: vertebra or disc
    for which the ..._at_level columns of muscles were made. Variables: age_years, height_cm, weight_kg,
    bmi_kg_m2; if `level.used` (at least 80 % of the subjects have values there), area (left + right)
    and fat fraction of each muscle at that level, csa_at_level_<muscle>_mm2 and
    fat_fraction_at_level_<muscle>; the same over all slices, csa_<muscle>_mm2 and
    fat_fraction_<muscle>; volume_ml and fat_fraction of all muscles together, over all slices. Columns:
    variable, unit, level (its name, "all slices", or null for age, height, weight and BMI), sex (all,
    F, M, and unknown if there are any), n_subjects, and those of `distribution_summary` (n, missing,
    mean, sd, quartiles ...).
    """
    rows = _described(subjects, dict.fromkeys(COVARIATE_UNITS), COVARIATE_UNITS)
    if level.used:
        at_level = both_sides_at_level(muscles)
        for name, unit in AT_LEVEL.items():
            wide = at_level.pivot(index="subject", columns="muscle", values=name)
            names = {muscle: _of_muscle(name, muscle) for muscle in MUSCLES}
            wide = subjects[["subject", "sex"]].join(wide.rename(columns=names), on="subject")
            rows += _described(
                wide, dict.fromkeys(names.values(), level.name), dict.fromkeys(wide, unit)
            )
    units = {f"csa_{muscle}_mm2": "mm2" for muscle in MUSCLES}
    units |= {f"fat_fraction_{muscle}": "1" for muscle in MUSCLES}
    units |= {"volume_ml": "ml", "fat_fraction": "1"}
    return pd.DataFrame(rows + _described(subjects, dict.fromkeys(units, ALL_SLICES), units))


def _of_muscle(name: str, muscle: str) -> str:
    """Return the name of a measure of a muscle, such as csa_at_level_multifidus_mm2."""
    return f"{name.removesuffix('_mm2')}_{muscle}" + "_mm2" * name.endswith("_mm2")


def _described(
    frame: pd.DataFrame, levels: Mapping[str, str | None], units: Mapping[str, str]
) -> list[dict]:
    """Return rows of `cohort_description`. levels: of each variable. units: likewise."""
    return [
        {
            "variable": variable,
            "unit": units[variable],
            "level": level,
            "sex": sex,
            "n_subjects": len(own),
        }
        | distribution_summary(own[variable])
        for variable, level in levels.items()
        for sex, own in by_sex(frame)
    ]


def normal_values(muscles: pd.DataFrame, level: StandardLevel) -> pd.DataFrame:
    """Return statistics of each measure per muscle, side and sex, one row each.

    muscles: the cohort table `muscles`, one scan per subject. level: vertebra or disc for which its
    ..._at_level columns were made. Measures: csa_mean_mm2, volume_ml and fat_fraction (0-1) over all slices;
    csa_at_level_mm2 and fat_fraction_at_level if `level.used` (at least 80 % of the subjects have
    values there). Columns: muscle, side, sex (all, F, M, and unknown if there are any), measure, unit,
    level (its name, or "all slices"), and those of `distribution_summary` (n, missing, mean, sd,
    quartiles ...).
    """
    measures = [(name, unit, ALL_SLICES) for name, unit in MEASURES.items()]
    if level.used:
        measures = [(name, unit, level.name) for name, unit in AT_LEVEL.items()] + measures
    return pd.DataFrame(
        {"muscle": muscle, "side": side, "sex": sex, "measure": measure, "unit": unit, "level": at}
        | distribution_summary(own[measure])
        for muscle in MUSCLES
        for side in SIDES
        for sex, own in by_sex(muscles[(muscles["muscle"] == muscle) & (muscles["side"] == side)])
        for measure, unit, at in measures
    )


def fat_methods(muscles: pd.DataFrame, chosen: Mapping[str, str]) -> pd.DataFrame:
    """Return the mean fat fraction per muscle by every method, one row per method.

    Every method of tables.ALL_FAT_METHODS has a row, used by the study or not; Dixon only if a subject
    has it. muscles: the cohort table `muscles`, one scan per subject. chosen: by subject the name of
    the method that gives the column fat_fraction; one of these that leaves out the muscle's outermost
    pixels ("eroded_linear") has a further row, over the subjects that have it. Columns: method,
    meaning, caveat (texts); per muscle mean_<muscle>, the mean fat fraction (0-1) over both sides of
    the n_<muscle> subjects who have a value by the method, NaN if there are none; n_without, the number
    of subjects who have a fat fraction, but none by the method, in the muscle with fewest of them among
    those with any, 0 if no muscle has any. Source of the caveats: docs/fat_estimators.md; Wesselink et
    al. 2024.
    """
    method_of = muscles["subject"].map(chosen)
    rows = []
    eroded = sorted(name for name in method_of.dropna().unique() if name.startswith(ERODED))
    of_study = {name: HEADLINES[name] for name in eroded}
    for method, meaning in (ALL_FAT_METHODS | of_study).items():
        row = {"method": method, "meaning": meaning}
        if method in of_study:  # subjects with Dixon images have Dixon there
            own = muscles["fat_fraction"].where(method_of == method)
        else:
            own = muscles[f"fat_fraction_{method}"]
        for muscle in MUSCLES:
            values = own[muscles["muscle"] == muscle].dropna()
            subjects = muscles.loc[values.index, "subject"].nunique()
            row |= {f"mean_{muscle}": values.mean(), f"n_{muscle}": subjects}
        # Of few, their mean is the difference of that of all (normal_values) and this one.
        without = muscles[own.isna() & muscles["fat_fraction"].notna()]
        counts = without.groupby("muscle", observed=True)["subject"].nunique()
        row["n_without"] = int(counts.min()) if len(counts) else 0
        if method != DIXON or any(row[f"n_{muscle}"] for muscle in MUSCLES):
            rows.append(row | {"caveat": FAT_CAVEATS[method.removeprefix(ERODED)]})
    return pd.DataFrame(rows)


def subject_flow(ledger: pd.DataFrame, overlap: pd.DataFrame) -> pd.DataFrame:
    """Return how many subjects were analysed, tested, quarantined and excluded, and why.

    ledger: the cohort table `ledger`, one row per scan, analysed or not. overlap: the cohort table
    `overlap`. Columns: kind, stage, code, subjects, and with visits scans. Kinds: sheet (all subjects
    in the ledger), analysed, scored (with a manual mask), judging (scored, labels by the network, and
    not in its training data: the rows of `accuracy.held_out_rows`), quarantined, excluded (after
    review) and scored-excluded (scored, but excluded), both only if there are excluded scans, reason
    (of quarantine or exclusion, a row per stage and code), warning (a row per code; a subject can have
    several); in this order, reasons and warnings with most subjects first. stage (the rule of the
    workflow that quarantined or excluded) is null except for reasons, code except for reasons and
    warnings. With visits a subject is counted in each kind, stage and code of any of its scans.
    """
    status, analysed = ledger["status"], ledger["status"] == "analysed"
    counted = {
        "sheet": ledger,
        "analysed": ledger[analysed],
        "scored": overlap,
        "judging": held_out_rows(overlap),
        "quarantined": ledger[status == "quarantined"],
    }
    excluded = ledger[~analysed & (status != "quarantined")]
    if len(excluded):
        counted["excluded"] = excluded
        counted["scored-excluded"] = overlap.merge(excluded[scan_keys(excluded)])
    rows = [{"kind": kind} | _counted(frame) for kind, frame in counted.items()]
    for kind, keys, frame in (
        ("reason", ["stage", "reason"], ledger[~analysed]),
        ("warning", ["warnings"], ledger.explode("warnings").dropna(subset=["warnings"])),
    ):
        groups = [(key, _counted(own)) for key, own in frame.groupby(keys)]
        for key, count in sorted(groups, key=lambda group: (-group[1]["subjects"], group[0])):
            rows.append(
                {
                    "kind": kind,
                    **dict(zip(("stage", "code")[-len(keys) :], key, strict=True)),
                    **count,
                }
            )
    scans = ["scans"] if "visit" in ledger else []
    return pd.DataFrame(rows, columns=["kind", "stage", "code", "subjects", *scans])


def _counted(rows: pd.DataFrame) -> dict[str, int]:
    """Return the number of subjects, and with visits of scans, that have a row."""
    count = {"subjects": rows["subject"].nunique()}
    if "visit" in rows:
        count["scans"] = len(rows.drop_duplicates(scan_keys(rows)))
    return count
