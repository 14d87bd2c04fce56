"""Segmentation of a stack by a model: standardise, resample, predict, average, resample back.

The network sees one slice at a time. Its logits are averaged over the slice and its mirror image, then
over the slice and its two adjacent slices, these with Gaussian weights of their distance.
"""

import ctypes
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import load_file
from scipy.special import log_softmax

from paravert.anatomy import LABELS, OTHER_SIDE
from paravert.errors import InputError
from paravert.imaging.volume import blank_slices
from paravert.network.architecture import Architecture
from paravert.network.calibration import Calibration, expected_iou
from paravert.network.grid import labels_on_image, network_size, padded, resampled, standardise
from paravert.network.model_file import read_settings
from paravert.network.openvino_unet import OpenVinoUNet

if TYPE_CHECKING:  # torch takes longer to import than a subject to segment
    import torch

    from paravert.network.unet import Model

# SD (mm) of the Gaussian. With 3.5 mm, phantoms with slices 3 to 7 mm apart lose no accuracy and a real
# volunteer gains; with 5 mm, phantoms lose (tests/benchmark/neighbours_worth.py).
NEIGHBOURS_MM = 3.5
LEAST_WEIGHT = 0.02  # smaller weights of adjacent slices are set to 0
BATCH_SIZES = {"cpu": 4, "cuda": 32}  # slices; more are not faster
DEVICES = ("auto", "cpu", "cuda")
NVIDIA_DRIVERS = ("libcuda.so.1", "nvcuda.dll")


def device_kind(device: str) -> str:
    """Return "cpu" or "cuda" for a setting of the device: "auto", "cpu" or "cuda".

    auto: CUDA if torch can use a GPU, else the processor. Raises InputError for another setting,
    and for cuda if there is no GPU: there is no silent fallback.
    """
    if device not in DEVICES:
        raise InputError("device", f"found {device!r}, expected one of {', '.join(DEVICES)}")
    if device == "cpu":
        return device
    if _has_nvidia_driver():
        import torch

        if torch.cuda.is_available():
            return "cuda"
    if device == "cuda":
        raise InputError("device", "cuda is asked for and there is no GPU that torch can use")
    return "cpu"


def _has_nvidia_driver() -> bool:
    """Return whether NVIDIA's driver is installed; without it, torch need not be imported to ask."""
    for library in NVIDIA_DRIVERS:
        try:
            ctypes.CDLL(library)
        except OSError:
            continue
        return True
    return False


def exact_float32() -> None:
    """Set torch, for this process, to full float32 precision on GPUs (no TF32) and deterministic cuDNN."""
    import torch

    torch.backends.cuda.matmul.fp32_precision = "ieee"
    torch.backends.cudnn.conv.fp32_precision = "ieee"
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


@dataclass(frozen=True)
class StoredModel:
    """A trained model as numpy arrays, for prediction without torch.

    architecture: settings of the U-Net. spacing_mm: pixel size (mm) of the network's grid.
    calibration: per muscle a curve from the IoU estimated from the network's probabilities to the
    predicted IoU; empty for a model that was not calibrated. weights: {name: float32 array}, names
    and shapes as the function `weight_shapes` of network/architecture.py gives them.
    """

    architecture: Architecture
    spacing_mm: float
    calibration: Calibration
    weights: Mapping[str, np.ndarray]


def read_model(path: Path) -> StoredModel:
    """Return the model in a file (.safetensors): architecture, pixel size, calibration and weights.

    Raises InputError if the file is absent or no such model (`read_settings`).
    """
    settings = read_settings(path)
    weights = {name: array.astype(np.float32) for name, array in load_file(path).items()}
    calibration = Calibration(settings.calibration)
    return StoredModel(settings.architecture, settings.spacing_mm, calibration, weights)


@dataclass(frozen=True)
class Prepared:
    """A stack that is ready for the network.

    slices: standardised as a stack (`grid.standardise`), then resampled to the network's grid and
    padded by repeating the last row and column, NumPy float32 (slices, rows, columns). size: rows
    and columns of the network's grid without the padding. shape: rows and columns of the image.
    neighbour_weights: weight between each slice and the next in the mean of their logits, float32
    (slices - 1,), relative to 1 for the slice itself; None: no averaging of adjacent slices.
    """

    slices: np.ndarray
    size: tuple[int, int]
    shape: tuple[int, int]
    neighbour_weights: np.ndarray | None = None


