"""Geometry: closed outlines, tubes and cut planes.

Coordinates are DICOM's LPS in mm: x to the subject's left, y to the back, z to the head. The
anatomy is drawn in coordinates of the body, in which mid L3 lies at z = 0; `protocol` places the
body in the scanner.

An outline is a closed polygon, (vertices, 2), whose first vertex is not repeated at the end. A
tube is a solid between outlines that are stacked in space; nearly axial planes cut it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

OUTLINE_VERTICES = 64


def spline(points: np.ndarray, vertices: int = OUTLINE_VERTICES) -> np.ndarray:
    """Return a closed Catmull-Rom curve through control points, float (vertices, 2).

    points: (k, 2), (x, y), in order round the curve. vertices: number of points of the result,
    evenly distributed over the k parts; it need not be a multiple of k. The curve starts at the
    first control point.
    """
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
    """Return an ellipse, or superellipse, as a closed outline, float (vertices, 2), in mm.

    centre, radii: (x, y) in mm. turn_deg: rotation from the x axis towards the y axis. power:
    exponent of the superellipse; 2 gives an ellipse, larger values a squarer shape. vertices:
    number of them in the result; they run from the end of the x radius towards that of the y
    radius.
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
    """Return a copy of an outline, (vertices, 2), with x negated: left becomes right."""
    return outline * (-1.0, 1.0)


def signed_area(outline: np.ndarray) -> float:
    """Return the area of a closed outline in mm2, by the shoelace formula.

    outline: (vertices, 2) in mm. Positive if the vertices run from the x axis towards the y axis,
    negative otherwise.
    """
    x, y = np.concatenate((outline, outline[:1])).T
    return 0.5 * float(x[:-1] @ y[1:] - y[:-1] @ x[1:])


def inset(outlines: np.ndarray, by_mm: float | np.ndarray) -> np.ndarray:
    """Return closed outlines moved inwards along the normal at each vertex, same shape.

    outlines: (..., vertices, 2), (x, y) in mm; the vertices may run either way round. by_mm: one
    distance, or one per vertex, (vertices,); negative values move outwards.
    """
    closed = np.concatenate((outlines[..., -1:, :], outlines, outlines[..., :1, :]), axis=-2)
    after = closed[..., 2:, :]
    tangent = after - closed[..., :-2, :]
    length = np.maximum(np.hypot(tangent[..., 0], tangent[..., 1]), 1e-9)
    inward = np.stack((-tangent[..., 1], tangent[..., 0]), axis=-1) / length[..., None]
    area = (outlines[..., 0] * after[..., 1] - outlines[..., 1] * after[..., 0]).sum(axis=-1)
    direction = np.where(area > 0, 1.0, -1.0)[..., None, None]
    return outlines + direction * inward * np.reshape(by_mm, (-1, 1))


@dataclass(frozen=True)
class Outlines:
    """Closed polygons in parallel planes, at most one per plane.

    points: float (vertices, 2), in order round each polygon, the first not repeated at its end: (u, v),
    u towards higher columns, v towards higher rows; those of `Tube.sections` are in mm from the plane's
    centre. plane: int (vertices,), ascending: index of the plane that each vertex lies in.
    """

    points: np.ndarray
    plane: np.ndarray

    @property
    def following(self) -> np.ndarray:
        """For each vertex, the next vertex of its polygon, float (vertices, 2)."""
        if not len(self.plane):
            return self.points
        last = np.flatnonzero(self.plane[1:] != self.plane[:-1])
        index = np.arange(1, len(self.plane) + 1)
        index[np.append(last, len(index) - 1)] = np.append(0, last + 1)  # back to the first one
        return self.points[index]

    def clipped(self, half_planes: np.ndarray) -> "Outlines":
        """Return the part of each polygon where a*u + b*v + c <= 0; empty polygons are dropped.

        half_planes: float (planes, 3), the coefficients a, b, c for each plane.
        """
        a, b, c = half_planes[self.plane].T
        value = self.points[:, 0] * a + self.points[:, 1] * b + c
        inside = value <= 0
        if inside.all():
            return self
        value_next = Outlines(value, self.plane).following
        crosses = inside != (value_next <= 0)
        share = value / np.where(crosses, value - value_next, 1.0)
        crossing = self.points + share[:, None] * (self.following - self.points)
        kept = np.stack((inside, crosses), axis=1).ravel()
        both = np.stack((self.points, crossing), axis=1).reshape(-1, 2)
        return Outlines(both[kept], np.repeat(self.plane, 2)[kept])


@dataclass(frozen=True)
class CutPlane:
    """A plane with in-plane axes: its points are centre + u * across + v * down, in mm (LPS).

    centre: (3,), the middle of the image. across, down: (3,), orthonormal, the directions of
    increasing column and row index, as in ImageOrientationPatient (0020,0037).
    """

    centre: np.ndarray
    across: np.ndarray
    down: np.ndarray

    @cached_property
    def normal(self) -> np.ndarray:
        """The unit normal across x down, (3,): towards the head in an axial plane, as in DICOM."""
        return np.cross(self.across, self.down)

    def moved(self, along_normal_mm: float) -> "CutPlane":
        """Return the parallel plane at a distance in mm along the normal."""
        return CutPlane(self.centre + along_normal_mm * self.normal, self.across, self.down)

    def turned(self, degrees: float) -> "CutPlane":
        """Return the plane rotated about the z axis through the origin, from x towards y."""
        turn = np.deg2rad(degrees)
        c, s = np.cos(turn), np.sin(turn)
        rotation = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
        return CutPlane(rotation @ self.centre, rotation @ self.across, rotation @ self.down)


