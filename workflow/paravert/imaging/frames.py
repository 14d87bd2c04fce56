"""What a DICOM header says of a file and of each of its frames.

Tolerant of what geometry does not need: a malformed value there is unknown (None). What geometry
needs is kept as it stands and judged when the series is chosen (`frame_fault`).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from paravert.errors import Reason, SubjectFault
from paravert.imaging.geometry import angle_deg

MR_CLASSIC = "1.2.840.10008.5.1.4.1.1.4"
MR_ENHANCED = "1.2.840.10008.5.1.4.1.1.4.1"
MR_LEGACY_CONVERTED = "1.2.840.10008.5.1.4.1.1.4.4"
MULTI_FRAME = (MR_ENHANCED, MR_LEGACY_CONVERTED)
MR_IMAGES = (MR_CLASSIC, *MULTI_FRAME)

UNIT_TOLERANCE = 0.01  # headers that round directions to two decimals are still that near to 1
ORTHOGONALITY_TOLERANCE_DEG = 0.2
PIXEL_SPACING_RANGE_MM = (0.05, 10.0)

# What may be malformed in a value; pydicom converts values when they are asked for.
VALUE_ERRORS = (ValueError, TypeError, AttributeError, KeyError, IndexError, OverflowError)


@dataclass(frozen=True, eq=False)
class Header:
    """What a file says of itself as a whole. Unknown is None, or "" for text.

    patient: PatientID, PatientName, PatientBirthDate; only ever compared, never passed on.
    has_pixels: whether anything follows the header.
    """

    file: Path
    sop_class: str
    modality: str
    patient: tuple[str, str, str]
    study: str
    series: str
    description: str
    frame_of_reference: str
    patient_position: str
    quadruped: bool
    burned_in: bool
    lossy: bool
    preamble: bool
    has_pixels: bool
    frames_told: int | None
    sex: str | None
    age_years: float | None
    field_strength_t: float | None
    manufacturer: str


@dataclass(frozen=True, eq=False)
class Frame:
    """One slice of a file: matrix, place (LPS, mm), contrast. Unknown is None.

    number: frame in the file, from 0. right, down: directions to the next column and row.
    contrast: what tells images of one place apart; only ever compared.
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
    slope: float
    intercept: float

    @property
    def centre(self) -> np.ndarray:
        """Position (LPS) of the middle of the image."""
        across = self.right * self.column_spacing_mm * (self.columns - 1) / 2
        return self.position + across + self.down * self.row_spacing_mm * (self.rows - 1) / 2


def header_of(file: Path, data: Dataset, *, preamble: bool, has_pixels: bool) -> Header:
    """Return what the header of a file says of the whole file."""
    name = text(data, "PatientName").upper().rstrip("^ ")
    return Header(
        file=file,
        sop_class=sop_class(data),
        modality=text(data, "Modality").upper(),
        patient=(text(data, "PatientID"), name, text(data, "PatientBirthDate")),
        study=text(data, "StudyInstanceUID"),
        series=text(data, "SeriesInstanceUID"),
        description=text(data, "SeriesDescription"),
        frame_of_reference=text(data, "FrameOfReferenceUID"),
        patient_position=text(data, "PatientPosition").upper(),
        quadruped=text(data, "AnatomicalOrientationType").upper() == "QUADRUPED",
        burned_in=text(data, "BurnedInAnnotation").upper() == "YES",
        lossy=text(data, "LossyImageCompression") == "01",
        preamble=preamble,
        has_pixels=has_pixels,
        frames_told=whole(data, "NumberOfFrames"),
        sex=_sex(text(data, "PatientSex").upper()),
        age_years=_age_years(text(data, "PatientAge").upper()),
        field_strength_t=number(data, "MagneticFieldStrength"),
        manufacturer=text(data, "Manufacturer"),
    )


def frames_of(header: Header, data: Dataset) -> list[Frame]:
    """Return the frames of a file: one of a classic image, each of a multi-frame one."""
    if header.sop_class not in MULTI_FRAME:
        return [_frame(header, 0, [data])]
    shared = _items(data, "SharedFunctionalGroupsSequence")
    each = _items(data, "PerFrameFunctionalGroupsSequence")
    return [
        _frame(header, index, [*_groups(group), *(g for s in shared for g in _groups(s)), data])
        for index, group in enumerate(each)
    ]


