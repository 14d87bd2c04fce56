"""The parts of the trunk beside the spine: lowest ribs, latissimus, iliac wings and hip muscles."""

from collections.abc import Iterator

import numpy as np

from paravert.synthesis.body_part import CAVITY, BodyPart
from paravert.synthesis.solids import mirrored, spline
from paravert.synthesis.spine import Spine
from paravert.synthesis.tissues import Tissue
from paravert.synthesis.variation import Hip

# Flanks stay within the skin, however thin the subject.
UNDER = CAVITY | {Tissue.FAT, Tissue.FASCIA, Tissue.WALL_MUSCLE}
WITH_MUSCLE = UNDER | {Tissue.HIP_MUSCLE, Tissue.SEPTUM}

WING_LEVELS = np.array([0.0, 0.25, 0.7, 1.2, 2.5])  # below the crest
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
OUTER_MM = (1.0, 7.0, 20.0, 28.0, 36.0)  # thickness of the gluteal muscles, by WING_LEVELS
INNER_MM = (0.5, 5.0, 13.0, 19.0, 24.0)  # of the iliacus
OUTWARDS = np.array([np.cos(0.65), np.sin(0.65)])
INWARDS = np.array([-0.85, -0.53])

# Latissimus at L1 and where it ends in the fascia at L3, with the lower serratus before it.
LATISSIMUS = np.array(
    [
        [(60, 66), (80, 59), (104, 40), (122, 16), (127, 18), (109, 45), (84, 65), (62, 70)],
        [(70, 62), (84, 55), (104, 38), (118, 20), (119, 21), (105, 40), (85, 57), (71, 63)],
    ],
    float,
)
LATISSIMUS_LEVELS = (0.6, 2.9)


def flanks(spine: Spine, rng: np.random.Generator, hip: Hip) -> Iterator[BodyPart]:
    """Yield the parts of both sides in painting order; the muscles of the back stand above them."""
    crest = 4.35 + rng.uniform(-0.15, 0.2) + hip.crest
    for side in (1, -1):
        yield from _latissimus(spine, side)
        yield from _ribs(spine, side, rng)
        yield from _hip(spine, side, crest, hip)


def _hip(spine: Spine, side: int, crest: float, hip: Hip) -> Iterator[BodyPart]:
    """Yield gluteal muscles, iliacus and the wing between them, from the crest downwards."""

    def wing(level: float) -> np.ndarray:
        drawn = _between(level - crest, WING_LEVELS, WING)
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
        return spline(_between(level, LATISSIMUS_LEVELS, LATISSIMUS), 56)

    tube = spine.organ(-2.0, LATISSIMUS_LEVELS[1], _on(side, shape), 10)
    yield BodyPart(tube, Tissue.WALL_MUSCLE, Tissue.SEPTUM, 0.3, over=UNDER)


def _ribs(spine: Spine, side: int, rng: np.random.Generator) -> Iterator[BodyPart]:
    """Yield the eleventh and twelfth rib, which run outwards, downwards and forwards."""
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
    """Return the shape of the left (1) or the right (-1)."""
    return shape if side == 1 else lambda level: mirrored(shape(level))


def _between(at: float, levels: tuple | np.ndarray, points: np.ndarray) -> np.ndarray:
    """Interpolate control points, (levels, points, 2), linearly between levels."""
    lower = int(np.clip(np.searchsorted(levels, at, side="right") - 1, 0, len(levels) - 2))
    share = np.clip((at - levels[lower]) / (levels[lower + 1] - levels[lower]), 0, 1)
    return points[lower] + share * (points[lower + 1] - points[lower])
