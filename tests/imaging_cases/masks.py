"""Masks that come with the images: their grids, their values, their sides."""

from dataclasses import replace

import nibabel as nib
import numpy as np

from damaged_nifti import change_content, emptied
from dicom_writer import Plan, labels_phantom, of_macos, plan_affine, turn
from imaging_cases.case import (
    DISCS,
    OBLIQUE,
    PLAN,
    Case,
    Write,
    afterwards,
    fault,
    good,
    nifti,
    series,
    together,
)
from paravert.errors import Caution, Reason

FILE = "mask.nii.gz"
# Slices apart from each other that all show every muscle.
THREE = tuple(Plan(centre=(0, 0, z), slices=2).turned(turn("x", z / 3)) for z in (-60, 0, 60))


def mask(plan: Plan = PLAN, function=labels_phantom, name: str = FILE, **options) -> Write:
    """Return what writes a label map."""
    return nifti(plan, function, name, **{"dtype": np.uint8, **options})


def with_mask(write: Write, image: Plan = PLAN) -> Write:
    return together(series(image), write)


def without_forms(path):
    image = nib.load(path)
    image.set_sform(None, code=0)
    image.set_qform(None, code=0)
    nib.save(image, path)


def cut(path):
    path.write_bytes(path.read_bytes()[:200])


def in_mask(change, name: str = FILE, plan: Plan = PLAN) -> Write:
    """Return what writes a mask and changes its header and voxels."""
    return afterwards(mask(plan, name=name), lambda file: change_content(file, change))


FITTING = (
    good("truth", with_mask(mask()), truth=FILE),
    good("labels", with_mask(mask()), labels=FILE),
    good(
        "truth and labels",
        with_mask(together(mask(), mask(name="labels.nii.gz"))),
        truth=FILE,
        labels="labels.nii.gz",
    ),
    *(
        good(
            f"truth in order {order} on oblique DICOM",
            with_mask(mask(OBLIQUE, order=order, flips=flips), OBLIQUE),
            truth=FILE,
        )
        for order, flips in (
            ((0, 1, 2), (True, True, False)),
            ((2, 0, 1), (False, True, True)),
            ((1, 0, 2), (True, False, True)),
        )
    ),
    good(
        "truth on mirrored DICOM",
        with_mask(mask(), replace(PLAN, right=(-1, 0, 0))),
        truth=FILE,
    ),
    good("truth as floats", with_mask(mask(dtype=np.float64)), truth=FILE),
    good("truth as signed integers", with_mask(mask(dtype=np.int32)), truth=FILE),
    good("truth not compressed", with_mask(mask(name="mask.nii")), truth="mask.nii"),
    good(
        "a folder of masks for some stacks",
        together(
            series(THREE),
            mask(THREE[0], name="masks/b.nii.gz"),
            mask(THREE[2], name="masks/a.nii.gz"),
        ),
        Caution.MULTI_STACK,
        stacks=(2, 2, 2),
        truth="masks",
        masks=(1, 3),
    ),
    good(
        "other files in the folder of masks",
        together(with_mask(mask(name="masks/mask.nii.gz")), lambda home: _note(home)),
        truth="masks",
    ),
    good(
        "a file of macOS in the folder of masks",
        together(
            with_mask(mask(name="masks/mask.nii.gz")),
            lambda home: of_macos(home / "masks/mask.nii.gz"),
        ),
        truth="masks",
    ),
    good(
        "truth as one file for one of several stacks",
        together(series(THREE), mask(THREE[1])),
        Caution.MULTI_STACK,
        stacks=(2, 2, 2),
        labels=FILE,
        masks=(2,),
    ),
)


def _note(home):
    (home / "masks" / "labels.txt").write_text("1 psoas major left")


def swapped(points):
    """The labels with left and right turned round."""
    return labels_phantom(points * [-1, 1, 1])


def one_swapped(points):
    found = labels_phantom(points)
    return np.where(found > 6, 15 - found, found)


