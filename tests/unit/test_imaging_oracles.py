"""Other programs see the same voxels at the same millimetres: dcm2niix, SimpleITK, nibabel."""

import subprocess
from dataclasses import replace
from itertools import permutations, product
from pathlib import Path

import dcm2niix
import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  its documentation's own abbreviation

from dicom_rewriter import classic_copy, rewrite, write_multi_frame
from dicom_writer import Plan, labels_phantom, phantom, store, turn, write_series
from paravert.imaging.dicom import read_dicom
from paravert.imaging.geometry import grid_corners
from paravert.imaging.masks import read_masks
from paravert.imaging.nifti import read_nifti
from paravert.imaging.volume import write_volume

PLACE_MM = 0.01  # between readers: each has its own way from positions to a spacing and an origin
FILE_MM = 1e-3  # between readers of one NIfTI file, which holds the affine in single precision
LPS_TO_RAS = np.diag([-1, -1, 1, 1])
ANISOTROPIC = Plan(rows=30, columns=52, row_spacing=1.3, column_spacing=3.1, gap=4.7)
FINE = Plan(rows=200, columns=240, row_spacing=0.7, column_spacing=0.6)
PLANS = {
    "straight": Plan(),
    "oblique": Plan().turned(turn("z", 10) @ turn("x", 18)),
    "double oblique, anisotropic": ANISOTROPIC.turned(
        turn("z", 12) @ turn("y", -9) @ turn("x", 17)
    ),
    "steep, rows narrower": replace(
        ANISOTROPIC, row_spacing=3.1, column_spacing=1.3, thickness=3
    ).turned(turn("x", 40)),
    "columns to the right": Plan(right=(-1, 0, 0)).turned(turn("x", 7)),
    "columns to the back": Plan(right=(0, 1, 0), down=(-1, 0, 0)).turned(turn("y", 11)),
    "two slices": replace(ANISOTROPIC, slices=2).turned(turn("x", -20)),
    # where a quaternion in single precision is least exact
    "nearly transverse": FINE.turned(turn("x", 0.064) @ turn("y", 0.138) @ turn("z", 0.026)),
}
every_plan = pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
DISCS = (4, 4, 3, 3, 3)  # slices of the real study's stacks, from the feet upwards
every_disc = pytest.mark.parametrize("disc", range(len(DISCS)))


@pytest.fixture
def real_series(real_study):
    return real_study / "T1_AX"


def disc_files(series: Path, disc: int) -> list[Path]:
    """Return the slices of one disc of the real study, from the feet upwards."""
    files = sorted(series.iterdir(), key=lambda file: classic_copy(file).ImagePositionPatient[2])
    start = sum(DISCS[:disc])
    return files[start : start + DISCS[disc]]


def disc_series(series: Path, disc: int, folder: Path) -> Path:
    """Write the slices of one disc of the real study as a series of their own."""
    rewrite(disc_files(series, disc), folder)
    return folder


def only_volume(folder):
    (stack,) = read_dicom(folder).stacks
    return stack.volume


def as_nibabel(volume):
    return nib.Nifti1Image(volume.array.transpose(2, 1, 0), volume.affine)


def as_itk_places(image):
    """Return an image of SimpleITK where SimpleITK says that its voxels lie."""
    affine = np.eye(4)
    affine[:3, 3] = image.TransformIndexToPhysicalPoint((0, 0, 0))
    for axis in range(3):
        step = [0.0, 0.0, 0.0]
        step[axis] = 1.0
        place = image.TransformContinuousIndexToPhysicalPoint(step)
        affine[:3, axis] = place - affine[:3, 3]
    array = sitk.GetArrayFromImage(image).transpose(2, 1, 0)
    return nib.Nifti1Image(array, LPS_TO_RAS @ affine)


def apart_mm(image, volume):
    """Return how far apart the corners of two grids lie, after both have the same axis order.

    Fails unless the voxels are the same.
    """
    turned = image.as_reoriented(
        nib.orientations.ornt_transform(
            nib.io_orientation(image.affine), nib.io_orientation(volume.affine)
        )
    )
    assert np.array_equal(np.asanyarray(turned.dataobj), volume.array.transpose(2, 1, 0))
    shape = turned.shape
    corners = grid_corners(turned.affine, shape) - grid_corners(volume.affine, shape)
    return float(np.linalg.norm(corners, axis=1).max())


# --- dcm2niix ------------------------------------------------------------------------------------
# Right where a series is one stack, and on classic stacks that differ in orientation. Not asked where
# it was found wrong: parallel stacks with a gap, or a stack that lacks a slice, become one volume as
# if the slices were even, and a second one interpolated between them; frames of a multi-frame file
# that are not in order stay so; those of several orientations give nothing; MONOCHROME1 is not
# inverted.


