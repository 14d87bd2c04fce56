"""Training of a small network whose gradients come from worker processes, and its files.

While a worker computes a gradient, those of the other workers change the weights.
"""

import csv
import json
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import yaml
from torch import nn

from paravert import __version__
from paravert.errors import InputError
from paravert.network.card import NOTE
from paravert.network.fit import checkpoint_file, read_checkpoint, write_checkpoint
from paravert.network.level_model import ModelForm
from paravert.provenance import file_sha256

LOG_EVERY = 100  # batches
MOST_GRADIENT_NORM = 1.0  # larger gradients are scaled down

# Loss and gradients of a batch, in the order of the network's parameters.
Gradients = tuple[float, list[np.ndarray]]


@dataclass
class WorkerTraining:
    """A training whose gradients come from worker processes; resumes from its checkpoint if there is one.

    A new object loads the checkpoint into network and optimiser; it trains in `run`. network: on the CPU;
    trained in place. optimiser: of its parameters. out: model file, which `publish` writes; beside it lies
    the checkpoint. made_of: digest of the settings and data. number, seconds, curve: batches done,
    training time and a dict per logged batch; leave them out: they start at 0 and empty, or come from the
    checkpoint. Raises InputError if the checkpoint is damaged or has another made_of.
    """

    network: nn.Module
    optimiser: torch.optim.Optimizer
    out: Path
    made_of: str
    number: int = 0
    seconds: float = 0.0
    curve: list[dict] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.checkpoint.exists():
            held = read_checkpoint(self.checkpoint, self.made_of)
            self.network.load_state_dict(held["network"])
            self.optimiser.load_state_dict(held["optimiser"])
            self.number, self.seconds, self.curve = held["batch"], held["seconds"], held["curve"]

    @property
    def checkpoint(self) -> Path:
        """Path of the checkpoint beside the model file (.checkpoint); it may not exist (property)."""
        return checkpoint_file(self.out)

    def run(
        self,
        submit: Callable[[list[np.ndarray], int], Future],
        *,
        ahead: int,
        batches: int,
        minutes: float,
        learning_rate: Callable[[int, float], float],
        note: Callable[[float, float], None],
    ) -> None:
        """Train until all batches are done or the time is over; write a checkpoint at each row of the curve.

        submit: given the weights and the number of a batch, from 0, starts a worker on it and
            returns the future of its loss and gradients (see `gradients`).
        ahead: number of batches that are always submitted and not yet used, 1 or more, also at the
            end; ahead - 1 other batches change the weights between a batch's submission and its
            use.
        batches, minutes: when the training ends, whichever comes first; both count what was done
            before a resumption. 0 minutes is no limit of time.
        learning_rate: function of the number of the batch, from 0, and the share of the training
            that is done, 0-1.
        note: must append a row to `curve`; function of the share done and the mean loss since the
            last row, called after every LOG_EVERY (100) batches and when all `batches` are done,
            not when the time is over.

        Raises InputError if the loss becomes infinite or NaN.
        """
        recent, started = [], time.monotonic() - self.seconds
        waiting = deque(
            submit(_weights(self.network), batch)
            for batch in range(self.number, self.number + ahead)
        )
        while (done := _progress(self.number, batches, time.monotonic() - started, minutes)) < 1:
            loss, found = waiting.popleft().result()
            if not math.isfinite(loss):
                raise InputError("training", f"the loss became {loss}; lower the learning rate")
            for parameter, gradient in zip(self.network.parameters(), found, strict=True):
                parameter.grad = torch.from_numpy(gradient)
            for group in self.optimiser.param_groups:
                group["lr"] = learning_rate(self.number, done)
            self.optimiser.step()
            waiting.append(submit(_weights(self.network), self.number + ahead))
            recent.append(loss)
            self.number += 1
            if self.number % LOG_EVERY == 0 or self.number == batches:
                note(done, sum(recent) / len(recent))
                recent.clear()
                self.seconds = time.monotonic() - started
                self._save_checkpoint()
        self.seconds = time.monotonic() - started

    def publish(
        self,
        form: ModelForm,
        keys: tuple[str, str],
        trained_on: str,
        settings: Mapping[str, object],
        results: Mapping[str, object],
    ) -> None:
        """Write the model file and, with the same name, card (.json), configuration (.yaml) and .curve.csv.

        The configuration selects the model; .curve.csv holds `curve`, one row per logged batch.
        Existing files are replaced. The checkpoint is deleted. form: file format of this kind of
        network; its architecture and pixel size are added to `settings`. keys: names, in the section
        find_levels of the configuration, of the path and the SHA-256 of the model file, such as
        ("model", "sha256"). trained_on: description of the training images. settings: the card's entry
        "settings". results: further entries of the card, {name: JSON value}.
        """
        form.save(self.out, self.network)
        sha256 = file_sha256(self.out)
        input_form = {"architecture": dict(form.architecture), "spacing_mm": form.spacing_mm}
        card = {
            "name": self.out.stem,
            "note": NOTE,
            "trained_on": trained_on,
            "weights_sha256": sha256,
            "software": f"paravert {__version__}",
            "settings": dict(settings) | input_form,
            **results,
            "seconds": round(self.seconds),
        }
        self._beside(".json", json.dumps(card, indent=2) + "\n")
        chosen = dict(zip(keys, (str(self.out), sha256), strict=True))
        self._beside(".yaml", yaml.safe_dump({"find_levels": chosen}, sort_keys=False))
        with self.out.with_suffix(".curve.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(self.curve[0]) if self.curve else ["batch"])
            writer.writeheader()
            writer.writerows(self.curve)
        self.checkpoint.unlink(missing_ok=True)

    def _beside(self, suffix: str, text: str) -> None:
        self.out.with_suffix(suffix).write_text(text, encoding="utf-8")

    def _save_checkpoint(self) -> None:
        held = {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict()}
        held |= {"batch": self.number, "seconds": self.seconds, "curve": self.curve}
        write_checkpoint(self.checkpoint, held, self.made_of)


def gradients(
    network: nn.Module, weights: Sequence[np.ndarray], loss: Callable[[], torch.Tensor]
) -> Gradients:
    """Return the loss of a batch and its clipped gradients for given weights, in a worker process.

    network: of the worker; its parameters are set to `weights`, arrays in the order of the
    parameters. loss: computes the loss with that network. Returns (loss, gradients): a float and a
    list of NumPy arrays in the same order, scaled down so that their common norm is at most 1
    (MOST_GRADIENT_NORM).
    """
    for parameter, values in zip(network.parameters(), weights, strict=True):
        parameter.data = torch.from_numpy(values)
        parameter.grad = None
    found = loss()
    found.backward()
    nn.utils.clip_grad_norm_(network.parameters(), MOST_GRADIENT_NORM)
    return found.item(), [parameter.grad.numpy() for parameter in network.parameters()]


def rise_and_cosine(rise: float, done: float) -> float:
    """Return a factor of the highest learning rate, 0-1: half a cosine down to 0, times a linear rise.

    rise: number of batches done, divided by the number that the rise takes; from 1 on its factor is 1.
    done: share of the whole training, the rise included, that is done, 0-1.
    """
    return min(1.0, rise) * (1 + math.cos(math.pi * done)) / 2


def _weights(network: nn.Module) -> list[np.ndarray]:
    return [parameter.detach().numpy().copy() for parameter in network.parameters()]


def _progress(number: int, batches: int, seconds: float, minutes: float) -> float:
    """Return the share of the training that is done, by batches or by time."""
    return max(number / batches, seconds / (60 * minutes) if minutes else 0.0)
