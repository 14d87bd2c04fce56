"""Synthetic images and labels in random geometry, contrast and artefacts, on a processor or a GPU.

A section is a map of tissues of a synthetic person, without contrast (`synthesis.anatomies`). A picture
is an image with its labels that is drawn from a section. Coordinates in mm: (right, down) in the
picture, (x, y) in the section, x to the right and y down, both from the middle.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch.nn import functional

from paravert.anatomy import LABEL_VALUES, LABELS, OTHER_SIDE
from paravert.errors import InputError
from paravert.network import artefacts
from paravert.network.contrast import MOSTLY_FAT, Contrast, drawn_contrast
from paravert.network.grid import CLIPPED_PERCENTILES
from paravert.network.septa import fat_lines, with_even_fat, with_hidden_septa
from paravert.network.surroundings import with_surroundings
from paravert.synthesis.anatomies import (
    ANATOMY_COLUMNS,
    LAYERS,
    SEED_KEY,
    SIZE_PX,
    SPACING_MM,
    unpacked,
)
from paravert.synthesis.muscle_fat import RANKS, fat_by_rank
from paravert.synthesis.tissues import Tissue

PICTURES_MIRRORED = 0.5  # share of the pictures
TURN_SD_DEG = 6.0
LOG_SIZE_SD = 0.08  # in addition to the differences between people
LOG_STRETCH_SD = 0.05  # of width / height
CENTRE_SD_MM = (22.0, 22.0)  # of the picture's middle from the section's, across and down
ANYWHERE_SHARE = 0.15  # of the pictures, with ANYWHERE_SD_MM instead
ANYWHERE_SD_MM = 45.0
# Smooth deformation: points per axis of coarse grids over the picture, SD (mm) of their displacement.
WAVES = ((4, 3.0), (9, 1.3))
BENT_POINTS = (48, 48)  # bicubic up to this grid, bilinear from it to the pixels
SUBPIXELS = 2  # subpixels per pixel and axis
MIDDLE_LAYER = LAYERS // 2
# Random gain and offset of the standardised picture. In WIDE_SHARE of the pictures they are those of a
# picture that is part of a wide field of view, whose air and fat change mean and SD.
GAIN_SD, OFFSET_SD = 0.15, 0.25
WIDE_SHARE, WIDE_LOG_GAIN, WIDE_OFFSET = 0.5, (0.0, 0.5), (0.0, 1.5)
NO_TABLE = "not a table of draw_anatomies"
SEPTA = (Tissue.FAT, Tissue.VISCERAL_FAT)
# Median and SD of the logit of the fat fraction of each muscle.
FAT_LOGIT = {
    "psoas_major": (-3.1, 0.7),
    "quadratus_lumborum": (-2.7, 0.8),
    "erector_spinae": (-2.3, 0.8),
    "multifidus": (-1.9, 0.9),
}
PERSON_LOGIT_SD, SIDE_LOGIT_SD = 1.1, 0.25  # SD common to all muscles of a picture, and per side
MOST_FAT = 0.8  # largest fat fraction
FAT_SPREAD = (0.6, 2.0)  # of fat over the pixels of a muscle, relative to the phantoms


@dataclass(frozen=True)
class PicturePose:
    """The affine map from a picture to its section: (x, y) = matrix @ (right, down) + centre_mm.

    Picture: synthetic image. Section: map of the tissues of a synthetic person that it is drawn
    from. (right, down) and (x, y): positions in them in mm from their middles, x to the right, y
    down. matrix: NumPy (2, 2). centre_mm: NumPy (2,), position of the picture's middle in the section.
    mirrored: whether the picture shows the mirror image (matrix contains it already), so that left
    and right labels must be exchanged.
    """

    matrix: np.ndarray
    centre_mm: np.ndarray
    mirrored: bool


def drawn_place(rng: np.random.Generator) -> PicturePose:
    """Return a random pose of a picture in its section: rotation, size, stretch, mirror image, position.

    The pose is the affine map from (right, down) in the picture to (x, y) in the section, in mm
    from their middles. Section: map of the tissues of a synthetic person. rng: random numbers.
    """
    turn = np.deg2rad(rng.normal(0, TURN_SD_DEG))
    size, stretch = np.exp(rng.normal(0, LOG_SIZE_SD)), np.exp(rng.normal(0, LOG_STRETCH_SD))
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    scale = np.diag([size * stretch, size / stretch])
    mirrored = bool(rng.random() < PICTURES_MIRRORED)
    flip = np.diag([-1.0 if mirrored else 1.0, 1.0])
    spread = ANYWHERE_SD_MM if rng.random() < ANYWHERE_SHARE else np.array(CENTRE_SD_MM)
    return PicturePose(flip @ rotation @ scale, rng.normal(0, 1, 2) * spread, mirrored)


def picture_grid(
    size_px: int, spacing_mm: float, factor: int, device: torch.device
) -> torch.Tensor:
    """Return (right, down) of the points of a square picture in mm from its middle, float32 (2, n, n).

    size_px: rows, equal to columns, of the picture. spacing_mm: pixel size. factor: points per
    pixel along each axis: n = size_px * factor, and the points are spacing_mm / factor apart.
    device: of the tensor.
    """
    count = size_px * factor
    line = (torch.arange(count, device=device) + 0.5 - count / 2) * (spacing_mm / factor)
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack((x, y))


def placed(
    grid: torch.Tensor, places: list[PicturePose], waves: list[torch.Tensor]
) -> torch.Tensor:
    """Return the position in its section of each point of each picture, float32 (batch, 2, rows, columns).

    (x, y) in mm: x to the right, y down, from the section's middle (section: map of the tissues of a
    synthetic person). grid: (right, down) of the points in mm from a picture's middle, float32 (2, rows,
    columns), from `picture_grid`. places: pose of each picture in its section. waves: random
    displacements in mm on coarse grids, from `drawn_waves`, a tensor (batch, 2, k, k) per grid; they are
    interpolated and added.
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


