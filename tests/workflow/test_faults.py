"""What happens to a study on this machine: kills, a full disk, folders that vanish, spoilt results.

Whatever happens, the study goes on where it was, and its tables are those of an undisturbed run.
"""

import os
import re
import shutil
import signal
import subprocess
from contextlib import suppress

import psutil
import pytest

from dicom_writer import write_series
from disturbances import Disturbance
from paravert.provenance import files_below
from studies import (
    LEDGER,
    assert_same,
    change_images_and_labels,
    cohort_tables,
    plan_of,
    put_labels,
    small_cohort,
)
from waiting import wait_until

pytestmark = pytest.mark.workflow

SUBJECTS = ("F1", "F2", "F3", "F4")  # in the order in which one process takes them
CONVERSION = ("--set-threads", "convert_dicom=1", "--until", "convert_dicom")
LOG = "results/logs/convert_dicom/0.log"
LONGEST_SECONDS = 300  # a guard against a run that never ends


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    """A small cohort that was never run; one subject has no images."""
    return small_cohort(tmp_path_factory.mktemp("faults"), SUBJECTS)


@pytest.fixture
def study(untouched, tmp_path):
    return untouched.copy(tmp_path / "study")


@pytest.fixture(scope="module")
def finished_cohort(untouched, tmp_path_factory):
    """The cohort after a run that nothing disturbed."""
    study = untouched.copy(tmp_path_factory.mktemp("finished") / "study")
    study.hash_seed = 2  # runs of the tests are compared with it
    finish(study)
    return study


@pytest.fixture(scope="module")
def undisturbed(finished_cohort):
    return cohort_tables(finished_cohort)


@pytest.fixture
def finished_study(finished_cohort, tmp_path):
    """A copy of it that a test may change."""
    return finished_cohort.copy(tmp_path / "study")


@pytest.fixture
def half_way(study):
    """The last subject of the shard, where the job stops until it is told to go on."""
    return Disturbance(study.folder, SUBJECTS[-1])


@pytest.fixture
def run(study, half_way, tmp_path):
    """A run of the study that has come half way; it and all below it are killed at the end."""
    process = study.start(tmp_path / "log", *CONVERSION)
    wait_until(lambda: half_way.reached or process.poll() is not None, "the job half way")
    assert half_way.reached, (tmp_path / "log").read_text()
    family = psutil.Process(process.pid).children(recursive=True)
    yield process
    for one in family:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    process.kill()
    process.wait()


def finish(study):
    done = study.gather()
    assert done.returncode == 0, done.stderr[-3000:]
    return cohort_tables(study)


def steps_of(process):
    """Return the processes that convert, the one that hands out the work first."""
    family = psutil.Process(process.pid).children(recursive=True)
    return [one for one in family if "paravert" in one.cmdline() and one.name() != "bash"]


def computed(study):
    return re.findall(r"convert_dicom: (\w+): computed", (study.folder / LOG).read_text())


def test_a_job_killed_half_way_goes_on_where_it_was(study, run, half_way, undisturbed):
    for one in steps_of(run):
        one.kill()
    assert run.wait(LONGEST_SECONDS) != 0
    tables = finish(study)
    assert computed(study) == [SUBJECTS[-1]]
    assert_same(tables, undisturbed)
    assert not list((study.folder / "results/subjects").glob("*/.convert_dicom-*"))


def test_workers_end_with_the_process_that_hands_out_the_work(study, half_way, tmp_path):
    process = study.start(tmp_path / "log", "--until", "convert_dicom", "--cores", "2")
    wait_until(lambda: half_way.reached, "a worker half way")
    first, *workers = steps_of(process)
    assert len(workers) >= 2
    first.kill()
    assert process.wait(LONGEST_SECONDS) != 0
    wait_until(lambda: not any(one.is_running() for one in workers), "the end of the workers")


def test_after_a_kill_of_the_main_process_it_is_unlocked_and_run_again(
    study, run, half_way, undisturbed
):
    orphans = steps_of(run)
    run.kill()
    run.wait()
    assert orphans[0].is_running()
    refused = study.run(*CONVERSION)
    assert refused.returncode != 0
    assert "Directory cannot be locked" in refused.stderr
    assert study.run("--unlock").returncode == 0
    again = study.run(*CONVERSION)  # while the orphan is still at work
    assert again.returncode == 0, again.stderr[-3000:]
    half_way.go_on()
    wait_until(lambda: not orphans[0].is_running(), "the end of the orphan")
    assert_same(finish(study), undisturbed)


def test_terminated_it_lets_the_job_end_and_goes_on_later(study, run, half_way, undisturbed):
    run.send_signal(signal.SIGTERM)
    half_way.go_on()
    assert run.wait(LONGEST_SECONDS) != 0
    assert_same(finish(study), undisturbed)


