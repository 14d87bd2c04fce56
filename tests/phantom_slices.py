"""Slices of phantom volunteers, rendered without the files around them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from paravert.synthesis.body import body_of
from paravert.synthesis.protocol import Protocol, protocol_of
from paravert.synthesis.raster import centred_grid
from paravert.synthesis.signal import BEHIND_SPINE_MM, Acquisition, RenderedSlice, render_planes
from paravert.synthesis.solids import CutPlane, Tube, axial_plane
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
    acquisition = replace(protocol.acquisition, thickness_mm=apart_mm)
    protocol = replace(protocol, spacing_mm=apart_mm, acquisition=acquisition)
    return _rendered(volunteer, protocol, middle + np.arange(count) - (count - 1) / 2)


def _rendered(volunteer: Volunteer, protocol: Protocol, numbers: Sequence[float]) -> PhantomSlices:
    body = body_of(volunteer)
    planes = [protocol.in_body(protocol.plane(number)) for number in numbers]
    sections = list(render_planes(body, planes, protocol.grid, protocol.acquisition))
    images, labels = (
        np.stack([getattr(s, name) for s in sections]) for name in ("image", "labels")
    )
    return PhantomSlices(images, labels, protocol.pixel_mm)


def render_slice(
    volunteer: Volunteer,
    level: float = 3.0,
    *,
    matrix: int = 320,
    pixel_mm: float = 0.75,
    tilt_deg: float = 0.0,
    rotation_deg: float = 0.0,
    shift_mm: tuple[float, float] = (0.0, 0.0),
    acquisition: Acquisition | None = None,
) -> RenderedSlice:
    """Render an axial slice of a volunteer at a level (1.0 mid L1, 1.5 disc L1/L2, 5.0 mid L5).

    matrix: rows and columns. tilt_deg: positive raises the back edge towards the head.
    rotation_deg: turns the subject in the picture. shift_mm: moves the picture's middle to the
    left and back of where it would lie, a little before the spine. A pure function of its
    arguments.
    """
    body = body_of(volunteer)
    x, y = body.spine.middle(level) + shift_mm
    centre = np.array([x, y + BEHIND_SPINE_MM, float(body.spine.height_mm(level))])
    tilt = np.tan(np.deg2rad(tilt_deg))
    centre[2] += BEHIND_SPINE_MM * tilt  # the plane meets the spine's axis at the level
    plane = axial_plane(np.zeros(3), tilt_deg).turned(rotation_deg)
    plane = CutPlane(centre, plane.across, plane.down)
    return next(
        render_planes(body, [plane], centred_grid(matrix, pixel_mm), acquisition or Acquisition())
    )


def section_outline(tube: Tube, plane: CutPlane) -> np.ndarray | None:
    """Return the outline that a plane cuts from a tube, (vertices, 2) in mm; None if it misses."""
    (outlines,) = tube.sections([plane], (0.0,))
    return outlines.points if len(outlines.points) > 2 else None
