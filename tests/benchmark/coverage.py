"""Coverage of the 95 % intervals, and type I error, of the planned contrasts on simulated cohorts.

Cohorts with known effects go through the models of the study. Areas: means and effects per muscle,
SD between subjects 9 %, between the muscles of a subject 7 %, between sides 4 % of the muscle's mean.
Fat fractions: logit-normal around the phantoms' means, SD .42, .21 and .08 on the logit. Scenario
"null": no effect of sex and age. A contrast of fat has the value of one cohort of 100,000 as its truth.
"""

import argparse
import time

import numpy as np
import pandas as pd

from paravert.anatomy import MUSCLES, SIDES
from paravert.study.data_frames import in_order
from paravert.study.inference import CSA, FAT, OUTCOMES, SEX_AND_AGE, fit_model

CSA_MM2 = dict(zip(MUSCLES, (620.0, 330.0, 1280.0, 540.0), strict=True))  # women
CSA_MEN_MM2 = dict(zip(MUSCLES, (340.0, 80.0, 400.0, 120.0), strict=True))  # men minus women
CSA_DECADE_MM2 = dict(zip(MUSCLES, (-20.0, -10.0, -40.0, -18.0), strict=True))
FAT_WOMEN = dict(zip(MUSCLES, (0.05, 0.085, 0.14, 0.185), strict=True))
FAT_MEN_LOGIT, FAT_DECADE_LOGIT = -0.25, 0.15
CSA_SD = (0.09, 0.07, 0.04)  # subject, muscle, side: share of the mean
FAT_SD = (0.42, 0.21, 0.08)  # likewise, on the logit
TRUTH_SUBJECTS = 100_000
KEYS = ["family", "outcome", "muscle"]


def cohort(subjects: int, scenario: str, random: np.random.Generator) -> pd.DataFrame:
    """Return a row per subject, muscle and side: sex and age, area and fat fraction."""
    effect = float(scenario == "real")
    man = np.arange(subjects) % 2
    age = random.uniform(20, 80, subjects)
    decades = (age - 50) / 10
    of_subject = random.normal(size=(2, subjects))
    rows = []
    for muscle in MUSCLES:
        of_muscle = random.normal(size=(2, subjects))
        for side in SIDES:
            of_side = random.normal(size=(2, subjects))
            area, fat = (
                sd[0] * of_subject[n] + sd[1] * of_muscle[n] + sd[2] * of_side[n]
                for n, sd in enumerate((CSA_SD, FAT_SD))
            )
            mean = CSA_MM2[muscle] + effect * (
                CSA_MEN_MM2[muscle] * man + CSA_DECADE_MM2[muscle] * decades
            )
            logit = np.log(FAT_WOMEN[muscle] / (1 - FAT_WOMEN[muscle]))
            logit = logit + effect * (FAT_MEN_LOGIT * man + FAT_DECADE_LOGIT * decades)
            rows.append(
                pd.DataFrame(
                    {
                        "subject": [f"S{n:06d}" for n in range(subjects)],
                        "sex": np.where(man, "M", "F"),
                        "age_years": age,
                        "muscle": muscle,
                        "side": side,
                        CSA: mean + CSA_MM2[muscle] * area,
                        FAT: 1 / (1 + np.exp(-(logit + fat))),
                    }
                )
            )
    return in_order(pd.concat(rows, ignore_index=True))


def contrasts(data: pd.DataFrame) -> pd.DataFrame:
    """Return the planned contrasts of a cohort, by family, outcome and muscle."""
    tested = [outcome for outcome in OUTCOMES if outcome.column in (CSA, FAT)]
    rows = [row for outcome in tested for row in fit_model(SEX_AND_AGE, outcome, data).contrasts()]
    return pd.DataFrame(rows).fillna({"muscle": ""}).set_index(KEYS)


def measure(subjects: int, cohorts: int, scenario: str, truth: pd.Series) -> pd.DataFrame:
    """Return per contrast: share of intervals that hold the truth, and of p values below .05."""
    found = []
    for number in range(cohorts):
        one = contrasts(cohort(subjects, scenario, np.random.default_rng([7, subjects, number])))
        if not one["estimate"].notna().all():
            print(f"cohort {number}: {one['note'].unique()}", flush=True)
        held = (one["low_95"] <= truth) & (truth <= one["high_95"])
        found.append(pd.DataFrame({"coverage": held, "below_05": one["p_value"] < 0.05}))
    return pd.concat(found).groupby(level=KEYS, sort=False).mean()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--subjects", type=int, nargs="+", default=[22, 60, 300])
    parser.add_argument("--cohorts", type=int, default=1000)
    parser.add_argument(
        "--scenarios", nargs="+", choices=("real", "null"), default=["real", "null"]
    )
    options = parser.parse_args()
    for scenario in options.scenarios:
        truth = contrasts(cohort(TRUTH_SUBJECTS, scenario, np.random.default_rng(1)))["estimate"]
        for subjects in options.subjects:
            begun = time.perf_counter()
            table = measure(subjects, options.cohorts, scenario, exact(truth, scenario))
            seconds = time.perf_counter() - begun
            print(
                f"\n{scenario}: {options.cohorts} cohorts of {subjects} subjects, {seconds:.0f} s"
            )
            print(table.round(3).to_string())
            print(
                "coverage",
                table["coverage"].min().round(3),
                "to",
                table["coverage"].max().round(3),
                flush=True,
            )


def exact(truth: pd.Series, scenario: str) -> pd.Series:
    """Return the truth with every value that is known exactly in place of that of the large cohort."""
    known = truth.copy()
    effect = float(scenario == "real")
    for family, outcome, muscle in truth.index:
        if outcome == CSA:
            value = {"sex, area": CSA_MEN_MM2, "age": CSA_DECADE_MM2}.get(family, {}).get(
                muscle, 0.0
            )
            known[family, outcome, muscle] = effect * value
        elif family == "side" or (scenario == "null" and muscle):
            known[family, outcome, muscle] = 1.0
    return known


if __name__ == "__main__":
    main()
