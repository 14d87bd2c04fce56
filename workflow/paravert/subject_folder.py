"""The files of one subject below `results/subjects/`, which the steps leave for each other."""

import json
from dataclasses import dataclass
from pathlib import Path

from paravert.anatomy import LABELS
from paravert.label_sources import LabelSource

IMAGE_FOLDER = "image"  # the converted stacks
TRUTH_FOLDER = "truth"  # manual labels on the voxels of the image
TRUTH2_FOLDER = "truth2"  # those of a second rater
WATER_FOLDER = "water"  # the Dixon water images of stacks that have them
FAT_FOLDER = "fat"  # the Dixon fat images, where these are not the converted stacks themselves
GIVEN_FOLDER = "given"  # labels that the sheet names, on the voxels of the image
LABELS_FOLDER = "labels"  # the segmentation, with its predicted IoU
SOURCE_FILE = "source.json"  # in GIVEN_FOLDER: whose labels they are, if not of the own values
SLICES_FILE = "slices.parquet"  # the table `geometry`: a row per slice
PREVIEW_FILE = "preview.png"
REVIEW_FOLDER = "review"  # pictures of all slices for the review page
SLICES_PICTURE = "slices.jpg"
CONTOURS_FILE = "contours.png"
MANUAL_FILE = "manual.png"  # contours of the manual mask; none without one
SAGITTAL_PICTURE = "sagittal.jpg"  # none without a sagittal series
SAGITTAL_LINES = "sagittal.json"  # where the axial slices cut it
SAGITTAL_FILE = (
    "sagittal.nii.gz"  # a sagittal series in the coordinates of the stacks, if there is one
)

SUFFIX = ".nii.gz"


@dataclass(frozen=True)
class SubjectFolder:
    """The paths in a subject's folder.

    home: the folder, or the scratch folder of a step that is writing it. kind, in the methods:
    converted images (IMAGE_FOLDER), Dixon parts (WATER_FOLDER, FAT_FOLDER), manual masks
    (TRUTH_FOLDER, TRUTH2_FOLDER), labels given in the sheet (GIVEN_FOLDER) or labels of segment_muscles
    (LABELS_FOLDER). Stacks are numbered from 1.
    """

    home: Path

    @property
    def slices_file(self) -> Path:
        """The Parquet file with position, tilt and spacing of each slice (the table `tables.GEOMETRY`)."""
        return self.home / SLICES_FILE

    @property
    def preview_file(self) -> Path:
        """Path of the preview (PNG: slices with outlined muscles), which may not have been drawn yet."""
        return self.home / PREVIEW_FILE

    @property
    def sagittal_file(self) -> Path:
        """The NIfTI file of the sagittal series; absent if there is none."""
        return self.home / SAGITTAL_FILE

    def stack_file(self, kind: str, stack: int) -> Path:
        """Return the path of the NIfTI file of one stack.

        kind: one of the folders above. stack: its number, from 1.
        """
        return self.home / kind / f"{stack_name(stack)}{SUFFIX}"

    def stack_numbers(self, kind: str) -> list[int]:
        """Return the numbers of the stacks that have a file of this kind, ascending.

        kind: one of the folders above.
        """
        files = (self.home / kind).glob(f"stack-*{SUFFIX}")
        return sorted(int(f.name.removeprefix("stack-").removesuffix(SUFFIX)) for f in files)

    def fat_file(self, stack: int) -> Path:
        """Return the NIfTI file of the Dixon fat image of a stack that has a water image.

        stack: its number, from 1. Mostly the converted stack itself is the fat image.
        """
        own = self.stack_file(FAT_FOLDER, stack)
        return own if own.is_file() else self.stack_file(IMAGE_FOLDER, stack)

    def write_label_source(self, source: LabelSource) -> None:
        """Write the name of the given labels' source, and the label values that it can give."""
        told = {"labels_from": source.name, "labels": source.labels}
        (self.home / GIVEN_FOLDER / SOURCE_FILE).write_text(json.dumps(told), encoding="utf-8")

    def not_labelled(self, stack: int) -> frozenset[tuple[str, str]]:
        """Return muscles and sides that the source of a stack's labels cannot give; mostly none.

        They are unknown there, not absent.
        """
        file = self.home / GIVEN_FOLDER / SOURCE_FILE
        if stack not in self.stack_numbers(GIVEN_FOLDER) or not file.is_file():
            return frozenset()
        known = json.loads(file.read_text(encoding="utf-8"))["labels"]
        return frozenset((one.muscle, one.side) for one in LABELS if one.value not in known)

    def predicted_iou_file(self, stack: int) -> Path:
        """Return the path of a stack's predicted IoU, a .npy file.

        It holds float32 (slices, 8); column k belongs to label k + 1 (anatomy.LABELS). stack: its
        number, from 1.
        """
        return self.home / LABELS_FOLDER / f"{stack_name(stack)}.predicted_iou.npy"


def stack_name(stack: int) -> str:
    """Return the name of a stack in file names, such as "stack-01".

    stack: its number, from 1.
    """
    return f"stack-{stack:02d}"
