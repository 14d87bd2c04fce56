"""Writes MR series of an analytic phantom as DICOM and NIfTI, in good forms and bad.

The phantom is a function of patient coordinates (LPS, mm), so that one comparison proves value,
place and side at once, whatever way a scanner laid its slices.
"""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)

# --- the phantom ---------------------------------------------------------------------------------


def phantom(points: np.ndarray) -> np.ndarray:
    """Return the signal, 0 to 4095, at points (..., 3) in LPS mm within 120 mm of the origin."""
    x, y, z = np.moveaxis(points, -1, 0)
    wave = 150 * np.sin(x / 15) * np.cos(y / 20 + z / 50)
    return np.rint(1700 + 6 * x + 4 * y + 2 * z + wave).astype(np.int64)


# Centre x (of the left one), y, and half width of each muscle's box, in the order of the labels.
MUSCLE_BOXES = ((32, -10, 10), (52, 12, 8), (34, 40, 12), (12, 44, 8))


def labels_phantom(points: np.ndarray) -> np.ndarray:
    """Return label values: four boxes at the patient's left (odd), four at the right (even)."""
    x, y, _ = np.moveaxis(points, -1, 0)
    labels = np.zeros(x.shape, np.uint8)
    for muscle, (centre_x, centre_y, half) in enumerate(MUSCLE_BOXES):
        for side, sign in enumerate((1, -1)):
            inside = (abs(x - sign * centre_x) <= half) & (abs(y - centre_y) <= half)
            labels[inside] = 1 + 2 * muscle + side
    return labels


# --- where slices lie ----------------------------------------------------------------------------


def turn(axis: str, degrees: float) -> np.ndarray:
    """Return the rotation about a patient axis (x, y or z) as a 3 x 3 matrix."""
    angle = np.radians(degrees)
    first, second = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    rotation = np.eye(3)
    rotation[[first, second], [first, second]] = np.cos(angle)
    rotation[first, second], rotation[second, first] = -np.sin(angle), np.sin(angle)
    return rotation


@dataclass(frozen=True)
class Plan:
    """How a stack lies in the patient (LPS, mm): 48 x 40 pixels on 5 slices unless told.

    right, down: directions to the next column and row. centre: the middle of the stack.
    gap: step to the next slice; a negative one runs against the normal. slide: shift of each slice
    in the plane against the one before, (right, down).
    """

    rows: int = 40
    columns: int = 48
    slices: int = 5
    row_spacing: float = 3.5
    column_spacing: float = 2.5
    gap: float = 6.0
    thickness: float = 5.0
    right: tuple = (1.0, 0.0, 0.0)
    down: tuple = (0.0, 1.0, 0.0)
    centre: tuple = (4.0, -3.0, 7.0)
    slide: tuple = (0.0, 0.0)

    def turned(self, rotation: np.ndarray) -> "Plan":
        """Return the stack turned about its centre."""
        return replace(self, right=tuple(rotation @ self.right), down=tuple(rotation @ self.down))

    @property
    def normal(self) -> np.ndarray:
        return np.cross(self.right, self.down)

    def corner(self, index: float) -> np.ndarray:
        """Return the centre of the first pixel of a slice."""
        step = index - (self.slices - 1) / 2
        return (
            np.asarray(self.centre)
            + step * self.gap * self.normal
            - (self.columns - 1) / 2 * self.column_spacing * np.asarray(self.right)
            - (self.rows - 1) / 2 * self.row_spacing * np.asarray(self.down)
            + index * self.slide[0] * np.asarray(self.right)
            + index * self.slide[1] * np.asarray(self.down)
        )

    def points(self, index: float) -> np.ndarray:
        """Return the positions (rows, columns, 3) of the pixels of a slice."""
        row, column = np.mgrid[: self.rows, : self.columns][..., None]
        along = column * self.column_spacing * np.asarray(self.right)
        return self.corner(index) + along + row * self.row_spacing * np.asarray(self.down)


# --- DICOM ---------------------------------------------------------------------------------------

Edit = Callable[[Dataset, int], None]