def test_two_runs_at_once_without_the_lock_end_well(study, run, half_way, undisturbed):
    second = study.run("--nolock", *CONVERSION)
    assert second.returncode == 0, second.stderr[-3000:]
    half_way.go_on()
    assert run.wait(LONGEST_SECONDS) == 0
    assert_same(finish(study), undisturbed)


def test_a_subject_that_kills_its_process_costs_its_own_row(study, undisturbed):
    Disturbance(study.folder, "F2").kill()
    done = study.run(*CONVERSION)
    assert done.returncode != 0
    tables = finish(study)
    ledger = tables["ledger"].set_index("subject")
    assert ledger.reason["F2"] == "process-died"
    expected = undisturbed["slices"].query("subject != 'F2'").reset_index(drop=True)
    assert tables["slices"].equals(expected)
    assert list(ledger.index) == list(undisturbed["ledger"].subject)


@pytest.fixture
def small_disk(study):
    """Mount a file system of 128 KiB where the subjects' folders are; return what enlarges it."""
    place = study.folder / "results/subjects"
    place.mkdir(parents=True)
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", place], check=True)
    yield lambda: subprocess.run(["mount", "-o", "remount,size=64m", place], check=True)
    subprocess.run(["umount", place], check=True)


def test_a_full_disk_is_told_and_the_study_goes_on_when_there_is_room(
    study, small_disk, undisturbed
):
    done = study.run(*CONVERSION)
    assert done.returncode != 0
    told = (study.folder / LOG).read_text().splitlines()[-1]
    assert told.startswith("paravert convert_dicom: No space left on device")
    assert "Traceback" not in (study.folder / LOG).read_text()
    small_disk()
    assert_same(finish(study), undisturbed)


def test_images_that_were_never_there_are_told_of_and_taken_when_they_come(study, undisturbed):
    (study.folder / "images").rename(study.folder / "away")
    gone = finish(study)
    assert set(gone["ledger"].reason) == {"no-dicom"}
    (study.folder / "away").rename(study.folder / "images")
    assert_same(finish(study), undisturbed)


def test_what_is_finished_stays_while_its_images_are_away(finished_study, undisturbed, tmp_path):
    """Another covariate is taken, a new subject is analysed, no number of the others changes."""
    study = finished_study
    (study.folder / "images").rename(study.folder / "away")
    study.rows[0]["age_years"] = "77"
    write_series(study.folder / "new", plan_of(9))
    study.add("NEW", "new", labels=put_labels(study, 9))
    tables = finish(study)
    ledger = tables["ledger"].set_index("subject")
    assert set(ledger.status[[*SUBJECTS, "NEW"]]) == {"analysed"}
    away = [name for name in ledger.index if "images-offline" in ledger.warnings[name]]
    assert away == list(SUBJECTS)
    assert tables["subjects"].set_index("subject").age_years["F1"] == 77
    slices = tables["slices"].query("subject != 'NEW'").reset_index(drop=True)
    unchanged = [column for column in slices if column != "age_years"]
    assert slices[unchanged].equals(undisturbed["slices"][unchanged])
    assert all((study.folder / f"results/subjects/{name}/slices.parquet").exists() for name in away)
    (study.folder / "away").rename(study.folder / "images")
    assert not any("images-offline" in told for told in finish(study)["ledger"].warnings)


def test_tables_alone_are_gathered_again_without_images_and_subjects(finished_study, undisturbed):
    """As on a laptop that holds the tables of a study and neither images nor labels."""
    study = finished_study
    shutil.rmtree(study.folder / "images")
    shutil.rmtree(study.folder / "results/subjects")
    study.rows[0]["age_years"] = "77"
    tables = finish(study)
    assert tables["subjects"].set_index("subject").age_years["F1"] == 77
    assert list(tables["slices"].csa_mm2) == list(undisturbed["slices"].csa_mm2)


@pytest.mark.parametrize("at_hand", [(), ("F1",)], ids=["nobody", "the selected"])
def test_tables_alone_are_not_replaced_by_those_of_a_selection(finished_study, at_hand):
    study = finished_study
    shutil.rmtree(study.folder / "images")
    for name in {*os.listdir(study.folder / "results/subjects")} - {*at_hand}:
        shutil.rmtree(study.folder / "results/subjects" / name)
    before = {file: file.read_bytes() for file in study.folder.glob("results/shards/*/*.parquet")}
    study.settings["subjects"] = "F1"
    done = study.run()
    assert done.returncode != 0
    assert "whose images and converted images are away" in done.stderr
    assert {file: file.read_bytes() for file in before} == before


