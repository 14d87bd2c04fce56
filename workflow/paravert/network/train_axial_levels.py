"""Command train_axial_levels: a network that tells the level of an axial slice, learnt from synthesis alone.

NEEDS two tables of draw_anatomies, one for training and one of other synthetic people for validation.
MAKES model.safetensors; with the same name .json (card), .yaml (configuration that selects the model)
and .curve.csv (learning curve); while it trains .checkpoint, from which a training that was stopped
goes on.
"""

import csv
import json
import logging
import math
import time
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow.parquet as pq
import torch
import typer
import yaml
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from paravert import __version__
from paravert.anatomy import CLASSES, LABELS, MUSCLES
from paravert.errors import InputError
from paravert.network.axial_net import (
    ARCHITECTURE,
    BINS,
    CELLS,
    FOLD,
    MAPS,
    PIXEL_MM,
    SIZE_PX,
    AxialNet,
    save_network,
    standardised,
)
from paravert.network.card import NOTE
from paravert.network.randomised import Anatomies, drawn_pictures, seed_of
from paravert.provenance import file_sha256
from paravert.synthesis.signal import BEHIND_SPINE_MM

log = logging.getLogger(__name__)

TRAINED_ON = (
    "synthetic axial slices of phantom anatomy in randomised contrast; no image of a person"
)
PICTURES = 16  # per batch; each is shown twice, mirrored, in another field of view and gain
LEVEL_SD = 0.15  # of the target distribution over BINS: how sharply a slice shows its level
COLUMN_SD = 1.0  # cells; of the target distribution over the places of the column's middle
MUSCLE_WEIGHT, COLUMN_WEIGHT = 1.0, 0.2  # in the loss; the level has 1
# Field of view of the pictures, in addition to the artefacts': share of them, sides, off the column.
CUT_SHARE, CUT_MM, CUT_OFF_SD_MM = 0.7, (150.0, 288.0), 12.0
GAIN_SD, OFFSET_SD = 0.1, 0.15  # of the standardised picture
WARM_UP = 100  # batches until the full learning rate
LOG_EVERY = 100  # batches
HELD_OUT_BATCHES, HELD_OUT_SEED = 12, 7

# images, (batch, 2, SIZE_PX, SIZE_PX); levels, (batch,); labels, (batch, SIZE_PX, SIZE_PX) uint8; middle
# of the column, (batch, 2), cells (row, column)
Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def train_axial_levels(
    anatomies: Annotated[Path, typer.Option(help="table of draw_anatomies to train on")],
    validation: Annotated[Path, typer.Option(help="table of draw_anatomies of another seed")],
    out: Annotated[Path, typer.Option(help="model file to write (.safetensors)")],
    seed: Annotated[int, typer.Option(help="of the pictures and first weights")] = 1,
    batches: Annotated[int, typer.Option(help="how many, of 32 slices each")] = 3000,
    minutes: Annotated[float, typer.Option(help="stop after this time as well; 0: no limit")] = 0.0,
    learning_rate: Annotated[float, typer.Option(help="the highest; it falls to 0")] = 0.002,
    workers: Annotated[int, typer.Option(help="processes that draw slices; 0: none")] = 1,
) -> None:
    """Train the network that tells the level of an axial slice, on synthetic slices alone."""
    if (own := seed_of(validation)) == seed_of(anatomies):
        raise InputError(validation, f"seed {own} as in {anatomies}: the same people")
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    network = AxialNet().train()
    optimiser = torch.optim.AdamW(network.parameters(), learning_rate, weight_decay=1e-2)
    curve, number, before = [], 0, 0.0
    checkpoint = out.with_suffix(".checkpoint")
    if checkpoint.exists():
        held = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(held["network"])
        optimiser.load_state_dict(held["optimiser"])
        number, before, curve = held["batch"], held["seconds"], held["curve"]
    out.parent.mkdir(parents=True, exist_ok=True)
    held_out = [LevelledSlices(validation, HELD_OUT_SEED)[n] for n in range(HELD_OUT_BATCHES)]
    loader = DataLoader(
        LevelledSlices(anatomies, seed),
        batch_size=None,
        sampler=range(number, batches),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        multiprocessing_context="forkserver" if workers else None,
    )
    recent, started = [], time.monotonic() - before
    for batch in loader:
        done = _progress(number, batches, time.monotonic() - started, minutes)
        if done >= 1:
            break
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * _rate(number, done)
        loss = level_loss(network, batch)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        recent.append(loss.item())
        number += 1
        if number % LOG_EVERY == 0 or number == batches:
            entry = {"batch": number, "loss": float(np.mean(recent))} | _accuracy(network, held_out)
            curve.append(entry)
            recent.clear()
            told = ", ".join(f"{name} {value:.3f}" for name, value in entry.items())
            log.info("train_axial_levels: %.1f %%: %s", 100 * done, told)
            held = {"network": network.state_dict(), "optimiser": optimiser.state_dict()}
            held |= {"batch": number, "seconds": time.monotonic() - started, "curve": curve}
            torch.save(held, checkpoint)
            save_network(out, network)
    save_network(out, network)
    told = {"seed": seed, "batches": number, "learning_rate": learning_rate}
    told |= {f"{name}_sha256": file_sha256(path) for name, path in
             (("anatomies", anatomies), ("validation", validation))}  # fmt: skip
    _write_card(out, told, curve, time.monotonic() - started)
    checkpoint.unlink(missing_ok=True)


