"""From an image's grid to the network's and exactly back.

Both grids cover the same rectangle: the network's has round(extent / spacing) pixels per axis, and
its spacing is what then follows, so that nothing is shifted. Pixel i of n lies at (i + 1/2) / n of
the extent on either grid.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import sparse

CLIPPED_PERCENTILES = (0.5, 99.5)  # single bright vessels must not set the scale of a stack


def network_size(
    shape: tuple[int, int], spacing_mm: tuple[float, float], network_mm: float
) -> tuple[int, int]:
    """Return rows and columns on the network's grid of an image of this shape and spacing."""
    return tuple(
        max(1, round(pixels * spacing / network_mm))
        for pixels, spacing in zip(shape, spacing_mm, strict=True)
    )


def standardise(image: np.ndarray) -> np.ndarray:
    """Return the intensities of a stack with mean 0 and variance 1, float32 (slices, rows, columns).

    Values outside the stack's own 0.5 and 99.5 percentiles are set to these before. A stack of one
    value becomes zero. The result depends on this stack alone.
    """
    low, high = _percentiles(image)
    total = squares = 0.0
    for plane in image:  # one at a time stays in the processor's cache
        above = np.clip(plane, low, high, dtype=np.float64)
        above -= low
        total += above.sum()
        squares += np.square(above, out=above).sum()
    mean = total / image.size
    spread = np.sqrt(max(squares / image.size - mean**2, 0.0))
    result = np.empty(image.shape, dtype=np.float32)
    for plane, standard in zip(image, result, strict=True):
        np.clip(plane, low, high, out=standard, casting="same_kind")
        standard -= np.float32(low + mean)
        standard /= np.float32(spread if spread > 0 else 1)
    return result


def _percentiles(image: np.ndarray) -> tuple[float, float]:
    """Return the percentiles as numpy.percentile does, in a third of its time."""
    ordered = np.sort(image, axis=None)
    places = np.array(CLIPPED_PERCENTILES) / 100 * (ordered.size - 1)
    below = places.astype(np.intp)
    first, second = (
        ordered[np.minimum(below + step, ordered.size - 1)].astype(np.float64) for step in (0, 1)
    )
    low, high = first + (second - first) * (places - below)
    return float(low), float(high)


def resampled(planes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return planes, float32 (n, rows, columns), on a grid of another size over the same rectangle.

    Bilinear; along an axis that becomes coarser, averaged over two widths of the new pixels by a
    triangle, as `torch.nn.functional.interpolate` does with `antialias`.
    """
    if planes.shape[1:] == tuple(size):
        return planes
    rows, columns = (
        _interpolation(pixels, points)
        for pixels, points in zip(planes.shape[1:], size, strict=True)
    )
    return np.stack([(columns @ (rows @ plane).T).T for plane in planes])


@lru_cache
def _interpolation(pixels: int, points: int) -> sparse.csr_array:
    """Return the weights (points, pixels) of pixels in the values at evenly spread points."""
    width = max(pixels / points, 1.0)
    place = (np.arange(points) + 0.5) * (pixels / points) - 0.5
    weights = (1 - np.abs(np.arange(pixels) - place[:, None]) / width).clip(0)
    weights /= weights.sum(axis=1, keepdims=True)
    return sparse.csr_array(weights.astype(np.float32))


def padded(planes: np.ndarray, multiple: int) -> np.ndarray:
    """Return planes (n, rows, columns) with rows and columns grown to multiples of a number.

    The last row and column are repeated: a mirror image would show a second muscle beyond the edge,
    zero would draw an edge through tissue that goes on.
    """
    rows, columns = (-size % multiple for size in planes.shape[1:])
    return np.pad(planes, ((0, 0), (0, rows), (0, columns)), mode="edge")


def labels_on_image(
    logits: np.ndarray, size: tuple[int, int], shape: tuple[int, int]
) -> np.ndarray:
    """Return the labels of a slice, uint8 (rows, columns), on the image's own grid.

    logits: (classes, rows, columns) on the padded network grid; size: rows and columns of the
    network grid without padding; shape: of the image. The logits are interpolated, not the labels,
    so that outlines lie between the pixels of the network.
    """
    logits = np.ascontiguousarray(logits[:, : size[0], : size[1]])
    if shape[0] >= size[0] > 1 and shape[1] >= size[1] > 1:
        rows, columns = (_Between.points(*ends) for ends in zip(size, shape, strict=True))
        return _labels_along_outlines(logits, rows, columns)
    return largest(resampled(logits, shape))


@dataclass(frozen=True)
class _Between:
    """Where the points of a finer grid lie along an axis: weight between a pixel and the next."""

    pixel: np.ndarray
    weight: np.ndarray

    @classmethod
    def points(cls, pixels: int, points: int) -> "_Between":
        """Return the places of evenly spread points among pixels over the same extent."""
        place = (np.arange(points) + 0.5) * (pixels / points) - 0.5
        place = place.clip(0, pixels - 1)
        pixel = np.minimum(place.astype(np.intp), pixels - 2)
        return cls(pixel, (place - pixel).astype(np.float32))


def _labels_along_outlines(logits: np.ndarray, rows: _Between, columns: _Between) -> np.ndarray:
    """Return labels, uint8 (points, points), of logits (classes, rows, columns).

    Between four pixels of one label the interpolated logits have that label too: only along the
    outlines, a few percent of the image, is there anything to interpolate.
    """
    classes, _, width = logits.shape
    coarse = largest(logits)
    here, below = coarse[:-1], coarse[1:]
    inside = (here[:, :-1] == here[:, 1:]) & (below[:, :-1] == below[:, 1:])
    inside &= here[:, :-1] == below[:, :-1]
    cells = np.where(inside, here[:, :-1], np.uint8(classes))
    labels = cells[rows.pixel].take(columns.pixel, axis=1)
    row, column = np.divmod(np.flatnonzero(labels == classes), labels.shape[1])
    flat, corner = logits.reshape(classes, -1), rows.pixel[row] * width + columns.pixel[column]
    right, down = columns.weight[column], rows.weight[row]
    upper, lower = (
        flat.take(corner + step, axis=1) * (1 - right)
        + flat.take(corner + step + 1, axis=1) * right
        for step in (0, width)
    )
    labels[row, column] = largest(upper * (1 - down) + lower * down)
    return labels


def largest(values: np.ndarray) -> np.ndarray:
    """Return the index of the largest of (classes, ...), uint8; the first of equals.

    Three times as fast as argmax.
    """
    best, result = values[0].copy(), np.zeros(values.shape[1:], dtype=np.uint8)
    for number, one in enumerate(values[1:], start=1):
        np.copyto(result, np.uint8(number), where=one > best)
        np.maximum(best, one, out=best)
    return result


def labels_on_network(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a label map, uint8 (slices, rows, columns), on the network's grid: the largest share.

    The counterpart of `labels_on_image` for the truth that a network is trained on.
    """
    classes = np.arange(int(labels.max()) + 1)[:, None, None]
    return np.stack(
        [largest(resampled((one == classes).astype(np.float32), size)) for one in labels]
    )
