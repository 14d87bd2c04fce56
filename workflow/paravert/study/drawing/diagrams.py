"""Figure 1, the network, and the flow chart of the subjects."""

from dataclasses import asdict, dataclass, replace

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch, Patch, Rectangle

from paravert.network.architecture import Architecture, layer_table
from paravert.steps import STEPS
from paravert.study.describe import subject_flow
from paravert.study.drawing import style
from paravert.study.summary import counted

ARROWS = {
    "convolution": ("convolution 3 × 3, leaky ReLU", "#1f4e9c"),
    "pooling": ("max pooling 2 × 2", "#b2182b"),
    "transposed convolution": ("transposed convolution 2 × 2", "#1b7837"),
    "skip": ("copy of the encoder's maps", "#808080"),
    "classes": ("convolution 1 × 1, softmax", "#762a83"),
}
MAP_COLOUR, COPY_COLOUR, EDGE_COLOUR = "#c6d7ee", "#f1f1f1", "#40618f"
# In inches. Height and width grow with a power of pixels and channels.
HIGHEST_IN, HEIGHT_POWER, WIDEST_IN, WIDTH_POWER = 0.95, 0.5, 0.17, 0.3
LEVEL_GAP_IN, LABEL_IN, MARGIN_IN, LEGEND_IN = 0.36, 0.13, 0.3, 0.5
ABOVE = ("pooling", "transposed convolution")  # arrows between levels
LINE_IN, PADDING_IN, GAP_IN = 0.155, 0.11, 0.2
MAIN_X, MAIN_WIDTH, SIDE_X, SIDE_WIDTH = 1.75, 2.9, 4.0, 3.1
STAGE_NAMES = {
    "convert_dicom": "Quarantined converting the images",
    "segment_muscles": "Quarantined segmenting",
    "find_levels": "Quarantined finding levels",
    "measure_area": "Quarantined measuring areas",
    "measure_fat": "Quarantined measuring fat",
    "score_overlap": "Quarantined comparing with the mask",
    "draw_preview": "Quarantined drawing the preview",
    "gather_cohort": "Excluded after review",
}


@dataclass(frozen=True)
class MapBox:
    """The box of one feature map of the network in Figure 1; lengths in inches.

    kind, level (depth, from 1 at the image's resolution): of the layer that makes the map, as in
    `network_layers`. channels: of the layer's output (of a skip connection: of both parts), the
    label of the box. size_px: height and width of the map in pixels. width, height: of the box. x,
    y: its lower left corner; x from the left edge of the figure, y upwards from the upper edge of the
    boxes of level 1, thus negative.
    """

    kind: str
    level: int
    channels: int
    size_px: int
    width: float
    height: float
    x: float = 0.0
    y: float = 0.0

    @property
    def middle(self) -> tuple[float, float]:
        """The centre of the box, (x, y) in inches; a property."""
        return self.x + self.width / 2, self.y + self.height / 2


def network_layers(architecture: Architecture, size_px: int) -> pd.DataFrame:
    """Return the layers of the network in the order of the forward pass, one row each.

    architecture: of the model. size_px: height and width of its input image. Columns: step (from
    1); part (encoder, decoder, head), kind (input, convolution, dropout, pooling, transposed
    convolution, skip, classes), level (depth, from 1), channels and size_px (height and width) of
    the layer's output. Raises ValueError unless size_px is a multiple of 2 ** (levels - 1).
    """
    layers = layer_table(architecture, size_px)
    frame = pd.DataFrame([asdict(layer) for layer in layers])
    frame.insert(0, "step", range(1, len(frame) + 1))
    return frame


def draw_network(frame: pd.DataFrame) -> Figure:
    """Draw Figure 1, a box per feature map of the network, and return the figure.

    frame: the values to draw, from `network_layers`; at least one row. The height of a box grows
    with the pixels of the map, its width with the channels.
    """
    boxes = _placed(frame)
    bottom, top = min(box.y for box in boxes), max(box.y + box.height for box in boxes)
    height_in = top - bottom + LABEL_IN + 2 * MARGIN_IN + LEGEND_IN
    figure = style.new_figure(height_in, arranged=False)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, style.WIDTH_IN)
    axes.set_ylim(bottom - MARGIN_IN - LEGEND_IN, bottom - MARGIN_IN - LEGEND_IN + height_in)
    for box in boxes:
        _draw_box(axes, box)
    _draw_arrows(axes, boxes)
    _draw_sizes(axes, boxes)
    _draw_legend(axes)
    return figure


# --- places --------------------------------------------------------------------------------------


