"""Dixon acquisitions: series or frames that show water and fat at the same positions.

The fat image becomes the converted stack, the water image is kept beside it, and the network
predicts from both (reasons: docs/fat_domain.md).

How makers mark the parts: Siemens writes a series per part, with ImageType (0008,0008)
ORIGINAL\\PRIMARY\\DIXON\\WATER and a description that ends with _W, _F, _in, _opp (so does UK
Biobank); GE a series per part, DERIVED\\PRIMARY\\DIXON\\WATER and "WATER: ..." at the front;
Philips one series, with DERIVED\\PRIMARY\\W\\W\\DERIVED, or one multi-frame image, whose FrameType
(0008,9007) says so; Canon the description, with WFS. `sequence.dixon_part` reads them all.
"""

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from paravert.errors import Caution, Reason, SubjectFault, some_of
from paravert.imaging.frame_stack import FrameStack, stack_frames
from paravert.imaging.frames import Frame
from paravert.imaging.geometry import corner_distance_mm
from paravert.imaging.image_stack import CONTENT_CAUTIONS, Images, ImageStack
from paravert.imaging.input_files import PathKind, files_at, path_kind
from paravert.imaging.nifti import read_nifti
from paravert.imaging.parallel_frames import group_frames
from paravert.imaging.sequence import DIXON_MAP, name_without_part
from paravert.imaging.volume import Volume, blank_slices
from paravert.sheet import is_nifti
from paravert.tables import DIXON_FAT, DIXON_WATER

ROUNDED_MM = 1  # decimals, of positions that are compared: parts of one acquisition have the same
# Fat is the brightest tissue of its image, as bright as that of the water image or brighter: from .95 times
# in phantoms to 2.7 in a volunteer, .37 where they are swapped. A map of per cent is darker by far.
BRIGHT_PERCENTILE, LEAST_OF_WATER = 99, 0.2
SAME_CORNERS_MM = 0.3  # between the grids of two parts; see SHIFT_TOLERANCE_MM


def acquisitions(series: Mapping[Hashable, Sequence[Frame]]) -> list[tuple[Hashable, ...]]:
    """Return the keys of series in groups: the series of one Dixon acquisition together, others alone.

    series: {key: attributes of its slices}. The groups are in no particular order; within a group, the
    order of `series` is kept. Dixon acquisition: series that each show one part (water, fat, in phase,
    ...) or one map, have the same name apart from the part, and include water and fat; each shares with
    the first of them more than half of the positions of whichever of the two has fewer. Name:
    SeriesDescription (0008,103E). Map: computed values, such as a fat fraction. Maps of another name at
    the positions of a Dixon acquisition are in no group. A series that holds several parts itself is
    alone.
    """
    places = {key: _places(frames) for key, frames in series.items()}
    names = {key: _name_of_part(frames) for key, frames in series.items()}
    groups: list[list[Hashable]] = []
    for key, name in names.items():
        for group in groups:
            alike = name is not None and name == names[group[0]]
            if alike and _share_places(places[key], places[group[0]]):
                group.append(key)
                break
        else:
            groups.append([key])
    whole = [group for group in groups if has_water_and_fat(f for k in group for f in series[k])]

    def is_map_of_others(key: Hashable) -> bool:
        own = all(frame.part == DIXON_MAP for frame in series[key])
        return own and any(_share_places(places[key], places[group[0]]) for group in whole)

    found = []
    for group in groups:
        if group in whole:
            found.append(tuple(group))
        else:
            found += [(key,) for key in group if not is_map_of_others(key)]
    return found


def _name_of_part(frames: Sequence[Frame]) -> str | None:
    """Return the name of the acquisition of a series that is one part or map; None for any other."""
    if frames[0].part is None or len({frame.part for frame in frames}) > 1:
        return None
    return name_without_part(frames[0].header.description)


def _places(frames: Sequence[Frame]) -> frozenset[tuple[float, ...]]:
    known = (frame.position for frame in frames if frame.position is not None)
    return frozenset(tuple(np.round(position, ROUNDED_MM) + 0.0) for position in known)


def _share_places(one: frozenset, other: frozenset) -> bool:
    return 2 * len(one & other) > min(len(one), len(other))


def has_water_and_fat(frames: Iterable[Frame]) -> bool:
    """Return whether the slices include Dixon water as well as Dixon fat.

    frames: attributes of slices of one subject.
    """
    return {DIXON_WATER, DIXON_FAT} <= {frame.part for frame in frames}


