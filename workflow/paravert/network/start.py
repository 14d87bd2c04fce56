"""What a training starts from: a model's weights, with its architecture and pixel size."""

from dataclasses import astuple
from pathlib import Path

import torch

from paravert.network.model import Model, load_model
from paravert.network.unet import UNet
from paravert.provenance import file_sha256


def started_from(
    start_from: str, architecture: tuple, spacing_mm: float
) -> tuple[Model | None, tuple, float, dict[str, str]]:
    """Return model, fields of Architecture, pixel size, and what the card tells of the model.

    Without a model these are None, what was given, and nothing to tell.
    """
    if not start_from:
        return None, architecture, spacing_mm, {}
    model = load_model(Path(start_from))
    told = {"started_from_sha256": file_sha256(Path(start_from))}
    return model, astuple(model.network.architecture), model.spacing_mm, told


@torch.no_grad()
def mix(network: UNet, start: UNet, start_weight: float) -> None:
    """Make a network's weights the weighted mean of its own and of those that it started from.

    start_weight: of the start's, 0-1. Trainings with a falling learning rate, one after the other,
    end in the same valley; its middle generalises better than its rim (Izmailov 2018).
    """
    first = start.state_dict()  # with the running means of normalisation layers
    for name, own in network.state_dict().items():
        if own.is_floating_point():
            own.lerp_(first[name].to(own), start_weight)
