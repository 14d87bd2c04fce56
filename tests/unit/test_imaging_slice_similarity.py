"""A damaged slice is told from its neighbours, and a good one is not suspected."""

from dataclasses import replace

import numpy as np
import pytest

from dicom_writer import Plan, plan_affine, save_nifti, write_series
from paravert.errors import Caution
from paravert.imaging.convert import read_images
from paravert.imaging.decoding import read_frames
from paravert.imaging.dicom import read_dicom
from paravert.imaging.dicom_scan import scan_folder
from paravert.imaging.image_stack import LEAST_SIDE, geometry_rows, unlike_neighbours
from paravert.imaging.input_files import quiet_pydicom
from paravert.imaging.nifti import read_nifti
from varied_stacks import KINDS, draw

UNLIKE = Caution.SLICE_UNLIKE_NEIGHBOURS


def trunk(slices=4, size=128, gap_mm=5.0):
    """Return (slices, rows, columns) of a trunk: fat around muscle, a spine, bowel that differs."""
    chance = np.random.default_rng(slices)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    stack = []
    for index in range(slices):
        z = index * gap_mm / 100
        outline = (x / 0.9) ** 2 + (y / (0.7 + 0.1 * np.sin(z))) ** 2
        image = np.where(outline < 1, np.where(outline > 0.75, 900, 300), 0.0)
        image[x**2 + (y - 0.2 * np.cos(z)) ** 2 < 0.03] = 600
        bowel = (x - 0.3 * np.sin(9 * z)) ** 2 + (y + 0.35) ** 2 < 0.02 + 0.02 * np.sin(7 * z)
        image[bowel] = 1100
        stack.append(np.abs(image + chance.normal(0, 30, image.shape)))
    return np.rint(stack).astype(np.int16)


def lost_thread(slice_, share=0.4):
    """Return a slice whose last rows are off, each by an amount of its own."""
    damaged = slice_.copy()
    first = int(len(slice_) * (1 - share))
    off = np.random.default_rng(1).integers(-800, 800, len(slice_) - first)
    damaged[first:] = damaged[first:] + off[:, None]
    return damaged


def slid(slice_):
    """Return a slice whose rows begin somewhere else, as after a loss within the stream."""
    return np.roll(slice_.ravel(), slice_.size // 3 + slice_.shape[1] // 2).reshape(slice_.shape)


def flagged(stack):
    return np.flatnonzero(unlike_neighbours(stack)).tolist()


# --- good stacks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("slices", [1, 2, 3, 4, 30])
def test_good_slices_fit_their_neighbours(slices):
    assert flagged(trunk(slices)) == []


def test_scale_and_offset_of_a_slice_do_not_matter():
    stack = trunk(6).astype(np.float32)
    for index in range(6):
        stack[index] = (3**index) * stack[index] - 1000 * index
    assert flagged(stack) == []


def test_a_bright_saturation_band_across_all_slices_is_no_damage():
    stack = trunk(5)
    stack[:, 20:32] = stack[:, 20:32] // 8
    stack[:, :, 100:110] += 1500
    assert flagged(stack) == []


def test_a_blank_slice_is_not_judged_and_nobodys_neighbour():
    stack = trunk(4)
    stack[1] = 0
    assert flagged(stack) == []
    assert flagged(np.stack([stack[0], np.zeros_like(stack[0])])) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(100, 103))
def test_intact_slices_that_differ_strongly_are_not_suspected(kind, seed):
    assert flagged(draw(kind, seed)) == []


@pytest.mark.parametrize("end", [0, -1])
def test_noise_beyond_the_body_is_no_damage(end):
    stack = trunk(5)
    stack[:, 60:64] += 1500  # a bright band, which noise lacks
    stack[end] = np.abs(np.random.default_rng(1).normal(0, 30, stack[end].shape))
    assert flagged(stack) == []


def test_slices_of_few_pixels_are_not_judged():
    stack = trunk(5, size=LEAST_SIDE)
    stack[2] = lost_thread(stack[2])
    assert flagged(stack) == [2]
    assert flagged(stack[:, 1:]) == []


# --- damaged ones --------------------------------------------------------------------------------


