"""Coverage of contrasts with inverse-probability weights: many cohorts of coverage.py's scenario "missing".

The models of sex, age and side per muscle are computed with numpy alone, some ten times as fast as by the
study's functions; the first cohort is compared with these. The weights are those of the study, and others:
truncated at other percentiles, from the true probabilities, and none (complete cases). Covariance: that of
the study (Mancl and DeRouen, t); the sandwich with normal intervals; that of the study with the estimation
of the weights allowed for (Robins, Rotnitzky and Zhao 1994: the part of the scores that those of the
logistic regression explain is taken out). Every way sees the same cohorts.
"""

import argparse
from collections.abc import Iterator

import numpy as np
import pandas as pd
import patsy
import statsmodels.api as sm
from coverage import KEYS, exact, fits, heavy_cohort, missing_probability
from scipy import stats

from paravert.anatomy import MUSCLES
from paravert.study import selection
from paravert.study.inference import AGE_QUANTILES, CSA, FAT
from paravert.study.marginal_model import _Part

TRUNCATIONS = ((1, 99), selection.TRUNCATED_PERCENT, (0, 100))  # percentiles
USED = f"percentiles {TRUNCATIONS[1][0]} and {TRUNCATIONS[1][1]}"
COEFFICIENTS = 5  # of a muscle, without side: intercept, sex, spline of age
TRUTH_SUBJECTS = 100_000
ENDS = ["weighted_low_95", "weighted_high_95"]  # of an interval, columns of the study's table


def contrasts(people: pd.DataFrame, values: dict, weights: np.ndarray) -> Iterator[tuple]:
    """Yield (family, outcome, muscle), estimate and each subject's influence, plain and by Mancl and DeRouen.

    people: sex and age_years of the subjects. values: {(outcome, muscle): (subjects, sides)}.
    """
    subjects, age = len(people), people["age_years"].to_numpy()
    spline = patsy.dmatrix("0 + cr(x, df=3, constraints='center')", {"x": age})
    ends = np.quantile(age, AGE_QUANTILES)
    young, old = np.asarray(patsy.build_design_matrices([spline.design_info], {"x": ends})[0])
    between = np.column_stack([np.ones(subjects), people["sex"] == "M", spline]).astype(float)
    rows = np.column_stack([np.repeat(between, 2, axis=0), np.tile([0.0, 1.0], subjects)])
    asked = {
        "sex": np.array([0, 1, 0, 0, 0, 0]),
        "age": np.array([0, 0, *(old - young) * 10 / (ends[1] - ends[0]), 0]),
        "side": np.array([0, 0, 0, 0, 0, -1]),
    }
    weight, who = np.repeat(weights, 2), np.repeat(np.arange(subjects), 2)
    for (outcome, muscle), known in values.items():
        part = fitted(rows, known.ravel(), weight, who, logit=outcome == FAT)
        bread = np.linalg.inv(rows.T @ (rows * part.slope[:, None]))
        plain = (rows * part.score[:, None]).reshape(subjects, 2, -1).sum(axis=1) @ bread
        robust = part.influence(pd.RangeIndex(subjects))
        for name, of_terms in asked.items():
            family = f"sex, {'fat' if outcome == FAT else 'area'}" if name == "sex" else name
            key = family, outcome, muscle
            yield key, of_terms @ part.coefficients, plain @ of_terms, robust @ of_terms


def fitted(
    rows: np.ndarray, values: np.ndarray, weight: np.ndarray, subjects: np.ndarray, *, logit: bool
) -> _Part:
    """Return the weighted regression of one muscle; logit: by Newton's method."""
    found, mean, slope = np.zeros(rows.shape[1]), np.zeros(len(rows)), weight
    for _ in range(30 if logit else 1):
        if logit:
            mean = 1 / (1 + np.exp(-rows @ found))
            slope = weight * mean * (1 - mean)
        step = np.linalg.solve(
            rows.T @ (rows * slope[:, None]), rows.T @ (weight * (values - mean))
        )
        found = found + step
        if np.abs(step).max() < 1e-10:
            break
    mean = 1 / (1 + np.exp(-rows @ found)) if logit else rows @ found
    slope = weight * (mean * (1 - mean) if logit else 1.0)
    return _Part(found, rows, weight * (values - mean), slope, subjects)


def by_muscle(data: pd.DataFrame, names: pd.Series) -> dict:
    """Return {(outcome, muscle): (subjects, sides)} in the order of names."""
    wide = data.pivot(index="subject", columns=["muscle", "side"], values=[CSA, FAT]).loc[names]
    return {
        (outcome, muscle): wide[outcome, muscle].to_numpy()
        for outcome in (CSA, FAT)
        for muscle in MUSCLES
    }


