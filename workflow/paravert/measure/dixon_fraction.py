"""Fat fraction of Dixon images, fat / (fat + water), with its noise floor, and swaps of fat and water.

Noise: in magnitude images the mean signal of pure noise is 1.25 times its SD. So the fat fraction of lean
muscle, whose fat signal is noise, would be too high: by .02 in the psoas of phantoms with an SNR of 25
to 35. The SD of the noise is measured in air, and each pixel is replaced, before the sum, by a function
of its signal whose mean is close to the true signal: the bias is at most .34 SD (where the true signal is
0), and .11 SD from half an SD on; without this correction, 1.25 and .83. Images with too little
noisy air, such as masked ones, are not corrected (`noise_sd`).

Not corrected: T1 (water, whose T1 is longer, is too dark at short repetition times and high flip
angles: fat is overestimated), T2* (water and fat decay at different rates: the error grows with the echo
time), the spectrum of fat with its several peaks. A scanner that scales the two images differently is
not detected. Source: Dixon 1984; Reeder 2012 on the confounders.
"""

from dataclasses import dataclass

import numpy as np

from paravert.anatomy import LABELS, SIDES
from paravert.imaging.label_maps import slice_pixels
from paravert.measure.fat_domain import layers, rays_behind, smoothed
from paravert.measure.labelled_stack import inner_pixels
from paravert.tables import ABSENT, NO_DIXON

SINGLE_VALUE = "single-value"  # reason codes
FAT_WATER_SWAPPED = "fat-water-swapped"

BLOCK = 16  # pixels along the sides of the squares in which air is looked for
FEWEST_BLOCKS = 20
# Square of the mean over the mean square: pi / 4 = .785 of noise (Rayleigh), with an SD of .008 in a
# block of 256 pixels; more of a signal, less of an edge or of a mask that cuts the block.
NOISE_RATIO = (0.74, 0.82)
SAME_POWER = 1.5  # of noise in water and in fat
SPREAD_POWER = 2.0  # of noise over the image, at most; brighter blocks are ghosts or tissue
# Power of noise, of that of tissue, at most. Tissue whose fat fraction varies evenly within a block is
# distributed as noise in both images: from .36 on in phantoms; noise up to .02 at an SNR of 12.
TISSUE_PERCENTILE, MOST_OF_TISSUE = 90, 0.1
# By magnitude 0, 1, 2, 3, 4 in SD of noise: the signal that stands for it. Least squares of the bias over
# true signals of 0 to 8 SD plus .01 times the variance; from 4 SD on the root of M2 - 1 (Gudbjartsson
# 1995). Single pixels become noisier (1.4 SD instead of .65 where there is no signal), means unbiased.
STANDS_FOR = (-2.5, -0.24, 2.37, 2.6, 15**0.5)
FEWEST_COLUMNS = 8  # of a side in a slice that show fat behind the muscles
CLEAR_SWAP = 0.3  # difference of the layers' fat fraction and water fraction, -1 to 1


def noise_sd(water: np.ndarray, fat: np.ndarray) -> float:
    """Return the SD of the noise in the water and fat images of a Dixon scan; 0 if not measurable.

    water, fat: magnitude images, (slices, rows, columns), in units of signal, as the result. The SD
    is that of the real or imaginary channel. It is measured in air: blocks of 16 x 16 pixels, of all
    slices, whose values are distributed as noise (Rayleigh) in both images, with powers (mean squares)
    that differ by less than a factor of 1.5 and are, together, at most a tenth of the 90th percentile over
    all blocks. Of these it takes the blocks whose power, the mean of both images, is at most twice the
    10th percentile, and returns sqrt(median power / 2). 0 if fewer than 20 blocks are left.
    """
    if min(water.shape[1:]) < BLOCK:
        return 0.0
    powers, ratios = zip(*(_block_moments(part) for part in (water, fat)), strict=True)
    one, other = powers
    low, high = NOISE_RATIO
    air = (np.array(ratios) > low).all(axis=0) & (np.array(ratios) < high).all(axis=0)
    air &= (one < SAME_POWER * other) & (other < SAME_POWER * one)
    air &= one + other <= MOST_OF_TISSUE * np.percentile(one + other, TISSUE_PERCENTILE)
    if air.sum() < FEWEST_BLOCKS:
        return 0.0
    power = (one + other)[air] / 2
    power = power[power <= SPREAD_POWER * np.percentile(power, 10)]
    return float(np.sqrt(np.median(power) / 2)) if len(power) >= FEWEST_BLOCKS else 0.0


