"""The labels of each stack as a DICOM segmentation, with images that a viewer can lay it on."""

from functools import partial
from pathlib import Path
from typing import Annotated

import pyarrow.parquet as pq
import typer

from paravert import shards
from paravert.imaging.volume import read_volume
from paravert.measure import dicom_images, dicom_segments
from paravert.measure.dicom_images import StackName
from paravert.measure.options import OutTable, SegmentTable, SubjectsFolder, Workers
from paravert.measure.stacks import Stack, read_stacks
from paravert.provenance import file_sha256
from paravert.subject_folder import SubjectFolder, stack_name

FOLDER = "dicomseg"


def dicomseg(
    segment: SegmentTable,
    folder: SubjectsFolder,
    out: OutTable,
    model_sha256: Annotated[str, typer.Option(help="SHA-256 of the model that made the labels")],
    workers: Workers = 1,
) -> None:
    """Write the labels of every stack as a DICOM segmentation, and images to lay it on.

    Each subject gets dicomseg/stack-NN.dcm and, with UIDs and the pseudonym in common, the images
    dicomseg/image/stack-NN/NNNN.dcm; a stack without any label gets neither. Writes a row per
    subject and stack.
    """
    dicom_segments.check_highdicom()
    do = partial(_write_subject, folder, model_sha256)
    shards.work_after(segment, "dicomseg", do, folder=folder, out=out, workers=workers)


def _write_subject(
    folder: Path, model_sha256: str, task: shards.Task, scratch: Path
) -> shards.Product:
    home = folder / task.subject
    stacks = read_stacks(home)
    salts = {stack.number: file_sha256(_image_file(home, stack.number)) for stack in stacks}
    names = dicom_images.stack_names(task.subject, salts)
    given = SubjectFolder(home).stack_numbers("given")
    network = dicom_segments.network(model_sha256)
    rows = []
    for stack in stacks:
        method = dicom_segments.SHEET if stack.number in given else network
        row = _write_stack(home, stack, names[stack.number], method, scratch / FOLDER)
        rows.append({"stack": stack.number} | row)
    return shards.Product(rows)


def _image_file(home: Path, stack: int) -> Path:
    return SubjectFolder(home).stack_file("image", stack)


def _write_stack(
    home: Path, stack: Stack, name: StackName, method: dicom_segments.Method, place: Path
) -> dict:
    if not stack.labels.any():  # a segmentation has at least one segment
        return {"segments": 0, "frames": 0}
    volume = read_volume(_image_file(home, stack.number))
    content = dicom_images.stored(volume.array)
    thickness_mm = _thickness_mm(home, stack.number)
    images = dicom_images.mr_images(volume, content, thickness_mm, name)
    beside = place / "image" / stack_name(stack.number)
    beside.mkdir(parents=True)
    for index, image in enumerate(images):
        image.save_as(beside / f"{index:04d}.dcm", enforce_file_format=True)
    data = dicom_segments.segmentation(images, stack.labels, name, method)
    data.save_as(place / f"{stack_name(stack.number)}.dcm", enforce_file_format=True)
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
