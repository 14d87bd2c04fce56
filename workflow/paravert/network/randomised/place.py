"""Random geometry of a training slice: position, rotation, scale and a smooth deformation."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

PICTURES_MIRRORED = 0.5
TURN_SD_DEG = 6.0
LOG_SIZE_SD = 0.08  # besides what people differ by
LOG_STRETCH_SD = 0.05  # of width against height
CENTRE_SD_MM = (22.0, 22.0)  # across and down, of the picture's middle from the spine
ANYWHERE_SHARE = 0.15  # of the pictures lie further off
ANYWHERE_SD_MM = 45.0
# Deformation: points of the coarse grids over the picture, and standard deviation in mm.
WAVES = ((4, 3.0), (9, 1.3))
BENT_POINTS = (48, 48)  # on which both are smooth enough to go on along straight lines


@dataclass(frozen=True)
class PicturePose:
    """Affine part of one picture's geometry.

    matrix: from (right, down) in the picture to (x, y) in the section, both in mm from their
    middles. centre_mm: (x, y) of the picture's middle. mirrored: sides change places.
    """

    matrix: np.ndarray
    centre_mm: np.ndarray
    mirrored: bool


def drawn_place(rng: np.random.Generator) -> PicturePose:
    """Return a random pose."""
    turn = np.deg2rad(rng.normal(0, TURN_SD_DEG))
    size, stretch = np.exp(rng.normal(0, LOG_SIZE_SD)), np.exp(rng.normal(0, LOG_STRETCH_SD))
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    scale = np.diag([size * stretch, size / stretch])
    mirrored = bool(rng.random() < PICTURES_MIRRORED)
    flip = np.diag([-1.0 if mirrored else 1.0, 1.0])
    spread = ANYWHERE_SD_MM if rng.random() < ANYWHERE_SHARE else np.array(CENTRE_SD_MM)
    return PicturePose(flip @ rotation @ scale, rng.normal(0, 1, 2) * spread, mirrored)


def picture_grid(size_px: int, spacing_mm: float, factor: int, device: torch.device):
    """Return (x, y) in mm of the points of a square picture, (2, n, n) with n = size_px * factor."""
    count = size_px * factor
    line = (torch.arange(count, device=device) + 0.5 - count / 2) * (spacing_mm / factor)
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack((x, y))


def placed(
    grid: torch.Tensor, places: list[PicturePose], waves: list[torch.Tensor]
) -> torch.Tensor:
    """Return where each point of each picture lies in its section, (n, 2, rows, columns), in mm.

    waves: coarse displacements in mm, each (n, 2, k, k), as `drawn_waves` gives them.
    """
    matrix = torch.from_numpy(np.stack([place.matrix for place in places])).to(grid)
    centre = torch.from_numpy(np.stack([place.centre_mm for place in places])).to(grid)
    points = torch.einsum("nij,jrc->nirc", matrix, grid) + centre[:, :, None, None]
    bend = sum(
        functional.interpolate(wave, size=BENT_POINTS, mode="bicubic", align_corners=True)
        for wave in waves
    )
    size = grid.shape[1:]
    points += functional.interpolate(bend, size=size, mode="bilinear", align_corners=True)
    return points


def in_section(shifts_mm: np.ndarray, places: list[PicturePose]) -> np.ndarray:
    """Return what steps in each picture, (right, down), are in its section, (x, y), (n, 2), in mm.

    The deformation, which hardly changes from one end of a step to the other, is left out.
    """
    return np.stack([place.matrix @ step for place, step in zip(places, shifts_mm, strict=True)])


def drawn_waves(count: int, generator: torch.Generator, device: torch.device):
    """Draw the coarse displacements of several pictures."""
    return [
        torch.randn((count, 2, points, points), generator=generator, device=device) * deviation_mm
        for points, deviation_mm in WAVES
    ]
