"""How good a trained network is on the subjects that were kept out, and its calibration by them."""

import logging
from pathlib import Path

import numpy as np
import torch

from paravert.anatomy import MUSCLES
from paravert.imaging.label_maps import drawn_labels, slice_overlap
from paravert.network.calibration import FEWEST, fitted, kept_lines, together
from paravert.network.clean import cleaned
from paravert.network.confidence import Calibration
from paravert.network.model import load_model
from paravert.network.predict import Predictor
from paravert.network.quartiles import quartiles
from paravert.network.samples import stacks_with_truth

log = logging.getLogger(__name__)

JUDGED = "on the images' own grids, mirror image and neighbours with a say, cleaned"


def validated(
    model: Path, folder: Path, subjects: list[str], device: torch.device
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return how good a model is as it was written: expected and found IoU of each subject.

    Of the segmented slices, (slices, 8), on the images' own grids, cleaned, as segment_muscles does by
    default; the found one is NaN for muscles that the subject's truth does not tell of.
    """
    predictor = Predictor(load_model(model, device), device, judging=True)
    pairs = []
    for subject in subjects:
        found, expected = [], []
        stacks = stacks_with_truth(folder / subject)
        muscles = drawn_labels(truth.array for _, truth in stacks)
        for image, truth in stacks:
            predicted = predictor.stack_predicted(
                image.array, image.pixel_spacing_mm, apart_mm=image.slice_spacing_mm
            )
            labels, _ = cleaned(predicted.labels)
            drawn = (truth.array != 0).any(axis=(1, 2))
            iou = slice_overlap(labels[drawn], truth.array[drawn]).iou
            found.append(np.where(muscles, iou, np.nan))
            expected.append(predicted.expected_iou[drawn])
        pairs.append((np.concatenate(expected), np.concatenate(found)))
    return pairs


def metrics_of(pairs: list[tuple[np.ndarray, np.ndarray]]) -> dict | None:
    """Return median and quartiles of the IoU that `validated` found; None without subjects."""
    return quartiles(np.concatenate([found for _, found in pairs])) if pairs else None


def tell_metrics(metrics: dict | None, start_metrics: dict | None) -> None:
    """Log the median IoU of each muscle and side, that of the start beside it, and who is not judged."""
    for name, told in (metrics or {}).items():
        if not told["slices"]:
            log.warning("train_network: nobody judges the %s: it is in no mask of theirs", name)
            continue
        before = f", {start_metrics[name]['median_iou']:.3f} before" if start_metrics else ""
        log.info("train_network: %s: median IoU %.3f%s", name, told["median_iou"], before)


def calibrated(pairs: list[tuple[np.ndarray, np.ndarray]], start: Calibration) -> Calibration:
    """Return the calibration by what `validated` returns; says which muscles get no line of their own.

    start: of the model that was started from.
    """
    if not pairs:
        log.warning(
            "train_network: nobody judges the model: IoU is predicted as before, or not at all"
        )
        return start
    calibration = fitted(*together(pairs), start)
    kept = kept_lines(calibration, start)
    without = [name for name in MUSCLES if name not in calibration.knots]
    for muscles, told in ((kept, "calibrated as that of the first model"), (without, "not told")):
        if muscles:
            log.warning(
                "train_network: the predicted IoU of %s is %s: under %d sections in validation",
                ", ".join(muscles).replace("_", " "), told, FEWEST,
            )  # fmt: skip
    return calibration
