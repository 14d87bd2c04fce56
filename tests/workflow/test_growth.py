"""A cohort that changes: computed again is exactly what must be, and the tables are those of a fresh run."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from dicom_writer import labels_phantom, write_nifti, write_series
from paravert.network.unet import Model, UNet, load_model, save_model
from paravert.provenance import file_sha256
from paravert.steps import COHORT_STEPS
from studies import MODEL, Study, assert_same, cohort_tables, copy_of_the_workflow, plan_of

pytestmark = pytest.mark.workflow

SUBJECTS = ("G1", "G2", "G3", "G4")
WITH_LABELS = ("G1", "G2")  # the network is asked for the others alone
STEPS = [step.name for step in COHORT_STEPS]
FROM_SEGMENTATION_ON = [step for step in STEPS if step != "convert_dicom"]


def put_images(study, subject, number):
    folder = study.folder / "images" / subject
    shutil.rmtree(folder, ignore_errors=True)
    return write_series(folder, plan_of(number))


def put_labels(study, name, number, missing=()):
    def labels(points):
        values = labels_phantom(points)
        values[np.isin(values, missing)] = 0
        return values

    return write_nifti(study.folder / name, plan_of(number), labels, dtype=np.uint8).name


def add(study, subject, number):
    put_images(study, subject, number)
    masks = put_labels(study, f"{subject}.nii.gz", number)
    columns = {"labels": masks} if subject in WITH_LABELS else {}
    sex = "FM"[number % 2]
    study.add(subject, f"images/{subject}", truth=masks, sex=sex, age_years="50", **columns)


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """A finished small cohort in two shards, one subject of it without images."""
    folder = tmp_path_factory.mktemp("growth")
    copy_of_the_workflow(folder)
    study = Study(folder)
    study.settings["subjects_per_shard"] = 3
    for number, subject in enumerate(SUBJECTS):
        add(study, subject, number)
    (folder / "images/EMPTY").mkdir()
    study.add("EMPTY", "images/EMPTY")
    study.hash_seed = 2  # runs of the tests are compared with it
    gather(study)
    return study


@pytest.fixture
def cohort(grown, tmp_path):
    """A copy of the finished cohort that a test may change."""
    return grown.copy(tmp_path / "study")


def gather(study):
    done = study.gather()
    assert done.returncode == 0, done.stderr[-3000:]
    return cohort_tables(study)


def rerun(study):
    """Run the study once more; return its tables, and whom each step computed."""
    shutil.rmtree(study.folder / "results/logs")
    tables = gather(study)
    computed = {
        step: set(re.findall(rf"{step}: (\w+): computed", study.log(step))) for step in STEPS
    }
    return tables, {step: subjects for step, subjects in computed.items() if subjects}


def fresh(study, folder):
    """Return the tables of a run of the same sheet and settings from the beginning."""
    again = study.copy(folder)
    shutil.rmtree(folder / "results")
    return gather(again)


def of(*subjects, steps=STEPS):
    return {step: set(subjects) for step in steps}


def assert_changed(study, computed, folder):
    tables, found = rerun(study)
    assert found == computed
    assert_same(tables, fresh(study, folder))
    return tables


def test_what_changes_nothing_of_a_subject_computes_nobody(cohort, tmp_path):
    """A subject removed, another covariate, the sheet in another order, smaller shards."""
    before = cohort_tables(cohort)
    cohort.rows = [row for row in cohort.rows if row["subject"] != "G2"][::-1]
    cohort.rows[-1]["age_years"] = "61"
    cohort.settings["subjects_per_shard"] = 2
    tables = assert_changed(cohort, {}, tmp_path / "fresh")
    assert set(tables["ledger"].subject) == set(before["ledger"].subject) - {"G2"}
    assert dict(zip(*tables["subjects"][["subject", "age_years"]].to_numpy().T, strict=True)) == {
        "G1": 61,
        "G3": 50,
        "G4": 50,
    }


def test_only_subjects_that_are_new_or_changed_are_computed(cohort, tmp_path):
    """One added, one whose images come late, images replaced, labels given, labels corrected."""
    add(cohort, "NEW", 5)
    put_images(cohort, "EMPTY", 6)
    put_images(cohort, "G3", 7)
    cohort.rows[2]["truth"] = put_labels(cohort, "G3-new.nii.gz", 7)
    cohort.rows[3]["labels"] = put_labels(cohort, "G4-corrected.nii.gz", 3, missing=[1])
    put_labels(cohort, "G1.nii.gz", 0, missing=[8])
    changed = of("NEW", "EMPTY", "G1", "G3", "G4")
    tables = assert_changed(cohort, changed, tmp_path / "fresh")
    assert set(tables["ledger"].status) == {"analysed"}
    volumes = tables["muscles"].set_index(["subject", "muscle", "side"]).volume_ml
    assert volumes["G4", "psoas_major", "left"] == 0
    assert volumes["G1", "multifidus", "right"] == 0
    assert volumes["G4", "psoas_major", "right"] > 0


@pytest.mark.long
def test_another_model_segments_only_those_without_labels(cohort, tmp_path):
    cohort.settings["model"] = other_model(cohort)
    changed = of("G3", "G4", steps=FROM_SEGMENTATION_ON)
    tables = assert_changed(cohort, changed, tmp_path / "fresh")
    assert (tables["slices"].query("subject in ['G3', 'G4']").pixels == 0).all()


def other_model(study):
    """Write a model beside the shipped one that finds no muscle at all."""
    shipped = study.folder / MODEL["file"]
    network = UNet(load_model(shipped).network.architecture)
    network.load_state_dict(load_file(shipped))
    with torch.no_grad():
        network.head.bias[0] += 100
    file = study.folder / "models/other.safetensors"
    save_model(file, Model(network, load_model(shipped).spacing_mm))
    card = json.loads(shipped.with_suffix(".json").read_text())
    file.with_suffix(".json").write_text(json.dumps(card | {"weights_sha256": file_sha256(file)}))
    return {"file": "models/other.safetensors", "sha256": file_sha256(file)}
