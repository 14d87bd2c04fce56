"""Faults of DICOM input, each with its one reason; and what is set aside with a warning."""

from dataclasses import replace

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    BasicTextSRStorage,
    CTImageStorage,
    ExplicitVRLittleEndian,
    GrayscaleSoftcopyPresentationStateStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from dicom_writer import (
    Plan,
    phantom,
    save,
    slice_dataset,
    store,
    turn,
    uid,
    write_enhanced,
    write_series,
)
from imaging_checks import assert_is_phantom
from paravert.errors import Caution, Reason, SubjectFault
from paravert.imaging.dicom import read_dicom
from paravert.imaging.images import geometry_rows

SAGITTAL = Plan(right=(0, 1, 0), down=(0, 0, -1))
CORONAL = Plan(right=(1, 0, 0), down=(0, 0, -1))


def assert_fault(reason, folder, patterns=(), told=None):
    with pytest.raises(SubjectFault, match=told) as caught:
        read_dicom(folder, patterns)
    assert caught.value.reason == reason
    assert str(folder) not in caught.value.message


def assert_only_axial(images, slices=5):
    (stack,) = images.stacks
    assert len(stack.slices) == slices
    assert_is_phantom(stack)


def set_values(**values):
    def edit(data, number):
        for keyword, value in values.items():
            if value is None:
                del data[keyword]
            else:
                setattr(data, keyword, value)

    return edit


def set_in(chosen, **values):
    edit = set_values(**values)
    return lambda data, number: edit(data, number) if number == chosen else None


# --- what is in the folder -----------------------------------------------------------------------


def test_an_empty_folder_has_no_dicom(tmp_path):
    assert_fault(Reason.NO_DICOM, tmp_path)


def test_a_folder_of_other_files_has_no_dicom(tmp_path):
    (tmp_path / "readme.txt").write_text("no image")
    (tmp_path / "empty").touch()
    assert_fault(Reason.NO_DICOM, tmp_path, told="2 files")


def test_files_beside_the_images_are_ignored_and_told(tmp_path):
    write_series(tmp_path, Plan())
    (tmp_path / "viewer.exe").write_bytes(bytes(range(256)) * 4)
    (tmp_path / "DICOMDIR").write_bytes(b"index")
    for number, kind in enumerate([BasicTextSRStorage, GrayscaleSoftcopyPresentationStateStorage]):
        document = slice_dataset(Plan(), 0)
        document.SOPClassUID, document.Modality = kind, "SR"
        save(document, tmp_path / f"document{number}")
    images = read_dicom(tmp_path)
    assert_only_axial(images)
    assert images.cautions == {Caution.NON_DICOM_IGNORED, Caution.NON_IMAGE_IGNORED}


def test_a_screenshot_is_ignored_and_told(tmp_path):
    write_series(tmp_path, Plan())
    screenshot = slice_dataset(Plan(), 0, "screenshot")
    screenshot.SOPClassUID = SecondaryCaptureImageStorage
    del screenshot.ImageOrientationPatient, screenshot.ImagePositionPatient
    save(screenshot, tmp_path / "screenshot")
    images = read_dicom(tmp_path)
    assert_only_axial(images)
    assert Caution.NON_IMAGE_IGNORED in images.cautions


def test_a_damaged_header_is_unreadable(tmp_path):
    path = write_series(tmp_path, Plan())[0]
    raw = path.read_bytes()
    path.write_bytes(raw[:140] + b"\xff" * 60)
    assert_fault(Reason.UNREADABLE_HEADER, tmp_path)


# --- one patient, one study, MR, axial -----------------------------------------------------------


def test_two_patients_are_mixed(tmp_path):
    write_series(tmp_path, Plan(), edit=set_in(2, PatientID="P2"))
    assert_fault(Reason.MIXED_PATIENTS, tmp_path, told="2 patients in PatientID")


def test_one_patient_written_in_two_ways_is_one(tmp_path):
    write_series(tmp_path, Plan(), edit=set_in(2, PatientName="DOE^JANE^^", PatientBirthDate=""))
    assert_only_axial(read_dicom(tmp_path))


def test_two_studies_are_told(tmp_path):
    write_series(tmp_path, Plan(), edit=set_in(2, StudyInstanceUID=uid("other study")))
    assert_fault(Reason.MULTIPLE_STUDIES, tmp_path)


def test_ct_is_the_wrong_modality(tmp_path):
    write_series(tmp_path, Plan(), edit=set_values(SOPClassUID=CTImageStorage, Modality="CT"))
    assert_fault(Reason.WRONG_MODALITY, tmp_path, told="5 images of modality CT, expected MR")


