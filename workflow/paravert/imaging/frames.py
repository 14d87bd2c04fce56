"""The attributes of a DICOM file (`Header`) and of each slice in it (`Frame`) that conversion needs.

A malformed or implausible value is unknown. Position, orientation and pixel spacing are kept as
they are in the file, in DICOM's patient coordinates (LPS, mm); `frame_fault` checks them.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from paravert.imaging.geometry import orthonormal_pair
from paravert.imaging.header_values import (
    PERSON_TAGS,
    FrameAttributes,
    Readings,
    attributes_of_frames,
    finite_number,
    patient_readings,
    sop_class,
    text,
    whole_number,
    within,
)
from paravert.imaging.pixel_format import PIXEL_TAGS, PixelModule
from paravert.imaging.sequence import SEQUENCE_TAGS, dixon_part, sequence_class, sequence_facts
from paravert.tables import OLDEST_AGE_YEARS, UNKNOWN

MR_CLASSIC = "1.2.840.10008.5.1.4.1.1.4"
MR_ENHANCED = "1.2.840.10008.5.1.4.1.1.4.1"
MR_LEGACY_CONVERTED = "1.2.840.10008.5.1.4.1.1.4.4"
MULTI_FRAME = (MR_ENHANCED, MR_LEGACY_CONVERTED)
MR_IMAGES = (MR_CLASSIC, *MULTI_FRAME)
# Numbers outside these ranges are typing errors or in another unit, which is not guessed.
SLAB_RANGE_MM = (0.1, 100.0)  # thickness of a slice, or distance to the next
FIELD_RANGE_T = (0.01, 25.0)
AGE_RANGE_YEARS = (0.0, 120.0)
FLIP_RANGE_DEG = (0.0, 360.0)
# 0 is allowed: some headers have it, and it distinguishes an image from one of another time.
TIME_RANGES_MS = {
    "EffectiveEchoTime": (0.0, 5_000.0),
    "EchoTime": (0.0, 5_000.0),
    "RepetitionTime": (0.0, 100_000.0),
    "InversionTime": (0.0, 100_000.0),
}
# Distinguish the contrasts of images at one position, beside image type and echo time.
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
# Time of acquisition; it also differs between the slices of one contrast.
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
    *SEQUENCE_TAGS,
    GRADIENT,
    *PIXEL_TAGS,
)


@dataclass(frozen=True, eq=False)
class Header:
    """The attributes of one DICOM file that all its frames (slices) share.

    Unknown or implausible: "" for text, None for sex and numbers, False for flags, an empty set in
    patient.

    file: path of the file.
    sop_class: SOPClassUID (0008,0016), otherwise MediaStorageSOPClassUID (0002,0002).
    modality: (0008,0060).
    patient: PatientID, PatientName and PatientBirthDate; each as the set of texts that the possible
        character encodings give. Only compared between files, never written.
    study, series, frame_of_reference: UIDs (0020,000D), (0020,000E), (0020,0052).
    description: SeriesDescription (0008,103E).
    patient_position: (0018,5100), such as HFS.
    quadruped: whether AnatomicalOrientationType (0010,2210) is QUADRUPED (an animal).
    burned_in: whether BurnedInAnnotation (0028,0301) is YES: text is drawn into the pixels.
    lossy: whether LossyImageCompression (0028,2110) is 01.
    preamble: whether the file begins with the DICOM preamble.
    pixels: where the pixels are in the file and how they are stored; None if nothing follows the
        header (never None for a deflated file).
    declared_frames: NumberOfFrames (0028,0008), also if implausible.
    sex: "F", "M" or None, from (0010,0040).
    age_years: from PatientAge (0010,1010); ages above 90 are set to 90; 0 is unknown.
    field_strength_t: MagneticFieldStrength (0018,0087) in tesla.
    manufacturer: (0008,0070).
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
    declared_frames: int | None
    sex: str | None
    age_years: float | None
    field_strength_t: float | None
    manufacturer: str


