"""Waiting for what another process does."""

import time
from collections.abc import Callable

PATIENCE_SECONDS = 300  # for what takes seconds: a guard against waiting for ever


def wait_until(holds: Callable[[], object], what: str):
    """Return the first true value of a function; raise TimeoutError if there is none."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not (value := holds()):
        if time.monotonic() > end:
            raise TimeoutError(f"waited {PATIENCE_SECONDS} s in vain for {what}")
        time.sleep(0.1)
    return value
