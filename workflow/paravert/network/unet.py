"""The paper's U-Net (Niemeyer 2021, Fig. 1; after Ronneberger 2015).

As in the paper: 2-D; leaky ReLU with slope 0.01 and softmax in place of ReLU and sigmoid;
transposed convolutions for upsampling; dropout, p = 0.03, in the encoder; six levels where
Ronneberger has five; nine outputs, the background and eight muscles.
Other than Ronneberger's: convolutions are padded, so that the labels have the size of the image.
Not stated and chosen here: one dropout after the two convolutions of every encoder level, the
deepest included; a normalisation layer, if there is one, stands before the leaky ReLU.
"""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import nn

from paravert.anatomy import CLASSES
from paravert.network.architecture import LEAKY_SLOPE, Architecture, normalisation_groups
from paravert.network.calibration import Calibration
from paravert.network.model_file import ModelSettings, read_settings


class UNet(nn.Module):
    """The network: images (n, 1, rows, columns) to logits (n, 9, rows, columns).

    Rows and columns must be multiples of `architecture.stride`. `softmax(dim=1)` of the logits gives
    the probabilities.
    """

    def __init__(self, architecture: Architecture):
        super().__init__()
        self.architecture = architecture
        channels = architecture.channels
        self.encoder = nn.ModuleList(
            EncoderLevel(above, here, architecture)
            for above, here in zip((1, *channels), channels, strict=False)
        )
        self.decoder = nn.ModuleList(
            DecoderLevel(below, here, architecture)
            for here, below in reversed(list(zip(channels, channels[1:], strict=False)))
        )
        self.head = nn.Conv2d(architecture.width, CLASSES, kernel_size=1)
        self.apply(_initialise)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        skips = [self.encoder[0](images)]
        for level in self.encoder[1:]:
            skips.append(level(nn.functional.max_pool2d(skips[-1], 2)))
        features = skips.pop()
        for level in self.decoder:
            features = level(features, skips.pop())
        return self.head(features)


class GpuUNet:
    """A trained U-Net on a GPU, in float32: images to logits, as `OpenVinoUNet` on processors."""

    number_format = "float32"

    def __init__(self, network: UNet, device: torch.device):
        self._network, self._device = network, device

    @torch.inference_mode()
    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Return logits, float32 (n, classes, rows, columns), of images, float32 (n, 1, rows, columns).

        Where the GPU's memory runs out, the images are computed in halves. Raises
        torch.OutOfMemoryError where it does not suffice for one.
        """
        try:
            on_device = torch.from_numpy(images).to(self._device, memory_format=torch.channels_last)
            return self._network(on_device).cpu().contiguous().numpy()
        except torch.OutOfMemoryError:
            if len(images) == 1:
                raise
        torch.cuda.empty_cache()  # here the error is gone, and what it held
        return np.concatenate([self(half) for half in np.array_split(images, 2)])


class EncoderLevel(nn.Module):
    """Two convolutions, then dropout."""

    def __init__(self, channels_in: int, channels: int, architecture: Architecture):
        super().__init__()
        self.convolutions = _two_convolutions(channels_in, channels, architecture.normalisation)
        self.dropout = nn.Dropout(architecture.dropout)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the features of this level."""
        return self.dropout(self.convolutions(features))


class DecoderLevel(nn.Module):
    """Transposed convolution from the level below, beside it the encoder's, two convolutions."""

    def __init__(self, channels_below: int, channels: int, architecture: Architecture):
        super().__init__()
        self.up = nn.ConvTranspose2d(channels_below, channels, kernel_size=2, stride=2)
        self.convolutions = _two_convolutions(2 * channels, channels, architecture.normalisation)

    def forward(self, below: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """Return the features of this level."""
        up = self.up(below)
        return self.convolutions(torch.cat([skip, up], dim=1))


def _two_convolutions(channels_in: int, channels: int, normalisation: str) -> nn.Sequential:
    return nn.Sequential(
        *_convolution(channels_in, channels, normalisation),
        *_convolution(channels, channels, normalisation),
    )


def _convolution(channels_in: int, channels: int, normalisation: str) -> list[nn.Module]:
    return [
        nn.Conv2d(channels_in, channels, kernel_size=3, padding=1),
        *_NORMALISATION[normalisation](channels),
        nn.LeakyReLU(LEAKY_SLOPE, inplace=True),
    ]


_NORMALISATION = {
    "none": lambda channels: [],
    "batch": lambda channels: [nn.BatchNorm2d(channels)],
    "instance": lambda channels: [nn.InstanceNorm2d(channels, affine=True)],
    "group": lambda channels: [nn.GroupNorm(normalisation_groups(channels), channels)],
}


def _initialise(module: nn.Module) -> None:
    """Draw weights so that their variance is 2 over the inputs (Ronneberger 2015, section 3)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.kaiming_normal_(module.weight, a=LEAKY_SLOPE)
        nn.init.zeros_(module.bias)


@dataclass(frozen=True)
class Model:
    """A network, the pixel size in mm of the grid it was trained on, and its calibration."""

    network: UNet
    spacing_mm: float
    calibration: Calibration = Calibration({})

    @property
    def architecture(self) -> Architecture:
        """The network's."""
        return self.network.architecture

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """The network's, by name."""
        return {name: one.cpu().numpy() for name, one in self.network.state_dict().items()}


def save_model(path: Path, model: Model) -> None:
    """Write a model atomically; weights in float16, settings in the file's metadata.

    float16 changes less than 0.03 % of the labels and halves the size.
    """
    weights = {
        name: tensor.detach().to("cpu", torch.float16 if tensor.is_floating_point() else None)
        for name, tensor in model.network.state_dict().items()
    }
    settings = ModelSettings(
        model.network.architecture, model.spacing_mm, dict(model.calibration.knots)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as scratch:
        draft = Path(scratch) / path.name
        # As bytes: safetensors itself would make a file that only its owner can read.
        draft.write_bytes(
            save({name: one.contiguous() for name, one in weights.items()}, settings.metadata())
        )
        os.replace(draft, path)


def load_model(path: Path, device: torch.device | str = "cpu") -> Model:
    """Read a model, in float32, ready to predict. Raises InputError if the file is not one."""
    settings = read_settings(path)
    network = UNet(settings.architecture)
    network.load_state_dict(load_file(path))  # copies into float32
    network = network.to(device, memory_format=torch.channels_last).eval()
    calibration = Calibration(settings.calibration)
    return Model(network.requires_grad_(False), settings.spacing_mm, calibration)
