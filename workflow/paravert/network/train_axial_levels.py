"""Command train_axial_levels: a network that tells the level of an axial slice, learnt from synthesis alone.

NEEDS two tables of draw_anatomies, one for training and one of other synthetic people for validation.
MAKES model.safetensors; with the same name .json (card), .yaml (configuration that selects the model)
and .curve.csv (learning curve); while it trains .checkpoint, from which a training that was stopped
goes on.
"""

import logging
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from paravert.errors import InputError
from paravert.network.axial_net import BINS, CELLS, FOLD, FORM, PIXEL_MM, AxialNet
from paravert.network.coarse_slices import Batch, CoarseSections
from paravert.network.randomised import seed_of
from paravert.network.worker_training import (
    Gradients,
    WorkerTraining,
    common_card,
    gradients,
    rise_and_cosine,
    write_beside,
)
from paravert.provenance import file_sha256

log = logging.getLogger(__name__)

TRAINED_ON = (
    "synthetic axial slices of phantom anatomy in randomised contrast; no image of a person"
)
PICTURES = 16  # per batch, each also mirrored
LEVEL_SD = 0.15  # of the target distribution over BINS: how sharply a slice shows its level
COLUMN_SD = 1.0  # cells; of the target distribution over the places of the column's middle
MUSCLE_WEIGHT, COLUMN_WEIGHT = 1.0, 0.2  # in the loss; the level has 1
WEIGHT_DECAY = 1e-2
WARM_UP = 100  # batches until the full learning rate
LOG_EVERY = 100  # batches
HELD_OUT_BATCHES, HELD_OUT_SEED = 12, 7


def train_axial_levels(
    anatomies: Annotated[Path, typer.Option(help="table of draw_anatomies to train on")],
    validation: Annotated[Path, typer.Option(help="table of draw_anatomies of another seed")],
    out: Annotated[Path, typer.Option(help="model file to write (.safetensors)")],
    seed: Annotated[int, typer.Option(help="of the pictures and first weights")] = 1,
    batches: Annotated[int, typer.Option(help="how many, of 32 slices each")] = 3000,
    minutes: Annotated[float, typer.Option(help="stop after this time as well; 0: no limit")] = 0.0,
    learning_rate: Annotated[float, typer.Option(help="the highest; it falls to 0")] = 0.002,
    workers: Annotated[
        int, typer.Option(help="processes; each gradient is this many batches old; 0: a thread")
    ] = 1,
) -> None:
    """Train the network that tells the level of an axial slice (experimental, not usable yet)."""
    if (own := seed_of(validation)) == seed_of(anatomies):
        raise InputError(validation, f"seed {own} as in {anatomies}: the same people")
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    network = AxialNet().train()
    optimiser = torch.optim.AdamW(network.parameters(), learning_rate, weight_decay=WEIGHT_DECAY)
    out.parent.mkdir(parents=True, exist_ok=True)
    training = WorkerTraining(network, optimiser, out)

    def note(done: float, loss: float) -> None:
        row = {"batch": training.number, "loss": loss} | _accuracy(network, validation)
        training.curve.append(row)
        line = ", ".join(f"{name} {value:.3f}" for name, value in row.items())
        log.info("train_axial_levels: %.1f %%: %s", 100 * done, line)
        FORM.save(out, network)

    with _pool(workers) as pool:
        training.run(
            lambda weights, number: pool.submit(_gradients, weights, anatomies, seed, number),
            ahead=max(1, workers),
            batches=batches,
            minutes=minutes,
            learning_rate=lambda number, done: (
                learning_rate * rise_and_cosine((number + 1) / WARM_UP, done)
            ),
            is_logged=lambda number: number % LOG_EVERY == 0 or number == batches,
            note=note,
        )
        pool.shutdown(wait=False, cancel_futures=True)
    FORM.save(out, network)
    told = {"batches": training.number, "learning_rate": learning_rate, "workers": workers}
    tables = {"anatomies": anatomies, "validation": validation}
    told |= {f"{name}_sha256": file_sha256(path) for name, path in tables.items()}
    _write_card(out, {"seed": seed} | told, training.curve, training.seconds)
    training.checkpoint.unlink(missing_ok=True)


