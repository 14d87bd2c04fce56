"""Nothing that could tell who somebody is reaches a file, a name or a log of the real command."""

import gzip
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pyarrow.parquet as pq
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import (
    BasicTextSRStorage,
    CTImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

import paravert
from dicom_writer import (
    Plan,
    labels_phantom,
    slice_dataset,
    store,
    uid,
    write_enhanced,
    write_nifti,
)
from gdcm_encoder import compress_file
from paravert.errors import Reason
from planted import MARK, plant, plant_nifti, save_planted, secrets

PLAN = Plan(slices=2)
SAGITTAL = Plan(slices=2, right=(0, 1, 0), down=(0, 0, -1))
PIXELS, ITEM = b"\xe0\x7f\x10\x00O", b"\xfe\xff\x00\xe0"  # tags as they stand in a file
HEADER_FACTS = {  # what is kept by design
    "header_sex": "F",
    "header_age_years": 90,
    "field_strength_t": 3,
    "echo_time_ms": 100,
    "repetition_time_ms": 4000,
    "header_sequence": "T2",
    "manufacturer": "other",
}


# --- subjects, each planted with strings and then made faulty -------------------------------------


def series(folder: Path, plan: Plan = PLAN, *, edit=None, syntax=ExplicitVRLittleEndian):
    paths = []
    for index in range(plan.slices):
        data = slice_dataset(plan, index)
        plant(data, sequences=index == 0)
        if edit:
            edit(data, index)
        name = f"{MARK}{len(list(folder.rglob('*')))}.{MARK}"
        paths.append(save_planted(data, folder / f"{MARK} Jane" / name, syntax))
    return paths


def of_each(**values):
    """Return an edit that gives each slice its own of some values; None deletes."""

    def edit(data, index):
        for keyword, choices in values.items():
            value = choices[index % len(choices)]
            if value is None:
                del data[keyword]
            else:
                setattr(data, keyword, value)

    return edit


def garbled(keyword):
    """Return an edit that puts text where a number belongs."""

    def edit(data, index):
        value = f"{MARK} word ".encode()
        data[Tag(keyword)] = RawDataElement(Tag(keyword), "DS", len(value), value, 0, False, True)

    return edit


def faulty(**values):
    return lambda folder: series(folder, edit=of_each(**values))


def blank(data, index):
    store(data, np.zeros((PLAN.rows, PLAN.columns), int))


def good(folder):
    series(folder)
    (folder / f"{MARK}.txt").write_text(f"{MARK} wrote this")
    data = slice_dataset(PLAN, 0)
    plant(data)
    data.SOPClassUID, data.Modality = BasicTextSRStorage, MARK
    save_planted(data, folder / f"{MARK}.report")


def enhanced(folder, **values):
    def edit(data):
        plant(data)
        of_each(**values)(data, 0)
        save_planted(data, folder / f"{MARK}.enhanced")

    write_enhanced(folder.with_name("plain") / folder.name, [PLAN], edit=edit)


def unreadable(folder):
    for path in series(folder):
        raw = path.read_bytes()
        path.write_bytes(raw[:140] + b"\xff" * 60 + MARK.encode() * 99)


def cut(folder):
    for path in series(folder):
        raw = path.read_bytes()
        path.write_bytes(raw[: raw.index(PIXELS) + 500])


def two_series(folder):
    for name in "ab":
        series(folder, edit=of_each(SeriesInstanceUID=[uid(name)]))


def single(folder):
    edit = of_each(SliceThickness=[None], SpacingBetweenSlices=[None])
    series(folder, replace(PLAN, slices=1), edit=edit)


def damaged(syntax):
    """Return a subject whose code streams are garbage at their start."""

    def write(folder):
        lossless_jpeg = syntax == JPEGLosslessSV1
        paths = series(folder, syntax=ExplicitVRLittleEndian if lossless_jpeg else syntax)
        for path in paths:
            if lossless_jpeg:
                compress_file(path, syntax)
            raw = path.read_bytes()
            table = raw.index(ITEM, raw.index(PIXELS))
            start = raw.index(ITEM, table + 4)
            path.write_bytes(raw[: start + 8] + b"\xff" * 64 + raw[start + 72 :])

    return write


def nifti(folder, *, name=f"{MARK}-images.nii.gz", plan=PLAN, function=None, dtype=np.int16):
    arguments = (function,) if function else ()
    return plant_nifti(write_nifti(folder / name, plan, *arguments, dtype=dtype))


def mirrored_forms(folder):
    image = nib.load(nifti(folder, name="plain.nii"))
    image.set_qform(np.diag([-1, 1, 1, 1]) @ image.affine, code=1)
    nib.save(image, folder / f"{MARK}-images.nii.gz")
    (folder / "plain.nii").unlink()


def cut_nifti(folder):
    file = nifti(folder)
    file.write_bytes(file.read_bytes()[:-99])


def unknown_labels(points):
    return labels_phantom(points) * 3


def swapped_labels(points):
    return labels_phantom(points * [-1, 1, 1])


def masked(function, plan=PLAN, images: Callable = series):
    def write(folder):
        images(folder / "images")
        nifti(folder, name=f"{MARK}-mask.nii.gz", plan=plan, function=function, dtype=np.uint8)

    return write


def nothing(folder):
    folder.mkdir(parents=True)
    (folder / f"{MARK}.txt").write_text(f"{MARK} wrote this")


SUBJECTS: dict[str, tuple[Callable, Reason | None]] = {
    "classic": (good, None),
    "enhanced": (lambda folder: enhanced(folder, RepetitionTime=[4000]), None),
    "compressed": (lambda folder: series(folder, syntax=RLELossless), None),
    "nifti": (nifti, None),
    "truth": (masked(labels_phantom), None),
    "nifti-truth": (masked(labels_phantom, images=nifti), None),
    "nothing": (nothing, Reason.NO_DICOM),
    "header": (unreadable, Reason.UNREADABLE_HEADER),
    "patients": (faulty(PatientID=[f"{MARK}1", f"{MARK}2"]), Reason.MIXED_PATIENTS),
    "studies": (faulty(StudyInstanceUID=[uid(1), uid(2)]), Reason.MULTIPLE_STUDIES),
    "modality": (
        faulty(SOPClassUID=[CTImageStorage], Modality=[MARK, f"{MARK}2"]),
        Reason.WRONG_MODALITY,
    ),
    "quadruped": (faulty(AnatomicalOrientationType=["QUADRUPED"]), Reason.QUADRUPED),
    "sagittal": (lambda folder: series(folder, SAGITTAL), Reason.NO_AXIAL_SERIES),
    "mosaic": (faulty(ImageType=[["ORIGINAL", "PRIMARY", MARK, "MOSAIC"]]), Reason.MOSAIC),
    "series": (two_series, Reason.AMBIGUOUS_SERIES),
    "contrast": (
        faulty(ImagePositionPatient=[[0, 0, 0]], EchoTime=[1, 2]),
        Reason.AMBIGUOUS_CONTRAST,
    ),
    "dixon": (
        faulty(ImageType=[["DERIVED", "PRIMARY", "W"], ["DERIVED", "PRIMARY", "F"]]),
        Reason.DIXON_PARTS_DIFFER,
    ),
    "conflict": (
        faulty(ImagePositionPatient=[[0, 0, 0]]),
        Reason.DUPLICATE_POSITIONS_CONFLICT,
    ),
    "matrix": (
        lambda folder: series(folder, Plan(slices=4), edit=of_each(PixelSpacing=[[1, 1], [2, 2]])),
        Reason.INCONSISTENT_MATRIX,
    ),
    "frames": (lambda folder: enhanced(folder, NumberOfFrames=[9]), Reason.FRAME_COUNT_MISMATCH),
    "orientation": (
        lambda folder: series(folder, edit=garbled("ImageOrientationPatient")),
        Reason.BAD_GEOMETRY_ORIENTATION,
    ),
    "position": (
        lambda folder: series(folder, edit=garbled("ImagePositionPatient")),
        Reason.BAD_GEOMETRY_POSITION,
    ),
    "spacing": (
        lambda folder: series(folder, edit=garbled("PixelSpacing")),
        Reason.BAD_PIXEL_SPACING,
    ),
    "few": (single, Reason.TOO_FEW_SLICES),
    "cut": (cut, Reason.TRUNCATED_PIXELS),
    "rle": (damaged(RLELossless), Reason.UNDECODABLE_PIXELS),
    "jpeg-ls": (damaged(JPEGLSLossless), Reason.UNDECODABLE_PIXELS),
    "jpeg-2000": (damaged(JPEG2000Lossless), Reason.UNDECODABLE_PIXELS),
    "jpeg": (damaged(JPEGLosslessSV1), Reason.UNDECODABLE_PIXELS),
    "colour": (faulty(PhotometricInterpretation=[MARK]), Reason.UNSUPPORTED_PIXELS),
    "pixels": (faulty(PixelData=[None]), Reason.MISSING_PIXELS),
    "blank": (lambda folder: series(folder, edit=blank), Reason.BLANK_IMAGES),
    "grid": (masked(labels_phantom, replace(PLAN, gap=7)), Reason.MASK_GRID_MISMATCH),
    "unknown": (masked(unknown_labels), Reason.MASK_UNKNOWN_LABEL),
    "sides": (masked(swapped_labels), Reason.MASK_SIDE_MISMATCH),
    "forms": (mirrored_forms, Reason.BAD_GEOMETRY_ORIENTATION),
    "cut-nifti": (cut_nifti, Reason.TRUNCATED_PIXELS),
    "absent": (lambda folder: None, Reason.NO_DICOM),
}


# --- the real command ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of the inputs, the rows of the shard's table, and everything that was written."""
    home = tmp_path_factory.mktemp("privacy")
    inputs = home / f"{MARK}-folder"
    lines = ["subject\timages\ttruth"]
    for name, (write, _) in SUBJECTS.items():
        place = inputs / f"{MARK}-{name}"
        write(place)
        lines.append("\t".join([name, *(str(path) for path in _images_and_truth(place))]))
    sheet = home / f"{MARK}-subjects.tsv"
    sheet.write_text("\n".join(lines) + "\n")
    shard = home / "out" / "shard.parquet"
    options = [option for name in SUBJECTS for option in ("--subject", name)]
    done = subprocess.run(
        [sys.executable, "-W", "default", "-m", "paravert", "convert_dicom", *options]
        + ["--workers", "2"]
        + ["--sheet", str(sheet), "--folder", str(home / "out" / "results"), "--out", str(shard)],
        env={**os.environ, "PYTHONPATH": str(Path(paravert.__file__).parents[1])},
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr.decode()
    written = dict(_everything_in(home / "out"))
    written |= {"stdout": done.stdout, "stderr": done.stderr}
    told = {row["subject"]: row for row in pq.read_table(shard).to_pylist()}
    return inputs, told, written


def _images_and_truth(place: Path) -> tuple[Path, Path | str]:
    """Return what the sheet names: a NIfTI file itself, otherwise the folder."""
    mask = place / f"{MARK}-mask.nii.gz"
    images = place / "images" if mask.exists() else place
    file = images / f"{MARK}-images.nii.gz"
    return (file if file.exists() else images), (mask if mask.exists() else "")


def _everything_in(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the names and contents of all files: as they are, unpacked, and as values."""
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        yield f"name {name}", name.encode()
        if path.is_dir():
            continue
        raw = path.read_bytes()
        yield name, raw
        if path.suffix == ".gz":
            yield f"{name} unpacked", gzip.decompress(raw)
        if path.suffix == ".parquet":
            table = pq.read_table(io.BytesIO(raw))
            told = [table.schema.metadata, table.schema.to_string(), table.to_pylist()]
            yield f"{name} as values", repr(told).encode()


def test_every_reason_is_among_the_subjects(run):
    _, told, _ = run
    found = {name: row["reason"] for name, row in told.items()}
    assert found == {name: reason for name, (_, reason) in SUBJECTS.items()}
    assert set(found.values()) == {None, *Reason} - {Reason.PROCESS_DIED}


def test_no_planted_string_is_written_or_logged(run):
    _, _, written = run
    wanted = {text.lower().encode(): where for text, where in secrets().items()}
    leaks = [
        (place, text, where)
        for place, content in written.items()
        for text, where in wanted.items()
        if text in content.lower()
    ]
    assert leaks == []


def test_no_path_of_the_input_is_written_or_logged(run):
    inputs, _, written = run
    for path in (inputs, inputs.parent):
        assert [name for name, content in written.items() if str(path).encode() in content] == []


@pytest.mark.parametrize("subject", ["classic", "enhanced", "compressed", "truth"])
def test_of_the_header_only_what_was_agreed_is_kept(run, subject):
    _, told, _ = run
    assert {name: told[subject][name] for name in HEADER_FACTS} == HEADER_FACTS


def test_a_nifti_file_tells_nothing_of_the_person(run):
    _, told, _ = run
    assert {told["nifti"][name] for name in HEADER_FACTS} == {None}


def test_the_planted_strings_are_in_the_input(run):
    inputs, _, _ = run
    content = b"".join(path.read_bytes() for path in (inputs / f"{MARK}-classic").rglob("*.*"))
    absent = [text for text in secrets() if text.encode() not in content]
    dates = [text for text in absent if text.count("-") == 2]
    assert sorted(absent) == sorted([*dates, "03:13:37"])  # other ways to write what is there
