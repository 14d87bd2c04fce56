"""The class of the sequence by the header, as makers and sites write it."""

import pytest
from pydicom import Dataset

from dicom_writer import Plan, write_enhanced, write_series
from imaging_cases.case import only, values
from paravert.imaging.dicom import read_dicom
from paravert.imaging.sequence import SequenceFacts, sequence_class

SPIN = {"scanning": ("SE",)}
ORIGINAL = ("ORIGINAL", "PRIMARY")


def times(echo, repetition, inversion=None, **more):
    return {"echo_ms": echo, "repetition_ms": repetition, "inversion_ms": inversion} | more


@pytest.mark.parametrize(
    ("expected", "facts"),
    [
        # The real studies at hand: Hitachi 0.3 T, Toshiba 1.5 T.
        ("T1", times(21, 567, 0, scanning=("SE",), description="T1 AX")),
        ("T2", times(110, 3203, 0, scanning=("SE",), options=("SP", "FC"), description="T2 SAG")),
        ("STIR", times(80, 3320, 110, scanning=("IR",), options=("SP",), description="")),
        ("T2", times(105, 6000, scanning=("SE",))),
        ("T1", times(10, 510, scanning=("SE",))),
        ("PD", times(25, 3000, scanning=("SE",))),
        ("T1", times(24, 2000, 860, scanning=("SE", "IR"))),  # T1 FLAIR
        ("T1", times(12, 2000, 860, scanning=("SE", "IR"), description="t1_tirm_dark-fluid")),
        ("STIR", times(40, 4000, 160, scanning=("SE", "IR"))),
        ("STIR", times(40, 4000, scanning=("SE",), description="t2_tirm_tra_dark-fluid")),
        ("fat-suppressed", times(90, 4000, scanning=("SE",), options=("FS",))),
        ("fat-suppressed", times(90, 4000, scanning=("SE",), description="t2_tse_fs_tra")),
        ("fat-suppressed", times(90, 4000, scanning=("SE",), description="T2W SPAIR AX")),
        ("fat-suppressed", times(90, 4000, suppression="FAT")),
        ("T1", times(10, 500, scanning=("SE",), description="AX T1 TSE NO FS")),
        ("T1", times(10, 500, scanning=("SE",), description="t1_tse_tra_nofatsat")),
        ("T1", times(10, 500, scanning=("SE",), description="T1 AX w/o fat sat")),
        ("T2", times(90, 4000, scanning=("SE",), description="T2 TSE NON-FS")),
        ("T2", times(90, 4000, scanning=("SE",), description="t2_tse_tra_ohne_FS")),
        ("fat-suppressed", times(10, 500, scanning=("SE",), description="Water excitation T1")),
        # Weighting by name where times are unknown; never of a gradient echo.
        ("T2", {"description": "AX T2 FRFSE"}),
        ("T1", {"contrast": "T1", "echo_pulse": "SPIN"}),
        ("unknown", {"description": "T1 and T2"}),
        ("unknown", times(20, 500, scanning=("GR",), description="T2 MEDIC")),
        # Dixon: Siemens, Philips, GE, Canon.
        ("dixon-water", {"image_type": (*ORIGINAL, "DIXON", "WATER")}),
        ("dixon-fat", {"image_type": ("DERIVED", "PRIMARY", "DIXON", "FAT", "NORM")}),
        ("opposed-phase", {"image_type": (*ORIGINAL, "DIXON", "OPP_PHASE")}),
        ("in-phase", {"image_type": (*ORIGINAL, "DIXON", "IN_PHASE")}),
        ("dixon-water", {"image_type": ("DERIVED", "PRIMARY", "W", "W", "DERIVED")}),
        ("opposed-phase", {"image_type": ("DERIVED", "PRIMARY", "OP", "OP", "DERIVED")}),
        ("unknown", {"description": "Fat Fraction: Ax"}),
        ("unknown", {"description": "Water Fraction: Ax"}),
        ("unknown", {"description": "Ax LAVA-Flex Fat Fraction map"}),
        ("dixon-fat", {"description": "FAT: Ax LAVA-Flex"}),
        ("dixon-water", {"description": "WATER: Ax LAVA-Flex"}),
        ("in-phase", {"description": "InPhase: Ax LAVA-Flex"}),
        ("opposed-phase", {"description": "OutPhase: Ax LAVA-Flex"}),
        ("dixon-water", {"description": "t1_vibe_dixon_tra_W"}),
        ("dixon-fat", {"description": "t2_tse_dixon_tra_F"}),
        ("opposed-phase", {"description": "mDIXON Quant OP"}),
        ("dixon-water", {"description": "Ax WFS Water"}),
        ("dixon-fat", {"description": "t1_quick3d_wfi_Fat"}),
        ("opposed-phase", {"description": "t1_vibe_dixon_tra_opp"}),
        ("in-phase", {"description": "t1_vibe_dixon_tra_in"}),
        ("unknown", {"description": "LAVA W CONTRAST"}),
        ("unknown", {"description": "R2*: Ax IDEAL IQ"}),
        ("unknown", {"description": "FatFrac: Ax IDEAL IQ"}),
        ("unknown", {"description": "q-dixon_tra_FF"}),
        ("unknown", {"image_type": ("DERIVED", "PRIMARY", "DIXON", "FAT_FRACTION")}),
        # Gradient echoes at 1.5 T: fat opposed at 2.3 ms, in phase at 4.6 ms.
        ("opposed-phase", times(2.3, 120, scanning=("GR",), field_t=1.5)),
        ("in-phase", times(4.6, 120, scanning=("GR",), field_t=1.5)),
        ("unknown", times(3.4, 120, scanning=("GR",), field_t=1.5)),
        ("unknown", times(2.3, 120, scanning=("GR",))),
        ("unknown", {}),
        ("T2", times(90, 4000, description="AX T2 water filled bag")),  # no Dixon, not at the front
    ],
)
def test_class_of_a_header(expected, facts):
    assert sequence_class(SequenceFacts(**facts)) == expected


