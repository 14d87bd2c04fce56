"""Augmentation of training slices: position, mirror image, pose, contrast, bias field, noise.

All random numbers come from the generator given: the same generator gives the same crop.
"""

import numpy as np
from scipy import ndimage

from paravert.anatomy import OTHER_SIDE

MIRRORED_SHARE = 0.5
ROTATION_SD_DEG = 5.0
LOG_SCALE_SD = 0.08
LOG_GAMMA_SD = 0.2
LOG_CONTRAST_SD = 0.1
BRIGHTNESS_SD = 0.1
BIAS_SD = 0.2  # of the logarithm of the field, per polynomial term
NOISE_MAXIMUM = 0.2  # standard deviation, in those of the stack


def training_crop(
    image: np.ndarray, truth: np.ndarray, size_px: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return a varied square crop of a slice: float32 and uint8, (size_px, size_px).

    image: (rows, columns), standardised; truth: labels on the same grid. What lies beyond the edge
    repeats it, as in prediction.
    """
    image, truth = cut(image, truth, size_px, drawn_pose(image.shape, size_px, rng))
    if rng.random() < MIRRORED_SHARE:
        image, truth = mirrored_slice(image, truth)
    return varied_intensity(image, rng), truth


def mirrored_slice(image: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a slice as its mirror image, columns reversed: what was left is labelled right."""
    return image[:, ::-1], np.array(OTHER_SIDE, dtype=truth.dtype)[truth[:, ::-1]]


def drawn_pose(
    shape: tuple[int, int], size_px: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return matrix and offset from crop pixel (row, column) to image pixel: matrix @ p + offset.

    Rotation and scale are drawn about the centre; the crop lies anywhere inside the image or, along
    an axis where the crop is the larger one, around it.
    """
    angle = np.deg2rad(rng.normal(0, ROTATION_SD_DEG))
    scale = np.exp(rng.normal(0, LOG_SCALE_SD))
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    ends = [sorted((size_px / 2, pixels - size_px / 2)) for pixels in shape]
    centre = np.array([rng.uniform(*end) for end in ends]) - 0.5
    return turn, centre - turn @ np.full(2, (size_px - 1) / 2)


def cut(
    image: np.ndarray, truth: np.ndarray, size_px: int, pose: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return image (bilinear) and truth (nearest) in a square crop; pose as in `drawn_pose`."""
    how = {"output_shape": (size_px, size_px), "mode": "nearest"}
    return (
        ndimage.affine_transform(image.astype(np.float32), *pose, order=1, **how),
        ndimage.affine_transform(truth, *pose, order=0, **how),
    )


def varied_intensity(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a crop with another bias field, gamma, contrast, brightness and noise, float32."""
    floor, top = image.min(), np.ptp(image)
    if top > 0:
        relative = (image - floor) * drawn_bias(image.shape, rng) / top
        image = floor + top * relative ** np.exp(rng.normal(0, LOG_GAMMA_SD))
    image = image * np.exp(rng.normal(0, LOG_CONTRAST_SD)) + rng.normal(0, BRIGHTNESS_SD)
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    return (image + rng.uniform(0, NOISE_MAXIMUM) * noise).astype(np.float32)


def drawn_bias(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Return a smooth field around 1, (rows, columns): exp of a quadratic polynomial."""
    y, x = (np.linspace(-1, 1, pixels, dtype=np.float32) for pixels in shape)
    y = y[:, None]
    a = rng.normal(0, BIAS_SD, 5).astype(np.float32)
    return np.exp(
        a[0] * x + a[1] * y + a[2] * x * y + a[3] * (x * x - 1 / 3) + a[4] * (y * y - 1 / 3)
    )
