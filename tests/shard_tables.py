"""Shard tables with numbers by chance, many at little cost, for tests of gathering."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa

from made_from import chain
from paravert import records, shard_tables, steps, tables
from paravert.anatomy import LABELS
from paravert.tables import FAT_METHODS, OTSU_METHODS

QUARANTINED_EVERY = 7


def write_shards(folder: Path, plan: dict[str, list[str]], slices: int = 6) -> None:
    """Write all tables of some shards; what a subject has in them depends on its name alone."""
    for shard, subjects in plan.items():
        made_from = chain(dict.fromkeys(subjects, "f"))
        for step in steps.COHORT_STEPS:
            outcomes = [_outcome(subject) for subject in subjects]
            parts = [
                _rows(step, outcome, slices)
                for outcome in outcomes
                if outcome.status == records.ANALYSED or step.table.per_subject
            ]
            data = pa.concat_tables([tables.from_rows(step.table, []), *parts])
            told = json.dumps([asdict(outcome) for outcome in outcomes])
            metadata = {"outcomes": told, "made_from": made_from[step.name]}
            path = folder / shard / f"{step.table.name}.parquet"
            tables.write(path, step.table, data, metadata)


def _outcome(subject: str) -> records.Outcome:
    if int(subject[1:]) % QUARANTINED_EVERY:
        return records.Outcome(subject, records.ANALYSED, "f", ("multi-stack",))
    fault = {"stage": "convert_dicom", "reason": "no-dicom", "message": "found none"}
    return records.Outcome(subject, records.QUARANTINED, "f", **fault)


def _rows(step: steps.Step, outcome: records.Outcome, slices: int) -> pa.Table:
    told = shard_tables.outcome_row(outcome) | {"subject": outcome.subject}
    random = np.random.default_rng(int(outcome.subject[1:]))
    if step.name == "convert_dicom" and outcome.status == records.ANALYSED:
        told |= {"stacks": 1, "slices": slices, "has_truth": False, "has_labels": False}
        told["series"] = [
            {"series_number": 1, "plane": "axial", "sequence": "T2", "n_slices": slices}
            | {"spacing_mm": 4.0, "chosen": True, "series_reason": None}
        ]
    if step.table.per_subject:
        return tables.from_rows(step.table, [told])
    if step.name == "find_levels":
        slice_rows = [
            {"subject": outcome.subject, "stack": 1, "slice": number, "level_source": "none"}
            for number in range(slices)
        ]
        return tables.from_rows(step.table, slice_rows)
    rows = slices * len(LABELS)
    columns = {
        "subject": [outcome.subject] * rows,
        "stack": [1] * rows,
        "slice": np.repeat(np.arange(slices), len(LABELS)),
        "muscle": [label.muscle for label in LABELS] * slices,
        "side": [label.side for label in LABELS] * slices,
    }
    columns |= _NUMBERS[step.name](random, rows)
    arrays = {
        column.name: pa.array(columns.get(column.name, [None] * rows), column.type)
        for column in step.table.columns
    }
    return pa.table(arrays, schema=step.table.schema())


def _areas(random: np.random.Generator, rows: int) -> dict:
    pixels = random.integers(0, 4000, rows) * (random.random(rows) > 0.1)
    return {
        "position_mm": random.normal(0, 40, rows),
        "tilt_deg": random.uniform(0, 20, rows),
        "slab_mm": random.uniform(3, 6, rows),
        "overlaps": random.random(rows) < 0.1,
        "pixels": pixels,
        "csa_mm2": pixels * 0.36,
        "csa_axial_mm2": pixels * 0.35,
        "labels_source": ["network"] * rows,
    }


def _fat(random: np.random.Generator, rows: int) -> dict:
    names = [f"{kind}_{m}" for m in FAT_METHODS for kind in ("fat_fraction", "eroded")]
    names += [f"separability_{m}" for m in OTSU_METHODS]
    return {name: random.random(rows) for name in names}


def _overlap(random: np.random.Generator, rows: int) -> dict:
    counts = {
        name: random.integers(1, 4000, rows) for name in ("pixels_truth", "pixels_prediction")
    }
    ratios = {name: random.random(rows) for name in ("iou", "dice")}
    return counts | ratios | {"labels_given": np.zeros(rows, bool), "pixel_mm2": np.full(rows, 0.5)}


_NUMBERS = {"measure_area": _areas, "measure_fat": _fat, "score_overlap": _overlap}
