import numpy as np
import pytest

from paravert.anatomy import LABELS
from paravert.measure.area import (
    across_areas,
    axial_areas,
    border_fractions,
    muscle_directions,
    slice_areas,
    slice_centroids,
    slice_pixels,
)

SPACINGS_MM = [(0.5, 0.5), (0.6875, 0.6875), (0.4, 0.9), (1.2, 0.5)]


def ellipse(a_mm, b_mm, spacing_mm, centre_mm=(0.0, 0.0), half_field_mm=40):
    rows, columns = (np.arange(-half_field_mm, half_field_mm, step) for step in spacing_mm)
    y, x = rows[:, None] - centre_mm[0], columns[None] - centre_mm[1]
    return (y / b_mm) ** 2 + (x / a_mm) ** 2 <= 1


@pytest.mark.parametrize("spacing_mm", SPACINGS_MM)
@pytest.mark.parametrize(("a_mm", "b_mm"), [(30, 14), (12, 25), (9, 9)])
def test_area_of_an_ellipse_is_pi_a_b(a_mm, b_mm, spacing_mm):
    # Counting pixel centres in a smooth convex outline errs by about the square root of
    # perimeter x spacing^3 (Huxley); one pixel of a thin rim would be perimeter x spacing.
    labels = ellipse(a_mm, b_mm, spacing_mm, centre_mm=(0.13, 0.29))[None].astype(np.uint8)
    pixel_area_mm2 = spacing_mm[0] * spacing_mm[1]
    perimeter_mm = 2 * np.pi * np.sqrt((a_mm**2 + b_mm**2) / 2)
    tolerance_mm2 = 3 * np.sqrt(perimeter_mm * max(spacing_mm) ** 3)
    measured = slice_areas(labels, pixel_area_mm2)[0, 0]
    assert measured == pytest.approx(np.pi * a_mm * b_mm, abs=tolerance_mm2)


def test_area_converges_with_finer_pixels():
    def mean_error(spacing):
        shifts = np.random.default_rng(0).uniform(0, spacing, (20, 2))
        masks = [ellipse(22, 13, (spacing, spacing), shift) for shift in shifts]
        areas = slice_areas(np.array(masks, dtype=np.uint8), spacing**2)[:, 0]
        return np.abs(areas - np.pi * 22 * 13).mean()

    errors = [mean_error(spacing) for spacing in (1.6, 0.8, 0.4)]
    # Expected order 1.5: each halving of the pixel divides the error by about 2.8.
    assert errors[0] > 1.8 * errors[1] > 1.8**2 * errors[2]


def test_each_muscle_and_side_is_counted_by_itself():
    labels = np.zeros((2, 20, 20), dtype=np.uint8)
    for label in LABELS:
        labels[1, label.value, : label.value] = label.value
    assert slice_pixels(labels).tolist() == [[0] * 8, list(range(1, 9))]


def test_absent_muscle_has_area_zero():
    assert (slice_areas(np.zeros((3, 5, 5), dtype=np.uint8), 0.5) == 0).all()


def test_tilt_shortens_the_area_by_its_cosine():
    areas_mm2 = np.full((4, 8), 1000.0)
    axial = axial_areas(areas_mm2, np.array([0.0, 21.0, 60.0, 90.0]))
    assert axial[:, 0] == pytest.approx([1000, 933.58, 500, 0], abs=0.01)


def test_tilted_cylinder_has_the_axial_area_of_its_cross_section():
    # A cylinder of radius 20 mm cut at 30 degrees is an ellipse of 20 by 20 / cos(30).
    tilt_deg = 30.0
    long_mm = 20 / np.cos(np.deg2rad(tilt_deg))
    labels = ellipse(20, long_mm, (0.25, 0.25))[None].astype(np.uint8)
    axial = axial_areas(slice_areas(labels, 0.25**2), np.array([tilt_deg]))
    assert axial[0, 0] == pytest.approx(np.pi * 20**2, rel=2e-3)


def test_oblique_cylinder_has_the_area_of_its_cross_section():
    # A cylinder of radius 15 mm at 30 degrees to the slices' normal: ellipses that move from slice to slice.
    angle, spacing_mm, position_mm = np.deg2rad(30.0), (0.25, 0.4), np.array([0.0, 4.0, 8.0])
    middles = [(shift, 0.0) for shift in (position_mm - 4) * np.tan(angle)]
    masks = [ellipse(15, 15 / np.cos(angle), spacing_mm, middle) for middle in middles]
    labels = 3 * np.array(masks, dtype=np.uint8)
    centroids_mm = slice_centroids(labels, spacing_mm, position_mm)
    steps = np.diff(centroids_mm[:, 2], axis=0)
    assert steps == pytest.approx(np.tile([0, 4 * np.tan(angle), 4], (2, 1)), abs=0.02)
    areas_mm2 = slice_areas(labels, 0.25 * 0.4)
    found = across_areas(areas_mm2, centroids_mm)
    assert found[:, 2] == pytest.approx(np.full(3, np.pi * 15**2), rel=5e-3)
    assert axial_areas(areas_mm2, np.zeros(3))[1, 2] == pytest.approx(
        np.pi * 15**2 / np.cos(angle), rel=5e-3
    )
    assert (found[:, :2] == 0).all()


def test_the_direction_of_a_muscle_is_unknown_without_a_neighbouring_slice():
    alone = np.zeros((1, 1, 3))
    assert np.isnan(muscle_directions(alone)).all()
    assert np.isnan(across_areas(np.array([[100.0]]), alone)).all()
    gap = np.array([[[0.0, 0, 0]], [[np.nan] * 3], [[0, 0, 8.0]], [[3.0, 0, 12.0]]])
    found = muscle_directions(gap)
    assert np.isnan(found[0]).all()
    assert found[2:, 0] == pytest.approx(np.tile([0.6, 0, 0.8], (2, 1)))


def test_the_share_of_the_outline_at_the_border_is_that_of_a_square_that_is_cut_off():
    labels = np.zeros((3, 40, 50), dtype=np.uint8)
    labels[0, :10, 20:30] = 1  # 10 of 36 pixels of the outline at the upper border
    labels[0, 15:25, 20:30] = 2  # inside
    labels[1, 30:, :10] = 1  # in a corner: 19 of 36
    labels[1, :10, 20:25] = labels[1, :10, 25:30] = 5
    labels[1, :10, 25:30] = 6  # neighbours: each has an outline of its own, 5 of 26
    found = border_fractions(labels)
    assert found[0, :2].tolist() == [10 / 36, 0]
    assert found[1, 0] == 19 / 36
    assert found[1, 4:6].tolist() == [5 / 26, 5 / 26]
    assert np.isnan(found[2]).all()
    assert np.isnan(found[0, 2:]).all()
