"""What is finished survives: images offline, touched or moved, and shard tables alone."""

import os
import re
import shutil

import pytest

from paravert.steps import COHORT_STEPS
from studies import LEDGER, assert_same, cohort_tables, small_cohort

pytestmark = pytest.mark.workflow

SUBJECTS = ("A", "B", "C")
SHARD_RULES = {step.name for step in COHORT_STEPS}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small cohort after its first run: three subjects, and one without images."""
    study = small_cohort(tmp_path_factory.mktemp("finished"), SUBJECTS)
    study.hash_seed = 2  # runs of the tests are compared with it
    gather(study)
    return study


@pytest.fixture
def study(finished, tmp_path):
    return finished.copy(tmp_path / "study")


def gather(study, *arguments):
    done = study.gather(*arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    return cohort_tables(study)


def computed(study):
    """Return whom each step computed in the last run."""
    found = {
        rule: set(re.findall(rf"{rule}: (\w+): computed", study.log(rule))) for rule in SHARD_RULES
    }
    return {rule: subjects for rule, subjects in found.items() if subjects}


def later(path):
    """Give all files below a path another time of modification."""
    for file in path.rglob("*"):
        if file.is_file():
            os.utime(file, (2_000_000_000, 2_000_000_000))


def test_touched_images_are_converted_again_and_keep_all_measurements(study):
    before = cohort_tables(study)
    shutil.rmtree(study.folder / "results/logs")
    later(study.folder / "images/A")
    assert_same(gather(study), before)
    assert computed(study) == {"convert_dicom": {"A"}}
    assert study.planned("--", LEDGER) == set()


def test_an_archive_that_is_copied_elsewhere_with_other_times_keeps_all_measurements(
    study, tmp_path
):
    before = cohort_tables(study)
    shutil.rmtree(study.folder / "results/logs")
    (study.folder / "images").rename(tmp_path / "archive")
    later(tmp_path / "archive")
    for row in study.rows:
        row["images"] = row["images"].replace("images", str(tmp_path / "archive"))
    assert_same(gather(study), before)
    assert computed(study) == {"convert_dicom": {*SUBJECTS}}


def test_an_archive_that_is_moved_computes_nobody(study, tmp_path):
    (study.folder / "images").rename(tmp_path / "archive")
    for row in study.rows:
        row["images"] = row["images"].replace("images", str(tmp_path / "archive"))
    assert study.planned("--", LEDGER) == set()


def test_images_that_are_offline_lose_nothing(study):
    before = cohort_tables(study)
    (study.folder / "images").rename(study.folder / "away")
    shutil.rmtree(study.folder / "results/logs")
    tables = gather(study)
    assert computed(study) == {}
    assert_same(
        {name: table for name, table in tables.items() if name not in ("ledger", "subjects")},
        {name: table for name, table in before.items() if name not in ("ledger", "subjects")},
    )
    ledger = tables["ledger"].set_index("subject")
    assert ["images-offline" in ledger.warnings[name] for name in SUBJECTS] == [True] * 3


def test_labels_that_are_corrected_while_the_images_are_offline_are_told_at_the_end(study):
    mask = study.folder / "corrected/A/stack-01.nii.gz"
    mask.parent.mkdir(parents=True)
    shutil.copy(study.folder / "results/subjects/A/labels/stack-01.nii.gz", mask)
    (study.folder / "images").rename(study.folder / "away")
    shutil.rmtree(study.folder / "results/logs")
    done = study.gather()
    assert computed(study) == {}
    told = "corrected: changes are not read while the images are away: A"
    assert told in done.stderr.splitlines()[-3:]
    (study.folder / "away").rename(study.folder / "images")
    assert "convert_dicom" in study.planned("--", LEDGER)


def test_the_report_is_written_from_shard_tables_alone(study):
    """They were copied one after the other, in any order, and nothing else was."""
    before = cohort_tables(study)
    shutil.copytree(study.folder / "results/shards", study.folder / "shards")
    for name in ("images", "results", ".snakemake"):
        shutil.rmtree(study.folder / name)
    for file in study.folder.glob("*.nii.gz"):
        file.unlink()
    (study.folder / "results").mkdir()
    (study.folder / "shards").rename(study.folder / "results/shards")
    tables = sorted((study.folder / "results/shards").rglob("*.parquet"))
    for number, table in enumerate(reversed(tables)):
        os.utime(table, (1_700_000_000 + number, 1_700_000_000 + number))
    study.settings["export"] = ["csv"]
    done = study.run("--profile", "profiles/report")
    assert done.returncode == 0, done.stderr[-3000:]
    assert (study.folder / "results/report.html").is_file()
    assert not (study.folder / "results/subjects").exists()
    assert not SHARD_RULES & {path.stem for path in (study.folder / "results/logs").iterdir()}
    found = cohort_tables(study)
    assert_same({"slices": found["slices"]}, {"slices": before["slices"]})
    assert (study.folder / "results/cohort/csv/slices.csv").is_file()


def test_cohort_tables_stay_if_the_shard_tables_cannot_be_gathered(study):
    """As of other settings, where the profile for reports computes nothing that they are made from."""
    before = {file.name: file.read_bytes() for file in (study.folder / "results/cohort").iterdir()}
    study.settings["segment_muscles"] = {"fill_holes": False}
    done = study.run("--profile", "profiles/report")
    assert done.returncode != 0
    assert "segment.parquet" in done.stderr
    after = {file.name: file.read_bytes() for file in (study.folder / "results/cohort").iterdir()}
    assert after == before
    assert "gather_cohort" in study.planned("--profile", "profiles/report")
