"""Centile curves of area, volume and fat fraction by age per muscle and sex, subjects as points."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paravert.anatomy import MUSCLES
from paravert.study.centiles import MEASURES, too_few
from paravert.study.drawing import style
from paravert.study.drawing.value_plots import NO_LEVEL
from paravert.study.fat_words import FAT_FRACTION
from paravert.study.quantile_regression import CENTILES
from paravert.study.standard_level import StandardLevel

# Label and factor of each measure; {}: name of the level.
LABELS = {
    "csa": "CSA, cm²",
    "csa_level": "CSA at {}, cm²",
    "volume": "Volume, ml",
    "fat_fraction": "Fat fraction, %",
    "fat_fraction_level": "Fat fraction at {}, %",
}
FACTORS = {"csa": 0.01, "csa_level": 0.01, "fat_fraction": 100.0, "fat_fraction_level": 100.0}
# What a row of panels shows: the measure at the standard level, and in place of it where that is not used.
ROWS = (("csa_level", "csa"), ("volume",), ("fat_fraction_level", "fat_fraction"))
POINTS_BELOW = 1000  # subjects; from this number on, curves alone
BANDED = (3, 50, 97)
WIDTHS = {3: 0.9, 50: 1.6, 97: 0.9}  # of the other centiles 0.5
ROW_IN, PANEL_IN = 1.6, 1.2  # height of a row, and of the panels in it
NAME_SIZE_PT = 5.5  # of the centiles beside the curves
CURVE, POINT, NOT_FITTED = "centile", "subject", "not fitted"


def centile_points(
    subjects: pd.DataFrame, centiles: pd.DataFrame, level: StandardLevel = NO_LEVEL
) -> pd.DataFrame:
    """Return the values of the figure of centiles: curves by age, and subjects as points.

    subjects: the cohort table `subjects`, one scan per subject. centiles: table of fit_centiles, of
    which area, volume and fat fraction are drawn. level: the vertebra or disc at which the study
    compares scans; area and fat fraction are those at this level if it is used (at least 80 % of the
    subjects have it) and has centiles, otherwise those over all slices (as by default). Columns: kind,
    measure, muscle, sex, age_years, centile (null for points), value (mm2, ml or fraction), low_95,
    high_95, n_subjects, note (why it is not fitted). kind: "centile", a place on a curve; "subject", a
    point (only with fewer than POINTS_BELOW (1000) subjects, and where their sex has centiles of the
    measure and muscle); "not fitted", a row of the table without a value, which is not drawn.
    """
    own = centiles[centiles["measure"].isin(_measures(centiles, level))]
    columns = ["measure", "muscle", "sex", "age_years", "centile", "value", "low_95", "high_95"]
    kind = own["value"].notna().map({True: CURVE, False: NOT_FITTED})
    parts = [own[[*columns, "n_subjects", "note"]].assign(kind=kind)]
    groups = own.loc[kind == CURVE, ["measure", "muscle", "sex"]].drop_duplicates()
    if len(subjects) < POINTS_BELOW:
        by_name = {measure.name: measure for measure in MEASURES}
        for measure, muscle, sex in groups.itertuples(index=False):
            column = by_name[measure].column_of(muscle)
            own = subjects.loc[subjects["sex"] == sex, ["age_years", column]].dropna()
            own = own.rename(columns={column: "value"})
            parts.append(own.assign(measure=measure, muscle=muscle, sex=sex, kind=POINT))
    found = pd.concat(parts, ignore_index=True)
    return found[["kind", *columns, "n_subjects", "note"]]


def _measures(centiles: pd.DataFrame, level: StandardLevel) -> list[str]:
    fitted = set(centiles.loc[centiles["value"].notna(), "measure"])
    return [row[0] if level.used and row[0] in fitted else row[-1] for row in ROWS]


def draw_centiles(
    frame: pd.DataFrame, level: StandardLevel = NO_LEVEL, fat_name: str = FAT_FRACTION
) -> Figure:
    """Draw the centiles of area, volume and fat fraction by age, and return the figure.

    frame: the values to draw, from `centile_points`; without curves the figure is a sentence.
    level: the one given to `centile_points`; it names the axes and the note below. fat_name: what
    the fat fractions are called, from `fat_words.fat_name`. A row of panels per measure and sex
    with curves, a column per muscle.
    """
    fitted = frame[frame["kind"] != NOT_FITTED]
    if fitted.empty:
        return style.sentence(too_few(frame))
    curves, sexes = fitted[fitted["kind"] == CURVE], style.sexes_in(fitted)
    measures = [name for name in LABELS if (fitted["measure"] == name).any()]
    with_curves = set(zip(curves["measure"], curves["sex"], strict=True))
    rows = [row for row in product(measures, sexes) if row in with_curves]
    figure = style.new_figure(0.7 + ROW_IN * len(rows))
    grid = figure.subplots(len(rows), len(MUSCLES), sharex=True, squeeze=False)
    for row, (measure, sex) in zip(grid, rows, strict=True):
        of_row = fitted[(fitted["measure"] == measure) & (fitted["sex"] == sex)]
        for axes, muscle in zip(row, MUSCLES, strict=True):
            _panel(axes, of_row[of_row["muscle"] == muscle], FACTORS.get(measure, 1.0), sex)
        title = f"{style.SEX_NAMES[sex]} (n = {of_row['n_subjects'].max():,.0f})"
        row[0].set_ylabel(f"{title}\n{_label(measure, level, fat_name)}")
    for axes, muscle in zip(grid[0], MUSCLES, strict=True):
        axes.set_title(style.MUSCLE_NAMES[muscle])
    for axes in grid[-1]:
        axes.set_xlabel("Age, years")
    for measure in measures:
        own = [row for row, (name, _) in zip(grid, rows, strict=True) if name == measure]
        _share_scales(own, of_muscle="fat" not in measure)
    for axes in grid.flat:
        _name_curves(axes)
    told = ["Areas, volumes and fat fractions of left and right together."]
    for measure, sex in product(measures, sexes):
        if (measure, sex) not in with_curves:
            name = _label(measure, level, fat_name).partition(",")[0]
            why = _why_not(frame[(frame["measure"] == measure) & (frame["sex"] == sex)])
            told.append(f"{style.SEX_NAMES[sex]}: no centiles of {name} ({why}).")
    style.write_below(figure, " ".join(told), "" if level.used else level.note)
    return figure


def _label(measure: str, level: StandardLevel, fat_name: str) -> str:
    return LABELS[measure].format(level.name).replace(FAT_FRACTION, fat_name)


def _why_not(rows: pd.DataFrame) -> str:
    """Return why a measure has no centiles, of the muscle with most subjects. rows: of all muscles."""
    return rows.sort_values("n_subjects", na_position="first")["note"].iloc[-1]


def _panel(axes: Axes, own: pd.DataFrame, factor: float, sex: str) -> None:
    colour = style.SEX_COLOURS[sex]
    points = own[own["kind"] == POINT]
    axes.scatter(
        points["age_years"], factor * points["value"], s=4, color=style.QUIET, alpha=0.35,
        linewidth=0, marker=style.SEX_MARKERS[sex], zorder=1,
    )  # fmt: skip
    for centile in CENTILES:
        curve = own[own["centile"] == centile].sort_values("age_years")
        if curve.empty:
            continue
        if centile in BANDED:
            ends = (factor * curve["low_95"], factor * curve["high_95"])
            axes.fill_between(curve["age_years"], *ends, color=colour, alpha=0.15, linewidth=0)
        axes.plot(
            curve["age_years"], factor * curve["value"], color=colour, lw=WIDTHS.get(centile, 0.5),
            label=f"{centile}" if centile in BANDED else "_",
        )  # fmt: skip


def _share_scales(rows: list[Sequence[Axes]], *, of_muscle: bool) -> None:
    """Give the panels of a measure (rows) one scale, or (of_muscle) those of each of its muscles."""
    for panels in zip(*rows, strict=True) if of_muscle else [np.ravel(rows)]:
        highest = max(axes.dataLim.y1 for axes in panels)
        for axes in panels:
            axes.set_ylim(0, 1.03 * highest)


def _name_curves(axes: Axes) -> None:
    """Write the centile at the end of its curve; names that would overlap are moved apart."""
    handles, names = axes.get_legend_handles_labels()
    gap = NAME_SIZE_PT / (72 * PANEL_IN) * axes.get_ylim()[1]
    lowest = 0.0
    for curve, name in zip(handles, names, strict=True):  # ascending
        end = float(curve.get_ydata()[-1])
        lowest = max(end, lowest)
        axes.annotate(
            name, (curve.get_xdata()[-1], lowest), (2, 0), textcoords="offset points", va="center",
            fontsize=NAME_SIZE_PT, color=curve.get_color(),
        )  # fmt: skip
        lowest += gap
