"""The paper's U-Net in torch (Niemeyer 2021, Fig. 1; after Ronneberger 2015), and its model file.

As in the paper: 2-D; leaky ReLU with slope 0.01 and softmax in place of ReLU and sigmoid;
transposed convolutions for upsampling; dropout, p = 0.03, in the encoder; six levels where
Ronneberger has five; nine outputs, the background and eight muscles.
Unlike Ronneberger's, convolutions are padded, so that the labels have the size of the image.
Not stated and chosen here: one dropout after the two convolutions of every encoder level, the
deepest included; a normalisation layer, if there is one, stands before the leaky ReLU.
"""

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
from paravert.tables import whole_file


class UNet(nn.Module):
    """The paper's U-Net in torch, with random initial weights from torch's own generator.

    architecture: settings of the network's layers, also an attribute. classes: channels of the result;
    default 9, background and eight muscles. inputs: channels of the images; default 1.
    """

    def __init__(self, architecture: Architecture, classes: int = CLASSES, inputs: int = 1):
        super().__init__()
        self.architecture = architecture
        channels = architecture.channels
        self.encoder = nn.ModuleList(
            EncoderLevel(above, here, architecture)
            for above, here in zip((inputs, *channels), channels, strict=False)
        )
        self.decoder = nn.ModuleList(
            DecoderLevel(below, here, architecture)
            for here, below in reversed(list(zip(channels, channels[1:], strict=False)))
        )
        self.head = nn.Conv2d(architecture.width, classes, kernel_size=1)
        self.apply(_initialise)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits (batch, classes, rows, columns); their softmax over axis 1 gives probabilities.

        images: float (batch, inputs, rows, columns), scaled as in the training: by
        `grid.standardise` for muscles, by `sagittal_net.network_input` for sagittal slices. Rows and
        columns must be multiples of `architecture.stride`.
        """
        skips = [self.encoder[0](images)]
        for level in self.encoder[1:]:
            skips.append(level(nn.functional.max_pool2d(skips[-1], 2)))
        features = skips.pop()
        for level in self.decoder:
            features = level(features, skips.pop())
        return self.head(features)


class EncoderLevel(nn.Module):
    """One level of the encoder: two 3 x 3 convolutions with leaky ReLU, then dropout; no pooling.

    channels_in, channels: of the input and of the result. architecture: its normalisation and
    dropout are used.
    """

    def __init__(self, channels_in: int, channels: int, architecture: Architecture):
        super().__init__()
        self.convolutions = _two_convolutions(channels_in, channels, architecture.normalisation)
        self.dropout = nn.Dropout(architecture.dropout)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the features of this level, float (batch, channels, rows, columns).

        features: float (batch, channels_in, rows, columns).
        """
        return self.dropout(self.convolutions(features))


