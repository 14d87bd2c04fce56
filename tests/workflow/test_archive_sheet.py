"""The sheet of an archive is one that Snakemake plans and runs."""

import os
import subprocess
import sys

import pytest

from archives import five_people
from studies import REPOSITORY, copy_of_the_workflow

pytestmark = pytest.mark.workflow


def run(folder, *words):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "workflow")}
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("visits", [False, True])
def test_the_sheet_of_an_archive_is_planned_without_a_change(tmp_path, visits):
    """Snakemake takes the sheet and the proposed patterns as they are, with one visit each or several."""
    copy_of_the_workflow(tmp_path)
    five_people(tmp_path / "archive", visits=visits)
    told = run(tmp_path, "paravert", "make_sheet", "archive", "--out", "my_study/sheet.csv")
    assert f"sheet.csv: subjects: 3, examinations: {5 if visits else 3}" in told
    planned = run(
        tmp_path,
        "snakemake",
        "--dry-run",
        "--configfile",
        "my_study/series_description.yaml",
        "--config",
        "sheet=my_study/sheet.csv",
    )
    assert "convert_dicom" in planned
    assert "write_report" in planned
