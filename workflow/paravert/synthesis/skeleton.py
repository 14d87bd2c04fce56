"""Vertebrae, discs, the canal with its nerves, sacrum and iliac bones."""

from collections.abc import Iterator

import numpy as np

from paravert.synthesis.frame import Frame
from paravert.synthesis.geometry import ellipse, mirrored, spline
from paravert.synthesis.parts import CAVITY, Part
from paravert.synthesis.tissues import Tissue

VERTEBRAE = (-1, 0, 1, 2, 3, 4, 5)  # T11 to L5, counted as levels
BODY_HALF_HEIGHT = 0.37  # of a level; the rest is disc
TIP_MM = (
    (-1.0, 60.0),
    (1.0, 60.0),
    (2.0, 65.0),
    (3.0, 70.0),
    (4.0, 74.0),
    (5.0, 66.0),
    (6.0, 60.0),
)
TRANSVERSE_MM = {-1: 24, 0: 26, 1: 36, 2: 42, 3: 47, 4: 43, 5: 42}
# The hips stay within the skin, however thin the subject.
UNDER_HIPS = CAVITY | {Tissue.FAT, Tissue.FASCIA, Tissue.WALL_MUSCLE}


def spinous_tip_mm(level: float) -> float:
    """Return y of the spinous tips of the reference man in the local frame."""
    levels, tips = zip(*TIP_MM, strict=True)
    return float(np.interp(level, levels, tips))


def skeleton(frame: Frame, rng: np.random.Generator) -> Iterator[Part]:
    """Yield bones, discs, ligaments and canal in painting order; all of them stand above the muscles."""
    turn = rng.normal(0, 1.2)  # facets are never quite symmetric
    yield from _foramina(frame)
    for vertebra in VERTEBRAE:
        yield from _posterior_elements(frame, vertebra, turn)
    for vertebra in VERTEBRAE:
        yield from _body_and_disc(frame, vertebra)
    yield from _sacrum(frame)
    for vertebra in VERTEBRAE:
        yield from _joints(frame, vertebra, turn)
    yield from _canal(frame)
    yield from _nerves(frame, rng)


def _bone(
    frame: Frame, first: float, last: float, shape, rim_mm: float = 0.9, rings: int = 7
) -> Part:
    tube = frame.bone(first, last, shape, rings)
    return Part(tube, Tissue.MARROW, Tissue.CORTEX, rim_mm)


