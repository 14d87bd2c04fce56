"""Coarse synthetic axial slices with their levels, drawn a hundred times as fast as `randomised` does.

Sections of people (`synthesis.anatomies`) are shown at 4 mm per pixel in random position, contrast, coil,
noise and field of view.
"""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from torch.nn import functional

from paravert.anatomy import LABEL_VALUES, LABELS, MUSCLES
from paravert.network import artefacts
from paravert.network.axial_net import CELLS, FOLD, MAPS, PIXEL_MM, SIZE_PX, standardised
from paravert.network.contrast import Contrast, drawn_contrast
from paravert.network.randomised import (
    FAT_LOGIT,
    MIDDLE_LAYER,
    MOST_FAT,
    PERSON_LOGIT_SD,
    PicturePose,
    drawn_place,
    drawn_waves,
    picture_grid,
    placed,
)
from paravert.synthesis.anatomies import SIZE_PX as SECTION_PX
from paravert.synthesis.anatomies import SPACING_MM, unpacked
from paravert.synthesis.signal import BEHIND_SPINE_MM

STEP = 2  # every second pixel of a section is kept
SUBPIXELS = 2  # per pixel of a picture and axis
FAT_SIDE_SD = 0.25  # of the logit of the fat fraction, of a muscle of one side
# Field of view of the pictures: share of them, length of its sides, distance from the column.
CUT_SHARE, CUT_MM, CUT_OFF_SD_MM = 0.7, (150.0, 288.0), 12.0
LOG_SIDES_SD = 0.08  # of the length of its sides
GAIN_SD, OFFSET_SD = 0.1, 0.15  # of the standardised picture

# images, (batch, 2, SIZE_PX, SIZE_PX), see `axial_net.standardised`; levels, (batch,); share of background
# and muscles, (batch, MAPS, CELLS, CELLS); middle of the column, (batch, 2), (row, column) in cells
Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


