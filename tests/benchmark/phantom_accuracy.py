"""Overlap, areas, sides and fat fractions of a finished run on phantoms against their exact truth.

python tests/benchmark/phantom_accuracy.py [results]
"""

import argparse
import sys
from pathlib import Path

import pandas as pd

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY / "workflow"))

from paravert.network.calibration import calibration_error  # noqa: E402
from paravert.tables import FAT_METHODS  # noqa: E402

KEYS = ["subject", "slice", "muscle", "side"]


def matched(results: Path) -> pd.DataFrame:
    """Return the measured slices of the phantoms beside their truth (columns ..._truth)."""
    truth = pd.read_parquet(results / "phantoms/truth.parquet")
    slices = pd.read_parquet(results / "cohort/slices.parquet")
    both = slices.merge(truth, on=KEYS, suffixes=("", "_truth"), validate="one_to_one")
    if len(both) != len(truth[truth.subject.isin(both.subject)]):
        raise SystemExit("slices of measurement and truth do not match")
    return both


def area_errors(both: pd.DataFrame) -> pd.DataFrame:
    """Return the relative error of each subject's mean area: bias and median of its size."""
    means = both.groupby(["subject", "muscle", "side"])[["csa_mm2", "csa_mm2_truth"]].mean()
    error = (means.csa_mm2 / means.csa_mm2_truth - 1).rename("error")
    table = error.groupby(["muscle", "side"]).agg(
        median_error="median", median_absolute_error=lambda e: e.abs().median()
    )
    table.loc[("all", "both"), :] = [error.median(), error.abs().median()]
    return table


def fat_errors(both: pd.DataFrame) -> pd.DataFrame:
    """Return mean absolute error, bias and correlation of the fat fraction by method."""
    known = both.dropna(subset=["fat_fraction_truth"])
    rows = {}
    for method in FAT_METHODS:
        error = known[f"fat_fraction_{method}"] - known.fat_fraction_truth
        r = known[f"fat_fraction_{method}"].corr(known.fat_fraction_truth)
        rows[method] = {"mae": error.abs().mean(), "bias": error.mean(), "r": r}
    return pd.DataFrame(rows).T


def told_iou(results: Path, overlap: pd.DataFrame) -> tuple[pd.DataFrame, float]:
    """Return the medians of predicted and found IoU by muscle, and the expected calibration error."""
    predicted = pd.read_parquet(results / "cohort/slices.parquet")
    both = predicted.merge(overlap, on=["subject", "stack_id", *KEYS[1:]], validate="one_to_one")
    medians = both.groupby("muscle")[["predicted_iou", "iou"]].median()
    columns = (both[name].to_numpy(float) for name in ("predicted_iou", "iou"))
    return medians, calibration_error(*columns)


def swapped(results: Path) -> int:
    """Return the subjects with a warning of swapped sides, or a muscle that misses its own side."""
    ledger = pd.read_parquet(results / "cohort/ledger.parquet")
    overlap = pd.read_parquet(results / "cohort/overlap.parquet")
    missed = overlap[overlap.pixels_truth > 0].groupby(["subject", "muscle", "side"]).dice.median()
    told = ledger.warnings.map(lambda codes: "sides-swapped" in list(codes))
    return len(set(ledger.subject[told]) | set(missed[missed < 0.5].reset_index().subject))


def main() -> None:
    """Print the comparison."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("results", nargs="?", type=Path, default=Path("results"))
    results = options.parse_args().results
    both = matched(results)
    overlap = pd.read_parquet(results / "cohort/overlap.parquet")
    print(f"{both.subject.nunique()} subjects, {both[KEYS[:2]].drop_duplicates().shape[0]} slices")
    print("\nIntersection over union, median by muscle and side")
    print(overlap.groupby(["muscle", "side"]).iou.median().round(3).to_string())
    print("\nLower quartile by muscle")
    print(overlap.groupby("muscle").iou.quantile(0.25).round(3).to_string())
    medians, error = told_iou(results, overlap)
    print(f"\nPredicted and found IoU, medians; calibration error {error:.3f}")
    print(medians.round(3).to_string())
    print("\nRelative error of each subject's mean area")
    print(area_errors(both).round(4).to_string())
    print("\nFat fraction of a muscle in a slice")
    print(fat_errors(both).round(3).to_string())
    print(f"\nSubjects with left and right the wrong way round: {swapped(results)}")


if __name__ == "__main__":
    main()
