"""Reading masks: matched to the stack with the same grid, and checked."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from paravert.anatomy import BACKGROUND, LABEL_VALUES
from paravert.errors import Caution, Reason, SubjectFault
from paravert.imaging.geometry import columns_first, grid_corners, rearranged
from paravert.imaging.input_files import PathKind, files_at, path_kind
from paravert.imaging.label_maps import left_beyond_right_mm
from paravert.imaging.nifti import VoxelGrid, is_nifti, read_mask_grid
from paravert.imaging.volume import Volume, blank_slices, qform_of

CORNER_TOLERANCE_MM = 1e-3
# A qform stores three single-precision numbers of a quaternion; near the transverse orientation the
# fourth is lost in their rounding: up to 0.3 mm at the corners of 256 x 256 x 120 mm (measured).
QFORM_TOLERANCE_MM = 0.5
AXIS_TOLERANCE = 1e-2  # of cosines; only to match the axes: the corners are compared afterwards

Masks = dict[int, np.ndarray]  # by stack (from 1): uint8, on the grid of the stack


def read_masks(path: Path, volumes: Sequence[Volume], role: str) -> tuple[Masks, set[Caution]]:
    """Return the masks in a NIfTI file, or a folder of them, by stack, and warnings.

    Each mask must match exactly one stack; a stack may have none. A mask without any label is ignored
    (mask-empty). role: truth or labels; names the mask in messages.
    Raises SubjectFault: unreadable-header, truncated-pixels, undecodable-pixels, unsupported-pixels,
    bad-geometry-orientation, bad-geometry-position, mask-grid-mismatch, mask-unknown-label,
    mask-side-mismatch.
    """
    found = path_kind(path, role)
    if found == PathKind.NOTHING:
        raise SubjectFault(
            Reason.UNREADABLE_HEADER, f"{role}: no such file as the sheet names, expected NIfTI"
        )
    files = [f for f in files_at(path, role) if found == PathKind.FILE or is_nifti(f)]
    if not files:
        raise SubjectFault(
            Reason.MASK_GRID_MISMATCH,
            f"{role}: a folder without NIfTI files, expected one for each stack",
        )
    masks: Masks = {}
    for file in files:
        stack, array = _placed(read_mask_grid(file, role), volumes, role)
        if stack in masks:
            raise SubjectFault(
                Reason.MASK_GRID_MISMATCH, f"{role}: two masks on the grid of stack {stack}"
            )
        masks[stack] = checked_labels(array, role)
        check_sides(volumes[stack - 1].with_array(masks[stack]), role)
    given = {stack: mask for stack, mask in masks.items() if mask.any()}
    return given, {Caution.MASK_EMPTY} if len(given) < len(masks) else set()


def leaves_slices_out(mask: np.ndarray, image: np.ndarray) -> bool:
    """Tell whether a mask has no label in a slice whose image is not blank.

    mask, image: (slices, rows, columns). Every axial slice of the lumbar spine shows muscles.
    """
    return bool((~mask.any(axis=(1, 2)) & ~blank_slices(image)).any())


def _placed(mask: VoxelGrid, volumes: Sequence[Volume], role: str) -> tuple[int, np.ndarray]:
    found = [(n, onto_grid(mask, volume)) for n, volume in enumerate(volumes, start=1)]
    found = [(number, array) for number, array in found if array is not None]
    if len(found) == 1:
        return found[0]
    stacks = "; ".join(
        f"stack {number}: {_told(volume.affine, volume.array.shape[::-1])}"
        for number, volume in enumerate(volumes, start=1)
    )
    raise SubjectFault(
        Reason.MASK_GRID_MISMATCH,
        f"{role}: {_told(mask.affine, mask.array.shape)} matches {len(found)} stacks, "
        f"expected one; {stacks}",
    )


def _told(affine: np.ndarray, shape: tuple[int, ...]) -> str:
    """Describe a grid for a message: voxels, spacing and origin (RAS)."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    return (
        f"{' x '.join(str(length) for length in shape)} voxels of "
        f"{' x '.join(f'{length:.4g}' for length in spacing)} mm from "
        f"({', '.join(f'{length:.3f}' for length in affine[:3, 3])}) mm"
    )


def onto_grid(mask: VoxelGrid, volume: Volume) -> np.ndarray | None:
    """Return a mask's array on the grid of a volume, (slices, rows, columns), by permutation and flips.

    None where the grids differ: in shape, or by more than 0.001 mm at a corner. The grid rounded by
    the qform of our images matches too: some programs read the qform.
    """
    wanted = columns_first(volume.affine)
    turn = _directions(wanted).T @ _directions(mask.affine)  # (axis of volume, axis of mask)
    signed = np.rint(turn)
    if np.abs(turn - signed).max() > AXIS_TOLERANCE or not _is_permutation(np.abs(signed)):
        return None
    order = tuple(int(axis) for axis in np.abs(signed).argmax(axis=1))
    flips = tuple(bool(flip) for flip in signed.sum(axis=1) < 0)
    array, affine = rearranged(mask.array, mask.affine, order, flips)
    if array.shape != volume.array.shape:
        return None
    grids = (wanted, columns_first(qform_of(volume.affine)))
    apart = min(_apart_mm(affine, grid, array.shape) for grid in grids)
    tolerance = QFORM_TOLERANCE_MM if mask.rounded else CORNER_TOLERANCE_MM
    return array if apart <= tolerance else None


def _apart_mm(first: np.ndarray, second: np.ndarray, shape: tuple[int, ...]) -> float:
    apart = grid_corners(first, shape) - grid_corners(second, shape)
    return float(np.linalg.norm(apart, axis=1).max())


def _directions(affine: np.ndarray) -> np.ndarray:
    return affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)


def _is_permutation(matrix: np.ndarray) -> bool:
    return bool((matrix.sum(axis=0) == 1).all() and (matrix.sum(axis=1) == 1).all())


def checked_labels(array: np.ndarray, role: str) -> np.ndarray:
    """Return a label map as uint8; raises SubjectFault (mask-unknown-label) for other values."""
    unknown = np.setdiff1d(array, (BACKGROUND, *LABEL_VALUES))
    if len(unknown):
        listed = ", ".join(f"{value:g}" for value in unknown[:5])
        raise SubjectFault(
            Reason.MASK_UNKNOWN_LABEL,
            f"{role}: {len(unknown)} values beside 0 to {max(LABEL_VALUES)}, such as {listed}",
        )
    return array.astype(np.uint8)


def check_sides(labels: Volume, role: str) -> None:
    """Raise SubjectFault unless each muscle's left label is to the patient's left of its right label.

    See `left_beyond_right_mm`.
    """
    for muscle, apart_mm in left_beyond_right_mm(labels).items():
        if apart_mm <= 0:
            raise SubjectFault(
                Reason.MASK_SIDE_MISMATCH,
                f"{role}: {muscle} left lies {-apart_mm:.1f} mm to the right of its right side",
            )
