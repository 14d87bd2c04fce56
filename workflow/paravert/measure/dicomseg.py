"""The labels of each stack as a DICOM segmentation, with the images that belong to it."""

from functools import partial
from pathlib import Path
from typing import Annotated

import pyarrow.parquet as pq
import typer

from paravert import shards
from paravert.imaging.volume import read_volume
from paravert.measure import dicom_images, dicom_segments
from paravert.measure.dicom_images import StackName
from paravert.measure.labelled_stack import (
    LabelledStack,
    OutTable,
    SegmentTable,
    SubjectsFolder,
    Workers,
    read_labelled_stacks,
)
from paravert.provenance import file_sha256
from paravert.subject_folder import SubjectFolder, stack_name


def dicomseg(
    segment: SegmentTable,
    folder: SubjectsFolder,
    out: OutTable,
    model_sha256: Annotated[str, typer.Option(help="SHA-256 of the model that made the labels")],
    workers: Workers = 1,
) -> None:
    """Write the labels of every stack as a DICOM segmentation, with its images.

    Each subject gets the segmentations dicomseg/stack-NN.dcm and the images that they refer to,
    dicomseg/image/stack-NN/NNNN.dcm; a stack without labels gets neither. Writes a row per subject
    and stack.
    """
    dicom_segments.check_highdicom()
    do = partial(_write_subject, folder, model_sha256)
    shards.work_after(segment, "dicomseg", do, folder=folder, out=out, workers=workers)


def _write_subject(
    folder: Path, model_sha256: str, task: shards.Task, scratch: Path
) -> shards.Product:
    home = folder / task.subject
    stacks = read_labelled_stacks(home)
    salts = {
        stack.number: file_sha256(SubjectFolder(home).stack_file("image", stack.number))
        for stack in stacks
    }
    names = dicom_images.stack_names(task.subject, salts)
    given = SubjectFolder(home).stack_numbers("given")
    network = dicom_segments.network_method(model_sha256)
    rows = []
    for stack in stacks:
        method = dicom_segments.SHEET_METHOD if stack.number in given else network
        row = _write_stack(home, stack, names[stack.number], method, scratch / "dicomseg")
        rows.append({"stack": stack.number} | row)
    return shards.Product(rows)


def _write_stack(
    home: Path, stack: LabelledStack, name: StackName, method: dicom_segments.LabelMethod, out: Path
) -> dict:
    if not stack.labels.any():  # a segmentation must have a segment
        return {"segments": 0, "frames": 0}
    volume = read_volume(SubjectFolder(home).stack_file("image", stack.number))
    content = dicom_images.stored_pixels(volume.array)
    thickness_mm = _thickness_mm(home, stack.number)
    images = dicom_images.mr_images(volume, content, thickness_mm, name)
    image_folder = out / "image" / stack_name(stack.number)
    image_folder.mkdir(parents=True)
    for index, image in enumerate(images):
        image.save_as(image_folder / f"{index:04d}.dcm", enforce_file_format=True)
    data = dicom_segments.segmentation(images, stack.labels, name, method)
    data.save_as(out / f"{stack_name(stack.number)}.dcm", enforce_file_format=True)
    return {
        "segments": len(data.SegmentSequence),
        "frames": int(data.NumberOfFrames),
        "image_error": content.error,
    }


def _thickness_mm(home: Path, stack: int) -> list[float | None]:
    columns = ["slice", "thickness_mm"]
    table = pq.read_table(
        SubjectFolder(home).slices_file, columns=columns, filters=[("stack", "==", stack)]
    )
    return table.sort_by("slice")["thickness_mm"].to_pylist()
