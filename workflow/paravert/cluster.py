"""Memory and time that jobs request, and the start of a run on a Slurm cluster."""

import fcntl
import os
import shutil
import stat
import subprocess
from pathlib import Path

from paravert.errors import InputError

STDERR = 2
JOB_MB = 500  # two Snakemake processes on a cluster, and the parent of the worker processes
JOB_MINUTES = 10

# Memory (MB) of a worker process, for a subject of 120 slices of 512 x 512 and the paper's network. On
# a GPU segment_muscles is one process, which needs less than two workers.
WORKER_MB = {
    "convert_dicom": 600,
    "segment_muscles": 900,
    "find_levels": 900,
    "measure_area": 300,
    "measure_fat": 750,
    "score_overlap": 300,
    "draw_preview": 850,
    "dicomseg": 700,
}
# Time limit per subject: several times the usual duration.
SUBJECT_SECONDS = {
    "convert_dicom": 30,
    "segment_muscles": 60,
    "find_levels": 20,
    "measure_area": 20,
    "measure_fat": 20,
    "score_overlap": 20,
    "draw_preview": 20,
    "dicomseg": 20,
}
# Time limit per thousand subjects of a step over the cohort: about ten times what was measured with up
# to 100,000 subjects (docs/scale.md).
COHORT_SECONDS = {
    "gather_cohort": 15,
    "export_tables": 45,
    "fit_models": 40,
    "fit_centiles": 40,
    "write_tables": 10,
    "draw_figures": 10,
    "write_report": 2,
    "write_review": 60,
}


def memory_mb(step: str, workers: int = 1) -> int:
    """Return the memory (MB) to request for the cluster job that runs a step for one shard.

    Shard: a group of subjects that one job processes. step: name of the step, key of WORKER_MB;
    KeyError for others. workers: number of worker processes of the job; each adds WORKER_MB[step]
    to the 500 MB (JOB_MB) of the other processes.
    """
    return JOB_MB + workers * WORKER_MB[step]


def minutes(step: str, subjects: int) -> int:
    """Return the time limit (minutes) to request for the job that runs a step for one shard.

    Shard: a group of subjects that one job processes. step: name of the step, key of
    SUBJECT_SECONDS; KeyError for others. subjects: number of subjects in the shard. The limit is 10
    minutes plus SUBJECT_SECONDS[step] per subject, rounded down.
    """
    return JOB_MINUTES + subjects * SUBJECT_SECONDS[step] // 60


def cohort_minutes(step: str, subjects: int) -> int:
    """Return the time limit (minutes) to request for the job that runs a step for the whole cohort.

    step: name of the step, key of COHORT_SECONDS; KeyError for others. subjects: number of scans
    that the run takes. The limit is 10 minutes plus COHORT_SECONDS[step] per 1000 scans, rounded
    down.
    """
    return JOB_MINUTES + subjects * COHORT_SECONDS[step] // 60_000


def check_controller() -> None:
    """Raise InputError if Slurm's command squeue is missing or fails.

    `squeue --me --noheader` is run once. It fails if Slurm's controller does not answer.
    """
    if shutil.which("squeue") is None:
        raise InputError(
            "squeue", "no such command, expected Slurm's on a login node of the cluster"
        )
    asked = ["squeue", "--me", "--noheader"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(" ".join(asked), f"{done.stderr.strip()}; start again when it answers")


def replace_commands(folder: Path) -> None:
    """Put a folder with replacements of Slurm commands at the front of PATH of this process.

    folder: absolute path of executables that Snakemake calls instead of Slurm's commands of the
    same name (sacct, sbatch, squeue). Child processes inherit PATH and the environment variable
    PARAVERT_RUN, the id of this process. A replacement writes what the user should know to the
    stderr of that process, each sentence once: the file .snakemake/slurm_logs/told-<id>.log in the
    working directory lists those already written. Side effects: that file is deleted if it exists,
    its folder is made, and `append_only` is applied to stderr.
    """
    os.environ["PATH"] = f"{folder}:{os.environ['PATH']}"
    os.environ["PARAVERT_RUN"] = str(os.getpid())
    told = Path(f".snakemake/slurm_logs/told-{os.getpid()}.log")
    told.parent.mkdir(parents=True, exist_ok=True)
    told.unlink(missing_ok=True)  # left by an earlier run with the same process id
    append_only(STDERR)


def append_only(descriptor: int) -> None:
    """Set an open file to append mode (O_APPEND), so that several processes can write to it.

    descriptor: file descriptor that is open in this process. No effect unless it is a regular file.
    """
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_APPEND)