def _both_sides(points: list[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    left = spline(np.array(points, float), 40)
    return left, mirrored(left)


def body_outline(level: float, flare: float = 1.0) -> np.ndarray:
    """Return the outline of a vertebral body or disc, with the back wall slightly hollow."""
    step = np.clip(level - 1, -2, 5)
    outline = ellipse((0, 0), ((22 + step) * flare, (16.0 + 0.35 * step) * flare), power=2.45)
    hollow = 3.0 * np.exp(-((outline[:, 0] / 9) ** 2)) * np.clip(1 - 0.2 * step, 0.2, 1)
    outline[:, 1] -= np.where(outline[:, 1] > 0, hollow, 0)
    return outline


def _body_and_disc(frame: Frame, vertebra: int) -> Iterator[Part]:
    def body(level: float) -> np.ndarray:
        return body_outline(level, 0.93 + 0.10 * (abs(level - vertebra) / BODY_HALF_HEIGHT) ** 2)

    top, bottom = vertebra - BODY_HALF_HEIGHT, vertebra + BODY_HALF_HEIGHT
    yield _bone(frame, top, bottom, body, rim_mm=1.1, rings=9)
    vein = lambda level: ellipse((0, 9.5), (1.8, 5.5), vertices=20)  # noqa: E731
    yield Part(frame.bone(vertebra - 0.06, vertebra + 0.06, vein, 2), Tissue.VEIN_IN_BONE)

    below = vertebra + 1 - BODY_HALF_HEIGHT
    disc = lambda level: body_outline(level, 1.05)  # noqa: E731
    yield Part(frame.bone(bottom, below, disc, 3), Tissue.ANNULUS)
    middle = (bottom + below) / 2
    half = 0.42 * (below - bottom)

    def nucleus(level: float) -> np.ndarray:
        swell = np.sqrt(np.clip(1 - ((level - middle) / half) ** 2 * 0.8, 0.05, 1))
        step = np.clip(level - 1, -2, 5)
        return ellipse(
            (0, -0.5), ((17.5 + 0.8 * step) * swell, (12.0 + 0.3 * step) * swell), power=2.3
        )

    tube = frame.bone(middle - half, middle + half, nucleus)
    yield Part(tube, Tissue.NUCLEUS, Tissue.INNER_ANNULUS, 2.6)


def _posterior_elements(frame: Frame, vertebra: int, turn: float) -> Iterator[Part]:
    k = vertebra
    wide = 1.0 if k < 5 else 1.25  # the pedicles of L5 stand far apart
    length = TRANSVERSE_MM[k]
    tip = spinous_tip_mm(k)
    pedicles = _both_sides(
        [
            (12 * wide, 9),
            (20 * wide, 9),
            (22 * wide, 18),
            (21 * wide, 30),
            (14 * wide, 32),
            (13, 20),
        ]
    )
    thick = 3.2 if k == 5 else 2.2
    processes = _both_sides(
        [
            (16, 21),
            (28, 22),
            (length - 3, 28 - thick),
            (length, 28),
            (length - 4, 28 + thick),
            (28, 29),
            (17, 31),
        ]
    )
    for side in (0, 1):
        yield _bone(frame, k - 0.20, k + 0.02, lambda level, s=side: processes[s], 0.8, 3)
        yield _bone(frame, k - 0.34, k - 0.02, lambda level, s=side: pedicles[s], 1.0, 3)

    def spinous(level: float) -> np.ndarray:
        d = level - k
        grown = np.interp(d, (0.02, 0.20, 0.42, 0.58), (0.15, 1.0, 1.0, 0.8))
        top = np.interp(d, (0.02, 0.35, 0.58), (38, 38, 52))
        end = max(38 + (tip - 38) * grown, top + 4)
        knob = 4.4 if d > 0.2 else 3.0
        neck = top + 0.55 * (end - top)
        return spline(
            [
                (-2.6, top),
                (2.6, top),
                (2.2, neck),
                (knob, end - 3),
                (0, end),
                (-knob, end - 3),
                (-2.2, neck),
            ],
            48,
        )

    def lamina(level: float) -> np.ndarray:
        fall = 3.0 * np.clip(level - k - 0.1, 0, 1)
        half = [
            (0, 35 + fall),
            (7, 32.5 + fall),
            (14, 26),
            (18, 29),
            (16, 34),
            (8, 39.5 + fall),
            (0, 43),
        ]
        return spline(half + [(-x, y) for x, y in half[-2:0:-1]], 72)

    yield _bone(frame, k + 0.02, k + 0.60, spinous, 0.8, 9)
    yield _bone(frame, k - 0.06, k + 0.42, lamina, 0.8, 5)


def _joints(frame: Frame, vertebra: int, turn: float) -> Iterator[Part]:
    """Yield the facet joints and yellow ligaments at the disc below a vertebra."""
    level = vertebra + 0.5
    wide = 0.94 + 0.06 * max(level - 1, 0)
    upper = [(11.5, 30), (14.5, 27), (18.5, 32), (20, 38), (16, 42), (11.5, 37)]  # of this vertebra
    lower = [(15.5, 21), (21, 19), (25, 25), (25.5, 34), (22, 38), (19.5, 31), (16, 26)]
    gap = [(14.6, 24.5), (15.9, 24.0), (19.2, 30.5), (21.4, 37.5), (20.2, 38), (18.0, 31.5)]
    yellow = [(1.0, 36.5), (7, 32.5), (11.5, 27), (14, 25.5), (14, 28.5), (9.5, 34.5), (2.0, 41)]
    for side in (1, -1):

        def placed(points: list[tuple[float, float]], s: int = side) -> np.ndarray:
            angle = np.deg2rad(s * turn + 5 * (level - 3))
            local = np.array(points, float) - (18, 30)
            c, sn = np.cos(angle), np.sin(angle)
            turned = np.column_stack(
                (local[:, 0] * c - local[:, 1] * sn, local[:, 0] * sn + local[:, 1] * c)
            )
            return spline((turned + (18, 30)) * (s * wide, 1), 36)

        for points, first, last in ((upper, -0.22, 0.20), (lower, -0.16, 0.24)):
            outline = placed(points)
            yield _bone(frame, level + first, level + last, lambda _, o=outline: o, 0.9, 3)
        joint = placed(gap)
        yield Part(frame.bone(level - 0.13, level + 0.17, lambda _, o=joint: o, 2), Tissue.JOINT)
        outline = spline(np.array(yellow) * (side, 1), 40)
        yield Part(
            frame.bone(level - 0.12, level + 0.42, lambda _, o=outline: o, 2), Tissue.LIGAMENT
        )


def _foramina(frame: Frame) -> Iterator[Part]:
    """Yield the fat round the roots beside the canal and the ligaments between the spinous processes."""
    fat = _both_sides([(10, 16), (20, 13), (27, 14), (28, 21), (22, 25), (14, 27)])
    for vertebra in VERTEBRAE:
        for outline in fat:
            tube = frame.bone(vertebra - 0.06, vertebra + 0.66, lambda _, o=outline: o, 2)
            yield Part(tube, Tissue.EPIDURAL_FAT)

    def interspinous(level: float) -> np.ndarray:
        tip = spinous_tip_mm(level)
        return spline(
            [(-1.6, 40), (1.6, 40), (1.9, 55), (1.5, tip - 2), (-1.5, tip - 2), (-1.9, 55)], 30
        )

    def supraspinous(level: float) -> np.ndarray:
        return ellipse((0, spinous_tip_mm(level) + 0.5), (3.0, 1.8), vertices=20)

    yield Part(frame.bone(-1.0, 5.9, interspinous, 24), Tissue.INTERSPINOUS)
    yield Part(frame.bone(-1.0, 5.9, supraspinous, 24), Tissue.LIGAMENT)


def _sacrum(frame: Frame) -> Iterator[Part]:
    def body(level: float) -> np.ndarray:
        shrink = np.interp(level, (5.63, 7.5), (1.0, 0.6))
        return body_outline(5.0, 1.02) * shrink + (0, 8 * (level - 5.63))

    half = [(16, -8), (34, -6), (52, 4), (58, 18), (50, 34), (34, 38), (18, 34)]

    def wing(level: float, side: int) -> np.ndarray:
        grow = np.interp(level, (5.55, 6.2), (0.75, 1.05))
        return spline(np.array(half) * (side * grow, 1) + (0, 8 * max(level - 5.63, 0)), 56)

    for side in (1, -1):
        yield _bone(frame, 5.55, 7.2, lambda level, s=side: wing(level, s), 1.2, 7)
    yield _bone(frame, 5.63, 7.4, body, 1.2, 7)


def _canal(frame: Frame) -> Iterator[Part]:
    def canal(level: float) -> np.ndarray:
        open_back = 0.5 - 0.5 * np.cos(2 * np.pi * (level % 1.0))  # widest and pointed at the discs
        width = 11.5 + 0.4 * max(level - 1, 0)
        outline = ellipse((0, 24.5), (width, 8.6), power=2.2)
        point = 4.0 * open_back * np.exp(-((outline[:, 0] / 4.5) ** 2))
        outline[:, 1] += np.where(outline[:, 1] > 24.5, point, 0)
        return outline

    def sac(level: float) -> np.ndarray:
        small = np.interp(level, (1, 4, 5.5, 7), (1.0, 0.95, 0.8, 0.45))
        disc = 0.5 - 0.5 * np.cos(2 * np.pi * (level % 1.0))
        outline = ellipse((0, 23.8), (9.6 * small, (7.2 - 0.5 * disc) * small), power=2.2)
        back = outline[:, 1] > 23.8
        outline[:, 0] *= np.where(back, 1 - 0.25 * disc * (outline[:, 1] - 23.8) / 7.2, 1)
        return outline

    levels = 48
    yield Part(frame.bone(-1.5, 7.3, canal, levels), Tissue.EPIDURAL_FAT)
    yield Part(frame.bone(-1.5, 7.2, sac, levels), Tissue.CSF, Tissue.LIGAMENT, 0.35)


def _nerves(frame: Frame, rng: np.random.Generator) -> Iterator[Part]:
    """Yield conus, cauda equina and the roots that leave under each pedicle."""

    def cord(level: float) -> np.ndarray:
        slim = np.interp(level, (-1.5, 0.6, 1.35), (1.0, 1.0, 0.2))
        return ellipse((0, 24.2), (4.8 * slim, 3.9 * slim), vertices=28)

    yield Part(frame.bone(-1.5, 1.35, cord, 14), Tissue.CORD)
    for number in range(22):
        side = 1 if number % 2 else -1
        exit_level = 1.6 + 4.4 * (number // 2) / 10
        # Roots lie at the back of the sac in the supine, the next to leave outermost.
        angle = np.deg2rad(rng.uniform(15, 88))
        depth = rng.uniform(0.55, 0.95)
        radius = rng.uniform(0.55, 0.85)

        def root(level: float, a=angle, d=depth, s=side, out=exit_level, r=radius) -> np.ndarray:
            leaving = np.clip(1 - (out - level) / 1.5, 0, 1)
            turn = a * (1 - 0.75 * leaving)
            x = s * 6.6 * (d + (1.15 - d) * leaving) * np.cos(turn)
            return ellipse((x, 23.6 + 5.0 * d * np.sin(turn)), (r, r), vertices=12)

        yield Part(frame.bone(0.7, exit_level, root, 14), Tissue.ROOT)
    for vertebra in VERTEBRAE:
        for side in (1, -1):

            def exiting(level: float, k=vertebra, s=side) -> np.ndarray:
                out = np.clip((level - k + 0.1) / 0.9, 0, 1)
                size = 1.5 + 1.3 * np.sin(np.pi * np.clip(out * 1.4, 0, 1))
                centre = (s * (10 + 22 * out), 20.0 - 3.0 * out)
                return ellipse(centre, (size * 1.1, size), vertices=20)

            yield Part(frame.bone(vertebra - 0.1, vertebra + 0.8, exiting, 9), Tissue.ROOT)


def iliac_bones(frame: Frame, rng: np.random.Generator) -> Iterator[Part]:
    """Yield hip muscles and iliac wings, from the crest at L4 downwards."""
    crest = 4.35 + rng.uniform(-0.15, 0.2)
    levels = np.array([crest, crest + 0.25, crest + 0.7, crest + 1.2, crest + 2.5])
    wings = np.array(
        [
            [
                (112, 22),
                (115, 21),
                (116, 26),
                (114, 32),
                (111, 38),
                (109, 37),
                (110, 31),
                (111, 26),
            ],
            [(112, 8), (117, 7), (119, 20), (115, 34), (105, 48), (101, 47), (107, 34), (112, 20)],
            [(110, -14), (117, -16), (115, 10), (98, 36), (73, 61), (65, 58), (86, 33), (106, 10)],
            [(108, -26), (115, -28), (110, 4), (92, 34), (64, 64), (55, 59), (78, 31), (101, 4)],
            [(104, -34), (111, -36), (108, 0), (92, 32), (66, 66), (54, 60), (78, 30), (98, 0)],
        ],
        float,
    )

    def wing(level: float, side: int) -> np.ndarray:
        points = np.stack(
            [np.interp(level, levels, wings[:, j, i]) for j in range(8) for i in (0, 1)]
        ).reshape(8, 2)
        return spline(points * (side, 1), 56)

    def outer(level: float, side: int) -> np.ndarray:
        thick = np.interp(level, levels, (1.0, 7.0, 20.0, 28.0, 36.0))
        bone = wing(level, 1)
        away = np.array([np.cos(0.65), np.sin(0.65)]) * thick
        swell = np.clip((bone - bone.mean(axis=0)) @ away / thick / 12, 0, 1)[:, None]
        return (bone + swell * away + 0.35 * away) * (side, 1)

    def inner(level: float, side: int) -> np.ndarray:
        thick = np.interp(level, levels, (0.5, 5.0, 13.0, 19.0, 24.0))
        bone = wing(level, 1)
        middle = bone.mean(axis=0)
        return (middle + (bone - middle) * (0.9, 0.72) + (-thick * 0.75, -thick * 0.55)) * (side, 1)

    for side in (1, -1):
        for shape in (outer, inner):
            tube = frame.organ(crest, crest + 2.5, lambda level, f=shape, s=side: f(level, s), 14)
            yield Part(tube, Tissue.HIP_MUSCLE, Tissue.SEPTUM, 0.5, over=UNDER_HIPS)
        tube = frame.organ(crest, crest + 2.5, lambda level, s=side: wing(level, s), 14)
        over = UNDER_HIPS | {Tissue.HIP_MUSCLE, Tissue.SEPTUM}
        yield Part(tube, Tissue.ILIUM, Tissue.CORTEX, 1.1, over=over)
