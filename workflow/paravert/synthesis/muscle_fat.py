"""Fat within muscles: thin streaks between fascicles that widen to patches as fat increases.

Fascicles spread from their origin at the bone. The coordinates along and across the fascicles are
slightly distorted and index a smooth random field; its zero crossings are perimysial fat. The
result is a score. A threshold turns it into fat fractions whose mean over the muscle is the
volunteer's true fat fraction.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from paravert.anatomy import LABELS, Label
from paravert.synthesis.random_fields import sampled
from paravert.synthesis.spine import Spine
from paravert.synthesis.volunteers import Volunteer

DIFFUSE_SHARE = 0.3  # of the fat fraction, spread evenly between the fibres, up to DIFFUSE_MOST
DIFFUSE_MOST = 0.035
SOFTNESS = 0.28  # width of the transition from lean to fat, in units of the score
SAMPLE_PIXELS = 1500  # used to find the threshold; a gain then sets the mean over all pixels


@dataclass(frozen=True)
class Fan:
    """Direction and size of a muscle's fascicles, which spread from an origin at the bone.

    origin: (x, y) of the left side in mm relative to the spine's axis, for a body height of 178 cm.
    along_mm, across_mm: mean size of the fascicles in these directions, in mm. deep: decrease of the
    fat score per mm of distance from the origin. patches: weight of patches relative to streaks.
    cleft_deg: direction of the cleft between two parts of the muscle, from x towards y; None: no
    cleft.
    """

    origin: tuple[float, float]
    along_mm: float
    across_mm: float
    deep: float
    patches: float
    cleft_deg: float | None = None


FANS = {
    "psoas_major": Fan((10.0, 12.0), 20.0, 4.5, 0.022, 0.35),
    "quadratus_lumborum": Fan((8.0, 34.0), 18.0, 2.6, 0.004, 0.35),
    "erector_spinae": Fan((22.0, 14.0), 19.0, 3.0, 0.008, 0.45, 48.0),
    "multifidus": Fan((-2.0, 26.0), 17.0, 2.7, 0.026, 0.55),
}


@dataclass(frozen=True)
class MusclePoints:
    """Muscle pixels of one volunteer, each array (pixels,).

    volunteer, spine: the subject and the axis of its spine. labels: label values, 1-8. x, y:
    float32, mm to the left of and behind the spine's axis. level: float32, vertebral level (1.0 mid
    L1, 5.0 mid L5).
    """

    volunteer: Volunteer
    spine: Spine
    labels: np.ndarray
    x: np.ndarray
    y: np.ndarray
    level: np.ndarray


def planted_fat(pixels: MusclePoints) -> tuple[np.ndarray, np.ndarray]:
    """Return fat fraction and fibre texture of muscle pixels, float32 (pixels,) each.

    pixels: labels and positions of the muscle pixels of a volunteer. The fat fraction is 0-1; its
    mean over each muscle is `Volunteer.fat_fraction_at` at the mean level of the muscle's pixels.
    The texture has mean 0 and SD about 1.
    """
    fraction = np.zeros(len(pixels.labels), np.float32)
    fibres = np.zeros(len(pixels.labels), np.float32)
    for label, here, score, texture in _scores(pixels):
        fibres[here] = texture
        level = float(pixels.level[here].mean())
        wanted = pixels.volunteer.fat_fraction_at(label.value, level)
        fraction[here] = _to_mean(score, wanted)
    return fraction, fibres


def fat_order(pixels: MusclePoints) -> np.ndarray:
    """Return the order in which muscle pixels turn to fat, float32 (pixels,).

    pixels: labels and positions of the muscle pixels of a volunteer. Within each muscle the values
    are evenly spaced from 0 (last) to 1 (first).
    """
    order = np.zeros(len(pixels.labels), np.float32)
    for _, here, score, _ in _scores(pixels):
        order[here[np.argsort(score)]] = np.linspace(0, 1, len(here), dtype=np.float32)
    return order


def _scores(pixels: MusclePoints) -> Iterator[tuple[Label, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield, for each muscle present: label, indices of its pixels, and both arrays of `_score`."""
    rng = np.random.default_rng([pixels.volunteer.seed, 31])
    drift = rng.uniform(0, 100, (len(LABELS), 4)).astype(np.float32)
    for label in LABELS:
        here = np.flatnonzero(pixels.labels == label.value)
        if not len(here):
            continue
        side = 1.0 if label.side == "left" else -1.0
        local = np.float32(side) * pixels.x[here], pixels.y[here]
        fan, scale = FANS[label.muscle], np.float32(pixels.spine.scale)
        yield label, here, *_score(fan, local, pixels.level[here], drift[label.value - 1], scale)


