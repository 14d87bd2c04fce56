"""Distances between slices that lie over one another: where stacks end, what a slice stands for."""

import numpy as np

from paravert.errors import Caution, Reason, SubjectFault
from paravert.imaging import grouping
from paravert.imaging.frames import Frame
from paravert.imaging.parallel import Parallel
from paravert.imaging.plausible import SLAB_RANGE_MM, within

IRREGULAR_MM = 0.05  # gaps of a stack that differ more from the mean are told
TAG_TOLERANCE = 0.05  # of the spacing between slices
WIDEST = 3 * (1 + grouping.GAP_TOLERANCE)  # of the thickness: a stack spans no wider gap
NEAREST = 0.495  # of the thickness: interpolation lays slices at half of it, but for rounding


def _between(group: Parallel) -> tuple[np.ndarray, np.ndarray]:
    """Return the gaps of ascending slices and the thickness of the thinner neighbour, or NaN."""
    thickness = np.array([frame.thickness_mm or np.nan for frame in group.frames])
    return np.diff(group.heights), np.fmin(thickness[:-1], thickness[1:])


def blocks(group: Parallel) -> list[np.ndarray]:
    """Part ascending slices at every gap that no stack spans: of more than three thicknesses."""
    gaps, thickness = _between(group)
    cuts = np.flatnonzero(gaps > WIDEST * thickness) + 1
    return np.split(np.arange(len(group.frames)), cuts)


def stack_runs(group: Parallel) -> list[np.ndarray]:
    """Part slices that lie over one another, in ascending order, into evenly spaced stacks.

    Raises SubjectFault (duplicate-positions-conflict) where a scan done again lies in the first.
    """
    found = []
    for block in blocks(group):
        part = group.part(block)
        runs = grouping.even_runs(part.heights)
        _check_density(part, runs)
        found += [block[run] for run in runs]
    return found


def _check_density(block: Parallel, runs: list[np.ndarray]) -> None:
    """Raise SubjectFault where slices lie in one another, as those of a scan done again do.

    Slices that a reformat laid so near are even, or their spacing tag agrees; two alone show no
    evenness. One near pair between two runs is a seam: they overlap, and that is told.
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
    """Return the mean distance of two or more ascending slices."""
    return float((heights[-1] - heights[0]) / (len(heights) - 1))


def slab(group: Parallel) -> tuple[float, str]:
    """Return the length that a slice of a stack stands for (mm), and where it comes from.

    Raises SubjectFault: too-few-slices for a slice alone of which the tags tell nothing plausible,
    bad-geometry-position for slices that are further apart than any.
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


def spacing_cautions(group: Parallel, runs: list[np.ndarray]) -> set[Caution]:
    """Return what to tell of the spacing within the runs, of their tags, and of what parts them."""
    told = set().union(*(_cautions_within(group.part(run)) for run in runs if len(run) > 1))
    for below, above in zip(runs, runs[1:], strict=False):
        gap = group.heights[above[0]] - group.heights[below[-1]]
        spacings = [mean_gap_mm(group.heights[run]) for run in (below, above) if len(run) > 1]
        if any(grouping.missing_between(gap, spacing) for spacing in spacings):
            told.add(Caution.MISSING_SLICES)
        elif any(gap < 2 * spacing for spacing in spacings):
            told.add(Caution.SPACING_IRREGULAR)
    return told


def _cautions_within(run: Parallel) -> set[Caution]:
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
    """Tell whether the tag says that evenly spaced slices are every second, third ... alone.

    A tag below the thickness is the gap between slabs instead, in some scanners' understanding.
    """
    tag, thickness = frame.spacing_tag_mm, frame.thickness_mm
    if tag is None or thickness is None or tag < (1 - TAG_TOLERANCE) * thickness:
        return False
    return grouping.missing_between(spacing_mm, tag) > 0
