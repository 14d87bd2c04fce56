"""Rule segment_muscles: labels of every stack, predicted by the network or given in the sheet.

NEEDS a shard's convert table, the subjects' image/ (and water/, fat/, given/) stacks, the model file.
MAKES segment.parquet; per subject and stack labels/stack-NN.nii.gz and its predicted IoU.

On processors, worker processes segment one subject each at a time (`Segmentation.do`). On a GPU, one
process reads the next subject and writes the previous one while it computes (`read`, `compute`,
`write`).
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from paravert import shards
from paravert.anatomy import LABELS
from paravert.errors import Caution, InputError
from paravert.imaging.label_maps import swapped_muscles
from paravert.imaging.volume import Volume, blank_slices, read_volume, write_volume
from paravert.network.calibration import Calibration
from paravert.network.clean import cleaned
from paravert.network.model_file import check_model
from paravert.network.predict import (
    NEIGHBOURS_MM,
    Predictor,
    Prepared,
    device_kind,
    dixon_logits,
    exact_float32,
    read_model,
)
from paravert.plan import segmentation_settings
from paravert.subject_folder import WATER_FOLDER, SubjectFolder
from paravert.tables import MIXED, NETWORK, SHEET

log = logging.getLogger(__name__)

NO_IMAGES = "its converted images are gone; run again with --forcerun convert_dicom"
NO_MUSCLE = (
    "the network found no muscle in any slice: another part of the body, or a wrong pixel spacing?"
)


def segment_muscles(
    convert: Annotated[Path, typer.Option(help="shard table of convert_dicom")],
    folder: Annotated[Path, typer.Option(help="folder with a folder per subject")],
    out: Annotated[Path, typer.Option(help="shard table to write")],
    model: Annotated[Path, typer.Option(help="model file (.safetensors)")],
    model_sha256: Annotated[str, typer.Option(help="SHA-256 that the model file must have")],
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    threads: Annotated[
        int, typer.Option(min=0, help="processes, of one core each; 0: this one")
    ] = 1,
    flip: Annotated[bool, typer.Option(help="segment each slice and its mirror image")] = True,
    neighbours_mm: Annotated[
        float, typer.Option(min=0, help="SD (mm) of the weight given to adjacent slices; 0: none")
    ] = NEIGHBOURS_MM,
    keep_largest: Annotated[bool, typer.Option(help="remove strays of every label")] = True,
    fill_holes: Annotated[bool, typer.Option(help="fill what a label encloses")] = True,
) -> None:
    """Segment the eight muscles in every stack of the subjects of a shard table.

    Writes per stack a label map (NIfTI) and its predicted IoU into the subject's folder, and a row
    per subject into the shard's table. Labels that the sheet gives are kept. Raises InputError if
    the model file is faulty or has another SHA-256, or there is no such device. Other parameters and
    errors: as of `shards.work_after`, whose shard_table is `convert` and workers `threads` (not used on
    a GPU).
    """
    check_model(model, model_sha256)
    averaging = {"flip": flip, "neighbours_mm": neighbours_mm}
    cleaning = {"keep_largest": keep_largest, "fill_holes": fill_holes}
    kind = device_kind(device)
    segmentation = Segmentation(folder, model, kind, tuple(averaging.items()), cleaning)
    log.info("segment_muscles: %s, model %s", kind, model_sha256)
    given = {
        "folder": folder,
        "out": out,
        "settings": segmentation_settings(model_sha256, averaging | cleaning),
        "applies": lambda subject: not has_all_labels(folder / subject),
    }
    if kind == "cuda":
        stages = segmentation.read, segmentation.compute, segmentation.write
        shards.overlapped_after(convert, "segment_muscles", *stages, **given)
    else:
        shards.work_after(convert, "segment_muscles", segmentation.do, workers=threads, **given)


def has_all_labels(home: Path) -> bool:
    """Return whether the sheet gave labels for every stack of a subject, so that none is predicted.

    home: the subject's folder below results/subjects/; its folders image and given are compared.
    """
    files = SubjectFolder(home)
    return set(files.stack_numbers("given")) >= set(files.stack_numbers("image"))


@dataclass(frozen=True)
class StackToLabel:
    """One stack of a subject: its image and either given labels or the input of the network.

    number: of the stack from 1, as in its file names. image: (slices, rows, columns) with its affine.
    given: labels from the sheet, NumPy uint8 (slices, rows, columns), 0-8; None if the labels are
    predicted. prepared: images to predict from, standardised on the network's grid: (the stack,), or
    (Dixon water, Dixon fat), in which a slice that is blank in one is that of the other; () if the labels
    are given.
    """

    number: int
    image: Volume
    given: np.ndarray | None = None
    prepared: tuple[Prepared, ...] = ()


@dataclass(frozen=True)
class SegmentedStack:
    """One stack with its labels.

    number: of the stack from 1, as in its file names. labels: uint8 (slices, rows, columns), 0-8, with
    the image's affine; not cleaned. expected_iou: IoU estimated from the network's probabilities, not
    calibrated, float32 (slices, 8), column k of label k + 1 (anatomy.LABELS); None if the labels
    were given in the sheet.
    """

    number: int
    labels: Volume
    expected_iou: np.ndarray | None = None


# Each stack of a subject with the logits of its slices; none for a stack with given labels.
Computed = list[tuple[StackToLabel, Iterable[np.ndarray]]]


@dataclass(frozen=True)
class Segmentation:
    """Segmentation of subjects with fixed settings; can be pickled for worker processes.

    folder: results/subjects, which contains a folder per subject. model: model file. device: "cpu" or
    "cuda". averaging: (("flip", bool), ("neighbours_mm", float)), options of `Predictor`: average over the
    mirror image, SD (mm) of the weights of adjacent slices; defaults for those left out. cleaning:
    {"keep_largest": bool, "fill_holes": bool}, options of `cleaned`.
    """

    folder: Path
    model: Path
    device: str
    averaging: tuple[tuple[str, float], ...]
    cleaning: dict[str, bool]

    @property
    def predictor(self) -> Predictor:
        """The model on the device, with the averaging; loaded once per process (property)."""
        return _predictor(self.model, self.device, self.averaging)

    def do(self, task: shards.Task, scratch: Path) -> shards.Product:
        """Segment one subject, write its labels, and return its table row and warnings.

        It is `read`, `compute` and `write` in turn. task: its subject names the folder to read. scratch:
        temporary folder to write in; the caller, `shards`, moves its content to the subject's folder.
        """
        return self.write(task, self.compute(self.read(task), lazily=True), scratch)

    def read(self, task: shards.Task) -> list[StackToLabel]:
        """Return the stacks of a subject, read from its folder, ordered by their numbers.

        Each with its image, and either given labels or the standardised input of the network. task:
        its subject names the folder in `folder`; nothing else of it is used. Raises InputError if there
        is no stack, as in a folder whose files somebody deleted.
        """
        files = SubjectFolder(self.folder / task.subject)
        if not (numbers := files.stack_numbers("image")):
            raise InputError(files.home, NO_IMAGES)
        return [self._stack(files, number) for number in numbers]

    def _stack(self, files: SubjectFolder, number: int) -> StackToLabel:
        image = read_volume(files.stack_file("image", number))
        if number in files.stack_numbers("given"):
            labels = read_volume(files.stack_file("given", number)).array
            return StackToLabel(number, image, given=labels.astype(np.uint8))
        water = files.stack_file(WATER_FOLDER, number)
        dixon = [
            read_volume(file).array for file in (water, files.fat_file(number)) if water.is_file()
        ]
        prepared = tuple(self._prepared(array, image) for array in dixon or [image.array])
        if dixon:
            prepared = self._without_blank(prepared, dixon, image)
        return StackToLabel(number, image, prepared=prepared)

    def _without_blank(
        self, parts: tuple[Prepared, ...], arrays: list[np.ndarray], image: Volume
    ) -> tuple[Prepared, ...]:
        """Return water and fat; a slice that is blank in one of them is in both as in the other.

        A blank slice shows no muscle, so that together with it too little of the other is labelled.
        arrays: of water and fat, (slices, rows, columns) on the grid of image.
        """
        blank = [blank_slices(array)[:, None, None] for array in arrays]
        if not np.any(blank):
            return parts
        shown = self._prepared(np.where(blank[0], *arrays[::-1]), image)
        return tuple(
            replace(
                part,
                slices=np.where(own, other.slices, part.slices),
                neighbour_weights=shown.neighbour_weights,
            )
            for part, other, own in zip(parts, parts[::-1], blank, strict=True)
        )

    def _prepared(self, array: np.ndarray, image: Volume) -> Prepared:
        return self.predictor.prepared(
            array, image.pixel_spacing_mm, apart_mm=image.slice_spacing_mm
        )

    def compute(self, stacks: list[StackToLabel], *, lazily: bool = False) -> Computed:
        """Return pairs (stack, logits of its slices), in the order of `stacks`.

        Logits: float32 (classes, rows, columns) per slice, on the padded network grid, one array for the
        water and fat image of a Dixon stack (`dixon_logits`), not averaged over adjacent slices; a list,
        or with lazily an iterator; () for a stack with given labels. stacks: of one subject, from `read`.
        lazily: compute the logits when they are read, so that a few slices are in memory at a time; they
        can then be read once.
        """
        collected = iter if lazily else list
        return [
            (stack, collected(self._logits(stack.prepared)) if stack.prepared else ())
            for stack in stacks
        ]

    def _logits(self, images: tuple[Prepared, ...]) -> Iterator[np.ndarray]:
        """Yield the logits of each slice; those of a Dixon stack are of its water and fat image together."""
        if len(images) == 1:
            yield from self.predictor.logits(images[0])
        else:
            yield from map(dixon_logits, *map(self.predictor.logits, images))

    def write(self, task: shards.Task, computed: Computed, scratch: Path) -> shards.Product:
        """Write the label maps of a subject; return its row of segment.parquet and its warnings.

        First, logits are averaged over adjacent slices, and the labels that follow from them are
        cleaned with the options in `cleaning`. Files and row: those of `write_labels`. task: not
        used, as all subjects are written alike. computed: each stack with the logits of its slices,
        from `compute`. scratch: temporary folder; the caller, `shards`, moves its content to the
        subject's folder.
        """
        labelled = [self._labelled(*one) for one in computed]
        if all(stack.expected_iou is None for stack in labelled):
            return write_labels(labelled, scratch)
        return write_labels(
            labelled,
            scratch,
            self.predictor.computed_on,
            self.predictor.model.calibration,
            **self.cleaning,
        )

    def _labelled(self, stack: StackToLabel, logits: Iterable[np.ndarray]) -> SegmentedStack:
        if not stack.prepared:
            return SegmentedStack(stack.number, stack.image.with_array(stack.given))
        made = self.predictor.predicted(stack.prepared[0], logits)
        return SegmentedStack(stack.number, stack.image.with_array(made.labels), made.expected_iou)


@cache
def _predictor(model: Path, device: str, averaging: tuple[tuple[str, float], ...]) -> Predictor:
    if device == "cpu":
        return Predictor(read_model(model), **dict(averaging))
    from paravert.network.unet import load_model

    exact_float32()
    return Predictor(load_model(model, device), device, **dict(averaging))


def write_labels(
    stacks: list[SegmentedStack],
    scratch: Path,
    computed_on: str | None = None,
    calibration: Calibration | None = None,
    **cleaning: bool,
) -> shards.Product:
    """Clean predicted labels, write labels and predicted IoU of each stack, return the row and warnings.

    stacks: of one subject, with labels that are not cleaned.
    scratch: folder to write in, with the file names of `SubjectFolder`: labels as NIfTI, predicted
        IoU as .npy, float32 (slices, 8), column 0 of label 1. Labels that the sheet gave are
        written unchanged, with NaN as predicted IoU.
    computed_on: device and number format, such as "cpu float32"; None if all labels were given.
    calibration: of the model, from expected to predicted IoU; None if all labels were given.
    cleaning: keep_largest and fill_holes, options of `cleaned`; True if left out.

    Row: labels_source ("network", "sheet" or "sheet+network"), removed_mm2 (area of pixels removed
    and added by cleaning, sum of all stacks; 0 if none was predicted), and computed_on if any was
    predicted. Warnings: sides-swapped, a predicted left label is not to the left of its right one;
    no-muscle-found, with a note, no predicted label map shows a muscle.
    """
    removed_mm2, warnings, shown = 0.0, set(), []
    for stack in stacks:
        labels, predicted = stack.labels, stack.expected_iou is not None
        predicted_iou = np.full((len(labels.array), len(LABELS)), np.nan, np.float32)
        if predicted:
            array, changed = cleaned(labels.array, apart_mm=labels.slice_spacing_mm, **cleaning)
            labels = labels.with_array(array)
            shown.append(array.any())
            removed_mm2 += float(changed.sum() * labels.pixel_area_mm2)
            predicted_iou = calibration.predicted(stack.expected_iou)
            if swapped_muscles(labels):
                warnings.add(Caution.SIDES_SWAPPED)
        write_volume(SubjectFolder(scratch).stack_file("labels", stack.number), labels)
        np.save(SubjectFolder(scratch).predicted_iou_file(stack.number), predicted_iou)
    by_network = [stack.expected_iou is not None for stack in stacks]
    source = NETWORK if all(by_network) else MIXED if any(by_network) else SHEET
    row = {"labels_source": source, "removed_mm2": removed_mm2}
    if any(by_network):
        row["computed_on"] = computed_on
    if nothing := any(by_network) and not any(shown):
        warnings.add(Caution.NO_MUSCLE_FOUND)
    return shards.Product([row], tuple(warnings), NO_MUSCLE if nothing else None)
