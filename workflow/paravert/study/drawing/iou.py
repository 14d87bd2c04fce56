"""Figure 4: intersection over union per muscle and side, every slice."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paravert.anatomy import LABELS, MUSCLES
from paravert.study import style
from paravert.study.accuracy import NOBODY

MAX_POINTS_PER_BOX = 1500
BOX_WIDTH, JITTER = 0.56, 0.2
HIGHEST_FLOOR = 0.7  # of the scale, however good the values are
KEYS = ["subject", "stack", "slice", "muscle", "side"]


def data(overlap: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return the known IoU of every slice, muscle and side.

    across: place of its point beside the middle of the box, by chance; null where a box of very
    many values has no point for it. The boxes are made of all values.
    """
    known = overlap.loc[overlap["iou"].notna(), [*KEYS, "iou"]].reset_index(drop=True)
    known["across"] = np.nan
    random = np.random.default_rng(seed)
    for _, group in known.groupby(["muscle", "side"]):
        chosen = random.permutation(group.index)[:MAX_POINTS_PER_BOX]
        known.loc[chosen, "across"] = random.uniform(-JITTER, JITTER, len(chosen))
    return known


def draw(frame: pd.DataFrame) -> Figure:
    """Draw box plots (whiskers: 1.5 interquartile ranges) over jittered points."""
    if frame.empty:
        return style.sentence(f"{NOBODY}: nothing to score.")
    figure = style.new_figure(3.6)
    axes = figure.subplots()
    many = frame["across"].count() > style.MANY_POINTS
    for position, label in enumerate(LABELS):
        chosen = frame[(frame["muscle"] == label.muscle) & (frame["side"] == label.side)]
        if not chosen.empty:
            _box(axes, position, chosen, label.colour, many)
    _label(axes, frame)
    return figure


def _box(axes: Axes, position: int, chosen: pd.DataFrame, colour: str, many: bool) -> None:
    points = chosen[chosen["across"].notna()]
    axes.scatter(
        position + points["across"],
        points["iou"],
        s=5 if len(points) < 500 else 2.5,
        color=colour,
        alpha=0.55,
        linewidths=0,
        rasterized=many,
        zorder=2,
    )
    line = {"color": style.INK, "linewidth": 0.9}
    axes.boxplot(
        chosen["iou"].to_numpy(),
        positions=[position],
        widths=BOX_WIDTH,
        showfliers=False,
        patch_artist=True,
        boxprops={**line, "facecolor": "none"},
        whiskerprops=line,
        capprops=line,
        medianprops={"color": style.INK, "linewidth": 1.8},
        zorder=3,
        manage_ticks=False,
    )
    median = chosen["iou"].median()
    axes.text(position, 1.0, f"{median:.3f}\n", ha="center", va="center", fontweight="bold")


def _label(axes: Axes, frame: pd.DataFrame) -> None:
    floor = min(np.floor(frame["iou"].min() * 10) / 10, HIGHEST_FLOOR)
    axes.set_ylim(floor - 0.02, 1.0)  # a point on the floor is drawn whole
    axes.set_xlim(-0.6, len(LABELS) - 0.4)
    axes.set_ylabel("Intersection over union")
    axes.set_xticks(range(len(LABELS)), [label.side for label in LABELS])
    axes.tick_params(axis="x", length=0)
    for number, muscle in enumerate(MUSCLES):
        axes.text(
            (2 * number + 1.5) / len(LABELS) - 0.5 / len(LABELS), -0.11, style.MUSCLE_NAMES[muscle],
            ha="center", va="top", fontsize=8.5, transform=axes.transAxes,
        )  # fmt: skip
    slices = frame.groupby(["subject", "stack", "slice"]).ngroups
    axes.set_title(
        f"n = {frame['subject'].nunique():,}, {slices:,} slices; medians above the boxes",
        fontweight="normal",
        pad=19,
    )