def section_shifts_mm(shifts_mm: np.ndarray, places: list[PicturePose]) -> np.ndarray:
    """Return displacements in the sections, (x, y), float (batch, 2), in mm.

    shifts_mm: the same displacements in the pictures, (right, down), (batch, 2). places: pose of
    each picture in its section (map of the tissues of a synthetic person). The smooth deformation,
    nearly constant over such a displacement, is neglected.
    """
    return np.stack([place.matrix @ step for place, step in zip(places, shifts_mm, strict=True)])


def drawn_waves(count: int, generator: torch.Generator, device: torch.device) -> list[torch.Tensor]:
    """Return random displacements (x, y) in mm on two coarse grids over each picture (WAVES).

    A list of two tensors, float32 (count, 2, k, k), with k = 4 points (SD 3 mm) and 9 points (SD 1.3 mm)
    along each axis. count: number of pictures. generator: torch's random numbers, on the device. device:
    of the tensors.
    """
    return [
        torch.randn((count, 2, points, points), generator=generator, device=device) * deviation_mm
        for points, deviation_mm in WAVES
    ]


def seed_of(table: Path) -> int:
    """Return the seed of a table of synthetic people; tables with one seed show the same people.

    table: file (.parquet) that the command draw_anatomies wrote. Raises InputError if it is not
    such a file.
    """
    try:
        columns = pq.read_schema(table)
        if set(ANATOMY_COLUMNS.names) <= set(columns.names):
            return int(columns.metadata[SEED_KEY])
    except (OSError, pa.ArrowInvalid, KeyError, TypeError) as error:
        raise InputError(table, NO_TABLE) from error
    raise InputError(table, NO_TABLE)


class Anatomies:
    """The sections of a table of synthetic people, in memory, compressed; len() is their number.

    Section: map of the tissues of a synthetic person in an axial slice. table: file (.parquet) that
    the command draw_anatomies wrote. keep: takes the number of each section's person, NumPy int
    (sections of the table,), and returns which sections are wanted, NumPy bool of this shape; None: all.
    Sections stay in the table's order; the wanted ones are numbered anew from 0. Raises InputError if the
    file is not such a table, or no section is wanted. Attributes: table, the file; levels, vertebral
    level of each section, NumPy float32 (sections,), 1.0 mid L1.
    """

    def __init__(self, table: Path, keep: Callable[[np.ndarray], np.ndarray] | None = None):
        self.table = table
        seed_of(table)
        rows = pq.read_table(table, columns=["person", "level", "maps"])
        if keep is not None:
            rows = rows.filter(pa.array(keep(rows["person"].to_numpy())))
        if not len(rows):
            raise InputError(table, "no section in it")
        self._maps = rows["maps"]
        self.levels = rows["level"].to_numpy()

    def __len__(self) -> int:
        return len(self._maps)

    def sections(self, numbers: Sequence[int]) -> torch.Tensor:
        """Return sections as maps, uint8 (sections, LAYERS + 1, SIZE_PX, SIZE_PX), pixels of SPACING_MM.

        On the CPU. numbers: of the sections, from 0, repetitions allowed. LAYERS is 3, SIZE_PX 512,
        SPACING_MM 0.8. The first LAYERS maps are thin parallel planes within the slice, from caudal to
        cranial; their values are labels 1-8 or `synthesis.tissues.Tissue`; rows run to the back, columns
        to the person's left. The last map is the order in which pixels of muscle become fat as its fat
        fraction grows, from 255 (first) to 0 (last); 0 outside muscle.
        """
        maps = [unpacked(self._maps[int(number)].as_buffer()) for number in numbers]
        return torch.from_numpy(np.stack(maps))


