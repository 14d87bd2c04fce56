"""The stacks of one subject as measuring sees them, and the rows that come out of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from paravert.anatomy import LABELS
from paravert.errors import InputError
from paravert.imaging.volume import read_volume
from paravert.subject_folder import SLICES_FILE, SubjectFolder

PLACE = ("position_mm", "tilt_deg", "slab_mm", "overlaps")
SPACING = ("row_spacing_mm", "column_spacing_mm")


@dataclass(frozen=True)
class Stack:
    """The labels of one stack and where its slices lie.

    number: from 1. labels: (slices, rows, columns), 0 or a label value.
    position_mm, tilt_deg, slab_mm, overlaps: (slices,), as in the table `geometry`.
    Raises ValueError where labels and geometry differ in the number of slices.
    """

    number: int
    labels: np.ndarray
    position_mm: np.ndarray
    tilt_deg: np.ndarray
    slab_mm: np.ndarray
    overlaps: np.ndarray
    row_spacing_mm: float
    column_spacing_mm: float

    def __post_init__(self):
        if len(self.labels) != len(self.position_mm):
            raise ValueError(
                f"stack {self.number}: labels of {len(self.labels)} slices, "
                f"{SLICES_FILE} has {len(self.position_mm)}"
            )

    @property
    def pixel_area_mm2(self) -> float:
        """Area of one pixel in the image plane."""
        return self.row_spacing_mm * self.column_spacing_mm


def read_stacks(home: Path) -> list[Stack]:
    """Return the stacks of a subject's folder with their labels, in order.

    Raises InputError where the labels of a stack are missing.
    """
    geometry = pq.read_table(
        SubjectFolder(home).slices_file, columns=["stack", "slice", *PLACE, *SPACING]
    )
    geometry = geometry.sort_by([("stack", "ascending"), ("slice", "ascending")])
    columns = {name: geometry[name].to_numpy() for name in geometry.column_names}
    stacks = []
    for number in np.unique(columns["stack"]).tolist():
        mine = columns["stack"] == number
        places = (columns[name][mine] for name in PLACE)
        spacings = (float(columns[name][mine][0]) for name in SPACING)
        labels = read_volume(_there(SubjectFolder(home).stack_file("labels", number))).array
        stacks.append(Stack(number, labels, *places, *spacings))
    return stacks


def _there(path: Path) -> Path:
    if not path.is_file():
        raise InputError(path, "no such file; make it again with --forcerun segment_muscles")
    return path


def read_predicted_iou(home: Path, stack: int) -> np.ndarray:
    """Return how well each slice and muscle of a stack may be segmented, (slices, 8).

    NaN where the network predicts nothing. Raises InputError where the file is missing.
    """
    return np.load(_there(SubjectFolder(home).predicted_iou_file(stack)))


def read_image(home: Path, stack: int) -> np.ndarray:
    """Return the image of a stack, (slices, rows, columns), in the type on disk."""
    return read_volume(SubjectFolder(home).stack_file("image", stack)).array


def read_truth(home: Path, stack: int) -> np.ndarray | None:
    """Return the manual labels of a stack, (slices, rows, columns), or None without any."""
    path = SubjectFolder(home).stack_file("truth", stack)
    return read_volume(path).array if path.is_file() else None


def rows_of(stack: int, columns: Mapping[str, np.ndarray]) -> list[dict]:
    """Return a row per slice, muscle and side, slices from 0, muscles in the order of LABELS.

    columns: name to values, (slices, 8), or (slices,) where they hold for the whole slice.
    NaN becomes None (null).
    """
    slices = len(next(iter(columns.values())))
    values = [_listed(column, slices) for column in columns.values()]
    keys = [
        {"stack": stack, "slice": number, "muscle": label.muscle, "side": label.side}
        for number in range(slices)
        for label in LABELS
    ]
    return [
        key | dict(zip(columns, row, strict=True))
        for key, row in zip(keys, zip(*values, strict=True), strict=True)
    ]


def _listed(column: np.ndarray, slices: int) -> list:
    if column.ndim == 1:
        column = np.repeat(column[:, None], len(LABELS), axis=1)
    values = column.reshape(slices * len(LABELS)).tolist()
    if column.dtype.kind == "f":
        return [None if value != value else value for value in values]
    return values
