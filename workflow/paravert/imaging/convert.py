"""The step convert_dicom: the images of a shard's subjects become checked volumes.

NEEDS: the subject sheet and the images and masks that it names.
MAKES: per subject image/stack-NN.nii.gz, truth/ and given/ where the sheet names masks, and
slices.parquet; for the shard convert.parquet.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from paravert import provenance, shards, tables
from paravert.errors import InputError, Reason, SubjectFault
from paravert.imaging.decoding import check_decoders
from paravert.imaging.dicom import read_dicom
from paravert.imaging.images import Images, geometry_rows, single_slices
from paravert.imaging.masks import read_masks
from paravert.imaging.nifti import is_nifti, read_nifti
from paravert.imaging.places import FILE, NOTHING, found_at
from paravert.imaging.volume import stack_file, write_volume
from paravert.sheet import read_sheet

FILES = ("images", "truth", "labels")
MASK_FOLDERS = {"truth": "truth", "labels": "given"}  # column of the sheet: folder of the subject


def convert_dicom(
    sheet: Annotated[Path, typer.Option(help="subject sheet")],
    subject: Annotated[list[str], typer.Option(help="subject of the shard; once for each")],
    folder: Annotated[Path, typer.Option(help="where each subject has its folder")],
    out: Annotated[Path, typer.Option(help="table of the shard to write")],
    series_description: Annotated[
        list[str] | None,
        typer.Option(help="regular expression that picks one of several axial series, in order"),
    ] = None,
    workers: Annotated[int, typer.Option(help="subjects converted at the same time")] = 1,
) -> None:
    """Convert the images of a shard's subjects to volumes, one per stack."""
    check_decoders()
    patterns = list(series_description or [])
    rows = _rows_of(sheet, subject)
    tasks = [_task(row, patterns) for row in rows.values()]
    do = partial(convert_subject, rows, series_description=patterns)
    shards.work_through("convert_dicom", tasks, do, folder=folder, out=out, workers=workers)


def _rows_of(sheet: Path, subjects: Sequence[str]) -> dict[str, Mapping[str, str]]:
    rows = {row["subject"]: row for row in read_sheet(sheet)}
    unknown = [subject for subject in subjects if subject not in rows]
    if unknown:
        raise InputError(sheet, f"no subject {', '.join(unknown)}, expected a line for each")
    return {subject: rows[subject] for subject in sorted(set(subjects))}


def _task(row: Mapping[str, str], patterns: list[str]) -> shards.Task:
    files = {name: _state(row.get(name, "")) for name in FILES}
    return shards.Task(row["subject"], {**files, "series_description": patterns})


def _state(path: str) -> str:
    return provenance.state_of(Path(path)) if path else "none"


def convert_subject(
    rows: Mapping[str, Mapping[str, str]],
    task: shards.Task,
    scratch: Path,
    *,
    series_description: Sequence[str] = (),
) -> shards.Product:
    """Convert one subject's images and masks, writing into a folder.

    rows: lines of the sheet by subject. Raises SubjectFault if the data cannot be used.
    """
    row = rows[task.subject]
    images = read_images(row["images"], series_description)
    volumes = [stack.volume for stack in images.stacks]
    masks = {
        name: read_masks(Path(row[name]), volumes, name) for name in MASK_FOLDERS if row.get(name)
    }
    for number, volume in enumerate(volumes, start=1):
        write_volume(stack_file(scratch, "image", number), volume)
    for name, by_stack in masks.items():
        for number, array in by_stack.items():
            place = stack_file(scratch, MASK_FOLDERS[name], number)
            write_volume(place, volumes[number - 1].with_array(array))
    slices = geometry_rows(images.stacks)
    data = tables.from_rows(tables.GEOMETRY, slices)
    tables.write(scratch / "slices.parquet", tables.GEOMETRY, data, {})
    summary = {
        "stacks": len(volumes),
        "slices": len(slices),
        "has_truth": "truth" in masks,
        "has_labels": "labels" in masks,
        **images.header,
    }
    cautions = images.cautions | single_slices(images.stacks)
    return shards.Product([summary], tuple(sorted(cautions)), images.note)


def read_images(path: str, series_description: Sequence[str] = ()) -> Images:
    """Return the images at a path of the sheet: a NIfTI file, a DICOM file or a folder of those.

    Raises SubjectFault: no-dicom where the path is empty or nothing is there, unreadable-header
    where it may not be read, and what `read_nifti` and `read_dicom` find.
    """
    place = Path(path)
    found = found_at(place, "images") if path else NOTHING
    if found == NOTHING:
        raise SubjectFault(Reason.NO_DICOM, "images: nothing there, expected a folder or file")
    if found == FILE and is_nifti(place):
        return read_nifti(place)
    return read_dicom(place, series_description)
