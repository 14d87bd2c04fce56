"""What lies in the folder: names and places, and what is no image."""

from pydicom.dataset import Dataset
from pydicom.uid import (
    BasicTextSRStorage,
    EncapsulatedPDFStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    MediaStorageDirectoryStorage,
    MRSpectroscopyStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    RawDataStorage,
    SecondaryCaptureImageStorage,
)

from dicom_writer import Plan, save, slice_dataset, uid, write_series
from imaging_cases.case import (
    PLAN,
    SAGITTAL,
    afterwards,
    beside,
    fault,
    good,
    series,
    together,
    values,
)
from paravert.errors import Caution, Reason


def document(sop_class: str, name: str = "document", **changed):
    """Return what writes an object of another kind into the study."""

    def write(home):
        data = slice_dataset(PLAN, 0, name)
        values(ImagePositionPatient=None, ImageOrientationPatient=None, **changed)(data, 0)
        data.SOPClassUID = sop_class
        save(data, home / "images" / name)

    return write


def directory(home):
    """Write a DICOMDIR as exports do."""
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = MediaStorageDirectoryStorage, uid("directory")
    data.FileSetID, data.DirectoryRecordSequence = "EXPORT", []
    save(data, home / "images" / "DICOMDIR")


def renamed(write, name):
    """Return what writes files and gives them names by their number."""

    def written(home):
        for number, path in enumerate(write(home)):
            target = home / "images" / name(number)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)

    return written


def one_file(home):
    return write_series(home / "images", Plan(slices=1))


def links(home):
    """Link to images that lie elsewhere."""
    (home / "images").mkdir(exist_ok=True)
    for path in sorted((home / "elsewhere").iterdir()):
        (home / "images" / path.name).symlink_to(path)


def lead_nowhere(path):
    path.unlink()
    path.symlink_to(path.parent / "not fetched")


def in_a_circle(path):
    path.unlink()
    path.symlink_to(path)


def damaged(path):
    content = path.read_bytes()
    path.write_bytes(content[:140] + b"\xff" * 60)


def cut_header(path):
    path.write_bytes(path.read_bytes()[:300])


