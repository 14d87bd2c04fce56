"""The stacks of one subject on their way through segmentation: read, labelled, cleaned, written."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from paravert import shards
from paravert.anatomy import LABELS
from paravert.errors import Caution
from paravert.imaging.label_maps import slice_pixels, swapped_muscles
from paravert.imaging.volume import Volume, read_volume, write_volume
from paravert.network.clean import cleaned
from paravert.network.confidence import Calibration
from paravert.network.predict import Predicted, Predictor, Prepared
from paravert.subject_folder import SubjectFolder
from paravert.tables import MIXED, NETWORK, SHEET

DOUBTFUL_IOU = 0.7  # of a muscle of a subject: worth a look at the preview


@dataclass
class Stack:
    """One stack of a subject.

    labels: uint8, in the place of the image; zero until predicted. prepared: None where the labels
    were given. missing: slices still without labels. expected_iou: (slices, 8), NaN until predicted.
    """

    number: int
    labels: Volume
    prepared: Prepared | None = None
    missing: int = 0
    expected_iou: np.ndarray = field(init=False)

    def __post_init__(self):
        self.expected_iou = np.full((len(self.labels.array), len(LABELS)), np.nan, np.float32)

    def put(self, start: int, predicted: Predicted) -> None:
        """Take what was predicted of some slices, from start on."""
        stop = start + len(predicted.labels)
        self.labels.array[start:stop] = predicted.labels
        self.expected_iou[start:stop] = predicted.expected_iou
        self.missing -= stop - start
        if not self.missing:
            self.prepared.handed_on.clear()


@dataclass
class Subject:
    """A subject that was begun, and its stacks once they are read."""

    begun: shards.Begun
    stacks: list[Stack] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether every slice has its labels."""
        return not any(stack.missing for stack in self.stacks)


def has_all_labels(home: Path) -> bool:
    """Tell whether a subject's labels are given for every stack: no network is asked then."""
    return set(SubjectFolder(home).stack_numbers("given")).issuperset(
        SubjectFolder(home).stack_numbers("image")
    )


def read_stacks(home: Path, predictor: Predictor | None) -> list[Stack]:
    """Read the stacks of a subject and make those ready whose labels are not given.

    predictor: None where `has_all_labels`.
    """
    given = set(SubjectFolder(home).stack_numbers("given"))
    return [
        _given(home, number) if number in given else _to_predict(home, number, predictor)
        for number in SubjectFolder(home).stack_numbers("image")
    ]


def _given(home: Path, number: int) -> Stack:
    image = read_volume(SubjectFolder(home).stack_file("image", number))
    labels = read_volume(SubjectFolder(home).stack_file("given", number)).array.astype(np.uint8)
    return Stack(number, image.with_array(labels))


def _to_predict(home: Path, number: int, predictor: Predictor) -> Stack:
    image = read_volume(SubjectFolder(home).stack_file("image", number))
    prepared = predictor.prepared(
        image.array, image.pixel_spacing_mm, apart_mm=image.slice_spacing_mm
    )
    labels = image.with_array(np.zeros(image.array.shape, dtype=np.uint8))
    return Stack(number, labels, prepared, missing=len(labels.array))


def write_labels(
    stacks: list[Stack],
    scratch: Path,
    computed_on: str,
    calibration: Calibration,
    **cleaning: bool,
) -> shards.Product:
    """Clean what was predicted, write a file per stack, and return the subject's product.

    A stack whose labels were given keeps these as they are. computed_on: device and number format of the network.
    """
    removed_mm2, warnings = 0.0, set()
    for stack in stacks:
        labels = stack.labels
        predicted_iou = calibration.predicted(stack.expected_iou)
        if stack.prepared is not None:
            array, changed = cleaned(labels.array, **cleaning)
            labels = labels.with_array(array)
            removed_mm2 += float(changed.sum() * labels.pixel_area_mm2)
            if swapped_muscles(labels):
                warnings.add(Caution.SIDES_SWAPPED)
            if calibration.knots and doubtful(predicted_iou, labels.array):
                warnings.add(Caution.LOW_PREDICTED_IOU)
        write_volume(SubjectFolder(scratch).stack_file("labels", stack.number), labels)
        np.save(SubjectFolder(scratch).predicted_iou_file(stack.number), predicted_iou)
    predicted = [stack.prepared is not None for stack in stacks]
    row = {"labels_source": _source(predicted), "removed_mm2": removed_mm2}
    if any(predicted):
        row["computed_on"] = computed_on
    return shards.Product([row], tuple(warnings))


def _source(predicted: list[bool]) -> str:
    """Return where the labels of a subject come from; predicted: of each stack, whether by the network."""
    if all(predicted):
        return NETWORK
    return MIXED if any(predicted) else SHEET


def doubtful(predicted_iou: np.ndarray, labels: np.ndarray) -> bool:
    """Tell whether a muscle and side, over the slices that show it, may be poorly segmented.

    predicted_iou: (slices, 8); labels: (slices, rows, columns).
    """
    weights = np.where(np.isnan(predicted_iou), 0, slice_pixels(labels))
    total = weights.sum(axis=0)
    mean = (np.nan_to_num(predicted_iou) * weights).sum(axis=0)[total > 0] / total[total > 0]
    return bool((mean < DOUBTFUL_IOU).any())
