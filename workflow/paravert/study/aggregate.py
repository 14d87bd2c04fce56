"""From slices to muscles to subjects: sums, means and volume-weighted fat fractions."""

import numpy as np
import pandas as pd

from paravert.anatomy import MUSCLES, SIDES
from paravert.tables import FAT_METHODS, SLICE_KEYS

KEYS = [column.name for column in SLICE_KEYS]
MUSCLE_KEYS = ["subject", "muscle", "side"]
FAT_COLUMNS = ("fat_fraction", "fat_fraction_eroded", *(f"fat_fraction_{m}" for m in FAT_METHODS))


def slice_rows(area: pd.DataFrame, fat: pd.DataFrame, method: str) -> pd.DataFrame:
    """Return a row per slice, muscle and side: area, every fat fraction, and the configured one.

    method: a key of FAT_METHODS. lean_csa_mm2 = csa_mm2 x (1 - fat_fraction).
    """
    rows = area.merge(fat, on=KEYS, validate="one_to_one")
    rows["fat_fraction"] = rows[f"fat_fraction_{method}"].astype(float)
    rows["fat_fraction_eroded"] = rows[f"eroded_{method}"].astype(float)
    rows["fat_fraction_reason"] = rows[f"reason_{method}"]
    lean = rows.csa_mm2 * (1 - rows.fat_fraction)
    rows["lean_csa_mm2"] = lean.where(rows.pixels > 0, 0.0)
    return rows


def muscle_rows(slices: pd.DataFrame) -> pd.DataFrame:
    """Return a row per subject, muscle and side, from rows of `slice_rows`.

    Slices that cut an earlier stack count for the areas, not for volume, coverage and fat: there,
    the same tissue would count twice.
    """
    shown = slices[slices.pixels > 0]
    areas = shown.groupby(MUSCLE_KEYS).csa_mm2.agg(
        slices="size", csa_mean_mm2="mean", csa_sd_mm2="std", csa_max_mm2="max"
    )
    once = shown[~shown.overlaps.astype(bool)]
    once = once.assign(weight=once.csa_mm2 * once.slab_mm)
    sums = once.groupby(MUSCLE_KEYS).agg(volume=("weight", "sum"), coverage_mm=("slab_mm", "sum"))
    fractions = {name: _weighted(once, name, MUSCLE_KEYS) for name in FAT_COLUMNS}
    index = _every_muscle(slices.subject.unique())
    rows = pd.concat([areas, sums, pd.DataFrame(fractions)], axis=1).reindex(index)
    rows["slices"] = rows.slices.fillna(0).astype("int32")
    rows["volume_ml"] = rows.pop("volume").fillna(0.0) / 1000
    rows["coverage_mm"] = rows.coverage_mm.fillna(0.0)
    rows["lean_volume_ml"] = rows.volume_ml * (1 - rows.fat_fraction)
    rows["fat_fraction_reason"] = _reasons(slices).reindex(index)
    rows.loc[rows.fat_fraction.notna(), "fat_fraction_reason"] = None
    return rows.reset_index()


def _every_muscle(subjects: np.ndarray) -> pd.MultiIndex:
    return pd.MultiIndex.from_product([subjects, MUSCLES, SIDES], names=MUSCLE_KEYS)


def _reasons(slices: pd.DataFrame) -> pd.Series:
    """Return the first reason other than absence, or absence, of each muscle and side."""
    told = slices.assign(absent=slices.fat_fraction_reason == "absent")
    told = told.dropna(subset=["fat_fraction_reason"]).sort_values("absent", kind="stable")
    return told.groupby(MUSCLE_KEYS).fat_fraction_reason.first()


def _weighted(rows: pd.DataFrame, name: str, keys: list[str]) -> pd.Series:
    """Return the mean of a column weighted by volume, unknown values left out; null if none."""
    known = rows.dropna(subset=[name])
    products = (known[name].astype(float) * known.weight).groupby([known[key] for key in keys])
    return products.sum() / known.groupby(keys).weight.sum()


def subject_rows(
    muscles: pd.DataFrame,
    slices: pd.DataFrame,
    convert: pd.DataFrame,
    segment: pd.DataFrame,
    people: pd.DataFrame,
) -> pd.DataFrame:
    """Return a row per analysed subject.

    muscles, slices: rows of the functions above; convert, segment: rows of the shard tables;
    people: covariates by subject.
    """
    rows = convert.rename(columns={"stacks": "n_stacks", "slices": "n_slices"})
    rows = rows.drop(columns=["status", "stage", "reason", "message", "warnings"])
    rows = rows.drop(columns=["has_truth", "has_labels"]).set_index("subject").join(people)
    rows = rows.join(segment.set_index("subject")[["labels_source", "computed_on", "removed_mm2"]])
    rows["coverage_mm"] = _coverage_mm(slices).reindex(rows.index).fillna(0.0)
    rows["volume_ml"] = muscles.groupby("subject").volume_ml.sum()
    rows["lean_volume_ml"] = _whole_sum(muscles)
    weighted = muscles.assign(weight=muscles.volume_ml)
    rows["fat_fraction"] = _weighted(weighted, "fat_fraction", ["subject"])
    rows["separability"] = slices.groupby("subject").separability_otsu_subject.first()
    for muscle in MUSCLES:
        rows = rows.join(_muscle_of_subject(weighted[weighted.muscle == muscle], muscle))
        height_m = rows.height_cm / 100
        rows[f"csa_index_{muscle}"] = rows[f"csa_{muscle}_mm2"] / height_m**2
    return rows.reset_index()


def _coverage_mm(slices: pd.DataFrame) -> pd.Series:
    once = slices[~slices.overlaps.astype(bool)]
    return once.drop_duplicates(["subject", "stack", "slice"]).groupby("subject").slab_mm.sum()


def _whole_sum(muscles: pd.DataFrame) -> pd.Series:
    """Return the lean volume by subject; null if that of any muscle that is there is unknown."""
    known = muscles.lean_volume_ml.mask(muscles.volume_ml == 0, 0.0).astype(float)
    return known.groupby(muscles.subject).agg(lambda volumes: volumes.sum(skipna=False))


def _muscle_of_subject(rows: pd.DataFrame, muscle: str) -> pd.DataFrame:
    areas = rows.pivot(index="subject", columns="side", values="csa_mean_mm2")
    areas = areas.reindex(columns=SIDES).astype(float)  # also where nobody was analysed
    both = areas.left + areas.right
    return pd.DataFrame(
        {
            f"csa_{muscle}_mm2": both,
            f"volume_{muscle}_ml": rows.groupby("subject").volume_ml.sum(),
            f"fat_fraction_{muscle}": _weighted(rows, "fat_fraction", ["subject"]),
            f"asymmetry_{muscle}": (areas.left - areas.right) / (both / 2),
        }
    )
