"""Corrected masks that come back into a study, with the mistakes that people make."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest

from dicom_writer import labels_phantom, write_nifti
from studies import LEDGER, plan_of, small_cohort

pytestmark = pytest.mark.workflow


def psoas_of_totalsegmentator(points):
    own = labels_phantom(points)
    return np.select([own == 1, own == 2], [48, 49], 0)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A study with the psoas labelled by TotalSegmentator, as far as the tables of the cohort."""
    study = small_cohort(tmp_path_factory.mktemp("repairs"), ["S1", "S2"])
    study.settings["convert_dicom"] = {"labels_from": "totalsegmentator_mr"}
    for number, row in enumerate(study.rows[:2]):
        row["labels"] = f"{row['subject']}-psoas.nii.gz"
        file = study.folder / row["labels"]
        write_nifti(file, plan_of(number), psoas_of_totalsegmentator, dtype=np.uint8)
    done = study.gather()
    assert done.returncode == 0, done.stderr[-5000:]
    return study


@pytest.fixture
def study(finished, tmp_path):
    return finished.copy(tmp_path / "study")


def cohort(study, table):
    return pd.read_parquet(study.folder / f"results/cohort/{table}.parquet")


def test_a_corrected_mask_has_own_values_and_what_is_not_used_is_told_at_the_end(study):
    own = study.folder / "results/subjects/S2/labels/stack-01.nii.gz"
    for place in ("S2/stack-01.nii.gz", "s1/stack-01.nii.gz", "S3.nii.gz"):
        file = study.folder / "corrected" / place
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(own, file)
    before = cohort(study, "muscles")
    done = study.gather()
    assert done.returncode == 0, done.stderr[-5000:]
    told, last = done.stderr.splitlines()[-2:]
    assert told.startswith("corrected: not used: S3.nii.gz, s1; expected folders of NIfTI files")
    assert last.startswith("3 subjects: 2 analysed")
    assert re.findall(r": (\w+): computed", study.log("convert_dicom")) == ["S2"]
    pd.testing.assert_frame_equal(cohort(study, "muscles"), before)  # a copy, nothing was drawn
    assert study.planned("--", LEDGER) == set()
    shutil.rmtree(study.folder / "corrected/S2")
    assert "convert_dicom" in study.planned("--", LEDGER)
