"""Centiles of simulated cohorts: time and memory, coverage of the bands, spread of z, and the figure.

Area, area index and volume are log-normal and fat fractions logit-normal; median and SD depend on age
and sex, so every centile is known. Ages are whole years from 20 to 80, sexes in turn.

    python tests/benchmark/centiles.py cost --subjects 10000
    python tests/benchmark/centiles.py coverage --subjects 120 400 2000 --cohorts 200
    python tests/benchmark/centiles.py show --subjects 2000 --out /tmp/figure
"""

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

sys.path.insert(0, str(Path(__file__).parent))

from coverage import CSA_DECADE_MM2, CSA_MEN_MM2, CSA_MM2, FAT_MEN_LOGIT, FAT_WOMEN

from paravert.anatomy import MUSCLES
from paravert.study.centiles import LOG, MEASURES, Measure, fit_centiles, from_scale, z_scores
from paravert.study.drawing import style
from paravert.study.drawing.centile_curves import centile_points, draw_centiles
from paravert.study.quantile_regression import CENTILES, centile_curves
from paravert.study.standard_level import StandardLevel

LENGTH_MM, SQUARED_HEIGHT_M2 = 150.0, {"F": 2.76, "M": 3.2}
AGES_YEARS = (20, 80)


def distribution(
    measure: Measure, muscle: str, sex: str, age_years: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return median and SD at ages on the scale of the regression."""
    decades = (np.asarray(age_years, dtype=float) - 50) / 10
    man = sex == "M"
    if measure.scale != LOG:
        odds = FAT_WOMEN[muscle] / (1 - FAT_WOMEN[muscle])
        middle = np.log(odds) + FAT_MEN_LOGIT * man + 0.1 * decades + 0.03 * decades**2
        return middle, 0.45 + 0.02 * decades
    area = 2 * (CSA_MM2[muscle] + CSA_MEN_MM2[muscle] * man)
    area = area + 2 * (CSA_DECADE_MM2[muscle] * decades - 0.01 * CSA_MM2[muscle] * decades**2)
    factor = {"csa_index": 1 / SQUARED_HEIGHT_M2[sex], "volume": LENGTH_MM / 1000}
    return np.log(area * factor.get(measure.name, 1.0)), 0.12 + 0.008 * decades


def simulated_subjects(subjects: int, random: np.random.Generator) -> pd.DataFrame:
    """Return a table of subjects with the columns that the centiles need."""
    sex = np.where(np.arange(subjects) % 2, "M", "F")
    age = random.integers(AGES_YEARS[0], AGES_YEARS[1] + 1, subjects).astype(float)
    frame = {"subject": [f"S{n:06d}" for n in range(subjects)], "sex": sex, "age_years": age}
    for measure in MEASURES:
        for muscle in MUSCLES:
            drawn = random.normal(size=subjects)
            value = np.empty(subjects)
            for one in ("F", "M"):
                own = sex == one
                middle, sd = distribution(measure, muscle, one, age[own])
                value[own] = from_scale(middle + sd * drawn[own], measure.scale)
            frame[measure.column_of(muscle)] = value
    return pd.DataFrame(frame)


def fitted(subjects: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Fit the centiles by the command and return their table."""
    folder.mkdir(parents=True, exist_ok=True)
    subjects.to_parquet(folder / "subjects.parquet")
    fit_centiles(folder, folder / "centiles.parquet")
    return pd.read_parquet(folder / "centiles.parquet")


def cost(subjects: int) -> None:
    """Tell time and memory of fit_centiles."""
    frame = simulated_subjects(subjects, np.random.default_rng(1))
    begun, cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        fitted(frame, Path(folder))
    seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{subjects} subjects: {seconds:.0f} s ({cpu:.0f} s of CPU), {megabytes:.0f} MB")


def coverage(subjects: int, cohorts: int, measure: Measure, samples: int) -> None:
    """Tell which share of the bands of women holds the true centile, by centile and age."""
    muscle, sex, grid = "multifidus", "F", np.array([22.0, 35.0, 50.0, 65.0, 78.0])
    middle, sd = distribution(measure, muscle, sex, grid)
    truth = middle[:, None] + sd[:, None] * stats.norm.ppf(np.array(CENTILES) / 100)
    held, bias, crossed = [], [], []
    for number in range(cohorts):
        random = np.random.default_rng([5, subjects, number])
        age = random.integers(AGES_YEARS[0], AGES_YEARS[1] + 1, subjects).astype(float)
        of_age, spread = distribution(measure, muscle, sex, age)
        value = of_age + spread * random.normal(size=subjects)
        found = centile_curves(age, value, grid, samples, seed=number)
        held.append((found.low_95 <= truth) & (truth <= found.high_95))
        bias.append((found.value - truth) / sd[:, None])
        crossed.append(found.crossed.mean())
    table = pd.DataFrame(
        np.mean(held, axis=0), index=[f"{age:g} years" for age in grid], columns=CENTILES
    )
    print(f"\n{measure.name}, {subjects} of a sex, {cohorts} cohorts, {samples} bootstrap samples")
    print(table.round(2).to_string())
    print("mean coverage", np.mean(held).round(3), "by centile", np.mean(held, (0, 1)).round(3))
    print("bias in SD, by centile", np.mean(bias, (0, 1)).round(3))
    print("RMS error in SD, by centile", np.sqrt(np.mean(np.square(bias), (0, 1))).round(3))
    print("share of ages with crossed curves", np.mean(crossed).round(3), flush=True)


def show(subjects: int, out: Path) -> None:
    """Draw the figure of a simulated cohort and tell how its z-scores are spread."""
    frame = simulated_subjects(subjects, np.random.default_rng(1))
    centiles = fitted(frame, out / "cohort")
    scores = z_scores(frame, centiles)
    print(scores.groupby("measure")["z"].agg(["mean", "std", "count"]).round(3).to_string())
    print("extrapolated", scores["extrapolated"].mean().round(3))
    level = StandardLevel(n_subjects=subjects, n_covered=subjects)
    points = centile_points(frame, centiles, level)
    with style.applied():
        style.write_figure(draw_centiles(points, level), points, out, "centiles")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("cost", "coverage", "show"))
    parser.add_argument("--subjects", type=int, nargs="+", default=[2000])
    parser.add_argument("--cohorts", type=int, default=200)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("centiles"))
    options = parser.parse_args()
    for subjects in options.subjects:
        if options.what == "cost":
            cost(subjects)
        elif options.what == "show":
            show(subjects, options.out)
        else:
            coverage(subjects // 2, options.cohorts, MEASURES[0], options.samples)


if __name__ == "__main__":
    main()
