"""Dixon slices of phantom volunteers with their true labels and fat."""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from paravert.synthesis.body import body_of
from paravert.synthesis.dixon_signal import PARTS, render_dixon
from paravert.synthesis.protocol import protocol_of
from paravert.synthesis.volunteers import volunteers as drawn_volunteers


@dataclass(frozen=True)
class DixonStack:
    """images: by part of PARTS, (slices, rows, columns). labels: likewise. fat: planted, (slices, 8)."""

    images: dict[str, np.ndarray]
    labels: np.ndarray
    fat: np.ndarray
    pixel_mm: float
    noise: float  # SD in each channel of an echo


@cache
def dixon_stack(index: int, count: int = 4, noise_times: float = 1.0) -> DixonStack:
    """Return evenly spread slices of a volunteer; noise_times: of the protocol's. Not to be modified."""
    volunteer = drawn_volunteers(1, 22)[index]
    protocol = protocol_of(volunteer, index)
    numbers = np.linspace(2, protocol.slices - 3, count).astype(int)
    planes = [protocol.in_body(protocol.plane(int(number))) for number in numbers]
    noise = noise_times * protocol.acquisition.noise
    acquisition = replace(protocol.acquisition, noise=noise)
    slices = list(render_dixon(body_of(volunteer), planes, protocol.grid, acquisition))
    return DixonStack(
        {part: np.stack([one.images[part] for one in slices]) for part in PARTS},
        np.stack([one.truth.labels for one in slices]),
        np.stack([one.truth.mean_fat_fraction for one in slices]),
        protocol.pixel_mm,
        noise,
    )
