"""Files of a phantom study: DICOM images, label map, and truth tables with their schemas."""

import csv
import gzip
import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pyarrow as pa
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage, RLELossless, generate_uid

from paravert.anatomy import LABELS, level_name
from paravert.synthesis.protocol import Protocol, Series
from paravert.synthesis.signal import RenderedSlice
from paravert.synthesis.solids import CutPlane
from paravert.synthesis.spine import Spine
from paravert.synthesis.volunteers import Volunteer

SIGNAL_FULL_SCALE = 1.8  # signal stored as the largest pixel value
STUDY_DATE = "20210301"
DISC_LEVELS = (0.5, 1.5, 2.5, 3.5, 4.5, 5.5)  # from T12/L1 to L5/S1


def uid(*words: object) -> UID:
    """Return a DICOM UID made from some words; equal words give the same UID in every run.

    words: texts or numbers, such as seed, subject and series.
    """
    return generate_uid(entropy_srcs=["paravert phantom", *map(str, words)])


def write_image(
    path: Path,
    image: np.ndarray,
    plane: CutPlane,
    series: Series,
    instance: int,
    volunteer: Volunteer,
    seed: int,
    visit: int = 1,
) -> None:
    """Write one phantom image as a DICOM file (classic MR Image Storage).

    path: of the file; its folder must exist, a file there is replaced.
    image: signal, float (rows, columns); values from 0 to 1.8 (SIGNAL_FULL_SCALE) fill the stored
        bits, others are clipped.
    plane: in scanner coordinates (LPS, mm); its centre is the middle of the image.
    series: attributes of its series.
    instance: InstanceNumber (0020,0013).
    volunteer: the subject.
    seed, visit: of the cohort, and number of the examination; the UIDs depend on them.
    """
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    words = (seed, volunteer.subject) if visit == 1 else (seed, volunteer.subject, visit)
    dataset.SOPClassUID = MRImageStorage
    dataset.SOPInstanceUID = uid(*words, series.name, instance)
    _describe_subject(dataset, volunteer, words)
    _describe_series(dataset, series, words)
    _describe_geometry(dataset, plane, series, image.shape, instance)
    _store_pixels(dataset, image, series)
    meta = dataset.file_meta
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = uid("implementation")
    meta.ImplementationVersionName = "PARAVERT"
    if series.compressed:
        instance_uid = dataset.SOPInstanceUID
        dataset.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
        dataset.SOPInstanceUID = instance_uid
    dataset.save_as(path, enforce_file_format=True)


def corner_mm(plane: CutPlane, shape: tuple[int, int], pixel_mm: float) -> np.ndarray:
    """Return the centre of an image's first pixel, (3,), LPS in mm.

    As ImagePositionPatient (0020,0032). plane: of the image, whose middle is the plane's centre.
    shape: (rows, columns) of the image. pixel_mm: distance between pixel centres along both axes.
    """
    rows, columns = shape
    across = (columns - 1) / 2 * pixel_mm * plane.across
    return plane.centre - across - (rows - 1) / 2 * pixel_mm * plane.down


def _describe_subject(dataset: Dataset, volunteer: Volunteer, words: tuple) -> None:
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.PatientName = volunteer.subject
    dataset.PatientID = volunteer.subject
    dataset.PatientBirthDate = ""
    dataset.PatientSex = volunteer.sex
    dataset.PatientAge = f"{volunteer.age_years:03d}Y"
    dataset.PatientSize = f"{volunteer.height_cm / 100:.2f}"
    dataset.PatientWeight = f"{volunteer.weight_kg:.1f}"
    dataset.StudyInstanceUID = uid(*words)
    dataset.FrameOfReferenceUID = uid(*words, "frame")
    dataset.PositionReferenceIndicator = ""
    dataset.StudyDate = STUDY_DATE
    dataset.StudyTime = "120000"
    dataset.StudyID = "1"
    dataset.StudyDescription = "Lumbar spine phantom"
    dataset.AccessionNumber = ""
    dataset.ReferringPhysicianName = ""


