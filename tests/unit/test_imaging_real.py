"""The real study, as it came from the scanner and rewritten: always the same five stacks."""

import random
import shutil

import numpy as np
import pydicom
import pytest
from highdicom.legacy import LegacyConvertedEnhancedMRImage
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from dicom_rewriter import classic_copy, rewrite, write_multi_frame
from gdcm_encoder import compress_file
from paravert.errors import Caution
from paravert.imaging.dicom import read_dicom
from paravert.imaging.image_stack import geometry_rows

pytestmark = pytest.mark.real

AXIAL, SAGITTAL = "T1_AX", ("STIR_SAG", "T1_SAG", "T2_SAG")
STACKS = [4, 4, 3, 3, 3]  # slices, from the feet upwards
SAME_MM = 1e-6


@pytest.fixture(scope="module")
def original(real_study):
    return read_dicom(real_study)


@pytest.fixture
def axial(real_study):
    """The files of the axial series, in random order."""
    files = sorted((real_study / AXIAL).iterdir())
    random.Random(5).shuffle(files)
    return files


@pytest.fixture
def beside(real_study, tmp_path):
    """A folder for the rewritten study, in which the sagittal series lie as they are."""
    for name in SAGITTAL:
        (tmp_path / name).symlink_to(real_study / name)
    return tmp_path


def assert_same_images(images, original, more=frozenset()):
    """Stacks, voxels, places, slabs, header and warnings are those of the study as it came."""
    assert [len(stack.slices) for stack in images.stacks] == STACKS
    for stack, expected in zip(images.stacks, original.stacks, strict=True):
        assert stack.volume.array.dtype == np.int16
        assert np.array_equal(stack.volume.array, expected.volume.array)
        assert np.abs(stack.volume.affine - expected.volume.affine).max() < SAME_MM
    rows = zip(geometry_rows(images.stacks), geometry_rows(original.stacks), strict=True)
    for row, expected in rows:
        for name, value in expected.items():
            exact = value is None or isinstance(value, str) or name == "warnings"
            assert row[name] == (value if exact else pytest.approx(value, abs=SAME_MM)), name
    assert images.header == original.header
    assert images.cautions == original.cautions | more


def test_the_study_as_it_came_has_five_stacks_of_its_axial_series(original):
    assert [len(stack.slices) for stack in original.stacks] == STACKS
    expected = {Caution.MULTI_STACK, Caution.NON_AXIAL_EXCLUDED, Caution.OVERLAPPING_STACKS}
    assert original.cautions == expected


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEGLSLossless,
        JPEG2000Lossless,
    ],
    ids=lambda syntax: syntax.keyword,
)
def test_every_transfer_syntax_gives_the_same_study(axial, beside, original, syntax):
    rewrite(axial, beside / AXIAL, syntax)
    assert_same_images(read_dicom(beside), original)


def test_jpeg_lossless_gives_the_same_study(axial, beside, original):
    for file in rewrite(axial, beside / AXIAL):
        compress_file(file, JPEGLosslessSV1)
    assert_same_images(read_dicom(beside), original)


def test_files_without_preamble_give_the_same_study(axial, beside, original):
    rewrite(axial, beside / AXIAL, preamble=False)
    assert_same_images(read_dicom(beside), original, {Caution.NO_PREAMBLE})


def test_any_names_in_any_folders_give_the_same_study(real_study, tmp_path, original):
    files = [file for name in (AXIAL, *SAGITTAL) for file in sorted((real_study / name).iterdir())]
    numbers = list(range(len(files)))
    random.Random(7).shuffle(numbers)
    for file, number in zip(files, numbers, strict=True):
        folder = tmp_path / f"{number % 4}" / f"deeper {number % 3}" / "ß"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, folder / f"{number}.{'ima' if number % 2 else 'nii.dcm'}")
    assert_same_images(read_dicom(tmp_path), original)


@pytest.mark.parametrize("legacy", [False, True], ids=["enhanced", "legacy converted"])
def test_one_multi_frame_file_for_each_series_gives_the_same_study(
    real_study, axial, tmp_path, original, legacy
):
    write_multi_frame(axial, tmp_path / AXIAL, legacy=legacy)
    for name in SAGITTAL:
        write_multi_frame(sorted((real_study / name).iterdir()), tmp_path / name, legacy=legacy)
    assert_same_images(read_dicom(tmp_path), original)


def test_one_enhanced_file_for_each_stack_gives_the_same_study(real_study, beside, original):
    files = sorted((real_study / AXIAL).iterdir(), key=_height)
    for number, count in enumerate(STACKS):
        taken, files = files[:count], files[count:]
        write_multi_frame(taken, beside / f"stack {number}")
    assert_same_images(read_dicom(beside), original)


def _height(file):
    return classic_copy(file).ImagePositionPatient[2]


def test_a_legacy_converted_file_of_highdicom_gives_the_same_study(axial, beside, original):
    images = [pydicom.dcmread(file) for file in axial]
    uid = generate_uid(entropy_srcs=["legacy"])
    made = LegacyConvertedEnhancedMRImage(images, images[0].SeriesInstanceUID, 9, uid, 1)
    made.save_as(beside / "converted")
    assert_same_images(read_dicom(beside), original)
