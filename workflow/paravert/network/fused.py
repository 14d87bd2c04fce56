"""The U-Net as the processor computes it fastest: each convolution and its activation in one pass.

For prediction without normalisation layers. Slices lie channels-last, weights in the number format
and order of the processor's library (oneDNN). In bfloat16 the image goes in as two numbers per pixel,
the value and what rounding left of it, so that no more than the weights are rounded to 8 bits; the
head is in float32, so that outlines are found between logits that were not rounded.
"""

import torch
from torch import nn

from paravert.network.architecture import LEAKY_SLOPE
from paravert.network.unet import UNet

LEAKY = ("leaky_relu", [LEAKY_SLOPE], "")
LINEAR = ("none", [], "")
# What torch's own compiler makes of such layers, here called without it: nothing waits for a
# compiler, or misses one. Not public, so that their absence must do no harm.
_PARTS = (
    "_convolution_pointwise",
    "_reorder_convolution_weight",
    "_convolution_transpose_pointwise",
    "_reorder_convolution_transpose_weight",
)


class FusedUNet:
    """A trained U-Net: images (n, 1, rows, columns) to logits (n, 9, rows, columns), as `UNet`.

    low: number format of all but the head. Raises ValueError for a network that `can_fuse` refuses.
    """

    def __init__(self, network: UNet, low: torch.dtype = torch.float32):
        if not can_fuse(network):
            raise ValueError(f"cannot fuse {network.architecture}")
        self._first = _convolutions(network.encoder[0], low)
        if low != torch.float32:
            self._first = (_First(network.encoder[0].convolutions[0], low), *self._first[1:])
        self._encoder = [_convolutions(level, low) for level in network.encoder[1:]]
        self._decoder = [
            (_Up(level.up, low), _convolutions(level, low)) for level in network.decoder
        ]
        self._head = _Convolution(network.head, torch.float32, LINEAR)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits, float32, channels-last."""
        features = _through(images, self._first)
        skips = [features]
        for convolutions in self._encoder:
            features = _through(_halved(skips[-1]), convolutions)
            skips.append(features)
        features = skips.pop()
        for up, convolutions in self._decoder:
            features = _through(torch.cat([skips.pop(), up(features)], dim=1), convolutions)
        return self._head(features.float())


def can_fuse(network: UNet) -> bool:
    """Tell whether the network is on the processor, without normalisation, and torch has the parts."""
    return (
        network.head.weight.device.type == "cpu"
        and network.architecture.normalisation == "none"
        and torch.backends.mkldnn.is_available()
        and all(hasattr(torch.ops.mkldnn, name) for name in _PARTS)
    )


class _Convolution:
    """A convolution that keeps the size, and the activation after it."""

    def __init__(self, layer: nn.Conv2d, number_format: torch.dtype, activation: tuple = LEAKY):
        self._padding, self._activation = list(layer.padding), activation
        self._bias = layer.bias.detach().to(number_format)
        weight = self._weights(layer.weight.detach().to(number_format))
        self._weight = torch.ops.mkldnn._reorder_convolution_weight(
            weight, self._padding, [1, 1], [1, 1], 1
        )

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._convolution_pointwise(
            features, self._weight, self._bias, self._padding, [1, 1], [1, 1], 1, *self._activation
        )

    def _weights(self, weight: torch.Tensor) -> torch.Tensor:
        return weight


class _First(_Convolution):
    """The convolution of an image in float32, computed in a number format that would round it."""

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        rounded = features.to(self._bias.dtype)
        rest = (features - rounded).to(self._bias.dtype)
        both = torch.cat([rounded, rest], dim=1)
        return super().__call__(both.contiguous(memory_format=torch.channels_last))

    def _weights(self, weight: torch.Tensor) -> torch.Tensor:
        return torch.cat([weight, weight], dim=1)


class _Up:
    """The transposed convolution that doubles rows and columns."""

    def __init__(self, layer: nn.ConvTranspose2d, number_format: torch.dtype):
        self._bias = layer.bias.detach().to(number_format)
        weight = layer.weight.detach().to(number_format)
        self._weight = torch.ops.mkldnn._reorder_convolution_transpose_weight(
            weight, [0, 0], [0, 0], [2, 2], [1, 1], 1
        )

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._convolution_transpose_pointwise(
            features, self._weight, self._bias, [0, 0], [0, 0], [2, 2], [1, 1], 1, *LINEAR
        )


def _convolutions(level: nn.Module, number_format: torch.dtype) -> tuple[_Convolution, ...]:
    layers = (layer for layer in level.convolutions if isinstance(layer, nn.Conv2d))
    return tuple(_Convolution(layer, number_format) for layer in layers)


def _through(features: torch.Tensor, convolutions: tuple[_Convolution, ...]) -> torch.Tensor:
    for convolution in convolutions:
        features = convolution(features)
    return features


def _halved(features: torch.Tensor) -> torch.Tensor:
    """Return the maximum of every 2 x 2 pixels; with few channels in half the time of max_pool2d."""
    pixels = features.permute(0, 2, 3, 1)
    rows = torch.maximum(pixels[:, 0::2], pixels[:, 1::2])
    return torch.maximum(rows[:, :, 0::2], rows[:, :, 1::2]).permute(0, 3, 1, 2)
