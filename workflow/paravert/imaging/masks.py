"""Reading masks in NIfTI files: each is matched to the stack with the same voxel grid, and checked."""

from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
from nibabel.orientations import io_orientation

from paravert.anatomy import BACKGROUND, LABEL_VALUES, LABELS
from paravert.errors import Caution, Reason, SubjectFault
from paravert.imaging.geometry import (
    columns_first,
    corner_distance_mm,
    orthogonal,
    rearranged,
    voxel_spacing_mm,
)
from paravert.imaging.input_files import PathKind, files_at, path_kind
from paravert.imaging.label_maps import left_beyond_right_mm
from paravert.imaging.nifti import VoxelGrid, read_grid
from paravert.imaging.volume import Volume, blank_slices, qform_of
from paravert.label_sources import CORRECTED, OWN, LabelSource
from paravert.sheet import is_nifti

CORNER_TOLERANCE_MM = 1e-3
# A qform stores three single-precision numbers of a quaternion; near the transverse orientation the
# fourth is lost in their rounding: up to 0.3 mm at the corners of 256 x 256 x 120 mm (measured).
QFORM_TOLERANCE_MM = 0.5
# Labels of 0 to 8 that a program stored with a scale are off by up to .016 in 8 bits; interpolated ones by
# more, at the borders of muscles.
SCALE_TOLERANCE = 0.02

# Number of the stack (from 1): label map on its grid, uint8 (slices, rows, columns).
Masks = dict[int, np.ndarray]