@dataclass(frozen=True)
class Predicted:
    """The prediction for a stack.

    NumPy arrays. labels: uint8 (slices, rows, columns), on the image's own grid, 0-8, not cleaned.
    expected_iou: IoU estimated from the network's probabilities, not calibrated, float32 (slices, 8),
    column k of label k + 1 (anatomy.LABELS). A muscle without a pixel of the network's grid in the
    slice has NaN, or 0 if it may have been missed (`expected_iou`). All NaN if it was not computed.
    """

    labels: np.ndarray
    expected_iou: np.ndarray


class Predictor:
    """A model on a device, and how its predictions are averaged.

    model: the trained network, a `StoredModel` or a torch `Model`. device: "cpu" (computed by OpenVINO)
    or a CUDA device (by torch; needs a `Model` whose network is on it already, in evaluation mode, and
    `exact_float32` called before, otherwise torch may compute in TF32), not "auto". flip: average the
    logits of each slice and its mirror image (default: yes). neighbours_mm: SD (mm) of the Gaussian
    weights of adjacent slices; default 3.5; 0 disables. with_expected_iou: compute the expected IoU
    (from the probabilities) even if the model has no calibration (default: no). batch_size: slices
    computed at once; None: 4 on a processor, 32 on a GPU; on a processor the results do not depend on
    it. Attributes: model, flip, and computed_on, device and number format, such as "cpu float32".
    """

    def __init__(
        self,
        model: "StoredModel | Model",
        device: "str | torch.device" = "cpu",
        *,
        flip: bool = True,
        neighbours_mm: float = NEIGHBOURS_MM,
        with_expected_iou: bool = False,
        batch_size: int | None = None,
    ):
        self.model, self.flip = model, flip
        self._neighbours_mm = neighbours_mm
        self._expects = with_expected_iou or bool(model.calibration.knots)
        kind = str(device).partition(":")[0]
        self._batch_size = batch_size or BATCH_SIZES[kind]
        self._forward = _network_on(model, device)
        self.computed_on = f"{kind} {self._forward.number_format}"

    def prepared(
        self, image: np.ndarray, spacing_mm: tuple[float, float], *, apart_mm: float
    ) -> Prepared:
        """Return a stack ready for the network: standardised, resampled to its grid, padded.

        image: (slices, rows, columns), any numeric dtype and intensity scale, without NaN; rows to
        the patient's back, columns to the patient's left. spacing_mm: distance (mm) between rows,
        between columns. apart_mm: distance (mm) between the centres of slices; math.inf if they are
        not adjacent.
        """
        shape = image.shape[1:]
        size = network_size(shape, spacing_mm, self.model.spacing_mm)
        slices = resampled(standardise(image), size)
        weights = neighbour_weights(image, apart_mm, self._neighbours_mm)
        return Prepared(padded(slices, self.model.architecture.stride), size, shape, weights)

    def logits(self, stack: Prepared) -> Iterator[np.ndarray]:
        """Yield the logits of each slice, float32 (classes, rows, columns); adjacent slices are not averaged.

        stack: standardised slices on the padded network grid, from `prepared`; rows and columns are
        those of that grid. Classes: background, then the labels 1-8. If the predictor's option flip
        is set: mean over the slice and its mirror image.
        """
        for start in range(0, len(stack.slices), self._batch_size):
            yield from self._of_batch(stack.slices[start : start + self._batch_size, None])

    def predicted(self, stack: Prepared, logits: Iterable[np.ndarray] | None = None) -> Predicted:
        """Return the labels of a stack on the image's pixel grid, and their expected IoU (not calibrated).

        Labels: uint8 (slices, rows, columns), 0-8, not cleaned. Expected IoU: from the probabilities,
        float32 (slices, 8), column k of label k + 1 (anatomy.LABELS); NaN or 0 for a muscle without a
        pixel, see `Predicted`; all NaN if the model has no calibration and with_expected_iou is not set.
        stack: standardised slices on the padded network grid, from `prepared`. logits: of each slice in
        order, float32 (classes, rows, columns) on that grid, not averaged over adjacent slices, which is
        done here; None: computed here.
        """
        count = len(stack.slices)
        labels = np.empty((count, *stack.shape), np.uint8)
        expected = np.full((count, len(LABELS)), np.nan, np.float32)
        rows, columns = stack.size
        logits = self.logits(stack) if logits is None else logits
        for number, mean in enumerate(with_neighbours(logits, stack.neighbour_weights)):
            labels[number] = labels_on_image(mean, stack.size, stack.shape)
            if self._expects:
                expected[number] = expected_iou(mean[:, :rows, :columns])
        return Predicted(labels, expected)

    def stack_predicted(
        self, image: np.ndarray, spacing_mm: tuple[float, float], *, apart_mm: float
    ) -> Predicted:
        """Return the labels of an image, and their expected IoU (not calibrated).

        Labels: uint8 (slices, rows, columns), 0-8, not cleaned. Expected IoU: from the probabilities,
        float32 (slices, 8), column k of label k + 1 (anatomy.LABELS); NaN or 0 for a muscle without a
        pixel, see `Predicted`; all NaN if the model has no calibration and with_expected_iou is not set.
        image: (slices, rows, columns), any numeric dtype and intensity scale, without NaN; rows to the
        patient's back, columns to the patient's left. spacing_mm: distance (mm) between rows, between
        columns. apart_mm: distance (mm) between the centres of slices; math.inf if they are not adjacent.
        """
        return self.predicted(self.prepared(image, spacing_mm, apart_mm=apart_mm))

    def stack_labels(
        self, image: np.ndarray, spacing_mm: tuple[float, float], *, apart_mm: float
    ) -> np.ndarray:
        """Return the labels of an image, uint8 (slices, rows, columns), 0-8, not cleaned.

        image: (slices, rows, columns), any numeric dtype and intensity scale, without NaN; rows to the
        patient's back, columns to the patient's left. spacing_mm: distance (mm) between rows, between
        columns. apart_mm: distance (mm) between the centres of slices; math.inf if they are not adjacent.
        """
        return self.stack_predicted(image, spacing_mm, apart_mm=apart_mm).labels

    def _of_batch(self, images: np.ndarray) -> np.ndarray:
        """Return logits, (batch, classes, rows, columns), for images, (batch, 1, rows, columns)."""
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


