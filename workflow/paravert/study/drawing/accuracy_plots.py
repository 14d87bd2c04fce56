"""Figure 4 and the agreement of areas: predictions against manual masks."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paravert.anatomy import LABELS, MUSCLES
from paravert.study.accuracy import BOTH, NO_AREAS, NO_HELD_OUT, limits_of_agreement, trend
from paravert.study.drawing import style
from paravert.study.scans import scan_keys
from paravert.study.standard_level import ALL_SLICES
from paravert.study.summary import counted

MAX_POINTS_PER_BOX = 1500
HIGHEST_FLOOR = 0.7  # of the axis, however good the values are
SHARE_BELOW_FLOOR = 0.01  # of the values, rounded up; a triangle at the lower edge stands for them
NAMES = [label.name for label in LABELS]
COLOURS = {label.name: label.colour for label in LABELS}
FIG4_COLUMNS = [
    *("subject", "stack_id", "slice", "muscle", "side", "iou", "pixels_truth", "pixels_prediction"),
]
LINES = {"upper_limit_mm2": "+1.96 SD", "bias_mm2": "bias", "lower_limit_mm2": "−1.96 SD"}
LABEL_GAP = 0.2  # between the labels of two lines, in heights of the panel
BLAND_ALTMAN_COLUMNS = [
    "subject", "muscle", "truth_mm2", "prediction_mm2", "mean_mm2", "difference_mm2", *LINES,
    "bias_error_mm2", "limit_error_mm2", "trend_slope", "trend_p_value",
]  # fmt: skip


def iou_points(overlap: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return the values of Figure 4, one row per slice, muscle and side with known IoU.

    overlap: from `accuracy.held_out_rows`. seed: of the random choice. Columns: subject, visit if
    there is one, stack_id, slice, muscle, side, iou, pixels_truth, pixels_prediction, and point:
    whether the row is drawn as a point; at most MAX_POINTS_PER_BOX (1500) at random per muscle and
    side. The boxes show all rows.
    """
    columns = list(dict.fromkeys([*scan_keys(overlap), *FIG4_COLUMNS]))
    known = overlap.loc[overlap["iou"].notna(), columns].reset_index(drop=True)
    known["point"] = False
    random = np.random.default_rng(seed)
    for _, group in known.groupby(["muscle", "side"]):
        known.loc[random.permutation(group.index)[:MAX_POINTS_PER_BOX], "point"] = True
    return known


def draw_iou(frame: pd.DataFrame) -> Figure:
    """Draw Figure 4, a box plot of the IoU per muscle and side over points, and return the figure.

    frame: the values to draw, from `iou_points`; without rows the figure is a sentence. Whiskers:
    to the last value within 1.5 interquartile ranges. The axis may start above the lowest values
    (at most 1 % of all, rounded up); a text says how many lie below it.
    """
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
    """Return the lower end of the axis, a multiple of 0.1, at most HIGHEST_FLOOR.

    At most SHARE_BELOW_FLOOR of the values, rounded up, are below it.
    """
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
    slices = frame.groupby([*scan_keys(frame), "stack_id", "slice"]).ngroups
    most = "up to " if frame["label"].value_counts().nunique() > 1 else ""
    title = f"n = {frame['subject'].nunique():,}, {most}{counted(slices, 'slice')}; medians above the boxes"
    axes.set_title(title + _values_below(frame, floor), fontweight="normal", pad=19)


def _values_below(frame: pd.DataFrame, floor: float) -> str:
    """Return a line on the values below the axis: their number, the zeros, the size of these."""
    below = frame[frame["iou"] < floor]
    if below.empty:
        return ""
    text = f"\n▼ {len(below):,} of {len(frame):,} values are below {floor:.1f}"
    zeros = below.loc[below["iou"] == 0, ["pixels_truth", "pixels_prediction"]]
    if zeros.empty:
        return text
    largest = int(zeros.max(axis=None))
    return f"{text}; {len(zeros):,} are 0, in sections of at most {largest:,} pixels"


def agreement_points(compared: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the values of the Bland-Altman plot, one row per subject and muscle (left + right).

    compared: {level: areas}, from `accuracy.compared_areas`; of its first level the rows of side
    "both" are drawn. So a subject without both sides of a muscle has no row for it; if no subject
    has both, there are no rows. Columns: subject, muscle, truth_mm2, prediction_mm2, their mean_mm2
    and difference_mm2 (prediction - mask), level; the same in all rows of a muscle: bias_mm2,
    limits of agreement upper_limit_mm2 and lower_limit_mm2, half widths of their 95 % intervals
    bias_error_mm2 and limit_error_mm2, slope and p value of the differences over the means,
    trend_slope (mm2 per mm2) and trend_p_value (`accuracy.trend`); null if undefined.
    """
    level, areas = next(iter(compared.items()))
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
    return frame.assign(level=level).reset_index(drop=True)


def draw_agreement(frame: pd.DataFrame) -> Figure:
    """Draw the Bland-Altman plot, difference against mean in a panel per muscle; return the figure.

    frame: the values to draw, from `agreement_points`; without rows the figure is a sentence.
    """
    if frame.empty:
        return style.sentence(f"{NO_AREAS}.")
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
    level = frame["level"].iloc[0]
    where = (
        "mean area over the slices that show the muscle"
        if level == ALL_SLICES
        else f"area at {level}"
    )
    style.write_below(figure, f"Of each subject: {where}.")
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
