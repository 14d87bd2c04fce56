"""What is told of each slice and of the header; that the voxels are right is shown by the cases."""

import numpy as np
import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_writer import Plan, phantom, store, turn, write_series
from imaging_cases.case import SAGITTAL, each, only, raw, values
from imaging_checks import assert_is_phantom
from paravert.imaging.dicom import read_dicom
from paravert.imaging.image_stack import geometry_rows


def rows_of(folder):
    return geometry_rows(read_dicom(folder).stacks)


def test_positions_run_upwards_by_the_slab(tmp_path):
    write_series(tmp_path, Plan(right=(-1, 0, 0)))  # the normal points to the feet
    rows = rows_of(tmp_path)
    expected = [7 + 6 * (index - 2) for index in range(5)]
    assert [row["position_mm"] for row in rows] == pytest.approx(expected)
    assert {(row["slab_mm"], row["slab_source"]) for row in rows} == {(6.0, "positions")}
    assert {row["thickness_mm"] for row in rows} == {5.0}


@pytest.mark.parametrize("tilt", [0, 5, 21, 49, 59])
def test_tilt_is_the_angle_of_the_slices_to_the_transverse_plane(tmp_path, tilt):
    write_series(tmp_path, Plan().turned(turn("x", tilt)))
    assert [row["tilt_deg"] for row in rows_of(tmp_path)] == pytest.approx([tilt] * 5, abs=1e-6)


def test_a_slice_alone_stands_for_its_thickness(tmp_path):
    write_series(tmp_path, Plan(slices=1))
    (row,) = rows_of(tmp_path)
    assert (row["slab_mm"], row["slab_source"]) == (5.0, "thickness")


def test_slices_that_cut_an_earlier_stack_are_told_one_by_one(tmp_path):
    crossing = Plan(slices=3, centre=(0, 0, 14)).turned(turn("x", 25))
    write_series(tmp_path, [Plan(slices=3, centre=(0, 0, 0)), crossing])
    assert [row["overlaps"] for row in rows_of(tmp_path)] == [False] * 3 + [True] * 3


def test_slices_with_a_copy_are_told_one_by_one(tmp_path):
    write_series(tmp_path / "first", Plan())
    write_series(tmp_path / "copy", Plan(), leave_out=[0, 3])
    told = [row["warnings"] for row in rows_of(tmp_path)]
    assert [bool(warnings) for warnings in told] == [False, True, True, False, True]


def test_a_blank_slice_is_told_of_itself(tmp_path):
    write_series(tmp_path, Plan(), edit=only(0, lambda data, _: store(data, np.zeros((40, 48)))))
    assert [row["warnings"] for row in rows_of(tmp_path)] == [["blank-slice"], [], [], [], []]


def test_the_rescale_of_each_slice_is_told(tmp_path):
    def edit(data, number):
        data.RescaleSlope, data.RescaleIntercept = 2, -10 * number
        store(data, (phantom(Plan().points(number)) + 10 * number) // 2)

    write_series(tmp_path, Plan(), edit=edit)
    (stack,) = read_dicom(tmp_path).stacks
    assert_is_phantom(stack, tolerance=2)
    told = [(row["rescale_slope"], row["rescale_intercept"]) for row in geometry_rows((stack,))]
    assert told == [(2, -10 * number) for number in range(5)]


@pytest.mark.parametrize(("without", "used"), [((), True), ((0,), False), (range(5), False)])
def test_a_sagittal_series_is_used_if_all_slices_have_one_frame_of_reference(
    tmp_path, without, used
):
    edit = each(*(only(n, values(FrameOfReferenceUID=None)) for n in without))
    for name, plan in (("axial", Plan()), ("sagittal", SAGITTAL)):
        write_series(tmp_path, plan, name, edit=edit)
    images = read_dicom(tmp_path)
    assert (images.sagittal is not None) == used
    assert ("sagittal-not-used" in images.cautions) != used


# --- what is kept of the header ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age", "years"),
    [
        ("061Y", 61),
        ("018M", 1.5),
        ("089Y", 89),
        ("090Y", 90),
        ("104Y", 90),
        ("120Y", 90),
        ("121Y", None),
        ("999Y", None),
        ("000Y", None),
        ("000D", None),
        ("", None),
    ],
)
def test_age_is_in_years_and_ends_at_90(tmp_path, age, years):
    write_series(tmp_path, Plan(slices=1), edit=values(PatientAge=age))
    assert read_dicom(tmp_path).header["header_age_years"] == years


def test_header_facts_are_those_of_the_series(tmp_path):
    write_series(tmp_path, Plan())
    assert read_dicom(tmp_path).header == {
        "header_sex": "F",
        "header_age_years": 61,
        "field_strength_t": 3,
        "echo_time_ms": 100,
        "repetition_time_ms": 4000,
        "inversion_time_ms": None,
        "flip_angle_deg": None,
        "header_sequence": "T2",
        "manufacturer": "Siemens",
    }


