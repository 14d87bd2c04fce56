"""What the slices beside one have to say: muscles go on from slice to slice, mistakes seldom do.

The network sees one slice at a time. The nearer a neighbour lies, the more its logits count in the
mean that decides; over the gaps of thick, spread slices they hardly count.
"""

import math

import torch

LEAST_WEIGHT = 0.02  # below, the neighbours are not even computed


def neighbour_weight(apart_mm: float, neighbours_mm: float) -> float:
    """Return the weight of the slice before and of the one behind, 0 to 1; a slice's own is 1.

    A Gaussian of the distance, apart_mm, with standard deviation neighbours_mm; 0 for one of 0.
    """
    if neighbours_mm == 0:
        return 0.0
    weight = math.exp(-((apart_mm / neighbours_mm) ** 2) / 2)
    return weight if weight >= LEAST_WEIGHT else 0.0


def with_neighbours(logits: torch.Tensor, weight: float) -> torch.Tensor:
    """Return the weighted means of each slice and its neighbours; the first and last have one.

    logits: of neighbouring slices, (slices, classes, rows, columns).
    """
    if weight == 0 or len(logits) == 1:
        return logits
    total = logits.clone()
    total[1:] += weight * logits[:-1]
    total[:-1] += weight * logits[1:]
    weights = torch.full((len(logits), 1, 1, 1), 1 + 2 * weight, device=logits.device)
    weights[0] = weights[-1] = 1 + weight
    return total / weights
