"""Specification curve: effects of sex and age on fat fractions over plausible ways to measure these.

A way is a combination of fat method, erosion of the masks, quality cut and vertebral level. The
model is the study's of sex and age, with the fat fraction of each way as outcome. Source:
Simonsohn, Simmons and Nelson 2020.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from paravert import codebook
from paravert.anatomy import level_number
from paravert.errors import Caution
from paravert.study.data_frames import read_by_scan, read_frame
from paravert.study.flags import FLAG_CODES
from paravert.study.inference import (
    FAMILIES,
    FAT,
    OUTCOMES,
    SEX_AND_AGE,
    fit_model,
)
from paravert.study.level_areas import weights_at_level
from paravert.study.result_tables import MODEL_ESTIMATOR
from paravert.study.scans import sampled_subjects, scan_keys, scan_names
from paravert.study.standard_level import ALL_SLICES, too_few_at_level
from paravert.tables import ALL_FAT_METHODS, DIXON, ERODED

MOST_SUBJECTS = 2_000  # a larger cohort is sampled: each of some 100 ways is a model of its own
ALL_SECTIONS = "all sections"
UNFLAGGED = "scans without flags"
EFFECT_FAMILIES = [family for family in FAMILIES if family.name in ("sex, fat", "age")]
ERODED_PX = {0: "fat_fraction", 1: "eroded"}
SLICE_COLUMNS = (
    "subject", "stack_id", "slice", "muscle", "side", "position_mm", "tilt_deg", "slab_mm", "overlaps",
    "level_position", "pixels", "csa_mm2", "csa_reason", "predicted_iou", "fat_fraction", "fat_fraction_eroded",
    "fat_fraction_reason",
    *(f"{kind}_{method}" for method in ALL_FAT_METHODS for kind in ERODED_PX.values()),
)  # fmt: skip
WAY_COLUMNS = ("estimator", "erosion_px", "quality_cut", "level_rule")
CURVE_COLUMNS = (
    *WAY_COLUMNS, "chosen", "family", "muscle", "label", "estimate", "unit", "low_95", "high_95", "p_value", "df",
    "n_subjects", "n_sex", "n_rows", MODEL_ESTIMATOR, "link", "covariance", "note",
)  # fmt: skip


@dataclass(frozen=True)
class Way:
    """A way to measure the fat fraction of muscles, one of the combinations in a specification curve.

    estimator: name of the fat method, or of the study's combination of methods (`estimator_columns`).
    column: column of the cohort table `slices` with its fat fraction. erosion_px: pixels by which masks
    are eroded (0 or 1). quality_cut: which sections (a muscle and side in a slice) are used: "all
    sections", "scans without flags" (those of scans without any of `flags.FLAG_CODES`, of which
    "fat-outlier" does not count), or such as "predicted IoU at least 0.8" (the number is a setting;
    those without predicted IoU are used, too). level_rule: "all slices" (mean over them) or such as "at
    L3/4" (value there).
    """

    estimator: str
    column: str
    erosion_px: int
    quality_cut: str
    level_rule: str

    def choices(self) -> dict:
        """Return estimator, erosion_px, quality_cut and level_rule of the way as {column: value}."""
        return {name: getattr(self, name) for name in WAY_COLUMNS}


def specification_curve(
    cohort: Path, data: pd.DataFrame, level: str, least_iou: float, seed: int
) -> pd.DataFrame:
    """Return the effects of sex and age on the fat fraction of each muscle by each way to measure it.

    cohort: folder of the cohort tables. data: table of muscles with covariates, from
    `models.model_data`, one row per scan, muscle and side. level: name of the vertebra or disc of the
    level rule, such as "L3/4"; not checked. least_iou: predicted IoU below which one of the quality
    cuts leaves a section (a muscle and side in a slice) out; one without predicted IoU is kept. seed:
    of the sample that is taken of more than MOST_SUBJECTS (2,000) subjects. Columns (CURVE_COLUMNS):
    the way (estimator, erosion_px, quality_cut, level_rule), chosen (whether it is that of the study's
    models), family and label of the effect, muscle, estimate (odds ratio), low_95, high_95, p_value and
    others. A way that cannot be fitted, such as at a level that fewer than 80 % of the subjects have,
    has rows with a note; a cut that leaves nothing out has a single row, with a note. Without rows if
    nobody was analysed. Source: Simonsohn, Simmons and Nelson 2020.
    """
    subjects = read_frame(cohort, codebook.SUBJECT_TABLE, ["subject", "fat_fraction_method"])
    if subjects.empty:
        return pd.DataFrame(columns=list(CURVE_COLUMNS))
    sample, note = sampled_subjects(subjects["subject"], MOST_SUBJECTS, seed)
    kept = [*scan_keys(data), "muscle", "side", "sex", "age_years"]
    data = data.loc[data["subject"].isin(sample), kept]
    estimators = estimator_columns(subjects)
    flagged = _flagged_scans(read_frame(cohort, codebook.LEDGER))
    cuts = {ALL_SECTIONS: 0.0, f"predicted IoU at least {least_iou:g}": least_iou, UNFLAGGED: 0.0}
    rules = {ALL_SLICES: None, f"at {level}": level_number(level)}
    ways = [
        Way(name, columns[erosion], erosion, cut, rule)
        for name, columns in estimators.items()
        for erosion in ERODED_PX
        for cut in cuts
        for rule in rules
    ]
    chosen = next(way for way in ways if way.column == "fat_fraction")
    parts, left_out = [], dict.fromkeys(cuts, False)
    for part in read_by_scan(cohort, codebook.SLICES, SLICE_COLUMNS):
        own = part[part["subject"].isin(sample)].reset_index(drop=True)
        passed = _passed(own, cuts, flagged)
        left_out = {cut: left_out[cut] or not passed[cut].all() for cut in cuts}
        parts.append(fat_by_way(own, ways, passed, rules))
    values = pd.concat(parts)
    rows = []
    for way in ways:
        if way.quality_cut == ALL_SECTIONS or left_out[way.quality_cut]:
            whole = values[replace(way, level_rule=ALL_SLICES)]
            effects = _effects(way, values[way], whole, data)
            rows += [_noted(row, note) | {"chosen": way == chosen} for row in effects]
    for cut in cuts:
        if cut != ALL_SECTIONS and not left_out[cut]:
            rows.append({"quality_cut": cut, "chosen": False, "note": "leaves nothing out"})
    return pd.DataFrame(rows, columns=list(CURVE_COLUMNS))


def estimator_columns(subjects: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Return the columns of the table `slices` that hold the fat fraction by each estimator.

    Returns {estimator: (column of whole masks, column of eroded masks)}. subjects: the cohort table, of
    which the column fat_fraction_method is read. Estimators: first that of the study's models, whose
    value is in the column fat_fraction; then all other methods, Dixon only if a subject has it. If the
    study's method leaves out the outermost pixels ("eroded_linear"), the name is that without
    "eroded_", and fat_fraction is the column of eroded masks. In a study with Dixon and other images
    the first is named after both methods, such as "dixon, else eroded_linear"; fat_fraction is then
    taken as that of whole masks, although in scans without Dixon images an eroded method has it from
    eroded masks.
    """
    methods = sorted(subjects["fat_fraction_method"].unique(), key=lambda name: name != DIXON)
    chosen, pair = ", else ".join(methods), ("fat_fraction", "fat_fraction_eroded")
    if chosen.startswith(ERODED):
        chosen = chosen.removeprefix(ERODED)
        pair = f"fat_fraction_{chosen}", "fat_fraction"
    columns = {chosen: pair}
    own = {method: (f"fat_fraction_{method}", f"eroded_{method}") for method in ALL_FAT_METHODS}
    if DIXON not in methods:
        own.pop(DIXON)
    return columns | {name: pair for name, pair in own.items() if name != chosen}


