"""The pixel values of a DICOM file: decoded, unused bits masked, signed, inverted, rescaled.

Damaged pixel data give a reason, whatever the decoder does with them.
"""

import numpy as np
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import FileDataset
from pydicom.encaps import generate_frames
from pydicom.pixels import get_decoder
from pydicom.tag import Tag
from pydicom.uid import (
    HTJ2K,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000TransferSyntaxes,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

from paravert.errors import Caution, InputError, Reason, SubjectFault
from paravert.imaging.code_streams import (
    decode_jpeg2000,
    decode_rle,
    openjpeg,
    size_fits,
    starts_with_items,
)
from paravert.imaging.decoder_process import decode_in_process
from paravert.imaging.frames import Frame, Header
from paravert.imaging.input_files import READ_ERRORS, element_at, open_image_file, parse_dicom
from paravert.imaging.pixel_format import PixelFormat, pixel_format, unsupported_pixels

Element = RawDataElement | DataElement
PIXEL_DATA = Tag("PixelData")
PIXELS = (PIXEL_DATA, Tag("FloatPixelData"), Tag("DoubleFloatPixelData"))
PIXEL_VRS = ("OB", "OW", "OB or OW", "UN")
JPEG2000 = (*JPEG2000TransferSyntaxes, HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL)
LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless)
# Decoders of the other syntaxes run in a separate process: gdcm crashes on some damaged code streams,
# and pyjpegls runs for minutes on some without a way to stop it.
DECODER_IN_PROCESS = {
    **dict.fromkeys(JPEGLSTransferSyntaxes, "pyjpegls"),
    **dict.fromkeys(JPEGTransferSyntaxes, "gdcm"),
}
UNDEFINED_LENGTH = 0xFFFFFFFF
# pydicom masks values as if HighBit were BitsStored - 1; `_unpacked` does it right.
AS_STORED = {"correct_unused_bits": False}
# Decoders raise these for a damaged code stream; MemoryError for a damaged size in it.
DECODE_ERRORS = (*READ_ERRORS, RuntimeError, OSError, MemoryError)


def read_frames(header: Header, frames: list[Frame]) -> tuple[list[np.ndarray], set[Caution]]:
    """Return the values of some frames of one file, each (rows, columns), and warnings.

    Rescale slope and intercept (0028,1053), (0028,1052) are applied per frame; MONOCHROME1 is
    inverted within the stored range. Integers for slope 1 and intercept 0, otherwise float64.
    Call within `quiet_pydicom`.
    Raises SubjectFault: missing-pixels, truncated-pixels, undecodable-pixels, unsupported-pixels,
    frame-count-mismatch.
    """
    form, stored = _stored_frames(header, [frame.number for frame in frames])
    cautions = {Caution.MONOCHROME1_INVERTED} if form.inverted else set()
    if header.lossy or form.syntax in LOSSY:
        cautions.add(Caution.LOSSY_COMPRESSED)
    values = [_rescaled(_unpacked(a, form), f) for a, f in zip(stored, frames, strict=True)]
    return values, cautions


def _stored_frames(header: Header, numbers: list[int]) -> tuple[PixelFormat, list[np.ndarray]]:
    """Return the pixel format of a file and the stored values of some frames, each (rows, columns)."""
    if header.pixels is None:
        raise SubjectFault(Reason.MISSING_PIXELS, "an image without pixel data (7FE0,0010)")
    element = _pixel_data(header)
    form = pixel_format(header.pixels)
    if not form.syntax.is_compressed:
        _check_native(element, form)
    arrays = _decoded(element, form, header.pixels.offset_tables, numbers)
    if arrays is None:
        raise SubjectFault(Reason.UNDECODABLE_PIXELS, f"pixels in {form.syntax.name} are damaged")
    if any(array.shape != (form.rows, form.columns) for array in arrays):
        raise SubjectFault(
            Reason.UNDECODABLE_PIXELS, f"decoded pixels are not {form.rows} x {form.columns}"
        )
    return form, arrays


def _check_native(element: Element, form: PixelFormat) -> None:
    """Raise SubjectFault unless uncompressed pixel data have the length of all frames."""
    if _has_undefined_length(element) or starts_with_items(element.value):
        raise unsupported_pixels(
            "a transfer syntax and pixels that disagree: compressed pixels, said not to be"
        )
    found, expected = len(element.value), form.frame_bytes * form.frames
    if found < expected:
        raise _truncated(f": {found} bytes of pixel data, expected {expected}")
    times, rest = divmod(found, expected) if expected else (0, 0)
    # A little more is padding; a multiple of the length means undeclared frames.
    if times > 1 and rest == times * expected % 2:
        raise SubjectFault(
            Reason.FRAME_COUNT_MISMATCH,
            f"pixel data (7FE0,0010) is {times} times as long as "
            f"{form.frames} of {form.rows} x {form.columns} told",
        )


def _has_undefined_length(element: Element) -> bool:
    if isinstance(element, RawDataElement):
        return element.length == UNDEFINED_LENGTH
    return element.is_undefined_length


