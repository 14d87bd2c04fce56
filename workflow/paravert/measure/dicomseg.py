"""Rule dicomseg: the labels of each stack as a DICOM segmentation, with the images it refers to."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import pyarrow.parquet as pq
import typer
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from paravert import __version__, shards
from paravert.anatomy import CLASSES, LABELS, Label
from paravert.errors import InputError
from paravert.imaging.volume import read_volume
from paravert.measure import dicom_images
from paravert.measure.dicom_images import StackName
from paravert.measure.labelled_stack import (
    LabelledStack,
    OutTable,
    SegmentTable,
    SubjectsFolder,
    Workers,
    read_labelled_stacks,
)
from paravert.plan import visit_settings
from paravert.provenance import digest, file_sha256
from paravert.shard_tables import read_outcomes
from paravert.sheet import read_sheet, scan_of
from paravert.subject_folder import SubjectFolder, stack_name

if TYPE_CHECKING:
    from highdicom.seg import Segmentation, SegmentDescription

logging.getLogger("highdicom").setLevel(logging.WARNING)  # it logs every module that it copies

MAKER = "paravert"
FIRST_SERIES = 1000  # lists segmentations after the images in a viewer
# (0008,0023) and (0008,0033) must not be empty: a placeholder, the same in every run.
NO_DATE, NO_TIME = "19700101", "000000"

# Context group 7150 of PS3.16 (Segmentation Property Category). Older files name 123037004 here,
# which is SNOMED's "body structure".
CATEGORY = Code("91723000", "SCT", "Anatomical Structure")
# Context group 244 of PS3.16 (Laterality).
SIDE_CODES = {"left": Code("7771000", "SCT", "Left"), "right": Code("24028007", "SCT", "Right")}
# SNOMED CT codes, each confirmed in two sources:
# 44947003  PS3.16 context groups 6116 and 7151; label table of Slicer for TotalSegmentator
# 5709001   HL7 value sets body-site and approach-site-codes; in no context group of PS3.16
# Two muscles have no code that two sources agree on. They get the code of the nearest concept that
# includes them; the label and the description of a segment always name the muscle itself:
# 68455001  iliopsoas, for psoas major: label tables of TotalSegmentator and MOOSE. (64038003, often
#           given for psoas major, is the intercostal lymph node in PS3.16 groups 7600 and 8134.)
# 127954009 skeletal muscle, for quadratus lumborum: PS3.16 context groups 7710 and 8134; MOOSE
MUSCLE_CODES = {
    "psoas_major": Code("68455001", "SCT", "Iliopsoas muscle"),
    "quadratus_lumborum": Code("127954009", "SCT", "Skeletal muscle"),
    "erector_spinae": Code("44947003", "SCT", "Erector spinae muscle"),
    "multifidus": Code("5709001", "SCT", "Multifidus muscles"),
}
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")  # context group 7162


@dataclass(frozen=True)
class LabelMethod:
    """How labels were made, as the segments of a DICOM segmentation state it.

    type: SegmentAlgorithmType (0062,0008), "AUTOMATIC" or "SEMIAUTOMATIC". name: SegmentAlgorithmName
    (0062,0009). parameters: {name: value} of the algorithm, {} if there are none.
    """

    type: str
    name: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def _network_method(model_sha256: str) -> LabelMethod:
    """Return how labels were made, where the network predicted them, for a segment's attributes.

    The attributes: automatic, name of the step, SHA-256 of the model. model_sha256: in hex, of the
    model file.
    """
    return LabelMethod("AUTOMATIC", f"{MAKER} segment_muscles", {"model_sha256": model_sha256})


# Labels of the subject sheet, or corrected by hand: which of these is unknown.
SHEET_METHOD = LabelMethod("SEMIAUTOMATIC", "label map corrected by hand or of the subject sheet")


def _found_muscles(labels: np.ndarray) -> list[Label]:
    """Return the muscles and sides that occur in a label map, in the order of anatomy.LABELS.

    labels: integers 0-8, of any shape.
    """
    held = np.bincount(labels.ravel(), minlength=CLASSES) > 0
    return [label for label in LABELS if held[label.value]]


def segmentation(
    images: Sequence[Dataset], labels: np.ndarray, name: StackName, method: LabelMethod
) -> "Segmentation":
    """Return the label map of a stack as a binary DICOM segmentation (highdicom's dataset).

    images: DICOM dataset of each slice, caudal to cranial, from `mr_images`. labels: integers
    (slices, rows, columns), 1 to 8 as in anatomy.LABELS, 0 background; not all 0. name: identifiers
    of the stack. method: how the labels were made. Each muscle and side that occurs is a segment,
    numbered from 1 without gaps (the standard requires this) and named in SegmentLabel (0062,0005),
    with one frame per slice in which it occurs. The dataset is not written to a file.
    """
    from highdicom.seg import Segmentation

    found = _found_muscles(labels)
    numbers = np.zeros(CLASSES, dtype=np.uint8)
    numbers[[label.value for label in found]] = np.arange(1, len(found) + 1)
    descriptions = [_description(number, label, method) for number, label in enumerate(found, 1)]
    # Other labels on the same images get other UIDs.
    hashed = hashlib.sha256(labels.tobytes()).hexdigest()
    content = digest([hashed, method.type, method.name, dict(method.parameters)])
    data = Segmentation(
        source_images=images,
        pixel_array=numbers[labels],
        segmentation_type="BINARY",
        segment_descriptions=descriptions,
        series_instance_uid=name.uid("segmentations", content),
        series_number=FIRST_SERIES + name.stack,
        sop_instance_uid=name.uid("segmentation", content),
        instance_number=1,
        manufacturer=MAKER,
        manufacturer_model_name=MAKER,
        software_versions=__version__,
        device_serial_number="none",
        content_label="MUSCLES",
        content_description="Lumbar paravertebral muscles",
        series_description=f"muscles of stack {name.stack}",
        content_date=NO_DATE,
        content_time=NO_TIME,
    )
    _fill_thickness(data)
    _remove_run_specifics(data, name.uid("dimensions", content))
    return data


def _description(number: int, label: Label, method: LabelMethod) -> "SegmentDescription":
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription
    from highdicom.sr import CodedConcept

    algorithm = AlgorithmIdentificationSequence(
        method.name, ARTIFICIAL_INTELLIGENCE, __version__, parameters=dict(method.parameters)
    )
    description = SegmentDescription(
        number,
        label.name,
        CATEGORY,
        MUSCLE_CODES[label.muscle],
        method.type,
        algorithm,
        display_color=CIELabColor.from_rgb(*label.rgb),
    )
    description.SegmentDescription = label.name
    kind = description.SegmentedPropertyTypeCodeSequence[0]
    side = CodedConcept.from_code(SIDE_CODES[label.side])
    kind.SegmentedPropertyTypeModifierCodeSequence = [side]
    if method == SHEET_METHOD:  # not made by this program
        del description.SegmentationAlgorithmIdentificationSequence
    return description


def _fill_thickness(data: Dataset) -> None:
    """Set an unknown SliceThickness (0018,0050), required here, to the spacing of the slices."""
    measures = data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    if measures.get("SliceThickness") is None:
        measures.SliceThickness = measures.SpacingBetweenSlices


def _remove_run_specifics(data: Dataset, dimensions: str) -> None:
    """Remove times and replace random UIDs, which would differ between runs."""
    del data.InstanceCreationDate
    del data.InstanceCreationTime
    for equipment in data.get("ContributingEquipmentSequence", ()):
        equipment.pop("ContributionDateTime", None)
    for item in (*data.DimensionOrganizationSequence, *data.DimensionIndexSequence):
        item.DimensionOrganizationUID = dimensions


# --- the step --------------------------------------------------------------------------------------


def dicomseg(
    segment: SegmentTable,
    folder: SubjectsFolder,
    out: OutTable,
    model_sha256: Annotated[str, typer.Option(help="SHA-256 of the model that made the labels")],
    workers: Workers = 1,
    sheet: Annotated[
        Path | None,
        typer.Option(help="subject sheet; without it every scan is a patient of its own"),
    ] = None,
) -> None:
    """Write the labels of every stack as a DICOM segmentation, and the images that it refers to.

    Each subject's folder gets the segmentations dicomseg/stack-NN.dcm and the images
    dicomseg/image/stack-NN/NNNN.dcm (NN: stack, from 01; NNNN: slice, from 0000). These are written
    anew from the converted stack, without the patient's name and other identifiers of the original
    files. A stack without labels gets neither. Writes the shard's table `dicomseg` (tables.DICOMSEG), a
    row per subject and stack; a subject that fails has no row, but its reason in the metadata of the
    file. Parameters and errors: as of `shards.work_after`, whose shard_table is `segment`; InputError
    also if highdicom is not installed or the sheet is faulty.
    """
    _check_highdicom()
    rows = {scan_of(row): row for row in read_sheet(sheet).rows} if sheet else {}
    do = partial(
        _write_subject, folder, model_sha256, {s: row["subject"] for s, row in rows.items()}
    )
    scans = [outcome.subject for outcome in read_outcomes(segment) if outcome.subject in rows]
    own = visit_settings({scan: rows[scan] for scan in scans})
    shards.work_after(segment, "dicomseg", do, folder=folder, out=out, workers=workers, own=own)


def _write_subject(
    folder: Path,
    model_sha256: str,
    subject_of: Mapping[str, str],
    task: shards.Task,
    scratch: Path,
) -> shards.Product:
    home = folder / task.subject
    stacks = read_labelled_stacks(home)
    salts = {
        stack.number: file_sha256(SubjectFolder(home).stack_file("image", stack.number))
        for stack in stacks
    }
    subject = subject_of.get(task.subject, task.subject)
    names = dicom_images.stack_names(task.subject, salts, subject)
    given = SubjectFolder(home).stack_numbers("given")
    network = _network_method(model_sha256)
    rows = []
    for stack in stacks:
        method = SHEET_METHOD if stack.number in given else network
        row = _write_stack(home, stack, names[stack.number], method, scratch / "dicomseg")
        rows.append({"stack": stack.number} | row)
    return shards.Product(rows)


def _write_stack(
    home: Path, stack: LabelledStack, name: StackName, method: LabelMethod, out: Path
) -> dict:
    if not stack.labels.any():  # a segmentation must have a segment
        return {"segments": 0, "frames": 0}
    volume = read_volume(SubjectFolder(home).stack_file("image", stack.number))
    content = dicom_images.stored_pixels(volume.array)
    thickness_mm = _thickness_mm(home, stack.number)
    images = dicom_images.mr_images(volume, content, thickness_mm, name)
    image_folder = out / "image" / stack_name(stack.number)
    image_folder.mkdir(parents=True)
    for index, image in enumerate(images):
        image.save_as(image_folder / f"{index:04d}.dcm", enforce_file_format=True)
    data = segmentation(images, stack.labels, name, method)
    data.save_as(out / f"{stack_name(stack.number)}.dcm", enforce_file_format=True)
    return {
        "segments": len(data.SegmentSequence),
        "frames": int(data.NumberOfFrames),
        "image_error": content.error,
    }


def _thickness_mm(home: Path, stack: int) -> list[float | None]:
    """Return the slice thickness of each slice of a stack in mm, None if unknown."""
    columns = ["slice", "thickness_mm"]
    table = pq.read_table(
        SubjectFolder(home).slices_file, columns=columns, filters=[("stack", "==", stack)]
    )
    return table.sort_by("slice")["thickness_mm"].to_pylist()


def _check_highdicom() -> None:
    """Raise InputError if highdicom is not installed; no other step needs it."""
    try:
        import highdicom  # noqa: F401
    except ImportError as error:
        raise InputError(
            "highdicom", "not installed, expected for dicomseg: python -m pip install highdicom"
        ) from error
