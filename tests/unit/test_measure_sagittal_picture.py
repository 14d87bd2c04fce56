"""The sagittal picture: its slice, and the lines where axial slices cut it."""

import json

import numpy as np
import pytest
from PIL import Image

from paravert.imaging.geometry import LPS_TO_RAS
from paravert.imaging.volume import Volume
from paravert.measure.labelled_stack import LabelledStack
from paravert.measure.sagittal_picture import (
    HEIGHT_PX,
    cut_lines,
    read_sagittal_lines,
    write_sagittal,
)
from paravert.network.find_levels import SliceGeometry

SPACING_MM, TILT = 0.5, np.deg2rad(20)
PLANE = np.array(
    [[0, 0, -4.0, 3], [SPACING_MM, 0, 0, -100], [0, -SPACING_MM, 0, 100], [0, 0, 0, 1]]
)
SHAPE = (400, 400)  # y from -100 to 99.5 mm, z from 100 down to -99.5


def axial(*corners, tilt=0.0, size=(200, 300)):
    """Return axial slices of 1 mm pixels with these corners; their rows fall towards the back by tilt."""
    affine = np.eye(4)
    affine[1:3, 1] = np.cos(tilt), -np.sin(tilt)
    affines = np.repeat(affine[None], len(corners), axis=0)
    affines[:, :3, 3] = corners
    index = np.arange(len(corners))
    return SliceGeometry(np.ones_like(index), index, affines, np.repeat([size], len(index), axis=0))


def stack_of(labels):
    """Return label maps (slices, rows, columns) as a stack of 1 mm pixels."""
    none, one = np.zeros(len(labels)), np.ones(len(labels))
    place = {"position_mm": none, "tilt_deg": none, "slab_mm": one, "overlaps": none > 0}
    return LabelledStack(1, labels, **place, row_spacing_mm=1, column_spacing_mm=1)


def lps(x, y):
    """Return the patient's y and z of a place in the sagittal slice."""
    return (PLANE @ (x, y, 0, 1))[1:3]


@pytest.mark.parametrize("tilt", [0.0, TILT])
def test_the_ends_of_a_line_lie_in_the_axial_slice_and_at_the_border_of_its_image(tilt):
    (line,) = cut_lines(PLANE, SHAPE, axial((-150, -60, 30), tilt=tilt, size=(120, 300)))
    for (x, y), row in zip(line.reshape(2, 2), (0, 120), strict=True):
        behind, height = lps(x, y) - (-60, 30)
        assert height == pytest.approx(-np.tan(tilt) * behind, abs=0.01)
        assert np.hypot(behind, height) * np.sign(behind) == pytest.approx(row - 0.5, abs=1.2)


def test_slices_beside_or_above_the_sagittal_image_have_no_line():
    beside, above, below = (10, -60, 30), (-150, -60, 130), (-150, -60, -130)
    assert np.isnan(cut_lines(PLANE, SHAPE, axial(beside, above, below))).all()


def test_the_slice_between_left_and_right_muscles_is_drawn_with_lines_in_pixels_of_the_picture(
    tmp_path,
):
    array = np.full((7, *SHAPE), 1, np.int16)
    array[:, :200] = 500 * (np.arange(7) == 4)[:, None, None] + 1
    labels = np.zeros((2, 200, 300), np.uint8)
    labels[:, 90:110, 130:140], labels[:, 90:110, 150:160] = 2, 1  # the middle at x = -5.5 mm
    geometry = axial((-150, -60, 30), (-150, -60, 130))
    stack = stack_of(labels)
    folder = tmp_path / "review"
    folder.mkdir()
    corner = PLANE.copy()
    corner[0, 3] = 10.5  # slice 4 lies at -5.5 mm
    write_sagittal(folder, Volume(array, LPS_TO_RAS @ corner), geometry, [stack])
    picture = np.asarray(Image.open(folder / "sagittal.jpg"))
    assert picture.shape == (HEIGHT_PX, HEIGHT_PX)
    assert picture[: HEIGHT_PX // 2 - 4].min() > 200 > 50 > picture[HEIGHT_PX // 2 + 4 :].max()
    size, (line, none) = read_sagittal_lines(tmp_path)
    assert size == [HEIGHT_PX, HEIGHT_PX]
    assert none is None
    assert line[1] == pytest.approx((100.25 - 30) / 200 * HEIGHT_PX, abs=0.2)
    assert set(json.loads((folder / "sagittal.json").read_text())) == {"size", "lines"}
    assert read_sagittal_lines(tmp_path / "elsewhere") is None


def test_the_picture_of_a_wide_series_is_lower_with_its_lines_in_place(tmp_path):
    folder = tmp_path / "review"
    folder.mkdir()
    array = np.arange(5 * 2 * 512, dtype=np.int16).reshape(5, 2, 512)
    plane = PLANE.copy()
    plane[2, 3] = 0.5
    geometry = axial((-150, -60, 0.25))
    stack = stack_of(np.zeros((1, 200, 300), np.uint8))
    write_sagittal(folder, Volume(array, LPS_TO_RAS @ plane), geometry, [stack])
    size, (line,) = read_sagittal_lines(tmp_path)
    with Image.open(folder / "sagittal.jpg") as picture:
        assert list(picture.size) == size == [1680, round(1680 * 2 / 512)]
    assert line[0] == pytest.approx((80 + 0.5) / 512 * 1680, abs=5)
    assert line[1] == pytest.approx(size[1] / 2, abs=0.5)
