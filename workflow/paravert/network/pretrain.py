"""Rule pretrain_network: a model from synthetic slices alone, for real images of any contrast.

NEEDS two tables of draw_anatomies, one to train on and one of other people to validate with.
MAKES model.safetensors; beside it model.json (card), model.yaml (settings that choose it),
model.curve.csv and .png (learning curve), model.reliability.csv and .png (predicted against found
IoU) and, while it trains, model.checkpoint.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from paravert.errors import InputError
from paravert.imaging.label_maps import Overlap, slice_overlap
from paravert.network.calibration import (
    Calibration,
    calibration_error,
    fitted,
    reliability,
    told_error,
)
from paravert.network.card import model_card, publish, write_reliability
from paravert.network.fit import fit, mix, training_device
from paravert.network.predict import Predictor, Prepared
from paravert.network.randomised import Anatomies, seed_of
from paravert.network.settings import (
    OutModel,
    Settings,
    TrainingThreads,
    prepared,
    read_section,
    settings_help,
)
from paravert.network.synthetic import SyntheticSample, SyntheticSlices, held_out_samples
from paravert.network.unet import Model, save_model
from paravert.network.validate import by_muscle, quartiles
from paravert.provenance import digest, file_sha256
from paravert.steps import VERSIONS

log = logging.getLogger(__name__)

TRAINED_ON = "synthetic slices of phantom anatomy in randomised contrast; no image of a person"
SYNTHETIC_METHOD = (
    "on the network's grid, averaged over the mirror image, without neighbours, not cleaned"
)
# Slices to measure the progress by, of all validation people; to calibrate with, of every second
# person; and to report, of the others.
HELD_OUT, HELD_OUT_SEEDS = (128, 640, 640), (7, 8, 9)


def pretrain_network(
    anatomies: Annotated[Path, typer.Option(help="table of draw_anatomies to train on")],
    validation: Annotated[Path, typer.Option(help="table of draw_anatomies of another seed")],
    out: OutModel,
    settings: Annotated[str, typer.Option(help=settings_help("pretrain_network"))],
    threads: TrainingThreads = 0,
    workers: Annotated[int, typer.Option(help="processes that draw slices on a CPU")] = 1,
) -> None:
    """Train a network on synthetic slices alone."""
    section = read_section("pretrain_network", settings)
    if section["start_weight"] and not section["start_from"]:
        fault = f"{section['start_weight']} without start_from, expected both"
        raise InputError("start_weight", fault)
    loop, start, start_told = prepared(section)
    device = training_device(section["device"], threads)
    held_out = read_held_out(anatomies, validation, loop)
    told = {
        "anatomies_sha256": file_sha256(anatomies),
        "validation_sha256": file_sha256(validation),
        **start_told,
    }
    training = fit(
        loop,
        SyntheticSlices(anatomies, loop, device, section["batches"]),
        held_out.progress,
        device,
        out,
        made_of=digest([*told.values(), VERSIONS["pretrain_network"], section["batches"]]),
        start=start,
        workers=0 if device.type == "cuda" else workers,
    )
    told |= {
        "slices_drawn": training.steps * loop.batch_size,
        "steps_per_epoch": len(training.loader),
    }
    if start is not None:
        mix(training.network, start.network, section["start_weight"])
        told["start_weight"] = section["start_weight"]
    predictor = Predictor(Model(training.network.eval(), loop.spacing_mm), device, judging=True)
    judgement = judge_synthetic(predictor, held_out)
    save_model(out, Model(training.network, loop.spacing_mm, judgement.calibration))
    write_reliability(out.with_suffix(".reliability.csv"), judgement.reliability)
    card = model_card(
        section["name"],
        training,
        out,
        trained_on=TRAINED_ON,
        data=told | judgement.told,
        method=SYNTHETIC_METHOD,
        metrics=judgement.metrics,
    )
    publish(out, card, training.progress.curve)


@dataclass(frozen=True)
class HeldOut:
    """Slices of people who are not trained on.

    progress: to validate with after every epoch. calibrating, reporting: of different people.
    """

    progress: list[SyntheticSample]
    calibrating: list[SyntheticSample]
    reporting: list[SyntheticSample]


def read_held_out(anatomies: Path, validation: Path, settings: Settings) -> HeldOut:
    """Return the slices drawn from the validation table.

    Raises InputError if the table to train on shows the same people.
    """
    if (own := seed_of(validation)) == seed_of(anatomies):
        raise InputError(validation, f"seed {own} as in {anatomies}: the same people")
    even, odd = (lambda people: people % 2 == 0), (lambda people: people % 2 == 1)
    sources = [Anatomies(validation, keep) for keep in (None, even, odd)]
    return HeldOut(
        *(
            held_out_samples(source, settings, count, seed=seed)
            for source, count, seed in zip(sources, HELD_OUT, HELD_OUT_SEEDS, strict=True)
        )
    )


@dataclass(frozen=True)
class SyntheticJudgement:
    """How good a model is on held-out synthetic slices, and its calibration by others.

    metrics: `quartiles` of the IoU. reliability: rows of `calibration.reliability`. told: what the
    card tells.
    """

    calibration: Calibration
    metrics: dict
    reliability: np.ndarray
    told: dict[str, Any]


def judge_synthetic(predictor: Predictor, held_out: HeldOut) -> SyntheticJudgement:
    """Return how good a model is on some held-out slices, calibrated by the others."""
    expected, overlap = scored(predictor, held_out.calibrating)
    calibration = fitted(expected, overlap.iou)
    expected, overlap = scored(predictor, held_out.reporting)
    predicted, found = calibration.predicted(expected), overlap.iou
    told = {
        "validation_slices": len(held_out.reporting),
        "calibration_error": told_error(calibration_error(predicted, found)),
        "median_iou_by_sequence": _by_sequence(held_out.reporting, found),
    }
    rows = reliability(predicted, found)
    return SyntheticJudgement(calibration, quartiles(found), rows, told)


def scored(predictor: Predictor, samples: Sequence[SyntheticSample]) -> tuple[np.ndarray, Overlap]:
    """Return the expected IoU, (slices, 8), and the overlap found; slices have no neighbours."""
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
