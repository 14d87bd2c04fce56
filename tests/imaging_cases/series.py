"""Which series: one patient, one study, MR, axial; the others set aside."""

from dataclasses import replace

from pydicom.uid import CTImageStorage, EnhancedMRColorImageStorage

from dicom_writer import Plan, turn, uid
from imaging_cases.case import (
    CORONAL,
    DISCS,
    PLAN,
    SAGITTAL,
    each,
    fault,
    good,
    only,
    pixels,
    raw,
    series,
    together,
    values,
)
from paravert.errors import Caution, Reason

SCOUT = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
THREE_PLANES = [replace(plan, slices=1) for plan in (PLAN, SAGITTAL, CORONAL)]
T1 = series(Plan(slices=3), "T1 TRA")
T2 = series(Plan(slices=4), "T2 TRA")


def spelt(name: str, encoding: str, declared: str | None):
    """Return what writes a name in an encoding, and declares that one, another or none."""
    content = name.encode(encoding)
    edit = raw("PatientName", "PN", content + b" " * (len(content) % 2))
    return each(edit, values(SpecificCharacterSet=declared)) if declared else edit


YAMADA = "Yamada^Taro=\u5c71\u7530^\u592a\u90ce"
MULLER = spelt("M\u00fcller^J\u00f6rg", "latin-1", "ISO_IR 100")

SUBJECT = (
    fault(
        "two patient IDs",
        series(edit=only(2, values(PatientID="P2"))),
        Reason.MIXED_PATIENTS,
        "2 patients in PatientID",
    ),
    fault(
        "two names",
        series(edit=only(2, values(PatientName="Roe^Jane"))),
        Reason.MIXED_PATIENTS,
        "2 patients in PatientName",
    ),
    fault(
        "two birth dates",
        series(edit=only(2, values(PatientBirthDate="19600101"))),
        Reason.MIXED_PATIENTS,
        "2 patients in PatientBirthDate",
    ),
    fault(
        "another patient's sagittal series",
        together(series(), series(SAGITTAL, "sagittal", edit=values(PatientID="P2"))),
        Reason.MIXED_PATIENTS,
    ),
    good(
        "one patient written in two ways",
        series(edit=only(2, values(PatientName="DOE^JANE^^", PatientBirthDate=""))),
    ),
    *(
        good(f"one name {told}", series(edit=each(MULLER, only((1, 3), edit))))
        for told, edit in {
            "in two declared encodings": spelt("M\u00fcller^J\u00f6rg", "utf-8", "ISO_IR 192"),
            "in two encodings, one undeclared": spelt("M\u00fcller^J\u00f6rg", "utf-8", None),
            "in an encoding that is declared to be another": spelt(
                "M\u00fcller^J\u00f6rg", "utf-8", "ISO_IR 100"
            ),
            "with its accents apart": spelt("Mu\u0308ller^Jo\u0308rg", "utf-8", "ISO_IR 192"),
        }.items()
    ),
    good(
        "one name in Japanese, in two encodings and in Latin letters alone",
        series(
            edit=each(
                spelt(YAMADA, "utf-8", "ISO_IR 192"),
                only(1, spelt(YAMADA, "shift_jis", "ISO_IR 13")),
                only(2, spelt(YAMADA, "iso2022_jp", "\\ISO 2022 IR 87")),
                only(3, spelt(YAMADA, "utf-8", None)),
                only(4, values(PatientName="YAMADA^TARO")),
            )
        ),
    ),
    *(
        fault(
            f"two names in {script}",
            series(edit=each(spelt(one, *how), only(2, spelt(other, *how)))),
            Reason.MIXED_PATIENTS,
            "2 patients in PatientName",
        )
        for script, one, other, how in (
            ("Japanese", "\u5c71\u7530^\u592a\u90ce", "\u9234\u6728^\u592a\u90ce", ("utf-8", None)),
            (
                "Cyrillic",
                "\u0418\u0432\u0430\u043d",
                "\u041e\u043b\u0435\u0433",
                ("iso8859_5", "ISO_IR 144"),
            ),
            ("Latin letters with accents", "M\u00fcller", "M\u00f6ller", ("utf-8", "ISO_IR 192")),
        )
    ),
    good("patient ID empty in some files", series(edit=only((1, 3), values(PatientID="")))),
    good("no patient at all", series(edit=values(PatientID=None, PatientName=None))),
    fault(
        "two studies",
        series(edit=only(2, values(StudyInstanceUID=uid("other study")))),
        Reason.MULTIPLE_STUDIES,
    ),
    fault(
        "two visits in one folder",
        together(
            series(), series(name="next year", edit=values(StudyInstanceUID=uid("other study")))
        ),
        Reason.MULTIPLE_STUDIES,
    ),
    fault(
        "CT",
        series(edit=values(SOPClassUID=CTImageStorage, Modality="CT")),
        Reason.WRONG_MODALITY,
        "5 images of modality CT, expected MR",
    ),
    good(
        "CT beside",
        together(
            series(), series(name="ct", edit=values(SOPClassUID=CTImageStorage, Modality="CT"))
        ),
        Caution.NON_IMAGE_IGNORED,
    ),
    good(
        "colour maps beside",
        together(
            series(), series(name="map", edit=values(SOPClassUID=EnhancedMRColorImageStorage))
        ),
        Caution.NON_IMAGE_IGNORED,
    ),
    fault(
        "a quadruped", series(edit=values(AnatomicalOrientationType="QUADRUPED")), Reason.QUADRUPED
    ),
    good("a biped", series(edit=values(AnatomicalOrientationType="BIPED"))),
)

