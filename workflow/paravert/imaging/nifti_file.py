"""What lies in a NIfTI file: its header, then the voxels that this promises, and nothing else.

Memory is set aside for what the file can hold, within limits. A compressed file is read to its end,
where its checksum and length stand.
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
EXTENSION_FLAG_BYTES = 4  # behind the header, in every file
# Headers of other formats that a program may keep behind its own, such as DICOM's.
MOST_EXTENSION_BYTES = 16 << 20
# As kept after reading: 512 x 512 x 384 voxels in two bytes, half as many in four. No axial series of
# a lumbar spine comes near it, and a conversion, which takes four times that, stays below 1 GB.
MOST_BYTES = 192 << 20
MOST_BYTES_PER_GZIP_BYTE = 1032  # of deflate: 258 bytes in 2 bits
VOXELS_AT_ONCE = 1 << 20
HEADER_ERRORS = (HeaderDataError, WrapStructError, ValueError, OverflowError, KeyError)


@contextmanager
def opened(file: Path, role: str) -> Iterator[BinaryIO]:
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
    """Return the header, of version 1 or 2, and leave the stream at the first voxel.

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
        header = kind(block, check=False)  # nibabel's check mends: a spacing of 0 becomes 1 mm
        extension = header.get_data_offset() - kind.sizeof_hdr
        # Of unknown codes these raise errors, too.
        header.get_data_dtype(), header.get_data_shape(), header.get_xyzt_units()
    except HEADER_ERRORS as error:
        raise _bad_header(role) from error
    if header["magic"].item() not in SINGLE_FILE:
        raise _bad_header(role)
    if not EXTENSION_FLAG_BYTES <= extension <= MOST_EXTENSION_BYTES:
        raise _bad_header(role)
    stream.read(extension)
    if header["pixdim"][0] == 0:  # the standard takes this for 1, nibabel does not
        header["pixdim"][0] = 1
    return header


def _bad_header(role: str) -> SubjectFault:
    return SubjectFault(Reason.UNREADABLE_HEADER, f"{role}: the NIfTI header is damaged or absent")


def check_promise(header: Nifti1Header, file: Path, role: str) -> None:
    """Raise SubjectFault unless the file may hold the voxels of its header, and memory may.

    Reasons: truncated-pixels, unsupported-pixels.
    """
    count, kept = math.prod(header.get_data_shape()), _kept(header, role).itemsize
    most = file.stat().st_size * (MOST_BYTES_PER_GZIP_BYTE if _is_compressed(file) else 1)
    if count * header.get_data_dtype().itemsize > most:
        raise _too_short(role)
    if count * kept > MOST_BYTES:
        raise SubjectFault(
            Reason.UNSUPPORTED_PIXELS,
            f"{role}: {count} voxels of {kept} bytes, expected at most {MOST_BYTES // kept}",
        )


def read_voxels(stream: BinaryIO, header: Nifti1Header, role: str) -> np.ndarray:
    """Return all voxels in their order in the file, scaled as the header says.

    stream: at the first voxel, of a header that `check_promise` let pass. Returns integers of up to 16
    bits as they are, all else as float32, whatever that makes of the values.
    Raises SubjectFault: truncated-pixels, unsupported-pixels.
    """
    on_disk, (slope, intercept) = header.get_data_dtype(), _scale(header, role)
    voxels = np.empty(math.prod(header.get_data_shape()), _kept(header, role))
    unscaled = (slope, intercept) == (1, 0)
    for start in range(0, voxels.size, VOXELS_AT_ONCE):
        part = voxels[start : start + VOXELS_AT_ONCE]
        content = stream.read(part.size * on_disk.itemsize)
        if len(content) < part.size * on_disk.itemsize:
            raise _too_short(role)
        values = np.frombuffer(content, on_disk)
        with np.errstate(over="ignore", invalid="ignore"):
            part[:] = values if unscaled else values * slope + intercept
    if stream.read(1):  # a compressed stream is checked here: this asks for its end
        raise SubjectFault(
            Reason.UNSUPPORTED_PIXELS,
            f"{role}: more bytes than those of the {voxels.size} voxels in the header",
        )
    return voxels


def _kept(header: Nifti1Header, role: str) -> np.dtype:
    """Return the type in which voxels are kept in memory."""
    on_disk = header.get_data_dtype()
    if on_disk.kind not in "iuf":
        raise SubjectFault(Reason.UNSUPPORTED_PIXELS, f"{role}: values are not real numbers")
    whole = on_disk.kind in "iu" and on_disk.itemsize <= 2 and _scale(header, role) == (1, 0)
    return on_disk.newbyteorder("=") if whole else np.dtype(np.float32)


def _scale(header: Nifti1Header, role: str) -> tuple[float, float]:
    """Return slope and intercept; a slope of 0 or NaN stands for no scaling."""
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
