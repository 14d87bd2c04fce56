"""A whole run with label maps of other networks, and two of them compared."""

import os
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from dicom_writer import labels_phantom, write_nifti
from paravert.label_sources import SOURCES
from studies import LEDGER, plan_of, small_cohort

pytestmark = pytest.mark.workflow

SUBJECTS = ("S1", "S2", "S3")
TOTAL = {1: 48, 2: 49, 5: 46, 6: 47, 7: 46, 8: 47}
MUSCLEMAP = {own: foreign for foreign, own in SOURCES["musclemap"].values.items()}
TABLE = {7: ["multifidus", "left"], 8: ["multifidus", "right"]}


def put_labels(study, values):
    """Give every subject a label map with a program's values, in place of its own one."""

    def function(points):
        own = labels_phantom(points)
        return np.select([own == value for value in values], list(values.values()), 0)

    for number, subject in enumerate(SUBJECTS):
        name = f"{subject}-foreign.nii.gz"
        write_nifti(study.folder / name, plan_of(number), function, dtype=np.int32)
        study.rows[number]["labels"] = name


@pytest.fixture(scope="module")
def total(tmp_path_factory):
    """A finished study with label maps of TotalSegmentator."""
    study = small_cohort(tmp_path_factory.mktemp("total"), SUBJECTS)
    study.settings["convert_dicom"] = {"labels_from": "totalsegmentator_mr"}
    put_labels(study, TOTAL)
    study.first_run = study.run()
    return study


def cohort(study, table):
    return pd.read_parquet(study.folder / f"results/cohort/{table}.parquet")


def test_a_run_with_labels_of_one_muscle_alone_ends_with_its_report(total):
    assert total.first_run.returncode == 0, total.first_run.stderr[-5000:]
    assert (total.folder / "results/report.html").is_file()
    muscles = cohort(total, "muscles").set_index("muscle")
    assert (muscles.loc["psoas_major", "csa_mean_mm2"] > 0).all()
    unknown = muscles.drop("psoas_major")
    columns = ["slices", "csa_mean_mm2", "volume_ml", "fat_fraction"]
    assert unknown[columns].isna().all(axis=None)
    assert (unknown["csa_reason"] == "not-labelled").all()
    assert cohort(total, "slices").groupby("muscle")["csa_mm2"].count().to_dict() == {
        "erector_spinae": 0, "multifidus": 0, "psoas_major": 3 * 5 * 2, "quadratus_lumborum": 0,
    }  # fmt: skip


def test_a_second_run_has_nothing_to_do(total):
    assert total.planned() == set()


def test_another_source_converts_again(total, tmp_path):
    study = total.copy(tmp_path / "study")
    study.settings["convert_dicom"] = {"labels_from": TABLE}
    done = study.gather()
    assert done.returncode == 0, done.stderr[-5000:]
    computed = re.findall(r"convert_dicom: (\w+): computed, (\w+)", study.log("convert_dicom"))
    assert sorted(computed) == [(subject, "quarantined") for subject in SUBJECTS]
    assert set(cohort(study, "ledger")["reason"]) == {"mask-unknown-label", "no-dicom"}
    assert study.planned("--", LEDGER) == set()
    put_labels(study, {own: own for own in TABLE})
    done = study.gather()
    assert done.returncode == 0, done.stderr[-5000:]
    muscles = cohort(study, "muscles")
    known = muscles["muscle"] == "multifidus"
    assert muscles["csa_mean_mm2"].notna().equals(known)
    assert study.planned("--", LEDGER) == set()


def test_two_networks_are_compared_on_one_cohort(total, tmp_path):
    study = total.without_results(tmp_path / "study")
    study.settings["convert_dicom"] = {"labels_from": "musclemap"}
    put_labels(study, MUSCLEMAP)
    done = study.gather()
    assert done.returncode == 0, done.stderr[-5000:]
    words = ["--first", total.folder / "results", "--second", study.folder / "results"]
    words += ["--out", tmp_path / "tables/label_agreement.csv"]
    command = [sys.executable, "-m", "paravert", "compare_labels", *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(study.folder / "workflow")}
    subprocess.run(command, check=True, env=environment, capture_output=True)
    found = pd.read_csv(tmp_path / "tables/label_agreement.csv").set_index("muscle")
    assert (found.loc["psoas_major", ["dice_lowest", "dice_mean"]] == 1).all(axis=None)
    assert (found.loc["psoas_major", "bias_mm2"] == 0).all()
    assert (found.drop("psoas_major")["reason"] == "not-labelled").all()


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("musclmap", "convert_dicom.labels_from: 'musclmap', expected paravert, musclemap"),
        ({48: ["psoas", "left"]}, "convert_dicom.labels_from: 48: 'psoas', expected one of"),
        (["musclemap"], "convert_dicom.labels_from is ['musclemap'], expected text or settings"),
    ],
)
def test_a_faulty_source_stops_the_run(total, tmp_path, setting, told):
    study = total.copy(tmp_path / "study")
    study.settings["convert_dicom"] = {"labels_from": setting}
    done = study.run("--dry-run")
    assert done.returncode != 0
    assert told in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
