"""Command train_levels: a network that names vertebrae and discs, learnt from synthetic slices alone.

NEEDS a seed. MAKES model.safetensors; with the same name .json (card), .yaml (configuration that
selects the model) and .curve.csv (learning curve); while it trains .checkpoint, from which a training that was stopped goes on.
"""

import csv
import json
import logging
import math
import time
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
import yaml
from torch import nn

from paravert import __version__
from paravert.network.card import NOTE
from paravert.network.sagittal_net import (
    ARCHITECTURE,
    DISC,
    LEVELS,
    STRUCTURES,
    SagittalNet,
    prepared,
    probabilities,
    save_network,
)
from paravert.provenance import file_sha256
from paravert.synthesis.sagittal import sagittal_slices
from paravert.synthesis.sagittal_parts import DISCS, LABELS, PIXEL_MM, VERTEBRAE

log = logging.getLogger(__name__)

TRAINED_ON = (
    "synthetic sagittal slices in the contrasts of T1, T2, STIR and others; no image of a person"
)

IMAGES_PER_ANATOMY = 4
ANATOMIES_PER_BATCH = 2
SPINE_WEIGHT, OUTSIDE_WEIGHT = 4.0, 0.1  # of a pixel in the loss; 1 for background in the image
LOG_EVERY = 100  # batches
LEVEL_SD = 0.5  # of the level that the network shall tell: a neighbour is less wrong than others
SIZE_PX = (96, 64)  # of the slices
WARM_UP = 50  # batches until the full learning rate
HELD_OUT_SEED_STEP = 1000


def train_levels(
    out: Annotated[Path, typer.Option(help="model file to write (.safetensors)")],
    seed: Annotated[int, typer.Option(help="of the synthetic slices")] = 1,
    batches: Annotated[int, typer.Option(help="how many, of 8 slices each")] = 2400,
    minutes: Annotated[float, typer.Option(help="stop after this time as well; 0: no limit")] = 0.0,
    learning_rate: Annotated[float, typer.Option(help="at the start; it falls to 0")] = 0.003,
    workers: Annotated[
        int, typer.Option(help="processes; each gradient is this many batches old")
    ] = 1,
) -> None:
    """Train the network that names vertebrae in sagittal slices, on synthetic slices alone."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    network = SagittalNet().train()
    optimiser = torch.optim.AdamW(network.parameters(), learning_rate, weight_decay=1e-3)
    curve, number, before = [], 0, 0.0
    checkpoint = out.with_suffix(".checkpoint")
    if checkpoint.exists():
        held = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(held["network"])
        optimiser.load_state_dict(held["optimiser"])
        number, before, curve = held["batch"], held["seconds"], held["curve"]
    recent, started = [], time.monotonic() - before
    with ProcessPoolExecutor(workers, mp_context=get_context("forkserver")) as pool:

        def asked(batch: int) -> Future:
            return pool.submit(_gradients, _weights(network), seed, batch)

        waiting = deque(asked(batch) for batch in range(number, number + workers))
        while (done := _progress(number, batches, time.monotonic() - started, minutes)) < 1:
            loss, gradients = waiting.popleft().result()
            for parameter, gradient in zip(network.parameters(), gradients, strict=True):
                parameter.grad = torch.from_numpy(gradient)
            for group in optimiser.param_groups:
                group["lr"] = learning_rate * _rate(number, done)
            optimiser.step()
            waiting.append(asked(number + workers))
            recent.append(loss)
            number += 1
            if number % LOG_EVERY == 0:
                share = _disc_share(network, seed)
                curve.append(
                    {"batch": number, "loss": sum(recent) / len(recent), "disc_share": share}
                )
                recent.clear()
                told = f"loss {curve[-1]['loss']:.4f}, discs named rightly {share:.3f}"
                log.info("train_levels: batch %d, %.1f %%: %s", number, 100 * done, told)
                held = {"network": network.state_dict(), "optimiser": optimiser.state_dict()}
                held |= {"batch": number, "seconds": time.monotonic() - started, "curve": curve}
                torch.save(held, checkpoint)
                save_network(out, network)
        pool.shutdown(wait=False, cancel_futures=True)
    save_network(out, network)
    told = {"seed": seed, "batches": number, "learning_rate": learning_rate, "workers": workers}
    _write_card(out, told, curve, time.monotonic() - started)
    checkpoint.unlink(missing_ok=True)


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
        "discs_named_rightly": curve[-1]["disc_share"] if curve else None,
        "validation": "disc centres in synthetic slices of another seed, pixel by pixel",
        "seconds": round(seconds),
    }
    out.with_suffix(".json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    chosen = {"find_levels": {"model": str(out), "sha256": sha256}}
    out.with_suffix(".yaml").write_text(yaml.safe_dump(chosen, sort_keys=False), encoding="utf-8")
    with out.with_suffix(".curve.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["batch", "loss", "disc_share"])
        writer.writeheader()
        writer.writerows(curve)


def _progress(number: int, batches: int, seconds: float, minutes: float) -> float:
    """Return the share of the training that is done, by batches or by time."""
    return max(number / batches, seconds / (60 * minutes) if minutes else 0.0)


def _rate(number: int, done: float) -> float:
    """Return the learning rate relative to the highest: a linear rise, then half a cosine."""
    return min(1.0, number / WARM_UP) * (1 + math.cos(math.pi * done)) / 2


def _weights(network: nn.Module) -> list[np.ndarray]:
    return [parameter.detach().numpy().copy() for parameter in network.parameters()]


@cache
def _own_network() -> nn.Module:
    """Return the network of this worker process."""
    torch.set_num_threads(1)
    return SagittalNet().train()


def _gradients(weights: list[np.ndarray], seed: int, number: int) -> tuple[float, list[np.ndarray]]:
    """Return the loss of a batch and its gradients, clipped, in the order of the parameters."""
    network = _own_network()
    images, labels, weight = map(torch.from_numpy, _batch(seed, number))
    for parameter, values in zip(network.parameters(), weights, strict=True):
        parameter.data = torch.from_numpy(values)
        parameter.grad = None
    loss = _loss(network(images[:, None]), labels, weight)
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    return loss.item(), [parameter.grad.numpy() for parameter in network.parameters()]


def _loss(found: torch.Tensor, labels: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return the loss: cross-entropy of the structure, and of the level within the column.

    found: logits (images, STRUCTURES + LEVELS, rows, columns). labels, weight: (images, rows, columns).
    """
    structure, level = found.split((len(STRUCTURES), len(LEVELS)), dim=1)
    loss = nn.functional.cross_entropy(structure, STRUCTURE_OF_LABEL[labels], reduction="none")
    spine = labels > 0
    told = torch.log_softmax(level, dim=1).permute(0, 2, 3, 1)[spine]
    of_level = -(LEVEL_OF_LABEL[labels[spine]] * told).sum(dim=1).mean()
    return (loss * weight).sum() / weight.sum() + of_level


