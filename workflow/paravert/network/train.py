"""Rule train_network: a model trained or fine-tuned on the subjects with manual masks.

NEEDS the subject sheet, the shards' tables of convert_dicom, the subjects' image/ and truth/ stacks.
MAKES model.safetensors; with the same name .json (card), .yaml (configuration that selects the
model), .curve.csv and .curve.png (learning curve), .split.csv (training and validation subjects); while
it trains .checkpoint.
"""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import numpy as np
import torch
import typer

from paravert.anatomy import LABELS
from paravert.errors import InputError, some_of
from paravert.network.batches import Crops
from paravert.network.calibration import rounded_error
from paravert.network.card import model_card, publish
from paravert.network.fit import fit, training_device
from paravert.network.model_file import learnt_from, write_split
from paravert.network.predict import Predictor
from paravert.network.samples import (
    Sample,
    SubjectSplit,
    data_digest,
    quarantined_subjects,
    read_samples,
    split_by_subject,
    subjects_with_truth,
    subjects_without_labels,
)
from paravert.network.settings import (
    OutModel,
    TrainingThreads,
    read_section,
    settings_and_start,
    settings_help,
)
from paravert.network.unet import Model, load_model, save_model
from paravert.network.validate import METHOD, validate
from paravert.plan import shard_plan
from paravert.provenance import digest
from paravert.sheet import read_sheet, scan_of, selected_scans
from paravert.steps import STEPS, VERSIONS
from paravert.subject_folder import SubjectFolder

log = logging.getLogger(__name__)


def train_network(
    sheet: Annotated[Path, typer.Option(help="subject sheet")],
    shards: Annotated[Path, typer.Option(help="folder with a folder of tables per shard")],
    folder: Annotated[Path, typer.Option(help="folder with a folder per subject")],
    out: OutModel,
    settings: Annotated[str, typer.Option(help=settings_help("train_network"))],
    threads: TrainingThreads = 0,
    subjects_per_shard: Annotated[int, typer.Option(min=1, help="subjects in a shard")] = 64,
    subjects: Annotated[str, typer.Option(help="subjects at hand, comma-separated")] = "",
) -> None:
    """Train or fine-tune the U-Net on the subjects with manual masks.

    Shards are groups of subjects; their tables are those of convert_dicom. subjects: names of the
    subjects or scans of the sheet to take; "" takes all. Beside the model file it writes, with the same
    name: .json (card: describes model and training), .yaml (configuration that selects the model),
    .curve.csv and .curve.png (learning curve), .split.csv (training and validation subjects). A
    training that was stopped resumes from its .checkpoint. Raises InputError for faulty settings or a
    faulty sheet, for data that `read_data` refuses, for a .checkpoint that is damaged or of another
    training, and if the loss becomes infinite or NaN.
    """
    section = read_section("train_network", settings)
    loop, start, start_told = settings_and_start(section)
    device = training_device(section["device"], threads)
    rows = read_sheet(sheet).rows
    subject_of = {scan_of(row): row["subject"] for row in rows}
    by_shard = shard_plan(list(subject_of), subjects_per_shard, selected_scans(rows, subjects))
    convert = [STEPS["convert_dicom"].table_file(shards / shard) for shard in by_shard]
    data = read_data(convert, folder, section, loop.spacing_mm, device, subject_of)
    told = data.card_entries | start_told
    training = fit(
        loop,
        Crops(data.training, loop),
        data.validation,
        device,
        out,
        made_of=digest([told, asdict(data.split), VERSIONS["train_network"]]),
        start=start,
        workers=1 if device.type == "cuda" else 0,  # on processors, the training uses all cores
    )
    save_model(out, Model(training.network, loop.spacing_mm))
    begun = (Path(section["start_from"]), start.calibration) if start else None
    result = validate(out, folder, data.validation_scans, device, begun)
    save_model(out, Model(training.network, loop.spacing_mm, result.calibration))
    write_split(out, {*data.split.training, *data.earlier}, data.split.validation)
    card = model_card(
        section["name"],
        training,
        out,
        trained_on=section["trained_on"],
        data=told | {"calibration_error": rounded_error(result.calibration_error)},
        method=METHOD if result.metrics else None,
        metrics=result.metrics,
        start_metrics=result.start_metrics,
    )
    publish(out, card, training.progress.curve)


