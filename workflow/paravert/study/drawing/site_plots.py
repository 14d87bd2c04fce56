"""Differences between sites and scanners, before and after adjustment."""

import textwrap

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paravert.anatomy import MUSCLES
from paravert.study.drawing import style
from paravert.study.inference import ADJUSTED, CSA, FAT

LABELS = {CSA: "CSA, difference, mm²", FAT: "Fat fraction, odds ratio"}
NEUTRAL = {CSA: 0.0, FAT: 1.0}
MODELS = {"alone": (style.QUIET, -0.15, "o"), ADJUSTED.name: (style.INK, 0.15, "s")}
MOST_CATEGORIES = 30
NAME_WIDTH = 18  # letters of a line; longer names would narrow the panels


def site_effect_points(effects: pd.DataFrame) -> pd.DataFrame:
    """Return the differences of area and fat fraction that are drawn; at most MOST_CATEGORIES, the largest."""
    known = effects[effects["outcome"].isin(LABELS)].copy()
    named = known["factor"].str.replace("_", " ") + ": " + known["category"].astype(str)
    known["name"] = [textwrap.fill(name, NAME_WIDTH) for name in named]
    sizes = known.groupby(["factor", "name"], sort=False)["n_subjects"].max()
    kept = sizes.nlargest(MOST_CATEGORIES).index.get_level_values("name")
    return known[known["name"].isin(kept)].reset_index(drop=True)


def draw_site_effects(frame: pd.DataFrame) -> Figure:
    """Draw a row of panels per outcome and a column per muscle: categories with 95 % intervals."""
    if frame.empty:
        return style.sentence("One site and one scanner, or none known: no differences to draw.")
    names = list(dict.fromkeys(frame["name"]))
    figure = style.new_figure(1.6 + 0.45 * len(names))
    grid = figure.subplots(len(LABELS), len(MUSCLES), sharey=True)
    for row, (outcome, label) in zip(grid, LABELS.items(), strict=True):
        for axes, muscle in zip(row, MUSCLES, strict=True):
            own = frame[(frame["outcome"] == outcome) & (frame["muscle"] == muscle)]
            _panel(axes, own, names, NEUTRAL[outcome])
        row[1].set_xlabel(label)
    for axes, muscle in zip(grid[0], MUSCLES, strict=True):
        axes.set_title(style.MUSCLE_NAMES[muscle], fontsize=7.5)
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2)
    return figure


def _panel(axes: Axes, own: pd.DataFrame, names: list[str], neutral: float) -> None:
    axes.axvline(neutral, color=style.QUIET, linewidth=0.8)
    axes.grid(visible=False)
    for model, (colour, shift, marker) in MODELS.items():
        of_model = own[own["model"] == model]
        places = [names.index(name) + shift for name in of_model["name"]]
        reach = [
            of_model["estimate"] - of_model["low_95"],
            of_model["high_95"] - of_model["estimate"],
        ]
        axes.errorbar(
            of_model["estimate"], places, xerr=reach, fmt=marker, color=colour, markersize=3,
            linewidth=1, capsize=1.5, label=model,
        )  # fmt: skip
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), names)