def test_class_is_read_from_files(tmp_path):
    edit = values(ScanningSequence=["SE"], ScanOptions=["FS"], FlipAngle=150, InversionTime=0)
    write_series(tmp_path, Plan(), edit=edit)
    images = read_dicom(tmp_path)
    assert images.header["header_sequence"] == "fat-suppressed"
    assert images.header["flip_angle_deg"] == 150
    assert {slice_.sequence for stack in images.stacks for slice_ in stack.slices} == {
        "fat-suppressed"
    }


@pytest.mark.parametrize(
    ("kind", "suppression", "expected"),
    [
        ("WATER", None, "dixon-water"),
        ("OUT_PHASE", None, "opposed-phase"),
        (None, "FAT", "fat-suppressed"),
    ],
)
def test_class_is_read_from_multi_frame_files(tmp_path, kind, suppression, expected):
    def edit(data):
        shared = data.SharedFunctionalGroupsSequence[0]
        if kind:
            shared.MRImageFrameTypeSequence = [Dataset()]
            shared.MRImageFrameTypeSequence[0].FrameType = ["DERIVED", "PRIMARY", "DIXON", kind]
        else:
            shared.MRModifierSequence = [Dataset()]
            shared.MRModifierSequence[0].SpectrallySelectedSuppression = suppression

    write_enhanced(tmp_path / "image", [Plan()], edit=edit)
    images = read_dicom(tmp_path)
    assert {slice_.sequence for slice_ in images.stacks[0].slices} == {expected}


def test_slices_of_several_classes_are_of_no_known_class(tmp_path):
    write_series(tmp_path, Plan(), edit=only(2, values(ScanOptions="FS")))
    assert read_dicom(tmp_path).header["header_sequence"] == "unknown"