def check_decoders() -> None:
    """Raise InputError unless the decoder of every syntax that pydicom knows is installed."""
    for syntax, plugin in DECODER_IN_PROCESS.items():
        try:
            decoder = get_decoder(syntax)
        except NotImplementedError:
            continue
        if plugin not in decoder.available_plugins:
            raise InputError(syntax.name, f"its decoder {plugin} is not installed")
    try:
        openjpeg()
    except (ImportError, OSError, AttributeError) as error:
        raise InputError("JPEG 2000", "its decoder pylibjpeg-openjpeg is not installed") from error


def _pixel_data(header: Header) -> Element:
    """Return the element PixelData (7FE0,0010), its value as in the file."""
    module = header.pixels
    try:
        with open_image_file(header.file) as stream:
            if module.offset is None:
                element = _first_pixels(parse_dicom(stream))
            else:
                order = {"implicit": module.implicit, "little_endian": module.little_endian}
                element = element_at(stream, module.offset, **order)
    except READ_ERRORS as error:
        raise _truncated() from error
    if element is None or element.tag not in PIXELS:  # although something followed the header
        raise _truncated()
    if element.tag != PIXEL_DATA:
        raise unsupported_pixels("pixels stored as floats, expected integers")
    # pydicom reads an unknown VR as part of the length: pixels would be shifted.
    if not (element.VR in PIXEL_VRS or (module.implicit and element.VR is None)):
        raise unsupported_pixels("pixel data (7FE0,0010) of a VR other than OB and OW")
    if not element.value:
        raise SubjectFault(Reason.MISSING_PIXELS, "pixel data (7FE0,0010) of length 0")
    return element


def _first_pixels(data: FileDataset) -> Element | None:
    return next((data.get_item(tag) for tag in PIXELS if tag in data), None)


def _truncated(told: str = "") -> SubjectFault:
    return SubjectFault(Reason.TRUNCATED_PIXELS, f"an image file ends before its pixels do{told}")


def _decoded(
    element: Element, form: PixelFormat, offsets: tuple[bytes, bytes] | None, numbers: list[int]
) -> list[np.ndarray] | None:
    """Return the stored values of frames, or None where a code stream is damaged."""
    try:
        get_decoder(form.syntax)
    except NotImplementedError as error:
        raise unsupported_pixels("a transfer syntax that no decoder reads") from error
    if not form.syntax.is_compressed:
        return _native(element, form, numbers)
    try:
        streams = _code_streams(element.value, form, offsets, numbers)
    except READ_ERRORS:
        return None
    arrays = [_decoded_stream(stream, form) for stream in streams]
    return None if any(array is None for array in arrays) else arrays


def _decoded_stream(stream: bytes, form: PixelFormat) -> np.ndarray | None:
    if form.syntax == RLELossless:
        values = decode_rle(stream, form.rows, form.columns, form.allocated)
        return None if values is None else values.view(form.dtype)
    if form.syntax in JPEG2000:
        return decode_jpeg2000(stream, form.dtype)
    return decode_in_process(stream, form, DECODER_IN_PROCESS[form.syntax])


def _code_streams(
    value: bytes, form: PixelFormat, offsets: tuple[bytes, bytes] | None, numbers: list[int]
) -> list[bytes]:
    """Return the code streams of some frames; raises ValueError where one is absent or of another size."""
    every = generate_frames(value, number_of_frames=form.frames, extended_offsets=offsets)
    wanted = set(numbers)
    streams = {number: stream for number, stream in enumerate(every) if number in wanted}
    for number in numbers:
        if number not in streams:
            raise ValueError(f"no frame {number}")
        fits = (form.syntax, form.rows, form.columns, form.frame_bytes)
        if not size_fits(streams[number], *fits):
            raise ValueError(f"frame {number} is of another size")
    return [streams[number] for number in numbers]


def _native(element: Element, form: PixelFormat, numbers: list[int]) -> list[np.ndarray] | None:
    described = {
        "rows": form.rows,
        "columns": form.columns,
        "number_of_frames": form.frames,
        "samples_per_pixel": 1,
        "photometric_interpretation": "MONOCHROME2",
        "bits_allocated": form.allocated,
        "bits_stored": form.stored,
        "pixel_representation": int(form.signed),
        "pixel_keyword": "PixelData",
        "pixel_vr": element.VR or "OW",  # implicit files have no VR
    }
    frames = get_decoder(form.syntax).iter_array(
        element.value, indices=numbers, raw=True, **described, **AS_STORED
    )
    try:
        return [array for array, _ in frames]
    except DECODE_ERRORS:
        return None


def _unpacked(raw: np.ndarray, form: PixelFormat) -> np.ndarray:
    """Mask unused bits (overlays), extend the sign, and invert MONOCHROME1."""
    if form.stored == form.allocated and not form.inverted:
        return raw
    values = raw.astype(form.dtype, copy=not raw.flags.writeable)
    values <<= form.bits_above
    values >>= form.allocated - form.stored  # extends the sign of signed types
    if form.inverted:
        values = (-1 if form.signed else (1 << form.stored) - 1) - values
    return values


def _rescaled(values: np.ndarray, frame: Frame) -> np.ndarray:
    if frame.slope == 0:
        raise SubjectFault(Reason.UNSUPPORTED_PIXELS, "RescaleSlope (0028,1053) is 0")
    if frame.slope == 1 and frame.intercept == 0:
        return values
    with np.errstate(over="ignore"):  # infinite values are refused by compact_array
        return values * frame.slope + frame.intercept