def split_parts(frames: Sequence[Frame]) -> tuple[tuple[Frame, ...], tuple[Frame, ...]]:
    """Return the slices to convert, and the Dixon water slices to keep beside them.

    frames: attributes of the slices of one series, or of one Dixon acquisition. If they include
    water and fat, the fat slices are the ones to convert, and slices of neither are left out.
    Otherwise all slices are converted, and the water slices are (). The order is kept. Whether
    fat and water lie at the same positions is not checked: see `stacks_with_water`.
    """
    if not has_water_and_fat(frames):
        return tuple(frames), ()
    by_part: dict[str | None, list[Frame]] = defaultdict(list)
    for frame in frames:
        by_part[frame.part].append(frame)
    return tuple(by_part[DIXON_FAT]), tuple(by_part[DIXON_WATER])


def stacks_with_water(
    frames: Sequence[Frame], water: Sequence[Frame]
) -> tuple[list[FrameStack], list[FrameStack], set[Caution]]:
    """Return the stacks of some slices, the stacks of their Dixon water, and warnings.

    Stack: parallel, evenly spaced slices, from caudal to cranial; without pixels. frames:
    attributes of the slices to convert. water: those of the Dixon water slices; empty if there are
    none. `frame_fault` must have found no fault in any of them. Both lists of stacks have the same
    voxel grids, within 0.3 mm, in the same order; the second is empty without water. The warnings
    are those of `stack_frames`, about `frames`. Raises SubjectFault: dixon-parts-differ if the
    grids differ, bad-geometry-orientation, bad-geometry-position, inconsistent-matrix,
    ambiguous-contrast, duplicate-positions-conflict, too-few-slices.
    """
    stacks, cautions = stack_frames(group_frames(frames))
    if not water:
        return stacks, [], cautions
    beside, _ = stack_frames(group_frames(water))
    _check_same_grids(stacks, beside)
    return stacks, beside, cautions


def _check_same_grids(fat: Sequence[FrameStack], water: Sequence[FrameStack]) -> None:
    slices = [sum(len(stack.frames) for stack in part) for part in (fat, water)]
    if len(fat) != len(water) or not all(map(_same_grid, fat, water)):
        raise SubjectFault(
            Reason.DIXON_PARTS_DIFFER,
            f"Dixon fat has {slices[0]} slices in {len(fat)} stacks, water {slices[1]} in "
            f"{len(water)}, expected the same positions, matrix and pixel spacing",
        )


def _same_grid(one: FrameStack, other: FrameStack) -> bool:
    if one.shape != other.shape:
        return False
    return corner_distance_mm(one.affine, other.affine, one.shape) <= SAME_CORNERS_MM


def check_parts_differ(stacks: Sequence[ImageStack]) -> None:
    """Raise SubjectFault (dixon-parts-differ) if water and fat of a stack are no two parts.

    That is, if they hold the same voxels, or the 99th percentile of fat (over every second row and
    column of all slices) is above 0 and below a fifth of that of water, as in a map of fat fractions.
    stacks: of one subject, with their Dixon water; a stack without fat shows fat itself. The same
    voxels are no fault if each slice has a single value.
    """
    for stack in stacks:
        fat = stack.volume.array if stack.fat is None else stack.fat
        if not blank_slices(fat).all() and np.array_equal(stack.water, fat):
            raise SubjectFault(
                Reason.DIXON_PARTS_DIFFER,
                "water and fat hold the same voxels, expected two parts of one acquisition",
            )
        bright, of_fat = (
            float(np.percentile(part[:, ::2, ::2], BRIGHT_PERCENTILE))
            for part in (stack.water, fat)
        )
        if 0 < of_fat < LEAST_OF_WATER * bright:
            raise SubjectFault(
                Reason.DIXON_PARTS_DIFFER,
                f"bright pixels of fat have {of_fat:.3g}, those of water {bright:.3g}, expected two images "
                "of one scale and no map of fat fractions",
            )


def cautions_of_part(
    name: str, stacks: Sequence[ImageStack], parts: Sequence[ImageStack]
) -> tuple[set[Caution], list[str]]:
    """Return all warnings about the slices of a Dixon part, and sentences on those that only it has.

    name: water or fat, for the sentences. stacks: of the subject. parts: stacks of the part on the
    same grids, in the same order. The sentences, one per warning, name slices of the part (five at
    most) that have blank-slice or slice-unlike-neighbours (CONTENT_CAUTIONS) where the same slice
    of the subject's stack does not.
    """
    found: set[Caution] = set()
    places: dict[Caution, list[str]] = defaultdict(list)
    for number, (stack, part) in enumerate(zip(stacks, parts, strict=True), start=1):
        for index, (own, beside) in enumerate(zip(stack.slices, part.slices, strict=True)):
            found |= beside.cautions
            for caution in CONTENT_CAUTIONS & (beside.cautions - own.cautions):
                places[caution].append(f"{index} of stack {number}")
    return found, [f"{name}: {one} in slice {some_of(places[one], 5)}" for one in sorted(places)]


# --- NIfTI ---------------------------------------------------------------------------------------

