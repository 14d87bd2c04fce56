"""Rule draw_preview: pictures of each subject, with the muscles outlined, for checking by eye."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from skimage.util import montage

from paravert import shards
from paravert.anatomy import LABELS
from paravert.imaging.volume import read_volume
from paravert.measure import review_pictures, slice_picture
from paravert.measure.labelled_stack import (
    LabelledStack,
    OutTable,
    SegmentTable,
    SubjectsFolder,
    Workers,
    read_image,
    read_labelled_stacks,
    read_truth,
)
from paravert.measure.sagittal_picture import write_sagittal
from paravert.network.find_levels import read_geometry
from paravert.shard_tables import read_shard_rows
from paravert.sheet import short_name
from paravert.subject_folder import REVIEW_FOLDER, SubjectFolder

MOST_SLICES = 12
SLICES_PER_ROW = 4
PICTURE_SIZE = (210, 280)  # of a slice: rows, columns
GAP = 4  # between pictures, pixels
HEAD_HEIGHT, CAPTION_HEIGHT = 58, 20
MARGIN_MM = 20.0  # shown around the muscles: fat, spine and skin
LARGE_TEXT, MEDIUM_TEXT, SMALL_TEXT = 19, 14, 13
NAME_LETTERS = 14  # left of the legend


@dataclass(frozen=True)
class PreviewStack:
    """What the preview shows of one stack.

    stack: labels and geometry. grey: uint8 (slices, rows, columns), the image scaled to 0-255.
    truth: manual label map, integers 0-8, of that shape; None if there is none. levels: {slice, from 0:
    name of the nearest vertebra or disc, such as "L3/4"}; slices of unknown level are missing.
    """

    stack: LabelledStack
    grey: np.ndarray
    truth: np.ndarray | None
    levels: Mapping[int, str] = field(default_factory=dict)


def slices_to_show(positions_mm: Sequence[float], filled: Sequence[bool], most: int) -> list[int]:
    """Return the indices of at most `most` slices, from caudal to cranial, at even steps in this order.

    Steps are counted in slices, not in mm. positions_mm: position of each slice along the slice normal,
    towards the head, in any order; may be of several stacks. filled: whether each slice shows a muscle;
    slices below the lowest and above the highest filled one are left out, unless none is filled. The
    first and the last of the others are shown; only the first if `most` is 1.
    """
    order = np.argsort(positions_mm, kind="stable")
    held = np.flatnonzero(np.asarray(filled)[order])
    if held.size:
        order = order[held[0] : held[-1] + 1]
    picks = np.linspace(0, order.size - 1, min(most, order.size))
    return [int(order[int(pick + 0.5)]) for pick in picks]


def contact_sheet(subject: str, stacks: Sequence[PreviewStack]) -> np.ndarray:
    """Return one picture with up to 12 slices of a subject and outlined muscles, uint8 (rows, columns).

    The values are indices into slice_picture.PALETTE. subject: name, written at the top; the middle of
    a long one is left out. stacks: what to show, at least one. Slices run from caudal to cranial, row by row, four in a row, and have one
    scale; the left of the image is the subject's right. Manual masks are thin white lines over the
    muscles.
    """
    slices = [(shown, index) for shown in stacks for index in range(len(shown.grey))]
    picks = slices_to_show(
        [shown.stack.position_mm[index] for shown, index in slices],
        [bool(shown.stack.labels[index].any()) for shown, index in slices],
        MOST_SLICES,
    )
    views = _views(stacks, PICTURE_SIZE)
    pictures = [
        _captioned_slice(shown, index, views[shown.stack.number])
        for shown, index in (slices[pick] for pick in picks)
    ]
    grid = (-(-len(pictures) // SLICES_PER_ROW), SLICES_PER_ROW)
    body = montage(pictures, fill=slice_picture.BLACK, grid_shape=grid, padding_width=GAP)
    head = np.zeros((HEAD_HEIGHT - GAP, body.shape[1]), dtype=np.uint8)
    not_labelled = frozenset.intersection(*(shown.stack.not_labelled for shown in stacks))
    _draw_head(head, subject, any(shown.truth is not None for shown in stacks), not_labelled)
    return np.concatenate([head, body])


def _views(
    stacks: Sequence[PreviewStack], size: tuple[int, int]
) -> dict[int, slice_picture.SliceView]:
    """Return the view of each stack by its number: centred on its muscles, with one scale for all."""
    boxes = [_box(shown.stack) for shown in stacks]
    scale = max(float((size_mm / size).max()) for _, size_mm in boxes)  # mm per pixel
    views = {}
    for shown, (centre, _) in zip(stacks, boxes, strict=True):
        down, across = scale / np.array(shown.stack.spacing_mm)
        view = slice_picture.SliceView(tuple(centre), (down, across), size)
        views[shown.stack.number] = view
    return views


def _box(stack: LabelledStack) -> tuple[np.ndarray, np.ndarray]:
    """Return centre, (row, column), and size, (rows, columns) in mm, of the muscles with a margin.

    Of the whole image if there are no muscles.
    """
    filled = stack.labels.any(axis=0)
    margin_mm = MARGIN_MM if filled.any() else 0.0
    indices = np.argwhere(filled if filled.any() else ~filled)
    low, high = indices.min(axis=0), indices.max(axis=0)
    return (low + high) / 2, (high - low + 1) * stack.spacing_mm + 2 * margin_mm


def _draw_head(
    canvas: np.ndarray, subject: str, has_truth: bool, not_labelled: frozenset[tuple[str, str]]
) -> None:
    """Draw the subject's name and the legend; muscles labelled in no stack get no colour there."""
    name = short_name(subject, NAME_LETTERS)
    slice_picture.write_text(canvas, name, (17, GAP + 4), LARGE_TEXT)
    note = "white line: manual mask" if has_truth else "caudal to cranial"
    slice_picture.write_text(canvas, note, (42, GAP + 4), SMALL_TEXT)
    widest = (canvas.shape[1] - 200) // 4
    for label in LABELS:
        column, row = divmod(label.value - 1, 2)
        top, left = 10 + 25 * row, 200 + column * widest
        if (label.muscle, label.side) in not_labelled:
            text = f"{label.name}: unknown"
            slice_picture.write_text(canvas, text, (top + 7, left), SMALL_TEXT)
            continue
        canvas[top : top + 14, left : left + 14] = slice_picture.pure_colour(label.value)
        slice_picture.write_text(canvas, label.name, (top + 7, left + 20), MEDIUM_TEXT)