@dataclass(frozen=True)
class Pictures:
    """A batch of synthetic axial MRI slices with their labels.

    images: torch float32 (batch, rows, columns); each is standardised (mean 0, variance 1), then
    gets a random gain and offset. labels: torch uint8, same shape, 1 to 8 as in anatomy.LABELS, 0
    background. contrasts: one per image: the signals of its tissues, before all artefacts.
    """

    images: torch.Tensor
    labels: torch.Tensor
    contrasts: list[Contrast]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute in one thread of the processor inside, then in as many as before.

    A function of many pixels is rounded differently at the ends of the parts that torch gives its threads.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@_one_thread()
def drawn_pictures(
    anatomies: Anatomies,
    numbers: np.ndarray,
    *,
    seed: tuple[int, ...],
    size_px: int,
    spacing_mm: float,
    device: torch.device,
) -> Pictures:
    """Return synthetic images of sections, with their labels and contrasts.

    Images: float32 (batch, rows, columns), standardised, then with a random gain and offset each;
    labels: uint8, same shape, 0-8. Both on the device. Section: map of the tissues of a synthetic
    person in an axial slice.

    anatomies: the sections of a table.
    numbers: of the sections to draw, one per image, int (batch,), from 0, repetitions allowed.
    seed: of all random numbers (pose, contrast, fat, artefacts); on one kind of device, equal
        arguments give equal images.
    size_px, spacing_mm: rows, equal to columns, of an image, and its pixel size.
    device: that computes the images.
    """
    rng = np.random.default_rng([*seed, 71])
    generator = torch.Generator(device).manual_seed(int(rng.integers(2**62)))
    maps = anatomies.sections(numbers)
    surroundings, field, rim = (np.random.default_rng([*seed, key]) for key in (74, 73, 75))
    maps = with_surroundings(maps, anatomies.levels[numbers], surroundings).to(device)
    maps = with_hidden_septa(maps, rng, generator)
    n = len(numbers)
    places = [drawn_place(rng) for _ in range(n)]
    contrasts = [drawn_contrast(rng) for _ in range(n)]
    waves = drawn_waves(n, generator, device)

    centres = placed(picture_grid(size_px, spacing_mm, 1, device), places, waves)
    fine = placed(picture_grid(size_px, spacing_mm, SUBPIXELS, device), places, waves)
    down = artefacts.phase_runs_down(n, rng)
    water, fat = _signal(_read(maps, _cells(fine)), contrasts, rng, generator)
    saturated, shifts, fat_bounds = (
        np.array([getattr(contrast, name) for contrast in contrasts])
        for name in ("saturated", "shifts", "fat_bounds")
    )
    fat *= artefacts.failing_saturation(fine, saturated, rng)
    fine_mm = spacing_mm / SUBPIXELS
    shifts_px = artefacts.drawn_shifts_px(fine_mm, down, shifts, rng)
    signal = water + artefacts.shifted(fat, shifts_px)
    seen_mm = section_shifts_mm(shifts_px * fat_bounds[:, None] * fine_mm, places)
    labels = _labels(maps[:, MIDDLE_LAYER], centres, seen_mm, places)
    # Signed until `noisy` takes the magnitude: where water and fat cancel in opposed phase, a blurred
    # picture has a broad dark line.
    images = functional.avg_pool2d(signal[:, None], SUBPIXELS)[:, 0]
    images = images * artefacts.coil_field(centres, rng) * artefacts.saturation_band(centres, rng)
    images *= artefacts.lateral_saturation(centres, field)
    outer_fat = _read(maps[:, MIDDLE_LAYER, None], _cells(centres))[:, 0] == Tissue.FAT
    images *= artefacts.bright_rim(outer_fat, spacing_mm, rim)
    images, inside = artefacts.wrapped(artefacts.moved(images, rng), down, rng)
    images = artefacts.blurred(artefacts.ghosted(images, down, rng), down, rng)
    images = artefacts.noisy(images, rng, generator)
    inside &= artefacts.field_of_view(tuple(images.shape), rng).to(device)
    inside &= artefacts.small_field(centres, field)
    images = artefacts.as_stored(images, rng) * inside
    return Pictures(_standardised(images, rng), labels * inside, contrasts)


