"""Multi-frame files: counts that disagree, groups that are missing, several contrasts."""

from pydicom.dataset import Dataset
from pydicom.uid import (
    RLELossless,
)

from imaging_cases.case import (
    PLAN,
    SAGITTAL,
    Case,
    afterwards,
    fault,
    multi_frame,
)
from paravert.errors import Reason

ORIENTATION = "PlaneOrientationSequence"
TWICE = [PLAN, PLAN]


def first_of_place(told):
    """Return what tells the two frames at each place apart: told(0) and told(1)."""

    def edit(data):
        seen = set()
        for group in data.PerFrameFunctionalGroupsSequence:
            place = tuple(group.PlanePositionSequence[0].ImagePositionPatient)
            told(group, int(place in seen))
            seen.add(place)

    return edit


def _ambiguous(name: str, told) -> Case:
    write = multi_frame(*TWICE, edit=first_of_place(told))
    return fault(name, write, Reason.AMBIGUOUS_CONTRAST)


def group_with(sequence: str, keyword: str, pair: tuple):
    def told(group, second):
        item = Dataset()
        setattr(item, keyword, pair[second])
        setattr(group, sequence, [item])

    return told


def directions(group, second):
    inner = Dataset()
    inner.DiffusionGradientOrientation = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]][second]
    item = Dataset()
    item.DiffusionBValue = 800.0
    item.DiffusionGradientDirectionSequence = [inner]
    group.MRDiffusionSequence = [item]


def without(*keywords: str, frame: int | None = None):
    """Return what takes elements out of the data set, or of the groups of one frame."""

    def edit(data):
        place = data if frame is None else data.PerFrameFunctionalGroupsSequence[frame]
        for keyword in keywords:
            del place[keyword]

    return edit


def place_of_another(data):
    """Tell a place at the top, where it is no frame's."""
    data.ImagePositionPatient = [0, 0, 0]
    del data.PerFrameFunctionalGroupsSequence[2]["PlanePositionSequence"]


def one_slope_malformed(data):
    data.RescaleSlope, data.RescaleIntercept = 1, 0
    for number, group in enumerate(data.PerFrameFunctionalGroupsSequence):
        scale = Dataset()
        scale.RescaleIntercept, scale.RescaleType = 0, "US"
        scale.add_new("RescaleSlope", "DS", "2")
        if number == 1:
            scale["RescaleSlope"]._value = "2,0"
        group.PixelValueTransformationSequence = [scale]


def number_of_frames(count):
    return lambda data: setattr(data, "NumberOfFrames", count)


def no_frames(data):
    data.PerFrameFunctionalGroupsSequence = []
    data.NumberOfFrames = 0


def shorter(path):
    path.write_bytes(path.read_bytes()[:-5000])


CASES = (
    fault(
        "enhanced, fewer frames told than described",
        multi_frame(edit=number_of_frames(4)),
        Reason.FRAME_COUNT_MISMATCH,
        "is 4, but 5 frames",
    ),
    fault(
        "enhanced, more frames told than described",
        multi_frame(edit=number_of_frames(6)),
        Reason.FRAME_COUNT_MISMATCH,
        "is 6, but 5 frames",
    ),
    fault(
        "enhanced, a negative number of frames",
        multi_frame(edit=number_of_frames(-1)),
        Reason.FRAME_COUNT_MISMATCH,
        "is -1, but 5 frames",
    ),
    fault(
        "enhanced, no number of frames",
        multi_frame(edit=without("NumberOfFrames")),
        Reason.FRAME_COUNT_MISMATCH,
    ),
    fault("enhanced, no frames at all", multi_frame(edit=no_frames), Reason.FRAME_COUNT_MISMATCH),
    fault(
        "enhanced, a frame without position",
        multi_frame(edit=without("PlanePositionSequence", frame=2)),
        Reason.BAD_GEOMETRY_POSITION,
    ),
    fault(
        "enhanced, a frame with the place at the top alone",
        multi_frame(edit=place_of_another),
        Reason.BAD_GEOMETRY_POSITION,
    ),
    fault(
        "enhanced, a frame whose slope is malformed",
        multi_frame(edit=one_slope_malformed),
        Reason.UNSUPPORTED_PIXELS,
    ),
    fault(
        "enhanced, a frame without orientation",
        multi_frame(edit=without(ORIENTATION, frame=2)),
        Reason.BAD_GEOMETRY_ORIENTATION,
    ),
    fault(
        "enhanced, no pixel measures",
        multi_frame(edit=without("SharedFunctionalGroupsSequence")),
        Reason.BAD_PIXEL_SPACING,
    ),
    fault("enhanced, cut off", afterwards(multi_frame(), shorter), Reason.TRUNCATED_PIXELS),
    fault(
        "enhanced, cut off in RLE",
        afterwards(multi_frame(syntax=RLELossless), shorter),
        Reason.TRUNCATED_PIXELS,
    ),
    fault("enhanced, no pixels", multi_frame(edit=without("PixelData")), Reason.MISSING_PIXELS),
    fault("enhanced, sagittal only", multi_frame(SAGITTAL), Reason.NO_AXIAL_SERIES),
    _ambiguous(
        "enhanced, two echoes", group_with("MREchoSequence", "EffectiveEchoTime", (20.0, 100.0))
    ),
    _ambiguous(
        "enhanced, magnitude and phase",
        group_with(
            "MRImageFrameTypeSequence",
            "FrameType",
            (["ORIGINAL", "PRIMARY", "M", "NONE"], ["ORIGINAL", "PRIMARY", "PHASE MAP", "NONE"]),
        ),
    ),
    _ambiguous(
        "enhanced, time points", group_with("FrameContentSequence", "TemporalPositionIndex", (1, 2))
    ),
    _ambiguous(
        "enhanced, b-values", group_with("MRDiffusionSequence", "DiffusionBValue", (0.0, 800.0))
    ),
    _ambiguous("enhanced, diffusion directions", directions),
)
