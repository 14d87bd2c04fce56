import numpy as np
import pytest

from paravert.synthesis.raster import PixelGrid, centred_grid
from paravert.synthesis.solids import (
    Outlines,
    Tube,
    axial_plane,
    ellipse,
    inset,
    signed_area,
    spline,
)
from phantom_slices import section_outline


def cylinder(radii=(20.0, 12.0), half_height=60.0):
    ring = ellipse((3.0, -5.0), radii, vertices=256)
    rings = [np.column_stack((ring, np.full(len(ring), z))) for z in (half_height, 0, -half_height)]
    return Tube(np.stack(rings))


def alone(outline):
    return Outlines(outline, np.zeros(len(outline), int))


def filled(grid, outlines):
    """Return the flat indices of the pixels inside outlines."""
    runs = zip(*grid.spans(outlines), strict=True)
    return np.concatenate([np.arange(*run) for run in runs] or [np.empty(0, int)])


def test_area_of_an_ellipse_is_pi_a_b():
    assert signed_area(ellipse((4, 7), (20, 9), 33, vertices=512)) == pytest.approx(
        np.pi * 20 * 9, rel=1e-4
    )


def test_a_spline_runs_through_its_control_points():
    points = np.array([(0, 0), (10, 1), (12, 9), (3, 14)], float)
    curve = spline(points, 64)
    assert np.allclose(curve[::16], points)


def test_inset_of_a_circle_is_a_smaller_circle():
    for outline in (ellipse((0, 0), (30, 30)), ellipse((0, 0), (30, 30))[::-1]):
        assert np.hypot(*inset(outline, 4.0).T) == pytest.approx(26.0, abs=1e-9)


def test_half_of_a_disc_is_clipped_at_its_diameter():
    disc = ellipse((0, 0), (10, 10), vertices=400)
    half = alone(disc).clipped(np.array([[1.0, 0.0, 0.0]])).points
    assert half[:, 0].max() == pytest.approx(0, abs=1e-9)
    assert abs(signed_area(half)) == pytest.approx(np.pi * 100 / 2, rel=1e-3)


def test_outlines_of_several_planes_are_clipped_and_filled_each_by_itself():
    discs = [ellipse((0, 0), (radius, radius), vertices=400) for radius in (10, 20, 30)]
    three = Outlines(np.concatenate(discs), np.repeat((0, 2, 3), 400))
    half_planes = np.array([(1.0, 0, 0), (0, 0, -1.0), (0, 0, 1.0), (0, 1.0, 0)])
    kept = three.clipped(half_planes)  # half of the first, none of the second, half of the third
    assert set(kept.plane) == {0, 3}
    grid = centred_grid(80, 1.0)
    plane, row, column = np.unravel_index(filled(grid, kept), (4, 80, 80))
    assert np.bincount(plane)[[0, 3]] == pytest.approx(np.pi * np.array((100, 900)) / 2, rel=0.03)
    assert set(plane) == {0, 3}
    assert (column[plane == 0] < 40).all()
    assert (row[plane == 3] < 40).all()


@pytest.mark.parametrize("tilt_deg", [0, 12])
def test_planes_cut_together_are_those_cut_one_by_one(tilt_deg):
    planes = [axial_plane(np.array([1.0, 2.0, z]), tilt_deg) for z in (-70, -58, 0.3, 59, 64)]
    outline, rim = cylinder().sections(planes, (0.0, 1.5))
    for number, plane in enumerate(planes):
        alone = cylinder().sections([plane], (0.0, 1.5))
        for together, own in zip((outline, rim), alone, strict=True):
            assert np.array_equal(together.points[together.plane == number], own.points)


@pytest.mark.parametrize("spacing", [(0.3, 0.3), (0.25, 0.6), (1.0, 0.2)])
def test_filled_pixels_have_the_area_of_the_ellipse(spacing):
    du, dv = spacing
    grid = PixelGrid(400, 400, du, dv, -200 * du, -200 * dv)
    count = len(filled(grid, alone(ellipse((1.3, -2.1), (21, 13), 20, vertices=256))))
    assert count * du * dv == pytest.approx(np.pi * 21 * 13, rel=0.004)


def test_filling_leaves_out_what_lies_beyond_the_grid():
    grid = centred_grid(50, 1.0)
    inside = filled(grid, alone(ellipse((25, 0), (10, 10), vertices=128)))
    rows, columns = np.divmod(inside, 50)
    assert columns.min() >= 39
    assert len(inside) == pytest.approx(np.pi * 100 / 2, rel=0.05)
    assert len(filled(grid, alone(ellipse((90, 0), (5, 5))))) == 0


def test_a_finer_grid_covers_the_same_area():
    grid = PixelGrid(10, 20, 0.8, 0.5, -3.0, 2.0)
    fine = grid.finer(4)
    assert fine.u0 - fine.du / 2 == pytest.approx(grid.u0 - grid.du / 2)
    assert fine.rows * fine.dv == pytest.approx(grid.rows * grid.dv)


@pytest.mark.parametrize("tilt_deg", [0, 10, -15, 30])
def test_oblique_section_of_a_cylinder_is_larger_by_one_over_cosine(tilt_deg):
    section = section_outline(cylinder(), axial_plane(np.zeros(3), tilt_deg))
    expected = np.pi * 20 * 12 / np.cos(np.deg2rad(tilt_deg))
    assert abs(signed_area(section)) == pytest.approx(expected, rel=2e-3)


def test_a_plane_through_the_rim_cuts_half_the_cylinder():
    # the plane leaves the solid through its upper end exactly at the axis
    tilted = axial_plane(np.array([3.0, -5.0, 60.0]), 45)
    section = section_outline(cylinder(), tilted)
    assert abs(signed_area(section)) == pytest.approx(np.pi * 20 * 12 / 2 * np.sqrt(2), rel=2e-3)


def test_a_plane_beyond_the_ends_cuts_nothing():
    assert section_outline(cylinder(), axial_plane(np.array([0, 0, 61.0]))) is None
    assert section_outline(cylinder(), axial_plane(np.array([0, 0, -61.0]))) is None


def test_turning_a_plane_turns_the_section_back():
    plane = axial_plane(np.zeros(3)).turned(30)
    section = section_outline(cylinder(), plane)
    x, y = section.mean(axis=0)
    turn = np.deg2rad(30)
    assert (x, y) == pytest.approx(
        (3 * np.cos(turn) - 5 * np.sin(turn), -3 * np.sin(turn) - 5 * np.cos(turn)), abs=1e-6
    )
    assert plane.normal == pytest.approx((0, 0, 1))
