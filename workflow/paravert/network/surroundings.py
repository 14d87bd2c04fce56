"""Structures beside the muscles that people of `draw_anatomies` lack, painted into their sections.

Real slices show muscle that has no label against psoas and quadratus: intertransversarii behind the
psoas, crura in front of the spine, the diaphragm in front of both muscles, the flat muscles of the
abdomen beside the quadratus. A network that in training always saw fat there takes them for psoas
or quadratus. Fat lies between lamina and multifidus, and over the sacrum an aponeurosis covers it.

Coordinates of a section: mm from the spine's axis, x to the right of the picture, y to the back.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from scipy.ndimage import (
    distance_transform_edt,
    minimum_filter1d,
    uniform_filter,
    uniform_filter1d,
)
from skimage.morphology import isotropic_closing

from paravert.anatomy import LABEL_VALUES, LABELS, SIDES, label_value
from paravert.synthesis.anatomies import LAYERS, SIZE_PX, SPACING_MM
from paravert.synthesis.signal import BEHIND_SPINE_MM
from paravert.synthesis.tissues import Tissue

X_MM = (np.arange(SIZE_PX) - (SIZE_PX - 1) / 2) * SPACING_MM
Y_MM = X_MM + BEHIND_SPINE_MM
# Scale of the laminar fat's width relative to the square root of the multifidus' area, and pixels
# over which the width varies.
RIM_SHARE, RIM_CELL_PX = (0.06, 0.16), 12
# x and y (mm) of a window around the posterior outline of the back muscles.
BEHIND = ((-110, 110), (25, 110))
NOTCH_PX = 8  # half the width of the notches that `smooth_back` fills
TOUCHING_PX = 4  # largest gap between muscles with an island of fat between them

LOOSE_FAT = (Tissue.VISCERAL_FAT, Tissue.EPIDURAL_FAT, Tissue.FAT)
SOFT = (*LOOSE_FAT, Tissue.BOWEL_WALL, Tissue.BOWEL_CONTENT, Tissue.BOWEL_FLUID, Tissue.PANCREAS)
BONE = (Tissue.MARROW, Tissue.CORTEX, Tissue.INTERSPINOUS, Tissue.LIGAMENT)
VERTEBRA = (
    *(Tissue.MARROW, Tissue.CORTEX, Tissue.VEIN_IN_BONE),
    *(Tissue.ANNULUS, Tissue.INNER_ANNULUS, Tissue.NUCLEUS),
)
MULTIFIDI = tuple(label_value("multifidus", side) for side in SIDES)
QUADRATI = tuple(label_value("quadratus_lumborum", side) for side in SIDES)
ERECTORS = tuple(label_value("erector_spinae", side) for side in SIDES)
BACK = tuple(lab.value for lab in LABELS if lab.muscle in ("erector_spinae", "multifidus"))
BODY_POWER = 2.45  # of the superellipse of a vertebral body (`synthesis.vertebrae.body_outline`)
BODY_LIMITS = (0.8, 1.25)  # of the size of a person relative to the reference man


@dataclass(frozen=True)
class Section:
    """One section to paint into.

    tissues: NumPy uint8 (LAYERS, SIZE_PX, SIZE_PX) = (3, 512, 512), pixels of 0.8 mm, labels 1-8 or values
    of `Tissue`. Layers: thin planes within the thickness of the slice, from caudal to cranial; rows run to
    the back, columns to the subject's left. The functions that paint change it in place. level: vertebral
    level (1.0 mid L1, 6.0 S1). rng: random sizes and places.
    """

    tissues: np.ndarray
    level: float
    rng: np.random.Generator

    @cached_property
    def size(self) -> float:
        """Size of the person relative to the reference man of 178 cm, 0.8 to 1.25 (property).

        From the width of the vertebra.
        """
        line = _is_any(VERTEBRA)[self.tissues[LAYERS // 2, _row_at(0.0)]]
        middle = SIZE_PX // 2
        right, left = (int(np.argmin(side)) for side in (line[middle:], line[middle::-1]))
        drawn_mm = 2 * (22 + np.clip(self.level - 1, -2, 5))
        return float(np.clip((right + left) * SPACING_MM / drawn_mm, *BODY_LIMITS))

    def paint(
        self,
        inside: np.ndarray,
        corner: tuple[int, int],
        tissue: int,
        over: Iterable[int] = LOOSE_FAT,
    ) -> None:
        """Give pixels of all layers a tissue, where their value so far is one of `over`.

        inside: True where to paint, bool (rows, columns) for all layers, or (LAYERS, rows, columns).
        corner: row and column of its first pixel in the section, which must contain all of it. tissue:
        new value. over: values that are replaced; default: fat of Tissue.VISCERAL_FAT, EPIDURAL_FAT, FAT.
        """
        rows, columns = inside.shape[-2:]
        part = self.tissues[:, corner[0] : corner[0] + rows, corner[1] : corner[1] + columns]
        part[_is_any(tuple(over))[part] & inside] = tissue


def with_surroundings(
    maps: torch.Tensor, levels: np.ndarray, rng: np.random.Generator
) -> torch.Tensor:
    """Return sections (tissues of synthetic people in axial slices) with structures beside the muscles.

    They are muscles without a label, ligaments and fat, each in its share of the sections at its levels
    (STRUCTURES). Of these, `laminar_fat`, `fat_behind_quadratus` and `dents` turn pixels with a label
    into fat, as a rater leaves out fat of more than a pixel, and `smooth_back` gives labels to fat,
    fascia and septum; the others change no label. maps: uint8 (batch, LAYERS + 1, SIZE_PX, SIZE_PX), on
    the CPU, from `Anatomies.sections`; changed in place and returned. levels: vertebral level of each,
    (batch,), 1.0 mid L1. rng: random numbers.
    """
    for one, level in zip(maps.numpy(), levels, strict=True):
        chances, seeds = rng.random(len(STRUCTURES)), rng.integers(2**62, size=len(STRUCTURES))
        for (draw, share, (first, last)), chance, seed in zip(
            STRUCTURES, chances, seeds, strict=True
        ):
            if first <= level <= last and chance < share:
                draw(Section(one[:LAYERS], float(level), np.random.default_rng(seed)))
    return maps


def _row_at(y_mm: float) -> int:
    """Return the row of a section nearest to y in mm behind the spine's axis."""
    return round((y_mm - Y_MM[0]) / SPACING_MM)


