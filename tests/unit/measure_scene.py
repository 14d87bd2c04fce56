"""A schematic subject with known fat: eight muscles in a body of fat.

Pixels of muscle are lean or fat, or, where asked, hold some of both, as in a Dixon scan.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

LEAN, FAT = 150.0, 700.0
# Label value to centre (row, column) and half axes (rows, columns), in pixels.
MUSCLES = {
    1: ((50, 128), (17, 12)),
    2: ((50, 72), (17, 12)),
    3: ((62, 150), (8, 13)),
    4: ((62, 50), (8, 13)),
    5: ((95, 128), (15, 19)),
    6: ((95, 72), (15, 19)),
    7: ((95, 107), (18, 6)),
    8: ((95, 93), (18, 6)),
}
SHARES = (0.03, 0.05, 0.08, 0.12, 0.2, 0.25, 0.35, 0.45)
SHAPE = (140, 200)  # rows, columns


@dataclass(frozen=True)
class Scene:
    """image: (slices, rows, columns), float64. labels: likewise. share: true fat, (slices, 8)."""

    image: np.ndarray
    labels: np.ndarray
    share: np.ndarray


def outlines(slices: int) -> np.ndarray:
    """Return the label map of all slices."""
    row, column = np.mgrid[: SHAPE[0], : SHAPE[1]]
    plane = np.zeros(SHAPE, dtype=np.uint8)
    for value, ((y, x), (a, b)) in MUSCLES.items():
        plane[((row - y) / a) ** 2 + ((column - x) / b) ** 2 <= 1] = value
    return np.repeat(plane[None], slices, axis=0)


def scene(
    slices=3, shares=SHARES, noise=15.0, shading=0.0, lateral=0.0, seed=0, logit_sd=None
) -> Scene:
    """Plant a share of fat in each muscle.

    shading: relative gain from front to back. lateral: from right to left, in front; none at the back.
    logit_sd: of the fat fractions of a muscle's pixels; None: a share of the pixels is pure fat.
    """
    draw = np.random.default_rng(seed)
    labels = outlines(slices)
    row, column = np.mgrid[: SHAPE[0], : SHAPE[1]]
    body = ((row - 65) / 66) ** 2 + ((column - 100) / 98) ** 2 <= 1
    image = np.repeat(np.where(body, FAT, 0.0)[None], slices, axis=0)
    truth = np.zeros((slices, 8))
    for value, share in enumerate(shares, start=1):
        fat = draw.random(labels.shape) < share
        if logit_sd is not None and share > 0:
            spread = logit_sd * draw.normal(size=labels.shape)
            fat = expit(
                spread + brentq(lambda x, s=spread, m=share: expit(s + x).mean() - m, -9, 9)
            )
        image[labels == value] = (LEAN + fat * (FAT - LEAN))[labels == value]
        truth[:, value - 1] = [fat[z][labels[z] == value].mean() for z in range(slices)]
    depth, width = row / SHAPE[0] - 0.5, column / SHAPE[1] - 0.5
    image *= 1 + shading * (depth + 0.6 * width) + lateral * width * (0.5 - depth)
    return Scene(image + draw.normal(0, noise, image.shape), labels, truth)
