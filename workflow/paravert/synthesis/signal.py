"""From anatomy to an image: T2 signal, texture, partial volume, coil sensitivity, noise."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from paravert.anatomy import LABEL_VALUES
from paravert.synthesis.body import Body
from paravert.synthesis.muscle_fat import MusclePoints, planted_fat
from paravert.synthesis.random_fields import field_tile, sampled, window
from paravert.synthesis.raster import PixelGrid
from paravert.synthesis.solids import CutPlane
from paravert.synthesis.tissues import Tissue

BEHIND_SPINE_MM = -14.0  # of the middle of an image: negative, in front of the spine's axis
SUBPIXELS = 2  # along each axis of a pixel


@dataclass(frozen=True)
class Acquisition:
    """How a phantom slice is acquired.

    thickness_mm: slice thickness. noise: SD of the Gaussian noise of the real and of the imaginary
    channel, on the scale of `TissueSignal`. bias: as of `coil_profile`. layers: parallel planes
    averaged over the slice thickness; labels, areas and fat fractions are those of the middle one.
    blur_px: SD of the point spread function, in pixels. coil: added to the subject's seed, it selects
    how the coil is uneven. Raises ValueError if layers is not an odd number from 1.
    """

    thickness_mm: float = 4.0
    noise: float = 0.025
    bias: float = 0.5
    layers: int = 5
    blur_px: float = 0.45
    coil: int = 0

    def __post_init__(self):
        if self.layers % 2 == 0 or self.layers < 1:
            raise ValueError(f"layers is {self.layers}, expected an odd number")


@dataclass(frozen=True)
class RenderedSlice:
    """One rendered phantom slice with its truth.

    image: float32 (rows, columns), magnitude signal on the scale of `TissueSignal`, times the coil's
    sensitivity. labels: uint8 (rows, columns), the label value 1-8 that fills more than half of each
    pixel; 0 where muscle fills less than half; otherwise the value of one subpixel, which may be 0.
    fat_fraction: float32 (rows, columns), mean over the muscle within each pixel, however little, 0-1;
    0 where there is none. csa_mm2, mean_fat_fraction: float (8,), entry k of label k + 1
    (anatomy.LABELS), from the subpixels: area in the image plane, 0 if absent; fat fraction 0-1, NaN if
    absent.
    """

    image: np.ndarray
    labels: np.ndarray
    fat_fraction: np.ndarray
    csa_mm2: np.ndarray
    mean_fat_fraction: np.ndarray


def render_planes(
    body: Body, planes: Sequence[CutPlane], grid: PixelGrid, acquisition: Acquisition
) -> Iterator[RenderedSlice]:
    """Yield one rendered slice (image and truth) per plane through a phantom.

    body: of the volunteer. planes: one or more, nearly axial, in coordinates of the body (LPS, mm,
    mid L3 at z = 0), all with the same axes (not checked). grid: the pixels of the image, about the
    centre of each plane. acquisition: thickness, noise and coil; noise and texture are drawn from
    the volunteer's seed and the plane's position.
    """
    fine = grid.finer(SUBPIXELS)
    offsets = acquisition.thickness_mm * (
        (np.arange(acquisition.layers) + 0.5) / acquisition.layers - 0.5
    )
    cuts = [plane.moved(offset) for plane in planes for offset in offsets]
    tissues = body.tissues(cuts, fine).reshape(len(planes), acquisition.layers, *fine.shape)
    for plane, layers in zip(planes, tissues, strict=True):
        yield _rendered(body, plane, layers, fine, acquisition)


def _rendered(
    body: Body, plane: CutPlane, layers: np.ndarray, fine: PixelGrid, acquisition: Acquisition
) -> RenderedSlice:
    """Return one rendered slice. layers: (layers, fine rows, fine columns) uint8, tissues."""
    rng = np.random.default_rng(
        [body.volunteer.seed, 41, *np.round(100 * (plane.centre + 5000)).astype(int)]
    )
    middle = layers[acquisition.layers // 2]
    values = np.where(middle <= LABEL_VALUES[-1], middle, 0).ravel()
    inside = np.flatnonzero(values)
    fraction, fibres = planted_fat(muscle_points(body, plane, fine, values))

    signal = _tissue_signal(body, layers, middle, rng)
    _add_muscle_fat(signal, body, layers, inside, fraction, fibres)
    _add_septa(signal, body, middle, plane, fine)
    blocks = signal.reshape(fine.rows // SUBPIXELS, SUBPIXELS, -1, SUBPIXELS)
    image = _acquired(blocks.mean(axis=(1, 3)), body, acquisition, rng)
    labels, fat = _label_picture(values.reshape(fine.shape), inside, fraction)
    csa, mean_fat = _totals(values[inside], fraction, fine)
    return RenderedSlice(image, labels, fat, csa, mean_fat)


def muscle_points(body: Body, plane: CutPlane, grid: PixelGrid, labels: np.ndarray) -> MusclePoints:
    """Return the muscle pixels of a plane through a body, positioned relative to the spine.

    body: of the volunteer. plane: in coordinates of the body (LPS, mm, mid L3 at z = 0). grid: the
    pixel centres, about the plane's centre. labels: int (rows * columns,), row by row, label value
    of each pixel of the grid, 0 outside muscle. The result keeps this order, without pixels that
    are 0.
    """
    inside = np.flatnonzero(labels)
    row, column = np.divmod(inside, grid.columns)
    u, v = grid.axes()
    u, v = u[column], v[row]
    x, y, z = (
        np.float32(plane.centre[i])
        + u * np.float32(plane.across[i])
        + v * np.float32(plane.down[i])
        for i in range(3)
    )
    level = body.spine.level(z).astype(np.float32)
    middle = body.spine.middle(level).astype(np.float32)
    x, y = x - middle[:, 0], y - middle[:, 1]
    return MusclePoints(body.volunteer, body.spine, labels[inside], x, y, level)


def _tissue_signal(
    body: Body, layers: np.ndarray, middle: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return the mean signal of the layers, (rows, columns) float32, textured.

    layers: (layers, rows, columns), tissues. middle: the layer whose tissues determine the
    texture.
    """
    table = body.contrast.signal / len(layers)
    signal = table[layers[0]]
    for layer in layers[1:]:
        signal += table[layer]
    coarse = window(field_tile(5.0), middle.shape, rng)
    grain = window(field_tile(1.6, 1), middle.shape, rng)
    signal *= 1 + body.contrast.texture[middle] * (0.75 * coarse + 0.65 * grain)
    return signal


