"""Discs of a sagittal series: found, put into patient coordinates, and named, by a network that is right."""

import numpy as np
import pytest

from paravert.imaging.geometry import LPS_TO_RAS
from paravert.imaging.volume import Volume
from paravert.network import sagittal_levels
from paravert.network.find_levels import FoundLevels, SliceGeometry
from paravert.network.sagittal_levels import Naming, levels_from_sagittal, named_discs, on_grid
from paravert.network.sagittal_net import FORM, STRUCTURES
from paravert.network.train_levels import STRUCTURE_OF_LABEL
from paravert.synthesis.sagittal_parts import DISCS, PIXEL_MM, label_of
from paravert.synthesis.sagittal_slices import sagittal_slices

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
    monkeypatch.setattr(sagittal_levels, "network_input", lambda images: images)

    def probabilities(network, images):
        labels = change(np.rint(images).astype(int))
        structure = np.full((len(labels), len(STRUCTURES), *labels.shape[1:]), 1e-3)
        for value in np.unique(labels):
            structure[:, STRUCTURE_OF_LABEL[value]][labels == value] = 1
        return structure / structure.sum(axis=1, keepdims=True)

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


def test_pixels_of_the_network_are_those_of_its_training():
    assert FORM.spacing_mm == PIXEL_MM


def test_discs_have_their_names_and_patient_coordinates(spine, volume, monkeypatch):
    right_network(monkeypatch)
    found = named_discs(None, volume)
    expected = places(spine)
    assert set(DISCS[1:-1]) <= set(found.points)
    assert max(found.points) == 5.5
    for level in DISCS[1:-1]:
        assert np.linalg.norm(found.points[level] - expected[level]) < 3
    assert found.name_probability > 0.9
    assert found.level_variance < 0.1


def test_a_disc_that_was_not_found_does_not_shift_the_names(spine, volume, monkeypatch):
    lost = 1 + DISCS.index(3.5)
    right_network(monkeypatch, lambda labels: np.where(labels == lost, 0, labels))
    found = named_discs(None, volume)
    assert 3.5 not in found.points
    assert {1.5, 2.5, 4.5, 5.5} <= set(found.points)


@pytest.mark.parametrize("n_lumbar", [4, 6])
def test_discs_are_counted_from_the_sacrum_by_the_number_of_vertebrae(
    spine, volume, monkeypatch, n_lumbar
):
    right_network(monkeypatch)
    usual, found = named_discs(None, volume), named_discs(None, volume, n_lumbar)
    assert max(found.points) == n_lumbar + 0.5
    for level, place in usual.points.items():
        if level + n_lumbar - 5 >= sagittal_levels.HIGHEST_DISC:
            assert np.array_equal(found.points[level + n_lumbar - 5], place)


@pytest.mark.parametrize(("end", "share"), [(4.7, 1.0), (5.3, 0.4), (5.6, 0.4)])
def test_a_lowest_vertebra_that_resembles_the_sacrum_is_not_counted_from(
    spine, volume, monkeypatch, end, share
):
    fifth, sacrum = label_of(5.0), label_of(7.0)

    def resembling(labels):
        columns = np.indices(labels.shape)[2]
        return np.where((labels == fifth) & (columns % 5 < 5 * share), sacrum, labels)

    right_network(monkeypatch, resembling)
    rows = [spine.discs[disc][0] for disc in (4.5, 5.5)]
    last = int(2 * (rows[0] + (end - 4.5) * (rows[1] - rows[0])))
    shorter = Volume(volume.array[:, :last], volume.affine)
    assert named_discs(None, shorter) is None


def test_without_a_sacrum_nothing_is_named(spine, volume, monkeypatch):
    lost = [label_of(level) for level in (6.0, 6.5, 7.0)]
    right_network(monkeypatch, lambda labels: np.where(np.isin(labels, lost), 0, labels))
    assert named_discs(None, volume) is None


