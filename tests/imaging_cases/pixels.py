"""Pixels: bits, signs, scales, and what headers tell of them."""

import numpy as np
import pydicom
from pydicom.uid import ExplicitVRBigEndian, RLELossless

from dicom_writer import Plan, phantom, store
from imaging_cases.case import (
    PLAN,
    afterwards,
    each,
    fault,
    good,
    only,
    pixels,
    raw,
    series,
    values,
)
from paravert.errors import Caution, Reason

CHEQUERED = np.indices((PLAN.rows, PLAN.columns)).sum(axis=0) % 3 == 0
OVERLAY = CHEQUERED * 0x5000


def stored_as(representation):
    """Return what tells whether pixels are bytes (OB) or words (OW)."""

    def edit(data, _):
        data["PixelData"].VR = representation

    return edit


def stored_up_to(path, bit):
    """Say of a file that its pixels have 12 bits, of which this is the highest."""
    data = pydicom.dcmread(path)
    data.BitsStored, data.HighBit = 12, bit
    data.save_as(path)


def lowered(points):
    return phantom(points) - 1700


def raised(points):
    return phantom(points) + 40000


def halved(points):
    return phantom(points) / 2


def in_8_bits(points):
    return phantom(points) >> 4


def like_monochrome1(data, number):
    store(data, 4095 - phantom(PLAN.points(number)))
    data.PhotometricInterpretation = "MONOCHROME1"


