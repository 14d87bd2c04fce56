"""Skin, subcutaneous fat, abdominal wall, lowest ribs, latissimus and hips."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from paravert.synthesis.solids import Tube, ellipse, inset, mirrored, spline
from paravert.synthesis.spine import Spine, between_levels
from paravert.synthesis.tissues import CAVITY, BodyPart, Tissue
from paravert.synthesis.variation import Hip
from paravert.synthesis.vertebrae import spinous_tip_mm
from paravert.synthesis.volunteers import Volunteer

TRUNK_LEVELS = np.arange(-2.0, 7.6, 0.2)
SKIN_MM = 1.8
SMOOTH_MM = 6.0  # rounding of the skin where muscles bulge
TRUNK_VERTICES = 200
BMI = (18, 25, 40)
HALF_WIDTH_MM = (122, 141, 182)  # of the abdomen without subcutaneous fat, at these BMI
FRONT_MM = (74, 96, 158)  # anterior abdominal wall to spine, at these BMI
LEAST_FRONT_MM = 62.0
BACK_MM = 37.0  # spine's axis to the posterior border of the abdominal wall


@dataclass(frozen=True)
class Trunk:
    """Size of a subject's trunk, in mm.

    half_width_mm: half the width of the abdomen without subcutaneous fat, the same at L1 and L4. front_mm:
    distance of the anterior abdominal wall from the foremost point of the spine's axis. wall_mm:
    largest thickness of the wall in front of the spine's axis; behind the axis it is 1.2 mm thicker. fat_mm: as
    `Volunteer.subcutaneous_mm`. female: whether the subject is a woman, whose hips are wider.
    """

    half_width_mm: float
    front_mm: float
    wall_mm: float
    fat_mm: float
    female: bool

    def width_at(self, level: float) -> float:
        """Return half the width of the abdomen without subcutaneous fat, in mm, at a vertebral level.

        level: 1.0 mid L1, 5.0 mid L5. It is smallest at L3 and largest at the hips.
        """
        hips = 1.12 if self.female else 1.04
        return self.half_width_mm * float(
            np.interp(level, (-1, 1, 3, 4, 5.5), (1.02, 1.0, 0.96, 1.0, hips))
        )

    def fat_at(self, level: float) -> float:
        """Return the thickness in mm of skin and fat behind the muscles at a vertebral level.

        level: 1.0 mid L1, 5.0 mid L5. It is `fat_mm` at L3 and largest in L5. The rounding of the skin,
        which adds about 4 mm to what is drawn, is not included.
        """
        return self.fat_mm * float(
            np.interp(level, (-1, 1, 3, 4.2, 5.2, 6.5), (0.55, 0.65, 1.0, 1.35, 1.45, 1.4))
        )


def trunk_of(volunteer: Volunteer, rng: np.random.Generator) -> Trunk:
    """Return the size of a volunteer's trunk, from sex, height and weight.

    rng: random deviations from the mean. `fat_mm` is copied from the volunteer.
    """
    female = volunteer.sex == "F"
    size = volunteer.height_cm / 178
    front_mm = float(np.interp(volunteer.bmi, BMI, FRONT_MM)) * size
    return Trunk(
        half_width_mm=float(np.interp(volunteer.bmi, BMI, HALF_WIDTH_MM)) * size + rng.normal(0, 4),
        front_mm=max(LEAST_FRONT_MM, front_mm + rng.normal(0, 5)),
        wall_mm=(16.0 if female else 22.0) * size * np.exp(rng.normal(0, 0.12)),
        fat_mm=volunteer.subcutaneous_mm,
        female=female,
    )


def trunk_parts(trunk: Trunk, spine: Spine, muscles: dict[int, Tube]) -> Iterator[BodyPart]:
    """Yield the body parts of skin, fat, abdominal wall and cavity, from outside inwards.

    Body part: a tube filled with one tissue, some with a rim of another (`BodyPart.rim`), in coordinates
    of the body (LPS, mm, mid L3 at z = 0).
    Later parts replace earlier ones where they overlap. trunk: its size. spine: axis along which
    they lie. muscles: {label value: tube}, at least 5 to 8 (erector spinae and multifidus), which
    skin and fat cover; others are not used.
    """
    skin = spine.tube(TRUNK_LEVELS, _skin_outlines(trunk, spine, muscles))
    yield BodyPart(skin, Tissue.FAT, Tissue.SKIN, SKIN_MM)
    abdomen = [_abdomen(trunk, spine, level) for level in TRUNK_LEVELS]
    yield BodyPart(spine.tube(TRUNK_LEVELS, abdomen), Tissue.FASCIA, margin_mm=0.9)
    lateral = [_lateral(outline) for outline in abdomen]
    thick = [_wall_thickness(trunk, outline) for outline in abdomen]
    layers = (
        (0.0, 0.0, Tissue.WALL_MUSCLE),
        (0.36, -0.5, Tissue.VISCERAL_FAT),
        (0.36, 0.9, Tissue.WALL_MUSCLE),
        (0.72, -0.4, Tissue.VISCERAL_FAT),
        (0.72, 0.8, Tissue.WALL_MUSCLE),
        (1.0, 0.0, Tissue.VISCERAL_FAT),
    )
    for share, gap, tissue in layers:
        outlines = [
            inset(outline, share * wall + gap * side)
            for outline, wall, side in zip(abdomen, thick, lateral, strict=True)
        ]
        yield BodyPart(spine.tube(TRUNK_LEVELS, outlines), tissue)


def _abdomen(trunk: Trunk, spine: Spine, level: float) -> np.ndarray:
    """Return the outer border of the abdominal wall, (vertices, 2), in local coordinates."""
    bend = spine.middle(level)[1]
    front = -trunk.front_mm - bend  # the anterior wall does not follow the lordosis
    back = BACK_MM * spine.scale
    centre = (0.0, (front + back) / 2)
    return ellipse(
        centre, (trunk.width_at(level), (back - front) / 2), power=2.7, vertices=TRUNK_VERTICES
    )


def _lateral(abdomen: np.ndarray) -> np.ndarray:
    """Return a weight per vertex, (vertices,): 1 at the flanks, 0 in front and behind."""
    half = np.abs(abdomen[:, 0]).max()
    return np.clip((np.abs(abdomen[:, 0]) - 0.57 * half) / (0.16 * half), 0, 1)


def _wall_thickness(trunk: Trunk, abdomen: np.ndarray) -> np.ndarray:
    """Return the thickness of the abdominal wall in mm per vertex, (vertices,)."""
    x, y = np.abs(abdomen[:, 0]), abdomen[:, 1]
    flank = _lateral(abdomen)
    belly = np.clip(1 - ((x - 34) / 31) ** 2, 0, 1) ** 0.5
    rectus = 1.5 + 0.45 * trunk.wall_mm * belly
    return np.where(y < 0, np.maximum(rectus, trunk.wall_mm * flank), 1.2 + trunk.wall_mm * flank)


def _skin_outlines(trunk: Trunk, spine: Spine, muscles: dict[int, Tube]) -> list[np.ndarray]:
    """Return the skin at each of TRUNK_LEVELS, (vertices, 2), in local coordinates (mm)."""
    outlines = []
    for level in TRUNK_LEVELS:
        fat = trunk.fat_at(level)
        bend = spine.middle(level)[1]
        front = -trunk.front_mm - bend - 1.1 * trunk.fat_mm - 4
        back = (BACK_MM + 33) * spine.scale + fat
        half = trunk.width_at(level) + (1.25 if trunk.female else 0.9) * fat
        outline = ellipse(
            (0.0, (front + back) / 2),
            (half, (back - front) / 2),
            power=2.5,
            vertices=TRUNK_VERTICES,
        )
        x, y = outline.T
        cover = _muscle_cover(x, spine, level, muscles) + fat
        smooth_maximum = SMOOTH_MM * np.logaddexp(y / SMOOTH_MM, cover / SMOOTH_MM)
        outlines.append(np.column_stack((x, np.where(y > -40, smooth_maximum, y))))
    return outlines


def _muscle_cover(
    x: np.ndarray, spine: Spine, level: float, muscles: dict[int, Tube]
) -> np.ndarray:
    """Return y (mm) of the hindmost muscle or spinous process at x, (vertices,), smoothed."""
    grid = np.arange(-180.0, 181.0, 2.0)
    beside = 25.0 - 1.2 * np.maximum(np.abs(grid) - 55, 0)
    cover = np.where(np.abs(grid) < 5, spinous_tip_mm(level) * spine.scale, beside)
    for value in (5, 6, 7, 8):
        ring = spine.nearest_ring(muscles[value], level)
        order = np.argsort(ring[:, 0])
        hind = ring[order][ring[order, 1] > 0.5 * (ring[:, 1].min() + ring[:, 1].max())]
        inside = (grid >= hind[0, 0]) & (grid <= hind[-1, 0])
        cover = np.where(inside, np.maximum(cover, np.interp(grid, *hind.T)), cover)
    kernel = np.exp(-((np.arange(-10, 11) / 4.0) ** 2))
    padded = np.pad(cover, 10, mode="edge")
    cover = np.convolve(padded, kernel / kernel.sum(), mode="valid")
    return np.interp(x, grid, cover)


# --- flanks: ribs, latissimus, hip -------------------------------------------------------------


# Tissues that these parts replace: not skin, not air, not the muscles of the back.
UNDER = CAVITY | {Tissue.FAT, Tissue.FASCIA, Tissue.WALL_MUSCLE}
WITH_MUSCLE = UNDER | {Tissue.HIP_MUSCLE, Tissue.SEPTUM}

WING_LEVELS = np.array([0.0, 0.25, 0.7, 1.2, 2.5])  # levels below the iliac crest
WING = np.array(
    [
        [(112, 22), (115, 21), (116, 26), (114, 32), (111, 38), (109, 37), (110, 31), (111, 26)],
        [(112, 8), (117, 7), (119, 20), (115, 34), (105, 48), (101, 47), (107, 34), (112, 20)],
        [(110, -14), (117, -16), (115, 10), (98, 36), (73, 61), (65, 58), (86, 33), (106, 10)],
        [(108, -26), (115, -28), (110, 2), (86, 33), (60, 62), (51, 57), (69, 26), (99, 0)],
        [(104, -34), (111, -36), (108, -4), (82, 30), (58, 63), (49, 57), (63, 24), (95, -6)],
    ],
    float,
)
OUTER_MM = (1.0, 7.0, 20.0, 28.0, 36.0)  # thickness of the gluteal muscles at WING_LEVELS
INNER_MM = (0.5, 5.0, 13.0, 19.0, 24.0)  # thickness of the iliacus at WING_LEVELS
OUTWARDS = np.array([np.cos(0.65), np.sin(0.65)])
INWARDS = np.array([-0.85, -0.53])

# Latissimus, with the serratus posterior inferior, at LATISSIMUS_LEVELS.
LATISSIMUS = np.array(
    [
        [(60, 66), (80, 59), (104, 40), (122, 16), (127, 18), (109, 45), (84, 65), (62, 70)],
        [(70, 62), (84, 55), (104, 38), (118, 20), (119, 21), (105, 40), (85, 57), (71, 63)],
    ],
    float,
)
LATISSIMUS_LEVELS = (0.6, 2.9)


def flanks(spine: Spine, rng: np.random.Generator, hip: Hip) -> Iterator[BodyPart]:
    """Yield the body parts of latissimus, lowest ribs, iliac wings and hip muscles of both sides.

    Body part: a tube filled with one tissue, some with a rim of another (`BodyPart.rim`), in coordinates
    of the body (LPS, mm, mid L3 at z = 0).
    Later parts replace earlier ones where they overlap; these do not replace the muscles of
    `anatomy.LABELS`. spine: axis along which they lie. rng: random positions. hip: position of the
    iliac wings and thickness of the iliacus.
    """
    crest = 4.35 + rng.uniform(-0.15, 0.2) + hip.crest
    for side in (1, -1):
        yield from _latissimus(spine, side)
        yield from _ribs(spine, side, rng)
        yield from _hip(spine, side, crest, hip)


def _hip(spine: Spine, side: int, crest: float, hip: Hip) -> Iterator[BodyPart]:
    """Yield gluteal muscles, iliacus and iliac wing of a side. crest: level of the iliac crest."""

    def wing(level: float) -> np.ndarray:
        drawn = between_levels(level - crest, WING_LEVELS, WING)
        return spline(drawn * (hip.width, 1) + (0, hip.back_mm), 56)

    def outer(level: float) -> np.ndarray:
        away = OUTWARDS * np.interp(level - crest, WING_LEVELS, OUTER_MM)
        bone = wing(level)
        swell = np.clip((bone - bone.mean(axis=0)) @ OUTWARDS / 12, 0, 1)
        return bone + (swell[:, None] + 0.35) * away

    def inner(level: float) -> np.ndarray:
        thick = hip.iliacus * np.interp(level - crest, WING_LEVELS, INNER_MM)
        bone = wing(level)
        # The second half of the outline is the wing's inner side, from behind to the front.
        turn = np.linspace(0, 2 * np.pi, len(bone), endpoint=False)
        bulge = np.sqrt(np.clip(-np.sin(turn), 0, None))
        return bone + thick * bulge[:, None] * INWARDS

    for shape in (outer, inner):
        tube = spine.organ(crest, crest + 2.5, _on(side, shape), 14)
        yield BodyPart(tube, Tissue.HIP_MUSCLE, Tissue.SEPTUM, 0.5, over=UNDER)
    tube = spine.organ(crest, crest + 2.5, _on(side, wing), 14)
    yield BodyPart(tube, Tissue.ILIUM, Tissue.CORTEX, 1.1, over=WITH_MUSCLE)


def _latissimus(spine: Spine, side: int) -> Iterator[BodyPart]:
    def shape(level: float) -> np.ndarray:
        return spline(between_levels(level, LATISSIMUS_LEVELS, LATISSIMUS), 56)

    tube = spine.organ(-2.0, LATISSIMUS_LEVELS[1], _on(side, shape), 10)
    yield BodyPart(tube, Tissue.WALL_MUSCLE, Tissue.SEPTUM, 0.3, over=UNDER)


def _ribs(spine: Spine, side: int, rng: np.random.Generator) -> Iterator[BodyPart]:
    """Yield the eleventh and twelfth rib of one side."""
    for first, last in ((-1.4, 1.15), (-0.4, 1.55)):
        last += rng.normal(0, 0.15)

        def shape(level: float, first: float = first, last: float = last) -> np.ndarray:
            way = (level - first) / (last - first)
            middle = np.array([24 + 84 * way**0.9, 34 + 14 * np.sin(np.pi * way) - 12 * way])
            along = np.array([np.cos(0.9 * way), -np.sin(0.9 * way)]) * 7.5
            thick = np.array([along[1], -along[0]]) * 0.42
            return spline(
                np.stack([middle + along, middle + thick, middle - along, middle - thick]), 32
            )

        tube = spine.organ(first, last, _on(side, shape), 14)
        yield BodyPart(tube, Tissue.MARROW, Tissue.CORTEX, 0.9, over=UNDER | {Tissue.SEPTUM})


def _on(side: int, shape):
    """Return a function of the level with the outline of one side: 1 left, -1 right (mirrored)."""
    return shape if side == 1 else lambda level: mirrored(shape(level))
