"""Jobs of the Slurm on this host: what squeue tells of them, and their processes."""

import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass

import psutil

from slurm_settings import CLUSTER
from waiting import wait_until


@dataclass(frozen=True)
class Job:
    """A Slurm job as squeue tells it, finished ones too."""

    number: str
    comment: str
    state: str
    node: str
    memory_mb: int
    limit_minutes: int
    partition: str


def ask(*command: str) -> str:
    """Return what a Slurm command prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def jobs_of(run: str) -> list[Job]:
    """Return the jobs of a run (its id is their name) that Slurm remembers."""
    form = "--format=%i|%k|%T|%N|%m|%l|%P"
    listed = ask("squeue", f"--name={run}", "--states=all", "--noheader", form)
    return [_job(line) for line in listed.splitlines()]


def kill_job(number: str) -> None:
    """Kill -9 every process of a job; Slurm's own, which watch over it, live on."""
    for pid in processes_of(number):
        end(pid, signal.SIGKILL)


def end(pid: int | None, how: signal.Signals) -> None:
    """End a process, if it lives, and wait until it is gone."""
    with suppress(ProcessLookupError):
        if pid is not None:
            os.kill(pid, how)
            wait_until(lambda: _gone(pid), f"process {pid} to end")


def _job(line: str) -> Job:
    number, comment, state, node, memory, limit, partition = line.split("|")
    return Job(number, comment, state, node, _megabytes(memory), _minutes(limit), partition)


def _megabytes(text: str) -> int:
    return round(float(text[:-1]) * {"M": 1, "G": 1024}[text[-1]])


def _minutes(text: str) -> int:
    """Return minutes of [days-][hours:]minutes:seconds."""
    days, _, clock = text.rpartition("-")
    hours, minutes, _ = ("0:" * (2 - clock.count(":")) + clock).split(":")
    return 1440 * int(days or 0) + 60 * int(hours) + int(minutes)


def watchers_of(number: str) -> list[int]:
    """Return the processes by which Slurm watches over the steps of a job."""
    mark = f"slurmstepd: [{number}."
    return [process.pid for process in psutil.process_iter() if _title(process).startswith(mark)]


def processes_of(number: str) -> list[int]:
    """Return the processes of a job, known by their environment."""
    mark = {"SLURM_JOB_ID": number, "SLURM_CLUSTER_NAME": CLUSTER}
    return [process.pid for process in psutil.process_iter() if _has(process, mark)]


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _has(process: psutil.Process, mark: dict[str, str]) -> bool:
    try:
        return process.environ().items() >= mark.items()
    except psutil.Error:
        return False


def _gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
