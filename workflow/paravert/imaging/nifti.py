"""Reading NIfTI files: images as checked stacks, and masks on the grid of their file."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.spatialimages import HeaderDataError

from paravert.errors import Reason, SubjectFault
from paravert.imaging.frame_checks import PIXEL_SPACING_RANGE_MM
from paravert.imaging.geometry import (
    AXIAL_TILT_DEG,
    BODY_LIMIT_MM,
    LPS_TO_RAS,
    canonical_order,
    columns_first,
    fits_body,
    grid_corners,
    rearranged,
    tilt_deg,
)
from paravert.imaging.image_stack import (
    Images,
    ImageSlice,
    ImageStack,
    check_not_blank,
    compact_array,
    content_cautions,
)
from paravert.imaging.nifti_file import check_length, open_nifti, read_header, read_voxels
from paravert.imaging.volume import ORTHOGONALITY_TOLERANCE, Volume

SUFFIXES = (".nii", ".nii.gz")
FORMS_TOLERANCE_MM = 1.0  # sform and qform of one file, at the corners: see QFORM_TOLERANCE_MM
SLICE_AXIS_RATIO = 1.5  # an axis whose spacing is larger by this factor is the slice axis
MILLIMETRES = ("mm", "unknown")
SLICE_SPACING_RANGE_MM = (0.05, 100.0)  # vertebrae are 40 mm apart


@dataclass(frozen=True, eq=False)
class VoxelGrid:
    """An array of three axes in any order, and its affine, 4 x 4, voxel index to RAS in mm.

    rounded: whether the affine comes from a qform, which its quaternion rounds.
    """

    array: np.ndarray
    affine: np.ndarray
    rounded: bool = False


def is_nifti(path: Path) -> bool:
    """Tell whether a file name ends like that of a NIfTI file."""
    return path.name.lower().endswith(SUFFIXES)


def read_nifti(file: Path) -> Images:
    """Return the volume of a NIfTI file as a checked stack.

    The slice axis is the one that the header names (dim_info), else one that is clearly
    coarser than the others, else the one nearest to the patient's long axis.
    Raises SubjectFault: unreadable-header, truncated-pixels, undecodable-pixels,
    unsupported-pixels, bad-geometry-orientation, bad-geometry-position, bad-pixel-spacing,
    no-axial-series, blank-images.
    """
    header, grid = _read(file, "images")
    spacing = np.linalg.norm(grid.affine[:3, :3], axis=0)
    axis = _slice_axis(header.get_dim_info()[2], grid.affine, spacing)
    tilt = tilt_deg(grid.affine[:3, axis] / spacing[axis])
    if tilt > AXIAL_TILT_DEG:
        raise SubjectFault(
            Reason.NO_AXIAL_SERIES,
            f"images: slices tilted by {tilt:.1f} degrees, expected at most {AXIAL_TILT_DEG:g}",
        )
    in_plane = np.delete(spacing, axis)
    low, high = PIXEL_SPACING_RANGE_MM
    if not ((in_plane >= low) & (in_plane <= high)).all():
        raise SubjectFault(
            Reason.BAD_PIXEL_SPACING,
            f"images: pixels of {in_plane[0]:g} x {in_plane[1]:g} mm, expected {low:g} to {high:g}",
        )
    low, high = SLICE_SPACING_RANGE_MM
    if not low <= spacing[axis] <= high:
        raise SubjectFault(
            Reason.BAD_PIXEL_SPACING,
            f"images: slices {spacing[axis]:g} mm apart, expected {low:g} to {high:g}",
        )
    order, flips = canonical_order(grid.affine, axis)
    array, affine = rearranged(grid.array, grid.affine, order, flips)
    stack = _stack(Volume(compact_array(list(array)), columns_first(_orthogonal(affine))))
    check_not_blank((stack,))
    cautions = frozenset().union(*(slice_.cautions for slice_ in stack.slices))
    return Images((stack,), cautions=cautions)


def read_mask_grid(file: Path, role: str) -> VoxelGrid:
    """Return a mask in the axis order of its file; role (truth, labels) names it in messages."""
    return _read(file, role)[1]


def _stack(volume: Volume) -> ImageStack:
    seen = content_cautions(volume.array, volume.slice_spacing_mm)
    slices = []
    for index in range(len(volume.array)):
        affine = volume.affine.copy()
        affine[:3, 3] += index * affine[:3, 2]
        slices.append(ImageSlice(affine, cautions=frozenset(seen[index])))
    return ImageStack(volume, tuple(slices), "positions")


def _read(file: Path, role: str) -> tuple[Nifti1Header, VoxelGrid]:
    with open_nifti(file, role) as stream:
        header = read_header(stream, role)
        shape = _shape(header, role)
        check_length(header, file, role)
        affine = _affine(header, shape, role)
        array = read_voxels(stream, header, role).reshape(shape, order="F")
    return header, VoxelGrid(array, affine, rounded=_sform(header) is None)


def _shape(header: Nifti1Header, role: str) -> tuple[int, ...]:
    """Return the shape of three axes; further axes of length one are dropped."""
    shape = told = header.get_data_shape()
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3 or min(shape) < 1:
        raise SubjectFault(
            Reason.UNSUPPORTED_PIXELS,
            f"{role}: an array of {len(told)} dimensions, expected 3, none of them empty",
        )
    return shape


def _affine(header: Nifti1Header, shape: tuple[int, ...], role: str) -> np.ndarray:
    """Return the affine of the header, 4 x 4 (RAS, mm); raises SubjectFault where it is not valid."""
    if header.get_xyzt_units()[0] not in MILLIMETRES:
        raise SubjectFault(Reason.BAD_PIXEL_SPACING, f"{role}: lengths are not in mm")
    try:
        with np.errstate(all="ignore"):  # values that are not finite are refused below
            forms = [form for form in (_sform(header), _qform(header)) if form is not None]
    except (HeaderDataError, ValueError) as error:
        raise _bad_orientation(role, "the qform is damaged") from error
    if not forms:
        raise _bad_orientation(role, "neither sform nor qform: left and right are unknown")
    if not np.isfinite(forms).all():
        raise _bad_orientation(role, "the sform or the qform is not finite")
    affine = forms[0]
    # The numbers of an affine are lengths in mm; larger ones would overflow below.
    if not (np.abs(forms) <= BODY_LIMIT_MM).all() or not fits_body(grid_corners(affine, shape)):
        raise SubjectFault(
            Reason.BAD_GEOMETRY_POSITION,
            f"{role}: voxels more than {BODY_LIMIT_MM:g} mm from the origin or from each other",
        )
    if not np.linalg.norm(affine[:3, :3], axis=0).all():
        raise _bad_orientation(role, "the affine has a spacing of 0")
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    if not np.allclose(axes.T @ axes, np.eye(3), atol=ORTHOGONALITY_TOLERANCE):
        raise _bad_orientation(role, "the axes of the affine are not at right angles")
    apart = max(
        np.abs(grid_corners(form, shape) - grid_corners(affine, shape)).max() for form in forms
    )
    if not apart <= FORMS_TOLERANCE_MM:
        raise _bad_orientation(role, f"sform and qform are up to {apart:.2f} mm apart")
    return affine


def _sform(header: Nifti1Header) -> np.ndarray | None:
    return header.get_sform() if header["sform_code"] > 0 else None


def _qform(header: Nifti1Header) -> np.ndarray | None:
    return header.get_qform() if header["qform_code"] > 0 else None


def _bad_orientation(role: str, told: str) -> SubjectFault:
    return SubjectFault(Reason.BAD_GEOMETRY_ORIENTATION, f"{role}: {told}")


def _slice_axis(told: int | None, affine: np.ndarray, spacing: np.ndarray) -> int:
    if told is not None:
        return told
    coarsest = int(np.argmax(spacing))
    if spacing[coarsest] >= SLICE_AXIS_RATIO * np.delete(spacing, coarsest).max():
        return coarsest
    return int(np.argmax(np.abs((LPS_TO_RAS @ affine)[2, :3] / spacing)))


def _orthogonal(affine: np.ndarray) -> np.ndarray:
    """Return the affine with its nearly orthogonal axes made exactly orthogonal."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    left, _, transposed = np.linalg.svd(affine[:3, :3] / spacing)
    exact = affine.copy()
    exact[:3, :3] = left @ transposed * spacing
    return exact
