"""Four jobs of one run on Slurm, each disturbed in a way of its own, and what became of them."""

from dataclasses import dataclass, field

import pytest
import yaml

from disturbances import Disturbance
from runs import CONVERT_ON_SLURM, OFTEN, ClusterRun, computed, finish, shards_of
from slurm_jobs import Job, ask, kill_job
from studies import Study, assert_same

pytestmark = pytest.mark.cluster

FAULTS = ("out of memory", "over time", "cancelled twice", "killed")
MORE_THAN_ALLOWED = 1.2  # of the memory of the first attempt; less than a second one gets
# What the partition is said to have; a third attempt would want more of both.
LARGEST_MB, LONGEST_MINUTES = 2500, 30


@dataclass
class Disturbed:
    """A study, the shard whose job each fault struck, and the attempts at that job."""

    study: Study
    shards: dict[str, str]
    status: int = -1
    told: str = ""
    granted_minutes: int = 0  # to the job over time, at first
    attempts: dict[str, list[Job]] = field(default_factory=dict)

    def computed_again(self, fault: str) -> set[str]:
        return computed(self.study, self.shards[fault])

    def struck(self, fault: str) -> str:
        return shards_of(self.study)[self.shards[fault]][-1]


def bound(study: Study) -> None:
    """Name the bounds in the study's profile, as a user would."""
    profile = study.folder / "profiles/slurm/config.yaml"
    settings = yaml.safe_load(profile.read_text())
    settings["resources"].update(mem_mb=LARGEST_MB, runtime=LONGEST_MINUTES)
    profile.write_text(yaml.safe_dump(settings))


@pytest.fixture(scope="module")
def disturbed(slurm, untouched, tmp_path_factory):
    """A run on Slurm of which each job is struck at the last subject of its shard."""
    folder = tmp_path_factory.mktemp("job-faults")
    study = untouched.copy(folder / "study")
    study.settings["subjects_per_shard"] = 4
    bound(study)
    shards = shards_of(study)
    result = Disturbed(study, dict(zip(FAULTS, shards, strict=True)))
    at = {fault: Disturbance(study.folder, result.struck(fault)) for fault in FAULTS}
    run = ClusterRun(study, folder / "log", *CONVERT_ON_SLURM)
    run.wait_for(lambda: all(one.reached for one in at.values()), "four jobs at their disturbances")
    first = {fault: run.jobs(shard)[0] for fault, shard in result.shards.items()}

    result.granted_minutes = first["over time"].limit_minutes
    ask("scontrol", "update", f"JobId={first['over time'].number}", "TimeLimit=1")
    at["out of memory"].go_on(round(MORE_THAN_ALLOWED * first["out of memory"].memory_mb))
    once_more = Disturbance(study.folder, result.struck("cancelled twice"))
    ask("scancel", first["cancelled twice"].number)
    kill_job(first["killed"].number)
    run.wait_for(lambda: once_more.reached, "the cancelled job at its disturbance again")
    ask("scancel", run.jobs(result.shards["cancelled twice"])[-1].number)

    result.status, result.told = run.end(), run.told
    result.attempts = {fault: run.jobs(shard) for fault, shard in result.shards.items()}
    return result


@pytest.mark.parametrize(
    ("fault", "states"),
    [
        ("out of memory", ["OUT_OF_MEMORY"]),
        ("over time", ["TIMEOUT"]),
        ("cancelled twice", ["CANCELLED", "CANCELLED"]),
        ("killed", ["FAILED"]),
    ],
)
def test_a_struck_job_is_done_again(disturbed, fault, states):
    found = [job.state for job in disturbed.attempts[fault]]
    # Slurm tells want of memory from another failure only where the kernel reports it.
    told = [state.replace("OUT_OF_MEMORY", "FAILED") for state in states]
    assert found in ([*states, "COMPLETED"], [*told, "COMPLETED"])


def test_a_job_out_of_memory_gets_more(disturbed):
    first, second = disturbed.attempts["out of memory"]
    assert second.memory_mb == 2 * first.memory_mb


def test_a_job_over_time_gets_longer(disturbed):
    _, second = disturbed.attempts["over time"]
    assert second.limit_minutes == 2 * disturbed.granted_minutes


def test_no_attempt_asks_for_more_than_the_partition_has(disturbed):
    *_, third = disturbed.attempts["cancelled twice"]
    assert (third.memory_mb, third.limit_minutes) == (LARGEST_MB, LONGEST_MINUTES)


@pytest.mark.parametrize("fault", FAULTS)
def test_the_last_attempt_computes_only_what_is_missing(disturbed, fault):
    assert disturbed.computed_again(fault) == {disturbed.struck(fault)}


def test_the_run_ends_well_and_its_tables_are_those_of_an_undisturbed_one(disturbed, undisturbed):
    assert disturbed.status == 0, disturbed.told[-3000:]
    assert_same(finish(disturbed.study), undisturbed)


def test_a_training_that_fails_leaves_the_earlier_model_of_its_name(slurm, untouched, tmp_path):
    study = untouched.copy(tmp_path / "study")
    models = study.folder / "results/models"
    models.mkdir(parents=True)
    suffixes = ("safetensors", "json", "yaml", "curve.csv", "curve.png", "split.csv")
    files = {models / f"own.{suffix}": suffix for suffix in suffixes}
    for file, suffix in files.items():
        file.write_text(suffix)
    study.settings["train_network"] = {"size_px": 100}
    asked = ("--set-threads", "convert_dicom=1", "train_network=1", "--forcerun", "train_network")
    run = ClusterRun(
        study, tmp_path / "log", "--profile", "slurm", *OFTEN, *asked, "--", "train_network"
    )
    assert run.end() != 0
    assert "size_px 100, expected a multiple of 32" in run.told
    assert {file: file.read_text() for file in files} == files
