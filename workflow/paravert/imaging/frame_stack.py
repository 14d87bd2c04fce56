"""Stacks of DICOM frames: parallel, evenly spaced slices, from caudal to cranial.

A frame is one slice as its file describes it; see `frames`. Positions and directions are LPS,
affines lead to RAS; lengths are mm.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paravert.errors import Caution, Reason, SubjectFault
from paravert.imaging.frames import Frame
from paravert.imaging.geometry import (
    BODY_LIMIT_MM,
    LPS_TO_RAS,
    fits_body,
    grid_corners,
    plane_affine,
)
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

SHEAR_TOLERANCE = (
    0.5  # of the even shift from slice to slice; a larger difference: displaced, not sheared
)
ECHO_TOLERANCE = 0.05  # of the echo time; another echo of the same scan differs by more
OVERLAP_FRACTION = 0.95  # of the slab: parallel slices nearer than that overlap
# Slabs at a smaller angle than this can overlap without their planes crossing within the image.
PARALLEL_DEG = 5.0
PARALLEL_COSINE = float(np.cos(np.radians(PARALLEL_DEG)))
PARALLEL_MM = 1e-6  # an edge that rises less above a plane is parallel to it, but for rounding


@dataclass(frozen=True, eq=False)
class FrameStack:
    """One stack: parallel, evenly spaced slices from caudal to cranial, without pixels.

    group: the slices as DICOM frames of one orientation, matrix and pixel spacing, ascending along
    the normal, with their common directions (LPS). affine: 4 x 4, index (slice, row, column, 1) to
    RAS in mm. slab_mm: slab length, the length along the normal that one slice represents, normally
    the distance between slices. slab_source: "positions", "thickness" or "tag", see `slab_length`.
    """

    group: ParallelFrames
    affine: np.ndarray
    slab_mm: float
    slab_source: str

    @property
    def frames(self) -> list[Frame]:
        """The attributes of each slice, from caudal to cranial, one frame per position."""
        return self.group.frames

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of slices, rows and columns."""
        first = self.frames[0]
        return len(self.frames), first.rows, first.columns

    def affine_of(self, frame: Frame) -> np.ndarray:
        """Return the affine of one slice of the stack, 4 x 4, index (0, row, column, 1) to RAS in mm.

        frame: one of `frames`. The middle of the image lies at `Frame.centre`; orientation and
        pixel spacing are those of the stack.
        """
        affine = self.affine.copy()
        affine[:3, 3] = LPS_TO_RAS[:3, :3] @ (
            frame.centre - frame.to_centre(self.group.right, self.group.down)
        )
        return affine