def _cells(points: torch.Tensor) -> torch.Tensor:
    """Return the flat index of the nearest pixel of the section, int64 (batch, rows, columns).

    points: (x, y) in mm, (batch, 2, rows, columns); beyond the section, its nearest edge pixel.
    """
    middle = (SIZE_PX - 1) / 2
    x, y = (points / SPACING_MM + middle).round_().clamp_(0, SIZE_PX - 1).unbind(1)
    return (y * SIZE_PX + x).long()


def _labels(
    tissues: torch.Tensor, points: torch.Tensor, shifts_mm: np.ndarray, places: list[PicturePose]
) -> torch.Tensor:
    """Return the visible label at the centre of each pixel, uint8 (batch, rows, columns).

    tissues: (batch, SIZE_PX, SIZE_PX), middle layer of the sections. points: (x, y) of the pixels,
    (batch, 2, rows, columns), mm. shifts_mm: chemical shift of fat in the sections, (batch, 2): shifted
    fat covers muscle, and its gap looks like muscle, which is the edge that a rater draws. The label at
    the centre, not the one of most of the pixel, which would close thin septa and enlarge muscles.
    """
    shifts = torch.from_numpy(shifts_mm).to(points)[:, :, None, None]
    water, fat = (_read(tissues[:, None], _cells(p))[:, 0] for p in (points, points - shifts))
    fatty = torch.tensor(MOSTLY_FAT, dtype=torch.uint8, device=tissues.device)
    values = torch.where(torch.isin(water, fatty) | torch.isin(fat, fatty), fat, water)
    labels = torch.where(values <= LABEL_VALUES[-1], values, 0)
    swap = torch.tensor(OTHER_SIDE, dtype=torch.uint8, device=labels.device)
    for number, place in enumerate(places):
        if place.mirrored:
            labels[number] = swap[labels[number].long()]
    return labels