class DecoderLevel(nn.Module):
    """One level of the decoder: upsampling, concatenation with the skip, two 3 x 3 convolutions.

    channels_below: of the features of the level below, of half the resolution. channels: of the result
    and of the skip, the encoder's features at this level. architecture: its normalisation is used.
    """

    def __init__(self, channels_below: int, channels: int, architecture: Architecture):
        super().__init__()
        self.up = nn.ConvTranspose2d(channels_below, channels, kernel_size=2, stride=2)
        self.convolutions = _two_convolutions(2 * channels, channels, architecture.normalisation)

    def forward(self, below: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """Return the features of this level, float (batch, channels, rows, columns).

        below: features of the level below, (batch, channels_below, rows / 2, columns / 2). skip: features
        of the encoder at this level, (batch, channels, rows, columns).
        """
        return self.convolutions(torch.cat([skip, self.up(below)], dim=1))


def _two_convolutions(channels_in: int, channels: int, normalisation: str) -> nn.Sequential:
    layers = []
    for given in (channels_in, channels):
        layers += [
            nn.Conv2d(given, channels, kernel_size=3, padding=1),
            *_NORMALISATION[normalisation](channels),
            nn.LeakyReLU(LEAKY_SLOPE, inplace=True),
        ]
    return nn.Sequential(*layers)


_NORMALISATION = {
    "none": lambda channels: [],
    "batch": lambda channels: [nn.BatchNorm2d(channels)],
    "instance": lambda channels: [nn.InstanceNorm2d(channels, affine=True)],
    "group": lambda channels: [nn.GroupNorm(normalisation_groups(channels), channels)],
}


def _initialise(module: nn.Module) -> None:
    """Draw weights as kaiming_normal_ does, set biases to 0 (after Ronneberger 2015, section 3)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.kaiming_normal_(module.weight, a=LEAKY_SLOPE)
        nn.init.zeros_(module.bias)


class GpuUNet:
    """A trained U-Net on a GPU, in float32; the counterpart of `OpenVinoUNet` on processors.

    Call `predict.exact_float32` before, otherwise torch may compute convolutions in TF32.
    network: on the device already, in evaluation mode. device: a CUDA device. Called with images,
    NumPy float32 (batch, 1, rows, columns), rows and columns multiples of the architecture's
    stride, it returns logits, NumPy float32 (batch, 9, rows, columns).
    """

    number_format = "float32"

    def __init__(self, network: UNet, device: torch.device):
        self._network, self._device = network, device

    @torch.inference_mode()
    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Return logits, float32 (batch, 9, rows, columns), for images, float32 (batch, 1, rows, columns).

        If the GPU's memory does not suffice, the batch is computed in halves. Raises
        torch.OutOfMemoryError if it does not suffice for one image.
        """
        try:
            on_device = torch.from_numpy(images).to(self._device, memory_format=torch.channels_last)
            return self._network(on_device).cpu().contiguous().numpy()
        except torch.OutOfMemoryError:
            if len(images) == 1:
                raise
        torch.cuda.empty_cache()  # after the except block, which holds tensors through its traceback
        return np.concatenate([self(half) for half in np.array_split(images, 2)])


@dataclass(frozen=True)
class Model:
    """A trained network in torch.

    network: the U-Net with its weights. spacing_mm: pixel size (mm) of the network's grid, equal
    for rows and columns. calibration: per muscle a curve from the IoU estimated from the network's
    probabilities to the predicted IoU; empty for a model that was not calibrated.
    """

    network: UNet
    spacing_mm: float
    calibration: Calibration = Calibration({})

    @property
    def architecture(self) -> Architecture:
        """The settings of the network's layers (property)."""
        return self.network.architecture

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """The network's weights as NumPy arrays, {name: array}, such as "head.weight" (property).

        Names and shapes are those of the function `weight_shapes`. The network's own dtypes; on the
        CPU, its own memory.
        """
        return {name: one.cpu().numpy() for name, one in self.network.state_dict().items()}


def save_model(path: Path, model: Model) -> None:
    """Write a model file (.safetensors), completely or not at all; creates its folder.

    An older file is replaced. model: network, pixel size and calibration. Weights are stored in
    float16, which halves the file and hardly changes the labels; spacing, architecture and
    calibration in the file's metadata.
    """
    weights = {
        name: tensor.detach()
        .to("cpu", torch.float16 if tensor.is_floating_point() else None)
        .contiguous()
        for name, tensor in model.network.state_dict().items()
    }
    settings = ModelSettings(model.architecture, model.spacing_mm, dict(model.calibration.knots))
    with whole_file(path) as draft:
        # Not safetensors' save_file: it makes a file that only its owner can read.
        draft.write_bytes(save(weights, settings.metadata()))


def load_model(path: Path, device: torch.device | str = "cpu") -> Model:
    """Return the model in a file (.safetensors), its network on the device in evaluation mode.

    In float32; its weights take no gradients. Raises InputError if the file is absent or not
    safetensors, if its settings are missing or out of range, or if its weights are not those of its
    architecture.
    """
    settings = read_settings(path)
    network = UNet(settings.architecture)
    network.load_state_dict(load_file(path))  # copies into float32
    network = network.to(device, memory_format=torch.channels_last).eval()
    calibration = Calibration(settings.calibration)
    return Model(network.requires_grad_(False), settings.spacing_mm, calibration)
