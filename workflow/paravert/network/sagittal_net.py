"""The network that finds and names vertebrae and discs in sagittal slices, and its model file.

For each pixel it gives the probability of each of STRUCTURES, and, if the pixel is of the column, of each
of LEVELS (1.0 mid L1, 1.5 disc L1/2).
"""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import nn

from paravert.errors import InputError
from paravert.network.architecture import Architecture
from paravert.network.unet import UNet
from paravert.synthesis.sagittal_parts import PIXEL_MM
from paravert.tables import whole_file

ARCHITECTURE = Architecture(width=12, levels=4, normalisation="group", dropout=0.0)
BLOCK = 2  # rows and columns of the image in a pixel of the U-Net
STRIDE = BLOCK * ARCHITECTURE.stride  # rows and columns of an image are multiples of it
STRUCTURES = ("background", "vertebra", "disc", "other")  # other: above T11, below S1/2
DISC = STRUCTURES.index("disc")
LEVELS = np.arange(-1.5, 7.1, 0.5)  # the first and the last stand for all beyond
METADATA_KEY, FORMAT = "paravert-levels", 1
BRIGHT_PERCENT = 95  # percentile of the signal that becomes 1


def prepared(image: np.ndarray) -> np.ndarray:
    """Return the network's input for a sagittal image, float32, same shape.

    image: (..., rows, columns), signal; 0 outside the field of view. The square root of the signal in
    units of its 95th percentile, minus 0.5.
    """
    positive = image[image > 0]
    scale = np.percentile(positive, BRIGHT_PERCENT) if positive.size else 1.0
    return (np.sqrt(np.clip(image / scale, 0, 4)) - 0.5).astype(np.float32)


class SagittalNet(nn.Module):
    """A U-Net on blocks of BLOCK x BLOCK pixels, with random weights: its channels are the block's pixels.

    Calling it returns logits (batch, STRUCTURES + LEVELS, rows, columns) of images (batch, 1, rows,
    columns).
    """

    def __init__(self):
        super().__init__()
        outputs = (len(STRUCTURES) + len(LEVELS)) * BLOCK**2
        self.layers = nn.Sequential(
            nn.PixelUnshuffle(BLOCK), UNet(ARCHITECTURE, outputs, BLOCK**2), nn.PixelShuffle(BLOCK)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits. images: `prepared`; rows and columns are multiples of STRIDE."""
        return self.layers(images)


def save_network(path: Path, network: nn.Module) -> None:
    """Write a network as safetensors with float16 weights, whole or not at all."""
    told = {"format": FORMAT, "spacing_mm": PIXEL_MM, "architecture": asdict(ARCHITECTURE)}
    weights = {name: w.detach().half().contiguous() for name, w in network.state_dict().items()}
    with whole_file(path) as draft:
        draft.write_bytes(save(weights, {METADATA_KEY: json.dumps(told, sort_keys=True)}))


def load_network(path: Path) -> SagittalNet:
    """Return the network of a model file, for prediction. Raises InputError for another file."""
    with safe_open(path, framework="numpy") as file:
        told = json.loads((file.metadata() or {}).get(METADATA_KEY, "{}"))
    if told.get("format") != FORMAT or told["architecture"] != asdict(ARCHITECTURE):
        raise InputError(path, "not a model that names vertebrae in sagittal slices")
    network = SagittalNet()
    network.load_state_dict({name: weight.float() for name, weight in load_file(path).items()})
    return network.eval()


def probabilities(network: SagittalNet, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities of STRUCTURES and of LEVELS in each pixel.

    images: `prepared`, (slices, rows, columns) float32, on a grid of PIXEL_MM; any size. Returns float32
    (slices, STRUCTURES, rows, columns) and (slices, LEVELS, rows, columns); each adds up to 1.
    """
    rows, columns = images.shape[1:]
    more = ((0, 0), (0, -rows % STRIDE), (0, -columns % STRIDE))
    padded = torch.from_numpy(np.pad(images, more, constant_values=-0.5))[:, None]
    with torch.inference_mode():
        found = torch.cat([network(one[None]) for one in padded])[..., :rows, :columns]
    parts = found.split((len(STRUCTURES), len(LEVELS)), dim=1)
    structure, level = (torch.softmax(part, dim=1).numpy() for part in parts)
    return structure, level
