"""Shard tables of subjects with one slice each, all muscles alike, and of quarantined ones."""

from made_from import chain
from paravert import shard_tables, steps
from paravert.anatomy import LABELS
from paravert.records import Outcome, Result
from paravert.tables import FAT_METHODS, OTSU_METHODS

SERIES = [
    {"series_number": 1, "plane": "sagittal", "sequence": "T2", "n_slices": 9, "chosen": False}
    | {"spacing_mm": 4.0, "series_reason": "non-axial"},
    {"series_number": 2, "plane": "axial", "sequence": "T2", "n_slices": 1, "chosen": True}
    | {"spacing_mm": None, "series_reason": None},
]


def rows_of(step, labels_given=False, header=None):
    """Return rows of one analysed subject: one slice, every muscle alike."""
    if step == "convert_dicom":
        counts = {"stacks": 1, "slices": 1, "has_truth": False, "has_labels": False}
        return [counts | {"series": SERIES} | (header or {})]
    if step == "segment_muscles":
        return [{"labels_source": "network", "removed_mm2": 0.0}]
    if step == "draw_preview":
        return [{"labels_digest": "f"}]
    if step == "find_levels":
        return [{"stack": 1, "slice": 0, "level_source": "none"}]
    rows = []
    for label in LABELS:
        row = {"stack": 1, "slice": 0, "muscle": label.muscle, "side": label.side}
        if step == "score_overlap":
            row |= {"iou": 0.9, "dice": 0.95, "pixels_truth": 100, "pixels_prediction": 100}
            row |= {"labels_given": labels_given, "pixel_mm2": 0.5}
        elif step == "measure_area":
            row |= {"position_mm": 0.0, "tilt_deg": 0.0, "slab_mm": 4.0, "overlaps": False}
            row |= {"pixels": 100, "csa_mm2": 50.0, "csa_axial_mm2": 50.0}
            row["labels_source"] = "sheet" if labels_given else "network"
        else:
            row |= {f"fat_fraction_{method}": 0.2 for method in FAT_METHODS}
            row |= {f"separability_{method}": 0.9 for method in OTSU_METHODS}
        rows.append(row)
    return rows


def write_shard(folder, analysed=(), quarantined=(), stage="convert_dicom", given=(), header=None):
    reached = list(steps.STEPS).index(stage)
    made_from = chain(dict.fromkeys(sorted([*analysed, *quarantined]), "f"))
    for number, step in enumerate(steps.COHORT_STEPS):
        results = [
            Result(
                Outcome(s, "analysed", "f", ("multi-stack",)),
                rows_of(step.name, s in given, header),
            )
            for s in analysed
        ]
        for subject in quarantined:
            outcome = Outcome(subject, "quarantined", "f", (), stage, "no-dicom", "nothing there")
            before = Outcome(subject, "analysed", "f")
            earlier = number < reached
            results.append(Result(before, rows_of(step.name)) if earlier else Result(outcome, []))
        path = folder / f"{step.table.name}.parquet"
        results.sort(key=lambda result: result.outcome.subject)
        shard_tables.write_shard_table(path, step, results, made_from[step.name])
