"""Numbers that no scanner writes: huge, tiny, not finite; and real-world values beside."""

from dataclasses import replace

import nibabel as nib
import numpy as np
from pydicom.dataset import Dataset

from dicom_writer import Plan
from imaging_cases.case import (
    PLAN,
    SAGITTAL,
    each,
    fault,
    good,
    multi_frame,
    only,
    raw,
    series,
    slices_at,
    together,
    values,
)
from imaging_cases.multiframe import frame_values
from paravert.errors import Caution, Reason

DIFFER = Caution.REAL_WORLD_VALUES_DIFFER
ALONE = Plan(slices=1)


def scale(slope, intercept=0.0):
    return values(RescaleSlope=slope, RescaleIntercept=intercept)


PLACES = (
    *(
        fault(
            f"a position of {far:g} mm in {where}",
            series(edit=choose(values(ImagePositionPatient=[0, 0, far]))),
            Reason.BAD_GEOMETRY_POSITION,
            "mm from the origin, expected at most 3000",
        )
        for far in (3001.0, -1e10, 1e39, 1e300)
        for where, choose in {"one": lambda edit: only(3, edit), "all": lambda edit: edit}.items()
    ),
    fault(
        "slices 4 m apart",
        series([replace(PLAN, centre=(0, 0, z)) for z in (-2000.0, 2000.0)]),
        Reason.BAD_GEOMETRY_POSITION,
        "mm apart, expected at most 3000",
    ),
    fault(
        "slices 110 mm apart, without thickness",
        series(slices_at(110.0 * np.arange(-1, 2)), edit=values(SliceThickness=None)),
        Reason.BAD_GEOMETRY_POSITION,
        "slices of one stack lie 110 mm apart",
    ),
    fault(
        "pixels that span 4 m",
        series(Plan(columns=401, column_spacing=10.0, slices=2)),
        Reason.BAD_GEOMETRY_POSITION,
        "the pixels of a stack span",
    ),
    fault(
        "more columns than NIfTI holds",
        series(Plan(rows=2, columns=40_000, column_spacing=0.05, slices=2)),
        Reason.UNSUPPORTED_PIXELS,
        "2 x 40000 pixels",
    ),
    fault(
        "nifti, more slices than NIfTI-1 holds",
        lambda home: nib.save(
            nib.Nifti2Image(np.zeros((1, 1, 40_000), np.int16), np.diag([1, 1, 0.05, 1])),
            home / "image.nii.gz",
        ),
        Reason.UNSUPPORTED_PIXELS,
        "40000 voxels along an axis",
        images="image.nii.gz",
    ),
    *(
        good(
            f"sagittal slices {where}",
            together(series(), series(plan, "sagittal")),
            Caution.NON_AXIAL_EXCLUDED,
            Caution.SAGITTAL_NOT_USED,
        )
        for where, plan in (
            ("of 40,000 columns", replace(SAGITTAL, rows=2, columns=40_000)),
            (
                "whose pixels lie beyond 3 m",
                replace(SAGITTAL, columns=90, column_spacing=10.0, centre=(0, 2700, 0)),
            ),
        )
    ),
    fault(
        "an orientation of 1e200",
        series(edit=values(ImageOrientationPatient=[1e200, 0, 0, 0, 1e200, 0])),
        Reason.BAD_GEOMETRY_ORIENTATION,
    ),
    *(
        good(f"a thickness of {told:g} mm", series(edit=values(SliceThickness=told)))
        for told in (1e-5, 1e10, 1e300, -5)
    ),
    good(
        "a slice alone with a thickness of 1e10 mm",
        series(ALONE, edit=values(SliceThickness=1e10)),
        stacks=(1,),
        slab_source="tag",
    ),
    fault(
        "a slice alone with an implausible thickness and spacing",
        series(ALONE, edit=values(SliceThickness=1e10, SpacingBetweenSlices=-1e-10)),
        Reason.TOO_FEW_SLICES,
    ),
    *(
        good(
            f"a spacing tag of {told:g} mm",
            series(edit=values(SpacingBetweenSlices=told)),
            Caution.SPACING_TAG_MISMATCH,
        )
        for told in (0, 1e300)
    ),
)

