"""Fat fractions by a lean reference that knows how much fat lean muscle holds."""

import nibabel as nib
import numpy as np
import pytest
from measure_scene import FAT, LEAN, scene

from paravert.measure.fat import fat_fractions
from paravert.measure.lean_reference import LOGIT_SD, lean_reference, mean_of_spread
from paravert.measure.linear import NoReference, reference_surfaces
from paravert.synthesis.muscle_fat import fat_by_rank

SQUARE_MM = (1.0, 1.0)


def found(subject, method):
    columns = fat_fractions([subject.image], [subject.labels], [SQUARE_MM])
    return columns[f"fat_fraction_{method}"]


def lean_of(subject):
    _, fat = reference_surfaces(subject.image, subject.labels, SQUARE_MM)
    return lean_reference(subject.image, subject.labels, fat)


def test_lean_muscle_is_found_though_no_pixel_is_free_of_fat():
    subject = scene(noise=10, logit_sd=LOGIT_SD)
    inside = np.nonzero(subject.labels)
    assert lean_of(subject).at(inside) == pytest.approx(LEAN, abs=0.02 * (FAT - LEAN))
    lifted, _ = reference_surfaces(subject.image, subject.labels, SQUARE_MM)
    assert lifted.at(inside).mean() > LEAN + 0.05 * (FAT - LEAN)  # by the mode of dark pixels


@pytest.mark.parametrize(("slices", "shading"), [(1, 0.0), (3, 0.0), (3, 0.6)])
def test_fat_spread_as_in_a_dixon_scan_is_found(slices, shading):
    subject = scene(slices=slices, noise=15, shading=shading, logit_sd=LOGIT_SD)
    error = found(subject, "linear_spread") - subject.share
    assert np.abs(error).max() < 0.04
    assert abs(error.mean()) < 0.02
    assert (found(subject, "linear") - subject.share).mean() < -0.04


def test_a_coil_that_is_brighter_on_one_side_in_front_is_no_fat():
    shares = (0.05, 0.05, 0.06, 0.06, 0.12, 0.12, 0.15, 0.15)
    subject = scene(slices=1, shares=shares, lateral=1.4, logit_sd=LOGIT_SD)
    left, right = (found(subject, "linear_spread") - subject.share).reshape(-1, 2).T
    assert np.abs(left - right).max() < 0.012


def test_fat_of_the_other_muscles_changes_nothing():
    lean, fatty = (0.05,) * 4 + (0.08,) * 4, (0.05,) * 4 + (0.4,) * 4
    few, many = (scene(shares=shares, logit_sd=LOGIT_SD, seed=4) for shares in (lean, fatty))
    moved = found(many, "linear_spread")[:, :4] - found(few, "linear_spread")[:, :4]
    assert np.abs(moved).max() < 0.025


def test_noise_of_muscle_without_fat_is_no_fat():
    subject = scene(shares=(0.0,) * 8, noise=25)
    assert found(subject, "linear_spread").max() < 0.03
    assert lean_of(subject).width == pytest.approx(25, rel=0.15)


def test_pure_fat_beside_lean_fibres_reads_too_high():
    subject = scene()  # the known limit: fat of two classes varies more than the method expects
    assert (found(subject, "linear_spread") - subject.share).mean() > 0.1


def test_mean_of_spread_inverts_the_spread_of_fat():
    for mean in (0.03, 0.1, 0.25):
        spread = fat_by_rank(np.array(mean), np.array(LOGIT_SD / 1.1)).std()
        assert mean_of_spread(spread) == pytest.approx(mean, abs=0.003)
    assert mean_of_spread(np.array([0.0])) == 0


def test_muscles_of_a_few_pixels_have_no_lean_reference():
    subject = scene(logit_sd=LOGIT_SD)
    _, fat = reference_surfaces(subject.image, subject.labels, SQUARE_MM)
    labels = np.zeros_like(subject.labels)
    labels[:, 50:56, 125:131] = 1
    with pytest.raises(NoReference, match="no-lean-reference"):
        lean_reference(subject.image, labels, fat)


@pytest.mark.real
def test_fat_of_a_real_dixon_scan_is_found_in_its_water_and_fat_added(real_data):
    fat, water, manual = (
        np.asanyarray(
            nib.load(real_data / f"tum01_dixon/TUM01_{name}_L2-L5.nii.gz").dataobj
        ).transpose(2, 1, 0)
        for name in ("fat_img", "water_img", "water_manual_label")
    )
    labels = np.choose(manual, [0, 6, 8, 7, 5]).astype(np.uint8)
    truth = fat / np.maximum(fat + water.astype(float), 1)
    columns = fat_fractions([fat + 0.2 * water], [labels], [(1.0185, 1.0185)])
    here = [(labels == value).sum(axis=(1, 2)) > 0 for value in (5, 6, 7, 8)]
    expected = [
        truth[z][labels[z] == value].mean()
        for value, rows in zip((5, 6, 7, 8), here, strict=True)
        for z in np.flatnonzero(rows)
    ]
    bias, r = {}, {}
    for method in ("linear", "linear_spread"):
        values = columns[f"fat_fraction_{method}"][:, 4:].T[np.array(here)]
        bias[method] = np.mean(values - expected)
        r[method] = np.corrcoef(values, expected)[0, 1]
    assert abs(bias["linear_spread"]) < 0.03
    assert bias["linear"] < -0.05
    assert r["linear_spread"] > 0.65
