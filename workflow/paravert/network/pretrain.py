"""Rule pretrain_network: a model trained on synthetic slices alone, for real images of any contrast.

NEEDS two tables of draw_anatomies, one for training and one of other synthetic people for validation.
MAKES model.safetensors; with the same name .json (card), .yaml (configuration that selects the model),
.curve.csv and .curve.png (learning curve), .reliability.csv and .reliability.png (predicted and
measured IoU), .split.csv (training and validation subjects) if the starting model has one; while it
trains .checkpoint.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from paravert.errors import InputError
from paravert.imaging.label_maps import Overlap, slice_overlap
from paravert.network.batches import SyntheticSample, SyntheticSlices, held_out_samples
from paravert.network.calibration import (
    Calibration,
    calibration_curve,
    calibration_error,
    fitted_calibration,
    rounded_error,
)
from paravert.network.card import model_card, publish, write_card, write_reliability
from paravert.network.fit import fit, mix_weights, training_device
from paravert.network.model_file import card_file, copy_split, read_card
from paravert.network.predict import Predictor, Prepared
from paravert.network.randomised import Anatomies, seed_of
from paravert.network.settings import (
    OutModel,
    TrainingThreads,
    read_section,
    settings_and_start,
    settings_help,
)
from paravert.network.unet import Model, load_model, save_model
from paravert.network.validate import by_muscle, quartiles
from paravert.provenance import digest, file_sha256
from paravert.steps import VERSIONS

log = logging.getLogger(__name__)

SYNTHETIC = "synthetic slices of phantom anatomy in randomised contrast"
TRAINED_ON = f"{SYNTHETIC}; no image of a person"
SYNTHETIC_METHOD = (
    "on the network's grid, averaged over the mirror image, without neighbours, not cleaned"
)
# Numbers and seeds of validation slices: for the learning curve (of all validation people), for the
# calibration (of the people with even numbers), for the card (of those with odd numbers).
HELD_OUT, HELD_OUT_SEEDS = (128, 640, 640), (7, 8, 9)


def pretrain_network(
    anatomies: Annotated[Path, typer.Option(help="table of draw_anatomies to train on")],
    validation: Annotated[Path, typer.Option(help="table of draw_anatomies of another seed")],
    out: OutModel,
    settings: Annotated[str, typer.Option(help=settings_help("pretrain_network"))],
    threads: TrainingThreads = 0,
    workers: Annotated[
        int, typer.Option(min=0, help="processes that draw slices; 0: this one")
    ] = 1,
) -> None:
    """Train a network on synthetic slices alone; write the model, its card and curves.

    Beside the model file it writes, with the same name: .json (card: describes model and training),
    .yaml (configuration that selects the model), .curve.csv and .curve.png (learning curve),
    .reliability.csv and .reliability.png (predicted and measured IoU), .split.csv (training and
    validation subjects) if the starting model has one. A training that was stopped resumes from its
    .checkpoint. Raises InputError for faulty settings, for tables that are not of draw_anatomies or show
    the same people, for a .checkpoint that is damaged or of another training, and if the loss becomes
    infinite or NaN.
    """
    section = read_section("pretrain_network", settings)
    if section["start_weight"] and not section["start_from"]:
        fault = f"{section['start_weight']} without start_from, expected both"
        raise InputError("start_weight", fault)
    loop, start, start_told = settings_and_start(section)
    device = training_device(section["device"], threads)
    if (seed := seed_of(validation)) == seed_of(anatomies):
        raise InputError(validation, f"seed {seed} as in {anatomies}: the same people")
    held_out = read_held_out(validation, loop.size_px, loop.spacing_mm)
    trained_on = _trained_on(section["start_from"])  # tells a faulty card before the training
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
        workers=workers,
    )
    told |= {
        "slices_drawn": training.steps * loop.batch_size,
        "steps_per_epoch": len(training.loader),
    }
    if start is not None:
        mix_weights(training.network, start.network, section["start_weight"])
        told["start_weight"] = section["start_weight"]
    network = training.network.eval()
    result = save_calibrated(out, Model(network, loop.spacing_mm), device, held_out)
    card = model_card(
        section["name"],
        training,
        out,
        trained_on=trained_on,
        data=told | result.card_entries,
        method=SYNTHETIC_METHOD,
        metrics=result.metrics,
    )
    publish(out, card, training.progress.curve)
    copy_split(Path(section["start_from"]) if section["start_from"] else None, out)


def _trained_on(start_from: str) -> str:
    """Return what the card says about training images; start_from: the starting model's file or ""."""
    before = TRAINED_ON
    if start_from:
        there = card_file(Path(start_from)).is_file()
        before = read_card(Path(start_from)).trained_on if there else ""
    if before == TRAINED_ON:
        return TRAINED_ON
    return f"{SYNTHETIC}; the starting model on {before or 'images that are not told'}"


