"""Figure 1: the network, drawn from the list of its layers."""

import math
from dataclasses import asdict
from itertools import pairwise

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from paravert.network.architecture import Architecture, layer_table
from paravert.study import style

ARROWS = {
    "convolution": ("convolution 3 × 3, leaky ReLU", "#1f4e9c"),
    "pooling": ("max pooling 2 × 2", "#b2182b"),
    "transposed convolution": ("transposed convolution 2 × 2", "#1b7837"),
    "skip": ("skip connection: channels side by side", "#808080"),
    "classes": ("convolution 1 × 1, softmax", "#762a83"),
}
MAP_COLOUR, SKIP_COLOUR, EDGE = "#c6d7ee", "#f3f3f3", "#40618f"
GAP, LEVEL_GAP = 0.3, 0.44  # between feature maps and between levels


def data(architecture: dict, size_px: int) -> pd.DataFrame:
    """Return the layers in the order in which an image passes them, `step` from 1.

    Columns as `paravert.network.architecture.Layer`.
    """
    layers = layer_table(Architecture(**architecture), size_px)
    frame = pd.DataFrame([asdict(layer) for layer in layers])
    frame.insert(0, "step", range(1, len(frame) + 1))
    return frame


def draw(frame: pd.DataFrame) -> Figure:
    """Draw a box per feature map, as high as its pixels and as wide as its channels tell."""
    figure = style.new_figure(4.9)
    axes = figure.subplots()
    axes.set_axis_off()
    boxes = _boxes(frame)
    for box in boxes:
        _draw_box(axes, box)
    _draw_arrows(axes, boxes)
    _draw_sizes(axes, boxes)
    axes.set_xlim(-0.3, max(box["x"] + box["width"] for box in boxes) + 0.5)
    axes.set_ylim(min(box["y"] for box in boxes) - 0.75, boxes[0]["y"] + boxes[0]["height"] + 0.45)
    _legend(figure, frame)
    return figure


def _boxes(frame: pd.DataFrame) -> list[dict]:
    """Return the feature maps with their places: those of a level stand on one line.

    A dropout changes no map's shape and has no box; a skip is drawn beside the map that comes up.
    """
    shown = frame[frame["kind"] != "dropout"]
    heights = {level: _height(size) for level, size in zip(shown["level"], shown["size_px"], strict=True)}
    top = {1: 0.0}
    for above, level in pairwise(sorted(heights)):
        top[level] = top[above] - heights[above] - LEVEL_GAP
    x, boxes = 0.0, []
    for layer in shown.to_dict("records"):
        if layer["kind"] == "skip":
            continue
        width, height = _width(layer["channels"]), heights[layer["level"]]
        if boxes and boxes[-1]["level"] == layer["level"]:
            x += GAP
        boxes.append({**layer, "x": x, "y": top[layer["level"]] - height, "width": width, "height": height})
        x += width
    return boxes


def _height(size_px: int) -> float:
    return 0.2 + 0.16 * max(math.log2(size_px), 0) ** 1.15


def _width(channels: int) -> float:
    return 0.05 + 0.034 * math.log2(channels) ** 1.2
