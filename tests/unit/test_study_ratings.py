"""Ratings of the review page, what they leave out of the cohort tables, and the reading list."""

from pathlib import Path

import pandas as pd
import pytest

from paravert.anatomy import MUSCLES, SIDES
from paravert.errors import InputError
from paravert.study.ratings import (
    COLUMNS,
    VERDICTS,
    Rating,
    agreement_of_raters,
    check_rule,
    check_scans,
    failed,
    read_ratings,
    to_correct,
    unknown_scans,
)
from paravert.study.reading_list import FAIL, reading_list, share_of_failures

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


@pytest.mark.parametrize("rule", ["a", "C", "Any"])
def test_a_rule_must_name_a_rater_with_ratings(two, rule):
    check_rule([], rule)
    with pytest.raises(InputError, match=f"review.rule: '{rule}', expected any, all or .*: A, B"):
        check_rule(two, rule)
    for known in ("any", "all", "A", "B"):
        check_rule(two, known)


def test_a_scan_whose_name_a_spreadsheet_changed_is_found_by_its_labels(tmp_path):
    first = write(tmp_path / "a.csv", "7 A fail - - f7", "012 A pass - - f12", "12 A pass - - old")
    ratings = read_ratings([first])
    scans = {"007", "012", "away"}
    assert unknown_scans(ratings, scans) == {str(first): ["12", "7"]}
    told = r"a.csv: .* other names than in the sheet: 7 \(in the sheet 007\); .* leading zeros"
    with pytest.raises(InputError, match=told):
        check_scans(ratings, scans, {"007": "f7", "012": "f12", "away": None})


def test_a_scan_that_left_the_sheet_is_no_fault_nor_is_the_copy_of_another(tmp_path):
    file = write(tmp_path / "a.csv", "gone A fail - - f9", "copy A fail - - f1", "S1 A fail - - f1")
    ratings = read_ratings([file])
    check_scans(ratings, DIGESTS, DIGESTS)
    with pytest.raises(InputError, match="copy"):  # the rating of S1 would be lost
        check_scans(ratings[:2], DIGESTS, DIGESTS)


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
    emptied = ";" * text.partition("\n")[0].count(";")
    file.write_text(f"{text.rstrip()}\n{emptied}\n", encoding="utf-8-sig")
    assert failed(read_ratings([file]), DIGESTS, "any").scans == {"S1"}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("S1 A failed - - f1", "line 2: verdict 'failed', expected pass, correct, fail"),
        ("S1 A fail glutaeus - f1", "line 2: muscle 'glutaeus', expected psoas_major"),
        ("S1 A fail - left f1", "line 2: side 'left', expected none without a muscle"),
        ("S1 A fail - - -", "line 2: no fingerprint"),
        ("S1 A fail - - 1.23457E+15", r"line 2: fingerprint '1.23457E\+15', .* into numbers"),
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


def test_a_scan_whose_labels_both_raters_saw_twice_counts_once():
    ratings = [
        Rating("S1", rater, verdict, "multifidus", side, labels)
        for rater, of_new in (("A", "fail"), ("B", "correct"))
        for verdict, side, labels in (("pass", "left", "old"), (of_new, "right", "new"))
    ]
    ratings.append(Rating("S1", "A", "fail", "", "", "seen by A alone"))
    verdicts, failing = agreement_of_raters(ratings).to_dict("records")
    assert verdicts["scans"] == failing["scans"] == 1
    assert verdicts["agreement"] == failing["agreement"] == 0


