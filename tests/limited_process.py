"""Something done in a forked process, whose time and memory are limited."""

import json
import os
import resource
import select
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from paravert.imaging import decoder_process

MEMORY_BYTES = 1 << 30
# Address space is not memory (Arrow reserves a gigabyte of it), but who asks for this much has
# believed a damaged length.
ADDRESS_BYTES = 3 << 30
FAILURES = TRACEBACK, KILLED, DIED, LARGE = (
    "traceback",
    "over the time",
    "died",
    "over the memory",
)


def run(do: Callable[[], tuple[str, str]], limit_s: float) -> tuple[str, str, float, float]:
    """Do something in a forked process within time and memory.

    do: returns a result and what is told of it. Returns both, the seconds and the peak memory (MB).
    What this process holds already, and the forked one shares, does not count for the limit.
    """
    started, held = time.monotonic(), _held_bytes()
    answer, tell = os.pipe()
    child = os.fork()
    if not child:
        os.close(answer)
        _answer_and_end(do, tell)
    os.close(tell)
    with os.fdopen(answer, "rb") as pipe:
        in_time = select.select([pipe], [], [], limit_s)[0]
        if not in_time:
            os.kill(child, signal.SIGKILL)
        told = pipe.read() if in_time else b""
    _, _, used = os.wait4(child, 0)
    cost = time.monotonic() - started, used.ru_maxrss / 1024
    if not in_time:
        return KILLED, f"after {limit_s:g} s", *cost
    if not told:
        return DIED, "without a word", *cost
    result, message = json.loads(told)
    if result not in FAILURES and used.ru_maxrss * 1024 - held > MEMORY_BYTES:
        result = LARGE
    return result, message, *cost


def _held_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _answer_and_end(do: Callable[[], tuple[str, str]], tell: int) -> None:
    """Do something within the limits, in the forked process, and write what it returns as JSON."""
    try:
        _limit_memory()
        told = do()
    except BaseException:
        told = TRACEBACK, traceback.format_exc()
    decoder_process.stop_decoder()  # its memory counts once it has ended
    os.write(tell, json.dumps(told).encode()[:60_000])
    os._exit(0)


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + ADDRESS_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
