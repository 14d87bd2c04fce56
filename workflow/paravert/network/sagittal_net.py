"""The network that finds vertebrae, discs and sacrum in sagittal slices, and its model file."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from scipy.special import softmax

from paravert.network.architecture import Architecture
from paravert.network.level_model import SAGITTAL_FORM as FORM
from paravert.network.openvino_unet import OpenVinoUNet

ARCHITECTURE = Architecture(**FORM.architecture)
# vertebra: down to L5. disc: down to L5/S1. sacrum: S1 and all below, with its rudimentary discs.
STRUCTURES = ("background", "vertebra", "disc", "sacrum")
BACKGROUND, VERTEBRA, DISC, SACRUM = range(len(STRUCTURES))
BRIGHT_PERCENT = 95  # percentile of the signal that becomes 1


def network_input(image: np.ndarray) -> np.ndarray:
    """Return the network's input for sagittal images, float32, same shape, -0.5 to 1.5.

    image: (..., rows, columns), signal, in pixels of 2.5 mm; 0 outside the field of view. Result:
    sqrt(ratio) - 0.5, with ratio = signal / 95th percentile of the positive signal in the whole array,
    not in each image; limited to 0 to 4. Without positive signal, -0.5 everywhere.
    """
    positive = image[image > 0]
    scale = np.percentile(positive, BRIGHT_PERCENT) if positive.size else 1.0
    return (np.sqrt(np.clip(image / scale, 0, 4)) - 0.5).astype(np.float32)


@cache
def load_sagittal_network(path: Path) -> OpenVinoUNet:
    """Return the network of a model file of train_levels, for prediction; read once per process.

    Called with float32 (batch, 1, rows, columns), from `network_input`, on pixels of 2.5 mm, rows
    and columns multiples of 16 (`probabilities` pads others), it returns logits (batch, 4, rows,
    columns): background, vertebra, disc, sacrum. Raises InputError if the file is no such model.
    """
    return OpenVinoUNet(ARCHITECTURE, FORM.weights(path))


def probabilities(network: Callable[[np.ndarray], np.ndarray], images: np.ndarray) -> np.ndarray:
    """Return the probabilities of STRUCTURES in each pixel, float32 (slices, 4, rows, columns).

    Structures, in this order: background, vertebra (down to L5), disc (down to L5/S1), sacrum (S1
    and all below). network: from `load_sagittal_network`, takes images, float32 (batch, 1, rows,
    columns), and returns logits (batch, 4, rows, columns). images: from `network_input`, float32
    (slices, rows, columns), pixels of 2.5 mm; at least one slice, rows and columns of any number.
    """
    stride = ARCHITECTURE.stride
    rows, columns = images.shape[1:]
    more = ((0, 0), (0, -rows % stride), (0, -columns % stride))
    padded = np.pad(images, more, constant_values=-0.5)[:, None]
    found = np.concatenate([softmax(network(one[None]), axis=1) for one in padded])
    return found[..., :rows, :columns]
