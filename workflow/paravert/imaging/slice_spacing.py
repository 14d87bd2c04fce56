"""Spacing of parallel slices: where a stack ends, and the length that one slice represents.

Height: position of a slice along the common normal, in mm, ascending towards the head. Gap: distance
between the centres of neighbouring slices.
"""

from itertools import pairwise

import numpy as np

from paravert.errors import Caution, Reason, SubjectFault
from paravert.imaging.frames import SLAB_RANGE_MM, Frame
from paravert.imaging.header_values import within
from paravert.imaging.parallel_frames import ParallelFrames

GAP_TOLERANCE = 0.05  # of the nominal gap
EQUAL_JUMPS = 1e-6  # ratios of neighbouring gaps that differ less are equally large
IRREGULAR_MM = 0.05  # gaps that differ more from the mean gap of their stack give a warning
TAG_TOLERANCE = 0.05  # of the spacing between slices
WIDEST = 3 * (1 + GAP_TOLERANCE)  # of the thickness: a wider gap ends a stack
NEAREST = 0.495  # of the thickness: interpolated slices are half of it apart, but for rounding


def _between(group: ParallelFrames) -> tuple[np.ndarray, np.ndarray]:
    """Return gaps and thicknesses, (slices - 1,), in mm: of the thinner neighbour, NaN if unknown."""
    thickness = np.array([frame.thickness_mm or np.nan for frame in group.frames])
    return np.diff(group.heights), np.fmin(thickness[:-1], thickness[1:])


def blocks_of_slices(group: ParallelFrames) -> list[np.ndarray]:
    """Return the indices of the slices of each block, one array (n,) per block, ascending.

    group: parallel slices by ascending height (position along the normal). A new block begins where
    the gap to the slice before is more than 3.15 times the smaller thickness of the two slices, or
    the one that is known; never where both are unknown.
    """
    gaps, thickness = _between(group)
    cuts = np.flatnonzero(gaps > WIDEST * thickness) + 1
    return np.split(np.arange(len(group.frames)), cuts)


def stack_runs(group: ParallelFrames) -> list[np.ndarray]:
    """Return the indices of the slices of each stack, one int array (n,) per stack, from the lowest.

    group: parallel slices straight above one another, by ascending height (position along the normal).
    Stack: a run of evenly spaced slices; every slice is in one, a lone slice in a stack of 1. Raises
    SubjectFault (duplicate-positions-conflict) if slices overlap by more than half of their thickness,
    as those of a repeated scan do. Such overlap is allowed in a block (`blocks_of_slices`) in any of
    three cases: the block is one stack of three or more slices; SpacingBetweenSlices (0018,0088) of one
    of its slices agrees with its smallest gap within 5 %; only one pair of its slices overlaps so, and
    this pair is no stack of its own.
    """
    found = []
    for block in blocks_of_slices(group):
        part = group.part(block)
        runs = even_runs(part.heights)
        _check_density(part, runs)
        found += [block[run] for run in runs]
    return found


def _check_density(block: ParallelFrames, runs: list[np.ndarray]) -> None:
    """Raise SubjectFault where slices overlap as those of a repeated scan do.

    Slices that a reformat placed so close are evenly spaced, or their spacing tag agrees; for two
    slices evenness cannot be seen. A single close pair between two runs is where two stacks meet:
    they overlap, and a warning says so.
    """
    gaps, thickness = _between(block)
    near = gaps < NEAREST * thickness
    if not near.any() or (len(runs) == 1 and len(block.frames) > 2):
        return
    nearest = float(gaps.min())
    if any(_agrees(frame.spacing_tag_mm, nearest) for frame in block.frames):
        return
    if near.sum() > 1 or any(len(run) == 2 and near[run[0]] for run in runs):
        thick = thickness[gaps.argmin()]
        raise SubjectFault(
            Reason.DUPLICATE_POSITIONS_CONFLICT,
            f"slices of {thick:g} mm lie {nearest:.2f} mm apart, expected one at each height",
        )


def _agrees(tag_mm: float | None, spacing_mm: float) -> bool:
    return tag_mm is not None and abs(tag_mm - spacing_mm) <= TAG_TOLERANCE * spacing_mm


def mean_gap_mm(heights: np.ndarray) -> float:
    """Return the mean distance (mm) of neighbouring slices.

    heights: positions along the normal in mm, (slices,), ascending, two or more.
    """
    return float((heights[-1] - heights[0]) / (len(heights) - 1))


def slab_length(group: ParallelFrames) -> tuple[float, str]:
    """Return the slab length in mm (length along the normal that one slice represents), and its source.

    group: the slices of one stack, by ascending height. With two or more slices it is their mean
    distance, and the source "positions". With one slice it is SliceThickness (0018,0050), source
    "thickness", otherwise SpacingBetweenSlices (0018,0088) if 0.1 to 100 mm, source "tag". Raises
    SubjectFault: too-few-slices for a single slice without either, bad-geometry-position for a mean
    distance of more than 100 mm.
    """
    if len(group.frames) > 1:
        gap_mm = mean_gap_mm(group.heights)
        if gap_mm > SLAB_RANGE_MM[1]:
            raise SubjectFault(
                Reason.BAD_GEOMETRY_POSITION,
                f"slices of one stack lie {gap_mm:.4g} mm apart, "
                f"expected at most {SLAB_RANGE_MM[1]:g}",
            )
        return gap_mm, "positions"
    frame = group.frames[0]
    if frame.thickness_mm is not None:
        return frame.thickness_mm, "thickness"
    tag_mm = within(frame.spacing_tag_mm, SLAB_RANGE_MM)
    if tag_mm is not None:
        return tag_mm, "tag"
    raise SubjectFault(
        Reason.TOO_FEW_SLICES,
        "a slice alone without SliceThickness (0018,0050) or SpacingBetweenSlices (0018,0088): "
        "the length that it stands for is unknown",
    )


