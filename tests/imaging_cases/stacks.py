"""Several stacks in one series: apart, alternating, side by side, through each other."""

from dataclasses import replace

from dicom_writer import Plan, turn, uid
from imaging_cases.case import (
    DISCS,
    EIGHT,
    MULTI,
    OBLIQUE,
    PLAN,
    fault,
    good,
    only,
    series,
    slices_at,
    together,
    values,
)
from paravert.errors import Caution, Reason

CROSSING = Plan(slices=3, centre=(0, 0, 14)).turned(turn("x", 25))


CASES = (
    good(
        "disc-angled stacks from the head downwards",
        series(DISCS[::-1]),
        MULTI,
        stacks=(3, 4, 2, 3),
    ),
    good(
        "two stacks of one orientation",
        series([Plan(slices=3, centre=(0, 0, z)) for z in (-50, 50)]),
        MULTI,
        stacks=(3, 3),
    ),
    good(
        "short stacks of one orientation a little aside",
        series([Plan(slices=2, centre=(x, 0, z)) for x, z in ((0, -50), (1, 50))]),
        MULTI,
        stacks=(2, 2),
    ),
    good(
        "stacks side by side",
        series([Plan(columns=20, slices=4, centre=(x, 0, 0)) for x in (-40, 40)]),
        MULTI,
        stacks=(4, 4),
    ),
    good(
        "stacks acquired alternately",
        series(
            [
                plan
                for pair in zip(*(slices_at(EIGHT[:4] + z) for z in (0, 63)), strict=True)
                for plan in pair
            ]
        ),
        MULTI,
        stacks=(4, 4),
    ),
    good(
        "acquired odd slices first",
        series(slices_at([*EIGHT[::2], *EIGHT[1::2]], OBLIQUE)),
        stacks=(8,),
    ),
    good(
        "stacks of other spacings one above the other",
        series(
            [
                Plan(slices=4, gap=4, centre=(0, 0, -40)),
                Plan(slices=3, gap=7.5, centre=(0, 0, 10)),
            ]
        ),
        MULTI,
        stacks=(4, 3),
        slab_mm=(4, 7.5),
    ),
    good(
        "stacks that intersect",
        series([Plan(slices=3, centre=(0, 0, 0)), CROSSING]),
        MULTI,
        Caution.OVERLAPPING_STACKS,
        stacks=(3, 3),
        overlaps=3,
    ),
    good(
        "a stack through the middle of another",
        series([PLAN, replace(PLAN, slices=1).turned(turn("x", 40))]),
        MULTI,
        Caution.OVERLAPPING_STACKS,
        stacks=(5, 1),
        slab_mm=(6, 5),
        overlaps=1,
    ),
    good(
        "a slice beside one that is not counted",  # at 14 mm, beside 11, which lies too near to 8
        series(
            [
                Plan(slices=5, gap=4, centre=(0, 0, 0)),
                Plan(slices=1, centre=(0.6, 0, 11)),
                Plan(slices=5, gap=4, centre=(1.2, 0, 22)),
            ]
        ),
        MULTI,
        Caution.OVERLAPPING_STACKS,
        stacks=(5, 1, 5),
        slab_mm=(4, 5, 4),
        overlaps=1,
    ),
    good(
        "stacks that intersect beside the image",
        series(
            [
                Plan(slices=2, centre=(0, 0, -30)),
                Plan(slices=2, centre=(0, 0, 40)).turned(turn("x", 20)),
            ]
        ),
        MULTI,
        stacks=(2, 2),
    ),
    good(
        "a stack of another matrix above",
        series([Plan(centre=(0, 0, -40)), Plan(columns=30, centre=(0, 0, 40))]),
        MULTI,
        stacks=(5, 5),
    ),
    fault(
        "slices of another matrix among the others",
        together(series(leave_out=(2,)), lambda home: _others(home, columns=30)),
        Reason.INCONSISTENT_MATRIX,
        "40 x 48 pixels of 3.5 x 2.5 mm",
    ),
    fault(
        "slices of another pixel spacing among the others",
        together(series(leave_out=(2,)), lambda home: _others(home, column_spacing=2.6)),
        Reason.INCONSISTENT_MATRIX,
        "40 x 48 pixels of 3.5 x 2.6 mm",
    ),
    good(
        "pixel spacing that differs in its last digit",
        series(edit=only(2, values(PixelSpacing=[3.50001, 2.5]))),
    ),
    good(
        "one slice in another frame of reference",
        series(edit=only(1, values(FrameOfReferenceUID=uid("elsewhere")))),
        Caution.FRAME_OF_REFERENCE_DIFFERS,
    ),
    good(
        "a frame of reference for each stack",
        together(
            series([Plan(slices=3, centre=(0, 0, -30))]),
            lambda home: series(
                Plan(slices=4, centre=(0, 0, 30)),
                edit=values(FrameOfReferenceUID=uid("elsewhere")),
            )(home / "images" / "second"),
        ),
        MULTI,
        Caution.FRAME_OF_REFERENCE_DIFFERS,
        stacks=(3, 4),
    ),
    good("no frame of reference", series(edit=values(FrameOfReferenceUID=None))),
)


def _others(home, **changed):
    """Write one slice of another form where one of the usual ones is missing."""
    return copies_of(replace(PLAN, **changed), leave_out=(0, 1, 3, 4))(home)


def copies_of(plan: Plan, **options):
    """Return what writes slices into the same series as the usual ones."""
    return lambda home: series(plan, **options)(home / "images" / "other")