def _placed(frame: pd.DataFrame) -> list[MapBox]:
    """Return the boxes in the order of the layers, spread over the width of the page.

    Dropout has no box. The box of a skip connection is left of that of the map from below; its
    label is the channels of both.
    """
    boxes = [_sized(layer, frame) for layer in frame.itertuples() if layer.kind != "dropout"]
    first = _in_row(boxes, 0.0)
    beside = sum(box.kind in ("convolution", "classes") for box in boxes)
    gap = (style.WIDTH_IN - 2 * MARGIN_IN - _right(first)) / beside
    return [replace(box, x=box.x + MARGIN_IN) for box in _in_row(boxes, gap)]


def _sized(layer, frame: pd.DataFrame) -> MapBox:
    channels = layer.channels // 2 if layer.kind == "skip" else layer.channels
    share_of_pixels = layer.size_px / frame["size_px"].max()
    share_of_channels = channels / frame.loc[frame["kind"] != "skip", "channels"].max()
    return MapBox(
        kind=layer.kind,
        level=layer.level,
        channels=layer.channels,
        size_px=layer.size_px,
        width=WIDEST_IN * share_of_channels**WIDTH_POWER,
        height=HIGHEST_IN * share_of_pixels**HEIGHT_POWER,
    )


def _in_row(boxes: list[MapBox], gap: float) -> list[MapBox]:
    heights = {box.level: box.height for box in boxes}
    lower = {
        level: -sum(heights[above] for above in range(1, level + 1)) - LEVEL_GAP_IN * (level - 1)
        for level in heights
    }
    placed: list[MapBox] = []
    for box in boxes:
        x = 0.0
        if box.kind == "skip":
            x = placed[-1].x - box.width
        elif box.kind in ABOVE:
            x = placed[-1].middle[0] - box.width / 2
        elif placed:
            x = _right([other for other in placed[-2:] if other.level == box.level]) + gap
        placed.append(replace(box, x=x, y=lower[box.level]))
    return placed


def _right(boxes: list[MapBox]) -> float:
    return max(box.x + box.width for box in boxes)


# --- ink -----------------------------------------------------------------------------------------


def _draw_box(axes: Axes, box: MapBox) -> None:
    colour = COPY_COLOUR if box.kind == "skip" else MAP_COLOUR
    axes.add_patch(
        Rectangle(
            (box.x, box.y), box.width, box.height,
            facecolor=colour, edgecolor=EDGE_COLOUR, linewidth=0.7,
        )
    )  # fmt: skip
    if box.kind == "transposed convolution":
        return  # the label of the skip connection beside it gives the channels of both
    x = box.x + box.width if box.kind == "skip" else box.middle[0]
    y = box.y + box.height + 0.03
    axes.text(x, y, str(box.channels), ha="center", va="bottom", fontsize=6)


def _draw_arrows(axes: Axes, boxes: list[MapBox]) -> None:
    encoder_end = {}
    previous = None
    for box in boxes:
        if box.kind in ("convolution", "classes"):
            middle = box.middle[1]
            _arrow(axes, box.kind, (_right([previous]), middle), (box.x, middle))
        elif box.kind == "pooling":
            encoder_end[previous.level] = previous
            top = box.y + box.height + LABEL_IN
            _arrow(axes, box.kind, (previous.middle[0], previous.y), (box.middle[0], top))
        elif box.kind == "transposed convolution":
            top = previous.y + previous.height + LABEL_IN
            _arrow(axes, box.kind, (previous.middle[0], top), (box.middle[0], box.y))
        elif box.kind == "skip":
            source = encoder_end[box.level]
            _arrow(axes, "skip", (_right([source]), box.middle[1]), (box.x, box.middle[1]))
            continue  # the next arrow starts at the map from below
        previous = box


def _arrow(axes: Axes, kind: str, start: tuple, end: tuple) -> None:
    shape = {"arrowstyle": "-|>,head_width=0.14,head_length=0.25", "shrinkA": 0.6, "shrinkB": 0.6}
    line = {"color": ARROWS[kind][1], "linewidth": 1.0, "mutation_scale": 10}
    axes.annotate("", end, start, arrowprops=shape | line)


def _draw_sizes(axes: Axes, boxes: list[MapBox]) -> None:
    for level in sorted({box.level for box in boxes}):
        first = next(box for box in boxes if box.level == level)
        axes.text(
            first.x - 0.05, first.y, f"{first.size_px}²", rotation=90,
            ha="right", va="bottom", fontsize=6, color=style.QUIET,
        )  # fmt: skip
    for box, name, side in ((boxes[0], "image", "left"), (boxes[-1], "labels", "right")):
        x = box.x if side == "left" else box.x + box.width
        axes.text(x, box.y - 0.05, name, ha=side, va="top", fontsize=7)


