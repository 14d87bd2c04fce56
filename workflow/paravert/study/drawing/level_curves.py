"""Area and fat fraction along the spine, by sex."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from paravert.anatomy import MUSCLES, SIDES
from paravert.study import published_values
from paravert.study.both_sides import joined
from paravert.study.drawing import style
from paravert.study.fat_words import FAT_FRACTION

MEASURES = {"csa_mm2": "CSA, left + right, mm²", "fat_fraction": "Fat fraction, %"}
CURVE_COLUMNS = (
    "measure", "muscle", "sex", "level_position", "level", "n_subjects", "mean", "low_95", "high_95",
)  # fmt: skip
PUBLISHED_LINE = {"linestyle": ":", "linewidth": 1, "marker": "D", "markersize": 2.5}
KEYS = ["muscle", "sex", "level_position", "level"]


def level_means(levels: pd.DataFrame) -> pd.DataFrame:
    """Return the mean area and fat fraction at each vertebral level, by muscle and sex.

    levels: the cohort table `levels`, one scan per subject. Columns (CURVE_COLUMNS): measure,
    muscle, sex (F, M, unknown), level_position, level (name), n_subjects, mean, low_95, high_95
    (interval of the mean by Student's t; NaN with fewer than two subjects). measure: csa_mm2, areas
    as sums of both sides, or fat_fraction, of both sides weighted by area (0-1). A subject in whom
    the measure is unknown on one side is left out; a side without the muscle does not enter the fat
    fraction.
    """
    named = levels.astype({"muscle": object, "sex": object})
    named = named.assign(sex=named.sex.fillna("unknown"))
    sums = joined(named, ["subject", *KEYS], ["csa_mm2"], "fat_fraction")
    parts = []
    for measure in MEASURES:
        found = sums[measure].dropna().groupby(KEYS).agg(["count", "mean", "sem"]).reset_index()
        half = stats.t.ppf(0.975, np.maximum(found["count"] - 1, 1)) * found["sem"]
        parts.append(
            found.assign(
                measure=measure,
                n_subjects=found["count"],
                low_95=found["mean"] - half,
                high_95=found["mean"] + half,
            )
        )
    return pd.concat(parts, ignore_index=True)[list(CURVE_COLUMNS)]


def draw_level_curves(
    frame: pd.DataFrame, published: pd.DataFrame | None = None, fat_name: str = FAT_FRACTION
) -> Figure:
    """Draw area and fat fraction along the spine, a line with its 95 % band per sex; return the figure.

    frame: the values to draw, from `level_means`; without rows the figure is a sentence. published:
    areas of one side, from `published_values.areas_of_sides`; drawn twice as large, as left +
    right; None: not drawn. fat_name: what the fat fractions are called, from `fat_words.fat_name`.
    A row of panels per measure, a column per muscle.
    """
    if frame.empty:
        return style.sentence("No areas at known vertebral levels.")
    figure = style.new_figure(4.6)
    grid = figure.subplots(len(MEASURES), len(MUSCLES), sharex=True, squeeze=False)
    for row, (measure, label) in zip(grid, MEASURES.items(), strict=True):
        factor = 100 if measure == "fat_fraction" else 1
        for axes, muscle in zip(row, MUSCLES, strict=True):
            own = frame[(frame.measure == measure) & (frame.muscle == muscle)]
            for sex in style.sexes_in(own):
                line = own[own.sex == sex].sort_values("level_position")
                style_of = {"color": style.SEX_COLOURS[sex], "marker": style.SEX_MARKERS[sex]}
                place, low, high = line.level_position, factor * line.low_95, factor * line.high_95
                axes.plot(place, factor * line["mean"], markersize=2.5, linewidth=1, **style_of)
                axes.fill_between(place, low, high, color=style.SEX_COLOURS[sex], alpha=0.2, lw=0)
        row[0].set_ylabel(label.replace(FAT_FRACTION, fat_name))
    published = frame[:0] if published is None else published
    for axes, muscle in zip(grid[0], MUSCLES, strict=True):
        for sex, own in published[published["muscle"] == muscle].groupby("sex"):
            line = own.sort_values("level_position")
            colour = style.SEX_COLOURS.get(sex, style.INK)
            place, both = line["level_position"], len(SIDES) * line["mean"]
            axes.plot(place, both, color=colour, **PUBLISHED_LINE)
        axes.set_title(style.MUSCLE_NAMES[muscle])
    for axes in grid.flat:
        axes.set_ylim(bottom=0)
    for axes in grid[-1]:
        axes.set_xticks(range(1, 6), [f"L{number}" for number in range(1, 6)])
    counts = frame.groupby("sex").n_subjects.max()
    handles = [
        (grid[0, 0].plot([], [], color=style.SEX_COLOURS[sex], marker=style.SEX_MARKERS[sex])[0])
        for sex in style.sexes_in(frame)
    ]
    names = [f"{style.SEX_NAMES[sex]} (up to {counts[sex]:,})" for sex in style.sexes_in(frame)]
    if len(published):
        handles.append(grid[0, 0].plot([], [], color=style.INK, **PUBLISHED_LINE)[0])
        names.append("published values")
    figure.legend(handles, names, loc="outside upper right", ncols=3)
    style.write_below(
        figure, "Vertebral level", published_values.source_note(published) if len(published) else ""
    )
    return figure
