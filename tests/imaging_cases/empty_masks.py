"""Masks without any label, and masks that label some slices of their stack."""

import numpy as np

from damaged_nifti import emptied, first_slice_alone
from dicom_writer import labels_phantom, phantom
from imaging_cases.case import good, nifti, series, together
from imaging_cases.masks import FILE, THREE, in_mask, mask, with_mask
from paravert.errors import Caution


def of_lowest(points):
    """The labels in the lowest slice of PLAN."""
    return np.where(points[..., 2] < 0, labels_phantom(points), 0).astype(np.uint8)


def without_lowest(points):
    """The labels, but none in the lowest slice of PLAN."""
    return np.where(points[..., 2] < 0, 0, labels_phantom(points)).astype(np.uint8)


def shown_or_blank(points):
    return np.where(points[..., 2] < 0, 0, phantom(points))


CASES = (
    good(
        "truth without any label",
        with_mask(in_mask(emptied)),
        Caution.MASK_EMPTY,
        truth=FILE,
        masks=(),
    ),
    good(
        "labels without any label",
        with_mask(in_mask(emptied)),
        Caution.MASK_EMPTY,
        labels=FILE,
        masks=(),
    ),
    good(
        "labels of three stacks, of one without any label",
        together(
            series(THREE),
            mask(THREE[0], name="masks/a.nii.gz"),
            in_mask(emptied, "masks/b.nii.gz", THREE[1]),
            mask(THREE[2], name="masks/c.nii.gz"),
        ),
        Caution.MULTI_STACK,
        Caution.MASK_EMPTY,
        stacks=(2, 2, 2),
        labels="masks",
        masks=(1, 3),
    ),
    good(
        "labels of a single slice",
        with_mask(in_mask(first_slice_alone)),
        Caution.MASK_PARTIAL,
        labels=FILE,
        mask_values=of_lowest,
    ),
    good(
        "labels of all slices but one",
        with_mask(mask(function=without_lowest)),
        Caution.MASK_PARTIAL,
        labels=FILE,
        mask_values=without_lowest,
    ),
    good(
        "labels of all slices that are not blank",
        together(nifti(function=shown_or_blank), mask(function=without_lowest)),
        Caution.BLANK_SLICE,
        images="image.nii.gz",
        values=shown_or_blank,
        labels=FILE,
        mask_values=without_lowest,
    ),
    good(
        "truth of all slices but one",
        with_mask(mask(function=without_lowest)),
        truth=FILE,
        mask_values=without_lowest,
    ),
)
