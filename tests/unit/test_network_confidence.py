"""Predicted IoU: expected IoU from probabilities, its calibration, and the calibration error."""

import numpy as np
import pytest

from paravert.anatomy import CLASSES, LABELS, MUSCLES
from paravert.network.calibration import (
    DOUBTED_PX,
    FEWEST,
    KNOTS,
    Calibration,
    calibration_curve,
    calibration_error,
    expected_iou,
    fitted_calibration,
    leave_one_out_error,
    pooled,
)


def logits_of(probability):
    return np.log(np.maximum(probability, 1e-9)).astype(np.float32)


def expected_ious(logits):
    return np.stack([expected_iou(one) for one in logits])


def test_certain_pixels_give_an_expected_iou_of_one():
    labels = np.zeros((2, 8, 8), int)
    labels[0, 2:5, 2:6] = 3
    logits = 30 * np.eye(CLASSES, dtype=np.float32)[labels].transpose(0, 3, 1, 2)
    expected = expected_ious(logits)
    assert expected.shape == (2, 8)
    assert expected[0, 2] == pytest.approx(1.0, abs=1e-4)
    assert np.isnan(np.delete(expected[0], 2)).all()
    assert np.isnan(expected[1]).all()


def test_expected_iou_is_expected_intersection_over_expected_union():
    probability = np.zeros((1, CLASSES, 1, 4))
    probability[0, 1, 0] = [0.9, 0.6, 0.3, 0.0]
    probability[0, 0, 0] = 1 - probability[0, 1, 0]
    expected = expected_ious(logits_of(probability))[0, 0]
    assert expected == pytest.approx((0.9 + 0.6) / (2 + 0.3), abs=1e-5)


def test_a_muscle_without_a_pixel_has_an_expected_iou_of_0_where_it_may_have_been_missed():
    probability = np.zeros((1, CLASSES, 40, 40))
    probability[0, 3, :2, 0] = DOUBTED_PX
    probability[0, 5, 0, 0] = DOUBTED_PX / 2
    probability[0, 0] = 1 - probability[0, 1:].sum(axis=0)
    expected = expected_ious(logits_of(probability))[0]
    assert expected[2] == 0
    assert np.isnan(np.delete(expected, 2)).all()
    curve = Calibration({muscle: ((0.0, 0.9), (0.0, 0.8)) for muscle in MUSCLES})
    assert curve.predicted(expected[None])[0, 2] == 0


def test_muscles_that_may_have_been_missed_do_not_count_for_the_calibration():
    expected, found = overconfident(200, 5)
    missed = np.random.default_rng(1).random(expected.shape) < 0.2
    without, zero = (np.where(missed, value, expected) for value in (np.nan, 0.0))
    assert fitted_calibration(zero, found * ~missed) == fitted_calibration(without, found)
    assert calibration_error(zero, found * ~missed) == calibration_error(without, found)


def test_expected_iou_of_correct_probabilities_is_the_measured_iou():
    rng = np.random.default_rng(1)
    probability = rng.dirichlet(np.full(CLASSES, 0.08), (60, 40, 40)).transpose(0, 3, 1, 2)
    drawn = (probability.cumsum(axis=1) < rng.random((60, 1, 40, 40))).sum(axis=1)
    given = probability.argmax(axis=1)
    expected = expected_ious(logits_of(probability))
    found = [
        ((drawn == v) & (given == v)).sum((1, 2)) / ((drawn == v) | (given == v)).sum((1, 2))
        for v in range(1, CLASSES)
    ]
    assert expected.mean(axis=0) == pytest.approx(np.mean(found, axis=1), abs=0.01)


def overconfident(count, seed):
    """Pairs of a network that is surer than it should be: what is found is expected squared."""
    rng = np.random.default_rng(seed)
    expected = rng.uniform(0.3, 1.0, (count, 8))
    found = np.clip(expected**2 + rng.normal(0, 0.05, expected.shape), 0, 1)
    expected[rng.random(expected.shape) < 0.1] = np.nan
    return expected, found


def test_calibration_takes_the_overconfidence_away():
    calibration = fitted_calibration(*overconfident(600, 1))
    expected, found = overconfident(600, 2)
    before = calibration_error(expected, found)
    after = calibration_error(calibration.predicted(expected), found)
    assert before > 0.15
    assert after < 0.02
    assert (np.isnan(calibration.predicted(expected)) == np.isnan(expected)).all()


def test_the_lines_rise_and_are_short():
    for x, y in fitted_calibration(*overconfident(200, 3)).knots.values():
        assert len(x) == len(y) == KNOTS + 1
        assert x[0] == y[0] == 0
        assert (np.diff(x) >= 0).all()
        assert (np.diff(y) >= 0).all()


def test_too_few_pairs_make_no_line_and_predict_nothing():
    expected, found = overconfident(FEWEST // 2 - 1, 4)
    assert fitted_calibration(expected, found).knots == {}
    assert np.isnan(Calibration({}).predicted(expected)).all()


TRUSTING = Calibration({muscle: ((0.0, 1.0), (0.0, 1.0)) for muscle in MUSCLES})


def error_of(subjects, start):
    """The calibration error among subjects of the calibration by all of them."""
    every = fitted_calibration(*pooled(subjects), start) if subjects else start
    return leave_one_out_error(subjects, every, start)


@pytest.mark.parametrize(("subjects", "slices"), [(2, 26), (3, 40)])
def test_the_error_among_subjects_is_that_of_lines_by_the_others(subjects, slices):
    pairs = [overconfident(slices, seed) for seed in range(subjects)]
    assert fitted_calibration(*pooled(pairs), TRUSTING).knots.keys() == (TRUSTING.knots.keys())
    found = error_of(pairs, TRUSTING)
    assert found == error_of(pairs, Calibration({}))
    assert found < 0.03
    # A subject unlike the others is predicted badly by them, however it bends lines of its own.
    expected, overlap = pairs[0]
    assert error_of([(expected, overlap / 2), *pairs[1:]], TRUSTING) > 0.05


def test_the_error_among_subjects_is_that_of_the_lines_that_are_kept():
    few = [overconfident(10, seed) for seed in range(2)]
    expected, found = pooled(few)
    assert fitted_calibration(expected, found, TRUSTING) == TRUSTING
    trusted = calibration_error(expected, found)
    assert trusted > 0.15
    assert error_of(few, TRUSTING) == pytest.approx(trusted, abs=1e-6)
    assert np.isnan(error_of(few, Calibration({})))


def test_a_single_subject_has_no_calibration_error():
    assert np.isnan(error_of([overconfident(60, 1)], TRUSTING))
    assert np.isnan(error_of([], TRUSTING))


def test_each_muscle_has_its_own_line():
    calibration = Calibration({"psoas_major": ((0.0, 1.0), (0.0, 0.5))})
    predicted = calibration.predicted(np.full((1, 8), 0.8))[0]
    for label, value in zip(LABELS, predicted, strict=True):
        if label.muscle == "psoas_major":
            assert value == pytest.approx(0.4)
        else:
            assert np.isnan(value)


def test_the_error_is_the_mean_distance_over_bins():
    predicted = np.linspace(0.001, 1, 1000)
    found = predicted - 0.07
    assert calibration_error(predicted, found) == pytest.approx(0.07, abs=1e-6)
    rows = calibration_curve(np.append(predicted, np.nan), np.append(found, 1.0))
    assert rows[:, 2].sum() == 1000