@dataclass(frozen=True, eq=False)
class Frame:
    """The attributes of one slice in a DICOM file, without its pixels.

    Unknown or implausible is None, unless another value is named below.

    header: attributes of the file.
    number: index of the slice in the file, from 0.
    rows, columns: (0028,0010), (0028,0011).
    image_type: values of FrameType (0008,9007), otherwise ImageType (0008,0008), in upper case; ()
        if unknown.
    position: ImagePositionPatient (0020,0032): centre of the first pixel, LPS in mm, (3,).
    right, down: ImageOrientationPatient (0020,0037): directions to the next column and row, LPS, (3,).
    row_spacing_mm, column_spacing_mm: PixelSpacing (0028,0030): between the centres of neighbouring
        rows and columns. Position, directions and these are as in the file: `frame_fault` checks them.
    thickness_mm: SliceThickness (0018,0050).
    spacing_tag_mm: SpacingBetweenSlices (0018,0088), also if implausible.
    echo_time_ms: EffectiveEchoTime (0018,9082), otherwise EchoTime (0018,0081).
    repetition_time_ms: (0018,0080).
    inversion_time_ms: InversionTime (0018,0082), otherwise InversionTimes (0018,9079).
    flip_angle_deg: FlipAngle (0018,1314).
    contrast: values that tell apart images of different contrast at one position, such as image
        type, echo time, flip angle, b-value; compared element by element, not interpreted.
    acquired: likewise AcquisitionNumber and acquisition times, which tell apart repeated images at
        one position.
    slope, intercept: RescaleSlope, RescaleIntercept (0028,1053), (0028,1052); 1 and 0 if absent,
        NaN if malformed.
    real_world: (slope, intercept) of each RealWorldValueMapping (0040,9096); NaN if unknown.
    sequence: class of the pulse sequence, one of `tables.SEQUENCES`, such as "T1" or "unknown".
    part: "dixon-water", "dixon-fat", "in-phase" or "opposed-phase"; "map" for values computed from
        these, such as a fat fraction; None if the header names no part, see `dixon_part`.
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
    inversion_time_ms: float | None = None
    flip_angle_deg: float | None = None
    sequence: str = UNKNOWN
    part: str | None = None

    @cached_property
    def directions(self) -> tuple[np.ndarray, np.ndarray]:
        """The unit directions to the next column and to the next row, (3,) each, LPS.

        Headers round them; these are the nearest exactly orthogonal ones. `right` and `down` must
        not be None.
        """
        return orthonormal_pair(self.right, self.down)

    @cached_property
    def centre(self) -> np.ndarray:
        """Position of the middle of the image, LPS in mm, (3,); no attribute of its geometry may be None."""
        return self.position + self.to_centre(*self.directions)

    def to_centre(self, right: np.ndarray, down: np.ndarray) -> np.ndarray:
        """Return the vector from the centre of the first pixel to the middle of the image, LPS in mm, (3,).

        right, down: unit directions to the next column and row, LPS, (3,), instead of the frame's
        own. Its matrix and pixel spacing must not be None.
        """
        across = right * self.column_spacing_mm * (self.columns - 1) / 2
        return across + down * self.row_spacing_mm * (self.rows - 1) / 2


def header_of(file: Path, data: Dataset, pixels: PixelModule | None, *, preamble: bool) -> Header:
    """Return the attributes of a DICOM file that all its frames (slices) share.

    data: data set of the file, up to the pixels. pixels: where and how its pixels are stored, from
    `pixel_module`; None if nothing follows the header. preamble: whether the file begins with the
    DICOM preamble.
    """
    return Header(
        file=file,
        sop_class=sop_class(data),
        modality=text(data, "Modality").upper(),
        patient=patient_readings(data),
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
        declared_frames=whole_number(data, "NumberOfFrames"),
        sex=_sex(text(data, "PatientSex").upper()),
        age_years=_age_years(text(data, "PatientAge").upper()),
        field_strength_t=within(finite_number(data, "MagneticFieldStrength"), FIELD_RANGE_T),
        manufacturer=text(data, "Manufacturer"),
    )


def frames_of(header: Header, data: Dataset) -> list[Frame]:
    """Return the frames of a DICOM file: one for a classic image, all in order for a multi-frame image.

    Frame: matrix, position and contrast of one slice, without pixels. header: attributes that the
    frames share, from `header_of`. data: data set of the file, up to the pixels. [] if a multi-frame
    image describes no frames. Malformed values are unknown in the frames; raises one of input_files.READ_ERRORS
    or OSError (pydicom's) if a nested sequence is damaged.
    """
    multi = header.sop_class in MULTI_FRAME
    frames = attributes_of_frames(data) if multi else [FrameAttributes(data)]
    return [_frame(header, index, told) for index, told in enumerate(frames)]


def _frame(header: Header, index: int, told: FrameAttributes) -> Frame:
    orientation = told.numbers("ImageOrientationPatient", 6)
    spacing = told.numbers("PixelSpacing", 2)
    image_type = told.texts("FrameType") or told.texts("ImageType")
    echo_times = (_plausible(told.number(name), name) for name in ECHO_TIMES)
    echo_time = next((time for time in echo_times if time is not None), None)
    gradient = told.numbers(GRADIENT, 3)
    contrast = (
        image_type or None,
        echo_time,
        None if gradient is None else tuple(gradient),
        *(_plausible(told.number(keyword), keyword) for keyword in CONTRAST_NUMBERS),
        *(told.texts(keyword) or None for keyword in CONTRAST_TEXTS),
    )
    repetition_time = _plausible(told.number("RepetitionTime"), "RepetitionTime")
    inversion_times = (told.number(name) for name in ("InversionTime", "InversionTimes"))
    inversion_time = next((time for time in inversion_times if time is not None), None)
    inversion_time = _plausible(inversion_time, "InversionTime")
    facts = sequence_facts(
        told, image_type, echo_time, repetition_time, inversion_time, header.field_strength_t
    )
    return Frame(
        header=header,
        number=index,
        rows=whole_number(told.data, "Rows"),
        columns=whole_number(told.data, "Columns"),
        image_type=image_type,
        position=told.numbers("ImagePositionPatient", 3),
        right=None if orientation is None else orientation[:3],
        down=None if orientation is None else orientation[3:],
        row_spacing_mm=None if spacing is None else float(spacing[0]),
        column_spacing_mm=None if spacing is None else float(spacing[1]),
        thickness_mm=within(told.number("SliceThickness"), SLAB_RANGE_MM),
        spacing_tag_mm=told.number("SpacingBetweenSlices"),
        echo_time_ms=echo_time,
        repetition_time_ms=repetition_time,
        contrast=contrast,
        acquired=tuple(told.number(keyword) for keyword in ACQUISITION_NUMBERS),
        slope=told.rescale_number("RescaleSlope", 1.0),
        intercept=told.rescale_number("RescaleIntercept", 0.0),
        real_world=tuple(_mapping(item) for item in told.sequence(REAL_WORLD)),
        inversion_time_ms=inversion_time,
        flip_angle_deg=within(told.number("FlipAngle"), FLIP_RANGE_DEG),
        sequence=sequence_class(facts),
        part=dixon_part(facts),
    )


def _mapping(item: Dataset) -> tuple[float, float]:
    keywords = ("RealWorldValueSlope", "RealWorldValueIntercept")
    told = [finite_number(item, keyword) for keyword in keywords]
    return tuple(np.nan if value is None else value for value in told)


def _plausible(value: float | None, keyword: str) -> float | None:
    limits = TIME_RANGES_MS.get(keyword)
    return value if limits is None else within(value, limits)


def _sex(told: str) -> str | None:
    return told if told in ("F", "M") else None


def _age_years(told: str) -> float | None:
    """Return an age such as 042Y or 018M (VR AS) in years, at most 90; None if unknown or 0."""
    per_year = {"Y": 1.0, "M": 12.0, "W": 365.25 / 7, "D": 365.25}
    if len(told) != 4 or not told.isascii() or not told[:3].isdigit() or told[3] not in per_year:
        return None
    age = within(int(told[:3]) / per_year[told[3]], AGE_RANGE_YEARS)
    return min(age, OLDEST_AGE_YEARS) if age else None  # 0 stands where identities were removed
