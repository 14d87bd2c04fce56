"""Surfaces of muscles, from label maps to shaded pictures; not for measuring."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter, minimum_filter, zoom
from skimage.measure import marching_cubes

from paravert.imaging.volume import Volume

GRID_MM = 1.5
REACH_MM = 6.0  # larger distances are clipped, so that distant parts do not affect the surface
SMOOTHING_MM = 1.6
MIN_PIXELS = 20
PIXEL_MM = 0.45
SUPERSAMPLING = 2  # per axis; then averaged
AMBIENT, DIFFUSE, GLOSS, SHININESS = 0.52, 0.55, 0.16, 24
LIGHT = np.array([-0.30, 0.45, 0.85])  # direction to it: right, up, towards the eye
SHADOW_MM, SHADOW_RADIUS_MM, DEEPEST_SHADOW = 30.0, 6.0, 0.5
EDGE_MM = 5.0  # a step in depth of this much gets a dark line


@dataclass(frozen=True)
class Mesh:
    """A closed surface of triangles, in RAS coordinates (mm).

    vertices: (n, 3). faces: (m, 3), three indices of vertices each, counter-clockwise seen from
    outside. normals: (n, 3), outward unit vectors at the vertices.
    """

    vertices: np.ndarray
    faces: np.ndarray
    normals: np.ndarray

    @property
    def volume_mm3(self) -> float:
        """Volume that the surface encloses, mm3 (divergence theorem); a property."""
        return _signed_volume(self.vertices, self.faces)


def mesh_of(labels: Volume, value: int) -> Mesh | None:
    """Return the smoothed surface of one label of a stack, or None if there is none.

    labels: label map, (slices, rows, columns). value: of the label, 1 to 8. The surface is the zero
    level of the signed distance to the outline in each slice, interpolated between slices and
    smoothed; it closes half a slice beyond the slices that show the label. None if the label has fewer
    than MIN_PIXELS (20) voxels, or if smoothing leaves nothing.
    """
    mask = labels.array == value
    if mask.sum() < MIN_PIXELS:
        return None
    used = [np.flatnonzero(mask.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    spacing = (labels.slice_spacing_mm, labels.row_spacing_mm, labels.column_spacing_mm)
    pad = [int(np.ceil(REACH_MM / mm)) for mm in spacing]
    box = np.pad(mask[tuple(slice(u[0], u[-1] + 1) for u in used)], [(p, p) for p in pad])
    distance = _signed_distance(box, spacing)
    finer = np.maximum(np.array(spacing) / GRID_MM, (1, 0, 0))  # never fewer slices
    fine = zoom(distance, finer, order=1)
    thickness_mm = len(used[0]) * spacing[0]
    along = min(max(SMOOTHING_MM, spacing[0] / 2), thickness_mm / 4)
    smoothing = np.array([along, SMOOTHING_MM, SMOOTHING_MM])
    fine = gaussian_filter(fine, smoothing * finer / spacing, mode="nearest")
    if not fine.min() < 0 < fine.max():
        return None
    vertices, faces, _, _ = marching_cubes(fine, level=0)
    index = vertices * (np.array(box.shape) - 1) / (np.array(fine.shape) - 1)
    index += [u[0] - p for u, p in zip(used, pad, strict=True)]
    return _oriented(index[:, ::-1] @ labels.affine[:3, :3].T + labels.affine[:3, 3], faces)


def _signed_distance(mask: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """Return the distance (mm) to the outline in each slice, positive inside, at most REACH_MM.

    mask: (slices, rows, columns). spacing: mm, by the same axes. A slice without the label, beside one
    with it, has its distances with a negative sign: the zero level lies halfway between them.
    """
    distance = np.full(mask.shape, -REACH_MM)
    shown = mask.any(axis=(1, 2))
    for number in np.flatnonzero(shown):
        inside = distance_transform_edt(mask[number], sampling=spacing[1:])
        outside = distance_transform_edt(~mask[number], sampling=spacing[1:])
        distance[number] = np.clip(inside - outside, -REACH_MM, REACH_MM)
    for number in np.flatnonzero(~shown):
        for beside in (number - 1, number + 1):
            if 0 <= beside < len(shown) and shown[beside]:
                distance[number] = np.maximum(distance[number], -np.abs(distance[beside]))
    return distance


def _oriented(vertices: np.ndarray, faces: np.ndarray) -> Mesh:
    if _signed_volume(vertices, faces) < 0:
        faces = faces[:, ::-1]
    normals = np.zeros_like(vertices)
    across = _face_normals(vertices, faces)
    for corner in range(3):
        np.add.at(normals, faces[:, corner], across)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    return Mesh(vertices, faces, normals)


def _face_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    return np.cross(b - a, c - a)


def _signed_volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)


@dataclass(frozen=True)
class Viewpoint:
    """A direction from which surfaces are drawn.

    name: such as "from the back and left". azimuth_deg: 0 from the front, 90 from the subject's
    left. elevation_deg: above the horizontal.
    """

    name: str
    azimuth_deg: float
    elevation_deg: float

    def axes(self) -> np.ndarray:
        """Return the picture's directions right, up and towards the viewer, (3, 3), one per row.

        They are unit vectors in RAS coordinates.
        """
        azimuth, elevation = np.radians([self.azimuth_deg, self.elevation_deg])
        eye = np.array(
            [
                -np.sin(azimuth) * np.cos(elevation),
                np.cos(azimuth) * np.cos(elevation),
                np.sin(elevation),
            ]
        )
        right = np.cross([0, 0, 1], eye)
        right /= np.linalg.norm(right)
        return np.array([right, np.cross(eye, right), eye])


def extent_mm(surfaces: list[Mesh], view: Viewpoint) -> np.ndarray:
    """Return width and height (mm) of surfaces, at least one, seen from a viewpoint, (2,)."""
    points = np.concatenate([s.vertices for s in surfaces]) @ view.axes()[:2].T
    return np.ptp(points, axis=0)


def shaded(
    surfaces: list[Mesh], colours: list[tuple], view: Viewpoint, size_mm: np.ndarray
) -> np.ndarray:
    """Return a shaded picture of surfaces, RGBA 0-1, (rows, columns, 4), background transparent.

    The first row is the top. surfaces: at least one. colours: sRGB 0-1, one per surface. view:
    direction from which they are seen. size_mm: width and height of the picture, in whose middle the
    surfaces are; PIXEL_MM (0.45 mm) per pixel; what lies beyond is cut off. Method: parallel
    projection, depth buffer, Phong lighting, ambient shadow.
    """
    axes = view.axes()
    columns, rows = np.ceil(np.asarray(size_mm) / PIXEL_MM).astype(int) * SUPERSAMPLING
    samples = _samples(surfaces, colours, axes)
    across, up = samples.points[:, 0], samples.points[:, 1]
    middle_x, middle_y = (across.min() + across.max()) / 2, (up.min() + up.max()) / 2
    fine_mm = PIXEL_MM / SUPERSAMPLING
    x = np.floor((across - middle_x) / fine_mm + columns / 2).astype(int)
    y = np.floor((middle_y - up) / fine_mm + rows / 2).astype(int)
    inside = (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
    winner = _nearest((y * columns + x)[inside], samples.points[inside, 2], rows * columns)
    winner = np.where(winner >= 0, np.flatnonzero(inside)[winner], -1)
    return _averaged(_lit(samples, winner.reshape(rows, columns), fine_mm))


def _nearest(pixel: np.ndarray, depth: np.ndarray, pixels: int) -> np.ndarray:
    """Return for each pixel the index of its sample nearest to the viewer, -1 without sample.

    pixel, depth: (samples,). pixels: number of pixels.
    """
    front = np.full(pixels, -np.inf, dtype=depth.dtype)
    np.maximum.at(front, pixel, depth)
    wins = np.flatnonzero(depth == front[pixel])
    winner = np.full(pixels, -1)
    winner[pixel[wins]] = wins
    return winner


@dataclass(frozen=True)
class _Samples:
    """Points on the front faces. points, normals: (n, 3), along right, up and towards the viewer.

    colour: (n,), index into palette, (colours, 3).
    """

    points: np.ndarray
    normals: np.ndarray
    colour: np.ndarray
    palette: np.ndarray


def _samples(surfaces: list[Mesh], colours: list[tuple], axes: np.ndarray) -> _Samples:
    parts = [_of_surface(s, axes, PIXEL_MM / SUPERSAMPLING) for s in surfaces]
    counts = [len(points) for points, _ in parts]
    return _Samples(
        np.concatenate([points for points, _ in parts]),
        np.concatenate([normals for _, normals in parts]),
        np.repeat(np.arange(len(surfaces), dtype=np.uint8), counts),
        np.array(colours),
    )


def _of_surface(surface: Mesh, axes: np.ndarray, step_mm: float) -> tuple:
    """Return points on the front faces, at most step_mm apart in the picture, and their normals."""
    vertices = np.hstack([surface.vertices @ axes.T, surface.normals @ axes.T]).astype(np.float32)
    corners = vertices[surface.faces]
    ab, ac = (corners[:, corner, :2] - corners[:, 0, :2] for corner in (1, 2))
    corners = corners[ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0] > 0]
    edges = np.linalg.norm(corners[..., :2] - np.roll(corners[..., :2], 1, axis=1), axis=2)
    counts = np.ceil(edges.max(axis=1) / step_mm).astype(int) + 1
    found = [_within(corners[counts == count], count) for count in np.unique(counts)]
    found = np.concatenate([np.empty((0, 6), np.float32), *found])
    return found[:, :3], found[:, 3:]


def _within(corners: np.ndarray, count: int) -> np.ndarray:
    """Return points of triangles (n, 3, values), each edge cut into `count` parts, (points, values)."""
    i, j = np.meshgrid(np.arange(count + 1), np.arange(count + 1))
    weights = np.stack([i, j, count - i - j])[:, i + j <= count].T.astype(np.float32) / count
    return (weights @ corners).reshape(-1, corners.shape[2])


def _lit(samples: _Samples, winner: np.ndarray, fine_mm: float) -> np.ndarray:
    shown = winner >= 0
    depth = np.where(shown, samples.points[winner, 2], np.nan)
    normals = samples.normals[winner]
    normals = normals / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-9)
    light = LIGHT / np.linalg.norm(LIGHT)
    half = (light + [0, 0, 1]) / np.linalg.norm(light + [0, 0, 1])
    diffuse = np.clip(normals @ light, 0, 1)[..., None]
    gloss = np.clip(normals @ half, 0, 1)[..., None] ** SHININESS
    rgb = samples.palette[samples.colour[winner]] * (AMBIENT + DIFFUSE * diffuse) + GLOSS * gloss
    rgb = rgb * _shadow(depth, shown, fine_mm)[..., None]
    return np.concatenate([np.clip(rgb, 0, 1) * shown[..., None], shown[..., None]], axis=-1)


def _shadow(depth: np.ndarray, shown: np.ndarray, fine_mm: float) -> np.ndarray:
    """Return factors of brightness, (rows, columns): low in furrows and at steps in depth."""
    far = np.nanmin(depth)
    filled = np.where(shown, depth, far)
    radius = SHADOW_RADIUS_MM / fine_mm
    around = gaussian_filter(filled * shown, radius, truncate=2) / np.maximum(
        gaussian_filter(shown.astype(float), radius, truncate=2), 1e-6
    )
    furrow = 1 - np.clip((around - filled) / SHADOW_MM, 0, DEEPEST_SHADOW)
    step = filled - minimum_filter(filled, size=3)
    return np.where(step > EDGE_MM, 0.45, 1.0) * furrow


def _averaged(rgba: np.ndarray) -> np.ndarray:
    """Return the mean of each block of pixels; colours are averaged over its shown pixels."""
    rows, columns = rgba.shape[0] // SUPERSAMPLING, rgba.shape[1] // SUPERSAMPLING
    mean = rgba.reshape(rows, SUPERSAMPLING, columns, SUPERSAMPLING, 4).mean(axis=(1, 3))
    mean[..., :3] /= np.maximum(mean[..., 3:], 1e-9)
    return np.clip(mean, 0, 1)
