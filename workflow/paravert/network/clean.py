"""Cleaning of a predicted label map: stray components removed, holes filled, changed pixels counted."""

import numpy as np
from scipy import ndimage

from paravert.anatomy import BACKGROUND, LABEL_VALUES

# Structuring element of scipy.ndimage: the four neighbours of a pixel within its slice, none in others.
WITHIN_SLICE = np.zeros((3, 3, 3), dtype=bool)
WITHIN_SLICE[1] = ndimage.generate_binary_structure(2, 1)
# Sections of a muscle in slices further apart need not overlap: with one slice per vertebra, the lowest of
# quadratus lumborum lies beside the next. In phantoms the first such pair is 30 mm apart.
OVERLAP_MM = 25.0


def cleaned(
    labels: np.ndarray,
    *,
    apart_mm: float,
    keep_largest: bool = True,
    fill_holes: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the cleaned label map of a stack, and the number of changed pixels per label.

    labels: predicted labels, uint8 (slices, rows, columns), 0-8; not modified. apart_mm: distance (mm)
    between adjacent slices. keep_largest: set all 3-D components of a label (connected through faces of
    voxels) to background, except the largest and those that continue it beyond its first or last slice
    or across a gap of slices (`main_part`), or, where slices lie more than 25 mm apart, the largest in
    each slice (`largest_of_slices`). fill_holes: then give background that a label encloses within a
    slice to that label. Cleaned: same dtype and axes as labels. Changed: int64 (8,), pixels removed
    from a label plus pixels added to it, over all slices; entry k is of label k + 1 (anatomy.LABELS).
    """
    result = labels.copy()
    changed = np.zeros(len(LABEL_VALUES), dtype=np.int64)
    boxes = ndimage.find_objects(labels, max_label=len(LABEL_VALUES))  # None for an absent label
    for index, (value, box) in enumerate(zip(LABEL_VALUES, boxes, strict=True)):
        if box is not None and keep_largest:
            mask = labels[box] == value
            stray = mask & ~(main_part if apart_mm <= OVERLAP_MM else largest_of_slices)(mask)
            result[box][stray] = BACKGROUND
            changed[index] += stray.sum()
    for index, (value, box) in enumerate(zip(LABEL_VALUES, boxes, strict=True)):
        if box is not None and fill_holes:
            within = result[box]
            hole = enclosed(within == value) & (within == BACKGROUND)
            within[hole] = value
            changed[index] += hole.sum()
    return result, changed


def main_part(mask: np.ndarray) -> np.ndarray:
    """Return the largest connected component of a mask and the components that continue it in other slices.

    mask: bool (slices, rows, columns); returns the same shape and dtype, all False for a mask without a
    pixel; of a mask with one component, the mask itself. Components are 3-D, connected through pixel
    faces within and between slices: two parts of a muscle that fat separates in one slice may join in
    another, so that a rule per slice would lose one. Components are visited by decreasing size (of
    equal ones, the one with the lowest slice index first). The first is kept. A later one is kept if
    none of its slices contains kept pixels and it continues them across the gap: its slice nearest to
    kept pixels and their slice nearest to it have a pixel (row, column) in common.
    """
    pieces, count = ndimage.label(mask)
    if count <= 1:
        return mask
    boxes = ndimage.find_objects(pieces)
    sizes = np.bincount(pieces.ravel())[1:]
    kept = np.zeros_like(mask)
    taken = np.zeros(len(mask), dtype=bool)  # slices with kept pixels
    for index in np.argsort(-sizes, kind="stable"):
        box = boxes[index]
        part = pieces[box] == index + 1
        if not taken.any() or (not taken[box[0]].any() and _continues(part, box, kept, taken)):
            kept[box] |= part
            taken[box[0]] = True
    return kept


def largest_of_slices(mask: np.ndarray) -> np.ndarray:
    """Return the largest connected component of a mask, and then of the slices that are still without one.

    mask: bool (slices, rows, columns), of slices that lie far apart; returns the same shape and dtype.
    Components are 3-D, connected through pixel faces; their sections need not overlap each other.
    """
    kept, rest = np.zeros_like(mask), mask.copy()
    while rest.any():
        pieces, _ = ndimage.label(rest)
        largest = pieces == np.argmax(np.bincount(pieces.ravel())[1:]) + 1
        kept |= largest
        rest[largest.any(axis=(1, 2))] = False
    return kept


def _continues(part: np.ndarray, box: tuple, kept: np.ndarray, taken: np.ndarray) -> bool:
    """Return whether a component, cropped to its box, overlaps the nearest slice with kept pixels."""
    slices, facing = np.arange(len(taken))[box[0]], np.flatnonzero(taken)
    distance = np.abs(slices[:, None] - facing)
    here, there = np.unravel_index(distance.argmin(), distance.shape)
    return bool((part[here] & kept[facing[there]][box[1:]]).any())


def enclosed(mask: np.ndarray) -> np.ndarray:
    """Return the holes of a mask, each slice for itself, bool (slices, rows, columns).

    mask: bool, same shape. A hole is a region outside the mask that no path through pixel faces
    connects with the edge of its slice.
    """
    around = np.pad(~mask, ((0, 0), (1, 1), (1, 1)), constant_values=True)
    regions, _ = ndimage.label(around, structure=WITHIN_SLICE)
    outside = regions[:, :1, :1]  # the region of the padding and of what it touches, per slice
    return ((regions != outside) & around)[:, 1:-1, 1:-1]
