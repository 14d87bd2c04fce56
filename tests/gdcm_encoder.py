"""JPEG files that pydicom cannot write, by the encoder of GDCM."""

from pathlib import Path

import gdcm
import pydicom
from pydicom.uid import UID, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1

_TYPES = {
    JPEGBaseline8Bit: gdcm.TransferSyntax.JPEGBaselineProcess1,
    JPEGExtended12Bit: gdcm.TransferSyntax.JPEGExtendedProcess2_4,
    JPEGLossless: gdcm.TransferSyntax.JPEGLosslessProcess14,
    JPEGLosslessSV1: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
}
JPEG_BY_GDCM = tuple(_TYPES)
LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit)
QUALITY = 95  # of 100


def compress_file(file: Path, syntax: UID) -> Path:
    """Rewrite a native DICOM file (8 bits allocated for baseline, 12 stored for extended) as JPEG.

    Only the pixels come from GDCM; the rest of the header stays as it is.
    """
    reader = gdcm.ImageReader()
    reader.SetFileName(str(file))
    if not reader.Read():
        raise ValueError(f"GDCM does not read {file}")
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(_TYPES[syntax]))
    codec = gdcm.JPEGCodec()
    if syntax in LOSSY:
        codec.SetLossless(False)
        codec.SetQuality(QUALITY)
        change.SetUserCodec(codec)
    change.SetInput(reader.GetImage())
    if not change.Change():
        raise ValueError(f"GDCM does not write {syntax.name}")
    data = pydicom.dcmread(file)
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(file))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    if not writer.Write():
        raise ValueError(f"GDCM does not write {file}")
    data.PixelData = pydicom.dcmread(file).PixelData
    data["PixelData"].VR, data["PixelData"].is_undefined_length = "OB", True
    data.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(file, data, implicit_vr=False, little_endian=True)
    return file