def frame_fault(frame: Frame) -> SubjectFault | None:
    """Return what keeps a frame of a chosen series from being used, or None."""
    header = frame.header
    if "MOSAIC" in frame.image_type:
        return SubjectFault(Reason.MOSAIC, "ImageType (0008,0008) says MOSAIC")
    if header.sop_class not in MULTI_FRAME and (header.frames_told or 1) > 1:
        return SubjectFault(
            Reason.UNSUPPORTED_PIXELS,
            f"{header.frames_told} frames in one classic MR image, expected one",
        )
    if not frame.rows or not frame.columns:
        return SubjectFault(Reason.UNREADABLE_HEADER, "no Rows (0028,0010) or Columns (0028,0011)")
    return _orientation_fault(frame) or _position_fault(frame) or _spacing_fault(frame)


def has_orientation(frame: Frame) -> bool:
    """Tell whether a frame says how it lies in the patient, and validly."""
    return _orientation_fault(frame) is None


def _orientation_fault(frame: Frame) -> SubjectFault | None:
    tag = "ImageOrientationPatient (0020,0037)"
    if frame.right is None:
        return SubjectFault(
            Reason.BAD_GEOMETRY_ORIENTATION, f"{tag} is absent or not six finite numbers"
        )
    lengths = np.linalg.norm([frame.right, frame.down], axis=1)
    if np.abs(lengths - 1).max() > UNIT_TOLERANCE:
        return SubjectFault(
            Reason.BAD_GEOMETRY_ORIENTATION,
            f"directions in {tag} have length {lengths[0]:.4f} and {lengths[1]:.4f}, expected 1",
        )
    between = float(angle_deg(frame.right / lengths[0], frame.down / lengths[1]))
    if abs(between - 90) > ORTHOGONALITY_TOLERANCE_DEG:
        return SubjectFault(
            Reason.BAD_GEOMETRY_ORIENTATION,
            f"directions in {tag} are {between:.2f} degrees apart, expected 90",
        )
    return None


def _position_fault(frame: Frame) -> SubjectFault | None:
    if frame.position is not None:
        return None
    tag = "ImagePositionPatient (0020,0032)"
    return SubjectFault(
        Reason.BAD_GEOMETRY_POSITION, f"{tag} is absent or not three finite numbers"
    )


def _spacing_fault(frame: Frame) -> SubjectFault | None:
    tag = "PixelSpacing (0028,0030)"
    if frame.row_spacing_mm is None or frame.column_spacing_mm is None:
        return SubjectFault(Reason.BAD_PIXEL_SPACING, f"{tag} is absent or not two finite numbers")
    low, high = PIXEL_SPACING_RANGE_MM
    spacings = (frame.row_spacing_mm, frame.column_spacing_mm)
    if not all(low <= spacing <= high for spacing in spacings):
        return SubjectFault(
            Reason.BAD_PIXEL_SPACING,
            f"{tag} is {spacings[0]:g} and {spacings[1]:g} mm, expected {low:g} to {high:g}",
        )
    return None


def _frame(header: Header, index: int, sources: list[Dataset]) -> Frame:
    """Read a frame; each value comes from the first source that has it."""

    def numbers_of(keyword: str, count: int) -> np.ndarray | None:
        return next((n for s in sources if (n := numbers(s, keyword, count)) is not None), None)

    def number_of(keyword: str) -> float | None:
        found = numbers_of(keyword, 1)
        return None if found is None else float(found[0])

    def told(keyword: str) -> tuple[str, ...]:
        return next((words for s in sources if (words := texts(s, keyword))), ())

    orientation = numbers_of("ImageOrientationPatient", 6)
    spacing = numbers_of("PixelSpacing", 2)
    image_type = told("FrameType") or told("ImageType")
    echo_time = _first_known(number_of("EffectiveEchoTime"), number_of("EchoTime"))
    slope, intercept = number_of("RescaleSlope"), number_of("RescaleIntercept")
    contrast = (image_type, echo_time, *(number_of(keyword) for keyword in CONTRAST_NUMBERS))
    return Frame(
        header=header,
        number=index,
        rows=whole(sources[-1], "Rows"),
        columns=whole(sources[-1], "Columns"),
        image_type=image_type,
        position=numbers_of("ImagePositionPatient", 3),
        right=None if orientation is None else orientation[:3],
        down=None if orientation is None else orientation[3:],
        row_spacing_mm=None if spacing is None else float(spacing[0]),
        column_spacing_mm=None if spacing is None else float(spacing[1]),
        thickness_mm=_positive(number_of("SliceThickness")),
        spacing_tag_mm=_positive(number_of("SpacingBetweenSlices")),
        echo_time_ms=echo_time,
        repetition_time_ms=number_of("RepetitionTime"),
        contrast=contrast,
        slope=1.0 if slope is None else slope,
        intercept=0.0 if intercept is None else intercept,
    )


