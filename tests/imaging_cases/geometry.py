"""Tags of the geometry that are absent or senseless, in one slice or in all."""

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from imaging_cases.case import (
    fault,
    only,
    series,
    values,
)
from paravert.errors import Reason

FAULTY = {
    "orientation absent": (Reason.BAD_GEOMETRY_ORIENTATION, {"ImageOrientationPatient": None}),
    "orientation skewed": (
        Reason.BAD_GEOMETRY_ORIENTATION,
        {"ImageOrientationPatient": [1, 0, 0, 0.5, 0.9, 0]},
    ),
    "orientation of zeros": (
        Reason.BAD_GEOMETRY_ORIENTATION,
        {"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]},
    ),
    "orientation of one direction": (
        Reason.BAD_GEOMETRY_ORIENTATION,
        {"ImageOrientationPatient": [1, 0, 0]},
    ),
    "orientation of equal directions": (
        Reason.BAD_GEOMETRY_ORIENTATION,
        {"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]},
    ),
    "position absent": (Reason.BAD_GEOMETRY_POSITION, {"ImagePositionPatient": None}),
    "position of two numbers": (Reason.BAD_GEOMETRY_POSITION, {"ImagePositionPatient": [1, 2]}),
    "pixel spacing absent": (Reason.BAD_PIXEL_SPACING, {"PixelSpacing": None}),
    "pixel spacing of one number": (Reason.BAD_PIXEL_SPACING, {"PixelSpacing": [1]}),
    "pixel spacing zero": (Reason.BAD_PIXEL_SPACING, {"PixelSpacing": [0, 1]}),
    "pixel spacing negative": (Reason.BAD_PIXEL_SPACING, {"PixelSpacing": [-1, 1]}),
    "pixel spacing of 400 mm": (Reason.BAD_PIXEL_SPACING, {"PixelSpacing": [1, 400]}),
    "rows absent": (Reason.UNREADABLE_HEADER, {"Rows": None}),
}


def _negative_matrix(data: Dataset, number: int) -> None:
    """Store Rows and Columns as signed numbers; their product is still that of the matrix."""
    for keyword in ("Rows", "Columns"):
        data[keyword] = DataElement(keyword, "SS", -data[keyword].value)


CASES = tuple(
    fault(f"{name} in {where}", series(edit=choose(edit)), reason)
    for name, reason, edit in [
        *((name, reason, values(**changed)) for name, (reason, changed) in FAULTY.items()),
        ("rows and columns negative", Reason.UNREADABLE_HEADER, _negative_matrix),
    ]
    for where, choose in {
        "the first": lambda edit: only(0, edit),
        "one": lambda edit: only(3, edit),
        "all": lambda edit: edit,
    }.items()
)
