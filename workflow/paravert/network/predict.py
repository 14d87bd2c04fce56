"""Labels of a stack from a model: standardise, resample, predict, and exactly back."""

from dataclasses import dataclass

import numpy as np
import torch

from paravert.network.grid import (
    labels_on_image,
    network_size,
    padded,
    resampled,
    standardise,
)
from paravert.network.model import Model


@dataclass(frozen=True)
class Runner:
    """How to compute: device, number format inside the network (None: float32), slices at once."""

    device: torch.device
    low: torch.dtype | None = None
    batch_size: int = 8


@torch.inference_mode()
def predicted_labels(
    model: Model, image: np.ndarray, spacing_mm: tuple[float, float], runner: Runner
) -> np.ndarray:
    """Return labels, uint8 (slices, rows, columns), of a stack on its own grid.

    image: (slices, rows, columns), any intensity scale. spacing_mm: between rows, columns. Each
    slice is predicted whole; the number of slices at once changes nothing.
    """
    shape = image.shape[1:]
    size = network_size(shape, spacing_mm, model.spacing_mm)
    stack = torch.from_numpy(standardise(image))[:, None]
    labels = [
        _labels_of(model, slices.to(runner.device), size, shape, runner)
        for slices in stack.split(runner.batch_size)
    ]
    return np.concatenate(labels)


def _labels_of(model, slices, size, shape, runner: Runner) -> np.ndarray:
    on_grid = padded(resampled(slices, size), model.network.architecture.stride)
    logits = _logits(model, on_grid, runner)
    return labels_on_image(logits, size, shape).cpu().numpy()


def _logits(model: Model, slices: torch.Tensor, runner: Runner) -> torch.Tensor:
    """Return the network's logits; a single slice goes in twice.

    For one slice the processor's library takes other kernels than for several, which round
    otherwise; from two on the bits are equal whatever the number (tested for widths 4 to 16).
    """
    count = len(slices)
    at_once = slices if count > 1 else slices.expand(2, -1, -1, -1)
    at_once = at_once.contiguous(memory_format=torch.channels_last)
    return model.network(at_once, low=runner.low)[:count]
