"""Batches of a training, epoch by epoch, prepared by torch's DataLoader."""

from collections.abc import Iterator, Sequence
from typing import Self

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from paravert.network.augment import training_crop
from paravert.network.samples import Sample
from paravert.network.settings import Settings

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
