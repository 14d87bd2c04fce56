"""How well a muscle is segmented in a slice, as far as the network itself can tell: a predicted IoU.

Taken at their word, the network's probabilities say what overlap with the truth is to be expected:
of the pixels given to a muscle as many are right as their probabilities add up to, and elsewhere
the muscle is missed as often as its probability there says. Networks are surer of themselves than
they should be (Guo 2017), so what is expected is mapped to what was found on slices that were not
trained on: a rising line per muscle (`calibration`), kept with the model.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from paravert.anatomy import CLASSES, LABELS

CERTAIN = 10.0  # of a logit before all others: the class is wrong once in 2,700 times or less


def expected_iou(logits: torch.Tensor) -> np.ndarray:
    """Return the IoU to be expected of each slice and muscle, float32 (slices, 8), as in LABELS.

    logits: (slices, CLASSES, rows, columns). NaN where no pixel is given to the muscle.
    """
    return np.stack([_of_slice(one.float()) for one in logits])


def _of_slice(logits: torch.Tensor) -> np.ndarray:
    """Return the expected IoU of one slice, (8,); alone, so that no other slice changes a bit."""
    planes = logits.reshape(CLASSES, -1).contiguous()
    first, given = planes.max(dim=0)
    second = planes.scatter(0, given[None], -torch.inf).amax(dim=0)
    # Of most pixels the class is certain: only of the others are probabilities computed.
    open_ones = torch.nonzero(first - second < CERTAIN)[:, 0]
    probability = planes[:, open_ones].cpu().double().softmax(dim=0)
    given_there = given[open_ones].cpu()
    pixels = torch.bincount(given, minlength=CLASSES).cpu()
    certain = pixels - torch.bincount(given_there, minlength=CLASSES)
    right = certain + torch.bincount(given_there, probability.amax(dim=0), minlength=CLASSES)
    promised = certain + probability.sum(dim=1)
    expected = torch.where(pixels > 0, right / (pixels + promised - right), torch.nan)
    return expected[1:].float().numpy()


@dataclass(frozen=True)
class Calibration:
    """Lines from expected to found IoU.

    knots: by muscle two rising tuples, expected and found. A muscle that is not there has no line,
    and its IoU is not predicted.
    """

    knots: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]]

    def predicted(self, expected: np.ndarray) -> np.ndarray:
        """Return the predicted IoU, (slices, 8), of the expected one; NaN stays NaN."""
        result = np.full(expected.shape, np.nan, np.float32)
        for column, label in enumerate(LABELS):
            if label.muscle in self.knots:
                result[:, column] = np.interp(expected[:, column], *self.knots[label.muscle])
        return np.where(np.isnan(expected), np.float32(np.nan), result)
