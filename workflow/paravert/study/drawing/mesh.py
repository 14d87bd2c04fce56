"""Surfaces of muscles from label maps, smoothed between slices; for pictures, not for measuring."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter, zoom
from skimage.measure import marching_cubes

from paravert.imaging.volume import Volume

GRID_MM = 1.5
REACH_MM = 6.0  # distances are cut off here, so that far parts do not pull at the surface
SMOOTHING_MM = 1.6
MIN_PIXELS = 20


@dataclass(frozen=True)
class Mesh:
    """A closed triangle mesh. vertices: (n, 3), RAS mm. faces: (m, 3), counter-clockwise from outside.

    normals: (n, 3), unit, outwards.
    """

    vertices: np.ndarray
    faces: np.ndarray
    normals: np.ndarray

    @property
    def volume_mm3(self) -> float:
        """Volume that the mesh encloses (divergence theorem)."""
        return _signed_volume(self.vertices, self.faces)


def mesh_of(labels: Volume, value: int) -> Mesh | None:
    """Return the surface of a label, or None if it has less than MIN_PIXELS voxels.

    The signed distance to the outline in each slice is interpolated between slices and smoothed;
    the surface is its zero level. It closes half a slice beyond the first and last slice.
    """
    mask = labels.array == value
    if mask.sum() < MIN_PIXELS:
        return None
    used = [np.flatnonzero(mask.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    spacing = (labels.slice_spacing_mm, labels.row_spacing_mm, labels.column_spacing_mm)
    pad = [1, *(int(np.ceil(REACH_MM / mm)) for mm in spacing[1:])]
    box = np.pad(mask[tuple(slice(u[0], u[-1] + 1) for u in used)], [(p, p) for p in pad])
    distance = _signed_distance(box, spacing)
    finer = np.maximum(np.array(spacing) / GRID_MM, (1, 0, 0))  # never fewer slices
    fine = zoom(distance, finer, order=1)
    smoothing = np.array([max(SMOOTHING_MM, spacing[0] / 2), SMOOTHING_MM, SMOOTHING_MM])
    fine = gaussian_filter(fine, smoothing / GRID_MM, mode="nearest")
    if not fine.min() < 0 < fine.max():
        return None
    vertices, faces, _, _ = marching_cubes(fine, level=0)
    index = vertices * (np.array(box.shape) - 1) / (np.array(fine.shape) - 1)
    index += [u[0] - p for u, p in zip(used, pad, strict=True)]
    return _oriented(index[:, ::-1] @ labels.affine[:3, :3].T + labels.affine[:3, 3], faces)


def _signed_distance(mask: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """Return the distance in mm to the outline in each slice, positive inside."""
    distance = np.full(mask.shape, -REACH_MM)
    shown = mask.any(axis=(1, 2))
    for number in np.flatnonzero(shown):
        inside = distance_transform_edt(mask[number], sampling=spacing[1:])
        outside = distance_transform_edt(~mask[number], sampling=spacing[1:])
        distance[number] = np.clip(inside - outside, -REACH_MM, REACH_MM)
    for number in np.flatnonzero(~shown):
        beside = [n for n in (number - 1, number + 1) if 0 <= n < len(shown) and shown[n]]
        for neighbour in beside:
            closing = np.minimum(distance[neighbour] - spacing[0], -spacing[0] / 2)
            distance[number] = np.maximum(distance[number], closing)
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
