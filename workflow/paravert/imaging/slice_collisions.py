"""Slices that intersect or overlap a slice of another stack: their muscle would count twice."""

from collections.abc import Sequence

import numpy as np

from paravert.imaging.frame_stack import FrameStack
from paravert.imaging.frames import Frame

OVERLAP_FRACTION = 0.95  # of the slab: parallel slices nearer than that overlap
# Slabs at a smaller angle than this can overlap without their planes crossing within the image.
PARALLEL_DEG = 5.0
PARALLEL_COSINE = float(np.cos(np.radians(PARALLEL_DEG)))


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
