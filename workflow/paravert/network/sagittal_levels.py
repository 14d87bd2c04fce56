"""Finds the discs in a sagittal series and names them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import center_of_mass, label

from paravert.imaging.geometry import LPS_TO_RAS
from paravert.imaging.volume import Volume
from paravert.network.levels import FoundLevels, SliceGeometry, levels_on_curve
from paravert.network.sagittal_net import (
    DISC,
    LEVELS,
    SagittalNet,
    load_network,
    prepared,
    probabilities,
)
from paravert.network.spine_curve import curve_through
from paravert.synthesis.sagittal_parts import DISCS, PIXEL_MM

SLICES_USED = 9  # about the middle of the series
LEAST_DISC_MM2 = 40.0
LEAST_PROBABILITY = 0.4  # of a pixel of a disc
STEP_RANGE_MM = (17.0, 48.0)  # between the centres of neighbouring discs
LEAST_DISCS = 3
LEAST_SHARE = 1e-3  # of a name for a disc, so that a single disc cannot exclude a name


@dataclass(frozen=True)
class NamedDiscs:
    """The discs of a sagittal series.

    points: centre of each disc by level (4.5 disc L4/5), (3,) LPS in mm. name_probability: of these
    names, against all discs being one or more levels higher or lower. level_variance: of the levels for
    that reason, in levels squared.
    """

    points: dict[float, np.ndarray]
    name_probability: float
    level_variance: float


def named_discs(network: SagittalNet, volume: Volume) -> NamedDiscs | None:
    """Return the discs that a sagittal series shows, by level; None if fewer than LEAST_DISCS are found.

    network: see `load_network`. volume: see `imaging.sagittal.read_sagittal`.
    """
    count = len(volume.array)
    first = max(0, (count - SLICES_USED) // 2)
    used = slice(first, first + SLICES_USED)
    images, rows, columns = on_grid(volume.array[used], volume.pixel_spacing_mm)
    structure, level = probabilities(network, prepared(images))
    disc = structure[:, DISC]
    of_discs = disc[:, None] * level[:, np.searchsorted(LEVELS, DISCS)]
    weight = disc.sum(axis=(1, 2)) + 1e-6
    weight = weight / weight.sum()
    places, scores = _candidates(np.tensordot(weight, of_discs, axes=1), disc, weight)
    if not places:
        return None
    index = np.array(
        [(columns[0] + c * columns[1], rows[0] + r * rows[1], s + first, 1) for s, r, c in places]
    )
    centres = (LPS_TO_RAS @ volume.affine @ index.T).T[:, :3]
    chain, steps = _chain(centres, scores)
    if len(chain) < LEAST_DISCS:
        return None
    return _named(centres[chain], scores[chain], steps)


def on_grid(
    array: np.ndarray, spacing_mm: tuple[float, float]
) -> tuple[np.ndarray, tuple[float, float], tuple[float, float]]:
    """Return slices on the network's grid, and where its rows and columns lie.

    array: (slices, rows, columns). spacing_mm: between rows, and between columns. Returns float32
    (slices, rows, columns) of PIXEL_MM, means over each pixel; then the index of its first row in the
    array and the step from row to row, and the same of columns.
    """
    (by_row, rows), (by_column, columns) = (
        _averaging(size, step) for size, step in zip(array.shape[1:], spacing_mm, strict=True)
    )
    images = by_row @ array.astype(np.float32) @ by_column.T
    return images, rows, columns


def _averaging(size: int, step_mm: float) -> tuple[np.ndarray, tuple[float, float]]:
    """Return the matrix (pixels, size) that averages samples over pixels, and their place."""
    share = PIXEL_MM / step_mm
    count = max(1, int(size / share))
    edges = (size - count * share) / 2 + share * np.arange(count + 1)
    low = np.maximum(edges[:-1, None], np.arange(size))
    high = np.minimum(edges[1:, None], np.arange(size) + 1)
    matrix = np.clip(high - low, 0, None) / share
    return matrix.astype(np.float32), (float(edges[0] + share / 2 - 0.5), share)


def _candidates(
    named: np.ndarray, disc: np.ndarray, weight: np.ndarray
) -> tuple[list[tuple[float, float, float]], np.ndarray]:
    """Return the centre of each disc (slice, row, column), and its log probability by label.

    named: (DISCS, rows, columns), probabilities over all slices. disc: (slices, rows, columns), of any
    disc. weight: (slices,), their sum is 1.
    """
    anything = np.tensordot(weight, disc, axes=1)
    regions, number = label(anything >= LEAST_PROBABILITY)
    places, scores = [], []
    for region in range(1, number + 1):
        inside = regions == region
        if inside.sum() * PIXEL_MM**2 < LEAST_DISC_MM2:
            continue
        row, column = center_of_mass(anything * inside)
        mass = disc[:, inside].sum(axis=1)
        places.append((float(mass @ np.arange(len(mass)) / mass.sum()), row, column))
        share = named[:, inside].sum(axis=1)
        scores.append(np.log(share / share.sum() + LEAST_SHARE))
    return places, np.array(scores)


def _chain(centres: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the discs of the longest plausible chain, from caudal to cranial, and their steps.

    centres: (discs, 3), LPS in mm. Returns indices (n,), and for each how many discs it lies above the
    first, (n,); a gap of one or two discs that were not found is allowed.
    """
    order = np.argsort(centres[:, 2])
    low, high = STEP_RANGE_MM
    best: list[tuple[int, ...]] = []
    steps_of: dict[tuple[int, ...], list[int]] = {}
    for end, disc in enumerate(order):
        chains = [((int(disc),), [0])]
        for before in range(end):
            chain = best[before]
            apart = np.linalg.norm(centres[disc] - centres[chain[-1]])
            missing = next((k for k in (1, 2, 3) if k * low <= apart <= k * high), None)
            if missing:
                chains.append(
                    ((*chain, int(disc)), [*steps_of[chain], steps_of[chain][-1] + missing])
                )
        longest = max(chains, key=lambda one: (len(one[0]), -one[1][-1]))
        best.append(longest[0])
        steps_of[longest[0]] = longest[1]
    chosen = max(best, key=lambda chain: (len(chain), -steps_of[chain][-1]))
    return np.array(chosen), np.array(steps_of[chosen])


