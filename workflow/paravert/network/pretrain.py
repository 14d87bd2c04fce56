"""Rule pretrain_network: a model from synthetic slices alone, for real images of any contrast.

NEEDS two tables of draw_anatomies, one to train on and one of other people to validate with.
MAKES model.safetensors; beside it model.json (card), model.yaml (settings that choose it),
model.curve.csv and .png (learning curve), model.reliability.csv and .png (predicted against found
IoU) and, while it trains, model.checkpoint.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from paravert.errors import InputError
from paravert.imaging.label_maps import Overlap, slice_overlap
from paravert.network import options
from paravert.network.calibration import calibration_error, fitted, reliability, told_error
from paravert.network.card import (
    model_card,
    write_card,
    write_configuration,
    write_curve,
    write_reliability,
)
from paravert.network.device import chosen_device, describe, exact_float32
from paravert.network.fit import Training
from paravert.network.model import Model, save_model
from paravert.network.predict import Predictor, Prepared
from paravert.network.quartiles import by_muscle, quartiles
from paravert.network.randomised.slices import Anatomies, seed_of
from paravert.network.settings import checked_settings
from paravert.network.start import mix, started_from
from paravert.network.synthetic import SyntheticSample, SyntheticSlices, held_out_samples
from paravert.provenance import digest, file_sha256
from paravert.steps import VERSIONS

log = logging.getLogger(__name__)

TRAINED_ON = "synthetic slices of phantom anatomy in randomised contrast; no image of a person"
JUDGED = "on the network's grid, mirror image with a say, no neighbours, not cleaned"
# Slices to watch the progress by, of everybody; to calibrate with, of every second person; and to
# judge by, of the others.
HELD_OUT, HELD_OUT_SEEDS = (128, 640, 640), (7, 8, 9)


def pretrain_network(
    anatomies: Annotated[Path, typer.Option(help="table of draw_anatomies to train on")],
    validation: Annotated[Path, typer.Option(help="table of draw_anatomies of another seed")],
    out: options.OutModel,
    name: options.Name = "synthetic",
    width: options.Width = 16,
    levels: options.Levels = 6,
    normalisation: options.Normalisation = "none",
    size_px: Annotated[int, typer.Option(help="side of the training slices")] = 192,
    spacing_mm: options.SpacingMm = 1.2,
    loss: options.Loss = "cross_entropy_iou",
    finish_with_iou_fraction: options.FinishWithIou = 0.2,
    learning_rate: options.LearningRate = 0.001,
    average: Annotated[float, typer.Option(help="share of the mean weights a step keeps")] = 0.999,
    batch_size: options.BatchSize = 8,
    batches: Annotated[int, typer.Option(help="steps of an epoch")] = 400,
    epochs: Annotated[int, typer.Option(help="epochs")] = 100,
    minutes: options.Minutes = 0.0,
    seed: Annotated[int, typer.Option(help="of weights and of all that is drawn")] = 1,
    device: options.Device = "auto",
    threads: options.AllThreads = 0,
    workers: Annotated[int, typer.Option(help="processes that draw slices on a CPU")] = 1,
    start_from: options.StartFrom = "",
    start_weight: Annotated[
        float, typer.Option(min=0, max=1, help="share of the weights it started from that is kept")
    ] = 0.0,
) -> None:
    """Train a network on synthetic slices alone."""
    if start_weight and not start_from:
        raise InputError("start_weight", f"{start_weight} without start_from, expected both")
    start, architecture, spacing_mm, start_told = started_from(
        start_from, (width, levels, normalisation, 0.0), spacing_mm
    )
    settings = checked_settings(
        architecture=architecture,
        size_px=size_px,
        spacing_mm=spacing_mm,
        loss=loss,
        finish_with_iou_fraction=finish_with_iou_fraction,
        learning_rate=learning_rate,
        average=average,
        batch_size=batch_size,
        epochs=epochs,
        minutes=minutes,
        validation_fraction=0.0,
        seed=seed,
    )
    if threads:
        torch.set_num_threads(threads)
    exact_float32()
    processor = chosen_device(device)
    log.info("pretrain_network: %s, seed %d", describe(processor), seed)
    if (own := seed_of(validation)) == seed_of(anatomies):
        raise InputError(validation, f"seed {own} as in {anatomies}: the same people")
    even, odd = (lambda people: people % 2 == 0), (lambda people: people % 2 == 1)
    others = [Anatomies(validation, keep) for keep in (None, even, odd)]
    watched, calibrating, judging = (
        held_out_samples(source, settings, count, seed=own)
        for source, count, own in zip(others, HELD_OUT, HELD_OUT_SEEDS, strict=True)
    )
    data = {
        "anatomies_sha256": file_sha256(anatomies),
        "validation_sha256": file_sha256(validation),
        **start_told,
    }
    made_of = [*data.values(), VERSIONS["pretrain_network"], batches]
    out.parent.mkdir(parents=True, exist_ok=True)
    checkpoint = out.with_suffix(".checkpoint")
    with SyntheticSlices(anatomies, settings, processor, batches, workers) as source:
        run = Training(
            settings, source, watched, processor, trained_on=digest(made_of), start=start
        )
        run.run(checkpoint)
    if start is not None:
        mix(run.network, start.network, start_weight)
        data["start_weight"] = start_weight
    predictor = Predictor(Model(run.network.eval(), spacing_mm), processor, judging=True)
    expected, overlap = judged(predictor, calibrating)
    calibration = fitted(expected, overlap.iou)
    save_model(out, Model(run.network, spacing_mm, calibration))
    expected, overlap = judged(predictor, judging)
    predicted, found = calibration.predicted(expected), overlap.iou
    write_reliability(out.with_suffix(".reliability.csv"), reliability(predicted, found))
    error = calibration_error(predicted, found)
    card = model_card(
        name,
        settings,
        trained_on=TRAINED_ON,
        data={
            **data,
            "slices_drawn": run.steps * batch_size,
            "steps_per_epoch": batches,
            "validation_slices": len(judging),
            "calibration_error": told_error(error),
            "median_iou_by_sequence": _by_sequence(judging, found),
        },
        judged=JUDGED,
        sha256=file_sha256(out),
        device=describe(processor),
        progress=run.progress,
        metrics=quartiles(found),
    )
    write_card(out.with_suffix(".json"), card)
    write_configuration(out.with_suffix(".yaml"), out, card["weights_sha256"])
    write_curve(out.with_suffix(".curve.csv"), run.progress.curve)
    checkpoint.unlink()
    log.info("pretrain_network: %s written, SHA-256 %s", out.name, card["weights_sha256"])


def judged(predictor: Predictor, samples: Sequence[SyntheticSample]) -> tuple[np.ndarray, Overlap]:
    """Return the expected IoU, (slices, 8), and the overlap found, of slices that have no neighbours."""
    images = np.stack([sample.image for sample in samples])
    truth = np.stack([sample.truth for sample in samples])
    made = predictor.whole(Prepared(images, truth.shape[1:], truth.shape[1:]))
    return made.expected_iou, slice_overlap(made.labels, truth)


def _by_sequence(samples: list[SyntheticSample], found: np.ndarray) -> dict[str, dict]:
    """Return the median IoU per muscle, both sides together, in the slices of each sequence."""
    sequences = np.array([sample.sequence for sample in samples])
    return {
        str(name): {
            muscle: own["median_iou"] for muscle, own in by_muscle(found[sequences == name]).items()
        }
        for name in np.unique(sequences)
    }
