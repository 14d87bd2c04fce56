"""Figures of the models: adjusted means, and differences between sites and scanners."""

import textwrap
from collections.abc import Callable

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from paravert.anatomy import MUSCLES
from paravert.sheet import short_name
from paravert.study.drawing import style
from paravert.study.fat_words import FAT_FRACTION
from paravert.study.inference import ADJUSTED, CSA, FAT, SEX_AND_AGE
from paravert.study.result_tables import BASIS_COLUMNS

MEAN_LABELS = {CSA: "CSA, mm²", FAT: "Fat fraction, %"}
SHIFT_YEARS = {"F": -1.2, "M": 1.2}


def adjusted_mean_points(means: pd.DataFrame) -> pd.DataFrame:
    """Return the values of the figure of adjusted means: area and fat fraction by sex and age.

    means: table adjusted_means of fit_models, of which the model of sex and age is drawn. Columns:
    outcome ("csa_mean_mm2" or "fat_fraction"), muscle, sex, age_years, estimate, low_95, high_95
    (mm2, or fraction 0-1), and estimator, link, covariance, df, n_subjects, n_rows, unit, family
    (BASIS_COLUMNS), of the model. Rows without estimate are left out.
    """
    known = means.dropna(subset=["estimate"])
    chosen = (known["model"] == SEX_AND_AGE.name) & known["outcome"].isin(MEAN_LABELS)
    columns = ["outcome", "muscle", "sex", "age_years", "estimate", "low_95", "high_95"]
    return known.loc[chosen, [*columns, *BASIS_COLUMNS]].reset_index(drop=True)


def draw_adjusted_means(frame: pd.DataFrame, fat_name: str = FAT_FRACTION) -> Figure:
    """Draw the adjusted means of area and fat fraction by sex over age, and return the figure.

    frame: the values to draw, from `adjusted_mean_points`; without rows the figure is a sentence.
    fat_name: what the fat fractions are called, from `fat_words.fat_name`. Bars: 95 % intervals. A
    row of panels per outcome, a column per muscle.
    """
    if frame.empty:
        return style.sentence("No model was fitted: no adjusted means.")
    figure = style.new_figure(4.2)
    grid = figure.subplots(len(MEAN_LABELS), len(MUSCLES), sharex=True)
    for row, (outcome, name) in zip(grid, MEAN_LABELS.items(), strict=True):
        for axes, muscle in zip(row, MUSCLES, strict=True):
            own = frame[(frame["outcome"] == outcome) & (frame["muscle"] == muscle)]
            _mean_panel(axes, own, 100 if outcome == FAT else 1)
        row[0].set_ylabel(name.replace(FAT_FRACTION, fat_name))
    highest = max(axes.get_ylim()[1] for axes in grid[1])
    for axes, muscle in zip(grid[0], MUSCLES, strict=True):
        axes.set_title(style.MUSCLE_NAMES[muscle])
    for axes in grid[1]:
        axes.set_ylim(0, highest)
        axes.set_xlabel("Age, years")
    handles = [  # a panel may lack a sex or, without its muscle, both
        Line2D([], [], label=style.SEX_NAMES[sex], **_line_of(sex)) for sex in style.sexes_in(frame)
    ]
    figure.legend(handles=handles, loc="outside upper right", ncols=2)
    return figure


def _line_of(sex: str) -> dict[str, object]:
    look = {"color": style.SEX_COLOURS[sex], "marker": style.SEX_MARKERS[sex]}
    return look | {"markersize": 3.5, "linewidth": 1}


def _mean_panel(axes: Axes, own: pd.DataFrame, factor: float) -> None:
    for sex in style.sexes_in(own):
        of_sex = own[own["sex"] == sex].sort_values("age_years")
        estimate = factor * of_sex["estimate"]
        reach = [estimate - factor * of_sex["low_95"], factor * of_sex["high_95"] - estimate]
        axes.errorbar(
            of_sex["age_years"] + SHIFT_YEARS[sex],
            estimate,
            yerr=reach,
            capsize=2,
            **_line_of(sex),
        )
    axes.set_xlim(20, 80)
    axes.set_xticks([30, 50, 70])
    axes.set_ylim(0, 1.08 * factor * own["high_95"].max() if len(own) else 1)


# --- sites and scanners ---------------------------------------------------------------------------

