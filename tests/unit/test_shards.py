import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
from functools import partial

import psutil
import pyarrow.parquet as pq
import pytest

from paravert import shard_tables, shards
from paravert.errors import Caution, InputError, Reason, SubjectFault
from paravert.shards import Product, Task, worker_pool
from waiting import wait_until


class Step:
    """A conversion that notes for whom it was called, and fails as told."""

    def __init__(self):
        self.called = []
        self.faulty = {}
        self.stacks = 1
        self.folder = "image"
        self.given = False

    def __call__(self, task, scratch):
        self.called.append(task.subject)
        (scratch / self.folder).mkdir()
        for stack in range(1, self.stacks + 1):
            (scratch / self.folder / f"stack-{stack:02d}.nii.gz").write_text(task.subject)
        if self.given:
            (scratch / "given").mkdir()
            (scratch / "given/stack-01.nii.gz").write_text(task.subject)
        if task.subject in self.faulty:
            raise self.faulty[task.subject]
        return Product([{"stacks": 1, "slices": 20}], (Caution.MULTI_STACK,))


@pytest.fixture
def step():
    return Step()


@pytest.fixture
def run(tmp_path, step):
    def work(*subjects, version=1):
        tasks = [Task(subject, {"version": version}) for subject in subjects]
        step.called.clear()
        out = tmp_path / "convert.parquet"
        shards.work_through("convert_dicom", tasks, step, folder=tmp_path / "subjects", out=out)
        return pq.read_table(out).to_pylist()

    return work


def test_a_rerun_computes_only_new_subjects(run, step):
    run("S1", "S2")
    rows = run("S1", "S2", "S3")
    assert step.called == ["S3"]
    assert [row["subject"] for row in rows] == ["S1", "S2", "S3"]
    assert all(row["slices"] == 20 and row["warnings"] == ["multi-stack"] for row in rows)


def test_a_changed_ingredient_computes_the_subject_again(run, step):
    run("S1")
    run("S1", version=2)
    assert step.called == ["S1"]


def test_a_result_with_the_same_files_keeps_its_identity_and_with_others_it_does_not(
    run, step, tmp_path
):
    def told(subject):
        (one,) = [
            task
            for task in shards.tasks_after(tmp_path / "convert.parquet")[0]
            if task.subject == subject
        ]
        return one.depends_on["upstream"]

    run("S1", "S2")
    first = told("S1"), told("S2")
    run("S1", "S2", version=2)
    assert step.called == ["S1", "S2"]
    assert (told("S1"), told("S2")) == first
    step.stacks = 2
    run("S1", version=3)
    second = told("S1")
    assert second != first[0]
    step.called.clear()
    run("S1", version=4)
    assert told("S1") == second
    (tmp_path / "subjects/S1/image/stack-02.nii.gz").write_text("another")
    run("S1", version=5)  # the file that it is compared with is not the one that was written
    assert told("S1") not in (first[0], second)


@pytest.mark.parametrize("harm", ["delete", "change", "spoil the record"])
def test_a_harmed_result_is_not_taken(run, step, tmp_path, harm):
    run("S1")
    image = tmp_path / "subjects/S1/image/stack-01.nii.gz"
    if harm == "delete":
        image.unlink()
    elif harm == "change":
        image.write_text("XX")
    else:
        (tmp_path / "subjects/S1/status.json").write_text("{")
    run("S1")
    assert step.called == ["S1"]
    assert image.read_text() == "S1"


def test_memory_that_does_not_suffice_for_a_subject_costs_its_own_row(run, step):
    step.faulty["S1"] = MemoryError()
    rows = run("S1", "S2")
    assert [row["reason"] for row in rows] == ["process-died", None]
    del step.faulty["S1"]
    assert [row["status"] for row in run("S1", "S2")] == ["analysed", "analysed"]
    assert step.called == ["S1"]


def test_a_subjects_fault_is_a_row_and_the_others_go_on(run, step, tmp_path):
    step.faulty["S1"] = SubjectFault(Reason.NO_DICOM, "0 files, expected DICOM")
    rows = run("S1", "S2")
    assert [row["status"] for row in rows] == ["quarantined", "analysed"]
    assert rows[0]["reason"] == "no-dicom"
    assert rows[0]["stage"] == "convert_dicom"
    assert not (tmp_path / "subjects/S1/image").exists()
    run("S1", "S2")
    assert step.called == []


def test_a_fault_of_the_program_is_not_swallowed_and_keeps_what_is_done(run, step, tmp_path):
    step.faulty["S2"] = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        run("S1", "S2")
    assert not (tmp_path / "convert.parquet").exists()
    step.faulty.clear()
    run("S1", "S2")
    assert step.called == ["S2"]


