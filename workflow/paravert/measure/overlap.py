"""Overlap of the labels with the manual ones: IoU and Dice."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from paravert import shards
from paravert.anatomy import LABEL_VALUES
from paravert.measure.options import OutTable, SegmentTable, SubjectsFolder, Workers
from paravert.measure.stacks import read_stacks, read_truth, rows_of


@dataclass(frozen=True)
class Overlap:
    """Agreement of prediction and truth, each array (slices, 8), in the order of LABELS.

    iou, dice: 0-1; NaN (unknown) where both are empty; 0 where only one is.
    """

    iou: np.ndarray
    dice: np.ndarray
    pixels_truth: np.ndarray
    pixels_prediction: np.ndarray


def slice_overlap(prediction: np.ndarray, truth: np.ndarray) -> Overlap:
    """Compare two label maps, (slices, rows, columns), muscle by muscle and slice by slice.

    IoU = |I| / |U| and Dice = 2 |I| / (|P| + |T|), over the pixels of one slice; IoU = D / (2 - D).
    Source: the paper, eq. 3. Raises ValueError where the shapes differ.
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction has shape {prediction.shape}, truth {truth.shape}")
    pairs = np.array([_counts_of_pairs(*planes) for planes in zip(prediction, truth, strict=True)])
    pairs = pairs.reshape(len(truth), _SIZE, _SIZE)
    values = list(LABEL_VALUES)
    both = pairs[:, values, values]
    predicted, true = pairs.sum(axis=2)[:, values], pairs.sum(axis=1)[:, values]
    return Overlap(
        iou=_ratio(both, predicted + true - both),
        dice=_ratio(2 * both, predicted + true),
        pixels_truth=true,
        pixels_prediction=predicted,
    )


_SIZE = 1 + max(LABEL_VALUES)


def _counts_of_pairs(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    pairs = prediction.astype(np.uint8) * np.uint8(_SIZE) + truth.astype(np.uint8)
    return np.bincount(pairs.ravel(), minlength=_SIZE**2)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


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
    rows = []
    for stack in read_stacks(home):
        truth = read_truth(home, stack.number)
        if truth is not None:
            drawn = set(np.flatnonzero(truth.any(axis=(1, 2))).tolist())
            every = rows_of(stack.number, vars(slice_overlap(stack.labels, truth)))
            rows += [row for row in every if row["slice"] in drawn]
    return shards.Product(rows)
