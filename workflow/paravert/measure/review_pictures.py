"""Pictures of all slices of a subject for the review page: image, contours and manual contours.

Each is one file with all slices in a grid, so that the page can lay contours over the image.
"""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.util import montage

from paravert.anatomy import LABELS
from paravert.measure.labelled_stack import LabelledStack
from paravert.measure.slice_picture import SliceView, rim
from paravert.subject_folder import CONTOURS_FILE, MANUAL_FILE, SLICES_PICTURE

PICTURE_SIZE = (288, 384)  # of a slice: rows, columns
GRID_COLUMNS = 8  # fewer if there are fewer slices, more if there would be too many rows
GRID_ROWS = 65_500 // PICTURE_SIZE[0]  # JPEG ends at 65,500 pixels
RIM_PX = 2
JPEG_QUALITY = 80
PALETTE = [0, 0, 0, *(part for label in LABELS for part in label.rgb)]  # RGB of values 0-8


def _grid_of(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Return pictures of equal size in one grid, row by row, uint8 (rows, columns); empty places are 0.

    pictures: uint8 (rows, columns) each, at least one. The grid has up to 8 columns, more for more
    than 1816 pictures: as many as leave 227 rows.
    """
    columns = min(max(GRID_COLUMNS, -(-len(pictures) // GRID_ROWS)), len(pictures))
    return montage(list(pictures), fill=0, grid_shape=(-(-len(pictures) // columns), columns))


def write_grey(path: Path, planes: Iterable[tuple[np.ndarray, SliceView]]) -> None:
    """Write slices, cropped and in one grid, as a grey JPEG file.

    path: ends in .jpg; replaced if it exists; its folder must exist. planes: per slice, its grey
    values, uint8 (rows, columns), and the part of it to show; one slice at least, all views of one
    size. The grid is filled row by row and has up to 8 columns, or more if there are more than 1816
    slices.
    """
    grid = _grid_of([view.crop(plane) for plane, view in planes])
    Image.fromarray(grid).save(path, quality=JPEG_QUALITY)


def write_contours(path: Path, planes: Iterable[tuple[np.ndarray, SliceView]]) -> None:
    """Write the outlines of label maps, cropped and in one grid, as a PNG, transparent elsewhere.

    path: ends in .png; replaced if it exists; its folder must exist. planes: per slice, its label map,
    integers 0-8 (rows, columns), and the part of it to show; one slice at least, all views of one size.
    The grid is that of `write_grey`.
    """
    outlines = []
    for plane, view in planes:
        shown = view.crop_labels(plane)
        outlines.append(np.where(rim(shown, RIM_PX), shown, 0).astype(np.uint8))
    picture = Image.fromarray(_grid_of(outlines), mode="P")
    picture.putpalette(PALETTE)
    picture.save(path, transparency=0, bits=4, compress_level=9)


def write_pictures(
    folder: Path,
    stacks: Sequence[LabelledStack],
    greys: Sequence[np.ndarray],
    truths: Sequence[np.ndarray | None],
    views: dict[int, SliceView],
) -> None:
    """Write the pictures of a subject for the review page: slices, contours, manual contours if any.

    folder: made if it does not exist (its parent must); gets slices.jpg, contours.png and, with a manual
    mask, manual.png. stacks: labels of each stack. greys: image of each stack, uint8 0-255 (slices,
    rows, columns). truths: manual label map of each stack, or None. views: {stack number: part of its
    slices to show}, all of one size.
    """
    folder.mkdir(exist_ok=True)
    seen = [views[stack.number] for stack in stacks for _ in stack.labels]
    write_grey(folder / SLICES_PICTURE, zip(_slices(greys), seen, strict=True))
    labels = [stack.labels for stack in stacks]
    write_contours(folder / CONTOURS_FILE, zip(_slices(labels), seen, strict=True))
    if any(truth is not None for truth in truths):
        drawn = [
            np.zeros_like(own) if truth is None else truth
            for truth, own in zip(truths, labels, strict=True)
        ]
        write_contours(folder / MANUAL_FILE, zip(_slices(drawn), seen, strict=True))


def _slices(stacks: Iterable[np.ndarray]) -> list[np.ndarray]:
    return [plane for stack in stacks for plane in stack]


def labels_digest(stacks: Iterable[LabelledStack]) -> str:
    """Return 16 hexadecimal digits that change if any label of a subject changes.

    They are the start of the SHA-256 of number, shape and labels (uint8) of each stack; another
    order of the stacks gives other digits. The review page stores them with each rating, so that
    ratings of labels that have changed since are found.
    """
    digest = hashlib.sha256()
    for stack in stacks:
        digest.update(repr((stack.number, stack.labels.shape)).encode())
        digest.update(np.ascontiguousarray(stack.labels, dtype=np.uint8).tobytes())
    return digest.hexdigest()[:16]
