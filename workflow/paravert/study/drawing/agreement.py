"""Agreement of the areas with those of the manual masks (Bland and Altman 1986)."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paravert.anatomy import MUSCLES, SIDES
from paravert.study import style

LIMIT = 1.96  # standard deviations; 95 % of normally distributed differences lie within
MIN_POINTS_FOR_LIMITS = 3
SLICE = ["subject", "stack", "slice", "muscle", "side"]
UNIT = ["subject", "muscle", "side"]


def data(overlap: pd.DataFrame, slices: pd.DataFrame) -> pd.DataFrame:
    """Return mean areas per subject, muscle and side, by prediction and by manual mask.

    Means are over the slices in which either shows the muscle. The area of a pixel is taken from
    `slices`; stacks in which no muscle was found have none and are left out.
    bias_mm2: mean difference of the muscle; lower_mm2, upper_mm2: limits of agreement, null below
    three points.
    """
    stack = ["subject", "stack"]
    found = slices[slices["pixels"] > 0].drop_duplicates(stack)
    pixel = (found["csa_mm2"] / found["pixels"]).set_axis(pd.MultiIndex.from_frame(found[stack]))
    shown = overlap[(overlap["pixels_truth"] > 0) | (overlap["pixels_prediction"] > 0)]
    shown = shown.join(pixel.rename("pixel_mm2"), on=stack)
    shown = shown[shown["pixel_mm2"].notna()]
    for source in ("truth", "prediction"):
        shown = shown.assign(
            **{f"csa_{source}_mm2": shown[f"pixels_{source}"] * shown["pixel_mm2"]}
        )
    groups = shown.groupby(UNIT)
    frame = groups[["csa_truth_mm2", "csa_prediction_mm2"]].mean()
    frame.insert(0, "slices", groups.size())
    frame["mean_mm2"] = frame[["csa_truth_mm2", "csa_prediction_mm2"]].mean(axis=1)
    frame["difference_mm2"] = frame["csa_prediction_mm2"] - frame["csa_truth_mm2"]
    return _with_limits(frame.reset_index())


def _with_limits(frame: pd.DataFrame) -> pd.DataFrame:
    difference = frame.groupby("muscle")["difference_mm2"]
    bias, spread = difference.transform("mean"), LIMIT * difference.transform("std")
    spread = spread.where(difference.transform("size") >= MIN_POINTS_FOR_LIMITS)
    return frame.assign(bias_mm2=bias, lower_mm2=bias - spread, upper_mm2=bias + spread)


def draw(frame: pd.DataFrame) -> Figure:
    """Draw difference against mean, a panel per muscle."""
    if frame.empty:
        return style.sentence("No subjects with a manual mask: no areas to compare.")
    figure = style.new_figure(4.6)
    grid = figure.subplots(2, 2)
    for axes, muscle in zip(grid.flat, MUSCLES, strict=True):
        chosen = frame[frame["muscle"] == muscle]
        axes.set_title(style.MUSCLE_NAMES[muscle])
        if chosen.empty:
            axes.text(0.5, 0.5, "not shown", ha="center", transform=axes.transAxes)
            continue
        _points(axes, chosen, muscle)
        _lines(axes, chosen.iloc[0])
    for axes in grid[1]:
        axes.set_xlabel("Mean of prediction and mask, mm²")
    for axes in grid[:, 0]:
        axes.set_ylabel("Prediction − mask, mm²")
    return figure


def _points(axes: Axes, chosen: pd.DataFrame, muscle: str) -> None:
    for side in SIDES:
        of_side = chosen[chosen["side"] == side]
        axes.scatter(
            of_side["mean_mm2"], of_side["difference_mm2"],
            s=14 if len(chosen) < 400 else 3,
            marker=style.SIDE_MARKERS[side], color=style.LABEL_COLOURS[muscle, side],
            alpha=0.85, linewidths=0, label=side, zorder=2,
            rasterized=len(chosen) > style.MANY_POINTS,
        )  # fmt: skip
    largest = 1.35 * max(
        chosen["difference_mm2"].abs().max(), chosen[["lower_mm2", "upper_mm2"]].abs().max().max()
    )
    axes.set_ylim(*((-largest, largest) if np.isfinite(largest) and largest > 0 else (-1, 1)))
    axes.margins(x=0.08)
    axes.legend(loc="lower right", ncols=2, handletextpad=0.1, columnspacing=0.8, borderaxespad=0.1)


def _lines(axes: Axes, limits: pd.Series) -> None:
    axes.axhline(0, color=style.QUIET, linewidth=0.6)
    right = axes.get_yaxis_transform()
    for column, dashes, name in (
        ("upper_mm2", (0, (4, 3)), "+1.96 SD"),
        ("bias_mm2", "solid", "bias"),
        ("lower_mm2", (0, (4, 3)), "−1.96 SD"),
    ):
        height = limits[column]
        if pd.notna(height):
            axes.axhline(height, color=style.INK, linewidth=1, linestyle=dashes)
            axes.text(
                1.01, height, f"{name}\n{style.signed(height, 1)}", va="center", fontsize=6.5,
                transform=right, clip_on=False,
            )  # fmt: skip