def with_value(value):
    def function(points):
        found = labels_phantom(points).astype(float)
        found[0, :2] = value
        return found

    return function


def _other_grid(name: str, plan: Plan) -> Case:
    return fault(
        f"mask {name}",
        with_mask(mask(plan)),
        Reason.MASK_GRID_MISMATCH,
        "stack 1: 48 x 40 x 5 voxels of 2.5 x 3.5 x 6 mm from (54.750, 71.250, -5.000)",
        labels=FILE,
    )


def mirrored(home):
    """Write the mask as a program does that forgets the affine: mirrored, on the image's grid."""
    array = np.stack([labels_phantom(PLAN.points(n)) for n in range(PLAN.slices)])
    nib.save(nib.Nifti1Image(array[..., ::-1].transpose(2, 1, 0), plan_affine(PLAN)), home / FILE)


FAULTY = (
    _other_grid("of fewer columns", replace(PLAN, columns=47)),
    _other_grid("of fewer slices", replace(PLAN, slices=4)),
    _other_grid("of another gap", replace(PLAN, gap=6.01)),
    _other_grid("with its spacings swapped", replace(PLAN, row_spacing=2.5, column_spacing=3.5)),
    _other_grid("shifted by a tenth of a pixel", replace(PLAN, centre=(4.25, -3, 7))),
    _other_grid("shifted by 0.01 mm", replace(PLAN, centre=(4, -3.01, 7))),
    _other_grid("shifted by a slice", replace(PLAN, centre=(4, -3, 13))),
    _other_grid("tilted by 1 degree", PLAN.turned(turn("x", 1))),
    _other_grid("turned by 30 degrees", PLAN.turned(turn("z", 30))),
    fault(
        "two masks on one stack",
        with_mask(together(mask(name="masks/a.nii"), mask(name="masks/b.nii"))),
        Reason.MASK_GRID_MISMATCH,
        "two masks on the grid of stack 1",
        truth="masks",
    ),
    fault(
        "two masks on one stack, one without any label",
        with_mask(together(mask(name="masks/a.nii"), in_mask(emptied, "masks/b.nii"))),
        Reason.MASK_GRID_MISMATCH,
        "two masks on the grid of stack 1",
        labels="masks",
    ),
    fault(
        "a folder without masks",
        with_mask(lambda home: (home / "masks").mkdir()),
        Reason.MASK_GRID_MISMATCH,
        truth="masks",
    ),
    fault("mask absent", series(), Reason.UNREADABLE_HEADER, truth=FILE),
    fault("mask cut off", with_mask(afterwards(mask(), cut)), Reason.TRUNCATED_PIXELS, truth=FILE),
    fault(
        "mask without orientation",
        with_mask(afterwards(mask(), without_forms)),
        Reason.BAD_GEOMETRY_ORIENTATION,
        truth=FILE,
    ),
    *(
        fault(
            f"mask with the value {value:g}",
            with_mask(mask(function=with_value(value), dtype=np.float32)),
            Reason.MASK_UNKNOWN_LABEL,
            f"such as {value:g}",
            truth=FILE,
        )
        for value in (9, -1, 255, 1.5)
    ),
    fault(
        "mask with left and right turned round",
        with_mask(mask(function=swapped)),
        Reason.MASK_SIDE_MISMATCH,
        "expected values 1 psoas major left to 8 multifidus right (anatomy.LABELS)",
        truth=FILE,
    ),
    fault(
        "mask mirrored on the grid of the image",
        with_mask(mirrored),
        Reason.MASK_SIDE_MISMATCH,
        labels=FILE,
    ),
    fault(
        "mask with one muscle swapped",
        with_mask(mask(function=one_swapped)),
        Reason.MASK_SIDE_MISMATCH,
        "multifidus left lies",
        truth=FILE,
    ),
    fault(
        "mask on the grid of no disc",
        together(series(DISCS), mask(Plan(slices=3))),
        Reason.MASK_GRID_MISMATCH,
        "matches 0 stacks",
        truth=FILE,
    ),
)

CASES = (*FITTING, *FAULTY)
