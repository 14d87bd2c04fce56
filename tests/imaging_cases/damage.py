"""Pixels that are missing, cut off, damaged, of an unknown kind, or blank."""

import numpy as np
import pydicom
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from dicom_writer import phantom, store
from imaging_cases.case import (
    PLAN,
    Case,
    afterwards,
    fault,
    good,
    multi_frame,
    only,
    pixels,
    series,
    values,
)
from paravert.errors import Caution, Reason


def blank(level):
    return lambda data, number: store(data, np.full((PLAN.rows, PLAN.columns), level))


def shown_or_blank(points):
    """The phantom, but for the lowest slice of the usual plan."""
    return np.where(np.isclose(points[..., 2], -5), 0, phantom(points))


def one_upside_down(points):
    """The phantom, but for the middle slice of the usual plan, which stands on its head."""
    middle = np.isclose(points[..., 2], 7)[..., None]
    return phantom(np.where(middle, points * [1, -1, 1] - [0, 6, 0], points))


def cut(path):
    path.write_bytes(path.read_bytes()[:-200])


def cut_to_half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def nonsense(path):
    """Put 0xFF in place of the code stream."""
    data = pydicom.dcmread(path)
    data.PixelData = encapsulate([b"\xff" * len(get_frame(data.PixelData, 0))])
    data.save_as(path)


def other_matrix(path):
    data = pydicom.dcmread(path)
    data.Rows, data.Columns = data.Rows * 2, data.Columns // 2
    data.save_as(path)


def noise(shown, number):
    return np.random.default_rng(number).integers(0, 1 << 16, shown.shape)


def high_bit_15(path):
    data = pydicom.dcmread(path)
    data.HighBit = 15
    data.save_as(path)


def mpeg4(path):
    data = pydicom.dcmread(path)
    data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"
    data.save_as(path)


def said_not_to_be_compressed(syntax):
    """Return what changes the transfer syntax of a file and leaves the pixels as they are."""

    def change(path):
        data = pydicom.dcmread(path)
        data.file_meta.TransferSyntaxUID = syntax
        order = {"implicit_vr": syntax == ImplicitVRLittleEndian, "little_endian": True}
        pydicom.dcmwrite(path, data, **order)

    return change


def rle_relabelled(path):
    """Call RLE explicit little endian, and change no other byte: the pixels keep an open length."""
    content = path.read_bytes()
    path.write_bytes(content.replace(b"1.2.840.10008.1.2.5\0", b"1.2.840.10008.1.2.1\0", 1))


def times(count):
    return lambda data, _: setattr(data, "PixelData", data.PixelData * count)


def as_floats(data, number):
    data.FloatPixelData = phantom(PLAN.points(number)).astype("<f4").tobytes()
    data.BitsAllocated = 32
    del data.PixelData


def _unsupported(name: str, **changed) -> Case:
    return fault(name, series(edit=values(**changed)), Reason.UNSUPPORTED_PIXELS)


CASES = (
    fault("pixels cut off", afterwards(series(), cut, 1), Reason.TRUNCATED_PIXELS),
    fault("half a file", afterwards(series(), cut_to_half, 4), Reason.TRUNCATED_PIXELS),
    fault(
        "pixels cut off in RLE",
        afterwards(series(syntax=RLELossless), cut, 1),
        Reason.TRUNCATED_PIXELS,
    ),
    fault(
        "pixel data shorter than the matrix",
        series(edit=lambda data, _: setattr(data, "PixelData", data.PixelData[:-100])),
        Reason.TRUNCATED_PIXELS,
        "3740 bytes of pixel data, expected 3840",
    ),
    fault("no pixel data", series(edit=only(2, values(PixelData=None))), Reason.MISSING_PIXELS),
    fault("empty pixel data", series(edit=only(2, values(PixelData=b""))), Reason.MISSING_PIXELS),
    fault(
        "a code stream of nonsense in RLE",
        afterwards(series(syntax=RLELossless), nonsense, 2),
        Reason.UNDECODABLE_PIXELS,
        "RLE Lossless",
    ),
    fault(
        "a code stream of nonsense in JPEG 2000",
        afterwards(series(syntax=JPEG2000Lossless), nonsense, 2),
        Reason.UNDECODABLE_PIXELS,
        "JPEG 2000",
    ),
    fault(
        "a code stream of another matrix",
        afterwards(series(syntax=JPEG2000Lossless), other_matrix),
        Reason.UNDECODABLE_PIXELS,
    ),
    fault(
        "a transfer syntax without decoder",
        afterwards(series(syntax=RLELossless), mpeg4),
        Reason.UNSUPPORTED_PIXELS,
    ),
    *(
        fault(
            f"compressed pixels said to be {syntax.name}",
            afterwards(
                # noise is longer in RLE than without
                series(edit=pixels(noise, bits=16), syntax=RLELossless),
                said_not_to_be_compressed(syntax),
            ),
            Reason.UNSUPPORTED_PIXELS,
            "disagree",
        )
        for syntax in (
            ImplicitVRLittleEndian,
            ExplicitVRLittleEndian,
            DeflatedExplicitVRLittleEndian,
        )
    ),
    fault(
        "compressed pixels of open length in an uncompressed syntax",
        afterwards(series(edit=pixels(noise, bits=16), syntax=RLELossless), rle_relabelled),
        Reason.UNSUPPORTED_PIXELS,
        "disagree",
    ),
    fault(
        "pixels of two frames in an image of one",
        series(edit=only(2, times(2))),
        Reason.FRAME_COUNT_MISMATCH,
        "2 times as long",
    ),
    fault(
        "pixels of three times the frames told",
        multi_frame(edit=lambda data: times(3)(data, 0)),
        Reason.FRAME_COUNT_MISMATCH,
        "3 times as long as 5 of 40 x 48",
    ),
    fault(
        "stored bits up to the highest in JPEG 2000",
        afterwards(series(syntax=JPEG2000Lossless), high_bit_15),
        Reason.UNSUPPORTED_PIXELS,
        "12 bits stored up to bit 15",
    ),
    fault("float pixels", series(edit=as_floats), Reason.UNSUPPORTED_PIXELS),
    _unsupported("palette colour", PhotometricInterpretation="PALETTE COLOR"),
    _unsupported("colour", SamplesPerPixel=3),
    _unsupported("sign or not untold", PixelRepresentation=None),
    _unsupported("12 bits allocated", BitsAllocated=12),
    _unsupported("32 bits allocated", BitsAllocated=32),
    _unsupported("17 bits stored", BitsStored=17),
    _unsupported("several frames in a classic image", NumberOfFrames=2),
    fault("blank images", series(edit=blank(9)), Reason.BLANK_IMAGES),
    good(
        "a slice upside down",
        series(edit=only(2, pixels(lambda shown, _: shown[::-1]))),
        Caution.SLICE_UNLIKE_NEIGHBOURS,
        values=one_upside_down,
    ),
    good(
        "a blank slice",
        series(edit=only(0, blank(0))),
        Caution.BLANK_SLICE,
        values=shown_or_blank,
    ),
)
