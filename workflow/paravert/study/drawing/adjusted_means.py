"""Adjusted means: area and fat fraction per muscle, sex and age, with 95 % intervals."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paravert.anatomy import MUSCLES
from paravert.study.drawing import style
from paravert.study.inference import CSA, FAT, SEX_AND_AGE

LABELS = {CSA: "CSA, mm²", FAT: "Fat fraction, %"}
SHIFT_YEARS = {"F": -1.2, "M": 1.2}


def adjusted_mean_points(means: pd.DataFrame) -> pd.DataFrame:
    """Return the estimated means of the model of sex and age: area and fat fraction."""
    known = means.dropna(subset=["estimate"])
    chosen = (known["model"] == SEX_AND_AGE.name) & known["outcome"].isin(LABELS)
    columns = [
        "outcome",
        "muscle",
        "sex",
        "age_years",
        "estimate",
        "low_95",
        "high_95",
        "n_subjects",
    ]
    return known.loc[chosen, columns].reset_index(drop=True)


def draw_adjusted_means(frame: pd.DataFrame) -> Figure:
    """Draw a row of panels per outcome and a column per muscle: means by sex over age."""
    if frame.empty:
        return style.sentence("No model was fitted: no adjusted means.")
    figure = style.new_figure(4.2)
    grid = figure.subplots(len(LABELS), len(MUSCLES), sharex=True)
    for row, (outcome, name) in zip(grid, LABELS.items(), strict=True):
        for axes, muscle in zip(row, MUSCLES, strict=True):
            own = frame[(frame["outcome"] == outcome) & (frame["muscle"] == muscle)]
            _panel(axes, own, 100 if outcome == FAT else 1)
        row[0].set_ylabel(name)
    highest = max(axes.get_ylim()[1] for axes in grid[1])
    for axes, muscle in zip(grid[0], MUSCLES, strict=True):
        axes.set_title(style.MUSCLE_NAMES[muscle])
    for axes in grid[1]:
        axes.set_ylim(0, highest)
        axes.set_xlabel("Age, years")
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2)
    return figure


def _panel(axes: Axes, own: pd.DataFrame, factor: float) -> None:
    for sex in style.sexes_in(own):
        of_sex = own[own["sex"] == sex].sort_values("age_years")
        estimate = factor * of_sex["estimate"]
        reach = [estimate - factor * of_sex["low_95"], factor * of_sex["high_95"] - estimate]
        axes.errorbar(
            of_sex["age_years"] + SHIFT_YEARS[sex],
            estimate,
            yerr=reach,
            color=style.SEX_COLOURS[sex],
            marker=style.SEX_MARKERS[sex],
            markersize=3.5,
            linewidth=1,
            capsize=2,
            label=style.SEX_NAMES[sex],
        )
    axes.set_xlim(20, 80)
    axes.set_xticks([30, 50, 70])
    axes.set_ylim(0, 1.08 * factor * own["high_95"].max() if len(own) else 1)
