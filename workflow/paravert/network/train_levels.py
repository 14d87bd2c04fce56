"""Command train_levels: a network that finds vertebrae and discs, trained on synthetic slices.

NEEDS a seed. MAKES model.safetensors; with the same name .json (card), .yaml (configuration that
selects the model) and .curve.csv (learning curve); while it trains .checkpoint, from which it
resumes.
"""

import logging
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import nn

from paravert.network.sagittal_net import (
    ARCHITECTURE,
    BACKGROUND,
    DISC,
    FORM,
    SACRUM,
    STRUCTURES,
    VERTEBRA,
    network_input,
    probabilities,
)
from paravert.network.unet import UNet
from paravert.network.worker_training import (
    Gradients,
    WorkerTraining,
    gradients,
    rise_and_cosine,
)
from paravert.provenance import digest
from paravert.steps import VERSIONS
from paravert.synthesis.sagittal_parts import (
    DISCS,
    LABELS,
    OTHER_SPINE,
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
SIZE_PX = (96, 64)  # of the slices
WARM_UP = 50  # batches until the full learning rate
HELD_OUT_SEED_STEP = 1000


def train_levels(
    out: Annotated[Path, typer.Option(help="model file to write (.safetensors)", dir_okay=False)],
    seed: Annotated[int, typer.Option(min=0, help="of the synthetic slices")] = 1,
    batches: Annotated[int, typer.Option(min=1, help="how many, of 8 slices each")] = 2400,
    minutes: Annotated[
        float, typer.Option(min=0, help="stop after this time as well; 0: no limit")
    ] = 0.0,
    learning_rate: Annotated[
        float, typer.Option(min=0, help="after the first 50 batches; it falls to 0")
    ] = 0.003,
    workers: Annotated[
        int, typer.Option(min=1, help="processes; each gradient is this many batches less one old")
    ] = 1,
) -> None:
    """Train the network that finds vertebrae and discs in sagittal slices, on synthetic slices.

    Beside the model file it writes, with the same name: .json (card: describes model and training),
    .yaml (configuration that selects the model), .curve.csv (learning curve). A training that was
    stopped resumes from its .checkpoint. Raises InputError if that is damaged or of another seed or
    learning rate.
    """
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    network = UNet(ARCHITECTURE, len(STRUCTURES)).train()
    optimiser = torch.optim.AdamW(network.parameters(), learning_rate, weight_decay=1e-3)
    made_of = digest([seed, learning_rate, VERSIONS["train_levels"]])
    training = WorkerTraining(network, optimiser, out, made_of)

    def note(done: float, loss: float) -> None:
        share = _disc_share(network, seed)
        training.curve.append({"batch": training.number, "loss": loss, "disc_share": share})
        told = f"loss {loss:.4f}, discs found {share:.3f}"
        log.info("train_levels: batch %d, %.1f %%: %s", training.number, 100 * done, told)
        FORM.save(out, network)

    with ProcessPoolExecutor(workers, mp_context=get_context("forkserver")) as pool:
        training.run(
            lambda weights, number: pool.submit(_gradients, weights, seed, number),
            ahead=workers,
            batches=batches,
            minutes=minutes,
            learning_rate=lambda number, done: (
                learning_rate * rise_and_cosine(number / WARM_UP, done)
            ),
            note=note,
        )
        pool.shutdown(wait=False, cancel_futures=True)
    settings = {"seed": seed, "batches": training.number}
    settings |= {"learning_rate": learning_rate, "workers": workers}
    results = {
        "discs_found": training.curve[-1]["disc_share"] if training.curve else None,
        "validation": "disc centres in synthetic slices of another seed, pixel by pixel",
    }
    training.publish(FORM, ("model", "sha256"), TRAINED_ON, settings, results)


@cache
def _own_network() -> nn.Module:
    """Return the network of this worker process."""
    torch.set_num_threads(1)
    return UNet(ARCHITECTURE, len(STRUCTURES)).train()


def _gradients(weights: list[np.ndarray], seed: int, number: int) -> Gradients:
    """Return the loss of a batch and its gradients."""
    network = _own_network()
    images, labels, weight = map(torch.from_numpy, _batch(seed, number))
    return gradients(network, weights, lambda: _loss(network(images[:, None]), labels, weight))


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

    def predict(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return network(torch.from_numpy(images)).numpy()

    network.eval()
    right = []
    for index in range(anatomies):
        for one in sagittal_slices(seed + HELD_OUT_SEED_STEP, index):
            found = probabilities(predict, network_input(one.image)[None])[0].argmax(axis=0)
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
