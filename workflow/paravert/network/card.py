"""The files beside a trained model: its card (JSON), configuration, learning curve, reliability."""

import csv
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import yaml
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from paravert import __version__
from paravert.network.device import describe
from paravert.network.fit import Training, checkpoint_file
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
    """Return the card of a model file, JSON-able.

    data: numbers of subjects and slices, split and digest. metrics: IoU per muscle and side over the
    validation slices; None if there were none. method: how these were segmented. start_metrics: the
    same of the model that was trained on.
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
        "device": describe(training.device),
        "learning_curve": "files .curve.csv and .curve.png beside the model",
        "validation_iou": metrics,
        "validation_iou_of_start": start_metrics,
        "validation_labels": method,
    }


def publish(out: Path, card: dict, curve: Sequence[dict]) -> None:
    """Write what stands beside a model: card, configuration, learning curve; drop the checkpoint."""
    _write_card(out.with_suffix(".json"), card)
    _write_configuration(out.with_suffix(".yaml"), out, card["weights_sha256"])
    _write_curve(out.with_suffix(".curve.csv"), curve)
    checkpoint_file(out).unlink()
    log.info("%s written, SHA-256 %s", out.name, card["weights_sha256"])


def _loss_told(settings: Settings) -> str:
    told = LOSSES_TOLD[settings.loss]
    if settings.loss != "iou" and settings.finish_with_iou_fraction > 0:
        share = settings.finish_with_iou_fraction
        return f"{told}; in the last {share:.0%} of the training {PAPER_LOSS} alone"
    return told


def _write_card(path: Path, card: dict) -> None:
    """Write a model card."""
    path.write_text(json.dumps(card, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _write_configuration(path: Path, model: Path, sha256: str) -> None:
    """Write the settings that choose a model, to be given to Snakemake beside a study's own."""
    chosen = {"model": {"file": str(model), "sha256": sha256}}
    path.write_text(yaml.safe_dump(chosen, sort_keys=False), encoding="utf-8")


def _write_curve(path: Path, curve: Sequence[dict]) -> None:
    """Write the learning curve, a row per epoch, as CSV and beside it as PNG."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=curve[0])
        writer.writeheader()
        writer.writerows(curve)
    figure = _drawn(curve)
    FigureCanvasAgg(figure)
    figure.savefig(path.with_suffix(".png"), dpi=150)


def write_reliability(path: Path, rows: np.ndarray) -> None:
    """Write a reliability diagram, rows of `calibration.reliability`, as CSV and beside it as PNG."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["predicted_iou", "found_iou", "muscles_in_slices"])
        writer.writerows([f"{x:.4f}", f"{y:.4f}", int(count)] for x, y, count in rows)
    figure = Figure(figsize=(4.5, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#aaaaaa", linewidth=1)
    axes.plot(rows[:, 0], rows[:, 1], "o-", color="#1f77b4")
    axes.set(
        xlabel="predicted IoU, mean of a tenth", ylabel="found IoU, mean", xlim=(0, 1), ylim=(0, 1)
    )
    axes.set_aspect("equal")
    FigureCanvasAgg(figure)
    figure.savefig(path.with_suffix(".png"), dpi=150)


def _drawn(curve: Sequence[dict]) -> Figure:
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
