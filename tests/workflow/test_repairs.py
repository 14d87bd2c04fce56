"""Ratings and corrected masks that come back into a study, with the mistakes that people make."""

import csv
import os
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from dicom_writer import labels_phantom, write_nifti
from paravert.study.ratings import COLUMNS
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


def rate(study, *ratings, time=None):
    """Write ratings.csv of rater A: tuples of scan, verdict and fingerprint. time: of the file."""
    file = study.folder / "ratings.csv"
    with file.open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(COLUMNS)
        for scan, verdict, fingerprint in ratings:
            writer.writerow([scan, "A", "10:30", verdict, "", "", "", "", fingerprint])
    if time is not None:
        os.utime(file, (time, time))
    study.settings["review"] = {"ratings": [file.name]}


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


def test_ratings_are_known_by_their_content_and_those_of_unknown_scans_are_told(study):
    seen = cohort(study, "ledger").set_index("subject").labels_digest
    rate(study, ("S1", "pass", seen["S1"]), ("S7", "fail", "0123456789abcdef"))
    done = study.gather()
    assert done.returncode == 0, done.stderr[-5000:]
    told, last = done.stderr.splitlines()[-2:]
    assert told == "ratings.csv: ratings of scans that are not in sheet.tsv are not used: S7"
    assert last.startswith("3 subjects: 2 analysed")
    assert study.planned("--", LEDGER) == set()
    rate(study, ("S1", "fail", seen["S1"]), time=1_000_000_000)
    assert study.planned("--", LEDGER) == {"gather_cohort"}
    done = study.gather()
    assert "1 excluded (review-failed 1)" in done.stderr.splitlines()[-1]
    assert study.planned("--", LEDGER) == set()


def test_a_failed_scan_under_another_name_fails_the_run(study):
    rate(study, ("s1", "fail", cohort(study, "ledger").set_index("subject").labels_digest["S1"]))
    done = study.gather()
    assert done.returncode != 0
    assert "ratings.csv: ratings of scans with other names than in the sheet: s1" in done.stderr


def test_a_rule_that_names_nobody_stops_the_run_at_its_start(study):
    rate(study, ("S1", "pass", "0123456789abcdef"))
    study.settings["review"]["rule"] = "a"
    done = study.run()
    assert done.returncode != 0
    assert "review.rule: 'a', expected any, all or a rater with ratings: A" in done.stderr
    assert "Traceback" not in done.stderr
