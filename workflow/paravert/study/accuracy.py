"""Predictions against manual masks over the cohort: overlap, agreement of areas, ICC."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from paravert import codebook
from paravert.anatomy import MUSCLES, SIDES, level_number
from paravert.study.data_frames import read_by_scan, read_frame
from paravert.study.level_areas import areas_at_levels
from paravert.study.result_tables import BOOTSTRAP, LEAST_RESAMPLED, too_few_to_resample
from paravert.study.scans import scan_keys, scan_names
from paravert.study.standard_level import ALL_SLICES, ONE_MUSCLE, StandardLevel
from paravert.tables import NO_SUCH_LEVEL

# Niemeyer et al., Eur Spine J 2022, Table 1: median IoU over all slices of 22 volunteers.
PAPER_MEDIAN_IOU = {
    ("psoas_major", "left"): 0.930,
    ("psoas_major", "right"): 0.935,
    ("quadratus_lumborum", "left"): 0.891,
    ("quadratus_lumborum", "right"): 0.892,
    ("erector_spinae", "left"): 0.929,
    ("erector_spinae", "right"): 0.923,
    ("multifidus", "left"): 0.868,
    ("multifidus", "right"): 0.862,
}
SCORE_COLUMNS = (
    "subject", "stack_id", "slice", "muscle", "side", "iou", "dice", "pixels_truth",
    "pixels_prediction", "pixel_mm2", "held_out", "review_failed",
)  # fmt: skip
CONFIDENCE = 0.95
NO_HELD_OUT = "No held-out subject has a manual mask"
NO_AREAS = "No held-out subject has a manual mask with areas to compare"
PLACE_COLUMNS = (
    *("subject", "stack_id", "slice", "muscle", "side"),
    *("level_position", "position_mm", "tilt_deg", "slab_mm", "overlaps"),
)
AREA_COLUMNS = ("truth_mm2", "prediction_mm2")
BOTH = "both"  # sum of left and right
LEAST_COMPARED = (
    5  # subjects; of fewer there is no correlation, error of measurement, trend or test
)
ROUNDING = 1e-9  # differences of measurements, relative to these, that are due to rounding
NORMAL_95 = 1.96  # of the limits of agreement, as Bland and Altman 1986 give it


def held_out_rows(overlap: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the cohort table `overlap` in which the network can be tested.

    overlap: one row per slice, muscle and side with a manual mask. Rows are kept if their column
    held_out is True: the labels that the mask is compared with come from the network, and the
    subject was not in its training data.
    """
    return overlap[overlap["held_out"]]


def table1_iou(overlap: pd.DataFrame, samples: int, seed: int) -> pd.DataFrame:
    """Return Table 1 of the study: IoU and Dice with the manual masks, one row per muscle and side.

    overlap: from `held_out_rows`; rows without IoU (muscle absent in mask and prediction) are left
    out, those that failed the review by eye are not. samples, seed: number of samples and random
    seed of the bootstrap over subjects. Columns: muscle, side, n_slices, n_subjects. For each
    score, iou and dice (0 to 1): <score>_median over slices, its 95 % interval <score>_low_95 and
    <score>_high_95, <score>_lower_quartile, <score>_upper_quartile, <score>_lowest. covariance: how
    the intervals were made. note: why there are none, with fewer than LEAST_RESAMPLED (5) subjects.
    iou_paper: median IoU of Niemeyer et al. 2022. For a muscle and side without rows the counts are
    0 and the scores NaN.
    """
    known = overlap.dropna(subset=["iou"])
    known = known.assign(subject=pd.factorize(known["subject"], sort=True)[0])
    return pd.DataFrame(
        {"muscle": muscle, "side": side}
        | _overlap_summary(
            known[(known["muscle"] == muscle) & (known["side"] == side)], samples, seed
        )
        | {"iou_paper": paper}
        for (muscle, side), paper in PAPER_MEDIAN_IOU.items()
    )


def _overlap_summary(own: pd.DataFrame, samples: int, seed: int) -> dict:
    subjects = own["subject"].to_numpy()
    summary = {"n_slices": len(own), "n_subjects": own["subject"].nunique()}
    columns = {score: own[score].to_numpy(dtype=float) for score in ("iou", "dice")}
    intervals = median_intervals(list(columns.values()), subjects, samples, seed)
    for (score, values), (low, high) in zip(columns.items(), intervals, strict=True):
        lower, median, upper = np.quantile(values, [0.25, 0.5, 0.75]) if len(own) else [np.nan] * 3
        summary |= {
            f"{score}_median": median,
            f"{score}_low_95": low,
            f"{score}_high_95": high,
            f"{score}_lower_quartile": lower,
            f"{score}_upper_quartile": upper,
            f"{score}_lowest": values.min() if len(own) else np.nan,
        }
    note = too_few_to_resample(summary["n_subjects"])
    return summary | {"covariance": None if note else BOOTSTRAP, "note": note}


