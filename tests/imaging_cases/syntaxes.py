"""Transfer syntaxes: the same voxels, however they are packed."""

import pydicom
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from dicom_writer import Plan, phantom
from gdcm_encoder import compress_file
from imaging_cases.case import (
    Case,
    afterwards,
    fault,
    good,
    pixels,
    series,
    together,
    values,
)
from paravert.errors import Caution, Reason


def in_two_fragments(path):
    """Part the code stream of the frame into two items, as some archives do."""
    data = pydicom.dcmread(path)
    (stream,) = generate_frames(data.PixelData, number_of_frames=1)
    half = len(stream) // 4 * 2
    items = [b"", stream[:half], stream[half:] + b"\0" * (len(stream) % 2)]
    header = [b"\xfe\xff\x00\xe0" + len(item).to_bytes(4, "little") + item for item in items]
    data.PixelData = b"".join(header) + b"\xfe\xff\xdd\xe0\0\0\0\0"
    data["PixelData"].is_undefined_length = True
    data.save_as(path)


def labelled(syntax, *, implicit):
    """Return what writes a file with or without VRs, whatever its transfer syntax says."""

    def relabel(path):
        data = pydicom.dcmread(path)
        meta, bare = data.file_meta, Dataset()
        bare.update({element.tag: element for element in data})
        body = DicomBytesIO()
        pydicom.dcmwrite(body, bare, implicit_vr=implicit, little_endian=True)
        meta.TransferSyntaxUID = syntax
        head = DicomBytesIO()
        head.is_little_endian, head.is_implicit_VR = True, False
        write_file_meta_info(head, meta)
        path.write_bytes(bytes(128) + b"DICM" + head.getvalue() + body.getvalue())

    return relabel


def _mislabelled(plan: Plan, *, implicit: bool) -> Case:
    told, is_ = ("explicit", "implicit") if implicit else ("implicit", "explicit")
    syntax = ExplicitVRLittleEndian if implicit else ImplicitVRLittleEndian
    return good(
        f"{is_} VR said to be {told}, {plan.rows} x {plan.columns}",
        afterwards(series(plan), labelled(syntax, implicit=implicit)),
        stacks=(plan.slices,),
    )


def _syntax(syntax, *cautions, **expected) -> Case:
    return good(syntax.keyword, series(syntax=syntax), *cautions, **expected)


def _signed(syntax) -> Case:
    edit = pixels(lambda shown, _: shown - 1700, signed=True)
    return good(
        f"{syntax.keyword} of signed values", series(edit=edit, syntax=syntax), values=_lowered
    )


def _wider(syntax, times: int, **header):
    """Return what writes streams of 16 bits under a header of other bits: signal times a number."""

    def told(path):
        data = pydicom.dcmread(path)
        values(**header)(data, 0)
        data.save_as(path)

    edit = pixels(lambda shown, _: times * shown, bits=16)
    if syntax == JPEGLosslessSV1:
        return afterwards(series(edit=edit), lambda path: told(compress_file(path, syntax)))
    return afterwards(series(edit=edit, syntax=syntax), told)


def _lowered(points):
    return phantom(points) - 1700


def _lossy(syntax, tolerance, **options) -> Case:
    def compress(path):
        data = pydicom.dcmread(path)
        data.compress(syntax, generate_instance_uid=False, **options)
        data.LossyImageCompression = "01"
        data.save_as(path)

    write = afterwards(series(), compress)
    return good(syntax.keyword, write, Caution.LOSSY_COMPRESSED, tolerance=tolerance)


# An implicit file has the length of the pixels where an explicit one has their VR. It is 3840,
# 131072 and 16730 bytes: the last, 5A 41 00 00, starts with two letters as a VR does.
MISLABELLED = (
    Plan(),
    Plan(rows=256, columns=256, row_spacing=0.5, column_spacing=0.5, slices=2),
    Plan(rows=35, columns=239, row_spacing=4, column_spacing=0.5, slices=2),
)
LOSSLESS = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEG2000Lossless,
    JPEGLSLossless,
)
TWELVE = {"BitsStored": 12, "HighBit": 11}
WIDER = tuple(
    case
    for syntax in (JPEG2000Lossless, JPEGLSLossless, JPEGLosslessSV1)
    for case in (
        good(f"{syntax.keyword} of 16 bits, 12 used", _wider(syntax, 1, **TWELVE)),
        good(
            f"{syntax.keyword} of 16 bits, said to be signed",
            _wider(syntax, 1, PixelRepresentation=1),
        ),
        fault(
            f"{syntax.keyword} of 16 bits, said to be 12",
            _wider(syntax, 8, **TWELVE),
            Reason.UNSUPPORTED_PIXELS,
            "expected 12 bits stored",
        ),
    )
)
CASES = (
    *WIDER,
    fault(
        "JPEG 2000 of 16 bits, said to be 8",
        _wider(JPEG2000Lossless, 8, BitsAllocated=8, BitsStored=8, HighBit=7),
        Reason.UNSUPPORTED_PIXELS,
        "expected 8 bits stored",
    ),
    fault(
        "JPEG 2000 of unsigned values, said to be signed in 12 bits",
        _wider(JPEG2000Lossless, 1, PixelRepresentation=1, **TWELVE),
        Reason.UNSUPPORTED_PIXELS,
        "expected 12 bits stored",
    ),
    *(_syntax(syntax) for syntax in LOSSLESS),
    *(_signed(syntax) for syntax in LOSSLESS),
    good(
        JPEGLosslessSV1.keyword,
        afterwards(series(), lambda path: compress_file(path, JPEGLosslessSV1)),
    ),
    _lossy(JPEGLSNearLossless, 4, jls_error=3),
    _lossy(JPEG2000, 40, j2k_cr=[4]),
    *(_mislabelled(plan, implicit=implicit) for plan in MISLABELLED for implicit in (True, False)),
    good(
        "a code stream in two fragments",
        afterwards(series(syntax=JPEG2000Lossless), in_two_fragments),
    ),
    good(
        "another syntax in every file",
        together(
            *(series(syntax=s, leave_out=set(range(5)) - {n}) for n, s in enumerate(LOSSLESS[2:]))
        ),
    ),
)
