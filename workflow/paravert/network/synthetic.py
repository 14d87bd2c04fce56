"""Training slices without a single image: batches and validation slices drawn from anatomy."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from paravert.errors import InputError
from paravert.network.batches import Batch, BatchKey
from paravert.network.randomised import Anatomies, Pictures, drawn_pictures
from paravert.network.samples import Sample
from paravert.network.settings import Settings

HELD_OUT_BATCH = (
    16  # validation slices that are drawn at once, whatever the batches of the training
)


class SyntheticSlices(Dataset):
    """Batches of slices, drawn anew each time; the key (epoch, number) seeds what is drawn.

    anatomies: table of draw_anatomies. device: that draws. batches: of an epoch.
    """

    def __init__(self, anatomies: Path, settings: Settings, device: torch.device, batches: int):
        self._file, self._settings, self._device = anatomies, settings, device
        self._batches = batches

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return self._batches

    def __getitem__(self, key: BatchKey) -> Batch:
        """Return a batch."""
        settings = self._settings
        seed = (settings.seed, *key)
        rng = np.random.default_rng([*seed, 72])
        numbers = rng.integers(len(self._anatomies), size=settings.batch_size)
        drawn = _pictures(self._anatomies, numbers, seed, settings, self._device)
        return drawn.images[:, None], drawn.labels

    @cached_property
    def _anatomies(self) -> Anatomies:
        return Anatomies(self._file)  # read where batches are drawn: in each process once


@dataclass(frozen=True)
class SyntheticSample(Sample):
    """A slice and the name of the sequence in whose contrast it was drawn."""

    sequence: str


def held_out_samples(
    source: Anatomies, settings: Settings, count: int, *, seed: int
) -> list[SyntheticSample]:
    """Return slices that show a muscle, at most so many; the same for every training.

    Raises InputError where none does.
    """
    found: list[SyntheticSample] = []
    rng = np.random.default_rng([seed, len(source)])
    for batch in range(-(-count // HELD_OUT_BATCH)):
        numbers = rng.integers(len(source), size=HELD_OUT_BATCH)
        drawn = _pictures(source, numbers, (seed, batch), settings, torch.device("cpu"))
        sequences = (contrast.sequence for contrast in drawn.contrasts)
        slices = zip(drawn.images.numpy(), drawn.labels.numpy(), sequences, strict=True)
        found += [SyntheticSample(*one) for one in slices if one[1].any()]
    if not found:
        raise InputError(source.table, "no slice drawn from it shows a muscle; draw more people")
    return found[:count]


def _pictures(
    source: Anatomies,
    numbers: np.ndarray,
    seed: tuple[int, ...],
    settings: Settings,
    device: torch.device,
) -> Pictures:
    return drawn_pictures(
        source,
        numbers,
        seed=seed,
        size_px=settings.size_px,
        spacing_mm=settings.spacing_mm,
        device=device,
    )
