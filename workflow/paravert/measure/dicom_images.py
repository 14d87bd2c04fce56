"""The images of a stack as new DICOM files: its voxels and its place, and nothing else.

Nothing is taken over from the files that were converted: no name, date, identifier or UID. A UID is
the hash of the stack's image file together with subject and stack. So a second run gives the same
UIDs; two cohorts that use the same pseudonyms never share one, since their images differ; and
nobody who lacks the images can get from a UID to anything, let alone to the scanner's UIDs, which
do not go into it.
"""

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage
from pydicom.valuerep import format_number_as_ds

from paravert.imaging.geometry import LPS_TO_RAS
from paravert.imaging.volume import Volume
from paravert.provenance import digest

LARGEST_STORED = 2**16 - 1  # of 16 bits without sign
HOW_DEIDENTIFIED = "Written anew from voxels and geometry"


@dataclass(frozen=True)
class StackName:
    """What a stack is called in DICOM.

    salt: SHA-256 (hex) of the stack's image file. study, frame_of_reference: shared by all stacks
    of the subject, whose coordinates are the same patient's.
    """

    subject: str
    stack: int
    salt: str
    study: UID
    frame_of_reference: UID

    def uid(self, *words: object) -> UID:
        """Return the UID that belongs to these words in this stack."""
        return _uid(self.salt, self.subject, self.stack, *words)


@dataclass(frozen=True)
class Stored:
    """Voxels as DICOM stores them: value = pixels * slope + intercept.

    pixels: (slices, rows, columns), int16 or uint16. error: largest difference to the values.
    """

    pixels: np.ndarray
    slope: float = 1.0
    intercept: float = 0.0
    error: float = 0.0


def stack_names(subject: str, salts: Mapping[int, str]) -> dict[int, StackName]:
    """Return the name of each stack of a subject; salts: SHA-256 of its image file by stack."""
    words = (subject, *(salts[stack] for stack in sorted(salts)))
    shared = _uid(*words, "study"), _uid(*words, "frame of reference")
    return {stack: StackName(subject, stack, salt, *shared) for stack, salt in salts.items()}


def _uid(*words: object) -> UID:
    """Return a UID below 2.25 (a UUID as a number): the hash of words."""
    hashed = hashlib.sha256(digest([str(word) for word in words]).encode()).digest()
    return UID(f"2.25.{uuid.UUID(bytes=hashed[:16], version=5).int}")


def stored(array: np.ndarray) -> Stored:
    """Return voxels, (slices, rows, columns), in 16 bits.

    int16 is kept, and so are whole numbers that span less than 65536. Other values are scaled onto
    0-65535: they are off by half a step, 1/131070 of their range, at most.
    """
    if array.dtype == np.int16:
        return Stored(array)
    values = array.astype(np.float64)
    low, high = float(values.min()), float(values.max())
    whole = np.array_equal(np.rint(values), values) and high - low <= LARGEST_STORED
    # A decimal string (DS) holds 16 characters: pixels are made with the numbers that it holds.
    slope = 1.0 if whole or low == high else _as_told((high - low) / LARGEST_STORED)
    intercept = _as_told(low)
    pixels = np.clip(np.rint((values - intercept) / slope), 0, LARGEST_STORED).astype(np.uint16)
    error = float(np.abs(pixels * slope + intercept - values).max())
    return Stored(pixels, slope, intercept, error)


def _as_told(value: float) -> float:
    return float(format_number_as_ds(value))


def mr_images(
    volume: Volume, content: Stored, thickness_mm: Sequence[float | None], name: StackName
) -> list[Dataset]:
    """Return a stack as classic MR images, one for each slice, caudal to cranial.

    content: the voxels of the volume. thickness_mm: per slice, None where it is unknown.
    Slices lie where the volume's affine has them: evenly spaced.
    """
    lps = LPS_TO_RAS @ volume.affine
    right, down = lps[:3, 0] / volume.column_spacing_mm, lps[:3, 1] / volume.row_spacing_mm
    images = []
    for index, pixels in enumerate(content.pixels):
        image = _image_of_nobody(name, index)
        image.ImagePositionPatient = _told(lps[:3, 3] + index * lps[:3, 2])
        image.ImageOrientationPatient = _told(np.concatenate([right, down]))
        image.PixelSpacing = _told(volume.pixel_spacing_mm)
        image.SpacingBetweenSlices = format_number_as_ds(volume.slice_spacing_mm)
        known = thickness_mm[index] is not None
        image.SliceThickness = format_number_as_ds(thickness_mm[index]) if known else None
        _store(image, pixels, content)
        images.append(image)
    return images


def _told(numbers: Sequence[float]) -> list[str]:
    return [format_number_as_ds(float(number)) for number in numbers]


def _image_of_nobody(name: StackName, index: int) -> Dataset:
    """Return an MR image of a subject of whom no more than the pseudonym is known."""
    image = Dataset()
    image.SpecificCharacterSet = "ISO_IR 192"
    image.SOPClassUID = MRImageStorage
    image.SOPInstanceUID = name.uid("image", index)
    image.PatientID = name.subject
    image.PatientName = f"{name.subject}^"  # a name of one part, as the standard marks it
    image.PatientIdentityRemoved = "YES"
    image.DeidentificationMethod = HOW_DEIDENTIFIED
    image.StudyInstanceUID = name.study
    image.SeriesInstanceUID = name.uid("images")
    image.FrameOfReferenceUID = name.frame_of_reference
    image.Modality = "MR"
    image.BodyPartExamined = "LSPINE"  # no paired part: a side of the whole series is not asked for
    image.SeriesNumber = name.stack
    image.InstanceNumber = index + 1
    image.SeriesDescription = f"stack {name.stack}"
    image.ImageType = ["DERIVED", "PRIMARY", "OTHER"]
    image.ScanningSequence, image.SequenceVariant = "RM", "NONE"  # as research mode: not known
    for unknown in UNKNOWN:
        setattr(image, unknown, None)
    image.file_meta = FileMetaDataset()
    image.file_meta.MediaStorageSOPClassUID = MRImageStorage
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return image


# What the standard wants to be there and allows to be empty (type 2).
UNKNOWN = (
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
    "Manufacturer",
    "PatientPosition",
    "PositionReferenceIndicator",
    "ScanOptions",
    "MRAcquisitionType",
    "RepetitionTime",
    "EchoTime",
    "EchoTrainLength",
)


def _store(image: Dataset, pixels: np.ndarray, content: Stored) -> None:
    image.SamplesPerPixel = 1
    image.PhotometricInterpretation = "MONOCHROME2"
    image.Rows, image.Columns = pixels.shape
    image.BitsAllocated = image.BitsStored = 16
    image.HighBit = 15
    image.PixelRepresentation = int(pixels.dtype.kind == "i")
    if (content.slope, content.intercept) != (1.0, 0.0):
        image.RescaleSlope = format_number_as_ds(content.slope)
        image.RescaleIntercept = format_number_as_ds(content.intercept)
        image.RescaleType = "US"  # unspecified
    image.PixelData = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
