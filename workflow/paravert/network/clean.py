"""Cleaning of a predicted label map: strays removed, holes filled, changed pixels counted."""

import numpy as np
from scipy import ndimage

from paravert.anatomy import BACKGROUND, LABEL_VALUES

# Neighbours above, below, left and right of a pixel, none in other slices.
WITHIN_SLICE = np.zeros((3, 3, 3), dtype=bool)
WITHIN_SLICE[1] = ndimage.generate_binary_structure(2, 1)


def cleaned(
    labels: np.ndarray, *, keep_largest: bool = True, fill_holes: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Return the cleaned label map of one stack and the number of pixels changed per label, (8,).

    labels: uint8 (slices, rows, columns), values of anatomy.LABELS or 0. First all components of a
    label but its `main_part` become background (keep_largest), then background that a label encloses
    within a slice becomes that label (fill_holes). Changed pixels of a label: removed and filled ones.
    """
    result = labels.copy()
    changed = np.zeros(len(LABEL_VALUES), dtype=np.int64)
    boxes = label_boxes(labels, len(LABEL_VALUES))
    for index, (value, box) in enumerate(zip(LABEL_VALUES, boxes, strict=True)):
        if box is not None and keep_largest:
            mask = labels[box] == value
            stray = mask & ~main_part(mask)
            result[box][stray] = BACKGROUND
            changed[index] += stray.sum()
    for index, (value, box) in enumerate(zip(LABEL_VALUES, boxes, strict=True)):
        if box is not None and fill_holes:
            within = result[box]
            hole = enclosed(within == value) & (within == BACKGROUND)
            within[hole] = value
            changed[index] += hole.sum()
    return result, changed


def label_boxes(labels: np.ndarray, count: int) -> list[tuple[slice, ...] | None]:
    """Return the bounding box of each label 1 to count, slices of three axes; None for an absent one.

    labels: (slices, rows, columns). Searched within the box around all labels, which is fast to find.
    """
    plane = labels.max(axis=0, initial=0)
    there = (labels.max(axis=(1, 2), initial=0), plane.max(axis=1), plane.max(axis=0))
    ends = [np.flatnonzero(one) for one in there]
    if not len(ends[0]):
        return [None] * count
    starts = [int(one[0]) for one in ends]
    whole = tuple(slice(int(one[0]), int(one[-1]) + 1) for one in ends)
    boxes = ndimage.find_objects(labels[whole], max_label=count)
    return [
        box
        and tuple(
            slice(part.start + start, part.stop + start)
            for part, start in zip(box, starts, strict=True)
        )
        for box in boxes
    ]


def main_part(mask: np.ndarray) -> np.ndarray:
    """Return the largest connected component of a mask, and those that continue it across a gap.

    mask: bool (slices, rows, columns); returns the same. Components are connected through faces of
    pixels, within a slice and between slices: two heads of a muscle that fat separates in one slice
    join in another, and a rule per slice would lose one of them. A smaller component is kept only if
    it lies in slices without kept pixels and overlaps the nearest kept slice, seen along the slices.
    Of equal components the more caudal one counts as larger. An empty mask stays empty.
    """
    pieces, count = ndimage.label(mask)
    if count <= 1:
        return mask
    boxes = ndimage.find_objects(pieces)
    sizes = np.bincount(pieces.ravel())[1:]
    kept = np.zeros_like(mask)
    taken = np.zeros(len(mask), dtype=bool)
    for index in np.argsort(-sizes, kind="stable"):
        box = boxes[index]
        part = pieces[box] == index + 1
        if not taken.any() or (not taken[box[0]].any() and _continues(part, box, kept, taken)):
            kept[box] |= part
            taken[box[0]] = True
    return kept


def _continues(part: np.ndarray, box: tuple, kept: np.ndarray, taken: np.ndarray) -> bool:
    """Tell whether a component, cut out at its box, overlaps the nearest slice with kept pixels."""
    slices, facing = np.arange(len(taken))[box[0]], np.flatnonzero(taken)
    distance = np.abs(slices[:, None] - facing)
    here, there = np.unravel_index(distance.argmin(), distance.shape)
    return bool((part[here] & kept[facing[there]][box[1:]]).any())


def enclosed(mask: np.ndarray) -> np.ndarray:
    """Return the holes of a mask within its slices, bool (slices, rows, columns), without the mask.

    A hole is connected to the edge of its slice by no path through faces of pixels.
    """
    result = np.zeros_like(mask)
    for box in ndimage.find_objects(mask.view(np.uint8)):  # one around all, none if empty
        around = np.pad(~mask[box], ((0, 0), (1, 1), (1, 1)), constant_values=True)
        regions, _ = ndimage.label(around, structure=WITHIN_SLICE)
        outside = regions[:, :1, :1]  # the padding of each slice is one region with what it meets
        result[box] = ((regions != outside) & around)[:, 1:-1, 1:-1]
    return result
