"""A study in a folder of its own: a copy of the workflow, and phantoms drawn once."""

import fcntl
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from studies import REPOSITORY, Study, copy_of_the_workflow

Study.forks = True
VOLUNTEERS = ("S0001", "S0002", "S0003")


def made_once(
    tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]
) -> Path:
    """Return a folder that all test processes share; the first one fills it by make(folder)."""
    home = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # each process has a folder of its own below this one
        home = home.parent
    folder, done = home / name, home / f"{name}.done"
    with (home / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            done.touch()
    return folder


def _draw(folder: Path) -> None:
    command = [sys.executable, "-m", "paravert", "make_phantoms", "--out", str(folder)]
    command += ["--seed", "2021", "--workers", "2"]
    for subject in VOLUNTEERS:
        command += ["--subject", subject]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "workflow")}
    subprocess.run(command, check=True, env=environment, capture_output=True)


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory):
    """The first volunteers of the built-in cohort, drawn once."""
    return made_once(tmp_path_factory, "phantoms", _draw)


@pytest.fixture(scope="session")
def finished(tmp_path_factory, phantoms):
    """A finished study: volunteers, an empty folder and a subject with cut-off pixel data."""

    def make(folder: Path) -> None:
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
        study.hash_seed = 2  # runs of the tests are compared with it
        study.first_run = study.run()
        folder.with_suffix(".pickle").write_bytes(pickle.dumps(study))

    folder = made_once(tmp_path_factory, "study", make)
    return pickle.loads(folder.with_suffix(".pickle").read_bytes())


@pytest.fixture
def study(finished, tmp_path):
    """A copy of the finished study that a test may change."""
    return finished.copy(tmp_path / "study")
