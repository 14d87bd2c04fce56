"""Reading the pixel values of a DICOM file: decoding, unused bits, sign, MONOCHROME1, rescale.

Damaged pixel data raise a SubjectFault, in many cases also where a decoder reports no error.
"""

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileDataset
from pydicom.encaps import generate_frames
from pydicom.pixels import get_decoder
from pydicom.tag import Tag
from pydicom.uid import (
    ExplicitVRBigEndian,
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
from paravert.imaging.input_files import (
    READ_ERRORS,
    element_at,
    open_image_file,
    parse_dicom,
    quiet_pydicom,
)
from paravert.imaging.pixel_format import PixelFormat, pixel_format, unsupported_pixels

PIXEL_DATA = Tag("PixelData")
PIXELS = (PIXEL_DATA, Tag("FloatPixelData"), Tag("DoubleFloatPixelData"))
PIXEL_VRS = ("OB", "OW", "OB or OW", "UN")
LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless)
# Decoders of the other syntaxes run in a separate process: gdcm crashes on some damaged code
# streams, and pyjpegls runs for minutes on some without a way to stop it.
DECODER_IN_PROCESS = {
    **dict.fromkeys(JPEGLSTransferSyntaxes, "pyjpegls"),
    **dict.fromkeys(JPEGTransferSyntaxes, "gdcm"),
}
UNDEFINED_LENGTH = 0xFFFFFFFF

# By frame: pixel values (rows, columns), and warnings about its file.
FramePixels = dict[Frame, tuple[np.ndarray, frozenset[Caution]]]


def read_pixels(frames: Sequence[Frame]) -> FramePixels:
    """Return {frame: (its pixel values, warnings about its file)} for DICOM frames (slices).

    frames: of one or several files, each of which is read once; `frame_fault` must have found no
    fault in them. Pixel values: (rows, columns), in the orientation of the file, padding replaced
    (see `read_frames`), MONOCHROME1 (small values are bright) inverted, then rescaled by RescaleSlope
    and RescaleIntercept; 8- or 16-bit integers if slope is 1 and intercept 0, otherwise float64.
    Warnings: monochrome1-inverted, lossy-compressed. Raises SubjectFault: missing-pixels,
    truncated-pixels, undecodable-pixels, unsupported-pixels, frame-count-mismatch, unreadable-header
    (a file that cannot be opened); DecoderDied if the decoder process does not run.
    """
    by_file: dict[Header, list[Frame]] = defaultdict(list)
    for frame in frames:
        by_file[frame.header].append(frame)
    found: FramePixels = {}
    with quiet_pydicom():
        for header, members in by_file.items():
            arrays, cautions = read_frames(header, members)
            told = frozenset(cautions)
            found |= {f: (array, told) for f, array in zip(members, arrays, strict=True)}
    return found


def read_frames(header: Header, frames: list[Frame]) -> tuple[list[np.ndarray], set[Caution]]:
    """Return the pixel values of some frames of one DICOM file, and warnings about the file.

    header: attributes of the file, among them where its pixels are and how they are stored. frames:
    slices of that file, in which `frame_fault` finds no fault. Call in a `with quiet_pydicom()`
    block, which silences pydicom's warnings.

    Values: one array (rows, columns) per frame, in the order of `frames` and the orientation of the
    file. Padding (0028,0120) with values beyond those of the image gets the image's darkest value
    first; then MONOCHROME1 is inverted, within the range of the stored bits; then RescaleSlope
    (0028,1053) and RescaleIntercept (0028,1052) of each frame are applied. A slice of padding alone is
    0 before the rescale. 8- or 16-bit integers if slope is 1 and intercept 0, otherwise float64.
    Warnings: monochrome1-inverted, lossy-compressed.

    Raises SubjectFault: missing-pixels, truncated-pixels, undecodable-pixels, unsupported-pixels,
    frame-count-mismatch, unreadable-header (a file that cannot be opened). Raises DecoderDied if the
    decoder process does not run, see `decode_in_process`.
    """
    form, stored = _stored_frames(header, [frame.number for frame in frames])
    cautions = {Caution.MONOCHROME1_INVERTED} if form.inverted else set()
    if header.lossy or form.syntax in LOSSY:
        cautions.add(Caution.LOSSY_COMPRESSED)
    unpacked = [_without_padding(_unpacked(a, form), form, header.pixels.padding) for a in stored]
    values = [_rescaled(_upright(a, form), f) for a, f in zip(unpacked, frames, strict=True)]
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
    if any(array is None for array in arrays):
        raise SubjectFault(Reason.UNDECODABLE_PIXELS, f"pixels in {form.syntax.name} are damaged")
    if any(array.shape != (form.rows, form.columns) for array in arrays):
        raise SubjectFault(
            Reason.UNDECODABLE_PIXELS, f"decoded pixels are not {form.rows} x {form.columns}"
        )
    return form, arrays


def _check_native(element: RawDataElement, form: PixelFormat) -> None:
    """Raise SubjectFault for uncompressed pixels too short for all frames, or several times as long."""
    if element.length == UNDEFINED_LENGTH or starts_with_items(element.value):
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


