"""A study in a folder of its own: a copy of the workflow, and phantoms drawn once."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
PARTS = ("Snakefile", "workflow", "config", "models", "profiles", "envs")
VOLUNTEERS = ("S0001", "S0002", "S0003")


class Study:
    """A clone of the workflow with its own sheet, which runs Snakemake and reads its results."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.rows: list[dict[str, str]] = []
        self.settings: dict = {"sheet": "sheet.tsv", "write_tables": {"bootstrap_samples": 100}}

    def add(self, subject: str, images: Path, **columns: str) -> None:
        self.rows.append({"subject": subject, "images": str(images), **columns})

    def run(self, *arguments: str) -> subprocess.CompletedProcess:
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        with (self.folder / "sheet.tsv").open("w", newline="") as file:
            writer = csv.DictWriter(file, names, delimiter="\t", restval="")
            writer.writeheader()
            writer.writerows(self.rows)
        (self.folder / "study.yaml").write_text(yaml.safe_dump(self.settings))
        command = [sys.executable, "-m", "snakemake", "--configfile", "study.yaml", *arguments]
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )

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


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory):
    """The first volunteers of the built-in cohort, drawn once."""
    folder = tmp_path_factory.mktemp("phantoms")
    command = [sys.executable, "-m", "paravert", "make_phantoms", "--out", str(folder)]
    command += ["--seed", "2021", "--workers", "2"]
    for subject in VOLUNTEERS:
        command += ["--subject", subject]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "workflow")}
    subprocess.run(command, check=True, env=environment, capture_output=True)
    return folder


def copy_of_the_workflow(folder: Path) -> None:
    for part in PARTS:
        source = REPOSITORY / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, folder / part)


@pytest.fixture(scope="session")
def finished(tmp_path_factory, phantoms):
    """A finished study: volunteers, an empty folder and a subject with cut-off pixel data."""
    folder = tmp_path_factory.mktemp("study")
    copy_of_the_workflow(folder)
    study = Study(folder)
    for number, subject in enumerate(VOLUNTEERS):
        study.add(
            subject,
            phantoms / subject / "dicom",
            truth=str(phantoms / subject / "truth.nii.gz"),
            sex="FM"[number % 2],
            age_years=str(30 + 10 * number),
            height_cm="170",
        )
    (folder / "empty").mkdir()
    study.add("EMPTY", folder / "empty")
    shutil.copytree(phantoms / "S0001/dicom", folder / "cut")
    for file in (folder / "cut").rglob("*.dcm"):
        file.write_bytes(file.read_bytes()[:-1000])
    study.add("CUT", folder / "cut")
    study.first_run = study.run()
    return study


@pytest.fixture
def study(finished, tmp_path):
    """A copy of the finished study that a test may change."""
    folder = tmp_path / "study"
    shutil.copytree(finished.folder, folder, symlinks=True)
    copied = Study(folder)
    copied.rows = [dict(row) for row in finished.rows]
    copied.settings = dict(finished.settings)
    return copied
