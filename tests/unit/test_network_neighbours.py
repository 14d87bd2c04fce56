"""Averaging over adjacent slices: Gaussian weights of their distance, none for blank slices."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from paravert.anatomy import CLASSES
from paravert.network.calibration import Calibration
from paravert.network.predict import (
    LEAST_WEIGHT,
    Predictor,
    neighbour_weight,
    neighbour_weights,
    with_neighbours,
)

MUSCLE = 5


def test_neighbours_count_by_a_gaussian_of_their_distance():
    assert neighbour_weight(0.0, 3.5) == 1
    assert neighbour_weight(3.5, 3.5) == pytest.approx(math.exp(-0.5))
    assert neighbour_weight(7.0, 3.5) == pytest.approx(math.exp(-2))
    assert neighbour_weight(14.0, 3.5) == 0 < math.exp(-8) < LEAST_WEIGHT
    assert neighbour_weight(math.inf, 3.5) == neighbour_weight(1.0, 0.0) == 0


def test_the_mean_of_a_slice_and_its_neighbours_is_weighted():
    logits = [np.full((2, 3, 3), value, np.float32) for value in (1, 4, 16, 64)]
    found = [mean[1, 2, 2] for mean in with_neighbours(logits, np.full(3, np.float32(0.5)))]
    wanted = [
        (1 + 0.5 * 4) / 1.5,
        (0.5 * 1 + 4 + 0.5 * 16) / 2,
        (0.5 * 4 + 16 + 0.5 * 64) / 2,
        (0.5 * 16 + 64) / 1.5,
    ]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_what_goes_on_along_a_straight_line_stays():
    """Logits that change evenly from slice to slice, as an outline does that moves evenly."""
    line = [np.full((1, 1, 1), value, np.float32) for value in range(6)]
    found = list(with_neighbours(line, np.full(5, np.float32(0.7))))
    np.testing.assert_allclose(found[1:-1], line[1:-1], rtol=1e-6)


def test_a_blank_slice_has_weight_zero():
    image = np.random.default_rng(1).normal(size=(5, 4, 4))
    image[2] = 7
    assert neighbour_weights(image, 0.0, 3.5).tolist() == [1, 0, 0, 1]
    assert neighbour_weights(image, math.inf, 3.5) is None
    assert neighbour_weights(image[:1], 1.0, 3.5) is None


@pytest.fixture
def brightness_reader(monkeypatch):
    """Return what makes predictors that read a muscle where a pixel is bright, as sure as it is bright."""

    def logits(slices):
        made = np.zeros((len(slices), CLASSES, *slices.shape[2:]), np.float32)
        made[:, MUSCLE] = slices[:, 0]
        return made

    logits.number_format = "float32"

    def predictor(neighbours_mm, **options):
        architecture = SimpleNamespace(stride=1)
        model = SimpleNamespace(
            architecture=architecture, spacing_mm=1.0, calibration=Calibration({})
        )
        return Predictor(model, flip=False, neighbours_mm=neighbours_mm, **options)

    monkeypatch.setattr("paravert.network.predict._network_on", lambda model, device: logits)
    return predictor


def one_lost(slices=7, lost=3):
    """Return slices with a bright square, which one of them lacks, and a dot in the corner."""
    image = np.zeros((slices, 12, 12), np.float32)
    image[:, 3:9, 3:9] = 1
    image[lost] *= 0
    image[:, 0, 0] = -0.1
    return image


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
def test_a_muscle_lost_in_one_slice_is_found_by_its_neighbours(brightness_reader, batch_size):
    def found(neighbours_mm, apart_mm):
        reader = brightness_reader(neighbours_mm, batch_size=batch_size)
        labels = reader.stack_labels(one_lost(), (1.0, 1.0), apart_mm=apart_mm)
        return (labels == MUSCLE).sum(axis=(1, 2)).tolist()

    alone = [36, 36, 36, 0, 36, 36, 36]
    assert found(3.5, 3.0) == [36] * 7
    assert found(3.5, 12.0) == alone  # too far
    assert found(3.5, math.inf) == alone  # no neighbours
    assert found(0.0, 3.0) == alone  # not asked


def test_a_blank_slice_stays_empty_and_takes_nothing_from_its_neighbours(brightness_reader):
    image = one_lost()
    image[3] = 0
    labels = brightness_reader(3.5).stack_labels(image, (1.0, 1.0), apart_mm=1.0)
    assert (labels == MUSCLE).sum(axis=(1, 2)).tolist() == [36, 36, 36, 0, 36, 36, 36]


def test_the_expected_iou_is_that_of_the_averaged_logits(brightness_reader):
    def expected(neighbours_mm):
        reader = brightness_reader(neighbours_mm, with_expected_iou=True)
        found = reader.stack_predicted(one_lost(), (1.0, 1.0), apart_mm=3.0)
        return found.expected_iou[:, MUSCLE - 1]

    alone, together = expected(0.0), expected(3.5)
    assert alone[3] == 0  # no pixel has the label, which nearly had them
    assert 0 < together[3] < together[1]
    np.testing.assert_allclose(together[[0, 1, 5, 6]], alone[[0, 1, 5, 6]], rtol=1e-5)
    assert together[2] < alone[2]
