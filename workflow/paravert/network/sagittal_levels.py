"""Finds the discs in a sagittal series and names them."""

from dataclasses import dataclass, replace
from enum import Enum, auto
from pathlib import Path

import numpy as np
from scipy.ndimage import center_of_mass, label
from scipy.stats import norm

from paravert.anatomy import USUAL_LUMBAR
from paravert.imaging.geometry import LPS_TO_RAS
from paravert.imaging.volume import Volume
from paravert.network.find_levels import FoundLevels, SliceGeometry, levels_on_curve
from paravert.network.openvino_unet import OpenVinoUNet
from paravert.network.sagittal_net import (
    DISC,
    SACRUM,
    VERTEBRA,
    load_sagittal_network,
    network_input,
    probabilities,
)
from paravert.network.spine_curve import curve_through
from paravert.synthesis.sagittal_parts import PIXEL_MM
from paravert.tables import HIGHEST_LEVEL, LOWEST_LEVEL

SLICES_USED = 9  # about the middle of the series
LEAST_DISC_MM2 = 40.0
LEAST_PROBABILITY = 0.4  # of a pixel of a disc
STEP_RANGE_MM = (17.0, 48.0)  # between the centres of neighbouring discs
LEAST_COSINE = 0.6  # of the angle between steps from disc to disc, and to the long axis
LEAST_DISCS = 3
HIGHEST_DISC = -0.5  # T11/12; higher ones are not named
BELOW_MM = (6.0, 30.0)  # from the centre of a disc: where the bone below it lies
# Of sacrum to vertebra below a disc: probability is s^2 / (s^2 + v^2), see docs/training.md.
SHARPNESS = 2
LEAST_BONE_MM2 = 130.0  # below a disc; with less the field of view may end there
SURE = 0.98  # the highest probability that the bone below a disc is the sacrum, or is not
# Probability of the names: below the first, levels are unknown; below the second, uncertain.
LEAST_USED, LEAST_CLEAR = 0.5, 0.85
# Discs below the lowest one that is seen, where no sacrum is. Two or more, as probable, keep each name
# below LEAST_USED: the sagittal series alone does not tell how many there are.
MOST_UNSEEN = 2
AXIAL_DOUBT = 0.1  # probability that the levels by the muscles are wrong by any number of levels


class Naming(Enum):
    """How the discs of a sagittal series got their names.

    UNCLEAR, which goes before the others: fewer than 3 discs named, or probability of the names, in the
    end, below 0.85 (LEAST_CLEAR). MUSCLES: from the series together with the levels of the axial slices
    by their muscles, as the probability by the series alone was below 0.85. SACRUM: counted from the
    sacrum.
    """

    SACRUM = auto()
    MUSCLES = auto()
    UNCLEAR = auto()


@dataclass(frozen=True)
class NamedDiscs:
    """The discs found in a sagittal series, with their names.

    points: {level: centre of the disc, NumPy (3,), LPS in mm}, by ascending level; level 4.5 is the
    disc L4/5, 5.5 the disc L5/S1 of five lumbar vertebrae (the disc on the sacrum is n_lumbar +
    0.5). At least 3 discs; those not found or not named are missing. name_probability: 0-1, that
    these names are right, against all discs being one or more levels higher or lower.
    level_variance: variance of the levels, in levels squared, because the names may be wrong; the
    error is the same for all discs.
    """

    points: dict[float, np.ndarray]
    name_probability: float
    level_variance: float


