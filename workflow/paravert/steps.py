"""The steps that work per shard: their commands, their tables, and what each leaves of a subject."""

from dataclasses import dataclass

from paravert import tables


@dataclass(frozen=True)
class Step:
    """A rule that works per shard: its command, its module, the shard table and the record.

    owns: files and folders of a subject that this step alone writes. reads: steps that wrote what
    this one reads there.
    extra: made only when asked for, and no part of the cohort.
    """

    name: str
    module: str
    table: tables.Table
    record: str
    owns: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    extra: bool = False


LABELLED = ("convert_dicom", "segment_muscles")  # who made images and labels
STEPS = {
    step.name: step
    for step in (
        Step(
            "convert_dicom",
            "imaging.convert",
            tables.CONVERT,
            "status.json",
            owns=("image", "truth", "given", "slices.parquet"),
        ),
        Step(
            "segment_muscles",
            "network.segment",
            tables.SEGMENT,
            "segment.json",
            owns=("labels",),
            reads=("convert_dicom",),
        ),
        Step("measure_area", "measure.area", tables.AREA, "area.json", reads=LABELLED),
        Step("measure_fat", "measure.fat", tables.FAT, "fat.json", reads=LABELLED),
        Step(
            "score_overlap",
            "measure.overlap",
            tables.SHARD_OVERLAP,
            "overlap.json",
            reads=LABELLED,
        ),
        Step(
            "draw_preview",
            "measure.preview",
            tables.PREVIEW,
            "preview.json",
            owns=("preview.png",),
            reads=LABELLED,
        ),
        Step(
            "dicomseg",
            "measure.dicomseg",
            tables.DICOMSEG,
            "dicomseg.json",
            owns=("dicomseg",),
            reads=LABELLED,
            extra=True,
        ),
    )
}
COHORT_STEPS = tuple(step for step in STEPS.values() if not step.extra)
