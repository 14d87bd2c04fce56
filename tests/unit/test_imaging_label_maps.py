import numpy as np
import pytest

from paravert.anatomy import LABEL_VALUES
from paravert.imaging.label_maps import drawn_labels, slice_overlap


def square(top, left, value=1, side=20, shape=(1, 60, 60)):
    labels = np.zeros(shape, dtype=np.uint8)
    labels[:, top : top + side, left : left + side] = value
    return labels


@pytest.mark.parametrize("shift", [0, 1, 5, 19])
def test_shifted_square_has_the_computed_iou(shift):
    overlap = slice_overlap(square(10, 10), square(10, 10 + shift))
    assert overlap.iou[0, 0] == (20 - shift) / (20 + shift)
    assert overlap.dice[0, 0] == (20 - shift) / 20


def test_iou_is_dice_over_two_minus_dice():
    draw = np.random.default_rng(1)
    overlap = slice_overlap(*draw.integers(0, 9, (2, 5, 40, 40), dtype=np.uint8))
    assert overlap.iou == pytest.approx(overlap.dice / (2 - overlap.dice))


def test_overlap_agrees_with_counting_by_sets():
    draw = np.random.default_rng(2)
    prediction, truth = draw.integers(0, 9, (2, 3, 30, 30), dtype=np.uint8)
    overlap = slice_overlap(prediction, truth)
    for number in range(3):
        for value in range(1, 9):
            p = set(np.flatnonzero(prediction[number] == value))
            t = set(np.flatnonzero(truth[number] == value))
            assert overlap.iou[number, value - 1] == len(p & t) / len(p | t)
            assert overlap.pixels_prediction[number, value - 1] == len(p)
            assert overlap.pixels_truth[number, value - 1] == len(t)


def test_empty_against_empty_is_unknown_and_empty_against_something_is_zero():
    empty = np.zeros((1, 60, 60), dtype=np.uint8)
    assert np.isnan(slice_overlap(empty, empty).iou).all()
    assert np.isnan(slice_overlap(empty, empty).dice).all()
    assert slice_overlap(empty, square(0, 0)).iou[0, 0] == 0
    assert slice_overlap(square(0, 0), empty).dice[0, 0] == 0


def test_left_taken_for_right_overlaps_with_nothing():
    overlap = slice_overlap(square(10, 10, value=1), square(10, 10, value=2))
    assert overlap.iou[0, :2].tolist() == [0, 0]


def test_grids_of_different_shape_are_refused():
    with pytest.raises(ValueError, match="shape"):
        slice_overlap(square(0, 0), square(0, 0, shape=(1, 60, 61)))


def test_a_muscle_is_drawn_if_it_is_in_any_stack():
    left, right = square(0, 0, value=5), square(0, 0, value=6)
    assert drawn_labels([left, right]).tolist() == [value in (5, 6) for value in LABEL_VALUES]
    assert not drawn_labels([np.zeros_like(left)]).any()
