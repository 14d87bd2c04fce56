"""A case: what lies in a subject's folder, and what the conversion must make of it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from dicom_writer import (
    Edit,
    Plan,
    labels_phantom,
    phantom,
    store,
    turn,
    write_enhanced,
    write_nifti,
    write_series,
)
from paravert.errors import Caution, Reason

Write = Callable[[Path], object]

MULTI = Caution.MULTI_STACK  # goes with almost every other warning of the geometry

PLAN = Plan()
SAGITTAL = Plan(right=(0, 1, 0), down=(0, 0, -1))
CORONAL = Plan(right=(1, 0, 0), down=(0, 0, -1))
OBLIQUE = Plan().turned(turn("z", 10) @ turn("x", 18))
EIGHT = 6.0 * np.arange(-4, 4)  # heights of eight slices
DISCS = (
    Plan(slices=3, centre=(0, 0, -60)).turned(turn("x", 20)),
    Plan(slices=4, centre=(1, -4, -10)).turned(turn("x", 8)),
    Plan(slices=2, centre=(2, -6, 20)).turned(turn("x", 3)),
    Plan(slices=3, centre=(2, -6, 60)).turned(turn("x", 3)),
)


@dataclass(frozen=True)
class Case:
    """One good form or one fault, and its expected outcome.

    write: puts the input into an empty folder. images, truth, labels, patterns: as the sheet and
    the configuration name them, relative to that folder.
    reason: of the quarantine, with a part of its message (told); None if analysed, and then:
    cautions: exactly these. stacks: slices of each. values: the function of LPS points (mm) that
    the voxels show, within tolerance. drift_mm: how far a slice may lie off its volume's grid.
    slab_mm: of all stacks or of each. overlaps: slices told to cut others. masks: the stacks that
    get masks. mask_values: the function of LPS points that these show.
    """

    name: str
    write: Write
    reason: Reason | None = None
    told: str = ""
    cautions: frozenset[Caution] = frozenset()
    stacks: tuple[int, ...] = (5,)
    values: Callable[[np.ndarray], np.ndarray] = phantom
    tolerance: float = 1
    dtype: type = np.int16
    slab_mm: float | tuple[float, ...] = 6.0
    slab_tolerance_mm: float = 1e-3
    slab_source: str = "thickness"
    drift_mm: float = 1e-3
    overlaps: int = 0
    images: str = "images"
    truth: str = ""
    labels: str = ""
    masks: tuple[int, ...] = (1,)
    mask_values: Callable[[np.ndarray], np.ndarray] = labels_phantom
    patterns: tuple[str, ...] = ()


def good(name: str, write: Write, *cautions: Caution, **expected) -> Case:
    """Return a case that is analysed, with exactly these warnings.

    That slices are alone is expected wherever a stack has one only.
    """
    alone = {Caution.SINGLE_SLICE} if 1 in expected.get("stacks", ()) else set()
    return Case(name, write, cautions=frozenset({*cautions, *alone}), **expected)


def fault(name: str, write: Write, reason: Reason, told: str = "", **given) -> Case:
    """Return a case that is quarantined for this reason."""
    return Case(name, write, reason, told, **given)


def slices_at(
    heights: Iterable[float],
    plan: Plan = PLAN,
    shift=lambda n: (0.0, 0.0),
    rotation=lambda n: np.eye(3),
) -> list[Plan]:
    """Return slices at heights (mm, along the normal), each as a plan of its own.

    shift: (right, down) mm of the numbered slice; rotation: how it is turned about its centre.
    """
    middle = np.asarray(plan.centre)
    plans = []
    for number, height in enumerate(heights):
        right, down = shift(number)
        place = middle + height * plan.normal
        place = place + right * np.asarray(plan.right) + down * np.asarray(plan.down)
        alone = replace(plan, slices=1, centre=tuple(place)).turned(rotation(number))
        plans.append(alone)
    return plans


# --- what writes ---------------------------------------------------------------------------------


def series(plan: Plan | Iterable[Plan] = PLAN, name: str = "axial", **options) -> Write:
    """Return what writes a series; see `write_series`."""
    return lambda home: write_series(home / "images", plan, name, **options)


def copies(**options) -> Write:
    """Return what writes the usual slices once more, under other names in the same series."""
    return lambda home: write_series(home / "images" / "again", PLAN, **options)


def multi_frame(*plans: Plan, name: str = "multi-frame", **options) -> Write:
    """Return what writes a multi-frame file; see `write_enhanced`."""
    return lambda home: write_enhanced(home / "images" / name, plans or [PLAN], **options)


def nifti(plan: Plan = PLAN, function=phantom, name: str = "image.nii.gz", **options) -> Write:
    """Return what writes a NIfTI file; see `write_nifti`."""
    return lambda home: write_nifti(home / name, plan, function, **options)


def together(*writes: Write) -> Write:
    """Return what writes several things, one after the other."""
    return lambda home: [write(home) for write in writes]


def beside(name: str, content: bytes) -> Write:
    """Return what writes a file of any content among the images."""

    def write(home: Path) -> None:
        file = home / "images" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    return write


def afterwards(write: Write, change: Callable[[Path], object], *chosen: int) -> Write:
    """Return what writes files and then changes some of them: those chosen, or all."""

    def written(home: Path) -> None:
        paths = write(home)
        paths = paths if isinstance(paths, list) else [paths]
        for number in chosen or range(len(paths)):
            change(paths[number])

    return written


# --- what edits ----------------------------------------------------------------------------------


def values(**changed) -> Edit:
    """Return what sets values of a data set; None takes an element out."""

    def edit(data, number):
        for keyword, value in changed.items():
            if value is None:
                del data[keyword]
            else:
                setattr(data, keyword, value)

    return edit


def raw(keyword: str, vr: str, content: bytes) -> Edit:
    """Return what puts bytes into an element as they are, well-formed or not."""
    tag = Tag(keyword)

    def edit(data, number):
        data[tag] = RawDataElement(tag, vr, len(content), content, 0, False, True)

    return edit


def each(*edits: Edit) -> Edit:
    """Return what applies several edits."""

    def edit(data, number):
        for one in edits:
            one(data, number)

    return edit


def only(chosen: int | Iterable[int], edit: Edit) -> Edit:
    """Return what edits the chosen slices alone."""
    numbers = {chosen} if isinstance(chosen, int) else set(chosen)
    return lambda data, number: edit(data, number) if number in numbers else None


def pixels(change: Callable[[np.ndarray, int], np.ndarray], plan: Plan = PLAN, **form) -> Edit:
    """Return what stores other pixels; change: from the phantom's values and the slice number."""

    def edit(data, number):
        store(data, change(phantom(plan.points(number)), number), **form)

    return edit