def median_intervals(
    columns: Sequence[np.ndarray], subjects: np.ndarray, samples: int, seed: int
) -> list[tuple[float, float]]:
    """Return the 95 % bootstrap interval (low, high) of the median of each column.

    columns: arrays (n,) of finite values. subjects: (n,), the subject of each value. samples:
    number of bootstrap samples, each of which draws subjects with replacement, with all their
    values. seed: of the random numbers. The interval is between the 2.5th and 97.5th percentile of
    the medians; (NaN, NaN) with fewer than LEAST_RESAMPLED (5) subjects. Source: Efron and Tibshirani
    1993, chapter 13; Davison and Hinkley 1997, section 3.8.
    """
    medians = clustered_medians(columns, subjects, samples, seed)
    if not medians.size:
        return [(np.nan, np.nan)] * len(columns)
    ends = np.quantile(medians, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=1)
    return [(float(low), float(high)) for low, high in ends.T]


def clustered_medians(
    columns: Sequence[np.ndarray], subjects: np.ndarray, samples: int, seed: int
) -> np.ndarray:
    """Return the median of each column in each bootstrap sample of subjects, float (columns, samples).

    columns: arrays (n,) of finite values. subjects: (n,), the subject of each value; a sample draws as
    many subjects as there are, with replacement, each with all its values. samples: number of bootstrap
    samples. seed: of the random numbers. The shape is (columns, 0) with fewer than LEAST_RESAMPLED (5)
    subjects.
    """
    names, codes = np.unique(subjects, return_inverse=True)
    samples = samples if len(names) >= LEAST_RESAMPLED else 0
    random, medians = np.random.default_rng(seed), np.empty((len(columns), samples))
    orders = [np.argsort(values, kind="stable") for values in columns]
    ascending = [
        (values[order], codes[order]) for values, order in zip(columns, orders, strict=True)
    ]
    for sample in range(samples):
        drawn = random.multinomial(len(names), np.full(len(names), 1 / len(names)))
        for column, (values, owners) in enumerate(ascending):
            upto = drawn[owners].cumsum()  # how often values up to this one were drawn
            middle = np.array([upto[-1] - 1, upto[-1]]) // 2
            medians[column, sample] = values[np.searchsorted(upto, middle, side="right")].mean()
    return medians


# --- agreement of areas -----------------------------------------------------------------------


