"""Coverage of the 95 % intervals, and type I error, of the planned contrasts on simulated cohorts.

Cohorts with known effects go through the models of the study. Areas: means and effects per muscle,
SD between subjects 9 %, between the muscles of a subject 7 %, between sides 4 % of the muscle's mean.
Fat fractions: logit-normal around the phantoms' means, SD .42, .21 and .08 on the logit. Scenario
"null": no effect of sex and age. A contrast of fat has the value of one cohort of 100,000 as its truth.

Scenario "missing": areas and fat grow with body weight, and heavy men are missing most often (a third of all
subjects). Contrasts of complete cases, and with inverse-probability weights; the truth is that of the
cohort before anybody was missing.

Scenario "levels": a row per vertebral level, areas of both sexes times a known profile, fat shifted on the
logit; half of the women have no slices above L3/4. The contrast of the sexes with the level as a term, and
without ("no level" in the family); the truth of fat is that of one cohort of 5,000 scanned completely. p values
below .05: in as many cohorts without effects.
"""

import argparse
import time
from dataclasses import replace

import numpy as np
import pandas as pd

from paravert.anatomy import MUSCLES, SIDES, STANDARD_LEVELS, level_name
from paravert.study.data_frames import with_ordered_categories
from paravert.study.inference import (
    BY_LEVEL_OUTCOMES,
    CSA,
    FAT,
    OUTCOMES,
    SEX_AND_AGE,
    FittedModel,
    fit_model,
)
from paravert.study.selection import weighted_contrasts

CSA_MM2 = dict(zip(MUSCLES, (620.0, 330.0, 1280.0, 540.0), strict=True))  # women
CSA_MEN_MM2 = dict(zip(MUSCLES, (340.0, 80.0, 400.0, 120.0), strict=True))  # men minus women
CSA_DECADE_MM2 = dict(zip(MUSCLES, (-20.0, -10.0, -40.0, -18.0), strict=True))
FAT_WOMEN = dict(zip(MUSCLES, (0.05, 0.085, 0.14, 0.185), strict=True))
FAT_MEN_LOGIT, FAT_DECADE_LOGIT = -0.25, 0.15
CSA_SD = (0.09, 0.07, 0.04)  # subject, muscle, side: share of the mean
FAT_SD = (0.42, 0.21, 0.08)  # likewise, on the logit
HEAVY_CSA, HEAVY_FAT_LOGIT = (
    0.08,
    0.3,
)  # per SD of weight above that of the sex; area: share of the mean
WEIGHT_KG, WEIGHT_SD_KG = {"F": 68.0, "M": 84.0}, 12.0
TRUTH_SUBJECTS = 100_000
# Vertebral levels: share of the mean area, shift of fat on the logit.
PROFILE = dict(zip(map(level_name, STANDARD_LEVELS), np.linspace(0.3, 1.6, 10), strict=True))
FAT_PROFILE_LOGIT = dict(zip(PROFILE, np.linspace(-0.5, 0.5, 10), strict=True))
CAUDAL = list(PROFILE)[5:]  # L3/4 and below
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
    return with_ordered_categories(pd.concat(rows, ignore_index=True))


