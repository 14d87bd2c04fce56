"""Filling outlines on a pixel grid."""

import math
from dataclasses import dataclass

import numpy as np

from paravert.synthesis.geometry import following


@dataclass(frozen=True)
class Grid:
    """Pixel centres in a plane: pixel (row, column) lies at (u0 + column * du, v0 + row * dv).

    All in mm.
    """

    rows: int
    columns: int
    du: float
    dv: float
    u0: float
    v0: float

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.rows, self.columns

    def finer(self, factor: int) -> "Grid":
        """Return the grid of the same area with every pixel divided into factor x factor."""
        shift = (1 / factor - 1) / 2
        return Grid(
            self.rows * factor,
            self.columns * factor,
            self.du / factor,
            self.dv / factor,
            self.u0 + shift * self.du,
            self.v0 + shift * self.dv,
        )

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Lowest and highest u, lowest and highest v of the pixel centres."""
        u1 = self.u0 + (self.columns - 1) * self.du
        return self.u0, u1, self.v0, self.v0 + (self.rows - 1) * self.dv

    def axes(self) -> tuple[np.ndarray, np.ndarray]:
        """Return u of the columns and v of the rows, float32, in mm."""
        u = self.u0 + self.du * np.arange(self.columns, dtype=np.float32)
        v = self.v0 + self.dv * np.arange(self.rows, dtype=np.float32)
        return u, v

    def spans(self, outline: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the runs of pixels whose centre lies inside an outline, (vertices, 2) in mm.

        Two int arrays of flat indices, first and one past the last of each run (even-odd rule).
        """
        x = (outline[:, 0] - self.u0) / self.du
        y = (outline[:, 1] - self.v0) / self.dv
        first = max(math.ceil(y.min()), 0)
        last = min(math.floor(y.max()), self.rows - 1)
        if last < first or x.max() < 0 or x.min() > self.columns - 1:
            return _NONE, _NONE
        x_next, y_next = following(x), following(y)
        below = y <= np.arange(first, last + 1)[:, None]
        below_next = np.concatenate((below[:, 1:], below[:, :1]), axis=1)
        line, edge = np.nonzero(below != below_next)
        row = line + first
        slope = (x_next[edge] - x[edge]) / (y_next[edge] - y[edge])
        cut = np.ceil(x[edge] + (row - y[edge]) * slope)
        column = np.minimum(np.maximum(cut, 0), self.columns).astype(np.int64)
        key = np.sort(row * (self.columns + 1) + column)  # crossings come in pairs per row
        flat = key - key // (self.columns + 1)
        return flat[0::2], flat[1::2]

    def fill(self, outline: np.ndarray) -> np.ndarray:
        """Return the flat indices of the pixels whose centre lies inside an outline."""
        start, stop = self.spans(outline)
        length = stop - start
        shift = start - np.concatenate(([0], np.cumsum(length)[:-1]))
        return np.arange(length.sum()) + np.repeat(shift, length)


_NONE = np.empty(0, np.int64)


def centred_grid(matrix: int, pixel_mm: float) -> Grid:
    """Return a square grid whose middle is the origin of the plane."""
    edge = -(matrix - 1) / 2 * pixel_mm
    return Grid(matrix, matrix, pixel_mm, pixel_mm, edge, edge)
