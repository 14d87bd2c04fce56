"""Annotated slices for training and validation; a subject is here a scan, except in the split."""

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
    """One annotated slice on the network's pixel grid.

    image: NumPy float16 or float32 (rows, columns); its stack was standardised (mean 0, variance 1) and
    then resampled. truth: labels, manual or, with a finder in `read_samples`, completed by predicted
    ones, NumPy uint8 (rows, columns), 0-8. drawn: tuple of 8 bool, for each of anatomy.LABELS, in their
    order, whether any manual mask of the scan contains it; default: all.
    """

    image: np.ndarray
    truth: np.ndarray
    drawn: tuple[bool, ...] = field(default=ALL_DRAWN, kw_only=True)


def subjects_with_truth(convert: Sequence[Path]) -> list[str]:
    """Return the names of the converted scans with a manual mask, sorted.

    A name is that of the subject, or subject_visit in a sheet with visits. convert: files of the shard
    tables of convert_dicom. Quarantined scans are left out; a mask may be empty
    (`subjects_without_labels`). Raises InputError if a table is missing or damaged.
    """
    rows = [row for table in convert for row in shard_tables.read_shard_rows(table).to_pylist()]
    return sorted({row["subject"] for row in rows if row["has_truth"]})


def subjects_without_labels(folder: Path, subjects: Sequence[str]) -> list[str]:
    """Return those of the given subjects whose manual masks contain no label in any slice.

    In the order given. folder: results/subjects, which contains a folder per subject. subjects: names of
    subjects with a mask; one without any is returned, too.
    """
    return [
        files.home.name
        for files in (SubjectFolder(folder / subject) for subject in subjects)
        if not drawn_labels(
            read_volume(files.stack_file("truth", stack)).array
            for stack in files.stack_numbers("truth")
        ).any()
    ]


def quarantined_subjects(convert: Sequence[Path]) -> list[str]:
    """Return the subjects that could not be converted, as "name (reason)".

    convert: files of the shard tables of convert_dicom. reason: code, such as "mask-...". Subjects with a
    fault of their manual mask come first; both groups are sorted by name. Raises InputError if a table
    is missing or damaged.
    """
    outcomes = [one for table in convert for one in shard_tables.read_outcomes(table) if one.reason]
    outcomes.sort(key=lambda one: (not one.reason.startswith("mask-"), one.subject))
    return [f"{one.subject} ({one.reason})" for one in outcomes]


def stacks_with_truth(home: Path) -> list[tuple[Volume, Volume]]:
    """Return (image, manual mask) of those stacks of a subject that have a mask, ordered by stack number.

    home: the subject's folder below results/subjects/, with the folders image and truth of convert_dicom.
    Mask: labels 0-8 on the image's grid, (slices, rows, columns). [] if there is no mask.
    """
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
    """Return the annotated slices of a stack on the network's pixel grid, in order; images in float16.

    image: the stack, of any intensity scale; it is standardised as a whole, then resampled. truth:
    manual mask, labels 0-8, uint8 on the image's grid. Slices without any label count as not
    annotated and are omitted. spacing_mm: pixel size (mm) of the network's grid. muscles: for each
    of anatomy.LABELS, in their order, whether any mask of the subject contains it.
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
    """Return the annotated slices of subjects, and the names of those whose masks lack a muscle.

    Slices: in the order of `subjects`, then by stack and slice, from `samples_of`. A subject lacks
    a muscle if one of the 8 labels is in none of its masks; Sample.drawn tells which. folder:
    contains a folder per subject (results/subjects). subjects: names. spacing_mm: pixel size (mm)
    of the network's grid. finder: the starting model; it segments the lacking muscles in the slices
    with a manual label, as pseudo-labels (Lee 2013). None: they are background.
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
    """Return a manual mask with predicted labels added for muscles that no mask of the subject contains.

    image: a stack, of any intensity scale. truth: its manual mask, uint8, labels 0-8. drawn: bool (8,),
    whether any mask of the subject contains the label; entry k is of label k + 1 (anatomy.LABELS).
    finder: predicts the others; they are cleaned (`cleaned`) and added where the mask is background, in
    slices with at least one manual label. Returns a new volume of uint8 on the same grid.
    """
    apart_mm = image.slice_spacing_mm
    found = finder.stack_labels(image.array, image.pixel_spacing_mm, apart_mm=apart_mm)
    labels, _ = cleaned(found, apart_mm=apart_mm)
    labels[np.isin(labels, np.array(LABEL_VALUES)[drawn])] = BACKGROUND
    labels[(truth.array == BACKGROUND).all(axis=(1, 2))] = BACKGROUND
    return truth.with_array(np.where(truth.array == BACKGROUND, labels, truth.array))


@dataclass(frozen=True)
class SubjectSplit:
    """Names of the training and the validation subjects, each sorted; no subject is in both.

    training: subjects whose slices the network is trained on. validation: subjects whose slices
    measure its accuracy.
    """

    training: list[str]
    validation: list[str]


def split_by_subject(
    subjects: Sequence[str],
    validation_fraction: float,
    seed: int,
    learnt_from: Collection[str] = (),
) -> SubjectSplit:
    """Return a random split of subjects into training and validation.

    subjects: names, each once, in any order. They are sorted by a hash of seed and name, so that
    one more subject hardly changes the split. validation_fraction: 0-1; this share of the subjects,
    rounded, is for validation, if above 0 at least one; but one at least is for training. seed: of
    the split. learnt_from: names of training subjects of the starting model, never used for
    validation: the validation part has fewer subjects, or none, if too few others are left.
    """

    def place(subject: str) -> str:
        return hashlib.sha256(f"{seed}:{subject}".encode()).hexdigest()

    order = sorted(subjects, key=place)
    count = round(len(order) * validation_fraction)
    if validation_fraction > 0:
        count = min(max(count, 1), len(order) - 1)
    new = [subject for subject in order if subject not in learnt_from]
    validation = set(new[:count])
    return SubjectSplit(sorted(set(order) - validation), sorted(validation))


def data_digest(folder: Path, subjects: Sequence[str]) -> str:
    """Return the SHA-256 (hex) over the names, converted images and manual masks of subjects.

    folder: contains a folder per subject (results/subjects). subjects: names, in any order, which does not
    matter. Masks of a second rater and Dixon water and fat images do not enter, except a fat image that is
    itself the converted image. A subject without files adds nothing.
    """
    return digest(
        [
            [files.home.name, kind, stack, file_sha256(files.stack_file(kind, stack))]
            for files in (SubjectFolder(folder / subject) for subject in sorted(subjects))
            for kind in ("image", "truth")
            for stack in files.stack_numbers(kind)
        ]
    )