def calibrate_network(
    model: Annotated[Path, typer.Option(help="model file (.safetensors), with its card beside it")],
    validation: Annotated[Path, typer.Option(help="table of draw_anatomies of other people")],
    out: OutModel,
    threads: TrainingThreads = 0,
) -> None:
    """Calibrate a model's predicted IoU anew on synthetic slices; write model and card.

    It is the last step of pretrain_network, applied to a model that exists, such as one that was
    trained on other slices. The new files stand beside --out, with its name: .json (the card, with the
    new accuracy), .yaml (configuration that selects the model), .reliability.csv and .reliability.png.
    The weights stay the same; the list of training subjects (.split.csv), if there is one, is copied.
    --out may be the model itself. Raises InputError if the model or its card is missing or faulty, if
    --validation is not a table of draw_anatomies, or if the card says that the model was trained on it.
    """
    size_px = read_card(model).size_px
    card = json.loads(card_file(model).read_text(encoding="utf-8"))
    seed_of(validation)  # refuses other files
    if file_sha256(validation) == card.get("data", {}).get("anatomies_sha256"):
        raise InputError(validation, f"{model.name} was trained on these people, expected others")
    device = training_device("cpu", threads)
    loaded = load_model(model, device)
    held_out = read_held_out(validation, size_px, loaded.spacing_mm)
    result = save_calibrated(out, loaded, device, held_out)
    data = {**card.get("data", {}), "validation_sha256": file_sha256(validation)}
    data.pop("validation_subjects", None)
    card |= {
        "weights_sha256": file_sha256(out),
        "data": data | result.card_entries,
        "validation_iou": result.metrics,
        "validation_iou_of_start": None,
        "validation_labels": SYNTHETIC_METHOD,
    }
    write_card(out, card)
    copy_split(model, out)


def save_calibrated(
    out: Path, model: Model, device: torch.device, held_out: "HeldOut"
) -> "SyntheticValidation":
    """Calibrate a model on synthetic slices; write the model file and its reliability diagram.

    out: the model file to write; the diagram lies beside it, as own.reliability.csv and
    own.reliability.png beside own.safetensors. model: the network, on the device, in evaluation mode;
    its own calibration is neither used nor changed in this object. device: that computes. held_out:
    validation slices. Returns the new calibration, fitted to held_out.calibrating, and the accuracy on
    held_out.reporting.
    """
    predictor = Predictor(Model(model.network, model.spacing_mm), device, with_expected_iou=True)
    result = validate_synthetic(predictor, held_out)
    save_model(out, Model(model.network, model.spacing_mm, result.calibration))
    write_reliability(out.with_suffix(".reliability.csv"), result.reliability)
    return result


@dataclass(frozen=True)
class HeldOut:
    """Synthetic validation slices, of synthetic people who do not occur in the training.

    Lists of `SyntheticSample`. progress: slices whose IoU is measured after every epoch, drawn from
    all these people. calibrating: slices that the calibration is fitted to. reporting: slices whose
    IoU the model's card states, of other people than calibrating.
    """

    progress: list[SyntheticSample]
    calibrating: list[SyntheticSample]
    reporting: list[SyntheticSample]


