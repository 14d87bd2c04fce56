"""The spinal canal: epidural fat, dural sac, cord, cauda equina and the roots that leave it."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from paravert.synthesis.body_part import BodyPart
from paravert.synthesis.solids import ellipse, mirrored, spline
from paravert.synthesis.spine import Spine
from paravert.synthesis.tissues import Tissue
from paravert.synthesis.vertebrae import VERTEBRAE

_FIRST, _LAST = -1.5, 7.2
RINGS = 48
ROOTS = 22
FORAMEN_FAT = ((10, 16), (18, 13), (22, 14), (23, 20), (20, 25), (14, 27))


def foramina(spine: Spine) -> Iterator[BodyPart]:
    """Yield the fat between the pedicles, beside the canal; bones are painted over it."""
    left = spline(np.array(FORAMEN_FAT, float), 40)
    for vertebra in VERTEBRAE:
        for outline in (left, mirrored(left)):
            tube = spine.bone(vertebra - 0.06, vertebra + 0.66, outline)
            yield BodyPart(tube, Tissue.EPIDURAL_FAT)


def canal(spine: Spine, rng: np.random.Generator) -> Iterator[BodyPart]:
    """Yield canal and nerves in painting order."""
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
    """Return 1 at the discs and 0 at mid vertebra, smoothly."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * (level % 1.0))


def _canal(level: float) -> np.ndarray:
    """Return the canal, round at the pedicles; at the discs fat fills a point behind the sac."""
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
    """Return the shape of one root: at the back of the sac in the supine, moving out to leave."""
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
    """Return the root under a pedicle with its ganglion."""
    out = np.clip((level - vertebra + 0.1) / 0.9, 0, 1)
    size = 1.5 + 1.3 * np.sin(np.pi * np.clip(out * 1.4, 0, 1))
    return ellipse((side * (10 + 17 * out), 20.0 - 2.0 * out), (size * 1.1, size), vertices=20)
