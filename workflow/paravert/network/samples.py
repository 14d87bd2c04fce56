"""The annotated slices that a network is trained on: reading, and a digest of them."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from paravert import shard_tables
from paravert.anatomy import BACKGROUND, LABEL_VALUES, LABELS
from paravert.imaging.label_maps import drawn_labels
from paravert.imaging.volume import Volume, read_volume
from paravert.network.clean import cleaned
from paravert.network.grid import labels_on_network, network_size, resampled, standardise
from paravert.network.predict import Predictor
from paravert.provenance import digest, file_sha256
from paravert.subject_folder import SubjectFolder

ALL_DRAWN = (True,) * len(LABELS)


@dataclass(frozen=True)
class Sample:
    """One slice on the network's grid, both (rows, columns): standardised image, and its truth.

    drawn: which muscles are annotated, in the order of LABELS (`drawn_labels`).
    """

    image: np.ndarray
    truth: np.ndarray
    drawn: tuple[bool, ...] = field(default=ALL_DRAWN, kw_only=True)


def subjects_with_truth(convert: Sequence[Path]) -> list[str]:
    """Return the subjects of shard tables that were converted and have a manual mask, sorted."""
    rows = [row for table in convert for row in shard_tables.read_shard_rows(table).to_pylist()]
    return sorted({row["subject"] for row in rows if row["has_truth"]})


def nothing_drawn(folder: Path, subjects: Sequence[str]) -> list[str]:
    """Return those of the subjects whose manual masks are all empty."""
    return [
        subject
        for subject in subjects
        if not drawn_labels(
            read_volume(SubjectFolder(folder / subject).stack_file("truth", stack)).array
            for stack in SubjectFolder(folder / subject).stack_numbers("truth")
        ).any()
    ]


def left_out(convert: Sequence[Path]) -> list[str]:
    """Return the quarantined subjects of shard tables with their reasons; faults of masks first."""
    outcomes = [one for table in convert for one in shard_tables.read_outcomes(table) if one.reason]
    outcomes.sort(key=lambda one: (not one.reason.startswith("mask-"), one.subject))
    return [f"{one.subject} ({one.reason})" for one in outcomes]


def stacks_with_truth(home: Path) -> list[tuple[Volume, Volume]]:
    """Return image and truth of every stack of a subject that has both."""
    files = SubjectFolder(home)
    return [
        (
            read_volume(files.stack_file("image", stack)),
            read_volume(files.stack_file("truth", stack)),
        )
        for stack in files.stack_numbers("truth")
    ]


def samples_of(
    image: Volume, truth: Volume, spacing_mm: float, muscles: tuple[bool, ...] = ALL_DRAWN
) -> list[Sample]:
    """Return the annotated slices of a stack on the network's grid.

    A slice without any label is not annotated and left out. muscles: which are annotated.
    """
    size = network_size(image.array.shape[1:], image.pixel_spacing_mm, spacing_mm)
    drawn = np.flatnonzero((truth.array != BACKGROUND).any(axis=(1, 2)))
    if not len(drawn):
        return []
    images = resampled(standardise(image.array)[drawn], size).astype(np.float16)  # half the memory
    truths = labels_on_network(truth.array[drawn], size)
    return [Sample(*pair, drawn=muscles) for pair in zip(images, truths, strict=True)]


def read_samples(
    folder: Path,
    subjects: Sequence[str],
    spacing_mm: float,
    finder: Predictor | None = None,
) -> tuple[list[Sample], list[str]]:
    """Return all annotated slices of the subjects, in order, and the subjects that lack a muscle.

    finder: segments muscles without annotation, as pseudo-labels (Lee 2013); without it they are
    background.
    """
    found, lacking = [], []
    for subject in subjects:
        stacks = stacks_with_truth(folder / subject)
        drawn = drawn_labels(truth.array for _, truth in stacks)
        if not drawn.all():
            lacking.append(subject)
        for image, truth in stacks:
            if finder is not None and not drawn.all():
                truth = completed(image, truth, drawn, finder)
            found += samples_of(image, truth, spacing_mm, tuple(drawn.tolist()))
    return found, lacking


def completed(image: Volume, truth: Volume, drawn: np.ndarray, finder: Predictor) -> Volume:
    """Return a truth whose background holds a model's prediction of the muscles not annotated.

    drawn: as of `drawn_labels`. Slices without any label stay empty.
    """
    labels, _ = cleaned(
        finder.stack_labels(image.array, image.pixel_spacing_mm, apart_mm=image.slice_spacing_mm)
    )
    labels[np.isin(labels, np.array(LABEL_VALUES)[drawn])] = BACKGROUND
    labels[(truth.array == BACKGROUND).all(axis=(1, 2))] = BACKGROUND
    return truth.with_array(np.where(truth.array == BACKGROUND, labels, truth.array))


@dataclass(frozen=True)
class SubjectSplit:
    """Names of the subjects to train on and of those to validate with, both sorted."""

    training: list[str]
    validation: list[str]


def split_by_subject(
    subjects: Sequence[str],
    validation_fraction: float,
    seed: int,
    learnt_from: Collection[str] = (),
) -> SubjectSplit:
    """Return a split of the subjects, by the order of a hash of seed and name.

    It is independent of the order of the sheet and hardly changes when a subject is added. A fraction
    above 0 leaves at least one subject on either side. learnt_from: subjects that the model to start
    from was trained on; none of them validates.
    """
    order = sorted(subjects, key=lambda subject: _hash(f"{seed}:{subject}"))
    count = round(len(order) * validation_fraction)
    if validation_fraction > 0:
        count = min(max(count, 1), len(order) - 1)
    new = [subject for subject in order if subject not in learnt_from]
    validation = set(new[:count])
    return SubjectSplit(sorted(set(order) - validation), sorted(validation))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def data_digest(folder: Path, subjects: Sequence[str]) -> str:
    """Return the SHA-256 over names and contents of every image and truth of the subjects."""
    return digest(
        [
            [files.home.name, kind, stack, file_sha256(files.stack_file(kind, stack))]
            for files in (SubjectFolder(folder / subject) for subject in subjects)
            for kind in ("image", "truth")
            for stack in files.stack_numbers(kind)
        ]
    )
