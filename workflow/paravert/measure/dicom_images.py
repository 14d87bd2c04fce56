"""The images of a stack as new DICOM datasets that contain voxels, geometry and a pseudonym only.

No name, date, identifier or UID is copied from the source files. UIDs are hashes of the converted
image files and of the scan's name in the sheet, with stack and slice numbers. So each run gives the
same UIDs, two cohorts with equal pseudonyms share none (their images differ), and a UID says
nothing about the scanner's UIDs, which are not part of the hash.
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

LONGEST_NAME = 64  # characters of PatientName; a subject's name may have as many, without ^
LARGEST_STORED = 2**16 - 1  # 16 bits, unsigned
DEIDENTIFICATION = "Written anew from voxels and geometry"  # DeidentificationMethod (0012,0063)


@dataclass(frozen=True)
class StackName:
    """The identifiers of one stack (parallel slices of one image) in its DICOM files.

    subject: pseudonym, PatientID (0010,0020). scan: name of the scan, from which UIDs are hashed.
    stack: its number, from 1. salt: SHA-256 (hexadecimal) of its image file, from which UIDs are
    hashed. study: StudyInstanceUID (0020,000D), and frame_of_reference: FrameOfReferenceUID
    (0020,0052), both shared by all stacks of the scan: one coordinate system is assumed.
    """

    subject: str
    scan: str
    stack: int
    salt: str
    study: UID
    frame_of_reference: UID

    def uid(self, *words: object) -> UID:
        """Return a DICOM UID for one object of the stack; equal words give equal UIDs in every run.

        words: what the UID is for, such as "image" and the index of a slice. Root 2.25 (a UUID as
        decimal).
        """
        return _uid(self.salt, self.scan, self.stack, *words)


@dataclass(frozen=True)
class StoredPixels:
    """Voxels as 16-bit integers, as DICOM stores them: value = pixels * slope + intercept.

    pixels: (slices, rows, columns), int16 or uint16. slope: RescaleSlope (0028,1053). intercept:
    RescaleIntercept (0028,1052). error: largest absolute difference from the original values.
    """

    pixels: np.ndarray
    slope: float = 1.0
    intercept: float = 0.0
    error: float = 0.0


def stack_names(scan: str, salts: Mapping[int, str], subject: str = "") -> dict[int, StackName]:
    """Return {stack number: identifiers of the stack in DICOM} for all stacks of a scan.

    scan: its name. salts: {stack number: SHA-256 (hexadecimal) of the stack's image file}, of all its
    stacks; UIDs are hashed from scan and salts. subject: pseudonym for PatientID (0010,0020); "" if
    it is the scan's name.
    """
    words = (scan, *(salts[stack] for stack in sorted(salts)))
    shared = _uid(*words, "study"), _uid(*words, "frame of reference")
    return {
        stack: StackName(subject or scan, scan, stack, salt, *shared)
        for stack, salt in salts.items()
    }


def _uid(*words: object) -> UID:
    """Return a UID under the root 2.25 (a UUID as a decimal number), from the hash of these words."""
    hashed = hashlib.sha256(digest([str(word) for word in words]).encode()).digest()
    return UID(f"2.25.{uuid.UUID(bytes=hashed[:16], version=5).int}")


def stored_pixels(array: np.ndarray) -> StoredPixels:
    """Return voxels as 16-bit integers with slope and intercept, as DICOM stores them.

    array: (slices, rows, columns), any real type, finite values (not checked). int16, and whole
    numbers with a range below 65536, are stored exactly. Other values are scaled to 0-65535, with an
    error of at most half a step, 1/131070 of their range.
    """
    if array.dtype == np.int16:
        return StoredPixels(array)
    values = array.astype(np.float64)
    low, high = float(values.min()), float(values.max())
    whole = np.array_equal(np.rint(values), values) and high - low <= LARGEST_STORED
    # A decimal string (DS) holds 16 characters; use slope and intercept as rounded by it.
    slope = 1.0 if whole or low == high else _as_decimal_string((high - low) / LARGEST_STORED)
    intercept = _as_decimal_string(low)
    pixels = np.clip(np.rint((values - intercept) / slope), 0, LARGEST_STORED).astype(np.uint16)
    error = float(np.abs(pixels * slope + intercept - values).max())
    return StoredPixels(pixels, slope, intercept, error)


def _as_decimal_string(value: float) -> float:
    return float(format_number_as_ds(value))


def mr_images(
    volume: Volume, content: StoredPixels, thickness_mm: Sequence[float | None], name: StackName
) -> list[Dataset]:
    """Return a stack as MR images (pydicom datasets), one per slice, caudal to cranial.

    volume: of the stack; its affine gives the positions, its array is not used. content: its voxels
    as 16-bit integers, from `stored_pixels`. thickness_mm: SliceThickness (0018,0050) per slice,
    None if unknown: the attribute is then empty. name: identifiers of the stack. The datasets (MR
    Image Storage) hold voxels, geometry and pseudonym, and nothing else of the subject.
    """
    lps = LPS_TO_RAS @ volume.affine
    right, down = lps[:3, 0] / volume.column_spacing_mm, lps[:3, 1] / volume.row_spacing_mm
    images = []
    for index, pixels in enumerate(content.pixels):
        image = _empty_image(name, index)
        image.ImagePositionPatient = _decimal_strings(lps[:3, 3] + index * lps[:3, 2])
        image.ImageOrientationPatient = _decimal_strings(np.concatenate([right, down]))
        image.PixelSpacing = _decimal_strings(volume.pixel_spacing_mm)
        image.SpacingBetweenSlices = format_number_as_ds(volume.slice_spacing_mm)
        known = thickness_mm[index] is not None
        image.SliceThickness = format_number_as_ds(thickness_mm[index]) if known else None
        _set_pixels(image, pixels, content)
        images.append(image)
    return images


def _decimal_strings(numbers: Sequence[float]) -> list[str]:
    return [format_number_as_ds(float(number)) for number in numbers]


def _empty_image(name: StackName, index: int) -> Dataset:
    """Return an MR image without pixels and geometry: pseudonym, UIDs and fixed values."""
    image = Dataset()
    image.SpecificCharacterSet = "ISO_IR 192"
    image.SOPClassUID = MRImageStorage
    image.SOPInstanceUID = name.uid("image", index)
    image.PatientID = name.subject
    image.PatientName = f"{name.subject}^"[:LONGEST_NAME]  # family name only
    image.PatientIdentityRemoved = "YES"
    image.DeidentificationMethod = DEIDENTIFICATION
    image.StudyInstanceUID = name.study
    image.SeriesInstanceUID = name.uid("images")
    image.FrameOfReferenceUID = name.frame_of_reference
    image.Modality = "MR"
    image.BodyPartExamined = "LSPINE"  # unpaired, so Laterality (0020,0060) is not required
    image.SeriesNumber = name.stack
    image.InstanceNumber = index + 1
    image.SeriesDescription = f"stack {name.stack}"
    image.ImageType = ["DERIVED", "PRIMARY", "OTHER"]
    image.ScanningSequence, image.SequenceVariant = "RM", "NONE"  # research mode: unknown
    for keyword in EMPTY_ATTRIBUTES:
        setattr(image, keyword, None)
    image.file_meta = FileMetaDataset()
    image.file_meta.MediaStorageSOPClassUID = MRImageStorage
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return image


# Attributes of type 2: the standard requires them and allows them to be empty.
EMPTY_ATTRIBUTES = (
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


def _set_pixels(image: Dataset, pixels: np.ndarray, content: StoredPixels) -> None:
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
