"""Discs of a sagittal series: found, put into patient coordinates, and named, by a network that is right."""

import numpy as np
import pytest

from paravert.imaging.geometry import LPS_TO_RAS
from paravert.imaging.volume import Volume
from paravert.network import sagittal_levels
from paravert.network.sagittal_levels import named_discs, on_grid
from paravert.network.sagittal_net import DISC, LEVELS, STRUCTURES
from paravert.synthesis.sagittal import sagittal_slices
from paravert.synthesis.sagittal_parts import DISCS, PIXEL_MM, VERTEBRAE

SLICES, GAP_MM, SPACING_MM = 5, 4.0, 1.25
CORNER = np.array([10.0, -120.0, 150.0])


@pytest.fixture(scope="module")
def spine():
    """A synthetic slice that shows all discs from T12/L1 to S1/2."""
    seen = (next(iter(sagittal_slices(5, index))) for index in range(40))
    return next(one for one in seen if set(DISCS[1:]) <= set(one.discs))


@pytest.fixture
def volume(spine):
    """The labels of that slice as image, on pixels half as large, in every slice of a series."""
    image = spine.labels.repeat(2, axis=0).repeat(2, axis=1).astype(np.int16)
    affine = np.array(
        [[0, 0, -GAP_MM, 0], [SPACING_MM, 0, 0, 0], [0, -SPACING_MM, 0, 0], [0, 0, 0, 1]], float
    )
    affine[:3, 3] = CORNER
    return Volume(np.repeat(image[None], SLICES, axis=0), LPS_TO_RAS @ affine)


def right_network(monkeypatch, change=lambda labels: labels):
    """Let the network tell the labels that the images are, after a change."""
    monkeypatch.setattr(sagittal_levels, "prepared", lambda images: images)

    def probabilities(network, images):
        labels = change(np.rint(images).astype(int))
        structure = np.full((len(labels), len(STRUCTURES), *labels.shape[1:]), 0.01)
        level = np.full((len(labels), len(LEVELS), *labels.shape[1:]), 0.01)
        names = [*DISCS, *VERTEBRAE]
        for value, name in enumerate(names, start=1):
            kind = DISC if name in DISCS else STRUCTURES.index("vertebra")
            structure[:, kind][labels == value] = 1
            level[:, np.searchsorted(LEVELS, name)][labels == value] = 0.5
        structure[:, 0][labels == 0] = 1
        return structure / structure.sum(axis=1, keepdims=True), level

    monkeypatch.setattr(sagittal_levels, "probabilities", probabilities)


def places(spine):
    """Return the centre of each disc in patient coordinates, (3,) LPS."""
    return {
        level: CORNER
        + (
            -GAP_MM * (SLICES - 1) / 2,
            (column + 0.5) * PIXEL_MM - SPACING_MM / 2,
            -((row + 0.5) * PIXEL_MM - SPACING_MM / 2),
        )
        for level, (row, column) in spine.discs.items()
    }


def test_discs_have_their_names_and_patient_coordinates(spine, volume, monkeypatch):
    right_network(monkeypatch)
    found = named_discs(None, volume)
    expected = places(spine)
    assert set(DISCS[1:-1]) <= set(found.points)
    for level in DISCS[1:-1]:
        assert np.linalg.norm(found.points[level] - expected[level]) < 3
    assert found.name_probability > 0.99
    assert found.level_variance < 0.01


def test_a_disc_that_was_not_found_does_not_shift_the_names(spine, volume, monkeypatch):
    lost = 1 + DISCS.index(3.5)
    right_network(monkeypatch, lambda labels: np.where(labels == lost, 0, labels))
    found = named_discs(None, volume)
    assert 3.5 not in found.points
    assert {1.5, 2.5, 4.5, 5.5} <= set(found.points)


def test_a_wrong_name_of_one_disc_is_outvoted(spine, volume, monkeypatch):
    disc, other = 1 + DISCS.index(2.5), 1 + DISCS.index(3.5)
    right_network(monkeypatch, lambda labels: np.where(labels == disc, other, labels))
    found = named_discs(None, volume)
    expected = places(spine)
    assert np.linalg.norm(found.points[2.5] - expected[2.5]) < 3


def test_a_spot_beside_the_column_is_no_disc(spine, volume, monkeypatch):
    def with_spot(labels):
        labels[:, 60:66, 2:8] = 1 + DISCS.index(4.5)
        return labels

    right_network(monkeypatch, with_spot)
    found = named_discs(None, volume)
    expected = places(spine)
    assert all(np.linalg.norm(found.points[level] - expected[level]) < 3 for level in DISCS[1:-1])


def test_without_discs_nothing_is_named(volume, monkeypatch):
    right_network(monkeypatch, lambda labels: labels * 0)
    assert named_discs(None, volume) is None


def test_averages_over_the_network_s_pixels_keep_place_and_mean():
    rng = np.random.default_rng(1)
    array = rng.random((2, 301, 240))
    images, (row, step), (column, across) = on_grid(array, (0.7, 0.9))
    assert images.shape == (2, int(301 * 0.7 / PIXEL_MM), int(240 * 0.9 / PIXEL_MM))
    assert (step, across) == pytest.approx((PIXEL_MM / 0.7, PIXEL_MM / 0.9))
    ramp = np.broadcast_to(np.arange(301.0)[None, :, None], array.shape)
    found, (row, step), _ = on_grid(ramp, (0.7, 0.9))
    assert np.allclose(found[0, :, 0], row + step * np.arange(found.shape[1]), atol=0.3)
