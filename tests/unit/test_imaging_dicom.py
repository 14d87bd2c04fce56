"""Good forms of DICOM: the same voxels at the same millimetres, whatever way they are stored."""

from dataclasses import replace

import numpy as np
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from dicom_writer import (
    Plan,
    phantom,
    save,
    slice_dataset,
    store,
    turn,
    write_enhanced,
    write_series,
)
from imaging_checks import assert_is_phantom
from paravert.errors import Caution
from paravert.imaging.dicom import read_dicom
from paravert.imaging.images import geometry_rows

RIGHT, LEFT, FRONT, BACK = (-1, 0, 0), (1, 0, 0), (0, -1, 0), (0, 1, 0)


def only_stack(folder, **options):
    (stack,) = read_dicom(folder, **options).stacks
    assert_is_phantom(stack)
    return stack


@pytest.mark.parametrize("slices", ["upwards", "downwards"])
@pytest.mark.parametrize(
    ("right", "down"),
    [
        (right, down)
        for right in (LEFT, RIGHT, FRONT, BACK)
        for down in (LEFT, RIGHT, FRONT, BACK)
        if np.dot(right, down) == 0
    ],
)
def test_every_way_to_lay_rows_and_columns_gives_the_same_voxels(tmp_path, right, down, slices):
    plan = Plan(right=right, down=down)
    numbers = range(plan.slices) if slices == "upwards" else range(plan.slices)[::-1]
    for file_number, index in enumerate(numbers):
        save(slice_dataset(plan, index), tmp_path / f"{file_number}")
    stack = only_stack(tmp_path)
    swapped = right in (FRONT, BACK)
    assert stack.volume.array.shape == ((5, 48, 40) if swapped else (5, 40, 48))
    expected = (2.5, 3.5) if swapped else (3.5, 2.5)
    assert (stack.volume.row_spacing_mm, stack.volume.column_spacing_mm) == pytest.approx(expected)
    assert stack.volume.slice_spacing_mm == pytest.approx(6)


@pytest.mark.parametrize("spacing", [(1.0, 4.0), (4.0, 1.0), (2.0, 2.0)])
@pytest.mark.parametrize("matrix", [(30, 50), (50, 30)])
def test_the_two_pixel_spacings_stay_with_their_axes(tmp_path, spacing, matrix):
    plan = Plan(
        rows=matrix[0], columns=matrix[1], row_spacing=spacing[0], column_spacing=spacing[1]
    )
    write_series(tmp_path, plan)
    volume = only_stack(tmp_path).volume
    assert (volume.row_spacing_mm, volume.column_spacing_mm) == pytest.approx(spacing)
    assert volume.array.shape[1:] == matrix


@pytest.mark.parametrize("tilt", [0, 5, 21, 49])
def test_tilt_is_the_angle_of_the_slices_to_the_transverse_plane(tmp_path, tilt):
    write_series(tmp_path, Plan().turned(turn("x", tilt)))
    rows = geometry_rows((only_stack(tmp_path),))
    assert [row["tilt_deg"] for row in rows] == pytest.approx([tilt] * 5, abs=1e-6)


def test_double_oblique_slices_keep_values_places_and_sides(tmp_path):
    write_series(tmp_path, Plan().turned(turn("z", 12) @ turn("y", -9) @ turn("x", 17)))
    only_stack(tmp_path)


def test_positions_run_upwards_by_the_slab(tmp_path):
    plan = Plan(right=RIGHT)  # the normal points to the feet
    write_series(tmp_path, plan)
    rows = geometry_rows((only_stack(tmp_path),))
    expected = [7 + 6 * (index - 2) for index in range(5)]
    assert [row["position_mm"] for row in rows] == pytest.approx(expected)
    assert {(row["slab_mm"], row["slab_source"]) for row in rows} == {(6.0, "positions")}
    assert {row["thickness_mm"] for row in rows} == {5.0}


DISCS = [
    Plan(slices=3, centre=(0, 0, -60)).turned(turn("x", 20)),
    Plan(slices=4, centre=(1, -4, -10)).turned(turn("x", 8)),
    Plan(slices=2, centre=(2, -6, 20)).turned(turn("x", 3)),
    Plan(slices=3, centre=(2, -6, 60)).turned(turn("x", 3)),
]


