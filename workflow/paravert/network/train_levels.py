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
    BACKGROUND,
    DISC,
    SACRUM,
    VERTEBRA,
    network_input,
    new_network,
    probabilities,
    save_network,
)
from paravert.provenance import file_sha256
from paravert.synthesis.sagittal_parts import (
    DISCS,
    LABELS,
    OTHER_SPINE,
    PIXEL_MM,
    VERTEBRAE,
    label_of,
)
from paravert.synthesis.sagittal_slices import sagittal_slices

log = logging.getLogger(__name__)

TRAINED_ON = (
    "synthetic sagittal slices in the contrasts of T1, T2, STIR and others; no image of a person"
)

IMAGES_PER_ANATOMY = 4
ANATOMIES_PER_BATCH = 2
OUTSIDE_WEIGHT = 0.1  # of a pixel in the loss; 1 for background in the image
LOWEST_DISC = 5.5  # L5/S1
LOG_EVERY = 100  # batches
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
    network = new_network().train()
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
                told = f"loss {curve[-1]['loss']:.4f}, discs found {share:.3f}"
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
        "discs_found": curve[-1]["disc_share"] if curve else None,
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
    return new_network().train()


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


def _loss(found: torch.Tensor, structure: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return the weighted cross-entropy.

    found: logits (images, STRUCTURES, rows, columns). structure, weight: (images, rows, columns).
    """
    loss = nn.functional.cross_entropy(found, structure, reduction="none")
    return (loss * weight).sum() / weight.sum()


def _batch(seed: int, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return images float32, structures int64 and weights float32 of a batch, (8, *SIZE_PX) each."""
    rng = np.random.default_rng([seed, number, 82])
    first = number * ANATOMIES_PER_BATCH
    slices = [
        one
        for index in range(first, first + ANATOMIES_PER_BATCH)
        for one in sagittal_slices(seed, index, IMAGES_PER_ANATOMY, SIZE_PX)
    ]
    gains = np.exp(rng.normal(0, 0.1, len(slices)))
    images = [
        (network_input(one.image) + 0.5) * gain - 0.5
        for one, gain in zip(slices, gains, strict=True)
    ]
    structure = STRUCTURE_OF_LABEL[np.stack([one.labels for one in slices])]
    weights = WEIGHT_OF_LABEL[np.stack([one.labels for one in slices])]
    weights = np.where(np.stack([one.view for one in slices]), weights, OUTSIDE_WEIGHT)
    return np.stack(images).astype(np.float32), structure, weights.astype(np.float32)


def _disc_share(network: nn.Module, seed: int, anatomies: int = 8) -> float:
    """Return the share of disc centres that are found as discs, in slices of another seed."""
    network.eval()
    right = []
    for index in range(anatomies):
        for one in sagittal_slices(seed + HELD_OUT_SEED_STEP, index):
            found = probabilities(network, network_input(one.image)[None])[0].argmax(axis=0)
            places = [place for level, place in one.discs.items() if level <= LOWEST_DISC]
            right += [found[int(row), int(column)] == DISC for row, column in places]
    network.train()
    return float(np.mean(right))


def _of_labels() -> tuple[np.ndarray, np.ndarray]:
    """Return the structure and the weight in the loss of each label of a synthetic slice, (LABELS,)."""
    structure, weight = np.full(LABELS, SACRUM), np.full(LABELS, 3.0)
    structure[0], weight[0] = BACKGROUND, 1.0
    for level in (*DISCS, *VERTEBRAE):
        if level <= LOWEST_DISC:
            structure[label_of(level)] = DISC if level in DISCS else VERTEBRA
    weight[structure == DISC] = 6.0
    weight[OTHER_SPINE] = 0.0  # vertebrae and discs above T11 have one label
    return structure, weight


STRUCTURE_OF_LABEL, WEIGHT_OF_LABEL = _of_labels()
