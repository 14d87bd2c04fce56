"""The pixel data of a DICOM file, decoded: what decoders do wrong ends in a reason, not a crash."""

import numpy as np
from pydicom.dataset import FileDataset
from pydicom.encaps import generate_frames
from pydicom.pixels import get_decoder
from pydicom.uid import (
    HTJ2K,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

from paravert.errors import InputError, Reason, SubjectFault
from paravert.imaging.apart import decode_apart
from paravert.imaging.code_streams import size_fits
from paravert.imaging.formats import Format, no_decoder, pixel_format, truncated
from paravert.imaging.frames import Header
from paravert.imaging.headers import READ_ERRORS, parse

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
# In a process of their own: gdcm dies of some damaged code streams, pyjpegls ponders over some for
# seconds or minutes without a way to stop it.
APART = ("gdcm", "pyjpegls")
# The decoders raise these for a damaged code stream; MemoryError for an absurd size in it.
DECODE_ERRORS = (*READ_ERRORS, RuntimeError, OSError, MemoryError)


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
        raise truncated() from error
    form = pixel_format(header, data)
    arrays = _decoded(data, form, numbers)
    if arrays is None:
        raise SubjectFault(
            Reason.UNDECODABLE_PIXELS, f"pixels in {form.syntax.name} cannot be decoded"
        )
    if any(array.shape != (form.rows, form.columns) for array in arrays):
        raise SubjectFault(
            Reason.UNDECODABLE_PIXELS, f"decoded pixels are not {form.rows} x {form.columns}"
        )
    return form, arrays


def check_decoders() -> None:
    """Raise InputError unless the decoder of every syntax that pydicom knows is installed."""
    for syntax, plugin in PLUGINS.items():
        try:
            decoder = get_decoder(syntax)
        except NotImplementedError:
            continue
        if plugin not in decoder.available_plugins:
            raise InputError(syntax.name, f"its decoder {plugin} is not installed")


def _decoded(data: FileDataset, form: Format, numbers: list[int]) -> list[np.ndarray] | None:
    """Return frames, or None where a code stream is damaged."""
    try:
        get_decoder(form.syntax)
    except NotImplementedError as error:
        raise no_decoder() from error
    if not form.syntax.is_compressed:
        # pydicom masks values as if HighBit were BitsStored - 1: that is for the caller to do.
        return _decode(data, form.syntax, numbers, correct_unused_bits=False)
    try:
        streams = _code_streams(data, form, numbers)
    except READ_ERRORS:
        return None
    plugin = PLUGINS[form.syntax]
    if plugin not in APART:
        return _decode(data, form.syntax, numbers, decoding_plugin=plugin)
    arrays = [decode_apart(stream, form, plugin) for stream in streams]
    return None if any(array is None for array in arrays) else arrays


def _code_streams(data: FileDataset, form: Format, numbers: list[int]) -> list[bytes]:
    """Return the code streams of some frames; raises ValueError if one cannot be such a frame."""
    table = data.get("ExtendedOffsetTable"), data.get("ExtendedOffsetTableLengths")
    every = generate_frames(
        data.PixelData,
        number_of_frames=form.frames,
        extended_offsets=None if None in table else table,
    )
    wanted = set(numbers)
    streams = {number: stream for number, stream in enumerate(every) if number in wanted}
    for number in numbers:
        if number not in streams:
            raise ValueError(f"no frame {number}")
        fits = (form.syntax, form.rows, form.columns, form.frame_bytes)
        if not size_fits(streams[number], *fits):
            raise ValueError(f"frame {number} is of another size")
    return [streams[number] for number in numbers]


def _decode(
    data: FileDataset, syntax: UID, numbers: list[int], **options: object
) -> list[np.ndarray] | None:
    frames = get_decoder(syntax).iter_array(data, indices=numbers, raw=True, **options)
    try:
        return [array for array, _ in frames]
    except DECODE_ERRORS:
        return None
