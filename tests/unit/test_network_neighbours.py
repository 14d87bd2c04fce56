"""What neighbouring slices have to say in a slice: by their distance, and none where they are none."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from paravert.anatomy import CLASSES
from paravert.network.confidence import Calibration
from paravert.network.neighbours import LEAST_WEIGHT, neighbour_weight, with_neighbours
from paravert.network.predict import Predictor

CPU = torch.device("cpu")
MUSCLE = 5


def test_neighbours_count_by_a_gaussian_of_their_distance():
    assert neighbour_weight(0.0, 3.5) == 1
    assert neighbour_weight(3.5, 3.5) == pytest.approx(math.exp(-0.5))
    assert neighbour_weight(7.0, 3.5) == pytest.approx(math.exp(-2))
    assert neighbour_weight(14.0, 3.5) == 0 < math.exp(-8) < LEAST_WEIGHT
    assert neighbour_weight(math.inf, 3.5) == neighbour_weight(1.0, 0.0) == 0


def test_the_mean_of_a_slice_and_its_neighbours_is_weighted():
    values = torch.tensor([1.0, 4.0, 16.0, 64.0])
    found = with_neighbours(values.view(4, 1, 1, 1).expand(4, 2, 3, 3), 0.5)[:, 1, 2, 2]
    wanted = [
        (1 + 0.5 * 4) / 1.5,
        (0.5 * 1 + 4 + 0.5 * 16) / 2,
        (0.5 * 4 + 16 + 0.5 * 64) / 2,
        (0.5 * 16 + 64) / 1.5,
    ]
    torch.testing.assert_close(found, torch.tensor(wanted))


def test_what_goes_on_along_a_straight_line_stays():
    """Logits that change evenly from slice to slice, as an outline does that moves evenly."""
    line = torch.arange(6.0).view(6, 1, 1, 1)
    torch.testing.assert_close(with_neighbours(line, 0.7)[1:-1], line[1:-1])


@pytest.fixture
def brightness_reader(monkeypatch):
    """Return what makes predictors that read a muscle where a pixel is bright, as sure as it is bright.

    Its `passed` are the slices of each batch.
    """

    def logits(slices):
        predictor.passed.append(len(slices))
        made = torch.zeros(len(slices), CLASSES, *slices.shape[2:])
        made[:, MUSCLE] = slices[:, 0]
        return made

    def predictor(neighbours_mm):
        network = SimpleNamespace(architecture=SimpleNamespace(stride=1))
        model = SimpleNamespace(network=network, spacing_mm=1.0, calibration=Calibration({}))
        return Predictor(model, CPU, None, flip=False, neighbours_mm=neighbours_mm)

    predictor.passed = []
    monkeypatch.setattr("paravert.network.predict._forward", lambda model, low: logits)
    return predictor


def one_lost(slices=7, lost=3):
    """Return slices with a bright square, which one of them lacks."""
    image = np.zeros((slices, 12, 12), np.float32)
    image[:, 3:9, 3:9] = 1
    image[lost] *= 0
    return image


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
def test_a_muscle_lost_in_one_slice_is_found_by_its_neighbours(brightness_reader, batch_size):
    def found(neighbours_mm, apart_mm):
        reader = brightness_reader(neighbours_mm)
        labels = reader.stack_labels(one_lost(), (1.0, 1.0), batch_size, apart_mm)
        return (labels == MUSCLE).sum(axis=(1, 2)).tolist()

    alone = [36, 36, 36, 0, 36, 36, 36]
    assert found(3.5, 3.0) == [36] * 7
    assert found(3.5, 12.0) == alone  # too far
    assert found(3.5, math.inf) == alone  # no neighbours
    assert found(0.0, 3.0) == alone  # not asked


@pytest.mark.parametrize("batch_size", [2, 4, 8])
def test_no_slice_passes_the_network_twice(brightness_reader, batch_size):
    reader = brightness_reader(3.5)
    reader.stack_labels(one_lost(slices=8), (1.0, 1.0), batch_size, apart_mm=3.0)
    assert sum(brightness_reader.passed) == 8