def _named(centres: np.ndarray, scores: np.ndarray, steps: np.ndarray) -> NamedDiscs:
    """Return the discs of a chain with the most probable names. scores: (discs, labels)."""
    last = len(DISCS) - 1
    lowest = np.arange(-2, len(DISCS) + steps[-1] + 2)  # label of the chain's first disc
    place = lowest[:, None] - steps  # label of each disc
    known = (place >= 0) & (place <= last)
    picked = np.where(
        known, scores[np.arange(len(steps)), np.clip(place, 0, last)], np.log(LEAST_SHARE)
    ).sum(axis=1)
    probability = np.exp(picked - picked.max())
    probability /= probability.sum()
    chosen = int(probability.argmax())
    points = {float(DISCS[0] + place[chosen, n]): centre for n, centre in enumerate(centres)}
    variance = float(probability @ (lowest - lowest[chosen]) ** 2)
    return NamedDiscs(dict(sorted(points.items())), float(probability[chosen]), variance)


def levels_from_sagittal(
    model: Path, volume: Volume, geometry: SliceGeometry
) -> tuple[NamedDiscs | None, FoundLevels | None]:
    """Return the discs in a sagittal series, and the level of each axial slice by them; None if unknown.

    model: file, see `load_network`. volume: see `named_discs`. geometry: of the axial slices.
    """
    torch.set_num_threads(1)
    discs = named_discs(load_network(model), volume)
    if discs is None:
        return None, None
    found = levels_on_curve(curve_through(discs.points), geometry)
    sd = np.hypot(found.sd, np.sqrt(discs.level_variance))
    return discs, FoundLevels(found.level, sd)
