"""Figure 6: fat fraction against age, by sex and per muscle, with regression lines."""

import numpy as np
import pandas as pd
import seaborn as sns
import statsmodels.api as sm
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from paravert.anatomy import MUSCLES
from paravert.study.accuracy import CONFIDENCE
from paravert.study.drawing import style

MIN_SUBJECTS_FOR_LINE = 5
ALL_MUSCLES = "all"
LINE_COLUMNS = ["fitted", "low_95", "high_95", "slope_per_year", "slope_low_95", "slope_high_95"]


def fat_points(subjects: pd.DataFrame) -> pd.DataFrame:
    """Return a row per subject of known age and muscle, "all" being all eight muscles.

    subjects: the cohort's table. Per muscle and sex a straight line in age is fitted by least
    squares: fitted is its value at the subject's age, low_95 and high_95 the interval of the mean
    there, slope_per_year its slope with interval. All are null for less than MIN_SUBJECTS_FOR_LINE
    subjects or one age only. left_out: subjects of that sex and known age whose fat fraction of the
    muscle is null; they have no row.
    """
    known = subjects.loc[subjects["age_years"].notna()]
    known = known.assign(sex=known["sex"].fillna("unknown"))
    of_muscle = {ALL_MUSCLES: "fat_fraction"} | {m: f"fat_fraction_{m}" for m in MUSCLES}
    points = pd.concat(
        [
            known[["sex", "subject", "age_years"]].assign(
                muscle=muscle, fat_fraction=known[column].astype(float)
            )
            for muscle, column in of_muscle.items()
        ],
        ignore_index=True,
    )
    unknown = points["fat_fraction"].isna()
    points["left_out"] = unknown.groupby([points["muscle"], points["sex"]]).transform("sum")
    points = points[~unknown]
    points = points.reindex(columns=["muscle", *points.columns.drop("muscle"), *LINE_COLUMNS])
    for _, group in points.groupby(["muscle", "sex"]):
        points.loc[group.index, LINE_COLUMNS] = _line(group)
    return points.astype(dict.fromkeys(LINE_COLUMNS, float)).reset_index(drop=True)


def _line(group: pd.DataFrame) -> np.ndarray | float:
    """Return LINE_COLUMNS of a group, (rows, 6); nan if there is no line."""
    age = group["age_years"].to_numpy(dtype=float)
    if len(group) < MIN_SUBJECTS_FOR_LINE or np.ptp(age) == 0:
        return np.nan
    fit = sm.OLS(group["fat_fraction"].to_numpy(), sm.add_constant(age)).fit()
    at_age = fit.get_prediction()
    slope = [fit.params[1], *fit.conf_int(1 - CONFIDENCE)[1]]
    return np.column_stack(
        [
            at_age.predicted_mean,
            at_age.conf_int(alpha=1 - CONFIDENCE),
            np.tile(slope, (len(group), 1)),
        ]
    )


def draw_fat_fraction(frame: pd.DataFrame) -> Figure:
    """Draw all eight muscles in one panel above and a panel per muscle below, sexes in colours."""
    if frame.empty:
        return style.sentence("No analysed subjects of known age with a fat fraction.")
    figure = style.new_figure(5.8)
    above, below = figure.subfigures(2, 1, height_ratios=(1.05, 1), hspace=0.03)
    first = above.subplots()
    panels = below.subplots(1, len(MUSCLES), sharex=True, sharey=True)
    everything = frame[frame["muscle"] == ALL_MUSCLES]
    _panel(first, everything)
    first.set_title("All eight muscles")
    first.legend(
        handles=[_handle(everything, sex) for sex in style.sexes_in(everything)],
        loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0,
        title="Slope (95 % interval),\n% points per year",
    )  # fmt: skip
    for axes, muscle in zip(panels, MUSCLES, strict=True):
        own = frame[frame["muscle"] == muscle]
        _panel(axes, own)
        axes.set_title(style.MUSCLE_NAMES[muscle], pad=4 + 9 * len(style.sexes_in(everything)))
        _write_slopes(axes, own, style.sexes_in(everything))
    for axes, shown in ((first, everything), (panels[0], frame[frame["muscle"] != ALL_MUSCLES])):
        axes.set_ylim(0, max(100 * _highest(shown), 1))
        axes.set_ylabel("Fat fraction, %")
    return figure


def _highest(shown: pd.DataFrame) -> float:
    """Return the upper end of the axis: above all points, and above bands that are not very wide."""
    highest = shown["fat_fraction"].max()
    return 1.05 * max(highest, min(shown["high_95"].max(), 1.3 * highest))


def _panel(axes: Axes, own: pd.DataFrame) -> None:
    own = own.assign(percent=100 * own["fat_fraction"])
    count = len(own)
    sns.scatterplot(
        own, x="age_years", y="percent", hue="sex", style="sex", palette=style.SEX_COLOURS,
        markers=style.SEX_MARKERS, s=12 if count < 200 else 4, legend=False, linewidth=0,
        alpha=0.7 if count < 200 else max(0.1, min(0.5, 300 / count)),
        rasterized=count > style.MANY_POINTS, ax=axes,
    )  # fmt: skip
    for sex in style.sexes_in(own):
        line = own[(own["sex"] == sex) & own["fitted"].notna()].sort_values("age_years")
        line = line.drop_duplicates("age_years")
        colour = style.SEX_COLOURS[sex]
        axes.fill_between(
            line["age_years"], 100 * line["low_95"], 100 * line["high_95"],
            color=colour, alpha=0.18, linewidth=0,
        )  # fmt: skip
        sns.lineplot(x=line["age_years"], y=100 * line["fitted"], color=colour, lw=1.6, ax=axes)
    axes.set(xlabel="Age, years", ylabel="")


def _handle(own: pd.DataFrame, sex: str) -> Line2D:
    group = own[own["sex"] == sex]
    slope = _slope(group)
    left_out = int(group["left_out"].iloc[0])
    without = f"; {left_out:,} without" if left_out else ""
    text = f"{style.SEX_NAMES[sex]} (n = {len(group):,}{without})" + (f"\n{slope}" if slope else "")
    marker = {"marker": style.SEX_MARKERS[sex], "markersize": 4, "markeredgewidth": 0}
    return Line2D([], [], color=style.SEX_COLOURS[sex], label=text, **marker)


def _write_slopes(axes: Axes, own: pd.DataFrame, sexes: list[str]) -> None:
    """Write the slope of each sex above a panel, in the colour of the sex."""
    for number, sex in enumerate(reversed(sexes)):
        axes.annotate(
            _slope(own[own["sex"] == sex]), (0, 1), (0, 3 + 9 * number), xycoords="axes fraction", fontsize=6.5,
            textcoords="offset points", color=style.SEX_COLOURS[sex],
        )  # fmt: skip


def _slope(group: pd.DataFrame) -> str:
    """Return the slope with its interval in percentage points per year, "" without a line."""
    lines = group.dropna(subset=["slope_per_year"])
    if lines.empty:
        return ""
    slope, low, high = 100 * lines.iloc[0][LINE_COLUMNS[3:]].astype(float)
    interval = f"{style.signed(low, 2)} to {style.signed(high, 2)}"
    return f"{style.signed(slope, 2)} ({interval})"
