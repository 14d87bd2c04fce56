"""A study in a folder of its own: a copy of the workflow, a sheet, and how to run Snakemake on it."""

import csv
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from compileall import compile_dir
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from dicom_writer import Plan, labels_phantom, write_nifti, write_series
from disturbances import DISTURBANCES
from fork_server import run_snakemake
from paravert.codebook import COHORT_TABLES

REPOSITORY = Path(__file__).parents[1]
MODEL = yaml.safe_load((REPOSITORY / "config/config.yaml").read_text())["model"]
LEDGER = "results/cohort/ledger.parquet"
PARTS = ("Snakefile", "workflow", "config", "models", "profiles", "slurm", "envs")


class Study:
    """A clone of the workflow with its own sheet, which runs Snakemake and reads its results.

    forks: whether the commands of paravert, in `run`, fork from a server that has imported what they
    need, which takes a fraction of the processor time.
    hash_seed: PYTHONHASHSEED in `run`; another one in a study with which others are compared.
    """

    forks = False
    hash_seed = 1

    def __init__(self, folder: Path):
        self.folder = folder
        self.rows: list[dict[str, str]] = []
        self.settings: dict = {"sheet": "sheet.tsv", "write_tables": {"bootstrap_samples": 100}}

    def add(self, subject: str, images: Path, **columns: str) -> None:
        self.rows.append({"subject": subject, "images": str(images), **columns})

    def copy(self, folder: Path) -> "Study":
        """Return a copy that may be changed without a change of this one."""
        shutil.copytree(self.folder, folder, symlinks=True)
        copied = Study(folder)
        copied.rows = [dict(row) for row in self.rows]
        copied.settings = dict(self.settings)
        return copied

    def without_results(self, folder: Path) -> "Study":
        """Return a copy in which nothing was run yet."""
        copied = self.copy(folder)
        shutil.rmtree(folder / "results")
        return copied

    def run(self, *arguments: str) -> subprocess.CompletedProcess:
        """Run Snakemake to its end."""
        place = self._place()
        return run_snakemake(
            self._arguments(arguments),
            place["cwd"],
            place["env"],
            self.hash_seed,
            commands_fork=self.forks,
        )

    def gather(self, *arguments: str) -> subprocess.CompletedProcess:
        """Run Snakemake as far as the tables of the cohort."""
        return self.run(*arguments, "--", LEDGER)

    def start(
        self, log: Path, *arguments: str, program: Sequence[str] = ("-m", "snakemake")
    ) -> subprocess.Popen:
        """Start Snakemake, which tells what it does in a file; program: how Python runs it."""
        with log.open("w") as file:
            return subprocess.Popen(
                [sys.executable, *program, *self._arguments(arguments)],
                stdout=file,
                stderr=file,
                preexec_fn=_interruptible,
                **self._place(),
            )

    def _arguments(self, arguments: tuple[str, ...]) -> list[str]:
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        with (self.folder / "sheet.tsv").open("w", newline="") as file:
            writer = csv.DictWriter(file, names, delimiter="\t", restval="")
            writer.writeheader()
            writer.writerows(self.rows)
        (self.folder / "study.yaml").write_text(yaml.safe_dump(self.settings))
        return ["--configfile", "study.yaml", *arguments]

    def _place(self) -> dict:
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        return {"cwd": self.folder, "env": environment}

    def planned(self, *arguments: str) -> set[str]:
        """Return the rules that a run would do, from its table of jobs."""
        done = self.run("--dry-run", *arguments)
        assert done.returncode == 0, done.stderr
        table = (done.stdout + done.stderr).partition("Job stats:")[2].partition("total")[0]
        rules = {line.split()[0] for line in table.splitlines() if line.strip()}
        assert bool(rules) != ("Nothing to be done" in done.stdout + done.stderr)
        return {rule for rule in rules if rule[0] != "-"} - {"job", "all"}

    def log(self, rule: str) -> str:
        logs = sorted((self.folder / "results/logs" / rule).glob("*.log"))
        return "".join(file.read_text() for file in logs)


def _interruptible() -> None:
    """Let SIGINT and SIGHUP through, which a shell or nohup has ignored by what it starts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def cohort_tables(study: Study) -> dict[str, pd.DataFrame]:
    """Return the cohort's tables, rows ordered by their keys."""
    found = {}
    for table in COHORT_TABLES:
        frame = pd.read_parquet(study.folder / f"results/cohort/{table.name}.parquet")
        keys = [key for key in (table.keys[0], "visit", *table.keys[1:]) if key in frame]
        found[table.name] = frame.sort_values(keys, ignore_index=True)
    return found


def assert_same(found: dict[str, pd.DataFrame], expected: dict[str, pd.DataFrame]) -> None:
    """Compare the tables of two runs, value by value, nothing rounded."""
    assert found.keys() == expected.keys()
    for name, table in expected.items():
        pd.testing.assert_frame_equal(found[name], table, check_exact=True, obj=name)


def plan_of(number: int) -> Plan:
    """Return where the small series of a subject lies; areas differ from subject to subject."""
    return Plan(gap=5.0 + 0.1 * number, row_spacing=3.0 + 0.05 * number)


def put_labels(study: Study, number: int) -> str:
    """Write a label map for the images of a plan; return its name."""
    file = study.folder / f"labels-{number}.nii.gz"
    return write_nifti(file, plan_of(number), labels_phantom, dtype=np.uint8).name


def change_images_and_labels(study: Study) -> None:
    """Give the first subject other images and the labels that belong to them."""
    row = study.rows[0]
    write_series(study.folder / row["images"], plan_of(8))
    row |= dict.fromkeys(("labels", "truth"), put_labels(study, 8))


def small_cohort(folder: Path, subjects: Sequence[str]) -> Study:
    """Return a cohort of small series that was never run, ready for disturbances.

    Labels are given, so that no network is asked. One more subject, EMPTY, has no images.
    """
    copy_of_the_workflow(folder)
    shutil.copy(DISTURBANCES, folder / "workflow/sitecustomize.py")
    study = Study(folder)
    for number, subject in enumerate(subjects):
        plan = plan_of(number)
        write_series(folder / "images" / subject, plan)
        labels = write_nifti(folder / f"{subject}.nii.gz", plan, labels_phantom, dtype=np.uint8)
        columns = {"labels": labels.name, "truth": labels.name, "age_years": str(30 + number)}
        study.add(subject, f"images/{subject}", sex="FM"[number % 2], **columns)
    (folder / "images/EMPTY").mkdir()
    study.add("EMPTY", "images/EMPTY")
    return study


def copy_of_the_workflow(folder: Path) -> None:
    """Copy all that a run needs into a folder."""
    for part in PARTS:
        source = REPOSITORY / part
        if source.is_symlink():
            (folder / part).symlink_to(source.readlink())
        elif source.is_dir():
            shutil.copytree(
                source, folder / part, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy2(source, folder / part)
    compile_dir(folder / "workflow", quiet=1)  # each command would compile what it imports
