"""From the frames of a series to stacks: parallel, evenly spaced slices, caudal to cranial."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paravert.errors import Caution, Reason, SubjectFault
from paravert.imaging import grouping
from paravert.imaging.frames import Frame
from paravert.imaging.geometry import cranial_normal, orthonormal_pair

PIXEL_SPACING_TOLERANCE_MM = 1e-4  # 0.05 mm over 512 pixels
IRREGULAR_MM = 0.05  # gaps of a stack that differ more from the mean are told
TAG_TOLERANCE = 0.05  # of the spacing between slices
DENSEST = 0.2  # of the thickness: interpolation lays slices at half or a quarter of it


@dataclass(frozen=True, eq=False)
class FrameStack:
    """Frames of one stack, from caudal to cranial, in a common orientation (LPS).

    right, down: orthonormal directions to the next column and row. normal: towards the head.
    corner: centre of the first pixel of the first slice. slab_source: positions, thickness or tag.
    """

    frames: tuple[Frame, ...]
    right: np.ndarray
    down: np.ndarray
    normal: np.ndarray
    corner: np.ndarray
    slab_mm: float
    slab_source: str

    def corner_of(self, frame: Frame) -> np.ndarray:
        """Return the centre of a frame's first pixel, in the orientation of the stack."""
        across = self.right * frame.column_spacing_mm * (frame.columns - 1) / 2
        return frame.centre - across - self.down * frame.row_spacing_mm * (frame.rows - 1) / 2


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
    pairs = [orthonormal_pair(frame.right, frame.down) for frame in frames]
    right, down = (np.array(directions) for directions in zip(*pairs, strict=True))
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


