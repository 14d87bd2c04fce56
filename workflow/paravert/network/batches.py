"""Batches of varied training crops, prepared in the background; the same whatever prepares them."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from paravert.network.augment import training_crop
from paravert.network.samples import Sample
from paravert.network.settings import Settings

Batch = tuple[torch.Tensor, torch.Tensor]


def batches_per_epoch(samples: Sequence[Sample], settings: Settings) -> int:
    """Return the number of whole batches in one pass; one if there are too few slices for one."""
    return max(1, len(samples) // settings.batch_size)


def epoch_batches(
    samples: Sequence[Sample], settings: Settings, epoch: int, workers: int = 1
) -> Iterator[Batch]:
    """Yield the batches of an epoch.

    Images are (n, 1, size, size), float32; truths (n, size, size), uint8.
    Order and variation follow from seed and epoch alone. workers: threads that prepare ahead.
    """
    order = np.random.default_rng([settings.seed, epoch]).permutation(len(samples))
    starts = range(
        0, batches_per_epoch(samples, settings) * settings.batch_size, settings.batch_size
    )
    pool = ThreadPoolExecutor(max_workers=workers)
    waiting: deque = deque()
    try:
        for start in starts:
            picked = order[start : start + settings.batch_size]
            waiting.append(pool.submit(_batch, samples, picked, settings, (epoch, start)))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


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
