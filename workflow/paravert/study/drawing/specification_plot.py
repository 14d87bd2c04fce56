"""The specification curve: effects on the fat fraction by each way to measure it, and these ways."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paravert.anatomy import MUSCLES
from paravert.study.drawing import style
from paravert.study.specifications import WAY_COLUMNS

EFFECTS = {"sex, fat": "Men : women", "age": "Per decade of age"}
PIXELS_OFF = {0: "mask as it is", 1: "mask eroded by 1 pixel"}
CURVE_IN, CHOICE_IN = 1.5, 0.115  # height of a curve, and of a line of choices
WIDEST = 16.0  # odds ratio; intervals beyond are cut off


def specification_points(curve: pd.DataFrame) -> pd.DataFrame:
    """Return the values of the specification curve, ordered by estimate within effect and muscle.

    curve: specification_curve.csv of fit_models; rows without estimate are left out. Columns: those
    of the table, and rank, the place in that order: from 0 in each effect (column family) and
    muscle.
    """
    known = curve.dropna(subset=["estimate"]).sort_values("estimate", kind="stable")
    ranks = known.groupby(["family", "muscle"]).cumcount()
    return known.assign(rank=ranks).sort_values(["family", "muscle", "rank"], ignore_index=True)


def draw_specification_curve(points: pd.DataFrame) -> Figure:
    """Draw the specification curve, with the choices behind each estimate below it; return the figure.

    points: the values to draw, from `specification_points`; without rows the figure is a sentence.
    Choices: estimator, erosion, quality cut and level rule (WAY_COLUMNS), as far as they differ
    between the points. Two rows of panels per effect that has values, a column per muscle, which
    says so where a muscle has none. The estimate of the study's own models is highlighted.
    """
    if points.empty:
        return style.sentence("No model of the fat fraction was fitted: no specification curve.")
    choices = _choices(points)
    effects = [family for family in EFFECTS if (points["family"] == family).any()]
    height = len(effects) * (CURVE_IN + CHOICE_IN * len(choices)) + 0.9
    figure = style.new_figure(height)
    ratios = [CURVE_IN, CHOICE_IN * len(choices)] * len(effects)
    grid = figure.subplots(2 * len(effects), len(MUSCLES), height_ratios=ratios, sharex="col")
    for row, family in enumerate(effects):
        own = points[points["family"] == family]
        limits = _limits(own)
        for column, muscle in enumerate(MUSCLES):
            of_muscle = own[own["muscle"] == muscle]
            curve, below = grid[2 * row : 2 * row + 2, column]
            _curve_panel(curve, of_muscle, limits)
            _choice_panel(below, of_muscle, choices)
            if column:
                curve.tick_params(labelleft=False)
                below.set_yticks(range(len(choices)), [""] * len(choices))
        grid[2 * row, 0].set_ylabel(f"{EFFECTS[family]},\nodds ratio")
    for axes, muscle in zip(grid[0], MUSCLES, strict=True):
        axes.set_title(style.MUSCLE_NAMES[muscle], fontsize=7.5)
    for axes in grid[-1]:
        axes.set_xlabel("Ways, by estimate")
    return figure


def _choices(points: pd.DataFrame) -> list[tuple[str, object, str]]:
    """Return column, value and text of each choice that differs between the points, in table order."""
    found = []
    for column in WAY_COLUMNS:
        values = list(dict.fromkeys(points.sort_values("chosen", ascending=False)[column]))
        if len(values) > 1:
            found += [(column, value, PIXELS_OFF.get(value, str(value))) for value in values]
    return found


def _limits(points: pd.DataFrame) -> tuple[float, float]:
    low, high = points["low_95"].min(), points["high_95"].max()
    return max(low / 1.05, 1 / WIDEST), min(high * 1.05, WIDEST)


def _curve_panel(axes: Axes, own: pd.DataFrame, limits: tuple[float, float]) -> None:
    axes.axhline(1, color=style.QUIET, linewidth=0.8)
    if own.empty:
        axes.text(0.5, 0.6, "no values", ha="center", color=style.QUIET, transform=axes.transAxes)
        axes.set_xticks([])
    for chosen, colour, size, width in (
        (False, style.QUIET, 2, 0.5),
        (True, style.SEX_COLOURS["F"], 4, 1.4),
    ):
        some = own[own["chosen"].astype(bool) == chosen]
        axes.vlines(some["rank"], some["low_95"], some["high_95"], color=colour, linewidth=width)
        axes.plot(some["rank"], some["estimate"], "o", color=colour, markersize=size)
    axes.set_yscale("log")
    axes.set_ylim(*limits)
    ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10) if limits[0] <= tick <= limits[1]]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlim(-1, max(own["rank"].max(), 0) + 1 if len(own) else 1)
    axes.tick_params(labelbottom=False)


def _choice_panel(axes: Axes, own: pd.DataFrame, choices: list[tuple[str, object, str]]) -> None:
    for place, (column, value, _) in enumerate(choices):
        for chosen, colour in ((False, style.INK), (True, style.SEX_COLOURS["F"])):
            some = own[(own[column] == value) & (own["chosen"].astype(bool) == chosen)]
            axes.plot(
                some["rank"], np.full(len(some), place), "|", color=colour, markersize=4 + 2 * chosen,
                markeredgewidth=0.6 + 0.8 * chosen,
            )  # fmt: skip
    starts = [n for n in range(1, len(choices)) if choices[n][0] != choices[n - 1][0]]
    for start in starts:
        axes.axhline(start - 0.5, color=style.FAINT, linewidth=0.8)
    axes.grid(visible=False)
    axes.set_ylim(len(choices) - 0.5, -0.5)
    axes.set_yticks(
        range(len(choices)), [text.replace("_", " ") for *_, text in choices], fontsize=6
    )
    axes.tick_params(left=False)
