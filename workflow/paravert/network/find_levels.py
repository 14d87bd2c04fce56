"""The step find_levels: the vertebral level of each slice, where it can be found.

NEEDS: segment.parquet; per subject slices.parquet and image/, and points at vertebrae or discs that
the sheet names, a sagittal series, or labels/. MAKES: the shard's levels.parquet, a row per slice.
"""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow.parquet as pq
import typer

from paravert import shards
from paravert.anatomy import LABELS, SIDES, USUAL_LUMBAR, level_name
from paravert.errors import Caution, InputError
from paravert.imaging.geometry import LPS_TO_RAS
from paravert.imaging.level_points import read_level_points
from paravert.imaging.volume import Volume, read_shape, read_volume
from paravert.network.model_file import check_sha256
from paravert.network.spine_curve import SpineCurve, curve_through
from paravert.plan import images_away, level_settings, lumbar_settings
from paravert.shard_tables import read_outcomes
from paravert.sheet import lumbar_count, read_sheet, scan_of
from paravert.subject_folder import IMAGE_FOLDER, LABELS_FOLDER, SubjectFolder
from paravert.tables import (
    AXIAL_LEVELS,
    LEVEL_SOURCES,
    NO_LEVEL,
    SAGITTAL_LEVELS,
    SHEET_LEVELS,
)

MOST_DIFFERENCE = 0.5  # levels; sources that differ by more are a warning
MOST_AXIAL_SD = 0.3  # levels; levels from axial slices alone that are less certain are not used


@dataclass(frozen=True)
class SliceGeometry:
    """The position of each axial slice of a subject, ordered by stack and slice.

    NumPy arrays. stack, index: (slices,), number of the stack from 1 and of the slice in it from 0.
    affines: (slices, 4, 4), index (column, row, 0, 1) in the slice to LPS in mm. shapes: (slices, 2), rows
    and columns of the image.
    """

    stack: np.ndarray
    index: np.ndarray
    affines: np.ndarray
    shapes: np.ndarray


@dataclass(frozen=True)
class FoundLevels:
    """The vertebral level of each slice by one source: points of the sheet, sagittal series or muscles.

    level, sd: NumPy float (slices,), level (1.0 mid L1, 4.5 disc L4/5) and its standard deviation, in
    levels; NaN: unknown. most_sd: largest standard deviation with which a level is used, default: no
    limit; `find_levels` writes a less certain level to the column of its source (level_sheet,
    level_sagittal, level_axial), but does not use it.
    """

    level: np.ndarray
    sd: np.ndarray
    most_sd: float = np.inf

    @property
    def usable(self) -> np.ndarray:
        """Whether each slice's level is known with an SD up to most_sd, bool (slices,) (property)."""
        return ~np.isnan(self.level) & (self.sd <= self.most_sd)


