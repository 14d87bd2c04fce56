"""Outlines of the eight muscles by level, fitted to the areas of a volunteer.

Multifidus and erector spinae fill one compartment and share their septum: the septum is moved
until multifidus has its area, then the lateral part of the erector spinae is stretched until it
has its own. Both conditions are linear in the shift and the stretch, hence solved exactly.
"""

import numpy as np

from paravert.anatomy import MUSCLES, SIDES, label_value
from paravert.synthesis.frame import Frame
from paravert.synthesis.geometry import Tube, mirrored, signed_area, spline
from paravert.synthesis.volunteers import LEVELS, Volunteer

RING_LEVELS = np.arange(-1.4, 7.21, 0.1)
SMALLEST_AREA_MM2 = 25.0  # below this a muscle is not drawn
# Share of the area at L1 or L5 that is left above and below them.
BEYOND = {
    "psoas_major": ((0.2, 1.0, 5.4, 7.2), (0.0, 1.0, 1.0, 0.8)),
    "quadratus_lumborum": ((-0.2, 0.8), (0.0, 1.0)),
    "erector_spinae": ((-1.4, 1.0, 5.2, 7.2), (0.8, 1.0, 1.0, 0.15)),
    "multifidus": ((-1.4, 1.0, 5.4, 7.2), (0.8, 1.0, 1.0, 0.4)),
}

# Control points of the left side at L1 to L5 for the reference man, local frame, in mm.
PSOAS = (
    (
        (21, 6),
        (24, 4),
        (27, 7),
        (29, 14),
        (29, 20),
        (27, 24),
        (24, 25),
        (21, 22),
        (20, 16),
        (20, 10),
    ),
    (
        (22, -8),
        (27, -9),
        (33, -4),
        (38, 4),
        (41, 14),
        (41, 22),
        (36, 26),
        (28, 26),
        (24, 19),
        (22, 6),
    ),
    (
        (23, -10),
        (30, -13),
        (39, -10),
        (47, 0),
        (53, 12),
        (51, 22),
        (42, 27),
        (30, 26),
        (25, 19),
        (23, 5),
    ),
    (
        (24, -8),
        (32, -14),
        (44, -13),
        (56, -5),
        (63, 7),
        (61, 18),
        (52, 25),
        (40, 26),
        (31, 21),
        (25, 8),
    ),
    (
        (30, -14),
        (39, -23),
        (51, -26),
        (62, -20),
        (68, -8),
        (65, 5),
        (55, 13),
        (43, 15),
        (33, 7),
        (28, -4),
    ),
)
QUADRATUS = (
    ((29, 25), (34, 22), (43, 26), (53, 34), (56, 39), (52, 40), (42, 35), (32, 30)),
    ((34, 28), (40, 23), (51, 24), (63, 30), (70, 37), (66, 40), (54, 37), (42, 32)),
    ((41, 31), (47, 26), (59, 25), (71, 29), (78, 37), (73, 42), (59, 39), (48, 34)),
    ((48, 36), (54, 31), (68, 27), (81, 29), (86, 35), (82, 42), (72, 45), (58, 41)),
    ((60, 34), (67, 30), (78, 28), (87, 29), (90, 34), (86, 40), (77, 43), (67, 40)),
)
# From the lamina along the facet, down the septum (points 2 to 4), round the spinous process.
MULTIFIDUS = (
    ((4, 40), (9, 36), (16, 37), (18, 46), (13, 56), (8, 61), (3.5, 60), (3, 50)),
    ((4, 40), (10, 36), (18, 37), (20, 48), (15, 60), (9, 66), (4, 65), (3, 52)),
    ((4, 41), (11, 36), (20, 37), (22, 50), (19, 63), (12, 71), (4.5, 68), (3, 54)),
    ((4, 43), (13, 37), (25, 38), (28, 54), (25, 70), (17, 79), (6, 76), (3.5, 58)),
    ((4, 44), (14, 37), (29, 37), (35, 52), (38, 68), (26, 76), (8, 74), (3.5, 58)),
)
MULTIFIDUS_SEPTUM = np.array([0, 0, 1, 1, 1, 0.3, 0, 0])
# From the top of the septum along the transverse process to the side, back along the fascia.
ERECTOR = (
    (
        (17, 38),
        (23, 34),
        (42, 38),
        (64, 46),
        (79, 55),
        (72, 65),
        (50, 70),
        (24, 69),
        (9, 64),
        (19, 47),
    ),
    (
        (19, 38),
        (25, 34),
        (44, 37),
        (64, 42),
        (77, 52),
        (73, 65),
        (52, 73),
        (28, 75),
        (11, 69),
        (21, 50),
    ),
    (
        (21, 38),
        (27, 34),
        (45, 37),
        (62, 42),
        (73, 53),
        (69, 67),
        (52, 76),
        (33, 78),
        (15, 74),
        (23, 52),
    ),
    (
        (26, 38),
        (31, 32),
        (44, 36),
        (59, 42),
        (69, 53),
        (66, 65),
        (54, 74),
        (40, 80),
        (25, 80),
        (29, 56),
    ),
    (
        (30, 36),
        (33, 29),
        (43, 28),
        (53, 34),
        (58, 48),
        (56, 61),
        (50, 69),
        (44, 73),
        (38, 71),
        (36, 53),
    ),
)
ERECTOR_SEPTUM = np.array([1, 0.6, 0, 0, 0, 0, 0, 0.3, 0.9, 1])


