"""The 48 ways to lay an image's axes in the patient, and the slants and positions of scanners."""

from dataclasses import replace
from itertools import permutations, product

import numpy as np

from dicom_writer import Plan, labels_phantom, turn
from imaging_cases.case import OBLIQUE, Case, fault, good, nifti, series, together, values
from paravert.errors import Caution, Reason

LEFT, RIGHT, BACK, FRONT, HEAD, FEET = (
    (1, 0, 0),
    (-1, 0, 0),
    (0, 1, 0),
    (0, -1, 0),
    (0, 0, 1),
    (0, 0, -1),
)
LETTERS = {LEFT: "L", RIGHT: "R", BACK: "P", FRONT: "A", HEAD: "H", FEET: "F"}


def _laid(right: tuple, down: tuple, gap: float) -> Case:
    """Return the case of rows, columns and slices along the patient's axes."""
    plan = Plan(right=right, down=down, gap=gap)
    along = tuple(int(n) for n in plan.normal * np.sign(gap))
    name = f"axes to {LETTERS[right]}{LETTERS[down]}{LETTERS[along]}"
    if along in (HEAD, FEET):
        return good(name, series(plan))
    return fault(name, series(plan), Reason.NO_AXIAL_SERIES, "1 sagittal or coronal series")


DICOM_AXES = tuple(
    _laid(right, down, gap)
    for right, down in permutations(LETTERS, 2)
    if np.dot(right, down) == 0
    for gap in (6.0, -6.0)
)

TURNS = tuple(product(permutations(range(3)), product([False, True], repeat=3)))


def _reordered(number: int) -> Case:
    """Return an image and a mask of it as NIfTI, each with its axes in another order."""
    (order, flips), (mask_order, mask_flips) = TURNS[number], TURNS[(5 * number + 7) % 48]
    image = nifti(OBLIQUE, order=order, flips=flips)
    mask = nifti(
        OBLIQUE,
        labels_phantom,
        "mask.nii.gz",
        order=mask_order,
        flips=mask_flips,
        dtype=np.uint8,
    )
    name = f"nifti axes {order} flipped {[axis for axis in range(3) if flips[axis]]}"
    return good(name, together(image, mask), images="image.nii.gz", truth="mask.nii.gz")


NIFTI_AXES = tuple(_reordered(number) for number in range(48))

TILTS = (
    *(
        good(f"tilted by {tilt}", series(Plan().turned(turn("x", tilt))))
        for tilt in (5, 21, 49, 59)
    ),
    good("tilted sideways by 59", series(Plan().turned(turn("y", -59)))),
    fault("tilted by 61", series(Plan().turned(turn("x", 61))), Reason.NO_AXIAL_SERIES),
    good(
        "double oblique",
        series(Plan().turned(turn("z", 12) @ turn("y", -9) @ turn("x", 17))),
    ),
    good("oblique against the normal", series(replace(OBLIQUE, gap=-6))),
    good("turned in the plane by 30", series(Plan().turned(turn("z", 30)))),
    good("turned in the plane by 60", series(Plan().turned(turn("z", -60)))),
    good("turned in the plane by 44 and oblique", series(OBLIQUE.turned(turn("z", 34)))),
    good("mirrored rows", series(Plan(right=RIGHT).turned(turn("x", 15)))),
    good("mirrored columns", series(Plan(down=FRONT).turned(turn("x", -15)))),
)


def _lying(position: str, turned: float, *cautions: Caution) -> Case:
    """Return a patient in another position: the scanner turns the image, not the patient."""
    plan = OBLIQUE.turned(turn("z", turned))
    return good(
        f"position {position}", series(plan, edit=values(PatientPosition=position)), *cautions
    )


POSITIONS = (
    _lying("FFS", 0),
    _lying("HFP", 180, Caution.PATIENT_POSITION),
    _lying("FFP", 180, Caution.PATIENT_POSITION),
    _lying("HFDR", 90, Caution.PATIENT_POSITION),
    _lying("HFDL", -90, Caution.PATIENT_POSITION),
    _lying("FFDR", -90, Caution.PATIENT_POSITION),
    _lying("FFDL", 90, Caution.PATIENT_POSITION),
    _lying("", 0),
    good("feet first seen from the head", series(Plan(right=RIGHT, gap=-6))),
    good("no patient position", series(edit=values(PatientPosition=None))),
)

SHAPES = tuple(
    good(
        f"{rows} x {columns} pixels of {row_spacing:g} x {column_spacing:g}",
        series(
            Plan(
                rows=rows,
                columns=columns,
                row_spacing=row_spacing,
                column_spacing=column_spacing,
                slices=3,
            )
        ),
        stacks=(3,),
    )
    for rows, columns in ((30, 50), (50, 30))
    for row_spacing, column_spacing in ((1.0, 4.0), (4.0, 1.0), (2.0, 2.0))
)

CASES = (*DICOM_AXES, *NIFTI_AXES, *TILTS, *POSITIONS, *SHAPES)
