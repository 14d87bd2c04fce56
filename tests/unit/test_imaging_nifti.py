"""Masks beside NIfTI volumes; forms and faults of both are shown by the cases."""

import re
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from dicom_writer import Plan, labels_phantom, turn, write_nifti
from paravert.errors import Reason, SubjectFault
from paravert.imaging.geometry import grid_corners
from paravert.imaging.masks import read_masks
from paravert.imaging.nifti import read_nifti
from paravert.imaging.volume import qform_of


def volume_of(tmp_path, plan):
    return read_nifti(write_nifti(tmp_path / "image.nii.gz", plan)).stacks[0].volume


def labels_at(volume):
    """The label phantom, evaluated where the affine of a volume puts its voxels."""
    indices = np.moveaxis(np.indices(volume.array.shape), 0, -1)[..., ::-1]
    ras = indices @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    return labels_phantom(ras * [-1, -1, 1])


@pytest.mark.parametrize("forms", ["in a qform only", "drawn on our qform"])
def test_masks_of_programs_that_go_by_the_qform_fit_too(tmp_path, forms):
    plan = Plan(rows=200, columns=240, row_spacing=0.7, column_spacing=0.6)
    volume = volume_of(
        tmp_path, plan.turned(turn("x", 0.064) @ turn("y", 0.138) @ turn("z", 0.026))
    )
    rounded = qform_of(volume.affine)
    corners = [grid_corners(a, volume.array.shape[::-1]) for a in (rounded, volume.affine)]
    assert np.abs(corners[0] - corners[1]).max() > 0.05
    labels = labels_at(volume)
    image = nib.Nifti1Image(labels.transpose(2, 1, 0), rounded)
    image.set_qform(rounded, code=1)
    image.set_sform(rounded, code=0 if forms.endswith("only") else 1)
    nib.save(image, tmp_path / "mask.nii.gz")
    assert np.array_equal(read_masks(tmp_path / "mask.nii.gz", [volume], "truth")[0][1], labels)


@pytest.mark.parametrize("flipped", [False, True])
def test_a_mask_on_the_grid_of_an_image_fits_though_its_axes_are_rounded(tmp_path, flipped):
    """An affine with rounded numbers has axes that are not quite at right angles."""
    file = write_nifti(tmp_path / "image.nii.gz", Plan().turned(turn("x", 20)))
    image = nib.load(file)
    skewed = image.affine.copy()
    skewed[:3, 2] += 6e-5 * skewed[:3, 0]
    mask = nib.Nifti1Image(np.ones(image.shape, np.uint8), skewed)
    nib.save(nib.Nifti1Image(image.get_fdata(), skewed), file)
    nib.save(mask.slicer[Plan().columns - 1 :: -1] if flipped else mask, tmp_path / "mask.nii.gz")
    volume = read_nifti(file).stacks[0].volume
    assert read_masks(tmp_path / "mask.nii.gz", [volume], "truth")[0][1].all()


@pytest.mark.parametrize("stored", [np.uint8, np.int16])
def test_a_mask_that_was_stored_with_a_scale_has_whole_labels(tmp_path, stored):
    """As nibabel stores floats under the header of an image of whole numbers."""
    volume = volume_of(tmp_path, Plan())
    labels = labels_at(volume)
    header = nib.Nifti1Header()
    header.set_data_dtype(stored)
    affine = nib.load(tmp_path / "image.nii.gz").affine
    mask = nib.Nifti1Image(labels.transpose(2, 1, 0).astype(float), affine, header)
    nib.save(mask, tmp_path / "mask.nii.gz")
    assert nib.load(tmp_path / "mask.nii.gz").dataobj.slope != 1
    assert np.array_equal(read_masks(tmp_path / "mask.nii.gz", [volume], "labels")[0][1], labels)


def test_a_mismatch_of_grids_that_look_alike_tells_how_far_they_are_apart(tmp_path):
    volume = volume_of(tmp_path, Plan().turned(turn("x", 20)))
    corner = Plan().turned(turn("x", 20)).corner(0) - Plan().corner(0)
    other = replace(Plan(), centre=tuple(np.add(Plan().centre, corner)))
    mask = write_nifti(tmp_path / "mask.nii.gz", other, labels_phantom, dtype=np.uint8)
    with pytest.raises(
        SubjectFault, match="stack 1: .*, corners up to .* mm apart, expected"
    ) as told:
        read_masks(mask, [volume], "labels")
    apart = float(re.search("corners up to ([0-9.]+) mm", told.value.message)[1])
    corners = [p.corner(index) for p in (Plan().turned(turn("x", 20)), other) for index in (0, 4)]
    assert apart > 0.9 * np.linalg.norm(corners[1] - corners[3])


def test_a_mismatch_tells_both_grids(tmp_path):
    volume = volume_of(tmp_path, Plan())
    other = replace(Plan(), columns=47, centre=(5.25, -3, 7))
    mask = write_nifti(tmp_path / "mask.nii.gz", other, labels_phantom, dtype=np.uint8)
    with pytest.raises(SubjectFault) as caught:
        read_masks(mask, [volume], "labels")
    assert caught.value.reason == Reason.MASK_GRID_MISMATCH
    assert caught.value.message == (
        "labels: 47 x 40 x 5 voxels of 2.5 x 3.5 x 6 mm from (52.250, 71.250, -5.000) mm matches "
        "0 stacks, expected one; "
        "stack 1: 48 x 40 x 5 voxels of 2.5 x 3.5 x 6 mm from (54.750, 71.250, -5.000) mm"
    )
