"""Training batches of annotated or synthetic slices, prepared by torch's DataLoader; held-out slices.

Annotated slices are cropped at random: position, rotation, scale, mirror image, contrast, bias field
and noise vary. All random numbers of a crop come from the generator given: equal generators give equal
crops. Synthetic slices are drawn from tables of anatomies (`randomised`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import torch
from scipy import ndimage
from torch.utils.data import DataLoader, Dataset

from paravert.anatomy import OTHER_SIDE
from paravert.errors import InputError
from paravert.network.randomised import Anatomies, drawn_pictures
from paravert.network.samples import Sample
from paravert.network.settings import Settings

MIRRORED_SHARE = 0.5
ROTATION_SD_DEG = 5.0
LOG_SCALE_SD = 0.08
LOG_GAMMA_SD = 0.2
LOG_CONTRAST_SD = 0.1
BRIGHTNESS_SD = 0.1
BIAS_SD = 0.2  # of each polynomial coefficient of the logarithm of the bias field
NOISE_MAXIMUM = 0.2  # largest SD of the noise; the SD of the standardised stack is 1
PREFETCHED = 3  # batches per process that are prepared ahead
CPU = torch.device("cpu")
HELD_OUT_BATCH = 16  # validation slices drawn at once; independent of the training's batch size

# images, float32 (batch, 1, rows, columns); labels, uint8 (batch, rows, columns)
Batch = tuple[torch.Tensor, torch.Tensor]
BatchKey = tuple[int, int]  # epoch and number of the batch in it: seed of all random numbers


def training_crop(
    image: np.ndarray, truth: np.ndarray, size_px: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return a random square crop of a slice and its labels: float32 and uint8, (size_px, size_px).

    image: as of `Sample`, standardised with its stack, then resampled, (rows, columns). truth:
    labels 0-8, uint8, on the same grid. size_px: rows, equal to columns, of the crop. rng: random
    position, rotation, scale, mirror image (left and right labels exchanged), contrast, bias field
    and noise. Beyond the image's edge, the outermost pixels of image and labels are repeated.
    """
    image, truth = crop_at(image, truth, size_px, drawn_pose(image.shape, size_px, rng))
    if rng.random() < MIRRORED_SHARE:
        image, truth = mirrored_slice(image, truth)
    return varied_intensity(image, rng), truth


