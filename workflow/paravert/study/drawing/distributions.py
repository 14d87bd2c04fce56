"""Distributions of area and fat fraction per muscle, by sex."""

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paravert.anatomy import MUSCLES
from paravert.study.drawing import style

MIN_SUBJECTS_FOR_VIOLIN = 10  # per sex; with fewer, points alone
MAX_SUBJECTS_AS_POINTS = 200  # with more, violins alone
MEASURE_LABELS = {"csa": "CSA, left + right, mm²", "fat_fraction": "Fat fraction, %"}


def distribution_points(subjects: pd.DataFrame) -> pd.DataFrame:
    """Return a row per measure (csa, fat_fraction), muscle and subject with a known value.

    subjects: the cohort's table. value: csa_<muscle>_mm2 (left + right) or fat_fraction_<muscle>.
    """
    columns = {
        (measure, muscle): f"csa_{muscle}_mm2" if measure == "csa" else f"{measure}_{muscle}"
        for measure in MEASURE_LABELS
        for muscle in MUSCLES
    }
    known = subjects.assign(sex=subjects["sex"].fillna("unknown"))
    parts = [
        known[["sex", "subject"]].assign(
            measure=measure, muscle=muscle, value=known[column].astype(float)
        )
        for (measure, muscle), column in columns.items()
    ]
    frame = pd.concat(parts, ignore_index=True).dropna(subset=["value"])
    return frame[["measure", "muscle", "sex", "subject", "value"]].reset_index(drop=True)


def draw_distributions(frame: pd.DataFrame) -> Figure:
    """Draw a row of panels per measure and a column per muscle: violins with quartiles, points."""
    if frame.empty:
        return style.sentence("No analysed subjects: no distributions.")
    sexes = style.sexes_in(frame)
    figure = style.new_figure(4.6)
    grid = figure.subplots(len(MEASURE_LABELS), len(MUSCLES))
    for row, (measure, name) in zip(grid, MEASURE_LABELS.items(), strict=True):
        for axes, muscle in zip(row, MUSCLES, strict=True):
            own = frame[(frame["measure"] == measure) & (frame["muscle"] == muscle)]
            _panel(axes, own.assign(value=own["value"] * (1 if measure == "csa" else 100)), sexes)
        row[0].set_ylabel(name)
    highest = 105 * frame.loc[frame["measure"] == "fat_fraction", "value"].max()
    for axes in grid[1]:
        axes.set_ylim(0, highest if highest > 0 else 1)
    for axes, muscle in zip(grid[0], MUSCLES, strict=True):
        axes.set_title(style.MUSCLE_NAMES[muscle])
    return figure


def _panel(axes: Axes, own: pd.DataFrame, sexes: list[str]) -> None:
    given = {"x": "sex", "y": "value", "hue": "sex", "order": sexes, "hue_order": sexes}
    given |= {"palette": style.SEX_COLOURS, "legend": False, "ax": axes}
    counts = own["sex"].value_counts()
    many = own[own["sex"].map(counts) >= MIN_SUBJECTS_FOR_VIOLIN]
    if not many.empty:
        sns.violinplot(
            many, cut=0, inner="quart", density_norm="width", fill=False, linewidth=0.9, **given
        )
    if len(own) <= MAX_SUBJECTS_AS_POINTS and not own.empty:
        with style.seeded():
            sns.stripplot(own, size=2.5, alpha=0.7, jitter=0.1, **given)
    names = [f"{style.SEX_NAMES[sex]}\n(n = {counts.get(sex, 0):,})" for sex in sexes]
    axes.set_xticks(range(len(sexes)), names, fontsize=6.5)
    axes.set_ylim(0, 1.05 * own["value"].max() if len(own) else 1)
    axes.set(xlabel="", ylabel="")
