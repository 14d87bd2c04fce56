"""Vertebrae, joints, ligaments, discs, sacrum, and the spinal canal with its contents."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from paravert.synthesis.solids import ellipse, mirrored, spline
from paravert.synthesis.spine import Shape, Spine
from paravert.synthesis.tissues import BodyPart, Tissue

VERTEBRAE = (-1, 0, 1, 2, 3, 4, 5)  # levels of T11 to L5
BODY_HALF_HEIGHT = 0.37  # of a vertebral body, in levels; the rest is disc
SACRUM_LEVEL = 6 - BODY_HALF_HEIGHT
TIP_LEVELS = (-1.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
TIP_MM = (60.0, 60.0, 65.0, 70.0, 74.0, 66.0, 60.0)
TRANSVERSE_MM = {-1: 24, 0: 26, 1: 36, 2: 42, 3: 47, 4: 43, 5: 42}

PEDICLE = ((12, 9), (20, 9), (22, 18), (21, 30), (14, 32), (12.5, 20))
LAMINA = ((0, 35), (7, 32.5), (14, 26), (18, 29), (16, 34), (8, 39.5), (0, 43))
# Left facet joint: inferior process of the upper vertebra, superior process of the lower one.
INFERIOR_PROCESS = ((11.5, 30), (14.5, 27), (18.5, 32), (20, 38), (16, 42), (11.5, 37))
SUPERIOR_PROCESS = ((15.5, 21), (21, 19), (25, 25), (25.5, 34), (22, 38), (19.5, 31), (16, 26))
JOINT_GAP = ((14.6, 24.5), (15.9, 24), (19.2, 30.5), (21.4, 37.5), (20.2, 38), (18, 31.5))
JOINT_MIDDLE = np.array([17.5, 28.0])
YELLOW_LIGAMENT = ((1, 36.5), (7, 32.5), (11.5, 27), (14, 25.5), (14, 28.5), (9.5, 34.5), (2, 41))
SACRAL_WING = ((16, -8), (34, -6), (52, 4), (58, 18), (50, 34), (34, 38), (18, 34))


def spinous_tip_mm(level: float) -> float:
    """Return how far the tips of the spinous processes lie behind the spine's axis, in mm.

    level: vertebral level, 1.0 mid L1, 5.0 mid L5; linear between vertebrae,
    constant above T11 and below S1. For a body height of 178 cm.
    """
    return float(np.interp(level, TIP_LEVELS, TIP_MM))


def vertebrae(spine: Spine, rng: np.random.Generator) -> Iterator[BodyPart]:
    """Yield the body parts of vertebrae T11 to L5, their joints, ligaments and discs, and sacrum.

    Body part: a tube filled with one tissue, some with a rim of another (`BodyPart.rim`), in coordinates
    of the body (LPS, mm, mid L3 at z = 0).
    Later parts replace earlier ones where they overlap. spine: axis along which they lie. rng:
    random asymmetry of the facet joints.
    """
    turn_deg = rng.normal(0, 2.0)  # asymmetry of the facets
    yield from _ligaments_behind(spine)
    for vertebra in VERTEBRAE:
        yield from _posterior_elements(spine, vertebra)
    for vertebra in VERTEBRAE:
        yield from _body_and_disc(spine, vertebra)
    yield from _sacrum(spine)
    for vertebra in VERTEBRAE:
        yield from _joints(spine, vertebra + 0.5, turn_deg)


def body_outline(level: float, flare: float = 1.0) -> np.ndarray:
    """Return the outline of a vertebral body or disc at a vertebral level, float (vertices, 2).

    (x, y), to the left and to the back, in mm relative to the spine's axis, for a body height of
    178 cm. level: 1.0 mid L1, 1.5 disc L1/L2. flare: factor of its size. The posterior wall is
    slightly concave.
    """
    step = np.clip(level - 1, -2, 5)
    outline = ellipse((0, 0), ((22 + step) * flare, (16.0 + 0.35 * step) * flare), power=2.45)
    hollow = 3.0 * np.exp(-((outline[:, 0] / 9) ** 2)) * np.clip(1 - 0.2 * step, 0.2, 1)
    outline[:, 1] -= np.where(outline[:, 1] > 0, hollow, 0)
    return outline


def _bone(
    spine: Spine,
    levels: tuple[float, float],
    shape: Shape | np.ndarray,
    cortex_mm: float = 0.8,
    rings: int = 7,
) -> BodyPart:
    return BodyPart(spine.bone(*levels, shape, rings), Tissue.MARROW, Tissue.CORTEX, cortex_mm)


def _both_sides(points: tuple) -> tuple[np.ndarray, np.ndarray]:
    left = spline(np.array(points, float), 40)
    return left, mirrored(left)


def _body_and_disc(spine: Spine, vertebra: int) -> Iterator[BodyPart]:
    top, bottom = vertebra - BODY_HALF_HEIGHT, vertebra + BODY_HALF_HEIGHT

    def body(level: float) -> np.ndarray:
        return body_outline(level, 0.93 + 0.10 * (abs(level - vertebra) / BODY_HALF_HEIGHT) ** 2)

    yield _bone(spine, (top, bottom), body, 1.1, rings=9)
    vein = ellipse((0, 9.5), (1.8, 5.5), vertices=20)
    yield BodyPart(spine.bone(vertebra - 0.06, vertebra + 0.06, vein), Tissue.VEIN_IN_BONE)

    below = vertebra + 1 - BODY_HALF_HEIGHT
    yield BodyPart(spine.bone(bottom, below, body_outline(vertebra + 0.5, 1.05)), Tissue.ANNULUS)
    middle, half = (bottom + below) / 2, 0.42 * (below - bottom)
    step = np.clip(middle - 1, -2, 5)

    def nucleus(level: float) -> np.ndarray:
        swell = np.sqrt(np.clip(1 - 0.8 * ((level - middle) / half) ** 2, 0.05, 1))
        radii = ((17.5 + 0.8 * step) * swell, (12.0 + 0.3 * step) * swell)
        return ellipse((0, -0.5), radii, power=2.3)

    tube = spine.bone(middle - half, middle + half, nucleus)
    yield BodyPart(tube, Tissue.NUCLEUS, Tissue.INNER_ANNULUS, 2.6)


def _posterior_elements(spine: Spine, vertebra: int) -> Iterator[BodyPart]:
    """Yield transverse processes, pedicles, spinous process and lamina of a vertebra."""
    wide = 1.0 if vertebra < 5 else 1.25  # the pedicles of L5 stand far apart
    pedicles = _both_sides(tuple((x * wide, y) for x, y in PEDICLE))
    processes = _both_sides(_transverse_process(vertebra))
    for process, pedicle in zip(processes, pedicles, strict=True):
        yield _bone(spine, (vertebra - 0.20, vertebra + 0.02), process)
        yield _bone(spine, (vertebra - 0.34, vertebra - 0.02), pedicle, 1.0)
    tip = spinous_tip_mm(vertebra)

    def spinous(level: float) -> np.ndarray:
        return _spinous_outline(level - vertebra, tip)

    def lamina(level: float) -> np.ndarray:
        fall = 3.0 * np.clip(level - vertebra - 0.1, 0, 1)
        half = np.array(LAMINA) + np.outer([1, 1, 0, 0, 0, 1, 0], [0, fall])
        return spline(np.concatenate((half, mirrored(half[-2:0:-1]))), 72)

    yield _bone(spine, (vertebra + 0.02, vertebra + 0.60), spinous, rings=9)
    yield _bone(spine, (vertebra - 0.06, vertebra + 0.42), lamina, rings=5)


def _transverse_process(vertebra: int) -> tuple:
    end = TRANSVERSE_MM[vertebra]
    half = 3.2 if vertebra == 5 else 2.2
    tip = ((end - 3, 28 - half), (end, 28), (end - 4, 28 + half))
    return ((16, 21), (28, 22), *tip, (28, 29), (17, 31))


def _spinous_outline(below: float, tip: float) -> np.ndarray:
    """Return the spinous process, (vertices, 2).

    below: distance below the middle of the vertebra, in levels. tip: y of its tip, mm.
    """
    grown = np.interp(below, (0.02, 0.20, 0.42, 0.58), (0.15, 1.0, 1.0, 0.8))
    top = np.interp(below, (0.02, 0.35, 0.58), (38, 38, 52))
    end = max(38 + (tip - 38) * grown, top + 4)
    knob = 4.4 if below > 0.2 else 3.0
    neck = top + 0.55 * (end - top)
    right = ((-knob, end - 3), (-2.2, neck))
    return spline(
        np.array([(-2.6, top), (2.6, top), (2.2, neck), (knob, end - 3), (0, end), *right]), 48
    )


def _joints(spine: Spine, level: float, turn_deg: float) -> Iterator[BodyPart]:
    """Yield the facet joints and ligamenta flava at the disc of this level."""
    wide = 0.94 + 0.06 * max(level - 1, 0)
    size = float(np.interp(level, (1.5, 4.5), (0.78, 1.0)))
    for side in (1, -1):
        turn = side * turn_deg + 5 * (level - 3)  # the lower joints face forwards
        for points, above, below in (
            (INFERIOR_PROCESS, 0.22, 0.20),
            (SUPERIOR_PROCESS, 0.16, 0.24),
        ):
            outline = _joint_outline(points, turn, size) * (side * wide, 1)
            yield _bone(spine, (level - above, level + below), outline, 0.9)
        gap = _joint_outline(JOINT_GAP, turn, size) * (side * wide, 1)
        yield BodyPart(spine.bone(level - 0.13, level + 0.17, gap), Tissue.JOINT)
        ligament = spline(np.array(YELLOW_LIGAMENT) * (side, 1), 40)
        yield BodyPart(spine.bone(level - 0.12, level + 0.42, ligament), Tissue.LIGAMENT)


def _joint_outline(points: tuple, turn_deg: float, size: float) -> np.ndarray:
    turn = np.deg2rad(turn_deg)
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    return spline((np.array(points, float) - JOINT_MIDDLE) @ rotation * size + JOINT_MIDDLE, 36)


def _ligaments_behind(spine: Spine) -> Iterator[BodyPart]:
    """Yield the interspinous and the supraspinous ligament."""

    def interspinous(level: float) -> np.ndarray:
        tip = spinous_tip_mm(level)
        right = ((-1.5, tip - 2), (-1.9, 55))
        return spline(np.array([(-1.6, 40), (1.6, 40), (1.9, 55), (1.5, tip - 2), *right]), 30)

    def supraspinous(level: float) -> np.ndarray:
        return ellipse((0, spinous_tip_mm(level) + 0.5), (3.0, 1.8), vertices=20)

    yield BodyPart(spine.bone(-1.0, 5.9, interspinous, 24), Tissue.INTERSPINOUS)
    yield BodyPart(spine.bone(-1.0, 5.9, supraspinous, 24), Tissue.LIGAMENT)


def _sacrum(spine: Spine) -> Iterator[BodyPart]:
    def body(level: float) -> np.ndarray:
        shrink = np.interp(level, (SACRUM_LEVEL, 7.5), (1.0, 0.6))
        return body_outline(5.0, 1.02) * shrink + (0, 8 * (level - SACRUM_LEVEL))

    def wing(level: float) -> np.ndarray:
        grow = np.interp(level, (5.55, 6.2), (0.75, 1.05))
        back = 8 * max(level - SACRUM_LEVEL, 0)
        return spline(np.array(SACRAL_WING) * (grow, 1) + (0, back), 56)

    yield _bone(spine, (5.55, 7.2), wing, 1.2)
    yield _bone(spine, (5.55, 7.2), lambda level: mirrored(wing(level)), 1.2)
    yield _bone(spine, (SACRUM_LEVEL, 7.4), body, 1.2)


# --- spinal canal ------------------------------------------------------------------------------


_FIRST, _LAST = -1.5, 7.2  # levels of its ends
RINGS = 48
ROOTS = 22  # of the cauda equina
FORAMEN_FAT = ((10, 16), (18, 13), (22, 14), (23, 20), (20, 25), (14, 27))


def foramina(spine: Spine) -> Iterator[BodyPart]:
    """Yield the body parts of the fat in the intervertebral foramina, left and right.

    Body part: a tube filled with one tissue, some with a rim of another (`BodyPart.rim`), in coordinates
    of the body (LPS, mm, mid L3 at z = 0).
    spine: axis along which they lie.
    """
    left = spline(np.array(FORAMEN_FAT, float), 40)
    for vertebra in VERTEBRAE:
        for outline in (left, mirrored(left)):
            tube = spine.bone(vertebra - 0.06, vertebra + 0.66, outline)
            yield BodyPart(tube, Tissue.EPIDURAL_FAT)


def canal(spine: Spine, rng: np.random.Generator) -> Iterator[BodyPart]:
    """Yield the body parts of epidural fat, dural sac, cord, cauda equina and nerve roots.

    Body part: a tube filled with one tissue, some with a rim of another (`BodyPart.rim`), in coordinates
    of the body (LPS, mm, mid L3 at z = 0).
    Later parts replace earlier ones where they overlap. spine: axis along which they lie. rng:
    random end of the cord, and positions and sizes of the roots of the cauda equina.
    """
    end = 1.35 + rng.normal(0, 0.15)
    yield BodyPart(spine.bone(_FIRST, _LAST, _canal, RINGS), Tissue.EPIDURAL_FAT)
    yield BodyPart(spine.bone(_FIRST, _LAST, _sac, RINGS), Tissue.CSF, Tissue.LIGAMENT, 0.35)
    yield BodyPart(spine.bone(_FIRST, end, partial(_cord, end=end), 14), Tissue.CORD)
    for number in range(ROOTS):
        root = _cauda_root(number, rng)
        yield BodyPart(spine.bone(end - 0.6, _exit_level(number), root, 14), Tissue.ROOT)
    for vertebra in VERTEBRAE:
        for side in (1, -1):
            root = partial(_leaving_root, vertebra=vertebra, side=side)
            yield BodyPart(spine.bone(vertebra - 0.1, vertebra + 0.8, root, 9), Tissue.ROOT)


def _at_disc(level: float) -> float:
    """Return a weight that is 1 at discs and 0 at mid vertebra."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * (level % 1.0))


