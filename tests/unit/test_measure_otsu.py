import numpy as np
import pytest
from skimage.filters import threshold_otsu

from paravert.measure.otsu import otsu_split


def mixture(draw, dark=300, bright=700, size=5000):
    return np.concatenate([draw.normal(dark, 40, size), draw.normal(bright, 60, size // 4)])


def test_whole_numbers_are_split_where_scikit_image_splits_them():
    draw = np.random.default_rng(0)
    for kind in (np.uint16, np.int16, np.int32):
        values = np.round(mixture(draw)).astype(kind)
        assert otsu_split(values).threshold == threshold_otsu(values)


def test_signal_with_fractions_is_split_where_scikit_image_splits_it():
    draw = np.random.default_rng(1)
    for kind in (np.float32, np.float64):
        values = mixture(draw).astype(kind)
        assert otsu_split(values).threshold == pytest.approx(threshold_otsu(values), rel=1e-6)


def test_few_pixels_of_wide_range_are_split_where_scikit_image_splits_them():
    values = np.random.default_rng(2).integers(0, 60_000, 50).astype(np.uint16)
    assert otsu_split(values).threshold == threshold_otsu(values)


def test_separability_of_two_values_is_one():
    split = otsu_split(np.array([10] * 70 + [90] * 30, dtype=np.int16))
    assert 10 <= split.threshold < 90
    assert split.separability == pytest.approx(1)


def test_separability_of_pure_noise_is_two_over_pi():
    # Halves of a normal distribution have their means at +- sqrt(2 / pi) standard deviations.
    values = np.random.default_rng(3).normal(0, 1, 400_000)
    assert otsu_split(values).separability == pytest.approx(2 / np.pi, abs=0.002)


@pytest.mark.parametrize("values", [[], [7], [7, 7, 7]])
def test_nothing_to_split_without_two_different_values(values):
    split = otsu_split(np.array(values, dtype=np.int16))
    assert np.isnan(split.threshold)
    assert np.isnan(split.separability)