@pytest.fixture
def axial(spine):
    """Axial slices every 10 mm, and a function: levels of them by the muscles, wrong by a number of levels."""
    height = {level: place[2] for level, place in places(spine).items()}
    z = np.arange(height[5.5], height[1.5], 10.0)
    true = np.interp(z, [height[level] for level in reversed(DISCS)], DISCS[::-1])
    affines = np.repeat(np.eye(4)[None], len(z), axis=0)
    affines[:, :3, 3] = np.column_stack(
        (np.full(len(z), CORNER[0] - 100), np.full(len(z), CORNER[1]), z)
    )
    number = np.arange(len(z))
    geometry = SliceGeometry(np.ones_like(number), number, affines, np.full((len(z), 2), 512))
    return geometry, lambda wrong=0.1, sd=0.2: FoundLevels(true + wrong, np.full(len(z), sd), 0.3)


@pytest.fixture
def half_sacral(monkeypatch):
    """A network that takes half of the fifth vertebra for the sacrum."""
    fifth, sacrum = label_of(5.0), label_of(7.0)

    def in_every_second_column(labels):
        columns = np.indices(labels.shape)[2]
        return np.where((labels == fifth) & (columns % 2 == 0), sacrum, labels)

    right_network(monkeypatch, in_every_second_column)
    monkeypatch.setattr(sagittal_levels, "load_sagittal_network", lambda model: None)


def test_the_muscles_name_discs_where_the_sacrum_is_not_clear(volume, axial, half_sacral):
    geometry, by_muscles = axial
    alone, naming = levels_from_sagittal(None, volume, geometry, 5)
    assert naming is Naming.UNCLEAR
    found, naming = levels_from_sagittal(None, volume, geometry, 5, by_muscles())
    assert naming is Naming.MUSCLES
    assert np.abs(found.level - by_muscles(0).level).max() < 0.1
    assert found.sd.max() < 0.3
    # Levels by the muscles that are one off name them one off, if the sacrum is as probable there.
    found, naming = levels_from_sagittal(None, volume, geometry, 5, by_muscles(1.0))
    assert naming is Naming.MUSCLES
    assert np.abs(found.level - by_muscles(1.0).level).max() < 0.1
    # Uncertain levels by the muscles tell less.
    told, naming = levels_from_sagittal(None, volume, geometry, 5, by_muscles(sd=0.6))
    assert told.sd.max() > 1.5 * found.sd.max()


def test_spots_of_the_belly_that_resemble_discs_are_no_chain(spine, volume, monkeypatch):
    def with_spots(labels):
        for row in range(3, labels.shape[1] - 3, 9):
            labels[:, row : row + 2, 2:10] = 1 + DISCS.index(4.5)
        return labels

    right_network(monkeypatch, with_spots)
    found, expected = named_discs(None, volume), places(spine)
    assert all(np.linalg.norm(found.points[level] - expected[level]) < 3 for level in DISCS[1:-1])


def test_a_clear_sacrum_is_counted_from_whatever_the_muscles_say(volume, axial, monkeypatch):
    right_network(monkeypatch)
    monkeypatch.setattr(sagittal_levels, "load_sagittal_network", lambda model: None)
    geometry, by_muscles = axial
    found, naming = levels_from_sagittal(None, volume, geometry, 5, by_muscles(1.0))
    assert naming is Naming.SACRUM
    assert np.abs(found.level - by_muscles(0).level).max() < 0.1


@pytest.mark.parametrize("wrong", [0.0, 0.25, -0.25])
def test_the_muscles_name_discs_where_no_sacrum_is_seen(spine, volume, axial, monkeypatch, wrong):
    right_network(monkeypatch)
    monkeypatch.setattr(sagittal_levels, "load_sagittal_network", lambda model: None)
    last = int(2 * spine.discs[4.5][0]) + 6
    shorter = Volume(volume.array[:, :last], volume.affine)
    assert named_discs(None, shorter) is None
    geometry, by_muscles = axial
    found, naming = levels_from_sagittal(None, shorter, geometry, 5, by_muscles(wrong))
    assert naming is Naming.MUSCLES
    assert np.nanmax(np.abs(found.level - by_muscles(0).level)) < 0.15


def test_a_disc_within_the_sacrum_is_not_counted(spine, volume, monkeypatch):
    within, disc = label_of(6.5), label_of(3.5)
    right_network(monkeypatch, lambda labels: np.where(labels == within, disc, labels))
    found = named_discs(None, volume)
    expected = places(spine)
    assert np.linalg.norm(found.points[5.5] - expected[5.5]) < 3


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