def find_levels(
    segment: Annotated[Path, typer.Option(help="shard table of segment_muscles")],
    sheet: Annotated[Path, typer.Option(help="subject sheet")],
    folder: Annotated[Path, typer.Option(help="folder with a folder per subject")],
    out: Annotated[Path, typer.Option(help="shard table to write")],
    model: Annotated[
        Path | None, typer.Option(help="model that names discs in sagittal series; none: not used")
    ] = None,
    model_sha256: Annotated[str, typer.Option(help="SHA-256 that the model must have")] = "",
    axial_model: Annotated[
        Path | None, typer.Option(help="model that tells levels from the muscles; none: not used")
    ] = None,
    axial_sha256: Annotated[str, typer.Option(help="SHA-256 that this one must have")] = "",
    workers: Annotated[
        int,
        typer.Option(min=0, help="subjects processed at the same time; 0: one, in this process"),
    ] = 1,
) -> None:
    """Find the vertebral level of each slice.

    Writes the shard's table `levels`: a row per subject, stack and slice with the level by each source
    (points in the sheet, sagittal series, muscles of the axial slices), and the one that is used: the
    first of these that is known and certain enough (by the muscles: SD of at most 0.3 levels); null if
    there is none. If the sagittal series does not show clearly which discs it shows, its levels are not
    used if they differ from those by the muscles by more than 0.5 in a slice. Levels by the muscles
    need five lumbar vertebrae, and labels of all eight muscles in every stack; none are told if the
    labels show one side alone. A file of points that cannot be used gives a warning only. A model needs
    its SHA-256. Raises InputError if a model file is missing or has another SHA-256, or the sheet is
    faulty. Other parameters and errors: as of `shards.work_after`, whose shard_table is `segment`.
    """
    if model is not None:
        check_sha256(model, model_sha256, "find_levels.sha256")
    if axial_model is not None:
        check_sha256(axial_model, axial_sha256, "find_levels.axial_sha256")
    in_sheet = {scan_of(row): row for row in read_sheet(sheet).rows}
    subjects = sorted({outcome.subject for outcome in read_outcomes(segment)})
    rows = {subject: in_sheet[subject] for subject in subjects if subject in in_sheet}
    files = {subject: rows[subject]["levels"] for subject in rows}
    have_sagittal = [SubjectFolder(folder / name).sagittal_file.is_file() for name in subjects]
    # Here, once for all worker processes; these import OpenVINO.
    if model is not None and any(have_sagittal):
        importlib.import_module("paravert.network.sagittal_levels")
    if axial_model is not None:
        importlib.import_module("paravert.network.axial_levels")
    shards.work_after(
        segment,
        "find_levels",
        partial(_find_in_subject, folder, rows, model, axial_model),
        folder=folder,
        out=out,
        workers=workers,
        settings=level_settings(model_sha256, axial_sha256),
        applies=lambda subject: (
            axial_model is not None or SubjectFolder(folder / subject).sagittal_file.is_file()
        ),
        own=lumbar_settings(rows),
        files=files,
        away={subject for subject, row in rows.items() if images_away(row)},
    )


def _find_in_subject(
    folder: Path,
    sheet: Mapping[str, Mapping[str, str]],
    model: Path | None,
    axial_model: Path | None,
    task: shards.Task,
    scratch: Path,
) -> shards.Product:
    home = folder / task.subject
    geometry = read_geometry(home)
    row = sheet.get(task.subject, {})
    n_lumbar = lumbar_count(row)
    found: dict[str, FoundLevels] = {}
    sure = True
    warnings, notes = [], []
    if points := row.get("levels"):
        try:
            found[SHEET_LEVELS] = levels_from_points(Path(points), geometry, n_lumbar)
        except InputError as error:
            warnings.append(Caution.LEVELS_NOT_USED)
            notes.append(f"levels: {error.args[-1]}")  # without the path
    axial = None
    if axial_model is not None and n_lumbar == USUAL_LUMBAR and _all_labelled(home, geometry):
        from paravert.network.axial_levels import levels_from_axial  # imports OpenVINO

        labels = partial(SubjectFolder(home).stack_file, LABELS_FOLDER)
        stacks = [read_volume(labels(number)) for number in np.unique(geometry.stack)]
        if _both_sides(stacks):
            axial = levels_from_axial(axial_model, stacks, geometry)
    sagittal = SubjectFolder(home).sagittal_file
    if model is not None and sagittal.is_file():
        from paravert.network.sagittal_levels import Naming, levels_from_sagittal  # OpenVINO

        volume = read_volume(sagittal)
        levels, naming = levels_from_sagittal(model, volume, geometry, n_lumbar, axial)
        sure = naming is not Naming.UNCLEAR
        if levels is not None:
            found[SAGITTAL_LEVELS] = levels
        if naming is Naming.MUSCLES:
            notes.append("the discs of the sagittal series are named by the muscles beside them")
        if not sure and SHEET_LEVELS not in found:
            notes.append("the sagittal series does not show clearly which discs it shows")
            warnings.append(Caution.LEVEL_UNCERTAIN)
    if axial is not None:
        found[AXIAL_LEVELS] = axial
    if told := differences(found):
        notes.append(told)
        warnings.append(Caution.LEVEL_UNCERTAIN)
    if not sure and _differ(found.get(SAGITTAL_LEVELS), found.get(AXIAL_LEVELS)):
        found[SAGITTAL_LEVELS] = replace(found[SAGITTAL_LEVELS], most_sd=0.0)  # told, not used
    rows = _rows(geometry, found, n_lumbar)
    return shards.Product(rows, tuple(dict.fromkeys(warnings)), "; ".join(notes) or None)