def read_held_out(validation: Path, size_px: int, spacing_mm: float) -> HeldOut:
    """Return the synthetic validation slices in three groups: for progress, calibration and the card.

    At most 128, 640 and 640 slices, the same for the same arguments. The IoU of the first is
    measured after every epoch, the calibration is fitted to the second (people with even numbers),
    the accuracy on the third (odd numbers) is stated on the model's card. validation: table
    (.parquet) of the command draw_anatomies, of people who do not occur in the training; this is
    not checked here. size_px: rows, equal to columns, of the slices. spacing_mm: their pixel size.
    Raises InputError if the file is not such a table, or a group has no slice with a muscle (with
    one person, the third has none).
    """
    even, odd = (lambda people: people % 2 == 0), (lambda people: people % 2 == 1)
    sources = [Anatomies(validation, keep) for keep in (None, even, odd)]
    return HeldOut(
        *(
            held_out_samples(source, count, size_px=size_px, spacing_mm=spacing_mm, seed=seed)
            for source, count, seed in zip(sources, HELD_OUT, HELD_OUT_SEEDS, strict=True)
        )
    )


@dataclass(frozen=True)
class SyntheticValidation:
    """Accuracy of a model on synthetic validation slices, and the calibration fitted to other ones.

    calibration: per muscle a curve from the IoU estimated from the network's probabilities to the
    predicted IoU. metrics: measured IoU, {label name: {"median_iou", "lower_quartile",
    "upper_quartile", "slices"}}, from `quartiles`. reliability: float (bins, 3), from
    `calibration_curve`: mean predicted IoU, mean measured IoU, number of pairs of muscle and slice.
    card_entries: for the card's entry "data": validation_slices (number), calibration_error (0-1, None:
    not known) and median_iou_by_sequence ({sequence: {muscle: IoU}}, sides pooled, None: not known).
    """

    calibration: Calibration
    metrics: dict
    reliability: np.ndarray
    card_entries: dict[str, Any]


def validate_synthetic(predictor: Predictor, held_out: HeldOut) -> SyntheticValidation:
    """Return the calibration of a model's predicted IoU, and its accuracy, on different synthetic slices.

    predictor: the model; must compute the expected IoU (estimated from the probabilities; option
    with_expected_iou). Its own calibration is not used. held_out: validation slices; the calibration is
    fitted to those in calibrating, the accuracy measured on those in reporting.
    """
    expected, overlap = scored(predictor, held_out.calibrating)
    calibration = fitted_calibration(expected, overlap.iou)
    expected, overlap = scored(predictor, held_out.reporting)
    predicted, found = calibration.predicted(expected), overlap.iou
    told = {
        "validation_slices": len(held_out.reporting),
        "calibration_error": rounded_error(calibration_error(predicted, found)),
        "median_iou_by_sequence": _by_sequence(held_out.reporting, found),
    }
    rows = calibration_curve(predicted, found)
    return SyntheticValidation(calibration, quartiles(found), rows, told)


def scored(predictor: Predictor, samples: Sequence[SyntheticSample]) -> tuple[np.ndarray, Overlap]:
    """Return the expected IoU, float32 (slices, 8), and the measured overlap of synthetic slices.

    Expected: estimated from the probabilities, not calibrated; NaN or 0 for a muscle that the network
    labels in no pixel (`Predicted`). Overlap: IoU, Dice and pixel numbers, also (slices, 8). Column k
    of all belongs to label k + 1 (anatomy.LABELS). predictor: the model; must compute the expected IoU
    (option with_expected_iou), otherwise this is NaN. samples: slices of one size on the network's
    grid, at least one, with rows and columns that are multiples of the architecture's stride. They are
    segmented here, without averaging over adjacent slices, and not cleaned.
    """
    images = np.stack([sample.image for sample in samples])
    truth = np.stack([sample.truth for sample in samples])
    made = predictor.predicted(Prepared(images, truth.shape[1:], truth.shape[1:]))
    return made.expected_iou, slice_overlap(made.labels, truth)


def _by_sequence(samples: list[SyntheticSample], found: np.ndarray) -> dict[str, dict]:
    """Return the median IoU by sequence and muscle, {sequence: {muscle: IoU}}, left and right pooled.

    found: IoU of the samples, (slices, 8).
    """
    sequences = np.array([sample.sequence for sample in samples])
    return {
        str(name): {
            muscle: own["median_iou"] for muscle, own in by_muscle(found[sequences == name]).items()
        }
        for name in np.unique(sequences)
    }
