"""Bootstrap intervals, agreement of areas and intraclass correlation against known values."""

import numpy as np
import pytest

from paravert.study.accuracy import (
    absolute_agreement,
    clustered_medians,
    limits_of_agreement,
    median_intervals,
    trend,
)


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


@pytest.mark.parametrize(("slices", "subjects"), [(0, 0), (1, 1), (8, 1), (8, 2), (8, 4)])
def test_fewer_than_five_subjects_have_no_interval(slices, subjects):
    values, owners = np.linspace(0, 1, slices), np.arange(slices) % max(subjects, 1)
    assert np.isnan(median_interval(values, owners, 100, seed=1)).all()
    five = np.append(owners, [10, 11, 12, 13, 14])
    assert np.isfinite(median_interval(np.append(values, np.arange(5)), five, 100, seed=1)).all()


# Shrout and Fleiss 1979, Table 2: six targets, four judges.
SHROUT_FLEISS = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float
)


def test_intraclass_correlation_is_that_of_shrout_and_fleiss():
    found = absolute_agreement(SHROUT_FLEISS)
    assert found.icc == pytest.approx(0.29, abs=0.005)
    # Interval as R's psych::ICC prints it for these data.
    assert (found.low, found.high) == pytest.approx((0.019, 0.76), abs=0.005)


def test_intraclass_correlation_by_hand():
    # Rows 1,2 / 3,4 / 5,6: mean squares 8 (subjects), 1.5 (methods), 0 (error):
    # (8 - 0) / (8 + 0 + 2 (1.5 - 0) / 3) = 8 / 9; a constant bias alone lowers it.
    ratings = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    assert absolute_agreement(ratings).icc == pytest.approx(8 / 9)


def test_equal_ratings_agree_wholly():
    values = np.array([3.0, 7.0, 5.0])
    found = absolute_agreement(np.column_stack([values, values]))
    assert found.icc == pytest.approx(1)
    assert np.isnan(found.low)


def test_intraclass_correlation_estimates_the_share_of_variance_between_subjects():
    random = np.random.default_rng(8)
    truth = random.normal(0, 3, 2000)
    ratings = truth[:, None] + random.normal(0, 1, (2000, 2))
    found = absolute_agreement(ratings)
    assert found.icc == pytest.approx(0.9, abs=0.01)
    assert found.low < 0.9 < found.high


@pytest.mark.parametrize("ratings", [np.empty((0, 2)), np.ones((1, 2)), np.ones((5, 2))])
def test_intraclass_correlation_is_unknown_without_spread(ratings):
    assert np.isnan(absolute_agreement(ratings).icc)


def test_limits_of_a_constant_bias_are_the_bias():
    truth = np.array([100.0, 250.0, 900.0])
    found = limits_of_agreement(truth + 12.5, truth)
    assert (found.bias, found.sd, found.lower, found.upper) == pytest.approx((12.5, 0, 12.5, 12.5))


def test_limits_are_bias_and_1_96_standard_deviations():
    found = limits_of_agreement(np.array([1.0, 2.0, 6.0]), np.zeros(3))
    sd = np.sqrt(((1 - 3) ** 2 + (2 - 3) ** 2 + (6 - 3) ** 2) / 2)
    assert found.bias == pytest.approx(3)
    assert found.sd == pytest.approx(sd)
    assert found.upper - found.lower == pytest.approx(2 * 1.96 * sd)


def test_limits_of_one_subject_are_unknown():
    found = limits_of_agreement(np.array([5.0]), np.array([3.0]))
    assert found.bias == 2
    assert np.isnan([found.sd, found.lower, found.upper]).all()


def test_differences_that_are_equal_but_for_rounding_have_no_trend():
    truth = np.arange(6.0) * 1.1
    for shift in (1.0, 0.3, 0.0):
        slope, p_value = trend(truth + shift, truth)
        assert slope == 0
        assert np.isnan(p_value)
    slope, p_value = trend(truth * 1.1 + 0.01 * np.array([1, -1, 1, -1, 1, -1]), truth)
    assert slope == pytest.approx(0.1 / 1.05, rel=0.1)
    assert p_value < 0.001
