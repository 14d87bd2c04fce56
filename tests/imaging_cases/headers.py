"""Headers as exports write them: preamble, meta group, and values that geometry does not need."""

from io import BytesIO

import pydicom
from pydicom.dataset import FileMetaDataset

from dicom_writer import uid
from imaging_cases.case import (
    afterwards,
    each,
    good,
    only,
    raw,
    series,
    values,
)
from paravert.errors import Caution


def without_syntax(path):
    """Rewrite a file without its transfer syntax."""
    data = pydicom.dcmread(path)
    del data.file_meta.TransferSyntaxUID
    pydicom.dcmwrite(path, data, implicit_vr=False, little_endian=True)


def of_another_syntax(path):
    """Rewrite a file as implicit although its meta group says explicit."""
    head = path.read_bytes()
    head = head[: head.index(b"\x08\x00\x08\x00CS")]
    plain = BytesIO()
    pydicom.dcmwrite(plain, _without_meta(path), implicit_vr=True, little_endian=True)
    path.write_bytes(head + plain.getvalue())


def _without_meta(path):
    data = pydicom.dcmread(path)
    data.file_meta, data.preamble = FileMetaDataset(), None
    return data


def without_class(path):
    """Leave the SOP class to the meta group."""
    data = pydicom.dcmread(path)
    del data.SOPClassUID
    data.save_as(path)


def without_meta(path):
    """Rewrite a file explicitly, without preamble and meta group."""
    pydicom.dcmwrite(path, _without_meta(path), implicit_vr=False, little_endian=True)


def without_preamble(path):
    path.write_bytes(path.read_bytes()[132:])


CASES = (
    good("no preamble", series(preamble=False), Caution.NO_PREAMBLE),
    good("no preamble, explicit", afterwards(series(), without_meta), Caution.NO_PREAMBLE),
    good(
        "no preamble but a meta group", afterwards(series(), without_preamble), Caution.NO_PREAMBLE
    ),
    good(
        "one file without preamble", afterwards(series(), without_preamble, 3), Caution.NO_PREAMBLE
    ),
    good("an unknown charset", series(edit=raw("SpecificCharacterSet", "CS", b"ISO_IR 9999 "))),
    good(
        "names in an undeclared charset",
        series(edit=raw("PatientName", "PN", "Müller^Jörg".encode("latin-1") + b" ")),
    ),
    good("a malformed date", series(edit=raw("StudyDate", "DA", b"yesterday "))),
    good("a malformed age", series(edit=raw("PatientAge", "AS", b"sixty "))),
    good("a malformed instance number", series(edit=raw("InstanceNumber", "IS", b"one "))),
    good("instance numbers all the same", series(edit=values(InstanceNumber=1))),
    good("no instance numbers", series(edit=values(InstanceNumber=None))),
    good("instance UIDs all the same", series(edit=values(SOPInstanceUID=uid("same")))),
    good(
        "malformed numbers that geometry does not need",
        series(
            edit=each(
                raw("MagneticFieldStrength", "DS", b"strong"),
                raw("EchoTime", "DS", b"- "),
                raw("FlipAngle", "DS", b"90deg "),
                raw("SliceLocation", "DS", b"NaN "),
            )
        ),
    ),
    good("a private element of 100 kB", series(edit=raw("00291010", "OB", b"\xfe\xff" * 50000))),
    good("an image type of two values", series(edit=values(ImageType=["DERIVED", "SECONDARY"]))),
    good("no transfer syntax told", afterwards(series(), without_syntax)),
    good("implicit although told explicit", afterwards(series(), of_another_syntax)),
    good("SOP class in the meta group alone", afterwards(series(), without_class)),
    good("series UID absent", series(edit=values(SeriesInstanceUID=None))),
    good("study UID absent in one", series(edit=only(2, values(StudyInstanceUID=None)))),
    good("modality absent", series(edit=values(Modality=None))),
)