def _score(
    fan: Fan,
    local: tuple[np.ndarray, np.ndarray],
    level: np.ndarray,
    drift: np.ndarray,
    scale: np.float32,
) -> tuple[np.ndarray, np.ndarray]:
    """Return fat score (higher: turns to fat earlier) and fibre texture, float32 (pixels,) each.

    local: x and y, mirrored to the left side. drift: (4,), random offsets into the fields. scale:
    size of the subject relative to the reference man.
    """
    x = local[0] - np.float32(fan.origin[0]) * scale
    y = local[1] - np.float32(fan.origin[1]) * scale
    climb = level * np.float32(1.4)  # neighbouring slices show related fascicles
    x = x + 1.3 * sampled(x / 8 + drift[0], y / 8 + climb + drift[1], 1)
    y = y + 1.3 * sampled(x / 8 + drift[1], y / 8 + climb + drift[0], 2)
    radius = np.hypot(x, y)
    angle = np.arctan2(y, x)
    a = radius / fan.along_mm + climb + drift[2]
    b = angle * np.float32(32.0) / fan.across_mm + np.float32(0.4) * climb + drift[3]
    field = sampled(a, b, 3)
    fine = sampled(2.6 * a, 2.2 * b, 4)
    presence = sampled(x / 6 + drift[2], y / 6 + climb, 5)
    patch = sampled(x / 4.5 + drift[3], y / 4.5 + climb + drift[0], 6)
    ridge = np.exp(-np.abs(field) * 3.6) * (1 + 0.45 * presence)
    ridge += 0.75 * np.exp(-np.abs(fine) * 3.2) * (1 - 0.3 * presence)
    score = 2.4 * ridge + 0.3 * presence + fan.patches * patch - fan.deep * (radius - 24)
    if fan.cleft_deg is not None:
        aside = (angle - np.deg2rad(np.float32(fan.cleft_deg))) * radius
        score += 1.3 * np.exp(-((aside / 1.1) ** 2)) * np.clip(0.7 + 0.5 * presence, 0, 1.2)
    return score, 0.5 * field + 0.7 * fine


def _to_mean(score: np.ndarray, wanted: float) -> np.ndarray:
    """Return fat fractions, 0-1, that increase with the score and have the wanted mean."""
    floor = min(DIFFUSE_SHARE * wanted, DIFFUSE_MOST)
    low, high = float(score.min()) - 4, float(score.max()) + 4
    some = score[:: max(len(score) // SAMPLE_PIXELS, 1)]
    for _ in range(12):
        middle = 0.5 * (low + high)
        if _fractions(some, middle, floor).mean() > wanted:
            low = middle
        else:
            high = middle
    fraction = _fractions(score, 0.5 * (low + high), floor)
    gain = (wanted - floor) / max(float(fraction.mean()) - floor, 1e-6)
    return np.clip(floor + (fraction - floor) * gain, 0, 1)


def _fractions(score: np.ndarray, threshold: float, floor: float) -> np.ndarray:
    """Return fat fractions for a threshold: floor far below it, 1 far above it."""
    return floor + (1 - floor) / (1 + np.exp((threshold - score) / np.float32(SOFTNESS)))
