"""What keeps jobs from the queue or in it: the run waits, and tells it; none uses up an attempt."""

import re
import shlex
import subprocess

import pytest

from runs import CONVERT_ON_SLURM, ClusterRun, finish
from slurm_jobs import ask
from slurm_settings import NODES
from studies import REPOSITORY, assert_same

pytestmark = pytest.mark.cluster

ALL_NODES = f"NodeName={','.join(NODES)}"
MANUAL = (REPOSITORY / "docs/cluster.md").read_text()
INACTIVE = "Slurm: Required partition not available (inactive or drain)"
AWAY = "Slurm: Unable to contact slurm controller (connect failure)"
DRAINED = re.compile(r"Slurm: jobs wait in the queue: (ReqNodeNotAvail|Nodes required for job are)")


def change(what, **settings):
    ask("scontrol", "update", what, *(f"{key}={value}" for key, value in settings.items()))


@pytest.fixture(scope="module")
def study(untouched, tmp_path_factory):
    """A study of one job."""
    return untouched.copy(tmp_path_factory.mktemp("obstructed") / "study")


@pytest.fixture(scope="module")
def run(slurm, study):
    """Its run, started where the partition is inactive and every node drained."""
    change(ALL_NODES, State="DRAIN", Reason="test")
    change("PartitionName=cpu", State="INACTIVE")
    run = ClusterRun(study, study.folder / "log", *CONVERT_ON_SLURM)
    yield run
    run.close()


@pytest.fixture(scope="module")
def status(slurm, run):
    """The exit status of that run, which found no partition, then no controller, then no node."""
    run.wait_for(lambda: INACTIVE in run.told, "the want of a partition")
    slurm.stop_controller()
    run.wait_for(lambda: AWAY in run.told, "the want of a controller")
    slurm.start_controller()  # its partitions are up, its nodes still drained
    run.wait_for(lambda: DRAINED.search(run.told), "the want of a node")
    change(ALL_NODES, State="RESUME")
    return run.end()


def test_a_job_waits_for_partition_controller_and_node_in_its_first_attempt(run, status):
    assert status == 0, run.told[-3000:]
    assert "Trying to restart" not in run.told
    assert [job.state for job in run.jobs()] == ["COMPLETED"]


@pytest.mark.parametrize("sentence", [INACTIVE, AWAY])
@pytest.mark.usefixtures("status")
def test_what_a_job_waits_for_is_told_once(run, sentence):
    assert run.told.count(sentence) == 1


@pytest.mark.usefixtures("status")
def test_the_tables_are_those_of_an_undisturbed_run(study, undisturbed):
    assert_same(finish(study), undisturbed)


def test_a_start_without_controller_ends_with_one_sentence(slurm, untouched, tmp_path):
    study = untouched.copy(tmp_path / "study")
    slurm.stop_controller()
    done = study.run(*CONVERT_ON_SLURM)
    slurm.start_controller()
    assert done.returncode != 0
    (told,) = [line for line in done.stderr.splitlines() if "Unable to contact" in line]
    assert told.endswith("start again when it answers")
    assert "Traceback" not in done.stderr
    assert "Converting" not in done.stderr


@pytest.fixture
def waiting(slurm):
    """Two jobs that cannot start: the one is longer than the partition allows, the other held."""
    change("PartitionName=gpu", MaxTime="5")
    submit = ("sbatch", "--parsable", "--output=/dev/null", "--wrap=true")
    too_long = ask(*submit, "--partition=gpu", "--time=10").strip()
    held = ask(*submit, "--begin=now+1hour").strip()
    ask("scontrol", "hold", held)
    yield too_long, held
    ask("scancel", too_long, held)
    change("PartitionName=gpu", MaxTime="INFINITE")


def test_the_line_of_the_readme_says_why_jobs_wait(waiting):
    (line,) = re.findall(r"`(squeue --me [^`]+)`", MANUAL)
    reasons = {row.split()[0]: row.split()[-1] for row in ask(*shlex.split(line)).splitlines()}
    too_long, held = waiting
    assert reasons[held] == "JobHeldAdmin"
    assert f"Reason={reasons[too_long]} " in ask("scontrol", "show", "job", too_long)
    assert reasons[too_long].startswith("Partition")  # Config or TimeLimit, by the version


def test_the_line_of_the_readme_shows_partitions_with_time_memory_and_gpus(slurm):
    (line,) = re.findall(r"^(sinfo [^#\n]+)", MANUAL, re.MULTILINE)
    done = subprocess.run(line, shell=True, check=True, capture_output=True, text=True)
    assert ["gpu", "infinite", "16000", "gpu:1"] in map(str.split, done.stdout.splitlines())
