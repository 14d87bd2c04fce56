"""Fat fraction of each muscle in each slice, by every method.

Dixon images of water and fat give it directly (`dixon`). All other methods see one image and assume that
brighter pixels are fat: T1- or T2-weighted images without fat suppression. Stacks of which this does not
hold have no fat fraction by these methods; `fat_domain` says which.
A number from a single contrast is a fat index: it rises with the fraction of fat, but is not measured
from fat and water. The paper attributes each voxel "to either fat or lean tissue" by Otsu's threshold and
does not say over which pixels it is computed (its scope); here the name of each method says so. Otsu's
method returns two classes, but most fat of a muscle is in pixels that hold fat and muscle: its
errors in one muscle depend on the fat of the others. The default is `linear_spread` without the
outermost pixels of a muscle (docs/fat_estimators.md).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from paravert import shards
from paravert.anatomy import LABELS
from paravert.errors import Caution, some_of
from paravert.imaging.label_maps import slice_pixels
from paravert.imaging.volume import blank_slices, read_volume
from paravert.measure.dixon_fraction import (
    FAT_WATER_SWAPPED,
    SINGLE_VALUE,
    Swaps,
    dixon_columns,
    find_swaps,
    no_dixon_columns,
)
from paravert.measure.fat_domain import (
    LOW_CONTRAST,
    contrast_sentence,
    domain_of,
    fat_contrast,
    lean_muscle,
)
from paravert.measure.labelled_stack import (
    LabelledStack,
    OutTable,
    SegmentTable,
    SubjectsFolder,
    Workers,
    inner_pixels,
    read_image,
    read_labelled_stacks,
    stack_rows,
    with_unknown,
)
from paravert.measure.lean_reference import lean_reference
from paravert.measure.linear import (
    Indices,
    NoReference,
    fraction_between,
    nonzero_indices,
    reference_surfaces,
)
from paravert.measure.otsu import otsu_split
from paravert.subject_folder import WATER_FOLDER, SubjectFolder
from paravert.tables import (
    ABSENT,
    ALL_FAT_METHODS,
    ERODED,
    FAT_COLUMNS,
    OTSU_METHODS,
    SEPARABILITY_COLUMNS,
)

REASONS = tuple(f"reason_{method}" for method in ALL_FAT_METHODS)
# Of otsu_image, in SD of muscle: in PD, in-phase and real T1 images its threshold separates air from
# tissue, and .3 to .99 of a muscle would be fat.
LEAST_ABOVE_MUSCLE = 1.0
MOST_TOLD = 3  # stacks that a message describes


def fat_fractions(
    images: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    spacings_mm: Sequence[tuple[float, float]],
    outside: Sequence[str | None] | None = None,
) -> dict[str, np.ndarray]:
    """Return the fat fraction of all muscles of one subject by every method of tables.FAT_METHODS.

    Methods: Otsu's threshold over the muscle pixels of the subject (otsu_subject), of a muscle and
    side (otsu_muscle), of one slice of it (otsu_muscle_slice), or over all pixels of all images
    (otsu_image); linear scale between lean muscle and fat of each stack (linear, and linear_spread,
    which corrects lean for its fat). images, labels: image and label map (1 to 8 as in
    anatomy.LABELS, 0 background) of each stack, (slices, rows, columns); one stack at least.
    spacings_mm: per stack, distance between rows and between columns. outside: per stack, the
    reason code why no method applies (such as "fat-not-bright"), or None if they apply; no method
    uses the pixels of such a stack. None instead of a sequence: they apply to all.

    Returns {column: array (slices of all stacks, 8)}, array column k for label value k + 1:

        fat_fraction_<method>  fraction of fat, 0-1; NaN with a reason
        reason_<method>        None, or why it is NaN: absent (no pixel in the slice), the reason in
                               `outside`, single-value (Otsu: all pixels of its scope are equal),
                               low-contrast (otsu_image: threshold less than 1 SD above muscle),
                               no-lean-reference, no-fat-reference (linear methods, whole stack:
                               too few pixels or contrast)
        eroded_<method>        the same without the muscle's outermost pixels; also NaN, without a
                               reason, if no pixel is left
        separability_<method>  of the Otsu methods only: variance between the two classes over total
                               variance, 0-1; NaN if the fat fraction is
    """
    if outside is not None and any(outside):
        return _partly_outside(images, labels, spacings_mm, outside)
    indices = [nonzero_indices(stack) for stack in labels]
    pixels = _group_muscle_pixels(images, labels, indices)
    absent = pixels.counts.T == 0
    columns = {}
    for method in OTSU_METHODS:
        columns |= _otsu_columns(method, pixels, images, absent)
    stacks = zip(images, labels, spacings_mm, indices, strict=True)
    return columns | _linear_columns(pixels, stacks, absent)


def _partly_outside(
    images: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    spacings_mm: Sequence[tuple[float, float]],
    outside: Sequence[str | None],
) -> dict[str, np.ndarray]:
    """Return the columns of `fat_fractions` where some stack is outside the domain."""
    inside = [number for number, reason in enumerate(outside) if reason is None]
    known = (
        fat_fractions(
            *([parts[number] for number in inside] for parts in (images, labels, spacings_mm))
        )
        if inside
        else {}
    )
    sizes = [len(stack) for stack in labels]
    rows = np.repeat([reason is None for reason in outside], sizes)
    reason = np.concatenate([_outside_reasons(*pair) for pair in zip(labels, outside, strict=True)])
    columns = {}
    for column in (*FAT_COLUMNS, *SEPARABILITY_COLUMNS):
        name = column.name
        whole = reason.copy() if name.startswith("reason_") else np.full(reason.shape, np.nan)
        if inside:
            whole[rows] = known[name]
        columns[name] = whole
    return columns


def _outside_reasons(labels: np.ndarray, reason: str | None) -> np.ndarray:
    """Return the reason of each slice and muscle of a stack, (slices, 8): "absent" comes first."""
    return np.where(slice_pixels(labels) == 0, ABSENT, reason).astype(object)


# --- pixels by region -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _GroupedPixels:
    """The muscle pixels of all stacks of a subject, sorted by muscle and side, then by slice.

    A region is one muscle and side in one slice; slices are numbered through all stacks.

        signal  (pixels,), image values
        inner   (pixels,) bool, as from `inner_pixels`
        order   (pixels,) int, place of each pixel before sorting: stack by stack, as np.nonzero(labels)
        counts  (8, slices) int, pixels per region; row k for label value k + 1
    """

    signal: np.ndarray
    inner: np.ndarray
    order: np.ndarray
    counts: np.ndarray

    def region_means(self, values: np.ndarray, within: np.ndarray | None = None) -> np.ndarray:
        """Return the mean of a value per pixel over each muscle side in each slice, float (slices, 8).

        values: (pixels,), numbers or booleans, in the order of `signal`. within: (pixels,) bool,
        which pixels are averaged; None: all. Column k is for label value k + 1; NaN without pixels.
        """
        total = self._region_sums(values if within is None else values * within)
        size = self.counts.ravel() if within is None else self._region_sums(within)
        mean = np.divide(total, size, out=np.full(size.shape, np.nan), where=size > 0)
        return mean.reshape(self.counts.shape).T

    def _region_sums(self, values: np.ndarray) -> np.ndarray:
        """Return the sum over each region, (8 * slices,), of a value per pixel, (pixels,)."""
        counts = self.counts.ravel()
        filled = counts > 0  # reduceat cannot sum an empty region
        sums = np.zeros(counts.size)
        if filled.any():
            starts = counts[filled].cumsum() - counts[filled]
            sums[filled] = np.add.reduceat(values, starts, dtype=np.float64)
        return sums

    def per_pixel(self, by_region: np.ndarray) -> np.ndarray:
        """Return a value per region as a value per pixel, (pixels,), in the order of `signal`.

        by_region: a value per muscle side and slice, (8, slices); row k for label value k + 1.
        """
        return np.repeat(by_region.ravel(), self.counts.ravel())


def _group_muscle_pixels(
    images: Sequence[np.ndarray], labels: Sequence[np.ndarray], indices: Sequence[tuple]
) -> _GroupedPixels:
    """Return the muscle pixels of all stacks of a subject, sorted by muscle and side, then by slice.

    images, labels: image and label map (1 to 8 as in anatomy.LABELS, 0 background) of each stack,
    (slices, rows, columns). indices: np.nonzero(labels) of each stack.
    """
    slices = sum(len(stack) for stack in labels)
    signal, inner, region, first = [], [], [], 0
    for image, stack, own in zip(images, labels, indices, strict=True):
        value = stack[own].astype(np.int64)
        signal.append(image[own])
        inner.append(inner_pixels(stack)[own])
        region.append((value - 1) * slices + first + own[0])
        first += len(stack)
    region = np.concatenate(region)
    order = np.argsort(region, kind="stable")
    counts = np.bincount(region, minlength=len(LABELS) * slices).reshape(len(LABELS), slices)
    return _GroupedPixels(
        np.concatenate(signal)[order], np.concatenate(inner)[order], order, counts
    )


# --- Otsu, by scope ------------------------------------------------------------------------------


def _otsu_columns(
    method: str, pixels: _GroupedPixels, images: Sequence[np.ndarray], absent: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the columns of one Otsu method. absent: (slices, 8) bool, muscles without a pixel."""
    splits = [otsu_split(part) for part in _scopes(method, pixels, images)]
    threshold, separability = (
        np.broadcast_to(np.reshape(values, (min(len(splits), len(LABELS)), -1)), absent.T.shape)
        for values in zip(*((split.threshold, split.separability) for split in splits), strict=True)
    )
    reason = np.where(np.isnan(threshold.T), SINGLE_VALUE, None)
    if method == "otsu_image" and pixels.signal.size:
        reason = np.where(_brightest_muscle(pixels.signal) > threshold.T, LOW_CONTRAST, reason)
    fat = pixels.signal > pixels.per_pixel(threshold)
    columns = _columns(method, pixels, fat, reason, absent)
    known = ~np.isnan(columns[f"fat_fraction_{method}"])
    return columns | {f"separability_{method}": np.where(known, separability.T, np.nan)}


