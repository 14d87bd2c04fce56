"""Reading NIfTI files: images as checked stacks, and masks on the grid of their file.

Memory is allocated only for voxels that the file can hold, up to a limit. A compressed file is read
to its end, so that its checksum and length are verified.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from gzip import BadGzipFile
from pathlib import Path
from typing import BinaryIO

import numpy as np
from isal import igzip, isal_zlib
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from paravert.errors import Reason, SubjectFault, may_pass
from paravert.imaging.geometry import (
    AXIAL_TILT_DEG,
    BODY_LIMIT_MM,
    MOST_VOXELS_ALONG,
    PIXEL_SPACING_RANGE_MM,
    canonical_order,
    columns_first,
    fits_body,
    grid_corners,
    orthogonal,
    rearranged,
    tilt_deg,
    voxel_spacing_mm,
)
from paravert.imaging.image_stack import (
    Images,
    ImageSlice,
    ImageStack,
    check_not_blank,
    compact_array,
    content_cautions,
)
from paravert.imaging.volume import ORTHOGONALITY_TOLERANCE, Volume
from paravert.tables import PLANES, UNKNOWN

FORMS_TOLERANCE_MM = 1.0  # sform and qform of one file, at the corners: see QFORM_TOLERANCE_MM
SLICE_AXIS_RATIO = 1.5  # an axis whose spacing is larger by this factor is the slice axis
MILLIMETRES = ("mm", "unknown")
SLICE_SPACING_RANGE_MM = (0.05, 100.0)  # vertebrae are 40 mm apart
SINGLE_FILE = (b"n+1", b"n+2")  # header and voxels in one file
EXTENSION_FLAG_BYTES = 4  # follow the header in every file
# Header extensions, such as a copy of the DICOM header.
MOST_EXTENSION_BYTES = 16 << 20
# In memory: 512 x 512 x 384 voxels of two bytes, half as many of four. No axial series of a lumbar
# spine is that large, and a conversion, which needs four times that, stays below 1 GB.
MOST_BYTES = 192 << 20
MOST_BYTES_PER_GZIP_BYTE = 1032  # deflate codes at most 258 bytes in 2 bits
VOXELS_AT_ONCE = 1 << 20
HEADER_ERRORS = (HeaderDataError, WrapStructError, ValueError, OverflowError, KeyError)


@dataclass(frozen=True, eq=False)
class VoxelGrid:
    """The voxels of a NIfTI file, and where they are.

    array: three axes in the order of the file, slope and intercept applied. affine: 4 x 4, index
    along these axes to RAS in mm. slice_axis: axis (0 to 2) along which the slices follow, from
    dim_info of the header; None if unknown. rounded: whether the affine comes from the qform,
    whose quaternion is stored with limited precision, as there is no sform.
    """

    array: np.ndarray
    affine: np.ndarray
    slice_axis: int | None = None
    rounded: bool = False


def read_nifti(file: Path, role: str = "images") -> Images:
    """Return the images of a NIfTI file (.nii, .nii.gz): one axial stack with its affine, and warnings.

    The array is (slices, rows, columns): slices from caudal to cranial, rows towards the patient's
    back, columns towards the patient's left. Slice axis: the one that the header names (dim_info),
    otherwise the one with the largest spacing if that is at least 1.5 times each of the others,
    otherwise the one nearest to the patient's long axis. Header values such as the echo time are
    unknown in the result. role: column of the sheet that names the file, for messages. Raises
    SubjectFault: unreadable-header, truncated-pixels, undecodable-pixels, unsupported-pixels (also
    several volumes), bad-geometry-orientation, bad-geometry-position, bad-pixel-spacing,
    no-axial-series, blank-images.
    """
    grid = read_grid(file, role)
    spacing = voxel_spacing_mm(grid.affine)
    axis = _slice_axis(grid, spacing)
    tilt = tilt_deg(grid.affine[:3, axis] / spacing[axis])
    if tilt > AXIAL_TILT_DEG:
        raise SubjectFault(
            Reason.NO_AXIAL_SERIES,
            f"{role}: slices tilted by {tilt:.1f} degrees, expected at most {AXIAL_TILT_DEG:g}",
        )
    in_plane = np.delete(spacing, axis)
    low, high = PIXEL_SPACING_RANGE_MM
    if not ((in_plane >= low) & (in_plane <= high)).all():
        raise SubjectFault(
            Reason.BAD_PIXEL_SPACING,
            f"{role}: pixels of {in_plane[0]:g} x {in_plane[1]:g} mm, expected {low:g} to {high:g}",
        )
    low, high = SLICE_SPACING_RANGE_MM
    if not low <= spacing[axis] <= high:
        raise SubjectFault(
            Reason.BAD_PIXEL_SPACING,
            f"{role}: slices {spacing[axis]:g} mm apart, expected {low:g} to {high:g}",
        )
    order, flips = canonical_order(grid.affine, axis)
    array, affine = rearranged(grid.array, grid.affine, order, flips)
    stack = _stack(Volume(compact_array(list(array)), columns_first(orthogonal(affine))))
    check_not_blank((stack,))
    cautions = frozenset().union(*(slice_.cautions for slice_ in stack.slices))
    row = {
        "series_number": 1,
        "plane": PLANES[0],
        "sequence": UNKNOWN,
        "n_slices": len(stack.slices),
    }
    row |= {"spacing_mm": stack.volume.slice_spacing_mm, "chosen": True, "series_reason": None}
    return Images((stack,), cautions=cautions, series=(row,))


def read_grid(file: Path, role: str) -> VoxelGrid:
    """Return the voxels of a NIfTI file and their affine, axes as in the file, values rescaled.

    role: column of the sheet that names the file (images, truth ...), for messages. Unscaled
    integers of up to 16 bits keep their type, other values become float32. Raises SubjectFault:
    unreadable-header, truncated-pixels, undecodable-pixels, unsupported-pixels (also for several volumes),
    bad-geometry-orientation, bad-geometry-position, bad-pixel-spacing.
    """
    with _open_nifti(file, role) as stream:
        header = _read_header(stream, role)
        shape = _shape(header, role)
        _check_length(header, file, role)
        affine = _affine(header, shape, role)
        array = _read_voxels(stream, header, role).reshape(shape, order="F")
    return VoxelGrid(array, affine, header.get_dim_info()[2], rounded=_sform(header) is None)


def _stack(volume: Volume) -> ImageStack:
    seen = content_cautions(volume.array, volume.slice_spacing_mm)
    slices = []
    for index in range(len(volume.array)):
        affine = volume.affine.copy()
        affine[:3, 3] += index * affine[:3, 2]
        slices.append(ImageSlice(affine, cautions=frozenset(seen[index])))
    return ImageStack(volume, tuple(slices), "positions")


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
    if max(shape) > MOST_VOXELS_ALONG:
        raise SubjectFault(
            Reason.UNSUPPORTED_PIXELS,
            f"{role}: {max(shape)} voxels along an axis, expected at most {MOST_VOXELS_ALONG}",
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
    spacing = voxel_spacing_mm(affine)
    if not spacing.all():
        raise _bad_orientation(role, "the affine has a spacing of 0")
    axes = affine[:3, :3] / spacing
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


def _slice_axis(grid: VoxelGrid, spacing: np.ndarray) -> int:
    if grid.slice_axis is not None:
        return grid.slice_axis
    coarsest = int(np.argmax(spacing))
    if spacing[coarsest] >= SLICE_AXIS_RATIO * np.delete(spacing, coarsest).max():
        return coarsest
    return int(np.argmax(np.abs(grid.affine[2, :3] / spacing)))


# --- header and voxels of a file -----------------------------------------------------------------


@contextmanager
def _open_nifti(file: Path, role: str) -> Iterator[BinaryIO]:
    """Open a NIfTI file, compressed or not; role (images, truth, labels) names it in messages.

    Raises SubjectFault within: unreadable-header, truncated-pixels, undecodable-pixels.
    """
    try:
        with (igzip.open if _is_compressed(file) else open)(file, "rb") as stream:
            yield stream
    except EOFError as error:
        told = f"{role}: the compressed file ends too early, or more bytes follow its end"
        raise SubjectFault(Reason.TRUNCATED_PIXELS, told) from error
    except (BadGzipFile, isal_zlib.error) as error:
        told = f"{role}: the compressed file is damaged: its checksum, its length or its structure"
        raise SubjectFault(Reason.UNDECODABLE_PIXELS, told) from error
    except OSError as error:
        told = f"{role}: the file is absent or may not be read"
        raise SubjectFault(Reason.UNREADABLE_HEADER, told, may_pass(error)) from error


def _is_compressed(file: Path) -> bool:
    return file.name.lower().endswith(".gz")


def _read_header(stream: BinaryIO, role: str) -> Nifti1Header:
    """Return the header, NIfTI-1 or NIfTI-2; the stream is then at the first voxel.

    Raises SubjectFault (unreadable-header).
    """
    block = stream.read(Nifti1Header.sizeof_hdr)
    kind = Nifti1Header
    if not kind.may_contain_header(block):
        kind = Nifti2Header
        block += stream.read(kind.sizeof_hdr - len(block))
    try:
        if not kind.may_contain_header(block):
            raise HeaderDataError("neither version of NIfTI")
        # The check of nibabel would repair: a spacing of 0 becomes 1 mm.
        header = kind(block, check=False)
        extension = header.get_data_offset() - kind.sizeof_hdr
        # These raise errors for unknown codes.
        header.get_data_dtype(), header.get_data_shape(), header.get_xyzt_units()
    except HEADER_ERRORS as error:
        raise _bad_header(role) from error
    if header["magic"].item() not in SINGLE_FILE:
        raise _bad_header(role)
    if not EXTENSION_FLAG_BYTES <= extension <= MOST_EXTENSION_BYTES:
        raise _bad_header(role)
    stream.read(extension)
    if header["pixdim"][0] == 0:  # the standard reads 0 as 1, nibabel does not
        header["pixdim"][0] = 1
    return header


def _bad_header(role: str) -> SubjectFault:
    return SubjectFault(Reason.UNREADABLE_HEADER, f"{role}: the NIfTI header is damaged or absent")


def _check_length(header: Nifti1Header, file: Path, role: str) -> None:
    """Raise SubjectFault unless the file is long enough for its voxels, and they fit in memory.

    Reasons: truncated-pixels, unsupported-pixels.
    """
    count, itemsize = math.prod(header.get_data_shape()), _memory_type(header, role).itemsize
    most = file.stat().st_size * (MOST_BYTES_PER_GZIP_BYTE if _is_compressed(file) else 1)
    if count * header.get_data_dtype().itemsize > most:
        raise _too_short(role)
    if count * itemsize > MOST_BYTES:
        raise SubjectFault(
            Reason.UNSUPPORTED_PIXELS,
            f"{role}: {count} voxels of {itemsize} bytes, expected at most {MOST_BYTES // itemsize}",
        )


def _read_voxels(stream: BinaryIO, header: Nifti1Header, role: str) -> np.ndarray:
    """Return all voxels in the order of the file, (voxels,), with slope and intercept applied.

    stream: at the first voxel; `_check_length` must have passed. Unscaled integers of up to 16 bits keep
    their type; all else becomes float32, where values may overflow.
    Raises SubjectFault: truncated-pixels, unsupported-pixels.
    """
    on_disk, (slope, intercept) = header.get_data_dtype(), _scale(header, role)
    voxels = np.empty(math.prod(header.get_data_shape()), _memory_type(header, role))
    unscaled = (slope, intercept) == (1, 0)
    for start in range(0, voxels.size, VOXELS_AT_ONCE):
        part = voxels[start : start + VOXELS_AT_ONCE]
        content = stream.read(part.size * on_disk.itemsize)
        if len(content) < part.size * on_disk.itemsize:
            raise _too_short(role)
        values = np.frombuffer(content, on_disk)
        with np.errstate(over="ignore", invalid="ignore"):
            part[:] = values if unscaled else values * slope + intercept
    if stream.read(1):  # reading at the end makes gzip verify the checksum
        raise SubjectFault(
            Reason.UNSUPPORTED_PIXELS,
            f"{role}: more bytes than those of the {voxels.size} voxels in the header",
        )
    return voxels


def _memory_type(header: Nifti1Header, role: str) -> np.dtype:
    """Return the data type of the voxels in memory."""
    on_disk = header.get_data_dtype()
    if on_disk.kind not in "iuf":
        raise SubjectFault(Reason.UNSUPPORTED_PIXELS, f"{role}: values are not real numbers")
    whole = on_disk.kind in "iu" and on_disk.itemsize <= 2 and _scale(header, role) == (1, 0)
    return on_disk.newbyteorder("=") if whole else np.dtype(np.float32)


def _scale(header: Nifti1Header, role: str) -> tuple[float, float]:
    """Return slope and intercept; a slope of 0 or NaN means no scaling."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or math.isnan(slope):
        return 1.0, 0.0
    if not (math.isfinite(slope) and math.isfinite(intercept)):
        raise SubjectFault(
            Reason.UNSUPPORTED_PIXELS, f"{role}: scl_slope or scl_inter is no finite number"
        )
    return slope, intercept


def _too_short(role: str) -> SubjectFault:
    return SubjectFault(
        Reason.TRUNCATED_PIXELS, f"{role}: the file ends before the voxels of its header do"
    )
