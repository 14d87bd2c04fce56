"""The program of the decoder process, for decoders that crash or hang on a damaged code stream.

`decoder_process` starts it with the descriptor of a shared file. It imports nothing of this
package, and a decoder only at its first use, so that it starts fast. A request is a REQUEST on
standard input, with the code stream of one frame at the start of the shared file; a request with
length 0 only checks that the process runs and has the decoder. An answer is an ANSWER on standard
output, with that many bytes of pixel values at the start of the shared file; 0 if the code stream
is damaged. Messages of a decoder go to standard error, which is a file, so that they can be read.
"""

import contextlib
import os
import re
import resource
import struct
import sys
from collections.abc import Callable
from functools import cache

# rows, columns, bits allocated, bits stored, decoder, transfer syntax, length of the code stream
REQUEST = struct.Struct("<IIHH16s64sQ")
ANSWER = struct.Struct("<Q")  # length of the pixel values
MEMORY_BYTES = 768 << 20  # ten times what a slice of 2048 x 2048 takes
# The JPEG decoder (IJG) fills in data that end early or are invalid, and skips bytes behind the
# last row; it reports both.
CORRUPT = re.compile(rb"Corrupt JPEG data: (?:(\d+) extraneous bytes)?")
COMPLAINT_BYTES = 1 << 16
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
JPEG_END, JPEG_PADDING, MOST_PADDING = b"\xff\xd9", b"\0\xff", 64
# Of processor time for a slice, rounded up to whole seconds. 2048 x 2048 pixels take 0.1.
SECONDS = 1


def serve() -> None:
    """Decode the frames that are requested on standard input until it is closed.

    Requests and answers are as the module says; sys.argv[1] is the descriptor of the shared file.
    The pixel values replace the compressed bytes in that file.
    """
    shared = int(sys.argv[1])
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a decoder prints is not an answer
    while head := sys.stdin.buffer.read(REQUEST.size):
        *form, name, syntax, length = REQUEST.unpack(head)
        decode = _decoder(_text(name))
        stream = os.pread(shared, length, 0)
        _limit(resource.RLIMIT_AS, MEMORY_BYTES)
        _limit(resource.RLIMIT_CPU, int(_seconds_used()) + 1 + SECONDS)
        values = decode(stream, *form, _text(syntax)) if length else b""
        os.pwrite(shared, values, 0)
        out.write(ANSWER.pack(len(values)))
        out.flush()


@cache
def _decoder(name: str) -> Callable[..., bytes]:
    _limit(resource.RLIMIT_AS, resource.RLIM_INFINITY)
    return {"gdcm": _gdcm, "pyjpegls": _pyjpegls}[name]()


def _gdcm() -> Callable[..., bytes]:
    import gdcm

    gdcm.Trace.WarningOff()
    gdcm.Trace.ErrorOff()

    def decode(stream, rows, columns, allocated, stored, syntax) -> bytes:
        fragment = gdcm.Fragment()
        fragment.SetByteStringValue(stream)
        fragments = gdcm.SequenceOfFragments.New()
        fragments.AddFragment(fragment)
        element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
        element.SetValue(fragments.__ref__())
        image = gdcm.Image()
        image.SetNumberOfDimensions(2)
        image.SetDimensions((columns, rows, 1))
        image.SetDataElement(element)
        grey = gdcm.PhotometricInterpretation.MONOCHROME2
        image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(grey))
        kind = gdcm.TransferSyntax.GetTSType(syntax)
        image.SetTransferSyntax(gdcm.TransferSyntax(kind))
        # Unsigned even if the values are signed: GDCM takes twice as long otherwise; the bits are
        # the same.
        # GDCM clears bits above those stored, so that values too large would not be noticed; but
        # it needs their true number for lossy streams of 12 bits.
        bits = stored if syntax == JPEG_EXTENDED else allocated
        image.SetPixelFormat(gdcm.PixelFormat(1, allocated, bits, bits - 1, 0))
        os.ftruncate(2, 0)
        os.lseek(2, 0, os.SEEK_SET)
        values = image.GetBuffer()  # its binding returns text
        if values is None or _is_corrupt(stream, os.pread(2, COMPLAINT_BYTES, 0)):
            return b""
        return values.encode("utf-8", "surrogateescape")

    return decode


def _is_corrupt(stream: bytes, complaints: bytes) -> bool:
    """Return whether a JPEG decoder reported more than padding at the end of a code stream."""
    scan = stream.rstrip(b"\0").removesuffix(JPEG_END)
    padding = min(len(scan) - len(scan.rstrip(JPEG_PADDING)), MOST_PADDING)
    found = CORRUPT.finditer(complaints)
    return any(not spare[1] or int(spare[1]) > padding for spare in found)


def _pyjpegls() -> Callable[..., bytes]:
    import jpeg_ls

    def decode(stream, *_: object) -> bytes:
        try:
            values, _told = jpeg_ls.decode_pixel_data(stream)
        except (RuntimeError, ValueError, MemoryError):
            return b""
        return values

    return decode


def _text(field: bytes) -> str:
    return field.rstrip(b"\0").decode()


def _seconds_used() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _limit(what: int, amount: int) -> None:
    with contextlib.suppress(ValueError, OSError):  # not every system has every limit
        resource.setrlimit(what, (amount, resource.getrlimit(what)[1]))


if __name__ == "__main__":
    serve()
