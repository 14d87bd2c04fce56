"""The pixel data of a DICOM file, decoded: what decoders do wrong ends in a reason, not a crash."""

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
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

from paravert.errors import InputError, Reason, SubjectFault
from paravert.imaging import jpeg2000, rle
from paravert.imaging.apart import decode_apart
from paravert.imaging.code_streams import size_fits, starts_with_items
from paravert.imaging.formats import Format, pixel_format, unsupported
from paravert.imaging.frames import Header
from paravert.imaging.reading import READ_ERRORS, element_at, opened, parse

Element = RawDataElement | DataElement
PIXEL_DATA = Tag("PixelData")
PIXELS = (PIXEL_DATA, Tag("FloatPixelData"), Tag("DoubleFloatPixelData"))
PIXEL_VRS = ("OB", "OW", "OB or OW", "UN")
JPEG2000 = (*JPEG2000TransferSyntaxes, HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL)
# The packages that decode the others, whatever else is installed, in a process of their own: gdcm
# dies of some damaged code streams, pyjpegls ponders over some for seconds or minutes without a way
# to stop it.
APART = {
    **dict.fromkeys(JPEGLSTransferSyntaxes, "pyjpegls"),
    **dict.fromkeys(JPEGTransferSyntaxes, "gdcm"),
}
OPEN_LENGTH = 0xFFFFFFFF
# pydicom masks values as if HighBit were BitsStored - 1: that is for the caller to do.
AS_STORED = {"correct_unused_bits": False}
# The decoders raise these for a damaged code stream; MemoryError for an absurd size in it.
DECODE_ERRORS = (*READ_ERRORS, RuntimeError, OSError, MemoryError)


def stored_frames(header: Header, numbers: list[int]) -> tuple[Format, list[np.ndarray]]:
    """Return some frames of a file as they are stored, each (rows, columns), and their format.

    Raises SubjectFault: missing-pixels, truncated-pixels, undecodable-pixels, unsupported-pixels,
    frame-count-mismatch; InputError where the decoder is not installed.
    """
    if header.pixels is None:
        raise SubjectFault(Reason.MISSING_PIXELS, "an image without pixel data (7FE0,0010)")
    element = _pixel_data(header)
    form = pixel_format(header.pixels)
    if not form.syntax.is_compressed:
        _check_native(element, form)
    arrays = _decoded(element, form, header.pixels.offsets, numbers)
    if arrays is None:
        raise SubjectFault(Reason.UNDECODABLE_PIXELS, f"pixels in {form.syntax.name} are damaged")
    if any(array.shape != (form.rows, form.columns) for array in arrays):
        raise SubjectFault(
            Reason.UNDECODABLE_PIXELS, f"decoded pixels are not {form.rows} x {form.columns}"
        )
    return form, arrays


def _check_native(element: Element, form: Format) -> None:
    """Raise SubjectFault unless pixels can be those of so many frames without compression."""
    if _length_is_open(element) or starts_with_items(element.value):
        raise unsupported(
            "a transfer syntax and pixels that disagree: compressed pixels, said not to be"
        )
    found, expected = len(element.value), form.frame_bytes * form.frames
    if found < expected:
        raise _truncated(f": {found} bytes of pixel data, expected {expected}")
    times, rest = divmod(found, expected) if expected else (0, 0)
    # Some writers pad pixels a little, but a multiple of the length is frames that nobody told of.
    if times > 1 and rest == times * expected % 2:
        raise SubjectFault(
            Reason.FRAME_COUNT_MISMATCH,
            f"pixel data (7FE0,0010) is {times} times as long as "
            f"{form.frames} of {form.rows} x {form.columns} told",
        )


def _length_is_open(element: Element) -> bool:
    if isinstance(element, RawDataElement):
        return element.length == OPEN_LENGTH
    return element.is_undefined_length


def check_decoders() -> None:
    """Raise InputError unless the decoder of every syntax that pydicom knows is installed."""
    for syntax, plugin in APART.items():
        try:
            decoder = get_decoder(syntax)
        except NotImplementedError:
            continue
        if plugin not in decoder.available_plugins:
            raise InputError(syntax.name, f"its decoder {plugin} is not installed")
    try:
        jpeg2000.library()
    except (ImportError, OSError, AttributeError) as error:
        raise InputError("JPEG 2000", "its decoder pylibjpeg-openjpeg is not installed") from error


def _pixel_data(header: Header) -> Element:
    """Return PixelData (7FE0,0010) as it stands in the file."""
    module = header.pixels
    try:
        with opened(header.file) as stream:
            if module.place is None:
                element = _first_pixels(parse(stream))
            else:
                order = {"implicit": module.implicit, "little_endian": module.little_endian}
                element = element_at(stream, module.place, **order)
    except READ_ERRORS as error:
        raise _truncated() from error
    if element is None or element.tag not in PIXELS:  # although something followed the header
        raise _truncated()
    if element.tag != PIXEL_DATA:
        raise unsupported("pixels stored as floats, expected integers")
    # An unknown VR is taken for the length of an implicit element: pixels would be shifted.
    if not (element.VR in PIXEL_VRS or (module.implicit and element.VR is None)):
        raise unsupported("pixel data (7FE0,0010) of a VR other than OB and OW")
    if not element.value:
        raise SubjectFault(Reason.MISSING_PIXELS, "pixel data (7FE0,0010) of length 0")
    return element


def _first_pixels(data: FileDataset) -> Element | None:
    return next((data.get_item(tag) for tag in PIXELS if tag in data), None)


def _truncated(told: str = "") -> SubjectFault:
    return SubjectFault(Reason.TRUNCATED_PIXELS, f"an image file ends before its pixels do{told}")


def _decoded(
    element: Element, form: Format, offsets: tuple[bytes, bytes] | None, numbers: list[int]
) -> list[np.ndarray] | None:
    """Return frames, or None where a code stream is damaged."""
    try:
        get_decoder(form.syntax)
    except NotImplementedError as error:
        raise unsupported("a transfer syntax that no decoder reads") from error
    if not form.syntax.is_compressed:
        return _native(element, form, numbers)
    try:
        streams = _code_streams(element.value, form, offsets, numbers)
    except READ_ERRORS:
        return None
    arrays = [_decoded_stream(stream, form) for stream in streams]
    return None if any(array is None for array in arrays) else arrays


def _decoded_stream(stream: bytes, form: Format) -> np.ndarray | None:
    if form.syntax == RLELossless:
        values = rle.decode(stream, form.rows, form.columns, form.allocated)
        return None if values is None else values.view(form.dtype)
    if form.syntax in JPEG2000:
        return jpeg2000.decode(stream, form.dtype)
    return decode_apart(stream, form, APART[form.syntax])


def _code_streams(
    value: bytes, form: Format, offsets: tuple[bytes, bytes] | None, numbers: list[int]
) -> list[bytes]:
    """Return the code streams of some frames; raises ValueError if one cannot be such a frame."""
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


def _native(element: Element, form: Format, numbers: list[int]) -> list[np.ndarray] | None:
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
        "pixel_vr": element.VR or "OW",  # which implicit files do not tell
    }
    frames = get_decoder(form.syntax).iter_array(
        element.value, indices=numbers, raw=True, **described, **AS_STORED
    )
    try:
        return [array for array, _ in frames]
    except DECODE_ERRORS:
        return None