def check_decoders() -> None:
    """Raise InputError, which names the decoder, unless all decoders of compressed DICOM are installed."""
    for syntax, plugin in DECODER_IN_PROCESS.items():
        if plugin not in get_decoder(syntax).available_plugins:
            raise InputError(syntax.name, f"its decoder {plugin} is not installed")
    try:
        openjpeg()
    except (ImportError, OSError, AttributeError) as error:
        raise InputError("JPEG 2000", "its decoder pylibjpeg-openjpeg is not installed") from error


def _pixel_data(header: Header) -> RawDataElement:
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


def _first_pixels(data: FileDataset) -> RawDataElement | None:
    return next((data.get_item(tag) for tag in PIXELS if tag in data), None)


def _truncated(told: str = "") -> SubjectFault:
    return SubjectFault(Reason.TRUNCATED_PIXELS, f"an image file ends before its pixels do{told}")


def _decoded(
    element: RawDataElement,
    form: PixelFormat,
    offsets: tuple[bytes, bytes] | None,
    numbers: list[int],
) -> list[np.ndarray | None]:
    """Return the stored values of frames, each (rows, columns) or None where they are damaged."""
    if not form.syntax.is_compressed:
        return _native(element, form, numbers)
    try:
        every = generate_frames(
            element.value, number_of_frames=form.frames, extended_offsets=offsets
        )
        wanted = set(numbers)
        streams = {number: stream for number, stream in enumerate(every) if number in wanted}
    except READ_ERRORS:
        return [None]
    return [_decoded_stream(streams.get(number, b""), form) for number in numbers]


def _decoded_stream(stream: bytes, form: PixelFormat) -> np.ndarray | None:
    if not size_fits(stream, form.syntax, form.rows, form.columns, form.frame_bytes):
        return None
    if form.syntax == RLELossless:
        values = decode_rle(stream, form.rows, form.columns, form.allocated)
        return None if values is None else values.view(form.dtype)
    if form.syntax in JPEG2000TransferSyntaxes:
        values = decode_jpeg2000(stream, signed=form.signed)
    else:
        values = decode_in_process(stream, form, DECODER_IN_PROCESS[form.syntax])
    if values is None:
        return None
    _check_range(values, form)
    return values.astype(form.dtype, copy=False)


def _check_range(values: np.ndarray, form: PixelFormat) -> None:
    """Raise SubjectFault for decoded values outside the bits that the header says are stored.

    JPEG and JPEG-LS know no sign: their decoders may return the bits of a negative value.
    """
    bits = form.stored - (form.signed and form.syntax in JPEG2000TransferSyntaxes)
    lowest = -(1 << form.stored - 1) if form.signed else 0
    if values.min() < lowest or values.max() >= 1 << bits:
        raise unsupported_pixels(
            f"compressed values from {values.min()} to {values.max()}, "
            f"expected {form.stored} bits stored (0028,0101)"
        )


def _native(element: RawDataElement, form: PixelFormat, numbers: list[int]) -> list[np.ndarray]:
    """Return frames of uncompressed pixel data, whose length `_check_native` has checked."""
    value, shape = element.value, (form.frames, form.rows, form.columns)
    big_endian = form.syntax == ExplicitVRBigEndian
    if big_endian and form.allocated == 8 and element.VR == "OW":  # each word is two swapped bytes
        if len(value) % 2:
            raise _truncated()
        value = np.frombuffer(value, np.uint16).byteswap()
    dtype = form.dtype.newbyteorder(">" if big_endian else "<")
    frames = np.frombuffer(value, dtype, math.prod(shape)).reshape(shape)
    return [frames[number].astype(form.dtype, copy=False) for number in numbers]


def _unpacked(raw: np.ndarray, form: PixelFormat) -> np.ndarray:
    """Mask unused bits (overlays), and extend the sign."""
    if form.stored == form.allocated:
        return raw
    values = raw.astype(form.dtype, copy=not raw.flags.writeable)
    values <<= form.bits_above
    values >>= form.allocated - form.stored  # extends the sign of signed types
    return values


def _without_padding(
    values: np.ndarray, form: PixelFormat, padding: tuple[int, int] | None
) -> np.ndarray:
    """Give pixels that are no part of the image its darkest value, if theirs lies outside its range.

    padding: first and last value that mark such pixels. Padding of 0 is as dark as air. A slice of
    padding alone becomes 0.
    """
    if padding is None or (padding == (0, 0) and not form.inverted):
        return values
    stored = np.array(padding) & ((1 << form.allocated) - 1)
    low, high = np.sort(stored.astype(f"u{form.allocated // 8}").view(form.dtype))
    is_padding = (values >= low) & (values <= high)
    image = values[~is_padding]
    if not image.size:
        return _upright(np.zeros_like(values), form)  # 0 once it is turned back
    if not is_padding.any() or (low <= image.max() and high >= image.min()):
        return values
    return np.where(is_padding, image.max() if form.inverted else image.min(), values)


def _upright(values: np.ndarray, form: PixelFormat) -> np.ndarray:
    """Invert MONOCHROME1, within the range of the stored bits."""
    if not form.inverted:
        return values
    return (-1 if form.signed else (1 << form.stored) - 1) - values


def _rescaled(values: np.ndarray, frame: Frame) -> np.ndarray:
    if frame.slope == 1 and frame.intercept == 0:
        return values
    with np.errstate(over="ignore"):  # infinite values are refused by compact_array
        return values * frame.slope + frame.intercept
