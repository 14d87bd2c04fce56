import numpy as np
import pandas as pd
import pytest

from paravert.anatomy import MUSCLES, SIDES, STANDARD_LEVELS, level_name
from paravert.errors import InputError
from paravert.study.standard_level import (
    StandardLevel,
    both_sides_at_level,
    level_coverage,
    standard_level,
    standard_number,
    too_few_at_level,
)
from paravert.tables import NO_LEVELS, NO_SUCH_LEVEL, NOT_COVERED

SUBJECTS = [f"S{number}" for number in range(10)]


def tables(covered, known=10):
    """Return muscles and levels: the first subjects have slices at L3/4 and below, of `known` levels."""
    keys = [(name, muscle, side) for name in SUBJECTS for muscle in MUSCLES for side in SIDES]
    muscles = pd.DataFrame(keys, columns=["subject", "muscle", "side"])
    number = muscles.subject.str[1:].astype(int)
    muscles["sex"] = np.where(number % 2, "M", "F")
    muscles["csa_at_level_mm2"] = np.where(number < covered, 100.0 + number, np.nan)
    muscles["fat_fraction_at_level"] = np.where(muscles.side == "left", 0.1, 0.3)
    parts = []
    for position in STANDARD_LEVELS:
        there = (number < covered) & (position >= 3.5)
        reason = np.where(number >= known, NO_LEVELS, np.where(there, None, NOT_COVERED))
        level = {"level_position": position, "level": level_name(position)}
        parts.append(
            muscles[["subject", "muscle", "side", "sex"]].assign(level_reason=reason, **level)
        )
    return muscles, pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize(("covered", "used"), [(10, True), (8, True), (7, False), (0, False)])
def test_areas_are_compared_at_the_level_that_four_fifths_of_the_subjects_have(covered, used):
    level = standard_level(*tables(covered), "L3/4")
    assert (level.n_subjects, level.n_covered, level.used) == (10, covered, used)
    assert level.shown == ("L3/4" if used else "all slices")
    assert ("At L3/4" in level.note) == used
    assert ("80 % are needed" in level.note) == (0 < covered < 8)
    assert (too_few_at_level(covered, 10) == "") == used


@pytest.mark.parametrize(
    ("covered", "known", "told"),
    [
        (8, 10, ""),
        (4, 10, "scans cover different ranges (4 subjects have L3/4)"),
        (1, 10, "scans cover different ranges (1 subject has L3/4)"),
        (7, 10, "scans cover different ranges (70 % of the subjects have L3/4)"),
        (0, 0, "scans cover ranges that may differ (no vertebral levels are known)"),
    ],
)
def test_results_over_all_slices_tell_how_many_subjects_have_the_level(covered, known, told):
    assert standard_level(*tables(covered, known), "L3/4").ranges == told


def test_ranges_of_scans_without_the_level_may_be_the_same():
    below = StandardLevel("L3/4", 10, 0, {"L3/4": 0, "L5": 10})
    assert below.ranges == "scans cover ranges that may differ (no subject has L3/4)"
    assert below.note.startswith("Means over all slices, whose ranges may differ: 0 subjects of 10")
    assert StandardLevel("L3/4", 1000, 799, {"L3/4": 799}).ranges.count("(79 % of") == 1
    assert StandardLevel().ranges == ""


def test_the_note_tells_how_many_subjects_have_each_level():
    level = standard_level(*tables(7), "L3/4")
    assert "7 subjects of 10 have a value at L3/4" in level.note
    assert "L1 0, " in level.distribution
    assert "L3/4 7, L4 7" in level.distribution


def test_unknown_levels_are_said_to_be_unknown():
    level = standard_level(*tables(0, known=0), "L3/4")
    assert "no vertebral levels are known" in level.note
    assert level.distribution == ""
    assert StandardLevel().note == ""


def test_coverage_counts_subjects_by_level_and_sex():
    found = level_coverage(tables(7)[1]).set_index(["sex", "level"])
    assert found.loc[("all", "L5"), ["n_subjects", "n_covered"]].tolist() == [10, 7]
    assert found.loc[("F", "L5"), ["n_subjects", "n_covered"]].tolist() == [5, 4]
    assert found.loc[("M", "L1"), "share"] == 0


def test_a_level_that_a_subject_does_not_have_is_not_covered():
    levels = tables(7)[1]
    levels.loc[(levels.subject == "S0") & (levels.level == "L5"), "level_reason"] = NO_SUCH_LEVEL
    found = level_coverage(levels).set_index(["sex", "level"])["n_covered"]
    assert found["all", "L5"] == 6
    assert found["all", "L4"] == 7


def test_both_sides_at_the_level_are_sum_and_weighted_mean():
    muscles, _ = tables(9)
    muscles.loc[(muscles.subject == "S0") & (muscles.side == "left"), "csa_at_level_mm2"] = 300.0
    lost = (muscles.subject == "S1") & (muscles.muscle == "multifidus") & (muscles.side == "left")
    muscles.loc[lost, "csa_at_level_mm2"] = np.nan
    found = both_sides_at_level(muscles).set_index(["subject", "muscle"])
    assert found.loc[("S0", "multifidus"), "csa_at_level_mm2"] == 400
    fat = (300 * 0.1 + 100 * 0.3) / 400
    assert found.loc[("S0", "multifidus"), "fat_fraction_at_level"] == pytest.approx(fat)
    assert found.loc[("S0", "all"), "fat_fraction_at_level"] == pytest.approx(fat)
    assert found.loc["S1", "csa_at_level_mm2"].isna().to_dict() == {
        **dict.fromkeys(MUSCLES, False),
        "multifidus": True,
        "all": True,
    }
    assert found.loc["S9"].csa_at_level_mm2.isna().all()


@pytest.mark.parametrize("name", ["Th12", "L6", "S1", "everything", ""])
def test_a_level_that_cannot_be_standard_is_refused(name):
    with pytest.raises(InputError, match=f"level_standard: {name}, expected L1 to L5/S1"):
        standard_number(name)
