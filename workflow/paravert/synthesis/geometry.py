"""Outlines, tubes and planes: the geometry from which anatomy is cut.

The anatomical frame is DICOM's LPS in mm: x to the subject's left, y to the back, z to the head.
An outline is a closed polygon, (vertices, 2), without its first vertex repeated. A tube is a stack
of outlines in space; a plane cuts it exactly at whatever angle, so that an oblique slice sees every
vertex at that vertex's own height.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

OUTLINE_VERTICES = 64


def following(values: np.ndarray) -> np.ndarray:
    """Return for every entry of a cycle the next one (np.roll by -1, several times faster)."""
    return np.concatenate((values[1:], values[:1]))


def spline(points: np.ndarray, vertices: int = OUTLINE_VERTICES) -> np.ndarray:
    """Return a closed Catmull-Rom curve through control points, (k, 2), as an outline."""
    points = np.asarray(points, float)
    count = len(points)
    position = np.linspace(0, count, vertices, endpoint=False)
    index = position.astype(int)
    u = (position - index)[:, None]
    before, start, end, after = (points[(index + step) % count] for step in (-1, 0, 1, 2))
    cubic = 3 * start - before - 3 * end + after
    square = 2 * before - 5 * start + 4 * end - after
    return 0.5 * (2 * start + (end - before) * u + square * u**2 + cubic * u**3)


def ellipse(
    centre: tuple[float, float],
    radii: tuple[float, float],
    turn_deg: float = 0.0,
    power: float = 2.0,
    vertices: int = OUTLINE_VERTICES,
) -> np.ndarray:
    """Return a (super)ellipse as an outline.

    A power above 2 makes it squarer; turn_deg leads from x towards y.
    """
    angle = np.linspace(0, 2 * np.pi, vertices, endpoint=False)
    cosine, sine = np.cos(angle), np.sin(angle)
    x = radii[0] * np.sign(cosine) * np.abs(cosine) ** (2 / power)
    y = radii[1] * np.sign(sine) * np.abs(sine) ** (2 / power)
    turn = np.deg2rad(turn_deg)
    return np.column_stack(
        (
            centre[0] + x * np.cos(turn) - y * np.sin(turn),
            centre[1] + x * np.sin(turn) + y * np.cos(turn),
        )
    )


def mirrored(outline: np.ndarray) -> np.ndarray:
    """Return the outline of the other side."""
    return outline * (-1.0, 1.0)


def signed_area(outline: np.ndarray) -> float:
    """Return the shoelace area in mm², positive where the vertices run from x towards y."""
    x, y = outline[:, 0], outline[:, 1]
    return 0.5 * float(x @ following(y) - y @ following(x))


def inset(outline: np.ndarray, by_mm: float | np.ndarray) -> np.ndarray:
    """Move every vertex inwards along its normal, or outwards where by_mm is negative.

    by_mm: one distance, or one per vertex.
    """
    tangent = following(outline) - np.concatenate((outline[-1:], outline[:-1]))
    length = np.maximum(np.hypot(tangent[:, 0], tangent[:, 1]), 1e-9)
    inward = np.column_stack((-tangent[:, 1], tangent[:, 0])) / length[:, None]
    direction = 1.0 if signed_area(outline) > 0 else -1.0
    return outline + direction * inward * np.reshape(by_mm, (-1, 1))


def clipped(outline: np.ndarray, half_plane: np.ndarray) -> np.ndarray:
    """Return the part of an outline where a*u + b*v + c <= 0; may be empty, (0, 2).

    half_plane: (a, b, c).
    """
    value = outline @ half_plane[:2] + half_plane[2]
    inside = value <= 0
    if inside.all():
        return outline
    value_next = following(value)
    crosses = inside != (value_next <= 0)
    span = np.where(crosses, value - value_next, 1.0)
    crossing = outline + (value / span)[:, None] * (following(outline) - outline)
    both = np.stack((outline, crossing), axis=1).reshape(-1, 2)
    return both[np.stack((inside, crosses), axis=1).ravel()]


@dataclass(frozen=True)
class Plane:
    """A plane with its own axes: its points are centre + u * across + v * down, in mm.

    across and down are orthonormal.
    """

    centre: np.ndarray
    across: np.ndarray
    down: np.ndarray

    @cached_property
    def normal(self) -> np.ndarray:
        """Unit normal across x down, DICOM's slice normal: to the head in an axial plane."""
        return np.cross(self.across, self.down)

    def moved(self, along_normal_mm: float) -> "Plane":
        """Return the parallel plane at a distance along the normal."""
        return Plane(self.centre + along_normal_mm * self.normal, self.across, self.down)

    def turned(self, degrees: float) -> "Plane":
        """Return the plane turned about the z axis through the origin, from x towards y."""
        turn = np.deg2rad(degrees)
        c, s = np.cos(turn), np.sin(turn)
        rotation = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
        return Plane(rotation @ self.centre, rotation @ self.across, rotation @ self.down)