def by_dcm2niix(folder: Path, out: Path) -> list[nib.Nifti1Image]:
    out.mkdir()
    options = ["-z", "n", "-b", "n", "-f", "%s", "-o", str(out)]
    subprocess.run([dcm2niix.bin, *options, str(folder)], check=True, capture_output=True)
    return [nib.load(file) for file in sorted(out.glob("*.nii"))]


def assert_dcm2niix_agrees(folder, out):
    (image,) = by_dcm2niix(folder, out)
    assert apart_mm(image, only_volume(folder)) < PLACE_MM


@every_plan
def test_dcm2niix_gives_the_same_volume(tmp_path, plan):
    write_series(tmp_path / "dicom", plan)
    assert_dcm2niix_agrees(tmp_path / "dicom", tmp_path / "out")


def test_dcm2niix_takes_the_spacing_from_positions_too(tmp_path):
    def edit(data, number):
        data.SpacingBetweenSlices = 2.0

    write_series(tmp_path / "dicom", PLANS["oblique"], edit=edit)
    assert_dcm2niix_agrees(tmp_path / "dicom", tmp_path / "out")


def test_dcm2niix_rescales_each_slice_alike(tmp_path):
    def edit(data, number):
        data.RescaleSlope, data.RescaleIntercept = 1 + number, -10 * number
        store(data, phantom(plan.points(number)) // (1 + number) + 10 * number)

    plan = PLANS["oblique"]
    write_series(tmp_path / "dicom", plan, edit=edit)
    assert_dcm2niix_agrees(tmp_path / "dicom", tmp_path / "out")


@pytest.mark.real
@every_disc
def test_dcm2niix_gives_the_same_volume_of_each_disc(real_series, tmp_path, disc):
    folder = disc_series(real_series, disc, tmp_path / "dicom")
    assert_dcm2niix_agrees(folder, tmp_path / "out")


@pytest.mark.real
@pytest.mark.parametrize("legacy", [False, True], ids=["enhanced", "legacy converted"])
@every_disc
def test_dcm2niix_gives_the_same_volume_of_a_multi_frame_disc(real_series, tmp_path, disc, legacy):
    write_multi_frame(disc_files(real_series, disc), tmp_path / "dicom" / "file", legacy=legacy)
    assert_dcm2niix_agrees(tmp_path / "dicom", tmp_path / "out")


@pytest.mark.real
def test_dcm2niix_finds_the_same_five_stacks_in_the_real_series(real_series, tmp_path):
    images = by_dcm2niix(real_series, tmp_path / "out")
    stacks = read_dicom(real_series).stacks
    assert len(images) == len(stacks) == len(DISCS)
    images.sort(key=lambda image: image.affine[2, 3])
    for image, stack in zip(images, stacks, strict=True):
        assert apart_mm(image, stack.volume) < PLACE_MM


# --- SimpleITK -----------------------------------------------------------------------------------
# Its series reader knows one stack only: the real series of five comes out as one volume of 17
# slices, 11.8 mm apart.


def assert_itk_series_agrees(folder):
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    image = sitk.ReadImage(names)
    assert apart_mm(as_itk_places(image), only_volume(folder)) < PLACE_MM


@every_plan
def test_simpleitk_reads_the_series_to_the_same_places(tmp_path, plan):
    write_series(tmp_path, plan)
    assert_itk_series_agrees(tmp_path / "axial")


@pytest.mark.real
@every_disc
def test_simpleitk_reads_each_disc_to_the_same_places(real_series, tmp_path, disc):
    assert_itk_series_agrees(disc_series(real_series, disc, tmp_path))


def converted(folder: Path):
    """Return the volume of a series and the NIfTI file that it became."""
    volume = only_volume(folder)
    file = folder / "stack-01.nii.gz"
    write_volume(file, volume)
    return volume, file


def assert_readers_agree(volume, file):
    by_nibabel, by_itk = nib.load(file), as_itk_places(sitk.ReadImage(str(file)))
    assert apart_mm(by_nibabel, volume) < FILE_MM
    assert apart_mm(by_itk, volume) < FILE_MM
    assert np.abs(by_itk.affine - by_nibabel.affine).max() < FILE_MM


@every_plan
def test_simpleitk_and_nibabel_read_our_volumes_to_the_same_places(tmp_path, plan):
    write_series(tmp_path, plan)
    assert_readers_agree(*converted(tmp_path))


@pytest.mark.real
@every_disc
def test_simpleitk_and_nibabel_read_the_discs_to_the_same_places(real_series, tmp_path, disc):
    assert_readers_agree(*converted(disc_series(real_series, disc, tmp_path)))


def drawn_with_itk(image):
    """Draw the label phantom on an image of SimpleITK, at the places that SimpleITK tells."""
    labels = sitk.Image(image.GetSize(), sitk.sitkUInt8)
    labels.CopyInformation(image)
    indices = np.ndindex(*image.GetSize())
    places = [(i, image.TransformIndexToPhysicalPoint(i)) for i in indices]
    values = labels_phantom(np.array([place for _, place in places]))
    for (index, _), value in zip(places, values.tolist(), strict=True):
        labels[index] = value
    return labels


def labels_at(volume):
    """Return the label phantom at the places of a volume's voxels."""
    slices, rows, columns = np.indices(volume.array.shape)
    grid = np.stack([columns, rows, slices, np.ones_like(rows)], axis=-1)
    return labels_phantom((grid @ (LPS_TO_RAS @ volume.affine).T)[..., :3])


OBLIQUE_PLANS = {name: plan for name, plan in PLANS.items() if plan.rows < FINE.rows}


@pytest.mark.parametrize("plan", OBLIQUE_PLANS.values(), ids=OBLIQUE_PLANS)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_labels_drawn_with_simpleitk_come_back_exactly(tmp_path, plan, suffix):
    write_series(tmp_path, plan)
    volume, file = converted(tmp_path)
    labels = drawn_with_itk(sitk.ReadImage(str(file)))
    for number, saved in enumerate(
        (
            labels,
            sitk.Cast(labels, sitk.sitkInt16),
            sitk.Cast(labels, sitk.sitkFloat32),
            sitk.DICOMOrient(labels, "RAS"),
            sitk.PermuteAxes(labels, (2, 0, 1)),
            sitk.Flip(labels, (True, False, True)),
        )
    ):
        mask = tmp_path / f"labels-{number}{suffix}"
        sitk.WriteImage(saved, str(mask))
        found = read_masks(mask, [volume], "truth")[0][1]
        assert np.array_equal(found, labels_at(volume))


@every_plan
def test_an_image_that_simpleitk_saves_again_stays_the_same(tmp_path, plan):
    write_series(tmp_path, plan)
    volume, file = converted(tmp_path)
    sitk.WriteImage(sitk.ReadImage(str(file)), str(tmp_path / "again.nii.gz"))
    (stack,) = read_nifti(tmp_path / "again.nii.gz").stacks
    assert np.array_equal(stack.volume.array, volume.array)
    assert apart_mm(as_nibabel(stack.volume), volume) < FILE_MM


def test_labels_of_the_whole_study_find_their_stacks(tmp_path):
    discs = [
        replace(ANISOTROPIC, slices=3, centre=(0, 0, z)).turned(turn("x", tilt) @ turn("y", 2))
        for z, tilt in ((-40, 20), (0, 8), (40, 3))
    ]
    write_series(tmp_path, discs)
    volumes = [stack.volume for stack in read_dicom(tmp_path).stacks]
    for number, volume in enumerate(volumes):
        write_volume(tmp_path / "image.nii.gz", volume)
        labels = drawn_with_itk(sitk.ReadImage(str(tmp_path / "image.nii.gz")))
        (tmp_path / "masks").mkdir(exist_ok=True)
        sitk.WriteImage(labels, str(tmp_path / "masks" / f"{9 - number}.nii.gz"))
    masks, _ = read_masks(tmp_path / "masks", volumes, "labels")
    assert sorted(masks) == [1, 2, 3]
    for number, volume in enumerate(volumes, start=1):
        assert np.array_equal(masks[number], labels_at(volume))


# --- nibabel -------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("name", ["double oblique, anisotropic", "steep, rows narrower"])
def test_labels_saved_by_nibabel_in_any_orientation_come_back_exactly(
    tmp_path, name, dtype, suffix
):
    write_series(tmp_path, PLANS[name])
    volume, file = converted(tmp_path)
    image = nib.load(file)
    labels = nib.Nifti1Image(
        labels_at(volume).transpose(2, 1, 0).astype(dtype), image.affine, image.header
    )
    labels.set_data_dtype(dtype)
    for order, signs in product(permutations(range(3)), product((1, -1), repeat=3)):
        turned = labels.as_reoriented(np.column_stack([order, signs]))
        nib.save(turned, tmp_path / f"mask{suffix}")
        found = read_masks(tmp_path / f"mask{suffix}", [volume], "truth")[0][1]
        assert found.dtype == np.uint8
        assert np.array_equal(found, labels_at(volume))
