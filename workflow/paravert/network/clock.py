"""How long a network was at work, with several threads at it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Counts slices and time inside the network.

    slices: that passed. any_seconds: time in which at least one thread was inside; all_seconds: of
    all threads together.
    """

    def __init__(self):
        self.slices, self.any_seconds, self.all_seconds = 0, 0.0, 0.0
        self._inside, self._since, self._lock = 0, 0.0, threading.Lock()

    @contextmanager
    def running(self, slices: int) -> Iterator[None]:
        """Count so many slices and the time until the end of the block."""
        begin = time.perf_counter()
        with self._lock:
            self._since = self._since if self._inside else begin
            self._inside += 1
        try:
            yield
        finally:
            end = time.perf_counter()
            with self._lock:
                self._inside -= 1
                self.slices += slices
                self.all_seconds += end - begin
                self.any_seconds += 0.0 if self._inside else end - self._since
