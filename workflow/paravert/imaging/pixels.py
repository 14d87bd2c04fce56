"""Voxel values of a DICOM file: decoded, unused bits masked, signed, inverted, rescaled."""

import struct
import sys
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import FileDataset
from pydicom.pixels import get_decoder
from pydicom.uid import (
    HTJ2K,
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

from paravert.errors import Caution, InputError, Reason, SubjectFault
from paravert.imaging.frames import Frame, Header
from paravert.imaging.headers import READ_ERRORS, parse
from paravert.imaging.values import text, whole

LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless)
# One decoder for each syntax, whatever else is installed; those that a damaged code stream cannot
# bring down with the whole process (seen: gdcm on JPEG 2000, pylibjpeg-rle on RLE) come first.
PLUGINS = {
    RLELossless: "pydicom",
    **dict.fromkeys(JPEGLSTransferSyntaxes, "pyjpegls"),
    **dict.fromkeys(
        (*JPEG2000TransferSyntaxes, HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL), "pylibjpeg"
    ),
    **dict.fromkeys(JPEGTransferSyntaxes, "gdcm"),
}
# The decoders raise these for a damaged code stream; MemoryError for an absurd size in it.
DECODE_ERRORS = (*READ_ERRORS, RuntimeError, OSError, MemoryError, struct.error)


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
    def native_bytes(self) -> int:
        """Length of the pixel data if they are not compressed."""
        return self.rows * self.columns * self.frames * self.allocated // 8


def read_frames(header: Header, frames: list[Frame]) -> tuple[list[np.ndarray], set[Caution]]:
    """Return the values of some frames of one file, each (rows, columns), and warnings.

    Integers where the rescale leaves them so (slope 1), otherwise float64. Rescale slope and
    intercept (0028,1053), (0028,1052) are applied per frame; MONOCHROME1 is inverted within
    the stored range. Call within `quiet_pydicom`.
    Raises SubjectFault: missing-pixels, truncated-pixels, undecodable-pixels, unsupported-pixels.
    """
    if not header.has_pixels:
        raise SubjectFault(Reason.MISSING_PIXELS, "an image without pixel data (7FE0,0010)")
    try:
        data = parse(header.file)
    except READ_ERRORS as error:
        raise _truncated() from error
    _check_present(data)
    form = _format(header, data)
    _check_length(data, form)
    cautions = {Caution.MONOCHROME1_INVERTED} if form.inverted else set()
    if header.lossy or form.syntax in LOSSY:
        cautions.add(Caution.LOSSY_COMPRESSED)
    stored = _decode(data, form, [frame.number for frame in frames])
    values = [_rescaled(_unpacked(a, form), f) for a, f in zip(stored, frames, strict=True)]
    return values, cautions


def compact(slices: list[np.ndarray]) -> np.ndarray:
    """Stack slices (rows, columns) to (slices, rows, columns): int16 if exact, else float32."""
    limits = np.iinfo(np.int16)
    low, high = min(s.min() for s in slices), max(s.max() for s in slices)
    fits = limits.min <= low and high <= limits.max
    exact = all(s.dtype.kind in "iu" or np.array_equal(np.rint(s), s) for s in slices)
    return np.stack(slices, dtype=np.int16 if fits and exact else np.float32, casting="unsafe")


def _format(header: Header, data: FileDataset) -> Format:
    if whole(data, "SamplesPerPixel") not in (1, None):
        raise SubjectFault(
            Reason.UNSUPPORTED_PIXELS, "colour pixels (0028,0002), expected one sample per pixel"
        )
    allocated = whole(data, "BitsAllocated")
    stored = whole(data, "BitsStored") or allocated
    high = whole(data, "HighBit")
    photometric = text(data, "PhotometricInterpretation").upper()
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise SubjectFault(
            Reason.UNSUPPORTED_PIXELS,
            "PhotometricInterpretation (0028,0004) is neither MONOCHROME1 nor MONOCHROME2",
        )
    form = Format(
        syntax=_syntax(data),
        rows=whole(data, "Rows") or 0,
        columns=whole(data, "Columns") or 0,
        frames=header.frames_told or 1,
        allocated=allocated or 0,
        stored=stored or 0,
        high=stored - 1 if high is None and stored else high or 0,
        signed=whole(data, "PixelRepresentation") == 1,
        inverted=photometric == "MONOCHROME1",
    )
    if form.allocated not in (8, 16) or not 1 <= form.stored <= form.high + 1 <= form.allocated:
        raise SubjectFault(
            Reason.UNSUPPORTED_PIXELS,
            f"{form.stored} bits stored up to bit {form.high} of {form.allocated} allocated "
            "(0028,0100), expected 8 or 16 allocated",
        )
    return form


