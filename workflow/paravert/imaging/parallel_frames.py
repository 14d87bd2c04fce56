"""Grouping of DICOM frames by orientation, matrix and position. Stacks are made of these groups.

Of several frames at one position, the one that is given first is used. Positions are LPS, in mm.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from paravert.errors import Reason, SubjectFault
from paravert.imaging.frames import Frame
from paravert.imaging.geometry import angle_deg, cranial_normal, orthonormal_pair

ORIENTATION_TOLERANCE_DEG = 0.2
PIXEL_SPACING_TOLERANCE_MM = 1e-4  # 0.05 mm over 512 pixels
SHIFT_TOLERANCE_MM = 0.15  # in the plane, between the slices of one stack
SAME_HEIGHT_MM = 0.05  # slices nearer than that are at one position

FrameCopies = tuple[Frame, ...]  # the frames at one position: the one kept, then its duplicates


@dataclass(frozen=True, eq=False)
class ParallelFrames:
    """Frames (slices, without pixels) of one orientation, matrix and pixel spacing, by position.

    places: for each position, the frame that is used, then its duplicates; in any order of
    positions. right, down: orthonormal directions to the next column and row, LPS, (3,), common to
    all slices given to `group_frames` that have this orientation. normal: unit vector towards the
    head, LPS, (3,). heights: centres of the frames that are used along the normal, from the LPS
    origin, mm, (places,). in_plane: likewise along right and down, mm, (places, 2). Both in the
    order of `places`.
    """

    places: tuple[FrameCopies, ...]
    right: np.ndarray
    down: np.ndarray
    normal: np.ndarray
    heights: np.ndarray
    in_plane: np.ndarray

    @property
    def frames(self) -> list[Frame]:
        """The frame (attributes of one slice) that is used at each position, in the order of `places`."""
        return [place[0] for place in self.places]

    def part(self, indices: np.ndarray) -> "ParallelFrames":
        """Return a new group of only some positions, with the directions of this one.

        indices: int (n,), into `places`, in the order wanted.
        """
        places = tuple(self.places[index] for index in indices)
        heights, in_plane = self.heights[indices], self.in_plane[indices]
        return ParallelFrames(places, self.right, self.down, self.normal, heights, in_plane)


def group_frames(frames: Sequence[Frame]) -> list[ParallelFrames]:
    """Return the slices of a series in groups of one orientation, matrix and pixel spacing.

    frames: attributes of the slices, one or more in any order; `frame_fault` must have found no
    fault in them. One orientation: `orientation_clusters`; one position: `same_places`. Neither the
    groups nor the slices of a group are sorted. Slices at one position stay together: the first in
    `frames` is used, the others are its duplicates. Raises SubjectFault: bad-geometry-orientation
    if orientations change gradually from slice to slice, inconsistent-matrix if slices of one
    orientation but different matrices or pixel spacings overlap in height.
    """
    right = np.array([frame.directions[0] for frame in frames])
    down = np.array([frame.directions[1] for frame in frames])
    groups = []
    for members in orientation_clusters(right, down):
        spread = orientation_spread_deg(right[members], down[members])
        if spread > 2 * ORIENTATION_TOLERANCE_DEG:
            raise SubjectFault(
                Reason.BAD_GEOMETRY_ORIENTATION,
                f"slices turn gradually by {spread:.2f} degrees in all, expected parallel slices",
            )
        groups += _by_place(_by_matrix(_parallel([(frames[index],) for index in members])))
    return groups


def _parallel(places: Sequence[FrameCopies]) -> ParallelFrames:
    """Return frames of one orientation, which is the mean over those that are kept."""
    kept = [place[0] for place in places]
    directions = np.mean([frame.directions for frame in kept], axis=0)
    right, down = orthonormal_pair(*directions)
    normal = cranial_normal(right, down)
    centres = np.array([frame.centre for frame in kept])
    in_plane = centres @ np.column_stack([right, down])
    return ParallelFrames(tuple(places), right, down, normal, centres @ normal, in_plane)


def _by_place(parts: list[ParallelFrames]) -> list[ParallelFrames]:
    """Join the frames at each position; parts: of one orientation, one part per matrix.

    Duplicates do not count in the mean orientation.
    """
    places = [
        tuple(part.places[index][0] for index in members)
        for part in parts
        for members in same_places(part.heights, part.in_plane)
    ]
    if all(len(place) == 1 for place in places):
        return parts
    return _by_matrix(_parallel(places))


def _by_matrix(group: ParallelFrames) -> list[ParallelFrames]:
    """Split a group by matrix and pixel spacing; raises SubjectFault where the parts interleave."""
    keys: list[tuple] = []
    members: dict[int, list[int]] = defaultdict(list)
    for index, frame in enumerate(group.frames):
        key = (frame.rows, frame.columns, frame.row_spacing_mm, frame.column_spacing_mm)
        alike = (n for n, known in enumerate(keys) if _same_matrix(known, key))
        number = next(alike, len(keys))
        if number == len(keys):
            keys.append(key)
        members[number].append(index)
    parts = [group.part(np.array(indices)) for indices in members.values()]
    parts.sort(key=lambda part: part.heights.min())
    for below, above in zip(parts, parts[1:], strict=False):
        if above.heights.min() <= below.heights.max() + SAME_HEIGHT_MM:
            raise SubjectFault(
                Reason.INCONSISTENT_MATRIX,
                f"slices of {_matrix(below)} lie among slices of {_matrix(above)}, "
                "expected one matrix and pixel spacing",
            )
    return parts


def _same_matrix(first: tuple, second: tuple) -> bool:
    off = max(abs(first[2] - second[2]), abs(first[3] - second[3]))
    return first[:2] == second[:2] and off <= PIXEL_SPACING_TOLERANCE_MM


def _matrix(part: ParallelFrames) -> str:
    frame = part.frames[0]
    spacing = f"{frame.row_spacing_mm:g} x {frame.column_spacing_mm:g} mm"
    return f"{frame.rows} x {frame.columns} pixels of {spacing}"


# --- clusters of directions and positions --------------------------------------------------------


def orientation_clusters(right: np.ndarray, down: np.ndarray) -> list[np.ndarray]:
    """Return the indices of the slices of each orientation, one array (n,) per orientation, ascending.

    right, down: unit directions to the next column and row, LPS, (slices, 3). Slices whose
    directions both differ by at most 0.2 degrees have one orientation, directly or through other
    slices. The orientations are in no particular order.
    """
    pairs, member = np.unique(np.stack([right, down], axis=1), axis=0, return_inverse=True)

    def near(one: int, others: np.ndarray) -> np.ndarray:
        return angle_deg(pairs[one], pairs[others]).max(axis=-1) <= ORIENTATION_TOLERANCE_DEG

    clusters = _linked(len(pairs), near)
    return [np.flatnonzero(np.isin(member.ravel(), cluster)) for cluster in clusters]


def orientation_spread_deg(right: np.ndarray, down: np.ndarray) -> float:
    """Return the largest angle in degrees by which two slices differ in a direction.

    right, down: unit directions to the next column and row, LPS, (slices, 3). The right directions
    of any two slices are compared, and the down directions.
    """
    pairs = np.unique(np.stack([right, down], axis=1), axis=0)
    return max(float(angle_deg(pair, pairs[n:]).max()) for n, pair in enumerate(pairs))


def shift_clusters(in_plane: np.ndarray) -> list[np.ndarray]:
    """Return the indices of slices straight above one another, one array (n,) per column of slices.

    in_plane: centres of parallel slices in their plane, (slices, 2), in mm. Positions that differ
    by at most 0.15 mm are equal, directly or through other slices. Each array is ascending, and the
    arrays follow each other by their first index.
    """
    return _linked(len(in_plane), lambda one, others: _over(in_plane, one, others))


def same_places(heights: np.ndarray, in_plane: np.ndarray) -> list[np.ndarray]:
    """Return the indices of the slices at each position, one array (n,) per position.

    heights, in_plane: centres of parallel slices along the normal, (slices,), and in the plane,
    (slices, 2), in mm. Positions are the same, directly or through other slices, within 0.05 mm
    along the normal and 0.15 mm in the plane. Each array is ascending, and the arrays follow each
    other by their first index.
    """

    def near(one: int, others: np.ndarray) -> np.ndarray:
        level = np.abs(heights[others] - heights[one]) <= SAME_HEIGHT_MM
        return level & _over(in_plane, one, others)

    return _linked(len(heights), near)


def _over(in_plane: np.ndarray, one: int, others: np.ndarray) -> np.ndarray:
    return np.linalg.norm(in_plane[others] - in_plane[one], axis=-1) <= SHIFT_TOLERANCE_MM


def _linked(count: int, near: Callable[[int, np.ndarray], np.ndarray]) -> list[np.ndarray]:
    """Return the connected components of `count` items, each as sorted indices.

    near(one, others): bool (others,), whether items are linked to `one`. Queried item by item, so
    that thousands of slices need no matrix of all pairs.
    """
    waiting = np.arange(count)
    found = []
    while len(waiting):
        members, reached, waiting = [], [int(waiting[0])], waiting[1:]
        while reached:
            members.append(reached.pop())
            linked = near(members[-1], waiting)
            reached += waiting[linked].tolist()
            waiting = waiting[~linked]
        found.append(np.sort(members))
    return found
