"""Bias and coverage by truncation of inverse-probability weights, on the cohorts of coverage.py.

Contrasts of the area of one muscle (mean of both sides) by sex and age, in cohorts from which heavy men
are missing: weighted least squares, sandwich covariance and normal intervals. Every truncation sees the
same cohorts.
"""

import argparse

import numpy as np
import pandas as pd
from coverage import CSA_DECADE_MM2, CSA_MEN_MM2, heavy_cohort

from paravert.study import selection
from paravert.study.inference import CSA

MUSCLE = "psoas_major"
TRUNCATIONS = ((1, 99), (0.1, 99.9), (0, 100))  # percentiles
TRUTH = {"sex": CSA_MEN_MM2[MUSCLE], "age": CSA_DECADE_MM2[MUSCLE]}


def contrasts(people: pd.DataFrame, area: pd.Series, weights: np.ndarray) -> dict[str, tuple]:
    """Return estimate and standard error per contrast. people, area, weights: of the model's subjects."""
    design = np.column_stack(
        [np.ones(len(people)), people["sex"] == "M", (people["age_years"] - 50) / 10]
    ).astype(float)
    bread = np.linalg.inv(design.T * weights @ design)
    found = bread @ (design.T @ (weights * area.to_numpy()))
    scores = design * (weights * (area.to_numpy() - design @ found))[:, None]
    errors = np.sqrt(np.diag(bread @ (scores.T @ scores) @ bread))
    return {name: (found[n], errors[n]) for n, name in enumerate(TRUTH, start=1)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--subjects", type=int, default=400)
    parser.add_argument("--cohorts", type=int, default=300)
    options = parser.parse_args()
    rows = []
    for number in range(options.cohorts):
        random = np.random.default_rng([9, options.subjects, number])
        data, ledger = heavy_cohort(options.subjects, random)
        own = data[data["muscle"] == MUSCLE].groupby("subject", observed=True)[CSA].mean()
        inside = (ledger["status"] == "analysed").to_numpy()
        people = ledger[inside]
        area = own.loc[people["subject"]]
        ways = {"complete cases": np.ones(len(people))}
        for ends in TRUNCATIONS:
            selection.TRUNCATED_PERCENT = ends
            weights = selection.inclusion_weights(ledger, inside).weights
            ways[f"percentiles {ends[0]} and {ends[1]}"] = weights.loc[people["subject"]].to_numpy()
        for way, weights in ways.items():
            for name, (value, error) in contrasts(people, area, weights).items():
                miss = value - TRUTH[name]
                rows.append((name, way, miss, abs(miss) < 1.96 * error))
    table = pd.DataFrame(rows, columns=["contrast", "weights", "error", "covered"])
    groups = table.groupby(["contrast", "weights"], sort=False)
    shown = groups["error"].agg(["mean", "std"]).assign(covered=groups["covered"].mean())
    shown["bias / SD"] = shown["mean"] / shown["std"]
    print(shown.round(3).to_string())


if __name__ == "__main__":
    main()