def area_agreement(areas: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the agreement of areas by prediction and by manual mask over subjects, per level.

    areas: {level: data frame with one row per subject, muscle and side and the areas truth_mm2 and
    prediction_mm2}, from `compared_areas`, which adds the rows of side "both" (left + right). One
    row per level, muscle and side (left, right, both). Columns: level, muscle, side, n_subjects, df
    (n_subjects - 1, not below 0); truth_mean_mm2, prediction_mean_mm2; of the differences
    prediction - mask the mean bias_mm2, the SD sd_mm2 and the Bland-Altman limits lower_limit_mm2,
    upper_limit_mm2; the intraclass correlation icc_2_1 with its 95 % interval icc_low_95,
    icc_high_95, null with fewer than LEAST_COMPARED (5) subjects;
    median_absolute_difference_percent, in % of the mask's area where that is not 0. Any other value
    that needs more subjects than there are is null, too.
    """
    return pd.DataFrame(
        {"level": level, "muscle": muscle, "side": side}
        | _agreement(pairs[(pairs["muscle"] == muscle) & (pairs["side"] == side)])
        for level, pairs in areas.items()
        for muscle in MUSCLES
        for side in (*SIDES, BOTH)
    )


def paired_slice_areas(overlap: pd.DataFrame) -> pd.DataFrame:
    """Return the area of each muscle in each slice by manual mask and by prediction, in mm2.

    overlap: rows of the cohort table `overlap`, one per slice, muscle and side with a manual mask.
    One row per slice, muscle and side that is in the mask or the prediction; rows with
    review_failed (labels that failed the review by eye) are left out. Columns: subject, muscle,
    side, truth_mm2, prediction_mm2 (null if pixels_prediction is); visit, stack and slice are not
    kept.
    """
    kept = overlap[~overlap["review_failed"].astype(bool)]
    shown = kept[(kept["pixels_truth"] > 0) | (kept["pixels_prediction"] > 0)]
    return pd.DataFrame(
        {
            "subject": shown["subject"],
            "muscle": shown["muscle"].astype(str),
            "side": shown["side"].astype(str),
            "truth_mm2": shown["pixels_truth"] * shown["pixel_mm2"],
            "prediction_mm2": shown["pixels_prediction"] * shown["pixel_mm2"],
        }
    )


def subject_areas(overlap: pd.DataFrame) -> pd.DataFrame:
    """Return the mean area of each muscle of each subject by manual mask and by prediction, in mm2.

    As csa_mean_mm2 of the study, each is the mean over the slices that show the muscle: truth_mm2 over
    those in which the mask does, prediction_mm2 over those in which the prediction does. So a muscle
    that the network misses at its ends has a larger mean, as in the study. overlap: rows of the cohort
    table `overlap` with known pixels_prediction, one per slice, muscle and side with a manual mask;
    slices of all scans of a subject count alike. One row per subject, muscle and side (left and right;
    and both, the sum of the two means, if both sides have a row). Columns: subject, muscle, side,
    truth_mm2, prediction_mm2. A mean is 0 if its source shows the muscle in no slice; if neither does,
    there is no row. Rows with review_failed are left out.
    """
    areas = paired_slice_areas(overlap)
    shown = areas.assign(**{name: areas[name].where(areas[name] > 0) for name in AREA_COLUMNS})
    return _with_both_sides(shown)


def nearest_slice_areas(overlap: pd.DataFrame) -> pd.DataFrame:
    """Return the mean area of each muscle of each subject over the slices nearest to a level, in mm2.

    overlap: rows of the cohort table `overlap` of these slices alone, which the caller selects. Rows
    and columns as from `subject_areas`, but both means are over the slices in which mask or prediction
    shows the muscle, with an area of 0 where one of them does not, as an area at a level is
    interpolated from slices without the muscle, too.
    """
    return _with_both_sides(paired_slice_areas(overlap))


def _with_both_sides(areas: pd.DataFrame) -> pd.DataFrame:
    """Return the means of truth_mm2 and prediction_mm2 per subject, muscle and side, and of side "both".

    A null does not enter a mean.
    """
    sides = areas.groupby(["subject", "muscle", "side"], as_index=False).mean()
    sides = sides.fillna(dict.fromkeys(AREA_COLUMNS, 0.0))  # null in all slices: not shown
    grouped = sides.groupby(["subject", "muscle"])
    both = (
        grouped[list(AREA_COLUMNS)]
        .sum()[grouped.size() == len(SIDES)]
        .reset_index()
        .assign(side=BOTH)
    )
    return pd.concat([sides, both[sides.columns]], ignore_index=True)


def compared_areas(
    cohort: Path, overlap: pd.DataFrame, level: StandardLevel
) -> dict[str, pd.DataFrame]:
    """Return the areas of each subject by manual mask and by prediction, {level: data frame}.

    cohort: folder of the cohort tables. overlap: from `held_out_rows`. level: the standard level, the
    vertebra or disc at which the study compares scans. Keys: "all slices", with `subject_areas`; before
    it, if `level.used` (at least 80 % of the subjects have values there), the name of the standard
    level, such as "L3/4", for areas interpolated there by `areas_at_levels` between those slices of a
    scan that have a manual mask, means over the scans of a subject. The frames have the columns of
    `subject_areas`: subject, muscle, side (left, right, both), truth_mm2, prediction_mm2. A muscle and
    side has no row if neither mask nor prediction shows it, or if an area at the level is unknown.
    Labels that failed the review by eye are left out, and at the level scans of people who lack it.
    """
    found = {ALL_SLICES: subject_areas(overlap)}
    if not level.used:
        return found
    return {level.name: _areas_at_level(cohort, overlap, level_number(level.name))} | found


def _areas_at_level(cohort: Path, overlap: pd.DataFrame, level: float) -> pd.DataFrame:
    """Return the areas at a level, see `compared_areas`.

    Slices without a mask are passed over: masks of every second slice are compared too.
    """
    counts = overlap[~overlap["review_failed"].astype(bool)]
    slice_keys = [*scan_keys(overlap), "stack_id", "slice"]
    names = [*slice_keys, "muscle", "side"]
    counts = counts[[*names, "pixels_truth", "pixels_prediction", "pixel_mm2"]]
    counts = counts.astype({"muscle": object, "side": object})
    masked = counts[slice_keys].drop_duplicates()
    lacking = _scans_without(cohort, level)
    parts = []
    for part in read_by_scan(cohort, codebook.SLICES, PLACE_COLUMNS):
        part = part[~scan_names(part).isin(lacking)]
        own = part.merge(masked, on=slice_keys).astype({"muscle": object, "side": object})
        if own.empty:
            continue
        own = own.merge(counts, on=names, how="left").rename(columns={"stack_id": "stack"})
        scan = scan_names(own)
        place = own.assign(subject=scan, fat_fraction=np.nan)
        place = place.assign(csa_reason=None, fat_fraction_reason=None)
        found = {
            which: areas_at_levels(place.assign(csa_mm2=own[f"pixels_{which}"] * own["pixel_mm2"]))
            for which in ("truth", "prediction")
        }
        both = found["truth"][["subject", "level_position", "muscle", "side"]].assign(
            **{f"{which}_mm2": table["csa_mm2"] for which, table in found.items()}
        )
        both = both[both["level_position"] == level].drop(columns="level_position")
        subject_of = dict(zip(scan, own["subject"], strict=True))
        parts.append(both.assign(subject=both["subject"].map(subject_of)))
    columns = ["subject", "muscle", "side", *AREA_COLUMNS]
    areas = pd.concat(parts) if parts else pd.DataFrame(columns=columns)
    values = areas[list(AREA_COLUMNS)].astype(float)
    return _with_both_sides(areas[values.notna().all(axis=1) & (values > 0).any(axis=1)])


def _scans_without(cohort: Path, level: float) -> set[str]:
    """Return the names of the scans of people who lack a vertebra or disc of this name (n_lumbar)."""
    here = (("level_position", "==", level), ("level_reason", "==", NO_SUCH_LEVEL))
    conditions = (*ONE_MUSCLE, *here)  # all muscles of a scan lack it alike
    return set(scan_names(read_frame(cohort, codebook.LEVEL_TABLE, ["subject"], conditions)))


def _agreement(pairs: pd.DataFrame) -> dict:
    truth = pairs["truth_mm2"].to_numpy(dtype=float)
    prediction = pairs["prediction_mm2"].to_numpy(dtype=float)
    limits = limits_of_agreement(prediction, truth)
    correlation = absolute_agreement(if_enough(np.column_stack([prediction, truth])))
    return {
        "n_subjects": len(pairs),
        "df": max(0, len(pairs) - 1),
        "truth_mean_mm2": truth.mean() if truth.size else np.nan,
        "prediction_mean_mm2": prediction.mean() if truth.size else np.nan,
        "bias_mm2": limits.bias,
        "sd_mm2": limits.sd,
        "lower_limit_mm2": limits.lower,
        "upper_limit_mm2": limits.upper,
        "icc_2_1": correlation.icc,
        "icc_low_95": correlation.low,
        "icc_high_95": correlation.high,
        "median_absolute_difference_percent": _median_percent(prediction, truth),
    }


def _median_percent(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Return the median of |prediction - truth| / truth in percent, where truth is not 0."""
    drawn = truth > 0
    if not drawn.any():
        return np.nan
    return float(100 * np.median(np.abs(prediction - truth)[drawn] / truth[drawn]))


# --- Bland and Altman ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Limits:
    """Bias and Bland-Altman limits of agreement of two measurements, in their unit; NaN if undefined.

    bias: mean of the differences measured - truth (`limits_of_agreement`). sd: standard deviation of
    the differences (n - 1). lower, upper: limits of agreement, bias -+ 1.96 sd. bias_error,
    limit_error: half widths of the 95 % intervals of the bias, and of each limit.
    """

    bias: float
    sd: float
    lower: float
    upper: float
    bias_error: float
    limit_error: float


def limits_of_agreement(measured: np.ndarray, truth: np.ndarray) -> Limits:
    """Return bias, SD and Bland-Altman limits of agreement (bias -+ 1.96 SD) of measured - truth.

    measured, truth: (subjects,), finite, in the same unit, which is also that of the result. The bias is
    NaN without subjects, all else with fewer than two. Source: Bland and Altman, Lancet 1986;
    intervals: Stat Methods Med Res 1999, section 2.1.
    """
    difference = np.asarray(measured) - np.asarray(truth)
    n = difference.size
    bias = float(difference.mean()) if n else np.nan
    if n < 2:
        return Limits(bias, *[np.nan] * 5)
    sd = float(difference.std(ddof=1))
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * sd
    return Limits(
        bias=bias,
        sd=sd,
        lower=bias - NORMAL_95 * sd,
        upper=bias + NORMAL_95 * sd,
        bias_error=reach / np.sqrt(n),
        limit_error=reach * np.sqrt(1 / n + NORMAL_95**2 / (2 * (n - 1))),
    )


def if_enough(ratings: np.ndarray) -> np.ndarray:
    """Return paired measurements as they are, but none of them if there are too few subjects.

    ratings: (subjects, measurements); of fewer than LEAST_COMPARED (5) subjects the result is
    empty, because an ICC or a smallest detectable change would be due to chance.
    """
    return ratings if len(ratings) >= LEAST_COMPARED else ratings[:0]


def trend(measured: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Return slope and p value of the regression of measured - truth on the mean of the two.

    It shows whether the difference changes with size. measured, truth: (subjects,), finite, in the same
    unit; the slope has none. (NaN, NaN) with fewer than LEAST_COMPARED (5) subjects or if all means are
    equal; (0, NaN) if all differences are equal, but for rounding. Source: Bland and Altman, Stat
    Methods Med Res 1999, section 3.2.
    """
    measured, truth = np.asarray(measured, dtype=float), np.asarray(truth, dtype=float)
    mean = (measured + truth) / 2
    if mean.size < LEAST_COMPARED or np.ptp(mean) == 0:
        return np.nan, np.nan
    difference = measured - truth
    if np.ptp(difference) <= ROUNDING * np.abs(mean).max():
        return 0.0, np.nan
    found = stats.linregress(mean, difference)
    return float(found.slope), float(found.pvalue)


# --- intraclass correlation ----------------------------------------------------------------------


@dataclass(frozen=True)
class IntraclassCorrelation:
    """An intraclass correlation with its 95 % interval.

    icc: at most 1, perhaps negative. low, high: ends of the interval. All are NaN with fewer than two
    subjects or if all measurements are equal; low and high also if the measurements differ by a
    constant only.
    """

    icc: float
    low: float
    high: float


def absolute_agreement(ratings: np.ndarray) -> IntraclassCorrelation:
    """Return the intraclass correlation ICC(2,1): two-way random effects, absolute agreement.

    ratings: finite, (subjects, measurements), such as one column by prediction and one by mask. It is
    the reliability of a single measurement, not of their mean, and a constant bias between the
    measurements lowers it. NaN with fewer than two subjects or if all ratings are equal; the
    interval alone is NaN if the measurements differ by a constant only. Source: Shrout and Fleiss
    1979, ICC(2,1); McGraw and Wong 1996, ICC(A,1) and its interval.
    """
    subjects, raters = ratings.shape
    if subjects < 2 or np.ptp(ratings) == 0:
        return IntraclassCorrelation(np.nan, np.nan, np.nan)
    between, methods, error = mean_squares(ratings)
    icc = (between - error) / (
        between + (raters - 1) * error + raters * (methods - error) / subjects
    )
    return IntraclassCorrelation(
        float(icc), *_interval(icc, between, methods, error, ratings.shape)
    )


def mean_squares(ratings: np.ndarray) -> tuple[float, float, float]:
    """Return the mean squares of the two-way analysis of variance: (subjects, measurements, error).

    ratings: float (subjects, measurements), at least two of each. Error: residuals that the means
    of subject and measurement do not explain.
    """
    subjects, raters = ratings.shape
    mean = ratings.mean()
    of_subjects, of_raters = ratings.mean(axis=1), ratings.mean(axis=0)
    residual = ratings - of_subjects[:, None] - of_raters[None, :] + mean
    between = raters * np.sum((of_subjects - mean) ** 2) / (subjects - 1)
    methods = subjects * np.sum((of_raters - mean) ** 2) / (raters - 1)
    error = np.sum(residual**2) / ((subjects - 1) * (raters - 1))
    return between, methods, error


def _interval(
    icc: float, between: float, methods: float, error: float, shape: tuple[int, int]
) -> tuple[float, float]:
    n, k = shape
    if error <= np.finfo(float).eps * between:
        return np.nan, np.nan
    spread = n * (1 + (k - 1) * icc) - k * icc
    bias = k * icc * methods / error
    df = (k - 1) * (n - 1) * (bias + spread) ** 2 / ((n - 1) * bias**2 + spread**2)
    f_low = stats.f.ppf((1 + CONFIDENCE) / 2, n - 1, df)
    f_high = stats.f.ppf((1 + CONFIDENCE) / 2, df, n - 1)
    rest = k * methods + (k * n - k - n) * error
    low = n * (between - f_low * error) / (f_low * rest + n * between)
    high = n * (f_high * between - error) / (rest + n * f_high * between)
    return float(low), float(high)
