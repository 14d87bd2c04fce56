"""Batches of varied training crops, prepared in the background; the same whatever prepares them."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

import numpy as np
import torch

from paravert.network.augment import training_crop
from paravert.network.samples import Sample
from paravert.network.settings import Settings

Batch = tuple[torch.Tensor, torch.Tensor]
T = TypeVar("T")


class Source(Protocol):
    """Where the batches of a training come from."""

    def batches_per_epoch(self) -> int:
        """Return how many batches make an epoch."""

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch, the same each time.

        Images are (n, 1, size, size), float32; truths (n, size, size), uint8.
        """


class Crops:
    """Varied crops of slices with a manual mask, each slice once per epoch.

    Order and variation follow from seed and epoch alone. workers: threads that prepare ahead.
    """

    def __init__(self, samples: Sequence[Sample], settings: Settings, workers: int = 1):
        self.samples, self.settings, self.workers = samples, settings, workers

    def batches_per_epoch(self) -> int:
        """Return the number of whole batches in the slices; one if there are too few for one."""
        return max(1, len(self.samples) // self.settings.batch_size)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch."""
        size = self.settings.batch_size
        order = np.random.default_rng([self.settings.seed, epoch]).permutation(len(self.samples))
        starts = range(0, self.batches_per_epoch() * size, size)
        pool = ThreadPoolExecutor(max_workers=self.workers)

        def prepared(start: int) -> Future:
            picked = order[start : start + size]
            return pool.submit(_batch, self.samples, picked, self.settings, (epoch, start))

        try:
            yield from ahead(prepared, starts, self.workers)
        finally:
            pool.shutdown(cancel_futures=True)


def ahead(begin: Callable[[T], Future], items: Iterable[T], some: int) -> Iterator:
    """Yield the results of what is begun for each item, in order, with some more begun ahead."""
    waiting: deque = deque()
    for item in items:
        waiting.append(begin(item))
        if len(waiting) > some:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _batch(
    samples: Sequence[Sample], picked: np.ndarray, settings: Settings, place: tuple[int, int]
) -> Batch:
    crops = [
        training_crop(
            samples[index].image,
            samples[index].truth,
            settings.size_px,
            np.random.default_rng([settings.seed, *place, position]),
        )
        for position, index in enumerate(picked)
    ]
    images, truths = (torch.from_numpy(np.stack(arrays)) for arrays in zip(*crops, strict=True))
    return images[:, None], truths
