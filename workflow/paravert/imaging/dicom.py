"""A folder of DICOM files becomes checked stacks in canonical order."""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from paravert.errors import Caution, Reason, SubjectFault
from paravert.imaging.frames import Frame, Header
from paravert.imaging.geometry import (
    BODY_LIMIT_MM,
    canonical_order,
    columns_first,
    fits_body,
    grid_corners,
    plane_affine,
    rearranged,
)
from paravert.imaging.headers import scan_folder
from paravert.imaging.images import Images, Slice, Stack, check_not_blank, content_cautions
from paravert.imaging.overlap import overlapping
from paravert.imaging.pixels import compact, read_frames
from paravert.imaging.reading import quiet_pydicom
from paravert.imaging.series import choose_series
from paravert.imaging.stacks import FrameStack, frames_by_place, stack_frames
from paravert.imaging.volume import Volume

# Free text could identify a subject: of (0008,0070) only the maker is kept, under our name for it.
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
OTHER_MANUFACTURER = "other"
ECHO_TOLERANCE = 0.05  # of the echo time; another echo of the same scan is further away

_Values = dict[int, tuple[np.ndarray, frozenset[Caution]]]  # by id of the frame


def read_dicom(folder: Path, series_description: Sequence[str] = ()) -> Images:
    """Return the axial series in a folder (searched recursively) or file, as checked stacks.

    series_description: see `choose_series`.
    Raises SubjectFault with the reason if the data cannot be used as they are.
    """
    scan = scan_folder(folder)
    chosen = choose_series(scan, series_description)
    places = frames_by_place(chosen.frames)
    _check_contrast(places)
    doubled = [place for place in places if len(place) > 1]
    with quiet_pydicom():
        # Geometry is judged before pixels are read; duplicates need pixels to be judged.
        grouped = stack_frames([place[0] for place in places])
        for stack in grouped[0]:
            _check_stack(stack)
        values = _read_values([frame for place in doubled for frame in place])
        for place in doubled:
            _check_duplicates(place, values, alone=len(places) == 1)
        kept = [f for stack in grouped[0] for f in stack.frames if id(f) not in values]
        values |= _read_values(kept)
    dropped = {id(place[0]) for place in doubled}
    stacks = _filled(grouped[0], values, dropped)
    for stack in stacks:
        _check_extent(stack.volume)
    check_not_blank(stacks)
    own = frozenset().union(*(slice_.cautions for stack in stacks for slice_ in stack.slices))
    overlap = any(slice_.overlaps for stack in stacks for slice_ in stack.slices)
    return Images(
        stacks,
        header=_header_facts(chosen.frames),
        cautions=scan.cautions
        | chosen.cautions
        | grouped[1]
        | own
        | ({Caution.OVERLAPPING_STACKS} if overlap else set()),
        note=chosen.note,
    )


def _check_contrast(places: list[list[Frame]]) -> None:
    """Raise SubjectFault where images of one place are of different contrast.

    Times of acquisition alone tell nothing where all images lie at one place: they differ between
    the slices of a series, and it is their positions that are damaged.
    """
    for place in places:
        differ = _differ([frame.contrast for frame in place])
        if differ or (len(places) > 1 and _differ([frame.acquired for frame in place])):
            raise SubjectFault(
                Reason.AMBIGUOUS_CONTRAST,
                f"{len(place)} images of different echo, type or time at one position, "
                "expected one contrast in the series",
            )


def _check_stack(stack: FrameStack) -> None:
    """Raise SubjectFault where neighbours are of different contrast: half of each was lost."""
    kinds = [(frame.image_type[2:] or None,) for frame in stack.frames]
    echoes = [f.echo_time_ms for f in stack.frames if f.echo_time_ms is not None]
    if _differ(kinds) or (echoes and max(echoes) > (1 + ECHO_TOLERANCE) * min(echoes)):
        raise SubjectFault(
            Reason.AMBIGUOUS_CONTRAST,
            "slices of one stack are of different echo or type, expected one contrast",
        )


def _check_extent(volume: Volume) -> None:
    """Raise SubjectFault where the pixels of a stack reach further than a patient."""
    slices, rows, columns = volume.array.shape
    corners = grid_corners(volume.affine, (columns, rows, slices))
    if not fits_body(corners):
        wide_mm = float(np.linalg.norm(np.ptp(corners, axis=0)))
        raise SubjectFault(
            Reason.BAD_GEOMETRY_POSITION,
            f"the pixels of a stack span {wide_mm:.4g} mm and lie up to "
            f"{np.abs(corners).max():.4g} mm from the origin, expected at most {BODY_LIMIT_MM:g}",
        )


