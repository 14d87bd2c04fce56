"""The series of a phantom study: geometry of the axial series, sagittal series and localizer.

Sagittal images and localizer are cut from a coarse stack of axial planes of the same body, so all
series show the same spine.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from paravert.anatomy import LABEL_VALUES
from paravert.synthesis.body import Body, body_of
from paravert.synthesis.random_fields import field_tile, window
from paravert.synthesis.raster import PixelGrid, centred_grid
from paravert.synthesis.signal import BEHIND_SPINE_MM, Acquisition
from paravert.synthesis.solids import CutPlane, axial_plane
from paravert.synthesis.volunteers import Volunteer

# Matrix and pixel spacing in mm; the field of view lies between 218 and 273 mm.
MATRICES = ((320, 0.75), (256, 0.8594), (384, 0.625), (320, 0.6875), (288, 0.9), (320, 0.8438))
SPACINGS_MM = (6.6, 7.0, 6.0, 7.5)
FIRST_LEVEL, LAST_LEVEL = 0.63, 5.37  # upper edge of L1, lower edge of L5
FEWEST_SLICES = 20
HIND_MARGIN_MM = 14.0  # kept behind the hindmost muscle
TILTED_SMALLEST_FIELD_MM = 240.0


# An image, (rows, columns) float32, signal, and its plane in scanner coordinates.
PlacedImage = tuple[np.ndarray, CutPlane]


@dataclass(frozen=True)
class Scanner:
    """Manufacturer (0008,0070), model (0008,1090), field strength (0018,0087) in T of a scanner."""

    manufacturer: str
    model: str
    field_strength_t: float


# Of the first and the second visit.
SCANNERS = (
    Scanner("paravert phantom", "digital phantom", 3),
    Scanner("paravert phantom 2", "digital phantom 2", 1.5),
)
SECOND_VISIT_NOISE = 1.4  # times that of the first scanner


@dataclass(frozen=True)
class Series:
    """Attributes that the DICOM files of one phantom series share.

    name: SeriesDescription (0008,103E), also part of the UIDs. number: SeriesNumber (0020,0011).
    kind: values of ImageType (0008,0008) from the third on, separated by backslashes; empty: none.
    spacing_mm: distance between the middles of adjacent slices. thickness_mm: of a slice. pixel_mm:
    distance between pixel centres along both axes. echo_ms, repetition_ms: EchoTime (0018,0081) and
    RepetitionTime (0018,0080) in ms. bits: stored bits, 12 or 16. compressed: RLE Lossless if True.
    scanning: ScanningSequence (0018,0020). scanner: that made the series.
    """

    name: str
    number: int
    kind: str
    spacing_mm: float
    thickness_mm: float
    pixel_mm: float
    echo_ms: float
    repetition_ms: float
    bits: int = 12
    compressed: bool = False
    scanning: str = "SE"
    scanner: Scanner = SCANNERS[0]


@dataclass(frozen=True)
class Protocol:
    """The axial series of one phantom scan, in scanner (patient) coordinates: LPS, mm.

    grid: number and size of the pixels of each slice, centred on the centre of its plane. slices:
    number of slices. spacing_mm: distance between their middles. first: plane of the most caudal
    slice; the others follow along its normal, towards the head. rotation_deg, offset_mm: place the
    subject in the scanner: coordinates of the body are rotated about z (positive from left to
    back), then shifted by (x, y, z). bits: stored bits per pixel. compressed: RLE Lossless if True.
    cranial_first: whether InstanceNumber (0020,0013) increases from cranial to caudal. acquisition:
    slice thickness, noise, and shading by the coil.
    """

    grid: PixelGrid
    slices: int
    spacing_mm: float
    first: CutPlane
    rotation_deg: float
    offset_mm: tuple[float, float, float]
    bits: int
    compressed: bool
    cranial_first: bool
    acquisition: Acquisition

    @property
    def pixel_mm(self) -> float:
        """Distance between the centres of adjacent rows, and of adjacent columns, in mm."""
        return self.grid.du

    def plane(self, number: int) -> CutPlane:
        """Return the plane of a slice in scanner coordinates (LPS, mm).

        number: of the slice; 0 is the most caudal one.
        """
        return self.first.moved(number * self.spacing_mm)

    def in_body(self, plane: CutPlane) -> CutPlane:
        """Return a plane in coordinates of the body (LPS, mm, mid L3 at z = 0).

        plane: the same plane in scanner coordinates (LPS, mm).
        """
        shifted = CutPlane(plane.centre - np.array(self.offset_mm), plane.across, plane.down)
        return shifted.turned(-self.rotation_deg)

    def in_scanner(self, points: np.ndarray) -> np.ndarray:
        """Return points in scanner coordinates, (points, 3), LPS in mm.

        points: the same points in coordinates of the body (LPS, mm, mid L3 at z = 0).
        """
        turn = np.deg2rad(self.rotation_deg)
        across = np.array([np.cos(turn), np.sin(turn), 0.0])
        down = np.array([-np.sin(turn), np.cos(turn), 0.0])
        return points @ np.stack((across, down, (0.0, 0.0, 1.0))) + self.offset_mm


def protocol_of(volunteer: Volunteer, index: int, visit: int = 1) -> Protocol:
    """Return the axial series of a phantom scan: pixels, planes, position of the subject, encoding.

    volunteer: the subject. index: its position in the cohort, from 0. Every third series has gaps,
    every fourth is tilted by 6 to 15 degrees, every fifth is compressed, every second is numbered
    from cranial to caudal. visit: the second one has another position, other pixels, spacing and
    numbering, another coil, and more noise on average. A pure function of its arguments.
    """
    rng = np.random.default_rng([volunteer.seed, 51] if visit == 1 else [volunteer.seed, 51, visit])
    index += visit - 1
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
    acquisition = Acquisition(
        thickness_mm=round(spacing - gap, 1),
        noise=float(rng.uniform(0.018, 0.032)) * (SECOND_VISIT_NOISE if visit > 1 else 1),
        bias=float(rng.uniform(0.3, 1.2)),
        blur_px=float(rng.uniform(0.4, 0.6)),
        coil=visit - 1,
    )
    middle = _middle_plane(volunteer, tilt, matrix * pixel_mm / 2).turned(rotation)
    middle = axial_plane(middle.centre + np.array(offset), tilt)
    return Protocol(
        grid=centred_grid(matrix, pixel_mm),
        slices=slices,
        spacing_mm=spacing,
        first=middle.moved(-(slices - 1) / 2 * spacing),
        rotation_deg=rotation,
        offset_mm=offset,
        bits=16 if index % 4 == 1 else 12,
        compressed=index % 5 == 3,
        cranial_first=index % 2 == 0,
        acquisition=acquisition,
    )


def _middle_plane(volunteer: Volunteer, tilt_deg: float, half_field_mm: float) -> CutPlane:
    """Return the middle plane of the axial series, in coordinates of the body.

    It is shifted towards the back as far as needed to show the back muscles completely.
    """
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


# --- sagittal series and localizer ---------------------------------------------------------------


SAGITTAL_MATRIX = 160
SAGITTAL_PIXEL_MM = 1.75
SAGITTAL_SLICES = 9
SAGITTAL_SPACING_MM = 5.0
LOCALIZER_MATRIX = 128
LOCALIZER_PIXEL_MM = 2.75
LOCALIZER_THICKNESS_MM = 8.0
FORWARD_MM = 25.0  # centre of the sagittal series and localizer, in front of the spine's axis
NOISE = 0.03  # SD in each of two channels


def sagittal_series(body: Body, protocol: Protocol) -> tuple[Series, list[PlacedImage]]:
    """Return the sagittal T2 series of a phantom and its nine images, from the subject's right to left.

    Series: attributes such as name and spacing. Image: a pair of signal, float (rows, columns), and
    its plane in scanner coordinates (LPS, mm). body: of the subject. protocol: of the axial series;
    gives the position of the subject.
    """
    size, pixel, gap = SAGITTAL_MATRIX, SAGITTAL_PIXEL_MM, SAGITTAL_SPACING_MM
    first = -(SAGITTAL_SLICES - 1) / 2 * gap
    grid = PixelGrid(size, SAGITTAL_SLICES, gap, pixel, first, -(size - 1) / 2 * pixel)
    volume = _volume(body, protocol, grid, _heights(size, pixel))
    rng = np.random.default_rng([body.volunteer.seed, 61])
    centre = _centre(body, protocol)
    return Series("SAG_T2", 2, "", gap, gap - 1.0, pixel, 95.0, 3500.0), [
        (
            _finished(volume[:, :, number], rng),
            CutPlane(centre + (first + number * gap, 0, 0), *_axes(1, 2)),
        )
        for number in range(SAGITTAL_SLICES)
    ]


def localizer_series(body: Body, protocol: Protocol) -> tuple[Series, list[PlacedImage]]:
    """Return the localizer series of a phantom and its axial, coronal and sagittal image.

    Series: attributes such as name and spacing. Image: a pair of signal, float (rows, columns), and
    its plane through the lumbar spine in scanner coordinates (LPS, mm). body: of the subject.
    protocol: of the axial series; gives the position of the subject.
    """
    size, pixel = LOCALIZER_MATRIX, LOCALIZER_PIXEL_MM
    grid = centred_grid(size, pixel)
    edge = grid.u0
    rows = _heights(size, pixel)
    volume = np.repeat(_volume(body, protocol, grid, rows[::2]), 2, axis=0)
    rng = np.random.default_rng([body.volunteer.seed, 62])
    centre = _centre(body, protocol)
    half = size // 2
    back = half + round(FORWARD_MM / pixel)  # a coronal through the vertebral bodies
    cuts = (
        (volume[half], _axes(0, 1), np.array([0, 0, rows[half]])),
        (volume[:, back], _axes(0, 2), np.array([0, edge + back * pixel, 0])),
        (volume[:, :, half], _axes(1, 2), np.array([edge + half * pixel, 0, 0])),
    )
    thick = LOCALIZER_THICKNESS_MM
    return Series("LOC", 1, "LOCALIZER", thick, thick, pixel, 95.0, 3500.0), [
        (_finished(image, rng), CutPlane(centre + shift, *axes)) for image, axes, shift in cuts
    ]


def _heights(size: int, pixel_mm: float) -> np.ndarray:
    """Return z (mm) of the rows of a sagittal or coronal image, (size,), from cranial to caudal."""
    return (np.arange(size) - (size - 1) / 2) * -pixel_mm


def _axes(across: int, down: int) -> tuple[np.ndarray, np.ndarray]:
    """Return row and column direction, (3,) each, along two axes of the scanner: 0 x, 1 y, 2 -z."""
    signs = np.diag([1.0, 1.0, -1.0])
    return signs[across], signs[down]


def _centre(body: Body, protocol: Protocol) -> np.ndarray:
    """Return the centre of the sagittal series and localizer in scanner coordinates, (3,)."""
    middle = body.spine.middle(3.0)
    return np.array([middle[0], middle[1] - FORWARD_MM, 0.0]) + np.array(protocol.offset_mm)


def _volume(body: Body, protocol: Protocol, grid: PixelGrid, heights: np.ndarray) -> np.ndarray:
    """Return the noiseless signal of axial planes, (heights, grid rows, grid columns).

    heights: (planes,), z of the planes relative to the centre, mm.
    """
    table = body.contrast.signal.copy()
    for value in LABEL_VALUES:
        fat = body.volunteer.fat_fraction_at(value, 3.0)
        table[value] += fat * (body.contrast.fat - table[value])
    centre = _centre(body, protocol)
    planes = [protocol.in_body(axial_plane(centre + (0, 0, height))) for height in heights]
    return table[body.tissues(planes, grid)]


def _finished(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the image with texture, blur and Rician noise, float32."""
    texture = 1 + 0.06 * window(field_tile(1.6, 1), image.shape, rng)
    smooth = gaussian_filter(image * texture, 0.6)
    channels = rng.normal(0, NOISE, (2, *image.shape))
    return np.hypot(smooth + channels[0], channels[1]).astype(np.float32)
