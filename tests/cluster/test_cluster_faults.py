"""Jobs lose their place: a node dies, another job is preferred, the controller is away for a while."""

import pytest

from disturbances import Disturbance
from runs import CONVERT, CONVERT_ON_SLURM, ClusterRun, computed, finish, shards_of
from slurm_jobs import ask
from studies import assert_same

pytestmark = pytest.mark.cluster


def test_a_job_on_a_dead_node_is_done_again_on_another(slurm, untouched, undisturbed, tmp_path):
    study = untouched.copy(tmp_path / "study")
    study.settings["subjects_per_shard"] = 8
    at = Disturbance(study.folder, shards_of(study)["0"][-1])
    run = ClusterRun(study, tmp_path / "log", *CONVERT_ON_SLURM)
    run.wait_for(lambda: at.reached, "the job half way")
    dead = run.jobs("0")[0].node
    slurm.kill_node(dead)
    assert run.end() == 0, run.told[-3000:]
    first, second = run.jobs("0")
    slurm.start_node(dead)
    assert (first.state, first.node) == ("NODE_FAIL", dead)
    assert second.state == "COMPLETED"
    assert second.node != dead
    assert computed(study, "0") == {at.subject}
    assert_same(finish(study), undisturbed)


def test_a_preempted_job_is_done_again(slurm, untouched, undisturbed, tmp_path):
    study = untouched.copy(tmp_path / "study")
    at = Disturbance(study.folder, shards_of(study)["0"][-1])
    run = ClusterRun(study, tmp_path / "log", *CONVERT_ON_SLURM)
    run.wait_for(lambda: at.reached, "the job half way")
    place = f"--nodelist={run.jobs('0')[0].node}"
    ask("sbatch", "--partition=urgent", place, "--exclusive", "--output=/dev/null", "--wrap=true")
    assert run.end() == 0, run.told[-3000:]
    assert [job.state for job in run.jobs("0")] == ["PREEMPTED", "COMPLETED"]
    assert computed(study, "0") == {at.subject}
    assert_same(finish(study), undisturbed)


def test_a_controller_that_is_away_loses_no_job(slurm, untouched, undisturbed, tmp_path):
    study = untouched.copy(tmp_path / "study")
    at = Disturbance(study.folder, shards_of(study)["0"][-1])
    run = ClusterRun(study, tmp_path / "log", *CONVERT, "--verbose")
    run.wait_for(lambda: at.reached, "the job half way")
    slurm.stop_controller()
    missed = "could not check status"
    run.wait_for(lambda: run.told.count(missed) >= 4, "queries without answer")
    slurm.start_controller()
    at.go_on()
    assert run.end() == 0, run.told[-3000:]
    assert [job.state for job in run.jobs()] == ["COMPLETED"]
    assert_same(finish(study), undisturbed)
