"""The sheet of an archive is one that Snakemake plans and runs."""

import os
import re
import subprocess
import sys

import pytest

from archives import five_people, put_series
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
    words = ["--directory", "my_study", "--configfile", "my_study/series_description.yaml"]
    assert_planned(tmp_path, [*words, "--config", "sheet=sheet.csv"])


def test_the_command_of_the_readme_plans_a_study_in_its_own_folder(tmp_path):
    copy_of_the_workflow(tmp_path)
    put_series(tmp_path / "my_study/dicom/A001", "A001", "1", "axial")
    (tmp_path / "my_study/sheet.csv").write_text("subject,images\nA001,dicom/A001\n")
    readme = (REPOSITORY / "README.md").read_text()
    (settings,) = re.findall(r"```yaml\n   (sheet: .*)\n   ```", readme)
    (tmp_path / "my_study/config.yaml").write_text(settings)
    two, everybody = re.findall(r"^   snakemake (--directory my_study .*)$", readme, re.MULTILINE)
    assert two == f"{everybody} --config subjects=A001,A002"
    assert_planned(tmp_path, everybody.split())
    assert not (tmp_path / "results").exists()


def assert_planned(folder, words):
    done = run_snakemake(["--dry-run", *words], folder, os.environ, 1, commands_fork=True)
    assert done.returncode == 0, done.stderr
    planned = done.stdout + done.stderr
    assert "convert_dicom" in planned
    assert "write_report" in planned
