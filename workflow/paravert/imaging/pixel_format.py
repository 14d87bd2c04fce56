"""The format of the pixels of a DICOM file: bits, sign, transfer syntax; unsupported ones are refused."""

from dataclasses import dataclass

import numpy as np
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileDataset
from pydicom.pixels import get_decoder
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from paravert.errors import Reason, SubjectFault
from paravert.imaging.header_values import VALUE_ERRORS, text, value_of, whole_number

COMMAND_GROUP = 0x0000  # of network messages: always implicit VR, whatever follows
PIXEL_NUMBERS = (
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
)
OFFSET_TABLES = ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")
PADDING = ("PixelPaddingValue", "PixelPaddingRangeLimit")
PIXEL_TAGS = (*PIXEL_NUMBERS, "PhotometricInterpretation", *OFFSET_TABLES, *PADDING)


@dataclass(frozen=True)
class PixelModule:
    """The Image Pixel module of a DICOM file as its header has it, not checked (PS3.3, C.7.6.3).

    syntax: transfer syntax (0002,0010); if absent, the one that pydicom detected. offset: byte offset
    of the element PixelData (7FE0,0010) in the file; None if the file is deflated. implicit,
    little_endian: encoding of that element. numbers: {keyword of PIXEL_NUMBERS, such as BitsAllocated:
    value, None if absent or malformed}. photometric: PhotometricInterpretation (0028,0004) in upper
    case, "" if absent. offset_tables: values of the extended offset table and its lengths, (7FE0,0001)
    and (7FE0,0002); None if either is absent. padding: the stored values PixelPaddingValue (0028,0120)
    and PixelPaddingRangeLimit (0028,0121), of which a negative one may be given as the unsigned number
    of the same bits; the second is the first if it is absent; None without padding.
    """

    syntax: UID
    offset: int | None
    implicit: bool
    little_endian: bool
    numbers: dict[str, int | None]
    photometric: str
    offset_tables: tuple[bytes, bytes] | None
    padding: tuple[int, int] | None = None


@dataclass(frozen=True)
class PixelFormat:
    """The pixel format of a DICOM file; bits, sign and transfer syntax are checked.

    syntax: transfer syntax (0002,0010). rows, columns, frames: (0028,0010), (0028,0011),
    (0028,0008). allocated, stored, high: BitsAllocated (8 or 16), BitsStored, HighBit, (0028,0100)
    to (0028,0102). signed: whether stored values are two's complement (0028,0103). inverted:
    whether small values are bright, MONOCHROME1 (0028,0004). If absent, rows and columns are 0,
    frames is 1, stored equals allocated, and high is stored - 1.
    """

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
        """Number of bytes of one uncompressed frame."""
        return self.rows * self.columns * self.allocated // 8

    @property
    def bits_above(self) -> int:
        """Number of high bits of a decoded value that are not part of the pixel (may hold overlays).

        Uncompressed or RLE: the bits above HighBit (0028,0102). Other compressions: the bits above
        the stored ones, because HighBit has no meaning after decoding.
        """
        keeps_cells = not self.syntax.is_compressed or self.syntax == RLELossless
        return self.allocated - (self.high + 1 if keeps_cells else self.stored)

    @property
    def dtype(self) -> np.dtype:
        """Integer type of decoded values: uint8, int8, uint16 or int16, in native byte order."""
        return np.dtype(f"{'i' if self.signed else 'u'}{self.allocated // 8}")


def is_deflated(data: FileDataset) -> bool:
    """Return whether a whole DICOM data set is compressed (deflated transfer syntax, PS3.5, A.5).

    data: data set with its file meta information.
    """
    return data.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian


def pixel_module(data: FileDataset, ended: int) -> PixelModule:
    """Return the Image Pixel module of a DICOM header, unchecked: where and how pixels are stored.

    data: data set of the file, up to the pixels. ended: byte offset in the file at which this data
    set ends and PixelData (7FE0,0010) begins; not used if the file is deflated.
    """
    implicit, little_endian = _encoding(data)
    tables = tuple(data.get(keyword) for keyword in OFFSET_TABLES)
    return PixelModule(
        syntax=_syntax(data),
        offset=None if is_deflated(data) else ended,
        implicit=implicit,
        little_endian=little_endian,
        numbers={keyword: whole_number(data, keyword) for keyword in PIXEL_NUMBERS},
        photometric=text(data, "PhotometricInterpretation").upper(),
        offset_tables=None if None in tables else tables,
        padding=_padding(data, little_endian=little_endian),
    )


def _padding(data: FileDataset, *, little_endian: bool) -> tuple[int, int] | None:
    value, limit = (
        _stored_value(data, keyword, little_endian=little_endian) for keyword in PADDING
    )
    return None if value is None else (value, value if limit is None else limit)


def _stored_value(data: FileDataset, keyword: str, *, little_endian: bool) -> int | None:
    """Return the value of an element of VR US or SS, which is bytes if the file has implicit VR."""
    try:
        value = value_of(data, keyword)
    except VALUE_ERRORS:
        return None
    if isinstance(value, bytes):
        return int.from_bytes(value, "little" if little_endian else "big") if value else None
    return value if isinstance(value, int) else None


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
    """Return the pixel format of a DICOM file: rows, columns, frames, bits, sign, transfer syntax.

    module: unchecked values of the header, from `pixel_module`. Raises SubjectFault
    (unsupported-pixels) for colour, a transfer syntax without decoder, other than 8 or 16 bits
    allocated, bits that contradict each other, and if BitsAllocated, PixelRepresentation or
    PhotometricInterpretation is missing or invalid. For other missing attributes see PixelFormat.
    Rows, columns and frames are not checked.
    """
    numbers = module.numbers
    try:
        get_decoder(module.syntax)
    except NotImplementedError as error:
        raise unsupported_pixels("a transfer syntax that no decoder reads") from error
    if numbers["SamplesPerPixel"] not in (1, None):
        raise unsupported_pixels("colour pixels (0028,0002), expected one sample per pixel")
    if module.photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise unsupported_pixels(
            "PhotometricInterpretation (0028,0004) is neither MONOCHROME1 nor MONOCHROME2"
        )
    if numbers["PixelRepresentation"] not in (0, 1):
        raise unsupported_pixels(
            "PixelRepresentation (0028,0103) does not say whether values have a sign"
        )
    allocated = numbers["BitsAllocated"] or 0
    stored = numbers["BitsStored"] or allocated
    high = stored - 1 if numbers["HighBit"] is None else numbers["HighBit"]
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
        rows=numbers["Rows"] or 0,
        columns=numbers["Columns"] or 0,
        frames=numbers["NumberOfFrames"] or 1,
        allocated=allocated,
        stored=stored,
        high=high,
        signed=numbers["PixelRepresentation"] == 1,
        inverted=module.photometric == "MONOCHROME1",
    )


def unsupported_pixels(found: str) -> SubjectFault:
    """Return the fault "unsupported-pixels" for the caller to raise.

    found: what the file has that cannot be read; it becomes the message.
    """
    return SubjectFault(Reason.UNSUPPORTED_PIXELS, found)
