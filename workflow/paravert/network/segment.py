"""Rule segment_muscles: labels of every stack, by the network or as they were given.

NEEDS a shard's convert table, the subjects' image/ (and given/) stacks, the pinned model.
MAKES segment.parquet and labels/stack-NN.nii.gz per subject.
"""

import logging
import time
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from paravert import shards
from paravert.errors import Caution
from paravert.imaging.sides import swapped_muscles
from paravert.imaging.volume import Volume, read_volume, stack_file, stack_numbers, write_volume
from paravert.network.clean import cleaned
from paravert.network.device import chosen_device, describe, exact_float32, low_format
from paravert.network.model import Model, load_model
from paravert.network.model_file import check_model
from paravert.network.predict import Runner, predicted_labels

log = logging.getLogger(__name__)


def segment_muscles(
    convert: Annotated[Path, typer.Option(help="shard table of convert_dicom")],
    folder: Annotated[Path, typer.Option(help="folder with a folder per subject")],
    out: Annotated[Path, typer.Option(help="shard table to write")],
    model: Annotated[Path, typer.Option(help="model file (.safetensors)")],
    model_sha256: Annotated[str, typer.Option(help="SHA-256 that the model file must have")],
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    batch_size: Annotated[int, typer.Option(help="slices at once; changes no label")] = 8,
    threads: Annotated[int, typer.Option(help="processor cores to use")] = 1,
    keep_largest: Annotated[bool, typer.Option(help="remove strays of every label")] = True,
    fill_holes: Annotated[bool, typer.Option(help="fill what a label encloses")] = True,
) -> None:
    """Segment the eight muscles in every stack of a shard's subjects."""
    check_model(model, model_sha256)
    torch.set_num_threads(threads)
    exact_float32()
    segmenter = Segmenter(model, chosen_device(device), batch_size, keep_largest, fill_holes)
    log.info("segment_muscles: %s, model %s", describe(segmenter.device), model_sha256)
    settings = {
        "model_sha256": model_sha256,
        "keep_largest": keep_largest,
        "fill_holes": fill_holes,
    }
    shards.work_after(
        convert,
        "segment_muscles",
        lambda task, scratch: segmenter.product(folder / task.subject, scratch),
        folder=folder,
        out=out,
        depends_on=lambda subject: {} if has_all_labels(folder / subject) else settings,
    )
    log.info("segment_muscles: %s", segmenter.speed())


def has_all_labels(home: Path) -> bool:
    """Tell whether a subject's labels are given for every stack: no network is asked then."""
    return set(stack_numbers(home, "given")).issuperset(stack_numbers(home, "image"))


class Segmenter:
    """Segments one subject after the other; reads the model when the first one needs it."""

    def __init__(
        self,
        model: Path,
        device: torch.device,
        batch_size: int = 8,
        keep_largest: bool = True,
        fill_holes: bool = True,
    ):
        self.device = device
        self._path = model
        low = low_format(device, "prediction")
        self._computed_on = f"{device.type} {'bfloat16' if low else 'float32'}"
        self._runner = Runner(device, low, batch_size)
        self._cleaning = {"keep_largest": keep_largest, "fill_holes": fill_holes}
        self._slices, self._seconds = 0, 0.0

    @cached_property
    def _model(self) -> Model:
        return load_model(self._path, self.device)

    def product(self, home: Path, scratch: Path) -> shards.Product:
        """Write a subject's labels, one file per stack, and return its row.

        A stack whose labels were given keeps these as they are; the subject's labels_source is
        "sheet" only if that holds for every stack.
        """
        given = set(stack_numbers(home, "given"))
        stacks = stack_numbers(home, "image")
        removed_mm2, warnings = 0.0, ()
        for stack in stacks:
            image = read_volume(stack_file(home, "image", stack))
            if stack in given:
                labels = read_volume(stack_file(home, "given", stack)).array.astype(np.uint8)
            else:
                labels, changed_mm2 = self.labels_of(image)
                removed_mm2 += changed_mm2
                if swapped_muscles(image.with_array(labels)):
                    warnings = (Caution.SIDES_SWAPPED,)
            write_volume(stack_file(scratch, "labels", stack), image.with_array(labels))
        source = "sheet" if given.issuperset(stacks) else "network"
        row = {"labels_source": source, "removed_mm2": removed_mm2}
        if not given.issuperset(stacks):
            row["computed_on"] = self._computed_on
        return shards.Product([row], warnings)

    def labels_of(self, image: Volume) -> tuple[np.ndarray, float]:
        """Return a stack's cleaned labels, uint8 (slices, rows, columns), and the changed mm²."""
        spacing_mm = (image.row_spacing_mm, image.column_spacing_mm)
        begin = time.monotonic()
        predicted = predicted_labels(self._model, image.array, spacing_mm, self._runner)
        labels, changed = cleaned(predicted, **self._cleaning)
        self._seconds += time.monotonic() - begin
        self._slices += len(labels)
        return labels, float(changed.sum() * image.pixel_area_mm2)

    def speed(self) -> str:
        """Return in words how fast slices were segmented, reading and writing left out."""
        if not self._slices:
            return "no slice was left to segment"
        return f"{self._slices} slices, {self._slices / self._seconds:.1f} slices per second"