CASES = (
    fault("nothing there", lambda home: None, Reason.NO_DICOM, "nothing there"),
    fault("empty folder", lambda home: (home / "images").mkdir(), Reason.NO_DICOM),
    fault(
        "other files only",
        together(beside("readme.txt", b"no image"), beside("empty", b"")),
        Reason.NO_DICOM,
        "2 files",
    ),
    good("nested folders", renamed(series(), lambda n: f"a/{n % 3}/DICOM/IM{n}")),
    good("names of other kinds", renamed(series(), lambda n: f"slice {n}, copy.nii.txt")),
    good(
        "names with umlauts and blanks",
        renamed(series(), lambda n: f"Bild \u00e4 {n}/Kopie von {n}"),
    ),
    good("hidden names", renamed(series(), lambda n: f".export/.{n}")),
    good("links to files", together(series(name="../elsewhere"), links)),
    good("names with .dcm", renamed(series(), lambda n: f"{n:08x}.DCM")),
    good("names of UIDs", renamed(series(), lambda n: f"1.2.840.{n}")),
    good(
        "one file named by the sheet",
        renamed(one_file, lambda n: "the file"),
        images="images/the file",
        stacks=(1,),
        slab_mm=5.0,
    ),
    good(
        "viewer, text and pictures beside",
        together(
            series(),
            beside("viewer.exe", b"MZ" + bytes(range(256)) * 4),
            beside("AUTORUN.INF", b"[autorun]\r\nopen=viewer.exe"),
            beside("report.txt", "Müller".encode()),
            beside("JPG/0001.jpg", b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(900)),
            beside("export.zip", b"PK\x03\x04" + bytes(300)),
            beside("__MACOSX/._IM0001", b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X" + bytes(99)),
        ),
        Caution.NON_DICOM_IGNORED,
    ),
    good(
        "files that begin like DICOM beside",
        together(
            series(), beside("eight", b"\x08\x00"), beside("two", b"\x02\x00" + b"\xff" * 400)
        ),
        Caution.NON_DICOM_IGNORED,
    ),
    good("a DICOMDIR beside", together(series(), directory)),
    good("a DICOMDIR of nonsense beside", together(series(), beside("DICOMDIR", b"index"))),
    good(
        "documents beside",
        together(
            series(),
            document(BasicTextSRStorage, "report", Modality="SR"),
            document(GrayscaleSoftcopyPresentationStateStorage, "state", Modality="PR"),
            document(EncapsulatedPDFStorage, "pdf", Modality="DOC"),
            document(RawDataStorage, "raw"),
            document(MRSpectroscopyStorage, "spectrum"),
            document("1.3.46.670589.11.0.0.12.1", "private"),
        ),
        Caution.NON_IMAGE_IGNORED,
    ),
    good(
        "a report of another patient beside",
        together(series(), document(BasicTextSRStorage, PatientID="P2")),
        Caution.NON_IMAGE_IGNORED,
    ),
    good(
        "a screenshot as secondary capture beside",
        together(series(), document(SecondaryCaptureImageStorage, Modality="OT")),
        Caution.NON_IMAGE_IGNORED,
    ),
    good(
        "a screenshot as MR image beside",
        together(series(), document("1.2.840.10008.5.1.4.1.1.4", "screenshot")),
        Caution.NON_IMAGE_IGNORED,
    ),
    *(
        fault(
            f"{name} only", document(kind), Reason.NO_DICOM, "1 secondary captures by SOPClassUID"
        )
        for name, kind in {
            "screenshots": SecondaryCaptureImageStorage,
            "frames of a screen": MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
        }.items()
    ),
    fault(
        "MR stored again as secondary captures",
        series(edit=values(SOPClassUID=SecondaryCaptureImageStorage)),
        Reason.NO_DICOM,
        "5 secondary captures",
    ),
    fault("unknown objects only", document("1.2.3.4"), Reason.NO_DICOM),
    fault("documents only", document(BasicTextSRStorage), Reason.NO_DICOM),
    fault(
        "a link that leads nowhere",
        afterwards(series(), lead_nowhere, 4),
        Reason.UNREADABLE_HEADER,
        "leads nowhere",
    ),
    fault(
        "a circle of links among the images",
        afterwards(series(), in_a_circle, 4),
        Reason.UNREADABLE_HEADER,
        "a file may not be read (ELOOP)",
    ),
    fault(
        "a circle of links as images",
        lambda home: (home / "images").symlink_to(home / "images"),
        Reason.UNREADABLE_HEADER,
        "images: the path may not be read (ELOOP)",
    ),
    *(
        fault(
            f"too long a path of {role}",
            series(),
            Reason.UNREADABLE_HEADER,
            f"{role}: the path may not be read (ENAMETOOLONG)",
            **{role: "x" * 300},
        )
        for role in ("images", "truth", "labels")
    ),
    *(
        fault(
            f"a file of {kind}",
            afterwards(series(), lambda path, content=content: path.write_bytes(content), 4),
            Reason.UNREADABLE_HEADER,
            "1 image files",
        )
        for kind, content in (("nothing", b""), ("zeros", bytes(4000)))
    ),
    fault("a damaged header", afterwards(series(), damaged, 0), Reason.UNREADABLE_HEADER),
    fault(
        "a file cut off before its pixels",
        afterwards(series(), lambda path: path.write_bytes(path.read_bytes()[:-3852]), 2),
        Reason.MISSING_PIXELS,
    ),
    fault(
        "a header cut off in another series",
        together(series(), afterwards(series(SAGITTAL, "sagittal"), cut_header, 4)),
        Reason.UNREADABLE_HEADER,
    ),
    fault("a header cut off", afterwards(series(), cut_header, 2), Reason.UNREADABLE_HEADER),
)