def dixon_logits(water: np.ndarray, fat: np.ndarray) -> np.ndarray:
    """Return the logits of a slice from those of its Dixon water image and its fat image.

    water, fat: logits of the two images, float32 (classes, rows, columns), not changed; class 0 is the
    background. Returns the same shape. Log-probabilities: of the muscles, the mean of both images; of the
    background, the lower of both, not normalised. Tissue of water and fat at the border of a muscle
    resembles muscle in one of the images and background in the other, and the mean would leave it out
    (tests/benchmark/dixon_accuracy.py). Symmetric: if water and fat are swapped, the result is the same.
    """
    water, fat = log_softmax(water, axis=0), log_softmax(fat, axis=0)
    both = (water + fat) / 2
    both[0] = np.minimum(water[0], fat[0])
    return both


def neighbour_weight(apart_mm: float, neighbours_mm: float) -> float:
    """Return the weight of an adjacent slice, 0-1, relative to 1 for the slice itself.

    exp(-(apart_mm / neighbours_mm)² / 2), or 0 if that is below 0.02 (LEAST_WEIGHT) or neighbours_mm is 0.
    apart_mm: distance (mm) between the centres of the slices. neighbours_mm: SD (mm) of the Gaussian.
    """
    if neighbours_mm == 0:
        return 0.0
    weight = math.exp(-((apart_mm / neighbours_mm) ** 2) / 2)
    return weight if weight >= LEAST_WEIGHT else 0.0


def neighbour_weights(
    image: np.ndarray, apart_mm: float, neighbours_mm: float
) -> np.ndarray | None:
    """Return the weight between each slice of a stack and the next, float32 (slices - 1,), relative to 1.

    1 is the weight of the slice itself. image: (slices, rows, columns). apart_mm: distance (mm) between
    adjacent slices. neighbours_mm: SD (mm) of the Gaussian weights; 0: none. The weight is 0 if one of
    both slices is blank (a single value). None if the stack has one slice or the weight of its distance
    (`neighbour_weight`) is 0.
    """
    weight = neighbour_weight(apart_mm, neighbours_mm)
    if weight == 0 or len(image) == 1:
        return None
    shows = ~blank_slices(image)
    return np.float32(weight) * (shows[1:] & shows[:-1])


def with_neighbours(
    logits: Iterable[np.ndarray], weights: np.ndarray | None
) -> Iterator[np.ndarray]:
    """Yield, for each slice, the weighted mean of its logits and those of its two adjacent slices.

    The first and the last slice have one adjacent slice. logits: of a stack's slices in order, each
    (classes, rows, columns), not changed; read one slice ahead. weights: between each slice and the next,
    float32 (slices - 1,), relative to 1 for the slice itself; None yields the logits unchanged.
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
