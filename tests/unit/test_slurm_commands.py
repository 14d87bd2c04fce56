"""The commands that stand before Slurm's own, with Slurm played by scripts."""

import os
import subprocess
from pathlib import Path

import pytest

from paravert.cluster import append_only, check_controller
from paravert.errors import InputError

COMMANDS = Path(__file__).parents[2] / "profiles/slurm/commands"
ASKED = ("-X", "--parsable2", "--noheader", "--format=JobIdRaw,State", "--name", "run-1")
AWAY = "Batch job submission failed: Unable to contact slurm controller (connect failure)"
INACTIVE = "Batch job submission failed: Required partition not available (inactive or drain)"
REFUSED = "Batch job submission failed: Requested node configuration is not available"


@pytest.fixture
def call(tmp_path):
    """Call commands in a run whose output is a file, with the scripts of tmp_path as Slurm."""
    (tmp_path / ".snakemake/slurm_logs").mkdir(parents=True)
    with (tmp_path / "output").open("a") as output:
        run = subprocess.Popen(["sleep", "60"], stderr=output)
    path = f"{COMMANDS}:{tmp_path}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PARAVERT_RUN": str(run.pid)}

    def called(*words):
        return subprocess.run(
            words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    yield called
    run.kill()
    run.wait()


def script(folder, name, text):
    (folder / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
    (folder / name).chmod(0o755)


def told(folder):
    return (folder / "output").read_text().splitlines()


def fails_twice(folder, message):
    """Let sbatch fail with this message until the second pause."""
    script(folder, "sleep", f"echo paused >> {folder}/pauses")
    answer = f'[ "$(grep -c . {folder}/pauses)" = 2 ] && echo 17 && exit'
    script(folder, "sbatch", f"{answer}\necho 'sbatch: error: {message}' >&2; exit 1")
    (folder / "pauses").touch()


@pytest.mark.parametrize("message", [AWAY, INACTIVE])
def test_a_submission_waits_for_controller_and_partition_and_tells_it_once(call, tmp_path, message):
    fails_twice(tmp_path, message)
    done = call("sbatch", "--parsable")
    assert (done.returncode, done.stdout) == (0, "17\n")
    (line,) = told(tmp_path)
    assert message.partition(": ")[2] in line


def test_a_submission_that_can_never_succeed_fails_at_once(call, tmp_path):
    fails_twice(tmp_path, REFUSED)
    done = call("sbatch", "--parsable")
    assert done.returncode == 1
    assert REFUSED in done.stderr
    assert told(tmp_path) == []


def test_a_preempted_job_counts_as_cancelled(call, tmp_path):
    script(tmp_path, "squeue", "echo '3|PREEMPTED|None'; echo '4|RUNNING|None'")
    assert call("squeue").stdout == "3|CANCELLED|None\n4|RUNNING|None\n"


def test_a_reason_for_which_jobs_wait_is_told_once_unless_it_is_a_usual_one(call, tmp_path):
    waiting = ("Priority", "PartitionTimeLimit", "PartitionTimeLimit", "ReqNodeNotAvail, n[1-2]")
    lines = "\n".join(f"echo '{number}|PENDING|{why}'" for number, why in enumerate(waiting))
    script(tmp_path, "squeue", lines)
    assert [call("squeue").returncode for _ in range(2)] == [0, 0]
    expected = ("PartitionTimeLimit", "ReqNodeNotAvail, n[1-2]")
    assert told(tmp_path) == [f"Slurm: jobs wait in the queue: {why}" for why in expected]


def test_states_are_unknown_while_the_controller_does_not_answer(call, tmp_path):
    script(tmp_path, "squeue", "exit 1")
    assert call("squeue").returncode == 1


def test_with_accounting_a_cancelled_job_is_one_for_snakemake_too(call, tmp_path):
    script(tmp_path, "sacct", "echo '3|CANCELLED by 0'; echo '4|PREEMPTED'; echo '5|TIMEOUT'")
    assert call("sacct", *ASKED).stdout == "3|CANCELLED\n4|CANCELLED\n5|TIMEOUT\n"


def test_without_accounting_squeue_is_asked_for_the_jobs_of_the_run(call, tmp_path):
    script(tmp_path, "sacct", "echo 'Slurm accounting storage is disabled' >&2; exit 1")
    script(tmp_path, "squeue", 'echo "$*" > asked; echo "3|PREEMPTED|None"')
    assert call("sacct", *ASKED).stdout == "3|CANCELLED|None\n"
    assert "--states=all --noheader --name=run-1" in (tmp_path / "asked").read_text()


def test_a_machine_without_slurm_is_told_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="squeue: no such command"):
        check_controller()


def test_two_processes_may_write_to_a_file_that_grows_at_its_end(tmp_path):
    file = tmp_path / "output"
    with file.open("w", buffering=1) as first, file.open("a", buffering=1) as second:
        append_only(first.fileno())
        second.write("from the command\n")
        first.write("from the run\n")
    assert file.read_text() == "from the command\nfrom the run\n"


def test_an_accounting_that_does_not_answer_is_asked_again_by_snakemake(call, tmp_path):
    script(tmp_path, "sacct", "echo 'sacct: error: slurmdbd: Connection refused' >&2; exit 1")
    assert call("sacct", *ASKED).returncode == 1
