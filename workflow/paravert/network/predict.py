"""From images to labels by a model: standardise, resample, predict, resample back.

The network segments one slice at a time. Its logits are averaged over the slice, its mirror image
and the adjacent slices, these weighted by their distance: muscles continue from slice to slice,
errors seldom do.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import load_file

from paravert.anatomy import LABELS, OTHER_SIDE
from paravert.imaging.volume import blank_slices
from paravert.network.architecture import Architecture
from paravert.network.calibration import Calibration, expected_iou
from paravert.network.grid import labels_on_image, network_size, padded, resampled, standardise
from paravert.network.model_file import read_settings
from paravert.network.openvino_unet import OpenVinoUNet

if TYPE_CHECKING:  # torch takes longer to import than a subject to segment
    import torch

    from paravert.network.unet import Model

# Standard deviation of the Gaussian. Phantoms lose nothing by it from 3 to 7 mm of distance, a real
# volunteer gains (tests/benchmark/neighbours_worth.py); with 5 mm phantoms lose.
NEIGHBOURS_MM = 3.5
LEAST_WEIGHT = 0.02  # smaller weights of adjacent slices are set to 0
BATCH_SIZES = {"cpu": 4, "cuda": 32}  # slices; more are not faster


@dataclass(frozen=True)
class StoredModel:
    """A model as its file has it: weights as arrays by name, for prediction without torch."""

    architecture: Architecture
    spacing_mm: float
    calibration: Calibration
    weights: Mapping[str, np.ndarray]


def read_model(path: Path) -> StoredModel:
    """Return the model of a file, weights in float32. Raises InputError if the file is not one."""
    settings = read_settings(path)
    weights = {name: array.astype(np.float32) for name, array in load_file(path).items()}
    calibration = Calibration(settings.calibration)
    return StoredModel(settings.architecture, settings.spacing_mm, calibration, weights)


@dataclass(frozen=True)
class Prepared:
    """A stack as the network takes it.

    slices: float32 (slices, rows, columns), padded. size: rows and columns without the padding.
    shape: rows and columns of the image. neighbour_weights: see `neighbour_weights`; None for no
    averaging.
    """

    slices: np.ndarray
    size: tuple[int, int]
    shape: tuple[int, int]
    neighbour_weights: np.ndarray | None = None


@dataclass(frozen=True)
class Predicted:
    """The prediction for a stack.

    labels: uint8 (slices, rows, columns), on the image's own grid. expected_iou: float32 (slices,
    8), not calibrated; NaN where it is not asked for, which saves time.
    """

    labels: np.ndarray
    expected_iou: np.ndarray


class Predictor:
    """A model on a device: OpenVINO on a processor, torch on a GPU (which needs a torch `Model`).

    flip: average the logits of each slice and its mirror image. neighbours_mm: SD (mm) of the
    Gaussian weights of adjacent slices; 0 disables. judging: compute the expected IoU of a
    model without calibration, too. batch_size: slices at once; changes no bit of a result on a
    processor.
    """

    def __init__(
        self,
        model: "StoredModel | Model",
        device: "str | torch.device" = "cpu",
        *,
        flip: bool = True,
        neighbours_mm: float = NEIGHBOURS_MM,
        judging: bool = False,
        batch_size: int | None = None,
    ):
        self.model, self.flip = model, flip
        self._neighbours_mm = neighbours_mm
        self._expects = judging or bool(model.calibration.knots)
        kind = str(device).partition(":")[0]
        self._batch_size = batch_size or BATCH_SIZES[kind]
        self._forward = _network_on(model, device)
        self.computed_on = f"{kind} {self._forward.number_format}"

    def prepared(
        self, image: np.ndarray, spacing_mm: tuple[float, float], *, apart_mm: float
    ) -> Prepared:
        """Return a stack (slices, rows, columns) of any intensity scale for the network.

        spacing_mm: between rows, columns. apart_mm: between slices; infinite for slices that are not
        adjacent.
        """
        shape = image.shape[1:]
        size = network_size(shape, spacing_mm, self.model.spacing_mm)
        slices = resampled(standardise(image), size)
        weights = neighbour_weights(image, apart_mm, self._neighbours_mm)
        return Prepared(padded(slices, self.model.architecture.stride), size, shape, weights)

    def logits(self, stack: Prepared) -> Iterator[np.ndarray]:
        """Yield the logits of each slice, float32 (classes, rows, columns), before neighbours count."""
        for start in range(0, len(stack.slices), self._batch_size):
            yield from self._of_batch(stack.slices[start : start + self._batch_size, None])

    def predicted(self, stack: Prepared, logits: Iterable[np.ndarray]) -> Predicted:
        """Return the prediction for a stack from the logits of its slices."""
        count = len(stack.slices)
        labels = np.empty((count, *stack.shape), np.uint8)
        expected = np.full((count, len(LABELS)), np.nan, np.float32)
        rows, columns = stack.size
        for number, mean in enumerate(with_neighbours(logits, stack.neighbour_weights)):
            labels[number] = labels_on_image(mean, stack.size, stack.shape)
            if self._expects:
                expected[number] = expected_iou(mean[:, :rows, :columns])
        return Predicted(labels, expected)

    def whole(self, stack: Prepared) -> Predicted:
        """Return the prediction for a stack that is ready for the network."""
        return self.predicted(stack, self.logits(stack))

    def stack_predicted(
        self, image: np.ndarray, spacing_mm: tuple[float, float], *, apart_mm: float
    ) -> Predicted:
        """Return the prediction for an image, (slices, rows, columns); parameters as of `prepared`."""
        return self.whole(self.prepared(image, spacing_mm, apart_mm=apart_mm))

    def stack_labels(
        self, image: np.ndarray, spacing_mm: tuple[float, float], *, apart_mm: float
    ) -> np.ndarray:
        """Return the labels of an image, uint8 (slices, rows, columns), on its own grid."""
        return self.stack_predicted(image, spacing_mm, apart_mm=apart_mm).labels

    def _of_batch(self, images: np.ndarray) -> np.ndarray:
        """Return logits, (n, classes, rows, columns), of images, (n, 1, rows, columns)."""
        if not self.flip:
            return self._forward(np.ascontiguousarray(images))
        logits = self._forward(np.concatenate([images, images[..., ::-1]]))
        own, mirrored = np.split(logits, 2)
        return (own + mirrored[:, list(OTHER_SIDE), :, ::-1]) / 2


def _network_on(
    model: "StoredModel | Model", device: "str | torch.device"
) -> Callable[[np.ndarray], np.ndarray]:
    if str(device) == "cpu":
        return OpenVinoUNet(model.architecture, model.weights)
    from paravert.network.unet import GpuUNet

    return GpuUNet(model.network, device)


def neighbour_weight(apart_mm: float, neighbours_mm: float) -> float:
    """Return the weight of an adjacent slice, relative to 1 for the slice itself.

    A Gaussian of their distance, apart_mm, with standard deviation neighbours_mm; 0 where it would
    be below LEAST_WEIGHT, and for neighbours_mm of 0.
    """
    if neighbours_mm == 0:
        return 0.0
    weight = math.exp(-((apart_mm / neighbours_mm) ** 2) / 2)
    return weight if weight >= LEAST_WEIGHT else 0.0


def neighbour_weights(
    image: np.ndarray, apart_mm: float, neighbours_mm: float
) -> np.ndarray | None:
    """Return the weights between each slice of a stack and the next, float32 (slices - 1,).

    image: (slices, rows, columns). A slice of a single value has weight 0. None where all weights
    would be 0.
    """
    weight = neighbour_weight(apart_mm, neighbours_mm)
    if weight == 0 or len(image) == 1:
        return None
    shows = ~blank_slices(image)
    return np.float32(weight) * (shows[1:] & shows[:-1])


def with_neighbours(
    logits: Iterable[np.ndarray], weights: np.ndarray | None
) -> Iterator[np.ndarray]:
    """Yield the weighted mean of each slice and its adjacent slices.

    logits: of a stack's slices in their order, each (classes, rows, columns). weights: see
    `neighbour_weights`.
    """
    if weights is None:
        yield from logits
        return
    to_next = iter([*weights, np.float32(0)])
    before = here = None
    weight_before = np.float32(0)
    for after in chain(logits, [None]):
        if here is not None:
            weight_after = next(to_next)
            total = here.copy()
            if weight_before:
                total += weight_before * before
            if weight_after:
                total += weight_after * after
            yield total / (1 + weight_before + weight_after)
            weight_before = weight_after
        before, here = here, after