# Words of a file's name; a file with a word of OTHER_NAMES is no part.
PART_NAMES = {DIXON_WATER: {"water", "wat", "w"}, DIXON_FAT: {"fat", "f"}}
OTHER_NAMES = {
    "label", "labels", "mask", "masks", "seg", "dseg", "segmentation", "truth", "fraction", "ff", "pdff",
    "frac", "percent", "map",
}  # fmt: skip
SAME_NIFTI_MM = 0.5  # between the corners of two grids without their origins: a qform is rounded


def part_files(folder: Path) -> tuple[Path, Path] | None:
    """Return the NIfTI files (fat, water) in or below a folder, by their names; None unless both exist.

    folder: path in the sheet's column images. A file is fat if one word of its name is fat or f,
    and water if one is water, wat or w, in any case. Words are separated by anything but letters
    and digits. Files with words of both, or a word such as mask, labels or pdff, are ignored.
    Raises SubjectFault: ambiguous-series if several files are fat or several are water, and both
    are there; unreadable-header if a folder cannot be read.
    """
    named: dict[str, list[Path]] = defaultdict(list)
    for file in files_at(folder, "images"):
        words = set(re.split(r"[^a-z0-9]+", file.name.lower()))
        if is_nifti(file) and not words & OTHER_NAMES:
            parts = [part for part, names in PART_NAMES.items() if words & names]
            if len(parts) == 1:
                named[parts[0]].append(file)
    fat, water = named[DIXON_FAT], named[DIXON_WATER]
    if not fat or not water:
        return None
    if len(fat) > 1 or len(water) > 1:
        raise SubjectFault(
            Reason.AMBIGUOUS_SERIES,
            f"images: {len(fat)} NIfTI files named fat and {len(water)} named water, expected one each",
        )
    return fat[0], water[0]


def with_parts(images: Images, water: Path, fat: Path | None = None) -> Images:
    """Return images of one stack with the voxels of their Dixon water and fat added from NIfTI files.

    images: of one subject; not changed. water, fat: NIfTI files, which replace those that the stack
    may have; fat is None if the images themselves show fat. Matrix, spacing and directions must be
    those of the stack, within 0.5 mm at the corners. The origin may differ, as some conversions
    lose it: voxels are paired by index, and a distance of more than 0.5 mm gives the warning
    dixon-origins-differ and a note. The warnings about the slices of water and fat are added.

    Raises SubjectFault: dixon-parts-differ if the grids differ, there are several stacks, or water
    and fat are no two parts (`check_parts_differ`), unreadable-header if there is no such file, and
    the reasons of `read_nifti` if it is not a usable NIfTI image.
    """
    if len(images.stacks) > 1:
        raise SubjectFault(
            Reason.DIXON_PARTS_DIFFER,
            f"images: {len(images.stacks)} stacks, expected one beside water and fat of the sheet",
        )
    (stack,) = images.stacks
    cautions, notes = set(images.cautions), [images.note] if images.note else []
    for name, file in (("water", water), ("fat", fat)):
        if file is None:
            continue
        part, away_mm = _onto(stack.volume, file, name)
        told, where = cautions_of_part(name, [stack], [part])
        cautions |= told
        notes += where
        affines = (*stack.part_affines, part.volume.affine)
        stack = replace(stack, **{name: part.volume.array}, part_affines=affines)
        if away_mm > SAME_NIFTI_MM:
            cautions.add(Caution.DIXON_ORIGINS_DIFFER)
            notes.append(
                f"{name} is paired voxel by voxel, its origin lies {away_mm:.0f} mm from the image's"
            )
    check_parts_differ((stack,))
    return replace(
        images, stacks=(stack,), cautions=frozenset(cautions), note="; ".join(notes) or None
    )


def _onto(volume: Volume, file: Path, name: str) -> tuple[ImageStack, float]:
    """Return the stack of a file with the matrix of a volume, and how far apart the origins are in mm."""
    if path_kind(file, name) != PathKind.FILE:
        raise SubjectFault(Reason.UNREADABLE_HEADER, f"{name}: no such file, expected NIfTI")
    stack = read_nifti(file, name).stacks[0]
    part = stack.volume
    shape, found = volume.array.shape[::-1], part.array.shape[::-1]
    centred = [
        grid.affine - np.pad(grid.affine[:, 3:], ((0, 0), (3, 0))) for grid in (volume, part)
    ]
    if shape != found or corner_distance_mm(*centred, shape) > SAME_NIFTI_MM:
        told = " x ".join(map(str, found))
        raise SubjectFault(
            Reason.DIXON_PARTS_DIFFER,
            f"{name}: {told} voxels, the image has {' x '.join(map(str, shape))}, expected the same "
            "matrix, spacing and directions",
        )
    return stack, float(np.linalg.norm(part.affine[:3, 3] - volume.affine[:3, 3]))
