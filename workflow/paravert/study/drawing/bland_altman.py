"""Agreement of the areas with those of the manual masks (Bland and Altman 1986, 1999)."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paravert.anatomy import MUSCLES
from paravert.study.accuracy import NO_HELD_OUT
from paravert.study.agreement import BOTH, limits_of_agreement, subject_areas, trend
from paravert.study.drawing import style

LINES = {"upper_limit_mm2": "+1.96 SD", "bias_mm2": "bias", "lower_limit_mm2": "−1.96 SD"}
LABEL_GAP = 0.2  # between the labels of two lines, in heights of the panel
BLAND_ALTMAN_COLUMNS = [
    "subject", "muscle", "truth_mm2", "prediction_mm2", "mean_mm2", "difference_mm2", *LINES,
    "bias_error_mm2", "limit_error_mm2", "trend_slope", "trend_p_value",
]  # fmt: skip


def agreement_points(overlap: pd.DataFrame, pixels: pd.DataFrame) -> pd.DataFrame:
    """Return a row per subject and muscle: mean CSA, left + right, by prediction and by mask.

    overlap: rows of the cohort's table. pixels: as `agreement.pixel_areas` returns them. Areas and
    limits are those of side "both" in the table `agreement`; difference is prediction - mask.
    bias_error_mm2, limit_error_mm2: half widths of the 95 % intervals of bias and limits. trend:
    regression of the difference on the mean. The limits are null below two subjects, the trend
    below three.
    """
    areas = subject_areas(overlap, pixels)
    areas = areas[areas["side"] == BOTH].sort_values(["muscle", "subject"])
    frame = areas.assign(
        mean_mm2=(areas["prediction_mm2"] + areas["truth_mm2"]) / 2,
        difference_mm2=areas["prediction_mm2"] - areas["truth_mm2"],
    ).reindex(columns=BLAND_ALTMAN_COLUMNS)
    for _, own in frame.groupby("muscle"):
        limits = limits_of_agreement(own["prediction_mm2"], own["truth_mm2"])
        values = [limits.upper, limits.bias, limits.lower, limits.bias_error, limits.limit_error]
        slope, p_value = trend(own["prediction_mm2"], own["truth_mm2"])
        frame.loc[own.index, BLAND_ALTMAN_COLUMNS[6:]] = [*values, slope, p_value]
    return frame.reset_index(drop=True)


def draw_agreement(frame: pd.DataFrame) -> Figure:
    """Draw difference against mean, a panel per muscle."""
    if frame.empty:
        return style.sentence(f"{NO_HELD_OUT}: no areas to compare.")
    figure = style.new_figure(5.0)
    grid = figure.subplots(2, 2)
    for axes, muscle in zip(grid.flat, MUSCLES, strict=True):
        own = frame[frame["muscle"] == muscle]
        axes.set_title(style.MUSCLE_NAMES[muscle], pad=14)
        if own.empty:
            axes.text(
                0.5, 0.5, "no held-out subject has both sides", ha="center",
                transform=axes.transAxes,
            )  # fmt: skip
            axes.set(xticks=[], yticks=[])
        else:
            _points(axes, own, muscle)
            _lines(axes, own.iloc[0])
            _write_trend(axes, own.iloc[0])
    for axes in grid[1]:
        axes.set_xlabel("Mean of prediction and mask, left + right, mm²")
    for axes in grid[:, 0]:
        axes.set_ylabel("Prediction − mask, mm²")
    return figure


def _points(axes: Axes, own: pd.DataFrame, muscle: str) -> None:
    few = len(own) < 400
    sns.scatterplot(
        own, x="mean_mm2", y="difference_mm2", s=15 if few else 3, linewidth=0,
        color=style.MUSCLE_COLOURS[muscle], alpha=0.85 if few else 0.4,
        rasterized=len(own) > style.MANY_POINTS, ax=axes,
    )  # fmt: skip
    ends = own[["difference_mm2", "upper_limit_mm2", "lower_limit_mm2"]].agg(["min", "max"])
    error = own["limit_error_mm2"].iloc[0]
    low = np.nanmin([0, *ends.loc["min"], own["lower_limit_mm2"].iloc[0] - error])
    high = np.nanmax([0, *ends.loc["max"], own["upper_limit_mm2"].iloc[0] + error])
    margin = 0.06 * (high - low) or 1
    axes.set_ylim(low - margin, high + margin)
    axes.margins(x=0.08)
    axes.set(xlabel="", ylabel="")


def _lines(axes: Axes, own: pd.Series) -> None:
    """Draw bias and limits with their 95 % intervals (shaded) and values (right of the panel)."""
    axes.axhline(0, color=style.QUIET, linewidth=0.6)
    bottom, top = axes.get_ylim()
    bias_at = (own["bias_mm2"] - bottom) / (top - bottom)  # as a fraction of the axis
    for shift, (column, name) in zip((LABEL_GAP, 0, -LABEL_GAP), LINES.items(), strict=True):
        height = own[column]
        if pd.isna(height):
            continue
        error = own["limit_error_mm2" if shift else "bias_error_mm2"]
        axes.axhline(
            height, color=style.INK, linewidth=1, linestyle=(0, (4, 3)) if shift else "solid"
        )
        text = f"{name}\n{style.signed(height, 1)}"
        if pd.notna(error):
            axes.axhspan(height - error, height + error, color=style.FAINT, alpha=0.5, zorder=0)
            text += f"\n(± {error:.1f})"
        apart = max if shift > 0 else min if shift < 0 else lambda at, _: at
        at = apart((height - bottom) / (top - bottom), bias_at + shift)
        axes.text(1.01, at, text, va="center", fontsize=6.5, transform=axes.transAxes)


def _write_trend(axes: Axes, own: pd.Series) -> None:
    if pd.isna(own["trend_p_value"]):
        return
    p = "p < 0.001" if own["trend_p_value"] < 0.001 else f"p = {own['trend_p_value']:.3f}"
    axes.annotate(
        f"trend {style.signed(own['trend_slope'], 3)} mm² per mm², {p}", (0, 1), (0, 4), fontsize=7,
        xycoords="axes fraction", textcoords="offset points", color=style.QUIET,
    )  # fmt: skip