def stack_frames(groups: Sequence[ParallelFrames]) -> tuple[list[FrameStack], set[Caution]]:
    """Return the stacks of groups of parallel slices, from caudal to cranial, and warnings.

    Stack: parallel, evenly spaced slices; a lone slice is a stack of 1. groups: from
    `group_frames`, without pixels. A group is split into stacks where slices are shifted within
    their plane, and where their spacing changes. The stacks of all groups are in one list, by
    ascending z (LPS) of their middle. Warnings: multi-stack, missing-slices, spacing-irregular,
    spacing-tag-missing, spacing-tag-mismatch. Raises SubjectFault: ambiguous-contrast,
    bad-geometry-position, duplicate-positions-conflict, too-few-slices.
    """
    _check_contrast([place for group in groups for place in group.places])
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
    for stack in stacks:
        _check_stack_contrast(stack)
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
    """Return by how many mm slices shift in their plane per mm along the normal (shear).

    heights: positions along the normal in mm, (slices,). in_plane: positions in the plane in mm,
    (slices, 2). Both in the same order, which may be any. The shear is the slope of a least squares
    fit, as a length of any direction in the plane, at least 0. It is 0 with fewer than three slices
    or one height, if the total shift is at most 0.3 mm, or if the slices do not shift evenly: a
    shift from one slice to the next differs from the fit by more than half of what the fit gives
    there.
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
    first = group.frames[0]
    centre = middle[0] * group.right + middle[1] * group.down + group.heights[0] * group.normal
    affine = plane_affine(
        centre - first.to_centre(group.right, group.down),
        group.right * first.column_spacing_mm,
        group.down * first.row_spacing_mm,
        group.normal * slab_mm,
    )
    return FrameStack(group, affine, slab_mm, source)


def check_extent(stack: FrameStack) -> None:
    """Raise SubjectFault (bad-geometry-position) if a stack is larger than a patient or too far away.

    stack: parallel, evenly spaced slices. The centres of its corner voxels must pass `fits_body` (3 m).
    """
    corners = grid_corners(stack.affine, stack.shape)
    if not fits_body(corners):
        wide_mm = float(np.linalg.norm(np.ptp(corners, axis=0)))
        raise SubjectFault(
            Reason.BAD_GEOMETRY_POSITION,
            f"the pixels of a stack span {wide_mm:.4g} mm and lie up to "
            f"{np.abs(corners).max():.4g} mm from the origin, expected at most {BODY_LIMIT_MM:g}",
        )


# --- contrast ------------------------------------------------------------------------------------


def _check_contrast(places: list[FrameCopies]) -> None:
    """Raise SubjectFault where images at one position differ in contrast.

    Times of acquisition are ignored where all images are at one position: they differ between the
    slices of a series, and it is the positions that are damaged.
    """
    for place in places:
        differ = _differ([frame.contrast for frame in place])
        if differ or (len(places) > 1 and _differ([frame.acquired for frame in place])):
            raise SubjectFault(
                Reason.AMBIGUOUS_CONTRAST,
                f"{len(place)} images of different echo, type or time at one position, "
                "expected one contrast in the series",
            )


def _check_stack_contrast(stack: FrameStack) -> None:
    """Raise SubjectFault where slices of a stack differ in contrast: half of each echo is missing."""
    kinds = [(frame.image_type[2:] or None,) for frame in stack.frames]
    echoes = [f.echo_time_ms for f in stack.frames if f.echo_time_ms is not None]
    if _differ(kinds) or (echoes and max(echoes) > (1 + ECHO_TOLERANCE) * min(echoes)):
        raise SubjectFault(
            Reason.AMBIGUOUS_CONTRAST,
            "slices of one stack are of different echo or type, expected one contrast",
        )


def _differ(values: Sequence[tuple]) -> bool:
    """Return whether tuples differ in an element that is known in both."""
    return any(len(set(members) - {None}) > 1 for members in zip(*values, strict=True))


# --- slices that intersect or overlap one of another stack: muscle would be counted twice ---------


def colliding_slices(stacks: Sequence[FrameStack]) -> list[list[bool]]:
    """Return whether each slice collides with a counted one of an earlier stack: bools per stack.

    stacks: of one subject, in the order of `stack_frames`; each list follows the slices of its
    stack from caudal to cranial. Two slices collide if their image planes cross within both images,
    or if they are parallel within 5 degrees and their slabs overlap by more than 5 % of their mean
    thickness (slab: the image, as thick as the stack's slice distance slab_mm). Muscle in a
    colliding slice would be counted twice. So a colliding slice is not counted, and later stacks
    are not compared with it.
    """
    flags = []
    counted: list[tuple[FrameStack, Frame]] = []
    for stack in stacks:
        colliding = [_collides(stack, frame, counted) for frame in stack.frames]
        counted += [(stack, f) for f, hit in zip(stack.frames, colliding, strict=True) if not hit]
        flags.append(colliding)
    return flags


def _collides(stack: FrameStack, frame: Frame, counted: list[tuple[FrameStack, Frame]]) -> bool:
    outline = _outline(stack, frame)
    return any(
        rectangles_cross(outline, _outline(other, neighbour))
        or _shares_slab(stack, frame, other, neighbour)
        for other, neighbour in counted
    )


def _shares_slab(stack: FrameStack, frame: Frame, other: FrameStack, neighbour: Frame) -> bool:
    """Return whether the slabs of two slices, parallel within PARALLEL_DEG, overlap."""
    if stack.group.normal @ other.group.normal < PARALLEL_COSINE:
        return False
    apart = frame.centre - neighbour.centre
    reach = OVERLAP_FRACTION * (stack.slab_mm + other.slab_mm) / 2
    width = (
        frame.columns * frame.column_spacing_mm + neighbour.columns * neighbour.column_spacing_mm
    ) / 2
    height = (frame.rows * frame.row_spacing_mm + neighbour.rows * neighbour.row_spacing_mm) / 2
    return bool(
        abs(apart @ stack.group.normal) < reach
        and abs(apart @ stack.group.right) < width
        and abs(apart @ stack.group.down) < height
    )


def _outline(stack: FrameStack, frame: Frame) -> np.ndarray:
    """Return the four corners of a frame, (4, 3), at the outer edges of its pixels (LPS, mm)."""
    across = stack.group.right * frame.column_spacing_mm * frame.columns / 2
    along = stack.group.down * frame.row_spacing_mm * frame.rows / 2
    signs = ((-1, -1), (1, -1), (1, 1), (-1, 1))
    return np.array([frame.centre + a * across + b * along for a, b in signs])


def rectangles_cross(first: np.ndarray, second: np.ndarray) -> bool:
    """Return whether two rectangles in space share a point; False if they are parallel or in one plane.

    first, second: corners (4, 3) in mm, in order around the rectangle.
    """
    return _an_edge_crosses(first, second) or _an_edge_crosses(second, first)


def _an_edge_crosses(edges: np.ndarray, rectangle: np.ndarray) -> bool:
    """Return whether an edge of one rectangle passes through another; both are corners (4, 3)."""
    sides = (rectangle[[1, 3]] - rectangle[0]) / 2
    normal = np.cross(*sides)
    axes = np.column_stack([*sides, normal / np.linalg.norm(normal)])
    # In the coordinates of the rectangle, which extends from -1 to 1 along its sides.
    starts = np.linalg.solve(axes, (edges - rectangle.mean(axis=0)).T).T
    steps = np.roll(starts, -1, axis=0) - starts
    rising = np.abs(steps[:, 2]) > PARALLEL_MM
    starts, steps = starts[rising], steps[rising]
    share = -starts[:, 2] / steps[:, 2]
    inside = np.abs(starts + share[:, None] * steps)[:, :2].max(axis=1) <= 1
    return bool((inside & (share >= 0) & (share <= 1)).any())
