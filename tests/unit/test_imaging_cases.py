"""Every case of the table: what conversion writes, and what make_sheet says of the same headers."""

from collections import Counter
from dataclasses import replace

import pytest

from dicom_writer import Plan
from imaging_cases import CASES, orientations
from imaging_cases.case import OBLIQUE, good, series
from imaging_checks import assert_outcome, convert_one
from paravert.archive.assessment import conversion_fault
from paravert.archive.headers import read_files
from paravert.errors import Caution, Reason, SubjectFault
from paravert.imaging import dicom, dicom_scan, slice_spacing
from paravert.imaging.convert import read_images
from paravert.provenance import files_below

NOT_OF_CONVERSION = {
    Caution.NO_MUSCLE_FOUND,
    Caution.SIDES_SWAPPED,
    Caution.LOW_PREDICTED_IOU,
    Caution.COVARIATE_DIFFERS_FROM_HEADER,
    Caution.BMI_DIFFERS,
    Caution.IMAGES_SHARED,
    Caution.IMAGES_OFFLINE,
    Caution.SEQUENCE_DIFFERS_FROM_HEADER,
    Caution.FAT_NOT_BRIGHT,
    Caution.LOW_CONTRAST,
    Caution.NO_FAT_REFERENCE,
    Caution.FAT_WATER_SWAPPED,
    Caution.MASK_UNLIKE_NETWORK,
    Caution.MUSCLE_AT_BORDER,
    Caution.AREA_JUMP,
    Caution.SIDES_DIFFER,
    Caution.FAT_OUTLIER,
    Caution.RATING_OUTDATED,
    Caution.LEVELS_NOT_USED,
    Caution.LEVEL_UNCERTAIN,
}
# Reasons of pixels; headers do not tell these, or not always.
NOT_IN_HEADERS = {
    Reason.TRUNCATED_PIXELS,
    Reason.UNDECODABLE_PIXELS,
    Reason.UNSUPPORTED_PIXELS,
    Reason.MISSING_PIXELS,
    Reason.BLANK_IMAGES,
    Reason.DUPLICATE_POSITIONS_CONFLICT,
    Reason.FRAME_COUNT_MISMATCH,
}
OF_DICOM = [case for case in CASES if case.images == "images" and not (case.truth or case.labels)]


def run(case, home):
    case.write(home)
    return convert_one(
        home, case.images, truth=case.truth, labels=case.labels, patterns=case.patterns
    )


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # of the writer
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_case(case, tmp_path):
    converted = run(case, tmp_path)
    assert_outcome(case, converted)
    assert str(tmp_path) not in str(converted.row)
    if case in OF_DICOM and not case.patterns:
        assert_headers_tell(tmp_path / case.images, converted.row["reason"])


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # of the writer
@pytest.mark.parametrize(
    "case", [case for case in OF_DICOM if case.patterns], ids=lambda case: case.name
)
def test_headers_are_refused_for_the_reason_of_conversion_without_patterns(case, tmp_path):
    case.write(tmp_path)
    folder = tmp_path / case.images
    try:
        read_images(str(folder))
        reason = None
    except SubjectFault as fault:
        reason = fault.reason
    assert_headers_tell(folder, reason)


def assert_headers_tell(folder, reason):
    """What make_sheet says of the headers of a folder is the reason of its conversion, or None."""
    try:
        files = files_below(folder)
    except OSError:  # there is none, or it may not be read
        return
    told = conversion_fault(read_files(files))
    if told is None:
        assert reason is None or reason in NOT_IN_HEADERS
    else:
        assert told.reason == reason


def test_the_table_has_at_least_80_cases_beside_the_orientations():
    assert [name for name, count in Counter(case.name for case in CASES).items() if count > 1] == []
    assert len(orientations.DICOM_AXES) == len(orientations.NIFTI_AXES) == 48
    assert len(CASES) - 96 >= 80


def test_every_reason_and_every_warning_has_a_case():
    assert {case.reason for case in CASES if case.reason} == set(Reason) - {Reason.PROCESS_DIED}
    told = frozenset().union(*(case.cautions for case in CASES))
    assert told == set(Caution) - NOT_OF_CONVERSION


# --- the check itself ----------------------------------------------------------------------------

PLANS = (OBLIQUE, Plan(right=(0, 1, 0), down=(-1, 0, 0)))


def swapped(frame):
    across, along = frame.column_spacing_mm, frame.row_spacing_mm
    return replace(frame, row_spacing_mm=across, column_spacing_mm=along)


def half_a_pixel_on(frame):
    return replace(frame, position=frame.position + frame.right * frame.column_spacing_mm / 2)


@pytest.mark.parametrize("plan", PLANS, ids=["oblique", "rows to the back"])
@pytest.mark.parametrize(
    ("module", "name", "changed"),
    [
        (dicom, "compact_array", lambda array: array[..., ::-1]),
        (dicom, "compact_array", lambda array: array[::-1]),
        (dicom_scan, "frames_of", lambda frames: [swapped(frame) for frame in frames]),
        (dicom_scan, "frames_of", lambda frames: [half_a_pixel_on(frame) for frame in frames]),
        (slice_spacing, "mean_gap_mm", lambda gap_mm: 4.0),
    ],
    ids=["left and right", "slices reversed", "spacings swapped", "half a pixel", "4 mm"],
)
def test_the_check_fails_of_a_converter_that_errs(
    tmp_path, monkeypatch, module, name, changed, plan
):
    case = good("sound", series(plan))
    (tmp_path / "sound").mkdir()
    assert_outcome(case, run(case, tmp_path / "sound"))
    sound = getattr(module, name)
    monkeypatch.setattr(module, name, lambda *given: changed(sound(*given)))
    (tmp_path / "erring").mkdir()
    with pytest.raises(AssertionError, match="phantom|grid|spacing-tag"):
        assert_outcome(case, run(case, tmp_path / "erring"))
