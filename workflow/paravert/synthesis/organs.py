"""Kidneys, liver, spleen, pancreas, bowel and vessels."""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from paravert.synthesis.solids import ellipse, spline
from paravert.synthesis.spine import Spine
from paravert.synthesis.tissues import CAVITY, BodyPart, Tissue
from paravert.synthesis.trunk import Trunk

LUMEN = (
    (Tissue.BOWEL_CONTENT, 0.46),
    (Tissue.BOWEL_FLUID, 0.24),
    (Tissue.GAS, 0.30),
)


def organs(
    spine: Spine, trunk: Trunk, rng: np.random.Generator, kidneys: Sequence[Sequence[float]]
) -> Iterator[BodyPart]:
    """Yield the body parts of bowel, liver, spleen, pancreas and kidneys.

    Body part: a tube filled with one tissue, some with a rim of another (`BodyPart.rim`), in coordinates
    of the body (LPS, mm, mid L3 at z = 0).
    Later parts replace earlier ones where they overlap; these replace only tissues of the abdominal
    cavity (CAVITY) and of their own rims. spine: axis along which they lie. trunk: size of the abdomen.
    rng: random shapes and positions. kidneys: shift from the usual place of the left, then of the right
    kidney, each three numbers: mm to the subject's left, mm to the back (both for a body height of 178
    cm), vertebral levels towards the feet.
    """
    yield from _bowel_loops(spine, trunk, rng)
    yield from _colon(spine, trunk, rng)
    yield from _upper_organs(spine, trunk, rng)
    for side, moved in zip((1, -1), kidneys, strict=True):
        yield from _kidney(spine, side, rng, moved)


def _cavity(tube, tissue: Tissue, rim: Tissue | None = None, rim_mm: float = 0.0) -> BodyPart:
    """Return a part that replaces only tissues of the abdominal cavity."""
    return BodyPart(tube, tissue, rim, rim_mm, over=CAVITY)


def _cap(level: float, first: float, last: float) -> float:
    """Return the relative radius at a level of a rounded body: 1 in the middle, 0.01 at the end."""
    half = (last - first) / 2
    return float(np.sqrt(np.clip(1 - ((level - first - half) / half) ** 4, 1e-4, 1)))


def _bowel_loops(spine: Spine, trunk: Trunk, rng: np.random.Generator) -> Iterator[BodyPart]:
    deep = -trunk.front_mm + 22
    for _ in range(64):
        x = rng.uniform(-0.72, 0.72) * trunk.half_width_mm
        y = rng.uniform(deep, -38)
        if abs(x) < 34 and y > -50:
            y -= 22
        first = rng.uniform(-0.5, 4.8)
        last = first + rng.uniform(0.8, 2.2)
        phase, radius = rng.uniform(0, 2 * np.pi, 4), rng.uniform(9, 15)
        stretch, turn = rng.uniform(1.0, 1.9), rng.uniform(0, 180)

        def loop(
            level: float, x=x, y=y, a=first, b=last, p=phase, r=radius, s=stretch, t=turn
        ) -> np.ndarray:
            centre = (x + 12 * np.sin(2.4 * level + p[0]), y + 8 * np.sin(3.1 * level + p[1]))
            size = r * _cap(level, a, b) * (1 + 0.12 * np.sin(9 * level + p[2]))
            outline = ellipse(centre, (size * s, size), t + 40 * np.sin(level + p[3]), 2.2, 64)
            angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
            folds = 1 + 0.03 * np.sin(5 * angle + p[0]) + 0.06 * np.sin(3 * angle + p[2])
            return np.asarray(centre) + (outline - centre) * folds[:, None]

        tissues, shares = zip(*LUMEN[:2] + ((Tissue.GAS, 0.12),), strict=True)
        content = rng.choice(tissues, p=np.array(shares) / sum(shares))
        tube = spine.organ(first, last, loop, 14)
        yield _cavity(tube, Tissue(int(content)), Tissue.BOWEL_WALL, rng.uniform(1.8, 3.2))


def _colon(spine: Spine, trunk: Trunk, rng: np.random.Generator) -> Iterator[BodyPart]:
    for side, first, last in ((-1, 1.8, 5.6), (1, 0.4, 6.2)):
        x = side * (trunk.half_width_mm - trunk.wall_mm - 20) / spine.scale
        phase = rng.uniform(0, 6, 3)
        radius = rng.uniform(15, 20) if side < 0 else rng.uniform(11, 16)

        def colon(level: float, share: float = 1.0, x=x, p=phase, r=radius, a=first, b=last):
            centre = (
                0.92 * x + 5 * np.sin(1.5 * level + p[0]),
                -14 + 7 * np.sin(1.2 * level + p[1]),
            )
            size = r * _cap(level, a, b) * (1 + 0.16 * np.sin(11 * level + p[2]))
            if share < 1:
                return ellipse((centre[0], centre[1] - 0.45 * size), (0.7 * size, 0.38 * size))
            return ellipse(centre, (size, size * 1.15), power=2.3)

        yield _cavity(
            spine.organ(first, last, colon, 40), Tissue.BOWEL_CONTENT, Tissue.BOWEL_WALL, 2.0
        )
        gas = partial(colon, share=0.5)
        start = rng.uniform(first, last - 1.6)
        yield _cavity(spine.organ(start, start + 1.5, gas, 20), Tissue.GAS)


