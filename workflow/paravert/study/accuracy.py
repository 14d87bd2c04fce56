"""Prediction against manual masks over the cohort: Table 1 and the agreement of areas."""

from pathlib import Path

import numpy as np
import pandas as pd

from paravert import codebook
from paravert.anatomy import LABELS, MUSCLES, SIDES
from paravert.study.agreement import absolute_agreement, limits_of_agreement
from paravert.study.bootstrap import median_intervals
from paravert.study.frames import read_by_subject

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
OVERLAP_COLUMNS = (
    "subject", "stack", "slice", "muscle", "side", "iou", "dice", "pixels_truth",
    "pixels_prediction", "judges_network",
)  # fmt: skip
PIXEL_COLUMNS = ("subject", "stack", "pixels", "csa_mm2")
BOTH = "both"
NOBODY = "No subject with a manual mask is new to the network"


def judging(overlap: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that tell how good the network is: its own labels, of subjects new to it."""
    return overlap[overlap["judges_network"]]


def table1_iou(overlap: pd.DataFrame, samples: int, seed: int) -> pd.DataFrame:
    """Return the overlap per muscle and side over all slices that show it, eight rows.

    overlap: rows of the cohort's table. Slices where truth and prediction are both empty (null IoU)
    are left out. Quartiles interpolate linearly; the interval is the subject-clustered bootstrap's.
    Without truth n is 0 and every figure null.
    """
    known = overlap.dropna(subset=["iou"])
    known = known.assign(subject=pd.factorize(known["subject"], sort=True)[0])
    rows = []
    for label in LABELS:
        own = known[(known["muscle"] == label.muscle) & (known["side"] == label.side)]
        rows.append(
            {"muscle": label.muscle, "side": label.side}
            | _overlap_summary(own, samples, seed)
            | {"iou_paper": PAPER_MEDIAN_IOU[label.muscle, label.side]}
        )
    return pd.DataFrame(rows)


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
    return summary


def area_agreement(overlap: pd.DataFrame, pixels: pd.DataFrame) -> pd.DataFrame:
    """Return how the mean CSA of a subject agrees, prediction against truth, twelve rows.

    overlap: rows of the cohort's table. pixels: as `pixel_areas` returns them. The mean runs, for both,
    over the slices where either shows the muscle; side "both" is the sum of left and right.
    Differences are prediction - truth.
    """
    pairs = subject_areas(overlap, pixels)
    rows = [
        {"muscle": muscle, "side": side}
        | _agreement(pairs[(pairs["muscle"] == muscle) & (pairs["side"] == side)])
        for muscle in MUSCLES
        for side in (*SIDES, BOTH)
    ]
    return pd.DataFrame(rows)


def scored_pixel_areas(cohort: Path, overlap: pd.DataFrame) -> pd.DataFrame:
    """Return `pixel_areas` of the subjects in the overlap table, from the cohort's slices."""
    scored = set(overlap["subject"].unique())
    parts = [
        pixel_areas(part[part["subject"].isin(scored)])
        for part in read_by_subject(cohort, codebook.SLICES, PIXEL_COLUMNS)
    ]
    found = [part for part in parts if len(part)]
    return pd.concat(found or parts[:1], ignore_index=True)


def pixel_areas(slices: pd.DataFrame) -> pd.DataFrame:
    """Return subject, stack and pixel_mm2, csa_mm2 / pixels, of each stack that shows a muscle.

    slices: all rows of some subjects in the cohort's table.
    """
    found = slices[slices["pixels"] > 0]
    areas = (found["csa_mm2"] / found["pixels"]).groupby([found["subject"], found["stack"]])
    return areas.median().rename("pixel_mm2").reset_index()


def subject_areas(overlap: pd.DataFrame, pixels: pd.DataFrame) -> pd.DataFrame:
    """Return truth_mm2 and prediction_mm2 per subject, muscle and side (left, right, both).

    pixels: as `pixel_areas` returns them; a stack in which no muscle was found has none, and is
    left out. Nobody who lacks one side counts among "both".
    """
    shown = overlap[(overlap["pixels_truth"] > 0) | (overlap["pixels_prediction"] > 0)]
    shown = shown.merge(pixels, on=["subject", "stack"])
    areas = pd.DataFrame(
        {
            "subject": shown["subject"],
            "muscle": shown["muscle"].astype(str),
            "side": shown["side"].astype(str),
            "truth_mm2": shown["pixels_truth"] * shown["pixel_mm2"],
            "prediction_mm2": shown["pixels_prediction"] * shown["pixel_mm2"],
        }
    )
    sides = areas.groupby(["subject", "muscle", "side"], as_index=False).mean()
    columns = ["truth_mm2", "prediction_mm2"]
    grouped = sides.groupby(["subject", "muscle"])
    both = grouped[columns].sum()[grouped.size() == len(SIDES)].reset_index().assign(side=BOTH)
    return pd.concat([sides, both[sides.columns]], ignore_index=True)


def _agreement(pairs: pd.DataFrame) -> dict:
    truth = pairs["truth_mm2"].to_numpy(dtype=float)
    prediction = pairs["prediction_mm2"].to_numpy(dtype=float)
    limits = limits_of_agreement(prediction, truth)
    correlation = absolute_agreement(np.column_stack([prediction, truth]))
    return {
        "n_subjects": len(pairs),
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
    """Return the median of |prediction - truth| / truth in percent; no truth, no share of it."""
    drawn = truth > 0
    if not drawn.any():
        return float("nan")
    return float(100 * np.median(np.abs(prediction - truth)[drawn] / truth[drawn]))