def _all_labelled(home: Path, geometry: SliceGeometry) -> bool:
    """Return whether all eight muscles are labelled in every stack, as the network of levels needs."""
    return not any(map(SubjectFolder(home).not_labelled, np.unique(geometry.stack).tolist()))


def _both_sides(stacks: Sequence[Volume]) -> bool:
    """Return whether the label maps of a subject show muscles of the left and of the right."""
    values = np.unique(np.concatenate([np.unique(stack.array) for stack in stacks]))
    return {label.side for label in LABELS if label.value in values} == set(SIDES)


def differences(found: Mapping[str, FoundLevels]) -> str:
    """Return a sentence on the sources whose levels differ by more than 0.5 in a slice; "" if none do.

    It tells each such pair of sources and their largest difference. found: {source: levels of the same
    slices in the same order}; the sentence names the sources by the keys. Compared are slices whose level
    both sources know with an SD of at most their most_sd.
    """
    told = []
    for (one, first), (other, second) in combinations(found.items(), 2):
        if apart := _differ(first, second):
            told.append(f"levels by {one} and {other} differ by up to {apart:.1f}")
    return "; ".join(told)


def _differ(first: FoundLevels | None, second: FoundLevels | None) -> float:
    """Return the largest difference between two sources if it is above MOST_DIFFERENCE, else 0."""
    if first is None or second is None:
        return 0.0
    apart = np.abs(first.level - second.level)[first.usable & second.usable]
    return float(apart.max()) if apart.size and apart.max() > MOST_DIFFERENCE else 0.0


def levels_from_points(
    file: Path, geometry: SliceGeometry, n_lumbar: int = USUAL_LUMBAR
) -> FoundLevels:
    """Return the level of each slice from a file of points at vertebrae or discs, named in the sheet.

    file: table with the columns name, x_mm, y_mm, z_mm (LPS), or markups of 3D Slicer (.fcsv, .mrk.json);
    names such as L4 or L5/S1 (`read_level_points`). geometry: positions of the slices. n_lumbar: number
    of lumbar vertebrae of the subject, 5 by default. Level and SD as from `levels_on_curve`. Raises
    InputError if the file cannot be used, or if the level of no slice is known; SubjectFault as
    `read_level_points`.
    """
    found = levels_on_curve(curve_through(read_level_points(file, n_lumbar)), geometry)
    if np.isnan(found.level).all():
        raise InputError(file, "the column between the points crosses no slice, expected LPS in mm")
    return found


def levels_on_curve(curve: SpineCurve, geometry: SliceGeometry) -> FoundLevels:
    """Return the level and SD of each slice where the curve of the vertebral column crosses its image.

    curve: through points of known level. geometry: positions of the slices. NaN for a slice whose
    image the curve does not cross between levels -1 and 8 (T11 and S3). The SD grows with the
    distance from the nearest point (`SpineCurve.slice_levels`); most_sd is infinite.
    """
    levels, sd = (np.full(len(geometry.stack), np.nan) for _ in range(2))
    for number in np.unique(geometry.stack):
        own = geometry.stack == number
        levels[own], sd[own] = curve.slice_levels(geometry.affines[own], geometry.shapes[own][0])
    return FoundLevels(levels, sd)


def read_geometry(home: Path) -> SliceGeometry:
    """Return the position of each axial slice of a subject, ordered by stack and slice.

    home: the subject's folder below results/subjects/, with slices.parquet and the images of its stacks
    as convert_dicom wrote them.
    """
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


def _rows(geometry: SliceGeometry, found: Mapping[str, FoundLevels], n_lumbar: int) -> list[dict]:
    """Return the rows of `tables.SLICE_LEVELS`. found: levels by source. n_lumbar: for their names."""
    rows = []
    for number, (stack, index) in enumerate(zip(geometry.stack, geometry.index, strict=True)):
        row = {"stack": int(stack), "slice": int(index), "level_source": NO_LEVEL}
        for source in reversed(LEVEL_SOURCES):
            if source in found and not np.isnan(found[source].level[number]):
                position = float(found[source].level[number])
                row[f"level_{source}"] = position
                if found[source].usable[number]:
                    row |= {"level_position": position, "level": level_name(position, n_lumbar)}
                    row |= {"level_sd": float(found[source].sd[number]), "level_source": source}
        rows.append(row)
    return rows
