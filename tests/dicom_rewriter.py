"""Writes MR images that exist already in other forms of DICOM: same slices, other file."""

from collections.abc import Sequence
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    LegacyConvertedEnhancedMRImageStorage,
)

from dicom_writer import save, uid

PER_FRAME = (
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
    "ImageType",
    "EchoTime",
    "RepetitionTime",
    "EchoNumbers",
    "InversionTime",
    "TriggerTime",
    "FlipAngle",
    "AcquisitionNumber",
    "InstanceNumber",
    "SliceLocation",
    "SmallestImagePixelValue",
    "LargestImagePixelValue",
)


def classic_copy(file: Path) -> Dataset:
    """Return a classic image as a plain data set without file meta group."""
    return Dataset({element.tag: element for element in pydicom.dcmread(file)})


def rewrite(
    files: Sequence[Path],
    folder: Path,
    syntax: UID = ExplicitVRLittleEndian,
    *,
    preamble: bool = True,
) -> list[Path]:
    """Write classic images again, in another transfer syntax or without preamble."""
    return [
        save(classic_copy(file), folder / file.name, syntax, preamble=preamble) for file in files
    ]


def write_multi_frame(files: Sequence[Path], file: Path, *, legacy: bool = False) -> Path:
    """Write classic images of one series as one multi-frame file, frames in the order given.

    legacy: as Legacy Converted Enhanced MR Image, otherwise as Enhanced MR Image.
    """
    images = [classic_copy(path) for path in files]
    data = Dataset({e.tag: e for e in images[0] if e.keyword not in (*PER_FRAME, "PixelData")})
    kind = LegacyConvertedEnhancedMRImageStorage if legacy else EnhancedMRImageStorage
    data.SOPClassUID, data.SOPInstanceUID = kind, uid(kind, *(i.SOPInstanceUID for i in images))
    data.ImageType = ["DERIVED", "PRIMARY", "M", "NONE"]
    data.SharedFunctionalGroupsSequence = [_shared_groups(images[0])]
    groups = _converted_groups if legacy else _enhanced_groups
    data.PerFrameFunctionalGroupsSequence = [groups(image) for image in images]
    data.NumberOfFrames = len(images)
    data.PixelData = b"".join(image.PixelData for image in images)
    data["PixelData"].VR = "OW"
    return save(data, file)


def _shared_groups(image: Dataset) -> Dataset:
    keywords = ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices")
    transformation = Dataset()
    transformation.RescaleIntercept = image.get("RescaleIntercept", 0)
    transformation.RescaleSlope = image.get("RescaleSlope", 1)
    transformation.RescaleType = "US"
    return _item(
        PixelMeasuresSequence=_part(image, *keywords),
        PixelValueTransformationSequence=transformation,
    )


def _place_groups(image: Dataset) -> dict[str, Dataset]:
    return {
        "PlanePositionSequence": _part(image, "ImagePositionPatient"),
        "PlaneOrientationSequence": _part(image, "ImageOrientationPatient"),
    }


def _enhanced_groups(image: Dataset) -> Dataset:
    frame_type, echo = Dataset(), Dataset()
    frame_type.FrameType = image.ImageType
    echo.EffectiveEchoTime = float(image.EchoTime)
    return _item(
        **_place_groups(image),
        MRImageFrameTypeSequence=frame_type,
        MREchoSequence=echo,
        MRTimingAndRelatedParametersSequence=_part(image, "RepetitionTime", "FlipAngle"),
    )


def _converted_groups(image: Dataset) -> Dataset:
    frame_type = Dataset()
    frame_type.FrameType = image.ImageType
    keywords = ("EchoTime", "RepetitionTime", "EchoNumbers", "InversionTime", "FlipAngle")
    return _item(
        **_place_groups(image),
        MRImageFrameTypeSequence=frame_type,
        UnassignedPerFrameConvertedAttributesSequence=_part(image, *keywords),
    )


def _item(**sequences: Dataset) -> Dataset:
    item = Dataset()
    for keyword, content in sequences.items():
        setattr(item, keyword, [content])
    return item


def _part(image: Dataset, *keywords: str) -> Dataset:
    return Dataset({image[k].tag: image[k] for k in keywords if k in image})
