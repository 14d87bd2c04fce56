"""Filling outlines on a pixel grid."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Grid:
    """Pixel centres in a plane: pixel (row, column) lies at (u, v) = (u0 + column * du, v0 + row * dv), in mm."""

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
        """Return the grid with every pixel divided into factor x factor; the covered area stays the same."""
        shift = (1 / factor - 1) / 2
        return Grid(
            self.rows * factor,
            self.columns * factor,
            self.du / factor,
            self.dv / factor,
            self.u0 + shift * self.du,
            self.v0 + shift * self.dv,
        )

    def axes(self) -> tuple[np.ndarray, np.ndarray]:
        """Return u of the columns and v of the rows, float32, in mm."""
        u = self.u0 + self.du * np.arange(self.columns, dtype=np.float32)
        v = self.v0 + self.dv * np.arange(self.rows, dtype=np.float32)
        return u, v

    def fill(self, outline: np.ndarray) -> np.ndarray:
        """Return the flat indices of the pixels whose centre lies inside the outline, (vertices, 2) in mm (even-odd rule)."""
        x = (outline[:, 0] - self.u0) / self.du
        y = (outline[:, 1] - self.v0) / self.dv
        first = max(int(np.ceil(y.min())), 0)
        last = min(int(np.floor(y.max())), self.rows - 1)
        if last < first:
            return np.empty(0, np.int64)
        rows = np.arange(first, last + 1)
        y_next, x_next = np.roll(y, -1), np.roll(x, -1)
        line, edge = np.nonzero((y <= rows[:, None]) != (y_next <= rows[:, None]))
        row = rows[line]
        slope = (x_next[edge] - x[edge]) / (y_next[edge] - y[edge])
        cut = np.ceil(x[edge] + (row - y[edge]) * slope)
        column = np.clip(cut, 0, self.columns).astype(np.int64)
        flat = np.sort(row * (self.columns + 1) + column)  # crossings come in pairs per row
        row = flat // (self.columns + 1)
        start, stop = (flat - row)[0::2], (flat - row)[1::2]
        return _ranges(start, stop)


def _ranges(start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """Concatenate arange(start, stop) of all pairs."""
    length = stop - start
    shift = start - np.concatenate(([0], np.cumsum(length)[:-1]))
    return np.arange(length.sum()) + np.repeat(shift, length)


def centred_grid(matrix: int, pixel_mm: float) -> Grid:
    """Return a square grid whose middle is the origin of the plane."""
    edge = -(matrix - 1) / 2 * pixel_mm
    return Grid(matrix, matrix, pixel_mm, pixel_mm, edge, edge)