def _pool(workers: int) -> Executor:
    if workers:
        return ProcessPoolExecutor(workers, mp_context=get_context("forkserver"))
    return ThreadPoolExecutor(1)


@cache
def _sections(table: Path) -> CoarseSections:
    return CoarseSections(table)


@cache
def _own_network() -> AxialNet:
    """Return the network of this worker process."""
    torch.set_num_threads(1)
    return AxialNet().train()


def _gradients(weights: list[np.ndarray], anatomies: Path, seed: int, number: int) -> Gradients:
    """Return the loss of a batch and its gradients."""
    network, sections = _own_network(), _sections(anatomies)
    numbers = np.random.default_rng([seed, number, 93]).integers(len(sections), size=PICTURES)
    batch = sections.batch(numbers, (seed, number))
    return gradients(network, weights, lambda: level_loss(network, batch))


def level_loss(network: AxialNet, batch: Batch) -> torch.Tensor:
    """Return the loss of a batch: cross-entropies of level, muscles and the column's middle."""
    images, levels, shares, middle = batch
    level, muscles, column = network(images)
    target = _normal(torch.from_numpy(BINS).float() - levels[:, None], LEVEL_SD)
    of_level = -(target * level.log_softmax(1)).sum(1)
    of_muscles = -(shares * muscles.log_softmax(1)).sum(1)
    cells = torch.arange(CELLS, dtype=torch.float32)
    down, right = (_normal(cells - middle[:, axis, None], COLUMN_SD) for axis in (0, 1))
    place = (down[:, :, None] * right[:, None]).flatten(1)
    of_column = -(place * column.flatten(1).log_softmax(1)).sum(1)
    shown = ((middle >= 0) & (middle <= CELLS - 1)).all(1)
    of_slices = ((of_level + COLUMN_WEIGHT * of_column) * shown).mean()
    return of_slices + MUSCLE_WEIGHT * of_muscles.mean()


def _normal(off: torch.Tensor, sd: float) -> torch.Tensor:
    """Return normal weights of deviations that sum to 1 along the last axis."""
    return (-0.5 * (off / sd) ** 2).softmax(-1)


@cache
def _held_out(validation: Path) -> list[Batch]:
    sections = CoarseSections(validation)
    rng = np.random.default_rng(HELD_OUT_SEED)
    return [
        sections.batch(rng.integers(len(sections), size=PICTURES), (HELD_OUT_SEED, number))
        for number in range(HELD_OUT_BATCHES)
    ]


@torch.inference_mode()
def _accuracy(network: AxialNet, validation: Path) -> dict[str, float]:
    """Return how well single slices of other people are told."""
    network.eval()
    off, apart = [], []
    cells = torch.arange(CELLS, dtype=torch.float32)
    for images, levels, _, middle in _held_out(validation):
        level, _, column = network(images)
        off.append(level.softmax(1) @ torch.from_numpy(BINS).float() - levels)
        weight = column.flatten(1).softmax(1).view(column.shape)
        found = torch.stack((weight.sum(2) @ cells, weight.sum(1) @ cells), dim=1)
        apart.append((found - middle).norm(dim=1) * FOLD * PIXEL_MM)
    network.train()
    off, apart = torch.cat(off).abs().numpy(), torch.cat(apart).numpy()
    return {
        "level_error": float(np.median(off)),
        "level_error_95": float(np.quantile(off, 0.95)),
        "column_error_mm": float(np.median(apart)),
    }


def _write_card(out: Path, settings: dict, curve: list[dict], seconds: float) -> None:
    """Write the card (.json), a configuration that selects the model (.yaml), and .curve.csv."""
    card = common_card(FORM, out, TRAINED_ON, settings) | {
        "validation": "single synthetic slices of people of another seed; errors in levels",
        "accuracy": curve[-1] if curve else None,
        "seconds": round(seconds),
    }
    chosen = {"find_levels": {"axial_model": str(out), "axial_sha256": card["weights_sha256"]}}
    write_beside(out, card, chosen, curve)
