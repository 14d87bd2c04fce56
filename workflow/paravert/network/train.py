"""Rule train_network: a model from the subjects that have manual masks.

NEEDS shard tables of convert_dicom and the subjects' image/ and truth/ stacks.
MAKES model.safetensors; beside it model.json (card), model.yaml (settings that choose it),
model.curve.csv and .png (learning curve), model.split.csv (who was trained on, who validated with)
and, while it trains, model.checkpoint.
"""

import logging
from pathlib import Path
from typing import Annotated

import torch
import typer

from paravert.errors import InputError, some_of
from paravert.network import options
from paravert.network.batches import Crops
from paravert.network.calibration import NONE, error_among_subjects, told_error
from paravert.network.card import model_card, write_card, write_configuration, write_curve
from paravert.network.device import chosen_device, describe, exact_float32
from paravert.network.fit import Training
from paravert.network.model import Model, load_model, save_model
from paravert.network.predict import Predictor
from paravert.network.samples import (
    Sample,
    data_digest,
    left_out,
    nothing_drawn,
    read_samples,
    subjects_with_truth,
)
from paravert.network.settings import checked_settings
from paravert.network.split import Split, learnt_from, split_by_subject, write_split
from paravert.network.start import started_from
from paravert.network.validate import JUDGED, calibrated, metrics_of, tell_metrics, validated
from paravert.provenance import digest, file_sha256
from paravert.steps import VERSIONS

log = logging.getLogger(__name__)


def train_network(
    convert: Annotated[list[Path], typer.Option(help="shard table of convert_dicom; repeatable")],
    folder: Annotated[Path, typer.Option(help="folder with a folder per subject")],
    out: options.OutModel,
    name: options.Name = "paravert",
    trained_on: Annotated[str, typer.Option(help="what the images are, for the card")] = "",
    start_from: options.StartFrom = "",
    width: options.Width = 64,
    levels: options.Levels = 6,
    normalisation: options.Normalisation = "none",
    dropout: Annotated[float, typer.Option(help="dropout in the encoder")] = 0.03,
    size_px: Annotated[int, typer.Option(help="side of the training crops")] = 256,
    spacing_mm: options.SpacingMm = 1.0,
    loss: options.Loss = "iou",
    finish_with_iou_fraction: options.FinishWithIou = 0.0,
    learning_rate: options.LearningRate = 0.001,
    batch_size: options.BatchSize = 16,
    epochs: Annotated[int, typer.Option(help="passes over the training slices")] = 100,
    minutes: options.Minutes = 0.0,
    validation_fraction: Annotated[float, typer.Option(help="share of subjects kept out")] = 0.2,
    seed: Annotated[int, typer.Option(help="of split, weights, order and variation")] = 1,
    device: options.Device = "auto",
    threads: options.AllThreads = 0,
) -> None:
    """Train the paper's U-Net on the subjects that have manual masks."""
    start, architecture, spacing_mm, start_told = started_from(
        start_from, (width, levels, normalisation, dropout), spacing_mm
    )
    settings = checked_settings(
        architecture=architecture,
        size_px=size_px,
        spacing_mm=spacing_mm,
        loss=loss,
        finish_with_iou_fraction=finish_with_iou_fraction,
        learning_rate=learning_rate,
        batch_size=batch_size,
        epochs=epochs,
        minutes=minutes,
        validation_fraction=validation_fraction,
        seed=seed,
    )
    if threads:
        torch.set_num_threads(threads)
    exact_float32()
    processor = chosen_device(device)
    log.info("train_network: %s, seed %d", describe(processor), seed)
    if quarantined := left_out(convert):
        log.warning("train_network: left out, quarantined: %s", some_of(quarantined))
    subjects = subjects_with_truth(convert)
    if empty := nothing_drawn(folder, subjects):
        log.warning("train_network: left out, nothing is drawn in the masks: %s", some_of(empty))
        subjects = sorted(set(subjects) - set(empty))
    if len(subjects) < 2:
        fault = (
            f"subjects with something drawn in their masks: {len(subjects)}, expected at least 2"
        )
        raise InputError("truth", fault)
    known = learnt_from(Path(start_from)) if start_from else frozenset()
    split = split_by_subject(subjects, validation_fraction, seed, known)
    if validation_fraction > 0 and not split.validation:
        raise InputError(
            start_from, "it was trained on every subject with truth: none is left to judge"
        )
    training, validation = _samples(folder, split, spacing_mm, start_from, processor)
    data = _data_told(split, (training, validation), data_digest(folder, subjects)) | start_told
    made_of = digest([data, VERSIONS["train_network"]])
    source = Crops(training, settings)
    run = Training(settings, source, validation, processor, trained_on=made_of, start=start)
    out.parent.mkdir(parents=True, exist_ok=True)
    checkpoint = out.with_suffix(".checkpoint")
    run.run(checkpoint)
    save_model(out, Model(run.network, spacing_mm))
    pairs = validated(out, folder, split.validation, processor)
    before = start.calibration if start else NONE
    calibration = calibrated(pairs, before)
    save_model(out, Model(run.network, spacing_mm, calibration))
    error = error_among_subjects(pairs, calibration, before)
    metrics = metrics_of(pairs)
    start_metrics = None
    if start:
        start_metrics = metrics_of(validated(Path(start_from), folder, split.validation, processor))
    tell_metrics(metrics, start_metrics)
    card = model_card(
        name,
        settings,
        trained_on=trained_on,
        data=data | {"calibration_error": told_error(error)},
        judged=JUDGED if pairs else None,
        sha256=file_sha256(out),
        device=describe(processor),
        progress=run.progress,
        metrics=metrics,
        start_metrics=start_metrics,
    )
    write_card(out.with_suffix(".json"), card)
    write_configuration(out.with_suffix(".yaml"), out, card["weights_sha256"])
    write_curve(out.with_suffix(".curve.csv"), run.progress.curve)
    write_split(out, split, known)
    checkpoint.unlink()
    log.info("train_network: %s written, SHA-256 %s", out.name, card["weights_sha256"])


def _samples(
    folder: Path, split: Split, spacing_mm: float, start_from: str, device: torch.device
) -> tuple[list[Sample], list[Sample]]:
    """Return the slices to learn from and those to watch the progress by."""
    if start_from:
        finder = Predictor(load_model(Path(start_from), device), device)
        undrawn = "are left where the model that is started from finds them"
    else:
        finder, undrawn = None, "count as absent"
    training, lacking = read_samples(folder, split.training, spacing_mm, finder)
    log.info("train_network: %d slices to learn from, %s", len(training), some_of(split.training))
    if lacking:
        log.warning("train_network: muscles that these lack %s: %s", undrawn, some_of(lacking))
    validation, _ = read_samples(folder, split.validation, spacing_mm)
    log.info("train_network: %d slices to judge by, %s", len(validation), some_of(split.validation))
    return training, validation


def _data_told(split: Split, samples: tuple, made_of: str) -> dict:
    training_slices, validation_slices = samples
    return {
        "training_subjects": len(split.training),
        "training_slices": len(training_slices),
        "validation_subjects": len(split.validation),
        "validation_slices": len(validation_slices),
        "split": "by subject; .split.csv names them where the model was trained",
        "digest": made_of,
    }
