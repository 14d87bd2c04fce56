import numpy as np
import pytest

from paravert.study.accuracy import absolute_agreement, limits_of_agreement

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
