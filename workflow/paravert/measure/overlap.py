"""Overlap of the labels with the manual ones: IoU and Dice."""

from functools import partial
from pathlib import Path

import numpy as np

from paravert import shards
from paravert.imaging.label_overlap import slice_overlap
from paravert.imaging.volume import stack_numbers
from paravert.measure.options import OutTable, SegmentTable, SubjectsFolder, Workers
from paravert.measure.stacks import read_stacks, read_truth, rows_of


def score_overlap(
    segment: SegmentTable, folder: SubjectsFolder, out: OutTable, workers: Workers = 1
) -> None:
    """Score the labels against the manual ones, wherever there are any.

    Writes a row per subject, stack, slice, muscle and side; none for a slice of which the truth is
    wholly empty: nobody drew there, which says nothing about the labels.
    """
    do = partial(_score_subject, folder)
    shards.work_after(segment, "score_overlap", do, folder=folder, out=out, workers=workers)


def _score_subject(folder: Path, task: shards.Task, scratch: Path) -> shards.Product:
    home = folder / task.subject
    given = stack_numbers(home, "given")
    rows = []
    for stack in read_stacks(home):
        truth = read_truth(home, stack.number)
        if truth is not None:
            drawn = set(np.flatnonzero(truth.any(axis=(1, 2))).tolist())
            every = rows_of(stack.number, vars(slice_overlap(stack.labels, truth)))
            told = {"labels_given": stack.number in given}
            rows += [row | told for row in every if row["slice"] in drawn]
    return shards.Product(rows)
