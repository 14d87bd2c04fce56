"""The steps that work per shard: their commands, their tables, and what each leaves of a subject."""

from dataclasses import dataclass

from paravert import tables
from paravert.subject_folder import (
    GIVEN_FOLDER,
    IMAGE_FOLDER,
    LABELS_FOLDER,
    PREVIEW_FILE,
    SLICES_FILE,
    TRUTH_FOLDER,
)

# The version of what each rule makes. Raise it when a change of the code moves numbers or changes
# files of results: they are made anew then, and only then.
VERSIONS = {
    "make_phantoms": 1,
    "draw_anatomies": 1,
    "convert_dicom": 2,
    "pretrain_network": 1,
    "train_network": 1,
    "segment_muscles": 2,
    "measure_area": 1,
    "measure_fat": 2,
    "score_overlap": 1,
    "draw_preview": 1,
    "dicomseg": 1,
    "gather_cohort": 4,
    "accept_ledger": 1,
    "fit_models": 1,
    "write_tables": 1,
    "draw_figures": 4,
    "write_report": 2,
}


@dataclass(frozen=True)
class Step:
    """A rule that works per shard: its command, its module, the shard table and the record.

    after: the step whose shard table it takes. owns: files and folders of a subject that this step
    alone writes. reads: steps that wrote what this one reads there.
    extra: made only when asked for, and no part of the cohort.
    """

    name: str
    module: str
    table: tables.Table
    record: str
    after: str | None = None
    owns: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    extra: bool = False

    @property
    def version(self) -> int:
        """The version of what the step makes."""
        return VERSIONS[self.name]


LABELLED = ("convert_dicom", "segment_muscles")  # who made images and labels
STEPS = {
    step.name: step
    for step in (
        Step(
            "convert_dicom",
            "imaging.convert",
            tables.CONVERT,
            "status.json",
            owns=(IMAGE_FOLDER, TRUTH_FOLDER, GIVEN_FOLDER, SLICES_FILE),
        ),
        Step(
            "segment_muscles",
            "network.segment",
            tables.SEGMENT,
            "segment.json",
            after="convert_dicom",
            owns=(LABELS_FOLDER,),
            reads=("convert_dicom",),
        ),
        Step(
            "measure_area",
            "measure.area",
            tables.AREA,
            "area.json",
            after="segment_muscles",
            reads=LABELLED,
        ),
        Step(
            "measure_fat",
            "measure.fat",
            tables.FAT,
            "fat.json",
            after="segment_muscles",
            reads=LABELLED,
        ),
        Step(
            "score_overlap",
            "measure.score_overlap",
            tables.SHARD_OVERLAP,
            "overlap.json",
            after="segment_muscles",
            reads=LABELLED,
        ),
        Step(
            "draw_preview",
            "measure.preview",
            tables.PREVIEW,
            "preview.json",
            after="segment_muscles",
            owns=(PREVIEW_FILE,),
            reads=LABELLED,
        ),
        Step(
            "dicomseg",
            "measure.dicomseg",
            tables.DICOMSEG,
            "dicomseg.json",
            after="segment_muscles",
            owns=("dicomseg",),
            reads=LABELLED,
            extra=True,
        ),
    )
}
COHORT_STEPS = tuple(step for step in STEPS.values() if not step.extra)
