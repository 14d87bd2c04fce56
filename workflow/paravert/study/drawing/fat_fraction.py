"""Figure 6: fat fraction against age, by sex and by muscle, with regression lines."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paravert.anatomy import MUSCLES
from paravert.study import style

MIN_SUBJECTS_FOR_LINE = 5
COLUMNS = ["panel", "group", "subject", "age_years", "fat_fraction", "fitted"]


def data(subjects: pd.DataFrame) -> pd.DataFrame:
    """Return a row per point, all subjects of known age.

    panel "sex": the fat fraction of all eight muscles, group is the sex; panel "muscle": that of a
    muscle, both sides, group is the muscle. fitted: the least-squares line in age of the group at
    this age; null where fewer than three subjects or one age only leave no line.
    """
    known = subjects[subjects["age_years"].notna()]
    of_sex = known.assign(panel="sex", group=known["sex"].fillna("unknown"))
    of_muscle = [
        known.assign(panel="muscle", group=muscle, fat_fraction=known[f"fat_fraction_{muscle}"])
        for muscle in MUSCLES
    ]
    points = pd.concat([of_sex, *of_muscle], ignore_index=True)
    points = points[points["fat_fraction"].notna()].assign(fitted=np.nan)
    for _, group in points.groupby(["panel", "group"]):
        points.loc[group.index, "fitted"] = _fitted(group)
    return points[COLUMNS].reset_index(drop=True)


def _fitted(group: pd.DataFrame) -> np.ndarray | float:
    age, fat = group["age_years"].to_numpy(), group["fat_fraction"].to_numpy()
    if len(group) < MIN_SUBJECTS_FOR_LINE or np.ptp(age) == 0:
        return np.nan
    slope, intercept = np.polyfit(age, fat, 1)
    return intercept + slope * age


def draw(frame: pd.DataFrame) -> Figure:
    """Draw both sexes in one panel above, a panel per muscle below."""
    if frame.empty:
        return style.sentence("No analysed subjects of known age: no fat fraction against age.")
    figure = style.new_figure(5.4)
    above, below = figure.subfigures(2, 1, height_ratios=(1.15, 1), hspace=0.03)
    axes = above.subplots()
    of_sex = frame[frame["panel"] == "sex"]
    for sex in style.SEX_NAMES:
        group = of_sex[of_sex["group"] == sex]
        if not group.empty:
            name = f"{style.SEX_NAMES[sex]} (n = {len(group):,})  {_slope(group)}"
            _scatter(axes, group, style.SEX_COLOURS[sex], style.SEX_MARKERS[sex], name)
    for handle in axes.legend(loc="upper left", handletextpad=0.2).legend_handles:
        handle.set(alpha=1, sizes=[14])
    axes.set_title("By sex, all eight muscles")
    panels = below.subplots(1, len(MUSCLES), sharex=True, sharey=True)
    for panel, muscle in zip(panels, MUSCLES, strict=True):
        group = frame[(frame["panel"] == "muscle") & (frame["group"] == muscle)]
        _scatter(panel, group, style.MUSCLE_COLOURS[muscle], "o", "")
        panel.set_title(style.MUSCLE_NAMES[muscle])
        panel.set_title(f"{style.MUSCLE_NAMES[muscle]}\n")
        panel.text(0, 1.02, _slope(group), va="bottom", transform=panel.transAxes)
    _label(axes, panels, frame)
    return figure


def _slope(group: pd.DataFrame) -> str:
    line = group[group["fitted"].notna()].sort_values("age_years")
    if line.empty:
        return ""
    rise = line["fitted"].iloc[-1] - line["fitted"].iloc[0]
    years = line["age_years"].iloc[-1] - line["age_years"].iloc[0]
    return f"{style.signed(100 * rise / years, 2)} percentage points per year"


def _scatter(axes: Axes, group: pd.DataFrame, colour: str, marker: str, name: str) -> None:
    count = len(group)
    axes.scatter(
        group["age_years"],
        100 * group["fat_fraction"],
        s=14 if count < 200 else 3,
        marker=marker,
        color=colour,
        alpha=0.75 if count < 200 else max(0.15, min(0.6, 300 / count)),
        linewidths=0,
        label=name,
        rasterized=count > style.MANY_POINTS,
    )
    line = group[group["fitted"].notna()].sort_values("age_years")
    axes.plot(
        line["age_years"].iloc[[0, -1]] if len(line) else [],
        100 * line["fitted"].iloc[[0, -1]] if len(line) else [],
        color=colour,
        linewidth=1.8,
    )


def _label(axes: Axes, panels: np.ndarray, frame: pd.DataFrame) -> None:
    for panel, shown in ((axes, "sex"), (panels[0], "muscle")):
        highest = 100 * frame.loc[frame["panel"] == shown, "fat_fraction"].max()
        panel.set_ylabel("Fat fraction, %")
        panel.set_ylim(0, max(highest * (1.3 if shown == "sex" else 1.05), 1))
    for panel in (axes, *panels):
        panel.set_xlabel("Age, years")
