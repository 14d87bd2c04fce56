"""NIfTI images, and masks that come back in any orientation."""

from dataclasses import replace
from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest

from dicom_writer import Plan, labels_phantom, phantom, plan_affine, save_nifti, turn, write_nifti
from imaging_checks import assert_is_phantom
from paravert.errors import Caution, Reason, SubjectFault
from paravert.imaging.geometry import grid_corners
from paravert.imaging.images import geometry_rows
from paravert.imaging.masks import read_masks
from paravert.imaging.nifti import read_nifti
from paravert.imaging.volume import qform_of

ORDERS = list(permutations(range(3)))
FLIPS = list(product([False, True], repeat=3))
PLAN = Plan()
OBLIQUE = Plan().turned(turn("z", 10) @ turn("x", 18))


@pytest.fixture
def file(tmp_path):
    return tmp_path / "image.nii.gz"


def assert_fault(reason, read, *arguments):
    with pytest.raises(SubjectFault) as caught:
        read(*arguments)
    assert caught.value.reason == reason
    assert "nii" not in caught.value.message
    return caught.value.message


# --- images --------------------------------------------------------------------------------------


@pytest.mark.parametrize("flips", FLIPS)
@pytest.mark.parametrize("order", ORDERS)
def test_every_order_and_direction_of_axes_gives_the_same_volume(file, order, flips):
    (stack,) = read_nifti(write_nifti(file, OBLIQUE, order=order, flips=flips)).stacks
    assert_is_phantom(stack)
    assert stack.volume.array.shape == (5, 40, 48)
    spacings = (stack.volume.row_spacing_mm, stack.volume.column_spacing_mm)
    assert spacings == pytest.approx((3.5, 2.5))
    rows = geometry_rows((stack,))
    assert {(round(row["slab_mm"], 5), row["slab_source"]) for row in rows} == {(6, "positions")}
    expected_tilt = np.degrees(np.arccos(abs(OBLIQUE.normal[2])))
    assert rows[0]["tilt_deg"] == pytest.approx(expected_tilt, abs=1e-4)


def test_the_slice_axis_of_the_header_counts_where_spacings_do_not_tell(file):
    plan = replace(PLAN, gap=2.5).turned(turn("x", 48))
    write_nifti(file, plan)
    image = nib.load(file)
    image.header.set_dim_info(slice=2)
    nib.save(image, file)
    (stack,) = read_nifti(file).stacks
    assert_is_phantom(stack)
    assert len(stack.slices) == 5


def test_scaled_values_are_unscaled(file):
    raw = bytearray(nib.load(write_nifti(file, PLAN)).to_bytes())
    raw[112:120] = np.array([0.25, 100], "<f4").tobytes()  # scl_slope, scl_inter
    plain = file.with_name("scaled.nii")
    plain.write_bytes(raw)
    (stack,) = read_nifti(plain).stacks
    assert_is_phantom(stack, lambda points: phantom(points) / 4 + 100)


def test_a_trailing_axis_of_one_is_no_dimension(file):
    write_nifti(file, PLAN)
    image = nib.load(file)
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj)[..., None], image.affine), file)
    assert_is_phantom(read_nifti(file).stacks[0])


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 4, 2)])
def test_other_than_three_dimensions_are_unsupported(file, shape):
    nib.save(nib.Nifti1Image(np.ones(shape, np.int16), np.eye(4)), file)
    assert_fault(Reason.UNSUPPORTED_PIXELS, read_nifti, file)


def test_a_sagittal_volume_is_not_axial(file):
    write_nifti(file, Plan(right=(0, 1, 0), down=(0, 0, -1), row_spacing=2.5))
    assert_fault(Reason.NO_AXIAL_SERIES, read_nifti, file)


def test_no_orientation_at_all_is_bad_geometry(file):
    image = nib.Nifti1Image(np.ones((8, 8, 4), np.int16), np.eye(4))
    image.set_sform(None, code=0)
    image.set_qform(None, code=0)
    nib.save(image, file)
    assert_fault(Reason.BAD_GEOMETRY_ORIENTATION, read_nifti, file)


