import numpy as np
import pytest

from paravert.anatomy import LABELS, OTHER_SIDE, label_value
from paravert.measure.fat_domain import inner_pixels
from paravert.synthesis.muscle_fat import RANKS, fat_by_rank
from paravert.synthesis.signal import Acquisition, coil_profile
from paravert.synthesis.volunteers import LEVELS, volunteers
from phantom_slices import render_slice

PIXEL_MM = 1.1
PEOPLE = volunteers(11, 8)


def section(volunteer=PEOPLE[0], level=3.0, **options):
    settings = {"matrix": 200, "pixel_mm": PIXEL_MM, "acquisition": Acquisition(layers=1)} | options
    return render_slice(volunteer, level, **settings)


@pytest.mark.parametrize("level", [2.0, 3.0, 4.0])
@pytest.mark.parametrize("volunteer", PEOPLE[:3], ids=lambda v: v.subject)
def test_muscles_have_their_planted_area(volunteer, level):
    csa = section(volunteer, level).csa_mm2
    planted = [volunteer.area_at(label.value, level) for label in LABELS]
    assert csa == pytest.approx(planted, rel=0.13)  # bones cover a little of the muscles


def test_majority_labels_have_the_area_of_the_outlines():
    for volunteer in PEOPLE[:4]:
        result = section(volunteer)
        pixels = np.bincount(result.labels.ravel(), minlength=9)[1:]
        assert pixels * PIXEL_MM**2 == pytest.approx(result.csa_mm2, rel=0.05)


@pytest.mark.parametrize("level", LEVELS)
def test_planted_fat_fraction_is_found_in_the_fat_map(level):
    volunteer = PEOPLE[1]
    result = section(volunteer, level)
    for label in LABELS:
        if result.csa_mm2[label.value - 1] < 100:
            continue
        planted = volunteer.fat_fraction_at(label.value, level)
        assert result.mean_fat_fraction[label.value - 1] == pytest.approx(planted, abs=0.005)
        pixels = result.fat_fraction[result.labels == label.value]
        assert pixels.mean() == pytest.approx(planted, abs=0.02)


@pytest.mark.parametrize("muscle", ["erector_spinae", "multifidus"])
def test_fat_is_spread_over_the_pixels_of_a_muscle_as_in_a_dixon_scan(muscle):
    # Of the volunteer TUM01, mean fat .12 to .15: shares of the fat and of the pixels
    muscles = [label for label in LABELS if label.muscle == muscle]
    found = []
    for volunteer in PEOPLE:
        result = section(volunteer)
        found += [result.fat_fraction[result.labels == label.value] for label in muscles]
    pixels = np.concatenate([own for own in found if 0.10 < own.mean() < 0.18])
    assert 0.60 < pixels[pixels < 0.3].sum() / pixels.sum() < 0.75
    assert 0.04 < pixels[pixels > 0.5].sum() / pixels.sum() < 0.14
    assert 0.0002 < (pixels > 0.7).mean() < 0.004
    assert np.percentile(pixels, 10) > 0.02  # fat between the fibres, not in streaks alone


@pytest.mark.parametrize("mean", [0.02, 0.15, 0.5, 0.75])
def test_fat_of_the_ranks_increases_and_has_the_mean(mean):
    for spread in (0.5, 1.0, 2.0):
        fractions = fat_by_rank(np.array([mean, 0.3]), np.array([spread, 1.0]))
        assert fractions.shape == (2, RANKS)
        assert fractions.mean(axis=1) == pytest.approx([mean, 0.3], abs=1e-4)
        assert (np.diff(fractions) > 0).all()


def test_fat_is_bright_and_lean_muscle_dark():
    result = section(acquisition=Acquisition(layers=1, noise=0.0, bias=0.0, blur_px=0.0))
    muscle = inner_pixels(result.labels[None])[0]  # pixels at the edge also show fat outside
    fat = result.fat_fraction[muscle]
    bright = result.image[muscle]
    assert np.median(bright[fat > 0.7]) > 3 * np.median(bright[fat < 0.05])
    assert np.corrcoef(fat, bright)[0, 1] > 0.9


def test_left_muscles_lie_on_the_right_of_the_picture():
    for level in LEVELS:
        labels = section(level=level).labels
        for label in LABELS:
            columns = np.nonzero(labels == label.value)[1]
            other = np.nonzero(labels == OTHER_SIDE[label.value])[1]
            if len(columns) and label.side == "left":
                assert columns.mean() > other.mean() + 10


def test_absent_muscle_has_area_zero_and_unknown_fat():
    result = section(level=5.2)
    gone = label_value("quadratus_lumborum", "left") - 1
    assert result.csa_mm2[gone] == 0
    assert np.isnan(result.mean_fat_fraction[gone])


@pytest.mark.parametrize("tilt_deg", [12, -12])
def test_tilted_sections_are_larger_by_one_over_cosine(tilt_deg):
    # muscles of four people at the foremost level, where the axis of the spine is upright
    upright = sum(section(v, 3.4).csa_mm2 for v in PEOPLE[:4])
    tilted = sum(section(v, 3.4, tilt_deg=tilt_deg).csa_mm2 for v in PEOPLE[:4])
    total = tilted.sum() / upright.sum()
    assert total * np.cos(np.deg2rad(tilt_deg)) == pytest.approx(1, abs=0.02)


def test_a_tilted_plane_sees_other_levels_before_and_behind():
    volunteer = PEOPLE[0]
    psoas = label_value("psoas_major", "left")
    behind_up = section(volunteer, 2.5, tilt_deg=15).csa_mm2[psoas - 1]
    behind_down = section(volunteer, 2.5, tilt_deg=-15).csa_mm2[psoas - 1]
    # psoas lies before and behind the axis alike; erector far behind, larger towards the head
    assert behind_up == pytest.approx(behind_down, rel=0.2)
    erector = label_value("erector_spinae", "left")
    upper = section(volunteer, 4.5, tilt_deg=15).csa_mm2[erector - 1]
    lower = section(volunteer, 4.5, tilt_deg=-15).csa_mm2[erector - 1]
    assert upper > 1.1 * lower


def test_rendering_is_a_pure_function():
    first, second = section(), section()
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.labels, second.labels)


def test_other_people_and_other_levels_look_different():
    image = section().image
    assert not np.array_equal(image, section(PEOPLE[1]).image)
    assert not np.array_equal(image, section(level=3.1).image)


def test_noise_in_air_is_rician_with_the_given_sigma():
    result = section(acquisition=Acquisition(layers=1, noise=0.03), shift_mm=(0, 40))
    air = result.image[-25:]
    assert air.mean() == pytest.approx(0.03 * np.sqrt(np.pi / 2), rel=0.05)


def test_coil_is_stronger_behind_the_subject():
    profile = coil_profile((50, 40), seed=3, bias=0.6)
    assert profile[-5:].mean() > 1.2 * profile[:5].mean()


def test_thick_slices_blur_what_changes_along_the_spine():
    thin = section(level=3.37, acquisition=Acquisition(thickness_mm=1, layers=3, noise=0.0))
    thick = section(level=3.37, acquisition=Acquisition(thickness_mm=12, layers=3, noise=0.0))
    assert np.array_equal(thin.labels, thick.labels)
    assert np.abs(thin.image - thick.image).mean() > 0.002


def test_a_turned_subject_keeps_its_areas():
    straight, turned = section(), section(rotation_deg=8)
    assert turned.csa_mm2 == pytest.approx(straight.csa_mm2, rel=0.03)


def test_an_even_number_of_layers_is_refused():
    with pytest.raises(ValueError, match="layers is 4"):
        Acquisition(layers=4)