def frames_by_place(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Return the frames at each place; those of another matrix count as elsewhere."""
    places = []
    for group in parallel_groups(frames):
        for alike in _by_matrix(group):
            found = grouping.same_places(alike.heights, alike.in_plane)
            places += [[alike.frames[index] for index in members] for members in found]
    return places


def stack_frames(frames: Sequence[Frame]) -> tuple[list[FrameStack], set[Caution]]:
    """Group frames, one at each place, into stacks ordered from caudal to cranial.

    Raises SubjectFault: inconsistent-matrix, bad-geometry-orientation, bad-geometry-position,
    duplicate-positions-conflict, too-few-slices.
    """
    stacks: list[FrameStack] = []
    cautions: set[Caution] = set()
    for group in parallel_groups(frames):
        for alike in _by_matrix(group):
            _check_shear(alike)
            for members in grouping.shift_clusters(alike.in_plane):
                over = members[np.argsort(alike.heights[members], kind="stable")]
                made, told = _stacks_along(alike.part(over))
                stacks += made
                cautions |= told
    stacks.sort(key=_middle)
    if len(stacks) > 1:
        cautions.add(Caution.MULTI_STACK)
    return stacks, cautions


def _middle(stack: FrameStack) -> tuple[float, ...]:
    """Return what orders stacks: the height of the middle, then its other coordinates."""
    centre = np.mean([frame.centre for frame in stack.frames], axis=0)
    return tuple(float(value) for value in centre[::-1])


def _by_matrix(group: Parallel) -> list[Parallel]:
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
    return first[:2] == second[:2] and np.allclose(
        first[2:], second[2:], rtol=0, atol=PIXEL_SPACING_TOLERANCE_MM
    )


def _matrix(part: Parallel) -> str:
    frame = part.frames[0]
    spacing = f"{frame.row_spacing_mm:g} x {frame.column_spacing_mm:g} mm"
    return f"{frame.rows} x {frame.columns} pixels of {spacing}"


def _check_shear(group: Parallel) -> None:
    shear = grouping.shear_mm_per_mm(group.heights, group.in_plane)
    if shear:
        raise SubjectFault(
            Reason.BAD_GEOMETRY_POSITION,
            f"slices slide in the plane by {shear:.3f} mm per mm along their normal, "
            "expected positions along the normal",
        )


def _stacks_along(group: Parallel) -> tuple[list[FrameStack], set[Caution]]:
    """Split slices that lie over one another, in ascending order, at every uneven gap."""
    if (np.diff(group.heights) <= grouping.SAME_HEIGHT_MM).any():
        raise SubjectFault(
            Reason.DUPLICATE_POSITIONS_CONFLICT,
            "slices at one height lie a little apart in the plane, expected one slice at each",
        )
    runs = grouping.even_runs(group.heights)
    stacks = [_stack(group.part(run)) for run in runs]
    cautions = set().union(*(_spacing_cautions(group.heights[run]) for run in runs))
    cautions |= set().union(*(_tag_cautions(stack) for stack in stacks))
    for below, above in zip(runs, runs[1:], strict=False):
        gap = group.heights[above[0]] - group.heights[below[-1]]
        spacings = [_spacing(group.heights[run]) for run in (below, above) if len(run) > 1]
        if any(grouping.missing_between(gap, spacing) for spacing in spacings):
            cautions.add(Caution.MISSING_SLICES)
        elif any(gap < 2 * spacing for spacing in spacings):
            cautions.add(Caution.SPACING_IRREGULAR)
    return stacks, cautions


def _spacing(heights: np.ndarray) -> float:
    return float((heights[-1] - heights[0]) / (len(heights) - 1))


def _spacing_cautions(heights: np.ndarray) -> set[Caution]:
    if len(heights) < 3:
        return set()
    uneven = np.abs(np.diff(heights) - _spacing(heights)).max() > IRREGULAR_MM
    return {Caution.SPACING_IRREGULAR} if uneven else set()


def _tag_cautions(stack: FrameStack) -> set[Caution]:
    if stack.slab_source != "positions":
        return set()
    tags = {frame.spacing_tag_mm for frame in stack.frames}
    missing = {Caution.SPACING_TAG_MISSING} if None in tags else set()
    off = any(abs(t - stack.slab_mm) > TAG_TOLERANCE * stack.slab_mm for t in tags - {None})
    return missing | ({Caution.SPACING_TAG_MISMATCH} if off else set())


def _stack(group: Parallel) -> FrameStack:
    """Make a stack of slices in ascending order, its axis through their mean place in the plane."""
    middle = group.in_plane.mean(axis=0)
    drift = float(np.linalg.norm(group.in_plane - middle, axis=1).max())
    if drift > grouping.SHIFT_TOLERANCE_MM:
        raise SubjectFault(
            Reason.BAD_GEOMETRY_POSITION,
            f"slices of one stack lie up to {drift:.2f} mm off its axis in the plane, "
            f"expected at most {grouping.SHIFT_TOLERANCE_MM:g}",
        )
    slab, source = _slab(group)
    _check_density(group, slab)
    first = group.frames[0]
    centre = middle[0] * group.right + middle[1] * group.down + group.heights[0] * group.normal
    across = group.right * first.column_spacing_mm * (first.columns - 1) / 2
    along = group.down * first.row_spacing_mm * (first.rows - 1) / 2
    corner = centre - across - along
    return FrameStack(group.frames, group.right, group.down, group.normal, corner, slab, source)


def _check_density(group: Parallel, slab_mm: float) -> None:
    """Raise SubjectFault where slices lie in one another, as those of a scan done again do."""
    thickness = min((f.thickness_mm for f in group.frames if f.thickness_mm), default=0.0)
    if len(group.frames) > 1 and slab_mm < DENSEST * thickness:
        raise SubjectFault(
            Reason.DUPLICATE_POSITIONS_CONFLICT,
            f"slices of {thickness:g} mm lie {slab_mm:.2f} mm apart, expected one at each height",
        )


def _slab(group: Parallel) -> tuple[float, str]:
    """Return the length that a slice stands for, and where it comes from."""
    if len(group.frames) > 1:
        return _spacing(group.heights), "positions"
    frame = group.frames[0]
    if frame.thickness_mm is not None:
        return frame.thickness_mm, "thickness"
    if frame.spacing_tag_mm is not None:
        return frame.spacing_tag_mm, "tag"
    raise SubjectFault(
        Reason.TOO_FEW_SLICES,
        "a slice alone without SliceThickness (0018,0050) or SpacingBetweenSlices (0018,0088): "
        "the length that it stands for is unknown",
    )
