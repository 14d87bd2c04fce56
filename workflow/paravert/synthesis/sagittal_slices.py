"""Synthetic sagittal slices of the lumbar spine, with the label of every vertebra and disc.

Drawn in the plane, from T9 to the coccyx: lordosis and the kyphosis of the sacrum, discs of many
heights and signals, contrasts of T1, T2 and STIR and others, slices beside the midline, metal,
fields of view of many extents. Coordinates: y in mm towards the back (columns), z in mm towards the
head (against the rows). Levels as in `spine`: 1.0 mid L1, 1.5 disc L1/2, 6.0 S1.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, zoom

from paravert.synthesis.sagittal_parts import (
    ANNULUS,
    BELLY_FAT,
    BOWEL,
    CANVAS_PX,
    CORD,
    CORTEX,
    CSF,
    DISCS,
    EPIDURAL,
    FAT,
    FINE,
    FLUID,
    LIGAMENT,
    MARROW,
    METAL,
    MUSCLE,
    NUCLEUS,
    ORGAN,
    ROOT,
    SACRAL,
    SKIN,
    TISSUES,
    VEIN,
    VESSEL,
    Picture,
    SagittalSpine,
    draw_metal,
    draw_spine,
    draw_trunk,
)  # fmt: skip

# Lowest and highest signal by tissue in each contrast.
CONTRASTS = {
    "T1": {
        SKIN: (0.3, 0.6), FAT: (0.85, 1.1), MUSCLE: (0.22, 0.38), MARROW: (0.38, 0.75),
        CORTEX: (0.03, 0.15), ANNULUS: (0.16, 0.34), NUCLEUS: (0.2, 0.4), CSF: (0.08, 0.22),
        CORD: (0.25, 0.4), ROOT: (0.2, 0.35), LIGAMENT: (0.06, 0.2), VESSEL: (0.03, 0.4),
        BOWEL: (0.2, 0.4), FLUID: (0.1, 0.25), ORGAN: (0.25, 0.45), BELLY_FAT: (0.75, 1.1),
        VEIN: (0.3, 0.7), METAL: (0, 0.02), EPIDURAL: (0.8, 1.1), SACRAL: (0.4, 0.8),
    },
    "T2": {
        SKIN: (0.2, 0.5), FAT: (0.6, 1.0), MUSCLE: (0.12, 0.3), MARROW: (0.28, 0.65),
        CORTEX: (0.03, 0.12), ANNULUS: (0.06, 0.22), NUCLEUS: (0.1, 0.95), CSF: (0.85, 1.25),
        CORD: (0.3, 0.5), ROOT: (0.25, 0.5), LIGAMENT: (0.05, 0.18), VESSEL: (0.02, 0.35),
        BOWEL: (0.15, 0.6), FLUID: (0.8, 1.3), ORGAN: (0.2, 0.5), BELLY_FAT: (0.5, 0.95),
        VEIN: (0.5, 1.0), METAL: (0, 0.02), EPIDURAL: (0.55, 1.0), SACRAL: (0.3, 0.7),
    },
    "STIR": {
        SKIN: (0.1, 0.3), FAT: (0.02, 0.15), MUSCLE: (0.12, 0.3), MARROW: (0.06, 0.24),
        CORTEX: (0.02, 0.08), ANNULUS: (0.03, 0.14), NUCLEUS: (0.1, 0.9), CSF: (0.8, 1.3),
        CORD: (0.28, 0.45), ROOT: (0.25, 0.5), LIGAMENT: (0.03, 0.1), VESSEL: (0.02, 0.5),
        BOWEL: (0.1, 0.6), FLUID: (0.8, 1.3), ORGAN: (0.2, 0.5), BELLY_FAT: (0.02, 0.15),
        VEIN: (0.3, 0.9), METAL: (0, 0.02), EPIDURAL: (0.03, 0.15), SACRAL: (0.06, 0.26),
    },
}  # fmt: skip
ANY_CONTRAST_SHARE = 0.12  # of slices with signals by chance


@dataclass(frozen=True)
class SagittalSlice:
    """A synthetic sagittal slice; arrays are (rows, columns), towards the feet and the back.

    image: float32, signal, 0 outside the field of view. labels: uint8, numbers of discs, vertebral
    bodies and sacrum (`sagittal_parts.label_of`), 0 elsewhere and outside the field of view. view:
    bool, True in the field of view. discs: {level: (row, column) of the disc's centre}, float, where 0
    is the centre of the first row or column, of the discs T11/12 to S1/2 whose centre lies in the field
    of view, even if S1/2 is fused and not drawn; level 4.5 is L4/5.
    """

    image: np.ndarray
    labels: np.ndarray
    view: np.ndarray
    discs: dict[float, tuple[float, float]]


def sagittal_slices(
    seed: int, index: int, images: int = 1, size_px: tuple[int, int] = (CANVAS_PX, CANVAS_PX)
) -> Iterator[SagittalSlice]:
    """Yield images of one synthetic sagittal anatomy, with random contrasts and fields of view.

    seed: of all anatomies. index: number of this one, from 0. images: how many. size_px: rows and
    columns of the images, at most 128 (CANVAS_PX); smaller ones show a random part about the spine.
    Pixels of 2.5 mm (PIXEL_MM). A pure function of its arguments.
    """
    rng = np.random.default_rng([seed, index, 81])
    column = SagittalSpine(rng)
    side_mm = abs(float(rng.normal(0, 5))) if rng.random() < 0.75 else float(rng.uniform(0, 22))
    picture = Picture(rng)
    draw_trunk(picture, column, rng)
    draw_spine(picture, column, rng, side_mm)
    if rng.random() < 0.05:
        draw_metal(picture, column, rng)
    centres = {level: picture.pixels(column.at(level)) / FINE - 0.25 for level in DISCS}
    labels = picture.labels[FINE // 2 :: FINE, FINE // 2 :: FINE]
    for _ in range(images):
        view = _field_of_view(column, picture, rng)
        first = [_start(axis, labels * view, size, rng) for axis, size in enumerate(size_px)]
        part, fine = (
            tuple(
                slice(start * by, (start + size) * by)
                for start, size in zip(first, size_px, strict=True)
            )
            for by in (1, FINE)
        )
        view = view[part]
        seen = {}
        for level, centre in centres.items():
            row, place = (float(value) for value in centre - first)
            inside = 0 <= row < size_px[0] and 0 <= place < size_px[1]
            if inside and view[int(row), int(place)]:
                seen[level] = row, place
        image = _acquired(picture.tissues[fine], view, rng)
        yield SagittalSlice(image, labels[part] * view, view, seen)


def _start(axis: int, labels: np.ndarray, size: int, rng: np.random.Generator) -> int:
    """Return the first row or column of a random part that shows the middle of the labels."""
    places = np.nonzero(labels)[axis]
    middle = places.mean() if places.size else CANVAS_PX / 2
    return int(np.clip(middle - size * rng.uniform(0.2, 0.8), 0, CANVAS_PX - size))


def _field_of_view(column: SagittalSpine, picture: Picture, rng: np.random.Generator) -> np.ndarray:
    """Return the field of view on the canvas, bool: it shows L1 to S1 in most slices."""
    top_level, bottom_level = rng.uniform(-3, 0.4), rng.uniform(6.6, 10.5)
    if rng.random() < 0.12:
        top_level, bottom_level = rng.uniform(0.5, 2), rng.uniform(4.5, 7)
    (top, _), (bottom, _) = (picture.pixels(column.at(x)) / FINE for x in (top_level, bottom_level))
    if rng.random() < 0.25:
        top = rng.uniform(min(-20, top), top)
    middle = picture.middle[0] / FINE
    front = middle - rng.uniform(25, 110) if rng.random() < 0.8 else 0
    behind = middle + rng.uniform(35, 100)
    view = np.zeros((CANVAS_PX, CANVAS_PX), bool)
    view[max(0, int(top)) : max(1, int(bottom)), max(0, int(front)) : max(1, int(behind))] = True
    return view


def _contrast(rng: np.random.Generator) -> np.ndarray:
    """Return the signal of each tissue, (TISSUES,)."""
    signal = np.zeros(TISSUES)
    ranges = CONTRASTS[rng.choice(list(CONTRASTS))]
    by_chance = rng.random() < ANY_CONTRAST_SHARE
    for tissue, (low, high) in ranges.items():
        signal[tissue] = rng.uniform(0.02, 1.1) if by_chance else rng.uniform(low, high)
    if rng.random() < 0.5:  # the back's fat and marrow as in one person
        signal[SACRAL] = signal[MARROW] * rng.uniform(0.9, 1.15)
    return signal


def _acquired(tissues: np.ndarray, view: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the image of tissues on the fine grid: contrast, texture, blur, coil, noise.

    view: (rows, columns) bool, the field of view, whose shape the result has.
    """
    image = _contrast(rng)[tissues].astype(np.float32)
    coarse = _field(rng, image.shape, 5)
    grain = rng.standard_normal(image.shape, np.float32)
    image *= 1 + rng.uniform(0.02, 0.12) * coarse + rng.uniform(0.02, 0.12) * grain
    image = gaussian_filter(image, (rng.uniform(0.3, 1.3), rng.uniform(0.3, 1.3)), truncate=2.5)
    rows, columns = view.shape
    image = image.reshape(rows, FINE, columns, FINE).mean(axis=(1, 3))
    x, z = np.linspace(-1, 1, columns, dtype=np.float32), np.linspace(-1, 1, rows, dtype=np.float32)
    bias = rng.uniform(0, 2.2) * x[None] + rng.normal(0, 0.4) * z[:, None]
    bias = bias - rng.uniform(0, 1.6) * (z[:, None] - rng.normal(0, 0.2)) ** 2
    bias += rng.uniform(0, 0.4) * _field(rng, view.shape, 30)
    image *= np.exp(bias)
    level = float(np.percentile(image[view], 90)) if view.any() else 1.0
    noise = np.float32(level * rng.uniform(0.005, 0.14) * rng.uniform(0.2, 1))
    channels = rng.standard_normal((2, *image.shape), np.float32) * noise
    return (np.hypot(image + channels[0], channels[1]) * view).astype(np.float32)


def _field(rng: np.random.Generator, shape: tuple[int, int], scale: float) -> np.ndarray:
    """Return a smooth random field of SD about 1, float32."""
    count = [int(np.ceil(size / scale)) + 3 for size in shape]
    field = zoom(rng.standard_normal(count).astype(np.float32), scale, order=1)
    return field[: shape[0], : shape[1]] * 1.4