@dataclass(frozen=True)
class TrainingData:
    """Annotated slices for training and validation, and the split of the subjects.

    split: names of the training and validation subjects. validation_scans: per validation subject,
    in the order of split.validation, the names of its scans. earlier: names of the starting model's
    training subjects; empty without it or its list. training, validation: annotated slices of these
    subjects (`Sample`) on the network's grid. card_entries: for the card's entry "data":
    training_subjects, training_slices, validation_subjects, validation_slices (numbers), split (a
    sentence) and digest (`data_digest` of all annotated scans).
    """

    split: SubjectSplit
    validation_scans: list[list[str]]
    earlier: frozenset[str]
    training: list[Sample]
    validation: list[Sample]
    card_entries: dict[str, Any]


def read_data(
    convert: list[Path],
    folder: Path,
    section: dict[str, Any],
    spacing_mm: float,
    device: torch.device,
    subject_of: Mapping[str, str] = MappingProxyType({}),
) -> TrainingData:
    """Return the annotated slices of a cohort, split by subject into training and validation.

    convert: files of the shard tables of convert_dicom.
    folder: results/subjects, which contains a folder per scan.
    section: train_network of the configuration, from `read_section`; start_from,
        validation_fraction and seed are used.
    spacing_mm: pixel size (mm) of the network's grid.
    device: on which the starting model segments muscles without annotation.
    subject_of: {name of a scan: its subject}, where they differ; all scans of a subject are in one
        part.

    Raises InputError if a table is missing or damaged, if masks that were converted are gone, if fewer
    than two subjects have manual labels, if validation_fraction is above 0 and all of them were
    training subjects of the starting model, if that model or its list is faulty, or, without one, if a
    muscle of one side is in no mask to train on.
    """
    start_from, fraction = section["start_from"], section["validation_fraction"]
    scans: dict[str, list[str]] = {}
    for scan in _annotated_scans(convert, folder):
        scans.setdefault(subject_of.get(scan, scan), []).append(scan)
    if len(scans) < 2:
        fault = f"subjects with something drawn in their masks: {len(scans)}, expected at least 2"
        raise InputError("truth", fault)
    earlier = learnt_from(Path(start_from)) if start_from else frozenset()
    split = split_by_subject(list(scans), fraction, section["seed"], earlier)
    training_scans = [scan for subject in split.training for scan in scans[subject]]
    validation_scans = [scan for subject in split.validation for scan in scans[subject]]
    if fraction > 0 and not split.validation:
        raise InputError(
            start_from, "it was trained on every subject with truth: none is left to validate with"
        )
    finder = Predictor(load_model(Path(start_from), device), device) if start_from else None
    training, lacking = read_samples(folder, training_scans, spacing_mm, finder)
    if finder is None:
        _check_all_drawn(training)
    log.info("%d slices to train on, %s", len(training), some_of(training_scans))
    if lacking:
        handled = "the starting model's prediction is kept" if finder else "taken for background"
        log.warning("muscles without annotation, %s: %s", handled, some_of(lacking))
    validation, _ = read_samples(folder, validation_scans, spacing_mm)
    log.info("%d slices to validate with, %s", len(validation), some_of(validation_scans))
    told = {
        "training_subjects": len(split.training),
        "training_slices": len(training),
        "validation_subjects": len(split.validation),
        "validation_slices": len(validation),
        "split": "by subject; .split.csv names them where the model was trained",
        "digest": data_digest(folder, sorted(scan for own in scans.values() for scan in own)),
    }
    return TrainingData(
        split, [scans[name] for name in split.validation], earlier, training, validation, told
    )


def _check_all_drawn(training: list[Sample]) -> None:
    """Raise InputError if a muscle of one side is in no mask; the network would take it for absent."""
    drawn = np.any([sample.drawn for sample in training], axis=0)
    if lacking := [label.name for label, known in zip(LABELS, drawn, strict=True) if not known]:
        fault = f"no mask to train on contains the {', '.join(lacking)}"
        raise InputError("truth", f"{fault}; name a model that knows it in start_from")


def _annotated_scans(convert: list[Path], folder: Path) -> list[str]:
    """Return the names of the scans with a manual label, sorted; log those left out.

    Raises InputError if masks that were converted are gone.
    """
    if quarantined := quarantined_subjects(convert):
        log.warning("left out, quarantined: %s", some_of(quarantined))
    scans = subjects_with_truth(convert)
    if gone := [scan for scan in scans if not SubjectFolder(folder / scan).stack_numbers("truth")]:
        fault = f"the converted masks of {some_of(gone)} are gone"
        raise InputError(folder, f"{fault}; run again with --forcerun convert_dicom")
    if empty := subjects_without_labels(folder, scans):
        log.warning("left out, nothing is drawn in the masks: %s", some_of(empty))
        scans = sorted(set(scans) - set(empty))
    return scans
