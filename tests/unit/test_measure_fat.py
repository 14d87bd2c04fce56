import numpy as np
import pytest
from measure_scene import SHARES, scene
from scipy.ndimage import binary_erosion

from paravert import tables
from paravert.imaging.image_stack import LARGEST_VALUE, SMALLEST_SPREAD
from paravert.measure.fat import fat_fractions, inner_pixels

MM = (1.0, 1.0)
POOLED = ("otsu_subject", "otsu_image", "linear")


def fractions(*stacks, image=None):
    images = [stack.image for stack in stacks] if image is None else [image]
    return fat_fractions(images, [stack.labels for stack in stacks], [MM] * len(stacks))


def whole(image):
    return np.round(image).astype(np.int16)


def test_columns_are_those_of_the_table():
    expected = {column.name for column in tables.FAT_COLUMNS + tables.SEPARABILITY_COLUMNS}
    assert set(fractions(scene())) == expected


@pytest.mark.parametrize("method", POOLED)
def test_planted_share_of_fat_is_found(method):
    subject = scene()
    found = fractions(subject, image=whole(subject.image))[f"fat_fraction_{method}"]
    # Clipped noise lifts the linear one: 0.4 x 15 / 550 = .011 in pixels without fat.
    assert found == pytest.approx(subject.share, abs=0.015 if method == "linear" else 0.002)


def test_otsu_inside_one_lean_muscle_splits_its_noise_and_pooled_does_not():
    subject = scene(shares=(0.0, 0.0, *SHARES[2:]), noise=25)
    columns = fractions(subject)
    for method in ("otsu_muscle", "otsu_muscle_slice"):
        assert columns[f"fat_fraction_{method}"][:, :2] == pytest.approx(0.5, abs=0.1)
        # Nor does its separability tell: 2 / pi is what a normal distribution has.
        assert columns[f"separability_{method}"][:, :2] == pytest.approx(2 / np.pi, abs=0.03)
    assert columns["fat_fraction_otsu_subject"][:, :2].max() < 0.001
    assert columns["fat_fraction_linear"][:, :2].max() < 0.03


@pytest.mark.parametrize(("scale", "shift"), [(1, 500), (3, 0), (2, -1000)])
def test_scaling_and_shifting_the_signal_changes_no_fat_fraction(scale, shift):
    subject = scene(shading=0.4)
    image = whole(subject.image)
    before, after = fractions(subject, image=image), fractions(subject, image=scale * image + shift)
    rounding = {"linear": 1e-6, "linear_spread": 1e-9}  # of the least squares of their references
    for method in tables.FAT_METHODS:
        assert after[f"fat_fraction_{method}"] == pytest.approx(
            before[f"fat_fraction_{method}"], abs=rounding.get(method, 1e-12)
        )


def test_whole_numbered_and_fractional_signal_give_the_same_fat():
    subject = scene()
    image = whole(subject.image)
    as_whole, as_float = fractions(subject, image=image), fractions(subject, image=image * 1.0)
    for method in POOLED:
        name = f"fat_fraction_{method}"
        assert as_float[name] == pytest.approx(as_whole[name], abs=0.005)


def test_order_of_stacks_does_not_matter():
    one, two = scene(slices=2, seed=1), scene(slices=3, seed=2)
    forth, back = fractions(one, two), fractions(two, one)
    for name, column in forth.items():
        turned = np.concatenate([back[name][3:], back[name][:3]])
        assert (column == turned).all() or np.array_equal(column, turned, equal_nan=True)


def test_scopes_over_the_subject_pool_its_stacks():
    one, two = scene(slices=1, seed=1), scene(slices=1, seed=2)
    together = np.concatenate([one.image, two.image])
    both = fat_fractions([together], [np.concatenate([one.labels, two.labels])], [MM])
    apart = fractions(one, two)
    for method in tables.OTSU_METHODS:
        name = f"fat_fraction_{method}"
        assert np.array_equal(apart[name], both[name])


