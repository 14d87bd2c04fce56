"""The scan protocol of a volunteer: matrix, spacing, gaps, tilt and numbering, varied by index."""

from dataclasses import dataclass

import numpy as np

from paravert.synthesis.body import body_of
from paravert.synthesis.raster import PixelGrid, centred_grid
from paravert.synthesis.signal import BEHIND_SPINE_MM, Look
from paravert.synthesis.solids import CutPlane, axial_plane
from paravert.synthesis.volunteers import Volunteer

# Matrix and pixel spacing in mm; the field of view lies between 218 and 273 mm.
MATRICES = ((320, 0.75), (256, 0.8594), (384, 0.625), (320, 0.6875), (288, 0.9), (320, 0.8438))
SPACINGS_MM = (6.6, 7.0, 6.0, 7.5)
FIRST_LEVEL, LAST_LEVEL = 0.63, 5.37  # upper edge of L1, lower edge of L5
FEWEST_SLICES = 20
HIND_MARGIN_MM = 14.0  # kept behind the hindmost muscle
TILTED_SMALLEST_FIELD_MM = 240.0


@dataclass(frozen=True)
class Protocol:
    """The axial series of one subject in the scanner's (patient) coordinates.

    first: plane of the most caudal slice; the others follow along its normal, spacing_mm apart.
    rotation_deg, offset_mm: how the subject lies, anatomy to scanner.
    """

    grid: PixelGrid
    pixel_mm: float
    slices: int
    spacing_mm: float
    thickness_mm: float
    tilt_deg: float
    first: CutPlane
    rotation_deg: float
    offset_mm: tuple[float, float, float]
    bits: int
    compressed: bool
    cranial_first: bool
    look: Look

    def plane(self, number: int) -> CutPlane:
        """Return the plane of a slice, 0 the most caudal, in scanner coordinates."""
        return self.first.moved(number * self.spacing_mm)

    def in_body(self, plane: CutPlane) -> CutPlane:
        """Return a plane given in scanner coordinates in the frame of the anatomy."""
        shifted = CutPlane(plane.centre - np.array(self.offset_mm), plane.across, plane.down)
        return shifted.turned(-self.rotation_deg)


def protocol_of(volunteer: Volunteer, index: int) -> Protocol:
    """Return the protocol of the volunteer with this index in the cohort.

    Every third series has gaps, every fourth is tilted by 6 to 15 degrees, every fifth is
    compressed, every second is numbered from the head.
    """
    rng = np.random.default_rng([volunteer.seed, 51])
    spine = body_of(volunteer).spine
    tilt = float(rng.uniform(6, 15) * rng.choice((-1, 1))) if index % 4 == 2 else 0.0
    matrix, pixel_mm = MATRICES[index % len(MATRICES)]
    if tilt and matrix * pixel_mm < TILTED_SMALLEST_FIELD_MM:
        matrix, pixel_mm = MATRICES[-1]
    spacing = SPACINGS_MM[index % len(SPACINGS_MM)]
    gap = float(rng.uniform(0.15, 0.4)) * spacing if index % 3 == 1 else 0.0
    height = (LAST_LEVEL - FIRST_LEVEL) * spine.pitch_mm * np.cos(np.deg2rad(tilt))
    slices = max(FEWEST_SLICES, int(np.ceil(height / spacing)) + 1)
    rotation = float(rng.normal(0, 1.2))
    offset = tuple(np.round(rng.normal((0, 15, -40), (6, 6, 20)), 3).tolist())
    look = Look(
        thickness_mm=round(spacing - gap, 1),
        noise=float(rng.uniform(0.018, 0.032)),
        bias=float(rng.uniform(0.35, 0.65)),
        blur_px=float(rng.uniform(0.4, 0.6)),
    )
    middle = _middle_plane(volunteer, tilt, matrix * pixel_mm / 2)
    middle = middle.turned(rotation)
    middle = CutPlane(middle.centre + np.array(offset), *_rounded_axes(tilt))
    return Protocol(
        grid=centred_grid(matrix, pixel_mm),
        pixel_mm=pixel_mm,
        slices=slices,
        spacing_mm=spacing,
        thickness_mm=look.thickness_mm,
        tilt_deg=tilt,
        first=middle.moved(-(slices - 1) / 2 * spacing),
        rotation_deg=rotation,
        offset_mm=offset,
        bits=16 if index % 4 == 1 else 12,
        compressed=index % 5 == 3,
        cranial_first=index % 2 == 0,
        look=look,
    )


def _rounded_axes(tilt_deg: float) -> tuple[np.ndarray, np.ndarray]:
    plane = axial_plane(np.zeros(3), tilt_deg)
    return plane.across, plane.down


def _middle_plane(volunteer: Volunteer, tilt_deg: float, half_field_mm: float) -> CutPlane:
    """Return the plane in the middle of the stack, placed so that no back muscle is cut off."""
    body = body_of(volunteer)
    level = (FIRST_LEVEL + LAST_LEVEL) / 2
    x, y = body.spine.middle(level)
    plane = axial_plane(np.array([x, y, float(body.spine.height_mm(level))]), tilt_deg)
    points = np.concatenate(
        [part.tube.rings.reshape(-1, 3) for part in body.parts if part.tissue in (5, 6, 7, 8)]
    )
    hindmost = float(((points - plane.centre) @ plane.down).max())
    shift = max(BEHIND_SPINE_MM, hindmost + HIND_MARGIN_MM - half_field_mm)
    return CutPlane(plane.centre + shift * plane.down, plane.across, plane.down)
