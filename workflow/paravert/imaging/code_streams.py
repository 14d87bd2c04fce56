"""Code streams of compressed DICOM frames: size checks, and decoding of RLE and JPEG 2000.

Other compressions are decoded by `decoder_process`. Decoders allocate memory for the declared size
before they read the data. A damaged size, in the header or in the code stream, would cost
gigabytes: so `size_fits` compares both first.
"""

import ctypes as c
import os
import re
import struct
import tempfile
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
from pydicom.uid import (
    UID,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

LARGEST_FRAME_BYTES = 32 << 20  # 4096 x 4096 pixels of 16 bits; MR matrices end at 2048
ITEM = b"\xfe\xff\x00\xe0"
PACKBITS_GAIN = 64  # two bytes of RLE decode to at most 128 (PS3.5, annex G.3)
J2K_START = b"\xff\x4f\xff\x51"  # SOC and SIZ
J2K_START_WITHIN = 1024  # some writers put the boxes of a JP2 file before the code stream
J2K_LARGEST_TILES = 1024  # 16 x 16 pixels each in a matrix of 512; decoders keep kilobytes per tile
JPEG_FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # SOF of JPEG and JPEG-LS
JPEG_SCAN_MARKER = 0xDA
RLE_HEADER = struct.Struct("<16I")  # number of segments and where each begins
# Below: count + 1 literal bytes follow. Above: the next byte repeats 257 - count times.
RLE_LITERAL = 128
RLE_PADDING_BYTES = 4  # segments are padded to an even length; some writers add more


def size_fits(stream: bytes, syntax: UID, rows: int, columns: int, frame_bytes: int) -> bool:
    """Return whether the image size declared in one frame's code stream is that of the DICOM header.

    stream: the code stream, which is the compressed bytes of one frame.
    syntax: transfer syntax (0002,0010), the kind of compression.
    rows, columns: (0028,0010), (0028,0011).
    frame_bytes: length in bytes of the decoded frame, from the header.

    False, before all else, if `frame_bytes` is above 32 MiB. RLE streams declare no size: True if a
    stream of that length can decode to `frame_bytes`. JPEG and JPEG-LS: False also for a damaged
    header. JPEG 2000, by the syntax or by the first bytes of the stream: False also for a damaged
    header, several components or more than 1024 tiles. Other syntaxes: True.
    """
    if frame_bytes > LARGEST_FRAME_BYTES:
        return False
    if syntax == RLELossless:
        return frame_bytes <= PACKBITS_GAIN * len(stream)
    if syntax in (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes):
        return _jpeg_size(stream) == (rows, columns)
    if syntax in JPEG2000TransferSyntaxes or stream.startswith(J2K_START):
        return _j2k_size(stream) == (rows, columns)
    return True


def memory_file() -> int:
    """Return the file descriptor of a new, empty, unnamed file: in memory on Linux, elsewhere on disk.

    The caller closes it with os.close.
    """
    if hasattr(os, "memfd_create"):
        return os.memfd_create("paravert-pixels")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def starts_with_items(value: bytes) -> bool:
    """Return whether the value of PixelData (7FE0,0010) begins like compressed (encapsulated) pixel data.

    That is: with an offset table item, followed by another item. Source: DICOM PS3.5, annex A.4.
    """
    if len(value) < 16 or not value.startswith(ITEM):
        return False
    (table,) = struct.unpack_from("<I", value, 4)
    return value[8 + table : 12 + table] == ITEM


def _jpeg_size(stream: bytes) -> tuple[int, int] | None:
    """Return (rows, columns) in the first frame header of a JPEG or JPEG-LS stream, or None."""
    offset = 2  # behind SOI
    while offset + 9 <= len(stream) and stream[offset] == 0xFF:
        marker = stream[offset + 1]
        if marker in JPEG_FRAME_MARKERS:
            return struct.unpack_from(">HH", stream, offset + 5)
        if marker == JPEG_SCAN_MARKER:
            return None
        # 0xFF may be repeated before a marker
        offset += 1 if marker == 0xFF else 2 + struct.unpack_from(">H", stream, offset + 2)[0]
    return None


def _j2k_size(stream: bytes) -> tuple[int, int] | None:
    """Return (rows, columns) of a JPEG 2000 stream; None unless one component and few tiles."""
    start = stream.find(J2K_START, 0, J2K_START_WITHIN)
    if start < 0 or len(stream) < start + 45:
        return None
    right, low, left, top, across, down, *_, components = struct.unpack_from(
        ">8IH", stream, start + 8
    )
    if components != 1 or not across or not down:
        return None
    tiles = -(-right // across) * -(-low // down)
    return (low - top, right - left) if tiles <= J2K_LARGEST_TILES else None


# --- RLE -----------------------------------------------------------------------------------------


def decode_rle(stream: bytes, rows: int, columns: int, allocated: int) -> np.ndarray | None:
    """Return the pixel values of an RLE-compressed frame, uint8 or uint16 (rows, columns).

    stream: the compressed bytes of one frame. rows, columns: of the image. allocated: BitsAllocated
    (0028,0100): 8 gives uint8, 16 uint16, also if the values have a sign: the caller then views
    them as signed.
    Returns None if the stream is damaged: its header is wrong, or a segment does not decode to
    exactly one byte per pixel with at most 4 bytes left over. Source: DICOM PS3.5, annex G.
    """
    segments = _segments(stream, allocated // 8)
    if segments is None:
        return None
    planes = [_decoded_segment(segment, rows * columns) for segment in segments]
    if None in planes:
        return None
    values = np.empty((rows * columns, len(planes)), np.uint8)
    for byte, plane in enumerate(reversed(planes)):
        values[:, byte] = plane
    return values.view(f"<u{len(planes)}").reshape(rows, columns)


def _segments(stream: bytes, count: int) -> list[bytes] | None:
    """Return the segments, most significant byte first; None if the header is damaged."""
    if len(stream) < RLE_HEADER.size:
        return None
    found, *begins = RLE_HEADER.unpack_from(stream)
    offsets = [*begins[:count], len(stream)]
    if found != count or offsets[0] < RLE_HEADER.size or sorted(offsets) != offsets:
        return None
    return [stream[a:b] for a, b in zip(offsets, offsets[1:], strict=False)]


def _decoded_segment(segment: bytes, length: int) -> bytearray | None:
    """Return the bytes of a segment, or None unless it decodes to exactly `length`."""
    values, offset = bytearray(), 0
    try:
        while len(values) < length:
            count = segment[offset]
            if count < RLE_LITERAL:
                values += segment[offset + 1 : offset + 2 + count]
                offset += 2 + count
            elif count > RLE_LITERAL:
                values += segment[offset + 1 : offset + 2] * (257 - count)
                offset += 2
            else:
                offset += 1
    except IndexError:
        return None
    spare = len(segment) - offset
    return values if len(values) == length and 0 <= spare <= RLE_PADDING_BYTES else None


# --- JPEG 2000 -----------------------------------------------------------------------------------
#
# OpenJPEG decodes a damaged code block to wrong values without an error. It compares the length of
# a code block with the bytes that decoding consumed only if the encoder declares predictable
# termination (ISO/IEC 15444-1, D.4.2). Blocks of common encoders end within a few bytes of that
# anyway: so every stream is decoded as if it declared it, and OpenJPEG's warnings give the
# difference in bytes. The Python binding drops the warnings: hence OpenJPEG is called through the C
# interface of the library that the binding ships.

# Intact blocks differ by 3 bytes at most (OpenJPEG, Kakadu, JasPer, Grok and FFmpeg, all coding
# styles); damaged ones mostly by dozens to thousands.
SPARE_BYTES = 8
OFF_BY = re.compile(rb"PTERM check failure: (\d+)")
# Coded data look random, without long runs of zeros. Empty packets are a zero byte each: one per
# layer and resolution, unless resolutions are divided into precincts.
ZEROS = 64
COD, COC, SOT, EOC = b"\xff\x52", b"\xff\x53", b"\xff\x90", b"\xff\xd9"
PRECINCTS = 0x01  # of Scod
BYPASS, PREDICTABLE, HIGH_THROUGHPUT = 0x01, 0x10, 0x40  # of the style of code blocks
CODE_STREAM = 0  # OPJ_CODEC_J2K: without the boxes of a JP2 file
PARAMETERS_BYTES = 1 << 14  # of which opj_dparameters_t takes half

Pointer = c.c_void_p
WarningCallback = c.CFUNCTYPE(None, c.c_char_p, Pointer)


class OpjComponent(c.Structure):
    """The first fields of the C structure opj_image_comp_t of OpenJPEG: one component of an image.

    w, h: columns and rows. prec: bits per pixel. sgnd: 1 if values are signed. data: pointer to
    w x h values, int32, row by row; null without values. The other fields are there for their
    offsets only.
    """

    _fields_ = (
        *((name, c.c_uint32) for name in ("dx", "dy", "w", "h", "x0", "y0", "prec", "bpp", "sgnd")),
        *((name, c.c_uint32) for name in ("resno_decoded", "factor")),
        ("data", c.POINTER(c.c_int32)),
    )


class OpjImage(c.Structure):
    """The leading fields of the C structure opj_image_t of OpenJPEG: a decoded image.

    numcomps: number of components. comps: pointer to the first. The other fields are there for
    their offsets only.
    """

    _fields_ = (
        *((name, c.c_uint32) for name in ("x0", "y0", "x1", "y1", "numcomps")),
        ("color_space", c.c_int),
        ("comps", c.POINTER(OpjComponent)),
    )


SIGNATURES = {
    "create_decompress": (Pointer, c.c_int),
    "set_default_decoder_parameters": (None, Pointer),
    "setup_decoder": (c.c_int, Pointer, Pointer),
    "read_header": (c.c_int, Pointer, Pointer, c.POINTER(c.POINTER(OpjImage))),
    "decode": (c.c_int, Pointer, Pointer, c.POINTER(OpjImage)),
    "end_decompress": (c.c_int, Pointer, Pointer),
    "set_warning_handler": (c.c_int, Pointer, WarningCallback, Pointer),
    "stream_create_default_file_stream": (Pointer, c.c_char_p, c.c_int),
    "destroy_codec": (None, Pointer),
    "image_destroy": (None, c.POINTER(OpjImage)),
    "stream_destroy": (None, Pointer),
}


@cache
def openjpeg() -> dict[str, Callable]:
    """Return the C functions of the OpenJPEG library: {name without the prefix "opj_": ctypes function}.

    The functions are those of SIGNATURES, such as "read_header" and "decode". The library is the
    one inside the package pylibjpeg-openjpeg. Raises ImportError, OSError or AttributeError if it
    or one of the functions is missing.
    """
    import _openjpeg

    binding, functions = c.CDLL(_openjpeg.__file__), {}
    for name, (result, *arguments) in SIGNATURES.items():
        function = getattr(binding, f"opj_{name}")
        function.restype, function.argtypes = result, arguments
        functions[name] = function
    return functions


def decode_jpeg2000(stream: bytes, *, signed: bool) -> np.ndarray | None:
    """Return the pixel values of a JPEG 2000 frame, int32 (rows, columns); None if damage is found.

    stream: the compressed bytes of one frame; `size_fits` must have returned True for it: one
    component, the rows and columns of the header. signed: whether values have a sign by
    PixelRepresentation (0028,0103); this decides, also if the stream declares the opposite. The
    values can have more bits than the header says. Raises OSError if the stream cannot be passed to
    OpenJPEG, and the errors of `openjpeg`.
    """
    start = stream.find(J2K_START)
    checked = _prepared(stream[start:]) if start >= 0 else None
    if checked is None:
        return None
    told: list[bytes] = []
    values = _decoded(checked, told, signed=signed)
    off = (OFF_BY.match(message) for message in told)
    return None if any(int(by[1]) > SPARE_BYTES for by in off if by) else values


def _prepared(stream: bytes) -> bytes | None:
    """Return the stream with predictable termination declared; None if zeros replace coded data."""
    prepared = bytearray(stream)
    body = stream[stream.find(SOT) : stream.rfind(EOC)]  # padding may follow
    for marker, style in _styles(stream):
        if not stream[style] & HIGH_THROUGHPUT:
            prepared[style] |= PREDICTABLE
        if marker == COD and not (stream[style] & BYPASS or stream[style - 8] & PRECINCTS):
            layers, levels = int.from_bytes(stream[style - 6 : style - 4]), stream[style - 3]
            if bytes(ZEROS + layers * (levels + 1)) in body:
                return None
    return bytes(prepared)


def _styles(stream: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield (marker, byte offset of the code block style) of each COD and COC of the main header."""
    offset = 2  # behind SOC
    while offset + 14 <= len(stream) and (marker := stream[offset : offset + 2]) != SOT:
        if marker in (COD, COC):
            yield marker, offset + (12 if marker == COD else 9)
        offset += 2 + int.from_bytes(stream[offset + 2 : offset + 4])


def _decoded(stream: bytes, told: list[bytes], *, signed: bool) -> np.ndarray | None:
    """Return the decoded values, None where OpenJPEG fails; append its warnings to `told`."""
    opj = openjpeg()
    warned = WarningCallback(lambda message, _: told.append(message))
    file = memory_file()
    try:
        os.pwrite(file, stream, 0)
        bytes_in = opj["stream_create_default_file_stream"](f"/dev/fd/{file}".encode(), 1)
    finally:
        os.close(file)
    if not bytes_in:
        raise OSError("OpenJPEG cannot open /dev/fd")
    codec, image = opj["create_decompress"](CODE_STREAM), c.POINTER(OpjImage)()
    try:
        opj["set_warning_handler"](codec, warned, None)
        parameters = c.create_string_buffer(PARAMETERS_BYTES)
        opj["set_default_decoder_parameters"](parameters)
        done = (
            opj["setup_decoder"](codec, parameters)
            and opj["read_header"](bytes_in, codec, c.byref(image))
            and opj["decode"](codec, bytes_in, image)
            and opj["end_decompress"](codec, bytes_in)
        )
        return _values(image.contents.comps[0], signed=signed) if done else None
    finally:
        if image:
            opj["image_destroy"](image)
        opj["destroy_codec"](codec)
        opj["stream_destroy"](bytes_in)


def _values(component: OpjComponent, *, signed: bool) -> np.ndarray | None:
    """Return a copy of the decoded values, int32; None if there are none."""
    if not component.data:
        return None
    values = np.ctypeslib.as_array(component.data, (component.h, component.w))
    if bool(component.sgnd) != signed:
        unused = 32 - component.prec
        values = (values << unused).view(np.int32 if signed else np.uint32) >> unused
    return values.astype(np.int32)
