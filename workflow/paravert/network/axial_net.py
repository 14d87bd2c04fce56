"""The network that predicts the vertebral level of an axial slice from its muscle labels.

Areas and positions of the muscles hardly depend on the contrast; so the image is no input.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from openvino import opset13 as ops
from scipy.special import softmax

from paravert.anatomy import CLASSES, LABELS, MUSCLES
from paravert.network.level_model import AXIAL_FORM as FORM
from paravert.network.openvino_unet import compiled_for_one_core, openvino

# Of the network's input: 256 mm about the middle of the muscles.
CELL_MM, CELLS = FORM.spacing_mm, FORM.architecture["cells"]
CHANNELS = len(MUSCLES) + 1
BINS = np.arange(0.25, 6.6, 0.25)  # levels whose probability the network gives: T12 to S1/2
SHARE_SCALE = 4.0  # of the input: shares of muscles are small numbers
WIDTH, HIDDEN = FORM.architecture["width"], FORM.architecture["hidden"]
CONVOLUTIONS, LINEAR = (0, 3, 6), (10, 12)  # numbers of the layers with weights

_MUSCLE = np.zeros(CLASSES, int)  # by label value: index in MUSCLES
for _label in LABELS:
    _MUSCLE[_label.value] = MUSCLES.index(_label.muscle)


def slice_cells(
    labels: np.ndarray, spacing_mm: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the network's input for a slice, and the middle of its muscles.

    labels: label map, uint8 (rows, columns), rows to the back, columns to the left of the subject.
    spacing_mm: distance between rows, between columns. Middle: mean index (row, column) of all
    muscle pixels, float (2,). Input: float32 (CHANNELS, CELLS, CELLS) = (5, 32, 32), a grid of
    square cells of 8 mm (CELL_MM) centred at the middle: for each muscle in the order of
    anatomy.MUSCLES, the share of a cell that it covers (both sides together); in the last channel,
    the share of a cell that lies in the image. A pixel counts to the cell in which its centre lies,
    so that shares may exceed 1. Without muscles: input 0, middle NaN.
    """
    places = np.nonzero(labels)
    result = np.zeros((CHANNELS, CELLS, CELLS), np.float32)
    if not len(places[0]):
        return result, np.full(2, np.nan)
    middle = np.array([place.mean() for place in places])
    of_rows, of_columns = (
        np.floor((np.arange(size) - at) * step / CELL_MM + CELLS / 2).astype(int)
        for size, at, step in zip(labels.shape, middle, spacing_mm, strict=True)
    )
    share = np.prod(spacing_mm) / CELL_MM**2  # of a cell, per pixel
    row, column, muscle = of_rows[places[0]], of_columns[places[1]], _MUSCLE[labels[places]]
    inside = (row >= 0) & (row < CELLS) & (column >= 0) & (column < CELLS)
    cell = ((muscle * CELLS + row) * CELLS + column)[inside]
    counts = np.bincount(cell, minlength=len(MUSCLES) * CELLS**2)
    result[:-1] = share * counts.reshape(len(MUSCLES), CELLS, CELLS)
    rows, columns = (
        np.bincount(cell[(cell >= 0) & (cell < CELLS)], minlength=CELLS)
        for cell in (of_rows, of_columns)
    )
    result[-1] = share * np.outer(rows, columns)
    return result, middle


@cache
def load_axial_network(path: Path) -> openvino.CompiledModel:
    """Return the network of a model file of train_axial_levels, for prediction; read once per process.

    Called with cells from `slice_cells`, float32 (slices, 5, 32, 32), it returns outputs, of which
    number 0 is float32 (slices, 28): logits of the 26 levels in BINS (0.25 to 6.5 in steps of 0.25; 1.0
    is mid L1), then the middle of the vertebral column, (down, right in the picture: posterior, left of
    the subject) from the middle of the muscles, in cells of 8 mm. Raises InputError if the file is no
    such model.
    """
    return compiled_for_one_core(_graph(FORM.weights(path)))


def _graph(weights: Mapping[str, np.ndarray]) -> openvino.Model:
    """Return the layers of `train_axial_levels.AxialNet` as operations of OpenVINO."""

    def bias(layer: int) -> np.ndarray:
        return weights[f"layers.{layer}.bias"]

    cells = ops.parameter([-1, CHANNELS, CELLS, CELLS], np.float32)
    features = ops.multiply(cells, np.float32(SHARE_SCALE))
    for layer in CONVOLUTIONS:
        ones = [1, 1]
        found = ops.convolution(features, weights[f"layers.{layer}.weight"], *[ones] * 4)
        features = ops.gelu(ops.add(found, bias(layer).reshape(1, -1, 1, 1)), "erf")
        if layer != CONVOLUTIONS[-1]:
            features = ops.max_pool(features, [2, 2], ones, [0, 0], [0, 0], [2, 2]).output(0)
    features = ops.reshape(features, [0, -1], special_zero=True)
    hidden, last = LINEAR
    features = ops.matmul(features, weights[f"layers.{hidden}.weight"], False, True)
    features = ops.gelu(ops.add(features, bias(hidden)), "erf")
    features = ops.matmul(features, weights[f"layers.{last}.weight"], False, True)
    return openvino.Model([ops.add(features, bias(last))], [cells])


def predicted_levels(
    network: Callable[[np.ndarray], Sequence[np.ndarray]], cells: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the probability of each level in BINS, (slices, 26), and the column's middle, (slices, 2).

    BINS: levels 0.25 to 6.5 in steps of 0.25; 1.0 is mid L1. Column's middle: middle of the vertebral
    column, (down, right in the picture: posterior, left of the subject) from the middle of the muscles,
    in cells of 8 mm (CELL_MM). Both are means over each slice and its mirror image. network: from
    `load_axial_network`. cells: input of each slice, from `slice_cells`, stacked: float32 (slices, 5,
    32, 32).
    """
    found, mirrored = (network(one)[0] for one in (cells, np.ascontiguousarray(cells[..., ::-1])))
    bins = len(BINS)
    probability = (softmax(found[:, :bins], axis=1) + softmax(mirrored[:, :bins], axis=1)) / 2
    return probability, (found[:, bins:] + mirrored[:, bins:] * (1, -1)) / 2
