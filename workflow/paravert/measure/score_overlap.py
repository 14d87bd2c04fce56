"""Rule score_overlap: IoU and Dice of the labels with the manual masks."""

from functools import partial
from itertools import compress
from pathlib import Path

import numpy as np

from paravert import shards
from paravert.anatomy import LABELS
from paravert.imaging.label_maps import drawn_labels, slice_overlap
from paravert.measure.labelled_stack import (
    OutTable,
    SegmentTable,
    SubjectsFolder,
    Workers,
    read_labelled_stacks,
    read_truth,
    stack_rows,
    with_unknown,
)
from paravert.subject_folder import TRUTH2_FOLDER, SubjectFolder
from paravert.tables import ABSENT


def score_overlap(
    segment: SegmentTable, folder: SubjectsFolder, out: OutTable, workers: Workers = 1
) -> None:
    """Score the labels against the manual masks, wherever there are any.

    Writes the shard's table `overlap`: a row per subject, stack, slice, muscle and side, with IoU
    and Dice of labels and manual mask and the pixels of both; where the sheet has a second manual
    mask, also its pixels and the IoU of the two masks. No rows: slices without any manual label, and
    muscle sides that no manual mask of the subject contains; both count as not annotated. A muscle side
    that the source of given labels does not contain has null scores.
    """
    do = partial(_score_subject, folder)
    shards.work_after(segment, "score_overlap", do, folder=folder, out=out, workers=workers)


def _score_subject(folder: Path, task: shards.Task, scratch: Path) -> shards.Product:
    home = folder / task.subject
    given, drawn_on = map(SubjectFolder(home).stack_numbers, ("given", "truth"))
    truths = {number: read_truth(home, number) for number in drawn_on}
    drawn = drawn_labels(truths.values())
    muscles = {(label.muscle, label.side) for label in compress(LABELS, drawn)}
    second = {number: read_truth(home, number, TRUTH2_FOLDER) for number in drawn_on}
    drawn2 = drawn_labels([truth for truth in second.values() if truth is not None])
    rows = []
    for stack in read_labelled_stacks(home):
        if (truth := truths.get(stack.number)) is None:
            continue
        slices = set(np.flatnonzero(truth.any(axis=(1, 2))).tolist())
        source = {"labels_given": stack.number in given}
        overlap = slice_overlap(stack.labels, truth)
        reason = np.where(np.isnan(overlap.iou), ABSENT, None)
        columns = vars(overlap) | {"overlap_reason": reason}
        columns |= _raters(truth, second[stack.number], drawn2)
        scored = stack_rows(stack.number, columns)
        unknown = ("iou", "dice", "pixels_prediction")
        rows += [
            row | source
            for row in with_unknown(scored, stack, unknown, ("overlap_reason",))
            if row["slice"] in slices and (row["muscle"], row["side"]) in muscles
        ]
    return shards.Product(rows)


def _raters(
    truth: np.ndarray, second: np.ndarray | None, drawn: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the columns pixels_truth2 and iou_raters, (slices, 8); NaN where only one rater drew.

    truth, second: masks of both raters, (slices, rows, columns). drawn: (8,), labels of the second.
    """
    if second is None:
        return dict.fromkeys(
            ("pixels_truth2", "iou_raters"), np.full((len(truth), len(LABELS)), np.nan)
        )
    both = slice_overlap(second, truth)
    compared = second.any(axis=(1, 2))[:, None] & np.asarray(drawn)
    return {
        "pixels_truth2": np.where(compared, both.pixels_prediction, np.nan),
        "iou_raters": np.where(compared, both.iou, np.nan),
    }
