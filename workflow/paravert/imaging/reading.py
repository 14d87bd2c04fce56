"""How DICOM files are read: never beyond their end, and with known errors."""

import logging
import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, FileIO
from pathlib import Path
from typing import BinaryIO

import pydicom
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import data_element_generator

from paravert.imaging.places import unreadable
from paravert.imaging.values import VALUE_ERRORS

# pydicom raises these for a damaged file, according to where the damage lies.
READ_ERRORS = (
    *VALUE_ERRORS,
    InvalidDicomError,
    EOFError,
    RecursionError,
    struct.error,
    zlib.error,
)


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Keep pydicom's warnings, which quote values of the input, out of logs."""
    logger = logging.getLogger("pydicom")
    before = logger.disabled
    logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = before


class BoundedFile(BufferedReader):
    """A file that is never asked for more than it has.

    A damaged length of an element can be 4 GB, and Python sets memory aside before it reads.
    """

    def __init__(self, file: Path):
        super().__init__(FileIO(file))
        self._bytes = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1) -> bytes:
        """Read up to so many bytes, or all."""
        return super().read(size if size is None else min(size, self._bytes))


@contextmanager
def opened(file: Path) -> Iterator[BoundedFile]:
    """Give an image file to read from.

    Raises SubjectFault (unreadable-header) for an error of the operating system, also one that
    comes while the file is read.
    """
    try:
        with BoundedFile(file) as stream:
            yield stream
    except OSError as error:
        raise unreadable("images", "a file", error) from error


def parse(stream: BinaryIO, **options: object) -> FileDataset:
    """Call `pydicom.dcmread`; raises one of READ_ERRORS where the contents are damaged."""
    with _damage_told():
        return pydicom.dcmread(stream, force=True, **options)


def element_at(
    stream: BinaryIO, place: int, *, implicit: bool, little_endian: bool
) -> RawDataElement | DataElement | None:
    """Return the element at a place, its value as it stands in the file; None at the end.

    A value whose length is open comes with the items and delimiters in it.
    Raises one of READ_ERRORS.
    """
    stream.seek(place)
    with _damage_told():
        return next(data_element_generator(stream, implicit, little_endian), None)


@contextmanager
def _damage_told() -> Iterator[None]:
    """Tell an OSError that pydicom raises of the contents from one of the operating system."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise InvalidDicomError from error
        raise
