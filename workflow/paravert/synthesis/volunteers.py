"""The phantom volunteers: sex, age, height, weight, muscle areas and fat fractions, from a seed.

Two populations: one like the external validation cohort of the paper (Niemeyer 2021; 10 men and 12
women, codes S0001 to S0022), and a general one of 20 to 85 years (codes from T0001). Areas follow
published cross-sections of L1 to L5 and the paper's differences between sexes and muscles; fat
fractions follow Si 2023, Crawford 2016 and the PDFF studies named beside the numbers.
"""

from dataclasses import dataclass

import numpy as np

from paravert.anatomy import LABELS, MUSCLES, SIDES

PAPER_COUNT = 22
LEVELS = (1.0, 2.0, 3.0, 4.0, 5.0)  # mid-heights of the vertebrae L1 to L5

# Lowest, mean and highest value of the paper's volunteers, by sex.
PAPER_COHORT = {
    "M": {
        "count": 10,
        "age": (25, 38.6, 61),
        "weight": (68, 83.3, 120),
        "height": (170, 179.4, 185),
    },
    "F": {
        "count": 12,
        "age": (22, 33.5, 57),
        "weight": (48, 57.5, 68),
        "height": (153, 166.3, 178),
    },
}
REFERENCE_HEIGHT_CM = {"M": 178.0, "F": 165.5}
POPULATION_HEIGHT_SD_CM = {"M": 7.0, "F": 6.5}

# Cross-sectional area of one side in mm2 at mid L1 to L5, for age 30, reference height and BMI 24.
# The quadratus ends at the iliac crest.
AREA_MM2 = {
    "M": {
        "psoas_major": (250, 640, 1080, 1460, 1400),
        "quadratus_lumborum": (240, 370, 490, 560, 0),
        "erector_spinae": (1880, 2080, 1980, 1580, 960),
        "multifidus": (320, 430, 610, 930, 1120),
    },
    "F": {
        "psoas_major": (170, 400, 660, 880, 860),
        "quadratus_lumborum": (180, 290, 390, 440, 0),
        "erector_spinae": (1410, 1560, 1490, 1190, 730),
        "multifidus": (255, 345, 485, 730, 885),
    },
}
# Fat fraction of the whole muscle at age 40, and its increase per year on the logit scale.
FAT_BY_AGE = {
    "M": {
        "psoas_major": (0.042, 0.008),
        "quadratus_lumborum": (0.070, 0.011),
        "erector_spinae": (0.115, 0.014),
        "multifidus": (0.155, 0.015),
    },
    "F": {
        "psoas_major": (0.058, 0.008),
        "quadratus_lumborum": (0.098, 0.012),
        "erector_spinae": (0.162, 0.016),
        "multifidus": (0.215, 0.018),
    },
}
# Difference of the logit at L1 to L5: fat increases caudally (Khil 2020, Crawford 2016).
FAT_BY_LEVEL = {
    "psoas_major": (0.0, 0.0, 0.0, 0.0, 0.0),
    "quadratus_lumborum": (-0.1, -0.05, 0.0, 0.1, 0.2),
    "erector_spinae": (-0.55, -0.40, -0.05, 0.40, 0.85),
    "multifidus": (-0.35, -0.30, -0.10, 0.10, 0.40),
}


@dataclass(frozen=True)
class Volunteer:
    """One phantom subject; `body_of` makes its body from these values.

    subject: its code, "S0001" on in the paper's cohort, "T0001" on in the general population.
    sex: "F" or "M". age_years, height_cm, weight_kg: at the examination.
    area_mm2, fat_fraction: (8, 5), row k of label k + 1 (anatomy.LABELS), columns mid L1 to mid L5:
    area of the horizontal section of the muscle's outline in mm2, of which other parts may cover
    some, and true fat fraction, 0-1; linear in between.
    subcutaneous_mm: thickness of skin and fat behind the spinous process of L3, which is drawn
    about 4 mm thicker. seed: of the individual shape and texture.
    """

    subject: str
    sex: str
    age_years: int
    height_cm: float
    weight_kg: float
    area_mm2: tuple[tuple[float, ...], ...]
    fat_fraction: tuple[tuple[float, ...], ...]
    subcutaneous_mm: float
    seed: int

    @property
    def bmi(self) -> float:
        """Body mass index in kg/m2."""
        return self.weight_kg / (self.height_cm / 100) ** 2

    def area_at(self, label: int, level: float | np.ndarray) -> np.ndarray:
        """Return the area in mm2 of the horizontal section of a muscle's outline at a level.

        label: value 1-8 of a muscle and side (anatomy.LABELS). level: 1.0 mid L1, 5.0 mid L5; a
        number, or an array, whose shape the result has. Above mid L1 and below mid L5 the area is
        that of L1 or L5, from which `muscle_tubes` tapers the muscles off.
        """
        return np.interp(level, LEVELS, self.area_mm2[label - 1])

    def fat_fraction_at(self, label: int, level: float) -> float:
        """Return the true fat fraction, 0-1, of a muscle at a vertebral level.

        label: value 1-8 of a muscle and side (anatomy.LABELS). level: 1.0 mid L1, 5.0 mid L5; above
        mid L1 and below mid L5 the fraction is that of L1 or L5.
        """
        return float(np.interp(level, LEVELS, self.fat_fraction[label - 1]))


