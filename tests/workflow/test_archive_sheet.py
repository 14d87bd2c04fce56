"""The sheet of an archive is one that Snakemake plans and runs."""

import os
import subprocess
import sys

import pytest

from archives import five_people
from fork_server import run_snakemake
from studies import REPOSITORY, copy_of_the_workflow

pytestmark = pytest.mark.workflow


@pytest.mark.parametrize("visits", [False, True])
def test_the_sheet_of_an_archive_is_planned_without_a_change(tmp_path, visits):
    """Snakemake takes the sheet and the proposed patterns as they are, with one visit each or several."""
    copy_of_the_workflow(tmp_path)
    five_people(tmp_path / "archive", visits=visits)
    done = subprocess.run(
        [sys.executable, "-m", "paravert", "make_sheet", "archive", "--out", "my_study/sheet.csv"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "workflow")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = f"sheet.csv: subjects: 3, examinations: {5 if visits else 3}"
    assert told in done.stdout + done.stderr
    words = ["--dry-run", "--configfile", "my_study/series_description.yaml"]
    words += ["--config", "sheet=my_study/sheet.csv"]
    done = run_snakemake(words, tmp_path, os.environ, 1, commands_fork=True)
    assert done.returncode == 0, done.stderr
    planned = done.stdout + done.stderr
    assert "convert_dicom" in planned
    assert "write_report" in planned
