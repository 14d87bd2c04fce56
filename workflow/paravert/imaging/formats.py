"""How a DICOM file stores its pixels, and whether it can be read so."""

from dataclasses import dataclass

import numpy as np
from pydicom.dataset import FileDataset
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from paravert.errors import Reason, SubjectFault
from paravert.imaging.frames import Header
from paravert.imaging.values import text, whole

PIXEL_DATA = Tag("PixelData")


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
    def dtype(self) -> np.dtype:
        """Type of decoded values."""
        return np.dtype(f"{'i' if self.signed else 'u'}{self.allocated // 8}")


def pixel_format(header: Header, data: FileDataset) -> Format:
    """Return how a file stores its pixels.

    Raises SubjectFault: unsupported-pixels, and where they are not all there missing-pixels or
    truncated-pixels.
    """
    _check_present(data)
    form = _format(header, data)
    found, expected = _length(data), form.frame_bytes * form.frames
    if not form.syntax.is_compressed and found < expected:
        raise truncated(f": {found} bytes of pixel data, expected {expected}")
    return form


def no_decoder() -> SubjectFault:
    """Return the fault of a transfer syntax that is unknown or unsupported."""
    return SubjectFault(Reason.UNSUPPORTED_PIXELS, "a transfer syntax that no decoder reads")


def truncated(told: str = "") -> SubjectFault:
    """Return the fault of a file that is too short."""
    return SubjectFault(Reason.TRUNCATED_PIXELS, f"an image file ends before its pixels do{told}")


def _format(header: Header, data: FileDataset) -> Format:
    if whole(data, "SamplesPerPixel") not in (1, None):
        raise SubjectFault(
            Reason.UNSUPPORTED_PIXELS, "colour pixels (0028,0002), expected one sample per pixel"
        )
    photometric = text(data, "PhotometricInterpretation").upper()
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise SubjectFault(
            Reason.UNSUPPORTED_PIXELS,
            "PhotometricInterpretation (0028,0004) is neither MONOCHROME1 nor MONOCHROME2",
        )
    allocated = whole(data, "BitsAllocated") or 0
    stored = whole(data, "BitsStored") or allocated
    high = whole(data, "HighBit")
    high = stored - 1 if high is None else high
    if allocated not in (8, 16) or not 1 <= stored <= high + 1 <= allocated:
        raise SubjectFault(
            Reason.UNSUPPORTED_PIXELS,
            f"{stored} bits stored up to bit {high} of {allocated} allocated (0028,0100), "
            "expected 8 or 16 allocated",
        )
    return Format(
        syntax=_syntax(data),
        rows=whole(data, "Rows") or 0,
        columns=whole(data, "Columns") or 0,
        frames=header.frames_told or 1,
        allocated=allocated,
        stored=stored,
        high=high,
        signed=whole(data, "PixelRepresentation") == 1,
        inverted=photometric == "MONOCHROME1",
    )


def _syntax(data: FileDataset) -> UID:
    """Return the transfer syntax; of a file without meta group as pydicom found it to be."""
    told = data.file_meta.get("TransferSyntaxUID")
    if told is not None:
        if not UID(told).is_transfer_syntax:
            raise no_decoder()
        return UID(told)
    implicit, little = data.original_encoding
    explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return data.file_meta.TransferSyntaxUID


def _check_present(data: FileDataset) -> None:
    if "FloatPixelData" in data or "DoubleFloatPixelData" in data:
        raise SubjectFault(Reason.UNSUPPORTED_PIXELS, "pixels stored as floats, expected integers")
    if PIXEL_DATA not in data:  # although something followed the header
        raise truncated()
    if not _length(data):
        raise SubjectFault(Reason.MISSING_PIXELS, "pixel data (7FE0,0010) of length 0")


def _length(data: FileDataset) -> int:
    """Return the length of the pixel data as they stand in the file, asking nothing of the rest."""
    return len(data.get_item(PIXEL_DATA, keep_deferred=True).value or b"")
