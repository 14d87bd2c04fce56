"""Reading the header and the voxels of a NIfTI file, with checks of its length.

Memory is allocated only for voxels that the file can hold, up to a limit. A compressed file is read
to its end, so that its checksum and length are verified.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from gzip import BadGzipFile
from pathlib import Path
from typing import BinaryIO

import numpy as np
from isal import igzip, isal_zlib
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from paravert.errors import Reason, SubjectFault

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


@contextmanager
def open_nifti(file: Path, role: str) -> Iterator[BinaryIO]:
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
        raise SubjectFault(Reason.UNREADABLE_HEADER, told) from error


def _is_compressed(file: Path) -> bool:
    return file.name.lower().endswith(".gz")


def read_header(stream: BinaryIO, role: str) -> Nifti1Header:
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
        header = kind(
            block, check=False
        )  # nibabel's check would repair: a spacing of 0 becomes 1 mm
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


def check_length(header: Nifti1Header, file: Path, role: str) -> None:
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


def read_voxels(stream: BinaryIO, header: Nifti1Header, role: str) -> np.ndarray:
    """Return all voxels in the order of the file, (voxels,), with slope and intercept applied.

    stream: at the first voxel; `check_length` must have passed. Unscaled integers of up to 16 bits keep
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
