"""Reads the headers of an archive's files: patient, examination, series, attributes for conversion."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.filereader import read_partial
from pydicom.tag import BaseTag, Tag

from paravert.errors import SubjectFault
from paravert.imaging.dicom_scan import DIRECTORY, scan_folder
from paravert.imaging.frames import Frame, Header
from paravert.imaging.header_values import finite_number, sop_class, text, whole_number
from paravert.imaging.input_files import READ_ERRORS, open_image_file, quiet_pydicom

DATES = ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate")
TIMES = ("StudyTime", "SeriesTime", "AcquisitionTime", "ContentTime")
ORIGIN_TAGS = (
    "SOPClassUID",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesDescription",
    "Modality",
    "BodyPartExamined",
    "InversionTime",
    *DATES,
    *TIMES,
)
_TAGS = [Tag(keyword) for keyword in ORIGIN_TAGS]
_LAST_TAG = max(_TAGS)  # private elements, often long ones, follow


@dataclass(frozen=True)
class Origin:
    """Patient, examination and series of a DICOM file. Unknown is "" for text, None for numbers.

    patient_id, issuer: PatientID (0010,0020), IssuerOfPatientID (0010,0021). study, series:
    StudyInstanceUID, SeriesInstanceUID (0020,000D), (0020,000E). number: SeriesNumber (0020,0011).
    description: SeriesDescription (0008,103E). modality: (0008,0060). body_part: BodyPartExamined
    (0018,0015). birth_date, sex: of the patient (0010,0030), (0010,0040). Modality, body part and
    sex are in upper case. date, time: of the study, otherwise of the series, acquisition or
    content, each on its own; a date that is no day (YYYYMMDD) is passed over. Other dates, and times,
    are as in the file (HHMMSS), the older form YYYY.MM.DD without its points. inversion_time_ms:
    (0018,0082).
    """

    patient_id: str
    issuer: str
    study: str
    series: str
    number: int | None
    description: str
    modality: str
    body_part: str
    birth_date: str
    sex: str
    date: str
    time: str
    inversion_time_ms: float | None


@dataclass(frozen=True, eq=False)
class ArchiveFile:
    """A file of an archive, as its headers describe it.

    path: of the file. origin: patient, examination and series; None if the file is not DICOM, is a
    DICOMDIR, cannot be read, or has no DICOM preamble and is no intact image. header, frames:
    attributes of the file and of its slices, as conversion reads them; None and empty if it is no
    image or has a fault. Only MR images have frames. fault: the fault that convert_dicom would
    raise on reading the header; None if there is none.
    """

    path: Path
    origin: Origin | None = None
    header: Header | None = None
    frames: tuple[Frame, ...] = ()
    fault: SubjectFault | None = None

    @property
    def is_image(self) -> bool:
        """Whether the file is an image, or has a fault, so that convert_dicom does not ignore it."""
        return self.header is not None or self.fault is not None


def read_files(paths: Sequence[Path]) -> list[ArchiveFile]:
    """Return the headers of files of any kind, one `ArchiveFile` per path, in the same order.

    paths: of files. No pixels are read. The result for a file that cannot be read has a fault;
    nothing is raised.
    """
    with quiet_pydicom():
        return [_read_file(path) for path in paths]


def _read_file(path: Path) -> ArchiveFile:
    try:
        scan = scan_folder(path)
        if not scan.files:  # a link that leads nowhere: conversion tries to open it
            with open_image_file(path):
                pass
    except SubjectFault as fault:  # without its traceback, which cannot be stored
        plain = SubjectFault(fault.reason, fault.message, fault.passing)
        return ArchiveFile(path, _origin(path, is_image=False), fault=plain)
    header = scan.images[0] if scan.images else None
    return ArchiveFile(path, _origin(path, is_image=header is not None), header, scan.frames)


def _origin(path: Path, *, is_image: bool) -> Origin | None:
    try:
        with open_image_file(path) as stream:
            if not is_image and stream.read(132)[128:] != b"DICM":
                return None
            stream.seek(0)
            data = read_partial(stream, stop_when=_is_behind, force=True, specific_tags=_TAGS)
            return None if sop_class(data) == DIRECTORY else _origin_of(data)
    except (*READ_ERRORS, OSError, SubjectFault):
        return None


def _is_behind(tag: BaseTag, *_: object) -> bool:
    return tag > _LAST_TAG


def _origin_of(data: Dataset) -> Origin:
    return Origin(
        patient_id=text(data, "PatientID"),
        issuer=text(data, "IssuerOfPatientID"),
        study=text(data, "StudyInstanceUID"),
        series=text(data, "SeriesInstanceUID"),
        number=whole_number(data, "SeriesNumber"),
        description=text(data, "SeriesDescription"),
        modality=text(data, "Modality").upper(),
        body_part=text(data, "BodyPartExamined").upper(),
        birth_date=_day(data, "PatientBirthDate"),
        sex=text(data, "PatientSex").upper(),
        date=next((day for keyword in DATES if _is_day(day := _day(data, keyword))), ""),
        time=_first(data, TIMES),
        inversion_time_ms=finite_number(data, "InversionTime"),
    )


def _day(data: Dataset, keyword: str) -> str:
    return text(data, keyword).replace(".", "")


def _is_day(told: str) -> bool:
    """Return whether a text is a day of the calendar (YYYYMMDD) since 1900."""
    if not (len(told) == 8 and told.isascii() and told.isdigit() and told >= "1900"):
        return False
    try:
        return bool(date.fromisoformat(told))
    except ValueError:
        return False


def _first(data: Dataset, keywords: Sequence[str]) -> str:
    return next((value for keyword in keywords if (value := text(data, keyword))), "")
