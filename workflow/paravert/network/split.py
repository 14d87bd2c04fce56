"""The split of subjects into training and validation, and the file beside a model that keeps it."""

import csv
import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from paravert.errors import InputError
from paravert.provenance import file_sha256

SPLIT_COLUMNS = ["subject", "part"]
TRAINING, VALIDATION = "training", "validation"


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


def split_file(model: Path) -> Path:
    """Return the file beside a model that keeps its split."""
    return model.with_suffix(".split.csv")


def split_digest(model: Path) -> str:
    """Return the SHA-256 of the file that keeps a model's split, or "" where it has none."""
    file = split_file(model)
    return file_sha256(file) if file.is_file() else ""


def write_split(model: Path, split: SubjectSplit, learnt_from: Collection[str] = ()) -> None:
    """Write a model's split; learnt_from: as for `split_by_subject`, also subjects of other studies."""
    training = sorted({*split.training, *learnt_from})
    with split_file(model).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(SPLIT_COLUMNS)
        writer.writerows([subject, TRAINING] for subject in training)
        writer.writerows([subject, VALIDATION] for subject in split.validation)


def learnt_from(model: Path) -> frozenset[str]:
    """Return the subjects that a model was trained on; empty if it has no split file.

    Raises InputError for a file that is no split.
    """
    path = split_file(model)
    if not path.is_file():
        return frozenset()
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = [line for line in csv.reader(file, strict=True) if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(path, f"no CSV ({error}), expected columns {SPLIT_COLUMNS}") from None
    header = lines[0] if lines else []
    if header != SPLIT_COLUMNS or any(len(line) != len(SPLIT_COLUMNS) for line in lines):
        raise InputError(path, f"columns {header}, expected {SPLIT_COLUMNS} in every line")
    return frozenset(subject for subject, part in lines if part == TRAINING)
