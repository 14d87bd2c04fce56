"""Synthetic slices for training and validation, drawn from tables of anatomies."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from paravert.errors import InputError
from paravert.network.batches import Batch, BatchKey
from paravert.network.randomised import Anatomies, drawn_pictures
from paravert.network.samples import Sample
from paravert.network.settings import Settings

CPU = torch.device("cpu")
HELD_OUT_BATCH = 16  # validation slices drawn at once; independent of the training's batch size


class SyntheticSlices(Dataset):
    """Batches of synthetic slices, drawn when they are read: dataset[epoch, number] is a batch.

    anatomies: table (.parquet) of draw_anatomies. settings: of the training; seed, batch_size
    (slices per batch), size_px and spacing_mm are used. device: on which slices are drawn. batches:
    per epoch. A batch is (images, float32 (batch_size, 1, size_px, size_px); labels, uint8
    (batch_size, size_px, size_px)); it depends on the seed, the epoch and the number of the batch
    alone.
    """

    def __init__(self, anatomies: Path, settings: Settings, device: torch.device, batches: int):
        self._file, self._settings, self._device = anatomies, settings, device
        self._batches = batches

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return self._batches

    def __getitem__(self, key: BatchKey) -> Batch:
        """Return the batch of a key (epoch, number of the batch), on the device."""
        settings = self._settings
        seed = (settings.seed, *key)
        rng = np.random.default_rng([*seed, 72])
        numbers = rng.integers(len(self._anatomies), size=settings.batch_size)
        shape = {"size_px": settings.size_px, "spacing_mm": settings.spacing_mm}
        drawn = drawn_pictures(self._anatomies, numbers, seed=seed, device=self._device, **shape)
        return drawn.images[:, None], drawn.labels

    @cached_property
    def _anatomies(self) -> Anatomies:
        return Anatomies(self._file)  # not in __init__: each worker process reads it for itself


@dataclass(frozen=True)
class SyntheticSample(Sample):
    """A synthetic slice on the network's grid, with its labels.

    sequence: its contrast, a key of `contrast.SEQUENCES` such as "t1".
    """

    sequence: str


def held_out_samples(
    source: Anatomies, settings: Settings, count: int, *, seed: int
) -> list[SyntheticSample]:
    """Return synthetic validation slices with their labels, each with at least one muscle.

    A slice: standardised image, float32, and labels 0-8, uint8 (rows, columns), with its contrast.
    source: sections of people that the slices are drawn from. count: largest number of slices. seed:
    of all random numbers. settings: of the training; only size_px (rows, equal to columns) and
    spacing_mm (pixel size) are used. Raises InputError if no slice shows a muscle.
    """
    found: list[SyntheticSample] = []
    rng = np.random.default_rng([seed, len(source)])
    shape = {"size_px": settings.size_px, "spacing_mm": settings.spacing_mm}
    for batch in range(-(-count // HELD_OUT_BATCH)):
        numbers = rng.integers(len(source), size=HELD_OUT_BATCH)
        drawn = drawn_pictures(source, numbers, seed=(seed, batch), device=CPU, **shape)
        sequences = (contrast.sequence for contrast in drawn.contrasts)
        slices = zip(drawn.images.numpy(), drawn.labels.numpy(), sequences, strict=True)
        found += [SyntheticSample(*one) for one in slices if one[1].any()]
    if not found:
        raise InputError(source.table, "no slice drawn from it shows a muscle; draw more people")
    return found[:count]