def _upper_organs(spine: Spine, trunk: Trunk, rng: np.random.Generator) -> Iterator[BodyPart]:
    edge = (trunk.half_width_mm - trunk.wall_mm) / spine.scale
    end = 2.4 + rng.normal(0, 0.35)

    def liver(level: float) -> np.ndarray:
        size = np.sqrt(np.clip((end - level) / (end + 2), 0.0004, 1))
        return ellipse((-edge + 10, -58), (100 * size, 66 * size), 12, 2.4, 64)

    def spleen(level: float) -> np.ndarray:
        size = np.sqrt(np.clip((1.2 - level) / 2.4, 0.0004, 1))
        return ellipse((edge - 14, -18), (26 * size, 44 * size), 20, 2.2, 48)

    def pancreas(level: float) -> np.ndarray:
        size = _cap(level, 0.4, 2.7)
        points = [(-46, -52), (-34, -66), (-16, -58), (14, -64), (34, -54), (12, -52), (-20, -44)]
        middle = np.array([-16.0, -56.0])
        return spline(middle + (np.array(points) - middle) * size, 48)

    yield _cavity(spine.organ(0.4, 2.7, pancreas), Tissue.PANCREAS)
    yield _cavity(spine.organ(-2.0, end, liver, 20), Tissue.LIVER)
    yield _cavity(spine.organ(-2.0, 1.2, spleen, 14), Tissue.SPLEEN)


def _kidney(
    spine: Spine, side: int, rng: np.random.Generator, moved: Sequence[float]
) -> Iterator[BodyPart]:
    aside_mm, back_mm, levels = moved
    last = 3.05 + 0.25 * (side < 0) + rng.normal(0, 0.15) + levels
    first = last - 3.1
    middle = (first + last) / 2
    size = np.exp(rng.normal(0, 0.06))
    turn = side * 28.0

    def centre(level: float) -> np.ndarray:
        down = (level - middle) / 1.5
        return np.array([side * (64 + 6 * down) + aside_mm, 4 - 7 * down + back_mm])

    def oval(level: float, shift, half, at, radii, power, vertices) -> np.ndarray:
        """Return an ellipse, tiny `half` levels from its middle, `shift` below the kidney's."""
        full = np.sqrt(np.clip(1 - ((level - middle - shift) / half) ** 2, 0.0004, 1)) * size
        return ellipse(at, (radii[0] * full, radii[1] * full), 0, power, vertices)

    def placed(outline: np.ndarray, level: float) -> np.ndarray:
        return _placed(outline, turn, side) + centre(level)

    def kidney(level: float) -> np.ndarray:
        outline = oval(level, 0, last - middle, (0, 0), (25, 31), 2.2, 56)
        hollow = np.clip(1.25 - abs(level - middle), 0, 1) * 11
        outline[:, 0] += hollow * np.exp(-((outline[:, 1] / 9) ** 2)) * (outline[:, 0] < 0)
        return placed(outline, level)

    def sinus(level: float) -> np.ndarray:
        return placed(oval(level, 0, 1.05, (-7, 0), (11, 15), 2.2, 40), level)

    def pelvis(level: float) -> np.ndarray:
        return placed(oval(level, 0.1, 0.55, (-9, 2), (7.5, 3.6), 2.0, 28), level)

    def fascia(level: float) -> np.ndarray:
        return placed(oval(level, 0, 1.8, (3, 0), (37, 43), 2.3, 64), level)

    over = frozenset({Tissue.VISCERAL_FAT})
    tube = spine.organ(middle - 1.7, middle + 1.7, fascia, 16)
    yield BodyPart(tube, Tissue.VISCERAL_FAT, Tissue.SEPTUM, 0.45, over=over)
    yield _cavity(spine.organ(first, last, kidney, 24), Tissue.KIDNEY, Tissue.FASCIA, 0.35)
    for number in range(7):
        angle = np.deg2rad(-105 + 35 * number + rng.uniform(-8, 8))
        for start in (middle - 1.05, middle - 0.35, middle + 0.35):
            at = start + rng.uniform(0, 0.3)

            def pyramid(level: float, a=angle, s=at) -> np.ndarray:
                full = _cap(level, s, s + 0.65) * size
                spot = np.array([15.5 * np.cos(a), 20.0 * np.sin(a)]) * size
                outline = ellipse(tuple(spot), (6.0 * full, 4.2 * full), np.rad2deg(a), 2.2, 20)
                shrink = np.sqrt(np.clip(1 - ((level - middle) / (last - middle)) ** 2, 0.01, 1))
                return placed(outline * shrink, level)

            over = frozenset({Tissue.KIDNEY})
            tube = spine.organ(at, at + 0.65, pyramid, 7)
            yield BodyPart(tube, Tissue.MEDULLA, over=over)
    yield _cavity(spine.organ(middle - 1.05, middle + 1.05, sinus, 12), Tissue.VISCERAL_FAT)
    yield _cavity(spine.organ(middle - 0.45, middle + 0.65, pelvis, 9), Tissue.URINE)