def uid(*words: object) -> UID:
    """Return the same UID for the same words."""
    return generate_uid(entropy_srcs=[str(word) for word in words])


def slice_dataset(plan: Plan, index: float, series: str = "axial") -> Dataset:
    """Return a classic MR image of the phantom, without file meta group."""
    data = Dataset()
    data.SOPClassUID = MRImageStorage
    _describe(data, series)
    data.SOPInstanceUID = uid(series, plan, index)
    data.ImageType = ["ORIGINAL", "PRIMARY", "M", "SE"]
    data.EchoTime, data.RepetitionTime, data.InstanceNumber = 100, 4000, int(index) + 1
    data.ImagePositionPatient = [f"{value:.10g}" for value in plan.corner(index)]
    data.ImageOrientationPatient = [f"{value:.10g}" for value in (*plan.right, *plan.down)]
    data.PixelSpacing = [plan.row_spacing, plan.column_spacing]
    data.SliceThickness, data.SpacingBetweenSlices = plan.thickness, abs(plan.gap)
    store(data, phantom(plan.points(index)))
    return data


def _describe(data: Dataset, series: str) -> None:
    data.Modality, data.Manufacturer = "MR", "SIEMENS"
    data.PatientID, data.PatientName, data.PatientBirthDate = "P1", "Doe^Jane", "19500101"
    data.PatientSex, data.PatientAge, data.PatientPosition = "F", "061Y", "HFS"
    data.StudyInstanceUID, data.SeriesInstanceUID = uid("study"), uid(series)
    data.FrameOfReferenceUID = uid("frame of reference")
    data.SeriesDescription = series
    data.MagneticFieldStrength = 3


def store(
    data: Dataset,
    values: np.ndarray,
    *,
    bits: int = 12,
    allocated: int = 16,
    signed: bool = False,
) -> None:
    """Put values (rows, columns) or (frames, rows, columns) into a data set as its pixels."""
    data.Rows, data.Columns = values.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit = allocated, bits, bits - 1
    data.PixelRepresentation = int(signed)
    raw = values.astype(f"<{'i' if signed else 'u'}{allocated // 8}").tobytes()
    data.PixelData = raw + bytes(len(raw) % 2)


