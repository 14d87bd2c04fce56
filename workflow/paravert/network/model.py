"""A trained network as a file: weights with all that is needed to use them."""

import json
import logging
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load_file, save_file

from paravert.errors import InputError
from paravert.network.architecture import Architecture
from paravert.network.unet import UNet
from paravert.provenance import file_sha256

log = logging.getLogger(__name__)

METADATA_KEY, FORMAT = "paravert", 1


@dataclass(frozen=True)
class Model:
    """A network and the pixel size, in mm, of the grid it was trained on."""

    network: UNet
    spacing_mm: float


def save_model(path: Path, model: Model) -> None:
    """Write a model, whole or not at all; weights in float16, settings in the file's metadata.

    float16 keeps 99.97 % of the labels and more, in half the size.
    """
    weights = {
        name: tensor.detach().to("cpu", torch.float16 if tensor.is_floating_point() else None)
        for name, tensor in model.network.state_dict().items()
    }
    settings = {
        "format": FORMAT,
        "architecture": asdict(model.network.architecture),
        "spacing_mm": model.spacing_mm,
    }
    # One key: several would be written in random order, and the file's hash would change.
    metadata = {METADATA_KEY: json.dumps(settings, sort_keys=True)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as scratch:
        draft = Path(scratch) / path.name
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, draft, metadata)
        os.replace(draft, path)


def load_model(path: Path, device: torch.device | str = "cpu") -> Model:
    """Read a model, in float32, ready to predict. Raises InputError if the file is not one."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        settings = json.loads(metadata.get(METADATA_KEY, "{}"))
        weights = load_file(path)
    except safetensors.SafetensorError as error:
        raise InputError(path, f"not a model file ({error}), expected safetensors") from error
    if settings.get("format") != FORMAT:
        raise InputError(path, f"model format {settings.get('format')}, expected {FORMAT}")
    network = UNet(Architecture(**settings["architecture"]))
    network.load_state_dict(weights)  # copies into float32
    network = network.to(device, memory_format=torch.channels_last).eval()
    return Model(network.requires_grad_(False), float(settings["spacing_mm"]))


def check_model(path: Path, expected_sha256: str) -> None:
    """Raise InputError unless the file is there and its SHA-256 is the expected one."""
    if not path.is_file():
        raise InputError(path, "no such model file")
    found = file_sha256(path)
    if found != expected_sha256:
        raise InputError(path, f"the model's SHA-256 is {found}, expected {expected_sha256}")
