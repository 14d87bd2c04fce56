import operator
from fractions import Fraction

import numpy as np
import pytest
from skimage.filters import threshold_otsu

from paravert.measure.fat import fat_fractions
from paravert.measure.otsu import otsu_split


def mixture(draw, dark=300, bright=700, size=5000):
    return np.concatenate([draw.normal(dark, 40, size), draw.normal(bright, 60, size // 4)])


def overlapping(draw, scale=1.0):
    """Return whole numbers whose dark and bright class share many values, as those of muscle do."""
    values = scale * mixture(draw, dark=300, bright=rng_between(draw, 340, 420), size=2000)
    return np.rint(values).clip(0, 32_767).astype(np.int16)


def rng_between(draw, low, high):
    return low + (high - low) * draw.random()


def test_whole_numbers_are_split_where_scikit_image_splits_them():
    draw = np.random.default_rng(0)
    for kind in (np.uint16, np.int16, np.int32):
        values = np.round(mixture(draw)).astype(kind)
        assert otsu_split(values).threshold == threshold_otsu(values)


@pytest.mark.parametrize("kind", [np.int16, np.uint16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("scale", [0.05, 1, 40])
def test_equal_values_of_any_type_are_split_alike(kind, scale):
    draw = np.random.default_rng(1)
    for _ in range(20):
        values = overlapping(draw, scale)
        assert otsu_split(values.astype(kind)).threshold == threshold_otsu(values)


def test_a_rescaled_signal_is_split_at_the_same_pixels():
    draw = np.random.default_rng(4)
    for _ in range(20):
        values = overlapping(draw)
        rescaled = (values * 0.0137 + 2.5).astype(np.float32)
        bright = rescaled > np.float32(otsu_split(rescaled).threshold)
        assert np.array_equal(bright, values > threshold_otsu(values))


def test_signal_with_fractions_is_split_where_the_classes_are_furthest_apart():
    draw = np.random.default_rng(5)
    values = draw.normal(0, 1, 300) + 1.5 * (draw.random(300) < 0.3)
    candidates = np.sort(values)[:-1]
    dark = values <= candidates[:, None]
    sizes, sums = dark.sum(axis=1), (dark * values).sum(axis=1)
    apart = sums / sizes - (values.sum() - sums) / (len(values) - sizes)
    between = sizes * (len(values) - sizes) * apart**2
    assert otsu_split(values).threshold == candidates[between.argmax()]


def exact_threshold(levels, counts):
    """Return Otsu's threshold by whole-number arithmetic."""
    pixels, total = sum(counts), sum(map(operator.mul, levels, counts))
    dark, dark_total, best = 0, 0, (Fraction(-1), None)
    for level, count in zip(levels[:-1], counts[:-1], strict=True):
        dark, dark_total = dark + count, dark_total + level * count
        apart = dark_total * pixels - total * dark
        best = max(best, (Fraction(apart**2, dark * (pixels - dark)), level), key=lambda b: b[0])
    return best[1]


def test_many_pixels_are_split_as_exact_arithmetic_splits_them():
    draw = np.random.default_rng(7)  # in single precision some of these thresholds are others
    for _ in range(60):
        levels = np.arange(4000)
        counts = draw.integers(1, 60, levels.size)
        expected = exact_threshold(levels.tolist(), counts.tolist())
        assert otsu_split(np.repeat(levels, counts).astype(np.float32)).threshold == expected


def test_few_pixels_of_wide_range_are_split_where_scikit_image_splits_them():
    values = np.random.default_rng(2).integers(0, 60_000, 50).astype(np.uint16)
    assert otsu_split(values).threshold == threshold_otsu(values)


@pytest.mark.parametrize("kind", [np.int16, np.float32])
@pytest.mark.parametrize("scale", [0.05, 1])
def test_fat_is_what_is_brighter_than_the_threshold_of_scikit_image(kind, scale):
    draw = np.random.default_rng(6)
    signal = overlapping(draw, scale)
    # The second half of the image is fat, so that its threshold lies above lean muscle.
    image = np.full((1, 100, 50), signal.max(), np.int16)
    labels = np.zeros(image.shape, np.uint8)
    image.ravel()[: signal.size] = signal
    labels.ravel()[: signal.size] = 5
    found = fat_fractions([image.astype(kind)], [labels], [(1.0, 1.0)])
    own = (signal > threshold_otsu(signal)).mean()
    over_image = (signal > threshold_otsu(image.ravel())).mean()
    for method in ("otsu_subject", "otsu_muscle", "otsu_muscle_slice"):
        assert found[f"fat_fraction_{method}"][0, 4] == own
    assert 0 < over_image < 1
    assert found["fat_fraction_otsu_image"][0, 4] == over_image


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