def _add_muscle_fat(
    signal: np.ndarray,
    body: Body,
    layers: np.ndarray,
    inside: np.ndarray,
    fraction: np.ndarray,
    fibres: np.ndarray,
) -> None:
    """Add fat and fibre texture to the signal of muscle pixels, in place.

    inside: (pixels,), flat indices of the muscle pixels in the middle layer. fraction, fibres:
    (pixels,), as returned by `planted_fat`. Where a layer shows no muscle, its share gets no fat.
    """
    share = sum((layer.ravel()[inside] <= LABEL_VALUES[-1]) for layer in layers) / np.float32(
        len(layers)
    )
    flat = signal.ravel()
    lean = flat[inside] * (1 + np.float32(0.07) * fibres)
    gain = np.float32(body.contrast.fat - body.contrast.lean)
    flat[inside] = lean + share * fraction * gain


def _add_septa(
    signal: np.ndarray, body: Body, middle: np.ndarray, plane: CutPlane, grid: PixelGrid
) -> None:
    """Darken thin septa in subcutaneous and visceral fat, in place."""
    u, v = grid.axes()
    flat, tissue = signal.ravel(), middle.ravel()
    drift = np.float32(body.volunteer.seed % 997 + 0.02 * plane.centre[2])
    for kind, along, across, depth in (
        (Tissue.FAT, 13.0, 3.2, 0.26),
        (Tissue.VISCERAL_FAT, 6.0, 5.0, 0.22),
    ):
        here = np.flatnonzero(tissue == kind)
        row, column = np.divmod(here, grid.columns)
        field = sampled(u[column] / along + drift, v[row] / across + drift, 7)
        presence = sampled(u[column] / 14 + drift, v[row] / 14 - drift, 8)
        line = np.exp(-np.abs(field) * 9) * np.clip(0.55 + 0.5 * presence, 0, 1.3)
        flat[here] *= 1 - np.float32(depth) * line