def test_sform_and_qform_that_disagree_on_the_side_are_bad_geometry(file):
    write_nifti(file, PLAN)
    image = nib.load(file)
    mirrored = np.diag([-1, 1, 1, 1]) @ image.affine
    image.set_qform(mirrored, code=1)
    nib.save(image, file)
    assert "apart" in assert_fault(Reason.BAD_GEOMETRY_ORIENTATION, read_nifti, file)


def test_a_sheared_affine_is_bad_geometry(file):
    affine = plan_affine(PLAN)
    affine[1, 2] += 0.5
    nib.save(nib.Nifti1Image(np.ones((48, 40, 5), np.int16), affine), file)
    assert_fault(Reason.BAD_GEOMETRY_ORIENTATION, read_nifti, file)


@pytest.mark.parametrize("keep", [2, 300, 0.5])
def test_a_file_cut_off_has_its_reason(file, keep):
    plain = write_nifti(file.with_name("image.nii"), PLAN)
    raw = plain.read_bytes()
    plain.write_bytes(raw[: keep if keep > 1 else int(keep * len(raw))])
    reason = Reason.UNREADABLE_HEADER if keep > 1 else Reason.TRUNCATED_PIXELS
    assert_fault(reason, read_nifti, plain)


def test_a_compressed_file_cut_off_is_truncated(file):
    raw = write_nifti(file, PLAN).read_bytes()
    file.write_bytes(raw[: len(raw) // 2])
    assert_fault(Reason.TRUNCATED_PIXELS, read_nifti, file)


def test_blank_volumes_and_slices_are_found(file):
    nib.save(nib.Nifti1Image(np.zeros((48, 40, 5), np.int16), plan_affine(PLAN)), file)
    assert_fault(Reason.BLANK_IMAGES, read_nifti, file)
    array = np.asanyarray(nib.load(write_nifti(file, PLAN)).dataobj).copy()
    array[..., 1] = 3
    save_nifti(file, array, plan_affine(PLAN))
    assert read_nifti(file).cautions == {Caution.BLANK_SLICE}


# --- masks ---------------------------------------------------------------------------------------


def volumes_of(tmp_path, *plans):
    files = [write_nifti(tmp_path / f"image-{n}.nii.gz", plan) for n, plan in enumerate(plans)]
    return [read_nifti(file).stacks[0].volume for file in files]


def labels_at(volume):
    """The label phantom, evaluated where the affine of a volume puts its voxels."""
    indices = np.moveaxis(np.indices(volume.array.shape), 0, -1)[..., ::-1]
    ras = indices @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    return labels_phantom(ras * [-1, -1, 1])


@pytest.mark.parametrize("flips", FLIPS)
@pytest.mark.parametrize("order", ORDERS)
def test_masks_in_any_orientation_come_back_onto_the_stack(tmp_path, order, flips):
    (volume,) = volumes_of(tmp_path, OBLIQUE)
    mask = write_nifti(
        tmp_path / "mask.nii.gz", OBLIQUE, labels_phantom, order=order, flips=flips, dtype=np.uint8
    )
    masks = read_masks(mask, [volume], "truth")
    assert masks[1].dtype == np.uint8
    assert set(np.unique(masks[1])) == set(range(9))
    assert np.array_equal(masks[1], labels_at(volume))


@pytest.mark.parametrize("forms", ["in a qform only", "drawn on our qform"])
def test_masks_of_programs_that_go_by_the_qform_fit_too(tmp_path, forms):
    plan = Plan(rows=200, columns=240, row_spacing=0.7, column_spacing=0.6)
    (volume,) = volumes_of(
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
    assert np.array_equal(read_masks(tmp_path / "mask.nii.gz", [volume], "truth")[1], labels)


def test_masks_saved_as_floats_are_label_maps_too(tmp_path):
    (volume,) = volumes_of(tmp_path, PLAN)
    mask = write_nifti(tmp_path / "mask.nii.gz", PLAN, labels_phantom, dtype=np.float64)
    assert np.array_equal(read_masks(mask, [volume], "truth")[1], labels_at(volume))


def test_a_folder_of_masks_goes_to_the_stacks_that_they_lie_on(tmp_path):
    plans = [Plan(centre=(0, 0, z)).turned(turn("x", z / 3)) for z in (-60, 0, 60)]
    volumes = volumes_of(tmp_path, *plans)
    for name, plan in (("b", plans[0]), ("a", plans[2])):
        write_nifti(tmp_path / "masks" / f"{name}.nii.gz", plan, labels_phantom, dtype=np.uint8)
    masks = read_masks(tmp_path / "masks", volumes, "truth")
    assert sorted(masks) == [1, 3]
    for number, array in masks.items():
        assert np.array_equal(array, labels_at(volumes[number - 1]))


def test_two_masks_on_one_stack_are_a_mismatch(tmp_path):
    volumes = volumes_of(tmp_path, PLAN)
    for name in "ab":
        write_nifti(tmp_path / "masks" / f"{name}.nii", PLAN, labels_phantom, dtype=np.uint8)
    told = assert_fault(Reason.MASK_GRID_MISMATCH, read_masks, tmp_path / "masks", volumes, "truth")
    assert "two masks on the grid of stack 1" in told


@pytest.mark.parametrize(
    "other",
    [
        replace(PLAN, columns=47),
        replace(PLAN, gap=6.01),
        replace(PLAN, row_spacing=2.5, column_spacing=3.5),
        replace(PLAN, centre=(4.01, -3, 7)),
        replace(PLAN, centre=(4, -3, 13)),
        PLAN.turned(turn("x", 1)),
        PLAN.turned(turn("z", 30)),
    ],
    ids=["columns", "gap", "spacings", "shift", "slice", "tilt", "turn"],
)
def test_a_mask_on_another_grid_is_a_mismatch_with_both_grids_told(tmp_path, other):
    volumes = volumes_of(tmp_path, PLAN)
    mask = write_nifti(tmp_path / "mask.nii.gz", other, labels_phantom, dtype=np.uint8)
    told = assert_fault(Reason.MASK_GRID_MISMATCH, read_masks, mask, volumes, "labels")
    assert told.startswith(f"labels: {other.columns} x 40 x 5 voxels of")
    assert "stack 1: 48 x 40 x 5 voxels of 2.5 x 3.5 x 6 mm from (54.750, 71.250, -5.000)" in told


@pytest.mark.parametrize("value", [9, -1, 255, 1.5])
def test_a_value_that_is_no_muscle_is_an_unknown_label(tmp_path, value):
    def labels(points):
        found = labels_phantom(points).astype(float)
        found[0, :2] = value
        return found

    volumes = volumes_of(tmp_path, PLAN)
    mask = write_nifti(tmp_path / "mask.nii.gz", PLAN, labels, dtype=np.float32)
    told = assert_fault(Reason.MASK_UNKNOWN_LABEL, read_masks, mask, volumes, "truth")
    assert told.endswith(f"such as {value:g}")


def test_labels_on_the_wrong_side_are_found(tmp_path):
    volumes = volumes_of(tmp_path, PLAN)
    mask = write_nifti(
        tmp_path / "mask.nii.gz", PLAN, lambda p: labels_phantom(p * [-1, 1, 1]), dtype=np.uint8
    )
    told = assert_fault(Reason.MASK_SIDE_MISMATCH, read_masks, mask, volumes, "truth")
    assert "psoas_major left lies" in told


def test_one_swapped_muscle_is_enough(tmp_path):
    def labels(points):
        found = labels_phantom(points)
        swapped = {7: 8, 8: 7}
        return np.vectorize(lambda value: swapped.get(value, value))(found)

    volumes = volumes_of(tmp_path, PLAN)
    mask = write_nifti(tmp_path / "mask.nii.gz", PLAN, labels, dtype=np.uint8)
    told = assert_fault(Reason.MASK_SIDE_MISMATCH, read_masks, mask, volumes, "truth")
    assert "multifidus left lies" in told


def test_an_absent_mask_file_and_an_empty_folder_have_their_reason(tmp_path):
    volumes = volumes_of(tmp_path, PLAN)
    (tmp_path / "empty").mkdir()
    gone = tmp_path / "mask.nii.gz"
    assert_fault(Reason.UNREADABLE_HEADER, read_masks, gone, volumes, "truth")
    assert_fault(Reason.MASK_GRID_MISMATCH, read_masks, tmp_path / "empty", volumes, "truth")
