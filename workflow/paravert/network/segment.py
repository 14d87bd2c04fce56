"""Rule segment_muscles: labels of every stack, by the network or as they were given.

NEEDS a shard's convert table, the subjects' image/ (and given/) stacks, the pinned model.
MAKES segment.parquet and labels/stack-NN.nii.gz per subject.

On processors every worker process takes a subject at a time through `read`, `compute` and `write`.
On a GPU, one subject is read and one written while another is computed.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from paravert import shards
from paravert.anatomy import LABELS
from paravert.errors import Caution
from paravert.imaging.label_maps import slice_pixels, swapped_muscles
from paravert.imaging.volume import Volume, read_volume, write_volume
from paravert.network.calibration import Calibration
from paravert.network.clean import cleaned
from paravert.network.device import device_kind, exact_float32
from paravert.network.model_file import check_model
from paravert.network.predict import NEIGHBOURS_MM, Predictor, Prepared, read_model
from paravert.plan import segmentation_settings
from paravert.subject_folder import SubjectFolder
from paravert.tables import MIXED, NETWORK, SHEET

log = logging.getLogger(__name__)

DOUBTFUL_IOU = 0.7  # of a muscle of a subject: worth a look at the preview


def segment_muscles(
    convert: Annotated[Path, typer.Option(help="shard table of convert_dicom")],
    folder: Annotated[Path, typer.Option(help="folder with a folder per subject")],
    out: Annotated[Path, typer.Option(help="shard table to write")],
    model: Annotated[Path, typer.Option(help="model file (.safetensors)")],
    model_sha256: Annotated[str, typer.Option(help="SHA-256 that the model file must have")],
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    threads: Annotated[int, typer.Option(help="processor cores to use")] = 1,
    flip: Annotated[bool, typer.Option(help="segment each slice and its mirror image")] = True,
    neighbours_mm: Annotated[
        float, typer.Option(min=0, help="SD (mm) of the weight given to adjacent slices; 0: none")
    ] = NEIGHBOURS_MM,
    keep_largest: Annotated[bool, typer.Option(help="remove strays of every label")] = True,
    fill_holes: Annotated[bool, typer.Option(help="fill what a label encloses")] = True,
) -> None:
    """Segment the eight muscles in every stack of a shard's subjects."""
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
    """Tell whether a subject's labels are given for every stack, so that no network is needed."""
    return set(SubjectFolder(home).stack_numbers("given")).issuperset(
        SubjectFolder(home).stack_numbers("image")
    )


@dataclass(frozen=True)
class StackToLabel:
    """One stack of a subject: the image, and either its given labels or what the network takes."""

    number: int
    image: Volume
    given: np.ndarray | None = None
    prepared: Prepared | None = None


@dataclass(frozen=True)
class SegmentedStack:
    """One stack with its labels, a volume of uint8.

    expected_iou: (slices, 8), see `Predicted`; None where the labels were given.
    """

    number: int
    labels: Volume
    expected_iou: np.ndarray | None = None


Computed = list[
    tuple[StackToLabel, Iterable[np.ndarray]]
]  # each stack and the logits of its slices


@dataclass(frozen=True)
class Segmentation:
    """How subjects are segmented; can be pickled for worker processes.

    folder: with a folder per subject. device: cpu or cuda. averaging: options of `Predictor`;
    cleaning: options of `cleaned`.
    """

    folder: Path
    model: Path
    device: str
    averaging: tuple[tuple[str, float], ...]
    cleaning: dict[str, bool]

    @property
    def predictor(self) -> Predictor:
        """The model on the device, read once in each process."""
        return _predictor(self.model, self.device, self.averaging)

    def do(self, task: shards.Task, scratch: Path) -> shards.Product:
        """Segment one subject and write its labels."""
        return self.write(task, self.compute(self.read(task), lazily=True), scratch)

    def read(self, task: shards.Task) -> list[StackToLabel]:
        """Return the stacks of a subject."""
        home = self.folder / task.subject
        given = SubjectFolder(home).stack_numbers("given")
        return [
            self._stack(home, number, number in given)
            for number in SubjectFolder(home).stack_numbers("image")
        ]

    def _stack(self, home: Path, number: int, is_given: bool) -> StackToLabel:
        image = read_volume(SubjectFolder(home).stack_file("image", number))
        if is_given:
            labels = read_volume(SubjectFolder(home).stack_file("given", number)).array.astype(
                np.uint8
            )
            return StackToLabel(number, image, given=labels)
        prepared = self.predictor.prepared(
            image.array, image.pixel_spacing_mm, apart_mm=image.slice_spacing_mm
        )
        return StackToLabel(number, image, prepared=prepared)

    def compute(self, stacks: list[StackToLabel], *, lazily: bool = False) -> Computed:
        """Return each stack with the logits of its slices; lazily: computed when they are read."""
        collected = iter if lazily else list
        return [
            (stack, collected(self.predictor.logits(stack.prepared)) if stack.prepared else ())
            for stack in stacks
        ]

    def write(self, task: shards.Task, computed: Computed, scratch: Path) -> shards.Product:
        """Write the labels of a subject and return its row."""
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
        if stack.prepared is None:
            return SegmentedStack(stack.number, stack.image.with_array(stack.given))
        made = self.predictor.predicted(stack.prepared, logits)
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
    """Clean the predicted labels, write a file per stack, and return the subject's product.

    Given labels are kept as they are. computed_on: device and number format of the network;
    calibration: the model's; neither is needed for given labels.
    """
    removed_mm2, warnings = 0.0, set()
    for stack in stacks:
        labels, predicted = stack.labels, stack.expected_iou is not None
        predicted_iou = np.full((len(labels.array), len(LABELS)), np.nan, np.float32)
        if predicted:
            array, changed = cleaned(labels.array, **cleaning)
            labels = labels.with_array(array)
            removed_mm2 += float(changed.sum() * labels.pixel_area_mm2)
            predicted_iou = calibration.predicted(stack.expected_iou)
            if swapped_muscles(labels):
                warnings.add(Caution.SIDES_SWAPPED)
            if calibration.knots and doubtful(predicted_iou, labels.array):
                warnings.add(Caution.LOW_PREDICTED_IOU)
        write_volume(SubjectFolder(scratch).stack_file("labels", stack.number), labels)
        np.save(SubjectFolder(scratch).predicted_iou_file(stack.number), predicted_iou)
    by_network = [stack.expected_iou is not None for stack in stacks]
    row = {"labels_source": _source(by_network), "removed_mm2": removed_mm2}
    if any(by_network):
        row["computed_on"] = computed_on
    return shards.Product([row], tuple(warnings))


def _source(by_network: list[bool]) -> str:
    """Return where the labels of a subject come from, from whether each stack's are the network's."""
    if all(by_network):
        return NETWORK
    return MIXED if any(by_network) else SHEET


def doubtful(predicted_iou: np.ndarray, labels: np.ndarray) -> bool:
    """Tell whether the mean predicted IoU of a muscle and side is below DOUBTFUL_IOU.

    predicted_iou: (slices, 8); labels: (slices, rows, columns). Slices are weighted by the muscle's
    pixels.
    """
    weights = np.where(np.isnan(predicted_iou), 0, slice_pixels(labels))
    total = weights.sum(axis=0)
    mean = (np.nan_to_num(predicted_iou) * weights).sum(axis=0)[total > 0] / total[total > 0]
    return bool((mean < DOUBTFUL_IOU).any())
