"""The format of a DICOM file's pixels: bits, sign, transfer syntax; unsupported ones are refused."""

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
from paravert.imaging.header_values import text, whole_number

COMMAND_GROUP = 0x0000  # of network messages: always implicit VR, whatever follows
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
    """The Image Pixel module, (0028,00xx), as in the header; unknown is None or "".

    offset: byte offset of the pixel data element in the file; None if the file is deflated.
    implicit, little_endian: encoding of that element. offset_tables: the extended offset table and
    its lengths, (7FE0,0001) and (7FE0,0002).
    """

    syntax: UID
    offset: int | None
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
    offset_tables: tuple[bytes, bytes] | None


@dataclass(frozen=True)
class PixelFormat:
    """The checked pixel format of a file, with the defaults of absent attributes filled in."""

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
        """Bytes of an uncompressed frame."""
        return self.rows * self.columns * self.allocated // 8

    @property
    def bits_above(self) -> int:
        """Unused bits above the stored ones in a decoded value; compression other than RLE drops them."""
        keeps_cells = not self.syntax.is_compressed or self.syntax == RLELossless
        return self.allocated - (self.high + 1 if keeps_cells else self.stored)

    @property
    def dtype(self) -> np.dtype:
        """Integer type of decoded values."""
        return np.dtype(f"{'i' if self.signed else 'u'}{self.allocated // 8}")


def is_deflated(data: FileDataset) -> bool:
    """Tell whether the data set is compressed as a whole (deflated transfer syntax)."""
    return data.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian


def pixel_module(data: FileDataset, ended: int) -> PixelModule:
    """Return the pixel attributes of a header that ends at byte offset `ended`."""
    implicit, little_endian = _encoding(data)
    tables = data.get("ExtendedOffsetTable"), data.get("ExtendedOffsetTableLengths")
    return PixelModule(
        syntax=_syntax(data),
        offset=None if is_deflated(data) else ended,
        implicit=implicit,
        little_endian=little_endian,
        rows=whole_number(data, "Rows"),
        columns=whole_number(data, "Columns"),
        frames=whole_number(data, "NumberOfFrames"),
        samples=whole_number(data, "SamplesPerPixel"),
        photometric=text(data, "PhotometricInterpretation").upper(),
        allocated=whole_number(data, "BitsAllocated"),
        stored=whole_number(data, "BitsStored"),
        high=whole_number(data, "HighBit"),
        representation=whole_number(data, "PixelRepresentation"),
        offset_tables=None if None in tables else tables,
    )


def _encoding(data: FileDataset) -> tuple[bool, bool]:
    """Return (implicit VR, little endian) as pydicom read the elements.

    Some writers declare explicit files as implicit, or the other way. pydicom detects this at the
    first element and keeps it in each raw element, while the data set's own attribute keeps what was
    declared.
    """
    for tag in data.keys():  # noqa: SIM118, for iteration converts
        element = data.get_item(tag)
        if isinstance(element, RawDataElement) and tag.group > COMMAND_GROUP:
            return element.is_implicit_VR, element.is_little_endian
    return data.original_encoding


def _syntax(data: FileDataset) -> UID:
    """Return the transfer syntax; without a meta group, the one that pydicom detected."""
    told = data.file_meta.get("TransferSyntaxUID")
    if told is not None:
        return UID(told)
    implicit, little_endian = _encoding(data)
    explicit = ExplicitVRLittleEndian if little_endian else ExplicitVRBigEndian
    return ImplicitVRLittleEndian if implicit else explicit


def pixel_format(module: PixelModule) -> PixelFormat:
    """Return the pixel format of a file; raises SubjectFault (unsupported-pixels)."""
    if not module.syntax.is_transfer_syntax:
        raise unsupported_pixels("a transfer syntax that no decoder reads")
    if module.samples not in (1, None):
        raise unsupported_pixels("colour pixels (0028,0002), expected one sample per pixel")
    if module.photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise unsupported_pixels(
            "PhotometricInterpretation (0028,0004) is neither MONOCHROME1 nor MONOCHROME2"
        )
    if module.representation not in (0, 1):
        raise unsupported_pixels(
            "PixelRepresentation (0028,0103) does not say whether values have a sign"
        )
    allocated = module.allocated or 0
    stored = module.stored or allocated
    high = stored - 1 if module.high is None else module.high
    if allocated not in (8, 16) or not 1 <= stored <= high + 1 <= allocated:
        raise unsupported_pixels(
            f"{stored} bits stored up to bit {high} of {allocated} allocated (0028,0100), "
            "expected 8 or 16 allocated"
        )
    if module.syntax.is_compressed and module.syntax != RLELossless and high != stored - 1:
        raise unsupported_pixels(
            f"{stored} bits stored up to bit {high} (0028,0102) in compressed pixels"
        )
    return PixelFormat(
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


def unsupported_pixels(found: str) -> SubjectFault:
    """Return the fault of pixels in a format that is not supported."""
    return SubjectFault(Reason.UNSUPPORTED_PIXELS, found)
