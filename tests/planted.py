"""Plants a string of its own in every attribute of a file that can tell who somebody is.

Each string names the tag or field that holds it, so that one found again tells where it came from.
"""

import datetime
from collections.abc import Iterable
from copy import copy
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from nibabel.nifti1 import Nifti1DicomExtension, Nifti1Extension
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRLittleEndian

MARK = "QZXW"
UID_ROOT = "1.2.826.0.1.3680043.10.7193264"
FIRST_DAY = datetime.date(1801, 1, 1)
TIME = "031337"
WHOLE, DECIMAL = "17193", "7193264."  # how planted numbers begin
AGE = "097Y"
TEXT_VRS = ("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT")
OTHER_VRS = ("DA", "DS", "DT", "IS", "TM", "UI")
# What the place, the choice or the pixels of an image rest on, and what is kept of it by design.
NEEDED = (
    "SpecificCharacterSet",
    "ImageType",
    "SOPClassUID",
    "SOPInstanceUID",
    "Modality",
    "PatientSex",
    "PatientAge",
    "MagneticFieldStrength",
    "EchoTime",
    "RepetitionTime",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
    "RescaleSlope",
    "RescaleIntercept",
    "NumberOfFrames",
    "PhotometricInterpretation",
)
NO_DATA_SET = (0x0000, 0x0002, 0x0004, 0xFFFE)  # groups of commands, meta group, DICOMDIR, items
FRAME_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")


def _attributes(vrs: Iterable[str]) -> list[tuple[Tag, str]]:
    """Return the attributes of the dictionary that are not retired and not needed."""
    return [
        (Tag(tag), vr)
        for tag, (vr, _, _, retired, keyword) in DicomDictionary.items()
        if vr in vrs
        and not retired
        and keyword not in (*NEEDED, *FRAME_GROUPS)
        and tag >> 16 not in NO_DATA_SET
    ]


OVERLAY_TEXTS = [(Tag(0x6000, 0x0022), "LO"), (Tag(0x6000, 0x1500), "LO")]
ATTRIBUTES = [*_attributes((*TEXT_VRS, *OTHER_VRS)), *OVERLAY_TEXTS]
SEQUENCES = [tag for tag, _ in _attributes(["SQ"])]
DAYS = {tag: FIRST_DAY + datetime.timedelta(n) for n, (tag, _) in enumerate(ATTRIBUTES)}


def secret(tag: Tag, vr: str) -> str:
    """Return the string planted in an attribute; one of its own wherever the VR leaves room."""
    name = f"{tag:08X}"
    if vr in TEXT_VRS:
        return f"{MARK}^{name}" if vr == "PN" else f"{MARK}{name}"
    day, number = DAYS[tag].strftime("%Y%m%d"), (DAYS[tag] - FIRST_DAY).days
    return {
        "DA": day,
        "TM": f"{TIME}.{number:06d}",
        "DT": f"{day}{TIME}.{number:06d}",
        "UI": f"{UID_ROOT}.{int(tag)}",
        "IS": f"{WHOLE}{number:05d}",
        "DS": f"{DECIMAL}{number:05d}1",
    }[vr]


@cache
def secrets() -> dict[str, str]:
    """Return every planted string that tells who somebody is, and where it stands."""
    told = {MARK: "any text", UID_ROOT: "any UID", f"{TIME}.": "any time", "03:13:37": "any time"}
    for tag, vr in ATTRIBUTES:
        told[secret(tag, vr)] = str(tag)
        if vr in ("DA", "DT"):
            told[DAYS[tag].isoformat()] = str(tag)
    return told


@cache
def planted() -> Dataset:
    """Return a data set with a string in every attribute, in an item of every sequence too."""
    data = Dataset()
    for tag, vr in ATTRIBUTES:
        data.add_new(tag, vr, secret(tag, vr))
    for tag in SEQUENCES:
        item = Dataset()
        item.PersonName = f"{MARK}^{tag:08X}"
        item.UID = f"{UID_ROOT}.{int(tag)}"
        data.add_new(tag, "SQ", [item])
    data.update(_private_block())
    return data


def _private_block() -> Dataset:
    data = Dataset()
    block = data.private_block(0x0029, f"{MARK} CREATOR", create=True)
    for element, vr in enumerate((*TEXT_VRS, "OB", "UN"), start=0x10):
        text = f"{MARK}29{element:02X}"
        block.add_new(element, vr, text.encode() if vr in ("OB", "UN") else text)
    return data


def plant(data: Dataset, *, sequences: bool = True) -> None:
    """Plant strings in a data set and its functional groups, but where legal values are needed.

    sequences: also in an item of every sequence of the dictionary.
    """
    needed = {keyword: data[keyword] for keyword in NEEDED if keyword in data}
    chosen = [element for element in planted() if sequences or element.VR != "SQ"]
    data.update({element.tag: copy(element) for element in chosen})
    data.update({element.tag: element for element in needed.values()})
    data.ImageType = ["ORIGINAL", "PRIMARY", f"{MARK}00080008", f"{MARK}TYPE"]
    data.SOPInstanceUID = f"{UID_ROOT}.{data.SOPInstanceUID[-12:].lstrip('0.')}"
    data.PatientSex, data.PatientAge = "F", AGE
    for keyword in FRAME_GROUPS:
        for groups in data.get(keyword, []):
            for sequence in list(groups):
                _plant_group(sequence.value[0])


def _plant_group(item: Dataset) -> None:
    kept = {element.tag: element for element in item}
    item.update({tag: planted()[tag] for tag, _ in ATTRIBUTES})
    item.update(_private_block())
    item.update(kept)


def save_planted(data: Dataset, path: Path, syntax: UID = ExplicitVRLittleEndian) -> Path:
    """Write a data set under a name, with a preamble and a meta group that tell somebody too."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = data.SOPClassUID
    meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta = meta
    if syntax.is_compressed:
        data.compress(syntax, generate_instance_uid=False)
    meta.ImplementationClassUID = f"{UID_ROOT}.2"
    meta.ImplementationVersionName = f"{MARK}00020013"
    for role in ("Source", "Sending", "Receiving"):
        setattr(meta, f"{role}ApplicationEntityTitle", f"{MARK}{role}"[:16])
        setattr(meta, f"{role}PresentationAddress", f"http://{MARK}.example/{role}")
    meta.PrivateInformationCreatorUID = f"{UID_ROOT}.3"
    meta.PrivateInformation = MARK.encode()
    data.preamble = f"{MARK} PREAMBLE".encode().ljust(128, b"\0")
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, data, enforce_file_format=True, implicit_vr=False, little_endian=True)
    return path


def plant_nifti(file: Path) -> Path:
    """Plant strings in every text field of a NIfTI file, and in two extensions of its header."""
    read = nib.load(file)
    image = nib.Nifti1Image(np.asanyarray(read.dataobj).copy(), read.affine, read.header)
    header = image.header
    for field in ("descrip", "aux_file", "intent_name", "db_name", "data_type"):
        room = header.template_dtype[field].itemsize
        header[field] = f"{MARK}{field}"[:room].encode()
    data = Dataset()
    data.PatientName, data.PatientID = f"{MARK}^NIFTI", f"{MARK}NIFTI"
    header.extensions.append(Nifti1Extension("comment", f"{MARK} COMMENT".encode()))
    header.extensions.append(Nifti1DicomExtension(2, data))
    nib.save(image, file)
    return file
