"""Orientation and place in the plane: what is jitter, what parts stacks, what is a fault."""

from dataclasses import replace

import numpy as np

from dicom_writer import Plan, turn
from imaging_cases.case import (
    EIGHT,
    MULTI,
    OBLIQUE,
    fault,
    good,
    series,
    slices_at,
)
from paravert.errors import Caution, Reason

DISC_HEIGHTS = (-52.0, -17.0, 18.0, 53.0)
LORDOSIS = (0, 8, 15, 20)  # mm towards the back


def wobble(degrees: float):
    """Return turns that differ by so much at most between any two slices."""
    steps = np.random.default_rng(3).uniform(-degrees / 4, degrees / 4, (20, 2))
    return lambda n: turn("x", steps[n, 0]) @ turn("y", steps[n, 1])


CASES = (
    good(
        "orientation that wobbles by 0.15 degrees",
        series(slices_at(EIGHT, OBLIQUE, rotation=wobble(0.15))),
        stacks=(8,),
        tolerance=3,
        drift_mm=0.02,
        slab_tolerance_mm=0.01,
    ),
    good(
        "orientation and position rounded to 3 decimals",
        series(
            replace(OBLIQUE, slices=8),
            edit=lambda data, _: _rounded(data, 3),
        ),
        stacks=(8,),
        tolerance=3,
        drift_mm=0.15,
        slab_tolerance_mm=0.01,
    ),
    good(
        "every second slice turned by 0.3 degrees",
        series(slices_at(EIGHT, rotation=lambda n: turn("x", 0.3 * (n % 2)))),
        MULTI,
        Caution.MISSING_SLICES,
        Caution.OVERLAPPING_STACKS,
        Caution.SPACING_TAG_MISMATCH,
        stacks=(4, 4),
        slab_mm=12.0,
        drift_mm=0.1,
        overlaps=4,
    ),
    good(
        "upper slices turned by 0.3 degrees",
        series(slices_at(EIGHT, rotation=lambda n: turn("y", 0.3 * (n > 3)))),
        MULTI,
        stacks=(4, 4),
        drift_mm=0.05,
    ),
    good(
        "upper slices turned in the plane by 0.3 degrees",
        series(slices_at(EIGHT, rotation=lambda n: turn("z", 0.3 * (n > 3)))),
        MULTI,
        stacks=(4, 4),
    ),
    good(
        "upper slices mirrored",
        series([Plan(centre=(0, 0, -30)), Plan(centre=(0, 0, 30), right=(-1, 0, 0))]),
        MULTI,
        stacks=(5, 5),
    ),
    fault(
        "slices that fan out gradually",
        series(slices_at(EIGHT, rotation=lambda n: turn("x", 0.15 * n))),
        Reason.BAD_GEOMETRY_ORIENTATION,
        "turn gradually by 1.05 degrees",
    ),
    good(
        "upper slices shifted in the plane by 0.1 mm",
        series(slices_at(EIGHT, OBLIQUE, shift=lambda n: (0.1 * (n > 3), 0))),
        stacks=(8,),
        drift_mm=0.06,
    ),
    good(
        "upper slices shifted in the plane by 0.3 mm",
        series(slices_at(EIGHT, OBLIQUE, shift=lambda n: (0, 0.3 * (n > 3)))),
        MULTI,
        stacks=(4, 4),
    ),
    good(
        "every second slice shifted in the plane by 0.3 mm",
        series(slices_at(EIGHT, shift=lambda n: (0.3 * (n % 2), 0))),
        MULTI,
        Caution.MISSING_SLICES,
        Caution.OVERLAPPING_STACKS,
        Caution.SPACING_TAG_MISMATCH,
        stacks=(4, 4),
        slab_mm=12.0,
        overlaps=4,
    ),
    good(
        "slices shifted in the plane at random by 20 mm",
        series(slices_at(EIGHT[:3], shift=lambda n: ((0, 20, -20)[n], (0, -20, 5)[n]))),
        MULTI,
        stacks=(1, 1, 1),
        slab_mm=5.0,
    ),
    fault(
        "sheared steeply",
        series(Plan(slices=8, slide=(0.0, 1.0))),
        Reason.BAD_GEOMETRY_POSITION,
        "slide in the plane by 0.167 mm",
    ),
    fault(
        "sheared with a slice missing",
        series(Plan(slices=9, slide=(0.0, 1.0)), leave_out=(3,)),
        Reason.BAD_GEOMETRY_POSITION,
        "slide in the plane by 0.167 mm",
    ),
    fault(
        "sheared with every third slice missing",
        series(Plan(slices=9, slide=(0.0, 1.0)), leave_out=(2, 5, 8)),
        Reason.BAD_GEOMETRY_POSITION,
        "slide in the plane by 0.167 mm",
    ),
    fault(
        "two stacks sheared one as the other",
        series([Plan(slices=4, slide=(1.0, 0.0), centre=(0, 0, z)) for z in (-40, 40)]),
        Reason.BAD_GEOMETRY_POSITION,
        "slide in the plane by 0.167 mm",
    ),
    fault(
        "a sheared stack above a sound one",
        series([Plan(centre=(0, 0, -40)), Plan(slide=(1.0, 0.0), centre=(0, 0, 40))]),
        Reason.BAD_GEOMETRY_POSITION,
        "slide in the plane by 0.167 mm",
    ),
    good(
        "one slice for each disc along the lordosis",
        series(slices_at(DISC_HEIGHTS, shift=lambda n: (0, LORDOSIS[n]))),
        MULTI,
        stacks=(1,) * 4,
        slab_mm=5.0,
    ),
    good(
        "three parallel slices for each disc along the lordosis",
        series(
            [
                Plan(slices=3, gap=4, thickness=4, centre=(0, y, z))
                for z, y in zip(DISC_HEIGHTS, LORDOSIS, strict=True)
            ]
        ),
        MULTI,
        stacks=(3,) * 4,
        slab_mm=4.0,
    ),
    fault(
        "sheared slowly",
        series(Plan(slices=8, slide=(0.1, 0.0))),
        Reason.BAD_GEOMETRY_POSITION,
        "slide in the plane",
    ),
    fault(
        "sheared as by a tilted gantry",
        series(replace(OBLIQUE, slide=(0.0, 2.0))),
        Reason.BAD_GEOMETRY_POSITION,
        "slide in the plane",
    ),
)


def _rounded(data, decimals):
    for keyword in ("ImageOrientationPatient", "ImagePositionPatient"):
        told = [f"{float(value):.{decimals}f}" for value in data[keyword].value]
        setattr(data, keyword, told)