SCALES = (
    *(
        fault(
            f"a slope of {slope:g} and an intercept of {intercept:g}",
            series(edit=only(2, scale(slope, intercept))),
            Reason.UNSUPPORTED_PIXELS,
            told,
        )
        for slope, intercept, told in (
            (1e36, 0, "values up to inf after the rescale"),
            (1e34, 0, "after the rescale, expected at most 1e+10"),
            (1e308, 1e308, "values up to inf after the rescale"),
            (-1e300, 0, "values up to inf after the rescale"),
            (1e20, 0, "after the rescale, expected at most 1e+10"),
            (1, 1e300, "values up to inf after the rescale"),
            (1e-30, 0, "differ by"),
            (1e-320, 0, "differ by"),
            (1, 9e9, "float32 loses them"),
        )
    ),
    fault(
        "enhanced, a slope of 1e300",
        multi_frame(
            edit=frame_values(
                "PixelValueTransformationSequence",
                RescaleSlope=lambda n: 1e300 if n == 3 else 1,
                RescaleIntercept=lambda n: 0,
            )
        ),
        Reason.UNSUPPORTED_PIXELS,
        "values up to inf after the rescale",
    ),
    *(
        fault(f"an infinite {keyword}", series(edit=raw(keyword, "DS", told)), reason)
        for keyword, told, reason in (
            ("RescaleSlope", b"1e400 ", Reason.UNSUPPORTED_PIXELS),
            ("RescaleIntercept", b"-inf", Reason.UNSUPPORTED_PIXELS),
            ("ImagePositionPatient", b"0\\0\\1e400", Reason.BAD_GEOMETRY_POSITION),
            ("PixelSpacing", b"inf\\inf ", Reason.BAD_PIXEL_SPACING),
        )
    ),
    good(
        "an echo time of 1e10 in one slice",
        series(edit=only(2, values(EchoTime=1e10, RepetitionTime=-1, InversionTime=1e300))),
    ),
)


def mapped(choose, *, rescale: bool = False, count: int = 1):
    """Return what maps values to real-world ones, by the number of the slice.

    choose: (slope, intercept) of a number; None for no mapping. rescale: the same as rescale too.
    """

    def edit(data, number):
        told = choose(number)
        if told is None:
            return
        data.RealWorldValueMappingSequence = [mapping(*told) for _ in range(count)]
        if rescale:
            data.RescaleSlope, data.RescaleIntercept = (f"{value:.6g}" for value in told)

    return edit


def mapping(slope, intercept) -> Dataset:
    item = Dataset()
    item.RealWorldValueSlope, item.RealWorldValueIntercept = float(slope), float(intercept)
    return item


def table(number):
    item = Dataset()
    item.RealWorldValueLUTData = [float(number), 2.0]
    return item


def with_tables(data, number):
    data.RealWorldValueMappingSequence = [table(number)]


def frames_mapped(choose):
    """Return what gives each frame a functional group with its mapping."""

    def edit(data):
        for number, group in enumerate(data.PerFrameFunctionalGroupsSequence):
            group.RealWorldValueMappingSequence = [mapping(*choose(number))]

    return edit


REAL_WORLD = (
    good("one real-world mapping for all", series(edit=mapped(lambda n: (0.25, 3)))),
    good("real-world slopes that differ", series(edit=mapped(lambda n: (1 + n / 100, 0))), DIFFER),
    good("real-world offsets that differ", series(edit=mapped(lambda n: (1, 20 * n))), DIFFER),
    good(
        "real-world slopes that differ by rounding",
        series(edit=mapped(lambda n: (0.25 + 1e-6 * n, 0))),
    ),
    good(
        "a real-world mapping in some slices alone",
        series(edit=mapped(lambda n: (2, 0) if n else None)),
        DIFFER,
    ),
    good(
        "two real-world mappings, differing",
        series(edit=mapped(lambda n: (1 + n, 0), count=2)),
        DIFFER,
    ),
    good(
        "real-world values that are the rescale",
        series(
            edit=each(mapped(lambda n: (1 + n / 7, -n / 3), rescale=True)),
        ),
        tolerance=np.inf,
        dtype=np.float32,
    ),
    good(
        "a rescale that differs from slice to slice under one real-world mapping",
        series(
            edit=each(
                mapped(lambda n: (2, 0)),
                lambda data, n: scale(1 + n, 0)(data, n),
            )
        ),
        DIFFER,
        tolerance=np.inf,
        dtype=np.int16,
    ),
    good("tables of real-world values", series(edit=with_tables)),
    good(
        "enhanced, real-world slopes that differ",
        multi_frame(edit=frames_mapped(lambda n: (1 + n, 0))),
        DIFFER,
    ),
    good("enhanced, one real-world mapping", multi_frame(edit=frames_mapped(lambda n: (7, 2)))),
)

CASES = (*PLACES, *SCALES, *REAL_WORLD)
