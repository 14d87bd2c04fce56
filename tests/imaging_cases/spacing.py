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
        Caution.SPACING_TAG_MISMATCH,
        slab_mm=12.0,
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
    fault(
        "a repeated scan 0.2 mm higher",
        series([PLAN, replace(PLAN, centre=(4, -3, 7.2))]),
        Reason.DUPLICATE_POSITIONS_CONFLICT,
        "0.20 mm",
    ),
    fault(
        "a repeated scan 0.1 mm higher and 0.1 mm aside",
        series([PLAN, replace(PLAN, centre=(4.1, -3, 7.1))]),
        Reason.DUPLICATE_POSITIONS_CONFLICT,
    ),
    good(
        "a repeated scan 2 mm aside",
        series([PLAN, replace(PLAN, centre=(6, -3, 7))]),
        MULTI,
        Caution.OVERLAPPING_STACKS,
        stacks=(5, 5),
        overlaps=5,
    ),
    good(
        "a second stack that begins 0.2 mm above the end of the first",
        series([PLAN, replace(PLAN, centre=(4, -3, 7 + 24.2))]),
        MULTI,
        IRREGULAR,
        Caution.OVERLAPPING_STACKS,
        stacks=(5, 5),
        overlaps=1,
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
        Caution.SPACING_TAG_MISSING,
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
