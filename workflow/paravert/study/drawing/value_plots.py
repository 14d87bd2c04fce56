"""Figures 5 and 6 and distributions: areas and fat fractions of the subjects."""

import numpy as np
import pandas as pd
import seaborn as sns
import statsmodels.api as sm
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from paravert.anatomy import MUSCLES, SIDES
from paravert.sheet import short_name
from paravert.study import published_values
from paravert.study.accuracy import CONFIDENCE
from paravert.study.drawing import style
from paravert.study.fat_words import FAT_FRACTION
from paravert.study.standard_level import ALL_MUSCLES, ALL_SLICES, StandardLevel

MAX_NAMED_SUBJECTS = 22  # per panel; more names do not fit below it
MAX_LARGE_NAMES, NAME_LETTERS = 16, 14
MAX_SEPARATE_SIDES = 120  # subjects per panel; with more, left and right stand over each other
SHIFT = {"left": -0.17, "right": 0.17}
MIN_SUBJECTS_FOR_LINE = 5
NO_LEVEL = StandardLevel()  # of no subject: means over all slices
LINE_COLUMNS = ["fitted", "low_95", "high_95", "slope_per_year", "slope_low_95", "slope_high_95"]
MIN_SUBJECTS_FOR_VIOLIN = 10  # per sex; with fewer, points alone
MAX_SUBJECTS_AS_POINTS = 200  # with more, violins alone
MEASURE_LABELS = {"csa": "CSA, left + right, mm²", "fat_fraction": "Fat fraction, %"}


def csa_points(muscles: pd.DataFrame, level: StandardLevel = NO_LEVEL) -> pd.DataFrame:
    """Return the values of Figure 5, one row per subject, muscle and side that a slice shows.

    muscles: the cohort table `muscles`, one scan per subject. level: vertebra or disc at which
    scans are compared, used if at least 80 % of the subjects have it (`StandardLevel.used`);
    default: none. Columns: subject, sex (F, M, unknown), muscle, side; slices, how many show the
    muscle; csa_mean_mm2, csa_sd_mm2, mean and SD of its area over them; level, the level's name if
    it is used, otherwise "all slices"; csa_at_level_mm2, null if it is not used or the subject has
    none; rank, place of the subject in its sex, from 1, the same in all its rows: in ascending
    order of the sum of its known areas at the level (means over slices, if it is not used),
    subjects without any last. Rows are sorted by sex, muscle, rank and side.
    """
    columns = ["subject", "sex", "muscle", "side", "slices", "csa_mean_mm2", "csa_sd_mm2"]
    frame = muscles.loc[muscles["csa_mean_mm2"].notna(), columns].assign(level=level.shown)
    at_level = muscles["csa_at_level_mm2"].reindex(frame.index) if level.used else np.nan
    frame["csa_at_level_mm2"] = at_level
    frame["sex"] = frame["sex"].astype(object).fillna("unknown")
    ordered = frame.assign(area=frame["csa_at_level_mm2" if level.used else "csa_mean_mm2"])
    area = ordered.groupby(["sex", "subject"])["area"].agg(["sum", "count"]).reset_index()
    area["sum"] = area["sum"].where(area["count"] > 0)
    area = area.sort_values(["sex", "sum", "subject"])
    area["rank"] = area.groupby("sex").cumcount() + 1
    frame = frame.merge(area[["subject", "rank"]], on="subject")
    order = {muscle: place for place, muscle in enumerate(MUSCLES)}
    keys = ["sex", "muscle", "rank", "side"]
    frame = frame.sort_values(keys, key=lambda c: c.map(order) if c.name == "muscle" else c)
    return frame.reset_index(drop=True)


