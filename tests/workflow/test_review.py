"""Ratings of the review page, from the page to the tables, and what is computed again."""

import csv
import re
import shutil

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from paravert.steps import COHORT_STEPS
from paravert.study.ratings import COLUMNS
from review_browser import Page
from studies import LEDGER

pytestmark = pytest.mark.workflow

RATINGS = (  # scan, verdict, muscle, side
    ("S0001", "fail", "", ""),
    ("S0002", "fail", "multifidus", "left"),
    ("S0003", "correct", "psoas_major", "left"),
)
WITHOUT_REPORT = ("--", LEDGER, "results/summary.txt", "results/review/index.html")


def rate(study, *ratings):
    """Write ratings.csv: tuples of scan, verdict, muscle and side, of the labels as they are."""
    ledger = pd.read_parquet(study.folder / "results/cohort/ledger.parquet")
    seen = dict(zip(ledger.subject, ledger.labels_digest, strict=True))
    with (study.folder / "ratings.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for scan, verdict, muscle, side in ratings:
            writer.writerow([scan, "A", "10:30", verdict, muscle, side, "", "", seen[scan]])


def read_ratings(study):
    """Return what ratings.csv says, by scan: all columns but who rated when."""
    ratings = pd.read_csv(study.folder / "ratings.csv").drop(columns=["rater", "time"])
    return ratings.sort_values("scan", ignore_index=True)


def rate_in_the_browser(study, downloads):
    """Rate as in `rate`, by keyboard on the review page; save the file that the page exports."""
    page = Page(study.folder / "results", downloads)
    try:
        for scan, key, muscle, side in (
            ("S0001", "3", "", ""),
            ("S0002", "3", "multifidus", "left"),
            ("S0003", "2", "psoas_major", "left"),
        ):
            page.open(scan)
            page.wait(lambda scan=scan: page.find("#name").text == scan)
            page.wait(lambda: page.texts("figure"))
            page.choose("#muscle", muscle)
            page.choose("#sidename", side)
            page.press(key)
        assert page.find("#progress").text == "3 of 5 scans rated"
        shutil.copy(page.export(), study.folder / "ratings.csv")
    finally:
        page.driver.quit()


@pytest.mark.browser
@pytest.mark.long
def test_ratings_of_the_browser_exclude_a_scan_null_a_muscle_and_ask_for_a_correction(
    study, tmp_path
):
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    rate_in_the_browser(study, downloads)
    exported = (study.folder / "ratings.csv").read_bytes()
    found = read_ratings(study)
    rate(study, *RATINGS)
    pd.testing.assert_frame_equal(found, read_ratings(study))
    (study.folder / "ratings.csv").write_bytes(exported)
    check_what_ratings_do(study)
    assert "Share of failures" in (study.folder / "results/report.html").read_text()


def tables(study):
    folder = study.folder / "results/cohort"
    return {file.stem: pd.read_parquet(file) for file in folder.glob("*.parquet")}


def test_one_scan_is_excluded_one_muscle_null_one_corrected_and_only_this_computed(study):
    rate(study, *RATINGS)
    check_what_ratings_do(study, *WITHOUT_REPORT)


def check_what_ratings_do(study, *targets):
    """Run with ratings.csv, correct S0003, run again, and compare.

    targets: of the second run, after which nothing of them is left to do; none: everything.
    """
    results = study.folder / "results"
    assert "S0003" in (results / "review/data/scans.js").read_text()
    before = tables(study)
    study.settings["review"] = {"ratings": ["ratings.csv"]}
    assert not study.planned() & {step.name for step in COHORT_STEPS}
    done = study.run(*WITHOUT_REPORT)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "1 excluded (review-failed 1)" in done.stderr
    asked = pd.read_csv(results / "review/to_correct.csv")
    assert list(asked.save_as) == ["corrected/S0003/stack-01.nii.gz"]

    image = nib.load(results / "subjects/S0003/labels/stack-01.nii.gz")
    labels = np.asarray(image.dataobj).copy()
    labels[labels == 1] = 0
    corrected = study.folder / asked.save_as[0]
    corrected.parent.mkdir(parents=True)
    nib.save(nib.Nifti1Image(labels, image.affine, image.header), corrected)
    done = study.run(*targets)
    assert done.returncode == 0, done.stderr[-3000:]
    assert not study.planned(*targets)
    for step in ("convert_dicom", "segment_muscles", "measure_area", "measure_fat", "draw_preview"):
        assert re.findall(r": (\w+): computed", study.log(step)) == ["S0003"], step

    after = tables(study)
    ledger = after["ledger"].set_index("subject")
    assert (ledger.status["S0001"], ledger.reason["S0001"]) == ("excluded", "review-failed")
    assert set(after["slices"].subject) == {"S0002", "S0003"}
    muscles = after["muscles"].set_index(["subject", "muscle", "side"])
    assert muscles.csa_reason["S0002", "multifidus", "left"] == "review-failed"
    assert muscles.csa_reason["S0003", "psoas_major", "left"] == "absent"
    changed = [("S0002", "multifidus", "left"), ("S0003", "psoas_major", "left")]
    areas = before["muscles"].set_index(["subject", "muscle", "side"]).csa_mean_mm2
    same = [key for key in muscles.index if key not in changed]
    assert len(same) == 14
    assert muscles.csa_mean_mm2[same].equals(areas[same])
    assert pd.read_csv(results / "review/to_correct.csv").empty
    failures = pd.read_csv(results / "review/failures.csv").set_index(["what", "verdict"])
    assert failures.loc[("scan", "fail"), ["rated", "count"]].tolist() == [2, 1]
    assert failures.loc[("scan or muscle", "fail"), "count"] == 2


def test_a_file_of_ratings_that_is_not_there_stops_the_run(study):
    study.settings["review"] = {"ratings": ["none.csv"]}
    done = study.run()
    assert done.returncode != 0
    assert "review.ratings: none.csv: no such file" in done.stderr