def test_absent_muscle_has_no_fat_fraction_and_says_so():
    subject = scene()
    labels = subject.labels.copy()
    labels[labels == 3] = 0
    labels[1] = 0
    columns = fat_fractions([subject.image], [labels], [MM])
    for method in tables.FAT_METHODS:
        value, reason = columns[f"fat_fraction_{method}"], columns[f"reason_{method}"]
        assert np.isnan(value[:, 2]).all()
        assert np.isnan(value[1]).all()
        assert (reason[:, 2] == "absent").all()
        assert (reason[1] == "absent").all()
        assert reason[0, 0] is None
        assert np.isfinite(value[0, 0])
    assert np.isnan(columns["separability_otsu_subject"][1]).all()


def test_subject_without_any_muscle_is_absent_everywhere():
    subject = scene()
    columns = fat_fractions([subject.image], [np.zeros_like(subject.labels)], [MM])
    for method in tables.FAT_METHODS:
        assert (columns[f"reason_{method}"] == "absent").all()


def test_muscle_of_one_value_cannot_be_split_alone():
    subject = scene()
    image = whole(subject.image)
    image[subject.labels == 1] = 150
    columns = fractions(subject, image=image)
    for method in ("otsu_muscle", "otsu_muscle_slice"):
        assert (columns[f"reason_{method}"][:, 0] == "single-value").all()
        assert np.isnan(columns[f"fat_fraction_{method}"][:, 0]).all()
    assert columns["fat_fraction_otsu_subject"][:, 0].tolist() == [0, 0, 0]


def test_stack_without_fat_says_so_and_leaves_the_others_alone():
    good, bare = scene(seed=1), scene(seed=2, shares=(0.0,) * 8)
    image = np.where(bare.labels > 0, bare.image, 0)
    columns = fat_fractions([good.image, image], [good.labels, bare.labels], [MM, MM])
    assert (columns["reason_linear"][3:] == "no-fat-reference").all()
    assert np.isnan(columns["fat_fraction_linear"][3:]).all()
    assert columns["fat_fraction_linear"][:3] == pytest.approx(good.share, abs=0.015)


def test_erosion_is_that_of_scipy_muscle_by_muscle():
    labels = np.random.default_rng(0).integers(0, 3, (2, 9, 9)).repeat(4, 1).repeat(4, 2)
    cross = np.array([[[0, 1, 0], [1, 1, 1], [0, 1, 0]]])
    expected = sum(binary_erosion(labels == value, cross) for value in (1, 2)) > 0
    assert np.array_equal(inner_pixels(labels), expected)


def test_fat_at_the_rim_is_gone_in_the_eroded_mask():
    subject = scene(shares=(0.0,) * 4 + SHARES[4:])
    image = subject.image.copy()
    image[(subject.labels == 1) & ~inner_pixels(subject.labels)] = 700
    columns = fractions(subject, image=image)
    for method in POOLED:
        assert columns[f"fat_fraction_{method}"][:, 0].min() > 0.1
        assert columns[f"eroded_{method}"][:, 0].max() < 0.015


def test_muscle_of_one_pixel_has_nothing_left_to_erode():
    subject = scene()
    labels = subject.labels.copy()
    labels[labels == 1] = 0
    labels[0, 50, 128] = 1
    columns = fat_fractions([subject.image], [labels], [MM])
    assert np.isnan(columns["eroded_otsu_subject"][0, 0])
    assert np.isfinite(columns["fat_fraction_otsu_subject"][0, 0])
    assert columns["reason_otsu_subject"][0, 0] is None


@pytest.mark.parametrize("largest", [SMALLEST_SPREAD, LARGEST_VALUE])
def test_fat_of_the_weakest_and_the_strongest_signal_is_that_of_any(largest):
    subject = scene()
    scaled = subject.image * (largest / subject.image.max())
    known = fractions(subject, image=subject.image.astype(np.float32))
    found = fractions(subject, image=scaled.astype(np.float32))
    for method in tables.FAT_METHODS:
        name = f"fat_fraction_{method}"
        np.testing.assert_allclose(found[name], known[name], atol=1e-4)