def _block_moments(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return of each block the mean square, and the square of the mean over it; (blocks,) each."""
    slices, rows, columns = image.shape
    cut = image[:, : rows // BLOCK * BLOCK, : columns // BLOCK * BLOCK].astype(np.float64)
    blocks = cut.reshape(slices, rows // BLOCK, BLOCK, columns // BLOCK, BLOCK)
    mean, power = blocks.mean(axis=(2, 4)).ravel(), (blocks**2).mean(axis=(2, 4)).ravel()
    return power, np.divide(mean**2, power, out=np.zeros_like(power), where=power > 0)


def without_noise(image: np.ndarray, noise: float) -> np.ndarray:
    """Return a magnitude image without its noise floor, float64; it can be negative.

    image: any shape. noise: SD in the real or imaginary channel, from `noise_sd`; 0 leaves the
    image as it is. Each pixel is replaced by a function of its signal whose mean is close to the
    true signal: from 4 SD on sqrt(signal^2 - noise^2) (Gudbjartsson 1995), below by linear interpolation
    between -2.5, -0.24, 2.37, 2.6 and 3.87 SD for signals of 0, 1, 2, 3 and 4 SD (STANDS_FOR).
    """
    image = image.astype(np.float64)
    if noise == 0:
        return image
    magnitude = image / noise
    low = np.interp(magnitude, range(len(STANDS_FOR)), STANDS_FOR)
    high = np.sqrt(np.maximum(magnitude**2 - 1, 0))
    return noise * np.where(magnitude < len(STANDS_FOR) - 1, low, high)


def dixon_columns(
    water: np.ndarray, fat: np.ndarray, labels: np.ndarray, swapped: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Return the Dixon fat fraction of each muscle in each slice of a stack, as table columns.

    water, fat: magnitude images, (slices, rows, columns). labels: label map of that shape, 1 to 8
    as in anatomy.LABELS, 0 background. swapped: bool (slices, 2), sides (left, right) of slices in
    which fat and water are swapped; None: none. Returns {column: array (slices, 8)}, array column k
    for label value k + 1: fat_fraction_dixon, the sum of fat over the sum of fat and water (0 to
    1), both without their noise floor; eroded_dixon, the same without the muscle's outermost
    pixels, also NaN if no pixel or no signal is left; reason_dixon, None or why both are NaN, the
    first that applies: "absent" (no pixel in the slice), "fat-water-swapped", or "single-value"
    (sum of fat and water not above 0).
    """
    noise = noise_sd(water, fat)
    fat, water = without_noise(fat, noise), without_noise(water, noise)
    whole = _fractions(water, fat, labels)
    reason = np.where(np.isnan(whole), SINGLE_VALUE, None).astype(object)
    if swapped is not None:
        of_side = [SIDES.index(label.side) for label in LABELS]
        reason[swapped[:, of_side]] = FAT_WATER_SWAPPED
    reason[slice_pixels(labels) == 0] = ABSENT
    known = np.equal(reason, None)
    eroded = _fractions(water, fat, np.where(inner_pixels(labels), labels, 0))
    return {
        "fat_fraction_dixon": np.where(known, whole, np.nan),
        "eroded_dixon": np.where(known, eroded, np.nan),
        "reason_dixon": reason,
    }


def no_dixon_columns(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Return the columns of `dixon_columns` for a stack without Dixon images: all fat fractions NaN.

    labels: label map, (slices, rows, columns). Returns {column: array (slices, 8)}: fat_fraction_dixon
    and eroded_dixon, NaN; reason_dixon, "absent" for a muscle without pixels in the slice, otherwise
    "no-dixon".
    """
    absent = slice_pixels(labels) == 0
    unknown = np.full(absent.shape, np.nan)
    return {
        "fat_fraction_dixon": unknown,
        "eroded_dixon": unknown,
        "reason_dixon": np.where(absent, ABSENT, NO_DIXON).astype(object),
    }


def _fractions(water: np.ndarray, fat: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the fat fraction by slice and muscle, (slices, 8); NaN where there is no signal."""
    shown, total = _sums(fat, labels), _sums(fat + water, labels)
    share = np.divide(shown, total, out=np.full(total.shape, np.nan), where=total > 0)
    return np.clip(share, 0, 1)


def _sums(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the sum of values, (slices, rows, columns), by slice and muscle, (slices, 8)."""
    number, bins = len(labels), len(LABELS) + 1
    region = labels.astype(np.int64) + bins * np.arange(number)[:, None, None]
    sums = np.bincount(region.ravel(), weights=values.ravel(), minlength=bins * number)
    return sums.reshape(number, bins)[:, 1:]


# --- swaps ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Swaps:
    """Where a stack's Dixon images show fat as water and water as fat.

    sides: bool (slices, 2), whether the left (first column) and the right side of a slice are swapped.
    whole: whether some side of a slice has a clear layer behind the muscles (`find_swaps`), and all
    sides that have one are swapped; the two images can then be exchanged for the whole stack, even if
    `sides` is False somewhere.
    """

    sides: np.ndarray
    whole: bool

    @property
    def sentence(self) -> str | None:
        """A sentence on the swaps, for a warning (if `whole`: that they were turned back); None if there are none."""
        if self.whole:
            return "fat and water were swapped, and were turned back"
        if not self.sides.any():
            return None
        found = ", ".join(
            f"{side} in {count} of {len(self.sides)} slices"
            for side, count in zip(SIDES, self.sides.sum(axis=0), strict=True)
            if count
        )
        return (
            f"fat and water are swapped: {found}; expected fat behind the muscles in the fat image"
        )


def find_swaps(
    water: np.ndarray, fat: np.ndarray, labels: np.ndarray, spacing_mm: tuple[float, float]
) -> Swaps:
    """Return in which slices and sides of a stack fat and water are swapped in the Dixon images.

    water, fat: magnitude images, (slices, rows, columns), rows towards the back. labels: label map
    of that shape, 1 to 8 as in anatomy.LABELS. spacing_mm: distance between rows, and columns.

    Method: both images are averaged over about 5 mm along rows. In each image column, up to 40 mm
    behind the hindmost muscle pixel, each layer of 4 mm (thicker than skin) has its lowest value as
    its signal. The layer with most fat is compared with that with most water, by (fat - water) /
    (fat + water). A side is swapped if the median of this ratio over its columns is below -0.3 and
    below the ratio in its muscles. A side without a clear layer (median between -0.3 and 0.3 or, if
    negative, not below the ratio in its muscles, or fewer than 8 columns) gets the result of the
    same side in the nearest slice that has one; False if none has. A column belongs to the side of
    that hindmost pixel.
    """
    shares = np.full((len(labels), len(SIDES)), np.nan)
    for number, planes in enumerate(zip(water, fat, labels, strict=True)):
        shares[number] = _layer_shares(*planes, spacing_mm)
    clear = np.abs(shares) > CLEAR_SWAP
    swapped = np.zeros(shares.shape, dtype=bool)
    for side in range(len(SIDES)):
        seen = np.flatnonzero(clear[:, side])
        if seen.size:
            nearest = np.abs(np.arange(len(shares))[:, None] - seen).argmin(axis=1)
            swapped[:, side] = shares[seen[nearest], side] < 0
    whole = bool(clear.any()) and bool((shares[clear] < 0).all())
    return Swaps(swapped, whole)


def _layer_shares(
    water: np.ndarray, fat: np.ndarray, labels: np.ndarray, spacing_mm: tuple[float, float]
) -> list[float]:
    """Return by side the median over columns of (fat - water) / (fat + water) of the layers.

    NaN if too few columns show one, or if the layer looks swapped and the muscles do not.
    """
    fat, water = smoothed(fat, spacing_mm), smoothed(water, spacing_mm)
    fat_layers, water_layers = layers(fat, spacing_mm), layers(water, spacing_mm)
    differences: dict[str, list[float]] = {side: [] for side in SIDES}
    for column, last, behind in rays_behind(labels > 0, spacing_mm):
        most_fat = float(fat_layers[behind, column].max())
        most_water = float(water_layers[behind, column].max())
        if most_fat + most_water > 0:
            side = LABELS[labels[last, column] - 1].side
            differences[side].append((most_fat - most_water) / (most_fat + most_water))
    shares = []
    for side, found in differences.items():
        own = np.isin(labels, [label.value for label in LABELS if label.side == side])
        total = float((fat + water)[own].sum())
        muscles = float((fat - water)[own].sum()) / total if total > 0 else 0.0
        share = float(np.median(found)) if len(found) >= FEWEST_COLUMNS else np.nan
        shares.append(np.nan if muscles <= share < 0 else share)
    return shares
