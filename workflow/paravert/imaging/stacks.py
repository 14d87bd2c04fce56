"""From the frames of a series to stacks: parallel, evenly spaced slices, caudal to cranial."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paravert.errors import Caution, Reason, SubjectFault
from paravert.imaging import grouping
from paravert.imaging.frames import Frame
from paravert.imaging.geometry import BODY_LIMIT_MM, fits_body
from paravert.imaging.parallel import Parallel, by_matrix, parallel_groups
from paravert.imaging.spacing import blocks, slab, spacing_cautions, stack_runs


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
        return frame.centre - frame.to_centre(self.right, self.down)


def frames_by_place(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Return the frames at each place; those of another matrix count as elsewhere."""
    places = []
    for group in parallel_groups(frames):
        for alike in by_matrix(group):
            found = grouping.same_places(alike.heights, alike.in_plane)
            places += [[alike.frames[index] for index in members] for members in found]
    return places


def stack_frames(frames: Sequence[Frame]) -> tuple[list[FrameStack], set[Caution]]:
    """Group frames, one at each place, into stacks ordered from caudal to cranial.

    Raises SubjectFault: inconsistent-matrix, bad-geometry-orientation, bad-geometry-position,
    duplicate-positions-conflict, too-few-slices.
    """
    _check_span(frames)
    stacks: list[FrameStack] = []
    cautions: set[Caution] = set()
    for group in parallel_groups(frames):
        for alike in by_matrix(group):
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


def _check_span(frames: Sequence[Frame]) -> None:
    positions = np.array([frame.position for frame in frames])
    if not fits_body(positions):
        span = float(np.linalg.norm(np.ptp(positions, axis=0)))
        raise SubjectFault(
            Reason.BAD_GEOMETRY_POSITION,
            f"slices lie up to {span:.4g} mm apart, expected at most {BODY_LIMIT_MM:g}",
        )


def _middle(stack: FrameStack) -> tuple[float, ...]:
    """Return what orders stacks: the height of the middle, then its other coordinates."""
    centre = np.mean([frame.centre for frame in stack.frames], axis=0)
    return tuple(float(value) for value in centre[::-1])


def _check_shear(group: Parallel) -> None:
    """Raise SubjectFault where slices slide evenly, in a block of them or in an even run of it.

    Slices beside others, at one height, are left out: whose neighbours they are is open.
    """
    ascending = group.part(np.argsort(group.heights, kind="stable"))
    beside = np.diff(ascending.heights) <= grouping.SAME_HEIGHT_MM
    alone = ascending.part(np.flatnonzero(~(np.append(beside, False) | np.append(False, beside))))
    for block in blocks(alone):
        for run in (np.arange(len(block)), *grouping.even_runs(alone.heights[block])):
            _check_slide(alone.part(block[run]))


def _check_slide(group: Parallel) -> None:
    shear = grouping.shear_mm_per_mm(group.heights, group.in_plane)
    if shear:
        raise SubjectFault(
            Reason.BAD_GEOMETRY_POSITION,
            f"slices slide in the plane by {shear:.3f} mm per mm along their normal, "
            "expected positions along the normal",
        )


def _stacks_along(group: Parallel) -> tuple[list[FrameStack], set[Caution]]:
    """Part slices that lie over one another, in ascending order, into stacks."""
    if (np.diff(group.heights) <= grouping.SAME_HEIGHT_MM).any():
        raise SubjectFault(
            Reason.DUPLICATE_POSITIONS_CONFLICT,
            "slices at one height lie a little apart in the plane, expected one slice at each",
        )
    runs = stack_runs(group)
    return [_stack(group.part(run)) for run in runs], spacing_cautions(group, runs)


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
    slab_mm, source = slab(group)
    centre = middle[0] * group.right + middle[1] * group.down + group.heights[0] * group.normal
    corner = centre - group.frames[0].to_centre(group.right, group.down)
    return FrameStack(group.frames, group.right, group.down, group.normal, corner, slab_mm, source)
