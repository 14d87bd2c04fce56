"""Labelled stacks of one subject, common options of the commands that read them, and table rows."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow.parquet as pq
import typer

from paravert.anatomy import LABELS
from paravert.errors import InputError
from paravert.imaging.volume import read_volume
from paravert.subject_folder import SLICES_FILE, TRUTH_FOLDER, SubjectFolder
from paravert.tables import NOT_LABELLED, UNKNOWN

SegmentTable = Annotated[Path, typer.Option(help="shard table of segment_muscles")]
SubjectsFolder = Annotated[Path, typer.Option(help="folder with a folder per subject")]
OutTable = Annotated[Path, typer.Option(help="shard table to write")]
Workers = Annotated[
    int, typer.Option(min=0, help="subjects processed at the same time; 0: one, in this process")
]

PER_SLICE = ("position_mm", "tilt_deg", "slab_mm", "overlaps")
PER_STACK = ("row_spacing_mm", "column_spacing_mm")


@dataclass(frozen=True)
class LabelledStack:
    """Label map and geometry of one stack (parallel, evenly spaced slices, from caudal to cranial).

    number: of the stack, from 1. labels: integers (slices, rows, columns), 1 to 8 as in
    anatomy.LABELS, 0 background. position_mm: (slices,), centre of each slice along the slice
    normal, towards the head. tilt_deg: (slices,), angle in degrees between slice normal and the
    body's long axis. slab_mm: (slices,), length along the normal by which a slice's area is
    multiplied for its volume: distance of slice centres; of a single slice its thickness or else
    SpacingBetweenSlices (0018,0088). overlaps: (slices,) bool, whether a slice cuts or overlaps one
    of a stack of lower number, so that volumes leave it out. row_spacing_mm, column_spacing_mm:
    distance between the centres of adjacent rows, and of adjacent columns. not_labelled: {(muscle,
    side)} that the source of the labels does not label, so that their measures are unknown.
    header_sequence: class of the sequence by the header, one of tables.SEQUENCES; also "unknown" if
    slices differ. Raises ValueError if labels and position_mm differ in the number of slices.
    """

    number: int
    labels: np.ndarray
    position_mm: np.ndarray
    tilt_deg: np.ndarray
    slab_mm: np.ndarray
    overlaps: np.ndarray
    row_spacing_mm: float
    column_spacing_mm: float
    not_labelled: frozenset[tuple[str, str]] = frozenset()
    header_sequence: str = UNKNOWN

    def __post_init__(self):
        if len(self.labels) != len(self.position_mm):
            raise ValueError(
                f"stack {self.number}: labels of {len(self.labels)} slices, "
                f"{SLICES_FILE} has {len(self.position_mm)}"
            )

    @property
    def spacing_mm(self) -> tuple[float, float]:
        """Distance (mm) between adjacent rows, and between adjacent columns."""
        return self.row_spacing_mm, self.column_spacing_mm

    @property
    def pixel_area_mm2(self) -> float:
        """Area of one pixel in the plane of the image, mm2."""
        return self.row_spacing_mm * self.column_spacing_mm


def read_labelled_stacks(home: Path) -> list[LabelledStack]:
    """Return the label map and geometry of every stack of a subject, ordered by number.

    home: folder of the scan in results/subjects. The labels are those that are measured: of the
    network, given in the subject sheet, or corrected by hand. Raises InputError if the label map of a
    stack is missing, FileNotFoundError if the geometry (slices.parquet) is, ValueError if they differ
    in the number of slices.
    """
    geometry = pq.read_table(
        SubjectFolder(home).slices_file,
        columns=["stack", "slice", *PER_SLICE, *PER_STACK, "header_sequence"],
    )
    geometry = geometry.sort_by([("stack", "ascending"), ("slice", "ascending")])
    columns = {name: geometry[name].to_numpy() for name in geometry.column_names}
    stacks = []
    for number in np.unique(columns["stack"]).tolist():
        rows = columns["stack"] == number
        per_slice = (columns[name][rows] for name in PER_SLICE)
        per_stack = (float(columns[name][rows][0]) for name in PER_STACK)
        labels = read_volume(_existing(SubjectFolder(home).stack_file("labels", number))).array
        sequences = {found or UNKNOWN for found in columns["header_sequence"][rows]}
        stacks.append(
            LabelledStack(
                number,
                labels,
                *per_slice,
                *per_stack,
                not_labelled=SubjectFolder(home).not_labelled(number),
                header_sequence=sequences.pop() if len(sequences) == 1 else UNKNOWN,
            )
        )
    return stacks


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise InputError(path, "no such file; make it again with --forcerun segment_muscles")
    return path


def read_predicted_iou(home: Path, stack: int) -> np.ndarray:
    """Return the predicted IoU of each label in each slice, float32 (slices, 8).

    It is the model's estimate of the IoU with a manual mask, 0 to 1, of the labels before they were
    cleaned. home: folder of the scan in results/subjects. stack: its number, from 1. Column k is for
    label value k + 1. NaN if the labels were given in the subject sheet or corrected by hand, or the
    model has no calibration for the muscle. Where the network gave no pixel the label: 0 if its
    probabilities suggest that it missed the muscle, otherwise NaN. Raises InputError if the file is
    missing.
    """
    return np.load(_existing(SubjectFolder(home).predicted_iou_file(stack)))


def read_image(home: Path, stack: int) -> np.ndarray:
    """Return the converted image of a stack, (slices, rows, columns), caudal to cranial.

    Rows run towards the back, columns to the left. home: folder of the scan in results/subjects. stack:
    its number, from 1. The data type is that of the NIfTI file.
    """
    return read_volume(SubjectFolder(home).stack_file("image", stack)).array


def read_truth(home: Path, stack: int, kind: str = TRUTH_FOLDER) -> np.ndarray | None:
    """Return the manual label map of a stack, (slices, rows, columns), or None if there is none.

    home: folder of the scan in results/subjects. stack: its number, from 1. kind: TRUTH_FOLDER for the
    first rater, TRUTH2_FOLDER for the second. Slices and pixels are those of `read_image`, caudal to
    cranial. Values are 1 to 8 as in anatomy.LABELS; 0 is background, or a muscle or slice that this
    rater did not outline.
    """
    path = SubjectFolder(home).stack_file(kind, stack)
    return read_volume(path).array if path.is_file() else None


def inner_pixels(labels: np.ndarray) -> np.ndarray:
    """Return the pixels of each muscle without its outermost ones, bool (slices, rows, columns).

    labels: label map of that shape, 0 background. A pixel is kept if its four neighbours in the
    slice have its own label value; pixels at the edge of the image are not kept.
    """
    inner = np.zeros(labels.shape, dtype=bool)
    centre = labels[:, 1:-1, 1:-1]
    inner[:, 1:-1, 1:-1] = (
        (centre > 0)
        & (centre == labels[:, :-2, 1:-1])
        & (centre == labels[:, 2:, 1:-1])
        & (centre == labels[:, 1:-1, :-2])
        & (centre == labels[:, 1:-1, 2:])
    )
    return inner


def stack_rows(stack: int, columns: Mapping[str, np.ndarray]) -> list[dict]:
    """Return columns of a stack as table rows: one dict per slice, muscle and side.

    stack: its number, from 1. columns: {column: array (slices, 8), or (slices,) if it is the same
    for all muscles}, at least one; array column k is for label value k + 1. NaN of a float array
    becomes None (null). Each row also has the keys stack, slice (from 0, caudal to cranial), muscle
    and side. Rows are in order of slice, then of label value; each slice has all eight.
    """
    slices = len(next(iter(columns.values())))
    values = [_python_values(column, slices) for column in columns.values()]
    keys = [
        {"stack": stack, "slice": number, "muscle": label.muscle, "side": label.side}
        for number in range(slices)
        for label in LABELS
    ]
    return [
        key | dict(zip(columns, row, strict=True))
        for key, row in zip(keys, zip(*values, strict=True), strict=True)
    ]


def with_unknown(
    rows: Iterable[dict], stack: LabelledStack, measures: Iterable[str], reasons: Iterable[str]
) -> list[dict]:
    """Return table rows with null measures for muscles that the source of the labels does not label.

    rows: from `stack_rows` of this stack, all or some; not changed. stack: its not_labelled names
    these muscles and sides. measures: columns that become None. reasons: columns that get the code
    "not-labelled". Rows of other muscles and sides stay as they are.
    """
    unknown = dict.fromkeys(measures) | dict.fromkeys(reasons, NOT_LABELLED)
    return [
        row | unknown if (row["muscle"], row["side"]) in stack.not_labelled else row for row in rows
    ]


def _python_values(column: np.ndarray, slices: int) -> list:
    """Return a column as a list of slices * 8 Python values, None for NaN."""
    if column.ndim == 1:
        column = np.repeat(column[:, None], len(LABELS), axis=1)
    values = column.reshape(slices * len(LABELS)).tolist()
    if column.dtype.kind == "f":
        return [None if value != value else value for value in values]
    return values