def test_what_is_to_be_corrected_has_commands_for_each_stack(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = Path("own/subjects")
    for stack in (1, 2):
        file = folder / f"S1/labels/stack-0{stack}.nii.gz"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    ratings = [
        Rating("S1", "A", "correct", "multifidus", "left", "f1", "boundary", "low"),
        Rating("S2", "A", "correct", "", "", "older"),
        Rating("S1", "B", "pass", "", "", "f1"),
    ]
    found = to_correct(ratings, DIGESTS, folder)
    assert list(found["stack"]) == [1, 2]
    assert list(found.note) == ["low", "low"]
    assert found.itksnap[1] == (
        "itksnap -g own/subjects/S1/image/stack-02.nii.gz -s own/subjects/S1/labels/stack-02.nii.gz"
    )
    assert found.save_as[0] == "corrected/S1/stack-01.nii.gz"
    assert str(tmp_path) not in found.to_csv()


# --- the reading list -----------------------------------------------------------------------------


def ledger_of(count):
    """Return a ledger: S000 has the lowest predicted IoU; every tenth scan has no labels."""
    rows = [{"subject": f"S{number:03d}"} for number in range(count)]
    for number, row in enumerate(rows):
        if number % 10 != 9:
            row |= {"labels_digest": f"f{number}", "predicted_iou_lowest": number / count}
    return pd.DataFrame(rows)


def test_the_reading_list_has_the_worst_and_as_many_at_random_and_is_shuffled():
    ledger = ledger_of(300)
    found = reading_list(ledger, 20, seed=1)
    drawn = found.set_index("scan").drawn_as
    worst = {f"S{number:03d}" for number in range(22) if number % 10 != 9}
    assert set(drawn[drawn != "random"].index) == worst
    assert (drawn != "worst").sum() == 20
    assert not {scan for scan in drawn.index if scan.endswith("9")}
    assert drawn.index.is_unique
    places = [place for place, scan in enumerate(found.scan) if scan in worst]
    assert max(places) - min(places) > 25  # not one after the other
    assert not found.equals(reading_list(ledger, 20, seed=2))
    assert reading_list(ledger, 0, seed=1).empty
    assert len(reading_list(ledger, 1000, seed=1)) == 270


def test_most_of_the_random_scans_stay_when_scans_are_added():
    before, after = (reading_list(ledger_of(count), 50, seed=1) for count in (200, 220))
    random = [set(listed[listed.drawn_as != "worst"].scan) for listed in (before, after)]
    assert len(random[0] & random[1]) > 38
    again = reading_list(ledger_of(200).iloc[::-1], 50, seed=1)
    assert again.equals(before)


def test_every_scan_is_drawn_as_often_as_any_other():
    ledger = ledger_of(100)
    drawn = pd.Series(0, index=ledger.subject)
    for seed in range(600):
        listed = reading_list(ledger, 9, seed)
        drawn[listed[listed.drawn_as != "worst"].scan] += 1
    drawn = drawn[ledger.labels_digest.notna().to_numpy()]
    assert drawn.sum() == 600 * 9
    chi2 = ((drawn - 60) ** 2 / (60 * 0.9)).sum()  # 90 scans, each with probability 0.1
    assert 50 < chi2 < 140  # 89 degrees of freedom: 0.0003 and 0.9995


def test_the_share_of_failures_is_that_of_the_random_scans_alone():
    """15 of 148: 0.0624 to 0.1605 (Newcombe 1998, table I, method 3, Wilson's score interval)."""
    listed = pd.DataFrame(
        {
            "scan": [f"S{number}" for number in range(400)],
            "drawn_as": ["random"] * 100 + ["both"] * 48 + ["worst"] * 252,
        }
    )
    digests = {scan: "f" for scan in listed.scan}
    verdicts = ["fail"] * 15 + ["pass"] * 133 + ["fail"] * 252
    ratings = [
        Rating(scan, "A", verdict, "", "", "f")
        for scan, verdict in zip(listed.scan, verdicts, strict=True)
    ]
    scan = share_of_failures(listed, ratings, digests, "any").set_index(["what", "verdict"])
    row = scan.loc["scan", FAIL]
    assert (row.drawn, row.rated, row["count"]) == (148, 148, 15)
    assert row.share_low_95 == pytest.approx(0.0624, abs=5e-5)
    assert row.share_high_95 == pytest.approx(0.1605, abs=5e-5)


def test_failures_are_counted_by_muscle_and_rule_and_outdated_ratings_are_not():
    listed = pd.DataFrame({"scan": [f"S{n}" for n in range(5)], "drawn_as": ["random"] * 5})
    digests = dict.fromkeys(listed.scan, "f")
    ratings = [
        Rating("S0", "A", "fail", "", "", "f"),
        Rating("S1", "A", "fail", "multifidus", "left", "f"),
        Rating("S1", "B", "pass", "", "", "f"),
        Rating("S2", "A", "correct", "psoas_major", "", "f"),
        Rating("S3", "A", "fail", "", "", "older"),
    ]
    found = share_of_failures(listed, ratings, digests, "any").set_index(["what", "verdict"])
    assert (found.rated == 3).all()
    assert found["count"].to_list() == [1, 2, 3, 1, 1, 1, 2]
    by_all = share_of_failures(listed, ratings, digests, "all").set_index(["what", "verdict"])
    assert by_all.loc[("multifidus", "fail"), "count"] == 1
    by_b = share_of_failures(listed, ratings, digests, "B")
    assert (by_b.rated == 1).all()
    assert (by_b["count"] == 0).all()
    none = share_of_failures(listed, [], digests, "any")
    assert none.share.isna().all()
