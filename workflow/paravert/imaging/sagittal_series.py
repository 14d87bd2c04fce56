"""The sagittal series of a study, which shows at which vertebra or disc each axial slice lies."""

from collections.abc import Sequence

import numpy as np

from paravert.errors import SubjectFault
from paravert.imaging.decoding import read_pixels
from paravert.imaging.dicom_scan import FolderScan
from paravert.imaging.frame_stack import check_extent, stack_frames
from paravert.imaging.frames import Frame
from paravert.imaging.geometry import LPS_TO_RAS, columns_first, rearranged
from paravert.imaging.image_stack import compact_array
from paravert.imaging.parallel_frames import group_frames
from paravert.imaging.series import frame_fault, orientation_fault
from paravert.imaging.volume import Volume
from paravert.tables import STIR, T1, T2

LEAST_COSINE = np.cos(np.deg2rad(30.0))  # of the angle between a sagittal slice's normal and left
LEAST_SLICES = 3
PREFERRED = {T2: 3, T1: 2, STIR: 1}  # classes of sequences; others come last


def read_sagittal(scan: FolderScan, axial: Sequence[Frame]) -> tuple[Volume | None, str | None]:
    """Return the best sagittal series of a subject in the patient coordinates of the axial slices.

    scan: headers and frames (slices without pixels) of all files of the subject. axial: attributes
    of the axial slices to measure, whose frame of reference is compared.

    Returns (volume, None); (None, None) without a sagittal series; (None, sentence with the reason) if
    none can be used. The volume's array is (slices, rows, columns): slices from left to right, rows
    towards the feet, columns towards the back. Of a series of several stacks, the volume is the stack
    that has most slices. Sagittal: at least 3 slices, no localizer among them, all with a valid
    orientation and a normal within 30 degrees of left-right. A series can be used if its frame of
    reference (0020,0052) is known and that of all axial slices, its slices are without fault by
    `frame_fault`, they form stacks of which the volume's is no larger than a patient, and its pixels
    can be read. Of several such series: T2, otherwise T1, STIR, others (the class of the first slice
    counts); of one class, the one with most slices. Raises SubjectFault (unreadable-header, passing) for
    an error of the disk or network.
    """
    sagittal = [frames for frames in scan.series.values() if _is_sagittal(frames)]
    if not sagittal:
        return None, None
    usable = [frames for frames in sagittal if _in_one_space((*frames, *axial))]
    if not usable:
        tag = "frame of reference (0020,0052)"
        return None, f"sagittal series not in one known {tag} with the axial one"
    told = ""
    for frames in sorted(usable, key=_worth, reverse=True):
        try:
            return _volume(frames), None
        except SubjectFault as fault:
            if fault.passing:
                raise
            told = told or f"sagittal series that cannot be used: {fault.message}"
    return None, told


def _is_sagittal(frames: Sequence[Frame]) -> bool:
    """Return whether a series consists of sagittal slices, with valid orientations."""
    if len(frames) < LEAST_SLICES or any("LOCALIZER" in frame.image_type for frame in frames):
        return False
    if any(orientation_fault(frame) for frame in frames):
        return False
    normals = np.cross([f.directions[0] for f in frames], [f.directions[1] for f in frames])
    return bool((np.abs(normals[:, 0]) >= LEAST_COSINE).all())


def _in_one_space(frames: Sequence[Frame]) -> bool:
    """Return whether all slices have one frame of reference, which is known."""
    found = {frame.header.frame_of_reference for frame in frames}
    return len(found) == 1 and "" not in found


def _worth(frames: Sequence[Frame]) -> tuple[int, int]:
    return PREFERRED.get(frames[0].sequence, 0), len(frames)


def _volume(frames: Sequence[Frame]) -> Volume:
    """Return the largest stack of a series. Raises SubjectFault if it cannot be read."""
    if fault := next(filter(None, map(frame_fault, frames)), None):
        raise fault
    stacks, _ = stack_frames(group_frames(frames))
    stack = max(stacks, key=lambda one: len(one.frames))
    check_extent(stack)
    values = read_pixels(stack.frames)
    array = compact_array([values[frame][0] for frame in stack.frames])
    order, flips = _order(stack.affine)
    turned, affine = rearranged(array, stack.affine, order, flips)
    return Volume(np.ascontiguousarray(turned), columns_first(affine))


def _order(affine: np.ndarray) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """Return order and flips, for `rearranged`: rows towards the feet, columns towards the back.

    affine: 4 x 4, (slice, row, column) to RAS. The slices follow from left to right, so that the axes
    (column, row, slice) are right-handed.
    """
    lps = (LPS_TO_RAS @ affine)[:3, :3]
    upright = abs(lps[2, 1]) >= abs(lps[2, 2])
    rows, columns = (1, 2) if upright else (2, 1)
    flips = (lps[0, 0] > 0, lps[2, rows] > 0, lps[1, columns] < 0)
    return (0, rows, columns), tuple(bool(flip) for flip in flips)