def test_results_copied_without_their_times_are_kept_while_the_images_are_away(finished_study):
    study = finished_study
    (study.folder / "images").rename(study.folder / "away")
    for file in (study.folder / "results/subjects").rglob("*"):
        os.utime(file)
    write_series(study.folder / "new", plan_of(9))
    study.add("NEW", "new", labels=put_labels(study, 9))
    done = study.run()
    assert done.returncode != 0
    assert "copy results with their times" in done.stderr
    assert all(
        (study.folder / f"results/subjects/{name}/image/stack-01.nii.gz").exists()
        for name in SUBJECTS
    )
    (study.folder / "away").rename(study.folder / "images")
    assert set(finish(study)["ledger"].set_index("subject").status[[*SUBJECTS, "NEW"]]) == {
        "analysed"
    }


def test_exports_of_earlier_tables_do_not_stay(finished_study):
    study = finished_study
    study.settings["export"] = ["csv"]
    assert study.run().returncode == 0
    assert (study.folder / "results/cohort/csv/subjects.csv").exists()
    study.settings["export"] = []
    study.rows[0]["age_years"] = "77"
    finish(study)
    assert not (study.folder / "results/cohort/csv").exists()


def test_the_same_images_under_two_names_are_told_of(study):
    study.add("TWIN", "images/F2", labels=study.rows[1]["labels"])
    shutil.copytree(study.folder / "images/F3", study.folder / "images/COPY")
    study.add("COPY", "images/COPY")
    ledger = finish(study)["ledger"].set_index("subject")
    shared = [name for name in ledger.index if "images-shared" in ledger.warnings[name]]
    assert shared == ["COPY", "F2", "F3", "TWIN"]
    told = (study.folder / "results/logs/gather_cohort.log").read_text()
    assert "the same images: COPY, F3" in told
    assert "the same images: F2, TWIN" in told


# --- results of jobs that ended unseen ------------------------------------------------------------


def shards_become_smaller(study):
    study.settings["subjects_per_shard"] = 3


def a_subject_leaves(study):
    del study.rows[1]


@pytest.mark.parametrize(
    "change",
    [
        change_images_and_labels,
        pytest.param(shards_become_smaller, marks=pytest.mark.long),
        pytest.param(a_subject_leaves, marks=pytest.mark.long),
    ],
)
def test_results_of_a_job_that_ended_unseen_do_not_outlive_what_they_were_made_from(
    study, run, half_way, tmp_path, change
):
    orphans = steps_of(run)
    run.kill()
    run.wait()
    half_way.go_on()
    wait_until(lambda: not orphans[0].is_running(), "the end of the orphan")
    assert (study.folder / "results/shards/0/convert.parquet").exists()
    assert study.run("--unlock").returncode == 0
    change(study)
    tables = finish(study)
    assert_same(tables, finish(study.without_results(tmp_path / "fresh")))


@pytest.mark.long
def test_without_any_record_of_snakemake_nothing_stale_stays(study, tmp_path):
    finish(study)
    shutil.rmtree(study.folder / ".snakemake/metadata")
    assert study.planned("--", LEDGER) == set()
    study.rows[1]["age_years"] = "77"
    assert study.planned("--", LEDGER) == {"gather_cohort"}
    change_images_and_labels(study)
    tables = finish(study)
    assert_same(tables, finish(study.without_results(tmp_path / "fresh")))


def test_a_run_works_by_the_sheet_that_it_began_with(study, run, half_way, undisturbed):
    sheet = study.folder / "sheet.tsv"
    lines = sheet.read_text().splitlines()
    sheet.write_text("\n".join(lines[:2]))
    half_way.go_on()
    assert run.wait(LONGEST_SECONDS) == 0
    assert_same(finish(study), undisturbed)


def test_the_images_are_only_read(study):
    def state():
        files = files_below(study.folder / "images")
        return {file: (file.stat().st_size, file.stat().st_mtime_ns) for file in files}

    before = state()
    finish(study)
    assert state() == before


@pytest.mark.parametrize("harmed", ["image/stack-01.nii.gz", "labels/stack-01.nii.gz"])
def test_a_file_spoilt_by_hand_is_named_and_made_anew(finished_study, undisturbed, harmed):
    study = finished_study
    file = study.folder / "results/subjects/F3" / harmed
    file.write_bytes(file.read_bytes()[:-100])
    assert_same(finish(study), undisturbed)  # nothing reads it
    (study.folder / "results/subjects/F3/area.json").unlink()
    done = study.gather("--forcerun", "measure_area")
    assert done.returncode != 0
    told = (study.folder / "results/logs/measure_area/0.log").read_text()
    assert f"results/subjects/F3/{harmed}: changed since" in told
    (rule,) = re.findall(r"--forcerun (\w+)", told)
    done = study.gather("--forcerun", rule)
    assert done.returncode == 0, done.stderr[-3000:]
    assert_same(cohort_tables(study), undisturbed)


def test_a_shard_table_spoilt_by_hand_is_made_anew(finished_study, undisturbed):
    study = finished_study
    table = study.folder / "results/shards/0/segment.parquet"
    table.write_bytes(table.read_bytes()[:-100])
    assert_same(finish(study), undisturbed)
