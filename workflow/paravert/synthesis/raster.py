"""Pixel grids, and which pixels lie inside an outline."""

from dataclasses import dataclass

import numpy as np

from paravert.synthesis.solids import Outlines


@dataclass(frozen=True)
class PixelGrid:
    """Pixel centres in a plane: u = u0 + column * du, v = v0 + row * dv.

    rows, columns: number of pixels. du, dv: distance between adjacent columns and between adjacent
    rows. u0, v0: centre of the first pixel. On a `CutPlane`: mm along `across` and `down` from its
    centre.
    """

    rows: int
    columns: int
    du: float
    dv: float
    u0: float
    v0: float

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns."""
        return self.rows, self.columns

    def finer(self, factor: int) -> "PixelGrid":
        """Return the grid of the same area with each pixel divided into factor x factor pixels."""
        shift = (1 / factor - 1) / 2
        return PixelGrid(
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
        """Return u of the columns, (columns,), and v of the rows, (rows,), float32."""
        u = self.u0 + self.du * np.arange(self.columns, dtype=np.float32)
        v = self.v0 + self.dv * np.arange(self.rows, dtype=np.float32)
        return u, v

    def spans(self, outlines: Outlines) -> tuple[np.ndarray, np.ndarray]:
        """Return the pixels whose centre lies inside outlines (even-odd rule), as horizontal runs.

        outlines: closed polygons in parallel planes, (u, v) as of this grid. Returns two int
        arrays, (runs,), ascending: flat indices into (planes, rows, columns) of the first pixel of
        each run and of the pixel after its last. A run lies in one row.
        """
        x = (outlines.points[:, 0] - self.u0) / self.du
        y = (outlines.points[:, 1] - self.v0) / self.dv
        x_next, y_next = Outlines(np.stack((x, y), axis=1), outlines.plane).following.T
        # First row at or below each vertex; an edge crosses the rows between those of its vertices.
        row = np.clip(np.ceil(y), 0, self.rows).astype(np.int64)
        row_next = np.clip(np.ceil(y_next), 0, self.rows).astype(np.int64)
        crossed = np.abs(row_next - row)
        edge = np.repeat(np.arange(len(x)), crossed)
        before = np.cumsum(crossed) - crossed
        line = np.arange(len(edge)) + (np.minimum(row, row_next) - before)[edge]
        with np.errstate(divide="ignore", invalid="ignore"):  # edges along a row cross none
            slope = (x_next - x) / (y_next - y)
        cut = np.ceil(x[edge] + (line - y[edge]) * slope[edge])
        column = np.minimum(np.maximum(cut, 0), self.columns).astype(np.int64)
        line += outlines.plane[edge] * self.rows
        key = np.sort(line * (self.columns + 1) + column)  # crossings come in pairs per row
        flat = key - key // (self.columns + 1)
        start, stop = flat[0::2], flat[1::2]
        some = start < stop
        return start[some], stop[some]


def centred_grid(matrix: int, pixel_mm: float) -> PixelGrid:
    """Return a square pixel grid whose middle is the centre of the plane.

    matrix: number of rows and of columns. pixel_mm: distance between pixel centres.
    """
    edge = -(matrix - 1) / 2 * pixel_mm
    return PixelGrid(matrix, matrix, pixel_mm, pixel_mm, edge, edge)