def draw_csa(
    frame: pd.DataFrame,
    level: StandardLevel = NO_LEVEL,
    published: pd.DataFrame | None = None,
) -> Figure:
    """Draw Figure 5, areas per subject, and return the figure.

    frame: the values to draw, from `csa_points`; without rows the figure is a sentence. level: the
    one given to `csa_points`; if it is used, areas at this level are drawn, with mean and SD over
    the slices behind them; otherwise mean and SD alone. published: values of one side at that
    level, from `published_values.areas_at`; not drawn if None or if the level is not used. A row of
    panels per sex, a column per muscle, with its own scale.
    """
    if frame.empty:
        return style.sentence("No analysed subjects: no areas to draw.")
    beside = published is not None and level.used and len(published) > 0
    sexes = style.sexes_in(frame)
    figure = style.new_figure(1.25 + 2.05 * len(sexes))
    grid = figure.subplots(len(sexes), len(MUSCLES), sharey="col", squeeze=False)
    where = f"CSA at {level.name}, mm²" if level.used else "CSA, mm²"
    for row, sex in zip(grid, sexes, strict=True):
        of_sex = frame[frame["sex"] == sex]
        for axes, muscle in zip(row, MUSCLES, strict=True):
            _csa_panel(axes, of_sex[of_sex["muscle"] == muscle], muscle, int(of_sex["rank"].max()))
            _name_subjects(axes, of_sex)
            if beside:
                _published_bar(axes, published[published["muscle"] == muscle], sex)
        count = of_sex["subject"].nunique()
        row[0].set_ylabel(f"{style.SEX_NAMES[sex]} (n = {count:,})\n{where}")
    for axes, muscle in zip(grid[0], MUSCLES, strict=True):
        axes.set_title(style.MUSCLE_NAMES[muscle])
        axes.set_ylim(bottom=0)
    last = "; subjects without it last" if level.n_covered < level.n_subjects else ""
    order = f"at {level.name}{last}" if level.used else "of all muscles"
    texts = [f"Subjects in ascending order of the area {order}.", level.note, level.distribution]
    texts += [published_values.source_note(published)] if beside else []
    style.write_below(figure, *texts)
    figure.legend(
        handles=_csa_handles(level, beside), loc="outside upper right", ncols=4, handletextpad=0.3
    )
    return figure


def _csa_handles(level: StandardLevel, beside: bool) -> list[Line2D]:
    at = f" at {level.name}" if level.used else ""
    handles = [
        Line2D(
            [], [], linestyle="", marker=marker, color=style.QUIET, markersize=4, label=side + at
        )
        for side, marker in style.SIDE_MARKERS.items()
    ]
    tick = {"marker": "_", "markersize": 5} if level.used else {}
    handles.append(Line2D([], [], color=style.QUIET, lw=0.8, label="mean ± SD of slices", **tick))
    if beside:
        bar = {"marker": "D", "markersize": 3, "color": style.INK, "lw": 1}
        handles.append(Line2D([], [], label="published values, mean ± SD", **bar))
    return handles


def _published_bar(axes: Axes, published: pd.DataFrame, sex: str) -> None:
    """Draw mean ± SD of published values right of the subjects: of the sex, or of both together."""
    own = published[published["sex"].isin([sex, published_values.NOT_BY_SEX])]
    if own.empty:
        return
    left, right = axes.get_xlim()
    axes.set_xlim(left, right + 0.09 * (right - left))
    axes.errorbar(
        [right + 0.03 * (right - left)], [own["mean"].mean()], [own["sd"].mean()], fmt="D",
        color=style.INK, markersize=3, lw=1, zorder=4,
    )  # fmt: skip


