import numpy as np
import pytest

from paravert.anatomy import LABELS, MUSCLES
from paravert.synthesis.volunteers import PAPER_COHORT, volunteers


@pytest.mark.parametrize("seed", [1, 2, 2024])
@pytest.mark.parametrize("sex", ["M", "F"])
def test_paper_cohort_has_the_published_means_and_ranges(seed, sex):
    people = [v for v in volunteers(seed) if v.sex == sex]
    facts = PAPER_COHORT[sex]
    assert len(people) == facts["count"]
    for name, key, slack in (
        ("age_years", "age", 0.5),
        ("height_cm", "height", 0.5),
        ("weight_kg", "weight", 0.2),
    ):
        low, mean, high = facts[key]
        values = [getattr(v, name) for v in people]
        assert min(values) == low
        assert max(values) == high
        assert np.mean(values) == pytest.approx(mean, abs=slack)


def test_paper_cohort_is_named_s0001_to_s0022():
    assert [v.subject for v in volunteers(5)] == [f"S{i:04d}" for i in range(1, 23)]


def test_a_larger_population_continues_a_smaller_one():
    assert volunteers(3, 40)[:15] == volunteers(3, 15)
    assert [v.subject for v in volunteers(3, 3)] == ["T0001", "T0002", "T0003"]


def test_another_seed_gives_other_people():
    assert volunteers(1) != volunteers(2)
    assert volunteers(1) == volunteers(1)


def test_population_is_half_women_and_spans_adult_life():
    people = volunteers(1, 300)
    assert sum(v.sex == "F" for v in people) == 150
    ages = [v.age_years for v in people]
    assert min(ages) < 25
    assert max(ages) > 80
    assert 17 <= min(v.bmi for v in people) < 20
    assert max(v.bmi for v in people) > 32


def mean_area(people, muscle):
    rows = [label.value - 1 for label in LABELS if label.muscle == muscle]
    return np.mean([[v.area_mm2[row] for row in rows] for v in people])


def mean_fat(people, muscle):
    rows = [label.value - 1 for label in LABELS if label.muscle == muscle]
    return np.mean([[v.fat_fraction[row] for row in rows] for v in people])


@pytest.mark.parametrize("muscle", MUSCLES)
def test_men_have_larger_muscles_than_women(muscle):
    for people in (volunteers(1), volunteers(1, 200)):
        men, women = ([v for v in people if v.sex == sex] for sex in "MF")
        assert mean_area(men, muscle) > 1.15 * mean_area(women, muscle)


def test_erector_spinae_is_the_largest_muscle_and_psoas_the_second_in_men():
    men = [v for v in volunteers(1) if v.sex == "M"]
    areas = sorted(MUSCLES, key=lambda muscle: -mean_area(men, muscle))
    assert areas[:2] == ["erector_spinae", "psoas_major"]


def test_fat_fraction_falls_from_multifidus_to_psoas():
    order = ("multifidus", "erector_spinae", "quadratus_lumborum", "psoas_major")
    for people in (volunteers(1), volunteers(1, 200)):
        fat = [mean_fat(people, muscle) for muscle in order]
        assert fat == sorted(fat, reverse=True)


@pytest.mark.parametrize("muscle", MUSCLES)
def test_fat_fraction_is_larger_in_women_and_rises_with_age(muscle):
    people = volunteers(1, 600)
    men, women = ([v for v in people if v.sex == sex] for sex in "MF")
    assert mean_fat(women, muscle) > mean_fat(men, muscle)
    young = [v for v in people if v.age_years < 40]
    old = [v for v in people if v.age_years > 65]
    assert mean_fat(old, muscle) > 1.15 * mean_fat(young, muscle)


@pytest.mark.parametrize(("sex", "volume_ml", "sd"), [("M", 812, 99), ("F", 565, 84)])
def test_back_muscle_volume_is_within_half_an_sd_of_crawford(sex, volume_ml, sd):
    people = [v for v in volunteers(1, 400) if v.sex == sex and v.age_years < 62]
    levels = np.linspace(0.63, 5.37, 50)
    volumes = [
        sum(v.area_at(value, levels).mean() for value in (5, 6, 7, 8))
        * (levels[-1] - levels[0])
        * (36.2 * v.height_cm / 178)
        / 1000
        for v in people
    ]
    assert np.mean(volumes) == pytest.approx(volume_ml, abs=0.5 * sd)


def test_nobody_is_symmetric_and_the_sides_differ_by_a_few_percent():
    ratios = [v.area_mm2[4][2] / v.area_mm2[5][2] for v in volunteers(1, 200)]
    assert 0.02 < np.std(np.log(ratios)) < 0.10
    assert np.mean(ratios) == pytest.approx(1, abs=0.02)


def test_muscle_areas_grow_with_the_square_of_height():
    # As a body of twice the size has four times the section, at the same age and body mass index.
    people = volunteers(1, 3000)
    areas = np.array([np.sum(v.area_mm2) for v in people])
    covariates = [
        (1, np.log(v.height_cm), v.sex == "F", max(v.age_years - 30, 0), np.clip(v.bmi, 18, 34))
        for v in people
    ]
    slopes, *_ = np.linalg.lstsq(np.array(covariates, float), np.log(areas), rcond=None)
    assert slopes[1] == pytest.approx(2, abs=0.3)
