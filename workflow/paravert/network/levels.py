"""The step find_levels: the vertebral level of every slice.

NEEDS: convert.parquet; per subject slices.parquet and, where the sheet names them, points at vertebrae
or discs. MAKES: the shard's levels.parquet, a row per slice.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow.parquet as pq
import typer

from paravert import shards
from paravert.anatomy import level_name
from paravert.errors import Caution, InputError
from paravert.imaging.geometry import LPS_TO_RAS
from paravert.imaging.level_points import read_level_points
from paravert.imaging.volume import read_shape
from paravert.network.spine_curve import curve_through
from paravert.shard_tables import read_outcomes
from paravert.sheet import read_sheet
from paravert.subject_folder import IMAGE_FOLDER, SubjectFolder
from paravert.tables import NO_LEVEL, SHEET_LEVELS


@dataclass(frozen=True)
class SliceGeometry:
    """Where the slices of a subject lie.

    stack, index: (slices,), number of the stack from 1 and of the slice in it from 0. affines:
    (slices, 4, 4), (column, row, 0, 1) to LPS in mm. shapes: (slices, 2), rows and columns.
    """

    stack: np.ndarray
    index: np.ndarray
    affines: np.ndarray
    shapes: np.ndarray


def find_levels(
    convert: Annotated[Path, typer.Option(help="shard table of convert_dicom")],
    sheet: Annotated[Path, typer.Option(help="subject sheet")],
    folder: Annotated[Path, typer.Option(help="folder with a folder per subject")],
    out: Annotated[Path, typer.Option(help="shard table to write")],
    workers: Annotated[int, typer.Option(help="subjects processed at the same time")] = 1,
) -> None:
    """Find the vertebral level of every slice."""
    subjects = {outcome.subject for outcome in read_outcomes(convert)}
    named = {row["subject"]: row["levels"] for row in read_sheet(sheet).rows}
    files = {subject: named.get(subject, "") for subject in sorted(subjects)}
    shards.work_after(
        convert,
        "find_levels",
        partial(_find_in_subject, folder, files),
        folder=folder,
        out=out,
        workers=workers,
        files=files,
    )


def _find_in_subject(
    folder: Path, files: Mapping[str, str], task: shards.Task, scratch: Path
) -> shards.Product:
    geometry = read_geometry(folder / task.subject)
    if not files[task.subject]:
        return shards.Product(_rows(geometry))
    try:
        levels, sd = levels_from_points(Path(files[task.subject]), geometry)
    except InputError as error:
        note = f"levels: {error.args[-1]}"  # without the path
        return shards.Product(_rows(geometry), (Caution.LEVELS_NOT_USED,), note)
    return shards.Product(_rows(geometry, levels, sd, SHEET_LEVELS))


def levels_from_points(file: Path, geometry: SliceGeometry) -> tuple[np.ndarray, np.ndarray]:
    """Return the level of each slice by points that the sheet names, and its SD, both (slices,).

    file: see `read_level_points`. geometry: of the slices. NaN where the column is not known to cross
    the slice. Raises InputError if the file cannot be used, or if its points lie nowhere in the images.
    """
    curve = curve_through(read_level_points(file))
    levels, sd = (np.full(len(geometry.stack), np.nan) for _ in range(2))
    for number in np.unique(geometry.stack):
        own = geometry.stack == number
        levels[own], sd[own] = curve.slice_levels(geometry.affines[own], geometry.shapes[own][0])
    if np.isnan(levels).all():
        raise InputError(file, "the column between the points crosses no slice, expected LPS in mm")
    return levels, sd


def read_geometry(home: Path) -> SliceGeometry:
    """Return where the slices of a subject lie, by stack and slice. home: the subject's folder."""
    folder = SubjectFolder(home)
    table = pq.read_table(folder.slices_file, columns=["stack", "slice", "affine"])
    table = table.sort_by([("stack", "ascending"), ("slice", "ascending")])
    stack = table["stack"].to_numpy()
    to_ras = np.array(table["affine"].to_pylist()).reshape(-1, 4, 4)
    shapes = {n: read_shape(folder.stack_file(IMAGE_FOLDER, n))[1:] for n in np.unique(stack)}
    return SliceGeometry(
        stack,
        table["slice"].to_numpy(),
        LPS_TO_RAS @ to_ras,  # its own inverse
        np.array([shapes[number] for number in stack]),
    )


def _rows(
    geometry: SliceGeometry,
    levels: np.ndarray | None = None,
    sd: np.ndarray | None = None,
    source: str = NO_LEVEL,
) -> list[dict]:
    """Return the rows of `tables.SLICE_LEVELS`; without levels those of an unknown level."""
    rows = []
    for number, (stack, index) in enumerate(zip(geometry.stack, geometry.index, strict=True)):
        row = {"stack": int(stack), "slice": int(index), "level_source": NO_LEVEL}
        if levels is not None and not np.isnan(levels[number]):
            position = float(levels[number])
            row |= {"level_position": position, "level": level_name(position)}
            row |= {"level_sd": float(sd[number]), "level_source": source}
        rows.append(row)
    return rows