def _csa_panel(axes: Axes, own: pd.DataFrame, muscle: str, subjects: int) -> None:
    """Draw one muscle of one sex: a point per subject and side, a line from mean - SD to mean + SD.

    The point is the area at the standard level where there is one; a tick on the line is the mean.
    """
    if own.empty:
        return
    crowded = subjects > MAX_SEPARATE_SIDES
    place = own["rank"] + (0 if crowded else own["side"].map(SHIFT).astype(float))
    colours = {side: style.LABEL_COLOURS[muscle, side] for side in SIDES}
    at_level = own["level"].iloc[0] != ALL_SLICES
    mean, sd = own["csa_mean_mm2"], own["csa_sd_mm2"].fillna(0)
    shade = style.FAINT if crowded else own["side"].map(colours)
    axes.vlines(
        place, np.maximum(mean - sd, 0), mean + sd, linewidth=0.5 if crowded else 0.8, zorder=1,
        colors=shade, rasterized=crowded, alpha=0.45 if at_level and not crowded else 1,
    )  # fmt: skip
    size = 0.8 if crowded else 4 if subjects > MAX_NAMED_SUBJECTS else 10
    if at_level and not crowded:
        axes.scatter(place, mean, marker="_", s=size, linewidth=0.8, c=shade, alpha=0.6, zorder=2)
    sns.scatterplot(
        own.assign(place=place), x="place", y="csa_at_level_mm2" if at_level else "csa_mean_mm2",
        hue="side", style="side", s=size, palette=colours, markers=style.SIDE_MARKERS,
        linewidth=0, legend=False, zorder=3, rasterized=crowded, ax=axes,
    )  # fmt: skip
    axes.set(xlabel="", ylabel="")


def _name_subjects(axes: Axes, of_sex: pd.DataFrame) -> None:
    subjects = int(of_sex["rank"].max())
    axes.set_xlim(0.3, subjects + 0.7)
    if subjects > MAX_NAMED_SUBJECTS:
        axes.tick_params(axis="x", labelsize=6.5)
        return
    names = of_sex.drop_duplicates("rank").sort_values("rank")
    shown = [short_name(name, NAME_LETTERS) for name in names["subject"]]
    size = 6 if max(map(len, shown)) < 8 and subjects <= MAX_LARGE_NAMES else 5
    axes.set_xticks(names["rank"], shown, rotation=90, fontsize=size)
    axes.tick_params(axis="x", length=1.5, pad=1)


def fat_points(
    subjects: pd.DataFrame,
    at_level: pd.DataFrame | None = None,
    level: StandardLevel = NO_LEVEL,
) -> pd.DataFrame:
    """Return the values of Figure 6, one row per level, muscle and subject with age and fat fraction.

    subjects: the cohort table `subjects`, one scan per subject. at_level: from
    `standard_level.both_sides_at_level`; None only if the level is not used. level: vertebra or disc at
    which scans are compared, used if at least 80 % of the subjects have it; default: none. Columns:
    level (its name, if it is used, and "all slices"), muscle (or "all"), sex (F, M, unknown), subject,
    age_years, fat_fraction (0-1, both sides); left_out, number of subjects of that sex and known age
    whose fat fraction (of that level and muscle) is unknown; and of a straight line in age (least
    squares, per level, muscle and sex) fitted, low_95, high_95 (the mean at the subject's age and its
    95 % confidence interval), slope_per_year, slope_low_95, slope_high_95; null with fewer than
    MIN_SUBJECTS_FOR_LINE (5) subjects or if all have one age.
    """
    known = subjects.loc[subjects["age_years"].notna()]
    known = known.assign(sex=known["sex"].astype(object).fillna("unknown"))
    muscle_of = {"fat_fraction": ALL_MUSCLES} | {f"fat_fraction_{m}": m for m in MUSCLES}
    keys = ["sex", "subject", "age_years"]
    wide = known[[*keys, *muscle_of]].astype(dict.fromkeys(muscle_of, float))
    points = wide.rename(columns=muscle_of).melt(keys, var_name="muscle", value_name="fat_fraction")
    points["level"] = ALL_SLICES
    if level.used:
        columns = ["subject", "muscle", "fat_fraction_at_level"]
        there = known[keys].merge(at_level[columns], on="subject")
        there = there.rename(columns={"fat_fraction_at_level": "fat_fraction"})
        points = pd.concat([there.assign(level=level.name), points], ignore_index=True)
    unknown = points["fat_fraction"].isna()
    groups = [points[name] for name in ("level", "muscle", "sex")]
    points["left_out"] = unknown.groupby(groups).transform("sum")
    points = points[~unknown]
    columns = ["level", "muscle", *keys, "fat_fraction", "left_out", *LINE_COLUMNS]
    points = points.reindex(columns=columns)
    for _, group in points.groupby(["level", "muscle", "sex"]):
        points.loc[group.index, LINE_COLUMNS] = _line(group)
    return points.astype(dict.fromkeys(LINE_COLUMNS, float)).reset_index(drop=True)


