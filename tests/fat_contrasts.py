"""Phantom slices of named contrasts, with fat brighter and darker than muscle, and the true labels."""

from dataclasses import dataclass, replace

import numpy as np

from paravert.synthesis.body import Body, body_of
from paravert.synthesis.dixon_signal import FATTY, FLUIDS, MIXED, MUSCLES
from paravert.synthesis.protocol import protocol_of
from paravert.synthesis.signal import render_planes
from paravert.synthesis.tissues import Tissue, TissueSignal
from paravert.synthesis.volunteers import volunteers as drawn_volunteers


@dataclass(frozen=True)
class Weights:
    """Signal of a contrast relative to the T2 phantom: of fat, muscle, fluid, and other tissue."""

    fat: float = 1.0
    muscle: float = 1.0
    fluid: float = 1.0
    other: float = 1.0


CONTRASTS = {
    "T2": Weights(),
    "T1": Weights(fat=1.0, muscle=1.8, fluid=0.2, other=0.8),
    "PD": Weights(fat=1.0, muscle=2.6, fluid=0.9, other=1.2),
    "dixon-fat": Weights(fat=0.9, muscle=0.08, fluid=0.02, other=0.05),
    "STIR": Weights(fat=0.06, muscle=1.2, fluid=1.0),
    "fat-suppressed": Weights(fat=0.15),
    "dixon-water": Weights(fat=0.05, muscle=2.0, fluid=0.6, other=1.2),
}


def contrast_slices(name: str, index: int, count: int = 4) -> tuple[np.ndarray, np.ndarray, float]:
    """Return (image, labels, pixel size in mm) of a phantom volunteer in a named contrast.

    name: of CONTRASTS, in-phase or opposed-phase. image: (slices, rows, columns) uint16.
    """
    volunteer = drawn_volunteers(1, 22)[index]
    protocol = protocol_of(volunteer, index)
    numbers = np.linspace(2, protocol.slices - 3, count).astype(int)
    planes = [protocol.in_body(protocol.plane(int(number))) for number in numbers]
    body, quiet = body_of(volunteer), replace(protocol.acquisition, noise=0.0)

    def rendered(weights: Weights, acquisition) -> list:
        own = replace(body, contrast=_weighted(body, weights))
        return list(render_planes(own, planes, protocol.grid, acquisition))

    if name in CONTRASTS:
        sections = rendered(CONTRASTS[name], protocol.acquisition)
        image = np.stack([section.image for section in sections])
    else:
        sign = {"in-phase": 1, "opposed-phase": -1}[name]
        sections = rendered(Weights(fat=0, muscle=2.0, fluid=0.5, other=1.2), quiet)
        only_fat = rendered(Weights(fat=0.9, muscle=0, fluid=0, other=0), quiet)
        image = np.stack(
            [np.abs(w.image + sign * f.image) for w, f in zip(sections, only_fat, strict=True)]
        )
        noise = np.random.default_rng(index).normal(
            0, protocol.acquisition.noise, (2, *image.shape)
        )
        image = np.hypot(image + noise[0], noise[1])
    labels = np.stack([section.labels for section in sections])
    return np.round(1000 * image).astype(np.uint16), labels, protocol.pixel_mm


def _weighted(body: Body, weights: Weights) -> TissueSignal:
    signal = body.contrast.signal.copy()
    other = np.ones(len(signal), bool)
    for tissues, factor in (
        (FATTY, weights.fat),
        (FLUIDS, weights.fluid),
        (MUSCLES, weights.muscle),
    ):
        signal[list(tissues)] *= factor
        other[list(tissues)] = False
    signal[other] *= weights.other
    fat = weights.fat * body.contrast.signal[Tissue.FAT]
    for tissue, share in MIXED.items():
        signal[tissue] = (1 - share) * signal[tissue] + share * fat
    return TissueSignal(signal, body.contrast.texture)