def test_a_quadruped_is_told(tmp_path):
    write_series(tmp_path, Plan(), edit=set_values(AnatomicalOrientationType="QUADRUPED"))
    assert_fault(Reason.QUADRUPED, tmp_path)


@pytest.mark.parametrize("plan", [SAGITTAL, CORONAL], ids=["sagittal", "coronal"])
def test_a_series_along_the_body_is_not_axial(tmp_path, plan):
    write_series(tmp_path, plan)
    assert_fault(Reason.NO_AXIAL_SERIES, tmp_path, told="1 sagittal or coronal series")


def test_the_axial_series_is_found_among_others(tmp_path):
    write_series(tmp_path, Plan())
    write_series(tmp_path, SAGITTAL, "sagittal")
    write_series(tmp_path, CORONAL, "coronal")
    planes = [replace(plan, slices=1) for plan in (Plan(), SAGITTAL, CORONAL)]
    write_series(tmp_path, planes, "three planes")
    named = set_values(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write_series(tmp_path, Plan(slices=1), "scout", edit=named)
    images = read_dicom(tmp_path)
    assert_only_axial(images)
    assert images.cautions == {Caution.NON_AXIAL_EXCLUDED, Caution.LOCALIZER_EXCLUDED}


def test_two_axial_series_are_ambiguous(tmp_path):
    write_series(tmp_path, Plan(), "T1 TRA")
    write_series(tmp_path, Plan(), "T2 TRA")
    assert_fault(Reason.AMBIGUOUS_SERIES, tmp_path, told="2 axial series")
    assert_fault(Reason.AMBIGUOUS_SERIES, tmp_path, ["TRA"])


@pytest.mark.parametrize(
    ("patterns", "slices"), [(["t2"], 4), (["DIXON", "t1", "t2"], 3), (["tra", "T2"], 4)]
)
def test_configured_patterns_choose_in_their_order(tmp_path, patterns, slices):
    write_series(tmp_path, Plan(slices=3), "T1 TRA")
    write_series(tmp_path, Plan(slices=4), "T2 TRA")
    assert_only_axial(read_dicom(tmp_path, patterns), slices)


def test_a_mosaic_has_its_own_reason(tmp_path):
    write_series(
        tmp_path, Plan(), edit=set_values(ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"])
    )
    assert_fault(Reason.MOSAIC, tmp_path)


@pytest.mark.parametrize(
    "values",
    [
        {"EchoTime": 20},
        {"ImageType": ["DERIVED", "PRIMARY", "W", "WATER"]},
        {"TemporalPositionIdentifier": 2},
    ],
    ids=lambda values: next(iter(values)),
)
def test_several_contrasts_at_one_position_are_ambiguous(tmp_path, values):
    write_series(tmp_path / "first", Plan())
    write_series(tmp_path / "second", Plan(), edit=set_values(**values))
    assert_fault(Reason.AMBIGUOUS_CONTRAST, tmp_path)


# --- geometry ------------------------------------------------------------------------------------


@pytest.mark.parametrize("slices", [[2], [4, 5]])
def test_missing_slices_split_the_stack_and_are_told(tmp_path, slices):
    write_series(tmp_path, Plan(slices=9), leave_out=slices)
    images = read_dicom(tmp_path)
    assert [len(stack.slices) for stack in images.stacks] == [slices[0], 8 - slices[-1]]
    for stack in images.stacks:
        assert_is_phantom(stack)
        assert stack.volume.slice_spacing_mm == pytest.approx(6)
    assert images.cautions == {Caution.MISSING_SLICES, Caution.MULTI_STACK}


def test_a_slice_out_of_step_splits_the_stack_and_is_told(tmp_path):
    def edit(data, number):
        if number > 3:
            x, y, z = data.ImagePositionPatient
            data.ImagePositionPatient = [x, y, z + 1]

    write_series(tmp_path, Plan(slices=8), edit=edit)
    images = read_dicom(tmp_path)
    assert [len(stack.slices) for stack in images.stacks] == [4, 4]
    assert Caution.SPACING_IRREGULAR in images.cautions


def test_equal_duplicates_are_dropped_and_told(tmp_path):
    write_series(tmp_path / "first", Plan())
    write_series(tmp_path / "copy", Plan(), leave_out=[0, 3])
    images = read_dicom(tmp_path)
    assert_only_axial(images)
    assert images.cautions == {Caution.DUPLICATE_SLICE_DROPPED}
    told = [row["warnings"] for row in geometry_rows(images.stacks)]
    assert [bool(warnings) for warnings in told] == [False, True, True, False, True]


def test_duplicates_with_other_pixels_are_a_conflict(tmp_path):
    def edit(data, number):
        store(data, phantom(Plan().points(number)) + 7)

    write_series(tmp_path / "first", Plan())
    write_series(tmp_path / "second", Plan(), edit=edit)
    assert_fault(Reason.DUPLICATE_POSITIONS_CONFLICT, tmp_path, told="2 slices share one position")


def test_slices_of_another_matrix_among_the_others_are_inconsistent(tmp_path):
    write_series(tmp_path / "first", Plan(), leave_out=[2])
    write_series(tmp_path / "second", Plan(columns=30), leave_out=[0, 1, 3, 4])
    assert_fault(Reason.INCONSISTENT_MATRIX, tmp_path, told="40 x 48 pixels of 3.5 x 2.5 mm")


def test_a_stack_of_another_matrix_above_the_others_is_a_stack(tmp_path):
    write_series(tmp_path, [Plan(centre=(0, 0, -40)), Plan(columns=30, centre=(0, 0, 40))])
    images = read_dicom(tmp_path)
    assert [stack.volume.array.shape for stack in images.stacks] == [(5, 40, 48), (5, 40, 30)]


@pytest.mark.parametrize("slide", [(0.0, 1.0), (0.1, 0.0)], ids=["steep", "slow"])
def test_sheared_slices_are_no_volume(tmp_path, slide):
    write_series(tmp_path, Plan(slices=8, slide=slide))
    assert_fault(Reason.BAD_GEOMETRY_POSITION, tmp_path, told="slide in the plane")


def test_slices_that_fan_out_gradually_are_no_stack(tmp_path):
    plans = [Plan(slices=1, centre=(0, 0, 6 * n)).turned(turn("x", 0.15 * n)) for n in range(8)]
    write_series(tmp_path, plans)
    assert_fault(Reason.BAD_GEOMETRY_ORIENTATION, tmp_path, told="turn gradually by 1.05 degrees")


@pytest.mark.parametrize(
    ("reason", "values"),
    [
        (Reason.BAD_GEOMETRY_ORIENTATION, {"ImageOrientationPatient": None}),
        (Reason.BAD_GEOMETRY_ORIENTATION, {"ImageOrientationPatient": [1, 0, 0, 0.5, 0.9, 0]}),
        (Reason.BAD_GEOMETRY_ORIENTATION, {"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]}),
        (Reason.BAD_GEOMETRY_ORIENTATION, {"ImageOrientationPatient": [1, 0, 0]}),
        (Reason.BAD_GEOMETRY_POSITION, {"ImagePositionPatient": None}),
        (Reason.BAD_GEOMETRY_POSITION, {"ImagePositionPatient": [1, 2]}),
        (Reason.BAD_PIXEL_SPACING, {"PixelSpacing": None}),
        (Reason.BAD_PIXEL_SPACING, {"PixelSpacing": [0, 1]}),
        (Reason.BAD_PIXEL_SPACING, {"PixelSpacing": [-1, 1]}),
        (Reason.BAD_PIXEL_SPACING, {"PixelSpacing": [1, 400]}),
    ],
)
@pytest.mark.parametrize("chosen", [0, 3, "all"])
def test_geometry_that_is_absent_or_senseless_has_its_reason(tmp_path, reason, values, chosen):
    edit = set_values(**values) if chosen == "all" else set_in(chosen, **values)
    write_series(tmp_path, Plan(), edit=edit)
    assert_fault(reason, tmp_path)


@pytest.mark.parametrize(
    ("tag", "caution"), [(None, Caution.SPACING_TAG_MISSING), (2.0, Caution.SPACING_TAG_MISMATCH)]
)
def test_positions_decide_over_the_spacing_tag(tmp_path, tag, caution):
    write_series(tmp_path, Plan(), edit=set_values(SpacingBetweenSlices=tag))
    images = read_dicom(tmp_path)
    assert images.stacks[0].volume.slice_spacing_mm == pytest.approx(6)
    assert images.cautions == {caution}


def test_a_slice_alone_without_any_thickness_stands_for_nothing(tmp_path):
    edit = set_values(SpacingBetweenSlices=None, SliceThickness=None)
    write_series(tmp_path, Plan(slices=1), edit=edit)
    assert_fault(Reason.TOO_FEW_SLICES, tmp_path)


def test_frames_that_differ_in_their_frame_of_reference_are_told(tmp_path):
    write_series(tmp_path, Plan(), edit=set_in(1, FrameOfReferenceUID=uid("elsewhere")))
    assert Caution.FRAME_OF_REFERENCE_DIFFERS in read_dicom(tmp_path).cautions


def test_an_enhanced_file_must_describe_as_many_frames_as_it_tells(tmp_path):
    def edit(data):
        data.NumberOfFrames = 4

    write_enhanced(tmp_path / "file", [Plan()], edit=edit)
    assert_fault(Reason.FRAME_COUNT_MISMATCH, tmp_path, told="is 4, but 5 frames")


# --- pixels --------------------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless], ids=["native", "RLE"])
def test_pixels_cut_off_are_truncated(tmp_path, syntax):
    path = write_series(tmp_path, Plan(), syntax=syntax)[1]
    path.write_bytes(path.read_bytes()[:-200])
    assert_fault(Reason.TRUNCATED_PIXELS, tmp_path)


def test_pixel_data_shorter_than_the_matrix_are_truncated(tmp_path):
    def edit(data, number):
        data.PixelData = data.PixelData[:-100]

    write_series(tmp_path, Plan(), edit=edit)
    assert_fault(Reason.TRUNCATED_PIXELS, tmp_path, told="3740 bytes of pixel data, expected 3840")


def test_an_image_without_pixel_data_misses_them(tmp_path):
    write_series(tmp_path, Plan(), edit=set_in(2, PixelData=None))
    assert_fault(Reason.MISSING_PIXELS, tmp_path)


def test_a_damaged_code_stream_is_undecodable(tmp_path):
    for path in write_series(tmp_path, Plan(), syntax=RLELossless):
        data = pydicom.dcmread(path)
        frame = pydicom.encaps.get_frame(data.PixelData, 0)
        data.PixelData = pydicom.encaps.encapsulate([b"\xff" * len(frame)])
        data.save_as(path)
    assert_fault(Reason.UNDECODABLE_PIXELS, tmp_path, told="RLE Lossless")


@pytest.mark.parametrize(
    "values",
    [
        {"PhotometricInterpretation": "PALETTE COLOR"},
        {"SamplesPerPixel": 3},
        {"BitsAllocated": 12},
        {"BitsStored": 17},
        {"RescaleSlope": 0, "RescaleIntercept": 0},
        {"NumberOfFrames": 2},
    ],
    ids=lambda values: next(iter(values)),
)
def test_pixels_of_an_unknown_kind_are_unsupported(tmp_path, values):
    write_series(tmp_path, Plan(), edit=set_values(**values))
    assert_fault(Reason.UNSUPPORTED_PIXELS, tmp_path)


def test_a_transfer_syntax_without_decoder_is_unsupported(tmp_path):
    for path in write_series(tmp_path, Plan(), syntax=RLELossless):
        data = pydicom.dcmread(path)
        data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"  # MPEG-4
        data.save_as(path)
    assert_fault(Reason.UNSUPPORTED_PIXELS, tmp_path)


def test_blank_images_are_quarantined(tmp_path):
    write_series(tmp_path, Plan(), edit=lambda data, _: store(data, np.full((40, 48), 9)))
    assert_fault(Reason.BLANK_IMAGES, tmp_path)


def test_a_blank_slice_is_told(tmp_path):
    def edit(data, number):
        if number == 0:
            store(data, np.zeros((40, 48)))

    write_series(tmp_path, Plan(), edit=edit)
    images = read_dicom(tmp_path)
    assert images.cautions == {Caution.BLANK_SLICE}
    assert [row["warnings"] for row in geometry_rows(images.stacks)][0] == ["blank-slice"]


@pytest.mark.parametrize(
    ("values", "caution"),
    [
        ({"BurnedInAnnotation": "YES"}, Caution.BURNED_IN_ANNOTATION),
        ({"LossyImageCompression": "01"}, Caution.LOSSY_COMPRESSED),
    ],
)
def test_doubtful_images_are_told(tmp_path, values, caution):
    write_series(tmp_path, Plan(), edit=set_values(**values))
    assert read_dicom(tmp_path).cautions == {caution}


def test_unknown_objects_are_not_images(tmp_path):
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = "1.2.3.4", uid("unknown")
    data.Modality = "MR"
    save(data, tmp_path / "unknown")
    assert_fault(Reason.NO_DICOM, tmp_path)
