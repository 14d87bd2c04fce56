"""Four volunteers of the built-in cohort on Slurm, from drawing to report, with the slurm profile."""

import shutil

import pytest
import yaml

from paravert import cluster
from runs import OFTEN, ClusterRun
from studies import REPOSITORY, Study, assert_same, cohort_tables, copy_of_the_workflow

pytestmark = pytest.mark.cluster

SUBJECTS = ["S0001", "S0002", "S0006", "S0012"]  # S0006 has Dixon images
ON_A_GPU_NODE = ("--set-resources", "segment_muscles:slurm_partition=gpu", "segment_muscles:gpu=1")


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The study of `make demo` with four of its volunteers, of which nothing was run yet."""
    folder = tmp_path_factory.mktemp("demo")
    copy_of_the_workflow(folder)
    study = Study(folder)
    study.settings = yaml.safe_load((REPOSITORY / "config/demo.yaml").read_text())
    study.settings.update(subjects=",".join(SUBJECTS), subjects_per_shard=11)  # two shards
    return study


@pytest.fixture(scope="module")
def on_slurm(slurm, demo, tmp_path_factory):
    """That study, run on Slurm, and the run."""
    folder = tmp_path_factory.mktemp("on-slurm")
    study = demo.copy(folder / "study")
    run = ClusterRun(study, folder / "log", "--profile", "slurm", *OFTEN, *ON_A_GPU_NODE)
    status = run.end()
    assert status == 0, run.told[-5000:]
    return study, run


def test_all_subjects_of_the_demo_are_analysed_on_slurm(on_slurm):
    _, run = on_slurm
    assert run.told.strip().splitlines()[-1] == "4 subjects: 4 analysed, 0 quarantined"
    assert {job.state for job in run.jobs()} == {"COMPLETED"}


def test_segmentation_gets_the_gpu_and_its_partition_and_nothing_else_does(on_slurm):
    _, run = on_slurm
    partitions = {(job.partition, "segment_muscles" in job.comment) for job in run.jobs()}
    assert partitions == {("gpu", True), ("cpu", False)}


def test_jobs_over_the_cohort_ask_for_minutes_by_its_size(on_slurm):
    _, run = on_slurm
    minutes = {
        job.comment: job.limit_minutes for job in run.jobs() if "_wildcards_" not in job.comment
    }
    steps = {f"rule_{step}" for step in cluster.COHORT_SECONDS}
    assert steps <= set(minutes)
    assert all(minutes[step] == cluster.JOB_MINUTES for step in steps)  # four subjects add none


def test_a_second_run_on_slurm_has_nothing_to_do(on_slurm):
    study, _ = on_slurm
    again = study.run("--profile", "slurm", *OFTEN)
    assert again.returncode == 0
    assert "Nothing to be done" in again.stderr + again.stdout


def test_the_tables_are_those_of_a_run_on_this_machine(on_slurm, demo, tmp_path):
    study, _ = on_slurm
    here = demo.copy(tmp_path / "here")
    # The phantoms are the same for certain; to draw them takes a minute.
    shutil.copytree(study.folder / "results/phantoms", here.folder / "results/phantoms")
    done = here.run("--until", "fit_models", "write_tables")
    assert done.returncode == 0, done.stderr[-5000:]
    assert "Drawing the phantom volunteers" not in done.stderr
    assert_same(cohort_tables(study), cohort_tables(here))
    tables = sorted((here.folder / "results/tables").glob("*.csv"))
    assert {"contrasts", "models", "table1_iou"} <= {table.stem for table in tables}
    for table in tables:
        twin = study.folder / "results/tables" / table.name
        assert twin.read_text() == table.read_text(), table.name
