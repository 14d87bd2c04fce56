"""Reads points at vertebrae and discs from the files that the sheet names in its column levels."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from paravert.anatomy import USUAL_LUMBAR, level_number
from paravert.errors import InputError, may_pass
from paravert.imaging.geometry import BODY_LIMIT_MM, fits_body
from paravert.imaging.input_files import unreadable
from paravert.sheet_file import read_cells

COLUMNS = ("name", "x_mm", "y_mm", "z_mm")
POINTS = "points at vertebrae or discs"
LPS, RAS = "LPS", "RAS"
FCSV_SYSTEMS = {"0": RAS, "RAS": RAS, "1": LPS, "LPS": LPS}  # 3D Slicer wrote numbers up to 4.10
LEAST_STEP_MM = 5.0  # towards the feet, from each level to the next half level

Points = dict[float, np.ndarray]  # by level (1.0 mid L1, 4.5 disc L4/5): (3,) LPS in mm


def read_level_points(path: Path, n_lumbar: int = USUAL_LUMBAR) -> Points:
    """Return the points at vertebrae and discs in a file: {level: position (3,), LPS in mm}, ascending.

    path: table (text or .xlsx) with the columns name, x_mm, y_mm, z_mm (LPS), or markups of 3D
    Slicer (.fcsv, .mrk.json) in RAS or LPS, as the file says (RAS if a .fcsv does not). Names are
    such as T12, L4 or L5/S1, in any case; points of other names, of a vertebra that the subject
    lacks, and those not placed yet (in .mrk.json) are left out. n_lumbar: number of lumbar
    vertebrae of the subject, 5 unless given. Level: 1.0 at the middle of L1, 4.5 in the disc L4/5,
    0.0 at the middle of T12, n_lumbar + 1 at that of S1. Raises InputError if the file cannot be
    read or is of another kind, a point lacks three finite numbers, no level or one level twice is
    named, points lie further away than in a patient (BODY_LIMIT_MM, 3 m), or if a lower level does
    not lie nearer to the feet, by at least LEAST_STEP_MM (5 mm) per half level. Raises SubjectFault
    (unreadable-header, passing) for an error of the disk or network, such as EIO.
    """
    points: Points = {}
    for name, place in _named_places(path):
        level = level_number(name, n_lumbar)
        if level is None:
            continue
        if level in points:
            raise InputError(path, f"{name} is there twice, expected each level once")
        if not np.isfinite(place).all():
            raise InputError(path, f"{name} has a coordinate that is no number")
        points[level] = place
    if not points:
        raise InputError(path, "no point is named after a vertebra or disc, such as L4 or L5/S1")
    if not fits_body(np.stack(list(points.values()))):
        raise InputError(
            path, f"points more than {BODY_LIMIT_MM:g} mm from the origin or each other"
        )
    points = {level: points[level] for level in sorted(points)}
    _check_order(path, points)
    return points


def _named_places(path: Path) -> list[tuple[str, np.ndarray]]:
    readers = {".fcsv": _of_fcsv, ".json": _of_json}
    try:
        return list(readers.get(path.suffix.lower(), _of_cells)(path))
    except InputError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and may_pass(cause):
            raise unreadable("levels", "the file", cause) from error
        raise


def _check_order(path: Path, points: Points) -> None:
    levels, places = np.array(list(points)), np.stack(list(points.values()))
    if (np.diff(places[:, 2]) > -2 * LEAST_STEP_MM * np.diff(levels)).any():
        raise InputError(path, "lower levels do not lie nearer to the feet, expected LPS in mm")


def _of_cells(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    cells = read_cells(path, what=POINTS)
    header = [cell.lower() for cell in cells.header.cells]
    if lacking := [name for name in COLUMNS if name not in header]:
        raise InputError(path, f"no column {lacking[0]}, expected {', '.join(COLUMNS)}")
    name, *axes = (header.index(column) for column in COLUMNS)
    for row in cells.rows:
        if row.faults:
            raise InputError(path, str(row.faults[0]))
        yield row.cells[name], _place(path, [row.cells[axis] for axis in axes])


def _of_fcsv(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    told, columns, points = RAS, None, []
    for line in _text(path).splitlines():
        key, _, value = line.lstrip("# ").partition("=")
        if line.startswith("#"):
            if key.strip() == "CoordinateSystem":
                told = value.strip()
            elif key.strip() == "columns":
                columns = [name.strip() for name in value.split(",")]
        elif line.strip():
            points += _cells_of(path, line)
    if columns is None or not {"x", "y", "z", "label"} <= set(columns):
        raise InputError(
            path, "no line of columns with x, y, z and label, expected a .fcsv of 3D Slicer"
        )
    for cells in points:
        found = dict(zip(columns, cells, strict=False))
        place = _place(path, [found.get(axis, "") for axis in "xyz"])
        yield found.get("label", ""), _lps(path, place, FCSV_SYSTEMS.get(told))


def _cells_of(path: Path, line: str) -> list[list[str]]:
    try:
        return list(csv.reader(io.StringIO(line)))
    except csv.Error as error:
        raise InputError(path, "a line that cannot be divided into cells") from error


def _of_json(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    try:
        markups = json.loads(_text(path))["markups"]
        for markup in markups:
            if markup.get("coordinateUnits", "mm") not in ("mm", ["mm", "mm", "mm"]):
                raise InputError(path, "coordinates in another unit, expected mm")
            for point in markup["controlPoints"]:
                if point.get("positionStatus", "defined") == "defined":
                    place = _place(path, point["position"])
                    yield str(point["label"]), _lps(path, place, markup.get("coordinateSystem"))
    # Of `json`: ValueError, also for a number of thousands of digits, and RecursionError.
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise InputError(path, "no markups with control points, expected 3D Slicer's") from error


def _place(path: Path, values: list) -> np.ndarray:
    try:
        place = np.array([float(str(value).replace(",", ".")) for value in values])
    except ValueError as error:
        raise InputError(path, "a coordinate that is no number") from error
    if place.shape != (3,):
        raise InputError(path, f"{len(place)} coordinates of a point, expected three")
    return place


def _lps(path: Path, place: np.ndarray, system: str | None) -> np.ndarray:
    if system not in (LPS, RAS):
        raise InputError(path, "no coordinate system, expected LPS or RAS")
    return place if system == LPS else place * (-1, -1, 1)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(path, f"no such file, expected {POINTS}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, "cannot be read as text") from error