def _brightest_muscle(signal: np.ndarray) -> float:
    """Return the signal above which a threshold over whole images separates fat from muscle.

    signal: of all muscle pixels, (pixels,). Below, the threshold separates tissue from air.
    """
    lean, spread = lean_muscle(signal)
    return lean + LEAST_ABOVE_MUSCLE * spread


def _scopes(method: str, pixels: _GroupedPixels, images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the signal in each scope of a method, (pixels,) each: by muscle and side, then slice."""
    match method:
        case "otsu_image":
            return [np.concatenate([image.ravel() for image in images])]
        case "otsu_subject":
            return [pixels.signal]
        case "otsu_muscle":
            sizes = pixels.counts.sum(axis=1)
        case "otsu_muscle_slice":
            sizes = pixels.counts.ravel()
    return np.split(pixels.signal, sizes.cumsum()[:-1])


# --- between lean muscle and fat -----------------------------------------------------------------


def _linear_columns(
    pixels: _GroupedPixels,
    stacks: Iterable[tuple[np.ndarray, np.ndarray, tuple[float, float], Indices]],
    absent: np.ndarray,
) -> dict[str, np.ndarray]:
    """Return the columns of the methods `linear` and `linear_spread`.

    stacks: image, labels, spacing and np.nonzero(labels) of each stack. absent: (slices, 8) bool,
    muscles without a pixel.
    """
    fat, reasons = {}, {}
    for image, labels, spacing_mm, indices in stacks:
        for method, found in _between_references(image, labels, spacing_mm, indices).items():
            refused = isinstance(found, str)
            fat.setdefault(method, []).append(
                np.full(indices[0].size, np.nan) if refused else found
            )
            reasons.setdefault(method, []).extend([[found if refused else None]] * len(labels))
    columns = {}
    for method, parts in fat.items():
        ordered = np.concatenate(parts)[pixels.order]
        reason = np.array(reasons[method], dtype=object)
        columns |= _columns(method, pixels, ordered, reason, absent)
    return columns


def _between_references(
    image: np.ndarray, labels: np.ndarray, spacing_mm: tuple[float, float], indices: Indices
) -> dict[str, np.ndarray | str]:
    """Return the fat fraction of each pixel by both linear methods, or why there is none.

    Pixels of `linear_spread` may be negative by noise, so that means over pixels are not too high.
    """
    found: dict[str, np.ndarray | str] = {}
    try:
        lean, fat = reference_surfaces(image, labels, spacing_mm)
    except NoReference as missing:
        return dict.fromkeys(("linear", "linear_spread"), missing.reason)
    try:
        found["linear"] = np.clip(fraction_between(lean, fat, image, indices), 0, 1)
    except NoReference as missing:
        found["linear"] = missing.reason
    try:
        corrected = lean_reference(image, labels, fat)
        found["linear_spread"] = np.minimum(fraction_between(corrected, fat, image, indices), 1)
    except NoReference as missing:
        found["linear_spread"] = missing.reason
    return found


def _columns(
    method: str, pixels: _GroupedPixels, fat: np.ndarray, reason: np.ndarray, absent: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the columns of a method, by name.

    fat: (pixels,), flag or fraction. reason: reason code or None, broadcastable to (slices, 8).
    absent: (slices, 8) bool.
    """
    reason = np.where(absent, ABSENT, reason)
    known = np.equal(reason, None)
    whole, eroded = (
        np.where(known, np.maximum(pixels.region_means(fat, within), 0), np.nan)
        for within in (None, pixels.inner)
    )
    return {
        f"fat_fraction_{method}": whole,
        f"{ERODED}{method}": eroded,
        f"reason_{method}": reason,
    }


# --- the step ------------------------------------------------------------------------------------


def measure_fat(
    segment: SegmentTable, folder: SubjectsFolder, out: OutTable, workers: Workers = 1
) -> None:
    """Measure the fat fraction of every muscle in every slice, by every method.

    Writes the shard's table `fat` (tables.FAT): a row per subject, stack, slice, muscle and side, with
    a fat fraction (0-1) per method, or the reason why there is none. A blank slice (a single value) has
    none ("single-value"), whatever its labels, and no pixel of it is a reference; with Dixon images, method
    `dixon`, one in which water or fat is blank. Parameters and errors: as of `shards.work_after`, whose
    shard_table is `segment`.
    """
    do = partial(_measure_subject, folder)
    shards.work_after(segment, "measure_fat", do, folder=folder, out=out, workers=workers)


def _measure_subject(folder: Path, task: shards.Task, scratch: Path) -> shards.Product:
    home = folder / task.subject
    stacks = read_labelled_stacks(home)
    images = [read_image(home, stack.number) for stack in stacks]
    shown = [_without_blank(stack, image) for stack, image in zip(stacks, images, strict=True)]
    sequences, outside, warnings, notes, dixon = [], [], set(), [], []
    for stack, seen, image in zip(stacks, shown, images, strict=True):
        own_columns, swaps = _dixon_of(home, stack)
        dixon.append(own_columns)
        found, reason, own_warnings, note = _sequence_of(seen, image)
        if swaps is not None:  # the warnings on a single image do not apply to Dixon images
            own_warnings &= {Caution.SEQUENCE_DIFFERS_FROM_HEADER}
            if swaps.sentence:
                own_warnings, note = {Caution.FAT_WATER_SWAPPED}, swaps.sentence
            if swaps.sides.any() and not swaps.whole:
                reason = FAT_WATER_SWAPPED
        sequences.append(found)
        outside.append(reason)
        warnings |= own_warnings
        notes += [f"stack {stack.number}: {note}"] if own_warnings else []
    columns = fat_fractions(
        images,
        [stack.labels for stack in shown],
        [stack.spacing_mm for stack in stacks],
        outside,
    )
    columns |= {name: np.concatenate([part[name] for part in dixon]) for name in dixon[0]}
    there = np.concatenate([slice_pixels(stack.labels) > 0 for stack in stacks])
    for name in REASONS:  # absent although it has pixels: in a blank slice
        columns[name] = np.where(there & (columns[name] == ABSENT), SINGLE_VALUE, columns[name])
    rows, first = [], 0
    for stack, found in zip(stacks, sequences, strict=True):
        own = slice(first, first + len(stack.labels))
        of_stack = stack_rows(stack.number, {name: column[own] for name, column in columns.items()})
        rows += [row | found for row in with_unknown(of_stack, stack, (), REASONS)]
        first = own.stop
    return shards.Product(rows, tuple(sorted(warnings)), some_of(notes, MOST_TOLD) or None)


def _without_blank(stack: LabelledStack, *images: np.ndarray) -> LabelledStack:
    """Return a stack without labels in slices in which one of the images has a single value."""
    blank = np.any([blank_slices(image) for image in images], axis=0)
    return replace(stack, labels=stack.labels * ~blank[:, None, None])


def _dixon_of(home: Path, stack: LabelledStack) -> tuple[dict[str, np.ndarray], Swaps | None]:
    """Return the columns of the method `dixon` of a stack, and swaps; None without Dixon images."""
    folder = SubjectFolder(home)
    water_file = folder.stack_file(WATER_FOLDER, stack.number)
    if not water_file.is_file():
        return no_dixon_columns(stack.labels), None
    water, fat = (read_volume(file).array for file in (water_file, folder.fat_file(stack.number)))
    stack = _without_blank(stack, water, fat)
    swaps = find_swaps(water, fat, stack.labels, stack.spacing_mm)
    if swaps.whole:
        return dixon_columns(fat, water, stack.labels), swaps
    return dixon_columns(water, fat, stack.labels, swaps.sides), swaps


def _sequence_of(
    stack: LabelledStack, image: np.ndarray
) -> tuple[dict, str | None, set[Caution], str]:
    """Return of a stack: SEQUENCE_COLUMNS, why it has no fat fraction, warnings, and a sentence."""
    seen = fat_contrast(image, stack.labels, stack.spacing_mm)
    domain = domain_of(stack.header_sequence, seen)
    found = {
        "sequence": domain.sequence,
        "sequence_source": domain.source,
        "fat_contrast": None if np.isnan(seen.contrast) else seen.contrast,
    }
    warnings = {Caution(domain.reason)} if domain.reason and stack.labels.any() else set()
    if domain.differs:
        warnings.add(Caution.SEQUENCE_DIFFERS_FROM_HEADER)
    return found, domain.reason, warnings, contrast_sentence(stack.header_sequence, seen, domain)
