"""Geometry of slices: directions, tilt, affines, and the canonical order of an array.

Positions and directions are in DICOM's patient coordinates, LPS: x towards the left, y towards the
back, z towards the head. Affines are NIfTI's, RAS. Lengths are mm.
"""

import numpy as np

# Slices along the disc L5/S1 are tilted by 20 to 60 degrees, as the sacrum is: a lower limit would
# exclude that level in some subjects. Above 60, one degree changes the cosine, and with it
# csa_axial_mm2, by more than 3 %. Sagittal and coronal slices have about 90.
AXIAL_TILT_DEG = 60.0
# Taller than any patient; the origin of patient coordinates is in the magnet or at a landmark of the
# patient. So no coordinate is larger, and no two voxels of a scan are further apart.
BODY_LIMIT_MM = 3000.0
PIXEL_SPACING_RANGE_MM = (0.05, 10.0)
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def orthonormal_pair(right: np.ndarray, down: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the orthonormal pair, (3,) each, nearest to two nearly orthonormal directions."""
    left, _, transposed = np.linalg.svd(np.column_stack([right, down]), full_matrices=False)
    nearest = left @ transposed
    return nearest[:, 0], nearest[:, 1]


def cranial_normal(right: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Return the unit normal of an image plane (LPS) that points towards the head."""
    normal = np.cross(right, down)
    normal = normal / np.linalg.norm(normal)
    return -normal if normal[2] < 0 else normal


def tilt_deg(normal: np.ndarray) -> float:
    """Return the angle between a unit normal and the patient's long axis, 0-90 degrees."""
    across = float(np.hypot(normal[0], normal[1]))
    return float(np.degrees(np.arctan2(across, abs(float(normal[2])))))


def angle_deg(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the angles between unit vectors along the last axis; exact for small angles too."""
    chord = np.linalg.norm(first - second, axis=-1)
    return np.degrees(2 * np.arcsin(np.clip(chord / 2, 0, 1)))


def plane_affine(
    corner: np.ndarray, right: np.ndarray, down: np.ndarray, along: np.ndarray
) -> np.ndarray:
    """Return the RAS affine (column, row, slice) of a grid described in LPS.

    corner: centre of the first voxel. right, down, along: steps to the next column, row and slice.
    """
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([right, down, along])
    affine[:3, 3] = corner
    return LPS_TO_RAS @ affine


def grid_corners(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the centres of the corner voxels, (8, 3), in the coordinates of the affine.

    affine and shape: of the same three axes in the same order.
    """
    far = np.asarray(shape, float) - 1
    picks = np.array(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij")).reshape(3, -1)
    return (affine[:3, :3] @ (picks * far[:, None])).T + affine[:3, 3]


def fits_body(points: np.ndarray) -> bool:
    """Tell whether positions (n, 3) in mm can be in one patient; see BODY_LIMIT_MM."""
    if not (np.abs(points) <= BODY_LIMIT_MM).all():  # NaN does not fit either
        return False
    return bool(np.linalg.norm(np.ptp(points, axis=0)) <= BODY_LIMIT_MM)


def rearranged(
    array: np.ndarray, affine: np.ndarray, order: tuple[int, int, int], flips: tuple[bool, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Return array and affine with the axes in another order, then flipped; no value changes.

    affine: of the array's axes in their order. order: old axis of each new one. flips: per new axis.
    """
    array = array.transpose(order)
    steps, origin = affine[:3, list(order)], affine[:3, 3].copy()
    for axis, flip in enumerate(flips):
        if flip:
            origin += (array.shape[axis] - 1) * steps[:, axis]
            steps[:, axis] = -steps[:, axis]
            array = np.flip(array, axis)
    moved = np.eye(4)
    moved[:3, :3], moved[:3, 3] = steps, origin
    return array, moved


def canonical_order(
    affine: np.ndarray, slice_axis: int
) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """Return the order and flips that bring an axial array into the canonical order.

    affine: RAS, of the array's axes. slice_axis: the axis that counts the slices.
    Canonical: slices from caudal to cranial, rows towards the back, columns towards the left. Of the
    two in-plane assignments of rows and columns, the one that is closer to that is chosen.
    """
    lps = (LPS_TO_RAS @ affine)[:3, :3]
    first, second = (axis for axis in range(3) if axis != slice_axis)
    straight = abs(lps[0, first] * lps[1, second])
    crossed = abs(lps[0, second] * lps[1, first])
    columns, rows = (first, second) if straight >= crossed else (second, first)
    order = (slice_axis, rows, columns)
    flips = (lps[2, slice_axis] < 0, lps[1, rows] < 0, lps[0, columns] < 0)
    return order, tuple(bool(flip) for flip in flips)


def columns_first(affine: np.ndarray) -> np.ndarray:
    """Return the affine of (slice, row, column) as one of (column, row, slice), or back."""
    turned = affine.copy()
    turned[:3, :3] = affine[:3, 2::-1]
    return turned
