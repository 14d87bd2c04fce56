"""Automatic flags: warnings about unusual measurements of a scan, by configured thresholds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from paravert.errors import Caution

FEWEST_FOR_MODEL = 10  # scans, for the model of sex and age
LEAST_REST = 1e-9  # 1 - leverage: below it a scan determines a term alone, as the only man does
FAT_OUTLIER = "fat_outlier_sd"


@dataclass(frozen=True)
class Flag:
    """An automatic flag: a warning about a scan whose measurements are unusual.

    column: column of the ledger (table with one row per scan) whose value is compared with the
    threshold. threshold: key of the threshold in the section `flags` of the configuration. caution:
    code of the warning. title: name of the value in the report. below: True if values below the
    threshold are flagged, False if absolute values above it are.
    """

    column: str
    threshold: str
    caution: Caution
    title: str
    below: bool = False

    def raised(self, values: pd.Series, limit: float) -> pd.Series:
        """Return which values are flagged, booleans with the index of `values`; unknown values are not.

        limit: the threshold.
        """
        values = values.astype(float)
        return values < limit if self.below else values.abs() > limit


FLAGS = (
    Flag(
        "predicted_iou_lowest",
        "predicted_iou",
        Caution.LOW_PREDICTED_IOU,
        "Predicted IoU of a section",
        below=True,
    ),
    Flag(
        "border_fraction_highest",
        "border_fraction",
        Caution.MUSCLE_AT_BORDER,
        "Share of a section's outline at the border of the image",
    ),
    Flag(
        "area_jump_highest",
        "area_jump",
        Caution.AREA_JUMP,
        "Change of area between neighbouring slices, over the largest area",
    ),
    Flag(
        "side_ratio_lowest",
        "side_ratio",
        Caution.SIDES_DIFFER,
        "Volume of the smaller side over that of the larger",
        below=True,
    ),
    Flag(
        FAT_OUTLIER,
        "fat_outlier_sd",
        Caution.FAT_OUTLIER,
        "Residual of the fat fraction given sex and age, SD",
    ),
)
FLAG_CODES = frozenset(str(flag.caution) for flag in FLAGS)


def scan_quality(slices: pd.DataFrame) -> pd.DataFrame:
    """Return the quality figures of each scan, on which automatic flags are based, one row per scan.

    slices: one row per slice, muscle and side, from `aggregate.cohort_slices`, in the order of stack
    and slice; its column subject names the scan, which is the index of the result. Columns, 0 to 1,
    null if unknown: predicted_iou_lowest (of a muscle in a slice that shows it),
    border_fraction_highest (share of a muscle's outline at the image border), area_jump_highest (change
    between neighbouring slices over the muscle's largest area in the stack), side_ratio_lowest (volume
    of a muscle's smaller side over that of its larger, lowest of all muscles), fat_fraction
    (volume-weighted over muscles and slices where it is known, null if the volume of a muscle is
    unknown).
    """
    groups = slices.groupby("subject", sort=False)
    shown = slices.predicted_iou.where(slices.predicted_iou > 0)  # 0: of an absent muscle
    weight = (slices.csa_mm2 * slices.slab_mm).where(~slices.overlaps.astype(bool), 0.0)
    has_fat = slices.fat_fraction.notna() & (slices.pixels > 0)
    fat = _sums(slices, weight * slices.fat_fraction, has_fat, ["subject"])
    fat = fat[~weight.isna().groupby(slices.subject, sort=False).any().reindex(fat.index)]
    return pd.DataFrame(
        {
            "predicted_iou_lowest": shown.groupby(slices.subject, sort=False).min(),
            "border_fraction_highest": groups.border_fraction.max(),
            "area_jump_highest": _highest_area_jumps(slices),
            "side_ratio_lowest": _lowest_side_ratios(slices, weight),
            "fat_fraction": fat / _sums(slices, weight, has_fat, ["subject"]),
        }
    ).rename_axis("subject")


def doubtful_sections(predicted_iou: pd.Series, limit: float) -> pd.Series:
    """Return which sections have a predicted IoU below a limit, as nullable booleans.

    Section: a muscle and side in one slice. predicted_iou: 0 to 1, the model's estimate of the IoU
    with a manual mask; where it is null, so is the result. limit: the setting flags.section_iou.
    """
    return (predicted_iou < limit).astype("boolean").mask(predicted_iou.isna())


def _sums(
    rows: pd.DataFrame, values: pd.Series, among: pd.Series, keys: Sequence[str]
) -> pd.Series:
    """Return sums by keys, added in the order of the rows, so that no other scan changes a digit."""
    own = rows.loc[among, list(keys)]
    code = own.groupby(list(keys), sort=False, observed=True).ngroup().to_numpy()
    index = own.drop_duplicates().set_index(list(keys)).index
    return pd.Series(np.bincount(code, values[among].to_numpy(dtype=float), len(index)), index)


def _highest_area_jumps(slices: pd.DataFrame) -> pd.Series:
    """Return by subject the largest change of a muscle's area between neighbouring slices, 0 to 1.

    It is the absolute difference of csa_mm2 over the largest csa_mm2 of the muscle and side in the
    stack. A slice without the muscle between two that show it has area 0; slices beyond are left
    out. slices: one row per slice, muscle and side, from `aggregate.cohort_slices`. A subject
    without two slices of a muscle is null or missing.
    """
    keys = ["subject", "stack", "muscle", "side"]
    rows = slices[[*keys, "slice", "csa_mm2"]].sort_values([*keys, "slice"], ignore_index=True)
    code = rows.groupby(keys, sort=False, observed=True).ngroup()
    shown = rows.csa_mm2 > 0
    inside = shown.groupby(code).cummax() & shown[::-1].groupby(code).cummax()[::-1]
    rows, code = rows[inside], code[inside]
    change = rows.csa_mm2.astype(float).groupby(code).diff().abs()
    largest = rows.csa_mm2.astype(float).groupby(code).transform("max")
    return (change / largest).groupby(rows.subject).max()


def _lowest_side_ratios(slices: pd.DataFrame, weight: pd.Series) -> pd.Series:
    """Return by subject the lowest volume ratio of smaller to larger side over its muscles, 0 to 1.

    slices: one row per slice, muscle and side, from `aggregate.cohort_slices`. weight: volume of
    each row, null if unknown. A muscle that is absent on one side has ratio 0; one that is absent
    on both sides, or unknown on one in all slices, is left out.
    """
    volume = _sums(slices, weight, weight.notna(), ["subject", "muscle", "side"]).unstack("side")
    volume = volume[(volume > 0).any(axis=1) & volume.notna().all(axis=1) & (volume.shape[1] == 2)]
    return (volume.min(axis=1) / volume.max(axis=1)).groupby(level="subject").min()


def fat_outliers(scans: pd.DataFrame) -> pd.Series:
    """Return how many SD each scan's fat fraction is from that expected for sex and age.

    scans: columns sex, age_years and fat_fraction (0-1); the result has its index. Sort them in the
    same way in each run: another order may change the last digits. It is the externally studentised
    residual of a linear model of sex and age (Cook and Weisberg 1982), in which the scan itself does
    not enter the SD; positive if the fat fraction is above the expected one. Null without sex, age or
    fat fraction or if undefined (the only man), and for all scans if fewer than FEWEST_FOR_MODEL (10)
    have the three.
    """
    known = scans.dropna(subset=["sex", "age_years", "fat_fraction"])
    if len(known) < FEWEST_FOR_MODEL:
        return pd.Series(np.nan, index=scans.index, dtype=float)
    import statsmodels.api as sm  # takes 1 s, which most commands need not

    design = pd.DataFrame(
        {"age": known.age_years.astype(float), "man": (known.sex == "M").astype(float)}
    )
    design = sm.add_constant(design.loc[:, design.nunique() > 1], has_constant="add")
    influence = sm.OLS(known.fat_fraction.astype(float), design).fit().get_influence()
    outliers = pd.Series(influence.resid_studentized_external, known.index)
    defined = np.isfinite(outliers) & (1 - influence.hat_matrix_diag > LEAST_REST)
    return outliers.where(defined).reindex(scans.index)


def flagged(ledger: pd.DataFrame, thresholds: Mapping[str, float]) -> pd.DataFrame:
    """Return a copy of the ledger with the codes of the automatic flags added to the column warnings.

    ledger: one row per scan, with the columns that FLAGS name (those of `scan_quality` but
    fat_fraction, and fat_outlier_sd from `fat_outliers`) and warnings (collections of codes; sorted
    tuples in the result). thresholds: section `flags` of the configuration, {Flag.threshold: limit}.
    """
    ledger = ledger.copy()
    codes = [set(warnings) for warnings in ledger.warnings]
    for flag in FLAGS:
        raised = flag.raised(ledger[flag.column], thresholds[flag.threshold])
        for row in np.flatnonzero(raised):
            codes[row].add(str(flag.caution))
    ledger["warnings"] = [tuple(sorted(own)) for own in codes]
    return ledger


def flag_counts(ledger: pd.DataFrame, thresholds: Mapping[str, float]) -> pd.DataFrame:
    """Return how many scans each automatic flag flags, one row per flag.

    ledger: one row per scan, with the columns that FLAGS name, see `flagged`. thresholds: section
    `flags` of the configuration, {Flag.threshold: limit}. Columns: flag (code), title, below (whether
    low values are flagged), threshold, scans (number with a value), flagged (number).
    """
    rows = []
    for flag in FLAGS:
        values, limit = ledger[flag.column], thresholds[flag.threshold]
        rows.append(
            {
                "flag": str(flag.caution),
                "title": flag.title,
                "below": flag.below,
                "threshold": limit,
                "scans": int(values.notna().sum()),
                "flagged": int(flag.raised(values, limit).sum()),
            }
        )
    return pd.DataFrame(rows)
