"""A convolution whose training is fast on a processor that computes in bfloat16.

The processor's library takes ten times as long for the gradient of the weights in bfloat16 as in
float32 where 64 channels and more come in (torch 2.13, AMX). So this gradient alone is computed in
float32, which also rounds less.
"""

import torch
from torch import nn
from torch.nn import functional

SLOW_FROM_CHANNELS = 64


class Convolution(nn.Conv2d):
    """A 3 x 3 convolution with padding; its weights are named as those of nn.Conv2d."""

    def __init__(self, channels_in: int, channels: int):
        super().__init__(channels_in, channels, kernel_size=3, padding=1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the features convolved."""
        on_processor = features.device.type == "cpu" and torch.is_autocast_enabled("cpu")
        if on_processor and torch.is_grad_enabled():
            return _Convolved.apply(features, self.weight, self.bias)
        return super().forward(features)


class _Convolved(torch.autograd.Function):
    """Forward and the gradient of the features in autocast's format, that of weights in float32."""

    @staticmethod
    def forward(ctx, features: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor):
        low = torch.get_autocast_dtype("cpu")
        features = features.to(low, memory_format=torch.channels_last)
        weight = weight.to(low, memory_format=torch.channels_last)
        ctx.save_for_backward(features, weight)
        with torch.autocast("cpu", enabled=False):
            return functional.conv2d(features, weight, bias.to(low), padding=1)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor):
        features, weight = ctx.saved_tensors
        gradient = gradient.to(weight.dtype, memory_format=torch.channels_last)
        wanted = ctx.needs_input_grad[0]
        if features.shape[1] < SLOW_FROM_CHANNELS:
            found = _gradients(gradient, features, weight, (wanted, True, True))
            return found[0], found[1].float(), found[2].float()
        of_features = None
        if wanted:
            of_features = _gradients(gradient, features, weight, (True, False, False))[0]
        wide = (gradient.float(), features.float(), weight.float())
        _, of_weight, of_bias = _gradients(*wide, (False, True, True))
        return of_features, of_weight, of_bias


def _gradients(
    gradient: torch.Tensor, features: torch.Tensor, weight: torch.Tensor, which: tuple
) -> tuple[torch.Tensor | None, ...]:
    channels = [weight.shape[0]]
    step, padding, dilation = [1, 1], [1, 1], [1, 1]
    return torch.ops.aten.convolution_backward(
        gradient, features, weight, channels, step, padding, dilation, False, [0, 0], 1, which
    )