@dataclass(frozen=True)
class DiscChain:
    """A chain of discs found in a sagittal series, with the possible levels of its lowest disc.

    NumPy arrays. centres: (discs, 3), LPS in mm, from caudal to cranial. steps: int (discs,), how many
    discs each lies above the lowest one, itself 0, counting those that were not found. lowest:
    (candidates,), levels that the lowest disc may have, such as 5.5 for L5/S1; probability:
    (candidates,), of each, sum 1.
    """

    centres: np.ndarray
    steps: np.ndarray
    lowest: np.ndarray
    probability: np.ndarray

    def points(self, lowest: float) -> dict[float, np.ndarray]:
        """Return {level: centre of the disc, (3,), LPS in mm}, by ascending level, from cranial to caudal.

        lowest: level of the lowest disc, the first in centres.
        """
        levels = lowest - self.steps
        return {float(name): self.centres[n] for n, name in reversed(list(enumerate(levels)))}

    def named(self, lumbosacral: float) -> NamedDiscs | None:
        """Return the discs with their most probable levels.

        lumbosacral: level of the disc on the sacrum, 5.5 with five lumbar vertebrae; the disc itself is
        named, discs below it or above T11/12 (-0.5) are left out. None if these levels have a probability
        below 0.5 (LEAST_USED), or if fewer than 3 discs (LEAST_DISCS) are left.
        """
        best = int(self.probability.argmax())
        points = {
            level: centre
            for level, centre in self.points(self.lowest[best]).items()
            if HIGHEST_DISC <= level <= lumbosacral
        }
        if self.probability[best] < LEAST_USED or len(points) < LEAST_DISCS:
            return None
        variance = float(self.probability @ (self.lowest - self.lowest[best]) ** 2)
        return NamedDiscs(points, float(self.probability[best]), variance)

    def updated_by(self, axial: FoundLevels, geometry: SliceGeometry) -> "DiscChain":
        """Return the chain with its probabilities updated by the levels of the axial slices (Bayes' rule).

        axial: level and SD of the axial slices by their muscles; slices with an SD above `most_sd` are
        used, too. geometry: positions of these slices, in the same order. The error of these levels is
        taken as the same in all slices: normal with mean 0 and an SD that is the mean of theirs or,
        with a probability of 0.1 (AXIAL_DOUBT), of any size. The chain itself is returned if no slice
        has both a level in axial and one by the curve through the discs.
        """
        best = self.lowest[self.probability.argmax()]
        level = levels_on_curve(curve_through(self.points(best)), geometry).level
        both = ~np.isnan(axial.level) & ~np.isnan(level)
        if not both.any():
            return self
        off = best + np.median(axial.level[both] - level[both]) - self.lowest
        right = norm.pdf(off, scale=axial.sd[both].mean())
        chance = (1 - AXIAL_DOUBT) * right + AXIAL_DOUBT / (HIGHEST_LEVEL - LOWEST_LEVEL)
        weighed = self.probability * chance
        return replace(self, probability=weighed / weighed.sum())


def named_discs(
    network: OpenVinoUNet, volume: Volume, n_lumbar: int = USUAL_LUMBAR
) -> NamedDiscs | None:
    """Return the discs that a sagittal series shows, with their names; None if they cannot be named.

    They are counted from the sacrum, up to T11/12. network: from `load_sagittal_network`. volume:
    sagittal series, array (slices, rows, columns), slices from the patient's left to right, rows
    towards the feet, columns towards the back. n_lumbar: number of lumbar vertebrae, default 5.
    None if fewer than 3 discs are named, or if the names have a probability below 0.5, as when the
    sacrum is not shown.
    """
    chain = disc_chain(network, volume, n_lumbar)
    return chain and chain.named(n_lumbar + 0.5)