# Beside image type and echo time.
CONTRAST_NUMBERS = (
    "EchoNumbers",
    "RepetitionTime",
    "InversionTime",
    "FlipAngle",
    "TriggerTime",
    "DiffusionBValue",
    "AcquisitionNumber",
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
)
FILE_TAGS = (
    "SOPClassUID",
    "Modality",
    "PatientID",
    "PatientName",
    "PatientBirthDate",
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
    *CONTRAST_NUMBERS,
)


def _groups(item: Dataset) -> list[Dataset]:
    """Return the functional groups in an item: the first item of each of its sequences."""
    return [element.value[0] for element in item if element.VR == "SQ" and element.value]


def _items(data: Dataset, keyword: str) -> list[Dataset]:
    return list(data.get(keyword) or [])


def _first_known(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def _positive(value: float | None) -> float | None:
    return value if value is not None and value > 0 else None


def _sex(told: str) -> str | None:
    return told if told in ("F", "M") else None


def _age_years(told: str) -> float | None:
    """Return an age such as 042Y or 018M (VR AS) in years, at most 90; unknown is None."""
    per_year = {"Y": 1.0, "M": 12.0, "W": 365.25 / 7, "D": 365.25}
    if len(told) != 4 or not told[:3].isdigit() or told[3] not in per_year:
        return None
    return min(int(told[:3]) / per_year[told[3]], OLDEST_AGE_YEARS)


OLDEST_AGE_YEARS = 90.0  # stands for 90 and more: the oldest can be recognised by their age


# --- single values -------------------------------------------------------------------------------


def sop_class(data: Dataset) -> str:
    """Return SOPClassUID (0008,0016), from the file meta group where the data lack it."""
    meta = getattr(data, "file_meta", None)
    return text(data, "SOPClassUID") or (text(meta, "MediaStorageSOPClassUID") if meta else "")


def text(data: Dataset, keyword: str) -> str:
    """Return a value as text, without surrounding blanks; "" where absent or malformed."""
    try:
        value = data.get(keyword)
        return "" if value is None else str(value).strip(" \0")
    except VALUE_ERRORS:
        return ""


def texts(data: Dataset, keyword: str) -> tuple[str, ...]:
    """Return a value of several words in upper case; empty where absent or malformed."""
    try:
        value = data.get(keyword)
    except VALUE_ERRORS:
        return ()
    if value is None or value == "":
        return ()
    values = [value] if isinstance(value, str) else list(value)
    return tuple(str(word).strip(" \0").upper() for word in values)


def numbers(data: Dataset, keyword: str, count: int) -> np.ndarray | None:
    """Return a value of so many finite numbers; None where it is absent or anything else."""
    try:
        values = np.atleast_1d(np.asarray(data.get(keyword), dtype=float))
    except VALUE_ERRORS:
        return None
    return values if values.shape == (count,) and np.isfinite(values).all() else None


def number(data: Dataset, keyword: str) -> float | None:
    """Return a finite number; None where it is absent or malformed."""
    found = numbers(data, keyword, 1)
    return None if found is None else float(found[0])


def whole(data: Dataset, keyword: str) -> int | None:
    """Return a whole number; None where it is absent or malformed."""
    found = number(data, keyword)
    return None if found is None or found != int(found) else int(found)
