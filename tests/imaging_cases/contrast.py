"""Several images at one position: contrasts, time points, copies."""

from dataclasses import replace

from dicom_writer import uid, write_series
from imaging_cases.case import (
    PLAN,
    Case,
    copies,
    each,
    fault,
    good,
    nifti,
    only,
    pixels,
    series,
    together,
    values,
)
from paravert.errors import Caution, Reason


def _second(name: str, **changed) -> Case:
    """Return two images at each position, told apart by some values."""
    first = {keyword: pair[0] for keyword, pair in changed.items()}
    second = {keyword: pair[1] for keyword, pair in changed.items()}
    write = together(
        series(edit=values(**first)),
        copies(edit=each(pixels(lambda shown, _: shown // 2), values(**second))),
    )
    return fault(name, write, Reason.AMBIGUOUS_CONTRAST, "2 images of different")


def _at_one_place(data, number):
    data.ImagePositionPatient = [0, 0, 0]
    data.AcquisitionTime, data.AcquisitionNumber = f"10150{number}", number + 1


def _at_its_time(data, number):
    data.TemporalPositionIdentifier = number + 1


CONTRASTS = (
    _second("two echoes", EchoTime=(20, 100)),
    _second("two echo numbers", EchoNumbers=(1, 2)),
    good(
        "water and fat",
        together(
            series(edit=values(ImageType=["DERIVED", "PRIMARY", "F", "FAT"])),
            copies(
                edit=each(
                    pixels(lambda shown, _: shown // 2),
                    values(ImageType=["DERIVED", "PRIMARY", "W", "WATER"]),
                )
            ),
        ),
    ),
    good(
        "water and fat as NIfTI, of other origins",
        together(
            nifti(name="pair/fat.nii.gz"),
            nifti(replace(PLAN, centre=(4, -3, 207)), name="pair/water.nii.gz"),
        ),
        Caution.DIXON_ORIGINS_DIFFER,
        slab_source="positions",
        images="pair",
    ),
    _second(
        "magnitude and phase",
        ImageType=(["ORIGINAL", "PRIMARY", "M", "ND"], ["ORIGINAL", "PRIMARY", "P", "ND"]),
    ),
    _second("time points", TemporalPositionIdentifier=(1, 2)),
    _second("acquisitions", AcquisitionNumber=(1, 2)),
    _second("trigger times", TriggerTime=(0, 400)),
    _second("acquisition times", AcquisitionTime=("101500", "101730.5")),
    _second("b-values", DiffusionBValue=(0.0, 800.0)),
    _second(
        "diffusion directions",
        DiffusionBValue=(800.0, 800.0),
        DiffusionGradientOrientation=([1.0, 0.0, 0.0], [0.0, 1.0, 0.0]),
    ),
    _second("b-values in the sequence name alone", SequenceName=("*ep_b50t", "*ep_b800t")),
    _second("inversion times", InversionTime=(100, 900)),
    _second("complex components", ComplexImageComponent=("MAGNITUDE", "PHASE")),
    fault(
        "a second echo of one slice",
        together(series(), copies(leave_out=(0, 1, 3, 4), edit=values(EchoTime=20))),
        Reason.AMBIGUOUS_CONTRAST,
    ),
    good(
        "echo times that differ a little by position",
        series(edit=lambda data, number: setattr(data, "EchoTime", 100 + number)),
    ),
    fault(
        "every second slice of each echo lost",
        series(edit=lambda data, number: setattr(data, "EchoTime", (20, 100)[number % 2])),
        Reason.AMBIGUOUS_CONTRAST,
        "one stack",
    ),
    fault(
        "water and fat by turns",
        series(
            edit=lambda data, n: setattr(data, "ImageType", ["DERIVED", "PRIMARY", "WF"[n % 2]])
        ),
        Reason.DIXON_PARTS_DIFFER,
        "fat has 2 slices in 1 stacks, water 3 in 1",
    ),
    good(
        "some slices derived",
        series(edit=only(2, values(ImageType=["DERIVED", "SECONDARY", "M", "SE"]))),
    ),
    good(
        "acquisitions one after the other",
        series(edit=lambda data, number: setattr(data, "AcquisitionNumber", 1 + number % 2)),
    ),
)

COPIES = (
    good("equal duplicates", together(series(), copies()), Caution.DUPLICATE_SLICE_DROPPED),
    good(
        "some equal duplicates",
        together(series(), copies(leave_out=(0, 3))),
        Caution.DUPLICATE_SLICE_DROPPED,
    ),
    good(
        "equal slices under other instance UIDs",
        together(
            series(),
            copies(edit=lambda data, n: setattr(data, "SOPInstanceUID", uid("again", n))),
        ),
        Caution.DUPLICATE_SLICE_DROPPED,
    ),
    good(
        "copies with a thinner header",
        together(series(), copies(edit=values(EchoTime=None, SequenceName="*tse2d"))),
        Caution.DUPLICATE_SLICE_DROPPED,
    ),
    good(
        "three of each slice",
        together(series(), copies(), lambda home: write_series(home / "images" / "third", PLAN)),
        Caution.DUPLICATE_SLICE_DROPPED,
    ),
    good(
        "a copy stored with another rescale",
        together(
            series(),
            copies(
                edit=each(
                    pixels(lambda shown, _: shown + 100),
                    values(RescaleSlope=1, RescaleIntercept=-100),
                )
            ),
        ),
        Caution.DUPLICATE_SLICE_DROPPED,
    ),
    fault(
        "duplicates with other pixels",
        together(series(), copies(edit=pixels(lambda shown, _: shown + 7))),
        Reason.DUPLICATE_POSITIONS_CONFLICT,
        "2 slices share one position",
    ),
    fault(
        "a duplicate with one other pixel",
        together(
            series(),
            copies(
                leave_out=(0, 1, 2, 3),
                edit=pixels(lambda shown, _: shown + (shown == shown.max())),
            ),
        ),
        Reason.DUPLICATE_POSITIONS_CONFLICT,
    ),
    fault(
        "all slices at one position",
        series(edit=values(ImagePositionPatient=[0, 0, 0])),
        Reason.DUPLICATE_POSITIONS_CONFLICT,
        "all 5 slices share one position",
    ),
    fault(
        "all slices at one position, acquired one after the other",
        series(edit=_at_one_place),
        Reason.DUPLICATE_POSITIONS_CONFLICT,
        "all 5 slices share one position",
    ),
    fault(
        "time points of one slice",
        series(edit=each(_at_one_place, _at_its_time)),
        Reason.AMBIGUOUS_CONTRAST,
        "5 images of different",
    ),
    fault(
        "two slices at one position",
        series(edit=only(3, values(ImagePositionPatient=[-54.75, -71.25, 7]))),
        Reason.DUPLICATE_POSITIONS_CONFLICT,
    ),
)

CASES = (*CONTRASTS, *COPIES)
