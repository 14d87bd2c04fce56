"""Batches of a training: random crops of annotated slices, prepared by torch's DataLoader."""

from collections.abc import Iterator, Sequence
from typing import Self

import numpy as np
import torch
from scipy import ndimage
from torch.utils.data import DataLoader, Dataset, Sampler

from paravert.anatomy import OTHER_SIDE
from paravert.network.samples import Sample
from paravert.network.settings import Settings

MIRRORED_SHARE = 0.5
ROTATION_SD_DEG = 5.0
LOG_SCALE_SD = 0.08
LOG_GAMMA_SD = 0.2
LOG_CONTRAST_SD = 0.1
BRIGHTNESS_SD = 0.1
BIAS_SD = 0.2  # of the logarithm of the field, per polynomial term
NOISE_MAXIMUM = 0.2  # standard deviation, in those of the stack


def training_crop(
    image: np.ndarray, truth: np.ndarray, size_px: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return a varied square crop of a slice: float32 and uint8, (size_px, size_px).

    image: (rows, columns), standardised; truth: labels on the same grid. What lies beyond the edge
    repeats it, as in prediction.
    """
    image, truth = cut(image, truth, size_px, drawn_pose(image.shape, size_px, rng))
    if rng.random() < MIRRORED_SHARE:
        image, truth = mirrored_slice(image, truth)
    return varied_intensity(image, rng), truth


def mirrored_slice(image: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a slice as its mirror image, columns reversed: what was left is labelled right."""
    return image[:, ::-1], np.array(OTHER_SIDE, dtype=truth.dtype)[truth[:, ::-1]]


def drawn_pose(
    shape: tuple[int, int], size_px: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return matrix and offset from crop pixel (row, column) to image pixel: matrix @ p + offset.

    Rotation and scale are drawn about the centre; the crop lies anywhere inside the image or, along
    an axis where the crop is the larger one, around it.
    """
    angle = np.deg2rad(rng.normal(0, ROTATION_SD_DEG))
    scale = np.exp(rng.normal(0, LOG_SCALE_SD))
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    ends = [sorted((size_px / 2, pixels - size_px / 2)) for pixels in shape]
    centre = np.array([rng.uniform(*end) for end in ends]) - 0.5
    return turn, centre - turn @ np.full(2, (size_px - 1) / 2)


def cut(
    image: np.ndarray, truth: np.ndarray, size_px: int, pose: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return image (bilinear) and truth (nearest) in a square crop; pose as in `drawn_pose`."""
    how = {"output_shape": (size_px, size_px), "mode": "nearest"}
    return (
        ndimage.affine_transform(image.astype(np.float32), *pose, order=1, **how),
        ndimage.affine_transform(truth, *pose, order=0, **how),
    )


def varied_intensity(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a crop with another bias field, gamma, contrast, brightness and noise, float32."""
    floor, top = image.min(), np.ptp(image)
    if top > 0:
        relative = (image - floor) * drawn_bias(image.shape, rng) / top
        image = floor + top * relative ** np.exp(rng.normal(0, LOG_GAMMA_SD))
    image = image * np.exp(rng.normal(0, LOG_CONTRAST_SD)) + rng.normal(0, BRIGHTNESS_SD)
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    return (image + rng.uniform(0, NOISE_MAXIMUM) * noise).astype(np.float32)


def drawn_bias(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Return a smooth field around 1, (rows, columns): exp of a quadratic polynomial."""
    y, x = (np.linspace(-1, 1, pixels, dtype=np.float32) for pixels in shape)
    y = y[:, None]
    a = rng.normal(0, BIAS_SD, 5).astype(np.float32)
    return np.exp(
        a[0] * x + a[1] * y + a[2] * x * y + a[3] * (x * x - 1 / 3) + a[4] * (y * y - 1 / 3)
    )


Batch = tuple[torch.Tensor, torch.Tensor]  # images (n, 1, rows, columns), truths (n, rows, columns)
BatchKey = tuple[int, int]  # epoch, and the batch's number in it: seeds all that is random about it
PREFETCHED = 3  # batches per process that are drawn ahead, so that a slow one delays no step


class Crops(Dataset):
    """Batches of varied crops of slices with a manual mask; an epoch shows each slice at most once.

    Order and variation follow from the settings' seed and the key (epoch, number) alone. Images are
    float32, truths uint8.
    """

    def __init__(self, samples: Sequence[Sample], settings: Settings):
        self.samples, self.settings = samples, settings

    def __len__(self) -> int:
        """Return the number of whole batches in the slices; one if there are too few for one."""
        return max(1, len(self.samples) // self.settings.batch_size)

    def __getitem__(self, key: BatchKey) -> Batch:
        """Return a batch."""
        epoch, number = key
        seed, size = self.settings.seed, self.settings.batch_size
        order = np.random.default_rng([seed, epoch]).permutation(len(self.samples))
        first = number * size
        crops = [
            training_crop(
                self.samples[index].image,
                self.samples[index].truth,
                self.settings.size_px,
                np.random.default_rng([seed, epoch, first, position]),
            )
            for position, index in enumerate(order[first : first + size])
        ]
        images, truths = (torch.from_numpy(np.stack(arrays)) for arrays in zip(*crops, strict=True))
        return images[:, None], truths


class EpochLoader:
    """The batches of a dataset, epoch by epoch; the same whatever the number of workers.

    dataset: maps a BatchKey to a Batch; its length is the number of batches of an epoch. workers:
    processes that prepare batches ahead; 0 prepares each when it is asked for. A context: leaving it
    ends the processes.
    """

    def __init__(self, dataset: Dataset, workers: int = 0):
        self._keys = _EpochKeys(len(dataset))
        # Processes are spawned: one that is forked after torch has started its threads may wait for
        # them forever. A generator of its own, so that the loader does not use up torch's.
        self._loader = DataLoader(
            dataset,
            batch_size=None,
            sampler=self._keys,
            num_workers=workers,
            generator=torch.Generator(),
            **({"multiprocessing_context": "spawn", "persistent_workers": True} if workers else {}),
            **({"prefetch_factor": PREFETCHED} if workers else {}),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._loader._iterator = None  # what the loader keeps alive between epochs

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return len(self._keys)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Return the batches of an epoch."""
        self._keys.epoch = epoch
        return iter(self._loader)


class _EpochKeys(Sampler):
    """The keys of the batches of one epoch, in order."""

    def __init__(self, batches: int):
        self.batches, self.epoch = batches, 0

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[BatchKey]:
        return iter([(self.epoch, number) for number in range(self.batches)])