def test_disc_angled_stacks_of_one_series_come_apart_from_the_feet_upwards(tmp_path):
    write_series(tmp_path, DISCS[::-1])
    images = read_dicom(tmp_path)
    assert [len(stack.slices) for stack in images.stacks] == [3, 4, 2, 3]
    for stack in images.stacks:
        assert_is_phantom(stack)
        assert stack.volume.slice_spacing_mm == pytest.approx(6)
    assert Caution.MULTI_STACK in images.cautions
    tilts = {row["stack"]: row["tilt_deg"] for row in geometry_rows(images.stacks)}
    assert tilts == pytest.approx({1: 20, 2: 8, 3: 3, 4: 3}, abs=1e-6)


def test_slices_that_cut_an_earlier_stack_are_told(tmp_path):
    crossing = Plan(slices=3, centre=(0, 0, 14)).turned(turn("x", 25))
    write_series(tmp_path, [Plan(slices=3, centre=(0, 0, 0)), crossing])
    images = read_dicom(tmp_path)
    assert Caution.OVERLAPPING_STACKS in images.cautions
    assert [row["overlaps"] for row in geometry_rows(images.stacks)] == [False] * 3 + [True] * 3


def test_stacks_side_by_side_do_not_overlap(tmp_path):
    write_series(tmp_path, [Plan(slices=3, centre=(0, 0, z)) for z in (-50, 50)])
    images = read_dicom(tmp_path)
    assert len(images.stacks) == 2
    assert Caution.OVERLAPPING_STACKS not in images.cautions


def test_jitter_of_orientation_and_position_below_the_tolerances_splits_nothing(tmp_path):
    random = np.random.default_rng(3)

    def jitter(data, number):
        wobble = turn("x", random.uniform(-0.03, 0.03)) @ turn("y", random.uniform(-0.03, 0.03))
        directions = np.array(data.ImageOrientationPatient, float).reshape(2, 3) @ wobble.T
        data.ImageOrientationPatient = [f"{value:.8g}" for value in directions.ravel()]
        moved = np.array(data.ImagePositionPatient, float) + random.uniform(-0.02, 0.02, 3)
        data.ImagePositionPatient = [f"{value:.8g}" for value in moved]

    write_series(tmp_path, Plan(slices=8), edit=jitter)
    (stack,) = read_dicom(tmp_path).stacks
    assert len(stack.slices) == 8


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEG2000Lossless,
        JPEGLSLossless,
    ],
    ids=lambda syntax: syntax.keyword,
)
@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
def test_every_transfer_syntax_gives_the_same_voxels(tmp_path, syntax, signed):
    def shifted(points):
        return phantom(points) - 1700 * signed

    def edit(data, number):
        store(data, shifted(plan.points(number)), signed=signed)

    plan = Plan()
    write_series(tmp_path, plan, edit=edit, syntax=syntax)
    (stack,) = read_dicom(tmp_path).stacks
    assert_is_phantom(stack, shifted)
    assert stack.volume.array.dtype == np.int16


def test_jpeg_lossless_gives_the_same_voxels(tmp_path):
    gdcm = pytest.importorskip("gdcm")
    for path in write_series(tmp_path / "plain", Plan()):
        reader = gdcm.ImageReader()
        reader.SetFileName(str(path))
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer = gdcm.ImageWriter()
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        (tmp_path / "jpeg").mkdir(exist_ok=True)
        writer.SetFileName(str(tmp_path / "jpeg" / path.name))
        assert writer.Write()
    only_stack(tmp_path / "jpeg")


def test_files_without_preamble_are_read_and_told(tmp_path):
    write_series(tmp_path, Plan(), preamble=False)
    assert_is_phantom(read_dicom(tmp_path).stacks[0])
    assert Caution.NO_PREAMBLE in read_dicom(tmp_path).cautions


def test_enhanced_multi_frame_gives_the_same_stacks(tmp_path):
    write_enhanced(tmp_path / "one-file", DISCS)
    images = read_dicom(tmp_path)
    assert [len(stack.slices) for stack in images.stacks] == [3, 4, 2, 3]
    for stack in images.stacks:
        assert_is_phantom(stack)


def test_a_single_dicom_file_is_an_input_too(tmp_path):
    file = write_enhanced(tmp_path / "one-file", [Plan()])
    assert_is_phantom(read_dicom(file).stacks[0])