def _placed(outline: np.ndarray, turn_deg: float, side: int) -> np.ndarray:
    """Rotate an outline drawn for the left kidney, and mirror it if side is -1 (right)."""
    turn = np.deg2rad(abs(turn_deg))
    c, s = np.cos(turn), np.sin(turn)
    x = outline[:, 0] * c - outline[:, 1] * s
    y = outline[:, 0] * s + outline[:, 1] * c
    return np.column_stack((side * x, y))


def vessels(spine: Spine, trunk: Trunk, rng: np.random.Generator) -> Iterator[BodyPart]:
    """Yield the body parts of aorta, vena cava, iliac vessels, ureters and small vessels.

    Body part: a tube filled with one tissue, some with a rim of another (`BodyPart.rim`), in coordinates
    of the body (LPS, mm, mid L3 at z = 0).
    Later parts replace earlier ones where they overlap, ureters and small vessels only visceral
    fat. spine: axis along which they lie. trunk: size of the abdomen. rng: random sizes and
    positions.
    """
    fork = 4.1 + rng.normal(0, 0.12)
    confluence = fork + 0.4
    wide = np.exp(rng.normal(0, 0.08))

    def aorta(level: float) -> np.ndarray:
        return ellipse(
            (7 - 1.5 * (level - 1) / 3, -29 - 0.8 * (level - 1)), (8.6 * wide,) * 2, vertices=36
        )

    def cava(level: float) -> np.ndarray:
        return ellipse((-16, -27 - 0.6 * (level - 1)), (11.5 * wide, 7.6 * wide), 12, vertices=36)

    def artery(level: float, side: int) -> np.ndarray:
        out = level - fork
        return ellipse(
            (5 + side * (4 + 19 * out), -31 + 5 * out), (5.6 * wide, 5.4 * wide), vertices=28
        )

    def vein(level: float, side: int) -> np.ndarray:
        out = level - confluence
        start = -12 if side < 0 else -8
        centre = (
            start + side * (3 + 21 * out) + (9 * min(out, 1) if side > 0 else 0),
            -25 + 5 * out,
        )
        return ellipse(centre, (7.4 * wide, 5.6 * wide), side * 15, vertices=28)

    for first, last, shape in (
        (confluence, 6.5, partial(vein, side=1)),
        (confluence, 6.5, partial(vein, side=-1)),
        (-2.0, confluence + 0.1, cava),
    ):
        yield BodyPart(spine.organ(first, last, shape, 14), Tissue.VEIN, Tissue.VESSEL_WALL, 0.7)
    for first, last, shape in (
        (fork - 0.1, 6.5, partial(artery, side=1)),
        (fork - 0.1, 6.5, partial(artery, side=-1)),
        (-2.0, fork + 0.12, aorta),
    ):
        yield BodyPart(spine.organ(first, last, shape, 14), Tissue.ARTERY, Tissue.VESSEL_WALL, 0.9)
    yield from _small_vessels(spine, trunk, rng)


def _small_vessels(spine: Spine, trunk: Trunk, rng: np.random.Generator) -> Iterator[BodyPart]:
    for _ in range(40):
        x, y = rng.uniform(-70, 70), rng.uniform(-trunk.front_mm + 25, -34)
        first = rng.uniform(0, 4.5)
        drift, radius = rng.normal(0, 9, 2), rng.uniform(0.9, 2.4)

        def vessel(level: float, x=x, y=y, a=first, d=drift, r=radius) -> np.ndarray:
            centre = (x + d[0] * (level - a), y + d[1] * (level - a))
            return ellipse(centre, (r, r), vertices=14)

        tube = spine.organ(first, first + rng.uniform(0.5, 1.8), vessel, 6)
        over = frozenset({Tissue.VISCERAL_FAT})
        yield BodyPart(tube, Tissue.VESSEL_WALL, Tissue.ARTERY, 0.5 * radius, over=over)
    for side in (1, -1):  # ureter and gonadal vessels, anterior to the psoas

        def beside(level: float, s=side) -> np.ndarray:
            return ellipse((s * (40 + 3 * level), -20 - 2.5 * level), (1.8, 1.8), vertices=14)

        tube = spine.organ(2.0, 5.5, beside, 12)
        yield BodyPart(tube, Tissue.VESSEL_WALL, over=frozenset({Tissue.VISCERAL_FAT}))
