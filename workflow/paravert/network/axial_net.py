"""The network that tells the vertebral level of a single axial slice, and its model file."""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from paravert.anatomy import MUSCLES
from paravert.network.architecture import Architecture
from paravert.network.grid import network_size, resampled
from paravert.network.level_model import ModelForm
from paravert.network.unet import UNet

SIZE_PX, PIXEL_MM = 64, 4.0  # of the network's input: 256 mm
ARCHITECTURE = Architecture(width=16, levels=4, normalisation="group", dropout=0.0)
FOLD = 2  # pixels per cell and axis: the U-Net works on cells of 8 mm
CELLS = SIZE_PX // FOLD
BINS = np.arange(0.25, 6.6, 0.25)  # levels whose probability the network gives: T12/L1 to S1/2
MAPS = 1 + len(MUSCLES)  # background and muscles of both sides; a further map finds the column
SHARE_SCALE = 4.0  # shares of muscles are small numbers: of the head's input
HIDDEN = 128
CLIPPED_PERCENT = (0.5, 99.5)
FORM = ModelForm(
    "paravert-axial-levels", 1, "tells levels from axial slices", PIXEL_MM, ARCHITECTURE
)  # of the model file


class AxialNet(UNet):
    """A U-Net of low resolution that finds muscles and column, with a head that tells the level from the muscles.

    Their areas and places are what a level shows in any contrast; from the deepest features the head
    learnt nothing in 1,300 batches. The map of the column's middle says where in the slice the level holds.
    """

    def __init__(self):
        super().__init__(ARCHITECTURE, MAPS + 1, inputs=2 * FOLD**2)
        self.level = nn.Sequential(
            nn.AvgPool2d(2),
            *(nn.Conv2d(MAPS, 32, kernel_size=3, padding=1), nn.GELU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 64, kernel_size=3, padding=1), nn.GELU(), nn.Flatten()),
            *(nn.Linear(64 * (CELLS // 4) ** 2, HIDDEN), nn.GELU()),
            nn.Linear(HIDDEN, len(BINS)),
        )

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return logits of the level, of muscles and of the column's middle.

        images: float32 (batch, 2, SIZE_PX, SIZE_PX), see `network_input`. Level: (batch, BINS).
        Muscles: (batch, MAPS, CELLS, CELLS). Column: (batch, CELLS, CELLS); its softmax over all cells
        is the probability that the column's middle lies there.
        """
        skips = [self.encoder[0](functional.pixel_unshuffle(images, FOLD))]
        for stage in self.encoder[1:]:
            skips.append(stage(functional.max_pool2d(skips[-1], 2)))
        features = skips.pop()
        for stage in self.decoder:
            features = stage(features, skips.pop())
        maps = self.head(features)
        muscles, column = maps[:, :MAPS], maps[:, MAPS]
        return self.level(SHARE_SCALE * muscles.softmax(dim=1)), muscles, column


def standardised(images: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Return the network's input, float32 (batch, 2, rows, columns): image, and where there is one.

    images: signal, float32 (batch, rows, columns). inside: bool, same shape, the field of view.
    Within it each image is clipped to its percentiles CLIPPED_PERCENT and has mean 0 and variance 1;
    outside it is 0.
    """
    result = torch.zeros_like(images)
    for image, seen, out in zip(images, inside, result, strict=True):
        values = image[seen]
        if values.numel():
            low, high = np.percentile(values.numpy(), CLIPPED_PERCENT)
            values = values.clamp(float(low), float(high))
            out[seen] = (values - values.mean()) / values.std(correction=0).clamp_min(1e-6)
    return torch.stack((result, inside.float()), dim=1)


def network_input(
    planes: np.ndarray, spacing_mm: tuple[float, float]
) -> tuple[torch.Tensor, np.ndarray]:
    """Return the input for the slices of a stack, and where its cells lie in the image.

    planes: (slices, rows, columns), rows to the back, columns to the left of the subject. spacing_mm:
    distance between rows, between columns. Input: float32 (slices, 2, SIZE_PX, SIZE_PX), the middle of
    the image. Place: (2, 2); row = place[0, 0] + cell row * place[0, 1], and column from place[1].
    """
    size = network_size(planes.shape[1:], spacing_mm, PIXEL_MM)
    small = resampled(planes.astype(np.float32), size)
    array = np.zeros((len(planes), SIZE_PX, SIZE_PX), np.float32)
    inside = np.zeros((SIZE_PX, SIZE_PX), bool)
    cut, here, place = [], [], np.empty((2, 2))
    for axis, (pixels, whole) in enumerate(zip(size, planes.shape[1:], strict=True)):
        first = (pixels - SIZE_PX) // 2  # of the input, in pixels of the network's grid
        start, stop = max(first, 0), min(first + SIZE_PX, pixels)
        cut.append(slice(start, stop))
        here.append(slice(start - first, stop - first))
        pitch = whole / pixels  # image pixels per pixel of the network's grid
        place[axis] = (first + FOLD / 2) * pitch - 0.5, FOLD * pitch
    array[:, *here], inside[*here] = small[:, *cut], True
    images = torch.from_numpy(array)
    return standardised(images, torch.from_numpy(inside).expand(images.shape)), place


def load_network(path: Path) -> AxialNet:
    """Return the network of a model file, for prediction. Raises InputError for another file."""
    return FORM.load(path, AxialNet())


@torch.inference_mode()
def predicted(network: AxialNet, images: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities of BINS, (slices, BINS), and the column's middle, (slices, 2).

    images: see `network_input`. The middle is the mean (row, column) of the cells, in cells from the
    first one's centre. A level is the mean over the slice and its mirror image.
    """
    parts = []
    for image in images:
        pair = torch.stack((image, image.flip(-1)))
        levels, _, column = network(pair)
        weight = torch.stack((column[0], column[1].flip(-1))).flatten(1).softmax(1).mean(0)
        weight = weight.view(CELLS, CELLS)
        cells = torch.arange(CELLS, dtype=torch.float32)
        middle = torch.stack((weight.sum(1) @ cells, weight.sum(0) @ cells))
        parts.append((levels.softmax(1).mean(0), middle))
    probability, middle = (torch.stack(part).numpy() for part in zip(*parts, strict=True))
    return probability, middle