class LevelledSlices(Dataset):
    """Batches of synthetic slices with their levels, drawn when they are read.

    anatomies: table (.parquet) of draw_anatomies. A batch, see `Batch`, depends on the seed and its
    number alone.
    """

    def __init__(self, anatomies: Path, seed: int):
        self._file, self._seed = anatomies, seed

    def __getitem__(self, number: int) -> Batch:
        """Return the batch of a number."""
        rng = np.random.default_rng([self._seed, number, 91])
        numbers = rng.integers(len(self._anatomies), size=PICTURES)
        shape = {"size_px": SIZE_PX, "spacing_mm": PIXEL_MM, "device": torch.device("cpu")}
        drawn = drawn_pictures(self._anatomies, numbers, seed=(self._seed, number, 92), **shape)
        spine = np.array([0.0, -BEHIND_SPINE_MM])  # (x, y) in the section
        middle = np.stack(
            [np.linalg.solve(place.matrix, spine - place.centre_mm) for place in drawn.places]
        )[:, ::-1]  # (down, right), mm from the picture's middle
        levels = torch.from_numpy(self._levels[numbers])
        views = [
            _view(images, levels, labels, own, rng)
            for images, labels, own in (
                (drawn.images, drawn.labels, middle),
                (drawn.images.flip(-1), drawn.labels.flip(-1), middle * (1, -1)),
            )
        ]
        return tuple(torch.cat(parts) for parts in zip(*views, strict=True))

    @cached_property
    def _anatomies(self) -> Anatomies:
        torch.set_num_threads(1)  # of a worker process, which reads the table for itself
        return Anatomies(self._file)

    @cached_property
    def _levels(self) -> np.ndarray:
        return pq.read_table(self._file, columns=["level"])["level"].to_numpy()


def _view(
    images: torch.Tensor,
    levels: torch.Tensor,
    labels: torch.Tensor,
    middle_mm: np.ndarray,
    rng: np.random.Generator,
) -> Batch:
    """Return pictures in random fields of view and gains, as a batch.

    images, labels: (pictures, SIZE_PX, SIZE_PX). middle_mm: as for `_fields_of_view`.
    """
    inside = _fields_of_view(middle_mm, rng)
    seen = standardised(images, inside)
    gain, offset = np.exp(rng.normal(0, GAIN_SD, PICTURES)), rng.normal(0, OFFSET_SD, PICTURES)
    gain, offset = (torch.from_numpy(v).float()[:, None, None] for v in (gain, offset))
    seen[:, 0] = (seen[:, 0] * gain + offset) * inside
    cells = torch.from_numpy(middle_mm / (FOLD * PIXEL_MM) + (CELLS - 1) / 2).float()
    return seen, levels, labels * inside, cells


