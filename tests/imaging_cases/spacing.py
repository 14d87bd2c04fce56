"""Distances along the normal: gaps, missing slices, and what the tags say of them."""

from dataclasses import replace

import numpy as np

from dicom_writer import Plan
from imaging_cases.case import (
    EIGHT,
    MULTI,
    OBLIQUE,
    PLAN,
    each,
    fault,
    good,
    only,
    raw,
    series,
    slices_at,
    values,
)
from paravert.errors import Caution, Reason

NINE = Plan(slices=9)
ELEVEN = Plan(slices=11)
ODD = (1, 3, 5, 7)
NO_TAG = values(SpacingBetweenSlices=None)
DISC_HEIGHTS = 35.0 * np.arange(-2, 3)
MISSING = Caution.MISSING_SLICES
IRREGULAR = Caution.SPACING_IRREGULAR


def stretched(by: float) -> list[Plan]:
    """Return eight slices of which the upper four lie higher by a part of the gap."""
    return slices_at(EIGHT + 6 * by * (EIGHT > -6), OBLIQUE)


GAPS = (
    good("a slice missing", series(NINE, leave_out=(3,)), MULTI, MISSING, stacks=(3, 5)),
    good("two slices missing", series(NINE, leave_out=(4, 5)), MULTI, MISSING, stacks=(4, 3)),
    good(
        "slices missing in two places",
        series(replace(OBLIQUE, slices=9), leave_out=(2, 6)),
        MULTI,
        MISSING,
        stacks=(2, 3, 2),
    ),
    good(
        "the second slice missing",
        series(NINE, leave_out=(1,)),
        MULTI,
        MISSING,
        stacks=(1, 7),
        slab_mm=(5, 6),
    ),
    good("the last slice missing", series(NINE, leave_out=(8,)), stacks=(8,)),
    good(
        "every second slice missing",
        series(NINE, leave_out=(1, 3, 5, 7)),
        MISSING,
        Caution.SPACING_TAG_MISMATCH,
        slab_mm=12.0,
    ),
    good(
        "every second slice missing, without spacing tag",
        series(NINE, edit=NO_TAG, leave_out=(1, 3, 5, 7)),
        Caution.SPACING_TAG_MISSING,
        slab_mm=12.0,
    ),
    good(
        "every second slice missing, without thickness",
        series(NINE, edit=values(SliceThickness=None), leave_out=(1, 3, 5, 7)),
        Caution.SPACING_TAG_MISMATCH,
        slab_mm=12.0,
    ),
    good(
        "every second slice missing of slices that touch",
        series(replace(NINE, thickness=6), edit=only(4, values(SliceThickness=6.2)), leave_out=ODD),
        MISSING,
        Caution.SPACING_TAG_MISMATCH,
        slab_mm=12.0,
    ),
    good(
        "two of three slices missing",
        series(NINE, leave_out=(1, 2, 4, 5, 7, 8)),
        MULTI,
        stacks=(1, 1, 1),
        slab_mm=5.0,
    ),
    good(
        "two of three thick slices missing",
        series(replace(NINE, thickness=6.2), leave_out=(1, 2, 4, 5, 7, 8)),
        MISSING,
        Caution.SPACING_TAG_MISMATCH,
        stacks=(3,),
        slab_mm=18.0,
    ),
    good(
        "one slice for each disc",
        series(slices_at(DISC_HEIGHTS), edit=NO_TAG),
        MULTI,
        stacks=(1,) * 5,
        slab_mm=5.0,
    ),
    good(
        "one slice for each disc, of two thicknesses",
        series(slices_at(DISC_HEIGHTS), edit=only((1, 2), values(SliceThickness=12))),
        MULTI,
        IRREGULAR,
        Caution.SPACING_TAG_MISMATCH,
        stacks=(1, 2, 1, 1),
        slab_mm=(5, 35, 5, 5),
        slab_source="thickness",
    ),
    good(
        "one slice for each disc, without thickness",
        series(slices_at(DISC_HEIGHTS, replace(PLAN, gap=35)), edit=values(SliceThickness=None)),
        slab_mm=35.0,
    ),
    good(
        "the first and the last of eleven slices",
        series(ELEVEN, leave_out=range(1, 10)),
        MULTI,
        stacks=(1, 1),
        slab_mm=5.0,
    ),
    good("gaps of three thicknesses", series(Plan(gap=15, thickness=5)), slab_mm=15.0),
    good(
        "gaps beyond three thicknesses",
        series(Plan(gap=16, thickness=5)),
        MULTI,
        stacks=(1,) * 5,
        slab_mm=5.0,
    ),
    good(
        "a gap off by 4 %",
        series(stretched(0.04)),
        IRREGULAR,
        stacks=(8,),
        slab_mm=6 + 0.24 / 7,
        drift_mm=0.2,
    ),
    good("a gap off by 6 %", series(stretched(0.06)), MULTI, IRREGULAR, stacks=(4, 4)),
    good(
        "a gap short by 6 %",
        series(stretched(-0.06)),
        MULTI,
        IRREGULAR,
        Caution.OVERLAPPING_STACKS,
        stacks=(4, 4),
        overlaps=1,
    ),
    good("a gap off by a half", series(stretched(0.5)), MULTI, IRREGULAR, stacks=(4, 4)),
    good("a gap of 40 mm", series(stretched(40 / 6 - 1)), MULTI, stacks=(4, 4)),
    good(
        "positions rounded to 0.1 mm",
        series(slices_at(np.round(4.44 * np.arange(8), 1) - 16, replace(PLAN, gap=4.44))),
        IRREGULAR,
        stacks=(8,),
        slab_mm=31.1 / 7,
        drift_mm=0.1,
    ),
    good("gaps of 0.9 mm", series(Plan(gap=0.9, thickness=1, slices=9)), stacks=(9,), slab_mm=0.9),
    good(
        "slices that overlap by half",
        series(Plan(gap=2.5, thickness=5, slices=9)),
        stacks=(9,),
        slab_mm=2.5,
    ),
)

