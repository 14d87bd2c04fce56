"""Resampling between the image's pixel grid and the network's.

Both grids cover the same rectangle, so that nothing is shifted: the network's grid has
round(extent / network spacing) pixels per axis, at least 1, and its exact pixel size is extent /
pixels. The centre of pixel i of n lies at (i + 1/2) / n of the extent on either grid.
"""

from functools import lru_cache

import numpy as np
from scipy import sparse

CLIPPED_PERCENTILES = (0.5, 99.5)  # single bright vessels must not set the scale of a stack


def network_size(
    shape: tuple[int, int], spacing_mm: tuple[float, float], network_mm: float
) -> tuple[int, int]:
    """Return the rows and columns of the network's pixel grid over an image.

    shape: rows and columns of the image. spacing_mm: distance (mm) between its rows, between its
    columns. network_mm: pixel size (mm) of the network's grid. The grid covers the image's
    rectangle: round(extent / network_mm) pixels per axis, at least 1, not padded.
    """
    return tuple(
        max(1, round(pixels * spacing / network_mm))
        for pixels, spacing in zip(shape, spacing_mm, strict=True)
    )


def standardise(image: np.ndarray) -> np.ndarray:
    """Return a stack with mean 0 and variance 1 over all its pixels, float32 (slices, rows, columns).

    image: any numeric dtype, same axes, without NaN; not changed. Values are clipped to the stack's own
    0.5 and 99.5 percentiles first. A stack in which these are equal becomes 0.
    """
    low, high = _percentiles(image)
    total = squares = 0.0
    for plane in image:  # slice by slice: a slice fits the processor's cache
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
    """Return the two percentiles as numpy.percentile does, in a third of its time."""
    ordered = np.sort(image, axis=None)
    places = np.array(CLIPPED_PERCENTILES) / 100 * (ordered.size - 1)
    below = places.astype(np.intp)
    first, second = (
        ordered[np.minimum(below + step, ordered.size - 1)].astype(np.float64) for step in (0, 1)
    )
    low, high = first + (second - first) * (places - below)
    return float(low), float(high)


def resampled(planes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return images on a grid of another size over the same rectangle, float32 (n, rows, columns).

    planes: float32 (n, rows, columns); n: slices or classes, one or more. size: new rows and
    columns; if they are the old ones, planes itself is returned. Bilinear interpolation; along an
    axis that becomes coarser, a triangle filter two new pixels wide, as
    `torch.nn.functional.interpolate` with `antialias=True`.
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
    """Return the sparse matrix (points, pixels) that interpolates pixels at evenly spaced points."""
    width = max(pixels / points, 1.0)
    place = (np.arange(points) + 0.5) * (pixels / points) - 0.5
    weights = (1 - np.abs(np.arange(pixels) - place[:, None]) / width).clip(0)
    weights /= weights.sum(axis=1, keepdims=True)
    return sparse.csr_array(weights.astype(np.float32))


def padded(planes: np.ndarray, multiple: int) -> np.ndarray:
    """Return images extended below and to the right until rows and columns are multiples of a number.

    planes: float (n, rows, columns), n: slices; the dtype stays. multiple: that number, in pixels, such
    as `Architecture.stride`. As few rows and columns as possible are added. The last row and column are
    repeated: mirroring could show a muscle twice, zeros would add an edge that is not in the tissue.
    """
    rows, columns = (-size % multiple for size in planes.shape[1:])
    return np.pad(planes, ((0, 0), (0, rows), (0, columns)), mode="edge")


def labels_on_image(
    logits: np.ndarray, size: tuple[int, int], shape: tuple[int, int]
) -> np.ndarray:
    """Return the labels of a slice on the image's own pixel grid, uint8 (rows, columns), 0-8.

    logits: float32 (classes, rows, columns) on the padded network grid; classes: background, then
    the labels 1-8. size: rows and columns of the network grid without the padding. shape: rows and
    columns of the image. The label of a pixel is the class with the largest interpolated logit:
    interpolating logits rather than labels gives outlines finer than the network's pixels.
    """
    logits = np.ascontiguousarray(logits[:, : size[0], : size[1]])
    if shape[0] >= size[0] > 1 and shape[1] >= size[1] > 1:
        return _labels_along_outlines(logits, shape)
    return largest(resampled(logits, shape))


def _between(pixels: int, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the linear interpolation along an axis at evenly spaced points over the same extent.

    Returns the index of the pixel before each point, int (points,), and the weight of the pixel after
    it, float32 (points,), 0-1; the pixel before has 1 - weight.
    """
    place = ((np.arange(points) + 0.5) * (pixels / points) - 0.5).clip(0, pixels - 1)
    pixel = np.minimum(place.astype(np.intp), pixels - 2)
    return pixel, (place - pixel).astype(np.float32)


def _labels_along_outlines(logits: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return labels, uint8 of a finer shape (rows, columns), for logits (classes, rows, columns).

    Between four pixels of equal label the interpolated logits give that label, too. Interpolation is
    therefore only needed along the outlines, at a few percent of the points.
    """
    classes, height, width = logits.shape
    (pixel_row, row_weight), (pixel_column, column_weight) = map(_between, (height, width), shape)
    coarse = largest(logits)
    here, below = coarse[:-1], coarse[1:]
    inside = (here[:, :-1] == here[:, 1:]) & (below[:, :-1] == below[:, 1:])
    inside &= here[:, :-1] == below[:, :-1]
    cells = np.where(inside, here[:, :-1], np.uint8(classes))
    labels = cells[pixel_row].take(pixel_column, axis=1)
    row, column = np.divmod(np.flatnonzero(labels == classes), labels.shape[1])
    flat, corner = logits.reshape(classes, -1), pixel_row[row] * width + pixel_column[column]
    right, down = column_weight[column], row_weight[row]
    upper, lower = (
        flat.take(corner + step, axis=1) * (1 - right)
        + flat.take(corner + step + 1, axis=1) * right
        for step in (0, width)
    )
    labels[row, column] = largest(upper * (1 - down) + lower * down)
    return labels


def largest(values: np.ndarray) -> np.ndarray:
    """Return the index of the largest value along the first axis, uint8; the lowest index if equal.

    values: (classes, ...), at most 256 classes, without NaN; the result lacks the first axis. Three times
    as fast as numpy.argmax.
    """
    best, result = values[0].copy(), np.zeros(values.shape[1:], dtype=np.uint8)
    for number, one in enumerate(values[1:], start=1):
        np.copyto(result, np.uint8(number), where=one > best)
        np.maximum(best, one, out=best)
    return result


def labels_on_network(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return manual labels on the network's pixel grid, uint8 (slices, rows, columns), 0-8.

    labels: uint8 (slices, rows, columns) on the image's grid, at least one slice. size: rows and
    columns of the network's grid, not padded, from `network_size`. A pixel gets the value, 0 for
    background, whose mask, resampled by `resampled`, is largest in it; the lowest one if equal.
    """
    classes = np.arange(int(labels.max()) + 1)[:, None, None]
    return np.stack(
        [largest(resampled((one == classes).astype(np.float32), size)) for one in labels]
    )
