"""What every kind of input becomes: checked stacks with a place for each slice."""

from dataclasses import dataclass, field

import numpy as np

from paravert.errors import Caution, Reason, SubjectFault
from paravert.imaging.geometry import LPS_TO_RAS, tilt_deg
from paravert.imaging.likeness import FURTHEST_MM, unlike_neighbours
from paravert.imaging.volume import Volume, blank_slices


@dataclass(frozen=True, eq=False)
class Slice:
    """A slice of a stack: its own affine, (column, row, 0, 1) to RAS in mm, and what it came with.

    Unknown is None. cautions: what a reader should know of this slice.
    """

    affine: np.ndarray
    thickness_mm: float | None = None
    slope: float | None = None
    intercept: float | None = None
    overlaps: bool = False
    cautions: frozenset[Caution] = frozenset()


@dataclass(frozen=True, eq=False)
class Stack:
    """A volume, each of its slices, and where the length that a slice stands for comes from."""

    volume: Volume
    slices: tuple[Slice, ...]
    slab_source: str


@dataclass(frozen=True, eq=False)
class Images:
    """The images of a subject: stacks from caudal to cranial, facts of the header, warnings.

    header: columns of `tables.HEADER_COLUMNS`; what is left out is unknown.
    note: what a warning tells more than its code; None if nothing.
    """

    stacks: tuple[Stack, ...]
    header: dict = field(default_factory=dict)
    cautions: frozenset[Caution] = frozenset()
    note: str | None = None


def content_cautions(array: np.ndarray, spacing_mm: float) -> list[set[Caution]]:
    """Return for each slice of (slices, rows, columns) what its values give cause to tell."""
    told = {Caution.BLANK_SLICE: blank_slices(array)}
    if spacing_mm <= FURTHEST_MM:
        told[Caution.SLICE_UNLIKE_NEIGHBOURS] = unlike_neighbours(array)
    return [{caution for caution in told if told[caution][n]} for n in range(len(array))]


def check_not_blank(stacks: tuple[Stack, ...]) -> None:
    """Raise SubjectFault (blank-images) if no slice of any stack shows anything."""
    if all(Caution.BLANK_SLICE in slice_.cautions for stack in stacks for slice_ in stack.slices):
        raise SubjectFault(Reason.BLANK_IMAGES, "every slice holds a single value")


def single_slices(stacks: tuple[Stack, ...]) -> set[Caution]:
    """Return the warning that a slice is alone: no position tells the length that it stands for."""
    alone = any(len(stack.slices) == 1 for stack in stacks)
    return {Caution.SINGLE_SLICE} if alone else set()


def geometry_rows(stacks: tuple[Stack, ...]) -> list[dict]:
    """Return the rows of `tables.GEOMETRY`: stacks from 1, slices from 0."""
    return [
        {"stack": number, "slice": index, **_row(stack, stack.slices[index])}
        for number, stack in enumerate(stacks, start=1)
        for index in range(len(stack.slices))
    ]


def _row(stack: Stack, slice_: Slice) -> dict:
    volume = stack.volume
    slices, rows, columns = volume.array.shape
    normal = (LPS_TO_RAS[:3, :3] @ volume.affine[:3, 2]) / volume.slice_spacing_mm
    middle = slice_.affine @ [(columns - 1) / 2, (rows - 1) / 2, 0, 1]
    return {
        "position_mm": float(normal @ (LPS_TO_RAS @ middle)[:3]),
        "tilt_deg": tilt_deg(normal),
        "slab_mm": volume.slice_spacing_mm,
        "slab_source": stack.slab_source,
        "thickness_mm": slice_.thickness_mm,
        "row_spacing_mm": volume.row_spacing_mm,
        "column_spacing_mm": volume.column_spacing_mm,
        "affine": [float(value) for value in slice_.affine.ravel()],
        "rescale_slope": slice_.slope,
        "rescale_intercept": slice_.intercept,
        "overlaps": slice_.overlaps,
        "warnings": sorted(str(caution) for caution in slice_.cautions),
    }
