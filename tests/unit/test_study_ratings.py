"""Ratings of the review page, and what they leave out of the cohort tables."""

import pytest

from paravert.anatomy import MUSCLES, SIDES
from paravert.errors import InputError
from paravert.study.ratings import (
    COLUMNS,
    VERDICTS,
    Rating,
    agreement_of_raters,
    failed,
    read_ratings,
    to_correct,
)

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


def cohort_of(counts):
    """Return the ratings of two raters whose table of counts is given: rows A, columns B."""
    ratings, number = [], 0
    for first, row in zip(VERDICTS, counts, strict=True):
        for second, count in zip(VERDICTS, row, strict=True):
            for _ in range(count):
                number += 1
                for rater, verdict in (("A", first), ("B", second)):
                    ratings.append(Rating(f"S{number}", rater, verdict, "", "", "f"))
    return ratings


def test_kappa_is_that_of_the_textbook():
    # Fleiss, Levin and Paik, Statistical Methods for Rates and Proportions, 3rd ed., table 18.1:
    # proportions 0.75, 0.01, 0.04; 0.05, 0.04, 0.01; 0, 0, 0.10 of 100 subjects, kappa = 0.676.
    found = agreement_of_raters(cohort_of([[75, 1, 4], [5, 4, 1], [0, 0, 10]]))
    verdicts, failing = found.to_dict("records")
    assert verdicts["scans"] == 100
    assert verdicts["agreement"] == pytest.approx(0.89)
    assert verdicts["kappa"] == pytest.approx(0.676, abs=0.001)
    assert verdicts["kappa_low"] < verdicts["kappa"] < verdicts["kappa_high"]
    share, chance = 0.95, 0.15 * 0.10 + 0.85 * 0.90
    assert failing["kappa"] == pytest.approx((share - chance) / (1 - chance))


def test_kappa_is_null_where_it_is_not_defined():
    one = agreement_of_raters(cohort_of([[5, 0, 0], [0, 0, 0], [0, 0, 0]]))
    assert (one.agreement == 1).all()
    assert one.kappa.isna().all()
    assert agreement_of_raters(cohort_of([[5, 0, 0], [0, 0, 0], [0, 0, 0]])[::2]).empty
    apart = [Rating("S1", "A", "pass", "", "", "f"), Rating("S1", "B", "pass", "", "", "g")]
    assert list(agreement_of_raters(apart).scans) == [0, 0]


def test_what_is_to_be_corrected_has_commands_for_each_stack(tmp_path):
    for stack in (1, 2):
        file = tmp_path / f"S1/labels/stack-0{stack}.nii.gz"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    ratings = [
        Rating("S1", "A", "correct", "multifidus", "left", "f1", "boundary", "low"),
        Rating("S2", "A", "correct", "", "", "older"),
        Rating("S1", "B", "pass", "", "", "f1"),
    ]
    found = to_correct(ratings, DIGESTS, tmp_path)
    assert list(found["stack"]) == [1, 2]
    assert list(found.note) == ["low", "low"]
    assert found.itksnap[1] == (
        "itksnap -g results/subjects/S1/image/stack-02.nii.gz"
        " -s results/subjects/S1/labels/stack-02.nii.gz"
    )
    assert found.save_as[0] == "corrected/S1/stack-01.nii.gz"
    assert str(tmp_path) not in found.to_csv()
