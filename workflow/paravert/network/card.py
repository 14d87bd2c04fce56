"""Writes the files beside a model: card, configuration, learning curve, reliability diagram."""

import csv
import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import yaml
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from paravert import __version__
from paravert.network.fit import Training, checkpoint_file, device_text
from paravert.network.settings import Settings
from paravert.provenance import file_sha256

log = logging.getLogger(__name__)

NOTE = "Not a medical device: for research, never for the care of a patient."
PAPER_LOSS = "1 - mean soft IoU over the batch (Niemeyer 2021, eq. 4)"
LOSSES_TOLD = {
    "iou": PAPER_LOSS,
    "cross_entropy_iou": f"cross-entropy + {PAPER_LOSS}",
}


def model_card(
    name: str,
    training: Training,
    model: Path,
    *,
    trained_on: str,
    data: dict,
    method: str | None,
    metrics: dict | None,
    start_metrics: dict | None = None,
) -> dict:
    """Return the card of a model file: a dict, to be written as JSON, that describes model and training.

    name: of the model, free text for the card.
    training: finished; its settings, epochs, seconds and device are stated.
    model: the model file, whose SHA-256 is stated.
    trained_on: description of the training images, free text.
    data: about the training and validation data, such as numbers of subjects and slices; becomes the
        card's entry "data" as it is, so all values must fit into JSON.
    method: sentence on how the validation slices were segmented; None without validation.
    metrics: IoU of the validation slices, {label name: {"median_iou", "lower_quartile",
        "upper_quartile", "slices"}}, from `validate.quartiles`; None without validation.
    start_metrics: the same for the starting model; None if it was not measured.
    """
    return {
        "name": name,
        "note": NOTE,
        "trained_on": trained_on,
        "weights_sha256": file_sha256(model),
        "software": f"paravert {__version__}",
        "loss": _loss_told(training.settings),
        "settings": asdict(training.settings),
        "data": data,
        "epochs_done": training.progress.epoch,
        "seconds": round(training.progress.seconds),
        "device": device_text(training.device),
        "learning_curve": "files .curve.csv and .curve.png beside the model",
        "validation_iou": metrics,
        "validation_iou_of_start": start_metrics,
        "validation_labels": method,
    }


def publish(out: Path, card: dict, curve: Sequence[dict]) -> None:
    """Write the files of a finished training beside its model file, and delete its checkpoint.

    Their paths are that of the model file with other suffixes, own.json beside own.safetensors: card
    (.json), configuration that selects the model (.yaml), learning curve (.curve.csv, .curve.png).
    Older files are replaced. out: the model file; it is not written here, and its checkpoint
    (.checkpoint) must exist. card: from `model_card`. curve: `Progress.curve`, one dict per epoch, at
    least one, with the keys epoch, training_loss, validation_iou and lowest_iou, and others.
    """
    write_card(out, card)
    _write(out.with_suffix(".curve.csv"), [list(curve[0]), *(row.values() for row in curve)])
    _save(_curve_figure(curve), out.with_suffix(".curve.png"))
    checkpoint_file(out).unlink()
    log.info("%s written, SHA-256 %s", out.name, card["weights_sha256"])


def write_card(out: Path, card: dict) -> None:
    """Write a model file's card (.json) and the configuration that selects the model (.yaml).

    Their paths are that of the model file with these suffixes: own.json and own.yaml beside
    own.safetensors. Older files are replaced. out: the model file; the configuration names it by this
    path as it is given. card: from `model_card`, with the SHA-256 of this file; a NaN in it raises
    ValueError.
    """
    told = json.dumps(card, indent=2, allow_nan=False) + "\n"
    out.with_suffix(".json").write_text(told, encoding="utf-8")
    chosen = {"model": {"file": str(out), "sha256": card["weights_sha256"]}}
    out.with_suffix(".yaml").write_text(yaml.safe_dump(chosen, sort_keys=False), encoding="utf-8")


def _loss_told(settings: Settings) -> str:
    told = LOSSES_TOLD[settings.loss]
    if settings.loss != "iou" and settings.finish_with_iou_fraction > 0:
        share = settings.finish_with_iou_fraction
        return f"{told}; in the last {share:.0%} of the training {PAPER_LOSS} alone"
    return told


def write_reliability(path: Path, rows: np.ndarray) -> None:
    """Write a reliability diagram as CSV, and as PNG of the same name.

    path: of the CSV, in an existing folder; both files are replaced if they exist. rows: from
    `calibration_curve`, float (bins, 3): mean predicted IoU, mean measured IoU, number of pairs of
    muscle and slice; the CSV's columns are predicted_iou, found_iou and muscles_in_slices.
    """
    columns = ["predicted_iou", "found_iou", "muscles_in_slices"]
    _write(path, [columns, *([f"{x:.4f}", f"{y:.4f}", int(count)] for x, y, count in rows)])
    figure = Figure(figsize=(4.5, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#aaaaaa", linewidth=1)
    axes.plot(rows[:, 0], rows[:, 1], "o-", color="#1f77b4")
    axes.set(
        xlabel="predicted IoU, mean of a tenth", ylabel="found IoU, mean", xlim=(0, 1), ylim=(0, 1)
    )
    axes.set_aspect("equal")
    _save(figure, path.with_suffix(".png"))


def _write(path: Path, rows: Iterable[Iterable]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=150)


def _curve_figure(curve: Sequence[dict]) -> Figure:
    figure = Figure(figsize=(6, 5), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    epochs = [row["epoch"] for row in curve]
    above.plot(epochs, [row["training_loss"] for row in curve], color="#444444")
    above.set_ylabel("training loss")
    for column, told, colour in (
        ("validation_iou", "mean of the muscles' medians", "#2ca02c"),
        ("lowest_iou", "lowest median", "#d62728"),
    ):
        below.plot(epochs, [row[column] for row in curve], label=told, color=colour)
    below.set(ylabel="IoU in validation", xlabel="epoch", ylim=(0, 1))
    below.legend(loc="lower right", frameon=False)
    return figure