def heavy_cohort(subjects: int, random: np.random.Generator) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a cohort as `cohort`, with effects of weight, and its ledger, in which subjects are missing."""
    data = cohort(subjects, "real", random)
    people = data.drop_duplicates("subject")[["subject", "sex", "age_years"]].reset_index(drop=True)
    people["sex"] = people["sex"].astype(str)
    above = random.normal(size=subjects)
    people["weight_kg"] = people["sex"].map(WEIGHT_KG) + WEIGHT_SD_KG * above
    is_missing = random.uniform(size=subjects) < missing_probability(people)
    people["status"] = np.where(is_missing, "quarantined", "analysed")
    of_row = data["subject"].map(dict(zip(people["subject"], above, strict=True)))
    data[CSA] += HEAVY_CSA * of_row * data["muscle"].map(CSA_MM2).astype(float)
    data[FAT] = 1 / (1 + (1 / data[FAT] - 1) * np.exp(-HEAVY_FAT_LOGIT * of_row))
    return data, people


def missing_probability(people: pd.DataFrame) -> np.ndarray:
    """Return the probability of each subject of `heavy_cohort` to be missing."""
    above = (people["weight_kg"] - people["sex"].map(WEIGHT_KG)) / WEIGHT_SD_KG
    return (1 / (1 + np.exp(1.6 - 1.2 * above - 1.5 * (people["sex"] == "M")))).to_numpy()


def levels_cohort(
    subjects: int, scenario: str, short: bool, random: np.random.Generator
) -> pd.DataFrame:
    """Return a row per subject, level, muscle and side. short: half of the women lack upper levels."""
    data = cohort(subjects, scenario, random)
    rows = data.merge(pd.DataFrame({"level": list(PROFILE)}), how="cross")
    rows[BY_LEVEL_OUTCOMES[0].column] = rows[CSA] * rows["level"].map(PROFILE)
    logit = np.log(rows[FAT] / (1 - rows[FAT])) + rows["level"].map(FAT_PROFILE_LOGIT)
    logit += 0.1 * random.normal(size=len(rows))
    rows[BY_LEVEL_OUTCOMES[1].column] = 1 / (1 + np.exp(-logit))
    lacks = (rows["subject"].str[1:].astype(int) % 4 == 0) & ~rows["level"].isin(CAUDAL)
    return with_ordered_categories(rows[~(lacks & short)].reset_index(drop=True))


def level_contrasts(data: pd.DataFrame) -> pd.DataFrame:
    """Return the contrasts of the sexes with and without the level as a term."""
    rows = []
    for outcome in BY_LEVEL_OUTCOMES:
        for one, name in ((outcome, ""), (replace(outcome, by_level=False), ", no level")):
            found = fit_model(SEX_AND_AGE, one, data).contrasts()
            rows += [row | {"family": row["family"] + name} for row in found]
    return pd.DataFrame(rows).set_index(KEYS)


def measure_levels(subjects: int, cohorts: int) -> pd.DataFrame:
    """Return per contrast: mean error in SD of the estimates, share of intervals with the truth, type I error."""
    whole = levels_cohort(5_000, "real", False, np.random.default_rng(1))
    truth = level_contrasts(whole)["estimate"]
    for family, outcome, muscle in truth.index:
        if outcome == BY_LEVEL_OUTCOMES[0].column:
            truth[family, outcome, muscle] = CSA_MEN_MM2[muscle] * np.mean(list(PROFILE.values()))
    found = []
    for number in range(cohorts):
        real, null = (
            level_contrasts(
                levels_cohort(
                    subjects, scenario, True, np.random.default_rng([11, subjects, number])
                )
            )
            for scenario in ("real", "null")
        )
        held = (real["low_95"] <= truth) & (truth <= real["high_95"])
        wrong = null["p_value"] < 0.05
        error = real["estimate"] - truth
        found.append(pd.DataFrame({"error": error, "coverage": held, "below_05": wrong}))
    groups = pd.concat(found).groupby(level=KEYS, sort=False)
    table = groups[["coverage", "below_05"]].mean()
    return table.assign(**{"bias / SD": groups["error"].mean() / groups["error"].std()})


def fits(data: pd.DataFrame) -> list[FittedModel]:
    tested = [outcome for outcome in OUTCOMES if outcome.column in (CSA, FAT)]
    return [fit_model(SEX_AND_AGE, outcome, data) for outcome in tested]


def contrasts(data: pd.DataFrame) -> pd.DataFrame:
    """Return the planned contrasts of a cohort, by family, outcome and muscle."""
    rows = [row for fitted in fits(data) for row in fitted.contrasts()]
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


def measure_missing(subjects: int, cohorts: int, truth: pd.Series) -> pd.DataFrame:
    """Return per contrast, for complete cases and weighted: mean error in SD of the estimates, coverage."""
    found = []
    for number in range(cohorts):
        data, ledger = heavy_cohort(subjects, np.random.default_rng([9, subjects, number]))
        analysed = ledger.loc[ledger["status"] == "analysed", "subject"]
        at_hand = data[data["subject"].isin(analysed)]
        one = weighted_contrasts(ledger, at_hand, fits(at_hand)).fillna({"muscle": ""})
        found.append(one.set_index(KEYS))
    rows = pd.concat(found)
    table = {
        "effective share": (rows["effective_n"] / rows["n_subjects"])
        .groupby(KEYS, sort=False)
        .mean()
    }
    for name in ("complete_cases", "weighted"):
        error = rows[name] - truth.reindex(rows.index)
        held = rows[f"{name}_low_95"].le(truth.reindex(rows.index)) & rows[f"{name}_high_95"].ge(
            truth.reindex(rows.index)
        )
        groups = error.groupby(KEYS, sort=False)
        table |= {f"{name}, bias / SD": groups.mean() / groups.std()}
        table |= {f"{name}, coverage": held.groupby(KEYS, sort=False).mean()}
    return pd.DataFrame(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--subjects", type=int, nargs="+", default=[22, 60, 300])
    parser.add_argument("--cohorts", type=int, default=1000)
    parser.add_argument(
        "--scenarios",
        nargs="+",
        choices=("real", "null", "missing", "levels"),
        default=["real", "null"],
    )
    options = parser.parse_args()
    for scenario in options.scenarios:
        if scenario == "levels":
            for subjects in options.subjects:
                print(f"\nlevels: {options.cohorts} cohorts of {subjects} subjects")
                table = measure_levels(subjects, options.cohorts)
                print(table.round(3).to_string(), flush=True)
            continue
        if scenario == "missing":
            whole, _ = heavy_cohort(TRUTH_SUBJECTS, np.random.default_rng(1))
            truth = exact(contrasts(whole)["estimate"], "real")
            for subjects in options.subjects:
                print(f"\nmissing: {options.cohorts} cohorts of {subjects} subjects")
                table = measure_missing(subjects, options.cohorts, truth)
                print(table.round(3).to_string(), flush=True)
            continue
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
