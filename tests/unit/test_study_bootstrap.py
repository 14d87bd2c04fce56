import numpy as np
import pytest

from paravert.study.accuracy import clustered_medians, median_intervals


def median_interval(values, subjects, samples, seed):
    return median_intervals([values], subjects, samples, seed)[0]


def clustered(subjects, slices, sd_subjects, sd_slices, random):
    means = random.normal(0, sd_subjects, subjects)
    values = means[:, None] + random.normal(0, sd_slices, (subjects, slices))
    return values.ravel(), np.repeat(np.arange(subjects), slices)


def test_medians_are_those_of_the_values_written_out_as_often_as_drawn():
    random = np.random.default_rng(3)
    values, subjects = random.normal(size=40), random.integers(0, 7, 40)

    (medians,) = clustered_medians([values], subjects, samples=50, seed=11)

    draws = np.random.default_rng(11).multinomial(7, np.full(7, 1 / 7), size=50)
    written_out = [np.median(np.repeat(values, times[subjects])) for times in draws]
    np.testing.assert_allclose(medians, written_out)


def test_interval_covers_the_true_median_at_about_the_nominal_rate():
    random = np.random.default_rng(0)
    covered = 0
    for trial in range(300):
        values, subjects = clustered(30, 6, 1.0, 0.7, random)
        low, high = median_interval(values, subjects, samples=300, seed=trial)
        covered += low <= 0 <= high
    # 95 %, three binomial standard errors (1.3 %) and the known shortfall of 30 clusters.
    assert 0.89 <= covered / 300 <= 0.985


def test_interval_is_wider_than_a_naive_one_when_subjects_differ():
    values, subjects = clustered(20, 30, 1.0, 0.3, np.random.default_rng(1))
    low, high = median_interval(values, subjects, 1000, seed=1)
    naive_low, naive_high = median_interval(values, np.arange(len(values)), 1000, seed=1)
    assert high - low > 2 * (naive_high - naive_low)


def test_interval_of_one_value_per_subject_is_that_of_the_order_statistics():
    values = np.arange(101.0)
    low, high = median_interval(values, np.arange(101), 20000, seed=2)
    # Ranks 50 -+ 1.96 sqrt(101) / 2: the binomial interval of a median.
    assert low == pytest.approx(50 - 9.85, abs=1)
    assert high == pytest.approx(50 + 9.85, abs=1)


def test_interval_does_not_depend_on_the_order_of_the_values():
    values, subjects = clustered(12, 5, 1.0, 1.0, np.random.default_rng(4))
    whole = median_interval(values, subjects, 200, seed=5)
    order = np.random.default_rng(6).permutation(len(values))
    assert median_interval(values[order], subjects[order], 200, seed=5) == whole


def test_values_of_the_same_rows_share_their_samples():
    values, subjects = clustered(12, 5, 1.0, 1.0, np.random.default_rng(4))
    together = median_intervals([values, 2 * values], subjects, 200, seed=5)
    alone = median_interval(values, subjects, 200, seed=5)
    assert together == [alone, (2 * alone[0], 2 * alone[1])]


def test_medians_of_many_equal_values_are_those_written_out():
    random = np.random.default_rng(8)
    values, subjects = random.integers(0, 4, 500) / 4, random.integers(0, 40, 500)
    (medians,) = clustered_medians([values], subjects, samples=100, seed=2)
    draws = np.random.default_rng(2).multinomial(40, np.full(40, 1 / 40), size=100)
    assert medians.tolist() == [np.median(np.repeat(values, times[subjects])) for times in draws]


@pytest.mark.parametrize("slices", [0, 1, 8])
def test_one_subject_or_none_has_no_interval(slices):
    values = np.linspace(0, 1, slices)
    assert np.isnan(median_interval(values, np.full(slices, "S1"), 100, seed=1)).all()
