"""Masks of a second rater from the sheet to the rows of reliability.csv, on a real volunteer."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from whole_run import gathered

from paravert.anatomy import LABELS, SIDES
from paravert.study.describe import write_tables
from paravert.study.reliability import BOTH, RATERS
from paravert.study.standard_level import ALL_SLICES
from real_scans import DIXON, MASK, mask_labels

pytestmark = pytest.mark.real

# Parts of one volunteer's column (areas differ along it) as subjects; the last has no second mask.
PARTS = {"S1": slice(0, 8), "S2": slice(7, 15), "S3": slice(14, 22), "S4": slice(21, 29)}
NOT_DRAWN = ("multifidus", "left")  # by the second rater, in S3


def second_rater(subject, labels):
    """Return another rater's label map, (columns, rows, slices): shifted, larger, or smaller and less of it."""
    if subject == "S1":
        return np.roll(labels, 1, axis=0)
    grown = ndimage.grey_dilation(labels, (3, 3, 1))
    if subject == "S2":
        return np.where(labels > 0, labels, grown)
    inner = ndimage.grey_erosion(labels, (3, 3, 1)) == grown
    smaller = np.where(inner, labels, 0)
    smaller[..., 2] = 0
    smaller[smaller == value_of(*NOT_DRAWN)] = 0
    return smaller.astype(labels.dtype)


@pytest.fixture(scope="module")
def masks(real_data):
    """Label maps of both raters by subject, and the area of a pixel in mm2."""
    file = nib.load(real_data / MASK.format("water"))
    whole = mask_labels(np.asarray(file.dataobj))
    found = {}
    for subject, part in PARTS.items():
        labels = whole[..., part]
        found[subject] = labels, second_rater(subject, labels) if subject != "S4" else None
    return found, float(np.prod(nib.affines.voxel_sizes(file.affine)[:2]))


@pytest.fixture(scope="module")
def study(real_data, masks, tmp_path_factory):
    """The folder of a study in which all steps ran up to the tables."""
    home = tmp_path_factory.mktemp("raters")
    image, mask = (nib.load(real_data / name.format("water")) for name in (DIXON, MASK))
    lines = ["subject,images,labels,truth,truth2"]
    for subject, part in PARTS.items():
        first, second = masks[0][subject]
        nib.save(image.slicer[..., part], home / f"{subject}.nii.gz")
        affine = mask.slicer[..., part].affine
        names = [f"{subject}.nii.gz", *[f"{subject}-first.nii.gz"] * 2]
        nib.save(nib.Nifti1Image(first, affine), home / names[1])
        names.append("" if second is None else f"{subject}-second.nii.gz")
        if second is not None:
            nib.save(nib.Nifti1Image(second, affine), home / names[-1])
        lines.append(",".join([subject, *names]))
    sheet = home / "sheet.csv"
    sheet.write_text("\n".join(lines) + "\n")
    results = gathered(sheet, PARTS)
    write_tables(results / "cohort", results / "tables", bootstrap_samples=20)
    return results


def value_of(muscle, side):
    return next(label.value for label in LABELS if (label.muscle, label.side) == (muscle, side))


def slice_areas(masks, muscle, side):
    """Return mm2 by both raters, (slices, 2), per subject: slices in which both drew something and one this muscle."""
    by_subject, pixel_mm2 = masks
    value, found = value_of(muscle, side), {}
    for subject, (first, second) in by_subject.items():
        if second is not None and (second == value).any():
            both_drew = first.any(axis=(0, 1)) & second.any(axis=(0, 1))
            pixels = np.stack([(one == value).sum(axis=(0, 1)) for one in (first, second)], axis=1)
            found[subject] = pixels[both_drew & pixels.any(axis=1)] * pixel_mm2
    return found


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("muscle", ["erector_spinae", "multifidus"])
def test_reliability_of_two_raters_is_that_of_their_masks(study, masks, muscle, side):
    table = pd.read_csv(study / "tables/reliability.csv")
    rows = table[(table["source"] == RATERS) & (table["level"] == ALL_SLICES)]
    row = rows.set_index(["muscle", "side"]).loc[(muscle, side)]
    of_slices = slice_areas(masks, muscle, side)
    ratings = np.array([areas.mean(axis=0) for areas in of_slices.values()])
    difference = ratings[:, 1] - ratings[:, 0]
    bias, sd = difference.mean(), difference.std(ddof=1)
    limits = bias - 1.96 * sd, bias + 1.96 * sd
    assert row["n_subjects"] == len(ratings) == (2 if (muscle, side) == NOT_DRAWN else 3)
    assert row["n_slices"] == sum(map(len, of_slices.values()))
    found = row[["first_mean", "second_mean", "bias", "sd", "lower_limit", "upper_limit"]]
    expected = [*ratings.mean(axis=0), bias, sd, *limits]
    np.testing.assert_allclose(found.to_numpy(dtype=float), expected, rtol=1e-4)
    assert row[["sem", "icc_2_1", "mdc_95"]].isna().all()  # of fewer than five subjects


def test_both_sides_are_added_where_the_second_rater_drew_both(study, masks):
    table = pd.read_csv(study / "tables/reliability.csv")
    row = table[(table["source"] == RATERS) & (table["side"] == BOTH)].set_index("muscle").loc["multifidus"]  # fmt: skip
    left, right = (slice_areas(masks, "multifidus", side) for side in SIDES)
    sums = [left[subject].mean(axis=0) + right[subject].mean(axis=0) for subject in left]
    assert row["n_subjects"] == 2
    assert row[["first_mean", "second_mean"]].tolist() == pytest.approx(list(np.mean(sums, axis=0)))


def test_slices_have_the_overlap_of_both_masks(study, masks):
    overlap = pd.read_parquet(study / "cohort/overlap.parquet").set_index("subject")
    assert overlap.loc["S4", ["pixels_truth2", "iou_raters"]].isna().all(axis=None)
    for subject in ("S1", "S2"):
        first, second = masks[0][subject]
        for row in overlap.loc[subject].itertuples():
            one, two = (rater[..., row.slice] == value_of(row.muscle, row.side) for rater in (first, second))  # fmt: skip
            assert (row.pixels_truth, row.pixels_truth2) == (one.sum(), two.sum())
            assert row.iou_raters == pytest.approx((one & two).sum() / (one | two).sum())
            assert 0.5 < row.iou_raters < 1
    drawn = overlap.loc["S3"].dropna(subset=["pixels_truth2"])
    assert 2 not in set(drawn["slice"])
    assert NOT_DRAWN not in set(zip(drawn["muscle"], drawn["side"], strict=True))