def _canal(level: float) -> np.ndarray:
    """Return the outline of the spinal canal, with a posterior recess of fat at the discs."""
    outline = ellipse((0, 24.5), (11.5 + 0.4 * max(level - 1, 0), 8.6), power=2.2)
    point = 4.0 * _at_disc(level) * np.exp(-((outline[:, 0] / 4.5) ** 2))
    outline[:, 1] += np.where(outline[:, 1] > 24.5, point, 0)
    return outline


def _sac(level: float) -> np.ndarray:
    small = np.interp(level, (1, 4, 5.5, 7), (1.0, 0.95, 0.8, 0.45))
    disc = _at_disc(level)
    outline = ellipse((0, 23.8), (9.6 * small, (7.2 - 0.5 * disc) * small), power=2.2)
    behind = np.maximum(outline[:, 1] - 23.8, 0) / 7.2
    outline[:, 0] *= 1 - 0.25 * disc * behind
    return outline


def _cord(level: float, end: float) -> np.ndarray:
    slim = np.interp(level, (_FIRST, end - 0.75, end), (1.0, 1.0, 0.2))
    return ellipse((0, 24.2), (4.8 * slim, 3.9 * slim), vertices=28)


def _exit_level(number: int) -> float:
    return 1.6 + 4.4 * (number // 2) / (ROOTS // 2 - 1)


def _cauda_root(number: int, rng: np.random.Generator) -> partial:
    """Return a function of the level: the outline of one nerve root in the dural sac.

    The root lies at the back of the sac, as in supine subjects, and moves laterally towards its
    exit.
    """
    return partial(
        _root,
        side=1 if number % 2 else -1,
        leaves=_exit_level(number),
        angle=np.deg2rad(rng.uniform(15, 88)),
        depth=rng.uniform(0.55, 0.95),
        radius=rng.uniform(0.55, 0.85),
    )


def _root(
    level: float, side: int, leaves: float, angle: float, depth: float, radius: float
) -> np.ndarray:
    leaving = np.clip(1 - (leaves - level) / 1.5, 0, 1)
    turn = angle * (1 - 0.75 * leaving)
    x = side * 6.6 * (depth + (1.15 - depth) * leaving) * np.cos(turn)
    return ellipse((x, 23.6 + 5.0 * depth * np.sin(turn)), (radius, radius), vertices=12)


def _leaving_root(level: float, vertebra: int, side: int) -> np.ndarray:
    """Return the outline of a nerve root with its ganglion below a pedicle."""
    out = np.clip((level - vertebra + 0.1) / 0.9, 0, 1)
    size = 1.5 + 1.3 * np.sin(np.pi * np.clip(out * 1.4, 0, 1))
    return ellipse((side * (10 + 17 * out), 20.0 - 2.0 * out), (size * 1.1, size), vertices=20)
