"""Slices nearer than they are thick: reformats, blocks that overlap, scans done again."""

from dataclasses import replace

import numpy as np

from dicom_writer import Plan
from imaging_cases.case import MULTI, PLAN, fault, good, series, slices_at, values
from paravert.errors import Caution, Reason

MISSING = Caution.MISSING_SLICES
IRREGULAR = Caution.SPACING_IRREGULAR
NO_TAG = values(SpacingBetweenSlices=None)
DISC_HEIGHTS = 35.0 * np.arange(-2, 3)

CASES = (
    fault(
        "a repeated scan 0.2 mm higher",
        series([PLAN, replace(PLAN, centre=(4, -3, 7.2))]),
        Reason.DUPLICATE_POSITIONS_CONFLICT,
        "0.20 mm",
    ),
    *(
        fault(
            f"a repeated scan {higher:g} mm higher",
            series([PLAN, replace(PLAN, centre=(4, -3, 7 + higher))]),
            Reason.DUPLICATE_POSITIONS_CONFLICT,
            f"slices of 5 mm lie {higher:.2f} mm apart",
        )
        for higher in (0.5, 1.2, 1.5, 2.4)
    ),
    fault(
        "a scan repeated twice, a little higher each time",
        series([replace(PLAN, centre=(4, -3, 7 + higher)) for higher in (0, 1.2, 2.4)]),
        Reason.DUPLICATE_POSITIONS_CONFLICT,
        "1.20 mm",
    ),
    fault(
        "a repeated scan of one slice for each disc",
        series([*slices_at(DISC_HEIGHTS), *slices_at(DISC_HEIGHTS + 1.2)], edit=NO_TAG),
        Reason.DUPLICATE_POSITIONS_CONFLICT,
        "1.20 mm",
    ),
    good(
        "one slice repeated within a scan",
        series([PLAN, replace(PLAN, slices=1, centre=(4, -3, 8.2))]),
        MULTI,
        IRREGULAR,
        Caution.OVERLAPPING_STACKS,
        Caution.SPACING_TAG_MISMATCH,
        stacks=(3, 2, 1),
        slab_mm=(6, 4.8, 5),
        overlaps=1,
    ),
    fault(
        "two slices, and two more that begin a little above the second",
        series(slices_at((0, 6, 7.2, 13.2))),
        Reason.DUPLICATE_POSITIONS_CONFLICT,
        "1.20 mm",
    ),
    fault(
        "a repeated scan of one slice",
        series(slices_at((0, 0.2))),
        Reason.DUPLICATE_POSITIONS_CONFLICT,
        "0.20 mm",
    ),
    good(
        "two slices of a reformat",
        series(Plan(gap=1, thickness=6, slices=2)),
        stacks=(2,),
        slab_mm=1.0,
    ),
    good(
        "a reformat of 6 mm every 1 mm",
        series(Plan(gap=1, thickness=6, slices=20)),
        stacks=(20,),
        slab_mm=1.0,
    ),
    good(
        "a reformat without spacing tag",
        series(Plan(gap=1, thickness=6, slices=20), edit=NO_TAG),
        Caution.SPACING_TAG_MISSING,
        stacks=(20,),
        slab_mm=1.0,
    ),
    good(
        "a reformat of which a slice is missing",
        series(Plan(gap=1, thickness=6, slices=20), leave_out=(4,)),
        MULTI,
        MISSING,
        stacks=(4, 15),
        slab_mm=1.0,
    ),
    good(
        "two reformats far apart without spacing tag",
        series([Plan(gap=2, centre=(0, 0, z)) for z in (-30.5, 30)], edit=NO_TAG),
        MULTI,
        Caution.SPACING_TAG_MISSING,
        stacks=(5, 5),
        slab_mm=2.0,
    ),
    good(
        "the thickness of the slab in every slice",
        series(Plan(gap=1, thickness=80, slices=20)),
        stacks=(20,),
        slab_mm=1.0,
    ),
    good(
        "the thickness of the slab, and two slices missing",
        series(Plan(gap=1, thickness=80, slices=20), leave_out=(4, 12)),
        MULTI,
        MISSING,
        stacks=(4, 7, 7),
        slab_mm=1.0,
    ),
    good(
        "a second stack that begins half a thickness above the end of the first",
        series([PLAN, replace(PLAN, centre=(4, -3, 7 + 24 + 2))]),
        MULTI,
        IRREGULAR,
        Caution.OVERLAPPING_STACKS,
        stacks=(5, 5),
        overlaps=1,
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
