"""The stacks with truth that a network learns from: reading, digest."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from paravert import shard_tables
from paravert.anatomy import BACKGROUND
from paravert.imaging.volume import Volume, read_volume, stack_file, stack_numbers
from paravert.network.grid import labels_on_network, network_size, resampled, standardise
from paravert.provenance import digest, file_sha256

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sample:
    """One slice on the network's grid: image (rows, columns), standardised, and its truth."""

    image: np.ndarray
    truth: np.ndarray


def subjects_with_truth(convert: Sequence[Path]) -> list[str]:
    """Return the subjects of shard tables that were converted and have a manual mask, sorted."""
    rows = [row for table in convert for row in shard_tables.read_shard_rows(table).to_pylist()]
    return sorted({row["subject"] for row in rows if row["has_truth"]})


def stacks_with_truth(home: Path) -> list[tuple[Volume, Volume]]:
    """Return image and truth of every stack of a subject that has both."""
    return [
        tuple(read_volume(stack_file(home, kind, stack)) for kind in ("image", "truth"))
        for stack in stack_numbers(home, "truth")
    ]


def samples_of(image: Volume, truth: Volume, spacing_mm: float) -> list[Sample]:
    """Return the slices of a stack on the network's grid.

    A slice without a single label counts as not segmented and is left out.
    """
    spacing = (image.row_spacing_mm, image.column_spacing_mm)
    size = network_size(image.array.shape[1:], spacing, spacing_mm)
    drawn = np.flatnonzero((truth.array != BACKGROUND).any(axis=(1, 2)))
    if not len(drawn):
        return []
    standard = torch.from_numpy(standardise(image.array)[drawn])[:, None]
    images = resampled(standard, size)[:, 0].numpy().astype(np.float16)  # half the memory
    truths = labels_on_network(truth.array[drawn], size)
    return [Sample(*pair) for pair in zip(images, truths, strict=True)]


def read_samples(folder: Path, subjects: Sequence[str], spacing_mm: float) -> list[Sample]:
    """Return all segmented slices of the subjects, in the order given."""
    found = [
        sample
        for subject in subjects
        for image, truth in stacks_with_truth(folder / subject)
        for sample in samples_of(image, truth, spacing_mm)
    ]
    log.info("training: %d subjects, %d slices", len(subjects), len(found))
    return found


def data_digest(folder: Path, subjects: Sequence[str]) -> str:
    """Return the SHA-256 over names and contents of every image and truth of the subjects."""
    return digest(
        [
            [subject, kind, stack, file_sha256(stack_file(folder / subject, kind, stack))]
            for subject in subjects
            for kind in ("image", "truth")
            for stack in stack_numbers(folder / subject, kind)
        ]
    )
