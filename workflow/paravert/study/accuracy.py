"""Overlap of prediction and manual mask over the cohort: Table 1, with bootstrap intervals."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from paravert.anatomy import LABELS

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
    "subject", "stack", "slice", "muscle", "side", "iou", "dice", "pixels_truth",
    "pixels_prediction", "held_out",
)  # fmt: skip
CONFIDENCE = 0.95
NO_HELD_OUT = "No held-out subject has a manual mask"


def held_out_rows(overlap: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that measure the network: its own labels, of subjects not trained on."""
    return overlap[overlap["held_out"]]


def table1_iou(overlap: pd.DataFrame, samples: int, seed: int) -> pd.DataFrame:
    """Return the overlap per muscle and side over all slices that show it, eight rows.

    overlap: rows of the cohort's table. Slices without IoU (mask and prediction empty) are left
    out. Quartiles interpolate linearly; the 95 % interval of the median is that of
    `median_intervals`. Without masks n is 0 and all other values are null.
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


def median_intervals(
    columns: Sequence[np.ndarray], subjects: np.ndarray, samples: int, seed: int
) -> list[tuple[float, float]]:
    """Return the 95 % percentile interval of each column's median, by a bootstrap over subjects.

    columns: each (n,), finite. subjects: (n,), the subject of each value. A sample draws subjects
    with replacement, each with all its values. (nan, nan) below two subjects. The order of the
    values does not matter.
    Source: Efron and Tibshirani 1993, chapter 13; Davison and Hinkley 1997, section 3.8.
    """
    medians = clustered_medians(columns, subjects, samples, seed)
    if not medians.size:
        return [(np.nan, np.nan)] * len(columns)
    ends = np.quantile(medians, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=1)
    return [(float(low), float(high)) for low, high in ends.T]


def clustered_medians(
    columns: Sequence[np.ndarray], subjects: np.ndarray, samples: int, seed: int
) -> np.ndarray:
    """Return the median of each column in each bootstrap sample of subjects, (columns, samples).

    (columns, 0) below two subjects.
    """
    names, codes = np.unique(subjects, return_inverse=True)
    samples = samples if len(names) > 1 else 0
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
