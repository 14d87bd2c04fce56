"""Validation of a trained network on held-out subjects, and calibration of its predicted IoU."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from paravert.anatomy import LABELS, MUSCLES
from paravert.imaging.label_maps import drawn_labels, slice_overlap
from paravert.network.calibration import (
    FEWEST,
    NO_CALIBRATION,
    Calibration,
    fitted_calibration,
    kept_curves,
    leave_one_out_error,
    pooled,
)
from paravert.network.clean import cleaned
from paravert.network.predict import Predictor
from paravert.network.samples import stacks_with_truth
from paravert.network.unet import load_model

log = logging.getLogger(__name__)

METHOD = "on the images' own grids, averaged over mirror image and neighbouring slices, cleaned"
IouPairs = tuple[np.ndarray, np.ndarray]  # expected, measured IoU of a subject, each (slices, 8)


def quartiles(iou: np.ndarray) -> dict[str, dict[str, float | int | None]]:
    """Return the distribution of the IoU per muscle and side, for a model's card.

    iou: float (slices, 8), column k of label k + 1 (anatomy.LABELS); NaN (not known) is ignored, 0 is a
    value. Returns {label name: {"median_iou", "lower_quartile", "upper_quartile" (rounded to 4 digits, None
    without values), "slices" (number of values)}}.
    """
    return {label.name: _summary(values) for label, values in zip(LABELS, iou.T, strict=True)}


def by_muscle(iou: np.ndarray) -> dict[str, dict[str, float | int | None]]:
    """Return the distribution of the IoU per muscle, left and right pooled, for a model's card.

    iou: float (slices, 8), column k of label k + 1 (anatomy.LABELS); NaN (not known) is ignored. Returns
    {name in anatomy.MUSCLES: {"median_iou", "lower_quartile", "upper_quartile" (rounded to 4 digits, None
    without values), "slices" (number of values, each side of a slice counted)}}.
    """
    return {
        muscle: _summary(iou[:, [label.muscle == muscle for label in LABELS]].ravel())
        for muscle in MUSCLES
    }


def _summary(values: np.ndarray) -> dict[str, float | int | None]:
    known = values[~np.isnan(values)]
    names, shares = ("median_iou", "lower_quartile", "upper_quartile"), (0.5, 0.25, 0.75)
    if not len(known):
        return dict.fromkeys(names) | {"slices": 0}
    found = np.quantile(known, shares).tolist()
    rounded = {name: round(value, 4) for name, value in zip(names, found, strict=True)}
    return rounded | {"slices": len(known)}


@dataclass(frozen=True)
class Validation:
    """Accuracy of a model on the validation subjects, and the calibration fitted to them.

    calibration: per muscle a curve from the IoU estimated from the network's probabilities to the
    predicted IoU. calibration_error: 0-1, leave-one-subject-out, from `leave_one_out_error`; NaN:
    not known. metrics: measured IoU of the model, {label name: {"median_iou", "lower_quartile",
    "upper_quartile", "slices"}}, from `quartiles`; None without validation subjects. start_metrics:
    the same of the starting model; None without one or without validation subjects.
    """

    calibration: Calibration
    calibration_error: float
    metrics: dict | None
    start_metrics: dict | None


def validate(
    model: Path,
    folder: Path,
    subjects: list[list[str]],
    device: torch.device,
    start: tuple[Path, Calibration] | None,
) -> Validation:
    """Return, and log, the accuracy of a model file on the validation subjects, and its calibration.

    model: the model file; its own calibration is not used. folder: results/subjects, which contains a
    folder per scan. subjects: per validation subject the names of its scans, which have manual masks;
    []: the calibration is that of start (without start it has no curve), the accuracy unknown. device:
    that computes. start: file of the starting model, whose accuracy is measured, too, and its
    calibration, for `calibration_by`; None for a training from scratch.
    """
    pairs = iou_of_subjects(model, folder, subjects, device)
    before = start[1] if start else NO_CALIBRATION
    calibration = calibration_by(pairs, before)
    metrics, start_metrics = _metrics(pairs), None
    if start:
        start_metrics = _metrics(iou_of_subjects(start[0], folder, subjects, device))
    _log_metrics(metrics, start_metrics)
    error = leave_one_out_error(pairs, calibration, before)
    return Validation(calibration, error, metrics, start_metrics)


def iou_of_subjects(
    model: Path, folder: Path, subjects: list[list[str]], device: torch.device
) -> list[IouPairs]:
    """Return per subject a pair: expected and measured IoU of a model file, each float (slices, 8).

    Column k belongs to label k + 1 (anatomy.LABELS). Expected: estimated from the probabilities, not
    calibrated; NaN or 0 for a muscle without a predicted pixel (`Predicted`). Measured: NaN for muscles
    that the scan's masks do not contain, or that neither mask nor prediction show in a slice. Slices:
    those with manual labels, of all stacks. The converted images are segmented as by segment_muscles
    with its defaults, but without Dixon water and fat images, and compared on their own grids. model:
    the model file. folder: results/subjects, which contains a folder per scan. subjects: per subject
    the names of its scans, of which one at least has a manual mask. device: that computes.
    """
    predictor = Predictor(load_model(model, device), device, with_expected_iou=True)
    pairs = []
    for scans in subjects:
        found, expected = [], []
        for scan in scans:
            stacks = stacks_with_truth(folder / scan)
            muscles = drawn_labels(truth.array for _, truth in stacks)
            for image, truth in stacks:
                predicted = predictor.stack_predicted(
                    image.array, image.pixel_spacing_mm, apart_mm=image.slice_spacing_mm
                )
                labels, _ = cleaned(predicted.labels, apart_mm=image.slice_spacing_mm)
                drawn = (truth.array != 0).any(axis=(1, 2))
                iou = slice_overlap(labels[drawn], truth.array[drawn]).iou
                found.append(np.where(muscles, iou, np.nan))
                expected.append(predicted.expected_iou[drawn])
        pairs.append((np.concatenate(expected), np.concatenate(found)))
    return pairs


def _metrics(pairs: list[IouPairs]) -> dict | None:
    """Return the `quartiles` of the measured IoU over all subjects; None without subjects."""
    return quartiles(np.concatenate([found for _, found in pairs])) if pairs else None


def _log_metrics(metrics: dict | None, start_metrics: dict | None) -> None:
    """Log the median IoU per muscle and side, of the model and of the starting model."""
    for name, told in (metrics or {}).items():
        if not told["slices"]:
            log.warning("no validation mask contains the %s: no IoU", name)
            continue
        before = f", {start_metrics[name]['median_iou']:.3f} before" if start_metrics else ""
        log.info("%s: median IoU %.3f%s", name, told["median_iou"], before)


def calibration_by(pairs: list[IouPairs], start: Calibration) -> Calibration:
    """Return the calibration fitted to the validation subjects; log which muscles have too few slices.

    pairs: per subject the IoU estimated from the probabilities, and the measured one, each float
    (slices, 8), column k of label k + 1 (anatomy.LABELS), NaN if unknown. A pair of values with a NaN or
    an estimate of 0 is ignored. start: calibration of the starting model; its curve is kept for a
    muscle with fewer than 60 pairs left (sides pooled), and for all if there are no subjects. A
    muscle without a curve in it is then not predicted.
    """
    if not pairs:
        log.warning("no validation subject: the starting model's calibration is kept, if any")
        return start
    calibration = fitted_calibration(*pooled(pairs), start)
    kept = kept_curves(calibration, start)
    without = [name for name in MUSCLES if name not in calibration.knots]
    few = f"under {FEWEST} validation sections"
    for muscles, told in (
        (kept, "keeps the starting model's calibration"),
        (without, "is not predicted"),
    ):
        if muscles:
            names = ", ".join(muscles).replace("_", " ")
            log.warning("the predicted IoU of %s %s: %s", names, told, few)
    return calibration
