"""Outlines of the eight muscles by level, fitted to the areas of a volunteer.

Multifidus and erector spinae fill one compartment and share their septum: the septum is moved
until multifidus has its area, then the lateral part of the erector spinae is stretched until it
has its own. Both conditions are linear in the shift and the stretch, hence solved exactly.
"""

import numpy as np

from paravert.anatomy import MUSCLES, SIDES, label_value
from paravert.synthesis.frame import Frame
from paravert.synthesis.geometry import Tube, mirrored, signed_area, spline
from paravert.synthesis.muscle_shapes import (
    ERECTOR,
    ERECTOR_SEPTUM,
    MULTIFIDUS,
    MULTIFIDUS_SEPTUM,
    PSOAS,
    QUADRATUS,
)
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


def muscle_tubes(volunteer: Volunteer, frame: Frame) -> dict[int, Tube]:
    """Return the eight muscles as tubes by label value, with the planted area at every level."""
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


def _control(points: np.ndarray, level: float, scale: float, wobble: np.ndarray) -> np.ndarray:
    """Return the control points at a level, individually displaced."""
    position = np.clip(level, LEVELS[0], LEVELS[-1]) - LEVELS[0]
    lower = min(int(position), len(LEVELS) - 2)
    control = points[lower] + (position - lower) * (points[lower + 1] - points[lower])
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
    """Move control points along x until their curve has an area: linear in the amount."""
    start = signed_area(spline(control))
    gain = signed_area(spline(control + direction)) - start
    amount = (np.sign(start) * area_mm2 - start) / gain
    return spline(control + amount * direction), amount
