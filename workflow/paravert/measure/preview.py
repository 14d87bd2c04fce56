"""A picture per subject that a person can judge at a glance: slices with the muscles drawn in."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from paravert import shards
from paravert.anatomy import LABELS
from paravert.measure import drawing
from paravert.measure.options import OutTable, SegmentTable, SubjectsFolder, Workers
from paravert.measure.stacks import Stack, read_image, read_stacks, read_truth
from paravert.subject_folder import SubjectFolder

MOST_SLICES = 12
COLUMNS = 4
TILE = (210, 280)  # rows, columns
GAP = 4
HEAD, CAPTION = 58, 20
MARGIN_MM = 20.0  # shown around the muscles: fat, spine and skin
LARGE, MIDDLE, SMALL = 19, 14, 13


@dataclass(frozen=True)
class Shown:
    """A stack ready to be drawn: grey, labels and truth, each (slices, rows, columns), uint8."""

    stack: Stack
    grey: np.ndarray
    truth: np.ndarray | None


def slices_to_show(positions_mm: Sequence[float], filled: Sequence[bool], most: int) -> list[int]:
    """Choose slices evenly spread from caudal to cranial; returns indices in that order.

    filled: whether a slice shows a muscle; what lies below the lowest and above the highest of
    these is left out. Where none is filled, all slices are candidates.
    """
    order = np.argsort(positions_mm, kind="stable")
    held = np.flatnonzero(np.asarray(filled)[order])
    if held.size:
        order = order[held[0] : held[-1] + 1]
    picks = np.linspace(0, order.size - 1, min(most, order.size))
    return [int(order[int(pick + 0.5)]) for pick in picks]


def contact_sheet(subject: str, stacks: Sequence[Shown]) -> np.ndarray:
    """Draw up to 12 slices of a subject, caudal to cranial, all in the same scale.

    Returns a canvas of `drawing`. Image left is the subject's right. Truth, where there is any, is
    a thin white line over the muscles.
    """
    places = [(shown, index) for shown in stacks for index in range(len(shown.grey))]
    picks = slices_to_show(
        [shown.stack.position_mm[index] for shown, index in places],
        [bool(shown.stack.labels[index].any()) for shown, index in places],
        MOST_SLICES,
    )
    step = (TILE[0] + CAPTION + GAP, TILE[1] + GAP)
    rows = -(-len(picks) // COLUMNS)
    canvas = np.zeros((HEAD + rows * step[0], COLUMNS * step[1] + GAP), dtype=np.uint8)
    _draw_head(canvas, subject, any(shown.truth is not None for shown in stacks))
    views = _views(stacks)
    for number, pick in enumerate(picks):
        shown, index = places[pick]
        top = HEAD + number // COLUMNS * step[0]
        left = GAP + number % COLUMNS * step[1]
        _draw_slice(canvas, (top, left), shown, index, views[shown.stack.number])
    return canvas


def _views(stacks: Sequence[Shown]) -> dict[int, drawing.View]:
    """Centre each stack on its muscles; one scale, which holds the muscles of all of them."""
    boxes = [_box(shown.stack) for shown in stacks]
    scale = max(float((size_mm / TILE).max()) for _, size_mm in boxes)  # mm per drawn pixel
    views = {}
    for shown, (centre, _) in zip(stacks, boxes, strict=True):
        down, across = scale / np.array(_spacing(shown.stack))
        views[shown.stack.number] = drawing.View(tuple(centre), (down, across), TILE)
    return views


def _box(stack: Stack) -> tuple[np.ndarray, np.ndarray]:
    """Return centre (row, column) and size (mm) of the muscles with a margin; else of the image."""
    filled = stack.labels.any(axis=0)
    margin_mm = MARGIN_MM if filled.any() else 0.0
    indices = np.argwhere(filled if filled.any() else ~filled)
    low, high = indices.min(axis=0), indices.max(axis=0)
    return (low + high) / 2, (high - low + 1) * _spacing(stack) + 2 * margin_mm


def _spacing(stack: Stack) -> tuple[float, float]:
    return stack.row_spacing_mm, stack.column_spacing_mm


def _draw_head(canvas: np.ndarray, subject: str, has_truth: bool) -> None:
    drawing.write_text(canvas, subject, (17, GAP + 4), LARGE)
    note = "white line: manual mask" if has_truth else "caudal to cranial"
    drawing.write_text(canvas, note, (42, GAP + 4), SMALL)
    widest = (canvas.shape[1] - 200) // 4
    for label in LABELS:
        column, row = divmod(label.value - 1, 2)
        top, left = 10 + 25 * row, 200 + column * widest
        canvas[top : top + 14, left : left + 14] = drawing.pure_colour(label.value)
        drawing.write_text(canvas, label.name, (top + 7, left + 20), MIDDLE)


def _draw_slice(
    canvas: np.ndarray, corner: tuple[int, int], shown: Shown, index: int, view: drawing.View
) -> None:
    top, left = corner
    truth = None if shown.truth is None else shown.truth[index]
    picture = drawing.tile(shown.grey[index], shown.stack.labels[index], truth, view)
    drawing.write_text(picture, "R", (TILE[0] // 2, 6), LARGE)
    drawing.write_text(picture, "L", (TILE[0] // 2, TILE[1] - 6), LARGE, anchor="rm")
    canvas[top : top + TILE[0], left : left + TILE[1]] = picture
    position = shown.stack.position_mm[index]
    caption = f"stack {shown.stack.number}   slice {index}   {position:.1f} mm"
    drawing.write_text(canvas, caption, (top + TILE[0] + CAPTION // 2, left + 2), SMALL)


def draw_preview(
    segment: SegmentTable, folder: SubjectsFolder, out: OutTable, workers: Workers = 1
) -> None:
    """Draw a picture of every subject: up to 12 slices with the muscles in their colours.

    Each subject gets its preview.png; the table has a row per subject.
    """
    do = partial(_draw_subject, folder)
    shards.work_after(segment, "draw_preview", do, folder=folder, out=out, workers=workers)


def _draw_subject(folder: Path, task: shards.Task, scratch: Path) -> shards.Product:
    home = folder / task.subject
    stacks = [
        Shown(
            stack,
            drawing.windowed(read_image(home, stack.number)),
            read_truth(home, stack.number),
        )
        for stack in read_stacks(home)
    ]
    picture = drawing.as_picture(contact_sheet(task.subject, stacks))
    picture.save(SubjectFolder(scratch).preview_file, compress_level=9)
    return shards.Product([])