def axial_plane(centre: np.ndarray, tilt_deg: float = 0.0) -> Plane:
    """Return an axial plane; a positive tilt raises its back edge towards the head."""
    tilt = np.deg2rad(tilt_deg)
    down = np.array([0.0, np.cos(tilt), np.sin(tilt)])
    return Plane(np.asarray(centre, float), np.array([1.0, 0.0, 0.0]), down)


@dataclass(frozen=True)
class Tube:
    """A solid between its first (upper) and its last (lower) ring.

    rings: (rings, vertices, 3) in mm; vertices of the same number are joined.
    """

    rings: np.ndarray

    @cached_property
    def corners(self) -> np.ndarray:
        """Eight corners of the bounding box, (8, 3)."""
        low, high = self.rings.min(axis=(0, 1)), self.rings.max(axis=(0, 1))
        choice = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)], bool)
        return np.where(choice, high, low)

    @cached_property
    def _caps(self) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        return tuple(
            (self.rings[end].mean(axis=0), _outward(self.rings[end], up))
            for end, up in ((0, 1.0), (-1, -1.0))
        )

    def section(self, plane: Plane) -> np.ndarray | None:
        """Return the outline that a plane cuts, in (u, v) of the plane, or None if it misses."""
        outlines = self.sections(plane, (0.0,))
        return outlines[0] if outlines else None

    def sections(self, plane: Plane, insets_mm: tuple[float, ...]) -> list[np.ndarray]:
        """Return the outline that a plane cuts, once per inset; none if the plane misses.

        The solid is narrowed round its axis, not at its ends: there all outlines end alike.
        """
        height = (self.rings.reshape(-1, 3) @ plane.normal).reshape(self.rings.shape[:2])
        height -= plane.centre @ plane.normal
        above = (height > 0).sum(axis=0)
        last = len(height) - 1
        lowest, highest = above.min(), above.max()
        if highest == 0 or lowest > last:
            return []
        outline = self._cut(plane, height, above)
        top, bottom = self._caps
        ends = [_side_of(plane, *top)] if lowest == 0 else []
        ends += [_side_of(plane, *bottom)] if highest > last else []
        outlines = []
        for by_mm in insets_mm:
            narrowed = inset(outline, by_mm) if by_mm else outline
            for end in ends:
                narrowed = clipped(narrowed, end)
            outlines.append(narrowed)
        return [outline for outline in outlines if len(outline) > 2]

    def _cut(self, plane: Plane, height: np.ndarray, above: np.ndarray) -> np.ndarray:
        """Return where the lines along the tube meet the plane; beyond the ends, the end itself."""
        upper = np.minimum(np.maximum(above - 1, 0), len(height) - 2)
        vertex = np.arange(height.shape[1])
        h0, h1 = height[upper, vertex], height[upper + 1, vertex]
        step = h0 - h1
        weight = h0 / np.where(np.abs(step) > 1e-9, step, 1.0)
        weight = np.minimum(np.maximum(weight, 0.0), 1.0)[:, None]
        p0, p1 = self.rings[upper, vertex], self.rings[upper + 1, vertex]
        point = p0 + weight * (p1 - p0) - plane.centre
        return point @ np.column_stack((plane.across, plane.down))


def _side_of(plane: Plane, point: np.ndarray, outward: np.ndarray) -> np.ndarray:
    """Return the half plane, as for clipped, that lies on the inner side of an end."""
    return np.array(
        [plane.across @ outward, plane.down @ outward, (plane.centre - point) @ outward]
    )


def _outward(ring: np.ndarray, up: float) -> np.ndarray:
    """Unit normal of an end ring, away from the tube; along z where the ring is a point."""
    normal = np.cross(ring, following(ring)).sum(axis=0)
    length = np.linalg.norm(normal)
    if length < 1e-6:
        return np.array([0.0, 0.0, up])
    return normal / length * np.sign(normal[2] * up or 1.0)
