"""Figure 4: intersection over union per muscle and side, every slice."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paravert.anatomy import LABELS, MUSCLES
from paravert.study.accuracy import NO_HELD_OUT
from paravert.study.drawing import style

MAX_POINTS_PER_BOX = 1500
HIGHEST_FLOOR = 0.7  # of the axis, however good the values are
SHARE_BELOW_FLOOR = 0.01  # of the values, at most; they are drawn at the lower edge
NAMES = [label.name for label in LABELS]
COLOURS = {label.name: label.colour for label in LABELS}
FIG4_COLUMNS = [
    *("subject", "stack", "slice", "muscle", "side", "iou", "pixels_truth", "pixels_prediction"),
]


def iou_points(overlap: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return the known IoU of every slice, muscle and side, with the numbers of pixels.

    point: whether it is drawn as a point; at most MAX_POINTS_PER_BOX random ones per muscle and
    side are. The boxes are those of all values.
    """
    known = overlap.loc[overlap["iou"].notna(), FIG4_COLUMNS].reset_index(drop=True)
    known["point"] = False
    random = np.random.default_rng(seed)
    for _, group in known.groupby(["muscle", "side"]):
        known.loc[random.permutation(group.index)[:MAX_POINTS_PER_BOX], "point"] = True
    return known


def draw_iou(frame: pd.DataFrame) -> Figure:
    """Draw box plots (whiskers: 1.5 interquartile ranges) over the points of the slices."""
    if frame.empty:
        return style.sentence(f"{NO_HELD_OUT}: no overlap to show.")
    figure = style.new_figure(3.8)
    axes = figure.subplots()
    names = (frame["muscle"].astype(str) + " " + frame["side"].astype(str)).str.replace("_", " ")
    frame = frame.assign(label=pd.Categorical(names, NAMES))
    floor = _floor(frame["iou"])
    points = frame[frame["point"] & (frame["iou"] >= floor)]
    given = {"x": "label", "y": "iou", "hue": "label", "order": NAMES, "hue_order": NAMES}
    given |= {"palette": COLOURS, "legend": False, "ax": axes}
    with style.seeded():
        sns.stripplot(
            points, size=2.2 if len(points) < 4000 else 1.4, alpha=0.55, jitter=0.2, zorder=2,
            rasterized=len(points) > style.MANY_POINTS, **given,
        )  # fmt: skip
    line = {"color": style.INK, "linewidth": 0.9}
    sns.boxplot(
        frame, width=0.56, dodge=False, fill=False, showfliers=False, zorder=3, boxprops=line,
        whiskerprops=line, capprops=line, medianprops={"color": style.INK, "linewidth": 1.8},
        **given,
    )  # fmt: skip
    _mark_values_below(axes, frame, floor)
    _label(axes, frame, floor)
    return figure


def _floor(iou: pd.Series) -> float:
    """Return where the axis begins: a tenth that at most SHARE_BELOW_FLOOR of the values undercut."""
    low = np.quantile(iou, SHARE_BELOW_FLOOR)
    return min(np.floor(low * 10) / 10, HIGHEST_FLOOR)


def _mark_values_below(axes: Axes, frame: pd.DataFrame, floor: float) -> None:
    """Draw a triangle at the lower edge of each box with values below it, and their number."""
    counts = frame.loc[frame["iou"] < floor, "label"].value_counts()
    for position, name in enumerate(NAMES):
        if count := counts.get(name, 0):
            axes.plot(position, floor, marker="v", color=COLOURS[name], markersize=4, clip_on=False)
            axes.annotate(
                f"{count:,} below", (position, floor), (5, 3), textcoords="offset points",
                fontsize=6.5, color=style.QUIET,
            )  # fmt: skip


def _label(axes: Axes, frame: pd.DataFrame, floor: float) -> None:
    axes.set_ylim(floor - 0.02, 1.0)
    axes.set_xlim(-0.6, len(LABELS) - 0.4)
    axes.set(xlabel="", ylabel="Intersection over union")
    axes.set_xticks(range(len(LABELS)), [label.side for label in LABELS])
    axes.tick_params(axis="x", length=0)
    for number, muscle in enumerate(MUSCLES):
        axes.annotate(
            style.MUSCLE_NAMES[muscle], (2 * number + 0.5, 0), (0, -17), ha="center", va="top",
            xycoords=axes.get_xaxis_transform(), textcoords="offset points", fontsize=8.5,
        )  # fmt: skip
    for position, name in enumerate(NAMES):
        own = frame.loc[frame["label"] == name, "iou"]
        if len(own):
            axes.annotate(
                f"{own.median():.3f}", (position, 1), (0, 3), textcoords="offset points",
                ha="center", fontweight="bold", annotation_clip=False,
            )  # fmt: skip
    slices = frame.groupby(["subject", "stack", "slice"]).ngroups
    title = f"n = {frame['subject'].nunique():,}, {slices:,} slices; medians above the boxes"
    axes.set_title(title + _values_below(frame, floor), fontweight="normal", pad=19)


def _values_below(frame: pd.DataFrame, floor: float) -> str:
    """Return how many values are below the axis, how many of them are 0, and how large these are."""
    below = frame[frame["iou"] < floor]
    if below.empty:
        return ""
    text = f"\n▼ {len(below):,} of {len(frame):,} values are below {floor:.1f}"
    zeros = below.loc[below["iou"] == 0, ["pixels_truth", "pixels_prediction"]]
    if zeros.empty:
        return text
    largest = int(zeros.max(axis=None))
    return f"{text}; {len(zeros):,} are 0, in sections of at most {largest:,} pixels"