def _line(group: pd.DataFrame) -> np.ndarray | float:
    """Return LINE_COLUMNS of the rows of a muscle and sex, (rows, 6); nan if there is no line."""
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


def draw_fat_fraction(
    points: pd.DataFrame, level: StandardLevel = NO_LEVEL, fat_name: str = FAT_FRACTION
) -> Figure:
    """Draw Figure 6, fat fraction against age for all muscles and for each, and return the figure.

    points: the values to draw, from `fat_points`; without rows the figure is a sentence. level: the
    one given to `fat_points`; if it is used, points and lines at this level are drawn, with the
    line over all slices dashed; otherwise those over all slices. fat_name: what the fat fractions
    are called, from `fat_words.fat_name`. Sexes differ in colour and marker.
    """
    if points.empty:
        return style.sentence("No analysed subjects of known age with a fat fraction.")
    frame = points[points["level"] == level.shown]
    whole = points[(points["level"] == ALL_SLICES) & level.used]
    figure = style.new_figure(6.0)
    above, below = figure.subfigures(2, 1, height_ratios=(1.05, 1.06), hspace=0.03)
    first = above.subplots()
    panels = below.subplots(1, len(MUSCLES), sharex=True, sharey=True)
    everything, sexes = frame[frame["muscle"] == ALL_MUSCLES], style.sexes_in(frame)
    _fat_panel(first, everything, whole[whole["muscle"] == ALL_MUSCLES])
    if everything.empty:
        told = "Unknown: some muscles are not labelled"
        first.text(0.5, 0.5, told, ha="center", va="center", transform=first.transAxes)
    first.set_title("All eight muscles")
    handles = [_handle(everything, sex) for sex in sexes]
    if level.used:
        dashed = {"linestyle": "--", "linewidth": 0.9, "color": style.QUIET}
        handles.append(Line2D([], [], label="dashed: all slices", **dashed))
    first.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0,
        title="Slope (95 % interval),\n% points per year",
    )  # fmt: skip
    for axes, muscle in zip(panels, MUSCLES, strict=True):
        own = frame[frame["muscle"] == muscle]
        _fat_panel(axes, own, whole[whole["muscle"] == muscle])
        axes.set_title(style.MUSCLE_NAMES[muscle], pad=4 + 9 * len(sexes))
        _write_slopes(axes, own, sexes)
    where = f"{fat_name} at {level.name}, %" if level.used else f"{fat_name}, %"
    for axes, shown in ((first, everything), (panels[0], frame[frame["muscle"] != ALL_MUSCLES])):
        axes.set_ylim(0, max(100 * _highest(shown), 1))
        axes.set_ylabel(where)
    style.write_below(below, level.note, level.distribution)
    return figure


def _highest(shown: pd.DataFrame) -> float:
    """Return the upper end of the axis: above all points, and above bands that are not too wide.

    0 without points.
    """
    if shown.empty:
        return 0.0
    highest = shown["fat_fraction"].max()
    return 1.05 * max(highest, min(shown["high_95"].max(), 1.3 * highest))


def _fat_panel(axes: Axes, own: pd.DataFrame, whole: pd.DataFrame) -> None:
    """Draw points and lines of a muscle by sex. whole: rows whose line is dashed."""
    axes.set(xlabel="Age, years", ylabel="")
    for sex in style.sexes_in(whole):
        line = whole[(whole["sex"] == sex) & whole["fitted"].notna()].sort_values("age_years")
        dashed = {"linestyle": "--", "linewidth": 0.9, "color": style.SEX_COLOURS[sex]}
        axes.plot(line["age_years"], 100 * line["fitted"], **dashed)
    if own.empty:
        return
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
    left_out = int(group["left_out"].iloc[0]) if len(group) else 0
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


