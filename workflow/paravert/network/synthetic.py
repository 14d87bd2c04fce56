"""Training slices without a single image: batches and validation slices drawn from anatomy."""

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import torch

from paravert.errors import InputError
from paravert.network.batches import Batch, ahead
from paravert.network.randomised.slices import Anatomies, Pictures, drawn_pictures
from paravert.network.samples import Sample
from paravert.network.settings import Settings
from paravert.orphans import end_with

TOGETHER = 16  # held-out slices that are drawn at once, whatever the batches of the training
AHEAD = 3  # batches per process that wait, so that a slow one holds up nobody


class SyntheticSlices:
    """Batches of slices drawn anew each time; epoch and place in it decide what is drawn.

    anatomies: table of draw_anatomies. workers: processes that draw while a processor trains; a GPU
    draws for itself. A context: leaving it ends the processes.
    """

    def __init__(
        self,
        anatomies: Path,
        settings: Settings,
        device: torch.device,
        batches_per_epoch: int,
        workers: int = 1,
    ):
        self._file, self._settings, self._device = anatomies, settings, device
        self._batches, self._workers = batches_per_epoch, workers

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if "_processes" in self.__dict__:
            self._processes.shutdown(cancel_futures=True)

    def batches_per_epoch(self) -> int:
        """Return how many batches make an epoch."""
        return self._batches

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch."""
        places = [(epoch, number) for number in range(self._batches)]
        if self._device.type == "cuda":
            _load(self._file, self._settings)
            yield from (_drawn(place, self._device) for place in places)
            return
        for images, labels in ahead(self._begin, places, AHEAD * self._workers):
            yield torch.from_numpy(images), torch.from_numpy(labels)

    def _begin(self, place: tuple[int, int]) -> Future:
        return self._processes.submit(_drawn_as_arrays, place)

    @cached_property
    def _processes(self) -> ProcessPoolExecutor:
        # A process that is forked after torch has started its threads may wait for them for ever.
        return ProcessPoolExecutor(
            self._workers,
            multiprocessing.get_context("spawn"),
            initializer=_load,
            initargs=(self._file, self._settings, os.getpid()),
        )


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
    for batch in range(-(-count // TOGETHER)):
        numbers = rng.integers(len(source), size=TOGETHER)
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


# What a drawing process holds: the anatomies and the settings.
_held: dict = {}


def _load(anatomies: Path, settings: Settings, parent: int | None = None) -> None:
    if _held.get("file") != anatomies:
        _held.update(file=anatomies, source=Anatomies(anatomies))
    _held["settings"] = settings
    if parent is not None:
        end_with(parent)
        torch.set_num_threads(1)


def _drawn(place: tuple[int, int], device: torch.device) -> Batch:
    settings = _held["settings"]
    seed = (settings.seed, *place)
    rng = np.random.default_rng([*seed, 72])
    numbers = rng.integers(len(_held["source"]), size=settings.batch_size)
    drawn = _pictures(_held["source"], numbers, seed, settings, device)
    return drawn.images[:, None], drawn.labels


def _drawn_as_arrays(place: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    return tuple(part.numpy() for part in _drawn(place, torch.device("cpu")))