def _read(maps: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
    """Return values of maps (batch, k, SIZE_PX, SIZE_PX) at flat indices: (batch, k, rows, columns)."""
    n, k = maps.shape[:2]
    found = [part.flatten(1).gather(1, cells.flatten(1)) for part in maps.unbind(1)]
    return torch.stack(found, dim=1).view(n, k, *cells.shape[1:])


def _signal(
    maps: torch.Tensor,
    contrasts: list[Contrast],
    rng: np.random.Generator,
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the signed signals of water and of fat, each float32 (batch, rows, columns).

    maps: (batch, LAYERS + 1, rows, columns), tissues of the layers and order of fat, as of
    `Anatomies.sections`. The signals are means over the layers (partial volume).
    """
    device, tissues = maps.device, maps[:, :LAYERS]
    water_of, fat_of, texture = (
        torch.from_numpy(np.stack([getattr(one, name) for one in contrasts])).to(device)
        for name in ("water", "of_fat", "texture")
    )
    muscle = tissues <= LABEL_VALUES[-1]
    muscle &= tissues > 0
    shown = torch.where(muscle, tissues, 0).amax(dim=1)  # the muscle of any layer
    fat_of_muscle = torch.from_numpy(_drawn_fat(len(contrasts), rng)).to(device)
    fraction = _looked_up(fat_of_muscle.flatten(1), shown.int() * RANKS + maps[:, LAYERS])
    fraction = with_even_fat(fraction, shown, rng, generator)
    fraction = torch.maximum(fraction, fat_lines(shown, rng, generator))
    ends = torch.tensor([(c.lean, c.fat) for c in contrasts], device=device)[..., None, None]
    flesh, marbling = (1 - fraction) * ends[:, 0], fraction * ends[:, 1]
    water, fat = torch.zeros_like(flesh), torch.zeros_like(flesh)
    for layer in range(LAYERS):
        in_muscle = muscle[:, layer]
        water += torch.where(in_muscle, flesh, _looked_up(water_of, tissues[:, layer]))
        fat += torch.where(in_muscle, marbling, _looked_up(fat_of, tissues[:, layer]))
    middle = tissues[:, MIDDLE_LAYER]
    grain = _looked_up(texture, middle)
    field = _texture(water.shape, device, generator)
    uneven = torch.addcmul(torch.ones((), device=device), grain, field)
    uneven *= _septa(middle, rng, generator) / LAYERS
    region = (shown > 0) | (middle == Tissue.SEPTUM)
    return tuple(artefacts.soft_borders((water * uneven, fat * uneven), region, rng))


def _looked_up(table: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Return entries of tables (batch, entries), one per picture, at values (batch, rows, columns)."""
    return table.gather(1, values.flatten(1).long()).view(values.shape)


def _drawn_fat(n: int, rng: np.random.Generator) -> np.ndarray:
    """Return random fat fractions of muscle pixels by label and rank, float32 (n, labels + 1, RANKS).

    The rank is that of `Anatomies.sections`. Label 0, outside muscle, has no fat.
    """
    fat = np.zeros((n, LABEL_VALUES[-1] + 1, RANKS), np.float32)
    spread = np.exp(rng.uniform(*np.log(FAT_SPREAD), n))
    person = rng.normal(0, PERSON_LOGIT_SD, n)
    of_muscle = {name: rng.normal(*FAT_LOGIT[name], n) for name in FAT_LOGIT}
    for label in LABELS:
        logit = person + of_muscle[label.muscle] + rng.normal(0, SIDE_LOGIT_SD, n)
        fat[:, label.value] = fat_by_rank(np.minimum(1 / (1 + np.exp(-logit)), MOST_FAT), spread)
    return fat


def _texture(shape: torch.Size, device: torch.device, generator: torch.Generator) -> torch.Tensor:
    """Return random smooth fields, float32 of this shape, variance about 1: a coarse plus a fine one."""
    n, rows, columns = shape
    total = torch.zeros(shape, device=device)
    for step, weight in ((8, 0.9), (2, 1.1)):
        field = torch.randn(
            (n, 1, rows // step, columns // step), generator=generator, device=device
        )
        total += (
            weight
            * functional.interpolate(
                field, size=(rows, columns), mode="bilinear", align_corners=False
            )[:, 0]
        )
    return total


def _septa(
    tissue: torch.Tensor, rng: np.random.Generator, generator: torch.Generator
) -> torch.Tensor:
    """Return the factor, 0-1, by which thin septa darken fat, float32 (batch, rows, columns).

    tissue: (batch, rows, columns). Septa lie where a random smooth field crosses zero.
    """
    n, rows, columns = tissue.shape
    field = torch.randn(
        (n, 1, rows // 40, columns // 12), generator=generator, device=tissue.device
    )
    field = functional.interpolate(field, size=(rows, columns), mode="bicubic")[:, 0]
    depth = torch.from_numpy(rng.uniform(0, 0.5, n).astype(np.float32)).to(field)
    lines = torch.exp(-field.abs() * 12) * depth[:, None, None]
    fatty = (tissue == SEPTA[0]) | (tissue == SEPTA[1])
    return 1 - lines * fatty


def _standardised(images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Return images clipped and standardised as by `grid.standardise`, with random gain and offset.

    float32 (batch, rows, columns), each image for itself.
    """
    n = len(images)
    some = images.flatten(1)[:, ::5]
    shares = torch.tensor(CLIPPED_PERCENTILES, device=images.device) / 100
    ends = torch.quantile(some, shares, dim=1)
    images = images.clamp(ends[0][:, None, None], ends[1][:, None, None])
    mean, spread = images.mean((1, 2)), images.std((1, 2)).clamp_min(1e-6)
    wide = rng.random(n) < WIDE_SHARE
    log_gain = rng.normal(0, GAIN_SD, n) + wide * rng.uniform(*WIDE_LOG_GAIN, n)
    offset = rng.normal(0, OFFSET_SD, n) + wide * rng.uniform(*WIDE_OFFSET, n)
    gain, offset = (
        torch.from_numpy(values.astype(np.float32)).to(images)[:, None, None]
        for values in (np.exp(log_gain), offset)
    )
    return (images - mean[:, None, None]) / spread[:, None, None] * gain + offset