@pytest.mark.parametrize(
    ("told", "manufacturer"),
    [
        ("TOSHIBA_MEC", "Toshiba"),
        ("CANON_MEC", "Canon"),
        ("UIH", "United Imaging"),
        ("United_Imaging", "United Imaging"),
        ("GEHC", "GE"),
        ("GE MEDICAL SYSTEMS", "GE"),
        ("General Imaging Gems", "other"),
        ("", None),
    ],
)
def test_the_manufacturer_is_known_by_the_names_that_scanners_write(tmp_path, told, manufacturer):
    write_series(tmp_path, Plan(slices=1), edit=values(Manufacturer=told))
    assert read_dicom(tmp_path).header["manufacturer"] == manufacturer


@pytest.mark.parametrize(
    ("keyword", "fact", "implausible", "plausible"),
    [
        ("EchoTime", "echo_time_ms", (0, -5, 5001, 1e10, 1e300), (0.02, 1200)),
        ("RepetitionTime", "repetition_time_ms", (0, -5, 100_001, 1e300), (2.5, 30_000)),
        ("MagneticFieldStrength", "field_strength_t", (0, -3, 1e-9, 15_000, 1e300), (0.064, 21.1)),
    ],
)
def test_implausible_facts_are_unknown(tmp_path, keyword, fact, implausible, plausible):
    for number, told in enumerate((*implausible, *plausible)):
        folder = tmp_path / str(number)
        write_series(folder, Plan(slices=1), edit=values(**{keyword: told}))
        expected = told if told in plausible else None
        assert read_dicom(folder).header[fact] == expected, told


def test_an_implausible_time_of_one_slice_is_no_other_contrast(tmp_path):
    edit = only(2, values(EchoTime=1e10, RepetitionTime=1e10, InversionTime=1e10))
    write_series(tmp_path, Plan(), edit=edit)
    assert read_dicom(tmp_path).header["echo_time_ms"] is None  # of one slice not known


@pytest.mark.parametrize(
    "age", [b"old ", b"\xb2\xb2\xb2Y"]
)  # superscript twos are digits to Python
def test_malformed_and_differing_facts_are_unknown(tmp_path, age):
    edit = each(
        raw("PatientAge", "AS", age),
        raw("MagneticFieldStrength", "DS", b"strong"),
        only(2, values(EchoTime=104, PatientSex="M")),
    )
    write_series(tmp_path, Plan(), edit=edit)
    header = read_dicom(tmp_path).header
    unknown = ("header_age_years", "field_strength_t", "echo_time_ms", "header_sex")
    assert [header[name] for name in unknown] == [None] * 4
    assert header["repetition_time_ms"] == 4000


def test_a_text_that_is_stored_as_a_number_does_not_damage_the_file(tmp_path):
    def edit(data, _):
        data.add_new("ScanningSequence", "US", 5)

    write_series(tmp_path, Plan(), edit=edit)
    assert read_dicom(tmp_path).header["repetition_time_ms"] == 4000


# --- padding -------------------------------------------------------------------------------------

ROWS_PADDED = 6


def padded(mark, *, limit=None, signed=False, photometric="MONOCHROME2", shift=0, rows=ROWS_PADDED):
    """Return an edit that marks the first rows as no part of the image."""

    def edit(data, _):
        shown = np.frombuffer(data.PixelData, "<u2").reshape(data.Rows, data.Columns).astype(int)
        stored = (shown if photometric == "MONOCHROME2" else 0xFFFF - shown) - shift
        stored[:rows] = mark
        store(data, stored, bits=16, signed=signed)
        data.PhotometricInterpretation = photometric
        data.PixelPaddingValue = mark if limit is None else limit
        data["PixelPaddingValue"].VR = "SS" if signed else "US"
        if limit is not None:
            data.PixelPaddingRangeLimit = mark
            data["PixelPaddingRangeLimit"].VR = "SS" if signed else "US"

    return edit


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize(
    "how",
    [
        {"mark": -32768, "signed": True},
        {"mark": -2000, "limit": -32768, "signed": True},
        {"mark": 65535},
        {"mark": 0, "photometric": "MONOCHROME1"},
    ],
)
def test_padding_outside_the_range_of_the_image_becomes_its_darkest_value(tmp_path, how, syntax):
    write_series(tmp_path, Plan(), edit=padded(**how), syntax=syntax)
    (stack,) = read_dicom(tmp_path).stacks
    array = stack.volume.array
    for index, plane in enumerate(array):
        shown = phantom(Plan().points(index))
        assert np.array_equal(plane[ROWS_PADDED:], shown[ROWS_PADDED:])
        assert set(plane[:ROWS_PADDED].ravel()) == {shown[ROWS_PADDED:].min()}


def test_a_slice_of_padding_alone_becomes_0(tmp_path):
    write_series(tmp_path, Plan(), edit=only(2, padded(-32768, signed=True, rows=40)))
    (stack,) = read_dicom(tmp_path).stacks
    assert not stack.volume.array[2].any()


def test_a_padding_value_that_the_image_has_marks_nothing(tmp_path):
    write_series(tmp_path, Plan(), edit=values(PixelPaddingValue=1700))
    (stack,) = read_dicom(tmp_path).stacks
    assert_is_phantom(stack)
