"""The level of every axial slice of a subject, from the axial slices alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from paravert.anatomy import USUAL_PITCH_MM
from paravert.imaging.volume import Volume
from paravert.network.axial_net import BINS, load_network, network_input, predicted
from paravert.network.find_levels import MOST_AXIAL_SD, FoundLevels, SliceGeometry
from paravert.tables import HIGHEST_LEVEL, LOWEST_LEVEL

# Heights of a lumbar vertebra with its disc, over people: log-normal about USUAL_PITCH_MM.
PITCH_LOG_SD = 0.08
PITCHES = 17  # of the grid, over +-2.5 SD
SHIFT_STEP = 0.02  # levels
DOUBT = 0.1  # probability that the network is wrong about a slice and it may lie anywhere
# Slices of a person share errors: beyond one slice in this many mm they add no information.
INDEPENDENT_MM = 12.0
PERSON_SD = 0.1  # levels; the error that all slices of a person have in common
CURVE_STEP_MM = 1.0
BEYOND_MM = 60.0  # the column's curve goes on this far beyond the slices
COLUMN_SD_MM = 4.0  # of the middle of the column in a slice; farther ones count less


@dataclass(frozen=True)
class SliceEvidence:
    """What single slices tell.

    probability: of the levels BINS, (slices, BINS). middle: of the vertebral column, (slices, 3), LPS
    in mm.
    """

    probability: np.ndarray
    middle: np.ndarray


def levels_from_axial(
    model: Path, stacks: Sequence[Volume], geometry: SliceGeometry
) -> FoundLevels:
    """Return the level of each slice by the network and by the distances between the slices.

    model: file, see `axial_net.load_network`. stacks: of a subject, in the order of their numbers.
    geometry: of their slices.
    """
    torch.set_num_threads(1)
    network = load_network(model)
    parts = []
    affines = np.split(geometry.affines, np.cumsum([len(s.array) for s in stacks])[:-1])
    for stack, own in zip(stacks, affines, strict=True):
        images, place = network_input(stack.array, stack.pixel_spacing_mm)
        probability, cells = predicted(network, images)
        row, column = (place[:, 0] + cells * place[:, 1]).T
        index = np.stack((column, row, np.zeros_like(row), np.ones_like(row)), axis=1)
        parts.append((probability, np.einsum("nij,nj->ni", own, index)[:, :3]))
    evidence = SliceEvidence(*(np.concatenate(part) for part in zip(*parts, strict=True)))
    return levels_of_slices(evidence, geometry.affines)


def levels_of_slices(evidence: SliceEvidence, affines: np.ndarray) -> FoundLevels:
    """Return the level of each slice: one level and one height of vertebrae for the whole subject.

    Levels increase along the column by one per height of a vertebra with its disc. Of all shifts and
    heights, each is as probable as the network finds the levels that it gives to the slices, and as
    the height is in people. affines: of the slices, (slices, 4, 4), (column, row, 0, 1) to LPS in mm.
    """
    depth, crossed = _depths(evidence.middle, affines)
    weight = _independent_share(depth)
    pitch = USUAL_PITCH_MM * np.exp(PITCH_LOG_SD * np.linspace(-2.5, 2.5, PITCHES))
    prior = -0.5 * np.linspace(-2.5, 2.5, PITCHES) ** 2
    middle = np.average(depth, weights=weight)
    shift = np.arange(LOWEST_LEVEL, HIGHEST_LEVEL, SHIFT_STEP)  # level at the middle
    level = shift[:, None, None] + (depth - middle) / pitch[:, None]  # (shifts, pitches, slices)
    score = np.broadcast_to(prior, level.shape[:2]).copy()
    floor = DOUBT / len(BINS)
    for number, probability in enumerate(evidence.probability):
        at = np.interp(level[..., number], BINS, probability)
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

    Both (slices,). middle: see `SliceEvidence`; the column is a smooth curve through these points, and a
    slice lies where it crosses it.
    """
    height = middle[:, 2]
    centre = height.mean()
    z = np.arange(height.max() + BEYOND_MM, height.min() - BEYOND_MM, -CURVE_STEP_MM)
    degree = 0 if np.ptp(height) < 30 else 1 if np.ptp(height) < 90 else 2
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
