"""Median and quartiles of the IoU of many slices, as the model card reports them."""

import numpy as np

from paravert.anatomy import LABELS, MUSCLES


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
