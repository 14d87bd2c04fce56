"""The U-Net on processors: an OpenVINO graph, built from a model's architecture and weights."""

import sys
from collections.abc import Mapping

import numpy as np

# `import openvino` reports its use to Google Analytics if it can import this module. With None here the
# import fails, and openvino works without it.
sys.modules.setdefault("openvino_telemetry", None)

import openvino  # noqa: E402
from openvino import opset13 as ops  # noqa: E402

from paravert.network.architecture import (  # noqa: E402
    LEAKY_SLOPE,
    NORMALISATION_EPSILON,
    Architecture,
    normalisation_groups,
)


def compiled_for_one_core(graph: openvino.Model) -> openvino.CompiledModel:
    """Return a graph ready to compute in float32 on one processor core.

    Called with the graph's input array, or a list of them if it has several, the result returns the
    outputs of the graph, by number from 0.
    """
    options = {
        "INFERENCE_PRECISION_HINT": openvino.Type.f32,
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,  # all worker processes would share the first core
    }
    return openvino.Core().compile_model(graph, "CPU", options)


class OpenVinoUNet:
    """A trained U-Net on one processor core, by OpenVINO.

    Its logits are those of `unet.UNet` in evaluation mode, but for rounding. architecture: settings
    of the U-Net. weights: {name: float32 array}, names and shapes as the function `weight_shapes`
    of network/architecture.py gives them; the head may have another number of classes. Called with
    images, NumPy float32 (batch, 1, rows, columns), it returns logits, NumPy float32 (batch,
    classes, rows, columns), with 9 classes for muscles; rows and columns must be multiples of the
    architecture's stride. The logits of an image do not depend, to the last bit, on the other
    images of the batch.
    """

    number_format = "float32"  # not bfloat16, which would compute in AMX: see network/__init__.py

    def __init__(self, architecture: Architecture, weights: Mapping[str, np.ndarray]):
        self._stride = architecture.stride
        self._compiled = compiled_for_one_core(_Graph(architecture, weights).model())
        self._request = self._compiled.create_infer_request()

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Return logits, (batch, classes, rows, columns), of images, (batch, 1, rows, columns).

        Both float32. Raises ValueError unless rows and columns are multiples of the architecture's
        stride, and MemoryError if the memory does not suffice.
        """
        if images.shape[2] % self._stride or images.shape[3] % self._stride:
            raise ValueError(f"{images.shape}, expected multiples of {self._stride} pixels")
        try:
            logits = self._request.infer([images], share_inputs=True)[0]
        except RuntimeError as error:
            if "alloc" not in str(error):
                raise
            logits = None
        # If memory runs out, OpenVINO 2026.4 may also return without an error, with the result of an
        # earlier call. Its shape differs.
        if logits is None or (len(logits), *logits.shape[2:]) != (len(images), *images.shape[2:]):
            self._request = self._compiled.create_infer_request()
            raise MemoryError(f"no logits of images of shape {images.shape}")
        return logits


class _Graph:
    """The layers of a U-Net as operations of OpenVINO."""

    def __init__(self, architecture: Architecture, weights: Mapping[str, np.ndarray]):
        self._architecture, self._weights = architecture, weights

    def model(self) -> openvino.Model:
        """Return the graph, from images (batch, 1, rows, columns) to logits (batch, classes, rows, columns).

        Rows and columns: any multiples of the architecture's stride. Classes: those of the head.
        """
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
