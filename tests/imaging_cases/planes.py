"""How the slices of a series lie: steep stacks and scouts are set aside, stack by stack."""

import numpy as np

from dicom_writer import Plan, turn, uid
from imaging_cases.case import (
    CORONAL,
    MULTI,
    SAGITTAL,
    each,
    fault,
    good,
    only,
    series,
    slices_at,
    together,
    values,
)
from paravert.errors import Caution, Reason

OFF_AXIS = Caution.OFF_AXIS_SLICES_EXCLUDED
SCOUT = values(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
TEN = Plan(slices=10)


def discs(*tilts: float, slices: int = 3) -> list[Plan]:
    """Return a stack for each disc, from the lowest, tilted as told; narrow: none meets another."""
    heights = 38.0 * (np.arange(len(tilts)) - (len(tilts) - 1) / 2)
    plans = [Plan(slices=slices, rows=12, centre=(0, 0, float(z))) for z in heights]
    return [plan.turned(turn("x", tilt)) for plan, tilt in zip(plans, tilts, strict=True)]


def planes(axial: int, sagittal: int, coronal: int) -> list[Plan]:
    """Return slices of each plane, about one centre."""
    counts = zip((Plan(), SAGITTAL, CORONAL), (axial, sagittal, coronal), strict=True)
    return [p for plan, n in counts for p in slices_at(6.0 * np.arange(n) - 12, plan)]


def jittered(tilt: float):
    """Return eight slices that are tilted alike but for the rounding of their headers."""
    plan = Plan(rows=12).turned(turn("x", tilt))
    turns = (0.04, -0.04)
    return slices_at(6.0 * np.arange(8) - 21, plan, rotation=lambda n: turn("x", turns[n % 2]))


STEEP = (
    good(
        "five discs, the lowest at 52 degrees",
        series(discs(52, 20, 8, 3, 0)),
        MULTI,
        stacks=(3,) * 5,
    ),
    good(
        "five discs, the lowest at 59 degrees",
        series(discs(59, 20, 8, 3, 0)),
        MULTI,
        stacks=(3,) * 5,
    ),
    good(
        "five discs, the lowest at 64 degrees",
        series(discs(64, 20, 8, 3, 0)),
        MULTI,
        OFF_AXIS,
        stacks=(3,) * 4,
    ),
    good(
        "three discs, two of them at 64 and 70 degrees",
        series(discs(70, 64, 8)),
        OFF_AXIS,
        stacks=(3,),
    ),
    good(
        "one slice for each disc, the lowest at 66 degrees",
        series(discs(66, 20, 8, slices=1)),
        MULTI,
        OFF_AXIS,
        stacks=(1, 1),
        slab_mm=5.0,
    ),
    good(
        "a stack at the limit, its header rounded",
        series(jittered(59.98)),
        stacks=(8,),
        drift_mm=0.1,
    ),
    fault(
        "a stack beyond the limit, its header rounded",
        series(jittered(60.02)),
        Reason.NO_AXIAL_SERIES,
        "0 of 8 slices",
    ),
    fault(
        "discs that are all too steep",
        series(discs(64, 61)),
        Reason.NO_AXIAL_SERIES,
        "0 of 6 slices",
    ),
)

SCOUTS = (
    good(
        "a sagittal scout among ten axial slices",
        series([TEN, *planes(0, 1, 0)]),
        OFF_AXIS,
        stacks=(10,),
    ),
    good(
        "two scouts among ten axial slices",
        series([TEN, *planes(0, 1, 1)]),
        OFF_AXIS,
        stacks=(10,),
    ),
    good(
        "a scout that says so among ten axial slices",
        series([TEN, *planes(0, 1, 0)], edit=only(10, SCOUT)),
        Caution.LOCALIZER_EXCLUDED,
        stacks=(10,),
    ),
    good(
        "a scout without pixels among ten axial slices",
        series([TEN, *planes(0, 1, 0)], edit=only(10, values(PixelData=None))),
        OFF_AXIS,
        stacks=(10,),
    ),
    good(
        "a localizer with more axial than other slices beside",
        together(series(), series(planes(7, 3, 3), "survey")),
        Caution.LOCALIZER_EXCLUDED,
    ),
    fault(
        "a slice without orientation among scouts",
        series(
            TEN,
            edit=each(only(range(1, 10), SCOUT), only(0, values(ImageOrientationPatient=None))),
        ),
        Reason.BAD_GEOMETRY_ORIENTATION,
        "is absent",
    ),
    fault(
        "a localizer with more axial than other slices alone",
        series(planes(7, 3, 3)),
        Reason.NO_AXIAL_SERIES,
        "7 of 13 slices",
    ),
    fault(
        "an axial and a sagittal localizer under one series UID",
        together(
            series(Plan(slices=4)),
            series(
                Plan(slices=4, right=(0, 1, 0), down=(0, 0, -1)),
                "sagittal",
                edit=values(SeriesInstanceUID=uid("axial")),
            ),
        ),
        Reason.NO_AXIAL_SERIES,
        "4 of 8 slices",
    ),
)

CASES = (*STEEP, *SCOUTS)
