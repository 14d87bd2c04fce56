"""The other series of a study: a sagittal T2 and a localizer in three planes.

Both are read from a coarse stack of horizontal sections of the same body, so that they show the
same spine as the axial slices.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from paravert.anatomy import LABEL_VALUES
from paravert.synthesis.body import Body
from paravert.synthesis.protocol import Protocol
from paravert.synthesis.random_fields import field_tile, window
from paravert.synthesis.raster import PixelGrid
from paravert.synthesis.solids import CutPlane, axial_plane

SAGITTAL_MATRIX = 160
SAGITTAL_PIXEL_MM = 1.75
SAGITTAL_SLICES = 9
SAGITTAL_SPACING_MM = 5.0
LOCALIZER_MATRIX = 128
LOCALIZER_PIXEL_MM = 2.75
LOCALIZER_THICKNESS_MM = 8.0
FORWARD_MM = 25.0  # the middle of the scouts lies before the spine
NOISE = 0.03


@dataclass(frozen=True)
class Scout:
    """One scout image in scanner coordinates: image float32, (rows, columns), about 0 to 1.3."""

    image: np.ndarray
    plane: CutPlane
    pixel_mm: float
    thickness_mm: float
    spacing_mm: float


def sagittal_series(body: Body, protocol: Protocol) -> list[Scout]:
    """Return sagittal slices from the subject's right to left."""
    size, pixel, gap = SAGITTAL_MATRIX, SAGITTAL_PIXEL_MM, SAGITTAL_SPACING_MM
    first = -(SAGITTAL_SLICES - 1) / 2 * gap
    grid = PixelGrid(size, SAGITTAL_SLICES, gap, pixel, first, -(size - 1) / 2 * pixel)
    volume = _volume(body, protocol, grid, _heights(size, pixel))
    rng = np.random.default_rng([body.volunteer.seed, 61])
    centre = _centre(body, protocol)
    return [
        Scout(
            _finished(volume[:, :, number], rng),
            CutPlane(centre + (first + number * gap, 0, 0), *_axes(1, 2)),
            pixel,
            gap - 1.0,
            gap,
        )
        for number in range(SAGITTAL_SLICES)
    ]


def localizer_series(body: Body, protocol: Protocol) -> list[Scout]:
    """Return an axial, a coronal and a sagittal overview through the middle of the lumbar spine."""
    size, pixel = LOCALIZER_MATRIX, LOCALIZER_PIXEL_MM
    edge = -(size - 1) / 2 * pixel
    grid = PixelGrid(size, size, pixel, pixel, edge, edge)
    rows = _heights(size, pixel)
    volume = _volume(body, protocol, grid, rows[::2])
    volume = np.repeat(volume, 2, axis=0)
    rng = np.random.default_rng([body.volunteer.seed, 62])
    centre = _centre(body, protocol)
    half = size // 2
    back = half + round(FORWARD_MM / pixel)  # a coronal through the vertebral bodies
    cuts = (
        (volume[half], _axes(0, 1), np.array([0, 0, rows[half]])),
        (volume[:, back], _axes(0, 2), np.array([0, edge + back * pixel, 0])),
        (volume[:, :, half], _axes(1, 2), np.array([edge + half * pixel, 0, 0])),
    )
    return [
        Scout(
            _finished(image, rng),
            CutPlane(centre + shift, *axes),
            pixel,
            LOCALIZER_THICKNESS_MM,
            LOCALIZER_THICKNESS_MM,
        )
        for image, axes, shift in cuts
    ]


def _heights(size: int, pixel_mm: float) -> np.ndarray:
    """Return z of the rows of a sagittal or coronal picture, the head uppermost."""
    return (np.arange(size) - (size - 1) / 2) * -pixel_mm


def _axes(across: int, down: int) -> tuple[np.ndarray, np.ndarray]:
    """Return row and column direction along two axes of the scanner; z runs down the picture."""
    signs = np.diag([1.0, 1.0, -1.0])
    return signs[across], signs[down]


def _centre(body: Body, protocol: Protocol) -> np.ndarray:
    """Return the middle of the scouts in scanner coordinates."""
    middle = body.spine.middle(3.0)
    return np.array([middle[0], middle[1] - FORWARD_MM, 0.0]) + np.array(protocol.offset_mm)


def _volume(body: Body, protocol: Protocol, grid: PixelGrid, heights: np.ndarray) -> np.ndarray:
    """Return the noiseless signal of horizontal sections, (heights, grid rows, grid columns)."""
    table = body.contrast.signal.copy()
    for value in LABEL_VALUES:
        fat = body.volunteer.fat_fraction_at(value, 3.0)
        table[value] += fat * (body.contrast.fat - table[value])
    centre = _centre(body, protocol)
    planes = [protocol.in_body(axial_plane(centre + (0, 0, height))) for height in heights]
    return table[body.tissues(planes, grid)]


def _finished(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    texture = 1 + 0.06 * window(field_tile(1.6, 1), image.shape, rng)
    smooth = gaussian_filter(image * texture, 0.6)
    channels = rng.normal(0, NOISE, (2, *image.shape))
    return np.hypot(smooth + channels[0], channels[1]).astype(np.float32)
