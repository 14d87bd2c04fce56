import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from paravert import codebook, tables
from paravert.anatomy import LABELS, MUSCLES
from paravert.errors import InputError
from paravert.measure import review_pictures
from paravert.measure.slice_picture import SliceView
from paravert.study import review
from paravert.study.flags import doubtful_sections
from paravert.study.ratings import COLUMNS
from review_study import HOSTILE, SUBJECTS, write_study
from study_tables import cohort_rows


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("review")
    write_study(home)
    return home


def arguments(path):
    """Return the arguments of the function call that a data file is."""
    text = path.read_text(encoding="ascii")
    call = re.fullmatch(r"paravert\.(scans|page)\((.*)\);\n", text)
    return json.loads(f"[{call[2]}]")


@pytest.fixture(scope="module")
def scans(home):
    scans, _ = arguments(home / "review/data/scans.js")
    return {scan["scan"]: scan for scan in scans}


def test_every_scan_of_the_ledger_is_in_the_page_with_its_status(scans):
    assert list(scans) == [f"S{number:04d}" for number in range(1, SUBJECTS + 3)]
    assert scans["S0014"]["status"] == "quarantined"
    assert "page" not in scans["S0014"]
    assert scans["S0001"]["fingerprint"] == "d000000000000001"


def test_pictures_of_an_earlier_result_of_a_quarantined_scan_are_not_shown(home, tmp_path):
    study = tmp_path / "study"
    shutil.copytree(home, study)
    shutil.copytree(study / "subjects/S0001/review", study / "subjects/S0014/review")
    review.write_review(study / "cohort", study / "subjects", study / "review")
    scans, _ = arguments(study / "review/data/scans.js")
    shown = {scan["scan"]: scan["pictures"] for scan in scans}
    assert shown["S0001"]
    assert not shown["S0014"]


def test_a_scan_has_the_lines_of_its_slices_on_the_sagittal_picture(home):
    _, found = arguments(home / "review/data/page-0001.js")
    rows, columns = review_pictures.PICTURE_SIZE
    assert found["S0001"]["sagittal"] == [columns, rows]
    assert len(found["S0001"]["lines"]) == len(found["S0001"]["slices"])
    assert found["S0001"]["lines"][-1] is None
    assert "sagittal" not in found["S0002"]


def test_the_lowest_predicted_iou_names_muscle_side_and_slice(scans):
    assert scans["S0003"]["lowest"] == [0.9, 0.9, 0.21, 0.9]
    assert scans["S0003"]["where"] == "erector spinae right, slice 1/4"


@pytest.mark.parametrize(("limit", "red"), [(0.67, 5), (0.671, 6), (0.66, 4), (0.675, 8)])
def test_sections_are_red_that_are_doubtful_in_the_table(limit, red):
    iou = pd.Series([0.1, 0.64, 0.65, 0.6549, 0.6696, 0.6704, 0.6711, 0.6749])
    (shown,) = review._by_slice(iou, 2, limit)
    assert [value < limit for value in shown] == doubtful_sections(iou, limit).to_list()
    assert doubtful_sections(iou, limit).sum() == red
    rows = pd.DataFrame({"predicted_iou": iou[4:5], "muscle": "multifidus", "side": "left"})
    (lowest,) = filter(None, review.lowest_iou(rows.assign(stack_id=1, slice=1), limit)["lowest"])
    assert (lowest < limit) == (iou[4] < limit)


def test_a_scan_has_all_slices_and_eight_values_each(home):
    number, found = arguments(home / "review/data/page-0001.js")
    rows = pd.read_parquet(home / "cohort/slices.parquet")
    assert number == 1
    for subject, detail in found.items():
        own = rows[rows.subject == subject]
        assert [slice_[1] for slice_ in detail["slices"]] == list(range(6))
        for place, label in enumerate(LABELS):
            chosen = own[(own.muscle == label.muscle) & (own.side == label.side)]
            areas = [values[place] for values in detail["csa"]]
            assert areas == [round(value) for value in chosen.sort_values("slice").csa_mm2]


def test_levels_of_slices_and_of_scans_are_those_of_the_table(home, scans):
    _, found = arguments(home / "review/data/page-0001.js")
    rows = pd.read_parquet(home / "cohort/slices.parquet")
    for subject, detail in found.items():
        own = rows[(rows.subject == subject) & (rows.muscle == MUSCLES[0]) & (rows.side == "left")]
        own = own.sort_values("slice")
        assert [slice_[3] for slice_ in detail["slices"]] == own.level.to_list()
        ends = [own.level_position.min(), own.level_position.max()]
        assert scans[subject]["levels"] == pytest.approx(ends, abs=0.005)


def test_percentiles_are_ranks_within_the_cohort(home):
    _, found = arguments(home / "review/data/page-0001.js")
    volumes = {subject: detail["measures"][0][1] for subject, detail in found.items()}
    in_order = sorted(volumes.values())
    assert [percentile for _, percentile in in_order] == [
        round(100 * rank / SUBJECTS) for rank in range(1, SUBJECTS + 1)
    ]


def test_the_reading_list_stands_in_the_page_without_saying_who_was_drawn_why(home):
    scans, listed = arguments(home / "review/data/scans.js")
    drawn = pd.read_csv(home / "review/reading_list.csv")
    assert listed == drawn.scan.to_list()
    assert set(drawn.scan) <= {scan["scan"] for scan in scans if scan["status"] == "analysed"}
    assert {"S0003", "S0007"} <= set(drawn[drawn.drawn_as != "random"].scan)
    assert not any("drawn" in scan for scan in scans)
    assert (pd.read_csv(home / "review/failures.csv").rated == 0).all()


