"""The vertebral level of each axial slice of a subject, from its muscle labels and position."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from paravert.anatomy import USUAL_PITCH_MM
from paravert.imaging.volume import Volume
from paravert.network.axial_net import (
    BINS,
    CELL_MM,
    load_axial_network,
    predicted_levels,
    slice_cells,
)
from paravert.network.find_levels import MOST_AXIAL_SD, FoundLevels, SliceGeometry
from paravert.tables import HIGHEST_LEVEL, LOWEST_LEVEL

# Heights of a lumbar vertebra with its disc, over people: log-normal about USUAL_PITCH_MM.
PITCH_LOG_SD = 0.08
PITCHES = 17  # of the grid, over +-2.5 SD
SHIFT_STEP = 0.02  # levels
DOUBT = 0.1  # probability that the network is wrong about a slice and it may lie anywhere
# Slices of a person share errors: beyond one slice in this many mm they add no information.
INDEPENDENT_MM = 12.0
# Levels; the error that all slices of a person have in common. 0.1 in people of the training's anatomy;
# phantoms and the real studies, whose anatomy differs, are up to 0.17 off (tests/benchmark/axial_levels.py).
PERSON_SD = 0.15
CURVE_STEP_MM = 1.0
BEYOND_MM = 60.0  # the column's curve goes on this far beyond the slices with muscles
COLUMN_SD_MM = 4.0  # of the middle of the column in a slice; farther ones count less


@dataclass(frozen=True)
class SliceEvidence:
    """The network's prediction for each slice by itself.

    NumPy arrays. probability: (slices, 26), of each vertebral level in BINS: 0.25 to 6.5 in steps of 0.25
    (1.0 mid L1, 1.5 disc L1/L2); each row adds up to 1. middle: (slices, 3), middle of the vertebral
    column in the slice, LPS in mm; NaN in a slice without muscles, whose row of probability is not used.
    """

    probability: np.ndarray
    middle: np.ndarray


def levels_from_axial(
    model: Path, stacks: Sequence[Volume], geometry: SliceGeometry
) -> FoundLevels:
    """Return the level and SD of each slice, from muscle labels and distances between slices.

    model: model file of train_axial_levels. stacks: label maps of a subject, as segment_muscles
    writes them, in ascending order of stack number. geometry: positions of the same slices, in the
    same order, from `read_geometry`. Level and SD: (slices,), NaN as in `levels_of_slices`; most_sd
    is 0.3 levels (MOST_AXIAL_SD). The subject must have five lumbar vertebrae, and labels of all
    eight muscles: without some, levels are wrong and their SD small. Raises InputError if the file
    is no such model.
    """
    network = load_axial_network(model)
    spacing = np.concatenate([[s.pixel_spacing_mm] * len(s.array) for s in stacks])
    found = [
        slice_cells(labels, tuple(mm))
        for labels, mm in zip(chain(*(s.array for s in stacks)), spacing, strict=True)
    ]
    cells, middle = (np.stack(part) for part in zip(*found, strict=True))
    probability, column = predicted_levels(network, cells)
    row, column = (middle + column * CELL_MM / spacing).T
    index = np.stack((column, row, np.zeros_like(row), np.ones_like(row)), axis=1)
    middle = np.einsum("nij,nj->ni", geometry.affines, index)[:, :3]
    return levels_of_slices(SliceEvidence(probability, middle), geometry.affines)


def levels_of_slices(evidence: SliceEvidence, affines: np.ndarray) -> FoundLevels:
    """Return the level and SD of each slice, from one fit to all slices of a subject.

    Along the vertebral column, levels increase by one per vertebra with its disc, whose height is the
    same for all. The fit weighs each height (log-normal prior about 35 mm), combined with each level at
    the middle of the slices, by the network's probabilities; level and SD are the posterior mean and
    SD, the SD with 0.15 levels (PERSON_SD, an error common to all slices) added as root of the sum of
    squares. evidence: the network's prediction for each slice, in any order. affines: of the same
    slices in the same order, (slices, 4, 4), (column, row, 0, 1) of a slice to LPS in mm. The result
    has most_sd 0.3 levels (MOST_AXIAL_SD). NaN for a slice more than about 60 mm (BEYOND_MM) beyond
    those with muscles, or whose level is outside -1 to 8 (T11 to S3), and for all slices if none shows
    a muscle.
    """
    shown = ~np.isnan(evidence.middle[:, 0])
    if not shown.any():
        return FoundLevels(*np.full((2, len(shown)), np.nan), MOST_AXIAL_SD)
    depth, crossed = _depths(evidence.middle[shown], affines)
    weight = np.zeros(len(shown))
    weight[shown] = _independent_share(depth[shown])
    pitch = USUAL_PITCH_MM * np.exp(PITCH_LOG_SD * np.linspace(-2.5, 2.5, PITCHES))
    prior = -0.5 * np.linspace(-2.5, 2.5, PITCHES) ** 2
    middle = np.average(depth, weights=weight)
    shift = np.arange(LOWEST_LEVEL, HIGHEST_LEVEL, SHIFT_STEP)  # level at the middle
    level = shift[:, None, None] + (depth - middle) / pitch[:, None]  # (shifts, pitches, slices)
    score = np.broadcast_to(prior, level.shape[:2]).copy()
    floor = DOUBT / len(BINS)
    for number in np.flatnonzero(shown):
        at = np.interp(level[..., number], BINS, evidence.probability[number])
        score += weight[number] * np.log((1 - DOUBT) * at + floor)
    chance = np.exp(score - score.max())
    chance /= chance.sum()
    mean = np.einsum("sp,spn->n", chance, level)
    variance = np.einsum("sp,spn->n", chance, (level - mean) ** 2)
    known = crossed & (mean >= LOWEST_LEVEL) & (mean <= HIGHEST_LEVEL)
    return FoundLevels(
        np.where(known, mean, np.nan),
        np.where(known, np.hypot(np.sqrt(variance), PERSON_SD), np.nan),
        MOST_AXIAL_SD,
    )


def _independent_share(depth: np.ndarray) -> np.ndarray:
    """Return the weight of each slice, 0-1: the part of INDEPENDENT_MM of the column that is its own."""
    order = np.argsort(depth)
    edges = np.concatenate(
        (
            [depth[order[0]] - INDEPENDENT_MM / 2],
            (depth[order][1:] + depth[order][:-1]) / 2,
            [depth[order[-1]] + INDEPENDENT_MM / 2],
        )
    )
    weight = np.empty(len(depth))
    weight[order] = np.clip(np.diff(edges) / INDEPENDENT_MM, 0, 1)
    return np.maximum(weight, 1e-3)


def _depths(middle: np.ndarray, affines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where along the column each slice lies, in mm towards the feet, and whether it crosses it.

    Both (slices,). middle: of the column in some of the slices, (n, 3), LPS in mm; the column is a smooth
    curve through these points, and a slice lies where it crosses it. affines: of all slices.
    """
    height = middle[:, 2]
    centre = height.mean()
    z = np.arange(height.max() + BEYOND_MM, height.min() - BEYOND_MM, -CURVE_STEP_MM)
    degree = 0 if np.ptp(height) < 30 else 1 if np.ptp(height) < 90 else 2
    degree = min(degree, len(np.unique(height.round())) - 1)
    inside = np.clip(z, height.min(), height.max())
    curve = np.column_stack(
        [_smooth(height - centre, middle[:, axis], degree, inside - centre) for axis in (0, 1)]
        + [z]
    )
    along = np.append(0, np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1)))
    normals = np.cross(affines[:, :3, 0], affines[:, :3, 1])
    above = np.einsum("nij,nj->ni", curve - affines[:, None, :3, 3], normals)  # (slices, points)
    above *= np.sign(normals[:, 2])[:, None]
    depth = np.array([np.interp(0, -row, along) for row in above])
    return depth, (above[:, 0] > 0) & (above[:, -1] < 0)


def _smooth(
    height: np.ndarray, place: np.ndarray, degree: int, at: np.ndarray, rounds: int = 5
) -> np.ndarray:
    """Return a polynomial through places by height, at other heights; outliers count less."""
    weight = np.ones(len(height))
    for _ in range(rounds):
        fitted = np.polyfit(height, place, degree, w=weight)
        off = np.abs(place - np.polyval(fitted, height))
        weight = 1 / np.sqrt(1 + (off / COLUMN_SD_MM) ** 2)
    return np.polyval(fitted, at)