def _acquired(
    image: np.ndarray, body: Body, acquisition: Acquisition, rng: np.random.Generator
) -> np.ndarray:
    """Return the image blurred, multiplied by the coil sensitivity, and with Rician noise."""
    image = gaussian_filter(image, acquisition.blur_px, truncate=3)
    seed = body.volunteer.seed + acquisition.coil
    image *= coil_profile(image.shape, seed, acquisition.bias)
    channels = rng.standard_normal((2, *image.shape), np.float32) * np.float32(acquisition.noise)
    return np.hypot(image + channels[0], channels[1]).astype(np.float32)


def coil_profile(shape: tuple[int, int], seed: int, bias: float) -> np.ndarray:
    """Return the sensitivity of a surface coil behind the subject, float32 (rows, columns).

    It is 1 in the middle. shape: (rows, columns). seed: selects how the coil is uneven;
    `render_planes` takes the subject's seed plus `Acquisition.coil`. bias: natural logarithm of the
    sensitivity at the posterior edge (last row) over that at the anterior edge (first row), on
    average over seeds; the logarithm of the unevenness is proportional to it, too.
    """
    c = np.random.default_rng([seed, 42]).normal(0, 1, 5).astype(np.float32)
    y = np.linspace(-1, 1, shape[0], dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, shape[1], dtype=np.float32)[None]
    uneven = c[0] * x + c[1] * y + c[2] * x * y + 0.7 * c[3] * x**2 + 0.7 * c[4] * y**2
    return np.exp(np.float32(bias) * (0.5 * y + np.float32(0.10) * uneven))


def _label_picture(
    values: np.ndarray, inside: np.ndarray, fraction: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return (labels, fat_fraction) of `RenderedSlice`.

    values: (fine rows, fine columns), label values. inside: (pixels,), flat indices of the muscle
    pixels among them. fraction: (pixels,), their fat fractions.
    """
    shape = rows, columns = values.shape[0] // SUBPIXELS, values.shape[1] // SUBPIXELS
    row, column = np.divmod(inside, values.shape[1])
    pixel = (row // SUBPIXELS) * columns + column // SUBPIXELS
    value = values.ravel()[inside]
    middle = slice(SUBPIXELS // 2, None, SUBPIXELS)
    labels = values[middle, middle].ravel().astype(np.uint8)  # kept where no label has a majority
    half = SUBPIXELS**2 / 2
    muscle = np.bincount(pixel, minlength=rows * columns)
    labels[muscle < half] = 0
    for label in LABEL_VALUES:
        labels[np.bincount(pixel[value == label], minlength=rows * columns) > half] = label
    fat = np.bincount(pixel, weights=fraction, minlength=rows * columns) / np.maximum(muscle, 1)
    return labels.reshape(shape), fat.astype(np.float32).reshape(shape)


def _totals(
    values: np.ndarray, fraction: np.ndarray, grid: PixelGrid
) -> tuple[np.ndarray, np.ndarray]:
    """Return area in mm2 and mean fat fraction by label, (8,) each.

    values, fraction: (pixels,), label value and fat fraction of each muscle pixel of the grid.
    """
    count = np.bincount(values, minlength=LABEL_VALUES[-1] + 1)[1:]
    total = np.bincount(values, weights=fraction, minlength=LABEL_VALUES[-1] + 1)[1:]
    fat = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
    return count * grid.du * grid.dv, fat
