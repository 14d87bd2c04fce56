"""Outlines of the eight muscles at each vertebral level, with the areas of a volunteer.

Multifidus and erector spinae fill one compartment, which is scaled to the sum of their areas. Their
septum is moved until the multifidus has its area; then the lateral part of the erector spinae is
stretched until it has its area. Area is linear in shift and stretch, so both are solved exactly.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from paravert.anatomy import MUSCLES, SIDES, label_value
from paravert.synthesis.shape_modes import CORRECTION_MM, control_points, shape_deviations
from paravert.synthesis.solids import Tube, mirrored, signed_area, spline
from paravert.synthesis.spine import Spine, between_levels
from paravert.synthesis.variation import PHANTOM, PsoasCourse, Variation
from paravert.synthesis.volunteers import LEVELS, Volunteer

RING_LEVELS = np.arange(-1.4, 7.21, 0.1)
SMALLEST_AREA_MM2 = 25.0  # below this psoas and quadratus are not drawn
# Factor of the interpolated area: (levels, factors); muscles taper off above L1 and below L5.
BEYOND = {
    "psoas_major": ((0.2, 1.0, 5.4, 7.2), (0.0, 1.0, 1.0, 0.8)),
    "quadratus_lumborum": ((-0.2, 0.8), (0.0, 1.0)),
    "erector_spinae": ((-1.4, 1.0, 5.2, 7.2), (0.8, 1.0, 1.0, 0.15)),
    "multifidus": ((-1.4, 1.0, 5.4, 7.2), (0.8, 1.0, 1.0, 0.4)),
}


# Control points of the left muscles, drawn by hand for the reference man: an outline each at mid L1
# to mid L5, (x, y) in local coordinates (mm). Points of equal index correspond between levels.

# From the vertebral body forwards round the muscle; the first and last point touch the vertebra.
PSOAS = control_points(
    "23,-6  27,-7  31,-1  34,7  35,14  33,20  29,21  26,16  24,9  23,1",
    "23,-9  28,-11  34,-6  40,3  43,13  42,20  36,22  29,21  25,16  23,4",
    "24,-10  31,-14  40,-11  48,-1  54,11  52,21  43,25  32,23  26,17  24,4",
    "25,-8  33,-14  45,-13  57,-5  64,7  62,18  53,25  41,26  32,21  26,8",
    "30,-14  39,-23  51,-26  62,-20  68,-8  65,5  55,13  43,15  33,7  28,-4",
)

# From the transverse process along the front to the side and back.
QUADRATUS = control_points(
    "29,25  34,22  43,26  53,34  56,39  52,40  42,35  32,30",
    "34,28  40,23  51,24  63,30  70,37  66,40  54,37  42,32",
    "41,31  47,26  59,25  71,29  78,37  73,42  59,39  48,34",
    "48,36  54,31  68,27  81,29  86,35  82,42  72,45  58,41",
    "60,34  67,30  78,28  87,29  90,34  86,40  77,43  67,40",
)

# From the lamina along the facet, down the septum (points 2 to 4), round the spinous process.
MULTIFIDUS = control_points(
    "4,40  9,36  16,37  18,46  13,56  8,61  3.5,60  3,50",
    "4,40  10,36  18,37  20,48  15,60  9,66  4,65  3,52",
    "4,41  11,36  20,37  22,50  19,63  12,71  4.5,68  3,54",
    "4,43  13,37  25,38  28,54  25,70  17,79  6,76  3.5,58",
    "4,44  14,37  29,37  35,52  38,68  26,76  8,74  3.5,58",
)
# Displacement of each point relative to that of the septum.
MULTIFIDUS_SEPTUM = np.array([0, 0, 1, 1, 1, 0.3, 0, 0])

# From the top of the septum along the transverse process to the side, back along the fascia.
ERECTOR = control_points(
    "17,38  23,34  42,38  64,46  79,55  72,65  50,70  24,69  9,64  19,47",
    "19,38  25,34  44,37  64,42  77,52  73,65  52,73  28,75  11,69  21,50",
    "21,38  27,34  45,37  62,42  73,53  69,67  52,76  33,78  15,74  23,52",
    "26,38  31,32  44,36  59,42  69,53  66,65  54,74  40,80  25,80  29,56",
    "30,36  33,29  43,28  53,34  58,48  56,61  50,69  44,73  38,71  36,53",
)
ERECTOR_SEPTUM = np.array([1, 0.6, 0, 0, 0, 0, 0, 0.3, 0.9, 1])

DRAWN = {
    "psoas_major": PSOAS,
    "quadratus_lumborum": QUADRATUS,
    "erector_spinae": ERECTOR,
    "multifidus": MULTIFIDUS,
}
WOBBLE = {  # SD of the random offsets of drawn points; smaller where muscles touch
    "psoas_major": 0.022,
    "quadratus_lumborum": 0.022,
    "erector_spinae": 0.6 * 0.022,
    "multifidus": 0.6 * 0.022,
}
# As MULTIFIDUS_SEPTUM; point 5 (from 0) lies at the posterior end of the septum and follows it.
LEARNT_SEPTUM = np.array([0, 0, 1, 1, 1, 0.9, 0, 0])
NEAREST_MIDLINE_MM = 0.8
# `Variation.cover`: its factor by level, and the points that it moves: the back of the multifidus, the medial
# tip of the erector spinae.
COVERED = (2.0, 4.0), (1.0, 0.0)
BACK_POINTS, ERECTOR_TIP = [4, 5, 6], 8
TALLER_LEVELS = (3.5, 5.0)  # between these `PsoasCourse.taller` takes effect
# Point towards which a left muscle shrinks in atrophy, local coordinates of the reference man.
ROOT_MM = {
    "psoas_major": (27.0, 8.0),
    "quadratus_lumborum": (52.0, 32.0),
    "erector_spinae": (34.0, 42.0),
    "multifidus": (8.0, 42.0),
}


def muscle_tubes(
    volunteer: Volunteer, spine: Spine, variation: Variation = PHANTOM, *, wasted: bool = True
) -> dict[int, Tube]:
    """Return the solid (tube) of each of the eight muscles, {label value: tube}.

    In coordinates of the body: LPS, mm, mid L3 at z = 0. volunteer: from mid L1 to mid L5 the
    muscle's horizontal section has its area, `Volunteer.area_at`; beyond, muscles taper off. Psoas
    and quadratus end where it falls below 25 mm2. spine: axis along which the tubes lie. variation:
    shapes and atrophy relative to the phantoms. wasted: whether muscles are then shrunk by
    `Variation.lost` (atrophy); if False, they fill their fascia.
    """
    drawings = _drawings(volunteer, variation)
    tubes = {}
    for side in SIDES:
        rings = {muscle: [] for muscle in MUSCLES}
        levels = {muscle: [] for muscle in MUSCLES}
        for level in RING_LEVELS:
            area = {
                muscle: float(volunteer.area_at(label_value(muscle, side), level))
                * np.interp(level, *BEYOND[muscle])
                for muscle in MUSCLES
            }
            for muscle, outline in _outlines(drawings[side], level, area, spine.scale).items():
                lost = variation.lost[label_value(muscle, side) - 1] if wasted else 0.0
                if lost:
                    root = spine.scale * np.array(ROOT_MM[muscle])
                    outline = root + np.sqrt(1 - lost) * (outline - root)
                rings[muscle].append(outline if side == "left" else mirrored(outline))
                levels[muscle].append(level)
        for muscle, outlines in rings.items():
            tubes[label_value(muscle, side)] = spine.tube(levels[muscle], outlines)
    return tubes


@dataclass(frozen=True)
class _Drawing:
    """Control points of one side, drawn by hand, with a volunteer's random offsets.

    offsets: by muscle, (10, 2), in units of the square root of the muscle's drawn area.
    """

    offsets: dict[str, np.ndarray]
    septum: ClassVar[np.ndarray] = MULTIFIDUS_SEPTUM

    def controls(self, level: float) -> dict[str, np.ndarray]:
        """Return control points of the outlines at a vertebral level, as of the left side.

        Returns {muscle, one of MUSCLES: (points, 2)}, points in the order of DRAWN, (x, y) in mm to the
        left of and behind the spine's axis, for a body height of 178 cm. level: 1.0 mid L1, 5.0 mid L5.
        Beyond these the outlines are those of L1 or L5.
        """
        result = {}
        for muscle, points in DRAWN.items():
            control = between_levels(level, LEVELS, points)
            size = np.sqrt(abs(signed_area(control)))
            result[muscle] = control + size * self.offsets[muscle][: len(control)]
        return result


@dataclass(frozen=True)
class _LearntDrawing:
    """Control points of one side, moved towards real outlines, with offsets from shape modes.

    correction, psoas, cover: as in `Variation`. offsets: by muscle, (points, 2), as from
    `shape_deviations`.
    """

    correction: float
    psoas: PsoasCourse
    cover: float
    offsets: dict[str, np.ndarray]
    septum: ClassVar[np.ndarray] = LEARNT_SEPTUM

    def controls(self, level: float) -> dict[str, np.ndarray]:
        """Return control points of the outlines at a vertebral level, as of the left side.

        Returns {muscle, one of MUSCLES: (points, 2)}, points in the order of DRAWN, (x, y) in mm to the
        left of and behind the spine's axis, for a body height of 178 cm. level: 1.0 mid L1, 5.0 mid L5.
        Beyond these the outlines are those of L1 or L5, but psoas moves on along its course.
        """
        result = {
            muscle: between_levels(level, LEVELS, points + self.correction * CORRECTION_MM[muscle])
            for muscle, points in DRAWN.items()
        }
        result["psoas_major"] = self._on_its_course(result["psoas_major"], level)
        size = {muscle: np.sqrt(abs(signed_area(control))) for muscle, control in result.items()}
        size["multifidus"] = size["erector_spinae"] = np.hypot(
            size["multifidus"], size["erector_spinae"]
        )
        # The modes of the back come from L4 and L5; above these the multifidus varies less.
        least = np.interp(level, (1.0, 4.0), (0.5, 1.0))
        share = {
            "multifidus": np.full((8, 1), least),
            "erector_spinae": 1 - (1 - least) * ERECTOR_SEPTUM[:, None],
        }
        for muscle in result:
            result[muscle] += size[muscle] * share.get(muscle, 1.0) * self.offsets[muscle]
        multifidus = result["multifidus"]
        self._cover(multifidus, result["erector_spinae"], level)
        multifidus[:, 0] = np.maximum(multifidus[:, 0], NEAREST_MIDLINE_MM)
        return result

    def _cover(self, multifidus: np.ndarray, erector: np.ndarray, level: float) -> None:
        """Move the back of the multifidus forwards and the erector spinae behind it, in place."""
        share = self.cover * np.interp(level, *COVERED)
        front = multifidus[:, 1].min()
        multifidus[BACK_POINTS, 1] -= share * (multifidus[BACK_POINTS, 1] - front)
        erector[ERECTOR_TIP, 0] *= 1 - min(1.0, 4 * share)

    def _on_its_course(self, psoas: np.ndarray, level: float) -> np.ndarray:
        """Return the psoas at a level, stretched and shifted along its course."""
        tall = np.sqrt(np.interp(level, TALLER_LEVELS, (1.0, self.psoas.taller)))
        centre = psoas.mean(axis=0)
        gone_mm = max(0.0, level - self.psoas.leaves) * np.array(self.psoas.per_level_mm)
        return centre + gone_mm + (psoas - centre) * (1 / tall, tall)


def _drawings(volunteer: Volunteer, variation: Variation) -> dict[str, _Drawing | _LearntDrawing]:
    """Return the drawing of each side; the random offsets of both sides are correlated."""
    if variation.correction is not None:
        rng = np.random.default_rng([volunteer.seed, 13])
        deviations = shape_deviations(rng)
        return {
            side: _LearntDrawing(
                variation.correction,
                variation.psoas,
                variation.cover,
                {muscle: variation.shape * own for muscle, own in deviations[side].items()},
            )
            for side in SIDES
        }
    rng = np.random.default_rng([volunteer.seed, 11])
    common = {muscle: rng.normal(0, 1, (10, 2)) for muscle in MUSCLES}
    drawings = {}
    for number, side in enumerate(SIDES):
        own = np.random.default_rng([volunteer.seed, 12, number])
        wobble = {m: 0.8 * common[m] + 0.6 * own.normal(0, 1, (10, 2)) for m in MUSCLES}
        drawings[side] = _Drawing({m: WOBBLE[m] * wobble[m] for m in MUSCLES})
    return drawings


def _outlines(
    drawing: _Drawing | _LearntDrawing, level: float, area: dict[str, float], scale: float
) -> dict[str, np.ndarray]:
    """Return the outlines of the left muscles at a level, by muscle.

    Each is (vertices, 2), in local coordinates (mm). area: by muscle, mm2; psoas and quadratus of
    less than SMALLEST_AREA_MM2 are left out.
    """
    controls = {muscle: scale * points for muscle, points in drawing.controls(level).items()}
    outlines = _back_muscles(controls, drawing.septum, area, scale)
    for muscle in ("psoas_major", "quadratus_lumborum"):
        if area[muscle] < SMALLEST_AREA_MM2:
            continue
        control = controls[muscle]
        anchor = control[[0, -1]].mean(axis=0)  # by the vertebra, or by the transverse process
        outlines[muscle] = _grown(spline(control), anchor, area[muscle])
    return outlines


def _grown(outline: np.ndarray, anchor: np.ndarray, area_mm2: float) -> np.ndarray:
    """Return an outline scaled about an anchor to an area."""
    return anchor + (outline - anchor) * np.sqrt(area_mm2 / abs(signed_area(outline)))


def _back_muscles(
    controls: dict[str, np.ndarray], septum: np.ndarray, area: dict[str, float], scale: float
) -> dict[str, np.ndarray]:
    """Return the outlines of multifidus and erector spinae, which share a septum.

    controls: (points, 2) in mm, by muscle. septum: (8,), how far each point of the multifidus
    moves with the septum. area: by muscle, mm2.
    """
    multifidus, erector = controls["multifidus"], controls["erector_spinae"]
    wanted = area["multifidus"] + area["erector_spinae"]
    drawn = abs(signed_area(spline(multifidus))) + abs(signed_area(spline(erector)))
    growth = np.sqrt(wanted / drawn)
    corner = scale * np.array([4.0, 37.0])  # where spinous process and lamina meet
    multifidus = corner + growth * (multifidus - corner)
    erector = corner + growth * (erector - corner)

    across = np.array([1.0, 0.0])
    multifidus_line, shift = _to_area(multifidus, septum[:, None] * across, area["multifidus"])
    erector = erector + shift * ERECTOR_SEPTUM[:, None] * across
    septum_x = erector[[0, 9], 0].mean()
    outwards = (1 - ERECTOR_SEPTUM) * (erector[:, 0] - septum_x)
    erector_line, _ = _to_area(erector, outwards[:, None] * across, area["erector_spinae"])
    return {"erector_spinae": erector_line, "multifidus": multifidus_line}


def _to_area(
    control: np.ndarray, direction: np.ndarray, area_mm2: float
) -> tuple[np.ndarray, float]:
    """Return the curve of control points moved to enclose an area, and the amount of movement.

    direction: (points, 2), displacement along x per unit of movement. The area is linear in the
    amount.
    """
    start = signed_area(spline(control))
    gain = signed_area(spline(control + direction)) - start
    amount = (np.sign(start) * area_mm2 - start) / gain
    return spline(control + amount * direction), amount
