"""Multi-frame files: enhanced and converted, one or several, groups shared or per frame."""

from dataclasses import replace

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    LegacyConvertedEnhancedMRImageStorage,
    RLELossless,
)

from dicom_writer import Plan, phantom, store, turn
from imaging_cases.case import (
    DISCS,
    EIGHT,
    MULTI,
    PLAN,
    SAGITTAL,
    good,
    multi_frame,
    series,
    slices_at,
    together,
)
from paravert.errors import Caution

MEASURES = "PixelMeasuresSequence"
ORIENTATION = "PlaneOrientationSequence"


def frame_values(sequence: str, **series_of_values):
    """Return what puts values into a functional group, those of each frame in turn."""

    def edit(data):
        for number, group in enumerate(data.PerFrameFunctionalGroupsSequence):
            item = group[sequence].value[0] if sequence in group else Dataset()
            for keyword, choose in series_of_values.items():
                setattr(item, keyword, choose(number))
            setattr(group, sequence, [item])

    return edit


def rescaled(data):
    """Store every frame with a scale and an offset of its own."""
    frames = np.frombuffer(data.PixelData, "<u2").reshape(-1, data.Rows, data.Columns).astype(int)
    store(data, np.stack([(frame + 10 * n) // 2 for n, frame in enumerate(frames)]))
    scales = {"RescaleSlope": lambda n: 2, "RescaleIntercept": lambda n: -10 * n}
    frame_values("PixelValueTransformationSequence", **scales)(data)


def converted(data):
    """Describe the frames as converters of classic images do."""
    del data.FrameOfReferenceUID
    shared = data.SharedFunctionalGroupsSequence[0]
    shared.UnassignedSharedConvertedAttributesSequence = [Dataset()]
    shared.UnassignedSharedConvertedAttributesSequence[0].EchoTime = 100
    for number, group in enumerate(data.PerFrameFunctionalGroupsSequence):
        del group.MREchoSequence
        group.UnassignedPerFrameConvertedAttributesSequence = [Dataset()]
        group.UnassignedPerFrameConvertedAttributesSequence[0].InstanceNumber = number + 1


def concatenated(part: int):
    def edit(data):
        data.ConcatenationUID, data.InConcatenationNumber = "1.2.3.4", part
        data.InConcatenationTotalNumber = 2

    return edit


def with_private_group(data):
    """Put another image's place into a private sequence, under the standard's names."""
    for group in data.PerFrameFunctionalGroupsSequence:
        other = Dataset()
        other.ImagePositionPatient, other.PixelSpacing = [0, 0, 0], [1, 1]
        block = group.private_block(0x0011, "OTHER", create=True)
        block.add_new(0x01, "SQ", [other])


def unassigned_rescale(data):
    """Keep the slope of the original beside the one that counts, as a converter may."""
    shared = data.SharedFunctionalGroupsSequence[0]
    shared.PixelValueTransformationSequence = [Dataset()]
    counts = shared.PixelValueTransformationSequence[0]
    counts.RescaleSlope, counts.RescaleIntercept, counts.RescaleType = 1, 0, "US"
    for group in data.PerFrameFunctionalGroupsSequence:
        group.UnassignedPerFrameConvertedAttributesSequence = [Dataset()]
        group.UnassignedPerFrameConvertedAttributesSequence[0].RescaleSlope = 7


def with_referenced_image(data):
    """Refer to another image together with its place."""
    for group in data.PerFrameFunctionalGroupsSequence:
        group.ReferencedImageSequence = [Dataset()]
        other = group.ReferencedImageSequence[0]
        other.ImagePositionPatient, other.PixelSpacing = [0, 0, 0], [1, 1]


def lowered(points):
    return phantom(points) - 1700


def signed(data):
    frames = np.frombuffer(data.PixelData, "<u2").reshape(-1, data.Rows, data.Columns)
    store(data, frames.astype(int) - 1700, signed=True)


CASES = (
    good("enhanced", multi_frame()),
    good("enhanced, stacks in one file", multi_frame(*DISCS), MULTI, stacks=(3, 4, 2, 3)),
    good(
        "enhanced, a file for each stack",
        together(*(multi_frame(plan, name=f"stack{n}") for n, plan in enumerate(DISCS))),
        MULTI,
        stacks=(3, 4, 2, 3),
    ),
    good(
        "enhanced, orientation shared",
        multi_frame(*slices_at(EIGHT, DISCS[0]), shared=(MEASURES, ORIENTATION, "MREchoSequence")),
        stacks=(8,),
    ),
    good("enhanced, a slope that does not count", multi_frame(edit=unassigned_rescale)),
    good("enhanced, another image referred to", multi_frame(edit=with_referenced_image)),
    good("enhanced, nothing shared", multi_frame(shared=())),
    good("enhanced, one frame", multi_frame(Plan(slices=1)), stacks=(1,), slab_mm=5.0),
    good(
        "enhanced, all shared for one frame",
        multi_frame(Plan(slices=1), shared=(MEASURES, ORIENTATION, "PlanePositionSequence")),
        stacks=(1,),
        slab_mm=5.0,
    ),
    good("enhanced, rescale per frame", multi_frame(edit=rescaled), tolerance=2),
    good("enhanced, a private group", multi_frame(edit=with_private_group)),
    good("enhanced, signed", multi_frame(edit=signed), values=lowered),
    good("enhanced, mirrored", multi_frame(replace(PLAN, right=(-1, 0, 0)))),
    good(
        "enhanced, concatenated",
        together(
            multi_frame(Plan(slices=4, centre=(0, 0, -12)), name="1", edit=concatenated(1)),
            multi_frame(Plan(slices=3, centre=(0, 0, 9)), name="2", edit=concatenated(2)),
        ),
        stacks=(7,),
    ),
    good(
        "enhanced beside classic in one series",
        together(
            multi_frame(Plan(slices=2, centre=(0, 0, 90))), series(Plan(slices=3, centre=(0, 0, 0)))
        ),
        MULTI,
        stacks=(3, 2),
    ),
    good(
        "enhanced, equal to classic beside",
        together(multi_frame(), series(edit=lambda data, _: _as_enhanced(data))),
        Caution.DUPLICATE_SLICE_DROPPED,
    ),
    good(
        "enhanced sagittal beside",
        together(
            series(),
            multi_frame(SAGITTAL, edit=lambda data: setattr(data, "SeriesInstanceUID", "1.2.3")),
        ),
        Caution.NON_AXIAL_EXCLUDED,
    ),
    good(
        "converted from classic",
        multi_frame(sop_class=LegacyConvertedEnhancedMRImageStorage, edit=converted),
    ),
    good(
        "converted from classic, in stacks",
        multi_frame(
            *DISCS, sop_class=LegacyConvertedEnhancedMRImageStorage, shared=(), edit=converted
        ),
        MULTI,
        stacks=(3, 4, 2, 3),
    ),
    *(
        good(
            f"enhanced in {syntax.keyword}",
            multi_frame(*DISCS[:2], syntax=syntax),
            MULTI,
            stacks=(3, 4),
        )
        for syntax in (
            ImplicitVRLittleEndian,
            ExplicitVRBigEndian,
            DeflatedExplicitVRLittleEndian,
            RLELossless,
            JPEG2000Lossless,
            JPEGLSLossless,
        )
    ),
    good(
        "enhanced, spacing tag missing",
        multi_frame(
            edit=lambda data: (
                data.SharedFunctionalGroupsSequence[0][MEASURES]
                .value[0]
                .__delattr__("SpacingBetweenSlices")
            )
        ),
        Caution.SPACING_TAG_MISSING,
    ),
    good(
        "enhanced, oblique stacks that intersect",
        multi_frame(
            Plan(slices=3, centre=(0, 0, 0)),
            Plan(slices=3, centre=(0, 0, 14)).turned(turn("x", 25)),
        ),
        MULTI,
        Caution.OVERLAPPING_STACKS,
        stacks=(3, 3),
        overlaps=3,
    ),
)


def _as_enhanced(data):
    """Give a classic slice the contrast that the enhanced one tells."""
    data.ImageType = ["ORIGINAL", "PRIMARY", "M", "NONE"]
    del data.RepetitionTime
