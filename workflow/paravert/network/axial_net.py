"""The network that tells the vertebral level of an axial slice from its muscle labels, and its model file.

Areas and places of the muscles show the level in any contrast; so the network sees the label map alone.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from paravert.anatomy import CLASSES, LABELS, MUSCLES
from paravert.network.level_model import ModelForm

CELL_MM, CELLS = 8.0, 32  # of the network's input: 256 mm about the middle of the muscles
CHANNELS = len(MUSCLES) + 1
BINS = np.arange(0.25, 6.6, 0.25)  # levels whose probability the network gives: T12/L1 to S1/2
SHARE_SCALE = 4.0  # of the input: shares of muscles are small numbers
WIDTH, HIDDEN = 16, 128
FORM = ModelForm(
    "paravert-axial-levels",
    2,
    "tells levels from the muscles in axial slices",
    CELL_MM,
    {"width": WIDTH, "hidden": HIDDEN, "cells": CELLS},
)  # of the model file

_MUSCLE = np.zeros(CLASSES, int)  # by label value: index in MUSCLES
for _label in LABELS:
    _MUSCLE[_label.value] = MUSCLES.index(_label.muscle)


class AxialNet(nn.Module):
    """Convolutions over the cells of a slice, and a linear layer for its level and the column's middle."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(CHANNELS, WIDTH, kernel_size=3, padding=1), nn.GELU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(WIDTH, 2 * WIDTH, kernel_size=3, padding=1), nn.GELU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(2 * WIDTH, 2 * WIDTH, kernel_size=3, padding=1), nn.GELU(), nn.Flatten()),
            nn.Dropout(0.2),
            *(nn.Linear(2 * WIDTH * (CELLS // 4) ** 2, HIDDEN), nn.GELU()),
            nn.Linear(HIDDEN, len(BINS) + 2),
        )

    def forward(self, cells: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits of the levels BINS, (batch, BINS), and the column's middle, (batch, 2).

        cells: float32 (batch, CHANNELS, CELLS, CELLS), see `slice_cells`. Middle of the vertebral column:
        (down, right) from the middle of the muscles, in cells.
        """
        found = self.layers(SHARE_SCALE * cells)
        return found[:, : len(BINS)], found[:, len(BINS) :]


def slice_cells(
    labels: np.ndarray, spacing_mm: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the network's input for a slice, and the middle of its muscles.

    labels: label map, uint8 (rows, columns), rows to the back, columns to the left of the subject.
    spacing_mm: distance between rows, between columns. Input: float32 (CHANNELS, CELLS, CELLS), the share
    of each cell of CELL_MM that is one of MUSCLES (either side), then the share that lies in the image;
    the middle of the muscles lies in the middle of the cells. Middle: mean (row, column) of all pixels
    of muscles, (2,); NaN where there are none.
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


def load_axial_network(path: Path) -> AxialNet:
    """Return the network of a model file, for prediction. Raises InputError for another file."""
    return FORM.load(path, AxialNet())


@torch.inference_mode()
def predicted(network: AxialNet, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities of BINS, (slices, BINS), and the column's middle, (slices, 2).

    cells: float32 (slices, CHANNELS, CELLS, CELLS), see `slice_cells`. Middle: (down, right) from the
    middle of the muscles, in cells. Both are means over the slices and their mirror images.
    """
    images = torch.from_numpy(cells)
    (levels, middle), (mirrored, turned) = network(images), network(images.flip(-1))
    probability = (levels.softmax(1) + mirrored.softmax(1)) / 2
    middle = (middle + turned * torch.tensor((1.0, -1.0))) / 2
    return probability.numpy(), middle.numpy()