def _column_at(x_mm: float) -> int:
    """Return the column of a section nearest to x in mm to the right of the spine's axis."""
    return round((x_mm - X_MM[0]) / SPACING_MM)


@lru_cache
def _is_any(values: tuple[int, ...]) -> np.ndarray:
    """Return a table that is True at these values, bool (256,)."""
    table = np.zeros(256, bool)
    table[list(values)] = True
    return table


def _ellipse(
    centre: tuple[float, float], radii: tuple[float, float], turn_deg: float = 0.0
) -> tuple[np.ndarray, tuple[int, int]]:
    """Return an ellipse as mask and corner for `Section.paint`.

    centre, radii: (x, y) in mm. turn_deg: rotation from x towards y.
    """
    reach = max(radii)
    (top, bottom), (left, right) = (
        (at(middle - reach), at(middle + reach) + 1)
        for at, middle in ((_row_at, centre[1]), (_column_at, centre[0]))
    )
    x, y = X_MM[left:right] - centre[0], (Y_MM[top:bottom] - centre[1])[:, None]
    turn = np.deg2rad(turn_deg)
    along = (x * np.cos(turn) + y * np.sin(turn)) / radii[0]
    across = (y * np.cos(turn) - x * np.sin(turn)) / radii[1]
    return along**2 + across**2 < 1, (top, left)