def disc_chain(
    network: OpenVinoUNet, volume: Volume, n_lumbar: int = USUAL_LUMBAR
) -> DiscChain | None:
    """Return the discs that a sagittal series shows, with the possible levels of the lowest one.

    None if fewer than 3 discs (LEAST_DISCS) are found; the chain leaves out those that do not follow each
    other, so that it may have fewer. network: from `load_sagittal_network`. volume: sagittal series, array
    (slices, rows, columns), slices from the patient's left to right, rows towards the feet, columns
    towards the back; the 9 middle slices are used. n_lumbar: number of lumbar vertebrae, default 5.
    """
    count = len(volume.array)
    first = max(0, (count - SLICES_USED) // 2)
    images, rows, columns = on_grid(
        volume.array[first : first + SLICES_USED], volume.pixel_spacing_mm
    )
    found = probabilities(network, network_input(images))
    weight = found[:, DISC].sum(axis=(1, 2)) + 1e-6
    mixed = np.tensordot(weight / weight.sum(), found, axes=1)
    places = _disc_places(mixed[DISC], found[:, DISC])
    if len(places) < LEAST_DISCS:
        return None
    s, r, c, area_mm2 = np.array(places).T
    sacral = np.array([_sacral_share(mixed, *place) for place in zip(r, c, strict=True)])
    index = np.column_stack(
        (columns[0] + c * columns[1], rows[0] + r * rows[1], s + first, np.ones_like(s))
    )
    centres = (LPS_TO_RAS @ volume.affine @ index.T).T[:, :3]
    chain, steps = _chain(centres, area_mm2)
    lowest, probability = _names(sacral[chain], steps, n_lumbar + 0.5)
    return DiscChain(centres[chain], steps, lowest, probability)


def on_grid(
    array: np.ndarray, spacing_mm: tuple[float, float]
) -> tuple[np.ndarray, tuple[float, float], tuple[float, float]]:
    """Return slices resampled to pixels of 2.5 mm, and where new rows and columns lie in the old.

    array: NumPy (slices, rows, columns). spacing_mm: distance between rows, between columns.
    Returns float32 (slices, new rows, new columns), means over each new pixel; (position of the
    centre of the first new row as a fractional index of old rows, old rows per new row); the same
    of columns. The new grid is centred on the old one; old pixels at the edges that fill no new one
    are left out.
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


def _disc_places(
    mixed: np.ndarray, by_slice: np.ndarray
) -> list[tuple[float, float, float, float]]:
    """Return the centre of each disc (slice, row, column), and its area in mm2, weighted by probability.

    mixed: (rows, columns), probability of disc over all slices. by_slice: (slices, rows, columns).
    """
    regions, number = label(mixed >= LEAST_PROBABILITY)
    places = []
    for region in range(1, number + 1):
        inside = regions == region
        if inside.sum() * PIXEL_MM**2 >= LEAST_DISC_MM2:
            mass = by_slice[:, inside].sum(axis=1)
            middle = float(mass @ np.arange(len(mass)) / mass.sum())
            area_mm2 = float(mixed[inside].sum()) * PIXEL_MM**2
            places.append((middle, *center_of_mass(mixed * inside), area_mm2))
    return places


def _sacral_share(mixed: np.ndarray, row: float, column: float) -> float:
    """Return the probability that the bone below a disc is the sacrum, between 1 - SURE and SURE.

    mixed: (STRUCTURES, rows, columns), probabilities. row, column: centre of the disc.
    """
    rows, columns = np.indices(mixed.shape[1:])
    apart_mm = PIXEL_MM * np.hypot(rows - row, columns - column)
    low, high = BELOW_MM
    below = (apart_mm >= low) & (apart_mm <= high) & (rows > row)
    sacrum, vertebra = (
        float(mixed[part][below].sum()) * PIXEL_MM**2 for part in (SACRUM, VERTEBRA)
    )
    if sacrum + vertebra < LEAST_BONE_MM2:
        return 1 - SURE
    share = sacrum**SHARPNESS / (sacrum**SHARPNESS + vertebra**SHARPNESS)
    return float(np.clip(share, 1 - SURE, SURE))


def _chain(centres: np.ndarray, area_mm2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the discs of the largest plausible chain, from caudal to cranial, and their steps.

    centres: (discs, 3), LPS in mm. area_mm2: (discs,), weighted by probability: what resembles
    discs in the belly or its wall is small and unsure. Returns indices (n,), and for each how many
    discs it lies above the first, (n,); a gap of one or two discs that were not found is allowed.
    """
    low, high = STEP_RANGE_MM

    def size(chain: tuple[list[int], list[int]]) -> tuple[float, int]:
        """Return the area of a chain; of equal ones that with fewest gaps is larger."""
        return area_mm2[chain[0]].sum(), -chain[1][-1]

    chains: list[tuple[list[int], list[int]]] = []  # the best that ends at each disc
    for disc in np.argsort(centres[:, 2]):
        largest = [int(disc)], [0]
        for before, steps in chains:
            apart = float(np.linalg.norm(centres[disc] - centres[before[-1]]))
            more = next((k for k in (1, 2, 3) if k * low <= apart <= k * high), None)
            if more and _goes_on(centres[[*before[-2:], disc]]):
                longer = [*before, int(disc)], [*steps, steps[-1] + more]
                largest = max(largest, longer, key=size)
        chains.append(largest)
    discs, steps = max(chains, key=size)
    return np.array(discs), np.array(steps)


def _goes_on(centres: np.ndarray) -> bool:
    """Return whether discs follow each other towards the head, without a kink. centres: (2 or 3, 3)."""
    steps = np.diff(centres, axis=0)
    steps = steps / np.linalg.norm(steps, axis=1, keepdims=True)
    return bool(steps[-1, 2] >= LEAST_COSINE and steps[-1] @ steps[0] >= LEAST_COSINE)


def _names(
    sacral: np.ndarray, steps: np.ndarray, lumbosacral: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the levels that the lowest disc of a chain may have, and the probability of each, (names,).

    sacral: (discs,), probability that the bone below each is the sacrum. steps: (discs,), see
    `_chain`. lumbosacral: level of the disc on the sacrum. If none of the discs lies on it, one to
    MOST_UNSEEN discs below them are not seen, each number as probable.
    """
    on_it, not_on_it = np.log(sacral), np.log(1 - sacral)
    # Of each number of discs from below: all of these have the sacrum below them, the others do not.
    score = np.append(0, np.cumsum(on_it)) + not_on_it.sum() - np.append(0, np.cumsum(not_on_it))
    probability = np.exp(score - score.max())
    probability /= probability.sum()
    unseen = np.arange(1, MOST_UNSEEN + 1)
    lowest = lumbosacral + np.concatenate((-unseen, steps))
    return lowest, np.append(np.full(MOST_UNSEEN, probability[0] / MOST_UNSEEN), probability[1:])


def levels_from_sagittal(
    model: Path,
    volume: Volume,
    geometry: SliceGeometry,
    n_lumbar: int,
    axial: FoundLevels | None = None,
) -> tuple[FoundLevels | None, Naming]:
    """Return the level of each axial slice from the discs of a sagittal series, and how these were named.

    model: model file of train_levels. volume: sagittal series in the patient coordinates of the
    axial slices, array (slices, rows, columns), slices from the patient's left to right, rows
    towards the feet, columns towards the back. geometry: positions of the axial slices. n_lumbar:
    number of lumbar vertebrae. axial: levels of the axial slices by their muscles; used
    (`DiscChain.updated_by`) if the names from the series alone have a probability below 0.85
    (LEAST_CLEAR); None: not known.

    Returns (levels, naming). Levels: level and SD of each axial slice, (slices,), NaN where
    unknown; 1.0 is the middle of L1, 4.5 the disc L4/5. If the names have, in the end, a
    probability below 0.85, naming is Naming.UNCLEAR; below 0.5 (LEAST_USED), or with fewer than 3
    discs named, levels are None as well. Raises InputError if the file is no such model.
    """
    chain = disc_chain(load_sagittal_network(model), volume, n_lumbar)
    if chain is None:
        return None, Naming.UNCLEAR
    naming = Naming.SACRUM
    if chain.probability.max() < LEAST_CLEAR and axial is not None:
        naming, chain = Naming.MUSCLES, chain.updated_by(axial, geometry)
    discs = chain.named(n_lumbar + 0.5)
    if discs is None:
        return None, Naming.UNCLEAR
    if discs.name_probability < LEAST_CLEAR:
        naming = Naming.UNCLEAR
    found = levels_on_curve(curve_through(discs.points), geometry)
    sd = np.hypot(found.sd, np.sqrt(discs.level_variance))
    return FoundLevels(found.level, sd), naming
