"""What neighbouring slices have to say in a slice: by their distance, and none where they are none."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from paravert.anatomy import CLASSES
from paravert.network.confidence import Calibration
from paravert.network.neighbours import (
    LEAST_WEIGHT,
    bonds_of,
    neighbour_weight,
    with_neighbours,
)
from paravert.network.predict import Piece, Predictor

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
    bonds = torch.full((3,), 0.5)
    found = with_neighbours(values.view(4, 1, 1, 1).expand(4, 2, 3, 3), bonds)[:, 1, 2, 2]
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
    torch.testing.assert_close(with_neighbours(line, torch.full((5,), 0.7))[1:-1], line[1:-1])


def test_a_slice_of_a_single_value_is_nobodys_neighbour():
    image = np.random.default_rng(1).normal(size=(5, 4, 4))
    image[2] = 7
    assert bonds_of(image, 0.5).tolist() == [0.5, 0, 0, 0.5]
    assert bonds_of(image, 0.0) is None
    assert bonds_of(image[:1], 0.5) is None


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

    def predictor(neighbours_mm, judging=False):
        network = SimpleNamespace(architecture=SimpleNamespace(stride=1))
        model = SimpleNamespace(network=network, spacing_mm=1.0, calibration=Calibration({}))
        given = {"neighbours_mm": neighbours_mm, "judging": judging}
        return Predictor(model, CPU, None, flip=False, **given)

    predictor.passed = []
    monkeypatch.setattr("paravert.network.predict._forward", lambda model, low: logits)
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
        reader = brightness_reader(neighbours_mm)
        given = {"apart_mm": apart_mm, "batch_size": batch_size}
        labels = reader.stack_labels(one_lost(), (1.0, 1.0), **given)
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


def test_what_is_expected_is_of_the_mean(brightness_reader):
    def expected(neighbours_mm):
        reader = brightness_reader(neighbours_mm, judging=True)
        found = reader.stack_predicted(one_lost(), (1.0, 1.0), apart_mm=3.0)
        return found.expected_iou[:, MUSCLE - 1]

    alone, together = expected(0.0), expected(3.5)
    assert np.isnan(alone[3])
    assert 0 < together[3] < together[1]
    np.testing.assert_allclose(together[[0, 1, 5, 6]], alone[[0, 1, 5, 6]], rtol=1e-5)
    assert together[2] < alone[2]


@pytest.mark.parametrize(("slices", "batch_size", "passed"), [(8, 2, 8), (8, 8, 8), (9, 8, 10)])
def test_slices_that_two_pieces_see_pass_the_network_once(
    brightness_reader, slices, batch_size, passed
):
    """But for a piece of one slice at the end, which never comes to the network with nothing."""
    reader = brightness_reader(3.5)
    image = one_lost(slices=slices)
    reader.stack_labels(image, (1.0, 1.0), apart_mm=3.0, batch_size=batch_size)
    assert sum(brightness_reader.passed) == passed


def test_stacks_in_one_batch_keep_their_own_distances(brightness_reader):
    reader = brightness_reader(3.5)
    near, far = (
        reader.prepared(one_lost(), (1.0, 1.0), apart_mm=apart_mm) for apart_mm in (3.0, 12.0)
    )
    found = reader.predicted([Piece(near, 2, 5), Piece(far, 2, 5)])
    assert [(one.labels == MUSCLE).sum(axis=(1, 2)).tolist() for one in found] == [
        [36, 36, 36],
        [36, 0, 36],
    ]
