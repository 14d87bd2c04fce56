"""A run of Snakemake on the cluster while it goes on, and how its end is judged."""

import re
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pandas as pd

import looking_often
from paravert.plan import shard_plan
from slurm_jobs import Job, jobs_of
from studies import Study, cohort_tables
from waiting import wait_until

RUN_ID = r"SLURM run ID: (\S+)"
LOOK_SECONDS = 30  # less than a tenth of the time for which Slurm remembers an ended job
LONGEST_SECONDS = 1800  # of a run of these tests: a guard against one that never ends
CONVERT = ("--profile", "slurm", "--set-threads", "convert_dicom=1", "--until", "convert_dicom")
# Jobs of seconds are looked at more often than the profile has it.
OFTEN = ("--slurm-init-seconds-before-status-checks", "1", "--max-status-checks-per-second", "10")
CONVERT_ON_SLURM = (*CONVERT, *OFTEN)


class ClusterRun:
    """A Snakemake that was started on the cluster; left running ones are killed by `close`."""

    def __init__(self, study: Study, log: Path, *arguments: str):
        self._log = log
        self._seen: dict[str, Job] = {}  # by number; Slurm forgets the jobs of a long run
        often = {"program": [looking_often.__file__]} if set(OFTEN) <= set(arguments) else {}
        self._process = study.start(log, *arguments, **often)

    @property
    def told(self) -> str:
        return self._log.read_text()

    @property
    def name(self) -> str:
        """The run id, which is the name of all its jobs; waits until Snakemake has told it."""
        return wait_until(lambda: re.search(RUN_ID, self.told), "the run id")[1]

    def jobs(self, shard: str | None = None) -> list[Job]:
        """Return all jobs, or the conversions of one shard; an attempt each, in order."""
        self._seen |= {job.number: job for job in jobs_of(self.name)}
        comment = "" if shard is None else f"rule_convert_dicom_wildcards_{shard}"
        found = (job for job in self._seen.values() if comment in job.comment)
        return sorted(found, key=lambda job: int(job.number))

    def wait_for(self, holds: Callable[[], object], what: str):
        """Return the first true value of a function, as long as this run goes on."""

        def holds_or_ended():
            value = holds()
            if not value and self._process.poll() is not None:
                raise AssertionError(f"the run ended before {what}:\n{self.told}")
            return value

        return wait_until(holds_or_ended, what)

    def end(self) -> int:
        """Wait for the end of the run and return its exit status."""
        try:
            return self.wait()
        finally:
            self.close()

    def wait(self) -> int:
        """Wait for the end of the main process and return its exit status; jobs may run on."""
        latest = time.monotonic() + LONGEST_SECONDS
        while True:
            try:
                return self._process.wait(LOOK_SECONDS)
            except subprocess.TimeoutExpired:
                if time.monotonic() > latest:
                    raise
                self._look()

    def _look(self) -> None:
        """Note the jobs of now; Slurm may be away, or the run has none yet."""
        with suppress(subprocess.CalledProcessError):
            if re.search(RUN_ID, self.told):
                self.jobs()

    def send(self, how: signal.Signals) -> None:
        self._process.send_signal(how)

    def kill(self) -> None:
        """Kill -9 the main process; its jobs run on."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End all that is left of the run."""
        self.kill()
        found = re.search(RUN_ID, self.told)
        if found:
            # There may be none left to cancel.
            cancel = ["scancel", "--signal=KILL", "--full", f"--name={found[1]}"]
            subprocess.run(cancel, capture_output=True, check=False)


def shards_of(study: Study) -> dict[str, list[str]]:
    """Return the subjects with images of each shard, in the order in which they are converted."""
    subjects = [row["subject"] for row in study.rows]
    plan = shard_plan(subjects, study.settings.get("subjects_per_shard", 64))
    return {shard: [name for name in names if name != "EMPTY"] for shard, names in plan.items()}


def computed(study: Study, shard: str) -> set[str]:
    """Return whom the last conversion of a shard computed, as its log says."""
    log = (study.folder / f"results/logs/convert_dicom/{shard}.log").read_text()
    return set(re.findall(r"convert_dicom: (\w+): computed", log))


def finish(study: Study, forks: bool = True) -> dict[str, pd.DataFrame]:
    """Do on this machine what is left up to the cohort, and return its tables.

    forks: as in Study, for this run alone; jobs on the cluster are processes of their own.
    """
    study.forks = forks
    done = study.run("--max-threads", "1", "--", "results/cohort/ledger.parquet")
    study.forks = False
    assert done.returncode == 0, done.stderr[-3000:]
    return cohort_tables(study)
