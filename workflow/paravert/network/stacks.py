"""The stacks of one subject on their way through segmentation: read, labelled, cleaned, written."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from paravert import shards
from paravert.errors import Caution
from paravert.imaging.sides import swapped_muscles
from paravert.imaging.volume import Volume, read_volume, stack_file, stack_numbers, write_volume
from paravert.network.clean import cleaned
from paravert.network.predict import Predictor, Prepared


@dataclass
class Stack:
    """One stack of a subject.

    labels: uint8, in the place of the image; zero until predicted. prepared: None where the labels
    were given. missing: slices still without labels.
    """

    number: int
    labels: Volume
    prepared: Prepared | None = None
    missing: int = 0

    def put(self, start: int, labels: np.ndarray) -> None:
        """Take labels (slices, rows, columns) of some slices, from start on."""
        self.labels.array[start : start + len(labels)] = labels
        self.missing -= len(labels)


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
    return set(stack_numbers(home, "given")).issuperset(stack_numbers(home, "image"))


def read_stacks(home: Path, predictor: Predictor | None) -> list[Stack]:
    """Read the stacks of a subject and make those ready whose labels are not given.

    predictor: None where `has_all_labels`.
    """
    given = set(stack_numbers(home, "given"))
    return [
        _given(home, number) if number in given else _to_predict(home, number, predictor)
        for number in stack_numbers(home, "image")
    ]


def _given(home: Path, number: int) -> Stack:
    image = read_volume(stack_file(home, "image", number))
    labels = read_volume(stack_file(home, "given", number)).array.astype(np.uint8)
    return Stack(number, image.with_array(labels))


def _to_predict(home: Path, number: int, predictor: Predictor) -> Stack:
    image = read_volume(stack_file(home, "image", number))
    spacing_mm = (image.row_spacing_mm, image.column_spacing_mm)
    prepared = predictor.prepared(image.array, spacing_mm)
    labels = image.with_array(np.zeros(image.array.shape, dtype=np.uint8))
    return Stack(number, labels, prepared, missing=len(labels.array))


def write_labels(
    stacks: list[Stack], scratch: Path, computed_on: str, **cleaning: bool
) -> shards.Product:
    """Clean what was predicted, write a file per stack, and return the subject's product.

    A stack whose labels were given keeps these as they are; the subject's labels_source is "sheet"
    only if that holds for every stack. computed_on: device and number format of the network.
    """
    removed_mm2, warnings = 0.0, ()
    for stack in stacks:
        labels = stack.labels
        if stack.prepared is not None:
            array, changed = cleaned(labels.array, **cleaning)
            labels = labels.with_array(array)
            removed_mm2 += float(changed.sum() * labels.pixel_area_mm2)
            if swapped_muscles(labels):
                warnings = (Caution.SIDES_SWAPPED,)
        write_volume(stack_file(scratch, "labels", stack.number), labels)
    row = {"labels_source": "sheet", "removed_mm2": removed_mm2}
    if any(stack.prepared is not None for stack in stacks):
        row |= {"labels_source": "network", "computed_on": computed_on}
    return shards.Product([row], warnings)
