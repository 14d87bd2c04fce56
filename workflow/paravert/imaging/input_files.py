"""Finds and opens the files that the sheet names; errors of the system become SubjectFault.

Damaged contents raise READ_ERRORS, which the caller turns into a SubjectFault.
"""

import logging
import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto
from errno import errorcode
from io import BufferedReader, FileIO
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import BinaryIO

import pydicom
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import data_element_generator

from paravert.errors import Reason, SubjectFault, may_pass
from paravert.imaging.header_values import VALUE_ERRORS
from paravert.provenance import NOTHING_THERE, files_below

# pydicom raises these for a damaged file, according to where the damage lies.
READ_ERRORS = (
    *VALUE_ERRORS,
    InvalidDicomError,
    EOFError,
    RecursionError,
    struct.error,
    zlib.error,
)


class PathKind(Enum):
    """What is at a path: FILE, FOLDER, or NOTHING, also for a device, a pipe or a link that leads nowhere."""

    FILE = auto()
    FOLDER = auto()
    NOTHING = auto()


def path_kind(path: Path, role: str) -> PathKind:
    """Return what is at a path: FILE, FOLDER or NOTHING; links are followed.

    role: column of the sheet that names the path, for messages. Raises SubjectFault
    (unreadable-header) for errors other than absence: no permission, too long a name, a circle of
    links.
    """
    try:
        mode = os.stat(path).st_mode
    except NOTHING_THERE:
        return PathKind.NOTHING
    except OSError as error:
        raise unreadable(role, "the path", error) from error
    if S_ISREG(mode):
        return PathKind.FILE
    return PathKind.FOLDER if S_ISDIR(mode) else PathKind.NOTHING


def files_at(path: Path, role: str) -> list[Path]:
    """Return the file at a path, or all files in and below a folder, sorted; [] if none is there.

    role: column of the sheet that names the path, for messages. In a folder, broken links are
    listed. Raises SubjectFault (unreadable-header) if a folder or file there cannot be examined: it
    would otherwise be missing without notice.
    """
    kind = path_kind(path, role)
    if kind != PathKind.FOLDER:
        return [path] if kind == PathKind.FILE else []
    try:
        return files_below(path)
    except OSError as error:
        raise unreadable(role, "a folder", error) from error


def unreadable(role: str, what: str, error: OSError) -> SubjectFault:
    """Return the fault (unreadable-header) for an error of the operating system, to be raised.

    role: column of the sheet that names the path. what: such as "a file". The message has the code of
    the error, such as EIO, but no path.
    """
    code = errorcode.get(error.errno, "no code")
    if isinstance(error, FileNotFoundError):
        found = f"{what} is gone, or a link to it leads nowhere"
    else:
        found = f"{what} may not be read ({code})"
    return SubjectFault(Reason.UNREADABLE_HEADER, f"{role}: {found}", may_pass(error))


# --- DICOM ---------------------------------------------------------------------------------------


class BoundedFile(BufferedReader):
    """A file opened for reading, whose `read` asks for no more bytes than the file has.

    file: path. A damaged DICOM element can declare a length of 4 GB, and Python allocates memory
    before it reads.
    """

    def __init__(self, file: Path):
        super().__init__(FileIO(file))
        self._bytes = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1) -> bytes:
        """Return the next bytes of the file: at most `size` of them, or all that follow for -1 or None."""
        return super().read(size if size is None else min(size, self._bytes))


@contextmanager
def open_image_file(file: Path) -> Iterator[BoundedFile]:
    """Open an image file (the sheet's column images) for reading: a context manager that yields it.

    Raises SubjectFault (unreadable-header) for an error of the operating system, on opening or
    within the `with` block.
    """
    try:
        with BoundedFile(file) as stream:
            yield stream
    except OSError as error:
        raise unreadable("images", "a file", error) from error


def parse_dicom(stream: BinaryIO, **options: object) -> FileDataset:
    """Return the data set in a DICOM file, by pydicom.dcmread with force=True (no preamble needed).

    stream: the file, opened for reading. options: further keyword arguments of pydicom.dcmread.
    Raises one of READ_ERRORS (such as InvalidDicomError) if the contents are damaged.
    """
    with _damage_as_dicom_error():
        return pydicom.dcmread(stream, force=True, **options)


def element_at(
    stream: BinaryIO, offset: int, *, implicit: bool, little_endian: bool
) -> RawDataElement | DataElement | None:
    """Return the data element at a byte offset of a DICOM file; None at the end of the file.

    stream: the file, opened for reading. offset: bytes from the beginning of the file. implicit,
    little_endian: encoding of the element (PS3.5, 7.1). The value is not decoded, and includes its
    items if its length is undefined; but a sequence of undefined length becomes a DataElement.
    Raises one of READ_ERRORS (such as EOFError) if the contents are damaged.
    """
    stream.seek(offset)
    with _damage_as_dicom_error():
        return next(data_element_generator(stream, implicit, little_endian), None)


@contextmanager
def _damage_as_dicom_error() -> Iterator[None]:
    """Turn an OSError that pydicom raises for damaged contents (no errno) into InvalidDicomError."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise InvalidDicomError from error
        raise


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Suppress messages of the loggers of pydicom, and all warnings, within a `with` block.

    Those of pydicom quote header values, such as names of patients.
    """
    logger = logging.getLogger("pydicom")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)  # also of its modules' loggers, unlike logger.disabled
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
