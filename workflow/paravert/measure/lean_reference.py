"""The signal of muscle without fat, where no pixel of a muscle is free of fat.

The mode of the darker muscle pixels (`linear`) is too high, the more so the fattier the muscles of the
subject are: fat fractions are too low, and the errors in one muscle depend on the fat of the others.
But fat also spreads the signal within a muscle. In a Dixon scan the logit of the fat fraction has an
SD of about LOGIT_SD over the pixels of a muscle; so the mean fat fraction follows from its SD. Each
section (a muscle side in a slice) gives one estimate of the signal without fat: its mean signal
minus the signal of the fat that explains its spread beyond noise. Lean sections estimate it best
and weigh most. A surface of first order over slices, rows and columns is fitted to these estimates.

It fails where the fat of a muscle is distributed otherwise: with pure fat in streaks beside lean
fibres the fat fraction is too high, with evenly distributed fat too low. Measured in
docs/fat_estimators.md.
"""

import numpy as np
from scipy.special import expit, ndtri

from paravert.anatomy import LABEL_VALUES
from paravert.measure.fat_domain import lean_muscle
from paravert.measure.labelled_stack import inner_pixels
from paravert.measure.linear import (
    FEWEST_PIXELS,
    REPEATS,
    NoReference,
    SignalSurface,
    nonzero_indices,
    scaled,
)

# SD of the logit of the fat fraction over the inner pixels of a muscle: of erector spinae and multifidus of
# a Dixon volunteer (TUM01), and of the phantoms, whose images blur what was planted with 1.1.
LOGIT_SD = 0.9
# Error of a section's mean fat fraction: of lean muscle, and by that of its SD, relative to the SD. Towards a
# mean of one half the SD hardly rises any more, so that it tells little of the mean there.
LEAN_ERROR, RELATIVE_ERROR = 0.02, 0.3
LEANEST = 3  # muscles and sides whose darker pixels vary least tell the noise
MOST_COUNTED = 300  # pixels of a section; beyond, its error is not that of counting
# Penalty on the terms 1, s, r, c and r c of the surface. Along the rows lie the muscles that hold least
# and most fat, and the coil; over the slices the fat itself changes. From right to left a coil may change the
# signal by a quarter in front: four times this penalty leaves .06 of it as fat of the brighter psoas in a
# scan at 0.3 T. Fat of one side keeps its difference (slopes of .95 to 1.1 on phantoms).
PENALTIES = (0, 0.3, 0, 0.005, 0.005)


def lean_reference(image: np.ndarray, labels: np.ndarray, fat: SignalSurface) -> SignalSurface:
    """Return the signal of muscle without fat over a stack; `width` is the SD of the noise.

    For stacks in which no muscle pixel is free of fat. image: (slices, rows, columns). labels:
    label map of that shape, 1 to 8 as in anatomy.LABELS. fat: the second result of
    `linear.reference_surfaces`. For each section (a muscle side in a slice) of at least 50 pixels
    inside its outermost ones, the SD of its signal beyond noise gives its mean fat fraction
    (`mean_of_spread`), from which its signal without fat follows. A surface of first order, with a
    term row x column, is fitted to these signals, with penalties on some terms; lean and large
    sections weigh most. Raises NoReference ("no-lean-reference") without such a section.
    """
    pixels = nonzero_indices(inner_pixels(labels))
    signal, value = image[pixels].astype(np.float64), labels[pixels].astype(np.int64)
    section = pixels[0] * (LABEL_VALUES[-1] + 1) + value
    _, section, counts = np.unique(section, return_inverse=True, return_counts=True)
    kept = counts >= FEWEST_PIXELS
    if not kept.any():
        raise NoReference("no-lean-reference")

    def means(values: np.ndarray) -> np.ndarray:
        return np.bincount(section, values)[kept] / counts[kept]

    mean = np.bincount(section, signal) / counts
    residual, used = signal - mean[section], kept[section]
    widths = [lean_muscle(residual[used & (value == one)])[1] for one in np.unique(value[used])]
    noise = float(np.mean(sorted(widths)[:LEANEST]))
    spread = np.sqrt(np.maximum(means(residual**2) - noise**2, 0))
    mean, bright, weights = mean[kept], means(fat.at(pixels)), counts[kept] / MOST_COUNTED
    s, r, c = (means(scaled(index, size)) for index, size in zip(pixels, image.shape, strict=True))
    terms = np.stack([np.ones(s.size), s, r, c, 4 * r * c], axis=1)  # r and c reach about 0.5
    tiny = max(1e-6 * float(np.ptp(signal)), np.finfo(float).tiny)
    least = max(noise, tiny)  # difference of fat and lean
    lean = np.full(mean.size, mean.min())
    for _ in range(REPEATS):
        relative = spread / np.maximum(bright - lean, least)
        share = mean_of_spread(relative)
        error = LEAN_ERROR**2 + (RELATIVE_ERROR * relative * _rise_of_mean(relative)) ** 2
        weight = weights / (1 + weights) / error
        squares = np.einsum("n,ni,nj->ij", weight, terms, terms)
        squares += np.diag(PENALTIES) * weight.sum()
        signals = np.einsum("n,ni,n->i", weight, terms, (mean - bright * share) / (1 - share))
        factors = np.linalg.lstsq(squares, signals, rcond=None)[0]
        lean = np.einsum("ni,i->n", terms, factors)
    one, by_s, by_r, by_c, by_rc = factors
    return SignalSurface(image.shape, np.array([one, by_s, 0, by_r, 0, by_c, 0, 4 * by_rc]), noise)


def mean_of_spread(spread: np.ndarray) -> np.ndarray:
    """Return the mean fat fraction of a muscle from the SD of the fat fraction over its pixels.

    spread: the SD, any shape, which the result has. Assumes that the logit of the fat fraction is
    normally distributed with an SD of 0.9 (LOGIT_SD). Of two means with the same SD the result is
    the lower, 0 to 0.5; an SD that is too large for any mean gives 0.5, the mean with the largest.
    """
    return np.interp(spread, *SPREAD_AND_MEAN)


def _rise_of_mean(spread: np.ndarray) -> np.ndarray:
    """Return the derivative of `mean_of_spread`."""
    spreads, means = SPREAD_AND_MEAN
    return np.interp(spread, spreads, np.gradient(means, spreads))


def _spread_and_mean() -> tuple[np.ndarray, np.ndarray]:
    """Return SD and mean of the fat fraction for ascending medians, as long as the SD rises."""
    normal = ndtri((np.arange(256) + 0.5) / 256)
    fractions = expit(np.linspace(-9, 0, 200)[:, None] + LOGIT_SD * normal)
    spread, mean = fractions.std(axis=1), fractions.mean(axis=1)
    rising = slice(int(spread.argmax()) + 1)
    return np.append(0, spread[rising]), np.append(0, mean[rising])


SPREAD_AND_MEAN = _spread_and_mean()
