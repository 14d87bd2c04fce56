"""Decoding of JPEG and JPEG-LS in a separate process, as the decoders may crash or hang.

Code streams and pixel values are exchanged through a `memory_file` that both processes have open;
short requests and answers go through pipes. `decoder_worker` is the program of that process.
"""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from threading import Lock

import numpy as np

from paravert.imaging import decoder_worker
from paravert.imaging.code_streams import memory_file
from paravert.imaging.decoder_worker import ANSWER, REQUEST
from paravert.imaging.pixel_format import PixelFormat

ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",  # numpy, which a decoder imports, allocates memory per thread
    # glibc keeps the memory of one slice for the next: allocating it anew takes a fifth of the
    # time.
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(128 << 20),
}
_one_at_a_time = Lock()


class DecoderDied(RuntimeError):
    """The decoder process ended before it answered.

    returncode: exit status of the process; -n if signal n ended it.
    """

    def __init__(self, returncode: int):
        super().__init__(f"the decoder process ended with {returncode}")
        self.returncode = returncode


def decode_in_process(stream: bytes, form: PixelFormat, decoder: str) -> np.ndarray | None:
    """Return the pixel values of a JPEG or JPEG-LS frame, (rows, columns), decoded in a separate process.

    stream: the compressed bytes of one frame. form: pixel format of its file: matrix, bits, sign
    and transfer syntax. decoder: "gdcm" (JPEG) or "pyjpegls" (JPEG-LS). The values are as stored:
    signs are not extended from the stored bits, MONOCHROME1 is not inverted. Their integer type is
    that of the format, or uint8 if a 16-bit format is decoded to one byte per pixel. None if the
    stream is damaged: the decoder refuses it or does not return one frame, or the process dies on
    it twice (once if it reaches its limit of processor time) but runs without it. Raises
    DecoderDied if the process does not run at all, or if SIGKILL ended the second try (too little
    memory).
    """
    names = decoder.encode(), form.syntax.encode()
    head = (form.rows, form.columns, form.allocated, form.stored, *names)
    with _one_at_a_time:
        for _ in range(2):  # the first time, it may have been killed from outside
            try:
                return _array(_ask(REQUEST.pack(*head, len(stream)), stream), form)
            except DecoderDied as died:
                returncode = died.returncode
            if returncode == -signal.SIGXCPU:  # it would reach its limit of time again
                break
        if returncode == -signal.SIGKILL:  # killed from outside, for lack of memory
            raise DecoderDied(returncode)
        _ask(REQUEST.pack(*head, 0), b"")
        return None


def _array(values: np.ndarray, form: PixelFormat) -> np.ndarray | None:
    """Return decoded bytes as a frame; code streams of up to 8 bits give one byte per pixel."""
    pixels = form.rows * form.columns
    if not pixels or len(values) not in (pixels, form.frame_bytes):
        return None
    dtype = form.dtype if len(values) == form.frame_bytes else np.uint8
    return values.view(dtype).reshape(form.rows, form.columns)


@dataclass(frozen=True)
class DecoderProcess:
    """A running decoder process.

    process: its handle; requests go to its stdin, answers come from its stdout. shared: descriptor
    of the `memory_file` through which both exchange compressed bytes and pixel values.
    """

    process: subprocess.Popen
    shared: int


def _ask(head: bytes, stream: bytes) -> np.ndarray:
    """Return the decoded bytes of a request, uint8 (bytes,); raises DecoderDied."""
    decoder = start_decoder(os.getpid())
    if decoder.process.poll() is not None:  # it ended before this request
        _end(decoder)
        decoder = start_decoder(os.getpid())
    answer = None
    try:
        answer = _answer(decoder, head, stream)
    finally:
        if answer is None:  # also if interrupted: its answer must not be read as the next one
            _end(decoder)
    return answer


def _answer(decoder: DecoderProcess, head: bytes, stream: bytes) -> np.ndarray:
    os.pwrite(decoder.shared, stream, 0)
    try:
        decoder.process.stdin.write(head)
        decoder.process.stdin.flush()
    except BrokenPipeError as error:
        raise DecoderDied(decoder.process.wait()) from error
    length = decoder.process.stdout.read(ANSWER.size)
    if len(length) < ANSWER.size:
        raise DecoderDied(decoder.process.wait())
    values = np.empty(ANSWER.unpack(length), np.uint8)
    os.preadv(decoder.shared, [values], 0)
    return values


@cache
def start_decoder(of_process: int) -> DecoderProcess:
    """Return the decoder process of the calling process; the first call starts it.

    of_process: id of the calling process (os.getpid()): the cache key, so that a forked process
    starts a decoder of its own. The decoder ends when its standard input is closed, as it is when
    the calling process ends.
    """
    shared, complaints = memory_file(), memory_file()
    process = subprocess.Popen(
        [sys.executable, "-P", decoder_worker.__file__, str(shared)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=complaints,
        env={**os.environ, **ENVIRONMENT},
        pass_fds=[shared],
    )
    os.close(complaints)
    return DecoderProcess(process, shared)


def stop_decoder() -> None:
    """End the decoder process if one is running; the next request starts another. For benchmarks."""
    with _one_at_a_time:
        if start_decoder.cache_info().currsize:
            _end(start_decoder(os.getpid()))


def _end(decoder: DecoderProcess) -> None:
    start_decoder.cache_clear()
    decoder.process.kill()
    decoder.process.wait()
    decoder.process.stdout.close()
    with suppress(BrokenPipeError):  # of what the process did not read
        decoder.process.stdin.close()
    os.close(decoder.shared)
