"""Fat fraction of each muscle in each slice, by every method.

Every method takes brighter pixels for fat: valid for T1- and T2-weighted images without fat
suppression. The paper attributes each voxel "to either fat or lean tissue" by Otsu's threshold and
does not say over which pixels; here the method's name says over which (its scope). Otsu's method
always finds two classes: in a single lean muscle it splits the noise and reads about 0.5. So the
default is `otsu_subject`, over all muscle pixels of the subject (Wesselink 2024; own phantoms).
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from paravert import shards
from paravert.measure.labelled_stack import (
    OutTable,
    SegmentTable,
    SubjectsFolder,
    Workers,
    read_image,
    read_labelled_stacks,
    stack_rows,
)
from paravert.measure.linear import NoReference, linear_fractions
from paravert.measure.muscle_pixels import GroupedPixels, group_muscle_pixels, nonzero_indices
from paravert.measure.otsu import OtsuSplit, otsu_split
from paravert.tables import OTSU_METHODS

ABSENT, SINGLE_VALUE = "absent", "single-value"


def fat_fractions(
    images: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    spacings_mm: Sequence[tuple[float, float]],
) -> dict[str, np.ndarray]:
    """Return the fat fraction of one subject by every method of FAT_METHODS.

    images, labels: the subject's stacks, each (slices, rows, columns). spacings_mm: per stack,
    distance between rows and between columns.

    Returns columns of the table `fat`, each (slices of all stacks, 8), muscles as in LABELS:
    fat_fraction_<method>  share of fat, 0-1; NaN with a reason
    reason_<method>        None, absent (the muscle has no pixel in the slice), single-value (all
                           pixels in the scope are equal), no-lean-reference, no-fat-reference
    eroded_<method>        the same threshold or line over the muscle eroded by one pixel in plane;
                           NaN without a reason if no pixel is left
    separability_<otsu>    variance between the classes over total variance in the scope, 0-1; NaN
                           if the fat fraction is NaN
    """
    indices = [nonzero_indices(stack) for stack in labels]
    pixels = group_muscle_pixels(images, labels, indices)
    absent = pixels.counts.T == 0
    columns = {}
    for method in OTSU_METHODS:
        columns |= _otsu_columns(method, pixels, _SPLITS[method](pixels, images), absent)
    lines = [_linear(*stack) for stack in zip(images, labels, spacings_mm, indices, strict=True)]
    return columns | _linear_columns(pixels, lines, [len(stack) for stack in labels], absent)


# --- Otsu, by scope ------------------------------------------------------------------------------


def _splits_by_muscle_slice(pixels: GroupedPixels, images: Sequence[np.ndarray]) -> list[OtsuSplit]:
    return [otsu_split(part) for part in np.split(pixels.signal, pixels.counts.cumsum()[:-1])]


def _splits_by_muscle(pixels: GroupedPixels, images: Sequence[np.ndarray]) -> list[OtsuSplit]:
    ends = pixels.counts.sum(axis=1).cumsum()[:-1]
    splits = [otsu_split(part) for part in np.split(pixels.signal, ends)]
    return [split for split in splits for _ in range(pixels.counts.shape[1])]


def _splits_by_subject(pixels: GroupedPixels, images: Sequence[np.ndarray]) -> list[OtsuSplit]:
    return [otsu_split(pixels.signal)] * pixels.counts.size


def _splits_by_image(pixels: GroupedPixels, images: Sequence[np.ndarray]) -> list[OtsuSplit]:
    every_pixel = np.concatenate([image.ravel() for image in images])
    return [otsu_split(every_pixel)] * pixels.counts.size


# By method: the split of each region, muscle after muscle, slice after slice.
_SPLITS = {
    "otsu_muscle_slice": _splits_by_muscle_slice,
    "otsu_muscle": _splits_by_muscle,
    "otsu_subject": _splits_by_subject,
    "otsu_image": _splits_by_image,
}


def _otsu_columns(
    method: str, pixels: GroupedPixels, splits: list[OtsuSplit], absent: np.ndarray
) -> dict[str, np.ndarray]:
    threshold = np.array([split.threshold for split in splits]).reshape(pixels.counts.shape)
    separability = np.array([split.separability for split in splits]).reshape(pixels.counts.shape)
    reason = np.where(np.isnan(threshold.T), SINGLE_VALUE, None)
    fat = pixels.signal > pixels.per_pixel(threshold)
    columns = _columns(method, pixels, fat, reason, absent)
    known = ~np.isnan(columns[f"fat_fraction_{method}"])
    return columns | {f"separability_{method}": np.where(known, separability.T, np.nan)}


# --- between lean muscle and fat -----------------------------------------------------------------


def _linear(image, labels, spacing_mm, indices) -> tuple[np.ndarray, str | None]:
    """Return the fat fraction of each muscle pixel of a stack, and None; or NaN and the reason."""
    try:
        return linear_fractions(image, labels, spacing_mm, indices), None
    except NoReference as missing:
        return np.full(indices[0].size, np.nan), missing.reason


def _linear_columns(
    pixels: GroupedPixels,
    lines: list[tuple[np.ndarray, str | None]],
    slices_per_stack: list[int],
    absent: np.ndarray,
) -> dict[str, np.ndarray]:
    fat = np.concatenate([fraction for fraction, _ in lines])[pixels.order]
    reason = np.repeat(np.array([reason for _, reason in lines], dtype=object), slices_per_stack)
    return _columns("linear", pixels, fat, reason[:, None], absent)


def _columns(
    method: str, pixels: GroupedPixels, fat: np.ndarray, reason: np.ndarray, absent: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the columns of a method.

    fat: (pixels,), flag or fraction. reason of a null, or None, and absent: (slices, 8).
    """
    reason = np.where(absent, ABSENT, reason)
    known = np.equal(reason, None)
    return {
        f"fat_fraction_{method}": np.where(known, pixels.region_means(fat), np.nan),
        f"eroded_{method}": np.where(known, pixels.region_means(fat, pixels.inner), np.nan),
        f"reason_{method}": reason,
    }


# --- the step ------------------------------------------------------------------------------------


def measure_fat(
    segment: SegmentTable, folder: SubjectsFolder, out: OutTable, workers: Workers = 1
) -> None:
    """Measure the fat fraction of every muscle in every slice, by every method.

    Writes a row per subject, stack, slice, muscle and side.
    """
    do = partial(_measure_subject, folder)
    shards.work_after(segment, "measure_fat", do, folder=folder, out=out, workers=workers)


def _measure_subject(folder: Path, task: shards.Task, scratch: Path) -> shards.Product:
    home = folder / task.subject
    stacks = read_labelled_stacks(home)
    columns = fat_fractions(
        [read_image(home, stack.number) for stack in stacks],
        [stack.labels for stack in stacks],
        [stack.spacing_mm for stack in stacks],
    )
    rows, first = [], 0
    for stack in stacks:
        own = slice(first, first + len(stack.labels))
        rows += stack_rows(stack.number, {name: column[own] for name, column in columns.items()})
        first = own.stop
    return shards.Product(rows)
