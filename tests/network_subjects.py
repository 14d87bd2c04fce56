"""Small converted subjects whose eight muscles are discs, for tests of the network's room."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from paravert import records, shard_tables, steps
from paravert.anatomy import LABELS
from paravert.imaging.volume import Volume, write_volume
from paravert.subject_folder import SubjectFolder

SLICES, ROWS, COLUMNS = 4, 64, 56
ROW_MM, COLUMN_MM, SLICE_MM = 2.0, 2.5, 5.0
AFFINE = np.array(  # columns towards the left (-x), rows towards the back (-y), slices upwards
    [
        [-COLUMN_MM, 0, 0, COLUMNS * COLUMN_MM / 2],
        [0, -ROW_MM, 0, ROWS * ROW_MM / 2],
        [0, 0, SLICE_MM, 0],
        [0, 0, 0, 1.0],
    ]
)
SIGNAL = {"psoas_major": 400, "quadratus_lumborum": 600, "erector_spinae": 800, "multifidus": 1000}


def disc_stack(seed: int) -> tuple[Volume, Volume]:
    """Return image and truth: a disc per muscle and side, left and right of a bright middle line."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:ROWS, :COLUMNS].astype(float)
    y, x = y * ROW_MM, x * COLUMN_MM
    truth = np.zeros((SLICES, ROWS, COLUMNS), dtype=np.uint8)
    image = rng.normal(100, 20, truth.shape)
    for index in range(SLICES):
        middle = COLUMNS * COLUMN_MM / 2 + rng.normal(0, 4)
        image[index][np.abs(x - middle) < 8] += 1500
        for label in LABELS:
            side = 1 if label.side == "left" else -1
            row = 20 + 28 * ((label.value - 1) // 2) + rng.normal(0, 2)
            disc = np.hypot(y - row, x - middle - side * 22) < 12
            truth[index][disc] = label.value
            image[index][disc] += SIGNAL[label.muscle]
    image = Volume(np.round(image.clip(0)).astype(np.int16), AFFINE)
    return image, image.with_array(truth)


def make_cohort(
    root: Path,
    subjects: list[str],
    without_truth: list[str] = (),
    quarantined: Mapping[str, str] = MappingProxyType({}),
) -> Path:
    """Write converted subjects below root/subjects; return their shard table.

    quarantined: reason by name, of others.
    """
    results = []
    for subject, reason in quarantined.items():
        outcome = records.Outcome(subject, records.QUARANTINED, "", stage="convert", reason=reason)
        results.append(records.Result(outcome, []))
    for seed, subject in enumerate(subjects):
        image, truth = disc_stack(seed)
        home = root / "subjects" / subject
        write_volume(SubjectFolder(home).stack_file("image", 1), image)
        has_truth = subject not in without_truth
        if has_truth:
            write_volume(SubjectFolder(home).stack_file("truth", 1), truth)
        row = {"stacks": 1, "slices": SLICES, "has_truth": has_truth, "has_labels": False}
        outcome = records.Outcome(subject, records.ANALYSED, f"convert of {subject}")
        results.append(records.Result(outcome, [row]))
    out = root / "convert.parquet"
    shard_tables.write_shard_table(out, steps.STEPS["convert_dicom"], results, "images")
    return out