def _flagged_scans(ledger: pd.DataFrame) -> pd.MultiIndex:
    """Return the scans with an automatic flag; the fat outlier, which looks at the outcome, is none."""
    codes = FLAG_CODES - {str(Caution.FAT_OUTLIER)}
    flagged = [bool(codes.intersection(warnings)) for warnings in ledger["warnings"]]
    return pd.MultiIndex.from_frame(ledger.loc[flagged, scan_keys(ledger)])


def _passed(
    slices: pd.DataFrame, cuts: Mapping[str, float], flagged: pd.MultiIndex
) -> dict[str, np.ndarray]:
    """Return which rows pass each cut, bool (rows,); a section without predicted IoU passes it."""
    scans = pd.MultiIndex.from_frame(slices[scan_keys(slices)])
    iou = slices["predicted_iou"].to_numpy(dtype=float)
    return {cut: ~scans.isin(flagged) if cut == UNFLAGGED else ~(iou < cuts[cut]) for cut in cuts}


def fat_by_way(
    slices: pd.DataFrame,
    ways: Sequence[Way],
    passed: Mapping[str, np.ndarray],
    rules: Mapping[str, float | None],
) -> pd.DataFrame:
    """Return the fat fraction (0-1) of each scan, muscle and side by each way, one column per way.

    slices: rows of whole scans of the cohort table `slices`, with its columns SLICE_COLUMNS, and visit
    if there is one. ways: each labels its own column. passed: {Way.quality_cut: bool (rows,)}, which
    rows it keeps. rules: {level rule: level as a number such as 3.5 for L3/4, None for all slices}. The
    index is subject, visit if there is one, muscle and side, as text. Over all slices: mean of the
    known values that are kept, weighted by volume, without slices that cut an earlier stack. At a
    level: interpolated. NaN if there is no value, or if a section used for the level is unknown or not
    kept.
    """
    keys = [*scan_keys(slices), "muscle", "side"]
    code = slices.groupby(keys, sort=False, observed=True).ngroup().to_numpy()
    index = pd.MultiIndex.from_frame(slices[keys].drop_duplicates().astype(str))
    volume = (slices["csa_mm2"] * slices["slab_mm"]).to_numpy(dtype=float)
    once = (slices["pixels"] > 0) & ~slices["overlaps"].astype(bool)
    plain = slices.rename(columns={"stack_id": "stack"})
    plain = plain.assign(subject=scan_names(plain).astype(str))
    weights = {
        rule: np.where(once, volume, 0.0) if level is None else weights_at_level(plain, level)
        for rule, level in rules.items()
    }
    found = {}
    for way in ways:
        fat = slices[way.column].to_numpy(dtype=float)
        fat = np.where(passed[way.quality_cut], fat, np.nan)
        weight = weights[way.level_rule]
        used = weight != 0  # an unknown area makes the value at its level unknown
        if rules[way.level_rule] is None:
            used &= ~np.isnan(fat)
        sums = (
            np.bincount(code[used], values[used], len(index)) for values in (weight * fat, weight)
        )
        with np.errstate(invalid="ignore"):
            found[way] = np.divide(*sums)
    return pd.DataFrame(found, index=index)


def _effects(way: Way, fat: pd.Series, whole: pd.Series, data: pd.DataFrame) -> Iterator[dict]:
    """Yield a row per effect and muscle.

    fat: by scan, muscle and side. whole: likewise, of all slices; without enough of these subjects at
    the level (`too_few_at_level`) the row is a note.
    """
    known, of_all = (
        values.dropna().index.get_level_values("subject").nunique() for values in (fat, whole)
    )
    if of_all and (note := too_few_at_level(known, of_all)):
        yield way.choices() | {"note": note}
        return
    scans = pd.MultiIndex.from_frame(data[fat.index.names].astype(str))
    data = data.assign(**{FAT: fat.reindex(scans).to_numpy()})
    outcome = next(outcome for outcome in OUTCOMES if outcome.column == FAT)
    for row in fit_model(SEX_AND_AGE, outcome, data).contrasts(EFFECT_FAMILIES):
        yield row | {MODEL_ESTIMATOR: row.get("estimator")} | way.choices()


def _noted(row: dict, note: str) -> dict:
    return row | {"note": "; ".join(filter(None, [row.get("note"), note]))}
