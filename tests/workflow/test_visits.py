"""Subjects who come back: the unit of work is the scan, and numbers are those of subjects."""

import os
from pathlib import Path

import pandas as pd
import pytest

from paravert.codebook import COHORT_TABLES
from studies import Study, cohort_tables, copy_of_the_workflow, small_cohort

pytestmark = pytest.mark.workflow

VISITS = {"A": ("1", "2"), "A_1": ("2",), "B": ("x",)}
SCANS = [f"{subject}_{visit}" for subject, visits in VISITS.items() for visit in visits]


@pytest.fixture(scope="module")
def visited(tmp_path_factory):
    """A study of three subjects, one of them with two visits, and one without images."""
    study = small_cohort(tmp_path_factory.mktemp("visits"), SCANS)
    for row in study.rows:
        row["subject"], _, row["visit"] = row["subject"].rpartition("_")
        if row["visit"] == "EMPTY":
            row["subject"], row["visit"] = "C", "1"
    study.rows[0]["years_since_first"], study.rows[1]["years_since_first"] = "0", "2"
    study.settings["subjects_per_shard"] = 3
    done = study.run()
    assert done.returncode == 0, done.stderr[-3000:]
    assert (
        "4 subjects, 5 scans: 4 scans analysed, 1 quarantined (no-dicom 1)"
        in done.stdout + done.stderr
    )
    return study


@pytest.fixture
def study(visited, tmp_path):
    return visited.copy(tmp_path / "study")


def test_folders_and_records_go_by_scan_and_tables_by_subject_and_visit(visited):
    results = visited.folder / "results"
    assert sorted(path.name for path in (results / "subjects").iterdir()) == sorted([*SCANS, "C_1"])
    assert all((results / "subjects" / scan / "preview.png").is_file() for scan in SCANS)
    tables = cohort_tables(visited)
    for name, table in tables.items():
        found = table[["subject", "visit"]].drop_duplicates()
        scans = {f"{row.subject}_{row.visit}" for row in found.itertuples()}
        assert scans == {*SCANS, *(["C_1"] if name == "ledger" else [])}
    text = (results / "report.html").read_text()
    for told in (
        "subjects in the sheet",
        "scans in the sheet",
        "A_1_2",
        "4 subjects (5 scans)",
        "Change between visits",
    ):
        assert told in text


def test_change_is_that_of_the_scans(visited):
    change = pd.read_csv(visited.folder / "results/tables/change.csv")
    muscles = pd.read_parquet(visited.folder / "results/cohort/muscles.parquet")
    area = muscles.set_index(["subject", "visit", "muscle", "side"]).csa_mean_mm2
    rows = change[change.measure == "csa_mean_mm2"]
    assert set(rows.subject) == {"A"}
    assert len(rows) == 8
    for row in rows.itertuples():
        first, last = (area["A", visit, row.muscle, row.side] for visit in "12")
        assert row.change == pytest.approx(last - first)
        assert row.change_per_year == pytest.approx((last - first) / 2)


def test_a_third_visit_costs_itself_and_a_selected_subject_brings_all_its_visits(study):
    assert study.planned() == set()
    records = [study.folder / "results/subjects" / scan / "status.json" for scan in SCANS]
    before = [record.stat().st_mtime_ns for record in records]
    study.rows.append(study.rows[1] | {"visit": "3", "years_since_first": "3"})
    done = study.run("--config", "subjects=A", "--until", "write_tables")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "convert_dicom: A_3: computed, analysed" in study.log("convert_dicom")
    assert [record.stat().st_mtime_ns for record in records] == before
    ledger = cohort_tables(study)["ledger"]
    assert ledger[["subject", "visit"]].values.tolist() == [["A", "1"], ["A", "2"], ["A", "3"]]
    change = pd.read_csv(study.folder / "results/tables/change.csv")
    assert set(zip(change.first_visit, change.last_visit, change.years, strict=True)) == {
        (1, 3, 3.0)
    }


def test_dicom_segmentations_of_visits_are_made_once(study):
    assert study.run("--", "all_dicomseg").returncode == 0
    assert study.planned("--", "all_dicomseg") == set()


def test_without_the_column_the_tables_are_those_of_scans(visited, tmp_path):
    """The same images without visits, a subject each: the same numbers, and no column visit."""
    alone = visited.without_results(tmp_path / "alone")
    for row in alone.rows:
        row["subject"] = f"{row['subject']}_{row.pop('visit')}"
        row.pop("years_since_first", None)
    alone.hash_seed = 2  # it is compared with the other run
    done = alone.gather()
    assert done.returncode == 0, done.stderr[-3000:]
    tables = cohort_tables(alone)
    for name, expected in cohort_tables(visited).items():
        scans = expected.subject + "_" + expected.visit
        expected = expected.assign(subject=scans).drop(columns="visit")
        expected = expected.drop(columns="years_since_first", errors="ignore")
        keys = next(table.keys for table in COHORT_TABLES if table.name == name)
        expected = expected.sort_values(list(keys), ignore_index=True)
        pd.testing.assert_frame_equal(tables[name], expected, check_exact=True)


@pytest.mark.real
@pytest.mark.long
def test_two_real_studies_are_two_visits_of_one_subject(tmp_path):
    """The two CC0 studies, 0.3 T and 1.5 T, by the shipped model."""
    data = Path(os.environ["PARAVERT_REAL_DATA"])
    copy_of_the_workflow(tmp_path)
    study = Study(tmp_path)
    study.add("A001", data / "lumbar_study_cc0", visit="1", sex="M", date="2020-01-01")
    study.add("A001", data / "lumbar_study_cc0_15t", visit="2", sex="M", date="1.1.2022")
    done = study.run()
    assert done.returncode == 0, done.stderr[-3000:]
    assert "1 subject, 2 scans: 2 scans analysed, 0 quarantined" in done.stdout + done.stderr
    tables = cohort_tables(study)
    assert list(tables["subjects"].subject) == ["A001", "A001"]
    assert set(tables["subjects"].field_strength_t) == {0.3, 1.5}
    change = pd.read_csv(study.folder / "results/tables/change.csv")
    area = tables["muscles"].set_index(["visit", "muscle", "side"]).csa_at_level_mm2
    rows = change[change.measure == "csa_at_level_mm2"].dropna(subset=["change"])
    assert len(rows) >= 6
    for row in rows.itertuples():
        first, last = (area[visit, row.muscle, row.side] for visit in "12")
        assert row.change_per_year == pytest.approx((last - first) / 731 * 365.25, rel=1e-3)
    models = pd.read_csv(study.folder / "results/tables/models.csv")
    assert "1 subject" in " ".join(models.note.dropna())
    assert models.n_subjects.max() <= 1 or models.n_subjects.isna().all()
