"""Flow of the subjects: in the sheet, not analysed and why, analysed."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from paravert.steps import STEPS
from paravert.study.describe import subject_flow
from paravert.study.drawing import style

LINE_IN, PADDING_IN, GAP_IN = 0.155, 0.11, 0.2
MAIN_X, MAIN_WIDTH, SIDE_X, SIDE_WIDTH = 1.75, 2.9, 4.0, 3.1
STAGE_NAMES = {
    "convert_dicom": "Quarantined converting the images",
    "segment_muscles": "Quarantined segmenting",
    "measure_area": "Quarantined measuring areas",
    "measure_fat": "Quarantined measuring fat",
    "score_overlap": "Quarantined comparing with the mask",
    "draw_preview": "Quarantined drawing the preview",
}


def flow_counts(ledger: pd.DataFrame, overlap: pd.DataFrame) -> pd.DataFrame:
    """Return the table `flow` without its warnings, stages in the order of the work."""
    frame = subject_flow(ledger, overlap)
    frame = frame[frame["kind"] != "warning"]
    order = {stage: place for place, stage in enumerate(STEPS)}
    place = frame["stage"].map(lambda stage: order.get(stage, len(order)), na_action="ignore")
    return (
        frame.assign(place=place.fillna(-1))
        .sort_values("place", kind="stable")
        .drop(columns="place")
    )


def draw_flow(frame: pd.DataFrame) -> Figure:
    """Draw the subjects from the sheet downwards; those not analysed to the right."""
    count = frame[frame["kind"] != "reason"].set_index("kind")["subjects"]
    asides = _asides(frame)
    main = [["In the subject sheet", _n(count["sheet"])], ["Analysed", _n(count["analysed"])]]
    scored = ["With a manual mask, scored", _n(count["scored"])]
    if count["judging"] != count["scored"]:
        scored.append(f"not in the network's training data: {count['judging']:,}")
    main.append(scored)
    height = sum(_height(lines) + GAP_IN for lines in [*main, *asides]) + GAP_IN
    figure = style.new_figure(height, arranged=False)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, style.WIDTH_IN)
    axes.set_ylim(-height, 0)
    _boxes(axes, main, asides)
    return figure


def _asides(frame: pd.DataFrame) -> list[list[str]]:
    """Return the lines of the boxes of those not analysed, one box per stage."""
    reasons = frame[frame["kind"] == "reason"]
    if reasons.empty:
        return [["Quarantined or excluded", _n(0)]]
    return [
        [
            f"{STAGE_NAMES.get(stage, f'Excluded, {stage}')}: {rows['subjects'].sum():,}",
            *(f"{row.code}: {row.subjects:,}" for row in rows.itertuples()),
        ]
        for stage, rows in reasons.groupby("stage", sort=False)
    ]


def _boxes(axes: Axes, main: list[list[str]], asides: list[list[str]]) -> None:
    y = -GAP_IN
    bottom = y = _box(axes, MAIN_X, MAIN_WIDTH, y, main[0])
    for lines in asides:
        y -= GAP_IN
        middle = y - _height(lines) / 2
        _arrow(axes, (MAIN_X, middle), (SIDE_X, middle))
        y = _box(axes, SIDE_X + SIDE_WIDTH / 2, SIDE_WIDTH, y, lines, quiet=True)
    for lines in main[1:]:
        y -= GAP_IN
        _arrow(axes, (MAIN_X, bottom), (MAIN_X, y))
        bottom = y = _box(axes, MAIN_X, MAIN_WIDTH, y, lines)


def _box(axes: Axes, x: float, width: float, top: float, lines: list[str], quiet=False) -> float:
    """Draw a box around lines of text, its upper edge at `top`; return its lower edge."""
    height = _height(lines)
    axes.add_patch(
        FancyBboxPatch(
            (x - width / 2, top - height), width, height, boxstyle="round,pad=0,rounding_size=0.05",
            facecolor="#f6f6f6" if quiet else "#e8f0f8", edgecolor=style.QUIET, linewidth=0.7,
        )
    )  # fmt: skip
    for number, line in enumerate(lines):
        axes.text(
            x - width / 2 + 0.12 if quiet else x,
            top - PADDING_IN - LINE_IN * (number + 0.5), line,
            ha="left" if quiet else "center", va="center", fontsize=8,
            fontweight="bold" if number == 0 and len(lines) > 1 else None,
        )  # fmt: skip
    return top - height


def _arrow(axes: Axes, start: tuple, end: tuple) -> None:
    line = {"arrowstyle": "-|>", "color": style.QUIET, "linewidth": 0.9, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", end, start, arrowprops=line, zorder=0)


def _height(lines: list[str]) -> float:
    return LINE_IN * len(lines) + 2 * PADDING_IN


def _n(count: int) -> str:
    return f"n = {count:,}"
