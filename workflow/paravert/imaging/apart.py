"""Decoding in another process: what kills or stops that leaves this one alone.

Code streams and values pass through a file in memory that both have open; what passes through pipes
is a few bytes. See `decoder_worker`.
"""

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from threading import Lock

import numpy as np

from paravert.imaging import decoder_worker
from paravert.imaging.decoder_worker import HEAD, LENGTH
from paravert.imaging.formats import Format

SETTINGS = {
    "OPENBLAS_NUM_THREADS": "1",  # numpy, which a decoder needs, sets memory aside for each thread
    # Memory of one slice is kept for the next (glibc): to get it afresh takes a fifth of the time.
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(128 << 20),
}
_one_at_a_time = Lock()


class DecoderDied(RuntimeError):
    """The other process ended before it answered; returncode: as that of `subprocess.Popen`."""

    def __init__(self, returncode: int):
        super().__init__(f"the decoding process ended with {returncode}")
        self.returncode = returncode


def decode_apart(stream: bytes, form: Format, decoder: str) -> np.ndarray | None:
    """Return a frame (rows, columns) as stored, or None where its code stream is damaged.

    decoder: gdcm or pyjpegls. One that dies of the stream twice counts as damage if it lives
    without; raises DecoderDied if not, and where it was killed from outside twice.
    """
    names = decoder.encode(), form.syntax.encode()
    head = (form.rows, form.columns, form.allocated, form.stored, *names)
    with _one_at_a_time:
        try:
            values = _ask_twice(HEAD.pack(*head, len(stream)), stream)
        except DecoderDied as died:
            if died.returncode == -signal.SIGKILL:  # from outside, for want of memory: not the data
                raise
            _ask(HEAD.pack(*head, 0), b"")
            return None
    return _array(values, form)


def _ask_twice(head: bytes, stream: bytes) -> np.ndarray:
    """Return an answer, at the second try if the process died: it may have been killed from outside.

    A stream that used up its processor time would do so again.
    """
    try:
        return _ask(head, stream)
    except DecoderDied as died:
        if died.returncode == -signal.SIGXCPU:
            raise
    return _ask(head, stream)


def _array(values: np.ndarray, form: Format) -> np.ndarray | None:
    """Return decoded bytes as a frame; a code stream of up to 8 bits gives a byte for each pixel."""
    pixels = form.rows * form.columns
    if not pixels or len(values) not in (pixels, form.frame_bytes):
        return None
    dtype = form.dtype if len(values) == form.frame_bytes else np.uint8
    return values.view(dtype).reshape(form.rows, form.columns)


@dataclass(frozen=True)
class Worker:
    """A process that decodes, and the descriptor of the file that it shares with this one."""

    process: subprocess.Popen
    shared: int


def _ask(head: bytes, stream: bytes) -> np.ndarray:
    worker = start(os.getpid())
    if worker.process.poll() is not None:  # it ended since the last request: not of this one
        _end(worker)
        worker = start(os.getpid())
    answer = None
    try:
        answer = _answer(worker, head, stream)
    finally:
        if answer is None:  # interrupted, too: its answer must not become that to the next request
            _end(worker)
    return answer


def _answer(worker: Worker, head: bytes, stream: bytes) -> np.ndarray:
    os.pwrite(worker.shared, stream, 0)
    try:
        worker.process.stdin.write(head)
        worker.process.stdin.flush()
    except BrokenPipeError as error:
        raise DecoderDied(worker.process.wait()) from error
    length = worker.process.stdout.read(LENGTH.size)
    if len(length) < LENGTH.size:
        raise DecoderDied(worker.process.wait())
    values = np.empty(LENGTH.unpack(length), np.uint8)
    os.preadv(worker.shared, [values], 0)
    return values


@cache
def start(of_process: int) -> Worker:
    """Start the process that decodes for this one, unless it runs; it ends when this one ends.

    of_process: whose it is, because a forked process must not use its parent's.
    """
    shared, complaints = _shared_file(), _shared_file()
    process = subprocess.Popen(
        [sys.executable, "-P", decoder_worker.__file__, str(shared)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=complaints,
        env={**os.environ, **SETTINGS},
        pass_fds=[shared],
    )
    os.close(complaints)
    return Worker(process, shared)


def _shared_file() -> int:
    if hasattr(os, "memfd_create"):  # Linux; elsewhere a file on disk, which has no name either
        return os.memfd_create("paravert-pixels")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def stop() -> None:
    """End the process that decodes for this one, if there is one; the next request starts another."""
    with _one_at_a_time:
        if start.cache_info().currsize:
            _end(start(os.getpid()))


def _end(worker: Worker) -> None:
    start.cache_clear()
    worker.process.kill()
    worker.process.wait()
    worker.process.stdout.close()
    with suppress(BrokenPipeError):  # of what the process has not read
        worker.process.stdin.close()
    os.close(worker.shared)
