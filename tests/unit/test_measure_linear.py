import nibabel as nib
import numpy as np
import pytest
from measure_scene import FAT, LEAN, scene

from paravert.measure.linear import (
    NoReference,
    SignalSurface,
    band_around,
    fraction_between,
    nonzero_indices,
    reference_surfaces,
)
from paravert.measure.otsu import otsu_split

SQUARE_MM = (1.0, 1.0)


def linear_fractions(image, labels, spacing_mm):
    lean, fat = reference_surfaces(image, labels, spacing_mm)
    return np.clip(fraction_between(lean, fat, image, nonzero_indices(labels)), 0, 1)


def mean_error(fraction, subject):
    inside = subject.labels[subject.labels > 0]
    slices = np.nonzero(subject.labels)[0]
    region = slices * 8 + inside - 1
    found = np.bincount(region, weights=fraction) / np.bincount(region)
    return np.abs(found - subject.share.ravel()).mean()


def test_references_are_the_signals_of_lean_muscle_and_of_fat():
    subject = scene(noise=10)
    places = np.nonzero(subject.labels)
    lean, fat = reference_surfaces(subject.image, subject.labels, SQUARE_MM)
    assert lean.at(places) == pytest.approx(LEAN, abs=5)
    assert fat.at(places) == pytest.approx(FAT, abs=5)


def test_references_follow_the_shading_of_the_coil():
    subject = scene(noise=10, shading=0.9)
    _, rows, columns = places = np.nonzero(subject.labels)
    gain = 1 + 0.9 * (rows / 140 - 0.5 + 0.6 * (columns / 200 - 0.5))
    lean, fat = reference_surfaces(subject.image, subject.labels, SQUARE_MM)
    assert lean.at(places) == pytest.approx(LEAN * gain, rel=0.05)
    assert fat.at(places) == pytest.approx(FAT * gain, rel=0.03)


def test_local_references_beat_one_pair_of_references_under_shading():
    subject = scene(noise=15, shading=0.9)
    signal = subject.image[subject.labels > 0]
    one_pair = np.clip((signal - LEAN) / (FAT - LEAN), 0, 1)
    local = linear_fractions(subject.image, subject.labels, SQUARE_MM)
    assert mean_error(local, subject) < 0.02
    assert mean_error(one_pair, subject) > 2 * mean_error(local, subject)


@pytest.mark.parametrize("kind", [np.float64, np.int16])
def test_partial_volume_counts_by_its_share(kind):
    subject = scene(noise=5, shares=(0.0,) * 4 + (0.3,) * 4)
    image = subject.image.copy()
    partly = (subject.labels == 1) & (np.random.default_rng(9).random(image.shape) < 0.5)
    image[partly] = LEAN + 0.25 * (FAT - LEAN)
    fraction = linear_fractions(image.astype(kind), subject.labels, SQUARE_MM)
    assert fraction[partly[subject.labels > 0]] == pytest.approx(0.25, abs=0.02)


def test_muscles_of_pure_noise_have_no_fat_reference():
    draw = np.random.default_rng(0)
    labels = scene().labels
    with pytest.raises(NoReference) as lack:
        linear_fractions(draw.normal(300, 20, labels.shape), labels, SQUARE_MM)
    assert lack.value.reason == "no-fat-reference"


def test_muscles_in_air_have_no_fat_reference():
    subject = scene(shares=(0.0,) * 8)
    image = np.where(subject.labels > 0, subject.image, 0)
    with pytest.raises(NoReference) as lack:
        linear_fractions(image, subject.labels, SQUARE_MM)
    assert lack.value.reason == "no-fat-reference"


def test_a_handful_of_muscle_pixels_has_no_lean_reference():
    subject = scene()
    labels = np.zeros_like(subject.labels)
    labels[:, 50:53, 125:128] = 1
    with pytest.raises(NoReference) as lack:
        linear_fractions(subject.image, labels, SQUARE_MM)
    assert lack.value.reason == "no-lean-reference"


@pytest.mark.parametrize("slices", [1, 2])
def test_stacks_of_one_and_two_slices_have_references(slices):
    subject = scene(slices=slices)
    fraction = linear_fractions(subject.image, subject.labels, SQUARE_MM)
    assert mean_error(fraction, subject) < 0.02


def test_surface_is_the_polynomial_of_its_factors():
    draw = np.random.default_rng(0)
    shape, factors = (5, 11, 21), draw.normal(size=8)
    places = tuple(draw.integers(0, size, 50) for size in shape)
    s, r, c = (2 * place / (size - 1) - 1 for place, size in zip(places, shape, strict=True))
    expected = factors @ [np.ones(50), s, s**2, r, r**2, c, c**2, r * c]
    assert SignalSurface(shape, factors, 1.0).at(places) == pytest.approx(expected)


def test_band_reaches_as_far_as_asked_in_rows_and_columns():
    mask = np.zeros((1, 21, 21), dtype=bool)
    mask[0, 10, 10] = True
    band = band_around(mask, (2, 5))
    assert band.sum() == 5 * 11 - 1
    assert not band[0, 10, 10]


@pytest.mark.real
def test_fat_of_a_real_dixon_scan_is_found_in_its_water_and_fat_added(real_data):
    folder = real_data / "tum01_dixon"
    fat, water, manual = (
        np.asanyarray(nib.load(folder / f"TUM01_{name}_L2-L5.nii.gz").dataobj).transpose(2, 1, 0)
        for name in ("fat_img", "water_img", "water_manual_label")
    )
    labels = np.choose(manual, [0, 6, 8, 7, 5]).astype(np.uint8)
    # Fat gives about twice the signal of as much water here, a T2-weighted image more.
    truth = (fat / np.maximum(fat + 2.0 * water, 1))[labels > 0]
    image = fat + 0.35 * water
    region = np.nonzero(labels)[0] * 9 + labels[labels > 0]
    regions, region = np.unique(region, return_inverse=True)
    expected, found = (
        np.bincount(region, weights=values) / np.bincount(region)
        for values in (truth, linear_fractions(image, labels, (1.0185, 1.0185)))
    )
    pooled = image[labels > 0] > otsu_split(image[labels > 0]).threshold
    by_otsu = np.bincount(region, weights=pooled) / np.bincount(region)
    assert regions.size > 100
    assert np.corrcoef(expected, found)[0, 1] > 0.75
    assert np.abs(found - expected).mean() < 0.03
    assert np.corrcoef(expected, by_otsu)[0, 1] < 0.5  # shading: the caveat of one threshold