def distribution_points(subjects: pd.DataFrame) -> pd.DataFrame:
    """Return area and fat fraction of each muscle of each subject, one row per known value.

    subjects: the cohort table `subjects`, one scan per subject, sex as text (not categories) or
    null. Columns: measure ("csa": mean over slices, left + right, mm2; "fat_fraction": 0-1),
    muscle, sex (F, M, unknown), subject, value.
    """
    columns = {f"csa_{muscle}_mm2": ("csa", muscle) for muscle in MUSCLES}
    columns |= {f"fat_fraction_{muscle}": ("fat_fraction", muscle) for muscle in MUSCLES}
    known = subjects.assign(sex=subjects["sex"].fillna("unknown"))
    known = known.astype(dict.fromkeys(columns, float))
    frame = known.melt(["sex", "subject"], [*columns], "column").dropna(subset=["value"])
    frame["measure"] = frame["column"].map(lambda column: columns[column][0])
    frame["muscle"] = frame["column"].map(lambda column: columns[column][1])
    return frame[["measure", "muscle", "sex", "subject", "value"]].reset_index(drop=True)


def draw_distributions(frame: pd.DataFrame, fat_name: str = FAT_FRACTION) -> Figure:
    """Draw the distributions of area and fat fraction by sex, a column per muscle; return the figure.

    frame: the values to draw, from `distribution_points`; without rows the figure is a sentence.
    fat_name: what the fat fractions are called, from `fat_words.fat_name`. Violins with quartiles
    for at least MIN_SUBJECTS_FOR_VIOLIN (10) subjects of a sex; points for at most
    MAX_SUBJECTS_AS_POINTS (200) of all sexes in a panel.
    """
    if frame.empty:
        return style.sentence("No analysed subjects: no distributions.")
    sexes = style.sexes_in(frame)
    figure = style.new_figure(4.6)
    grid = figure.subplots(len(MEASURE_LABELS), len(MUSCLES))
    for row, (measure, name) in zip(grid, MEASURE_LABELS.items(), strict=True):
        for axes, muscle in zip(row, MUSCLES, strict=True):
            own = frame[(frame["measure"] == measure) & (frame["muscle"] == muscle)]
            _distribution_panel(
                axes, own.assign(value=own["value"] * (1 if measure == "csa" else 100)), sexes
            )
        row[0].set_ylabel(name.replace(FAT_FRACTION, fat_name))
    highest = 105 * frame.loc[frame["measure"] == "fat_fraction", "value"].max()
    for axes in grid[1]:
        axes.set_ylim(0, highest if highest > 0 else 1)
    for axes, muscle in zip(grid[0], MUSCLES, strict=True):
        axes.set_title(style.MUSCLE_NAMES[muscle])
    return figure


def _distribution_panel(axes: Axes, own: pd.DataFrame, sexes: list[str]) -> None:
    given = {"x": "sex", "y": "value", "hue": "sex", "order": sexes, "hue_order": sexes}
    given |= {"palette": style.SEX_COLOURS, "legend": False, "ax": axes}
    counts = own["sex"].value_counts()
    many = own[own["sex"].map(counts) >= MIN_SUBJECTS_FOR_VIOLIN]
    if not many.empty:
        sns.violinplot(
            many, cut=0, inner="quart", density_norm="width", fill=False, linewidth=0.9, **given
        )
    if len(own) <= MAX_SUBJECTS_AS_POINTS and not own.empty:
        with style.seeded():
            sns.stripplot(own, size=2.5, alpha=0.7, jitter=0.1, **given)
    names = [f"{style.SEX_NAMES[sex]}\n(n = {counts.get(sex, 0):,})" for sex in sexes]
    axes.set_xticks(range(len(sexes)), names, fontsize=6.5)
    axes.set_ylim(0, 1.05 * own["value"].max() if len(own) else 1)
    axes.set(xlabel="", ylabel="")
