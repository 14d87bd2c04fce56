"""The losses of a training: the paper's IoU loss, alone or added to the cross-entropy."""

import torch
from torch.nn import functional

LOSSES = ("iou", "cross_entropy_iou")


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
