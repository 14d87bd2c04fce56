"""The spine as a curved axis: where a level lies, and how local outlines are placed along it.

A level counts vertebrae: 1.0 is mid L1, 1.5 the disc L1/L2, 5.0 mid L5. Local outlines lie about
the middle of the vertebral body or disc, x to the left and y to the back, in mm.
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
    """One subject's spine: size, lordosis and a slight side bend.

    scale: size against the reference. bend_mm: by how much L1 lies behind L3 to L4. sway_mm:
    greatest shift to the left between L1 and L5, negative to the right.
    """

    scale: float
    bend_mm: float
    sway_mm: float

    @property
    def pitch_mm(self) -> float:
        """Height of one vertebra with its disc."""
        return PITCH_MM * self.scale

    def height_mm(self, level: float | np.ndarray) -> np.ndarray:
        """Return z of a level; mid L3 is 0 and the head is up."""
        return (MIDDLE_LEVEL - np.asarray(level)) * self.pitch_mm

    def level(self, height_mm: float | np.ndarray) -> np.ndarray:
        """Return the level at height z on the axis: the inverse of height_mm."""
        return MIDDLE_LEVEL - np.asarray(height_mm) / self.pitch_mm

    def middle(self, level: float | np.ndarray) -> np.ndarray:
        """Return x and y of the spine's axis, (..., 2)."""
        level = np.asarray(level, float)
        x = self.sway_mm * np.sin((level - 1) * np.pi / 4)
        y = self.bend_mm * ((level - FOREMOST_LEVEL) / (FOREMOST_LEVEL - 1)) ** 2
        return np.stack((x, y), axis=-1)

    def endplate_slope(self, level: float | np.ndarray) -> np.ndarray:
        """Return how far vertebrae rise towards the back, mm per mm."""
        per_level = 2 * self.bend_mm * (np.asarray(level) - FOREMOST_LEVEL)
        return ENDPLATE_SHARE * per_level / (FOREMOST_LEVEL - 1) ** 2 / self.pitch_mm

    def nearest_ring(self, tube: Tube, level: float) -> np.ndarray:
        """Return the drawn outline of a horizontal tube next to a level, (vertices, 2), about the axis."""
        nearest = np.abs(tube.rings[:, 0, 2] - self.height_mm(level)).argmin()
        return tube.rings[nearest, :, :2] - self.middle(level)

    def tube(self, levels: np.ndarray, outlines: np.ndarray, *, tilted: bool = False) -> Tube:
        """Place local outlines, (levels, vertices, 2) in mm, along the axis.

        levels ascend, from the head down. Tilted outlines lie parallel to the endplates (bones,
        discs); the others are horizontal (muscles, organs).
        """
        levels = np.asarray(levels, float)
        middle = self.middle(levels)
        height = np.broadcast_to(self.height_mm(levels)[:, None], outlines.shape[:2])
        if tilted:
            height = height + self.endplate_slope(levels)[:, None] * outlines[..., 1]
        return Tube(np.concatenate((outlines + middle[:, None], height[..., None]), axis=2))

    def bone(self, first: float, last: float, shape: Shape | np.ndarray, rings: int = 7) -> Tube:
        """Make a tilted tube between two levels; shape is drawn for the reference man.

        shape: an outline that holds for all levels, or a function of the level.
        """
        return self._drawn(first, last, shape, rings, tilted=True)

    def organ(self, first: float, last: float, shape: Shape | np.ndarray, rings: int = 12) -> Tube:
        """Make a horizontal tube between two levels; shape as for bone."""
        return self._drawn(first, last, shape, rings, tilted=False)

    def _drawn(
        self, first: float, last: float, shape: Shape | np.ndarray, rings: int, *, tilted: bool
    ) -> Tube:
        if isinstance(shape, np.ndarray):
            levels = np.array((first, last))
            outlines = np.stack((shape, shape))
        else:
            levels = np.linspace(first, last, rings)
            outlines = np.stack([shape(level) for level in levels])
        return self.tube(levels, outlines * self.scale, tilted=tilted)


def between_levels(
    level: float, levels: Sequence[float] | np.ndarray, points: np.ndarray
) -> np.ndarray:
    """Interpolate control points, (levels, points, 2), linearly between levels."""
    lower = int(np.clip(np.searchsorted(levels, level, side="right") - 1, 0, len(levels) - 2))
    share = np.clip((level - levels[lower]) / (levels[lower + 1] - levels[lower]), 0, 1)
    return points[lower] + share * (points[lower + 1] - points[lower])
