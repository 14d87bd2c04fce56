"""Stacks of frames: parallel, evenly spaced slices, caudal to cranial."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paravert.errors import Caution, Reason, SubjectFault
from paravert.imaging.frames import Frame
from paravert.imaging.geometry import BODY_LIMIT_MM, columns_first, fits_body, plane_affine
from paravert.imaging.parallel_frames import (
    SAME_HEIGHT_MM,
    SHIFT_TOLERANCE_MM,
    FrameCopies,
    ParallelFrames,
    shift_clusters,
)
from paravert.imaging.slice_spacing import (
    blocks_of_slices,
    even_runs,
    slab_length,
    spacing_cautions,
    stack_runs,
)

SHEAR_TOLERANCE = 0.5  # of the even shift from slice to slice; others are displaced, not sheared


@dataclass(frozen=True, eq=False)
class FrameStack:
    """Frames of one stack, from caudal to cranial, in a common orientation (LPS, mm).

    places: the frame of each slice and its duplicates. right, down: orthonormal directions (3,) to
    the next column and row. normal: (3,), towards the head. corner: centre of the first pixel of the
    first slice, (3,). slab_source: positions, thickness or tag.
    """

    places: tuple[FrameCopies, ...]
    right: np.ndarray
    down: np.ndarray
    normal: np.ndarray
    corner: np.ndarray
    slab_mm: float
    slab_source: str

    @property
    def frames(self) -> list[Frame]:
        """The frame of each slice."""
        return [place[0] for place in self.places]

    @property
    def affine(self) -> np.ndarray:
        """The affine of the stack, 4 x 4: (slice, row, column), as in the files, to RAS in mm."""
        return self._affine_from(self.corner)

    def affine_of(self, frame: Frame) -> np.ndarray:
        """Return the affine of the one slice of a frame, in the orientation of the stack."""
        return self._affine_from(frame.centre - frame.to_centre(self.right, self.down))

    def _affine_from(self, corner: np.ndarray) -> np.ndarray:
        frame, along = self.places[0][0], self.normal * self.slab_mm
        right, down = self.right * frame.column_spacing_mm, self.down * frame.row_spacing_mm
        return columns_first(plane_affine(corner, right, down, along))


def stack_frames(groups: Sequence[ParallelFrames]) -> tuple[list[FrameStack], set[Caution]]:
    """Return the stacks of the groups of `group_frames`, from caudal to cranial, and warnings.

    Raises SubjectFault: bad-geometry-position, duplicate-positions-conflict, too-few-slices.
    """
    _check_span([frame for group in groups for frame in group.frames])
    stacks: list[FrameStack] = []
    cautions: set[Caution] = set()
    for group in groups:
        _check_shear(group)
        for members in shift_clusters(group.in_plane):
            over = members[np.argsort(group.heights[members], kind="stable")]
            made, told = _stacks_along(group.part(over))
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
    """Return the sort key of a stack: the z, y and x coordinates (LPS) of its middle."""
    centre = np.mean([frame.centre for frame in stack.frames], axis=0)
    return tuple(float(value) for value in centre[::-1])


def _check_shear(group: ParallelFrames) -> None:
    """Raise SubjectFault where slices are sheared, in a block of them or in an even run of it.

    Slices at the height of another are left out: which stack they belong to is not known yet.
    """
    ascending = group.part(np.argsort(group.heights, kind="stable"))
    beside = np.diff(ascending.heights) <= SAME_HEIGHT_MM
    alone = ascending.part(np.flatnonzero(~(np.append(beside, False) | np.append(False, beside))))
    for block in blocks_of_slices(alone):
        for run in (np.arange(len(block)), *even_runs(alone.heights[block])):
            _check_shear_of(alone.part(block[run]))


def _check_shear_of(group: ParallelFrames) -> None:
    shear = shear_mm_per_mm(group.heights, group.in_plane)
    if shear:
        raise SubjectFault(
            Reason.BAD_GEOMETRY_POSITION,
            f"slices slide in the plane by {shear:.3f} mm per mm along their normal, "
            "expected positions along the normal",
        )


def shear_mm_per_mm(heights: np.ndarray, in_plane: np.ndarray) -> float:
    """Return the in-plane shift of slices per mm along the normal, if they are sheared evenly.

    heights: (slices,). in_plane: (slices, 2). 0 for fewer than three slices, where the steps from
    slice to slice differ, and where the total shift is within the tolerance.
    """
    if len(heights) < 3 or np.ptp(heights) == 0:
        return 0.0
    design = np.column_stack([heights - heights.mean(), np.ones(len(heights))])
    fit, *_ = np.linalg.lstsq(design, in_plane, rcond=None)
    slope = float(np.linalg.norm(fit[0]))
    order = np.argsort(heights)
    up, aside = np.diff(heights[order]), np.diff(in_plane[order], axis=0)
    off = np.linalg.norm(aside - up[:, None] * fit[0], axis=1)
    evenly = (off <= SHEAR_TOLERANCE * slope * up).all()
    return slope if slope * np.ptp(heights) > 2 * SHIFT_TOLERANCE_MM and evenly else 0.0


def _stacks_along(group: ParallelFrames) -> tuple[list[FrameStack], set[Caution]]:
    """Split ascending slices above one another into stacks."""
    if (np.diff(group.heights) <= SAME_HEIGHT_MM).any():
        raise SubjectFault(
            Reason.DUPLICATE_POSITIONS_CONFLICT,
            "slices at one height lie a little apart in the plane, expected one slice at each",
        )
    runs = stack_runs(group)
    return [_stack(group.part(run)) for run in runs], spacing_cautions(group, runs)


def _stack(group: ParallelFrames) -> FrameStack:
    """Return the stack of ascending slices; its axis runs through their mean position in the plane."""
    middle = group.in_plane.mean(axis=0)
    drift = float(np.linalg.norm(group.in_plane - middle, axis=1).max())
    if drift > SHIFT_TOLERANCE_MM:
        raise SubjectFault(
            Reason.BAD_GEOMETRY_POSITION,
            f"slices of one stack lie up to {drift:.2f} mm off its axis in the plane, "
            f"expected at most {SHIFT_TOLERANCE_MM:g}",
        )
    slab_mm, source = slab_length(group)
    centre = middle[0] * group.right + middle[1] * group.down + group.heights[0] * group.normal
    corner = centre - group.frames[0].to_centre(group.right, group.down)
    return FrameStack(group.places, group.right, group.down, group.normal, corner, slab_mm, source)