def weightings(ledger: pd.DataFrame, inside: np.ndarray) -> dict[str, np.ndarray]:
    """Return the weights of the subjects in the model by each way."""
    names = ledger.loc[inside, "subject"]
    ways = {"complete cases": np.ones(len(names))}
    for ends in TRUNCATIONS:
        selection.TRUNCATED_PERCENT = ends
        weights = selection.inclusion_weights(ledger, inside).weights
        ways[f"percentiles {ends[0]} and {ends[1]}"] = weights.loc[names].to_numpy()
    selection.TRUNCATED_PERCENT = TRUNCATIONS[1]
    of_truth = 1 / (1 - missing_probability(ledger)[inside])
    return ways | {"true probabilities": of_truth / of_truth.mean()}


def membership_scores(ledger: pd.DataFrame, inside: np.ndarray) -> np.ndarray:
    """Return the scores of the logistic regression of the weights, (all subjects, coefficients)."""
    age, weight = (
        (ledger[name] - ledger[name].mean()) / ledger[name].std()
        for name in ("age_years", "weight_kg")
    )
    design = np.column_stack([np.ones(len(ledger)), ledger["sex"] == "M", age, age**2, weight])
    model = sm.GLM(inside.astype(float), design.astype(float), family=sm.families.Binomial())
    return design.astype(float) * (inside - model.fit().fittedvalues)[:, None]


def check(ledger: pd.DataFrame, data: pd.DataFrame, found: dict) -> None:
    """Compare with the weighted contrasts of the study: intervals are alike to 6 digits."""
    study = selection.weighted_contrasts(ledger, data, fits(data)).set_index(KEYS)
    for key, ends in found.items():
        ends = np.exp(ends) if key[1] == FAT else ends
        np.testing.assert_allclose(ends, study.loc[key, ENDS].to_numpy(float), rtol=1e-6)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--subjects", type=int, default=400)
    parser.add_argument("--cohorts", type=int, default=1000)
    options = parser.parse_args()
    data, people = heavy_cohort(TRUTH_SUBJECTS, np.random.default_rng(1))
    whole = contrasts(people, by_muscle(data, people["subject"]), np.ones(len(people)))
    truth = pd.Series({key: np.exp(value) for key, value, *_ in whole})
    truth = exact(truth, "real")
    rows = []
    for number in range(options.cohorts):
        random = np.random.default_rng([9, options.subjects, number])
        data, ledger = heavy_cohort(options.subjects, random)
        inside = (ledger["status"] == "analysed").to_numpy()
        people = ledger[inside]
        at_hand = data[data["subject"].isin(people["subject"])]
        values = by_muscle(at_hand, people["subject"])
        scores = membership_scores(ledger, inside)
        freedom = stats.t.ppf(0.975, len(people) - COEFFICIENTS)
        ends = {}
        for way, weights in weightings(ledger, inside).items():
            for key, value, plain, robust in contrasts(people, values, weights):
                of_all = np.zeros(len(ledger))
                of_all[inside] = robust
                rest = of_all - scores @ np.linalg.lstsq(scores, of_all, rcond=None)[0]
                error, sandwich, less = (np.sqrt((one**2).sum()) for one in (robust, plain, rest))
                miss = value - (np.log(truth[key]) if key[1] == FAT else truth[key])
                covered = [
                    abs(miss) < reach
                    for reach in (freedom * error, 1.96 * sandwich, freedom * less)
                ]
                rows.append((way, *key, miss, error, *covered))
                if way == USED:
                    ends[key] = value - freedom * error, value + freedom * error
        if not number:
            check(ledger, at_hand, ends)
            print("first cohort: as the study's functions", flush=True)
    columns = ["weights", *KEYS, "error", "standard error", "covered", "sandwich", "estimated"]
    table = pd.DataFrame(rows, columns=columns)
    groups = table.groupby(["weights", *KEYS], sort=False)
    shown = groups[["covered", "sandwich", "estimated"]].mean()
    deviation = groups["error"].std()
    shown["bias / SD"] = groups["error"].mean() / deviation
    shown["SD"] = deviation
    print(shown.round(3).to_string())
    of_family = shown.groupby(["weights", "family", "outcome"], sort=False)
    print(of_family.agg(["min", "max"]).round(3).to_string())


if __name__ == "__main__":
    main()