def _batch(seed: int, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return images float32, labels int64 and weights float32 of a batch, (8, *SIZE_PX) each."""
    rng = np.random.default_rng([seed, number, 82])
    first = number * ANATOMIES_PER_BATCH
    slices = [
        one
        for index in range(first, first + ANATOMIES_PER_BATCH)
        for one in sagittal_slices(seed, index, IMAGES_PER_ANATOMY, SIZE_PX)
    ]
    gains = np.exp(rng.normal(0, 0.1, len(slices)))
    images = [
        (prepared(one.image) + 0.5) * gain - 0.5 for one, gain in zip(slices, gains, strict=True)
    ]
    labels = np.stack([one.labels for one in slices]).astype(np.int64)
    view = np.stack([one.view for one in slices])
    weights = np.where(view, np.where(labels > 0, SPINE_WEIGHT, 1.0), OUTSIDE_WEIGHT)
    return np.stack(images).astype(np.float32), labels, weights.astype(np.float32)


def _disc_share(network: nn.Module, seed: int, anatomies: int = 8) -> float:
    """Return the share of disc centres that are named rightly, in slices of another seed."""
    network.eval()
    right = []
    for index in range(anatomies):
        for one in sagittal_slices(seed + HELD_OUT_SEED_STEP, index):
            structure, level = probabilities(network, prepared(one.image)[None])
            for disc, (row, column) in one.discs.items():
                place = 0, slice(None), int(row), int(column)
                named = LEVELS[level[place].argmax()] == disc
                right.append(named and structure[place].argmax() == DISC)
    network.train()
    return float(np.mean(right))


def _structure_of_label() -> torch.Tensor:
    """Return the index in STRUCTURES of each label of a synthetic slice, (LABELS,)."""
    names = [
        "background",
        *["disc"] * len(DISCS),
        *["vertebra"] * len(VERTEBRAE),
        *["other"] * (LABELS - 1 - len(DISCS) - len(VERTEBRAE)),
    ]
    return torch.tensor([STRUCTURES.index(name) for name in names])


def _level_of_label() -> torch.Tensor:
    """Return the probability of LEVELS for each label of a synthetic slice, (LABELS, LEVELS)."""
    levels = np.zeros(LABELS)
    levels[1:] = [*DISCS, *VERTEBRAE, LEVELS[0], LEVELS[-1]]
    share = np.exp(-(((levels[:, None] - LEVELS) / LEVEL_SD) ** 2) / 2)
    return torch.from_numpy((share / share.sum(axis=1, keepdims=True)).astype(np.float32))


STRUCTURE_OF_LABEL, LEVEL_OF_LABEL = _structure_of_label(), _level_of_label()
