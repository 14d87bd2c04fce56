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
GRID_COLUMNS = 8  # fewer if there are fewer slices; keeps files below the 65,535 rows of a JPEG
RIM_PX = 2
JPEG_QUALITY = 80
PALETTE = [0, 0, 0] + [
    int(label.colour[i : i + 2], 16) for label in LABELS for i in (1, 3, 5)
]  # RGB of label values 0-8


def grid_of(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Return pictures of equal size, (rows, columns) uint8, in a grid, row by row; the rest is 0."""
    columns = min(GRID_COLUMNS, len(pictures))
    return montage(list(pictures), grid_shape=(-(-len(pictures) // columns), columns))


def write_grey(path: Path, planes: Iterable[tuple[np.ndarray, SliceView]]) -> None:
    """Write slices as one grey JPEG. planes: grey values 0-255, (rows, columns), with their views."""
    grid = grid_of([view.crop(plane) for plane, view in planes])
    Image.fromarray(grid).save(path, quality=JPEG_QUALITY)


def write_contours(path: Path, planes: Iterable[tuple[np.ndarray, SliceView]]) -> None:
    """Write the outlines of labels as one PNG that is transparent elsewhere.

    planes: label maps (rows, columns), integers 0-8, with their views.
    """
    outlines = []
    for plane, view in planes:
        shown = view.crop_labels(plane)
        outlines.append(np.where(rim(shown, RIM_PX), shown, 0).astype(np.uint8))
    picture = Image.fromarray(grid_of(outlines), mode="P")
    picture.putpalette(PALETTE)
    picture.save(path, transparency=0, bits=4, compress_level=9)


def write_pictures(
    folder: Path,
    stacks: Sequence[LabelledStack],
    greys: Sequence[np.ndarray],
    truths: Sequence[np.ndarray | None],
    views: dict[int, SliceView],
) -> None:
    """Write the pictures of a subject: slices, contours, and manual contours if there are any.

    folder: made if it does not exist. stacks: labels. greys, truths: of each stack, image scaled to
    0-255 and manual label map, (slices, rows, columns). views: by the number of the stack.
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
    """Return 16 hexadecimal digits that differ if any label of a subject differs.

    They are the start of the SHA-256 of number, shape and labels (uint8) of each stack.
    """
    digest = hashlib.sha256()
    for stack in stacks:
        digest.update(repr((stack.number, stack.labels.shape)).encode())
        digest.update(np.ascontiguousarray(stack.labels, dtype=np.uint8).tobytes())
    return digest.hexdigest()[:16]
