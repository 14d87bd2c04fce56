"""Figure 5: cross-sectional area per subject and muscle, mean and SD over the slices."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from paravert.anatomy import MUSCLES, SIDES
from paravert.study import style

MAX_NAMED_SUBJECTS = 26  # per panel; more names do not fit below it
MAX_ERROR_BARS = 120  # per panel; more are drawn as points on a band
ROOM_FOR_LEGEND = 1.22
SHIFT = {"left": -0.17, "right": 0.17}


def data(muscles: pd.DataFrame) -> pd.DataFrame:
    """Return mean and SD of the area of every muscle and side that a slice shows.

    both_sides_mm2: mean of the sides. rank: from 1, place of the subject in ascending order of it
    among the subjects of its sex, per muscle.
    """
    columns = ["subject", "sex", "muscle", "side", "slices", "csa_mean_mm2", "csa_sd_mm2"]
    frame = muscles.loc[muscles["csa_mean_mm2"].notna(), columns].copy()
    frame["sex"] = frame["sex"].fillna("unknown")
    frame["both_sides_mm2"] = frame.groupby(["subject", "muscle"])["csa_mean_mm2"].transform("mean")
    frame = frame.sort_values(["sex", "muscle", "both_sides_mm2", "subject", "side"])
    first = ~frame.duplicated(["subject", "muscle"])
    frame["rank"] = first.groupby([frame["sex"], frame["muscle"]]).cumsum().astype(int)
    return frame.reset_index(drop=True)


def draw(frame: pd.DataFrame) -> Figure:
    """Draw a row of panels per sex, women above, a column per muscle."""
    if frame.empty:
        return style.sentence("No analysed subjects: no areas to draw.")
    sexes = style.sexes_in(frame)
    figure = style.new_figure(0.7 + 2.15 * len(sexes))
    grid = figure.subplots(len(sexes), len(MUSCLES), sharey=True, squeeze=False)
    for row, sex in zip(grid, sexes, strict=True):
        for axes, muscle in zip(row, MUSCLES, strict=True):
            chosen = frame[(frame["sex"] == sex) & (frame["muscle"] == muscle)]
            _panel(axes, chosen, muscle)
        count = frame.loc[frame["sex"] == sex, "subject"].nunique()
        row[0].set_ylabel(f"{style.SEX_NAMES[sex]} (n = {count:,})\nCSA, mm²")
    for axes, muscle in zip(grid[0], MUSCLES, strict=True):
        axes.set_title(style.MUSCLE_NAMES[muscle])
    highest = (frame["csa_mean_mm2"] + frame["csa_sd_mm2"].fillna(0)).max()
    grid[0, 0].set_ylim(0, ROOM_FOR_LEGEND * highest)
    figure.supxlabel("Subjects in ascending order of the mean of both sides", fontsize=7.5)
    return figure


def _panel(axes: Axes, chosen: pd.DataFrame, muscle: str) -> None:
    subjects = int(chosen["rank"].max()) if len(chosen) else 0
    if subjects <= MAX_ERROR_BARS:
        for side in SIDES:
            of_side = chosen[chosen["side"] == side]
            _error_bars(axes, of_side, style.LABEL_COLOURS[muscle, side], side, subjects)
    else:
        _crowd(axes, chosen, muscle)
    _legend(axes, muscle)
    _name_subjects(axes, chosen, subjects)


def _error_bars(axes: Axes, of_side: pd.DataFrame, colour: str, side: str, subjects: int) -> None:
    crowded = subjects > MAX_NAMED_SUBJECTS
    axes.errorbar(
        of_side["rank"] + SHIFT[side],
        of_side["csa_mean_mm2"],
        yerr=of_side["csa_sd_mm2"].fillna(0),
        fmt=style.SIDE_MARKERS[side],
        color=colour,
        markersize=1.8 if crowded else 3,
        markeredgewidth=0,
        elinewidth=0.5 if crowded else 0.8,
        capsize=0 if crowded else 1.3,
        capthick=0.6,
    )


def _crowd(axes: Axes, chosen: pd.DataFrame, muscle: str) -> None:
    """Draw points over a grey band of mean -+ SD; neither side lies over the other."""
    rank, mean = chosen["rank"].to_numpy(), chosen["csa_mean_mm2"].to_numpy()
    deviation = chosen["csa_sd_mm2"].fillna(0).to_numpy()
    axes.vlines(
        rank, np.maximum(mean - deviation, 0), mean + deviation,
        color=style.FAINT, linewidth=0.5, rasterized=True, zorder=1,
    )  # fmt: skip
    colours = chosen["side"].map({side: style.LABEL_COLOURS[muscle, side] for side in SIDES})
    axes.scatter(rank, mean, s=0.8, c=colours, linewidths=0, rasterized=True, zorder=3)


def _legend(axes: Axes, muscle: str) -> None:
    handles = [
        Line2D(
            [], [], linestyle="", marker=style.SIDE_MARKERS[side], markersize=4,
            markeredgewidth=0, color=style.LABEL_COLOURS[muscle, side], label=side,
        )
        for side in SIDES
    ]  # fmt: skip
    axes.legend(handles=handles, loc="upper left", handletextpad=0.1, borderpad=0.1)


def _name_subjects(axes: Axes, chosen: pd.DataFrame, subjects: int) -> None:
    axes.set_xlim(0.3, max(subjects, 1) + 0.7)
    if subjects > MAX_NAMED_SUBJECTS:
        axes.tick_params(axis="x", labelsize=6.5)
        return
    names = chosen.drop_duplicates("rank").sort_values("rank")
    size = 6 if names["subject"].str.len().max() < 8 else 5
    axes.set_xticks(names["rank"], names["subject"], rotation=90, fontsize=size)
    axes.tick_params(axis="x", length=1.5, pad=1)