def _describe_series(dataset: Dataset, series: Series, words: tuple) -> None:
    dataset.Modality = "MR"
    dataset.Manufacturer = series.scanner.manufacturer
    dataset.ManufacturerModelName = series.scanner.model
    dataset.MagneticFieldStrength = f"{series.scanner.field_strength_t:g}"
    dataset.BodyPartExamined = "LSPINE"
    dataset.PatientPosition = "HFS"
    dataset.SeriesInstanceUID = uid(*words, series.name)
    dataset.SeriesNumber = series.number
    dataset.SeriesDescription = series.name
    dataset.ProtocolName = series.name
    dataset.ImageType = ["ORIGINAL", "PRIMARY", *filter(None, series.kind.split("\\"))]
    dataset.ScanningSequence = series.scanning
    dataset.SequenceVariant = "SK"
    dataset.ScanOptions = ""
    dataset.MRAcquisitionType = "2D"
    dataset.EchoTime = f"{series.echo_ms:g}"
    dataset.RepetitionTime = f"{series.repetition_ms:g}"
    dataset.EchoTrainLength = 16
    dataset.FlipAngle = "150"
    dataset.NumberOfAverages = "2"


def _describe_geometry(
    dataset: Dataset, plane: CutPlane, series: Series, shape: tuple[int, int], instance: int
) -> None:
    position = corner_mm(plane, shape, series.pixel_mm)
    direction = np.concatenate((plane.across, plane.down))
    dataset.InstanceNumber = instance
    dataset.ImagePositionPatient = [f"{value:.6f}" for value in position]
    dataset.ImageOrientationPatient = [f"{value:.10f}" for value in direction]
    dataset.SliceLocation = f"{position @ plane.normal:.4f}"
    dataset.PixelSpacing = [f"{series.pixel_mm:g}"] * 2
    dataset.SliceThickness = f"{series.thickness_mm:g}"
    dataset.SpacingBetweenSlices = f"{series.spacing_mm:g}"


def _store_pixels(dataset: Dataset, image: np.ndarray, series: Series) -> None:
    highest = 2**series.bits - 1
    pixels = np.clip(np.rint(image / SIGNAL_FULL_SCALE * highest), 0, highest).astype("<u2")
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated = 16
    dataset.BitsStored = series.bits
    dataset.HighBit = series.bits - 1
    dataset.PixelRepresentation = 0
    dataset.SmallestImagePixelValue = int(pixels.min())
    dataset.LargestImagePixelValue = int(pixels.max())
    dataset.WindowCenter = str(round(0.28 * highest))
    dataset.WindowWidth = str(round(0.56 * highest))
    dataset.PixelData = pixels.tobytes()


# --- truth -------------------------------------------------------------------------------------


_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


def _field(name: str, kind: pa.DataType, unit: str, meaning: str) -> pa.Field:
    return pa.field(name, kind, metadata={"unit": unit, "meaning": meaning})


_KEYS = (
    _field("subject", pa.string(), "", "code of the volunteer; of the second visit with _2"),
    _field("muscle", pa.string(), "", "muscle, as in paravert.anatomy"),
    _field("side", pa.string(), "", "the subject's own side, left or right"),
)
TRUTH_SLICES = pa.schema(
    (
        _KEYS[0],
        _field("slice", pa.int32(), "1", "number of the slice, 0 the most caudal"),
        _field("position_mm", pa.float64(), "mm", "place along the slice normal, up to the head"),
        *_KEYS[1:],
        _field("csa_mm2", pa.float64(), "mm2", "area in the plane of the image; 0 if absent"),
        _field("fat_fraction", pa.float64(), "1", "mean planted fat fraction; null if absent"),
    )
)
TRUTH_MUSCLES = pa.schema(
    (
        *_KEYS,
        _field("csa_mean_mm2", pa.float64(), "mm2", "mean area of the slices that show the muscle"),
        _field("volume_ml", pa.float64(), "ml", "sum of areas times the distance of the slices"),
        _field("fat_fraction", pa.float64(), "1", "mean of the slices weighted by area"),
    )
)