def _draw_legend(axes: Axes) -> None:
    handles = [
        Line2D([], [], color=colour, linewidth=1.2, marker=">", markersize=3.5, label=name)
        for name, colour in ARROWS.values()
    ]
    handles.append(
        Patch(
            facecolor=MAP_COLOUR, edgecolor=EDGE_COLOUR, linewidth=0.7,
            label="feature maps: channels above, pixels at the side",
        )
    )  # fmt: skip
    axes.legend(handles=handles, loc="lower center", ncols=3, fontsize=6.5, handlelength=1.6)


def flow_counts(ledger: pd.DataFrame, overlap: pd.DataFrame) -> pd.DataFrame:
    """Return the numbers of the flow chart: the rows of `describe.subject_flow` but warnings.

    ledger, overlap: the cohort tables. Columns: kind (sheet, analysed, scored, judging, quarantined,
    excluded, scored-excluded, reason), stage and code (of reasons; else null), subjects, and with
    visits scans; the reasons are last, in the order of the steps.
    """
    frame = subject_flow(ledger, overlap)
    frame = frame[frame["kind"] != "warning"]
    order = {stage: place for place, stage in enumerate(STEPS)}
    place = frame["stage"].map(lambda stage: order.get(stage, len(order)), na_action="ignore")
    return (
        frame.assign(place=place.fillna(-1))
        .sort_values("place", kind="stable")
        .drop(columns="place")
    )


def draw_flow(frame: pd.DataFrame, in_sheet: int | None = None) -> Figure:
    """Draw the flow chart of the subjects and return the figure.

    frame: the values to draw, from `flow_counts`. in_sheet: number of subjects of the whole sheet,
    if the run was told to take some of them; None: it took all. Boxes: subjects in the sheet (or
    selected), analysed, with a manual mask; to the right those not analysed, a box per step with
    its reasons.
    """
    rows = frame[frame["kind"] != "reason"].set_index("kind")
    count = rows["subjects"]
    n = {kind: _n(row["subjects"], row.get("scans")) for kind, row in rows.iterrows()}
    asides = _asides(frame)
    first = (
        "In the subject sheet" if in_sheet is None else f"Selected (of {in_sheet:,} in the sheet)"
    )
    main = [[first, n["sheet"]], ["Analysed", n["analysed"]]]
    scored = ["With a manual mask, scored", n["scored"]]
    if count["judging"] != count["scored"]:
        scored.append(f"labels by the network, not in its training data: {count['judging']:,}")
    if excluded := count.get("scored-excluded"):
        scored.append(f"of these excluded after review: {excluded:,}")
    main.append(scored)
    height = sum(_height(lines) + GAP_IN for lines in [*main, *asides]) + GAP_IN
    figure = style.new_figure(height, arranged=False)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, style.WIDTH_IN)
    axes.set_ylim(-height, 0)
    _flow_boxes(axes, main, asides)
    return figure


def _asides(frame: pd.DataFrame) -> list[list[str]]:
    """Return the lines of the boxes of those not analysed, one box per stage."""
    reasons = frame[frame["kind"] == "reason"]
    if reasons.empty:
        return [["Quarantined or excluded", _n(0)]]
    unit = "scans" if "scans" in frame else "subjects"

    def number(count: int) -> str:
        return counted(int(count), "scan") if unit == "scans" else f"{count:,}"

    return [
        [
            f"{STAGE_NAMES[stage]}: {number(rows[unit].sum())}",
            *(f"{code}: {n:,}" for code, n in zip(rows["code"], rows[unit], strict=True)),
        ]
        for stage, rows in reasons.groupby("stage", sort=False)
    ]


def _flow_boxes(axes: Axes, main: list[list[str]], asides: list[list[str]]) -> None:
    y = -GAP_IN
    bottom = y = _flow_box(axes, MAIN_X, MAIN_WIDTH, y, main[0])
    for lines in asides:
        y -= GAP_IN
        middle = y - _height(lines) / 2
        _flow_arrow(axes, (MAIN_X, middle), (SIDE_X, middle))
        y = _flow_box(axes, SIDE_X + SIDE_WIDTH / 2, SIDE_WIDTH, y, lines, quiet=True)
    for lines in main[1:]:
        y -= GAP_IN
        _flow_arrow(axes, (MAIN_X, bottom), (MAIN_X, y))
        bottom = y = _flow_box(axes, MAIN_X, MAIN_WIDTH, y, lines)


def _flow_box(
    axes: Axes, x: float, width: float, top: float, lines: list[str], quiet=False
) -> float:
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


def _flow_arrow(axes: Axes, start: tuple, end: tuple) -> None:
    line = {"arrowstyle": "-|>", "color": style.QUIET, "linewidth": 0.9, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", end, start, arrowprops=line, zorder=0)


def _height(lines: list[str]) -> float:
    return LINE_IN * len(lines) + 2 * PADDING_IN


def _n(count: int, scans: int | None = None) -> str:
    return f"n = {count:,}" if scans is None else f"n = {count:,} ({counted(int(scans), 'scan')})"
