"""Reading a folder of DICOM files as checked stacks of images in canonical order."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from paravert.errors import Caution, Reason, SubjectFault
from paravert.imaging.decoding import FramePixels, read_pixels
from paravert.imaging.dicom_scan import scan_folder
from paravert.imaging.dixon_parts import cautions_of_part, check_parts_differ, stacks_with_water
from paravert.imaging.frame_stack import FrameStack, check_extent, colliding_slices
from paravert.imaging.frames import Frame
from paravert.imaging.geometry import canonical_order, columns_first, rearranged
from paravert.imaging.image_stack import (
    Images,
    ImageSlice,
    ImageStack,
    check_not_blank,
    compact_array,
    content_cautions,
)
from paravert.imaging.parallel_frames import FrameCopies
from paravert.imaging.sagittal_series import read_sagittal
from paravert.imaging.series import choose_series, common_sequence
from paravert.imaging.volume import Volume

# Free text could identify a subject: (0008,0070) is reduced to one of these names, or `other`.
MANUFACTURERS = (
    "Siemens",
    "Philips",
    "GE",
    "Canon",
    "Toshiba",
    "Hitachi",
    "Fujifilm",
    "Esaote",
    "United Imaging",
    "Hyperfine",
    "Paramed",
    "Fonar",
    "Neusoft",
    "Bruker",
)
# Names that scanners write in place of these.
SHORT_NAMES = {"GEHC": "GE", "UIH": "United Imaging"}
OTHER_MANUFACTURER = "other"


def read_dicom(folder: Path, series_description: Sequence[str] = ()) -> Images:
    """Return the images of the axial series in a folder, searched recursively, or in one file.

    series_description: regular expressions for SeriesDescription (0008,103E), tried in the given
    order while several axial series remain; each keeps the series that it matches, if there are
    any; case is ignored.

    Returns the stacks (parallel, evenly spaced slices, from caudal to cranial) with voxels, affine
    and attributes of each slice; header values; warnings; every MR series found; and the sagittal
    series if one can be used. Of a Dixon acquisition the stacks show fat; `ImageStack.water` is
    water. Each array is (slices, rows, columns): axial slices from caudal to cranial, rows towards
    the patient's back, columns towards the patient's left; for the sagittal one see `Images`.

    Raises SubjectFault with a reason code if the images cannot be used: the faults of
    `scan_folder`, `choose_series`, `stacks_with_water`, `read_pixels` and `check_parts_differ`;
    images at one position that differ (duplicate-positions-conflict), a stack larger than a patient
    (bad-geometry-position), values that cannot be stored (unsupported-pixels), blank-images.
    """
    scan = scan_folder(folder)
    chosen = choose_series(scan, series_description)
    frame_stacks, water_stacks, spacing_told = stacks_with_water(chosen.frames, chosen.water)
    stacks = _image_stacks(frame_stacks)
    cautions = scan.cautions | chosen.cautions | spacing_told
    notes = [chosen.note]
    if water_stacks:
        parts = _image_stacks(water_stacks)
        told, where = cautions_of_part("water", stacks, parts)
        cautions |= told
        notes += where
        stacks = tuple(
            replace(stack, water=part.volume.array)
            for stack, part in zip(stacks, parts, strict=True)
        )
        check_parts_differ(stacks)
    for slice_ in (slice_ for stack in stacks for slice_ in stack.slices):
        cautions |= slice_.cautions
        cautions |= {Caution.OVERLAPPING_STACKS} if slice_.overlaps else set()
    sagittal, not_used = read_sagittal(scan, chosen.frames)
    cautions |= {Caution.SAGITTAL_NOT_USED} if not_used else set()
    note = "; ".join(filter(None, (*notes, not_used))) or None
    return Images(stacks, _header_facts(chosen.frames), cautions, note, chosen.found, sagittal)


def _image_stacks(frame_stacks: Sequence[FrameStack]) -> tuple[ImageStack, ...]:
    """Return stacks with their voxels; raises SubjectFault for pixels that cannot be used."""
    places = [place for stack in frame_stacks for place in stack.group.places]
    values = read_pixels([frame for place in places for frame in place])
    for place in places:
        _check_duplicates(place, values, only_place=len(places) == 1)
    colliding = colliding_slices(frame_stacks)
    stacks = tuple(
        _image_stack(stack, values, overlaps)
        for stack, overlaps in zip(frame_stacks, colliding, strict=True)
    )
    check_not_blank(stacks)
    return stacks


def _check_duplicates(place: FrameCopies, values: FramePixels, *, only_place: bool) -> None:
    """Raise SubjectFault where images at one position differ in a pixel."""
    first, *others = (values[frame][0] for frame in place)
    if not all(np.array_equal(first, other) for other in others):
        raise SubjectFault(
            Reason.DUPLICATE_POSITIONS_CONFLICT,
            f"{'all ' if only_place else ''}{len(place)} slices share one position, "
            "ImagePositionPatient (0020,0032), but not their pixels, expected one slice at each",
        )


def _image_stack(stack: FrameStack, values: FramePixels, overlaps: list[bool]) -> ImageStack:
    """Return a stack with its voxels, in canonical order; overlaps: of each slice."""
    array = compact_array([values[frame][0] for frame in stack.frames])
    order, flips = canonical_order(stack.affine, slice_axis=0)
    turned, affine = rearranged(array, stack.affine, order, flips)
    volume = Volume(turned, columns_first(affine))
    check_extent(stack)
    content = content_cautions(array, stack.slab_mm)
    slices = []
    for index, (frame, *duplicates) in enumerate(stack.group.places):
        own = array[index : index + 1]
        _, own_affine = rearranged(own, stack.affine_of(frame), order, flips)
        dropped = {Caution.DUPLICATE_SLICE_DROPPED} if duplicates else set()
        slices.append(
            ImageSlice(
                columns_first(own_affine),
                frame.thickness_mm,
                frame.slope,
                frame.intercept,
                overlaps[index],
                values[frame][1] | content[index] | dropped,
                frame.sequence,
            )
        )
    return ImageStack(volume, tuple(slices), stack.slab_source)


# --- header facts --------------------------------------------------------------------------------


def _header_facts(frames: Sequence[Frame]) -> dict:
    """Return `tables.HEADER_COLUMNS`; a value that differs within the series is unknown (None)."""
    headers = [frame.header for frame in frames]
    return {
        "header_sex": _common([header.sex for header in headers]),
        "header_age_years": _common([header.age_years for header in headers]),
        "field_strength_t": _common([header.field_strength_t for header in headers]),
        # 0 distinguishes images at one position, but is no time of a sequence.
        "echo_time_ms": _common([frame.echo_time_ms for frame in frames]) or None,
        "repetition_time_ms": _common([frame.repetition_time_ms for frame in frames]) or None,
        "inversion_time_ms": _common([frame.inversion_time_ms for frame in frames]) or None,
        "flip_angle_deg": _common([frame.flip_angle_deg for frame in frames]) or None,
        "header_sequence": common_sequence(frames),
        "manufacturer": _common([_manufacturer(header.manufacturer) for header in headers]),
    }


def _common(values: Sequence) -> object | None:
    """Return the one value that all share, or None."""
    different = set(values)
    return different.pop() if len(different) == 1 else None


def _manufacturer(told: str) -> str | None:
    if not told:
        return None
    names = {name: name for name in MANUFACTURERS} | SHORT_NAMES
    told = told.replace("_", " ")  # such as TOSHIBA_MEC and CANON_MEC
    known = (
        maker for name, maker in names.items() if re.search(rf"\b{name}\b", told, re.IGNORECASE)
    )
    return next(known, OTHER_MANUFACTURER)