def _fields_of_view(middle_mm: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
    """Return random fields of view about the column, bool (batch, SIZE_PX, SIZE_PX).

    middle_mm: of the column, (batch, 2), (down, right) from the picture's middle.
    """
    n = len(middle_mm)
    line = (np.arange(SIZE_PX) + 0.5 - SIZE_PX / 2) * PIXEL_MM
    size = rng.uniform(*CUT_MM, n)[:, None] * np.exp(rng.normal(0, 0.08, (n, 2)))
    size[rng.random(n) >= CUT_SHARE] = np.inf
    centre = middle_mm + (BEHIND_SPINE_MM, 0) + rng.normal(0, CUT_OFF_SD_MM, (n, 2))
    rows, columns = (
        abs(line - c[:, None]) <= s[:, None] / 2 for c, s in zip(centre.T, size.T, strict=True)
    )
    return torch.from_numpy(rows[:, :, None] & columns[:, None, :])


def level_loss(network: AxialNet, batch: Batch) -> torch.Tensor:
    """Return the loss of a batch: cross-entropies of level, muscles and the column's middle."""
    images, levels, labels, middle = batch
    level, muscles, column = network(images)
    target = _normal(torch.from_numpy(BINS).float() - levels[:, None], LEVEL_SD, dim=1)
    own = -(target * level.log_softmax(1)).sum(1)
    shown = ((middle >= 0) & (middle <= CELLS - 1)).all(1)
    of_muscles = -(_shares(labels) * muscles.log_softmax(1)).sum(1)
    cells = torch.arange(CELLS, dtype=torch.float32)
    down, right = (_normal(cells - middle[:, axis, None], COLUMN_SD, dim=1) for axis in (0, 1))
    place = (down[:, :, None] * right[:, None]).flatten(1)
    of_column = -(place * column.flatten(1).log_softmax(1)).sum(1)
    return (own + COLUMN_WEIGHT * of_column)[shown].sum() / max(
        1, len(images)
    ) + MUSCLE_WEIGHT * of_muscles.mean()


def _normal(off: torch.Tensor, sd: float, dim: int) -> torch.Tensor:
    """Return normal weights of deviations that sum to 1 along an axis."""
    return (-0.5 * (off / sd) ** 2).softmax(dim)


def _shares(labels: torch.Tensor) -> torch.Tensor:
    """Return the share of background and of each muscle in each cell, (batch, MAPS, CELLS, CELLS)."""
    muscle = torch.zeros(CLASSES, dtype=torch.long)
    for label in LABELS:
        muscle[label.value] = 1 + MUSCLES.index(label.muscle)
    masks = functional.one_hot(muscle[labels.long()], MAPS).movedim(-1, 1).float()
    return functional.avg_pool2d(masks, FOLD)


@torch.inference_mode()
def _accuracy(network: AxialNet, held_out: list[Batch]) -> dict[str, float]:
    """Return how well single slices of other people are told."""
    network.eval()
    off, apart = [], []
    cells = torch.arange(CELLS, dtype=torch.float32)
    for images, levels, _, middle in held_out:
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


def _progress(number: int, batches: int, seconds: float, minutes: float) -> float:
    """Return the share of the training that is done, by batches or by time."""
    return max(number / batches, seconds / (60 * minutes) if minutes else 0.0)


def _rate(number: int, done: float) -> float:
    """Return the learning rate relative to the highest: a linear rise, then half a cosine."""
    return min(1.0, (number + 1) / WARM_UP) * (1 + math.cos(math.pi * done)) / 2


def _write_card(out: Path, settings: dict, curve: list[dict], seconds: float) -> None:
    """Write the card (.json), a configuration that selects the model (.yaml), and .curve.csv."""
    sha256 = file_sha256(out)
    card = {
        "name": out.stem,
        "note": NOTE,
        "trained_on": TRAINED_ON,
        "weights_sha256": sha256,
        "software": f"paravert {__version__}",
        "settings": settings | {"architecture": asdict(ARCHITECTURE), "spacing_mm": PIXEL_MM},
        "validation": "single synthetic slices of people of another seed; errors in levels",
        "accuracy": curve[-1] if curve else None,
        "seconds": round(seconds),
    }
    out.with_suffix(".json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    chosen = {"find_levels": {"axial_model": str(out), "axial_sha256": sha256}}
    out.with_suffix(".yaml").write_text(yaml.safe_dump(chosen, sort_keys=False), encoding="utf-8")
    with out.with_suffix(".curve.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(curve[0]) if curve else ["batch"])
        writer.writeheader()
        writer.writerows(curve)