def _noise(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Return random values of mean 0 and SD 1, alike within three pixels, float (rows, columns)."""
    return uniform_filter(rng.random(shape) - 0.5, 3) * 3 * 12**0.5


def _window(x_mm: tuple[float, float], y_mm: tuple[float, float]) -> tuple[slice, slice]:
    """Return rows and columns between these limits."""
    return slice(*map(_row_at, y_mm)), slice(*map(_column_at, x_mm))


# --- the structures ------------------------------------------------------------------------------


def intertransverse_muscles(section: Section) -> None:
    """Paint the intertransversarii: muscle with patches of fat between psoas, quadratus and facet joint.

    On both sides; fat becomes Tissue.WALL_MUSCLE, in place.
    """
    rng = section.rng
    # 1 between two transverse processes, smaller beside one.
    between = 1 - abs((section.level + 0.05) % 1.0 - 0.55) / 0.8
    for side in (1, -1):
        fat = rng.uniform(-2.5, -0.5)  # SD of the noise below which muscle is fat
        for x, y, wide, tall in ((33, 21, 8.5, 9.0), (43, 28, 7.0, 4.0)):
            spread = section.size * between * np.exp(rng.normal(0, 0.3, 2))
            centre = section.size * (np.array((x, y)) + rng.normal(0, 2.5, 2)) * (side, 1)
            mask, corner = _ellipse(
                tuple(centre), tuple(spread * (wide, tall)), rng.uniform(-40, 40)
            )
            mask &= _noise(mask.shape, rng) > fat
            section.paint(mask, corner, Tissue.WALL_MUSCLE)


def crura(section: Section) -> None:
    """Paint the crura of the diaphragm: bands on the front of the vertebra, thinner towards L3.

    Fat, bowel and pancreas become Tissue.WALL_MUSCLE, in place. The left one ends at level 3.0, the
    right one at 3.5.
    """
    rng, level = section.rng, section.level
    step = np.clip(level - 1, -2, 5)
    a, b = section.size * (22 + step) * 1.03, section.size * (16 + 0.35 * step) * 1.03
    rows, columns = _window((-a - 16, a + 16), (-b - 16, 4.0))
    x, y = np.abs(X_MM[columns])[None] / a, np.minimum(Y_MM[rows], 0)[:, None] / b
    beyond_mm = ((x**BODY_POWER + np.abs(y) ** BODY_POWER) ** (1 / BODY_POWER) - 1) * 0.5 * (a + b)
    from_front = np.rad2deg(np.arctan2(X_MM[columns][None] / a, np.maximum(-y, 1e-6)))
    for side in (1, -1):
        reach = 0.5 if side < 0 else 0.0  # the right one, on the left of the picture, ends lower
        thick_mm = np.interp(level - reach, (0.3, 1.5, 2.3, 3.0), (8.0, 6.5, 3.5, 0.0))
        thick_mm *= section.size * np.exp(rng.normal(0, 0.3))
        first, last = rng.uniform(-15, 20), rng.uniform(55, 88)
        place = np.clip((side * from_front - first) / (last - first), 0, 1)
        band = (beyond_mm > 0) & (beyond_mm < thick_mm * np.sqrt(np.sin(np.pi * place)))
        section.paint(band, (rows.start, columns.start), Tissue.WALL_MUSCLE, SOFT)


def diaphragm(section: Section) -> None:
    """Paint the diaphragm: a sheet of muscle in front of the foremost labelled muscle, fat between.

    Fat becomes Tissue.WALL_MUSCLE, in place. Meant for levels up to 1.3 (L1), which is not checked.
    """
    rng = section.rng
    rows, columns = _window((-110, 110), (-30, 60))
    labels = _is_any(LABEL_VALUES)[section.tissues[LAYERS // 2, rows, columns]]
    front = np.where(labels.any(0), labels.argmax(0), len(labels))
    front = uniform_filter1d(minimum_filter1d(front, 9).astype(float), 15)
    ahead = front - np.arange(len(labels))[:, None] - rng.uniform(0.5, 4) / SPACING_MM
    aside = labels.any(0) & (np.abs(X_MM[columns]) > 24 * section.size)
    thick = rng.uniform(2, 5) / SPACING_MM
    section.paint(
        (ahead > 0) & (ahead < thick) & aside, (rows.start, columns.start), Tissue.WALL_MUSCLE
    )


def abdominal_wall(section: Section) -> None:
    """Paint the origin of the flat abdominal muscles beside the lateral end of each quadratus.

    Fat becomes Tissue.WALL_MUSCLE, in place; nothing beside a quadratus of less than 20 pixels.
    """
    rng = section.rng
    middle = section.tissues[LAYERS // 2]
    for value in QUADRATI:
        rows, columns = np.nonzero(middle[_row_at(0) : _row_at(70)] == value)
        if len(columns) < 20:
            continue
        side = 1 if X_MM[columns].mean() > 0 else -1
        end = columns.max() if side > 0 else columns.min()
        y = Y_MM[_row_at(0) + round(float(rows[columns == end].mean()))]
        long, thick, turn = rng.uniform(10, 22), rng.uniform(2, 5), rng.uniform(-5, 55)
        away = long * 0.95 + rng.uniform(0, 4)
        centre = (
            X_MM[end] + side * away * np.cos(np.deg2rad(turn)),
            y - away * np.sin(np.deg2rad(turn)),
        )
        mask, corner = _ellipse(centre, (long, thick), -side * turn)
        section.paint(mask, corner, Tissue.WALL_MUSCLE)


def aponeurosis(section: Section) -> None:
    """Paint the aponeurosis behind erector spinae and multifidus, sometimes with fat beneath it.

    Fat and fascia there become Tissue.FASCIA and, beneath it, Tissue.FAT, in place. Meant for
    levels from 4.6 on (L5 and sacrum), which is not checked.
    """
    rng = section.rng
    rows, columns = _window((-75, 75), (20, 100))
    labels = _is_any(BACK)[section.tissues[LAYERS // 2, rows, columns]]
    hind = np.where(labels.any(0), len(labels) - 1 - labels[::-1].argmax(0), len(labels))
    behind = (np.arange(len(labels))[:, None] - hind) * SPACING_MM
    gap, thick = max(0.0, rng.uniform(-1.5, 2.5)), rng.uniform(0.9, 2.6)
    corner = (rows.start, columns.start)
    around = (Tissue.FAT, Tissue.FASCIA, Tissue.VISCERAL_FAT)
    section.paint((behind > 0.9) & (behind < 0.9 + gap), corner, Tissue.FAT, around)
    section.paint(
        (behind >= 0.9 + gap) & (behind < 0.9 + gap + thick), corner, Tissue.FASCIA, around
    )


def sacroiliac_fat(section: Section) -> None:
    """Turn the iliacus behind the sacroiliac joint into fat and ligament, as far back as the ilium.

    Medially of the ilium, Tissue.HIP_MUSCLE becomes VISCERAL_FAT or INTERSPINOUS, in place.
    """
    rng = section.rng
    rows, columns = _window((-110, 110), (-10, 80))
    ilium = section.tissues[LAYERS // 2, rows, columns] == Tissue.ILIUM
    middle = ilium.shape[1] // 2
    medial = np.zeros_like(ilium)  # between the midline and the ilium
    for bone, beside in (
        (ilium[:, middle:], medial[:, middle:]),
        (ilium[:, middle - 1 :: -1], medial[:, middle - 1 :: -1]),
    ):
        beside[:] = (np.cumsum(bone, axis=1) == 0) & bone.any(axis=1)[:, None]
    aside = np.abs(X_MM[columns]) - 60 * section.size
    medial &= Y_MM[rows, None] > section.size * rng.uniform(8, 26) + rng.uniform(-0.6, 0.3) * aside
    ligament = _noise(ilium.shape, rng) > rng.uniform(-0.3, 1.5)
    corner = (rows.start, columns.start)
    section.paint(medial & ligament, corner, Tissue.INTERSPINOUS, (Tissue.HIP_MUSCLE,))
    section.paint(medial, corner, Tissue.VISCERAL_FAT, (Tissue.HIP_MUSCLE,))


def iliolumbar_ligaments(section: Section) -> None:
    """Paint a dark band from the transverse process of L5 to the iliac crest on both sides.

    Fat becomes Tissue.LIGAMENT, in place.
    """
    rng = section.rng
    for side in (1, -1):
        centre = section.size * np.array((side * rng.uniform(52, 60), rng.uniform(19, 28)))
        radii = section.size * rng.uniform(14, 22), rng.uniform(1.0, 3.0)
        mask, corner = _ellipse(tuple(centre), radii, -side * rng.uniform(-10, 25))
        section.paint(mask, corner, Tissue.LIGAMENT)


def fat_behind_quadratus(section: Section) -> None:
    """Paint one or two islands of fat between each quadratus and erector spinae, where they nearly touch.

    The labels of both muscles, septum and fascia there become Tissue.VISCERAL_FAT, in place;
    nothing on a side where fewer than 8 columns of pixels show them nearly touching.
    """
    rng = section.rng
    middle = section.tissues[LAYERS // 2, _row_at(0) : _row_at(75)]
    for quadratus, erector in zip(QUADRATI, ERECTORS, strict=True):
        front, back = middle == quadratus, middle == erector
        end = len(middle) - 1 - front[::-1].argmax(0)
        gap = back.argmax(0) - end
        beside = np.flatnonzero(front.any(0) & back.any(0) & (abs(gap - 2) < TOUCHING_PX))
        if len(beside) < 8:
            continue
        slope, _ = np.polyfit(beside, end[beside], 1)
        for column in rng.choice(beside, rng.integers(1, 3)):
            centre = X_MM[column], Y_MM[_row_at(0) + end[column] + gap[column] // 2]
            radii = rng.uniform(2, 7), rng.uniform(0.8, 2.0)
            mask, corner = _ellipse(centre, radii, np.rad2deg(np.arctan(slope)))
            over = (quadratus, erector, Tissue.SEPTUM, Tissue.FASCIA)
            section.paint(mask, corner, Tissue.VISCERAL_FAT, over)


def laminar_fat(section: Section) -> None:
    """Turn multifidus beside spinous process and lamina into fat, in a rim of varying width.

    The labels of both multifidi there become Tissue.EPIDURAL_FAT, in place.
    """
    rng = section.rng
    rows, columns = _window((-48, 48), (26, 84))
    part = section.tissues[:, rows, columns]
    cells = rng.uniform(-0.6, 1.2, [1 + pixels // RIM_CELL_PX for pixels in part.shape[1:]])
    width_px = uniform_filter(np.kron(cells, np.ones((RIM_CELL_PX, RIM_CELL_PX))), RIM_CELL_PX)
    across_px = np.sqrt(np.isin(part[LAYERS // 2], MULTIFIDI).sum() / 2)
    width_px = width_px[: part.shape[1], : part.shape[2]] * rng.uniform(*RIM_SHARE) * across_px
    near = _is_any(BONE)[part]
    rim = np.zeros_like(near)
    for step in range(int(width_px.max()) + 1):
        for axis in (1, 2):
            near = near | np.roll(near, 1, axis) | np.roll(near, -1, axis)
        rim |= near & (width_px > step)
    section.paint(rim, (rows.start, columns.start), Tissue.EPIDURAL_FAT, MULTIFIDI)


def smooth_back(section: Section) -> None:
    """Fill notches in the posterior outline of erector spinae and multifidus with the nearest of them.

    On both sides, notches of up to 13 mm in width, such as the one where their septum ends: fat, fascia
    and septum there become labels, in place.
    """
    rows, columns = _window(*BEHIND)
    part = section.tissues[:, rows, columns]
    middle = X_MM[columns].searchsorted(0.0)
    soft = _is_any((*LOOSE_FAT, Tissue.SEPTUM, Tissue.FASCIA))
    for layer in part:
        for side in (layer[:, :middle], layer[:, middle:]):
            muscle = _is_any(BACK)[side]
            if not muscle.any():
                continue
            closed = isotropic_closing(np.pad(muscle, NOTCH_PX), NOTCH_PX)
            closed = closed[NOTCH_PX:-NOTCH_PX, NOTCH_PX:-NOTCH_PX]
            behind = np.arange(len(side))[:, None] > np.nonzero(muscle)[0].mean()
            filled = closed & ~muscle & behind & soft[side]
            nearest = distance_transform_edt(~muscle, return_distances=False, return_indices=True)
            side[filled] = side[tuple(nearest)][filled]


def dents(section: Section) -> None:
    """Press a broad, shallow dent of fat into the back of erector spinae or multifidus on both sides.

    Its place is random, in the medial part of the two muscles, whatever the place of the septum. The
    labels of the two muscles, septum and fascia there become Tissue.FAT, in place; nothing on a side
    where fewer than 20 columns of pixels show these muscles.
    """
    rng = section.rng
    rows, columns = _window(*BEHIND)
    labels = _is_any(BACK)[section.tissues[LAYERS // 2, rows, columns]]
    hind = len(labels) - 1 - labels[::-1].argmax(0)
    place, wide, deep = rng.uniform(0.15, 0.6), rng.uniform(4, 12), rng.uniform(1.5, 6)
    for side in (1, -1):
        shown = np.flatnonzero(labels.any(0) & (side * X_MM[columns] > 0))
        if len(shown) < 20:
            continue
        order = shown[::side]
        column = order[int(np.clip(place + rng.normal(0, 0.04), 0.1, 0.7) * len(order))]
        centre = X_MM[columns][column], Y_MM[rows][hind[column]] + 1.0
        mask, corner = _ellipse(
            centre, section.size * np.array((wide, deep)), side * rng.uniform(-20, 20)
        )
        section.paint(mask, corner, Tissue.FAT, (*BACK, Tissue.SEPTUM, Tissue.FASCIA))


# Each structure with the share of the sections that have it, and the vertebral levels (1.0 mid L1, 1.5 the disc
# L1/2) at which they lie.
STRUCTURES: tuple[tuple[Callable[[Section], None], float, tuple[float, float]], ...] = (
    (intertransverse_muscles, 0.75, (0.6, 5.2)),
    (crura, 0.85, (0.0, 3.4)),
    (diaphragm, 0.5, (0.0, 1.3)),
    (abdominal_wall, 0.4, (2.0, 5.0)),
    (aponeurosis, 0.6, (4.6, 7.0)),
    (sacroiliac_fat, 0.7, (4.8, 7.0)),
    (iliolumbar_ligaments, 0.5, (4.5, 5.4)),
    (laminar_fat, 0.25, (0.0, 5.6)),
    (smooth_back, 0.35, (0.0, 5.6)),
    (dents, 0.5, (0.0, 5.0)),
    (fat_behind_quadratus, 0.5, (0.6, 4.6)),
)
