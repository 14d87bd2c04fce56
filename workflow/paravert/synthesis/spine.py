"""The axis of the spine, and tubes placed along it.

A vertebral level is a number: 1.0 is mid L1, 1.5 the disc L1/L2, 5.0 mid L5, 6.0 S1; 0 is T12.
Local coordinates are mm from the spine's axis at a level: x to the subject's left, y to the back;
the axis runs through the middle of vertebral bodies and discs. Shapes are drawn for the reference
man (178 cm) and scaled to the subject.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from paravert.synthesis.solids import Tube

DRAWN_HEIGHT_CM = 178.0  # outlines are drawn for a man of this height
PITCH_MM = 36.2  # vertebra and disc of the reference man
MIDDLE_LEVEL = 3.0
FOREMOST_LEVEL = 3.4  # where the lordosis reaches furthest forward
ENDPLATE_SHARE = 0.7  # endplates turn less than the axis: the muscles' shapes assume so

Shape = Callable[[float], np.ndarray]


@dataclass(frozen=True)
class Spine:
    """The axis of one phantom's spine: size, lordosis and lateral bend.

    scale: size relative to the reference man of 178 cm. bend_mm: distance of mid L1 behind the
    foremost point of the lordosis (level 3.4). sway_mm: largest lateral deviation between L1 and
    L5, positive to the left. Both are of this body, not to be multiplied by scale.
    """

    scale: float
    bend_mm: float
    sway_mm: float

    @property
    def pitch_mm(self) -> float:
        """Height of one vertebra with its disc, in mm."""
        return PITCH_MM * self.scale

    def height_mm(self, level: float | np.ndarray) -> np.ndarray:
        """Return z in mm of a vertebral level (1.0 mid L1, 1.5 disc L1/L2, 5.0 mid L5).

        z is 0 at mid L3 and increases towards the head. level: a number, or an array, whose shape
        the result has.
        """
        return (MIDDLE_LEVEL - np.asarray(level)) * self.pitch_mm

    def level(self, height_mm: float | np.ndarray) -> np.ndarray:
        """Return the vertebral level (1.0 mid L1, 1.5 disc L1/L2, 5.0 mid L5) at a height.

        height_mm: z in mm of the body, 0 at mid L3, increasing towards the head; a number, or an
        array, whose shape the result has.
        """
        return MIDDLE_LEVEL - np.asarray(height_mm) / self.pitch_mm

    def middle(self, level: float | np.ndarray) -> np.ndarray:
        """Return x and y of the spine's axis at a vertebral level, float (..., 2).

        In mm of the body (LPS): x to the left, y to the back. level: 1.0 mid L1, 5.0 mid L5; a
        number, or an array (...).
        """
        level = np.asarray(level, float)
        x = self.sway_mm * np.sin((level - 1) * np.pi / 4)
        y = self.bend_mm * ((level - FOREMOST_LEVEL) / (FOREMOST_LEVEL - 1)) ** 2
        return np.stack((x, y), axis=-1)

    def endplate_slope(self, level: float | np.ndarray) -> np.ndarray:
        """Return the slope of the endplates at a level: rise in z per mm towards the back.

        level: 1.0 mid L1, 5.0 mid L5; a number, or an array, whose shape the result has.
        """
        per_level = 2 * self.bend_mm * (np.asarray(level) - FOREMOST_LEVEL)
        return ENDPLATE_SHARE * per_level / (FOREMOST_LEVEL - 1) ** 2 / self.pitch_mm

    def nearest_ring(self, tube: Tube, level: float) -> np.ndarray:
        """Return the ring of a tube nearest to a vertebral level.

        tube: of horizontal rings, in coordinates of the body (LPS, mm, mid L3 at z = 0). level: 1.0
        mid L1, 5.0 mid L5; beyond the tube its end ring is returned. Returns (vertices, 2), x and y
        in mm relative to the spine's axis at `level`, in the size of this body.
        """
        nearest = np.abs(tube.rings[:, 0, 2] - self.height_mm(level)).argmin()
        return tube.rings[nearest, :, :2] - self.middle(level)

    def tube(
        self,
        levels: Sequence[float] | np.ndarray,
        outlines: Sequence[np.ndarray] | np.ndarray,
        *,
        tilted: bool = False,
    ) -> Tube:
        """Return a tube, in LPS mm of the body, from outlines at vertebral levels.

        levels: (rings,), 1.0 mid L1, 5.0 mid L5, ascending, from cranial to caudal. outlines:
        (rings, vertices, 2), x and y in mm relative to the spine's axis, in the size of this body
        (not multiplied by `scale`). tilted: whether the outlines lie parallel to the endplates
        (bones, discs) or horizontally (muscles, organs).
        """
        levels, outlines = np.asarray(levels, float), np.asarray(outlines)
        middle = self.middle(levels)
        height = np.broadcast_to(self.height_mm(levels)[:, None], outlines.shape[:2])
        if tilted:
            height = height + self.endplate_slope(levels)[:, None] * outlines[..., 1]
        return Tube(np.concatenate((outlines + middle[:, None], height[..., None]), axis=2))

    def bone(self, first: float, last: float, shape: Shape | np.ndarray, rings: int = 7) -> Tube:
        """Return a tube of outlines parallel to the endplates, in LPS mm of the body.

        first, last: the cranial and the caudal level, 1.0 mid L1, 5.0 mid L5. shape: an outline,
        (vertices, 2), (x, y) in mm relative to the spine's axis, for a body height of 178 cm: the
        same at all levels, or a function that returns it for a level. rings: number of outlines if
        it is a function.
        """
        return self._drawn(first, last, shape, rings, tilted=True)

    def organ(self, first: float, last: float, shape: Shape | np.ndarray, rings: int = 12) -> Tube:
        """Return a tube of horizontal outlines between two levels, in LPS mm of the body.

        first, last: the cranial and the caudal level, 1.0 mid L1, 5.0 mid L5. shape: an outline,
        (vertices, 2), (x, y) in mm relative to the spine's axis, for a body height of 178 cm: the
        same at all levels, or a function that returns it for a level. rings: number of outlines if
        it is a function.
        """
        return self._drawn(first, last, shape, rings, tilted=False)

    def _drawn(
        self, first: float, last: float, shape: Shape | np.ndarray, rings: int, *, tilted: bool
    ) -> Tube:
        constant = isinstance(shape, np.ndarray)
        levels = np.linspace(first, last, 2 if constant else rings)
        outlines = np.stack([shape if constant else shape(level) for level in levels])
        return self.tube(levels, outlines * self.scale, tilted=tilted)


def between_levels(
    level: float, levels: Sequence[float] | np.ndarray, points: np.ndarray
) -> np.ndarray:
    """Return control points at a level, float (points, 2), interpolated linearly.

    level: a number on the scale of `levels`. levels: (levels,), at least two, ascending. points:
    (levels, points, 2), the control points at each of them. Beyond the first and last level, those of
    the end are returned.
    """
    lower = int(np.clip(np.searchsorted(levels, level, side="right") - 1, 0, len(levels) - 2))
    share = np.clip((level - levels[lower]) / (levels[lower + 1] - levels[lower]), 0, 1)
    return points[lower] + share * (points[lower + 1] - points[lower])
