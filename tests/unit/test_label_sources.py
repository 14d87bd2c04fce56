"""Whose label values are which muscles, and what is said of a faulty table."""

import pytest

from paravert.anatomy import LABEL_VALUES
from paravert.errors import InputError
from paravert.label_sources import OWN, SOURCES, as_option, from_option, label_source

TABLE = {21: ["psoas_major", "left"], 22: ["psoas_major", "right"], 7: ["multifidus", "left"]}


def test_named_sources_have_the_values_of_their_documentation():
    assert SOURCES["musclemap"].values == {
        5101: 7, 5102: 8, 5111: 5, 5112: 6, 5121: 1, 5122: 2, 5131: 3, 5132: 4,
    }  # fmt: skip
    assert SOURCES["totalsegmentator_mr"].values == {48: 1, 49: 2}
    assert SOURCES["totalsegmentator_mr"].labels == (1, 2)
    assert SOURCES["musclemap"].labels == OWN.labels == LABEL_VALUES


@pytest.mark.parametrize("setting", ["paravert", "musclemap", "totalsegmentator_mr"])
def test_a_name_passes_to_a_command_as_it_is(setting):
    assert from_option(as_option(setting)) is label_source(setting) is SOURCES[setting]


def test_a_table_passes_to_a_command_as_json():
    source = label_source(TABLE)
    assert source.values == {7: 7, 21: 1, 22: 2}
    assert from_option(as_option(TABLE)) == source
    assert source.labels == (1, 2, 7)


def test_several_values_may_be_one_muscle():
    source = label_source({1: ["erector_spinae", "left"], 2: ["erector_spinae", "left"]})
    assert source.labels == (5,)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("musclmap", "'musclmap', expected paravert, musclemap, totalsegmentator_mr or a table"),
        ({}, "{}, expected paravert"),
        ({"a": TABLE[7]}, "value 'a', expected a whole number from 1 to 65535"),
        ({0: TABLE[7]}, "value 0, expected a whole number"),
        ({-3: TABLE[7]}, "value -3, expected a whole number"),
        ({1.5: TABLE[7]}, "value 1.5, expected a whole number"),
        ({True: TABLE[7]}, "value True, expected a whole number"),
        ({70000: TABLE[7]}, "value 70000, expected a whole number"),
        ({3: "psoas_major"}, "3: 'psoas_major', expected [muscle, side]"),
        ({3: ["psoas", "left"]}, "3: 'psoas', expected one of psoas_major, quadratus_lumborum"),
        ({3: ["psoas_major", "L"]}, "3: 'L', expected one of left, right"),
        ({3: [["psoas_major"], "left"]}, "3: ['psoas_major'], expected one of psoas_major"),
    ],
)
def test_a_fault_says_what_was_found_and_expected(setting, told):
    with pytest.raises(InputError) as caught:
        label_source(setting)
    assert str(caught.value).startswith("convert_dicom.labels_from: ")
    assert told in str(caught.value)


def test_all_faults_of_a_table_are_told_at_once():
    with pytest.raises(InputError) as caught:
        label_source({"x": ["psoas", "L"]})
    assert all(word in str(caught.value) for word in ("value 'x'", "'psoas'", "'L'"))


def test_an_option_that_is_no_json_is_told():
    with pytest.raises(InputError, match="expected a table as JSON"):
        from_option("{1: [psoas_major, left]}")
