"""The files of one subject below `results/subjects/`, which steps write and later steps read."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from paravert.anatomy import LABELS
from paravert.label_sources import LabelSource

IMAGE_FOLDER = "image"  # the converted stacks
TRUTH_FOLDER = "truth"  # manual labels on the voxels of the image
TRUTH2_FOLDER = "truth2"  # those of a second rater
WATER_FOLDER = "water"  # the Dixon water images of stacks that have them
FAT_FOLDER = "fat"  # the Dixon fat images, where these are not the converted stacks themselves
GIVEN_FOLDER = "given"  # labels of the sheet, or corrected ones, on the voxels of the image
LABELS_FOLDER = "labels"  # the segmentation, with its predicted IoU
SOURCE_FILE = "source.json"  # in GIVEN_FOLDER: whose labels they are, if not all eight of our own
SLICES_FILE = "slices.parquet"  # the table `geometry`: a row per slice
PREVIEW_FILE = "preview.png"
REVIEW_FOLDER = "review"  # pictures of all slices for the review page
SLICES_PICTURE = "slices.jpg"
CONTOURS_FILE = "contours.png"
MANUAL_FILE = "manual.png"  # contours of the manual mask; none without one
SAGITTAL_PICTURE = "sagittal.jpg"  # none without a sagittal series
SAGITTAL_LINES = "sagittal.json"  # where the axial slices cut it
# A sagittal series in the coordinates of the stacks, if there is one.
SAGITTAL_FILE = "sagittal.nii.gz"

SUFFIX = ".nii.gz"


@dataclass(frozen=True)
class SubjectFolder:
    """Paths of the files of one scan below `results/subjects/`, and small reads and writes there.

    home: the folder of the scan, or the scratch folder of a step that is writing it. A stack is a
    set of parallel, evenly spaced slices; stacks are numbered from 1. `kind`, in the methods, is
    the name of a folder of NIfTI files, one per stack: IMAGE_FOLDER "image" (converted images),
    WATER_FOLDER "water" and FAT_FOLDER "fat" (Dixon images), TRUTH_FOLDER "truth" and TRUTH2_FOLDER
    "truth2" (manual label maps of the first and second rater), GIVEN_FOLDER "given" (label maps
    named in the sheet or corrected by hand) or LABELS_FOLDER "labels" (label maps that are
    measured, written by segment_muscles: the given ones where there are any, elsewhere the
    network's).
    """

    home: Path

    @property
    def slices_file(self) -> Path:
        """Path of the Parquet table with the geometry of each slice (tables.GEOMETRY)."""
        return self.home / SLICES_FILE

    @property
    def preview_file(self) -> Path:
        """Path of the preview (PNG: slices with outlined muscles); the file may not exist."""
        return self.home / PREVIEW_FILE

    @property
    def sagittal_file(self) -> Path:
        """Path of the NIfTI file of the sagittal series of the same study; it may not exist."""
        return self.home / SAGITTAL_FILE

    def stack_file(self, kind: str, stack: int) -> Path:
        """Return the path of the NIfTI file of one stack (number from 1); it may not exist.

        kind: folder name, such as "image" or "labels"; see the class.
        """
        return self.home / kind / f"{stack_name(stack)}{SUFFIX}"

    def stack_numbers(self, kind: str) -> list[int]:
        """Return the numbers (from 1, ascending) of the stacks that have a file in one folder.

        kind: folder name, such as "image" or "labels". Empty if the folder is missing.
        """
        files = (self.home / kind).glob(f"stack-*{SUFFIX}")
        return sorted(int(f.name.removeprefix("stack-").removesuffix(SUFFIX)) for f in files)

    def fat_file(self, stack: int) -> Path:
        """Return the path of the Dixon fat image (NIfTI) that belongs to a stack's water image.

        stack: number, from 1, of a stack with a water image. The path is in the folder "fat" if the
        file is there; otherwise in "image": the converted stack itself is then the fat image.
        """
        own = self.stack_file(FAT_FOLDER, stack)
        return own if own.is_file() else self.stack_file(IMAGE_FOLDER, stack)

    def write_label_source(
        self, source: LabelSource, corrected: Mapping[int, Sequence[int]] = MappingProxyType({})
    ) -> None:
        """Write a JSON file with the source of the label maps in GIVEN_FOLDER and its labels.

        The file is SOURCE_FILE in GIVEN_FOLDER, which must exist; an older file is replaced.
        `not_labelled` reads it. source: its name and `labels` (the label values that it can give) are
        written. The maps are not read: paravert's own source must come with only the `values` of
        muscles that the maps show. corrected: {stack number: label values that occur} of stacks whose
        labels were corrected by hand, written too.
        """
        told: dict = {"labels_from": source.name, "labels": source.labels}
        if corrected:
            told["corrected"] = dict(corrected)
        (self.home / GIVEN_FOLDER / SOURCE_FILE).write_text(json.dumps(told), encoding="utf-8")

    def not_labelled(self, stack: int) -> frozenset[tuple[str, str]]:
        """Return the muscles and sides that the source of a stack's labels cannot label.

        stack: number, from 1. Returns {(muscle, side)}; they are unknown, not absent. With values of
        another program, they are those that the program cannot label; with own values, both sides of
        each muscle that none of the subject's given maps shows. Those that a person drew in this stack
        are left out. Empty if the stack has no given label map, if the source has all eight, or if the
        subject's only given maps are labels of the network that were corrected by hand.
        """
        file = self.home / GIVEN_FOLDER / SOURCE_FILE
        if stack not in self.stack_numbers(GIVEN_FOLDER) or not file.is_file():
            return frozenset()
        told = json.loads(file.read_text(encoding="utf-8"))
        known = {*told["labels"], *told.get("corrected", {}).get(str(stack), ())}
        return frozenset((one.muscle, one.side) for one in LABELS if one.value not in known)

    def predicted_iou_file(self, stack: int) -> Path:
        """Return the path of the predicted IoU of a stack, a .npy file that may not exist.

        stack: number, from 1. The file holds float32, (slices, 8): the predicted (calibrated)
        intersection over union of the network's label and a manual mask, 0 to 1; column k is label
        value k + 1 (anatomy.LABELS). For 0 and NaN see `measure.labelled_stack.read_predicted_iou`.
        """
        return self.home / LABELS_FOLDER / f"{stack_name(stack)}.predicted_iou.npy"


def stack_name(stack: int) -> str:
    """Return the name of a stack (number from 1) in file names, such as "stack-01" for number 1."""
    return f"stack-{stack:02d}"