def spacing_cautions(group: ParallelFrames, runs: list[np.ndarray]) -> set[Caution]:
    """Return the warnings about the distances between slices.

    group: slices straight above one another, by ascending height. runs: their stacks, from
    `stack_runs`. Warnings: missing-slices (the gap between two stacks is twice, three times ... the
    spacing of one of them, or the spacing of a stack is such a multiple of SpacingBetweenSlices, unless
    this is below the thickness, or that is unknown), spacing-irregular (a gap differs by more than 0.05
    mm from the mean of its stack, or that between two stacks is no such multiple and below twice the
    spacing of one of them), and for SpacingBetweenSlices (0018,0088), in stacks of two or more slices,
    spacing-tag-missing and spacing-tag-mismatch (differs from the positions by more than 5 %).
    """
    told = set().union(*(_cautions_within(group.part(run)) for run in runs if len(run) > 1))
    for below, above in zip(runs, runs[1:], strict=False):
        gap = group.heights[above[0]] - group.heights[below[-1]]
        spacings = [mean_gap_mm(group.heights[run]) for run in (below, above) if len(run) > 1]
        if any(missing_between(gap, spacing) for spacing in spacings):
            told.add(Caution.MISSING_SLICES)
        elif any(gap < 2 * spacing for spacing in spacings):
            told.add(Caution.SPACING_IRREGULAR)
    return told


def _cautions_within(run: ParallelFrames) -> set[Caution]:
    spacing = mean_gap_mm(run.heights)
    told = set()
    if np.abs(np.diff(run.heights) - spacing).max() > IRREGULAR_MM:
        told.add(Caution.SPACING_IRREGULAR)
    tags = {frame.spacing_tag_mm for frame in run.frames}
    if None in tags:
        told.add(Caution.SPACING_TAG_MISSING)
    if not all(_agrees(tag, spacing) for tag in tags - {None}):
        told.add(Caution.SPACING_TAG_MISMATCH)
    if any(_skips(frame, spacing) for frame in run.frames):
        told.add(Caution.MISSING_SLICES)
    return told


def _skips(frame: Frame, spacing_mm: float) -> bool:
    """Return whether by the spacing tag only every second (third ...) slice is there.

    A tag below the thickness is the gap between slabs instead, as some scanners write it.
    """
    tag, thickness = frame.spacing_tag_mm, frame.thickness_mm
    if tag is None or thickness is None or tag < (1 - TAG_TOLERANCE) * thickness:
        return False
    return missing_between(spacing_mm, tag) > 0


# --- even spacing, from heights alone ------------------------------------------------------------


def even_runs(heights: np.ndarray) -> list[np.ndarray]:
    """Return the indices of the slices of each evenly spaced run, one array (n,) per run, from the lowest.

    heights: positions along the normal in mm, (slices,), strictly ascending. Every slice is in exactly one
    run; a run can be a single slice. The gaps of a run differ by at most 5 % from their median (that of the
    run before it lost an end slice to a neighbouring run). A slice between two runs belongs to the run with
    more slices; if both have equally many, to the run with smaller gaps.
    """
    gaps = np.diff(heights)
    free = np.ones(len(heights), bool)
    runs = []
    stretches = sorted(_like_gaps(gaps), key=lambda s: (s[0] - s[1], gaps[s[0]], s[0]))
    for start, stop in stretches:
        for piece in _pieces(np.flatnonzero(free[start : stop + 1]) + start):
            if len(piece) > 1:
                free[piece] = False
                runs.append(piece)
    runs += [np.array([alone]) for alone in np.flatnonzero(free)]
    return sorted(runs, key=lambda run: run[0])


def _like_gaps(gaps: np.ndarray) -> list[tuple[int, int]]:
    """Return ranges [start, stop) of gaps near their median, splitting at the largest changes."""
    found = []
    waiting = [(0, len(gaps))] if len(gaps) else []
    while waiting:
        start, stop = waiting.pop()
        part = gaps[start:stop]
        nominal = np.median(part)
        if np.abs(part - nominal).max() <= GAP_TOLERANCE * nominal:
            found.append((start, stop))
            continue
        jumps = np.abs(np.diff(np.log(part)))
        cuts = start + 1 + np.flatnonzero(jumps >= jumps.max() * (1 - EQUAL_JUMPS))
        waiting += pairwise([start, *cuts.tolist(), stop])
    return found


def _pieces(indices: np.ndarray) -> list[np.ndarray]:
    return np.split(indices, np.flatnonzero(np.diff(indices) > 1) + 1)


def missing_between(gap_mm: float, spacing_mm: float) -> int:
    """Return how many slices are missing between two slices.

    gap_mm: distance of the two slices. spacing_mm: distance of neighbouring slices elsewhere. A gap
    of n spacings (n from 1), within 5 % of one, lacks n - 1 slices; any other gap gives 0.
    """
    steps = round(gap_mm / spacing_mm)
    even = abs(gap_mm - steps * spacing_mm) <= GAP_TOLERANCE * spacing_mm
    return steps - 1 if even and steps > 1 else 0
