"""The U-Net on processors: an OpenVINO graph, built from the architecture and the weights of a model."""

import sys
from collections.abc import Mapping

import numpy as np

# `import openvino` would report its use to Google Analytics. With None here its import of this module
# fails, and it goes on without.
sys.modules.setdefault("openvino_telemetry", None)

import openvino  # noqa: E402
from openvino import opset13 as ops  # noqa: E402

from paravert.network.architecture import (  # noqa: E402
    LEAKY_SLOPE,
    NORMALISATION_EPSILON,
    Architecture,
    normalisation_groups,
)

NUMBER_FORMAT = (
    "float32"  # the same on every processor; bfloat16 would compute in AMX: see __init__
)


class OpenVinoUNet:
    """A trained U-Net on one processor core: images to logits, as `unet.UNet` computes them.

    weights: float32 by name, as in a model file. The logits of an image are the same to the last bit
    whatever else is in the batch.
    """

    number_format = NUMBER_FORMAT

    def __init__(self, architecture: Architecture, weights: Mapping[str, np.ndarray]):
        self._stride = architecture.stride
        options = {
            "INFERENCE_PRECISION_HINT": openvino.Type.f32,
            "INFERENCE_NUM_THREADS": 1,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # all worker processes would share the first core
        }
        graph = _Graph(architecture, weights).model()
        self._compiled = openvino.Core().compile_model(graph, "CPU", options)
        self._request = self._compiled.create_infer_request()

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Return logits, float32 (n, classes, rows, columns), of images, float32 (n, 1, rows, columns).

        Raises MemoryError where the memory does not suffice, and ValueError unless rows and columns
        are multiples of the architecture's stride.
        """
        if images.shape[2] % self._stride or images.shape[3] % self._stride:
            raise ValueError(f"{images.shape}, expected multiples of {self._stride} pixels")
        try:
            logits = self._request.infer([images], share_inputs=True)[0]
        except RuntimeError as error:
            if "alloc" not in str(error):
                raise
            logits = None
        # Where memory runs out OpenVINO 2026.4 may also return without an error: then with the result
        # of an earlier call, of another shape.
        if logits is None or (len(logits), *logits.shape[2:]) != (len(images), *images.shape[2:]):
            self._request = self._compiled.create_infer_request()
            raise MemoryError(f"no logits of images of shape {images.shape}")
        return logits


class _Graph:
    """The layers of a U-Net as operations of OpenVINO."""

    def __init__(self, architecture: Architecture, weights: Mapping[str, np.ndarray]):
        self._architecture, self._weights = architecture, weights

    def model(self) -> openvino.Model:
        """Return the graph; its input has any number of images, rows and columns."""
        levels = self._architecture.levels
        images = ops.parameter([-1, 1, -1, -1], np.float32)
        features = self._two_convolutions(images, "encoder.0")
        skips = []
        for level in range(1, levels):
            skips.append(features)
            halved = ops.max_pool(features, [2, 2], [1, 1], [0, 0], [0, 0], [2, 2]).output(0)
            features = self._two_convolutions(halved, f"encoder.{level}")
        for level in range(levels - 1):
            up = self._doubled(features, f"decoder.{level}.up")
            features = ops.concat([skips.pop(), up], axis=1)
            features = self._two_convolutions(features, f"decoder.{level}")
        return openvino.Model([self._convolution(features, "head")], [images])

    def _two_convolutions(self, features: openvino.Node, level: str) -> openvino.Node:
        normalised = self._architecture.normalisation != "none"
        for place in (0, 3 if normalised else 2):
            features = self._convolution(features, f"{level}.convolutions.{place}")
            if normalised:
                features = self._normalised(features, f"{level}.convolutions.{place + 1}")
            features = ops.prelu(features, np.array([LEAKY_SLOPE], np.float32))
        return features

    def _convolution(self, features: openvino.Node, layer: str) -> openvino.Node:
        weight = self._weights[f"{layer}.weight"]
        margin = [weight.shape[2] // 2] * 2
        features = ops.convolution(features, weight, [1, 1], margin, margin, [1, 1])
        return ops.add(features, self._per_channel(f"{layer}.bias"))

    def _doubled(self, features: openvino.Node, layer: str) -> openvino.Node:
        weight = self._weights[f"{layer}.weight"]
        features = ops.convolution_backprop_data(features, weight, strides=[2, 2])
        return ops.add(features, self._per_channel(f"{layer}.bias"))

    def _normalised(self, features: openvino.Node, layer: str) -> openvino.Node:
        kind, epsilon = self._architecture.normalisation, NORMALISATION_EPSILON
        scale, offset = (self._weights[f"{layer}.{name}"] for name in ("weight", "bias"))
        if kind == "batch":
            moments = (self._weights[f"{layer}.running_{name}"] for name in ("mean", "var"))
            return ops.batch_norm_inference(features, scale, offset, *moments, epsilon)
        groups = len(scale) if kind == "instance" else normalisation_groups(len(scale))
        return ops.group_normalization(features, scale, offset, groups, epsilon)

    def _per_channel(self, name: str) -> np.ndarray:
        return self._weights[name].reshape(1, -1, 1, 1)