def test_files_that_a_new_result_lacks_are_removed(run, step, tmp_path):
    run("S1")
    step.faulty["S1"] = SubjectFault(Reason.BLANK_IMAGES, "all pixels are 0")
    run("S1", version=2)
    assert not list((tmp_path / "subjects/S1/image").iterdir())


def test_a_kill_before_the_record_leaves_nothing_that_would_be_taken(
    run, step, tmp_path, monkeypatch
):
    run("S1")
    replace = os.replace

    def killed(source, target):
        if str(target).endswith("status.json"):
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        run("S1", version=2)
    monkeypatch.undo()
    run("S1", version=1)
    assert step.called == ["S1"]


def test_a_kill_among_the_files_leaves_none_that_a_later_step_would_find(
    run, step, tmp_path, monkeypatch
):
    step.stacks = 2
    run("S1")
    step.stacks = 1

    def killed(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        run("S1", version=2)
    monkeypatch.undo()
    run("S1", version=2)
    images = (tmp_path / "subjects/S1/image").iterdir()
    assert [file.name for file in images] == ["stack-01.nii.gz"]


def test_a_kill_after_the_first_file_leaves_it_to_no_older_result(run, step, tmp_path, monkeypatch):
    run("S1")
    step.given = True
    replace = os.replace

    def killed(source, target):
        if "image" in str(target):
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        run("S1", version=2)
    monkeypatch.undo()
    assert (tmp_path / "subjects/S1/given/stack-01.nii.gz").is_file()
    step.given = False
    run("S1")
    assert not (tmp_path / "subjects/S1/given/stack-01.nii.gz").exists()


def test_a_step_writes_only_into_its_own_places(run, step):
    step.folder = "labels"
    with pytest.raises(ValueError, match=r"wrote labels/stack-01.nii.gz"):
        run("S1")


def test_scratch_folders_of_killed_jobs_are_removed_and_no_others(run, tmp_path):
    with subprocess.Popen(["true"]) as ended:
        pass
    unwaited = subprocess.Popen(["true"])  # dead, but known to the system until it is waited for
    wait_until(lambda: psutil.Process(unwaited.pid).status() == psutil.STATUS_ZOMBIE, "its end")
    here = os.uname().nodename
    left = {
        "of a dead process": f"{ended.pid}-{here}-a",
        "of a dead process, unwaited": f"{unwaited.pid}-{here}-e",
        "of a living process": f"{os.getppid()}-{here}-b",
        "on another node, old": f"{os.getppid()}-elsewhere-c",
        "on another node, young": f"{ended.pid}-elsewhere-d",
    }
    folders = {what: tmp_path / f"subjects/S1/.convert_dicom-{name}" for what, name in left.items()}
    for folder in folders.values():
        folder.mkdir(parents=True)
    os.utime(folders["on another node, old"], (0, 0))
    run("S1")
    unwaited.wait()
    kept = [what for what, folder in folders.items() if folder.exists()]
    assert kept == ["of a living process", "on another node, young"]


def test_quarantined_subjects_are_passed_on_with_their_reason(tmp_path, run, step):
    step.faulty["S1"] = SubjectFault(Reason.TRUNCATED_PIXELS, "10 bytes, expected 20")
    run("S1", "S2")
    tasks, _ = shards.tasks_after(tmp_path / "convert.parquet")
    assert [task.subject for task in tasks] == ["S2"]
    out = tmp_path / "preview.parquet"
    shards.work_after(
        tmp_path / "convert.parquet",
        "draw_preview",
        lambda task, scratch: Product([]),
        folder=tmp_path / "subjects",
        out=out,
    )
    by_subject = {outcome.subject: outcome for outcome in shard_tables.read_outcomes(out)}
    assert by_subject["S1"].stage == "convert_dicom"
    assert by_subject["S1"].reason == "truncated-pixels"
    assert by_subject["S2"].status == "analysed"


@pytest.mark.parametrize("removed", ["S2", "S2/image", "S2/*"])
@pytest.mark.parametrize("stages", [1, 3])
def test_a_subject_whose_folder_was_removed_is_told_with_the_step_to_repeat(
    tmp_path, run, removed, stages
):
    run("S1", "S2")
    folder = removed.removesuffix("/*")
    shutil.rmtree(tmp_path / "subjects" / folder)
    if folder != removed:
        (tmp_path / "subjects" / folder).mkdir()
    table = tmp_path / "convert.parquet"
    paths = {"folder": tmp_path / "subjects", "out": tmp_path / "preview.parquet"}
    work = shards.work_after if stages == 1 else shards.overlapped_after
    work_stages = [lambda task, *others: Product([])] * stages
    with pytest.raises(InputError, match=rf"{folder}.*: removed since .* --forcerun convert_dicom"):
        work(table, "draw_preview", *work_stages, **paths)


def test_records_hold_no_path_outside_the_subject(run, tmp_path):
    run("S1")
    record = json.loads((tmp_path / "subjects/S1/status.json").read_text())
    assert list(record["files"]) == ["image/stack-01.nii.gz"]
    assert str(tmp_path) not in json.dumps(record)


# --- processes that die --------------------------------------------------------------------------


def do_or_die(killers, calls, task, scratch):
    """Leave a line for each call; some subjects bring the process down, or its parent with it."""
    with calls.open("a") as file:
        file.write(f"{task.subject}\n")
    if task.subject in killers:
        os.kill(os.getpid(), signal.SIGKILL)
    if f"{task.subject} and all" in killers:
        os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    (scratch / "image").mkdir()
    (scratch / "image/stack-01.nii.gz").write_text(task.subject)
    return Product([{"stacks": 1}])


@pytest.fixture
def job(tmp_path):
    """Return what runs a shard in a process of its own: its exit code and whom it called."""

    def run(*subjects, killers=(), workers=1):
        calls = tmp_path / "calls"
        calls.write_text("")
        tasks = [Task(subject, {}) for subject in subjects]
        process = multiprocessing.get_context("fork").Process(
            target=shards.work_through,
            args=("convert_dicom", tasks, partial(do_or_die, killers, calls)),
            kwargs={
                "folder": tmp_path / "subjects",
                "out": tmp_path / "convert.parquet",
                "workers": workers,
            },
        )
        process.start()
        process.join()
        return process.exitcode, calls.read_text().split()

    return run


@pytest.fixture
def statuses(tmp_path):
    def read():
        rows = pq.read_table(tmp_path / "convert.parquet").to_pylist()
        return {row["subject"]: row["reason"] or row["status"] for row in rows}

    return read


def test_a_subject_that_kills_its_process_twice_costs_its_own_row(job, statuses):
    subjects = ["S1", "S2", "S3"]
    assert job(*subjects, killers=["S2"]) == (1, ["S1", "S2", "S3"])
    assert job(*subjects, killers=["S2"]) == (0, ["S2"])
    assert statuses() == {"S1": "analysed", "S2": "process-died", "S3": "analysed"}


def test_several_that_kill_their_process_cost_a_row_each(job, statuses):
    subjects = [f"S{number}" for number in range(6)]
    killers = ["S1", "S2", "S4"]
    assert job(*subjects, killers=killers)[0] == 1
    assert job(*subjects, killers=killers) == (0, killers)
    expected = dict.fromkeys(subjects, "analysed") | dict.fromkeys(killers, "process-died")
    assert statuses() == expected


def test_a_subject_that_was_only_there_when_the_process_died_is_analysed(job, statuses):
    job("S1", "S2", killers=["S1"])
    assert job("S1", "S2") == (0, ["S1"])
    assert statuses() == {"S1": "analysed", "S2": "analysed"}


def test_a_subject_put_aside_is_tried_afresh_when_the_shard_runs_again(job, statuses):
    codes = [job("S1", killers=["S1"])[0] for _ in range(3)]
    assert codes == [-signal.SIGKILL, 1, 0]  # at first there is no worker whose death is seen
    assert statuses() == {"S1": "process-died"}
    assert job("S1") == (0, ["S1"])
    assert statuses() == {"S1": "analysed"}


def test_a_worker_that_dies_takes_no_other_subject_with_it(job, statuses):
    subjects = [f"S{number}" for number in range(8)]
    codes = [job(*subjects, killers=["S3"], workers=2)[0] for _ in range(2)]
    assert codes == [1, 0]
    assert statuses() == dict.fromkeys(subjects, "analysed") | {"S3": "process-died"}


def test_a_job_that_is_killed_as_a_whole_counts_for_nobody(job, statuses):
    for _ in range(3):
        assert job("S1", "S2", killers=["S1 and all"]) == (-signal.SIGKILL, ["S1"])
    assert job("S1", "S2") == (0, ["S1", "S2"])
    assert statuses() == {"S1": "analysed", "S2": "analysed"}


def test_an_error_that_the_process_survives_counts_as_no_death(run, step):
    for _ in range(3):
        step.faulty["S1"] = ZeroDivisionError()
        with pytest.raises(ZeroDivisionError):
            run("S1")
    step.faulty.clear()
    assert run("S1")[0]["status"] == "analysed"


# --- read, compute and write side by side --------------------------------------------------------


class Stages:
    """A step in three stages that notes what it does, and raises as told."""

    def __init__(self):
        self.done, self.faulty = [], {}

    def _stage(self, name, subject):
        self.done.append((name, subject))
        if (name, subject) in self.faulty:
            raise self.faulty[name, subject]

    def read(self, task):
        self._stage("read", task.subject)
        return task.subject

    def compute(self, subject):
        self._stage("compute", subject)
        return subject.lower()

    def write(self, task, computed, scratch):
        (scratch / "preview.png").write_text(computed)
        self._stage("write", task.subject)
        return Product([])


@pytest.fixture
def stages():
    return Stages()


@pytest.fixture
def previewed(tmp_path, run, stages):
    """Return what converts subjects and previews them in stages: what became of each."""

    def work(*subjects):
        run(*subjects)
        stages.done.clear()
        out = tmp_path / "preview.parquet"
        shards.overlapped_after(
            tmp_path / "convert.parquet",
            "draw_preview",
            stages.read,
            stages.compute,
            stages.write,
            folder=tmp_path / "subjects",
            out=out,
        )
        return {o.subject: o.reason or o.status for o in shard_tables.read_outcomes(out)}

    return work


def test_each_subject_passes_the_stages_in_their_order(previewed, stages, tmp_path):
    subjects = ["S1", "S2", "S3"]
    assert previewed(*subjects) == dict.fromkeys(subjects, "analysed")
    for subject in subjects:
        passed = [name for name, one in stages.done if one == subject]
        assert passed == ["read", "compute", "write"]
        assert (tmp_path / "subjects" / subject / "preview.png").read_text() == subject.lower()


def test_one_subject_is_read_and_one_written_while_another_is_computed(previewed, stages):
    """Every stage of three subjects waits for another stage of its neighbours: in turn, it would hang."""
    read, computing = threading.Event(), threading.Event()
    given_read, given_compute, given_write = stages.read, stages.compute, stages.write

    def noted_read(task):
        if task.subject == "S3":
            read.set()
        return given_read(task)

    def compute(subject):
        if subject == "S2":
            computing.set()
            assert read.wait(30)
        return given_compute(subject)

    def write(task, computed, scratch):
        if task.subject == "S1":
            assert computing.wait(30)
        return given_write(task, computed, scratch)

    stages.read, stages.compute, stages.write = noted_read, compute, write
    assert set(previewed("S1", "S2", "S3").values()) == {"analysed"}


def test_stages_take_only_subjects_that_are_not_at_hand(previewed, stages):
    previewed("S1", "S2")
    previewed("S1", "S2", "S3")
    assert {subject for _, subject in stages.done} == {"S3"}


@pytest.mark.parametrize("stage", ["read", "compute", "write"])
def test_a_fault_in_any_stage_is_a_row_and_leaves_no_file(previewed, stages, tmp_path, stage):
    stages.faulty[stage, "S1"] = SubjectFault(
        Reason.BLANK_IMAGES, "every slice holds a single value"
    )
    assert previewed("S1", "S2") == {"S1": "blank-images", "S2": "analysed"}
    assert not (tmp_path / "subjects/S1/preview.png").exists()


@pytest.mark.parametrize("stage", ["read", "compute", "write"])
def test_memory_that_does_not_suffice_in_a_stage_is_tried_afresh(previewed, stages, stage):
    stages.faulty[stage, "S1"] = MemoryError()
    assert previewed("S1", "S2") == {"S1": "process-died", "S2": "analysed"}
    stages.faulty.clear()
    assert previewed("S1", "S2") == dict.fromkeys(["S1", "S2"], "analysed")


@pytest.mark.parametrize("stage", ["read", "compute", "write"])
def test_an_error_in_a_stage_leaves_neither_marks_nor_scratch(previewed, stages, tmp_path, stage):
    stages.faulty[stage, "S2"] = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        previewed("S1", "S2", "S3")
    assert not list((tmp_path / "subjects").glob("*/.draw_preview*"))
    assert (tmp_path / "subjects/S1/preview.json").exists()


@pytest.mark.parametrize("read", [shard_tables.read_outcomes, shard_tables.read_shard_rows])
def test_a_table_that_is_not_there_is_told(tmp_path, read):
    with pytest.raises(
        InputError, match="none.parquet: no such file, expected the table of a step"
    ):
        read(tmp_path / "none.parquet")


def test_a_worker_process_that_dies_is_told():
    told = "a worker process died.*start the same command again"
    with pytest.raises(ChildProcessError, match=told), worker_pool(2) as pool:
        list(pool.map(os._exit, [1]))


OTHER_START_METHOD = """
import multiprocessing
from paravert.shards import worker_pool

if __name__ == "__main__":
    multiprocessing.set_start_method("forkserver")
    with worker_pool(2) as pool:
        print(sum(pool.map(abs, [-1, -2])))
"""


def test_workers_live_where_python_starts_processes_by_a_server(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(OTHER_START_METHOD)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout == "3\n"
