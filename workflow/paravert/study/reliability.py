"""Reliability of paired measurements: two visits, two readers, or prediction against manual mask.

Intraclass correlations, standard error of measurement, smallest detectable change, coefficient of
variation, Bland-Altman limits for subjects and for single slices, and a test of equivalence.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from paravert import codebook
from paravert.anatomy import MUSCLES, SIDES, level_number
from paravert.study.accuracy import (
    BOTH,
    CONFIDENCE,
    NORMAL_95,
    IntraclassCorrelation,
    Limits,
    absolute_agreement,
    if_enough,
    limits_of_agreement,
    mean_squares,
    nearest_slice_areas,
    paired_slice_areas,
    subject_areas,
    trend,
)
from paravert.study.both_sides import joined
from paravert.study.change import MEASURES, REPEAT_YEARS, two_scans
from paravert.study.data_frames import read_by_scan
from paravert.study.scans import scan_keys
from paravert.study.standard_level import ALL_SLICES

MASK_AND_NETWORK = "manual mask, network"
TWO_VISITS = "first visit, second visit"
TWO_RATERS = "first rater, second rater"
MASKS, VISITS, RATERS = "masks", "visits", "raters"  # in the column source
# Equivalence, stated in advance. In percent of the mean of the first measurements, fat: absolute.
MARGIN_PERCENT, FAT_MARGIN = 5.0, 0.02
LEVEL_MEASURES = {"csa_mm2": "mm2", "fat_fraction": "1"}  # of the table levels
LEVEL_COLUMNS = ("subject", "level", "muscle", "side", *LEVEL_MEASURES)
SLICE_LEVEL_COLUMNS = ("subject", "stack_id", "slice", "muscle", "side", "level")
RELIABILITY_COLUMNS = (
    "source", "comparison", "measure", "unit", "level", "muscle", "side", "n_subjects", "df", "first_mean", "second_mean",
    "icc_2_1", "icc_2_1_low_95", "icc_2_1_high_95", "icc_3_1", "icc_3_1_low_95", "icc_3_1_high_95",
    "sem", "sem_low_95", "sem_high_95", "mdc_95", "within_subject_cv",
    "bias", "bias_low_95", "bias_high_95", "sd",
    "lower_limit", "lower_limit_low_95", "lower_limit_high_95",
    "upper_limit", "upper_limit_low_95", "upper_limit_high_95", "trend_slope", "trend_p_value",
    "margin", "equivalence_p_value", "equivalent", "n_slices", "slice_bias", "slice_sd",
    "slice_lower_limit", "slice_lower_limit_low_95", "slice_lower_limit_high_95",
    "slice_upper_limit", "slice_upper_limit_low_95", "slice_upper_limit_high_95",
)  # fmt: skip


def mask_reliability(overlap: pd.DataFrame, slice_levels: pd.DataFrame) -> pd.DataFrame:
    """Return the reliability of areas between manual mask (first) and prediction (second).

    overlap: from `accuracy.held_out_rows`, one row per slice, muscle and side with a manual mask; rows
    with review_failed are left out. slice_levels: level of each slice, from `scored_slice_levels`. One
    row per level, muscle and side (left, right, both), with the columns of `reliability`
    (RELIABILITY_COLUMNS; areas in mm2); source is "masks", comparison "manual mask, network". Column
    level: "all slices", for a subject's means as csa_mean_mm2 of the study (`accuracy.subject_areas`);
    and each vertebra or disc that people with five lumbar vertebrae have (not L6), for means over the
    slices nearest to it in which mask or prediction shows the muscle (`accuracy.nearest_slice_areas`);
    there, a muscle and side with fewer than two subjects has no row.
    """
    tables = [_of_masks(overlap, subject_areas).assign(level=ALL_SLICES)]
    placed = overlap.merge(slice_levels, on=[*scan_keys(overlap), "stack_id", "slice"])
    for level, own in _by_level(placed):
        tables.append(_compared(_of_masks(own, nearest_slice_areas)).assign(level=level))
    return pd.concat(tables, ignore_index=True).assign(source=MASKS, comparison=MASK_AND_NETWORK)


def rater_reliability(overlap: pd.DataFrame, slice_levels: pd.DataFrame) -> pd.DataFrame:
    """Return the reliability of areas between the manual masks of two raters.

    overlap: rows of the cohort table `overlap`, one per slice, muscle and side with a manual mask
    (first); those with pixels_truth2, of a second mask (second), are used, also where the network's
    labels failed the review. slice_levels: level of each slice, from `scored_slice_levels`. Rows and
    columns as from `mask_reliability`: one row per level, muscle and side (left, right, both), with
    RELIABILITY_COLUMNS; source is "raters", comparison "first rater, second rater". Empty without a
    second mask.
    """
    known = overlap.dropna(subset=["pixels_truth2"])
    if known.empty:
        return pd.DataFrame(columns=list(RELIABILITY_COLUMNS))
    # The review is of the network's labels, not of the masks.
    both = known.assign(pixels_prediction=known["pixels_truth2"], review_failed=False)
    found = mask_reliability(both, slice_levels)
    return found.assign(source=RATERS, comparison=TWO_RATERS)


def _of_masks(
    overlap: pd.DataFrame, areas_of: Callable[[pd.DataFrame], pd.DataFrame]
) -> pd.DataFrame:
    names = {"truth_mm2": "first", "prediction_mm2": "second"}
    pairs, slices = (
        areas(overlap).rename(columns=names) for areas in (areas_of, paired_slice_areas)
    )
    return reliability(pairs, slices, "csa", "mm2")


def scored_slice_levels(cohort: Path, overlap: pd.DataFrame) -> pd.DataFrame:
    """Return the vertebra or disc nearest to each slice of the subjects that have manual masks.

    cohort: folder of the cohort tables; its table `slices` is read in parts. overlap: rows of the
    cohort table `overlap`; slices of its subjects are returned. Columns: subject, visit if there is
    one, stack_id, slice, level (name). Slices of unknown level are left out.
    """
    scored = set(overlap["subject"].unique())
    parts = []
    for part in read_by_scan(cohort, codebook.SLICES, SLICE_LEVEL_COLUMNS):
        keys = [*scan_keys(part), "stack_id", "slice"]
        own = part[part["subject"].isin(scored)].drop_duplicates(keys)
        parts.append(own[[*keys, "level"]].dropna(subset=["level"]))
    return pd.concat(parts, ignore_index=True)


def visit_reliability(
    muscles: pd.DataFrame, subjects: pd.DataFrame, levels: pd.DataFrame
) -> pd.DataFrame:
    """Return the reliability of area, volume and fat fraction between two visits of a subject.

    muscles, subjects, levels: the cohort tables. First and second measurement are the first two
    analysed visits of each subject, by years_since_first or, if that is not known for all its
    scans, by name; pairs known to be REPEAT_YEARS (0.25) years or more apart are left out, as they
    show a change. One row per level, measure (csa, volume, fat_fraction), muscle and side, with the
    columns of `reliability`. Side "both": sum of areas and volumes, mean of fat fractions weighted
    by volume (at a level: by area), null if that of a side is unknown; a side without the muscle
    does not enter the fat fraction. Pairs of areas or volumes that are 0 at both visits are left
    out. Column level: "all slices", for a scan as a whole, and each vertebra or disc (no volume);
    there, a muscle and side with fewer than two subjects has no row. Single slices are not
    compared, because those of two visits are at different places. source is "visits", comparison "first
    visit, second visit". Empty if subjects has no column visit.
    """
    if "visit" not in subjects:
        return pd.DataFrame(columns=list(RELIABILITY_COLUMNS))
    tables = [_of_visits(muscles, subjects, MEASURES, "volume_ml").assign(level=ALL_SLICES)]
    for level, own in _by_level(levels):
        of_level = _of_visits(own, subjects, LEVEL_MEASURES, "csa_mm2")
        tables.append(_compared(of_level).assign(level=level))
    return pd.concat(tables, ignore_index=True).assign(source=VISITS, comparison=TWO_VISITS)


def _by_level(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield name and rows of each level, cranial to caudal.

    Levels that only people with four or six lumbar vertebrae have, such as L6, are passed over.
    """
    usual = [level for level in rows["level"].unique() if level_number(level) is not None]
    for level in sorted(usual, key=level_number):
        yield level, rows[rows["level"] == level].drop(columns="level")