class CoarseSections:
    """Sections of people, coarse and in memory.

    table: file of draw_anatomies. levels: (sections,), float32. people: (sections,), number of the
    person.
    """

    def __init__(self, table: Path):
        rows = pq.read_table(table, columns=["level", "person", "maps"])
        self.levels = rows["level"].to_numpy()
        self.people = rows["person"].to_numpy()
        coarse = [
            unpacked(maps.as_buffer())[MIDDLE_LAYER, ::STEP, ::STEP].copy() for maps in rows["maps"]
        ]
        self._maps = torch.from_numpy(np.stack(coarse))

    def __len__(self) -> int:
        return len(self.levels)

    def batch(
        self, numbers: np.ndarray, seed: tuple[int, ...], contrast: Contrast | None = None
    ) -> Batch:
        """Return pictures of sections, then the same pictures mirrored, in another field of view and gain.

        numbers: of the sections, (pictures,). seed: of all random numbers. contrast: of all pictures;
        None: each has another.
        """
        rng = np.random.default_rng([*seed, 91])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        n = len(numbers)
        places = [drawn_place(rng) for _ in range(n)]
        contrasts = [contrast or drawn_contrast(rng) for _ in range(n)]
        grid = picture_grid(SIZE_PX, PIXEL_MM, SUBPIXELS, torch.device("cpu"))
        points = placed(grid, places, drawn_waves(n, generator, torch.device("cpu")))
        tissues = self._at(torch.from_numpy(numbers), points)
        images = _pictures(tissues, points, contrasts, rng, generator)
        shares, middle = _shares(tissues), _middle_mm(places)
        levels = torch.from_numpy(self.levels[numbers])
        views = [
            _view(images, levels, shares, middle, rng),
            _view(images.flip(-1), levels, shares.flip(-1), middle * (1, -1), rng),
        ]
        return tuple(torch.cat(parts) for parts in zip(*views, strict=True))

    def _at(self, numbers: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        """Return the tissues at points (pictures, 2, rows, columns), (x, y) in mm; uint8."""
        size = self._maps.shape[-1]
        middle = (SECTION_PX - 1) / 2 / STEP
        x, y = (points / (SPACING_MM * STEP) + middle).round().clamp(0, size - 1).long().unbind(1)
        return self._maps[numbers[:, None, None], y, x]


def _pictures(
    tissues: torch.Tensor,
    points: torch.Tensor,
    contrasts: list[Contrast],
    rng: np.random.Generator,
    generator: torch.Generator,
) -> torch.Tensor:
    """Return pictures, float32 (pictures, SIZE_PX, SIZE_PX), as a scanner stores them."""
    n = len(contrasts)
    water, fat, texture = (
        np.stack([getattr(one, name) for one in contrasts])
        for name in ("water", "of_fat", "texture")
    )
    fraction = _fat_fractions(n, rng)
    lean, pure = (np.array([[getattr(one, k)] for one in contrasts]) for k in ("lean", "fat"))
    water[:, LABEL_VALUES], fat[:, LABEL_VALUES] = (1 - fraction) * lean, fraction * pure
    index = tissues.flatten(1).long()
    water, fat, texture = (
        torch.from_numpy(one.astype(np.float32)).gather(1, index).view(tissues.shape)
        for one in (water, fat, texture)
    )
    saturated = np.array([one.saturated for one in contrasts])
    fat *= artefacts.failing_saturation(points, saturated, rng)
    grain = torch.randn(tissues.shape, generator=generator)
    signal = (water + fat) * (1 + 1.5 * texture * grain)
    images = functional.avg_pool2d(signal[:, None], SUBPIXELS)[:, 0].abs()
    centres = functional.avg_pool2d(points, SUBPIXELS)
    images = images * artefacts.coil_field(centres, rng) * artefacts.saturation_band(centres, rng)
    return artefacts.shown(artefacts.noisy(images, rng, generator), rng)


def _fat_fractions(n: int, rng: np.random.Generator) -> np.ndarray:
    """Return the fat fraction of each muscle, (n, labels)."""
    person = rng.normal(0, PERSON_LOGIT_SD, n)
    of_muscle = {name: rng.normal(*FAT_LOGIT[name], n) for name in FAT_LOGIT}
    logits = [person + of_muscle[one.muscle] + rng.normal(0, FAT_SIDE_SD, n) for one in LABELS]
    return np.minimum(1 / (1 + np.exp(-np.stack(logits, axis=1))), MOST_FAT)


def _shares(tissues: torch.Tensor) -> torch.Tensor:
    """Return the share of background and of each muscle in each cell, (batch, MAPS, CELLS, CELLS)."""
    muscle = torch.zeros(256, dtype=torch.uint8)
    for label in LABELS:
        muscle[label.value] = 1 + MUSCLES.index(label.muscle)
    own = muscle[tissues.long()]
    masks = torch.stack([own == value for value in range(MAPS)], dim=1).float()
    return functional.avg_pool2d(masks, SUBPIXELS * FOLD)


def _middle_mm(places: list[PicturePose]) -> np.ndarray:
    """Return the column's middle in each picture, (pictures, 2), (down, right) from the picture's middle."""
    spine = np.array([0.0, -BEHIND_SPINE_MM])  # (x, y) in the section
    found = [np.linalg.solve(place.matrix, spine - place.centre_mm) for place in places]
    return np.stack(found)[:, ::-1]


def _view(
    images: torch.Tensor,
    levels: torch.Tensor,
    shares: torch.Tensor,
    middle_mm: np.ndarray,
    rng: np.random.Generator,
) -> Batch:
    """Return pictures in random fields of view and gains, as a batch."""
    n = len(images)
    inside = _fields_of_view(middle_mm, rng)
    seen = standardised(images, inside)
    gain, offset = np.exp(rng.normal(0, GAIN_SD, n)), rng.normal(0, OFFSET_SD, n)
    gain, offset = (torch.from_numpy(v).float()[:, None, None] for v in (gain, offset))
    seen[:, 0] = (seen[:, 0] * gain + offset) * inside
    muscles = shares[:, 1:] * functional.avg_pool2d(inside[:, None].float(), FOLD)
    shares = torch.cat((1 - muscles.sum(1, keepdim=True), muscles), dim=1)
    cells = torch.from_numpy(middle_mm / (FOLD * PIXEL_MM) + (CELLS - 1) / 2).float()
    return seen, levels, shares, cells


def _fields_of_view(middle_mm: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
    """Return random fields of view about the column, bool (pictures, SIZE_PX, SIZE_PX).

    middle_mm: of the column, (pictures, 2), (down, right) from the picture's middle.
    """
    n = len(middle_mm)
    line = (np.arange(SIZE_PX) + 0.5 - SIZE_PX / 2) * PIXEL_MM
    size = rng.uniform(*CUT_MM, n)[:, None] * np.exp(rng.normal(0, LOG_SIDES_SD, (n, 2)))
    size[rng.random(n) >= CUT_SHARE] = np.inf
    centre = middle_mm + (BEHIND_SPINE_MM, 0) + rng.normal(0, CUT_OFF_SD_MM, (n, 2))
    rows, columns = (
        abs(line - own[:, None]) <= side[:, None] / 2
        for own, side in zip(centre.T, size.T, strict=True)
    )
    return torch.from_numpy(rows[:, :, None] & columns[:, None, :])
