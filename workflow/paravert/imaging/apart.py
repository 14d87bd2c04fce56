"""Decoding in another process: what kills or stops that leaves this one alone."""

import fcntl
import os
import signal
import subprocess
import sys
from contextlib import suppress
from functools import cache
from threading import Lock

import numpy as np

from paravert.imaging import decoder_worker
from paravert.imaging.decoder_worker import HEAD, LENGTH
from paravert.imaging.formats import Format

PIPE_BYTES = 1 << 20  # a whole slice of 512 x 512, not an eighth of it
# numpy, which a decoder needs, sets memory aside for each thread.
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}
_one_at_a_time = Lock()


class DecoderDied(RuntimeError):
    """The other process ended before it answered; returncode: as that of `subprocess.Popen`."""

    def __init__(self, returncode: int):
        super().__init__(f"the decoding process ended with {returncode}")
        self.returncode = returncode


def decode_apart(stream: bytes, form: Format, decoder: str) -> np.ndarray | None:
    """Return a frame (rows, columns) as stored, or None where its code stream is damaged.

    decoder: gdcm or pyjpegls. One that dies of the stream twice counts as damage if it lives
    without; raises DecoderDied if not.
    """
    names = decoder.encode(), form.syntax.encode()
    head = (form.rows, form.columns, form.allocated, form.stored, *names)
    with _one_at_a_time:
        try:
            values = _ask_twice(HEAD.pack(*head, len(stream)) + stream)
        except DecoderDied:
            _ask(HEAD.pack(*head, 0))
            return None
    return _array(values, form)


def _ask_twice(request: bytes) -> bytes:
    """Return an answer, at the second try if the process died: it may have been killed from outside.

    A stream that used up its processor time would do so again.
    """
    try:
        return _ask(request)
    except DecoderDied as died:
        if died.returncode == -signal.SIGXCPU:
            raise
    return _ask(request)


def _array(values: bytes, form: Format) -> np.ndarray | None:
    """Return decoded values as an array; a code stream of up to 8 bits gives a byte for each."""
    pixels = form.rows * form.columns
    if not pixels or len(values) not in (pixels, form.frame_bytes):
        return None
    dtype = form.dtype if len(values) == form.frame_bytes else np.uint8
    return np.frombuffer(values, dtype).reshape(form.rows, form.columns)


def _ask(request: bytes) -> bytes:
    process = start(os.getpid())
    if process.poll() is not None:  # it ended since the last request: not of this one
        _end(process)
        process = start(os.getpid())
    answer = None
    try:
        answer = _answer(process, request)
    finally:
        if answer is None:  # interrupted, too: its answer must not become that to the next request
            _end(process)
    return answer


def _answer(process: subprocess.Popen, request: bytes) -> bytes:
    try:
        process.stdin.write(request)
        process.stdin.flush()
    except BrokenPipeError as error:
        raise DecoderDied(process.wait()) from error
    (length,) = LENGTH.unpack(_read(process, LENGTH.size))
    return _read(process, length)


def _read(process: subprocess.Popen, length: int) -> bytes:
    found = process.stdout.read(length)
    if len(found) < length:
        raise DecoderDied(process.wait())
    return found


@cache
def start(of_process: int) -> subprocess.Popen:
    """Start the process that decodes for this one, unless it runs; it ends when this one ends.

    of_process: whose it is, because a forked process must not use its parent's.
    """
    process = subprocess.Popen(
        [sys.executable, "-P", decoder_worker.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # GDCM complains there even of what it decodes
        env={**os.environ, **ONE_THREAD},
    )
    for pipe in (process.stdin, process.stdout):
        # Not every system has it, and none for as many processes of one user as there may be.
        with suppress(AttributeError, OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return process


def stop() -> None:
    """End the process that decodes for this one, if there is one; the next request starts another."""
    with _one_at_a_time:
        if start.cache_info().currsize:
            _end(start(os.getpid()))


def _end(process: subprocess.Popen) -> None:
    start.cache_clear()
    process.kill()
    process.wait()
    process.stdout.close()
    with suppress(BrokenPipeError):  # of what the process has not read
        process.stdin.close()