def _differ(values: Sequence[tuple]) -> bool:
    """Tell whether tuples differ in a member that is known in both."""
    return any(len(set(members) - {None}) > 1 for members in zip(*values, strict=True))


def _check_duplicates(place: list[Frame], values: _Values, *, alone: bool) -> None:
    first, *others = (values[id(frame)][0] for frame in place)
    if not all(np.array_equal(first, other) for other in others):
        raise SubjectFault(
            Reason.DUPLICATE_POSITIONS_CONFLICT,
            f"{'all ' if alone else ''}{len(place)} slices share one position, "
            "ImagePositionPatient (0020,0032), but not their pixels, expected one slice at each",
        )


def _read_values(frames: Sequence[Frame]) -> _Values:
    """Return the values and warnings of frames, each file read once."""
    by_file: dict[int, list[Frame]] = defaultdict(list)
    headers: dict[int, Header] = {}
    for frame in frames:
        headers[id(frame.header)] = frame.header
        by_file[id(frame.header)].append(frame)
    values: _Values = {}
    for key, members in by_file.items():
        arrays, cautions = read_frames(headers[key], members)
        values |= {
            id(frame): (array, frozenset(cautions))
            for frame, array in zip(members, arrays, strict=True)
        }
    return values


def _filled(grouped: list[FrameStack], values: _Values, dropped: set[int]) -> tuple[Stack, ...]:
    """Return the stacks with their voxels, in canonical order."""
    return tuple(
        _canonical(stack, values, dropped, overlaps)
        for stack, overlaps in zip(grouped, overlapping(grouped), strict=True)
    )


def _canonical(
    stack: FrameStack, values: _Values, dropped: set[int], overlaps: list[bool]
) -> Stack:
    array = compact([values[id(frame)][0] for frame in stack.frames])
    order, flips = canonical_order(_affine(stack, stack.corner), slice_axis=0)
    turned, affine = rearranged(array, _affine(stack, stack.corner), order, flips)
    seen = content_cautions(array, stack.slab_mm)
    slices = []
    for index, frame in enumerate(stack.frames):
        own = array[index : index + 1]
        _, place = rearranged(own, _affine(stack, stack.corner_of(frame)), order, flips)
        doubled = {Caution.DUPLICATE_SLICE_DROPPED} if id(frame) in dropped else set()
        cautions = values[id(frame)][1] | seen[index] | doubled
        slices.append(
            Slice(
                columns_first(place),
                frame.thickness_mm,
                frame.slope,
                frame.intercept,
                overlaps[index],
                cautions,
            )
        )
    return Stack(Volume(turned, columns_first(affine)), tuple(slices), stack.slab_source)


def _affine(stack: FrameStack, corner: np.ndarray) -> np.ndarray:
    """Return the RAS affine of (slice, row, column), as the frames lie in the files."""
    frame = stack.frames[0]
    right, down = stack.right * frame.column_spacing_mm, stack.down * frame.row_spacing_mm
    return columns_first(plane_affine(corner, right, down, stack.normal * stack.slab_mm))


# --- what is kept of the header ------------------------------------------------------------------


def _header_facts(frames: Sequence[Frame]) -> dict:
    """Return the header columns of `tables.CONVERT`; what differs within the series is unknown."""
    headers = [frame.header for frame in frames]
    return {
        "header_sex": _common([header.sex for header in headers]),
        "header_age_years": _common([header.age_years for header in headers]),
        "field_strength_t": _common([header.field_strength_t for header in headers]),
        # Times of 0 tell images of one place apart, but are no times of a sequence.
        "echo_time_ms": _common([frame.echo_time_ms for frame in frames]) or None,
        "repetition_time_ms": _common([frame.repetition_time_ms for frame in frames]) or None,
        "manufacturer": _common([_manufacturer(header.manufacturer) for header in headers]),
    }


def _common(values: Sequence) -> object | None:
    """Return the one value that all share, or None."""
    different = set(values)
    return different.pop() if len(different) == 1 else None


def _manufacturer(told: str) -> str | None:
    if not told:
        return None
    known = (m for m in MANUFACTURERS if re.search(rf"\b{m}\b", told, re.IGNORECASE))
    return next(known, OTHER_MANUFACTURER)