def test_rescale_is_applied_slice_by_slice(tmp_path):
    def edit(data, number):
        data.RescaleSlope, data.RescaleIntercept = 2, -10 * number
        store(data, (phantom(plan.points(number)) + 10 * number) // 2)

    plan = Plan()
    write_series(tmp_path, plan, edit=edit)
    (stack,) = read_dicom(tmp_path).stacks
    assert_is_phantom(stack, tolerance=2)
    assert stack.volume.array.dtype == np.int16
    told = [(row["rescale_slope"], row["rescale_intercept"]) for row in geometry_rows((stack,))]
    assert told == [(2, -10 * number) for number in range(5)]


def test_values_that_int16_cannot_hold_become_float32(tmp_path):
    def edit(data, number):
        data.RescaleSlope, data.RescaleIntercept = 0.5, 0

    write_series(tmp_path, Plan(), edit=edit)
    (stack,) = read_dicom(tmp_path).stacks
    assert stack.volume.array.dtype == np.float32
    assert_is_phantom(stack, lambda points: phantom(points) / 2)


def test_unsigned_values_above_int16_stay_positive(tmp_path):
    def edit(data, number):
        store(data, phantom(plan.points(number)) + 40000, bits=16)

    plan = Plan()
    write_series(tmp_path, plan, edit=edit)
    (stack,) = read_dicom(tmp_path).stacks
    assert stack.volume.array.dtype == np.float32
    assert_is_phantom(stack, lambda points: phantom(points) + 40000)


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
def test_overlays_in_unused_high_bits_are_masked(tmp_path, signed):
    def shifted(points):
        return phantom(points) - 1700 * signed

    def edit(data, number):
        values = shifted(plan.points(number)) & 0x0FFF
        overlay = (np.indices(values.shape).sum(axis=0) % 3 == 0) * 0x5000
        store(data, values | overlay)
        data.PixelRepresentation = int(signed)

    plan = Plan()
    write_series(tmp_path, plan, edit=edit)
    assert_is_phantom(read_dicom(tmp_path).stacks[0], shifted)


def test_values_stored_above_bit_0_are_shifted_down(tmp_path):
    def edit(data, number):
        store(data, phantom(plan.points(number)) << 4, bits=12)
        data.HighBit = 15

    plan = Plan()
    write_series(tmp_path, plan, edit=edit)
    only_stack(tmp_path)


def test_monochrome1_is_inverted_and_told(tmp_path):
    def edit(data, number):
        store(data, 4095 - phantom(plan.points(number)))
        data.PhotometricInterpretation = "MONOCHROME1"

    plan = Plan()
    write_series(tmp_path, plan, edit=edit)
    only_stack(tmp_path)
    assert Caution.MONOCHROME1_INVERTED in read_dicom(tmp_path).cautions


@pytest.mark.parametrize("position", ["FFS", "HFP", "FFDR"])
def test_sides_come_from_positions_whatever_patient_position_says(tmp_path, position):
    write_series(tmp_path, Plan(), edit=lambda data, _: setattr(data, "PatientPosition", position))
    only_stack(tmp_path)
    told = Caution.PATIENT_POSITION in read_dicom(tmp_path).cautions
    assert told == (position != "FFS")


@pytest.mark.filterwarnings("ignore:(Invalid value|Unknown encoding)")  # of the writer
def test_what_geometry_does_not_need_may_be_malformed(tmp_path):
    def edit(data, number):
        for keyword, vr, value in (
            ("SpecificCharacterSet", "CS", b"ISO_IR 9999 "),
            ("StudyDate", "DA", b"yesterday "),
            ("PatientAge", "AS", b"old "),
            ("MagneticFieldStrength", "DS", b"strong"),
            ("InstanceNumber", "IS", b"one "),
        ):
            tag = Tag(keyword)
            data[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)

    write_series(tmp_path, Plan(), edit=edit)
    only_stack(tmp_path)
    header = read_dicom(tmp_path).header
    assert (header["header_age_years"], header["field_strength_t"]) == (None, None)


@pytest.mark.parametrize(
    ("age", "years"), [("061Y", 61), ("018M", 1.5), ("090Y", 90), ("104Y", 90), ("", None)]
)
def test_age_is_in_years_and_ends_at_90(tmp_path, age, years):
    write_series(tmp_path, Plan(), edit=lambda data, _: setattr(data, "PatientAge", age))
    assert read_dicom(tmp_path).header["header_age_years"] == years


def test_header_facts_are_those_of_the_series(tmp_path):
    write_series(tmp_path, Plan())
    assert read_dicom(tmp_path).header == {
        "header_sex": "F",
        "header_age_years": 61,
        "field_strength_t": 3,
        "echo_time_ms": 100,
        "repetition_time_ms": 4000,
        "manufacturer": "Siemens",
    }


def test_a_slice_alone_stands_for_its_thickness(tmp_path):
    write_series(tmp_path, replace(Plan(), slices=1))
    (row,) = geometry_rows(read_dicom(tmp_path).stacks)
    assert (row["slab_mm"], row["slab_source"]) == (5.0, "thickness")
