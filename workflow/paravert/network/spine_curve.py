"""The vertebral column as a curve through points of known level, and the level of each slice."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from paravert.anatomy import USUAL_PITCH_MM
from paravert.tables import HIGHEST_LEVEL, LOWEST_LEVEL

SAMPLES = 1801  # of the curve, every 0.005 levels
POINT_SD = 0.05  # levels; 2 mm: how well a point marks the middle of a vertebra or disc
SD_PER_LEVEL = 0.1  # added with the distance from the nearest point, in levels


@dataclass(frozen=True)
class SpineCurve:
    """The middle of the vertebral column as a curve through points of known level.

    NumPy arrays. levels: (points,), one or more, ascending (from cranial to caudal); 1.0 at the
    middle of L1, 4.5 in the disc L4/5. places: (points, 3), LPS in mm. The curve is a cubic spline
    (Catmull-Rom if evenly spaced) between the points and a straight line beyond them. Through a
    single point it runs along the body's long axis, 35 mm (USUAL_PITCH_MM) per level. Raises
    ValueError for levels that do not ascend or differ from places in number.
    """

    levels: np.ndarray
    places: np.ndarray

    def __post_init__(self):
        if (np.diff(self.levels) <= 0).any() or len(self.levels) != len(self.places):
            raise ValueError(f"levels {self.levels}, expected ascending ones, a place for each")

    def at(self, level: np.ndarray) -> np.ndarray:
        """Return the points of the curve at some levels, (n, 3), LPS in mm.

        level: NumPy (n,), in any order, also beyond the known points.
        """
        known, places = self.levels, self.places
        if len(known) == 1:
            return places + np.outer(level - known[0], (0, 0, -USUAL_PITCH_MM))
        slopes = np.gradient(places, known, axis=0)
        first = np.clip(np.searchsorted(known, level, side="right") - 1, 0, len(known) - 2)
        width = np.diff(known)[first][:, None]
        inside = np.clip(level, known[0], known[-1])
        t = (inside - known[first])[:, None] / width
        p0, p1, m0, m1 = places[first], places[first + 1], slopes[first], slopes[first + 1]
        curve = (
            (2 * t**3 - 3 * t**2 + 1) * p0
            + (t**3 - 2 * t**2 + t) * width * m0
            + (3 * t**2 - 2 * t**3) * p1
            + (t**3 - t**2) * width * m1
        )
        end = np.where((level < known[0])[:, None], slopes[0], slopes[-1])
        return curve + (level - inside)[:, None] * end

    def slice_levels(
        self, affines: np.ndarray, shape: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the level of each slice where the curve crosses it, and the SD of the level, both (slices,).

        affines: (slices, 4, 4), index (column, row, 0, 1) of each slice to LPS in mm. shape: (rows,
        columns), the same for all images. NaN (both) where the curve does not cross the image between T11
        and S3. Of several crossings, the one whose level is nearest to a known one is used. The SD is
        0.05 levels at a known point; 0.1 per level of distance from the nearest one is added as root of
        the sum of squares.
        """
        levels = np.linspace(LOWEST_LEVEL, HIGHEST_LEVEL, SAMPLES)
        curve = self.at(levels)
        gap = np.abs(levels[:, None] - self.levels).min(axis=1)
        found = np.full((2, len(affines)), np.nan)
        for number, affine in enumerate(affines):
            across, down, corner = affine[:3, 0], affine[:3, 1], affine[:3, 3]
            normal = np.cross(across, down)
            height = (curve - corner) @ (normal / np.linalg.norm(normal))
            crossed = np.flatnonzero((height[1:] <= 0) != (height[:-1] <= 0))
            column = (curve[crossed] - corner) @ across / (across @ across)
            row = (curve[crossed] - corner) @ down / (down @ down)
            in_image = (abs(column + 0.5 - shape[1] / 2) <= shape[1] / 2) & (
                abs(row + 0.5 - shape[0] / 2) <= shape[0] / 2
            )
            if (crossed := crossed[in_image]).size:
                place = crossed[gap[crossed].argmin()]
                share = height[place] / (height[place] - height[place + 1])
                level = (1 - share) * levels[place] + share * levels[place + 1]
                found[:, number] = min(level, HIGHEST_LEVEL), gap[place]
        return found[0], np.hypot(POINT_SD, SD_PER_LEVEL * found[1])


def curve_through(points: Mapping[float, np.ndarray]) -> SpineCurve:
    """Return the curve of the vertebral column through points: {level: position (3,), LPS in mm}.

    points: one at least, in any order. Level: 1.0 at the middle of L1, 4.5 in the disc L4/5.
    """
    levels = sorted(points)
    return SpineCurve(np.array(levels, float), np.stack([points[level] for level in levels]))
