"""Agreement of the areas with those of the manual masks (Bland and Altman 1986)."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paravert.anatomy import MUSCLES
from paravert.study import style
from paravert.study.accuracy import BOTH, NOBODY, subject_areas
from paravert.study.agreement import limits_of_agreement

COLUMNS = [
    "subject", "muscle", "truth_mm2", "prediction_mm2", "mean_mm2", "difference_mm2", "bias_mm2",
    "lower_limit_mm2", "upper_limit_mm2",
]  # fmt: skip


def data(overlap: pd.DataFrame, pixels: pd.DataFrame) -> pd.DataFrame:
    """Return a row per subject and muscle: mean CSA, left + right, by prediction and by mask.

    overlap: rows of the cohort's table. pixels: as accuracy.pixel_areas returns them.
    Areas and limits are those of side "both" in the table `agreement`; difference is prediction
    minus truth. The limits are the muscle's; null below two subjects.
    """
    areas = subject_areas(overlap, pixels)
    areas = areas[areas["side"] == BOTH].sort_values(["muscle", "subject"])
    frame = areas.assign(
        mean_mm2=(areas["prediction_mm2"] + areas["truth_mm2"]) / 2,
        difference_mm2=areas["prediction_mm2"] - areas["truth_mm2"],
    ).reindex(columns=COLUMNS)
    for _, own in frame.groupby("muscle"):
        limits = limits_of_agreement(own["prediction_mm2"], own["truth_mm2"])
        frame.loc[own.index, "bias_mm2"] = limits.bias
        frame.loc[own.index, "lower_limit_mm2"] = limits.lower
        frame.loc[own.index, "upper_limit_mm2"] = limits.upper
    return frame.reset_index(drop=True)


def draw(frame: pd.DataFrame) -> Figure:
    """Draw difference against mean, a panel per muscle."""
    if frame.empty:
        return style.sentence(f"{NOBODY}: no areas to compare.")
    figure = style.new_figure(4.6)
    grid = figure.subplots(2, 2)
    for axes, muscle in zip(grid.flat, MUSCLES, strict=True):
        own = frame[frame["muscle"] == muscle]
        axes.set_title(style.MUSCLE_NAMES[muscle])
        if own.empty:
            axes.text(
                0.5, 0.5, "no judging subject has both sides", ha="center", transform=axes.transAxes
            )
            axes.set(xticks=[], yticks=[])
        else:
            _points(axes, own, muscle)
            _lines(axes, own.iloc[0])
    for axes in grid[1]:
        axes.set_xlabel("Mean of prediction and mask, left + right, mm²")
    for axes in grid[:, 0]:
        axes.set_ylabel("Prediction − mask, mm²")
    return figure


def _points(axes: Axes, own: pd.DataFrame, muscle: str) -> None:
    few = len(own) < 400
    axes.scatter(
        own["mean_mm2"],
        own["difference_mm2"],
        s=15 if few else 3,
        color=style.MUSCLE_COLOURS[muscle],
        alpha=0.85 if few else 0.4,
        linewidths=0,
        rasterized=len(own) > style.MANY_POINTS,
    )
    shown = own[["difference_mm2", "lower_limit_mm2", "upper_limit_mm2"]].abs()
    largest = np.nanmax(shown.to_numpy(dtype=float))
    axes.set_ylim(-1.15 * largest or -1, 1.15 * largest or 1)
    axes.margins(x=0.08)


def _lines(axes: Axes, limits: pd.Series) -> None:
    axes.axhline(0, color=style.QUIET, linewidth=0.6)
    for column, dashes, name in (
        ("upper_limit_mm2", (0, (4, 3)), "+1.96 SD"),
        ("bias_mm2", "solid", "bias"),
        ("lower_limit_mm2", (0, (4, 3)), "−1.96 SD"),
    ):
        height = limits[column]
        if pd.notna(height):
            axes.axhline(height, color=style.INK, linewidth=1, linestyle=dashes)
            axes.text(
                1.01, height, f"{name}\n{style.signed(height, 1)}", va="center", fontsize=6.5,
                transform=axes.get_yaxis_transform(), clip_on=False,
            )  # fmt: skip