def test_data_cannot_end_a_script_and_the_page_has_no_address(home):
    for file in (home / "review/data").iterdir():
        assert "<" not in file.read_text(encoding="ascii")
    page = (home / "review/index.html").read_text(encoding="utf-8")
    assert HOSTILE not in page
    assert "http" not in page
    assert str(home) not in page + (home / "review/data/scans.js").read_text()


def test_a_study_without_analysed_scans_has_a_page(tmp_path):
    rows = cohort_rows(0, quarantined=2)
    for table in codebook.COHORT_TABLES:
        data = tables.from_rows(table, rows[table.name])
        tables.write(tmp_path / f"cohort/{table.name}.parquet", table, data, {})
    review.write_review(tmp_path / "cohort", tmp_path / "subjects", tmp_path / "review")
    scans, _ = arguments(tmp_path / "review/data/scans.js")
    assert [scan["status"] for scan in scans] == ["quarantined"] * 2


def test_a_study_with_visits_is_reviewed_scan_by_scan(tmp_path, scans, home):
    write_study(tmp_path, visits=True)
    found, listed = arguments(tmp_path / "review/data/scans.js")
    names = [f"P{number}_{visit}" for number in range(1, 8) for visit in (1, 2)]
    assert set(listed) < set(names)
    assert [scan["scan"] for scan in found] == names
    for own, same in zip(found, scans.values(), strict=True):  # all but the name
        assert own | {"scan": same["scan"]} == same
    _, pages = arguments(tmp_path / "review/data/page-0001.js")
    _, same_pages = arguments(home / "review/data/page-0001.js")
    assert list(pages.values()) == list(same_pages.values())
    assert list(pages) == names[:SUBJECTS]


def test_contours_lie_on_the_rim_of_the_labels_in_the_place_of_their_slice(tmp_path):
    rows, columns = review_pictures.PICTURE_SIZE
    view = SliceView((rows / 2 - 0.5, columns / 2 - 0.5), (1.0, 1.0), (rows, columns))
    planes = [np.zeros((rows, columns), np.uint8) for _ in range(10)]
    planes[9][100:140, 50:90] = 3
    file = tmp_path / "contours.png"
    review_pictures.write_contours(file, [(plane, view) for plane in planes])
    with Image.open(file) as picture:
        assert picture.size == (8 * columns, 2 * rows)
        drawn = np.asarray(picture)
        assert picture.info["transparency"] == 0
    expected = np.zeros_like(planes[9])
    expected[100:140, 50:90] = 3
    expected[102:138, 52:88] = 0
    assert np.array_equal(drawn[rows:, columns : 2 * columns], expected)
    assert not drawn[:rows].any()
    assert not drawn[rows:, 2 * columns :].any()


def test_places_without_a_slice_are_empty(tmp_path):
    rows, columns = review_pictures.PICTURE_SIZE
    view = SliceView((rows / 2 - 0.5, columns / 2 - 0.5), (1.0, 1.0), (rows, columns))
    planes = [np.full((rows, columns), 7, np.uint8)] * 9
    review_pictures.write_grey(tmp_path / "slices.jpg", [(plane * 30, view) for plane in planes])
    planes = [np.indices((rows, columns)).sum(axis=0) // 2 % 2 * np.uint8(7)] * 9
    review_pictures.write_contours(tmp_path / "contours.png", [(plane, view) for plane in planes])
    for name in ("slices.jpg", "contours.png"):
        with Image.open(tmp_path / name) as picture:
            drawn = np.asarray(picture)
        assert drawn[rows:, :columns].any()
        assert not drawn[rows:, columns + 8 :].any()


def test_very_many_slices_have_more_columns_so_that_a_jpeg_can_hold_them(tmp_path, monkeypatch):
    rows, columns = review_pictures.PICTURE_SIZE
    assert review_pictures.GRID_ROWS * rows <= 65_500
    monkeypatch.setattr(review_pictures, "GRID_ROWS", 2)
    view = SliceView((0, 0), (1.0, 1.0), (rows, columns))
    plane = np.zeros((2, 2), np.uint8)
    file = tmp_path / "slices.jpg"
    review_pictures.write_grey(file, [(plane, view)] * 17)
    with Image.open(file) as picture:
        assert picture.size == (9 * columns, 2 * rows)


def test_the_page_knows_the_muscles_and_where_pictures_are(home):
    page = (home / "review/index.html").read_text(encoding="utf-8")
    settings = json.loads(re.search(r"SETTINGS = (\{.*\});", page)[1])
    assert settings["muscles"] == list(MUSCLES)
    pictures = ("slices.jpg", "contours.png", "manual.png", "sagittal.jpg")
    assert settings["files"] == [f"review/{name}" for name in pictures]


def test_a_rule_that_names_nobody_is_refused_before_anything_is_written(home, tmp_path):
    file, out = tmp_path / "ratings.csv", tmp_path / "review"
    file.write_text(f"{','.join(COLUMNS)}\nS0001,A,10:30,fail,,,,,f\n")
    with pytest.raises(InputError, match="review.rule: 'a', expected any, all or .*: A"):
        review.write_review(
            home / "cohort", home / "subjects", out, ratings=[file], rating_rule="a"
        )
    assert not out.exists()
