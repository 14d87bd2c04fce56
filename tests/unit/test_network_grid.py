"""Image grid to network grid and back: nothing is shifted; a stack is standardised by itself alone."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from paravert.imaging.image_stack import LARGEST_VALUE, SMALLEST_SPREAD
from paravert.network.grid import (
    labels_on_image,
    labels_on_network,
    network_size,
    padded,
    resampled,
    standardise,
)

CASES = [  # rows, columns, row spacing, column spacing, network spacing
    (320, 320, 0.625, 0.625, 1.2),
    (257, 301, 0.71, 0.53, 1.2),
    (191, 160, 1.1, 1.4, 1.2),
    (101, 99, 2.3, 1.7, 1.2),
]


def blob(rows, columns, row_mm, column_mm, centre_mm, sigma_mm=12.0):
    """Return a Gaussian sampled at pixel centres; mm are counted from the edge of the image."""
    y = (np.arange(rows) + 0.5) * row_mm
    x = (np.arange(columns) + 0.5) * column_mm
    distance = (y[:, None] - centre_mm[0]) ** 2 + (x[None] - centre_mm[1]) ** 2
    return np.exp(-distance / (2 * sigma_mm**2)).astype(np.float32)


def centroid_mm(image, row_mm, column_mm):
    rows, columns = image.shape
    total = image.sum()
    y = (image.sum(axis=1) * (np.arange(rows) + 0.5)).sum() / total * row_mm
    x = (image.sum(axis=0) * (np.arange(columns) + 0.5)).sum() / total * column_mm
    return np.array([y, x])


@pytest.mark.parametrize("case", CASES)
def test_a_blob_stays_where_it_is_there_and_back(case):
    rows, columns, row_mm, column_mm, network_mm = case
    extent = np.array([rows * row_mm, columns * column_mm])
    centre = extent * (0.47, 0.56)
    image = blob(rows, columns, row_mm, column_mm, centre)
    size = network_size((rows, columns), (row_mm, column_mm), network_mm)
    there = resampled(image[None], size)
    found = centroid_mm(there[0].astype(np.float64), *(extent / size))
    np.testing.assert_allclose(found, centre, atol=0.01)
    back = resampled(there, (rows, columns))[0].astype(np.float64)
    np.testing.assert_allclose(centroid_mm(back, row_mm, column_mm), centre, atol=0.01)
    np.testing.assert_allclose(back, image, atol=0.02)


@pytest.mark.parametrize("case", CASES)
def test_the_networks_pixels_have_nearly_the_spacing_asked_for(case):
    rows, columns, row_mm, column_mm, network_mm = case
    size = network_size((rows, columns), (row_mm, column_mm), network_mm)
    spacing = (rows * row_mm / size[0], columns * column_mm / size[1])
    assert spacing == pytest.approx((network_mm, network_mm), rel=0.01)


@pytest.mark.parametrize("case", CASES[:3])
def test_an_ellipse_keeps_its_area_and_place_through_logits_and_back(case):
    """Logits that fall linearly across an outline put it back where it was, between the pixels."""
    rows, columns, row_mm, column_mm, network_mm = case
    shape = (rows, columns)
    size = network_size(shape, (row_mm, column_mm), network_mm)
    extent = np.array([rows * row_mm, columns * column_mm])
    step = extent / size
    centre, radius = extent * (0.52, 0.46), np.array([31.0, 23.0])
    y = ((np.arange(size[0]) + 0.5) * step[0] - centre[0]) / radius[0]
    x = ((np.arange(size[1]) + 0.5) * step[1] - centre[1]) / radius[1]
    inside = 1 - np.hypot(y[:, None], x[None])
    logits = np.stack([np.zeros_like(inside), inside]).astype(np.float32)
    labels = labels_on_image(padded(logits, 32), size, shape)
    area = labels.sum() * row_mm * column_mm
    assert area == pytest.approx(np.pi * radius.prod(), rel=0.005)
    np.testing.assert_allclose(centroid_mm(labels, row_mm, column_mm), centre, atol=0.05)


@pytest.mark.parametrize("shape", [(64, 48), (101, 77), (150, 150), (64, 90), (40, 90), (30, 20)])
def test_labels_are_those_of_interpolated_logits(shape):
    """Finer, coarser, or both: what is not computed away from the outlines would not differ."""
    size = (64, 48)
    rng = np.random.default_rng(3)
    smooth = resampled(rng.normal(size=(9, 12, 9)).astype(np.float32), size)
    noise = 0.1 * rng.normal(size=(9, *size)).astype(np.float32)
    logits = padded(smooth + noise, 32)
    found = labels_on_image(logits, size, shape)
    assert found.dtype == np.uint8
    expected = resampled(logits[:, :64, :48], shape).argmax(axis=0)
    assert (found == expected).mean() > 0.9995


@pytest.mark.parametrize("size", [(64, 48), (101, 77), (40, 90), (30, 20), (16, 12)])
def test_resampling_is_torchs_bilinear_interpolation_with_antialias(size):
    planes = np.random.default_rng(3).normal(size=(3, 64, 48)).astype(np.float32)
    expected = functional.interpolate(
        torch.from_numpy(planes)[:, None], size=size, mode="bilinear", antialias=True
    )
    np.testing.assert_allclose(resampled(planes, size), expected[:, 0].numpy(), atol=1e-4)


def test_labels_of_a_single_row_or_column_of_pixels():
    logits = np.zeros((2, 32, 32), np.float32)
    logits[1] = 1
    assert (labels_on_image(logits, (1, 3), (2, 5)) == 1).all()


@pytest.mark.parametrize(("rows", "columns"), [(64, 64), (65, 95), (1, 33)])
def test_padding_reaches_the_multiple_and_leaves_the_image_in_its_corner(rows, columns):
    image = np.random.default_rng(1).random((1, rows, columns))
    found = padded(image, 32)
    assert found.shape[1] % 32 == found.shape[2] % 32 == 0
    assert found.shape[1] - rows < 32
    np.testing.assert_array_equal(found[:, :rows, :columns], image)
    assert (found[:, rows:, :columns] == image[:, -1:]).all()


def test_standard_intensities_have_mean_zero_and_variance_one():
    image = np.random.default_rng(1).gamma(2, 100, (5, 40, 40))
    found = standardise(image)
    assert found.dtype == np.float32
    assert found.mean() == pytest.approx(0, abs=1e-5)
    assert found.std() == pytest.approx(1, abs=1e-5)


def test_scale_and_offset_of_the_scanner_do_not_matter():
    image = np.random.default_rng(1).gamma(2, 100, (5, 40, 40))
    np.testing.assert_allclose(standardise(7 * image + 300), standardise(image), atol=1e-5)


@pytest.mark.parametrize("largest", [SMALLEST_SPREAD, LARGEST_VALUE])
def test_the_weakest_and_the_strongest_signal_are_standardised_as_any(largest):
    image = np.random.default_rng(8).random((2, 30, 30), np.float32)
    scaled = (image * (largest / image.max())).astype(np.float32)
    np.testing.assert_allclose(standardise(scaled), standardise(image), atol=1e-5)


def test_a_single_bright_pixel_does_not_set_the_scale():
    image = np.random.default_rng(1).normal(100, 10, (5, 40, 40))
    spoilt = image.copy()
    spoilt[2, 3, 4] = 1e6
    assert np.abs(standardise(spoilt) - standardise(image)).mean() < 0.01


@pytest.mark.parametrize("kind", [np.int16, np.uint16, np.float32])
@pytest.mark.parametrize("slices", [1, 7])
def test_standard_intensities_are_those_of_the_definition(kind, slices):
    image = np.random.default_rng(2).gamma(2, 300, (slices, 33, 41)).astype(kind)
    clipped = np.clip(image, *np.percentile(image, (0.5, 99.5))).astype(np.float64)
    expected = (clipped - clipped.mean()) / clipped.std()
    np.testing.assert_allclose(standardise(image), expected, atol=1e-5)


def test_a_stack_of_one_value_becomes_zero():
    assert not standardise(np.full((2, 8, 8), 17)).any()


def test_truth_on_the_networks_grid_keeps_the_area():
    y, x = np.mgrid[:200, :240]
    disc = np.zeros((2, 200, 240), dtype=np.uint8)
    disc[:, np.hypot(y - 99.5, x - 119.5) < 60] = 7
    found = labels_on_network(disc, (100, 120))
    assert found.dtype == np.uint8
    assert set(np.unique(found)) == {0, 7}
    assert (found[0] == 7).sum() * 4 == pytest.approx((disc[0] == 7).sum(), rel=0.01)