def volunteers(seed: int, count: int = PAPER_COUNT) -> tuple[Volunteer, ...]:
    """Return a cohort of phantom subjects: for 22 the paper's, otherwise a general population.

    seed: of the random values. count: number of volunteers. A member of the population depends on
    seed and index alone (`population_member`), so a larger cohort extends a smaller one. The
    paper's cohort meets the ranges of PAPER_COHORT exactly, its means up to rounding. Raises
    ValueError if count is below 1.
    """
    if count < 1:
        raise ValueError(f"count is {count}, expected at least 1")
    if count == PAPER_COUNT:
        return _paper_cohort(seed)
    return tuple(population_member(seed, index) for index in range(count))


def population_member(seed: int, index: int) -> Volunteer:
    """Return one phantom subject of the general population: 20 to 85 years, BMI 17 to 42.

    seed: of the population. index: number of the subject, from 0; even ones are women. A pure
    function of its arguments.
    """
    rng = np.random.default_rng([seed, index, 1])
    sex = "FM"[index % 2]
    age = int(rng.integers(20, 86))
    mean, sd = REFERENCE_HEIGHT_CM[sex], POPULATION_HEIGHT_SD_CM[sex]
    height = float(np.clip(rng.normal(mean, sd), mean - 2.5 * sd, mean + 2.5 * sd).round())
    bmi = np.clip(rng.normal(24.5 + 0.05 * (age - 30), 4.5), 17.1, 41.9)
    weight = float(np.round(bmi * (height / 100) ** 2, 1))
    return _with_muscles(rng, f"T{index + 1:04d}", sex, age, height, weight, spread=1.5)


def _paper_cohort(seed: int) -> tuple[Volunteer, ...]:
    """Return the 22 volunteers of the paper's external validation cohort."""
    rng = np.random.default_rng([seed, PAPER_COUNT])
    people = []
    for sex, facts in PAPER_COHORT.items():
        count = facts["count"]
        ages = np.rint(rng.permutation(_spread(rng, count, *facts["age"]))).astype(int)
        heights = np.rint(rng.permutation(_spread(rng, count, *facts["height"])))
        weights = np.round(_spread(rng, count, *facts["weight"]), 1)
        # Taller people get larger weights.
        build = np.argsort(np.argsort(heights + rng.normal(0, 4.0, count)))
        people += [
            (sex, int(age), float(height), float(weight))
            for age, height, weight in zip(ages, heights, weights[build], strict=True)
        ]
    order = rng.permutation(len(people))
    return tuple(
        _with_muscles(
            np.random.default_rng([seed, PAPER_COUNT, number]), f"S{number + 1:04d}", *people[who]
        )
        for number, who in enumerate(order)
    )


def _spread(
    rng: np.random.Generator, count: int, low: float, mean: float, high: float
) -> np.ndarray:
    """Return ascending random values from low to high with this mean, (count,)."""
    position = np.linspace(0, 1, count) + rng.uniform(-0.3, 0.3, count) / count
    position[0], position[-1] = 0.0, 1.0
    small, large = 0.05, 20.0
    for _ in range(60):
        power = np.sqrt(small * large)
        if (position**power).mean() > (mean - low) / (high - low):
            small = power
        else:
            large = power
    return low + (high - low) * position**power


def _with_muscles(
    rng: np.random.Generator,
    subject: str,
    sex: str,
    age: int,
    height: float,
    weight: float,
    spread: float = 1.0,
) -> Volunteer:
    """Return a volunteer with random muscles. spread: factor of most SDs between people."""
    bmi = weight / (height / 100) ** 2
    size = rng.normal(0, 0.09 * spread)
    fat = rng.normal(0, 0.28 * spread)
    areas, fractions = {}, {}
    for muscle in MUSCLES:
        build = size + rng.normal(0, 0.07) + _log_size(sex, age, height, bmi)
        infiltration = fat + rng.normal(0, 0.14 * spread) + 0.015 * (bmi - 24)
        lean_side = rng.normal(0, 0.04, len(SIDES))
        fat_side = rng.normal(0, 0.08, len(SIDES))
        by_level = rng.normal(0, 0.03, len(LEVELS))
        for number, side in enumerate(SIDES):
            scale = np.exp(build + lean_side[number] + by_level)
            areas[muscle, side] = np.array(AREA_MM2[sex][muscle]) * scale
            start, per_year = FAT_BY_AGE[sex][muscle]
            logit = np.log(start / (1 - start)) + per_year * (age - 40) + infiltration
            logit = logit + fat_side[number] + np.array(FAT_BY_LEVEL[muscle])
            fractions[muscle, side] = np.clip(1 / (1 + np.exp(-logit)), 0.02, 0.75)
    thickness = 4 + 1.2 * (bmi - 18) + (4 if sex == "F" else 0) + rng.normal(0, 2.5)
    return Volunteer(
        subject,
        sex,
        age,
        height,
        weight,
        tuple(tuple(areas[label.muscle, label.side].tolist()) for label in LABELS),
        tuple(tuple(fractions[label.muscle, label.side].tolist()) for label in LABELS),
        float(np.clip(thickness, 4, 45)),
        int(rng.integers(2**31)),
    )


def _log_size(sex: str, age: int, height: float, bmi: float) -> float:
    """Return the logarithm of muscle size relative to age 30, reference height and BMI 24."""
    tallness = 2 * np.log(height / REFERENCE_HEIGHT_CM[sex])
    return tallness + 0.006 * np.clip(bmi - 24, -6, 10) - 0.0035 * max(age - 30, 0)
