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
OVERLAP_FRACTION = 0.95  # of the slab: parallel slices nearer than that overlap
# Slabs at a smaller angle than this can overlap without their planes crossing within the image.
PARALLEL_DEG = 5.0
PARALLEL_COSINE = float(np.cos(np.radians(PARALLEL_DEG)))


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


# --- slices that intersect or overlap a slice of another stack: their muscle would count twice ----


def colliding_slices(stacks: Sequence[FrameStack]) -> list[list[bool]]:
    """Return for each slice of each stack whether it collides with a slice of an earlier stack."""
    flags = []
    for number, stack in enumerate(stacks):
        earlier = stacks[:number]
        flags.append([any(_collides(stack, f, other) for other in earlier) for f in stack.frames])
    return flags


def _collides(stack: FrameStack, frame: Frame, other: FrameStack) -> bool:
    outline = _outline(stack, frame)
    return any(
        rectangles_cross(outline, _outline(other, neighbour))
        or _shares_slab(stack, frame, other, neighbour)
        for neighbour in other.frames
    )


def _shares_slab(stack: FrameStack, frame: Frame, other: FrameStack, neighbour: Frame) -> bool:
    """Tell whether the slabs of two slices, parallel within PARALLEL_DEG, overlap."""
    if stack.normal @ other.normal < PARALLEL_COSINE:
        return False
    apart = frame.centre - neighbour.centre
    reach = OVERLAP_FRACTION * (stack.slab_mm + other.slab_mm) / 2
    width = (
        frame.columns * frame.column_spacing_mm + neighbour.columns * neighbour.column_spacing_mm
    ) / 2
    height = (frame.rows * frame.row_spacing_mm + neighbour.rows * neighbour.row_spacing_mm) / 2
    return bool(
        abs(apart @ stack.normal) < reach
        and abs(apart @ stack.right) < width
        and abs(apart @ stack.down) < height
    )


def _outline(stack: FrameStack, frame: Frame) -> np.ndarray:
    """Return the four corners of a frame, (4, 3), at the outer edges of its pixels (LPS, mm)."""
    across = stack.right * frame.column_spacing_mm * frame.columns / 2
    along = stack.down * frame.row_spacing_mm * frame.rows / 2
    signs = ((-1, -1), (1, -1), (1, 1), (-1, 1))
    return np.array([frame.centre + a * across + b * along for a, b in signs])


def rectangles_cross(first: np.ndarray, second: np.ndarray) -> bool:
    """Tell whether two rectangles in space share a point; parallel ones do not.

    first, second: corners (4, 3) in order around the rectangle.
    """
    normals = [_unit_normal(first), _unit_normal(second)]
    along = np.cross(*normals)
    length = np.linalg.norm(along)
    if length < 1e-9:  # parallel to rounding
        return False
    along /= length
    heights = np.array([normals[0] @ first[0], normals[1] @ second[0], 0.0])
    point = np.linalg.solve(np.array([*normals, along]), heights)
    spans = [
        _span_on_line(corners, point, along, normal)
        for corners, normal in zip((first, second), normals, strict=True)
    ]
    if None in spans:
        return False
    return max(low for low, _ in spans) <= min(high for _, high in spans)


def _unit_normal(corners: np.ndarray) -> np.ndarray:
    normal = np.cross(corners[1] - corners[0], corners[3] - corners[0])
    return normal / np.linalg.norm(normal)


def _span_on_line(corners, point, along, normal) -> tuple[float, float] | None:
    """Return where a line in a rectangle's plane enters and leaves it, or None if it misses it."""
    low, high = -np.inf, np.inf
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        inward = np.cross(normal, end - start)
        inside, slope = inward @ (point - start), inward @ along
        if abs(slope) < 1e-12:
            if inside < 0:
                return None
        elif slope > 0:
            low = max(low, -inside / slope)
        else:
            high = min(high, -inside / slope)
    return (low, high) if low <= high else None
