"""The style of the figures: sizes, fonts, colours, names; and how a figure is written."""

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from paravert.anatomy import LABELS, MUSCLES

WIDTH_IN = 7.2  # two columns of a journal page
PNG_DPI = 200
NAME_LETTERS = 10  # of a subject, in the title of a small panel
NOTE_CHARACTERS = 118  # in a line of WIDTH_IN
MANY_POINTS = 3000  # with more, points are rasterised in the SVG
INK, QUIET, FAINT = "#222222", "#6b6b6b", "#d9d9d9"

LABEL_COLOURS = {(label.muscle, label.side): label.colour for label in LABELS}
# A muscle of both sides has the colour of its left one.
MUSCLE_COLOURS = {muscle: LABEL_COLOURS[muscle, "left"] for muscle in MUSCLES}
MUSCLE_NAMES = {muscle: muscle.replace("_", " ").capitalize() for muscle in MUSCLES}
# Sides and sexes also differ in the marker, for readers who cannot tell the colours apart.
SIDE_MARKERS = {"left": "o", "right": "s"}
SEX_NAMES = {"F": "Women", "M": "Men", "unknown": "Sex unknown"}
SEX_COLOURS = {"F": "#b3004b", "M": "#00707a", "unknown": QUIET}  # none is that of a muscle
SEX_MARKERS = {"F": "o", "M": "^", "unknown": "D"}

RC_PARAMS = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
    "font.size": 7.5,
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 7.5,
    "axes.edgecolor": QUIET,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "text.color": INK,
    "text.parse_math": False,  # names of sites may hold "$"
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "figure.dpi": 100,
    "figure.constrained_layout.h_pad": 0.08,
    "figure.constrained_layout.w_pad": 0.06,
    "svg.fonttype": "path",
    "svg.hashsalt": "paravert",  # otherwise element names change from run to run
}


@contextmanager
def applied() -> Iterator[None]:
    """Draw in this module's style inside a `with` block; matplotlib's settings are restored after it."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(RC_PARAMS)
        yield


@contextmanager
def seeded(seed: int = 1) -> Iterator[None]:
    """Set numpy's global random state inside a `with` block, and restore the former one after it.

    seaborn takes the random places of points from this state.
    """
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(before)


def new_figure(height_in: float, *, arranged: bool = True) -> Figure:
    """Return an empty figure, WIDTH_IN (7.2) inches wide.

    height_in: height in inches. arranged: whether matplotlib's constrained layout places the
    panels.
    """
    layout = "constrained" if arranged else None
    figure = Figure(figsize=(WIDTH_IN, height_in), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def sentence(text: str) -> Figure:
    """Return a figure that shows only a sentence, for a study in which there is nothing to draw."""
    figure = new_figure(1.2, arranged=False)
    figure.text(0.5, 0.5, text, ha="center", va="center", fontsize=9, color=QUIET)
    return figure


def write_below(figure: Figure, *texts: str) -> None:
    """Write texts below the panels, in place of earlier ones; "" is left out.

    Each begins on a new line and is wrapped to the figure's width; line breaks within a text are lost.
    """
    lines = [line for text in texts for line in textwrap.wrap(text, NOTE_CHARACTERS)]
    figure.supxlabel("\n".join(lines), fontsize=7.5)


def write_figure(figure: Figure, data: pd.DataFrame, out: Path, stem: str) -> None:
    """Write a figure as <stem>.svg and <stem>.png, and its values as <stem>.csv, into a folder.

    data: the values that were drawn. out: the folder, made if it is missing; older files are replaced.
    Equal input gives equal bytes if this is called inside `applied`. Afterwards the layout of the
    figure is fixed.
    """
    out.mkdir(parents=True, exist_ok=True)
    background = {"facecolor": "white"}
    svg_metadata = {"Date": None, "Creator": "paravert"}
    figure.savefig(out / f"{stem}.svg", metadata=svg_metadata, dpi=PNG_DPI, **background)
    figure.set_layout_engine("none")  # the PNG has the layout of the SVG
    figure.savefig(out / f"{stem}.png", metadata={"Software": None}, dpi=PNG_DPI, **background)
    data.to_csv(out / f"{stem}.csv", index=False, lineterminator="\n")


def sexes_in(data: pd.DataFrame) -> list[str]:
    """Return which of F, M and unknown occur in the column `sex`, in this order; null is none of them."""
    return [sex for sex in SEX_NAMES if (data["sex"] == sex).any()]


def signed(value: float, digits: int) -> str:
    """Return a number with its sign (+ or a true minus) and `digits` decimals; what rounds to 0 has no sign."""
    rounded = round(value, digits) + 0.0  # no -0.0
    sign = "+" if rounded > 0 else "−" if rounded < 0 else ""
    return f"{sign}{abs(rounded):.{digits}f}"
