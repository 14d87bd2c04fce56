"""JPEG 2000 code streams, decoded by OpenJPEG and held against what their code blocks tell.

OpenJPEG takes a code block whose bytes are damaged for one of other values. It compares the bytes
that a code block has with those that its values took only where the encoder promised to end each
block so that this can be told (predictable termination, ISO/IEC 15444-1, D.4.2). Good encoders end
their blocks within a few bytes of it anyway: so every stream is decoded as if it promised, and the
decoder's warnings tell by how many bytes a block is off. The Python binding loses the warnings:
hence OpenJPEG is called through its C interface, in the library that the binding brings along.
"""

import ctypes as c
import re
from collections.abc import Iterator
from functools import cache

import numpy as np

from paravert.imaging.code_streams import J2K_START

# Good blocks are off by 3 bytes at most (OpenJPEG, Kakadu, JasPer, Grok and FFmpeg, in all coding
# styles), damaged ones mostly by dozens to thousands.
SPARE_BYTES = 8
OFF_BY = re.compile(rb"PTERM check failure: (\d+)")
# Coded data look random, so that zeros never follow each other for long. Packets without content
# are a zero byte each: one for each layer and resolution, unless these are parted into precincts.
ZEROS = 64
COD, COC, SOT, EOC = b"\xff\x52", b"\xff\x53", b"\xff\x90", b"\xff\xd9"
PRECINCTS = 0x01  # of Scod
BYPASS, PREDICTABLE, HIGH_THROUGHPUT = 0x01, 0x10, 0x40  # of the style of code blocks
CODE_STREAM = 0  # OPJ_CODEC_J2K: without the boxes of a JP2 file
BUFFER_BYTES = 1 << 20
PARAMETERS_BYTES = 1 << 14  # of which opj_dparameters_t takes half
NO_MORE = c.c_size_t(-1).value

Pointer = c.c_void_p
Read = c.CFUNCTYPE(c.c_size_t, Pointer, c.c_size_t, Pointer)
Skip = c.CFUNCTYPE(c.c_int64, c.c_int64, Pointer)
Seek = c.CFUNCTYPE(c.c_int, c.c_int64, Pointer)
Told = c.CFUNCTYPE(None, c.c_char_p, Pointer)


class Component(c.Structure):
    """The beginning of opj_image_comp_t."""

    _fields_ = (
        *((name, c.c_uint32) for name in ("dx", "dy", "w", "h", "x0", "y0", "prec", "bpp", "sgnd")),
        *((name, c.c_uint32) for name in ("resno_decoded", "factor")),
        ("data", c.POINTER(c.c_int32)),
    )


class Image(c.Structure):
    """The beginning of opj_image_t."""

    _fields_ = (
        *((name, c.c_uint32) for name in ("x0", "y0", "x1", "y1", "numcomps")),
        ("color_space", c.c_int),
        ("comps", c.POINTER(Component)),
    )


SIGNATURES = {
    "create_decompress": (Pointer, c.c_int),
    "set_default_decoder_parameters": (None, Pointer),
    "setup_decoder": (c.c_int, Pointer, Pointer),
    "read_header": (c.c_int, Pointer, Pointer, c.POINTER(c.POINTER(Image))),
    "decode": (c.c_int, Pointer, Pointer, c.POINTER(Image)),
    "end_decompress": (c.c_int, Pointer, Pointer),
    "set_warning_handler": (c.c_int, Pointer, Told, Pointer),
    "stream_create": (Pointer, c.c_size_t, c.c_int),
    "stream_set_read_function": (None, Pointer, Read),
    "stream_set_skip_function": (None, Pointer, Skip),
    "stream_set_seek_function": (None, Pointer, Seek),
    "stream_set_user_data_length": (None, Pointer, c.c_uint64),
    "destroy_codec": (None, Pointer),
    "image_destroy": (None, c.POINTER(Image)),
    "stream_destroy": (None, Pointer),
}


@cache
def library() -> dict:
    """Return functions of OpenJPEG by their names without "opj_".

    Raises ImportError, OSError or AttributeError where it is not installed or lacks one.
    """
    import _openjpeg

    binding, functions = c.CDLL(_openjpeg.__file__), {}
    for name, (result, *arguments) in SIGNATURES.items():
        function = getattr(binding, f"opj_{name}")
        function.restype, function.argtypes = result, arguments
        functions[name] = function
    return functions


def decode(stream: bytes, dtype: np.dtype) -> np.ndarray | None:
    """Return the values of a code stream of one component, or None where it is damaged.

    dtype: that of the header, an integer, whose sign holds where the stream says another. Returns
    (rows, columns). For a stream whose size fits (see `code_streams`).
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
    """Return a stream that promises predictable termination, or None if zeros stand in for data."""
    prepared = bytearray(stream)
    body = stream[stream.find(SOT) : stream.rfind(EOC)]  # what follows is padding
    for marker, style in _styles(stream):
        if not stream[style] & HIGH_THROUGHPUT:
            prepared[style] |= PREDICTABLE
        if marker == COD and not (stream[style] & BYPASS or stream[style - 8] & PRECINCTS):
            layers, levels = int.from_bytes(stream[style - 6 : style - 4]), stream[style - 3]
            if bytes(ZEROS + layers * (levels + 1)) in body:
                return None
    return bytes(prepared)


def _styles(stream: bytes) -> Iterator[tuple[bytes, int]]:
    """Find the style of code blocks in the marker segments COD and COC of the main header."""
    place = 2  # behind SOC
    while place + 14 <= len(stream) and (marker := stream[place : place + 2]) != SOT:
        if marker in (COD, COC):
            yield marker, place + (12 if marker == COD else 9)
        place += 2 + int.from_bytes(stream[place + 2 : place + 4])


def _decoded(stream: bytes, dtype: np.dtype, told: list[bytes]) -> np.ndarray | None:
    """Return what OpenJPEG makes of a stream, None where it fails; add its warnings to told."""
    opj = library()
    source = _Source(stream)
    warned = Told(lambda message, _: told.append(message))
    bytes_in = opj["stream_create"](BUFFER_BYTES, 1)
    codec, image = opj["create_decompress"](CODE_STREAM), c.POINTER(Image)()
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


def _values(component: Component, dtype: np.dtype) -> np.ndarray | None:
    if not component.data:
        return None
    values = np.ctypeslib.as_array(component.data, (component.h, component.w))
    if bool(component.sgnd) != (dtype.kind == "i"):
        unused = 32 - component.prec
        values = (values << unused).view(f"{dtype.kind}4") >> unused
    return values.astype(dtype)


class _Source:
    """The bytes of a stream, as OpenJPEG asks for them."""

    def __init__(self, stream: bytes):
        self._stream, self._place = stream, 0
        self._functions = Read(self._read), Skip(self._skip), Seek(self._seek)

    def attach(self, bytes_in: int) -> None:
        """Let an opj_stream_t read from here, as long as this object lives."""
        for kind, function in zip(("read", "skip", "seek"), self._functions, strict=True):
            library()[f"stream_set_{kind}_function"](bytes_in, function)
        library()["stream_set_user_data_length"](bytes_in, len(self._stream))

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
