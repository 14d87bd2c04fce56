"""A study in a folder of its own: a copy of the workflow, and phantoms drawn once."""

import os
import shutil
import subprocess
import sys

import pytest

from studies import REPOSITORY, Study, copy_of_the_workflow

VOLUNTEERS = ("S0001", "S0002", "S0003")


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
    return finished.copy(tmp_path / "study")
