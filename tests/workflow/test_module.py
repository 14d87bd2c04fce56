"""The workflow as a module of another workflow, in a folder that holds nothing of ours."""

import csv
import re
import subprocess

import numpy as np
import pandas as pd
import pytest

from dicom_writer import labels_phantom, write_nifti, write_series
from fork_server import run_snakemake
from installed import install, plain_environment, source_of_the_package
from studies import REPOSITORY, copy_of_the_workflow, plan_of

pytestmark = pytest.mark.workflow

SNAKEFILE = """
configfile: "theirs.yaml"

rule areas:
    input:
        expand("{{results}}/shards/{{shard}}/area.parquet", results="lumbar/out", shard={subjects})
    output:
        "areas.txt"
    shell:
        "python -c 'import sys; print(len(sys.argv) - 1)' {{input}} > {{output}}"

module paravert:
    snakefile: "{snakefile}"
    config: config["paravert"]
    pathvars:
        results="lumbar/out"

use rule * from paravert as lumbar_*

use rule measure_area from paravert as lumbar_measure_area with:
    threads: 1
"""
SETTINGS = "theirs: 1\nparavert:\n  sheet: scans.csv\n  subjects_per_shard: 1\n"


class Foreign:
    """Somebody's workflow that imports ours.

    python: that runs Snakemake and its jobs; None: they fork from the server of the tests.
    """

    def __init__(self, folder, subjects, snakefile=REPOSITORY / "workflow/Snakefile", python=None):
        self.folder = folder
        self.python = python
        text = SNAKEFILE.format(snakefile=snakefile, subjects=subjects)
        (folder / "Snakefile").write_text(text)
        (folder / "theirs.yaml").write_text(SETTINGS)
        rows = []
        for number, subject in enumerate(subjects):
            write_series(folder / "scans" / subject, plan_of(number))
            labels = folder / f"{subject}.nii.gz"
            write_nifti(labels, plan_of(number), labels_phantom, dtype=np.uint8)
            row = {"subject": subject, "images": f"scans/{subject}", "labels": labels.name}
            rows.append(row)
        with (folder / "scans.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    def run(self, *arguments):
        environment = plain_environment() | {"PATH": "/usr/bin:/bin"}
        arguments = ["--cores", "2", *arguments]
        if self.python is None:
            done = run_snakemake(arguments, self.folder, environment, 1, commands_fork=True)
        else:
            done = subprocess.run(
                [self.python, "-m", "snakemake", *arguments],
                cwd=self.folder,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
        return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    foreign = Foreign(tmp_path_factory.mktemp("foreign"), ["A1", "A2"])
    foreign.first = foreign.run()
    return foreign


def test_rules_of_a_module_convert_segment_and_measure(foreign):
    status, told = foreign.first
    assert status == 0, told[-3000:]
    assert (foreign.folder / "areas.txt").read_text() == "2\n"
    for subject in ("A1", "A2"):
        table = pd.read_parquet(foreign.folder / f"lumbar/out/shards/{subject}/area.parquet")
        assert (table.csa_mm2 > 0).any()
        assert (foreign.folder / f"lumbar/out/subjects/{subject}/image/stack-01.nii.gz").is_file()


def test_all_files_of_a_module_are_below_the_folder_that_was_asked_for(foreign):
    assert not (foreign.folder / "results").exists()
    logs = {path.name for path in (foreign.folder / "lumbar/out/logs").iterdir()}
    assert logs == {"convert_dicom", "segment_muscles", "measure_area"}


def test_a_second_run_of_a_module_has_nothing_to_do(foreign):
    assert "Nothing to be done" in foreign.run()[1]


def test_the_importing_workflow_keeps_its_default_target_and_all_of_ours_is_there(foreign):
    status, told = foreign.run("--dry-run", "lumbar_all", "lumbar_all_dicomseg")
    assert status == 0, told[-3000:]
    planned = set(re.findall(r"^lumbar_(\w+) +\d+$", told, re.MULTILINE))
    assert {"gather_cohort", "write_report", "dicomseg", "measure_fat"} <= planned
    assert "convert_dicom" not in planned


# As a cluster's jobs are started: Snakemake again, for one job.
def test_a_job_of_a_module_runs_in_a_process_of_its_own(foreign):
    table = foreign.folder / "lumbar/out/shards/A1/fat.parquet"
    status, told = foreign.run("--dry-run", str(table.relative_to(foreign.folder)))
    assert status == 0, told[-3000:]
    job = ("--mode", "subprocess", "--nolock", "--allowed-rules", "lumbar_measure_fat")
    status, told = foreign.run(*job, "--target-jobs", "lumbar_measure_fat:shard=A1")
    assert status == 0, told[-3000:]
    assert table.is_file()


def test_an_edited_configuration_reaches_the_next_run_only(foreign):
    file = foreign.folder / "theirs.yaml"
    file.write_text(SETTINGS.replace("scans.csv", "none.csv"))
    try:
        job = ("--mode", "subprocess", "--nolock", "--allowed-rules", "lumbar_measure_area")
        status, told = foreign.run(*job, "--target-jobs", "lumbar_measure_area:shard=A1")
        assert status == 0, told[-3000:]
        status, told = foreign.run()
        assert status == 1
        assert "none.csv: no such file" in told
    finally:
        file.write_text(SETTINGS)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("  sheet: scans.csv\n", "  sheets: scans.csv\n", "unknown setting sheets, did you mean"),
        ("theirs: 1\n", "theirs: 2\n", None),
    ],
)
def test_settings_of_a_module_are_checked_and_those_beside_them_are_not(
    foreign, old, new, sentence
):
    file = foreign.folder / "theirs.yaml"
    file.write_text(SETTINGS.replace(old, new))
    try:
        status, told = foreign.run("--dry-run")
        assert status == (1 if sentence else 0), told[-3000:]
        assert sentence is None or sentence in told
    finally:
        file.write_text(SETTINGS)


def test_a_prefix_is_refused_in_a_sentence(foreign, tmp_path):
    file = foreign.folder / "prefixed.smk"
    text = (foreign.folder / "Snakefile").read_text()
    file.write_text(
        text.replace('    pathvars:\n        results="lumbar/out"', '    prefix: "lumbar"')
    )
    status, told = foreign.run("--snakefile", file.name, "--dry-run")
    assert status == 1
    assert "expected `pathvars: results=...`" in told


# As from a host of repositories: Snakemake reads the rules from git, the package is installed by pip.
@pytest.mark.long
def test_a_module_from_git_works_with_the_installed_package(tmp_path):
    places = [tmp_path / name for name in ("source", "environment", "repository", "foreign")]
    for place in places:
        place.mkdir()
    source, environment, repository, folder = places
    python = install(environment, source_of_the_package(source))
    copy_of_the_workflow(repository)
    for words in (("init", "--initial-branch=main"), ("add", "."), ("commit", "-m", "all")):
        who = ("-c", "user.name=none", "-c", "user.email=none@localhost")
        subprocess.run(["git", *who, *words], cwd=repository, check=True, capture_output=True)
    snakefile = f"git+file://{repository}/workflow/Snakefile@main"
    foreign = Foreign(folder, ["A1"], snakefile, python)
    (repository / "workflow").rename(repository / "moved")  # only what git holds is read
    status, told = foreign.run()
    assert status == 0, told[-3000:]
    assert (folder / "areas.txt").read_text() == "1\n"
