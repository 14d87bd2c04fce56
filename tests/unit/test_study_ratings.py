"""Ratings of the review page, and what they leave out of the cohort tables."""

import pytest

from paravert.anatomy import MUSCLES, SIDES
from paravert.errors import InputError
from paravert.study.ratings import COLUMNS, failed, read_ratings

HEADER = ",".join(COLUMNS)
MULTIFIDUS = {("multifidus", "left"), ("multifidus", "right")}
EVERY = {(muscle, side) for muscle in MUSCLES for side in SIDES}


def write(path, *lines):
    """Write ratings: "scan rater verdict muscle side fingerprint", with - for an empty cell."""
    rows = []
    for line in lines:
        cells = ["" if word == "-" else word for word in line.split()]
        scan, rater, verdict, muscle, side, fingerprint = cells
        rows.append(f"{scan},{rater},10:30,{verdict},{muscle},{side},,a note,{fingerprint}")
    path.write_text("\r\n".join([HEADER, *rows, ""]), encoding="utf-8")
    return path


@pytest.fixture
def two(tmp_path):
    """Return the ratings of raters A and B."""
    first = write(
        tmp_path / "a.csv",
        "S1 A fail - - f1",
        "S2 A fail multifidus - f2",
        "S3 A pass - - f3",
        "S4 A fail - - old",
        "S5 A fail - - f5",
    )
    second = write(
        tmp_path / "b.csv",
        "S1 B fail - - f1",
        "S2 B fail multifidus left f2",
        "S3 B fail psoas_major right f3",
        "S5 B fail psoas_major left f5",
    )
    return read_ratings([first, second])


DIGESTS = {f"S{number}": f"f{number}" for number in range(1, 7)}


def test_any_rater_fails_a_scan_or_a_muscle(two):
    found = failed(two, DIGESTS, "any")
    assert found.scans == {"S1", "S5"}
    assert found.muscles == {"S2": MULTIFIDUS, "S3": {("psoas_major", "right")}}
    assert found.outdated == {"S4"}


def test_all_raters_fail_what_each_of_them_fails(two):
    found = failed(two, DIGESTS, "all")
    assert found.scans == {"S1"}
    assert found.muscles == {"S2": {("multifidus", "left")}, "S5": {("psoas_major", "left")}}


def test_a_named_rater_decides_alone(two):
    found = failed(two, DIGESTS, "B")
    assert found.scans == {"S1"}
    assert found.muscles["S3"] == {("psoas_major", "right")}
    assert found.muscles["S5"] == {("psoas_major", "left")}


def test_ratings_of_other_labels_and_of_other_scans_are_not_applied(two):
    changed = DIGESTS | {"S1": "new"}
    del changed["S5"]
    found = failed(two, changed, "any")
    assert found.scans == frozenset()
    assert found.outdated == {"S1", "S4"}


def test_correct_and_pass_exclude_nothing(tmp_path):
    file = write(tmp_path / "a.csv", "S1 A correct multifidus left f1", "S2 A pass - - f2")
    found = failed(read_ratings([file]), DIGESTS, "any")
    assert (found.scans, found.muscles, found.outdated) == (frozenset(), {}, frozenset())


def test_a_file_that_a_spreadsheet_saved_is_read(tmp_path):
    file = write(tmp_path / "a.csv", "S1 A fail - - f1")
    text = file.read_text().replace(",", ";")
    file.write_text(text, encoding="utf-8-sig")
    assert failed(read_ratings([file]), DIGESTS, "any").scans == {"S1"}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("S1 A failed - - f1", "line 2: verdict 'failed', expected pass, correct, fail"),
        ("S1 A fail glutaeus - f1", "line 2: muscle 'glutaeus', expected psoas_major"),
        ("S1 A fail - left f1", "line 2: side 'left', expected none without a muscle"),
        ("S1 A fail - - -", "line 2: no fingerprint"),
    ],
)
def test_a_faulty_rating_is_told_with_its_line(tmp_path, line, told):
    with pytest.raises(InputError, match=told):
        read_ratings([write(tmp_path / "a.csv", line)])


def test_one_rater_has_one_file_and_rates_a_thing_once(tmp_path):
    one = write(tmp_path / "a.csv", "S1 A fail - - f1")
    with pytest.raises(InputError, match="another file"):
        read_ratings([one, write(tmp_path / "b.csv", "S2 A fail - - f2")])
    with pytest.raises(InputError, match="2 raters"):
        read_ratings([write(tmp_path / "c.csv", "S1 A fail - - f1", "S2 B fail - - f2")])
    with pytest.raises(InputError, match="line 3: the same scan"):
        read_ratings([write(tmp_path / "d.csv", "S1 A fail - - f1", "S1 A pass - - f1")])
    one.write_text("scan,rater\nS1,A\n")
    with pytest.raises(InputError, match="no column fingerprint, muscle"):
        read_ratings([one])
