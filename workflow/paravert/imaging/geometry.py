"""Geometry of slices: directions, tilt, affines, and the canonical order of an array.

Positions and directions are in the patient coordinates of DICOM, LPS (PS3.3, C.7.6.2): x towards the
left, y towards the back, z towards the head. Affines are those of NIfTI: 4 x 4, voxel index to RAS (x
towards the right, y towards the front, z towards the head). Lengths are mm.
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
MOST_VOXELS_ALONG = 32767  # the most that a NIfTI-1 file can say
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def orthonormal_pair(right: np.ndarray, down: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the orthonormal directions (right, down), (3,) each, nearest to the given pair.

    right, down: nearly orthonormal directions (3,), to the next column and to the next row of an
    image. Method: polar decomposition by SVD.
    """
    left, _, transposed = np.linalg.svd(np.column_stack([right, down]), full_matrices=False)
    nearest = left @ transposed
    return nearest[:, 0], nearest[:, 1]


def cranial_normal(right: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Return the unit normal of an image plane that points towards the head, LPS, (3,).

    right, down: directions (3,) to the next column and row, LPS, not parallel, of any length above
    0. A normal that points neither to the head nor to the feet is that of the cross product right x
    down.
    """
    normal = np.cross(right, down)
    normal = normal / np.linalg.norm(normal)
    return -normal if normal[2] < 0 else normal


def tilt_deg(normal: np.ndarray) -> float:
    """Return the tilt of a slice: the angle in degrees between its normal and the patient's long axis (z).

    normal: vector (3,) of length above 0, LPS or RAS, towards the head or the feet. 0 for a
    transverse slice, 90 for a sagittal or coronal one.
    """
    across = float(np.hypot(normal[0], normal[1]))
    return float(np.degrees(np.arctan2(across, abs(float(normal[2])))))


def angle_deg(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the angles (0 to 180 degrees) between unit vectors, shape (...).

    first, second: unit vectors (..., 3), broadcast against each other. Accurate for small angles.
    """
    chord = np.linalg.norm(first - second, axis=-1)
    return np.degrees(2 * np.arcsin(np.clip(chord / 2, 0, 1)))


def plane_affine(
    corner: np.ndarray, right: np.ndarray, down: np.ndarray, along: np.ndarray
) -> np.ndarray:
    """Return the affine of a grid given in LPS: 4 x 4, index (slice, row, column, 1) to RAS in mm.

    corner: centre of the first voxel. right, down, along: vectors to the next column, row and
    slice. All (3,), LPS, in mm.
    """
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([along, down, right])
    affine[:3, 3] = corner
    return LPS_TO_RAS @ affine


def grid_corners(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the centres of the eight corner voxels of a grid, (8, 3), in the affine's coordinates.

    affine: 4 x 4, voxel index to coordinates in mm. shape: number of voxels along the three axes of
    that index, in its order. The corners begin with voxel (0, 0, 0); the last index varies fastest.
    """
    far = np.asarray(shape, float) - 1
    picks = np.array(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij")).reshape(3, -1)
    return (affine[:3, :3] @ (picks * far[:, None])).T + affine[:3, 3]


def corner_distance_mm(first: np.ndarray, second: np.ndarray, shape: tuple[int, ...]) -> float:
    """Return the largest distance in mm between corresponding corner voxels of two grids of one shape.

    first, second: affines, 4 x 4, voxel index to coordinates in mm. shape: number of voxels along
    the three axes of that index, in its order.
    """
    apart = grid_corners(first, shape) - grid_corners(second, shape)
    return float(np.linalg.norm(apart, axis=1).max())


def voxel_spacing_mm(affine: np.ndarray) -> np.ndarray:
    """Return the distance of neighbouring voxels along each of the three axes of an affine, (3,), in mm.

    affine: 4 x 4, voxel index to coordinates in mm.
    """
    return np.linalg.norm(affine[:3, :3], axis=0)


def orthogonal(affine: np.ndarray) -> np.ndarray:
    """Return an affine, 4 x 4, with its nearly orthogonal axes made exactly orthogonal.

    affine: 4 x 4, voxel index to coordinates in mm. The spacing of the axes and the place of voxel (0,
    0, 0) stay. Method: polar decomposition by SVD.
    """
    spacing = voxel_spacing_mm(affine)
    left, _, transposed = np.linalg.svd(affine[:3, :3] / spacing)
    exact = affine.copy()
    exact[:3, :3] = left @ transposed * spacing
    return exact


def fits_body(points: np.ndarray) -> bool:
    """Return whether positions can all lie in one patient.

    points: (n, 3) in mm, LPS or RAS, one or more. True if every coordinate is at most BODY_LIMIT_MM
    (3 m) from 0 and the box around the points has a diagonal of at most that; False for NaN.
    """
    if not (np.abs(points) <= BODY_LIMIT_MM).all():
        return False
    return bool(np.linalg.norm(np.ptp(points, axis=0)) <= BODY_LIMIT_MM)


def rearranged(
    array: np.ndarray, affine: np.ndarray, order: tuple[int, int, int], flips: tuple[bool, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Return an array and its affine with the axes reordered, then flipped; no voxel moves in space.

    array: three axes. affine: 4 x 4, index along these axes to coordinates in mm. order: for each
    new axis, the old axis. flips: for each new axis, whether it is reversed. The returned array is
    a view; the affine is new.
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
    """Return the axis order and flips that bring an axial array into canonical order.

    affine: 4 x 4, index along the array's axes to RAS in mm. slice_axis: axis of the array, 0 to 2,
    along which the slices follow. Returns (order, flips), the arguments of `rearranged`: for each new
    axis the old one, and whether it is reversed. Canonical order: (slices, rows, columns), slices from
    caudal to cranial, rows towards the patient's back, columns towards the patient's left. Of the two
    ways to assign the axes in the plane, the one is used that fits these directions better.
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
    """Return the affine for the reversed order of the three voxel indices, 4 x 4.

    An affine of (slice, row, column, 1) becomes that of (column, row, slice, 1), the order of NIfTI
    files; an affine in that order becomes one of (slice, row, column, 1).
    """
    turned = affine.copy()
    turned[:3, :3] = affine[:3, 2::-1]
    return turned
