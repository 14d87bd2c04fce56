"""From anatomy to an image: T2 contrast, texture, partial volume, coil profile and noise."""

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

BEHIND_SPINE_MM = -14.0  # the middle of the picture lies before the spine


@dataclass(frozen=True)
class Look:
    """How a slice is acquired.

    thickness_mm: slice thickness. noise: standard deviation of the Gaussian noise of each
    channel, in units of bright fluid. bias: fall of the signal from the back edge of the picture
    to its front edge, as a logarithm. supersample: subpixels per pixel and axis. layers: sections
    that make up a slice, an odd number; truth is that of the middle one. blur_px: standard
    deviation of the point spread in pixels.
    """

    thickness_mm: float = 4.0
    noise: float = 0.025
    bias: float = 0.5
    supersample: int = 2
    layers: int = 5
    blur_px: float = 0.45

    def __post_init__(self):
        if self.layers % 2 == 0 or self.layers < 1:
            raise ValueError(f"layers is {self.layers}, expected an odd number")


@dataclass(frozen=True)
class Section:
    """One rendered slice with its truth.

    image: float32, (rows, columns), about 0 to 1.3. labels: uint8, the majority label of each
    pixel as a rater would draw it. fat_fraction: float32, mean over the muscle in the pixel, 0
    outside. csa_mm2, mean_fat_fraction: eight values in the order of anatomy.LABELS from the
    supersampled outline in the picture's plane; the fat fraction of an absent muscle is nan.
    """

    image: np.ndarray
    labels: np.ndarray
    fat_fraction: np.ndarray
    csa_mm2: np.ndarray
    mean_fat_fraction: np.ndarray


def render_planes(
    body: Body, planes: Sequence[CutPlane], grid: PixelGrid, look: Look
) -> Iterator[Section]:
    """Yield the sections of nearly axial planes that share their axes, each with its truth."""
    fine = grid.finer(look.supersample)
    offsets = look.thickness_mm * ((np.arange(look.layers) + 0.5) / look.layers - 0.5)
    cuts = [plane.moved(offset) for plane in planes for offset in offsets]
    tissues = body.tissues(cuts, fine).reshape(len(planes), look.layers, *fine.shape)
    for plane, layers in zip(planes, tissues, strict=True):
        yield _rendered(body, plane, layers, fine, look)


def _rendered(
    body: Body, plane: CutPlane, layers: np.ndarray, fine: PixelGrid, look: Look
) -> Section:
    """Return the section that a plane shows; layers: tissues on the fine grid, (layers, ...)."""
    rng = np.random.default_rng(
        [body.volunteer.seed, 41, *np.round(100 * (plane.centre + 5000)).astype(int)]
    )
    middle = layers[look.layers // 2]
    values = np.where(middle <= LABEL_VALUES[-1], middle, 0).ravel()
    inside = np.flatnonzero(values)
    place = places(body, plane, fine, inside)
    pixels = MusclePoints(body.volunteer, body.spine, values[inside], *place)
    fraction, fibres = planted_fat(pixels)

    signal = _tissue_signal(body, layers, middle, rng)
    _add_muscle_fat(signal, body, layers, inside, fraction, fibres)
    _add_septa(signal, body, middle, plane, fine)
    image = _acquired(_blocks(signal, look.supersample), body, look, rng)
    labels, fat = _label_picture(values.reshape(fine.shape), inside, fraction, look.supersample)
    csa, mean_fat = _totals(values[inside], fraction, fine)
    return Section(image, labels, fat, csa, mean_fat)


def places(
    body: Body, plane: CutPlane, grid: PixelGrid, inside: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return x and y in the spine's local frame and the level of pixels given by flat index."""
    u, v = grid.axes()
    row, column = np.divmod(inside, grid.columns)
    u, v = u[column], v[row]
    x, y, z = (
        np.float32(plane.centre[i])
        + u * np.float32(plane.across[i])
        + v * np.float32(plane.down[i])
        for i in range(3)
    )
    level = body.spine.level(z).astype(np.float32)
    middle = body.spine.middle(level).astype(np.float32)
    return x - middle[:, 0], y - middle[:, 1], level


def _tissue_signal(
    body: Body, layers: np.ndarray, middle: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return the mean signal of the layers with the texture of the middle one, on the fine grid."""
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
    """Turn lean muscle into fat by its fraction, as far as the layers are muscle."""
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
    """Darken thin lines in subcutaneous fat along the skin and strands in the cavity's fat."""
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


def _blocks(fine: np.ndarray, factor: int) -> np.ndarray:
    """Average factor x factor subpixels."""
    rows, columns = fine.shape[0] // factor, fine.shape[1] // factor
    return fine.reshape(rows, factor, columns, factor).mean(axis=(1, 3))


def _acquired(image: np.ndarray, body: Body, look: Look, rng: np.random.Generator) -> np.ndarray:
    """Blur, apply the coil profile and add Rician noise."""
    image = gaussian_filter(image, look.blur_px, truncate=3)
    image *= coil_profile(image.shape, body.volunteer.seed, look.bias)
    channels = rng.standard_normal((2, *image.shape), np.float32) * np.float32(look.noise)
    return np.hypot(image + channels[0], channels[1]).astype(np.float32)


def coil_profile(shape: tuple[int, int], seed: int, bias: float) -> np.ndarray:
    """Return the sensitivity of a coil behind the subject, uneven in the subject's own way."""
    c = np.random.default_rng([seed, 42]).normal(0, 1, 5).astype(np.float32)
    y = np.linspace(-1, 1, shape[0], dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, shape[1], dtype=np.float32)[None]
    uneven = c[0] * x + c[1] * y + c[2] * x * y + 0.7 * c[3] * x**2 + 0.7 * c[4] * y**2
    return np.exp(np.float32(bias) * (0.5 * y + np.float32(0.10) * uneven))


def _label_picture(
    values: np.ndarray, inside: np.ndarray, fraction: np.ndarray, factor: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the majority label and the mean fat fraction of the muscle within each pixel."""
    rows, columns = values.shape[0] // factor, values.shape[1] // factor
    pixel = (inside // values.shape[1] // factor) * columns + inside % values.shape[1] // factor
    value = values.ravel()[inside]
    middle = slice(factor // 2, None, factor)
    labels = values[middle, middle].ravel().astype(np.uint8)  # decides where no label prevails
    half = factor**2 / 2
    muscle = np.bincount(pixel, minlength=rows * columns)
    labels[muscle < half] = 0
    for label in LABEL_VALUES:
        labels[np.bincount(pixel[value == label], minlength=rows * columns) > half] = label
    fat = np.bincount(pixel, weights=fraction, minlength=rows * columns) / np.maximum(muscle, 1)
    shape = (rows, columns)
    return labels.reshape(shape), fat.astype(np.float32).reshape(shape)


def _totals(
    values: np.ndarray, fraction: np.ndarray, grid: PixelGrid
) -> tuple[np.ndarray, np.ndarray]:
    """Return area in mm² and mean fat fraction by label."""
    count = np.bincount(values, minlength=LABEL_VALUES[-1] + 1)[1:]
    total = np.bincount(values, weights=fraction, minlength=LABEL_VALUES[-1] + 1)[1:]
    fat = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
    return count * grid.du * grid.dv, fat