def affine_of(protocol: Protocol) -> np.ndarray:
    """Return the affine of a phantom's axial series, (4, 4), to RAS in mm.

    It maps (column, row, slice, 1). protocol: geometry of the series. Slice 0: the most caudal one.
    """
    first = protocol.plane(0)
    affine = np.eye(4)
    affine[:3, 0] = first.across * protocol.pixel_mm
    affine[:3, 1] = first.down * protocol.pixel_mm
    affine[:3, 2] = first.normal * protocol.spacing_mm
    affine[:3, 3] = corner_mm(first, protocol.grid.shape, protocol.pixel_mm)
    affine[:3] = _LPS_TO_RAS @ affine[:3]
    return affine


def write_label_map(path: Path, labels: np.ndarray, affine: np.ndarray) -> None:
    """Write a label map as compressed NIfTI (.nii.gz).

    path: of the file; its folder must exist, a file there is replaced. labels: uint8 (slices, rows,
    columns), 0-8, from caudal to cranial. affine: float (4, 4), index (column, row, slice, 1) to RAS in
    mm.
    """
    image = nib.Nifti1Image(np.ascontiguousarray(labels.transpose(2, 1, 0)), affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    path.write_bytes(gzip.compress(image.to_bytes(), 6, mtime=0))


def write_disc_points(path: Path, spine: Spine, protocol: Protocol) -> None:
    """Write the middles of the discs as a CSV file, which the column `levels` of the subject sheet names.

    Six rows, T12/L1 to L5/S1. Columns: name (such as "L4/5"), x_mm, y_mm, z_mm (scanner coordinates,
    LPS). path: of the file; its folder must exist, a file there is replaced. spine: of the body.
    protocol: gives the position of the subject in the scanner.
    """
    levels = np.array(DISC_LEVELS)
    points = np.column_stack((spine.middle(levels), spine.height_mm(levels)))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("name", "x_mm", "y_mm", "z_mm"))
        for level, point in zip(DISC_LEVELS, protocol.in_scanner(points), strict=True):
            writer.writerow((level_name(level), *(f"{value:.2f}" for value in point)))


def true_slice_rows(scan: str, protocol: Protocol, slices: list[RenderedSlice]) -> list[dict]:
    """Return the rows of the table TRUTH_SLICES for one scan, one dict per slice, muscle and side.

    scan: name of the scan, for the column subject. protocol: geometry of the axial series. slices:
    all slices of the series with their truth, from caudal to cranial. Keys: subject, slice (from
    0), position_mm (of the first pixel along the slice normal, 0 at the scanner's origin), muscle,
    side, csa_mm2 (in the image plane; 0: muscle absent), fat_fraction (0-1; None: muscle absent).
    """
    rows = []
    for number, rendered in enumerate(slices):
        plane = protocol.plane(number)
        position = float(corner_mm(plane, rendered.labels.shape, protocol.pixel_mm) @ plane.normal)
        for label in LABELS:
            fat = float(rendered.mean_fat_fraction[label.value - 1])
            rows.append(
                {
                    "subject": scan,
                    "slice": number,
                    "position_mm": position,
                    "muscle": label.muscle,
                    "side": label.side,
                    "csa_mm2": float(rendered.csa_mm2[label.value - 1]),
                    "fat_fraction": None if math.isnan(fat) else fat,
                }
            )
    return rows


def true_muscle_rows(rows: list[dict], spacing_mm: float) -> list[dict]:
    """Return the rows of the table TRUTH_MUSCLES, one dict per muscle and side.

    rows: all rows of one scan from `true_slice_rows`. spacing_mm: distance between the middles
    of slices, for the volume. Keys: subject, muscle, side, csa_mean_mm2 (mean of the slices that
    show the muscle; 0: absent), volume_ml (0: absent), fat_fraction (0-1, by area; None: absent).
    """
    result = []
    for label in LABELS:
        own = [r for r in rows if (r["muscle"], r["side"]) == (label.muscle, label.side)]
        shown = [row for row in own if row["csa_mm2"] > 0]
        total = sum(row["csa_mm2"] for row in shown)
        fat = sum(row["csa_mm2"] * row["fat_fraction"] for row in shown)
        result.append(
            {
                "subject": own[0]["subject"],
                "muscle": label.muscle,
                "side": label.side,
                "csa_mean_mm2": total / len(shown) if shown else 0.0,
                "volume_ml": total * spacing_mm / 1000,
                "fat_fraction": fat / total if total else None,
            }
        )
    return result