@pytest.mark.parametrize("slices", [3, 4, 30])
@pytest.mark.parametrize("chosen", [0, -1])
def test_rows_that_lose_their_thread_are_flagged_in_that_slice_alone(slices, chosen):
    stack = trunk(slices)
    stack[chosen] = lost_thread(stack[chosen])
    assert flagged(stack) == [chosen % slices]


@pytest.mark.parametrize("share", [0.1, 0.3, 0.9])
def test_a_tenth_of_the_rows_is_enough(share):
    stack = trunk(5)
    stack[2] = lost_thread(stack[2], share)
    assert flagged(stack) == [2]


@pytest.mark.parametrize("chosen", [0, 2, 4])
def test_content_that_lies_elsewhere_is_flagged(chosen):
    stack = trunk(5)
    stack[chosen] = slid(stack[chosen])
    assert flagged(stack) == [chosen]


@pytest.mark.parametrize("chosen", [0, 1])
def test_of_two_slices_the_one_with_lost_rows_is_flagged(chosen):
    stack = trunk(2)
    stack[chosen] = lost_thread(stack[chosen], 0.15)
    assert flagged(stack) == [chosen]


def test_content_alone_tells_nothing_in_a_stack_of_two():
    stack = trunk(2)
    stack[1] = stack[1][::-1]
    assert flagged(stack) == []


@pytest.mark.parametrize("turned", [(0, 2, 1), (0, 1, 2)])
@pytest.mark.parametrize("step", [1, -1])
def test_the_way_the_slices_lie_does_not_matter(turned, step):
    stack = trunk(4)
    stack[1] = lost_thread(stack[1])
    assert flagged(stack.transpose(turned)[:, ::step, ::step]) == [1]


# --- files ---------------------------------------------------------------------------------------


def write_damaged(folder, stack, chosen, start, content):
    """Write a stack without compression, one slice with other bytes from some place of its pixels."""
    slices, rows, columns = stack.shape
    plan = Plan(slices=slices, rows=rows, columns=columns, row_spacing=2, column_spacing=2)

    def edit(data, number):
        data.PixelData = stack[number].astype("<u2").tobytes()
        if number == chosen:
            end = start + len(content)
            data.PixelData = data.PixelData[:start] + content + data.PixelData[end:]

    write_series(folder, plan, edit=edit)


@pytest.mark.parametrize("start", [8192, 12288, 16384])
@pytest.mark.parametrize("content", [bytes(4096), b"\x0f\x0a" * 2048, bytes(16384)])
def test_foreign_sectors_in_a_file_are_told_of_its_slice_and_its_subject(tmp_path, start, content):
    write_damaged(tmp_path, trunk(5), 3, start, content)
    images = read_dicom(tmp_path)
    assert images.cautions == {UNLIKE}
    told = [row["warnings"] for row in geometry_rows(images.stacks)]
    assert told == [[], [], [], ["slice-unlike-neighbours"], []]


def test_a_damaged_slice_of_a_nifti_file_is_told_too(tmp_path):
    stack = trunk(5)
    stack[1] = lost_thread(stack[1])
    plan = replace(Plan(), rows=128, columns=128, slices=5)
    file = save_nifti(tmp_path / "image.nii", stack.transpose(2, 1, 0), plan_affine(plan))
    images = read_nifti(file)
    assert images.cautions == {UNLIKE}
    assert [UNLIKE in slice_.cautions for slice_ in images.stacks[0].slices] == [
        index == 1 for index in range(5)
    ]


# --- the real material ---------------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.parametrize(
    "place",
    [
        "lumbar_study_cc0",
        "tum01_dixon/TUM01_water_img_L2-L5.nii.gz",
        "tum01_dixon/TUM01_fat_img_L2-L5.nii.gz",
    ],
)
def test_no_slice_of_the_real_axial_stacks_is_suspected(real_data, place):
    assert UNLIKE not in read_images(str(real_data / place)).cautions


@pytest.mark.real
@pytest.mark.parametrize("series", ["T1_SAG", "T2_SAG", "STIR_SAG"])
def test_no_slice_of_the_real_sagittal_series_is_suspected(real_study, series):
    frames = scan_folder(real_study / series).frames
    frames = sorted(frames, key=lambda frame: frame.position[0])
    with quiet_pydicom():
        stack = np.stack([read_frames(frame.header, [frame])[0][0] for frame in frames])
    assert flagged(stack) == []
