"""Frames of one orientation, and of one matrix: what may share a stack."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paravert.errors import Reason, SubjectFault
from paravert.imaging import grouping
from paravert.imaging.frames import Frame
from paravert.imaging.geometry import cranial_normal, orthonormal_pair

PIXEL_SPACING_TOLERANCE_MM = 1e-4  # 0.05 mm over 512 pixels


@dataclass(frozen=True, eq=False)
class Parallel:
    """Frames of one orientation: heights along the normal and centres in the plane."""

    frames: tuple[Frame, ...]
    right: np.ndarray
    down: np.ndarray
    normal: np.ndarray
    heights: np.ndarray
    in_plane: np.ndarray

    def part(self, indices: np.ndarray) -> "Parallel":
        """Return some of the frames, in the order of the indices."""
        frames = tuple(self.frames[index] for index in indices)
        heights, in_plane = self.heights[indices], self.in_plane[indices]
        return Parallel(frames, self.right, self.down, self.normal, heights, in_plane)


def parallel_groups(frames: Sequence[Frame]) -> list[Parallel]:
    """Group frames by orientation; raises SubjectFault where orientations fan out gradually."""
    right = np.array([frame.directions[0] for frame in frames])
    down = np.array([frame.directions[1] for frame in frames])
    groups = []
    for members in grouping.orientation_clusters(right, down):
        spread = grouping.orientation_spread_deg(right[members], down[members])
        if spread > 2 * grouping.ORIENTATION_TOLERANCE_DEG:
            raise SubjectFault(
                Reason.BAD_GEOMETRY_ORIENTATION,
                f"slices turn gradually by {spread:.2f} degrees in all, expected parallel slices",
            )
        mean = orthonormal_pair(right[members].mean(axis=0), down[members].mean(axis=0))
        groups.append(_parallel([frames[index] for index in members], *mean))
    return groups


def _parallel(frames: Sequence[Frame], right: np.ndarray, down: np.ndarray) -> Parallel:
    normal = cranial_normal(right, down)
    centres = np.array([frame.centre for frame in frames])
    in_plane = centres @ np.column_stack([right, down])
    return Parallel(tuple(frames), right, down, normal, centres @ normal, in_plane)


def by_matrix(group: Parallel) -> list[Parallel]:
    """Part a group by matrix and pixel spacing; raises SubjectFault where the parts interleave."""
    keys: list[tuple] = []
    members: dict[int, list[int]] = defaultdict(list)
    for index, frame in enumerate(group.frames):
        key = (frame.rows, frame.columns, frame.row_spacing_mm, frame.column_spacing_mm)
        alike = (n for n, known in enumerate(keys) if _same_grid(known, key))
        number = next(alike, len(keys))
        if number == len(keys):
            keys.append(key)
        members[number].append(index)
    parts = [group.part(np.array(indices)) for indices in members.values()]
    parts.sort(key=lambda part: part.heights.min())
    for below, above in zip(parts, parts[1:], strict=False):
        if above.heights.min() <= below.heights.max() + grouping.SAME_HEIGHT_MM:
            raise SubjectFault(
                Reason.INCONSISTENT_MATRIX,
                f"slices of {_matrix(below)} lie among slices of {_matrix(above)}, "
                "expected one matrix and pixel spacing",
            )
    return parts


def _same_grid(first: tuple, second: tuple) -> bool:
    off = max(abs(first[2] - second[2]), abs(first[3] - second[3]))
    return first[:2] == second[:2] and off <= PIXEL_SPACING_TOLERANCE_MM


def _matrix(part: Parallel) -> str:
    frame = part.frames[0]
    spacing = f"{frame.row_spacing_mm:g} x {frame.column_spacing_mm:g} mm"
    return f"{frame.rows} x {frame.columns} pixels of {spacing}"
