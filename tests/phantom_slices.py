"""Slices of phantom volunteers, rendered without the files around them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from paravert.synthesis.body import body_of
from paravert.synthesis.protocol import Protocol, protocol_of
from paravert.synthesis.signal import render_plane
from paravert.synthesis.volunteers import Volunteer
from paravert.synthesis.volunteers import volunteers as drawn_volunteers


@dataclass(frozen=True)
class PhantomSlices:
    """Some slices of a volunteer: images and labels, (slices, rows, columns), and the pixel size."""

    images: np.ndarray
    labels: np.ndarray
    pixel_mm: float


def phantom_slices(seed: int, volunteers: int, index: int, count: int) -> PhantomSlices:
    """Return so many slices, evenly spread, of one volunteer of a cohort."""
    volunteer = drawn_volunteers(seed, volunteers)[index]
    protocol = protocol_of(volunteer, index)
    numbers = np.linspace(2, protocol.slices - 3, count).astype(int)
    return _rendered(volunteer, protocol, numbers)


def phantom_stack(
    seed: int, volunteers: int, index: int, apart_mm: float, count: int
) -> PhantomSlices:
    """Return the middle slices of one volunteer of a cohort, cut as thick as they lie apart."""
    volunteer = drawn_volunteers(seed, volunteers)[index]
    protocol = protocol_of(volunteer, index)
    middle = (protocol.slices - 1) / 2 * protocol.spacing_mm / apart_mm
    look = replace(protocol.look, thickness_mm=apart_mm)
    protocol = replace(protocol, spacing_mm=apart_mm, look=look)
    return _rendered(volunteer, protocol, middle + np.arange(count) - (count - 1) / 2)


def _rendered(volunteer: Volunteer, protocol: Protocol, numbers: Sequence[float]) -> PhantomSlices:
    body = body_of(volunteer)
    planes = [protocol.in_body(protocol.plane(number)) for number in numbers]
    sections = [render_plane(body, plane, protocol.grid, protocol.look) for plane in planes]
    images, labels = (
        np.stack([getattr(s, name) for s in sections]) for name in ("image", "labels")
    )
    return PhantomSlices(images, labels, protocol.pixel_mm)
