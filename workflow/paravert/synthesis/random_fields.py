"""Smooth Gaussian random fields: periodic tiles, read at different offsets.

Reading the same tile at offsets that depend on a subject's seed gives many different fields at the
cost of one.
"""

from functools import lru_cache

import numpy as np
from scipy.fft import irfft2, rfft2

TILE_CELLS = 512  # rows and columns; a power of two, so that `&` wraps indices
LAST_CELL = TILE_CELLS - 1
CELLS_PER_UNIT = 4  # tile cells per unit of the coordinates of `sampled`


@lru_cache(maxsize=32)
def field_tile(sigma_cells: float, number: int = 0) -> np.ndarray:
    """Return a periodic Gaussian random field, float32 (512, 512), mean 0, SD 1, read-only.

    sigma_cells: SD of the Gaussian smoothing in cells (elements of the array). number: selects one
    of many independent fields.
    """
    rng = np.random.default_rng([97, number, round(1000 * sigma_cells)])
    spectrum = rfft2(rng.standard_normal((TILE_CELLS, TILE_CELLS)))
    frequency = np.fft.fftfreq(TILE_CELLS)[:, None] ** 2 + np.fft.rfftfreq(TILE_CELLS)[None] ** 2
    field = irfft2(
        spectrum * np.exp(-2 * (np.pi * sigma_cells) ** 2 * frequency), s=(TILE_CELLS, TILE_CELLS)
    )
    field -= field.mean()
    field = (field / field.std()).astype(np.float32)
    field.flags.writeable = False
    return field


def window(field: np.ndarray, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Return a random part of a periodic field, float32 (rows, columns).

    field: float32 (512, 512); it repeats beyond its edges. shape: rows and columns of the part.
    rng: for random offset and transposition.
    """
    if rng.random() < 0.5:
        field = field.T
    row, column = rng.integers(TILE_CELLS, size=2)
    rows = (row + np.arange(shape[0])) % TILE_CELLS
    columns = (column + np.arange(shape[1])) % TILE_CELLS
    return field[rows[:, None], columns]


def sampled(a: np.ndarray, b: np.ndarray, number: int) -> np.ndarray:
    """Return a smooth random field (mean 0, SD about 1) at (a, b), float32, of their shape.

    a, b: float32, in units of about the size of the field's structures. number: selects one of many
    independent fields. Interpolation is linear. A field repeats every 128 units along both axes;
    equal arguments give equal values in every run.
    """
    field = field_tile(0.5 * CELLS_PER_UNIT, number).ravel()
    a, b = a * np.float32(CELLS_PER_UNIT), b * np.float32(CELLS_PER_UNIT)
    row, column = np.floor(a), np.floor(b)
    p, q = a - row, b - column
    row, column = row.astype(np.int32) & LAST_CELL, column.astype(np.int32) & LAST_CELL
    below, beside = ((row + 1) & LAST_CELL) * TILE_CELLS, (column + 1) & LAST_CELL
    row = row * TILE_CELLS
    upper = field.take(row + column) * (1 - q) + field.take(row + beside) * q
    lower = field.take(below + column) * (1 - q) + field.take(below + beside) * q
    return upper * (1 - p) + lower * p
