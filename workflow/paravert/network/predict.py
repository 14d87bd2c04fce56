"""From images to labels by a model: standardised, resampled, predicted and exactly back."""

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch

from paravert.anatomy import LABELS, OTHER_SIDE
from paravert.network.clock import Clock
from paravert.network.confidence import expected_iou
from paravert.network.device import low_format
from paravert.network.fused import FusedUNet, can_fuse
from paravert.network.grid import (
    labels_on_image,
    network_size,
    padded,
    resampled,
    standardise,
)
from paravert.network.model import Model
from paravert.network.neighbours import (
    NEIGHBOURS_MM,
    bonds_of,
    neighbour_weight,
    with_neighbours,
)

TOGETHER = 8  # slices at once on the processor: with fewer each call costs more, with 16 no less


@dataclass(frozen=True)
class Prepared:
    """A stack as the network takes it.

    slices: float32 (n, 1, rows, columns), padded. size: rows and columns without the padding; shape:
    of the image. bonds: see `bonds_of`; None where slices are no neighbours. handed_on: logits that one
    piece leaves for the next, by slice: of one predictor.
    """

    slices: torch.Tensor
    size: tuple[int, int]
    shape: tuple[int, int]
    bonds: torch.Tensor | None = None
    handed_on: dict[int, torch.Tensor] = field(default_factory=dict, compare=False, repr=False)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns with the padding: slices of one grid can pass the network together."""
        return tuple(self.slices.shape[2:])


@dataclass(frozen=True)
class Piece:
    """Neighbouring slices of a stack, start to before stop."""

    stack: Prepared
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def wider(self) -> "Piece":
        """Return the piece with its neighbours before and behind, as far as it has any."""
        if self.stack.bonds is None:
            return self
        return Piece(self.stack, max(0, self.start - 1), min(len(self.stack.slices), self.stop + 1))

    def taken(self) -> list[torch.Tensor]:
        """Return the logits of its first slices that an earlier piece left; never of all of them."""
        found = []
        for number in range(self.start, self.stop - 1):
            # Taken away at once: another thread may look for them for its own piece.
            if (logits := self.stack.handed_on.pop(number, None)) is None:
                break
            found.append(logits[None])
        return found


@dataclass(frozen=True)
class Predicted:
    """What a model made of some slices.

    labels: uint8 (slices, rows, columns), on the image's own grid. expected_iou: float32 (slices,
    8), before any calibration; NaN where that is not asked for, which saves time.
    """

    labels: np.ndarray
    expected_iou: np.ndarray


class Predictor:
    """A model at work on a device; may be called from several threads.

    low: number format inside the network, None for float32; as the device does best if not given.
    flip: the mean of each slice's logits and of those of its mirror image decides. neighbours_mm: and
    of those of the slices beside it, see `neighbour_weight`.
    judging: the expected IoU is told of a model without calibration, too.
    """

    def __init__(
        self,
        model: Model,
        device: torch.device,
        low: torch.dtype | None | str = "best",
        *,
        flip: bool = True,
        neighbours_mm: float = NEIGHBOURS_MM,
        judging: bool = False,
    ):
        self.model, self.device, self.flip = model, device, flip
        self._neighbours_mm = neighbours_mm
        self._judging = judging or bool(model.calibration.knots)
        self.low = low_format(device, "prediction") if low == "best" else low
        self.clock = Clock()
        self._forward = _forward(model, self.low)
        self._streams = threading.local()
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # the weights are there before another stream reads them

    @torch.inference_mode()
    def prepared(
        self, image: np.ndarray, spacing_mm: tuple[float, float], *, apart_mm: float
    ) -> Prepared:
        """Return a stack (slices, rows, columns) of any intensity scale for the network.

        spacing_mm: between rows, columns. apart_mm: between slices; infinite where they are not
        neighbours.
        """
        shape = image.shape[1:]
        size = network_size(shape, spacing_mm, self.model.spacing_mm)
        slices = torch.from_numpy(standardise(image))[:, None]
        stride = self.model.network.architecture.stride
        bonds = bonds_of(image, neighbour_weight(apart_mm, self._neighbours_mm))
        return Prepared(padded(resampled(slices, size), stride), size, shape, bonds)

    @torch.inference_mode()
    def predicted(self, pieces: Sequence[Piece]) -> list[Predicted]:
        """Return what the model makes of each piece.

        pieces: of one grid, of any stacks. What else is in the batch changes no bit of a slice.
        """
        seen = [piece.wider() for piece in pieces]
        known = [one.taken() for one in seen]
        new = [
            one.stack.slices[one.start + len(before) : one.stop]
            for one, before in zip(seen, known, strict=True)
        ]
        slices = torch.cat(new)
        with self._stream():
            logits = self._logits(slices, counted=sum(map(len, pieces)))
            if self.flip:
                logits = (logits + self._mirrored(slices)) / 2
            parts = logits.split([len(one) for one in new])
            return [
                self._of_piece(piece, torch.cat([*before, part]) if before else part, one)
                for piece, before, part, one in zip(pieces, known, parts, seen, strict=True)
            ]

    def _of_piece(self, piece: Piece, logits: torch.Tensor, seen: Piece) -> Predicted:
        """Return what the logits of all that was seen say of a piece."""
        if seen.stop > piece.stop and self.device.type != "cuda":
            # The next piece sees these, too; on a GPU it may be in another queue, and computes them.
            for number in (piece.stop - 1, piece.stop):
                piece.stack.handed_on[number] = logits[number - seen.start].clone()
        if piece.stack.bonds is not None:
            logits = with_neighbours(logits, piece.stack.bonds[seen.start : seen.stop - 1])
        own = logits[piece.start - seen.start : piece.stop - seen.start]
        size = piece.stack.size
        return Predicted(
            labels_on_image(own, size, piece.stack.shape).cpu().numpy(),
            self._expected(own[:, :, : size[0], : size[1]]),
        )

    def _expected(self, logits: torch.Tensor) -> np.ndarray:
        if self._judging:
            return expected_iou(logits)
        return np.full((len(logits), len(LABELS)), np.nan, np.float32)

    def stack_labels(
        self,
        image: np.ndarray,
        spacing_mm: tuple[float, float],
        *,
        apart_mm: float,
        batch_size: int = TOGETHER,
    ) -> np.ndarray:
        """Return the labels of a whole stack, uint8 (slices, rows, columns), on its own grid."""
        return self.stack_predicted(
            image, spacing_mm, apart_mm=apart_mm, batch_size=batch_size
        ).labels

    def stack_predicted(
        self,
        image: np.ndarray,
        spacing_mm: tuple[float, float],
        *,
        apart_mm: float,
        batch_size: int = TOGETHER,
    ) -> Predicted:
        """Return what the model makes of a whole stack."""
        return self.whole(self.prepared(image, spacing_mm, apart_mm=apart_mm), batch_size)

    def whole(self, stack: Prepared, batch_size: int = TOGETHER) -> Predicted:
        """Return what the model makes of all slices of a stack that is ready for the network."""
        count = len(stack.slices)
        starts = range(0, count, batch_size)
        pieces = [Piece(stack, start, min(start + batch_size, count)) for start in starts]
        parts = [self.predicted([piece])[0] for piece in pieces]
        stack.handed_on.clear()
        return Predicted(
            np.concatenate([part.labels for part in parts]),
            np.concatenate([part.expected_iou for part in parts]),
        )

    def _mirrored(self, slices: torch.Tensor) -> torch.Tensor:
        """Return the logits of the mirror images, turned back."""
        return self._logits(slices.flip(3), counted=0).flip(3)[:, list(OTHER_SIDE)]

    def _logits(self, slices: torch.Tensor, counted: int) -> torch.Tensor:
        """Return logits; counted: as how many slices the clock takes them."""
        if self.device.type != "cuda":
            with self.clock.running(counted):
                return self._forward(slices.contiguous(memory_format=torch.channels_last))
        # From pinned memory the copy of one thread goes on beside the computation of another.
        there = slices.pin_memory().to(self.device, non_blocking=True)
        with self.clock.running(counted):
            logits = self._forward(there.contiguous(memory_format=torch.channels_last))
            torch.cuda.current_stream(self.device).synchronize()
        return logits

    def _stream(self) -> AbstractContextManager:
        """Return the queue of this thread on a GPU, so that the batches of two threads overlap."""
        if self.device.type != "cuda":
            return nullcontext()
        if not hasattr(self._streams, "own"):
            self._streams.own = torch.cuda.Stream(self.device)
        return torch.cuda.stream(self._streams.own)


def _forward(model: Model, low: torch.dtype | None) -> Callable[[torch.Tensor], torch.Tensor]:
    if can_fuse(model.network):
        return FusedUNet(model.network, low or torch.float32)
    return partial(_twice_if_single, partial(model.network, low=low))


def _twice_if_single(
    forward: Callable[[torch.Tensor], torch.Tensor], slices: torch.Tensor
) -> torch.Tensor:
    """Return the logits; a single slice goes in twice.

    For one slice the processor's library takes other kernels than for several, which round
    otherwise; from two on the bits are equal whatever the number (tested for widths 4 to 16).
    """
    if len(slices) > 1:
        return forward(slices)
    pair = slices.expand(2, -1, -1, -1).contiguous(memory_format=torch.channels_last)
    return forward(pair)[:1]
