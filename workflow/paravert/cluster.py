"""The start of a run on a Slurm cluster."""

import fcntl
import os
import shutil
import stat
import subprocess
from pathlib import Path

from paravert.errors import InputError

STDERR = 2


def check_controller() -> None:
    """Raises InputError if Slurm does not answer: every job would fail."""
    if shutil.which("squeue") is None:
        raise InputError(
            "squeue", "no such command, expected Slurm's on a login node of the cluster"
        )
    asked = ["squeue", "--me", "--noheader"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(" ".join(asked), f"{done.stderr.strip()}; start again when it answers")


def replace_commands(folder: Path) -> None:
    """Put a folder with replacements of Slurm's commands at the front of PATH.

    The replacements write messages to the stderr of this process, each once. They find it by
    PARAVERT_RUN, this process's id, and keep the messages already written in a file named after it.
    """
    os.environ["PATH"] = f"{folder}:{os.environ['PATH']}"
    os.environ["PARAVERT_RUN"] = str(os.getpid())
    told = Path(f".snakemake/slurm_logs/told-{os.getpid()}.log")
    told.parent.mkdir(parents=True, exist_ok=True)
    told.unlink(missing_ok=True)  # left by an earlier run with the same process id
    append_only(STDERR)


def append_only(descriptor: int) -> None:
    """Set O_APPEND if a descriptor is a regular file, so that several processes can write to it."""
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_APPEND)
