"""Slices of phantom volunteers, rendered without the files around them."""

from dataclasses import dataclass

import numpy as np

from paravert.synthesis.body import body_of
from paravert.synthesis.cohort import cohort
from paravert.synthesis.protocol import protocol_of
from paravert.synthesis.signal import render_plane


@dataclass(frozen=True)
class PhantomSlices:
    """Some slices of a volunteer: images and labels, (slices, rows, columns), and the pixel size."""

    images: np.ndarray
    labels: np.ndarray
    pixel_mm: float


def phantom_slices(seed: int, volunteers: int, index: int, count: int) -> PhantomSlices:
    """Return so many slices, evenly spread, of one volunteer of a cohort."""
    volunteer = cohort(seed, volunteers)[index]
    body, protocol = body_of(volunteer), protocol_of(volunteer, index)
    numbers = np.linspace(2, protocol.slices - 3, count).astype(int)
    planes = [protocol.in_body(protocol.plane(number)) for number in numbers]
    sections = [render_plane(body, plane, protocol.grid, protocol.look) for plane in planes]
    images, labels = (
        np.stack([getattr(s, name) for s in sections]) for name in ("image", "labels")
    )
    return PhantomSlices(images, labels, protocol.pixel_mm)
