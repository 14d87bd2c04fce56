"""What the slices beside one have to say: muscles go on from slice to slice, mistakes seldom do.

The network sees one slice at a time. The nearer a neighbour lies, the more its logits count in the
mean that decides; over the gaps of thick, spread slices they hardly count.
"""

import math

import numpy as np
import torch

from paravert.imaging.volume import blank_slices

# Standard deviation of the Gaussian. Phantoms lose nothing by it from 3 to 7 mm of distance, a real
# volunteer gains (tests/benchmark/neighbours_worth.py); with 5 mm phantoms lose.
NEIGHBOURS_MM = 3.5
LEAST_WEIGHT = 0.02  # below, neighbours are not even computed


def neighbour_weight(apart_mm: float, neighbours_mm: float) -> float:
    """Return how much a slice counts for the next one, whose own logits count 1.

    A Gaussian of their distance, apart_mm, with standard deviation neighbours_mm; 0 where it would
    be below LEAST_WEIGHT, and for no neighbours_mm.
    """
    if neighbours_mm == 0:
        return 0.0
    weight = math.exp(-((apart_mm / neighbours_mm) ** 2) / 2)
    return weight if weight >= LEAST_WEIGHT else 0.0


def bonds_of(image: np.ndarray, weight: float) -> torch.Tensor | None:
    """Return the weights between each slice of a stack and the next, float32 (slices - 1,).

    A slice of a single value shows nothing and is nobody's neighbour. None where no slice has one.
    """
    if weight == 0 or len(image) == 1:
        return None
    shows = ~blank_slices(image)
    return torch.from_numpy(np.float32(weight) * (shows[1:] & shows[:-1]))


def with_neighbours(logits: torch.Tensor, bonds: torch.Tensor) -> torch.Tensor:
    """Return the weighted means of each slice and its neighbours, of which the ends have one.

    logits: of slices in a row, (slices, classes, rows, columns); bonds: (slices - 1,).
    """
    bonds = bonds.to(logits.device)[:, None, None, None]
    total, weights = logits.clone(), torch.ones(len(logits), 1, 1, 1, device=logits.device)
    # Not with add_'s alpha, which rounds otherwise: the same bits wherever the row is cut.
    total[1:] += bonds * logits[:-1]
    total[:-1] += bonds * logits[1:]
    weights[1:] += bonds
    weights[:-1] += bonds
    return total / weights
