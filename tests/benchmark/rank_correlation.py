"""Coverage of the interval of the rank correlation of area and IoU, in simulated subjects with known correlation.

Slices of a subject share half (or another share) of the variance of both. The correlation between subjects
is that within. Beside the study's way (t on Fisher's scale) the former ones: normal, and percentiles.
A share of p values below .05 where the correlation is 0 is one minus the share covered.
"""

import argparse

import numpy as np
import pandas as pd
from scipy import stats

from paravert.study.claims import _spearman

SLICES = 25  # of a subject
SAMPLES = 400  # of a bootstrap


def slices_of(
    random: np.random.Generator, subjects: int, intraclass: float, rho: float
) -> pd.DataFrame:
    """Return normal areas and IoUs of slices, in arbitrary units; rho: their Pearson correlation."""
    area, other = (
        np.sqrt(intraclass) * random.normal(size=(subjects, 1))
        + np.sqrt(1 - intraclass) * random.normal(size=(subjects, SLICES))
        for _ in range(2)
    )
    iou = rho * area + np.sqrt(1 - rho**2) * other
    names = np.repeat(np.arange(subjects), SLICES)
    values = {"area_mm2": area.ravel(), "iou": iou.ravel()}
    return pd.DataFrame({"subject": names} | values)


def covered(slices: pd.DataFrame, truth: float) -> dict[str, bool]:
    """Return whether the intervals hold the true rank correlation, {name: whether}."""
    found = _spearman(slices, SAMPLES, 1)
    z, df = np.arctanh(found["estimate"]), found["df"]
    error = (np.arctanh(found["high_95"]) - z) / stats.t.ppf(0.975, df)
    low, high = percentiles(slices)
    return {
        "t": found["low_95"] <= truth <= found["high_95"],
        "normal": abs(z - np.arctanh(truth)) <= stats.norm.ppf(0.975) * error,
        "percentiles": low <= truth <= high,
    }


def percentiles(slices: pd.DataFrame) -> np.ndarray:
    """Return low and high of the percentile interval of the same samples."""
    x, y = (stats.rankdata(slices[name]) / len(slices) - 0.5 for name in ("area_mm2", "iou"))
    products = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)
    sums = products.reshape(-1, SLICES, 6).sum(axis=1)
    count = len(sums)
    drawn = np.random.default_rng(1).multinomial(count, np.full(count, 1 / count), SAMPLES)
    n, x, y, xx, yy, xy = (drawn @ sums).T
    rho = (xy - x * y / n) / np.sqrt((xx - x * x / n) * (yy - y * y / n))
    return np.quantile(rho, [0.025, 0.975])


def main() -> None:
    """Print the shares covered, one line per number of subjects and correlation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=4000)
    parser.add_argument("--intraclass", type=float, default=0.5)
    options = parser.parse_args()
    for subjects in (5, 8, 22, 60):
        for rho in (0.0, 0.5, 0.8):
            random = np.random.default_rng(1)
            truth = 6 / np.pi * np.arcsin(rho / 2)  # Pearson 1907
            held = [
                covered(slices_of(random, subjects, options.intraclass, rho), truth)
                for _ in range(options.repetitions)
            ]
            shares = {name: f"{share:.3f}" for name, share in pd.DataFrame(held).mean().items()}
            print(f"{subjects} subjects, rho {rho}: {shares}", flush=True)


if __name__ == "__main__":
    main()
