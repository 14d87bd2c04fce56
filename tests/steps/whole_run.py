"""Every step up to the cohort tables, on subjects of one shard, in this process."""

import json
from collections.abc import Sequence
from pathlib import Path

from made_from import AXIAL_MODEL, CONFIGURATION, LEVELS_MODEL, MODEL
from paravert.imaging.convert import convert_dicom
from paravert.measure.area import measure_area
from paravert.measure.fat import measure_fat
from paravert.measure.preview import draw_preview
from paravert.measure.score_overlap import score_overlap
from paravert.network.find_levels import find_levels
from paravert.network.segment import segment_muscles
from paravert.study.cohort import gather_cohort


def gathered(sheet: Path, subjects: Sequence[str], labels_from: str = "paravert") -> Path:
    """Return the folder of results beside a sheet, with all tables up to those of the cohort."""
    results = sheet.parent / "results"
    shard, folder = results / "shards/0", results / "subjects"
    convert, segment, levels = (
        shard / f"{name}.parquet" for name in ("convert", "segment", "levels")
    )
    convert_dicom(sheet, list(subjects), folder, convert, labels_from=labels_from)
    segment_muscles(convert, folder, segment, *MODEL, "cpu")
    find_levels(segment, sheet, folder, levels, *LEVELS_MODEL, *AXIAL_MODEL)
    for step, name in ((measure_area, "area"), (measure_fat, "fat"), (score_overlap, "overlap")):
        step(segment, folder, shard / f"{name}.parquet")
    draw_preview(segment, folder, shard / "preview.parquet", levels)
    settings = json.dumps(CONFIGURATION)
    gather_cohort(sheet, results / "shards", results / "cohort", "linear", settings, *MODEL)
    return results
