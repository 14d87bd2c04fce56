"""How a DICOM file stores its pixels, and whether they can be read so."""

from dataclasses import dataclass

import numpy as np
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileDataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from paravert.errors import Reason, SubjectFault
from paravert.imaging.values import text, whole

COMMAND_GROUP = 0x0000  # of messages: always implicit, whatever follows
PIXEL_TAGS = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
)


@dataclass(frozen=True)
class PixelModule:
    """What a header says of the pixels, (0028,00xx), as it stands there; unknown is None or "".

    place: byte of the file at which the element that ends the header begins; None if the file is
    deflated. implicit, little_endian: how that element is written. offsets: the extended offset
    table, (7FE0,0001) and (7FE0,0002).
    """

    syntax: UID
    place: int | None
    implicit: bool
    little_endian: bool
    rows: int | None
    columns: int | None
    frames: int | None
    samples: int | None
    photometric: str
    allocated: int | None
    stored: int | None
    high: int | None
    representation: int | None
    offsets: tuple[bytes, bytes] | None


@dataclass(frozen=True)
class Format:
    """How a file stores its pixels (module Image Pixel, (0028,00xx))."""

    syntax: UID
    rows: int
    columns: int
    frames: int
    allocated: int
    stored: int
    high: int
    signed: bool
    inverted: bool

    @property
    def frame_bytes(self) -> int:
        """Length of a frame that is not compressed."""
        return self.rows * self.columns * self.allocated // 8

    @property
    def bits_above(self) -> int:
        """Bits of a decoded value above those stored; RLE keeps them as they were, others do not."""
        whole_cells = not self.syntax.is_compressed or self.syntax == RLELossless
        return self.allocated - (self.high + 1 if whole_cells else self.stored)

    @property
    def dtype(self) -> np.dtype:
        """Type of decoded values."""
        return np.dtype(f"{'i' if self.signed else 'u'}{self.allocated // 8}")


def is_deflated(data: FileDataset) -> bool:
    """Tell whether all of a file behind its meta group is compressed."""
    return data.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian


def pixel_module(data: FileDataset, ended: int) -> PixelModule:
    """Return what a header says of the pixels; ended: where the header does in the file."""
    implicit, little_endian = _encoding(data)
    tables = data.get("ExtendedOffsetTable"), data.get("ExtendedOffsetTableLengths")
    return PixelModule(
        syntax=_syntax(data),
        place=None if is_deflated(data) else ended,
        implicit=implicit,
        little_endian=little_endian,
        rows=whole(data, "Rows"),
        columns=whole(data, "Columns"),
        frames=whole(data, "NumberOfFrames"),
        samples=whole(data, "SamplesPerPixel"),
        photometric=text(data, "PhotometricInterpretation").upper(),
        allocated=whole(data, "BitsAllocated"),
        stored=whole(data, "BitsStored"),
        high=whole(data, "HighBit"),
        representation=whole(data, "PixelRepresentation"),
        offsets=None if None in tables else tables,
    )


def _encoding(data: FileDataset) -> tuple[bool, bool]:
    """Return whether elements lack their VR, and whether they are little endian, as pydicom read.

    Some writers label explicit files as implicit or the other way: pydicom sees it at the first
    element and keeps it in every element that it has not converted yet, but tells of the data set
    what the label says.
    """
    for tag in data.keys():  # noqa: SIM118, for iteration converts
        element = data.get_item(tag)
        if isinstance(element, RawDataElement) and tag.group > COMMAND_GROUP:
            return element.is_implicit_VR, element.is_little_endian
    return data.original_encoding


def _syntax(data: FileDataset) -> UID:
    """Return the transfer syntax; of a file without meta group as pydicom found it to be."""
    told = data.file_meta.get("TransferSyntaxUID")
    if told is not None:
        return UID(told)
    implicit, little_endian = _encoding(data)
    explicit = ExplicitVRLittleEndian if little_endian else ExplicitVRBigEndian
    return ImplicitVRLittleEndian if implicit else explicit


def pixel_format(module: PixelModule) -> Format:
    """Return how a file stores its pixels; raises SubjectFault (unsupported-pixels)."""
    if not module.syntax.is_transfer_syntax:
        raise unsupported("a transfer syntax that no decoder reads")
    if module.samples not in (1, None):
        raise unsupported("colour pixels (0028,0002), expected one sample per pixel")
    if module.photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise unsupported(
            "PhotometricInterpretation (0028,0004) is neither MONOCHROME1 nor MONOCHROME2"
        )
    if module.representation not in (0, 1):
        raise unsupported("PixelRepresentation (0028,0103) does not say whether values have a sign")
    allocated = module.allocated or 0
    stored = module.stored or allocated
    high = stored - 1 if module.high is None else module.high
    if allocated not in (8, 16) or not 1 <= stored <= high + 1 <= allocated:
        raise unsupported(
            f"{stored} bits stored up to bit {high} of {allocated} allocated (0028,0100), "
            "expected 8 or 16 allocated"
        )
    if module.syntax.is_compressed and module.syntax != RLELossless and high != stored - 1:
        raise unsupported(f"{stored} bits stored up to bit {high} (0028,0102) in compressed pixels")
    return Format(
        syntax=module.syntax,
        rows=module.rows or 0,
        columns=module.columns or 0,
        frames=module.frames or 1,
        allocated=allocated,
        stored=stored,
        high=high,
        signed=module.representation == 1,
        inverted=module.photometric == "MONOCHROME1",
    )


def unsupported(found: str) -> SubjectFault:
    """Return the fault of pixels that are not of a kind that can be read."""
    return SubjectFault(Reason.UNSUPPORTED_PIXELS, found)
