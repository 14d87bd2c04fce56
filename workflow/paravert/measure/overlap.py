"""Overlap of the labels with the manual ones: IoU and Dice."""

from functools import partial
from itertools import compress
from pathlib import Path

import numpy as np

from paravert import shards
from paravert.anatomy import LABELS
from paravert.imaging.label_maps import drawn_labels, slice_overlap
from paravert.measure.options import OutTable, SegmentTable, SubjectsFolder, Workers
from paravert.measure.stacks import read_stacks, read_truth, rows_of
from paravert.subject_folder import SubjectFolder


def score_overlap(
    segment: SegmentTable, folder: SubjectsFolder, out: OutTable, workers: Workers = 1
) -> None:
    """Score the labels against the manual ones, wherever there are any.

    Writes a row per subject, stack, slice, muscle and side; none for a slice of which the truth is
    wholly empty, and none for a muscle and side that is nowhere in the subject's truth: nobody drew
    there, which says nothing about the labels.
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
    for stack in read_stacks(home):
        if (truth := truths.get(stack.number)) is None:
            continue
        slices = set(np.flatnonzero(truth.any(axis=(1, 2))).tolist())
        told = {"labels_given": stack.number in given}
        rows += [
            row | told
            for row in rows_of(stack.number, vars(slice_overlap(stack.labels, truth)))
            if row["slice"] in slices and (row["muscle"], row["side"]) in muscles
        ]
    return shards.Product(rows)