def _captioned_slice(shown: PreviewStack, index: int, view: slice_picture.SliceView) -> np.ndarray:
    truth = None if shown.truth is None else shown.truth[index]
    picture = slice_picture.draw_slice(shown.grey[index], shown.stack.labels[index], truth, view)
    rows, columns = PICTURE_SIZE
    slice_picture.write_text(picture, "R", (rows // 2, 6), LARGE_TEXT)
    slice_picture.write_text(picture, "L", (rows // 2, columns - 6), LARGE_TEXT, anchor="rm")
    caption = np.zeros((CAPTION_HEIGHT, columns), dtype=np.uint8)
    position = shown.stack.position_mm[index]
    text = f"stack {shown.stack.number}   slice {index}   {position:.1f} mm"
    slice_picture.write_text(caption, text, (CAPTION_HEIGHT // 2, 2), SMALL_TEXT)
    level = shown.levels.get(index, "")
    place = (CAPTION_HEIGHT // 2, columns - 2)
    slice_picture.write_text(caption, level, place, SMALL_TEXT, anchor="rm")
    return np.concatenate([picture, caption])


def draw_preview(
    segment: SegmentTable,
    folder: SubjectsFolder,
    out: OutTable,
    levels: Annotated[
        Path | None, typer.Option(help="shard table of find_levels; none: levels are not named")
    ] = None,
    workers: Workers = 1,
) -> None:
    """Draw a preview of every subject: up to 12 slices, their levels, the muscles in colours.

    Each subject gets preview.png and, for the review page, pictures of all slices with contours in
    review/, with a sagittal one if there is a sagittal series. Writes the shard's table `preview`
    (tables.PREVIEW), a row per subject. Parameters and errors: as of `shards.work_after`, whose
    shard_table is `segment`.
    """
    shards.work_after(
        segment,
        "draw_preview",
        partial(_draw_subject, folder, {} if levels is None else read_levels(levels)),
        folder=folder,
        out=out,
        workers=workers,
        besides={} if levels is None else {"find_levels": levels},
    )


def read_levels(table: Path) -> dict[str, dict[int, dict[int, str]]]:
    """Return the name of the vertebra or disc nearest to each slice: {scan: {stack: {slice: name}}}.

    table: shard table of find_levels (Parquet), whose column subject names the scan. Stacks are
    numbered from 1, slices from 0; names are such as "L4" or "L3/4". A slice of unknown level has no
    entry; nor has a stack or scan without any known one.
    """
    found: dict[str, dict[int, dict[int, str]]] = defaultdict(lambda: defaultdict(dict))
    for row in read_shard_rows(table).select(["subject", "stack", "slice", "level"]).to_pylist():
        if row["level"] is not None:
            found[row["subject"]][row["stack"]][row["slice"]] = row["level"]
    return {subject: dict(stacks) for subject, stacks in found.items()}


def _draw_subject(
    folder: Path,
    levels: Mapping[str, Mapping[int, Mapping[int, str]]],
    task: shards.Task,
    scratch: Path,
) -> shards.Product:
    home = folder / task.subject
    stacks = [
        PreviewStack(
            stack,
            slice_picture.windowed(read_image(home, stack.number)),
            read_truth(home, stack.number),
            levels.get(task.subject, {}).get(stack.number, {}),
        )
        for stack in read_labelled_stacks(home)
    ]
    picture = slice_picture.as_picture(contact_sheet(task.subject, stacks))
    picture.save(SubjectFolder(scratch).preview_file, compress_level=9)
    review_pictures.write_pictures(
        scratch / REVIEW_FOLDER,
        [shown.stack for shown in stacks],
        [shown.grey for shown in stacks],
        [shown.truth for shown in stacks],
        _views(stacks, review_pictures.PICTURE_SIZE),
    )
    sagittal = SubjectFolder(home).sagittal_file
    if sagittal.is_file():
        labels = [shown.stack for shown in stacks]
        volume = read_volume(sagittal)
        write_sagittal(scratch / REVIEW_FOLDER, volume, read_geometry(home), labels)
    digest = review_pictures.labels_digest(shown.stack for shown in stacks)
    return shards.Product([{"labels_digest": digest}])
