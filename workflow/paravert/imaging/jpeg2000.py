"""Decoding of JPEG 2000 code streams by OpenJPEG, with detection of damaged code blocks.

OpenJPEG decodes a damaged code block to wrong values without an error. It compares the length of a
code block with the bytes that decoding consumed only if the encoder declares predictable termination
(ISO/IEC 15444-1, D.4.2). Blocks of common encoders end within a few bytes of that anyway: so every
stream is decoded as if it declared it, and OpenJPEG's warnings give the difference in bytes. The
Python binding drops the warnings: hence OpenJPEG is called through the C interface of the library
that the binding ships.
"""

import ctypes as c
import re
from collections.abc import Iterator
from functools import cache

import numpy as np

from paravert.imaging.code_streams import J2K_START

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
BUFFER_BYTES = 1 << 20
PARAMETERS_BYTES = 1 << 14  # of which opj_dparameters_t takes half
NO_MORE = c.c_size_t(-1).value

Pointer = c.c_void_p
ReadCallback = c.CFUNCTYPE(c.c_size_t, Pointer, c.c_size_t, Pointer)
SkipCallback = c.CFUNCTYPE(c.c_int64, c.c_int64, Pointer)
SeekCallback = c.CFUNCTYPE(c.c_int, c.c_int64, Pointer)
WarningCallback = c.CFUNCTYPE(None, c.c_char_p, Pointer)


class OpjComponent(c.Structure):
    """The beginning of opj_image_comp_t."""

    _fields_ = (
        *((name, c.c_uint32) for name in ("dx", "dy", "w", "h", "x0", "y0", "prec", "bpp", "sgnd")),
        *((name, c.c_uint32) for name in ("resno_decoded", "factor")),
        ("data", c.POINTER(c.c_int32)),
    )


class OpjImage(c.Structure):
    """The beginning of opj_image_t."""

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
    "stream_create": (Pointer, c.c_size_t, c.c_int),
    "stream_set_read_function": (None, Pointer, ReadCallback),
    "stream_set_skip_function": (None, Pointer, SkipCallback),
    "stream_set_seek_function": (None, Pointer, SeekCallback),
    "stream_set_user_data_length": (None, Pointer, c.c_uint64),
    "destroy_codec": (None, Pointer),
    "image_destroy": (None, c.POINTER(OpjImage)),
    "stream_destroy": (None, Pointer),
}


@cache
def openjpeg() -> dict:
    """Return the functions of OpenJPEG, keyed by name without "opj_".

    Raises ImportError, OSError or AttributeError where the library or a function is missing.
    """
    import _openjpeg

    binding, functions = c.CDLL(_openjpeg.__file__), {}
    for name, (result, *arguments) in SIGNATURES.items():
        function = getattr(binding, f"opj_{name}")
        function.restype, function.argtypes = result, arguments
        functions[name] = function
    return functions


def decode_jpeg2000(stream: bytes, dtype: np.dtype) -> np.ndarray | None:
    """Return the values of a code stream of one component, (rows, columns), or None where damaged.

    dtype: integer type of the DICOM header, whose sign overrides that of the stream. The size of the
    stream must have been checked by `size_fits`.
    """
    start = stream.find(J2K_START)
    checked = _prepared(stream[start:]) if start >= 0 else None
    if checked is None:
        return None
    told: list[bytes] = []
    values = _decoded(checked, dtype, told)
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
    place = 2  # behind SOC
    while place + 14 <= len(stream) and (marker := stream[place : place + 2]) != SOT:
        if marker in (COD, COC):
            yield marker, place + (12 if marker == COD else 9)
        place += 2 + int.from_bytes(stream[place + 2 : place + 4])


def _decoded(stream: bytes, dtype: np.dtype, told: list[bytes]) -> np.ndarray | None:
    """Return the decoded values, None where OpenJPEG fails; append its warnings to `told`."""
    opj = openjpeg()
    source = _Source(stream)
    warned = WarningCallback(lambda message, _: told.append(message))
    bytes_in = opj["stream_create"](BUFFER_BYTES, 1)
    codec, image = opj["create_decompress"](CODE_STREAM), c.POINTER(OpjImage)()
    try:
        source.attach(bytes_in)
        opj["set_warning_handler"](codec, warned, None)
        parameters = c.create_string_buffer(PARAMETERS_BYTES)
        opj["set_default_decoder_parameters"](parameters)
        done = (
            opj["setup_decoder"](codec, parameters)
            and opj["read_header"](bytes_in, codec, c.byref(image))
            and opj["decode"](codec, bytes_in, image)
            and opj["end_decompress"](codec, bytes_in)
        )
        return _values(image.contents.comps[0], dtype) if done else None
    finally:
        if image:
            opj["image_destroy"](image)
        opj["destroy_codec"](codec)
        opj["stream_destroy"](bytes_in)


def _values(component: OpjComponent, dtype: np.dtype) -> np.ndarray | None:
    if not component.data:
        return None
    values = np.ctypeslib.as_array(component.data, (component.h, component.w))
    if bool(component.sgnd) != (dtype.kind == "i"):
        unused = 32 - component.prec
        values = (values << unused).view(f"{dtype.kind}4") >> unused
    return values.astype(dtype)


class _Source:
    """The read callbacks of an OpenJPEG stream over bytes in memory."""

    def __init__(self, stream: bytes):
        self._stream, self._place = stream, 0
        self._callbacks = (
            ReadCallback(self._read),
            SkipCallback(self._skip),
            SeekCallback(self._seek),
        )

    def attach(self, bytes_in: int) -> None:
        """Make an opj_stream_t read from this object, which must outlive it."""
        for kind, function in zip(("read", "skip", "seek"), self._callbacks, strict=True):
            openjpeg()[f"stream_set_{kind}_function"](bytes_in, function)
        openjpeg()["stream_set_user_data_length"](bytes_in, len(self._stream))

    def _read(self, target: int, length: int, _: object) -> int:
        found = self._stream[self._place : self._place + length]
        c.memmove(target, found, len(found))
        self._place += len(found)
        return len(found) or NO_MORE

    def _skip(self, length: int, _: object) -> int:
        self._place += length
        return length

    def _seek(self, place: int, _: object) -> int:
        self._place = place
        return 1
