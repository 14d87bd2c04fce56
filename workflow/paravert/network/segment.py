"""Rule segment_muscles: labels of every stack, by the network or as they were given.

NEEDS a shard's convert table, the subjects' image/ (and given/) stacks, the pinned model.
MAKES segment.parquet and labels/stack-NN.nii.gz per subject.
"""

import logging
from pathlib import Path
from typing import Annotated

import torch
import typer

from paravert import shards
from paravert.network.device import chosen_device, describe, exact_float32
from paravert.network.flow import Segmenter
from paravert.network.model_file import check_model
from paravert.network.neighbours import NEIGHBOURS_MM
from paravert.network.options import Device
from paravert.network.stacks import has_all_labels
from paravert.plan import segmentation_settings

log = logging.getLogger(__name__)


def segment_muscles(
    convert: Annotated[Path, typer.Option(help="shard table of convert_dicom")],
    folder: Annotated[Path, typer.Option(help="folder with a folder per subject")],
    out: Annotated[Path, typer.Option(help="shard table to write")],
    model: Annotated[Path, typer.Option(help="model file (.safetensors)")],
    model_sha256: Annotated[str, typer.Option(help="SHA-256 that the model file must have")],
    device: Device = "auto",
    threads: Annotated[int, typer.Option(help="processor cores to use")] = 1,
    flip: Annotated[bool, typer.Option(help="segment each slice and its mirror image")] = True,
    neighbours_mm: Annotated[
        float, typer.Option(min=0, help="how far slices have a say in each other; 0: not")
    ] = NEIGHBOURS_MM,
    keep_largest: Annotated[bool, typer.Option(help="remove strays of every label")] = True,
    fill_holes: Annotated[bool, typer.Option(help="fill what a label encloses")] = True,
) -> None:
    """Segment the eight muscles in every stack of a shard's subjects."""
    check_model(model, model_sha256)
    torch.set_num_threads(1)  # a batch per core: to share one out costs more than it brings
    exact_float32()
    how = {
        "flip": flip,
        "neighbours_mm": neighbours_mm,
        "keep_largest": keep_largest,
        "fill_holes": fill_holes,
    }
    segmenter = Segmenter(folder, model, chosen_device(device), threads, **how)
    log.info("segment_muscles: %s, model %s", describe(segmenter.device, threads), model_sha256)
    shards.stream_after(
        convert,
        "segment_muscles",
        segmenter.flow,
        folder=folder,
        out=out,
        settings=segmentation_settings(model_sha256, how),
        applies=lambda subject: not has_all_labels(folder / subject),
    )
    log.info("segment_muscles: %s", segmenter.speed())