def scaled_by_slice(data, number):
    store(data, (phantom(PLAN.points(number)) + 10 * number) // (number + 1))
    data.RescaleSlope, data.RescaleIntercept = number + 1, -10 * number


def of_vr(vr):
    """Return what rewrites the VR of a file's pixel data."""

    def change(path):
        content = path.read_bytes()
        start = content.rindex(b"\xe0\x7f\x10\x00")
        path.write_bytes(content[: start + 4] + vr + content[start + 6 :])

    return change


STORED = (
    *(
        fault(
            f"pixel data of VR {vr.decode()}",
            afterwards(series(), of_vr(vr), 2),
            Reason.UNSUPPORTED_PIXELS,
            "pixel data (7FE0,0010) of a VR other than OB and OW",
        )
        for vr in (b"??", b"SH", b"US")
    ),
    good("pixel data of VR UN", afterwards(series(), of_vr(b"UN"), 2)),
    fault(
        "a negative number of frames",
        series(edit=only(1, values(NumberOfFrames=-1))),
        Reason.FRAME_COUNT_MISMATCH,
        "NumberOfFrames (0028,0008) is -1",
    ),
    good("16 bits", series(edit=pixels(lambda shown, _: shown, bits=16))),
    good(
        "unsigned values above int16",
        series(edit=pixels(lambda shown, _: shown + 40000, bits=16)),
        values=raised,
        dtype=np.float32,
    ),
    good(
        "signed values in 16 bits",
        series(edit=pixels(lambda shown, _: shown - 1700, bits=16, signed=True)),
        values=lowered,
    ),
    good(
        "signed values in 12 bits",
        series(edit=pixels(lambda shown, _: shown - 1700, bits=12, signed=True)),
        values=lowered,
    ),
    good(
        "signed values in 12 bits without sign extension",
        series(
            edit=each(
                pixels(lambda shown, _: (shown - 1700) & 0xFFF), values(PixelRepresentation=1)
            )
        ),
        values=lowered,
    ),
    good("samples per pixel untold", series(edit=values(SamplesPerPixel=None))),
    good(
        "8 bits",
        series(edit=pixels(lambda shown, _: shown >> 4, bits=8, allocated=8)),
        values=in_8_bits,
    ),
    *(
        good(
            f"8 bits, big endian, in {kind}",
            series(
                edit=each(
                    pixels(lambda shown, _: shown >> 4, bits=8, allocated=8), stored_as(kind)
                ),
                syntax=ExplicitVRBigEndian,
            ),
            values=in_8_bits,
        )
        for kind in ("OB", "OW")
    ),
    good(
        "8 bits and an odd number of pixels",
        series(
            Plan(rows=31, columns=45, slices=3),
            edit=pixels(
                lambda shown, _: shown >> 4,
                Plan(rows=31, columns=45, slices=3),
                bits=8,
                allocated=8,
            ),
        ),
        stacks=(3,),
        values=in_8_bits,
    ),
    good(
        "an overlay in the high bits",
        series(edit=pixels(lambda shown, _: shown | OVERLAY)),
    ),
    good(
        "an overlay in the high bits of signed values",
        series(
            edit=each(
                pixels(lambda shown, _: ((shown - 1700) & 0xFFF) | OVERLAY),
                values(PixelRepresentation=1),
            )
        ),
        values=lowered,
    ),
    good(
        "values above bit 0",
        series(edit=each(pixels(lambda shown, _: shown << 4), values(HighBit=15))),
    ),
    good(
        "values above bit 0 in RLE",
        afterwards(
            series(edit=pixels(lambda shown, _: shown << 4, bits=16), syntax=RLELossless),
            lambda path: stored_up_to(path, 15),
        ),
    ),
    good(
        "signed values above bit 0 in RLE, and others below",
        afterwards(
            series(
                edit=pixels(lambda shown, _: ((shown - 1700) << 4) | 9, bits=16, signed=True),
                syntax=RLELossless,
            ),
            lambda path: stored_up_to(path, 15),
        ),
        values=lowered,
    ),
    good(
        "an overlay in the high bits in RLE",
        afterwards(
            series(edit=pixels(lambda shown, _: shown | OVERLAY, bits=16), syntax=RLELossless),
            lambda path: stored_up_to(path, 11),
        ),
    ),
    good("MONOCHROME1", series(edit=like_monochrome1), Caution.MONOCHROME1_INVERTED),
    good(
        "bits that differ by slice", series(edit=only(2, pixels(lambda shown, _: shown, bits=16)))
    ),
    good("padding value told", series(edit=values(PixelPaddingValue=0))),
    good(
        "pixel data longer than the matrix",
        series(edit=lambda data, _: setattr(data, "PixelData", data.PixelData + bytes(64))),
    ),
)

RESCALED = (
    good("rescale by slice", series(edit=scaled_by_slice), tolerance=6),
    good(
        "negative intercept",
        series(edit=values(RescaleSlope=1, RescaleIntercept=-1700)),
        values=lowered,
    ),
    good(
        "slope of a half",
        series(edit=values(RescaleSlope=0.5, RescaleIntercept=0)),
        values=halved,
        dtype=np.float32,
    ),
    good(
        "negative slope",
        series(
            edit=each(
                pixels(lambda shown, _: 4095 - shown),
                values(RescaleSlope=-1, RescaleIntercept=4095),
            )
        ),
    ),
    good(
        "signed and rescaled",
        series(
            edit=each(
                pixels(lambda shown, _: shown - 1700, signed=True),
                values(RescaleSlope=1, RescaleIntercept=1700),
            )
        ),
    ),
    good("an empty rescale", series(edit=values(RescaleSlope="", RescaleIntercept=""))),
    fault(
        "slope of zero",
        series(edit=values(RescaleSlope=0, RescaleIntercept=0)),
        Reason.UNSUPPORTED_PIXELS,
    ),
    fault(
        "a malformed slope",
        series(edit=only(2, raw("RescaleSlope", "DS", b"1,5 "))),
        Reason.UNSUPPORTED_PIXELS,
        "RescaleSlope",
    ),
    fault(
        "a malformed intercept",
        series(edit=only(2, raw("RescaleIntercept", "DS", b"NaN "))),
        Reason.UNSUPPORTED_PIXELS,
        "RescaleIntercept",
    ),
)

TOLD = (
    good(
        "burned-in annotation",
        series(edit=values(BurnedInAnnotation="YES")),
        Caution.BURNED_IN_ANNOTATION,
    ),
    good("no burned-in annotation", series(edit=values(BurnedInAnnotation="NO"))),
    good(
        "compressed with loss before",
        series(edit=values(LossyImageCompression="01")),
        Caution.LOSSY_COMPRESSED,
    ),
    good(
        "compressed with loss in one slice",
        series(edit=only(4, values(LossyImageCompression="01"))),
        Caution.LOSSY_COMPRESSED,
    ),
)


CASES = (*STORED, *RESCALED, *TOLD)