def muscle_tubes(volunteer: Volunteer, frame: Frame) -> dict[int, Tube]:
    """Return the eight muscles as tubes by label value, each with the planted area in every untilted section."""
    rng = np.random.default_rng([volunteer.seed, 11])
    common = {muscle: rng.normal(0, 1, (10, 2)) for muscle in MUSCLES}
    tubes = {}
    for number, side in enumerate(SIDES):
        own = np.random.default_rng([volunteer.seed, 12, number])
        wobble = {m: 0.8 * common[m] + 0.6 * own.normal(0, 1, (10, 2)) for m in MUSCLES}
        flip = (lambda outline: outline) if side == "left" else mirrored
        rings = {muscle: [] for muscle in MUSCLES}
        levels = {muscle: [] for muscle in MUSCLES}
        for level in RING_LEVELS:
            area = {
                muscle: float(volunteer.area_at(label_value(muscle, side), level))
                * np.interp(level, *BEYOND[muscle])
                for muscle in MUSCLES
            }
            for muscle, outline in _outlines(level, area, wobble, frame.scale).items():
                rings[muscle].append(flip(outline))
                levels[muscle].append(level)
        for muscle, outlines in rings.items():
            tubes[label_value(muscle, side)] = frame.tube(levels[muscle], np.stack(outlines))
    return tubes


def _outlines(
    level: float, area: dict[str, float], wobble: dict[str, np.ndarray], scale: float
) -> dict[str, np.ndarray]:
    """Return the left outlines at a level; muscles that have ended are left out."""
    outlines = _back_muscles(level, area, wobble, scale)
    for muscle, points in (("psoas_major", PSOAS), ("quadratus_lumborum", QUADRATUS)):
        if area[muscle] < SMALLEST_AREA_MM2:
            continue
        control = _control(points, level, scale, wobble[muscle])
        outline = spline(control)
        anchor = control[[0, -1]].mean(axis=0)  # by the vertebra, or by the transverse process
        outlines[muscle] = _grown(outline, anchor, area[muscle])
    return outlines


def _control(points: tuple, level: float, scale: float, wobble: np.ndarray) -> np.ndarray:
    """Return the control points at a level, individually displaced."""
    table = np.asarray(points, float)
    position = np.clip(level, LEVELS[0], LEVELS[-1]) - LEVELS[0]
    lower = min(int(position), len(LEVELS) - 2)
    control = table[lower] + (position - lower) * (table[lower + 1] - table[lower])
    size = np.sqrt(abs(signed_area(control)))
    return scale * (control + 0.022 * size * wobble[: len(control)])


def _grown(outline: np.ndarray, anchor: np.ndarray, area_mm2: float) -> np.ndarray:
    """Scale an outline about an anchor to an area."""
    return anchor + (outline - anchor) * np.sqrt(area_mm2 / abs(signed_area(outline)))


def _back_muscles(
    level: float, area: dict[str, float], wobble: dict[str, np.ndarray], scale: float
) -> dict[str, np.ndarray]:
    multifidus = _control(MULTIFIDUS, level, scale, 0.6 * wobble["multifidus"])
    erector = _control(ERECTOR, level, scale, 0.6 * wobble["erector_spinae"])
    wanted = area["multifidus"] + area["erector_spinae"]
    drawn = abs(signed_area(spline(multifidus))) + abs(signed_area(spline(erector)))
    growth = np.sqrt(wanted / drawn)
    corner = scale * np.array([4.0, 37.0])  # where spinous process and lamina meet
    multifidus = corner + growth * (multifidus - corner)
    erector = corner + growth * (erector - corner)

    across = np.array([1.0, 0.0])
    multifidus_line, shift = _to_area(
        multifidus, MULTIFIDUS_SEPTUM[:, None] * across, area["multifidus"]
    )
    erector = erector + shift * ERECTOR_SEPTUM[:, None] * across
    septum_x = erector[[0, 9], 0].mean()
    outwards = (1 - ERECTOR_SEPTUM) * (erector[:, 0] - septum_x)
    erector_line, _ = _to_area(erector, outwards[:, None] * across, area["erector_spinae"])
    return {"erector_spinae": erector_line, "multifidus": multifidus_line}


def _to_area(
    control: np.ndarray, direction: np.ndarray, area_mm2: float
) -> tuple[np.ndarray, float]:
    """Move control points along x until the curve has an area, which is linear in the amount moved."""
    start = signed_area(spline(control))
    gain = signed_area(spline(control + direction)) - start
    amount = (np.sign(start) * area_mm2 - start) / gain
    return spline(control + amount * direction), amount