def _syntax(data: FileDataset) -> UID:
    """Return the transfer syntax; of a file without meta group as pydicom found it to be."""
    told = data.file_meta.get("TransferSyntaxUID")
    if told is not None:
        if not UID(told).is_transfer_syntax:
            raise _no_decoder()
        return UID(told)
    implicit, little = data.original_encoding
    explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return data.file_meta.TransferSyntaxUID


def _check_present(data: FileDataset) -> None:
    if "FloatPixelData" in data or "DoubleFloatPixelData" in data:
        raise SubjectFault(Reason.UNSUPPORTED_PIXELS, "pixels stored as floats, expected integers")
    if "PixelData" not in data:  # although something followed the header
        raise _truncated()
    if not _length(data):
        raise SubjectFault(Reason.MISSING_PIXELS, "pixel data (7FE0,0010) of length 0")


def _length(data: FileDataset) -> int:
    """Return the length of the pixel data as they stand in the file, asking nothing of the rest."""
    return len(data.get_item("PixelData").value or b"")


def _check_length(data: FileDataset, form: Format) -> None:
    found = _length(data)
    if not form.syntax.is_compressed and found < form.native_bytes:
        raise _truncated(f": {found} bytes of pixel data, expected {form.native_bytes}")


def _decode(data: FileDataset, form: Format, numbers: list[int]) -> list[np.ndarray]:
    try:
        decoder = get_decoder(form.syntax)
    except NotImplementedError as error:
        raise _no_decoder() from error
    options = _options(form)
    plugin = options.get("decoding_plugin")
    if plugin and plugin not in decoder.available_plugins:
        raise InputError(form.syntax.name, f"its decoder {plugin} is not installed")
    _quiet_gdcm()
    try:
        arrays = [a for a, _ in decoder.iter_array(data, indices=numbers, raw=True, **options)]
    except DECODE_ERRORS as error:
        raise SubjectFault(
            Reason.UNDECODABLE_PIXELS, f"pixels in {form.syntax.name} cannot be decoded"
        ) from error
    if any(array.shape != (form.rows, form.columns) for array in arrays):
        raise SubjectFault(
            Reason.UNDECODABLE_PIXELS, f"decoded pixels are not {form.rows} x {form.columns}"
        )
    return arrays


def _options(form: Format) -> dict:
    if form.syntax.is_compressed:
        return {"decoding_plugin": PLUGINS[form.syntax]}
    # pydicom masks native pixels as if HighBit were BitsStored - 1: that is done here, rightly.
    return {"correct_unused_bits": False}


def _quiet_gdcm() -> None:
    """Keep GDCM, once it is loaded, from writing to the log itself."""
    if gdcm := sys.modules.get("gdcm"):
        gdcm.Trace.WarningOff()
        gdcm.Trace.ErrorOff()


def _unpacked(raw: np.ndarray, form: Format) -> np.ndarray:
    """Return stored values: unused bits (overlays) masked, sign extended, MONOCHROME1 inverted."""
    if form.stored == form.allocated and not form.inverted:
        return raw.copy()
    shift = 0 if form.syntax.is_compressed else form.high + 1 - form.stored
    values = (raw.astype(np.int32) >> shift) & ((1 << form.stored) - 1)
    if form.signed:
        sign = 1 << (form.stored - 1)
        values = (values ^ sign) - sign
    if form.inverted:
        values = (-1 if form.signed else (1 << form.stored) - 1) - values
    return values


def _rescaled(values: np.ndarray, frame: Frame) -> np.ndarray:
    if frame.slope == 0:
        raise SubjectFault(Reason.UNSUPPORTED_PIXELS, "RescaleSlope (0028,1053) is 0")
    if frame.slope == 1 and frame.intercept == 0:
        return values
    return values * frame.slope + frame.intercept


def _no_decoder() -> SubjectFault:
    return SubjectFault(Reason.UNSUPPORTED_PIXELS, "a transfer syntax that no decoder reads")


def _truncated(told: str = "") -> SubjectFault:
    return SubjectFault(Reason.TRUNCATED_PIXELS, f"an image file ends before its pixels do{told}")
