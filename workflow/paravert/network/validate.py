"""Validation of a trained network on the held-out subjects, and its calibration by them."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from paravert.anatomy import LABELS, MUSCLES
from paravert.imaging.label_maps import drawn_labels, slice_overlap
from paravert.network.calibration import (
    FEWEST,
    NONE,
    Calibration,
    error_among_subjects,
    fitted,
    kept_lines,
    together,
)
from paravert.network.clean import cleaned
from paravert.network.predict import Predictor
from paravert.network.samples import stacks_with_truth
from paravert.network.unet import load_model


def quartiles(iou: np.ndarray) -> dict[str, dict[str, float | int | None]]:
    """Return median, quartiles and number of slices per label; iou: (slices, 8), NaN left out."""
    return {label.name: _summary(values) for label, values in zip(LABELS, iou.T, strict=True)}


def by_muscle(iou: np.ndarray) -> dict[str, dict[str, float | int | None]]:
    """Return what `quartiles` does per muscle, both sides together."""
    return {
        muscle: _summary(iou[:, [label.muscle == muscle for label in LABELS]].ravel())
        for muscle in MUSCLES
    }


def _summary(values: np.ndarray) -> dict[str, float | int | None]:
    known = values[~np.isnan(values)]
    lower, median, upper = np.quantile(known, (0.25, 0.5, 0.75)) if len(known) else (None,) * 3
    return {
        "median_iou": _rounded(median),
        "lower_quartile": _rounded(lower),
        "upper_quartile": _rounded(upper),
        "slices": len(known),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 4)


log = logging.getLogger(__name__)

METHOD = "on the images' own grids, averaged over mirror image and neighbouring slices, cleaned"
IouPairs = tuple[np.ndarray, np.ndarray]  # expected and found IoU of a subject, each (slices, 8)


@dataclass(frozen=True)
class Judgement:
    """How good a model is on the validation subjects, and its calibration by them.

    metrics, start_metrics: `quartiles` of the IoU, of the model and of the one that it was trained
    on; None without validation subjects.
    """

    calibration: Calibration
    calibration_error: float
    metrics: dict | None
    start_metrics: dict | None


def judge(
    model: Path,
    folder: Path,
    subjects: list[str],
    device: torch.device,
    start: tuple[Path, Calibration] | None,
) -> Judgement:
    """Return how good a model file is on the validation subjects, and log it.

    folder: with a folder per subject. start: file and calibration of the model it was trained on.
    """
    pairs = validated(model, folder, subjects, device)
    before = start[1] if start else NONE
    calibration = calibrated(pairs, before)
    metrics, start_metrics = _metrics(pairs), None
    if start:
        start_metrics = _metrics(validated(start[0], folder, subjects, device))
    _log_metrics(metrics, start_metrics)
    error = error_among_subjects(pairs, calibration, before)
    return Judgement(calibration, error, metrics, start_metrics)


def validated(
    model: Path, folder: Path, subjects: list[str], device: torch.device
) -> list[IouPairs]:
    """Return expected and found IoU of each subject, by a model file.

    Of the annotated slices, on the images' own grids, segmented as segment_muscles does by default.
    The found IoU is NaN for muscles that are not annotated in the subject.
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


def _metrics(pairs: list[IouPairs]) -> dict | None:
    """Return median and quartiles of the found IoU; None without subjects."""
    return quartiles(np.concatenate([found for _, found in pairs])) if pairs else None


def _log_metrics(metrics: dict | None, start_metrics: dict | None) -> None:
    """Log the median IoU of each muscle and side, beside it that of the start, and what has none."""
    for name, told in (metrics or {}).items():
        if not told["slices"]:
            log.warning("no validation mask contains the %s: no IoU", name)
            continue
        before = f", {start_metrics[name]['median_iou']:.3f} before" if start_metrics else ""
        log.info("%s: median IoU %.3f%s", name, told["median_iou"], before)


def calibrated(pairs: list[IouPairs], start: Calibration) -> Calibration:
    """Return the calibration by the validation subjects; log which muscles have too few slices.

    start: of the model that was trained on; kept where there are too few.
    """
    if not pairs:
        log.warning("no validation subject: the starting model's calibration is kept, if any")
        return start
    calibration = fitted(*together(pairs), start)
    kept = kept_lines(calibration, start)
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
