"""Centile curves: area and fat fraction over age per muscle and sex, with the subjects as points."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paravert.anatomy import MUSCLES
from paravert.study.centiles import MEASURES, too_few
from paravert.study.drawing import style
from paravert.study.quantile_regression import CENTILES

LABELS = {"csa": "CSA, left + right, cm²", "fat_fraction": "Fat fraction, %"}
FACTORS = {"csa": 0.01, "fat_fraction": 100.0}
POINTS_BELOW = 1000  # subjects; with more, curves alone
BANDED = (3, 50, 97)
WIDTHS = {3: 0.9, 50: 1.6, 97: 0.9}  # of the other centiles 0.5
CURVE, POINT, NOT_FITTED = "centile", "subject", "not fitted"


def centile_points(subjects: pd.DataFrame, centiles: pd.DataFrame) -> pd.DataFrame:
    """Return the values of the figure of centiles: curves by age, and subjects as points.

    subjects: the cohort table `subjects`, one scan per subject. centiles: table of fit_centiles, of
    which area and fat fraction are drawn. Columns: kind, measure, muscle, sex, age_years, centile,
    value, low_95, high_95, n_subjects. kind: "centile"; "subject" (a point; only with fewer than
    POINTS_BELOW (1000) subjects, and where their sex has centiles); "not fitted".
    """
    own = centiles[centiles["measure"].isin(LABELS)]
    columns = ["measure", "muscle", "sex", "age_years", "centile", "value", "low_95", "high_95"]
    kind = own["value"].notna().map({True: CURVE, False: NOT_FITTED})
    parts = [own[[*columns, "n_subjects"]].assign(kind=kind)]
    groups = own.loc[kind == CURVE, ["measure", "muscle", "sex"]].drop_duplicates()
    if len(subjects) < POINTS_BELOW:
        by_name = {measure.name: measure for measure in MEASURES}
        for measure, muscle, sex in groups.itertuples(index=False):
            column = by_name[measure].column_of(muscle)
            own = subjects.loc[subjects["sex"] == sex, ["age_years", column]].dropna()
            own = own.rename(columns={column: "value"})
            parts.append(own.assign(measure=measure, muscle=muscle, sex=sex, kind=POINT))
    found = pd.concat(parts, ignore_index=True)
    return found[["kind", *columns, "n_subjects"]]


def draw_centiles(frame: pd.DataFrame) -> Figure:
    """Draw the centiles of area and fat fraction by age, and return the figure.

    frame: the values to draw, from `centile_points`. A row of panels per measure and sex, a column
    per muscle.
    """
    fitted = frame[frame["kind"] != NOT_FITTED]
    if fitted.empty:
        return style.sentence(too_few(frame))
    frame = fitted
    sexes = style.sexes_in(frame)
    figure = style.new_figure(0.5 + 1.85 * len(LABELS) * len(sexes))
    grid = figure.subplots(len(LABELS) * len(sexes), len(MUSCLES), sharex=True)
    rows = [(measure, sex) for measure in LABELS for sex in sexes]
    for row, (measure, sex) in zip(grid, rows, strict=True):
        of_row = frame[(frame["measure"] == measure) & (frame["sex"] == sex)]
        for axes, muscle in zip(row, MUSCLES, strict=True):
            _panel(axes, of_row[of_row["muscle"] == muscle], FACTORS[measure], sex)
        count = of_row["n_subjects"].max()
        row[0].set_ylabel(f"{style.SEX_NAMES[sex]} (n = {count:,.0f})\n{LABELS[measure]}")
    for axes, muscle in zip(grid[0], MUSCLES, strict=True):
        axes.set_title(style.MUSCLE_NAMES[muscle])
    for axes in grid[-1]:
        axes.set_xlabel("Age, years")
    _share_scales(grid, len(sexes))
    return figure


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
        line = factor * curve["value"]
        axes.plot(curve["age_years"], line, color=colour, lw=WIDTHS.get(centile, 0.5))
        if centile in BANDED:
            place = (curve["age_years"].iloc[-1], line.iloc[-1])
            axes.annotate(
                f"{centile}", place, (2, 0), textcoords="offset points", va="center",
                fontsize=5.5, color=colour,
            )  # fmt: skip


def _share_scales(grid: list[list[Axes]], sexes: int) -> None:
    """Give the areas of a muscle one scale in both sexes, and all fat fractions one scale."""
    areas, fats = grid[:sexes], grid[sexes:]
    for column in range(len(MUSCLES)):
        _one_scale([row[column] for row in areas])
    _one_scale([axes for row in fats for axes in row])


def _one_scale(panels: list[Axes]) -> None:
    highest = max(axes.dataLim.y1 for axes in panels)
    for axes in panels:
        axes.set_ylim(0, 1.03 * highest)
