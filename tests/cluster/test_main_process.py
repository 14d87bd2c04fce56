"""The main process is killed, asked to stop, or started twice, while a job on Slurm is at work."""

import signal

import pytest

from disturbances import Disturbance
from runs import CONVERT_ON_SLURM, ClusterRun, computed, finish, shards_of
from slurm_jobs import ask
from studies import assert_same, change_images_and_labels
from waiting import wait_until

pytestmark = pytest.mark.cluster

REFUSED = "Directory cannot be locked"


@pytest.fixture
def study(untouched, tmp_path):
    """A study of two shards of which nothing was run yet."""
    copied = untouched.copy(tmp_path / "study")
    copied.settings["subjects_per_shard"] = 8
    return copied


@pytest.fixture
def start(study, slurm, tmp_path):
    """Start runs of the study on the cluster; what a test leaves running is killed at its end."""
    started = []

    def start_one(*arguments: str) -> ClusterRun:
        log = tmp_path / f"log-{len(started)}"
        started.append(ClusterRun(study, log, *CONVERT_ON_SLURM, *arguments))
        return started[-1]

    yield start_one
    for run in started:
        run.close()


@pytest.fixture
def half_way(study):
    """The last subject of the first shard, where the job stops until it is told to go on."""
    return Disturbance(study.folder, shards_of(study)["0"][-1])


def unlock(study):
    done = study.run("--unlock")
    assert done.returncode == 0, done.stderr


def test_killed_and_recovered_as_documented(study, start, half_way, undisturbed):
    run = start()
    run.wait_for(lambda: half_way.reached, "the job half way")
    run.kill()
    (orphan,) = run.jobs("0")
    assert orphan.state == "RUNNING"
    locked = study.run(*CONVERT_ON_SLURM)
    assert locked.returncode != 0
    assert REFUSED in locked.stderr

    ask("scancel", "--name", run.name)
    wait_until(lambda: run.jobs("0")[0].state == "CANCELLED", "the orphan's end")
    unlock(study)
    again = start()
    assert again.end() == 0, again.told[-3000:]
    assert computed(study, "0") == {half_way.subject}
    assert_same(finish(study), undisturbed)


def test_a_terminal_that_closes_kills_it_and_its_jobs_run_on(start, half_way):
    run = start()
    run.wait_for(lambda: half_way.reached, "the job half way")
    run.send(signal.SIGHUP)
    assert run.wait() == -signal.SIGHUP
    assert run.jobs("0")[0].state == "RUNNING"


def test_killed_and_run_again_while_an_orphan_still_works(study, start, half_way, undisturbed):
    run = start()
    run.wait_for(lambda: half_way.reached, "the job half way")
    run.kill()
    unlock(study)
    at_the_same = Disturbance(study.folder, half_way.subject)
    again = start()
    again.wait_for(lambda: at_the_same.reached, "a second job at the same subject")
    assert run.jobs("0")[0].state == "RUNNING"

    half_way.go_on()
    wait_until(lambda: run.jobs("0")[0].state == "COMPLETED", "the orphan's end")
    at_the_same.go_on()
    assert again.end() == 0, again.told[-3000:]
    assert_same(finish(study), undisturbed)


def test_what_an_orphan_finished_unseen_does_not_outlive_its_images(
    study, start, half_way, undisturbed, tmp_path
):
    run = start()
    run.wait_for(lambda: half_way.reached, "the job half way")
    run.kill()
    half_way.go_on()
    wait_until(lambda: run.jobs("0")[0].state == "COMPLETED", "the orphan's end")
    unlock(study)
    change_images_and_labels(study)
    again = start()
    assert again.end() == 0, again.told[-3000:]
    assert_same(finish(study), finish(study.without_results(tmp_path / "fresh")))


def test_jobs_work_by_the_settings_and_the_sheet_that_the_run_began_with(
    study, start, half_way, undisturbed
):
    run = start("--jobs", "1")
    run.wait_for(lambda: half_way.reached, "the job half way")
    (study.folder / "study.yaml").write_text("subjects_per_shard: 1000\nno_such_setting: 1\n")
    (study.folder / "sheet.tsv").write_text("subject\timages\n")
    half_way.go_on()
    assert run.end() == 0, run.told[-3000:]
    assert_same(finish(study), undisturbed)


def test_terminated_it_lets_the_running_jobs_end(study, start, half_way, undisturbed):
    run = start("--jobs", "1")
    run.wait_for(lambda: half_way.reached, "the job half way")
    started = len(run.jobs())  # 2 where Snakemake chose the other shard first
    run.send(signal.SIGTERM)
    run.wait_for(lambda: "Will exit after finishing" in run.told, "the answer to SIGTERM")
    half_way.go_on()
    assert run.end() != 0
    assert [job.state for job in run.jobs()] == started * ["COMPLETED"]

    again = start()
    assert again.end() == 0, again.told[-3000:]
    left = len(shards_of(study)) - started
    assert not left or len(again.jobs()) == left
    assert_same(finish(study), undisturbed)


def test_interrupted_it_cancels_its_jobs(study, start, half_way, undisturbed):
    # What a shell starts in the background ignores this signal, and so do its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    run = start()
    run.wait_for(lambda: half_way.reached, "the job half way")
    run.send(signal.SIGINT)
    assert run.end() != 0
    wait_until(lambda: run.jobs("0")[0].state == "CANCELLED", "the job's end")

    again = start()
    assert again.end() == 0, again.told[-3000:]
    assert computed(study, "0") == {half_way.subject}
    assert_same(finish(study), undisturbed)


def test_a_second_run_is_refused_and_without_lock_both_end_well(
    study, start, half_way, undisturbed
):
    first = start()
    first.wait_for(lambda: half_way.reached, "the job half way")
    refused = study.run(*CONVERT_ON_SLURM)
    assert refused.returncode != 0
    assert REFUSED in refused.stderr

    second = start("--nolock")
    assert second.end() == 0, second.told[-3000:]
    half_way.go_on()
    assert first.end() == 0, first.told[-3000:]
    assert_same(finish(study), undisturbed)
