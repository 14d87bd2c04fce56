"""The pixel data of a DICOM file, decoded: what decoders do wrong ends in a reason, not a crash."""

import os
import sys
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset
from pydicom.pixels import get_decoder
from pydicom.tag import Tag
from pydicom.uid import (
    HTJ2K,
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

from paravert.errors import InputError, Reason, SubjectFault
from paravert.imaging.frames import Header
from paravert.imaging.headers import READ_ERRORS, parse, quiet_pydicom
from paravert.imaging.values import text, whole

PIXEL_DATA = Tag("PixelData")
# One decoder for each syntax, whatever else is installed. A damaged code stream brings down the
# process in gdcm and raises no ordinary exception in pylibjpeg-rle: neither where another serves.
PLUGINS = {
    RLELossless: "pydicom",
    **dict.fromkeys(JPEGLSTransferSyntaxes, "pyjpegls"),
    **dict.fromkeys(
        (*JPEG2000TransferSyntaxes, HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL), "pylibjpeg"
    ),
    **dict.fromkeys(JPEGTransferSyntaxes, "gdcm"),
}
CRASHING = ("gdcm",)  # run in a process of their own
LOST = (EOFError, BrokenPipeError, ConnectionResetError)  # when that process died
# The decoders raise these for a damaged code stream; MemoryError for an absurd size in it.
DECODE_ERRORS = (*READ_ERRORS, RuntimeError, OSError, MemoryError)


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


def stored_frames(header: Header, numbers: list[int]) -> tuple[Format, list[np.ndarray]]:
    """Return some frames of a file as they are stored, each (rows, columns), and their format.

    Raises SubjectFault: missing-pixels, truncated-pixels, undecodable-pixels, unsupported-pixels;
    InputError where the decoder is not installed.
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
    arrays = _decoded(header.file, data, form, numbers)
    if arrays is None:
        raise SubjectFault(
            Reason.UNDECODABLE_PIXELS, f"pixels in {form.syntax.name} cannot be decoded"
        )
    if any(array.shape != (form.rows, form.columns) for array in arrays):
        raise SubjectFault(
            Reason.UNDECODABLE_PIXELS, f"decoded pixels are not {form.rows} x {form.columns}"
        )
    return form, arrays


# --- what the header says ------------------------------------------------------------------------


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
            raise _no_decoder()
        return UID(told)
    implicit, little = data.original_encoding
    explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return data.file_meta.TransferSyntaxUID


def _check_present(data: FileDataset) -> None:
    if "FloatPixelData" in data or "DoubleFloatPixelData" in data:
        raise SubjectFault(Reason.UNSUPPORTED_PIXELS, "pixels stored as floats, expected integers")
    if PIXEL_DATA not in data:  # although something followed the header
        raise _truncated()
    if not _length(data):
        raise SubjectFault(Reason.MISSING_PIXELS, "pixel data (7FE0,0010) of length 0")


def _length(data: FileDataset) -> int:
    """Return the length of the pixel data as they stand in the file, asking nothing of the rest."""
    return len(data.get_item(PIXEL_DATA, keep_deferred=True).value or b"")


def _check_length(data: FileDataset, form: Format) -> None:
    found = _length(data)
    if not form.syntax.is_compressed and found < form.native_bytes:
        raise _truncated(f": {found} bytes of pixel data, expected {form.native_bytes}")


def _no_decoder() -> SubjectFault:
    return SubjectFault(Reason.UNSUPPORTED_PIXELS, "a transfer syntax that no decoder reads")


def _truncated(told: str = "") -> SubjectFault:
    return SubjectFault(Reason.TRUNCATED_PIXELS, f"an image file ends before its pixels do{told}")


# --- decoders ------------------------------------------------------------------------------------


def _decoded(
    file: Path, data: FileDataset, form: Format, numbers: list[int]
) -> list[np.ndarray] | None:
    """Return frames, or None where the code stream is damaged."""
    try:
        get_decoder(form.syntax)
    except NotImplementedError as error:
        raise _no_decoder() from error
    plugin = PLUGINS[form.syntax] if form.syntax.is_compressed else ""
    if plugin in CRASHING:
        return _decoded_apart(file, form.syntax, numbers, plugin)
    return _decode(data, form.syntax, numbers, plugin)


def check_decoders() -> None:
    """Raise InputError unless the decoder of every syntax that pydicom knows is installed."""
    for syntax, plugin in PLUGINS.items():
        try:
            decoder = get_decoder(syntax)
        except NotImplementedError:
            continue
        if plugin not in decoder.available_plugins:
            raise InputError(syntax.name, f"its decoder {plugin} is not installed")


def _decode(
    data: FileDataset, syntax: UID, numbers: list[int], plugin: str
) -> list[np.ndarray] | None:
    # pydicom masks native pixels as if HighBit were BitsStored - 1: that is for the caller to do.
    options = {"decoding_plugin": plugin} if plugin else {"correct_unused_bits": False}
    frames = get_decoder(syntax).iter_array(data, indices=numbers, raw=True, **options)
    try:
        return [array for array, _ in frames]
    except DECODE_ERRORS:
        return None


def _decoded_apart(
    file: Path, syntax: UID, numbers: list[int], plugin: str
) -> list[np.ndarray] | None:
    """Decode in another process; None too if that dies of this file, but lives without it."""
    try:
        return _ask(file, str(syntax), numbers, plugin)
    except LOST:
        _apart.cache_clear()
        _ask()  # a process that dies of anything else fails the job
        return None


def _ask(*request: object) -> list[np.ndarray] | None:
    pipe = _apart(os.getpid())
    pipe.send(request)
    answer = pipe.recv()
    if isinstance(answer, OSError):
        raise answer
    return answer


@cache
def _apart(of_process: int) -> Connection:
    """Return the line to a process that decodes, started when first asked for.

    of_process: whose line it is, because a forked process must not use its parent's.
    """
    context = get_context("spawn")
    here, there = context.Pipe()
    context.Process(target=_serve, args=(there,), daemon=True).start()
    there.close()
    return here


def _serve(pipe: Connection) -> None:
    while True:
        try:
            request = pipe.recv()
        except EOFError:
            return
        try:
            answer = _decode_file(*request) if request else None
        except OSError as error:  # not told here: it names the file
            answer = error
        pipe.send(answer)


def _decode_file(
    file: Path, syntax: str, numbers: list[int], plugin: str
) -> list[np.ndarray] | None:
    with quiet_pydicom():
        data = parse(file)
        if gdcm := sys.modules.get("gdcm"):
            gdcm.Trace.WarningOff()
            gdcm.Trace.ErrorOff()
        return _decode(data, UID(syntax), numbers, plugin)
