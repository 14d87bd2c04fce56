"""On which images a fat fraction can be computed from a single contrast: the domain of the methods.

These methods take bright pixels of a muscle for fat. Their numbers are wrong, and do not show it,
where fat is dark (Dixon water, STIR, fat suppression), where pixels of half fat are darker than
either tissue (opposed phase), and where fat and muscle differ by little more than noise. Each stack
is therefore checked first, by the class of the sequence in the header and by the pixels; outside
the domain the fat fraction is null by every one of them, with the reason.

| method | sequences | contrast of fat to muscle, SD of muscle | separability | and |
|---|---|---|---|---|
| otsu_subject, otsu_muscle, otsu_muscle_slice | T1, T2, PD, in-phase, dixon-fat, unknown | at least 3; where no fat is to be seen behind the muscles, the header must name the sequence | no bound | two different values |
| otsu_image | the same | the same | no bound | threshold at least 1 SD above muscle |
| linear | the same | the same, and at least 4 at every muscle pixel, of its own references | none | 50 pixels of lean muscle and of fat beside the muscles |
| linear_spread | the same | the same, of its own references | none | the same, and 50 inner pixels of a muscle in one slice |

Otsu's separability has no bound because it does not discriminate: .51 to .70 over the pooled muscles of
ordinary images, .54 to .70 where fat is dark. Measured by `tests/benchmark/fat_contrast.py`, whose
table is in `docs/fat_domain.md`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, minimum_filter1d, uniform_filter1d

from paravert.anatomy import LABELS
from paravert.measure.labelled_stack import inner_pixels
from paravert.tables import (
    DIXON_WATER,
    FAT_SUPPRESSED,
    HEADER,
    OPPOSED_PHASE,
    PD,
    PIXELS,
    STIR,
    T1,
    T2,
    UNKNOWN,
)

FAT_NOT_BRIGHT, LOW_CONTRAST = "fat-not-bright", "low-contrast"  # reason codes
NO_FAT_REFERENCE = "no-fat-reference"

FAT_DARK = (STIR, FAT_SUPPRESSED, DIXON_WATER)
SPIN_ECHO = (T1, T2, PD)  # never in opposed phase

# Contrast of fat to muscle in SD of muscle: ordinary images 4.5 to 172, dark fat at most 0.0.
DARK, LEAST_CONTRAST = 1.0, 3.0
# Skewness of the muscles' own texture: ordinary images .06 and above, opposed phase of a real scan
# -.21, of phantoms -.20 to .16: for the fattiest muscles only the header tells.
OPPOSED_SKEWNESS = -0.08

BACK_VALUES = [label.value for label in LABELS if label.muscle in ("erector_spinae", "multifidus")]
REACH_MM = 40.0  # searched for fat behind the hindmost muscle
LAYER_MM, ACROSS_MM = 4.0, 5.0  # a layer of fat, along and across the ray; skin is thinner
FEWEST_RAYS, FEWEST_PIXELS = 20, 50
TEXTURE_MM = 4.0  # SD of the Gaussian that separates texture from shading
TAIL_PERCENT = 1.0
NEAR_SD, FAR_SD = 1.2816, 2.3263  # of a normal distribution: 10th and 1st percentile below its mean
GREATEST_CONTRAST = 1000.0


@dataclass(frozen=True)
class FatContrast:
    """How bright fat is in a stack; both values NaN if too few pixels show muscle or fat.

    contrast: signal of the subcutaneous fat behind the muscles minus that of lean muscle, in SD of
    lean muscle, -1000 to 1000; below 0 where fat is darker than muscle. skewness: of the muscles'
    texture (signal minus its local mean), (P99 + P1 - 2 P50) / (P99 - P1) by percentiles, -1 to 1;
    above 0 where fat between the fibres is bright.
    """

    contrast: float
    skewness: float


NOT_SEEN = FatContrast(float("nan"), float("nan"))


@dataclass(frozen=True)
class Domain:
    """The sequence that a stack was taken with, and whether a fat fraction can be computed from it.

    sequence: one of tables.SEQUENCES. source: what decided, tables.HEADER or tables.PIXELS (also
    where fat is to be seen and the sequence stays "unknown"); None if neither did. reason: why
    there is no fat fraction, "fat-not-bright", "low-contrast" or "no-fat-reference"; None if the
    methods may compute one. differs: whether header and pixels disagree on the sequence.
    """

    sequence: str
    source: str | None
    reason: str | None = None
    differs: bool = False


def domain_of(header: str, seen: FatContrast) -> Domain:
    """Return the sequence of a stack, and whether a fat fraction can be computed from it.

    header: class of the sequence by the image header, one of tables.SEQUENCES. seen: brightness of
    fat in the pixels. Sequence and reason (None: methods may compute a fat fraction) are of the
    first case that applies:
    - seen is NaN: header; "no-fat-reference" if it is unknown, "fat-not-bright" if it is opposed
      phase or in FAT_DARK (STIR, fat suppression, Dixon water), else None
    - header is opposed phase, or in FAT_DARK with contrast below 3: header, "fat-not-bright"
    - contrast below 1: fat suppression, "fat-not-bright"; below 3: header, "low-contrast"
    - skewness below -0.08, header not T1, T2 or PD: opposed phase, "fat-not-bright"
    - header in FAT_DARK: unknown, None; any other: header, None
    """
    if np.isnan(seen.contrast):
        if header == UNKNOWN:
            return Domain(UNKNOWN, None, NO_FAT_REFERENCE)
        dark = header in FAT_DARK or header == OPPOSED_PHASE
        return Domain(header, HEADER, FAT_NOT_BRIGHT if dark else None)
    if header in FAT_DARK and seen.contrast < LEAST_CONTRAST:
        return Domain(header, HEADER, FAT_NOT_BRIGHT)
    if header == OPPOSED_PHASE:
        return Domain(header, HEADER, FAT_NOT_BRIGHT)
    if seen.contrast < DARK:
        return Domain(FAT_SUPPRESSED, PIXELS, FAT_NOT_BRIGHT, differs=header != UNKNOWN)
    source = PIXELS if header == UNKNOWN else HEADER
    if seen.contrast < LEAST_CONTRAST:
        return Domain(header, source, LOW_CONTRAST)
    if seen.skewness < OPPOSED_SKEWNESS and header not in SPIN_ECHO:
        return Domain(OPPOSED_PHASE, PIXELS, FAT_NOT_BRIGHT, differs=header != UNKNOWN)
    if header in FAT_DARK:
        return Domain(UNKNOWN, PIXELS, differs=True)
    return Domain(header, source)


def contrast_sentence(header: str, seen: FatContrast, domain: Domain) -> str:
    """Return a sentence on the sequence by header and pixels and on the contrast of fat, for a warning.

    header: class of the sequence by the image header, one of tables.SEQUENCES. seen: brightness of fat
    in the pixels. domain: from `domain_of` for these two.
    """
    names = f"sequence {header} by the header"
    if domain.sequence != header:
        names += f", {domain.sequence} by the pixels"
    if np.isnan(seen.contrast):
        return f"{names}; no fat is to be seen behind the muscles"
    found = f"fat minus muscle is {seen.contrast:.1f} SD of muscle, expected at least {LEAST_CONTRAST:g}"
    if domain.sequence == OPPOSED_PHASE:
        found += ", and fat and water in phase"
    return f"{names}; {found}"


# --- what the pixels tell -------------------------------------------------------------------------


def fat_contrast(
    image: np.ndarray, labels: np.ndarray, spacing_mm: tuple[float, float]
) -> FatContrast:
    """Return how much brighter than muscle the fat behind it is, and skewness of muscle texture.

    image: (slices, rows, columns), rows towards the back. labels: label map of that shape. spacing_mm:
    distance between rows, and between columns. Fat: in each image column, the brightest layer of 4 mm
    within 40 mm behind the hindmost muscle pixel, by its lowest signal (`layers`) in the `smoothed`
    slice; the median over the columns of all slices. Muscle: `lean_muscle` (mean and SD from the darker
    pixels) of erector spinae and multifidus without their outermost pixels; of all muscles if fewer
    than 50 pixels are left. Returns NOT_SEEN, with NaN, if all slices together have fewer than 50 such
    pixels of all muscles, or fewer than 20 columns in which a pixel behind the muscles is brighter than
    the lowest value of the image.
    """
    muscle = labels > 0
    inner = inner_pixels(labels)
    deep = inner & np.isin(labels, BACK_VALUES)
    deep = deep if deep.sum() >= FEWEST_PIXELS else inner
    if deep.sum() < FEWEST_PIXELS:
        return NOT_SEEN
    lean, spread = lean_muscle(image[deep])
    fat = _fat_behind(image, muscle, spacing_mm)
    if fat is None:
        return NOT_SEEN
    reach = fat - lean
    contrast = reach / max(spread, abs(reach) / GREATEST_CONTRAST) if reach else 0.0
    return FatContrast(contrast, _skewness(image, muscle, inner, spacing_mm))


def lean_muscle(signal: np.ndarray) -> tuple[float, float]:
    """Return mean and SD of the signal of lean muscle, estimated from all pixels of muscles.

    signal: (pixels,), one at least. Returned are mean and SD of the normal distribution that has
    the same 1st and 10th percentile as the signal. Brighter pixels are not used: they may be fat,
    which in old people can be more than half of multifidus.
    """
    far, near = np.percentile(signal, [1, 10]).tolist()
    spread = (near - far) / (FAR_SD - NEAR_SD)
    return near + NEAR_SD * spread, spread


def _fat_behind(
    image: np.ndarray, muscle: np.ndarray, spacing_mm: tuple[float, float]
) -> float | None:
    """Return the signal of the brightest layer behind the muscles; None if too few columns show one.

    Columns in which everything behind the muscle has the lowest value of the image, as after
    masking, do not count.
    """
    lowest, brightest = image.min(), []
    for plane, own in zip(image, muscle, strict=True):
        if own.any():
            thinnest = layers(smoothed(plane, spacing_mm), spacing_mm)
            brightest += [
                thinnest[behind, column].max()
                for column, _, behind in rays_behind(own, spacing_mm)
                if plane[behind, column].max() > lowest
            ]
    return float(np.median(brightest)) if len(brightest) >= FEWEST_RAYS else None


def smoothed(plane: np.ndarray, spacing_mm: tuple[float, float]) -> np.ndarray:
    """Return a slice averaged over about 5 mm (ACROSS_MM) along its rows, float32 (rows, columns).

    plane: (rows, columns). spacing_mm: distance between rows, and between columns.
    """
    width = max(1, round(ACROSS_MM / spacing_mm[1]))
    return uniform_filter1d(plane.astype(np.float32), width, axis=1)


def layers(plane: np.ndarray, spacing_mm: tuple[float, float]) -> np.ndarray:
    """Return the lowest signal in a layer of about 4 mm (LAYER_MM) at each pixel, (rows, columns).

    It is high only in a bright layer that is at least as thick. plane: (rows, columns); the
    thickness is measured along a column. spacing_mm: distance between rows, and between columns.
    """
    return minimum_filter1d(plane, _layer_rows(spacing_mm), axis=0)


def _layer_rows(spacing_mm: tuple[float, float]) -> int:
    return max(1, round(LAYER_MM / spacing_mm[0]))


def rays_behind(
    muscle: np.ndarray, spacing_mm: tuple[float, float]
) -> Iterator[tuple[int, int, slice]]:
    """Yield in which pixels fat is searched behind the muscles of a slice, one tuple per column.

    muscle: bool (rows, columns), rows towards the back. spacing_mm: distance between rows, and
    between columns. Tuples (column, row, rows behind): row of the hindmost muscle pixel of the
    column; slice of the rows at most 40 mm (REACH_MM) behind it in which a layer of 4 mm can be
    centred. Columns without muscle, or without such rows, are left out.
    """
    layer = _layer_rows(spacing_mm)
    reach = max(layer, round(REACH_MM / spacing_mm[0]))
    rows, columns = len(muscle), np.flatnonzero(muscle.any(axis=0))
    hindmost = rows - 1 - muscle[::-1, columns].argmax(axis=0)
    for column, last in zip(columns, hindmost, strict=True):
        first, end = last + 1 + layer // 2, min(rows - layer // 2, last + reach)
        if end > first:
            yield column, last, slice(first, end)


def _skewness(
    image: np.ndarray, muscle: np.ndarray, inner: np.ndarray, spacing_mm: tuple[float, float]
) -> float:
    """Return the skewness of the muscles' texture by its tails, -1 to 1.

    Texture: signal minus its local mean over the muscles, which takes out the shading of the coil.
    """
    sigma = [TEXTURE_MM / spacing for spacing in spacing_mm]
    texture = []
    for plane, own, kept in zip(image, muscle, inner, strict=True):
        if kept.any():
            weight = gaussian_filter(own.astype(np.float32), sigma)
            total = gaussian_filter(np.where(own, plane, 0).astype(np.float32), sigma)
            texture.append(plane[kept] - total[kept] / weight[kept])
    low, middle, high = np.percentile(
        np.concatenate(texture), [TAIL_PERCENT, 50, 100 - TAIL_PERCENT]
    )
    return float((high + low - 2 * middle) / (high - low)) if high > low else 0.0