def mirrored_slice(image: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mirror image of a slice and its labels: columns reversed, left and right exchanged.

    image: float (rows, columns). truth: labels, uint8 (rows, columns), 0-8. Returns the same shapes
    and dtypes; the image as a view.
    """
    return image[:, ::-1], np.array(OTHER_SIDE, dtype=truth.dtype)[truth[:, ::-1]]


def drawn_pose(
    shape: tuple[int, int], size_px: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return a random affine map from crop to image pixels: matrix (2, 2) and offset (2,).

    Image pixel (row, column) = matrix @ crop pixel + offset. shape: rows and columns of the image.
    size_px: rows, equal to columns, of the crop. rng: random numbers. The crop's centre is uniform
    where the crop, not rotated or scaled, lies inside the image or, along an axis where it is
    larger, contains it. Rotation and the logarithm of the scale, about this centre, are normal with
    mean 0.
    """
    angle = np.deg2rad(rng.normal(0, ROTATION_SD_DEG))
    scale = np.exp(rng.normal(0, LOG_SCALE_SD))
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    ends = [sorted((size_px / 2, pixels - size_px / 2)) for pixels in shape]
    centre = np.array([rng.uniform(*end) for end in ends]) - 0.5
    return turn, centre - turn @ np.full(2, (size_px - 1) / 2)


def crop_at(
    image: np.ndarray, truth: np.ndarray, size_px: int, pose: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return a square crop of an image (float32, bilinear) and its labels (nearest), (size_px, size_px).

    image: (rows, columns). truth: its labels, uint8 of the same shape. size_px: rows, equal to
    columns, of the crop. pose: matrix (2, 2) and offset (2,): image pixel (row, column) = matrix @
    crop pixel + offset. Beyond the image's edge, its outermost pixels are repeated.
    """
    how = {"output_shape": (size_px, size_px), "mode": "nearest"}
    return (
        ndimage.affine_transform(image.astype(np.float32), *pose, order=1, **how),
        ndimage.affine_transform(truth, *pose, order=0, **how),
    )


def varied_intensity(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return an image with random bias field, gamma, contrast, brightness and noise, float32.

    image: from a standardised stack, (rows, columns), which the result has, too; not changed. The
    result is not standardised again. An image of a single value gets no bias field and gamma. rng:
    random numbers.
    """
    floor, top = image.min(), np.ptp(image)
    if top > 0:
        relative = (image - floor) * drawn_bias(image.shape, rng) / top
        image = floor + top * relative ** np.exp(rng.normal(0, LOG_GAMMA_SD))
    image = image * np.exp(rng.normal(0, LOG_CONTRAST_SD)) + rng.normal(0, BRIGHTNESS_SD)
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    return (image + rng.uniform(0, NOISE_MAXIMUM) * noise).astype(np.float32)


def drawn_bias(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Return a random bias field (uneven brightness) around 1, float32 (rows, columns).

    shape: rows and columns. The exponential of a quadratic polynomial of row and column. rng:
    random numbers.
    """
    y, x = (np.linspace(-1, 1, pixels, dtype=np.float32) for pixels in shape)
    y = y[:, None]
    a = rng.normal(0, BIAS_SD, 5).astype(np.float32)
    return np.exp(
        a[0] * x + a[1] * y + a[2] * x * y + a[3] * (x * x - 1 / 3) + a[4] * (y * y - 1 / 3)
    )


class Crops(Dataset):
    """Training batches of annotated slices, cropped and varied: dataset[epoch, number] is a batch.

    A batch is a pair of tensors on the CPU: images, float32 (slices, 1, size_px, size_px), and
    labels, uint8 (slices, size_px, size_px), from `training_crop`. samples: annotated slices on the
    network's pixel grid, at least one. settings: of the training; seed, batch_size (slices per
    batch) and size_px (rows and columns of a crop) are used. len(): full batches per epoch, which
    shows each of the samples at most once; with fewer than batch_size samples, one batch of all.
    epoch, number: from 0. With the same samples and settings, a batch depends on them alone.
    """

    def __init__(self, samples: Sequence[Sample], settings: Settings):
        self.samples, self.settings = samples, settings

    def __len__(self) -> int:
        """Return the number of full batches of an epoch; 1, not full, if there are too few slices for one."""
        return max(1, len(self.samples) // self.settings.batch_size)

    def __getitem__(self, key: BatchKey) -> Batch:
        """Return the batch of a key (epoch, number of the batch), as tensors on the CPU."""
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


class SyntheticSlices(Dataset):
    """Training batches of synthetic slices, drawn when they are read: dataset[epoch, number] is a batch.

    A batch is a pair of tensors on the CPU: images, float32 (batch_size, 1, size_px, size_px), and
    labels, uint8 (batch_size, size_px, size_px), from `drawn_pictures`. anatomies: file (.parquet)
    with sections of synthetic people, as the command draw_anatomies writes it. settings: of the
    training; seed, batch_size (slices per batch), size_px and spacing_mm are used. device: that
    draws the slices. batches: number per epoch, which len() returns. epoch, number: from 0. With
    the same file, settings and kind of device, a batch depends on them alone.
    """

    def __init__(self, anatomies: Path, settings: Settings, device: torch.device, batches: int):
        self._file, self._settings, self._device = anatomies, settings, device
        self._batches = batches

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return self._batches

    def __getitem__(self, key: BatchKey) -> Batch:
        """Return the batch of a key (epoch, number of the batch), as tensors on the CPU."""
        settings = self._settings
        seed = (settings.seed, *key)
        rng = np.random.default_rng([*seed, 72])
        numbers = rng.integers(len(self._anatomies), size=settings.batch_size)
        shape = {"size_px": settings.size_px, "spacing_mm": settings.spacing_mm}
        drawn = drawn_pictures(self._anatomies, numbers, seed=seed, device=self._device, **shape)
        return drawn.images[:, None].cpu(), drawn.labels.cpu()

    @cached_property
    def _anatomies(self) -> Anatomies:
        return Anatomies(self._file)  # not in __init__: each worker process reads it for itself


class EpochLoader:
    """The batches of a dataset, epoch by epoch, optionally prepared ahead by worker processes.

    dataset: dataset[epoch, number] is a batch of images, float32 (batch, 1, rows, columns), and
    labels, uint8 (batch, rows, columns); its length is the number of batches of an epoch. workers:
    number of processes; 0: batches are prepared in this process when needed. The batches do not
    depend on this number. Use as a context manager: leaving it ends the processes. len(): number of
    batches of an epoch.
    """

    def __init__(self, dataset: Dataset, workers: int = 0):
        self._keys: list[BatchKey] = [(0, number) for number in range(len(dataset))]
        options = {}
        if workers:  # spawned: a process forked after torch has started its threads may hang
            options = {
                "multiprocessing_context": "spawn",
                "persistent_workers": True,
                "prefetch_factor": PREFETCHED,
            }
        self._loader = DataLoader(
            dataset,
            batch_size=None,
            sampler=self._keys,
            num_workers=workers,
            generator=torch.Generator(),  # so that the loader does not advance torch's own
            **options,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._loader._iterator = None  # holds the processes between epochs

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return len(self._keys)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Return the batches of an epoch in order, each a pair (images, labels).

        epoch: its number, from 0; any order. Images: float32 (batch, 1, rows, columns); labels: uint8
        (batch, rows, columns). Do not go on reading an epoch after a call for another one.
        """
        self._keys[:] = [(epoch, number) for _, number in self._keys]
        return iter(self._loader)


# --- held-out synthetic slices --------------------------------------------------------------------


@dataclass(frozen=True)
class SyntheticSample(Sample):
    """A synthetic slice on the network's pixel grid: image, labels, and the contrast it was drawn in.

    NumPy arrays. image: standardised by itself, then with a random gain and offset, float32 (rows,
    columns). truth: labels 0-8, uint8, same shape. drawn: tuple, True for each of the 8 anatomy.LABELS,
    as every muscle is labelled; leave it out. sequence: the contrast, a key of `contrast.SEQUENCES`
    such as "t1".
    """

    sequence: str


def held_out_samples(
    source: Anatomies, count: int, *, size_px: int, spacing_mm: float, seed: int
) -> list[SyntheticSample]:
    """Return synthetic validation slices with their labels, each with at least one muscle.

    source: sections of synthetic people (maps of tissues without contrast), of which random ones are
    drawn, each in a random contrast. count: largest number of slices, 1 or more; as those that show
    no muscle are left out, there may be fewer. size_px: their rows, equal to columns. spacing_mm:
    their pixel size. seed: of all random numbers. Raises InputError if no slice shows a muscle.
    """
    found: list[SyntheticSample] = []
    rng = np.random.default_rng([seed, len(source)])
    shape = {"size_px": size_px, "spacing_mm": spacing_mm}
    for batch in range(-(-count // HELD_OUT_BATCH)):
        numbers = rng.integers(len(source), size=HELD_OUT_BATCH)
        drawn = drawn_pictures(source, numbers, seed=(seed, batch), device=CPU, **shape)
        sequences = (contrast.sequence for contrast in drawn.contrasts)
        slices = zip(drawn.images.numpy(), drawn.labels.numpy(), sequences, strict=True)
        found += [SyntheticSample(*one) for one in slices if one[1].any()]
    if not found:
        raise InputError(source.table, "no slice drawn from it shows a muscle; draw more people")
    return found[:count]
