"""Hostile input in one study: each subject is a row of the ledger, and the others are analysed."""

import openpyxl
import pytest

from imaging_cases import CASES
from studies import Study, cohort_tables, copy_of_the_workflow, small_cohort

pytestmark = pytest.mark.workflow

GOOD = ("G1", "G2")
HOSTILE = (
    "too long a path of images",
    "too long a path of truth",
    "a circle of links among the images",
    "nifti, lengths of 32767",
    "nifti, more voxels than memory is set aside for",
    "nifti, compressed, more bytes than its voxels",
    "nifti, a slope of 3e+38 and an intercept of 0",
    "labels that claims lengths of 32767",
    "a slope of 1e+36 and an intercept of 0",
    "a position of 1e+39 mm in all",
    "nifti, compressed, a wrong checksum",
    "five discs, the lowest at 64 degrees",
    "a sagittal scout among ten axial slices",
    "truth without any label",
    "labels without any label",
    "labels of a single slice",
)


def case_of(name):
    return next(one for one in CASES if one.name == name)  # images first, then masks


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Two good subjects and one for each hostile case, in several shards."""
    folder = tmp_path_factory.mktemp("hostile")
    study = small_cohort(folder, GOOD)
    study.rows = [row for row in study.rows if row["subject"] in GOOD]
    study.settings["subjects_per_shard"] = 16
    for number, name in enumerate(HOSTILE):
        case, home = case_of(name), folder / f"case-{number}"
        home.mkdir()
        case.write(home)
        masks = {
            column: str(home / path)
            for column, path in (("truth", case.truth), ("labels", case.labels))
            if path
        }
        study.add(f"C{number}", home / case.images, **masks)
    study.done = study.gather()
    assert study.done.returncode == 0, study.done.stderr[-3000:]
    return study


@pytest.fixture(scope="module")
def tables(study):
    return cohort_tables(study)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_subject_has_its_reason_or_warnings(tables, name):
    case = case_of(name)
    row = tables["ledger"].set_index("subject").loc[f"C{HOSTILE.index(name)}"]
    if case.reason is None:
        assert row.status == "analysed"
        assert set(map(str, case.cautions)) <= set(row.warnings)
    else:
        assert row.reason == str(case.reason)
        assert case.told in row.message


def test_the_others_are_analysed_and_nobody_is_lost(tables):
    ledger = tables["ledger"].set_index("subject")
    assert set(ledger.index) == {*GOOD, *(f"C{number}" for number in range(len(HOSTILE)))}
    assert set(ledger.status[list(GOOD)]) == {"analysed"}
    assert set(GOOD) < set(tables["subjects"].subject)


def test_no_log_and_no_result_tells_where_the_images_are(study):
    told = study.done.stderr + study.done.stdout
    told += "".join(file.read_text() for file in (study.folder / "results/logs").rglob("*.log"))
    assert "Traceback" not in told
    assert "case-" not in told.replace(str(study.folder / "sheet.tsv"), "")


def test_a_quote_that_never_closes_stops_the_run_at_its_line(tmp_path):
    copy_of_the_workflow(tmp_path)
    study = Study(tmp_path)
    lines = [f"S{number},images" for number in range(40)]
    lines[3] = 'S3,"images'
    (tmp_path / "quoted.csv").write_text("\n".join(["subject,images", *lines]))
    study.settings["sheet"] = "quoted.csv"
    done = study.run("--dry-run")
    assert done.returncode != 0
    told = done.stdout + done.stderr
    assert "line 5" in told
    assert "quote" in told
    assert "Traceback" not in told


def test_a_workbook_with_columns_of_its_own_is_planned_and_told_how_it_is_read(tmp_path):
    copy_of_the_workflow(tmp_path)
    study = Study(tmp_path)
    book = openpyxl.Workbook()
    for row in (["Subject", "Images", "Sex", "Smoker"], [7, "a", 1, "yes"], [8, "b", "w", "no"]):
        book.active.append(row)
    book.active["A2"].number_format = book.active["A3"].number_format = "000"
    book.save(tmp_path / "people.xlsx")
    study.settings |= {
        "sheet": "people.xlsx",
        "sex_codes": {1: "M"},
        "columns": {"smoker": "smokes"},
    }
    study.settings["fit_models"] = {"covariates": ["smoker"]}
    done = study.run("--dry-run")
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    assert "people.xlsx: read as an Excel workbook" in told
    assert "people.xlsx: other columns: Smoker (yes/no)" in told
    kept = (tmp_path / ".snakemake/paravert/sheet.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in kept[1:]] == ["007", "008"]
    study.settings["fit_models"] = {"covariates": ["smokes"]}
    done = study.run("--dry-run")
    assert done.returncode != 0
    assert "fit_models.covariates: no smokes, expected among height_cm" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
