"""Rule score_overlap: IoU and Dice of the labels with the manual masks."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import compress
from pathlib import Path

import numpy as np

from paravert import shards
from paravert.anatomy import LABELS
from paravert.errors import Caution, some_of
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

LEAST_DICE = 0.1  # below, mask and network do not mean the same muscle
MANY_SLICES = 5  # in fewer, chance decides


def score_overlap(
    segment: SegmentTable, folder: SubjectsFolder, out: OutTable, workers: Workers = 1
) -> None:
    """Score the labels against the manual masks, wherever there are any.

    Writes the shard's table `overlap` (tables.SHARD_OVERLAP): a row per subject, stack, slice, muscle
    and side, with IoU and Dice of labels and manual mask and the pixels of both; where the sheet has a
    second manual mask, also its pixels and the IoU of the two masks. The first manual mask decides
    which rows there are. No rows: slices in which it shows no label, and muscle sides that it shows
    nowhere in the subject; both count as not annotated, even if the second mask shows them. A muscle
    side that the source of given labels does not contain has null scores. Warning mask-unlike-network:
    the Dice of a muscle side is below 0.1 over all slices with rows that the network labelled, and the
    first mask shows it in five or more of them. Parameters and errors: as of `shards.work_after`, whose
    shard_table is `segment`.
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
        of_stack = {"labels_given": stack.number in given, "pixel_mm2": stack.pixel_area_mm2}
        overlap = slice_overlap(stack.labels, truth)
        reason = np.where(np.isnan(overlap.iou), ABSENT, None)
        columns = vars(overlap) | {"overlap_reason": reason}
        columns |= _raters(truth, second[stack.number], drawn2)
        scored = stack_rows(stack.number, columns)
        unknown = ("iou", "dice", "pixels_prediction")
        rows += [
            row | of_stack
            for row in with_unknown(scored, stack, unknown, ("overlap_reason",))
            if row["slice"] in slices and (row["muscle"], row["side"]) in muscles
        ]
    unlike = _unlike_network(rows)
    return shards.Product(
        rows,
        (Caution.MASK_UNLIKE_NETWORK,) if unlike else (),
        f"truth: Dice with the network of {some_of(unlike)}" if unlike else None,
    )


def _unlike_network(rows: Sequence[Mapping]) -> list[str]:
    """Return the muscle sides whose mask and network's labels hardly meet: "multifidus left 0.02".

    rows: of the table overlap, of one subject. The number is the Dice over all slices that the
    network labelled.
    """
    shown = defaultdict(list)
    for row in rows:
        if not row["labels_given"] and row["pixels_truth"] + row["pixels_prediction"]:
            shown[f"{row['muscle']} {row['side']}"].append(row)
    told = []
    for name, own in shown.items():
        pixels = [row["pixels_truth"] + row["pixels_prediction"] for row in own]
        dice = np.average([row["dice"] for row in own], weights=pixels)
        if dice < LEAST_DICE and sum(row["pixels_truth"] > 0 for row in own) >= MANY_SLICES:
            told.append(f"{name} {dice:.2f}")
    return told


def _raters(
    truth: np.ndarray, second: np.ndarray | None, drawn: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the columns pixels_truth2 and iou_raters, (slices, 8).

    truth, second: masks of both raters, (slices, rows, columns). drawn: (8,), labels of the second.
    NaN in slices in which the second shows nothing, and for labels that it never shows.
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