TAGS = (
    good(
        "spacing tag missing",
        series(edit=values(SpacingBetweenSlices=None)),
        Caution.SPACING_TAG_MISSING,
    ),
    good(
        "spacing tag missing in one slice",
        series(edit=only(2, values(SpacingBetweenSlices=None))),
        Caution.SPACING_TAG_MISSING,
    ),
    good(
        "spacing tag malformed",
        series(edit=raw("SpacingBetweenSlices", "DS", b"6,0 ")),
        Caution.SPACING_TAG_MISSING,
    ),
    good(
        "spacing tag negative",
        series(edit=values(SpacingBetweenSlices=-6)),
        Caution.SPACING_TAG_MISMATCH,
    ),
    good(
        "spacing tag is the gap between slabs",
        series(edit=values(SpacingBetweenSlices=1.0)),
        Caution.SPACING_TAG_MISMATCH,
    ),
    good(
        "spacing tag off by 4 %",
        series(edit=values(SpacingBetweenSlices=6.24)),
    ),
    good(
        "spacing tag off by 8 %",
        series(edit=values(SpacingBetweenSlices=6.5)),
        Caution.SPACING_TAG_MISMATCH,
    ),
    good("thickness missing", series(edit=values(SliceThickness=None))),
    good("thickness larger than the spacing", series(edit=values(SliceThickness=6.5))),
    good("a slice alone", series(Plan(slices=1)), stacks=(1,), slab_mm=5.0),
    good(
        "a slice alone without thickness",
        series(Plan(slices=1), edit=values(SliceThickness=None)),
        stacks=(1,),
        slab_source="tag",
    ),
    fault(
        "a slice alone without thickness and spacing",
        series(Plan(slices=1), edit=values(SliceThickness=None, SpacingBetweenSlices=None)),
        Reason.TOO_FEW_SLICES,
    ),
    fault(
        "a slice apart from the others without thickness and spacing",
        series(NINE, edit=values(SliceThickness=None, SpacingBetweenSlices=None), leave_out=(1,)),
        Reason.TOO_FEW_SLICES,
    ),
    fault(
        "positions with decimal commas",
        series(edit=raw("ImagePositionPatient", "DS", b"1,5\\2,5\\3,5 ")),
        Reason.BAD_GEOMETRY_POSITION,
    ),
    fault(
        "a position that is no number",
        series(edit=only(1, raw("ImagePositionPatient", "DS", b"1\\NaN\\3 "))),
        Reason.BAD_GEOMETRY_POSITION,
    ),
    good(
        "two slices",
        series(Plan(slices=2), edit=each(values(SliceThickness=None))),
        stacks=(2,),
    ),
)

CASES = (*GAPS, *TAGS)
