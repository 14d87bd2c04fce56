"""The contrast of a series by its times, its image type and its description."""

import pytest

from paravert.archive.contrast import contrast_of


@pytest.mark.parametrize(
    ("echo_ms", "repetition_ms", "contrast"),
    [
        (21, 567, "T1"),
        (12, 650, "T1"),
        (105, 6000, "T2"),
        (70, 2500, "T2"),
        (15, 3000, "PD"),
        (50, 3000, "unknown"),
        (100, 700, "unknown"),
        (None, 3000, "unknown"),
    ],
)
def test_times_of_a_spin_echo_decide(echo_ms, repetition_ms, contrast):
    times = {"echo_time_ms": echo_ms, "repetition_time_ms": repetition_ms}
    assert contrast_of(sequence=("SE",), **times) == contrast


def test_times_decide_against_the_description():
    times = {"echo_time_ms": 100, "repetition_time_ms": 4000}
    assert contrast_of(sequence=("SE",), description="t1_tse_tra", **times) == "T2"


@pytest.mark.parametrize(
    ("description", "contrast"),
    [
        ("t1_fl2d_tra", "T1"),
        ("AX T2 medic", "T2"),
        ("T2* fl2d", "unknown"),
        ("tirm_cor", "STIR"),
        ("pd_tra", "PD"),
        ("Proton Density", "PD"),
        ("update", "unknown"),
        ("", "unknown"),
    ],
)
def test_the_description_decides_for_gradient_echoes(description, contrast):
    times = {"echo_time_ms": 5, "repetition_time_ms": 200}
    assert contrast_of(sequence=("GR",), description=description, **times) == contrast


def test_a_short_repetition_time_is_no_spin_echo():
    assert contrast_of(echo_time_ms=2.4, repetition_time_ms=6) == "unknown"
    assert contrast_of(echo_time_ms=12, repetition_time_ms=600) == "T1"


@pytest.mark.parametrize(
    ("inversion_ms", "contrast"), [(110, "STIR"), (230, "STIR"), (2500, "unknown"), (0, "T2")]
)
def test_an_inversion_that_nulls_fat_is_stir(inversion_ms, contrast):
    times = {"echo_time_ms": 80, "repetition_time_ms": 3320, "inversion_time_ms": inversion_ms}
    assert contrast_of(sequence=("SE", "IR"), **times) == contrast


@pytest.mark.parametrize(
    ("word", "part"),
    [
        ("WATER", "dixon-water"),
        ("W", "dixon-water"),
        ("F", "dixon-fat"),
        ("IN_PHASE", "dixon-in-phase"),
        ("OPP_PHASE", "dixon-opposed-phase"),
        ("FF", "dixon-fat-fraction"),
    ],
)
def test_parts_of_dixon_are_told_by_the_image_type(word, part):
    image_type = ("DERIVED", "PRIMARY", "DIXON", word)
    times = {"echo_time_ms": 2.4, "repetition_time_ms": 6}
    assert contrast_of(image_type=image_type, sequence=("GR",), **times) == part
