"""The training loop: Adam under a cosine schedule, epoch by epoch, resumable."""

import logging
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import Dataset
from tqdm import tqdm

from paravert.errors import InputError
from paravert.imaging.label_maps import slice_overlap
from paravert.network.batches import EpochLoader
from paravert.network.device import chosen_device, describe, exact_float32, low_format
from paravert.network.grid import padded
from paravert.network.samples import Sample
from paravert.network.settings import Settings
from paravert.network.unet import Model, UNet
from paravert.provenance import digest


def soft_iou(probabilities: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return the IoU of each muscle, (classes - 1,); NaN for one that the truth does not show.

    probabilities: (n, classes, rows, columns); truth: (n, rows, columns) of class numbers. Sums run
    over the whole batch. Intersection: sum of p t; union: sum of p + t - p t. For probabilities of
    0 and 1 it is the IoU that is counted, |I| / |U|.
    """
    values = torch.arange(1, probabilities.shape[1], device=truth.device)
    muscles = truth[:, None] == values[:, None, None]
    probabilities = probabilities[:, 1:]
    shown = muscles.sum(dim=(0, 2, 3))
    both = torch.where(muscles, probabilities, 0.0).sum(dim=(0, 2, 3))
    union = probabilities.sum(dim=(0, 2, 3)) + shown - both
    return torch.where(shown > 0, both / union.clamp_min(1e-6), torch.nan)


def iou_loss(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return 1 - mean soft IoU of the muscles that the batch shows: 0 perfect, 1 useless.

    The paper's eq. 4, "the sum of the IoU", as it must be meant: printed without the minus it would
    be smallest for a useless network. A batch without any muscle has loss 0.
    """
    return _lost(soft_iou(_log_probabilities(logits).exp(), truth))


def cross_entropy_iou(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy over all pixels plus `iou_loss`: converges much faster."""
    logs = _log_probabilities(logits)
    return functional.nll_loss(logs, truth.long()) + _lost(soft_iou(logs.exp(), truth))


def _log_probabilities(logits: torch.Tensor) -> torch.Tensor:
    """Return the logarithm of the softmax in float32, class by class in memory: faster here."""
    return logits.float().contiguous().log_softmax(dim=1)


def _lost(iou: torch.Tensor) -> torch.Tensor:
    known = ~iou.isnan()
    return torch.where(known, 1 - iou, 0.0).sum() / known.sum().clamp_min(1)


def loss_at(name: str, share_done: float, finish_with_iou_fraction: float):
    """Return the loss function to use after a share (0-1) of the training.

    finish_with_iou_fraction: last share of the training, with the paper's loss alone.
    """
    if name == "iou" or share_done >= 1 - finish_with_iou_fraction:
        return iou_loss
    return cross_entropy_iou


log = logging.getLogger(__name__)


@dataclass
class Progress:
    """Epochs done, seconds spent, and a row of the learning curve per epoch."""

    epoch: int = 0
    seconds: float = 0.0
    curve: list[dict] = field(default_factory=list)


def training_device(device: str, threads: int) -> torch.device:
    """Return the device that is asked for, as `chosen_device`, set up for training.

    threads: of the processor; 0 uses all cores.
    """
    if threads:
        torch.set_num_threads(threads)
    exact_float32()
    return chosen_device(device)


def checkpoint_file(out: Path) -> Path:
    """Return the file that keeps an unfinished training beside the model that it will write."""
    return out.with_suffix(".checkpoint")


def fit(
    settings: Settings,
    dataset: Dataset,
    validation: Sequence[Sample],
    device: torch.device,
    out: Path,
    *,
    made_of: str,
    start: Model | None,
    workers: int,
) -> "Training":
    """Return a finished training; one that was interrupted goes on from its checkpoint beside out.

    dataset, workers: as for `EpochLoader`. made_of, start: as for `Training`.
    """
    log.info("training on %s, seed %d", describe(device), settings.seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    with EpochLoader(dataset, workers) as loader:
        training = Training(settings, loader, validation, device, made_of=made_of, start=start)
        training.run(checkpoint_file(out))
    return training


class Training:
    """A network, its optimiser and its progress.

    validation: slices by which progress is measured after every epoch. made_of: digest of the data,
    part of what a checkpoint must agree with. start: model whose weights it begins with, of the same
    architecture.
    """

    def __init__(
        self,
        settings: Settings,
        loader: EpochLoader,
        validation: Sequence[Sample],
        device: torch.device,
        *,
        made_of: str = "",
        start: Model | None = None,
    ):
        self.settings, self.device = settings, device
        self.loader, self.validation = loader, validation
        self.progress = Progress()
        self._made_of = digest([asdict(settings), made_of])
        self._low = low_format(device)
        torch.manual_seed(settings.seed)
        self._learner = UNet(settings.architecture).to(device, memory_format=torch.channels_last)
        if start is not None:
            self._learner.load_state_dict(start.network.state_dict())
        self.optimiser = torch.optim.Adam(self._learner.parameters(), lr=settings.learning_rate)
        self._averaged = AveragedModel(
            self._learner, avg_fn=partial(_averaged, settings.average), use_buffers=True
        )

    @property
    def network(self) -> UNet:
        """The network that is validated and saved: with the averaged weights."""
        return self._averaged.module

    @property
    def steps(self) -> int:
        """The number of batches trained on."""
        return int(self._averaged.n_averaged)

    def run(
        self, checkpoint: Path | None = None, after_epoch: Callable[[Progress], None] | None = None
    ) -> None:
        """Train to the end, from the checkpoint if there is one, and write it after every epoch.

        Raises InputError for a checkpoint of other settings or data, and for a loss that is no
        longer a number.
        """
        if checkpoint is not None and checkpoint.exists():
            self._resume(checkpoint)
        with _progress_bar() as bar:
            while self._share(0) < 1:
                row = self._epoch(bar)
                self.progress.curve.append(row)
                if bar.disable:
                    log.info("training: %s", _line(row))
                if checkpoint is not None:
                    self._save(checkpoint)
                if after_epoch is not None:
                    after_epoch(self.progress)

    def _epoch(self, bar: tqdm) -> dict:
        settings, progress = self.settings, self.progress
        before, begin = progress.seconds, time.monotonic()
        torch.manual_seed(_epoch_seed(settings.seed, progress.epoch))
        self._learner.train()
        losses = []
        for step, batch in enumerate(self.loader.epoch(progress.epoch)):
            progress.seconds = before + time.monotonic() - begin
            share = self._share(step)
            if share >= 1:
                break
            losses.append(self._step(*batch, share))
            _show(bar, share, losses[-1])
        progress.epoch += 1
        validation_iou = self._validate()
        progress.seconds = before + time.monotonic() - begin
        return {
            "epoch": progress.epoch,
            "share_done": round(min(1.0, self._share(0)), 6),
            "seconds": round(progress.seconds, 1),
            "learning_rate": self.optimiser.param_groups[0]["lr"],
            "training_loss": float(np.mean(losses)) if losses else math.nan,
            **validation_iou,
        }

    def _share(self, step: int) -> float:
        """Return the share of the whole training that is done, after some steps of this epoch."""
        if self.settings.minutes > 0:
            return self.progress.seconds / (60 * self.settings.minutes)
        steps = len(self.loader)
        return (self.progress.epoch * steps + step) / (self.settings.epochs * steps)

    def _step(self, images: torch.Tensor, truth: torch.Tensor, share: float) -> float:
        """Train on one batch and return its loss."""
        settings = self.settings
        for group in self.optimiser.param_groups:
            group["lr"] = settings.learning_rate * (1 + math.cos(math.pi * share)) / 2
        truth = truth.to(self.device)
        with self._lowered():
            logits = self._learner(self._on_device(images))
        loss = loss_at(settings.loss, share, settings.finish_with_iou_fraction)(logits, truth)
        if not torch.isfinite(loss):
            raise InputError("training", f"the loss became {loss.item()}; lower the learning rate")
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        self._averaged.update_parameters(self._learner)
        return loss.item()

    @torch.inference_mode()
    def _validate(self) -> dict:
        """Return the mean and lowest of the muscles' median IoU on the network's grid, or NaN."""
        self.network.eval()
        rows = [self._overlap(sample, self._logits(sample)) for sample in self.validation]
        known = [column[~np.isnan(column)] for column in np.array(rows).reshape(-1, 8).T]
        medians = [np.median(column) for column in known if len(column)] or [math.nan]
        return {"validation_iou": float(np.mean(medians)), "lowest_iou": float(np.min(medians))}

    def _overlap(self, sample: Sample, logits: torch.Tensor) -> np.ndarray:
        """Return the IoU of a slice, (1, 8); NaN for muscles that are not annotated."""
        iou = slice_overlap(logits.argmax(dim=1).cpu().numpy(), sample.truth[None]).iou
        return np.where(sample.drawn, iou, np.nan)

    def _logits(self, sample: Sample) -> torch.Tensor:
        """Return logits, float32 (1, classes, rows, columns), on the sample's grid."""
        stride = self.settings.architecture.stride
        images = torch.from_numpy(padded(sample.image[None].astype(np.float32), stride))[None]
        rows, columns = sample.truth.shape
        with self._lowered():
            logits = self.network(self._on_device(images))
        return logits[:, :, :rows, :columns].float()

    def _on_device(self, images: torch.Tensor) -> torch.Tensor:
        return images.to(self.device, memory_format=torch.channels_last)

    def _lowered(self) -> torch.autocast:
        return torch.autocast(self.device.type, self._low, enabled=self._low is not None)

    def _save(self, path: Path) -> None:
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        torch.save(
            {
                "made_of": self._made_of,
                "learner": self._learner.state_dict(),
                "averaged": self._averaged.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "progress": asdict(self.progress),
            },
            draft,
        )
        os.replace(draft, path)

    def _resume(self, path: Path) -> None:
        state = torch.load(path, map_location=self.device, weights_only=True)
        if state["made_of"] != self._made_of:
            raise InputError(
                path,
                "the checkpoint is of a training with other settings, data or code; "
                "give these again to resume it, or delete the file to start anew",
            )
        self._learner.load_state_dict(state["learner"])
        self._averaged.load_state_dict(state["averaged"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.progress = Progress(**state["progress"])
        log.info("training: resumed after %d epochs", self.progress.epoch)


def _averaged(
    share: float, averaged: torch.Tensor, last: torch.Tensor, steps: torch.Tensor
) -> torch.Tensor:
    """Return the exponential moving average after a step; share: its decay, less in the first steps."""
    steps = int(steps)
    kept = min(share, (1 + steps) / (10 + steps))
    return torch.lerp(last, averaged, kept) if averaged.is_floating_point() else last


def _epoch_seed(seed: int, epoch: int) -> int:
    """Return the seed of an epoch's dropout: the same in a training that is resumed."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> 1)


@torch.no_grad()
def mix(network: UNet, start: UNet, start_weight: float) -> None:
    """Set a network's weights to s x initial + (1 - s) x trained, s = start_weight, 0-1.

    Trainings with a falling learning rate, one after the other, end in the same valley; its middle
    generalises better than its rim (Izmailov 2018).
    """
    first = start.state_dict()  # with the running means of normalisation layers
    for name, own in network.state_dict().items():
        if own.is_floating_point():
            own.lerp_(first[name].to(own), start_weight)


def _progress_bar() -> tqdm:
    """Return a bar from 0 to 1, disabled where stderr is no terminal."""
    form = "training {percentage:3.0f}% |{bar}| {elapsed} < {remaining}{postfix}"
    return tqdm(total=1.0, bar_format=form, disable=not sys.stderr.isatty())


def _show(bar: tqdm, share_done: float, loss: float) -> None:
    """Move the bar to a share (0-1) and show the loss of the last batch."""
    bar.set_postfix_str(f" loss {loss:.3f}", refresh=False)
    bar.update(share_done - bar.n)


def _line(row: dict) -> str:
    """Return a row of the learning curve as a line of the log."""
    return (
        f"{row['share_done']:.1%} after epoch {row['epoch']}, {row['seconds']:.0f} s: "
        f"loss {row['training_loss']:.4f}, "
        f"validation IoU {row['validation_iou']:.3f}, lowest muscle {row['lowest_iou']:.3f}"
    )