def save(
    data: Dataset, path: Path, syntax: UID = ExplicitVRLittleEndian, *, preamble: bool = True
) -> Path:
    """Write a data set; without preamble also without meta group, implicit little endian."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not preamble:
        pydicom.dcmwrite(path, data, implicit_vr=True, little_endian=True)
        return path
    data.file_meta = FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if syntax.is_compressed:
        data.compress(syntax, generate_instance_uid=False)
    elif syntax == ExplicitVRBigEndian and data["PixelData"].VR != "OB":
        data.PixelData = np.frombuffer(data.PixelData, "<u2").byteswap().tobytes()
    data.file_meta.TransferSyntaxUID = syntax
    order = {
        "implicit_vr": syntax == ImplicitVRLittleEndian,
        "little_endian": syntax != ExplicitVRBigEndian,
    }
    pydicom.dcmwrite(path, data, enforce_file_format=True, **order)
    return path


def write_series(
    folder: Path,
    plan: Plan | Iterable[Plan],
    series: str = "axial",
    *,
    edit: Edit | None = None,
    syntax: UID = ExplicitVRLittleEndian,
    preamble: bool = True,
    leave_out: Iterable[int] = (),
) -> list[Path]:
    """Write one series, a file per slice, under names in random order (always the same one).

    plan: its stack or stacks. edit: changes each data set, told its number, before it is written.
    """
    plans = [plan] if isinstance(plan, Plan) else list(plan)
    slices = [slice_dataset(p, index, series) for p in plans for index in range(p.slices)]
    names = [f"IM{number:04d}" for number in range(len(slices))]
    random.Random(1).shuffle(names)
    paths = []
    for number, (data, name) in enumerate(zip(slices, names, strict=True)):
        if number in set(leave_out):
            continue
        if edit:
            edit(data, number)
        paths.append(save(data, folder / series / name, syntax, preamble=preamble))
    return paths


def write_enhanced(
    file: Path,
    plans: Iterable[Plan],
    *,
    edit: Callable[[Dataset], None] | None = None,
    syntax: UID = ExplicitVRLittleEndian,
    sop_class: UID = EnhancedMRImageStorage,
    shared: Iterable[str] = ("PixelMeasuresSequence",),
) -> Path:
    """Write all slices of some stacks of one matrix as one multi-frame MR image, shuffled.

    shared: the functional groups that are written once for all frames.
    """
    places = [(plan, index) for plan in plans for index in range(plan.slices)]
    random.Random(2).shuffle(places)
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = sop_class, uid("enhanced", file.name)
    _describe(data, "axial")
    data.ImageType = ["ORIGINAL", "PRIMARY", "M", "NONE"]
    groups = [_frame_groups(*place) for place in places]
    for_all = Dataset()
    for keyword in shared:
        for_all[keyword] = groups[0][keyword]
        for group in groups:
            del group[keyword]
    data.SharedFunctionalGroupsSequence = [for_all]
    data.PerFrameFunctionalGroupsSequence = groups
    data.NumberOfFrames = len(places)
    store(data, np.stack([phantom(plan.points(index)) for plan, index in places]))
    if edit:
        edit(data)
    return save(data, file, syntax)


def _frame_groups(plan: Plan, index: int) -> Dataset:
    """Return the functional groups of a frame, each in a sequence of its own."""
    groups = Dataset()
    for keyword, values in {
        "PixelMeasuresSequence": {
            "PixelSpacing": [plan.row_spacing, plan.column_spacing],
            "SliceThickness": plan.thickness,
            "SpacingBetweenSlices": abs(plan.gap),
        },
        "PlanePositionSequence": {
            "ImagePositionPatient": [f"{value:.10g}" for value in plan.corner(index)]
        },
        "PlaneOrientationSequence": {
            "ImageOrientationPatient": [f"{value:.10g}" for value in (*plan.right, *plan.down)]
        },
        "MREchoSequence": {"EffectiveEchoTime": 100.0},
    }.items():
        item = Dataset()
        for name, value in values.items():
            setattr(item, name, value)
        setattr(groups, keyword, [item])
    return groups


# --- NIfTI ---------------------------------------------------------------------------------------


def write_nifti(
    file: Path,
    plan: Plan,
    function: Callable[[np.ndarray], np.ndarray] = phantom,
    *,
    order: tuple[int, int, int] = (0, 1, 2),
    flips: tuple[bool, bool, bool] = (False, False, False),
    dtype: type = np.int16,
) -> Path:
    """Write a stack as NIfTI with its axes (column, row, slice) in any order, each flipped or not."""
    array = np.stack([function(plan.points(index)) for index in range(plan.slices)]).astype(dtype)
    return save_nifti(file, array.transpose(2, 1, 0), plan_affine(plan), order, flips)


def plan_affine(plan: Plan) -> np.ndarray:
    """Return the RAS affine of (column, row, slice) of a stack."""
    affine = np.eye(4)
    affine[:3, 0] = plan.column_spacing * np.asarray(plan.right)
    affine[:3, 1] = plan.row_spacing * np.asarray(plan.down)
    affine[:3, 2] = plan.gap * plan.normal
    affine[:3, 3] = plan.corner(0)
    return np.diag([-1, -1, 1, 1]) @ affine


def save_nifti(file, array, affine, order=(0, 1, 2), flips=(False, False, False)) -> Path:
    """Write an array with its RAS affine, axes reordered and flipped together with it."""
    image = nib.Nifti1Image(array, affine)
    codes = np.column_stack([np.argsort(order), [-1 if flips[n] else 1 for n in np.argsort(order)]])
    image = image.as_reoriented(codes)
    image.set_sform(image.affine, code=1)
    image.set_qform(image.affine, code=1)
    file.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, file)
    return file


def of_macos(file: Path) -> Path:
    """Write what macOS adds to a file that it copies to a disk of another system."""
    beside = file.with_name(f"._{file.name}")
    beside.write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X" + bytes(99))
    return beside
