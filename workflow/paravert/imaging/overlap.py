"""Which slices cut others: what stands in two stacks must not silently count twice."""

from collections.abc import Sequence

import numpy as np

from paravert.imaging.frames import Frame
from paravert.imaging.stacks import FrameStack

OVERLAP_FRACTION = 0.95  # parallel slices nearer than this part of their slab overlap
# Slices that share a slab at a smaller angle than this need not cut each other within the image.
PARALLEL_DEG = 5.0
PARALLEL_COSINE = float(np.cos(np.radians(PARALLEL_DEG)))


def overlapping(stacks: Sequence[FrameStack]) -> list[list[bool]]:
    """Tell for each slice of each stack whether it cuts a slice of an earlier stack."""
    flags = []
    for number, stack in enumerate(stacks):
        earlier = stacks[:number]
        flags.append([any(_cuts(stack, f, other) for other in earlier) for f in stack.frames])
    return flags


def _cuts(stack: FrameStack, frame: Frame, other: FrameStack) -> bool:
    outline = _outline(stack, frame)
    return any(
        rectangles_cross(outline, _outline(other, neighbour))
        or _shares_slab(stack, frame, other, neighbour)
        for neighbour in other.frames
    )


def _shares_slab(stack: FrameStack, frame: Frame, other: FrameStack, neighbour: Frame) -> bool:
    """Tell whether the slabs of two slices overlap that are parallel or nearly so."""
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
    """Return the four corners (4, 3) of a frame, to the outer edges of its pixels."""
    across = stack.right * frame.column_spacing_mm * frame.columns / 2
    along = stack.down * frame.row_spacing_mm * frame.rows / 2
    signs = ((-1, -1), (1, -1), (1, 1), (-1, 1))
    return np.array([frame.centre + a * across + b * along for a, b in signs])


def rectangles_cross(first: np.ndarray, second: np.ndarray) -> bool:
    """Tell whether two flat rectangles in space, each (4, 3) corners in turn, share a point.

    Parallel rectangles count as apart.
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
    """Return where a line in the rectangle's plane enters and leaves it, or None."""
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
