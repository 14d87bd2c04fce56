"""Which slices belong together, from their directions and positions alone.

Every function gives the same answer for the same slices in any order. Lengths are mm.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from paravert.imaging.geometry import angle_deg

ORIENTATION_TOLERANCE_DEG = 0.2
GAP_TOLERANCE = 0.05  # of the nominal gap
EQUAL_JUMPS = 1e-6  # jumps between gaps that differ less count as equally large
SHIFT_TOLERANCE_MM = 0.15  # in the plane, between the slices of one stack
SAME_HEIGHT_MM = 0.05  # slices nearer than that lie at one position
SLIDE_TOLERANCE = 0.5  # of the even slide from slice to slice: others are shifted, not sheared


def components(count: int, near: Callable[[int, np.ndarray], np.ndarray]) -> list[np.ndarray]:
    """Return what is linked, directly or through others, each as sorted indices.

    near: tells of one index and an array of others which are linked to it. Asking for one at a
    time keeps thousands of slices within a few arrays of their number.
    """
    waiting = np.arange(count)
    found = []
    while len(waiting):
        members, reached, waiting = [], [int(waiting[0])], waiting[1:]
        while reached:
            members.append(reached.pop())
            linked = near(members[-1], waiting)
            reached += waiting[linked].tolist()
            waiting = waiting[~linked]
        found.append(np.sort(members))
    return found


def orientation_clusters(right: np.ndarray, down: np.ndarray) -> list[np.ndarray]:
    """Return slices of one orientation: those linked by turns of at most 0.2 degrees.

    right, down: unit directions (slices, 3).
    """
    pairs, member = np.unique(np.stack([right, down], axis=1), axis=0, return_inverse=True)

    def near(one: int, others: np.ndarray) -> np.ndarray:
        return angle_deg(pairs[one], pairs[others]).max(axis=-1) <= ORIENTATION_TOLERANCE_DEG

    clusters = components(len(pairs), near)
    return [np.flatnonzero(np.isin(member.ravel(), cluster)) for cluster in clusters]


def orientation_spread_deg(right: np.ndarray, down: np.ndarray) -> float:
    """Return the largest turn between two slices of a cluster."""
    pairs = np.unique(np.stack([right, down], axis=1), axis=0)
    return max(float(angle_deg(pair, pairs[n:]).max()) for n, pair in enumerate(pairs))


def shift_clusters(in_plane: np.ndarray) -> list[np.ndarray]:
    """Return slices that lie over one another: those linked by in-plane shifts up to 0.15 mm.

    in_plane: centres (slices, 2) of parallel slices.
    """
    return components(len(in_plane), lambda one, others: _over(in_plane, one, others))


def same_places(heights: np.ndarray, in_plane: np.ndarray) -> list[np.ndarray]:
    """Return the slices at each place; of parallel slices at heights (slices,)."""

    def near(one: int, others: np.ndarray) -> np.ndarray:
        level = np.abs(heights[others] - heights[one]) <= SAME_HEIGHT_MM
        return level & _over(in_plane, one, others)

    return components(len(heights), near)


def _over(in_plane: np.ndarray, one: int, others: np.ndarray) -> np.ndarray:
    return np.linalg.norm(in_plane[others] - in_plane[one], axis=-1) <= SHIFT_TOLERANCE_MM


def shear_mm_per_mm(heights: np.ndarray, in_plane: np.ndarray) -> float:
    """Return how far slices slide in the plane per mm along the normal, if they do so evenly.

    0 of two slices, where not every step from slice to slice slides alike, and where the slide in
    all is within the tolerance.
    """
    if len(heights) < 3 or np.ptp(heights) == 0:
        return 0.0
    design = np.column_stack([heights - heights.mean(), np.ones(len(heights))])
    fit, *_ = np.linalg.lstsq(design, in_plane, rcond=None)
    slope = float(np.linalg.norm(fit[0]))
    order = np.argsort(heights)
    up, aside = np.diff(heights[order]), np.diff(in_plane[order], axis=0)
    off = np.linalg.norm(aside - up[:, None] * fit[0], axis=1)
    evenly = (off <= SLIDE_TOLERANCE * slope * up).all()
    return slope if slope * np.ptp(heights) > 2 * SHIFT_TOLERANCE_MM and evenly else 0.0


def even_runs(heights: np.ndarray) -> list[np.ndarray]:
    """Return runs of evenly spaced slices, from the lowest; every slice is in one run.

    heights: ascending, all different. The gaps of a run are within 5 % of the nominal one, their
    median. A slice between two runs goes to the longer one, at equal length to the denser.
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
    """Return stretches [start, stop) of gaps near their median, cutting at the largest jumps."""
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
    """Return how many slices of an even spacing are missing in a gap; 0 if it is no multiple."""
    steps = round(gap_mm / spacing_mm)
    even = abs(gap_mm - steps * spacing_mm) <= GAP_TOLERANCE * spacing_mm
    return steps - 1 if even and steps > 1 else 0
