"""What a run on a Slurm cluster begins with."""

import fcntl
import os
import shutil
import stat
import subprocess
from pathlib import Path

from paravert.errors import InputError

STDERR = 2


def check_controller() -> None:
    """Raise InputError if Slurm does not answer: every job would fail."""
    if shutil.which("squeue") is None:
        raise InputError(
            "squeue", "no such command, expected Slurm's on a login node of the cluster"
        )
    asked = ["squeue", "--me", "--noheader"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(" ".join(asked), f"{done.stderr.strip()}; start again when it answers")


def replace_commands(folder: Path) -> None:
    """Let Snakemake find the commands of Slurm in this folder, and let them tell things on stderr.

    What they told already stands in a file of the run's process id.
    """
    os.environ["PATH"] = f"{folder}:{os.environ['PATH']}"
    os.environ["PARAVERT_RUN"] = str(os.getpid())
    told = Path(f".snakemake/slurm_logs/told-{os.getpid()}.log")
    told.parent.mkdir(parents=True, exist_ok=True)
    told.unlink(missing_ok=True)  # of an earlier run with this id
    append_only(STDERR)


def append_only(descriptor: int) -> None:
    """Let a file grow at its end alone, so that two processes may write to it."""
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_APPEND)
