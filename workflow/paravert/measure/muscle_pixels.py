"""All muscle pixels of one subject in one array, grouped by muscle, side and slice."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paravert.anatomy import LABELS


@dataclass(frozen=True)
class GroupedPixels:
    """The muscle pixels of all stacks of a subject, sorted by muscle and side, then by slice.

    A region is one muscle and side in one slice.

    signal: (pixels,).
    inner: (pixels,), whether the four neighbours in the slice belong to the same muscle.
    order: (pixels,), index of each pixel before sorting: stack after stack, as in np.nonzero(labels).
    counts: pixels per region, (8, slices of all stacks).
    """

    signal: np.ndarray
    inner: np.ndarray
    order: np.ndarray
    counts: np.ndarray

    def region_means(self, values: np.ndarray, within: np.ndarray | None = None) -> np.ndarray:
        """Return the mean of a value or flag per pixel in each region, (slices, 8).

        values: (pixels,). within: (pixels,), boolean; only these pixels count, all if None. NaN
        for a region without pixels.
        """
        total = self._region_sums(values if within is None else values * within)
        size = self.counts.ravel() if within is None else self._region_sums(within)
        mean = np.divide(total, size, out=np.full(size.shape, np.nan), where=size > 0)
        return mean.reshape(self.counts.shape).T

    def _region_sums(self, values: np.ndarray) -> np.ndarray:
        counts = self.counts.ravel()
        filled = counts > 0  # reduceat cannot sum an empty region
        sums = np.zeros(counts.size)
        if filled.any():
            starts = counts[filled].cumsum() - counts[filled]
            sums[filled] = np.add.reduceat(values, starts, dtype=np.float64)
        return sums

    def per_pixel(self, by_region: np.ndarray) -> np.ndarray:
        """Return a value per region, (8, slices), as a value per pixel, (pixels,)."""
        return np.repeat(by_region.ravel(), self.counts.ravel())


def group_muscle_pixels(
    images: Sequence[np.ndarray], labels: Sequence[np.ndarray], indices: Sequence[tuple]
) -> GroupedPixels:
    """Return the muscle pixels of a subject's stacks, grouped by region.

    images, labels: each (slices, rows, columns). indices: np.nonzero of each of the labels.
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
    return GroupedPixels(np.concatenate(signal)[order], np.concatenate(inner)[order], order, counts)


def nonzero_indices(stack: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return np.nonzero of an array (slices, rows, columns); takes half its time."""
    _, rows, columns = stack.shape
    flat = np.flatnonzero(stack.ravel() != 0)
    number, within = np.divmod(flat, rows * columns)
    return number, *np.divmod(within, columns)


def inner_pixels(labels: np.ndarray) -> np.ndarray:
    """Return each muscle eroded by one pixel in plane: boolean, (slices, rows, columns) as labels.

    A pixel stays if its four neighbours in the slice have its own label; none stays at the edge of
    the image.
    """
    inner = np.zeros(labels.shape, dtype=bool)
    centre = labels[:, 1:-1, 1:-1]
    inner[:, 1:-1, 1:-1] = (
        (centre > 0)
        & (centre == labels[:, :-2, 1:-1])
        & (centre == labels[:, 2:, 1:-1])
        & (centre == labels[:, 1:-1, :-2])
        & (centre == labels[:, 1:-1, 2:])
    )
    return inner