def read_masks(
    path: Path,
    volumes: Sequence[Volume],
    role: str,
    source: LabelSource = OWN,
    parts: Mapping[int, Sequence[Volume]] = MappingProxyType({}),
    besides: Container[int] = (),
) -> tuple[Masks, set[Caution]]:
    """Return the masks in a NIfTI file, or in the NIfTI files below a folder, and warnings.

    Masks: {stack number: label map, uint8 (slices, rows, columns), 1 to 8 for a muscle and side as
        in anatomy.LABELS, 0 for background}, axes and grid as those of the stack.
    volumes: images of the subject's stacks, in the order of their numbers, from 1.
    role: column of the sheet that names the path (truth, truth2 or labels), or CORRECTED, the
        folder of corrected label maps.
    source: label source, which says which values the files have; those of other muscles and organs
        become background.
    parts: {stack number: volumes of its Dixon parts, whose voxels are those of the stack and whose
        origins may differ}.
    besides: numbers of stacks whose masks are left out; their voxel values are not checked.

    Each mask must have the voxel grid of exactly one stack, or of one of its parts, with its axes in
    any order and direction: within 0.001 mm at the corners, 0.5 mm if its file has no sform. A stack
    has one mask or none. Values are rounded if all in a file are within 0.02 of whole numbers. A mask
    whose file is 0 everywhere is left out (warning mask-empty). Warning mask-partial, only for labels
    and CORRECTED: a mask is 0 in its file throughout some slice whose image is not blank.

    Raises SubjectFault: mask-grid-mismatch (also two masks on one grid, and a folder without NIfTI),
    mask-unknown-label (a value other than 0 to 8; of another program: a value that is not whole or
    above `source.largest`, or none of a muscle), mask-side-mismatch (left and right swapped); and for
    an absent or damaged file unreadable-header, truncated-pixels, undecodable-pixels,
    unsupported-pixels, bad-geometry-orientation, bad-geometry-position, bad-pixel-spacing.
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
    found: Masks = {}
    for file in files:
        stack, array = _placed(read_grid(file, role), volumes, parts, role)
        if stack in besides:
            continue
        if stack in found:
            raise SubjectFault(
                Reason.MASK_GRID_MISMATCH, f"{role}: two masks on the grid of stack {stack}"
            )
        found[stack] = _unscaled(array)
    _check_values(list(found.values()), role, source)
    told = set() if all(array.any() for array in found.values()) else {Caution.MASK_EMPTY}
    given: Masks = {}
    for stack, array in found.items():
        volume = volumes[stack - 1]
        if array.any():
            given[stack] = _recoded(array, source)
            _check_sides(volume.with_array(given[stack]), role, source)
            if role in ("labels", CORRECTED) and leaves_slices_out(array, volume.array):
                told.add(Caution.MASK_PARTIAL)
    return given, told


def leaves_slices_out(mask: np.ndarray, image: np.ndarray) -> bool:
    """Return whether a mask is 0 throughout some slice whose image is not blank.

    mask, image: (slices, rows, columns) of one stack; the mask with the values of its file. Blank:
    all pixels have one value. Every axial slice of the lumbar spine shows muscles, so such a slice
    was not segmented.
    """
    return bool((~mask.any(axis=(1, 2)) & ~blank_slices(image)).any())


def _placed(
    mask: VoxelGrid, volumes: Sequence[Volume], parts: Mapping[int, Sequence[Volume]], role: str
) -> tuple[int, np.ndarray]:
    """Return the number of the one stack that a mask matches, and the mask on its grid."""
    tolerance_mm = QFORM_TOLERANCE_MM if mask.rounded else CORNER_TOLERANCE_MM
    found, told = {}, []
    for number, volume in enumerate(volumes, start=1):
        tried = [_onto_grid(mask, grid) for grid in (volume, *parts.get(number, ()))]
        array, apart_mm = min(tried, key=lambda pair: pair[1])
        if apart_mm <= tolerance_mm:
            found[number] = array
        grid = f"stack {number}: {_told(volume.affine, volume.array.shape[::-1])}"
        far = f", corners up to {apart_mm:.4g} mm apart, expected at most {tolerance_mm:g} mm"
        told.append(grid + far if tolerance_mm < apart_mm < np.inf else grid)
    if len(found) == 1:
        return found.popitem()
    raise SubjectFault(
        Reason.MASK_GRID_MISMATCH,
        f"{role}: {_told(mask.affine, mask.array.shape)} matches {len(found)} stacks, "
        f"expected one; {'; '.join(told)}",
    )


def _told(affine: np.ndarray, shape: tuple[int, ...]) -> str:
    """Describe a grid for a message: voxels, spacing and origin (RAS)."""
    spacing = voxel_spacing_mm(affine)
    return (
        f"{' x '.join(str(length) for length in shape)} voxels of "
        f"{' x '.join(f'{length:.4g}' for length in spacing)} mm from "
        f"({', '.join(f'{length:.3f}' for length in affine[:3, 3])}) mm"
    )


def _onto_grid(mask: VoxelGrid, volume: Volume) -> tuple[np.ndarray, float]:
    """Return a mask's array with its axes permuted and flipped to those of a volume, and their distance.

    Axes of the result: (slices, rows, columns). Distance: the largest in mm at a corner voxel, with the
    mask's axes made orthogonal, as those of a NIfTI image are; infinite where the shapes differ. The grid
    of our own images as rounded by their qform counts, too, as some programs write masks on that.
    """
    wanted = columns_first(volume.affine)
    turn = io_orientation(np.linalg.inv(wanted) @ mask.affine)  # per axis: that of the volume, sign
    order = np.argsort(turn[:, 0])
    array, affine = rearranged(mask.array, mask.affine, order, turn[order, 1] < 0)
    if array.shape != volume.array.shape:
        return array, np.inf
    grids = (wanted, columns_first(qform_of(volume.affine)))
    exact = orthogonal(affine)
    return array, min(corner_distance_mm(exact, grid, array.shape) for grid in grids)


def _unscaled(array: np.ndarray) -> np.ndarray:
    """Return label values as whole numbers if all are within 0.02 of one, otherwise the array itself."""
    if array.dtype.kind in "iu":
        return array
    whole = np.rint(array)
    return whole if (np.abs(array - whole) <= SCALE_TOLERANCE).all() else array


def _check_values(arrays: Sequence[np.ndarray], role: str, source: LabelSource) -> None:
    """Check the values in all label maps of a subject.

    Own maps must have no other values than 0 and those of LABELS. Maps of another source have values of
    other organs, too: they must be whole numbers, not above the source's largest, and at least one must
    be that of a muscle, unless all maps are empty. Raises SubjectFault (mask-unknown-label) otherwise.
    """
    if not arrays:
        return
    found = np.unique(np.concatenate([np.unique(array) for array in arrays]))
    found = found[found != BACKGROUND]
    if source.is_own:
        wrong = np.setdiff1d(found, LABEL_VALUES)
        expected = f"values beside 0 to {max(LABEL_VALUES)}"
    elif (fractions := found[found != np.rint(found)]).size:
        wrong, expected = fractions, "values that are not whole numbers"
    elif source.largest is not None and found.size and found[-1] > source.largest:
        wrong = found[found > source.largest]
        expected = f"values above {source.largest}, the largest of {source.told}"
    elif found.size and not np.isin(found, list(source.values)).any():
        wrong = found
        expected = f"values, none of {', '.join(map(str, source.values))} ({source.told})"
    else:
        return
    if len(wrong):
        listed = ", ".join(f"{value:g}" for value in wrong[:5])
        raise SubjectFault(
            Reason.MASK_UNKNOWN_LABEL, f"{role}: {len(wrong)} {expected}, such as {listed}"
        )


def _recoded(array: np.ndarray, source: LabelSource) -> np.ndarray:
    """Return a label map with the values of LABELS, uint8, in the shape of `array`; others become 0."""
    if source.is_own:
        return array.astype(np.uint8)
    labels = np.zeros(array.shape, dtype=np.uint8)
    for value, own in source.values.items():
        labels[array == value] = own
    return labels


def _check_sides(labels: Volume, role: str, source: LabelSource) -> None:
    """Check that each muscle's left label is to the patient's left of its right label.

    Raises SubjectFault (mask-side-mismatch) otherwise. See `left_beyond_right_mm`. source: of the
    values in the file.
    """
    expected = f"the values of {source.told}"
    if source.is_own:
        first, last = (f"{one.value} {one.muscle} {one.side}" for one in (LABELS[0], LABELS[-1]))
        expected = f"values {first} to {last} (anatomy.LABELS)".replace("_", " ")
    for muscle, apart_mm in left_beyond_right_mm(labels).items():
        if apart_mm <= 0:
            raise SubjectFault(
                Reason.MASK_SIDE_MISMATCH,
                f"{role}: {muscle} left lies {-apart_mm:.1f} mm to the right of its right side, "
                f"expected {expected}",
            )
