"""Flow of the subjects: who was in the sheet, who was quarantined and why, who was analysed."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from paravert.shards import STEPS
from paravert.study import style

LINE_IN, PADDING_IN, GAP_IN = 0.155, 0.11, 0.2
MAIN_X, MAIN_WIDTH, SIDE_X, SIDE_WIDTH = 1.75, 2.9, 4.0, 3.1
STAGE_NAMES = {
    "convert_dicom": "converting the images",
    "segment_muscles": "segmenting",
    "measure_area": "measuring areas",
    "measure_fat": "measuring fat",
    "score_overlap": "comparing with the mask",
    "draw_preview": "drawing the preview",
}


def data(ledger: pd.DataFrame, overlap: pd.DataFrame) -> pd.DataFrame:
    """Return how many subjects there are: in the sheet, quarantined by stage and reason, analysed.

    box: sheet, quarantined, analysed, scored (with a manual mask) or unscored.
    """
    rows = [("sheet", None, None, len(ledger))]
    quarantined = ledger[ledger["status"] == "quarantined"]
    for stage in STEPS:
        reasons = quarantined.loc[quarantined["stage"] == stage, "reason"].value_counts()
        for reason, count in sorted(reasons.items(), key=lambda item: (-item[1], item[0])):
            rows.append(("quarantined", stage, reason, count))
    analysed = ledger.loc[ledger["status"] == "analysed", "subject"]
    scored = int(analysed.isin(overlap["subject"].unique()).sum())
    rows.append(("analysed", None, None, len(analysed)))
    rows.append(("scored", None, None, scored))
    rows.append(("unscored", None, None, len(analysed) - scored))
    return pd.DataFrame(rows, columns=["box", "stage", "reason", "subjects"])


def draw(frame: pd.DataFrame) -> Figure:
    """Draw the subjects from the sheet downwards, those who leave to the right."""
    count = frame.groupby("box")["subjects"].sum()
    asides = _asides(frame)
    last = [f"With a manual mask, scored: {count['scored']:,}"]
    last += [f"Without: {count['unscored']:,}"]
    main = [["In the subject sheet", _n(count["sheet"])], ["Analysed", _n(count["analysed"])], last]
    height = sum(_height(lines) + GAP_IN for lines in [*main, *asides]) + GAP_IN
    figure = style.new_figure(height)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, style.WIDTH_IN), ylim=(-height, 0))
    axes.set_axis_off()
    _stack(axes, main, asides)
    return figure


def _asides(frame: pd.DataFrame) -> list[list[str]]:
    quarantined = frame[frame["box"] == "quarantined"]
    return [
        [
            f"Quarantined {STAGE_NAMES[stage]}: {rows['subjects'].sum():,}",
            *(f"{row.reason}: {row.subjects:,}" for row in rows.itertuples()),
        ]
        for stage, rows in quarantined.groupby("stage", sort=False)
    ]


def _stack(axes: Axes, main: list[list[str]], asides: list[list[str]]) -> None:
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
    """Draw a box around lines of text, its upper edge at top; return the lower edge."""
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
            fontweight="bold" if number == 0 and len(lines) > 1 and ":" not in line[:6] else None,
        )  # fmt: skip
    return top - height


def _arrow(axes: Axes, start: tuple, end: tuple) -> None:
    arrow = {
        "arrowstyle": "-|>",
        "color": style.QUIET,
        "linewidth": 0.9,
        "shrinkA": 0,
        "shrinkB": 0,
    }
    axes.annotate("", end, start, arrowprops=arrow, zorder=0)


def _height(lines: list[str]) -> float:
    return LINE_IN * len(lines) + 2 * PADDING_IN


def _n(count: int) -> str:
    return f"n = {count:,}"
