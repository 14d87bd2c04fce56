"""Which slices belong together, from their directions and positions alone.

Every function gives the same answer for the same slices in any order. Lengths are mm.
"""

import numpy as np

from paravert.imaging.geometry import angle_deg

ORIENTATION_TOLERANCE_DEG = 0.2
GAP_TOLERANCE = 0.05  # of the nominal gap
EQUAL_JUMPS = 1e-6  # jumps between gaps that differ less count as equally large
SHIFT_TOLERANCE_MM = 0.15  # in the plane, between the slices of one stack
SAME_HEIGHT_MM = 0.05  # slices nearer than that lie at one position
SLIDE_TOLERANCE = 0.5  # of the even slide from slice to slice: others are shifted, not sheared


def components(near: np.ndarray) -> list[np.ndarray]:
    """Return the connected components of a symmetric boolean matrix, each as sorted indices."""
    waiting = np.ones(len(near), bool)
    found = []
    for seed in range(len(near)):
        if not waiting[seed]:
            continue
        members = np.zeros(len(near), bool)
        members[seed] = True
        while True:
            grown = members | near[members].any(axis=0)
            if (grown == members).all():
                break
            members = grown
        waiting &= ~members
        found.append(np.flatnonzero(members))
    return found


def orientation_clusters(right: np.ndarray, down: np.ndarray) -> list[np.ndarray]:
    """Return slices of one orientation: those linked by turns of at most 0.2 degrees.

    right, down: unit directions (slices, 3).
    """
    different, member = np.unique(np.hstack([right, down]), axis=0, return_inverse=True)
    turned = np.maximum(
        angle_deg(different[:, None, :3], different[None, :, :3]),
        angle_deg(different[:, None, 3:], different[None, :, 3:]),
    )
    near = components(turned <= ORIENTATION_TOLERANCE_DEG)
    return [np.flatnonzero(np.isin(member.ravel(), cluster)) for cluster in near]


def orientation_spread_deg(right: np.ndarray, down: np.ndarray) -> float:
    """Return the largest turn between two slices of a cluster."""
    different = np.unique(np.hstack([right, down]), axis=0)
    turns = [
        angle_deg(different[:, None, part], different[None, :, part]).max()
        for part in (slice(0, 3), slice(3, 6))
    ]
    return float(max(turns))


def shift_clusters(in_plane: np.ndarray) -> list[np.ndarray]:
    """Return slices that lie over one another: those linked by in-plane shifts up to 0.15 mm.

    in_plane: centres (slices, 2) of parallel slices.
    """
    distance = np.linalg.norm(in_plane[:, None] - in_plane[None, :], axis=-1)
    return components(distance <= SHIFT_TOLERANCE_MM)


def same_places(heights: np.ndarray, in_plane: np.ndarray) -> list[np.ndarray]:
    """Return the slices at each place; of parallel slices at heights (slices,)."""
    level = np.abs(heights[:, None] - heights[None, :]) <= SAME_HEIGHT_MM
    distance = np.linalg.norm(in_plane[:, None] - in_plane[None, :], axis=-1)
    return components(level & (distance <= SHIFT_TOLERANCE_MM))


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
    stretches = sorted(_like_gaps(gaps, 0), key=lambda s: (s[0] - s[1], gaps[s[0]], s[0]))
    for start, stop in stretches:
        for piece in _pieces(np.flatnonzero(free[start : stop + 1]) + start):
            if len(piece) > 1:
                free[piece] = False
                runs.append(piece)
    runs += [np.array([alone]) for alone in np.flatnonzero(free)]
    return sorted(runs, key=lambda run: run[0])


def _like_gaps(gaps: np.ndarray, start: int) -> list[tuple[int, int]]:
    """Return stretches [start, stop) of gaps near their median, cutting at the largest jumps."""
    if not len(gaps):
        return []
    nominal = np.median(gaps)
    if np.abs(gaps - nominal).max() <= GAP_TOLERANCE * nominal:
        return [(start, start + len(gaps))]
    jumps = np.abs(np.diff(np.log(gaps)))
    cuts = np.flatnonzero(jumps >= jumps.max() * (1 - EQUAL_JUMPS)) + 1
    parts = zip([0, *cuts], np.split(gaps, cuts), strict=True)
    return [stretch for offset, part in parts for stretch in _like_gaps(part, start + int(offset))]


def _pieces(indices: np.ndarray) -> list[np.ndarray]:
    return np.split(indices, np.flatnonzero(np.diff(indices) > 1) + 1)


def missing_between(gap_mm: float, spacing_mm: float) -> int:
    """Return how many slices of an even spacing are missing in a gap; 0 if it is no multiple."""
    steps = round(gap_mm / spacing_mm)
    even = abs(gap_mm - steps * spacing_mm) <= GAP_TOLERANCE * spacing_mm
    return steps - 1 if even and steps > 1 else 0
