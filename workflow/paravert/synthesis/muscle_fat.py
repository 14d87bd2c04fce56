"""Fat within muscles: streaks between fascicles, patches, and fat spread between the fibres.

Fascicles spread from their origin at the bone. The coordinates along and across the fascicles are
slightly distorted and index a smooth random field; its zero crossings are perimysial fat. The
result is a score, whose ranks are the order in which the pixels of a muscle turn to fat.
`fat_by_rank` gives each rank its fat fraction, so that the mean over the muscle is the true fat
fraction. The distribution is like that of a Dixon scan: most fat of a muscle lies in pixels of less
than 30 % fat, unless it is very fatty, and hardly a pixel is pure fat. Phantoms and training slices
use both the order and `fat_by_rank`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, ndtri

from paravert.anatomy import LABELS, Label
from paravert.synthesis.random_fields import sampled
from paravert.synthesis.spine import Spine
from paravert.synthesis.volunteers import Volunteer

RANKS = 256  # evenly spaced ranks for which `fat_by_rank` has a fat fraction
# SD of the logit of the fat fraction over the pixels of a muscle. In erector spinae and multifidus of a
# Dixon volunteer .61 to .70 of the fat lie in pixels of less than 30 % fat, .08 to .13 in pixels of more
# than 50 %, and .05 to .2 % of the pixels hold more than 70 % (`tests/benchmark/fat_estimators.py`).
LOGIT_SD = 1.1


@dataclass(frozen=True)
class Fan:
    """Direction and size of the fascicles of a muscle, which spread from an origin at the bone.

    origin: (x, y) of the left side in mm to the left of and behind the spine's axis, for a body height
    of 178 cm. along_mm, across_mm: about the size of the fascicles along the rays from the origin, and
    across the rays at 32 mm from it. deep: decrease of the fat score (pixels with a higher score turn
    to fat earlier) per mm of distance from the origin. patches: weight of patches in the score.
    cleft_deg: direction, seen from the origin, of the fatty cleft between two parts of the muscle, from
    x towards y, as of the left side; None: no cleft.
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
    """The muscle pixels of a plane through one phantom volunteer; each array is (pixels,).

    volunteer, spine: the subject and the axis of its spine. labels: label values, 1-8. x, y:
    float32, mm to the left of and behind the spine's axis at the pixel's height. level: float32,
    vertebral level (1.0 mid L1, 5.0 mid L5).
    """

    volunteer: Volunteer
    spine: Spine
    labels: np.ndarray
    x: np.ndarray
    y: np.ndarray
    level: np.ndarray


def planted_fat(pixels: MusclePoints) -> tuple[np.ndarray, np.ndarray]:
    """Return the fat fraction and the fibre texture of muscle pixels, float32 (pixels,) each.

    pixels: labels and positions of the muscle pixels of a volunteer. The fat fraction is 0-1; its
    mean over each muscle is near `Volunteer.fat_fraction_at` at the mean level of the muscle's
    pixels, unless these are few. The texture has mean 0 and SD 0.8, approximately.
    """
    fraction = np.zeros(len(pixels.labels), np.float32)
    fibres = np.zeros(len(pixels.labels), np.float32)
    for label, here, score, texture in _scores(pixels):
        fibres[here] = texture
        level = float(pixels.level[here].mean())
        wanted = pixels.volunteer.fat_fraction_at(label.value, level)
        place = _ranks(score) * (RANKS - 1)
        fraction[here] = np.interp(place, np.arange(RANKS), fat_by_rank(np.array(wanted)))
    return fraction, fibres


def fat_order(pixels: MusclePoints) -> np.ndarray:
    """Return the order in which muscle pixels turn to fat as the fat fraction grows, float32 (pixels,).

    pixels: labels and positions of the muscle pixels of a volunteer. Within each muscle the values
    are evenly spaced from 0 (last) to 1 (first).
    """
    order = np.zeros(len(pixels.labels), np.float32)
    for _, here, score, _ in _scores(pixels):
        order[here] = _ranks(score)
    return order


def fat_by_rank(mean: np.ndarray, spread: np.ndarray | float = 1.0) -> np.ndarray:
    """Return the fat fraction of a muscle's pixels by their rank, 0-1, float32 (..., RANKS).

    Rank: place in the order in which the pixels turn to fat; along the last axis from the pixel
    that turns last (`fat_order` 0) to the first (1), so that fractions increase; RANKS is 256. mean:
    mean fat fraction of a muscle, between 0 and 1, of any shape (...), which the result has on average
    over the last axis. spread: one factor, or factors of the same shape, of the SD of the logit of the
    fat fraction, 1.1 (LOGIT_SD); the smaller, the more evenly the fat is spread.
    """
    middles = (np.arange(RANKS) + 0.5) / RANKS
    shape = np.asarray(spread)[..., None] * LOGIT_SD * ndtri(middles)
    low, high = (np.full(np.shape(mean), end) for end in (-15.0, 15.0))
    for _ in range(20):
        middle = 0.5 * (low + high)
        above = expit(middle[..., None] + shape).mean(axis=-1) > mean
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return expit(middle[..., None] + shape).astype(np.float32)


def _ranks(score: np.ndarray) -> np.ndarray:
    """Return the rank of each score, evenly spaced from 0 (lowest) to 1, float32 (pixels,)."""
    ranks = np.empty(len(score), np.float32)
    ranks[np.argsort(score)] = np.linspace(0, 1, len(score), dtype=np.float32)
    return ranks


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