PLANES = (
    good(
        "sagittal and coronal beside",
        together(series(), series(SAGITTAL, "sagittal"), series(CORONAL, "coronal")),
        Caution.NON_AXIAL_EXCLUDED,
    ),
    good(
        "localizers beside",
        together(
            series(),
            series(THREE_PLANES, "three planes"),
            series(Plan(slices=1), "scout", edit=values(ImageType=SCOUT)),
        ),
        Caution.LOCALIZER_EXCLUDED,
    ),
    good(
        "a sagittal series without pixel spacing beside",
        together(series(), series(SAGITTAL, "sagittal", edit=values(PixelSpacing=None))),
        Caution.NON_AXIAL_EXCLUDED,
        Caution.SAGITTAL_NOT_USED,
    ),
    good(
        "a sagittal series without orientation beside",
        together(series(), series(SAGITTAL, "sagittal", edit=values(ImageOrientationPatient=None))),
        Caution.NON_IMAGE_IGNORED,
    ),
    good(
        "a sagittal series without pixels beside",
        together(series(), series(SAGITTAL, "sagittal", edit=values(PixelData=None))),
        Caution.NON_AXIAL_EXCLUDED,
        Caution.SAGITTAL_NOT_USED,
    ),
    fault(
        "localizers only",
        series(THREE_PLANES, "three planes"),
        Reason.NO_AXIAL_SERIES,
        "1 localizer series",
    ),
    fault(
        "sagittal, coronal and localizer only",
        together(
            series(SAGITTAL, "sagittal"),
            series(CORONAL, "coronal"),
            series(THREE_PLANES, "three planes"),
        ),
        Reason.NO_AXIAL_SERIES,
        "2 sagittal or coronal, 1 localizer series",
    ),
    fault(
        "all planes under one series UID",
        together(
            series(), series(SAGITTAL, "sagittal", edit=values(SeriesInstanceUID=uid("axial")))
        ),
        Reason.NO_AXIAL_SERIES,
        "1 localizer series",
    ),
    good(
        "one sagittal slice says how its series lies",
        together(
            series(),
            series(SAGITTAL, "sagittal", edit=only(range(4), values(ImageOrientationPatient=None))),
        ),
        Caution.NON_AXIAL_EXCLUDED,
    ),
)

DIXON = together(
    series(name="Dixon F"),
    series(name="Dixon W", edit=pixels(lambda shown, _: shown // 2)),
)
AMBIGUOUS = (
    fault("two axial series", together(T1, T2), Reason.AMBIGUOUS_SERIES, "2 axial series"),
    fault(
        "a pattern that fits both",
        together(T1, T2),
        Reason.AMBIGUOUS_SERIES,
        "leaves them",
        patterns=("TRA",),
    ),
    fault(
        "a pattern that fits neither",
        together(T1, T2),
        Reason.AMBIGUOUS_SERIES,
        patterns=("PD",),
    ),
    good("a pattern that fits one", together(T1, T2), stacks=(4,), patterns=("t2",)),
    good(
        "patterns in their order",
        together(T1, T2),
        stacks=(3,),
        patterns=("DIXON", "t1", "t2"),
    ),
    good(
        "a pattern that narrows, then one that decides",
        together(T1, T2, series(Plan(slices=2), "T2 COR")),
        stacks=(4,),
        patterns=("T2", "TRA$"),
    ),
    good(
        "a pattern is no use for one series",
        together(series(), series(SAGITTAL, "T2 SAG")),
        Caution.NON_AXIAL_EXCLUDED,
        patterns=("T2",),
    ),
    fault(
        "a reformatted axial series beside",
        together(
            series(), series(name="MPR", edit=values(ImageType=["DERIVED", "SECONDARY", "MPR"]))
        ),
        Reason.AMBIGUOUS_SERIES,
    ),
    good(
        "one series for each Dixon image",
        DIXON,
    ),
    good(
        "one series for each Dixon image, of which a pattern names one",
        DIXON,
        patterns=("Dixon W",),
    ),
    good(
        "a description with a backslash, whose beginning a pattern names",
        together(
            series(edit=values(SeriesDescription=["T1", "ax"])),
            series(name="T2 ax", edit=values(SeriesDescription=["T2", "T1", "ax"])),
        ),
        patterns=("^T1",),
    ),
    fault(
        "one series for each disc",
        together(*(series(plan, f"disc {n}") for n, plan in enumerate(DISCS))),
        Reason.AMBIGUOUS_SERIES,
        "4 axial series",
    ),
    good(
        "a malformed description",
        together(series(edit=raw("SeriesDescription", "LO", b"\xff\xfe\xfd "))),
    ),
    fault(
        "a mosaic",
        series(edit=values(ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"])),
        Reason.MOSAIC,
    ),
    good(
        "a sagittal mosaic beside",
        together(
            series(),
            series(
                SAGITTAL.turned(turn("z", 5)),
                "sagittal",
                edit=values(ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"]),
            ),
        ),
        Caution.NON_AXIAL_EXCLUDED,
        Caution.SAGITTAL_NOT_USED,
    ),
)

CASES = (*SUBJECT, *PLANES, *AMBIGUOUS)