EFFECT_LABELS = {CSA: "CSA, difference, mm²", FAT: "Fat fraction, odds ratio"}
NEUTRAL = {CSA: 0.0, FAT: 1.0}
MODEL_MARKS = {"alone": (style.QUIET, -0.15, "o"), ADJUSTED.name: (style.INK, 0.15, "s")}
MOST_CATEGORIES = 30
NAME_WIDTH = 18  # letters of a line; longer lines would narrow the panels
NAME_LETTERS = 24  # of a category
LINE_IN, LEAST_ROW_IN = 0.12, 0.225  # height of a line of a label, and of a row with its gap


def site_effect_points(effects: pd.DataFrame) -> pd.DataFrame:
    """Return the values of the figure of sites and scanners: differences of area and fat fraction.

    effects: table site_effects of fit_models, of which the rows of area and fat fraction are kept,
    for the MOST_CATEGORIES (30) categories with most subjects, of all factors (such as site and
    scanner) together; a category that is compared with two references counts twice. Columns: those
    of the table, and name, such as "site: Ulm against Berlin".
    """
    known = effects[effects["outcome"].isin(EFFECT_LABELS)].copy()
    known["name"] = [_name(row, str) for row in known.itertuples()]
    sizes = known.groupby(["factor", "name"], sort=False)["n_category"].max()
    kept = sizes.astype(float).nlargest(MOST_CATEGORIES).index.get_level_values("name")
    return known[known["name"].isin(kept)].reset_index(drop=True)


def draw_site_effects(frame: pd.DataFrame, fat_name: str = FAT_FRACTION) -> Figure:
    """Draw how sites and scanners differ, a row per outcome, a column per muscle; return the figure.

    frame: the values to draw, from `site_effect_points`; without rows the figure is a sentence.
    fat_name: what the fat fractions are called, from `fat_words.fat_name`. Bars: 95 % intervals.
    """
    if frame.empty:
        return style.sentence("One site and one scanner, or none known: no differences to draw.")
    rows = frame.drop_duplicates("name")
    labels = dict(zip(rows["name"], map(_label, rows.itertuples()), strict=True))
    lines = max(len(label.splitlines()) for label in labels.values())
    row_in = max(LEAST_ROW_IN, LINE_IN * (lines + 0.5))
    figure = style.new_figure(1.6 + len(EFFECT_LABELS) * row_in * len(labels))
    grid = figure.subplots(len(EFFECT_LABELS), len(MUSCLES), sharey=True)
    for row, (outcome, label) in zip(grid, EFFECT_LABELS.items(), strict=True):
        for axes, muscle in zip(row, MUSCLES, strict=True):
            own = frame[(frame["outcome"] == outcome) & (frame["muscle"] == muscle)]
            _effect_panel(axes, own, labels, NEUTRAL[outcome])
        row[1].set_xlabel(label.replace(FAT_FRACTION, fat_name))
    for axes, muscle in zip(grid[0], MUSCLES, strict=True):
        axes.set_title(style.MUSCLE_NAMES[muscle], fontsize=7.5)
    figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    return figure


def _label(row: tuple) -> str:
    """Return what stands beside a row of the figure, in lines. row: of `site_effect_points`."""
    return textwrap.fill(_name(row, lambda name: short_name(str(name), NAME_LETTERS)), NAME_WIDTH)


def _name(row: tuple, short: Callable[[object], str]) -> str:
    return f"{row.factor.replace('_', ' ')}: {short(row.category)} against {short(row.reference)}"


def _effect_panel(axes: Axes, own: pd.DataFrame, labels: dict[str, str], neutral: float) -> None:
    names = list(labels)
    axes.axvline(neutral, color=style.QUIET, linewidth=0.8)
    axes.grid(visible=False)
    for model, (colour, shift, marker) in MODEL_MARKS.items():
        of_model = own[own["model"] == model]
        places = [names.index(name) + shift for name in of_model["name"]]
        reach = [
            of_model["estimate"] - of_model["low_95"],
            of_model["high_95"] - of_model["estimate"],
        ]
        axes.errorbar(
            of_model["estimate"], places, xerr=reach, fmt=marker, color=colour, markersize=3,
            linewidth=1, capsize=1.5, label=model,
        )  # fmt: skip
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), labels.values())