def _compared(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with two subjects or more."""
    return table[table["n_subjects"] > 1]


def _of_visits(
    rows: pd.DataFrame, subjects: pd.DataFrame, measures: Mapping[str, str], weight: str
) -> pd.DataFrame:
    """Return the reliability of measures (unit by column). weight: column that weights fat fractions."""
    first, second = two_scans(rows, subjects, (0, 1))
    # By name, where a third visit has no years, the later one may come first.
    near = ~((second["years"] - first["years"]).abs() >= REPEAT_YEARS)
    first, second = (
        _with_both_sides(scan[near], list(measures), weight) for scan in (first, second)
    )
    tables = []
    for measure, unit in measures.items():
        pairs = pd.DataFrame({"first": first[measure], "second": second[measure]}).reset_index()
        name = measure.removesuffix(f"_{unit}").removesuffix("_mean")
        tables.append(reliability(pairs, pairs[:0], name, unit))
    return pd.concat(tables, ignore_index=True)


def _with_both_sides(scan: pd.DataFrame, measures: list[str], weight: str) -> pd.DataFrame:
    """Return the measures of a scan by subject, muscle and side, of left, right and both."""
    sizes = sorted(set(measures) - {"fat_fraction"}, key=lambda name: name != weight)
    both = joined(scan, ["subject", "muscle"], sizes, "fat_fraction")
    both = both.assign(side=BOTH).set_index("side", append=True)
    plain = [
        one.reset_index().astype({"muscle": str, "side": str}) for one in (scan[measures], both)
    ]
    return pd.concat(plain, ignore_index=True).set_index(["subject", "muscle", "side"])


def reliability(pairs: pd.DataFrame, slices: pd.DataFrame, measure: str, unit: str) -> pd.DataFrame:
    """Return the reliability of pairs of measurements, one row per muscle and side (left, right, both).

    pairs: one row per subject, muscle and side (left, right, and both, which is not computed here),
    with the measurements first and second; rows with a null are left out, and areas and volumes
    that are 0 twice (`shown_once`). slices: the same columns, a row per slice; with fewer than two
    subjects, or no subject with two slices, the limits of single slices are null. All 12 rows are
    there; statistics that need more subjects are null, see `paired_statistics`. measure, unit:
    written into the rows; for the unit "1" the margin of equivalence is FAT_MARGIN (0.02),
    otherwise MARGIN_PERCENT (5 %) of the mean of first. Columns (RELIABILITY_COLUMNS; in the unit
    of the measurement, column unit): intraclass correlations icc_2_1 and icc_3_1, standard error of
    measurement sem, smallest detectable change mdc_95, within_subject_cv (fraction), bias and
    Bland-Altman limits of second - first, trend with size, test of equivalence, limits of single
    slices; each with its 95 % interval where there is one. source, comparison and level are null.
    """
    rows = []
    for muscle in MUSCLES:
        for side in (*SIDES, BOTH):
            own, single = (
                frame[(frame["muscle"] == muscle) & (frame["side"] == side)].dropna(
                    subset=["first", "second"]
                )
                for frame in (pairs, slices)
            )
            if unit != "1":
                own = shown_once(own, ["first", "second"])
            row = {"measure": measure, "unit": unit, "muscle": muscle, "side": side}
            margin = FAT_MARGIN if unit == "1" else None
            row |= paired_statistics(own["first"], own["second"], margin) | _of_slices(single)
            rows.append(row)
    return pd.DataFrame(rows, columns=list(RELIABILITY_COLUMNS))


def shown_once(pairs: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Return the pairs in which a measurement shows the muscle: above 0 in one of the columns.

    pairs: one row per pair. columns: names of the two with areas or volumes. That a muscle is
    absent twice, such as quadratus lumborum at L5/S1, tells nothing of how well it is measured.
    """
    return pairs[(pairs[columns] > 0).any(axis=1)]


def paired_statistics(
    first: Sequence[float], second: Sequence[float], margin: float | None = None
) -> dict:
    """Return the statistics of two measurements of each subject, {name: value}.

    Names: n_subjects, df (n_subjects - 1), first_mean, second_mean; icc_2_1, icc_3_1, sem (standard
    error of measurement), bias (second - first), lower_limit and upper_limit (Bland-Altman), these six
    also with _low_95 and _high_95; mdc_95 (smallest detectable change), within_subject_cv (a fraction),
    sd (of the differences), trend_slope and trend_p_value (of second - first over the mean of both,
    `accuracy.trend`), margin, equivalence_p_value, equivalent (whether that p is below .05). first,
    second: (subjects,), finite, in one unit. margin: of the test of equivalence, in their unit; None:
    MARGIN_PERCENT (5 %) of the mean of first. Of fewer than LEAST_COMPARED (5) subjects only
    n_subjects, df, means, sd, margin, and bias and limits with their intervals are there; others are
    NaN (equivalent: None), as is what is undefined, such as the sd of one subject.
    """
    first, second = (np.asarray(values, dtype=float) for values in (first, second))
    both = if_enough(np.column_stack([first, second]))
    agreement, consistent = absolute_agreement(both), consistency(both)
    sem, sem_low, sem_high = standard_error_of_measurement(both)
    limits = limits_of_agreement(second, first)
    slope, p_value = trend(second, first)
    differences = both[:, 1] - both[:, 0]
    if margin is None:
        margin = MARGIN_PERCENT / 100 * first.mean() if len(first) else np.nan
    equivalence = equivalence_p_value(differences, margin)
    return {
        "n_subjects": len(first),
        "df": max(0, len(first) - 1),
        "first_mean": first.mean() if len(first) else np.nan,
        "second_mean": second.mean() if len(first) else np.nan,
        "icc_2_1": agreement.icc,
        "icc_2_1_low_95": agreement.low,
        "icc_2_1_high_95": agreement.high,
        "icc_3_1": consistent.icc,
        "icc_3_1_low_95": consistent.low,
        "icc_3_1_high_95": consistent.high,
        "sem": sem,
        "sem_low_95": sem_low,
        "sem_high_95": sem_high,
        "mdc_95": smallest_detectable_change(sem),
        "within_subject_cv": within_subject_variation(both),
        "trend_slope": slope,
        "trend_p_value": p_value,
        "margin": margin,
        "equivalence_p_value": equivalence,
        "equivalent": None if np.isnan(equivalence) else bool(equivalence < 1 - CONFIDENCE),
        "sd": limits.sd,
    } | _limits("", limits)


def _limits(prefix: str, limits: Limits) -> dict:
    found = {}
    for name, value, error in (
        ("bias", limits.bias, limits.bias_error),
        ("lower_limit", limits.lower, limits.limit_error),
        ("upper_limit", limits.upper, limits.limit_error),
    ):
        found[f"{prefix}{name}"] = value
        found[f"{prefix}{name}_low_95"] = value - error
        found[f"{prefix}{name}_high_95"] = value + error
    return found


def consistency(ratings: np.ndarray) -> IntraclassCorrelation:
    """Return the intraclass correlation ICC(3,1): two-way, measurements fixed, consistency.

    ratings: float (subjects, measurements). It is the reliability of a single measurement, not of
    their mean. A constant bias between the measurements does not change it. NaN with fewer than two
    subjects or if all ratings are equal; the interval alone is NaN if the measurements differ by a
    constant only. Source: Shrout and Fleiss 1979, ICC(3,1) and its interval.
    """
    subjects, raters = ratings.shape
    if subjects < 2 or np.ptp(ratings) == 0:
        return IntraclassCorrelation(*[np.nan] * 3)
    between, _, error = mean_squares(ratings)
    icc = (between - error) / (between + (raters - 1) * error)
    if error <= np.finfo(float).eps * between:
        return IntraclassCorrelation(float(icc), np.nan, np.nan)
    ratio, dfs = between / error, (subjects - 1, (subjects - 1) * (raters - 1))
    low = ratio / stats.f.ppf((1 + CONFIDENCE) / 2, *dfs)
    high = ratio * stats.f.ppf((1 + CONFIDENCE) / 2, *dfs[::-1])
    ends = [(end - 1) / (end + raters - 1) for end in (low, high)]
    return IntraclassCorrelation(float(icc), *map(float, ends))


def standard_error_of_measurement(ratings: np.ndarray) -> tuple[float, float, float]:
    """Return the SD of repeated measurements of one subject, and its 95 % interval: (sd, low, high).

    ratings: float (subjects, measurements); the result has their unit. A bias between measurements
    does not enter: the SD is the root of the error mean square of the two-way analysis of variance
    (Weir 2005), for pairs SD of the differences / sqrt(2). NaN with fewer than two subjects.
    """
    subjects, raters = ratings.shape
    if subjects < 2:
        return np.nan, np.nan, np.nan
    error = mean_squares(ratings)[2]
    df = (subjects - 1) * (raters - 1)
    low, high = stats.chi2.ppf([(1 + CONFIDENCE) / 2, (1 - CONFIDENCE) / 2], df)
    return (
        float(np.sqrt(error)),
        float(np.sqrt(error * df / low)),
        float(np.sqrt(error * df / high)),
    )


def smallest_detectable_change(sem: float) -> float:
    """Return the smallest detectable change MDC95 = 1.96 sqrt(2) sem, in the unit of sem.

    sem: standard error of measurement. 95 % of the differences between two measurements of an
    unchanged subject are smaller.
    """
    return NORMAL_95 * np.sqrt(2) * sem


def within_subject_variation(ratings: np.ndarray) -> float:
    """Return the within-subject coefficient of variation: root mean square over subjects of SD / mean.

    ratings: float (subjects, measurements), finite, two measurements or more. SD: that of a sample (n -
    1). A fraction, not a percentage. Subjects with mean 0 are left out; NaN if none is left. Source:
    Bland, "How should I calculate a within-subject coefficient of variation?", root mean square
    approach.
    """
    mean = ratings.mean(axis=1)
    known = mean != 0
    if not known.any():
        return np.nan
    variation = ratings[known].var(axis=1, ddof=1) / mean[known] ** 2
    return float(np.sqrt(variation.mean()))


def equivalence_p_value(difference: np.ndarray, margin: float) -> float:
    """Return the p value of two one-sided t tests (TOST): below .05 the mean is within -+ margin.

    difference: (subjects,), finite, in the unit of margin. NaN with fewer than two subjects; if all
    are equal, 0 within the margin and otherwise 1. Source: Schuirmann 1987.
    """
    if len(difference) < 2:
        return np.nan
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    if error == 0:
        return float(abs(difference.mean()) >= margin)
    nearest = (margin - abs(difference.mean())) / error
    return float(stats.t.sf(nearest, len(difference) - 1))


# --- single slices -------------------------------------------------------------------------------


def _of_slices(own: pd.DataFrame) -> dict:
    difference = (own["second"] - own["first"]).to_numpy(dtype=float)
    bias, sd, ends = clustered_limits(difference, own["subject"].to_numpy())
    found = {"n_slices": len(own), "slice_bias": bias, "slice_sd": sd}
    for name, (value, low, high) in ends.items():
        found |= {
            f"slice_{name}": value,
            f"slice_{name}_low_95": low,
            f"slice_{name}_high_95": high,
        }
    return found


def clustered_limits(
    difference: np.ndarray, subjects: np.ndarray
) -> tuple[float, float, dict[str, tuple[float, float, float]]]:
    """Return bias, SD and limits of agreement of the difference in a single slice: (bias, sd, limits).

    difference: (slices,), finite. subjects: (slices,), name of each slice's subject. limits:
    {"lower_limit", "upper_limit": (value, low, high of its 95 % interval)}. The bias is the mean
    over subjects of their means; the variance is that between subjects plus that within. All NaN
    with fewer than two subjects or if no subject has two slices. Source: Bland and Altman 2007;
    intervals: Zou 2013 (MOVER).
    """
    groups = pd.Series(difference).groupby(subjects)
    means, counts = groups.mean().to_numpy(), groups.size().to_numpy()
    n, within_df = len(means), len(difference) - len(means)
    if n < 2 or within_df < 1:
        unknown = (np.nan, np.nan, np.nan)
        return np.nan, np.nan, {"lower_limit": unknown, "upper_limit": unknown}
    bias, of_means = float(means.mean()), float(means.var(ddof=1))
    within = float((groups.var(ddof=1) * (groups.size() - 1)).sum() / within_df)
    parts = ((of_means, n - 1), ((1 - np.mean(1 / counts)) * within, within_df))
    variance = sum(part for part, _ in parts)
    low, high = (
        variance + sign * np.sqrt(sum(_distance(part, df, sign) ** 2 for part, df in parts))
        for sign in (-1, 1)
    )
    sd, z = float(np.sqrt(variance)), NORMAL_95
    inner, outer = (
        float(np.sqrt(stats.norm.ppf((1 + CONFIDENCE) / 2) ** 2 * of_means / n + (z * gap) ** 2))
        for gap in (sd - np.sqrt(max(low, 0)), np.sqrt(high) - sd)
    )
    lower, upper = bias - z * sd, bias + z * sd
    return bias, sd, {
        "lower_limit": (lower, lower - outer, lower + inner),
        "upper_limit": (upper, upper - inner, upper + outer),
    }  # fmt: skip


def _distance(variance: float, df: int, sign: int) -> float:
    """Return the distance from a variance to an end of its 95 % interval; sign: -1 lower, 1 upper."""
    quantile = stats.chi2.ppf(0.5 - sign * CONFIDENCE / 2, df)
    return abs(variance * (df / quantile - 1))
