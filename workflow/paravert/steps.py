"""The steps that run per shard: commands, tables, versions, and the files that each writes."""

from dataclasses import dataclass
from pathlib import Path

from paravert import tables
from paravert.subject_folder import (
    FAT_FOLDER,
    GIVEN_FOLDER,
    IMAGE_FOLDER,
    LABELS_FOLDER,
    PREVIEW_FILE,
    REVIEW_FOLDER,
    SAGITTAL_FILE,
    SLICES_FILE,
    TRUTH2_FOLDER,
    TRUTH_FOLDER,
    WATER_FOLDER,
)

# The version of each rule's results. Raise it when a change of the code changes numbers or files of
# results: otherwise results of the older code are kept.
VERSIONS = {
    "make_phantoms": 2,
    "draw_anatomies": 2,
    "convert_dicom": 8,
    "pretrain_network": 6,
    "train_network": 3,
    "train_levels": 1,
    "train_axial_levels": 2,
    "segment_muscles": 9,
    "find_levels": 7,
    "measure_area": 5,
    "measure_fat": 8,
    "score_overlap": 4,
    "draw_preview": 5,
    "dicomseg": 3,
    "gather_cohort": 19,
    "export_tables": 2,
    "accept_ledger": 1,
    "fit_models": 19,
    "fit_centiles": 6,
    "write_tables": 18,
    "draw_figures": 16,
    "write_report": 18,
    "write_review": 6,
}


@dataclass(frozen=True)
class Step:
    """A step of the workflow that runs per shard (a group of subjects that one job processes).

    name: of rule and command. module: that defines the command, below `paravert`. table: description of
    the table that it writes per shard. record: file name of the record (JSON) that it keeps in each
    subject's folder. after: name of the step whose shard table it reads; None for the first step.
    besides: names of further steps whose shard tables it reads. owns: names of the files and folders in
    a subject's folder that only this step writes. reads: names of the steps whose files in a subject's
    folder it reads, in the order of STEPS. extra: whether it runs only on request and adds nothing to
    the cohort tables.
    """

    name: str
    module: str
    table: tables.Table
    record: str
    after: str | None = None
    besides: tuple[str, ...] = ()
    owns: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    extra: bool = False

    @property
    def version(self) -> int:
        """The version of the step's results (VERSIONS).

        After it is raised, the results of the step are computed again.
        """
        return VERSIONS[self.name]

    def table_file(self, shard: Path) -> Path:
        """Return the path of the step's table (Parquet). shard: folder of one shard's tables."""
        return shard / f"{self.table.name}.parquet"


def _measuring(name: str, module: str, table: tables.Table, **more: object) -> Step:
    """Return a step that reads the images and labels of segmented subjects."""
    reads = ("convert_dicom", "segment_muscles")
    record = f"{table.name}.json"
    return Step(name, module, table, record, after="segment_muscles", reads=reads, **more)


STEPS = {
    step.name: step
    for step in (
        Step(
            "convert_dicom",
            "imaging.convert",
            tables.CONVERT,
            "status.json",
            owns=(
                *(IMAGE_FOLDER, WATER_FOLDER, FAT_FOLDER, TRUTH_FOLDER, TRUTH2_FOLDER),
                *(GIVEN_FOLDER, SLICES_FILE, SAGITTAL_FILE),
            ),
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
        _measuring("find_levels", "network.find_levels", tables.SLICE_LEVELS),
        _measuring("measure_area", "measure.area", tables.AREA),
        _measuring("measure_fat", "measure.fat", tables.FAT),
        _measuring("score_overlap", "measure.score_overlap", tables.SHARD_OVERLAP),
        _measuring(
            "draw_preview",
            "measure.preview",
            tables.PREVIEW,
            besides=("find_levels",),
            owns=(PREVIEW_FILE, REVIEW_FOLDER),
        ),
        _measuring("dicomseg", "measure.dicomseg", tables.DICOMSEG, owns=("dicomseg",), extra=True),
    )
}
COHORT_STEPS = tuple(step for step in STEPS.values() if not step.extra)
