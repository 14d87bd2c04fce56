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
)
from paravert.subject_folder import SubjectFolder


def score_overlap(
    segment: SegmentTable, folder: SubjectsFolder, out: OutTable, workers: Workers = 1
) -> None:
    """Score the labels against the manual masks, wherever there are any.

    Writes a row per subject, stack, slice, muscle and side. Not annotated, hence not scored: a
    slice without any manual label, and a muscle and side without any in the whole subject.
    """
    do = partial(_score_subject, folder)
    shards.work_after(segment, "score_overlap", do, folder=folder, out=out, workers=workers)


def _score_subject(folder: Path, task: shards.Task, scratch: Path) -> shards.Product:
    home = folder / task.subject
    given, drawn_on = map(SubjectFolder(home).stack_numbers, ("given", "truth"))
    truths = {number: read_truth(home, number) for number in drawn_on}
    drawn = drawn_labels(truths.values())
    muscles = {(label.muscle, label.side) for label in compress(LABELS, drawn)}
    rows = []
    for stack in read_labelled_stacks(home):
        if (truth := truths.get(stack.number)) is None:
            continue
        slices = set(np.flatnonzero(truth.any(axis=(1, 2))).tolist())
        source = {"labels_given": stack.number in given}
        rows += [
            row | source
            for row in stack_rows(stack.number, vars(slice_overlap(stack.labels, truth)))
            if row["slice"] in slices and (row["muscle"], row["side"]) in muscles
        ]
    return shards.Product(rows)
