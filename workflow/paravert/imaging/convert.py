"""The step convert_dicom: convert the images of a shard's subjects to checked volumes.

NEEDS: the subject sheet, the images and masks that it names, the folder of corrected masks beside it.
MAKES: per subject image/stack-NN.nii.gz, water/ and fat/ of Dixon acquisitions, sagittal.nii.gz if
there is such a series, truth/, truth2/ and given/ for the masks that the sheet names or that were
corrected, given/source.json if these are of another program or of some muscles only, and
slices.parquet; for the shard (the subjects that one job processes) convert.parquet.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import compress
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from paravert import label_sources, shards, tables
from paravert.anatomy import LABELS
from paravert.errors import Caution, InputError, Reason, SubjectFault
from paravert.imaging.decoding import check_decoders
from paravert.imaging.dicom import read_dicom
from paravert.imaging.dixon_parts import part_files, with_parts
from paravert.imaging.image_stack import Images, ImageStack, geometry_rows
from paravert.imaging.input_files import PathKind, path_kind
from paravert.imaging.label_maps import drawn_labels
from paravert.imaging.masks import Masks, read_masks
from paravert.imaging.nifti import read_nifti
from paravert.imaging.volume import voxel_digest, write_volume
from paravert.label_sources import CORRECTED, OWN, LabelSource
from paravert.plan import NONE_CORRECTED, conversion_inputs, corrected_labels, images_away
from paravert.sheet import is_nifti, read_sheet, scan_of
from paravert.subject_folder import (
    FAT_FOLDER,
    GIVEN_FOLDER,
    IMAGE_FOLDER,
    TRUTH2_FOLDER,
    TRUTH_FOLDER,
    WATER_FOLDER,
    SubjectFolder,
)

# Folder of the subject for the masks of each column of the sheet.
MASK_FOLDERS = {"truth": TRUTH_FOLDER, "truth2": TRUTH2_FOLDER, "labels": GIVEN_FOLDER}


def convert_dicom(
    sheet: Annotated[Path, typer.Option(help="subject sheet")],
    subject: Annotated[
        list[str],
        typer.Option(help="subject of the shard, with a visit as A001_2; once for each"),
    ],
    folder: Annotated[Path, typer.Option(help="where each subject has its folder")],
    out: Annotated[Path, typer.Option(help="table of the shard to write")],
    series_description: Annotated[
        list[str] | None,
        typer.Option(help="regular expression that picks one of several axial series, in order"),
    ] = None,
    labels_from: Annotated[
        str,
        typer.Option(
            help="label values of the files in column labels: name of a source, or a JSON table"
        ),
    ] = OWN.name,
    workers: Annotated[
        int,
        typer.Option(min=0, help="subjects converted at the same time; 0: one, in this process"),
    ] = 1,
) -> None:
    """Convert the images of a shard's subjects to checked NIfTI volumes, one file per stack.

    Shard: the subjects that one job processes. Stack: parallel, evenly spaced slices. The files of
    a subject go to FOLDER/<subject>; the table (Parquet) has one row per subject, with a reason if
    its data cannot be used. A subject whose stored result is up to date is not converted again.
    Beside the sheet may be the folder "corrected", with label maps that were corrected by hand, in a
    folder named as the subject (with visits as A001_2). They take the place of those in the column
    labels, stack by stack.
    With 0 workers the command converts in its own process. Raises InputError if the sheet has
    faults or lacks a subject, labels_from is faulty, a decoder of compressed DICOM is not installed,
    or stored files were changed whose images are away; ChildProcessError if a worker process died.
    """
    check_decoders()
    patterns, source = list(series_description or []), label_sources.from_option(labels_from)
    rows = _rows_of(sheet, subject)
    corrected, _ = corrected_labels(sheet, rows)
    tasks = [
        shards.Task(
            scan, conversion_inputs(row, patterns, source, corrected.get(scan)), images_away(row)
        )
        for scan, row in rows.items()
    ]
    how = {"series_description": patterns, "source": source, "corrected": corrected}
    do = partial(convert_subject, rows, **how)
    shards.work_through("convert_dicom", tasks, do, folder=folder, out=out, workers=workers)


def _rows_of(sheet: Path, subjects: Sequence[str]) -> dict[str, Mapping[str, str]]:
    rows = {scan_of(row): row for row in read_sheet(sheet).rows}
    unknown = [subject for subject in subjects if subject not in rows]
    if unknown:
        raise InputError(sheet, f"no subject {', '.join(unknown)}, expected a line for each")
    return {subject: rows[subject] for subject in sorted(set(subjects))}


def convert_subject(
    rows: Mapping[str, Mapping[str, str]],
    task: shards.Task,
    scratch: Path,
    *,
    series_description: Sequence[str] = (),
    source: LabelSource = OWN,
    corrected: Mapping[str, Path] = NONE_CORRECTED,
) -> shards.Product:
    """Convert one subject's images and masks into a temporary folder and return the row of its table.

    rows: {subject, with a visit as A001_2: row of the subject sheet as {column: text}}; paths are
        absolute, as `read_sheet` returns them.
    task: the unit of work; only its `subject`, a key of `rows`, is used.
    scratch: existing temporary folder; files are laid out in it as in the subject's result folder
        (`SubjectFolder`).
    series_description: regular expressions that choose one of several axial series, as of
        `convert_dicom`.
    source: the label source, which says which values the masks of the column `labels` have.
    corrected: {subject: folder of its corrected masks, which have the values of anatomy.LABELS}. Stack by
        stack, they take the place of the masks of the column `labels`, also if that is empty.

    Returns one row of convert.parquet (stacks, slices, digests, header values), warnings and a note
    (None if there is nothing to tell). Raises SubjectFault with a reason code if the images or
    masks cannot be used.
    """
    row = rows[task.subject]
    images = read_images(row["images"], series_description, row.get("water"), row.get("fat"))
    volumes = [stack.volume for stack in images.stacks]
    masks, drawn, told = _masks(row, images.stacks, source, corrected.get(task.subject))
    folder = SubjectFolder(scratch)
    for number, volume in enumerate(volumes, start=1):
        write_volume(folder.stack_file(IMAGE_FOLDER, number), volume)
    for number, stack in enumerate(images.stacks, start=1):
        for name, array in ((WATER_FOLDER, stack.water), (FAT_FOLDER, stack.fat)):
            if array is not None:
                write_volume(folder.stack_file(name, number), stack.volume.with_array(array))
    if images.sagittal is not None:
        write_volume(folder.sagittal_file, images.sagittal)
    for name, by_stack in masks.items():
        for number, array in by_stack.items():
            mask = volumes[number - 1].with_array(array)
            write_volume(folder.stack_file(MASK_FOLDERS[name], number), mask)
    if row.get("labels") and masks["labels"]:
        of_maps = _source_of(masks["labels"].values(), source)
        if of_maps != OWN:
            drawn_values = {n: np.unique(array[array > 0]).tolist() for n, array in drawn.items()}
            folder.write_label_source(of_maps, drawn_values)
    slices = geometry_rows(images.stacks)
    data = tables.from_rows(tables.GEOMETRY, slices)
    tables.write(folder.slices_file, tables.GEOMETRY, data, {})
    summary = {
        "stacks": len(volumes),
        "slices": len(slices),
        "has_truth": bool(masks["truth"]),
        "has_labels": bool(masks["labels"]),
        "image_digests": [voxel_digest(volume) for volume in volumes],
        "series": list(images.series),
        **images.header,
    }
    cautions = images.cautions | told
    if any(len(stack.slices) == 1 for stack in images.stacks):
        cautions |= {Caution.SINGLE_SLICE}
    return shards.Product([summary], tuple(sorted(cautions)), images.note)


def _masks(
    row: Mapping[str, str],
    stacks: Sequence[ImageStack],
    source: LabelSource,
    corrected: Path | None,
) -> tuple[dict[str, Masks], Masks, set[Caution]]:
    """Return the masks of a subject by column of the sheet, its corrected label maps, and warnings.

    corrected: folder of label maps that take the place of those in the column labels, None without;
    those of `labels` include them. Columns: those of MASK_FOLDERS.
    """
    volumes = [stack.volume for stack in stacks]
    parts = {
        number: [replace(stack.volume, affine=affine) for affine in stack.part_affines]
        for number, stack in enumerate(stacks, start=1)
    }
    read = partial(read_masks, volumes=volumes, parts=parts)
    drawn, told = read(corrected, role=CORRECTED) if corrected else ({}, set())
    found: dict[str, Masks] = {name: {} for name in MASK_FOLDERS}
    for name in MASK_FOLDERS:
        values, besides = (source, drawn) if name == "labels" else (OWN, {})
        if row.get(name) and len(besides) < len(volumes):
            path = Path(row[name])
            found[name], own = read(path, role=name, source=values, besides=besides)
            told |= own
    found["labels"] |= drawn
    return found, drawn, told


def _source_of(maps: Iterable[np.ndarray], source: LabelSource) -> LabelSource:
    """Return the source of a subject's given label maps: with own values, of the muscles drawn there.

    Some labs outline only some muscles. A muscle that is on neither side in any of the maps was not
    drawn, which does not mean that it is absent.
    """
    if not source.is_own:
        return source
    drawn = {label.muscle for label in compress(LABELS, drawn_labels(maps))}
    return replace(OWN, values={one.value: one.value for one in LABELS if one.muscle in drawn})


def read_images(
    path: str,
    series_description: Sequence[str] = (),
    water: str | None = None,
    fat: str | None = None,
) -> Images:
    """Return the images of one subject: voxels and geometry of each stack, header values, and warnings.

    path: the sheet's column `images`, "" if empty: a NIfTI file, a DICOM file, or a folder,
        searched recursively. A folder without DICOM images (secondary captures do not count) may
        hold two NIfTI files, one named water and one fat (see `part_files`); the stack then shows
        fat.
    series_description: regular expressions for SeriesDescription (0008,103E), tried in order while
        several axial series remain; each keeps those it matches, if any; DICOM only.
    water, fat: paths of NIfTI files of the Dixon parts on the voxels of `path`, from the sheet's
        columns of these names; both or neither (None or "" each). The stack itself still shows
        `path`; they are kept beside it.

    Raises SubjectFault with a reason code: no-dicom if the path is empty or there is no image,
    dixon-parts-differ if only one of water and fat is given, if they are no two parts
    (`check_parts_differ`), if their grids differ from that of `path`, or if `path` has several
    stacks beside them; and every fault of a DICOM series or NIfTI file that makes its images
    unusable.
    """
    if bool(water) != bool(fat):
        given, lacking = ("water", "fat") if water else ("fat", "water")
        raise SubjectFault(
            Reason.DIXON_PARTS_DIFFER, f"{given} is given and {lacking} is not, expected both"
        )
    images = _read_images(path, series_description)
    return with_parts(images, Path(water), Path(fat)) if water and fat else images


def _read_images(path: str, series_description: Sequence[str]) -> Images:
    source = Path(path)
    kind = path_kind(source, "images") if path else PathKind.NOTHING
    if kind == PathKind.NOTHING:
        raise SubjectFault(Reason.NO_DICOM, "images: nothing there, expected a folder or file")
    if kind == PathKind.FILE and is_nifti(source):
        return read_nifti(source)
    try:
        return read_dicom(source, series_description)
    except SubjectFault as fault:
        parts = part_files(source) if fault.reason == Reason.NO_DICOM else None
        if parts is None:
            raise
    return with_parts(read_nifti(parts[0]), parts[1])
