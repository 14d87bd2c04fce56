"""All muscle pixels of one subject in one row, sorted by muscle and slice."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paravert.anatomy import LABELS


@dataclass(frozen=True)
class MusclePixels:
    """The muscle pixels of all stacks of a subject, sorted by muscle and side, then by slice.

    signal: (pixels,).
    inner: (pixels,), whether the four neighbours in the slice belong to the same muscle.
    place: (pixels,), where each one stood before: stack after stack, as in np.nonzero(labels).
    counts: pixels per region, (8, slices of all stacks).
    """

    signal: np.ndarray
    inner: np.ndarray
    place: np.ndarray
    counts: np.ndarray

    def share(self, of: np.ndarray, among: np.ndarray | None = None) -> np.ndarray:
        """Return the mean of a value or flag per pixel in each region, (slices, 8).

        of, among: (pixels,); among: count only these pixels. NaN where there is none.
        """
        total = self._sums(of if among is None else of * among)
        size = self.counts.ravel() if among is None else self._sums(among)
        mean = np.divide(total, size, out=np.full(size.shape, np.nan), where=size > 0)
        return mean.reshape(self.counts.shape).T

    def _sums(self, of: np.ndarray) -> np.ndarray:
        counts = self.counts.ravel()
        held = counts > 0  # reduceat has no empty sum
        sums = np.zeros(counts.size)
        if held.any():
            starts = counts[held].cumsum() - counts[held]
            sums[held] = np.add.reduceat(of, starts, dtype=np.float64)
        return sums

    def spread(self, by_region: np.ndarray) -> np.ndarray:
        """Return a value per region, (8, slices), as a value per pixel, (pixels,)."""
        return np.repeat(by_region.ravel(), self.counts.ravel())


def muscle_pixels(
    images: Sequence[np.ndarray], labels: Sequence[np.ndarray], places: Sequence[tuple]
) -> MusclePixels:
    """Gather the muscle pixels of a subject's stacks.

    images, labels: each (slices, rows, columns). places: np.nonzero of each of the labels.
    """
    slices = sum(len(stack) for stack in labels)
    signal, inner, region, first = [], [], [], 0
    for image, stack, indices in zip(images, labels, places, strict=True):
        value = stack[indices].astype(np.int64)
        signal.append(image[indices])
        inner.append(inner_pixels(stack)[indices])
        region.append((value - 1) * slices + first + indices[0])
        first += len(stack)
    region = np.concatenate(region)
    order = np.argsort(region, kind="stable")
    counts = np.bincount(region, minlength=len(LABELS) * slices).reshape(len(LABELS), slices)
    return MusclePixels(np.concatenate(signal)[order], np.concatenate(inner)[order], order, counts)


def places_of(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return np.nonzero of a stack, (slices, rows, columns), in half its time."""
    _, rows, columns = mask.shape
    place = np.flatnonzero(mask.ravel() != 0)
    number, within = np.divmod(place, rows * columns)
    return number, *np.divmod(within, columns)


def inner_pixels(labels: np.ndarray) -> np.ndarray:
    """Return what erosion by one pixel leaves of each muscle: labels, and boolean, both
    (slices, rows, columns).

    A pixel stays where its four neighbours in the slice have its own label; at the edge of the
    image none does.
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