def axial_plane(centre: np.ndarray, tilt_deg: float = 0.0) -> CutPlane:
    """Return the axial plane through a point, with rows towards the back and columns to the left.

    centre: (3,) in mm (LPS). tilt_deg: rotation about the x axis; positive raises the posterior
    edge towards the head.
    """
    tilt = np.deg2rad(tilt_deg)
    down = np.array([0.0, np.cos(tilt), np.sin(tilt)])
    return CutPlane(np.asarray(centre, float), np.array([1.0, 0.0, 0.0]), down)


@dataclass(frozen=True)
class Tube:
    """A solid between a stack of closed outlines ("rings"), flat at both ends.

    rings: float (rings, vertices, 3) in mm (LPS), from cranial to caudal, at least two; vertices of
    equal index are connected by straight lines.
    """

    rings: np.ndarray

    @cached_property
    def corners(self) -> np.ndarray:
        """The eight corners of the bounding box, (8, 3), in mm (LPS)."""
        low, high = self.rings.min(axis=(0, 1)), self.rings.max(axis=(0, 1))
        choice = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)], bool)
        return np.where(choice, high, low)

    @cached_property
    def _caps(self) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """Centre and outward unit normal, (3,) each, of the cranial and of the caudal end."""
        return tuple(
            (self.rings[end].mean(axis=0), _outward(self.rings[end], up))
            for end, up in ((0, 1.0), (-1, -1.0))
        )

    def sections(self, planes: Sequence[CutPlane], insets_mm: tuple[float, ...]) -> list[Outlines]:
        """Return where parallel planes cut the solid: one set of outlines for each inset.

        planes: nearly axial, in coordinates of the body (LPS, mm, mid L3 at z = 0), at least one, all
        with the same axes (not checked); `Outlines.plane` is their index; planes that miss the solid
        have no outline. insets_mm: by how much each outline is moved inwards; negative moves outwards.
        The two ends are not moved.
        """
        first = planes[0]
        along = (self.rings.reshape(-1, 3) @ first.normal).reshape(self.rings.shape[:2])
        height = along - np.array([plane.centre @ first.normal for plane in planes])[:, None, None]
        above = (height > 0).sum(axis=1)
        lowest, highest = above.min(axis=1), above.max(axis=1)
        last = len(along) - 1
        met = np.flatnonzero((highest > 0) & (lowest <= last))
        outlines = self._cut(planes, met, height[met], above[met])
        ends = [
            _sides_of(planes, *cap, reached)
            for cap, reached in zip(self._caps, (lowest == 0, highest > last), strict=True)
            if reached[met].any()
        ]
        found = []
        for by_mm in insets_mm:
            narrowed = inset(outlines, by_mm) if by_mm else outlines
            whole = Outlines(narrowed.reshape(-1, 2), np.repeat(met, outlines.shape[1]))
            for end in ends:
                whole = whole.clipped(end)
            found.append(whole)
        return found

    def _cut(
        self, planes: Sequence[CutPlane], met: np.ndarray, height: np.ndarray, above: np.ndarray
    ) -> np.ndarray:
        """Return the outlines in which planes cut the lateral surface, (planes, vertices, 2), (u,
        v) in mm.

        Lines between rings that end before a plane give their end point. met: (planes,) int,
        indices of the planes that meet the solid. height: (planes, rings, vertices), distance of
        each ring vertex above the plane, mm. above: (planes, vertices) int, number of ring
        vertices above the plane.
        """
        upper = np.minimum(np.maximum(above - 1, 0), height.shape[1] - 2)
        vertex = np.arange(height.shape[2])
        number = np.arange(len(met))[:, None]
        h0, h1 = height[number, upper, vertex], height[number, upper + 1, vertex]
        step = h0 - h1
        weight = h0 / np.where(np.abs(step) > 1e-9, step, 1.0)
        weight = np.minimum(np.maximum(weight, 0.0), 1.0)[..., None]
        p0, p1 = self.rings[upper, vertex], self.rings[upper + 1, vertex]
        centres = np.stack([plane.centre for plane in planes])[met]
        point = p0 + weight * (p1 - p0) - centres[:, None]
        axes = np.column_stack((planes[0].across, planes[0].down))
        return (point.reshape(-1, 3) @ axes).reshape(*point.shape[:2], 2)


def _sides_of(
    planes: Sequence[CutPlane], point: np.ndarray, outward: np.ndarray, reached: np.ndarray
) -> np.ndarray:
    """Return the half planes inside one end of a tube, (planes, 3), for `Outlines.clipped`.

    point, outward: centre and outward normal of the end, (3,). reached: (planes,) bool, whether a
    plane meets this end; other planes get a half plane that contains everything.
    """
    sides = [
        (plane.across @ outward, plane.down @ outward, (plane.centre - point) @ outward)
        if meets
        else (0.0, 0.0, -1.0)  # a half plane that holds everything
        for plane, meets in zip(planes, reached, strict=True)
    ]
    return np.array(sides)


def _outward(ring: np.ndarray, up: float) -> np.ndarray:
    """Return the unit normal of an end ring, away from the tube, (3,); along z if it is a point."""
    normal = np.cross(ring, np.roll(ring, -1, axis=0)).sum(axis=0)
    length = np.linalg.norm(normal)
    if length < 1e-6:
        return np.array([0.0, 0.0, up])
    return normal / length * np.sign(normal[2] * up or 1.0)
