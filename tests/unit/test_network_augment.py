"""Random training crops: labels are transformed with the image, mirroring swaps left and right."""

import numpy as np
import pytest

from paravert.anatomy import LABELS, OTHER_SIDE
from paravert.network.batches import crop_at, drawn_bias, drawn_pose, mirrored_slice, training_crop


def slice_with_labels(rows=96, columns=128):
    """Return a slice whose image value is its label, in smooth blobs left and right of the middle."""
    y, x = np.mgrid[:rows, :columns]
    truth = np.zeros((rows, columns), dtype=np.uint8)
    for index, label in enumerate(LABELS):
        side = 1 if label.side == "left" else -1  # columns grow towards the patient's left
        centre = columns / 2 + side * (12 + 6 * (index // 2))
        truth[np.hypot(y - 14 - 20 * (index // 2), x - centre) < 8] = label.value
    return truth.astype(np.float32), truth


def test_mirroring_twice_is_no_mirroring():
    image, truth = slice_with_labels()
    again = mirrored_slice(*mirrored_slice(image, truth))
    np.testing.assert_array_equal(again[0], image)
    np.testing.assert_array_equal(again[1], truth)


def test_mirroring_swaps_the_sides_so_that_left_stays_left():
    _, truth = slice_with_labels()
    _, found = mirrored_slice(truth, truth)
    for label in LABELS:
        columns = np.nonzero(found == label.value)[1]
        assert (columns.mean() > truth.shape[1] / 2) == (label.side == "left")
        assert len(columns) == (truth == OTHER_SIDE[label.value]).sum()


def test_image_and_truth_move_together():
    image, truth = slice_with_labels()
    for seed in range(5):
        pose = drawn_pose(image.shape, 96, np.random.default_rng(seed))
        moved, labels = crop_at(image, truth, 96, pose)
        plain = np.abs(moved - np.round(moved)) < 0.01  # away from outlines
        assert plain.mean() > 0.8
        assert (np.abs(moved - labels)[plain] < 0.01).mean() > 0.99


def test_a_pose_without_change_cuts_out_the_pixels_themselves():
    image, truth = slice_with_labels()
    pose = (np.eye(2), np.array([10.0, 20.0]))
    moved, labels = crop_at(image, truth, 64, pose)
    np.testing.assert_allclose(moved, image[10:74, 20:84], atol=1e-4)
    np.testing.assert_array_equal(labels, truth[10:74, 20:84])


@pytest.mark.parametrize("size_px", [64, 160])
def test_crops_lie_inside_a_larger_image_and_around_a_smaller_one(size_px):
    shape = (96, 128)
    for seed in range(20):
        matrix, offset = drawn_pose(shape, size_px, np.random.default_rng(seed))
        centre = matrix @ np.full(2, (size_px - 1) / 2) + offset + 0.5
        for at, pixels in zip(centre, shape, strict=True):
            low, high = sorted((size_px / 2, pixels - size_px / 2))
            assert low - 1e-9 <= at <= high + 1e-9


def test_the_same_generator_gives_the_same_crop():
    image, truth = slice_with_labels()
    first, second = (training_crop(image, truth, 64, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    other = training_crop(image, truth, 64, np.random.default_rng(4))
    assert not np.array_equal(first[0], other[0])


def test_varied_crops_stay_finite_and_of_their_type():
    image, truth = slice_with_labels()
    for seed in range(50):
        crop, labels = training_crop(image, truth, 64, np.random.default_rng(seed))
        assert crop.dtype == np.float32
        assert labels.dtype == np.uint8
        assert np.isfinite(crop).all()
        assert crop.shape == labels.shape == (64, 64)


def test_the_bias_field_is_positive_and_smooth():
    field = drawn_bias((64, 64), np.random.default_rng(1))
    assert (field > 0).all()
    assert np.abs(np.diff(np.log(field), axis=0)).max() < 0.1
