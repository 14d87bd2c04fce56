"""Figure 5: cross-sectional area per subject and muscle, mean and SD over the slices."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from paravert.anatomy import MUSCLES, SIDES
from paravert.study.drawing import style

MAX_NAMED_SUBJECTS = 26  # per panel; more names do not fit below it
MAX_SEPARATE_SIDES = 120  # subjects per panel; with more, left and right stand over each other
SHIFT = {"left": -0.17, "right": 0.17}


def csa_points(muscles: pd.DataFrame) -> pd.DataFrame:
    """Return mean and SD of the area of every muscle and side that a slice shows.

    muscles: the cohort's table. rank: position of the subject among those of its sex, from 1, in
    ascending order of its area (sum of the mean areas of all muscles and sides).
    """
    columns = ["subject", "sex", "muscle", "side", "slices", "csa_mean_mm2", "csa_sd_mm2"]
    frame = muscles.loc[muscles["csa_mean_mm2"].notna(), columns].copy()
    frame["sex"] = frame["sex"].fillna("unknown")
    area = frame.groupby(["sex", "subject"])["csa_mean_mm2"].sum().rename("area").reset_index()
    area = area.sort_values(["sex", "area", "subject"])
    area["rank"] = area.groupby("sex").cumcount() + 1
    frame = frame.merge(area[["subject", "rank"]], on="subject")
    order = {muscle: place for place, muscle in enumerate(MUSCLES)}
    keys = ["sex", "muscle", "rank", "side"]
    frame = frame.sort_values(keys, key=lambda c: c.map(order) if c.name == "muscle" else c)
    return frame.reset_index(drop=True)


def draw_csa(frame: pd.DataFrame) -> Figure:
    """Draw a row of panels per sex, women above, and a column per muscle, each with its scale."""
    if frame.empty:
        return style.sentence("No analysed subjects: no areas to draw.")
    sexes = style.sexes_in(frame)
    figure = style.new_figure(0.95 + 2.05 * len(sexes))
    grid = figure.subplots(len(sexes), len(MUSCLES), sharey="col", squeeze=False)
    for row, sex in zip(grid, sexes, strict=True):
        of_sex = frame[frame["sex"] == sex]
        for axes, muscle in zip(row, MUSCLES, strict=True):
            _panel(axes, of_sex[of_sex["muscle"] == muscle], muscle, int(of_sex["rank"].max()))
            _name_subjects(axes, of_sex)
        row[0].set_ylabel(f"{style.SEX_NAMES[sex]} (n = {of_sex['subject'].nunique():,})\nCSA, mm²")
    for axes, muscle in zip(grid[0], MUSCLES, strict=True):
        axes.set_title(style.MUSCLE_NAMES[muscle])
        axes.set_ylim(bottom=0)
    figure.supxlabel("Subjects in ascending order of the area of all muscles", fontsize=7.5)
    handles = [
        Line2D([], [], linestyle="", marker=marker, color=style.QUIET, markersize=4, label=side)
        for side, marker in style.SIDE_MARKERS.items()
    ]
    handles.append(Line2D([], [], color=style.QUIET, linewidth=0.8, label="mean ± SD of slices"))
    figure.legend(handles=handles, loc="outside upper right", ncols=3, handletextpad=0.3)
    return figure


def _panel(axes: Axes, own: pd.DataFrame, muscle: str, subjects: int) -> None:
    """Draw one muscle of one sex; a point per subject and side, a line from mean - SD to mean + SD."""
    if own.empty:
        return
    crowded = subjects > MAX_SEPARATE_SIDES
    place = own["rank"] + (0 if crowded else own["side"].map(SHIFT).astype(float))
    colours = {side: style.LABEL_COLOURS[muscle, side] for side in SIDES}
    mean, sd = own["csa_mean_mm2"], own["csa_sd_mm2"].fillna(0)
    axes.vlines(
        place, np.maximum(mean - sd, 0), mean + sd, linewidth=0.5 if crowded else 0.8, zorder=1,
        colors=style.FAINT if crowded else own["side"].map(colours), rasterized=crowded,
    )  # fmt: skip
    size = 0.8 if crowded else 4 if subjects > MAX_NAMED_SUBJECTS else 10
    sns.scatterplot(
        own.assign(place=place), x="place", y="csa_mean_mm2", hue="side", style="side", s=size,
        palette=colours, markers=style.SIDE_MARKERS, linewidth=0, legend=False, zorder=3,
        rasterized=crowded, ax=axes,
    )  # fmt: skip
    axes.set(xlabel="", ylabel="")


def _name_subjects(axes: Axes, of_sex: pd.DataFrame) -> None:
    subjects = int(of_sex["rank"].max())
    axes.set_xlim(0.3, subjects + 0.7)
    if subjects > MAX_NAMED_SUBJECTS:
        axes.tick_params(axis="x", labelsize=6.5)
        return
    names = of_sex.drop_duplicates("rank").sort_values("rank")
    size = 6 if names["subject"].str.len().max() < 8 else 5
    axes.set_xticks(names["rank"], names["subject"], rotation=90, fontsize=size)
    axes.tick_params(axis="x", length=1.5, pad=1)
