"""Something done by a process that may not read everything: root may."""

import json
import os
import traceback
from collections.abc import Callable
from pathlib import Path

NOBODY = 65534


def as_nobody(home: Path, do: Callable[[], object]) -> object:
    """Return what a function returns (JSON-able) in a process of its own that is not root's.

    home: its working directory; the function names files relative to it. Whoever is not root
    already works as they are.
    """
    if os.getuid() == 0:
        for path in (home, *home.rglob("*")):
            os.lchown(path, NOBODY, NOBODY)
    answer, tell = os.pipe()
    child = os.fork()
    if not child:
        _answer_and_end(home, do, tell)
    os.close(tell)
    with os.fdopen(answer, "rb") as pipe:
        told = json.loads(pipe.read())
    os.waitpid(child, 0)
    if "fault" in told:
        raise AssertionError(told["fault"])
    return told["made"]


def _answer_and_end(home: Path, do: Callable[[], object], tell: int) -> None:
    try:
        os.chdir(home)
        if os.getuid() == 0:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        told = {"made": do()}
    except BaseException:
        told = {"fault": traceback.format_exc()}
    with os.fdopen(tell, "wb") as pipe:
        pipe.write(json.dumps(told).encode())
    os._exit(0)
