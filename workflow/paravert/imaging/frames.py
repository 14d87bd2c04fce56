"""What a DICOM header says of a file and of each of its frames.

Tolerant of what geometry does not need: a malformed value there is unknown (None). What geometry
needs is kept as it stands and judged when the series is chosen (`checks`).
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from paravert.imaging.formats import PIXEL_TAGS, PixelModule
from paravert.imaging.geometry import orthonormal_pair
from paravert.imaging.identity import PERSON_TAGS, Readings, person_of
from paravert.imaging.plausible import (
    AGE_RANGE_YEARS,
    FIELD_RANGE_T,
    SLAB_RANGE_MM,
    plausible,
    within,
)
from paravert.imaging.sources import Sources, sources_of
from paravert.imaging.values import number, sop_class, text, whole

MR_CLASSIC = "1.2.840.10008.5.1.4.1.1.4"
MR_ENHANCED = "1.2.840.10008.5.1.4.1.1.4.1"
MR_LEGACY_CONVERTED = "1.2.840.10008.5.1.4.1.1.4.4"
MULTI_FRAME = (MR_ENHANCED, MR_LEGACY_CONVERTED)
MR_IMAGES = (MR_CLASSIC, *MULTI_FRAME)
OLDEST_AGE_YEARS = 90.0  # stands for 90 and more: the oldest can be recognised by their age
# What tells images of one place apart, beside image type and echo time.
CONTRAST_NUMBERS = (
    "EchoNumbers",
    "RepetitionTime",
    "InversionTime",
    "FlipAngle",
    "TriggerTime",
    "DiffusionBValue",
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
)
# When an image was made: other slices of one contrast are made at other times, too.
ACQUISITION_NUMBERS = (
    "AcquisitionNumber",
    "AcquisitionTime",
    "AcquisitionDateTime",
    "FrameAcquisitionDateTime",
)
ECHO_TIMES = ("EffectiveEchoTime", "EchoTime")
CONTRAST_TEXTS = ("SequenceName", "ComplexImageComponent")
GRADIENT = "DiffusionGradientOrientation"
REAL_WORLD = "RealWorldValueMappingSequence"
FILE_TAGS = (
    "SOPClassUID",
    "Modality",
    *PERSON_TAGS,
    "PatientSex",
    "PatientAge",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesDescription",
    "FrameOfReferenceUID",
    "PatientPosition",
    "AnatomicalOrientationType",
    "BurnedInAnnotation",
    "LossyImageCompression",
    "MagneticFieldStrength",
    "Manufacturer",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "ImageType",
    "EchoTime",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "PixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
    "RescaleSlope",
    "RescaleIntercept",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    REAL_WORLD,
    *CONTRAST_NUMBERS,
    *ACQUISITION_NUMBERS,
    *CONTRAST_TEXTS,
    GRADIENT,
    *PIXEL_TAGS,
)


@dataclass(frozen=True, eq=False)
class Header:
    """What a file says of itself as a whole. Unknown is None, or "" for text.

    patient: see `person_of`; only ever compared, never passed on.
    pixels: how they are stored and where; None if nothing follows the header.
    """

    file: Path
    sop_class: str
    modality: str
    patient: tuple[Readings, ...]
    study: str
    series: str
    description: str
    frame_of_reference: str
    patient_position: str
    quadruped: bool
    burned_in: bool
    lossy: bool
    preamble: bool
    pixels: PixelModule | None
    frames_told: int | None
    sex: str | None
    age_years: float | None
    field_strength_t: float | None
    manufacturer: str


@dataclass(frozen=True, eq=False)
class Frame:
    """One slice of a file: matrix, place (LPS, mm), contrast. Unknown is None.

    number: frame in the file, from 0. right, down: directions to the next column and row.
    spacing_tag_mm: SpacingBetweenSlices as told, plausible or not.
    contrast, acquired: what tells images of one place apart, None where unknown; only ever compared.
    slope, intercept: of the rescale; 1 and 0 where absent, NaN where malformed. real_world: slope
    and intercept of each real-world value mapping, NaN where it has none.
    """

    header: Header
    number: int
    rows: int | None
    columns: int | None
    image_type: tuple[str, ...]
    position: np.ndarray | None
    right: np.ndarray | None
    down: np.ndarray | None
    row_spacing_mm: float | None
    column_spacing_mm: float | None
    thickness_mm: float | None
    spacing_tag_mm: float | None
    echo_time_ms: float | None
    repetition_time_ms: float | None
    contrast: tuple
    acquired: tuple
    slope: float
    intercept: float
    real_world: tuple[tuple[float, float], ...]

    @cached_property
    def directions(self) -> tuple[np.ndarray, np.ndarray]:
        """Right and down, orthonormal: rounded in the header, they are a little too long or short."""
        return orthonormal_pair(self.right, self.down)

    @cached_property
    def centre(self) -> np.ndarray:
        """Position (LPS) of the middle of the image."""
        return self.position + self.to_centre(*self.directions)

    def to_centre(self, right: np.ndarray, down: np.ndarray) -> np.ndarray:
        """Return the way from the first pixel to the middle, in such unit directions."""
        across = right * self.column_spacing_mm * (self.columns - 1) / 2
        return across + down * self.row_spacing_mm * (self.rows - 1) / 2


def header_of(file: Path, data: Dataset, pixels: PixelModule | None, *, preamble: bool) -> Header:
    """Return what the header of a file says of the whole file."""
    return Header(
        file=file,
        sop_class=sop_class(data),
        modality=text(data, "Modality").upper(),
        patient=person_of(data),
        study=text(data, "StudyInstanceUID"),
        series=text(data, "SeriesInstanceUID"),
        description=text(data, "SeriesDescription"),
        frame_of_reference=text(data, "FrameOfReferenceUID"),
        patient_position=text(data, "PatientPosition").upper(),
        quadruped=text(data, "AnatomicalOrientationType").upper() == "QUADRUPED",
        burned_in=text(data, "BurnedInAnnotation").upper() == "YES",
        lossy=text(data, "LossyImageCompression") == "01",
        preamble=preamble,
        pixels=pixels,
        frames_told=whole(data, "NumberOfFrames"),
        sex=_sex(text(data, "PatientSex").upper()),
        age_years=_age_years(text(data, "PatientAge").upper()),
        field_strength_t=within(number(data, "MagneticFieldStrength"), FIELD_RANGE_T),
        manufacturer=text(data, "Manufacturer"),
    )


def frames_of(header: Header, data: Dataset) -> list[Frame]:
    """Return the frames of a file: one of a classic image, each of a multi-frame one."""
    sources = sources_of(data) if header.sop_class in MULTI_FRAME else [Sources(data)]
    return [_frame(header, index, places) for index, places in enumerate(sources)]


def _frame(header: Header, index: int, told: Sources) -> Frame:
    orientation = told.numbers("ImageOrientationPatient", 6)
    spacing = told.numbers("PixelSpacing", 2)
    image_type = told.words("FrameType") or told.words("ImageType")
    echo_time = _first_known(*(plausible(told.number(name), name) for name in ECHO_TIMES))
    gradient = told.numbers(GRADIENT, 3)
    contrast = (
        image_type or None,
        echo_time,
        None if gradient is None else tuple(gradient),
        *(plausible(told.number(keyword), keyword) for keyword in CONTRAST_NUMBERS),
        *(told.words(keyword) or None for keyword in CONTRAST_TEXTS),
    )
    return Frame(
        header=header,
        number=index,
        rows=whole(told.data, "Rows"),
        columns=whole(told.data, "Columns"),
        image_type=image_type,
        position=told.numbers("ImagePositionPatient", 3),
        right=None if orientation is None else orientation[:3],
        down=None if orientation is None else orientation[3:],
        row_spacing_mm=None if spacing is None else float(spacing[0]),
        column_spacing_mm=None if spacing is None else float(spacing[1]),
        thickness_mm=within(told.number("SliceThickness"), SLAB_RANGE_MM),
        spacing_tag_mm=told.number("SpacingBetweenSlices"),
        echo_time_ms=echo_time,
        repetition_time_ms=plausible(told.number("RepetitionTime"), "RepetitionTime"),
        contrast=contrast,
        acquired=tuple(told.number(keyword) for keyword in ACQUISITION_NUMBERS),
        slope=told.scale("RescaleSlope", 1.0),
        intercept=told.scale("RescaleIntercept", 0.0),
        real_world=tuple(_mapping(item) for item in told.sequence(REAL_WORLD)),
    )


def _mapping(item: Dataset) -> tuple[float, float]:
    told = (number(item, "RealWorldValueSlope"), number(item, "RealWorldValueIntercept"))
    slope, intercept = (np.nan if value is None else value for value in told)
    return slope, intercept


def _first_known(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def _sex(told: str) -> str | None:
    return told if told in ("F", "M") else None


def _age_years(told: str) -> float | None:
    """Return an age such as 042Y or 018M (VR AS) in years, at most 90; unknown is None."""
    per_year = {"Y": 1.0, "M": 12.0, "W": 365.25 / 7, "D": 365.25}
    if len(told) != 4 or not told[:3].isdigit() or told[3] not in per_year:
        return None
    age = within(int(told[:3]) / per_year[told[3]], AGE_RANGE_YEARS)
    return None if age is None else min(age, OLDEST_AGE_YEARS)
