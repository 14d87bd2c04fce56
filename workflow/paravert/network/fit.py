"""The training loop: losses, Adam with a cosine schedule, validation after every epoch, checkpoints."""

import io
import logging
import math
import os
import pickle
import struct
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import Dataset
from tqdm import tqdm

from paravert.errors import InputError
from paravert.imaging.label_maps import slice_overlap
from paravert.network.batches import EpochLoader
from paravert.network.grid import padded
from paravert.network.predict import device_kind, exact_float32
from paravert.network.samples import Sample
from paravert.network.settings import Settings
from paravert.network.unet import Model, UNet
from paravert.provenance import digest
from paravert.tables import whole_file

log = logging.getLogger(__name__)

# Largest norm of the gradient of a step; larger ones are scaled down. In pretraining, 0.4 to 1.3 are usual. Without
# this limit a training once lost the progress of an hour within an epoch of sound batches.
MOST_STEP_GRADIENT_NORM = 2.0
# What torch.load raises for a damaged file, or one of another kind (found with random damage).
DAMAGED = (
    *(EOFError, RuntimeError, LookupError, ValueError, AttributeError, TypeError),
    *(pickle.UnpicklingError, struct.error),
)


def soft_iou(probabilities: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return the soft IoU of each muscle over a batch, float (classes - 1,), entry k of label k + 1.

    probabilities: (batch, classes, rows, columns), 0-1. truth: labels, integer (batch, rows,
    columns), 0 to classes - 1. With probability p and truth t (0 or 1) of each pixel, the
    intersection is the sum of p t and the union the sum of p + t - p t over the batch. NaN for a
    muscle absent from truth, in the whole batch.
    """
    values = torch.arange(1, probabilities.shape[1], device=truth.device)
    muscles = truth[:, None] == values[:, None, None]
    probabilities = probabilities[:, 1:]
    shown = muscles.sum(dim=(0, 2, 3))
    both = torch.where(muscles, probabilities, 0.0).sum(dim=(0, 2, 3))
    union = probabilities.sum(dim=(0, 2, 3)) + shown - both
    return torch.where(shown > 0, both / union.clamp_min(1e-6), torch.nan)


def iou_loss(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return 1 - mean soft IoU of the muscles in the batch, a scalar: 0 is best, 1 is worst.

    Soft IoU (`soft_iou`): intersection over union, over the batch, of probabilities instead of labels;
    muscles absent from truth do not count. logits: float (batch, classes, rows, columns). truth: labels,
    integer (batch, rows, columns), 0 to classes - 1. 0 if the batch contains no muscle; otherwise NaN if
    a logit is NaN. Source: Niemeyer 2021, eq. 4, "the sum of the IoU"; the paper prints no minus sign,
    without which the worst network would have the lowest loss.
    """
    return _lost(_log_probabilities(logits).exp(), truth)


def cross_entropy_iou(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy over all pixels plus 1 - mean soft IoU of the muscles, a scalar.

    logits: float (batch, classes, rows, columns). truth: labels, integer (batch, rows, columns), 0
    to classes - 1. The second part is that of `iou_loss`: 0 if the batch contains no muscle. A training
    with this loss converges several times faster than with `iou_loss`.
    """
    logs = _log_probabilities(logits)
    return functional.nll_loss(logs, truth.long()) + _lost(logs.exp(), truth)


def _log_probabilities(logits: torch.Tensor) -> torch.Tensor:
    """Return the log-softmax over the classes, float32 (batch, classes, rows, columns), contiguous for speed."""
    return logits.float().contiguous().log_softmax(dim=1)


def _lost(probabilities: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return the mean of 1 - soft IoU over the muscles in truth; 0 if there is none."""
    # Which these are follows from truth: after a NaN in the network, every IoU is NaN.
    shown = truth.long().flatten().bincount(minlength=probabilities.shape[1])[1:] > 0
    iou = soft_iou(probabilities, truth)
    return torch.where(shown, 1 - iou, 0.0).sum() / shown.sum().clamp_min(1)


def loss_at(
    name: str, share_done: float, finish_with_iou_fraction: float
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Return the loss function of (logits, truth) that a training uses at a point of its course.

    name: "iou" (`iou_loss`) or "cross_entropy_iou" (the function of this name), not checked.
    share_done: fraction of the training that is done, 0 or more and below 1. finish_with_iou_fraction:
    last fraction of the training, 0-1, that uses `iou_loss` whatever the name; 0: none. The function
    takes logits, float (batch, classes, rows, columns), and labels, integer (batch, rows, columns), and
    returns a scalar tensor.
    """
    if name == "iou" or share_done >= 1 - finish_with_iou_fraction:
        return iou_loss
    return cross_entropy_iou


@dataclass
class Progress:
    """The progress of a training, and its learning curve.

    epoch: number of epochs done, one cut short by the time limit included. seconds: time of these
    epochs with their validation, of all runs of a resumed training. curve: one dict per epoch with
    the keys epoch (from 1), share_done (0-1), seconds (until its end), learning_rate (the last),
    training_loss (mean of the epoch), validation_iou and lowest_iou (median IoU of each muscle and
    side over the validation slices: mean and lowest of those known of the eight; NaN without any).
    """

    epoch: int = 0
    seconds: float = 0.0
    curve: list[dict] = field(default_factory=list)


def training_device(device: str, threads: int) -> torch.device:
    """Return the torch device for a training, and set torch's threads and full float32 precision.

    Set for the whole process, with deterministic cuDNN (`exact_float32`). device: "auto", "cpu" or
    "cuda"; auto: a GPU if there is one. threads: processor threads; 0: torch's default. Raises InputError
    for another device, and for cuda if there is no GPU.
    """
    if threads:
        torch.set_num_threads(threads)
    exact_float32()
    return torch.device(device_kind(device))


def low_format(device: torch.device) -> torch.dtype | None:
    """Return torch.bfloat16 if it makes the training faster on this device, else None (float32).

    On a processor it does with AMX alone, which `network/__init__.py` switches off unless the environment
    asks for it (ONEDNN_MAX_CPU_ISA=AVX512_CORE_AMX). Seconds per step of 8 slices of 192 x 192 pixels on
    two cores: 0.26 with AMX, 0.74 in bfloat16 without it, 0.52 in float32. On a GPU: if it computes
    bfloat16 itself.

    device: a processor or CUDA device, which trains.
    """
    if device.type == "cpu":
        allowed = "AMX" in os.environ.get("ONEDNN_MAX_CPU_ISA", "")
        low = allowed and torch.cpu._is_amx_tile_supported()
    else:
        low = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if low else None


def device_text(device: torch.device) -> str:
    """Return the device in words, such as "cpu (8 threads)", for logs and model cards."""
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return f"cpu ({torch.get_num_threads()} threads)"


def write_checkpoint(path: Path, state: Mapping[str, object], made_of: str) -> None:
    """Write the checkpoint of a training, completely or not at all; creates its folder.

    path: of the checkpoint, replaced if it exists. state: what `read_checkpoint` is to return:
    tensors, numbers and texts in dicts and lists. made_of: digest of settings and data together.
    Raises OSError if the disk is full.
    """
    # By way of memory: torch tells a full disk as "unexpected pos".
    content = io.BytesIO()
    torch.save({**state, "made_of": made_of}, content)
    with whole_file(path) as draft:
        draft.write_bytes(content.getbuffer())


def read_checkpoint(path: Path, made_of: str) -> dict[str, Any]:
    """Return the state of a training in a checkpoint, as given to `write_checkpoint`; tensors on the CPU.

    path: of the checkpoint. made_of: digest of settings and data together. Raises InputError if the file
    is absent, unreadable, damaged or no checkpoint, or if it was written with another made_of.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(path, f"the checkpoint may not be read ({error.strerror})") from None
    except DAMAGED as error:
        told = f"no checkpoint, or a damaged one ({error!r:.60})"
        raise InputError(path, f"{told}; delete the file to start the training anew") from error
    if not isinstance(state, dict) or state.pop("made_of", None) != made_of:
        raise InputError(
            path,
            "the checkpoint is of a training with other settings, data or code; "
            "give these again to resume it, or delete the file to start anew",
        )
    return state


def checkpoint_file(out: Path) -> Path:
    """Return the path of a training's checkpoint; out: the model file (own.safetensors: own.checkpoint)."""
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
    """Train to the end and return the training, whose `network` has the trained weights.

    Resumes from the checkpoint beside the model file (`checkpoint_file`), if there is one, and writes it
    after every epoch; it is still there at the end.

    settings: of the training.
    dataset: as for `EpochLoader`: dataset[epoch, number], both from 0, is a batch of images, float32
        (batch, 1, rows, columns), and labels, uint8 (batch, rows, columns); len() is the number of batches
        of an epoch.
    validation: annotated slices whose IoU is measured after every epoch; may be empty.
    device: that trains.
    out: the model file that the caller will write; its folder is created.
    made_of: digest, any text, of all that the training depends on besides the settings: data, starting
        model, version of the code. The checkpoint stores its digest with that of the settings; start
        is not compared otherwise.
    start: model with the initial weights, of the settings' architecture; None: random weights.
    workers: processes that prepare batches ahead; 0: this process prepares them when needed.

    Raises InputError if the checkpoint is damaged or belongs to other settings or to data with another
    made_of, or if the loss becomes infinite or NaN.
    """
    log.info("training on %s, seed %d", device_text(device), settings.seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    with EpochLoader(dataset, workers) as loader:
        training = Training(settings, loader, validation, device, made_of=made_of, start=start)
        training.run(checkpoint_file(out))
    return training


class Training:
    """A network in training: weights, moving average of the weights, optimiser, progress.

    A new object has trained nothing yet: call `run`. settings: of the training. loader: its batches,
    epoch by epoch, to be open while `run` works. validation: annotated slices whose IoU is measured
    after every epoch; may be empty. device: that trains. made_of: digest of the training data; `run`
    rejects a checkpoint of other settings or another made_of. start: model with the initial weights, of
    the same architecture as the settings'; None: random weights. Attribute progress: completed epochs,
    seconds and learning curve.
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
        """The network with the moving average of the weights; eval() it to predict (property)."""
        return self._averaged.module

    @property
    def steps(self) -> int:
        """Number of batches trained on so far, those before a resumption included (property)."""
        return int(self._averaged.n_averaged)

    def run(
        self, checkpoint: Path | None = None, after_epoch: Callable[[Progress], None] | None = None
    ) -> None:
        """Train until the minutes of the settings are over or, if these are 0, the epochs are done.

        checkpoint: file to resume from, if it exists, and to write after every epoch; None: neither.
        after_epoch: called with the progress after every epoch. Raises InputError if the checkpoint is
        damaged or belongs to other settings or another made_of, or if the loss becomes infinite or NaN.
        """
        if checkpoint is not None and checkpoint.exists():
            self._resume(checkpoint)
        with _progress_bar() as bar:
            while self._share(0) < 1:
                row = self._epoch(bar)
                self.progress.curve.append(row)
                if bar.disable:
                    log.info(
                        "training: %.1f%% after epoch %d, %.0f s: loss %.4f, validation IoU %.3f, lowest muscle %.3f",
                        100 * row["share_done"],
                        row["epoch"],
                        row["seconds"],
                        row["training_loss"],
                        row["validation_iou"],
                        row["lowest_iou"],
                    )
                if checkpoint is not None:
                    self._save(checkpoint)
                if after_epoch is not None:
                    after_epoch(self.progress)

    def _epoch(self, bar: tqdm) -> dict:
        """Train for one epoch, validate, and return the row of the learning curve."""
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
            bar.set_postfix_str(f" loss {losses[-1]:.3f}", refresh=False)
            bar.update(share - bar.n)
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
        """Return the share of the training done after so many steps of this epoch; may exceed 1."""
        if self.settings.minutes > 0:
            return self.progress.seconds / (60 * self.settings.minutes)
        steps = len(self.loader)
        return (self.progress.epoch * steps + step) / (self.settings.epochs * steps)

    def _step(self, images: torch.Tensor, truth: torch.Tensor, share: float) -> float:
        """Update the weights by one batch and return its loss; share: fraction of the training done."""
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
        torch.nn.utils.clip_grad_norm_(self._learner.parameters(), MOST_STEP_GRADIENT_NORM)
        self.optimiser.step()
        self._averaged.update_parameters(self._learner)
        return loss.item()

    @torch.inference_mode()
    def _validate(self) -> dict:
        """Return the mean and the lowest of the muscles' median IoU over the validation slices, or NaN."""
        self.network.eval()
        rows = [self._iou(sample) for sample in self.validation]
        known = [column[~np.isnan(column)] for column in np.array(rows).reshape(-1, 8).T]
        medians = [np.median(column) for column in known if len(column)] or [math.nan]
        return {"validation_iou": float(np.mean(medians)), "lowest_iou": float(np.min(medians))}

    def _iou(self, sample: Sample) -> np.ndarray:
        """Return the IoU of each muscle in a slice, (1, 8); NaN if not annotated or in neither map."""
        stride = self.settings.architecture.stride
        images = torch.from_numpy(padded(sample.image[None].astype(np.float32), stride))[None]
        rows, columns = sample.truth.shape
        with self._lowered():
            logits = self.network(self._on_device(images))
        labels = logits[:, :, :rows, :columns].float().argmax(dim=1)
        iou = slice_overlap(labels.cpu().numpy(), sample.truth[None]).iou
        return np.where(sample.drawn, iou, np.nan)

    def _on_device(self, images: torch.Tensor) -> torch.Tensor:
        return images.to(self.device, memory_format=torch.channels_last)

    def _lowered(self) -> torch.autocast:
        return torch.autocast(self.device.type, self._low, enabled=self._low is not None)

    def _save(self, path: Path) -> None:
        state = {
            "learner": self._learner.state_dict(),
            "averaged": self._averaged.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "progress": asdict(self.progress),
        }
        write_checkpoint(path, state, self._made_of)

    def _resume(self, path: Path) -> None:
        state = read_checkpoint(path, self._made_of)
        self._learner.load_state_dict(state["learner"])
        self._averaged.load_state_dict(state["averaged"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.progress = Progress(**state["progress"])
        log.info("training: resumed after %d epochs", self.progress.epoch)


def _averaged(
    share: float, averaged: torch.Tensor, last: torch.Tensor, steps: torch.Tensor
) -> torch.Tensor:
    """Return the moving average of a tensor after a step: kept x averaged + (1 - kept) x last.

    kept is share, or less in the first steps: (1 + steps) / (10 + steps).
    """
    steps = int(steps)
    kept = min(share, (1 + steps) / (10 + steps))
    return torch.lerp(last, averaged, kept) if averaged.is_floating_point() else last


def _epoch_seed(seed: int, epoch: int) -> int:
    """Return the seed of an epoch's dropout, equal in a resumed training."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> 1)


@torch.no_grad()
def mix_weights(network: UNet, start: UNet, start_weight: float) -> None:
    """Set a network's weights to s x initial + (1 - s) x trained.

    So s = 0 leaves them as trained. network: trained; changed in place. start: initial, of the same
    architecture. start_weight: s, 0-1. Averages of the weights at several points of a training generalise
    better than the last ones (Izmailov 2018).
    """
    first = start.state_dict()  # includes the running means of normalisation layers
    for name, own in network.state_dict().items():
        if own.is_floating_point():
            own.lerp_(first[name].to(own), start_weight)


def _progress_bar() -> tqdm:
    """Return a progress bar from 0 to 1 on stderr, disabled if that is not a terminal."""
    form = "training {percentage:3.0f}% |{bar}| {elapsed} < {remaining}{postfix}"
    return tqdm(total=1.0, bar_format=form, disable=not sys.stderr.isatty())
