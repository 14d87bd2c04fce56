"""Files with random damage, and what becomes of them when they are converted.

A trial takes a small series of the analytic phantom in one of the forms of a suite, damages one of
its files and converts it, as the step does, in a process of its own whose memory and time are
limited. A cohort of such subjects is converted in one process, and each must have its row.
"""

import gzip
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas  # noqa: F401 - pyarrow loads it: once here, not in every process
import pyarrow.parquet as pq
import pydicom
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    LegacyConvertedEnhancedMRImageStorage,
    RLELossless,
)

import limited_process
from damaged_nifti import GZIP_DAMAGES, NIFTI_DAMAGES
from dicom_writer import (
    Plan,
    labels_phantom,
    phantom,
    store,
    write_enhanced,
    write_nifti,
    write_series,
)
from gdcm_encoder import compress_file
from paravert.errors import SubjectFault
from paravert.imaging.convert import convert_dicom, convert_subject
from paravert.imaging.image_stack import LARGEST_VALUE
from paravert.imaging.volume import read_volume
from paravert.shards import Task

SECONDS = 5  # what one file may cost
SPACING_RANGE_MM = (0.05, 100.0)  # of anything called an image of a patient
HEADER_BYTES = 2048  # half of the damage lies in the first so many bytes
PLAN = Plan(slices=3)
OK, NONSENSE, OTHER, LOST = "ok", "nonsense", "other values", "lost"
FAILURES = (*limited_process.FAILURES, NONSENSE, OTHER, LOST)

# --- the forms -----------------------------------------------------------------------------------


def _series(syntax=ExplicitVRLittleEndian, *, preamble: bool = True) -> Callable[[Path], Path]:
    return lambda home: write_series(home / "images", PLAN, syntax=syntax, preamble=preamble)[0]


def _jpeg(syntax) -> Callable[[Path], Path]:
    bits = {JPEGBaseline8Bit: 8}.get(syntax, 12)

    def edit(data, number):
        values = phantom(PLAN.points(number)) >> (12 - bits)
        store(data, values, bits=bits, allocated=8 if bits == 8 else 16)

    def write(home):
        files = write_series(home / "images", PLAN, edit=edit)
        return [compress_file(file, syntax) for file in files][0]

    return write


def _deflated_series(home: Path) -> Path:
    for file in write_series(home / "images", PLAN):
        data = pydicom.dcmread(file)
        data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        pydicom.dcmwrite(file, data)
    return file


def _multi_frame(**options) -> Callable[[Path], Path]:
    return lambda home: write_enhanced(home / "images" / "IM0", [PLAN], **options)


def _nifti(name: str, dtype: type = np.int16) -> Callable[[Path], Path]:
    return lambda home: write_nifti(home / name, PLAN, dtype=dtype)


def _nifti2(home: Path) -> Path:
    file = write_nifti(home / "images.nii", PLAN)
    image = nib.load(file)
    nib.save(nib.Nifti2Image(image.get_fdata().astype(np.int16), image.affine), file)
    return file


def _mask(name: str) -> Callable[[Path], Path]:
    def write(home):
        write_nifti(home / "images.nii", PLAN)
        return write_nifti(home / name, PLAN, labels_phantom, dtype=np.uint8)

    return write


# Each writes a subject into a folder and returns the file to damage.
FORMS: dict[str, Callable[[Path], Path]] = {
    "native": _series(),
    "implicit": _series(ImplicitVRLittleEndian),
    "big endian": _series(ExplicitVRBigEndian),
    "deflated": _deflated_series,
    "no preamble": _series(preamble=False),
    "RLE": _series(RLELossless),
    "JPEG baseline": _jpeg(JPEGBaseline8Bit),
    "JPEG extended": _jpeg(JPEGExtended12Bit),
    "JPEG lossless": _jpeg(JPEGLosslessSV1),
    "JPEG-LS": _series(JPEGLSLossless),
    "JPEG 2000": _series(JPEG2000Lossless),
    "enhanced": _multi_frame(),
    "enhanced, RLE": _multi_frame(syntax=RLELossless),
    "enhanced, JPEG 2000": _multi_frame(syntax=JPEG2000Lossless),
    "legacy converted": _multi_frame(sop_class=LegacyConvertedEnhancedMRImageStorage),
    "NIfTI": _nifti("images.nii"),
    "NIfTI, gzip": _nifti("images.nii.gz"),
    "truth": _mask("truth.nii"),
    "labels, gzip": _mask("labels.nii.gz"),
}

NIFTI_FORMS = {
    "NIfTI": _nifti("images.nii"),
    "NIfTI, gzip": _nifti("images.nii.gz"),
    "NIfTI, floats": _nifti("images.nii", np.float32),
    "NIfTI, doubles, gzip": _nifti("images.nii.gz", np.float64),
    "NIfTI 2": _nifti2,
    "truth": _mask("truth.nii"),
    "labels, gzip": _mask("labels.nii.gz"),
}
GZIP_FORMS = {
    "NIfTI, gzip": _nifti("images.nii.gz"),
    "truth, gzip": _mask("truth.nii.gz"),
    "labels, gzip": _mask("labels.nii.gz"),
}


def _sheet_row(home: Path) -> dict[str, str]:
    """Return a subject's line of the sheet from what lies in its folder."""
    found = {path.name.split(".")[0]: str(path) for path in home.iterdir()}
    return {name: found.get(name, "") for name in ("images", "truth", "labels")}


# --- the damage ----------------------------------------------------------------------------------


def flipped(content: bytes, place: int, chance: random.Random) -> bytes:
    """Return bytes of which up to 16, in a run or scattered, hold other values."""
    damaged = bytearray(content)
    reach = chance.choice((16, 256, len(content)))
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        where = min(place + chance.randrange(reach), len(damaged) - 1)
        damaged[where] ^= chance.choice((1 << chance.randrange(8), chance.randrange(1, 256)))
    return bytes(damaged)


def cut(content: bytes, place: int, chance: random.Random) -> bytes:
    """Return bytes with a run taken out, in a quarter of the cases all to the end."""
    if chance.random() < 0.25:
        return content[:place]
    return content[:place] + content[place + chance.choice((1, 2, 3, 4, 8, 64, 1024)) :]


def repeated(content: bytes, place: int, chance: random.Random) -> bytes:
    """Return bytes with a run that follows itself up to 64 times more."""
    run = content[place : place + chance.choice((1, 2, 4, 8, 64, 1024))]
    return content[:place] + run * chance.choice((1, 1, 2, 64)) + content[place:]


def zeroed(content: bytes, place: int, chance: random.Random) -> bytes:
    """Return bytes of which one or eight sectors are zero, as if they had never been written."""
    end = place + chance.choice((512, 4096))
    return content[:place] + bytes(len(content[place:end])) + content[end:]


DAMAGES = {"flipped": flipped, "cut": cut, "repeated": repeated, "zeroed": zeroed}


@dataclass(frozen=True)
class Suite:
    """What is damaged, and how.

    inside: how often of a compressed file it is the content. checked: what is converted at all must
    have the values of the undamaged file.
    """

    forms: dict[str, Callable[[Path], Path]]
    damages: dict[str, Callable[[bytes, int, random.Random], bytes]]
    inside: float
    checked: bool = False


SUITES = {
    "any": Suite(FORMS, DAMAGES, inside=0.5),
    "nifti": Suite(NIFTI_FORMS, NIFTI_DAMAGES, inside=1),
    "gzip": Suite(GZIP_FORMS, DAMAGES | GZIP_DAMAGES, inside=0, checked=True),
}


def damage(file: Path, trial: "Trial") -> None:
    """Damage a file as a trial does."""
    chance = random.Random(f"{trial.seed} {trial.number}")
    change = trial.of.damages[trial.how]
    content, pack = file.read_bytes(), bytes
    if file.suffix == ".gz" and chance.random() < trial.of.inside:
        content, pack = gzip.decompress(content), lambda raw: gzip.compress(raw, 1)
    reach = min(HEADER_BYTES, len(content)) if chance.random() < 0.5 else len(content)
    file.write_bytes(pack(change(content, chance.randrange(reach), chance)))


# --- the trials ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trial:
    """A file to damage: suite, seed and number give the same damage again."""

    seed: int
    number: int
    suite: str = "any"

    @property
    def of(self) -> Suite:
        return SUITES[self.suite]

    @property
    def form(self) -> str:
        return list(self.of.forms)[self.number % len(self.of.forms)]

    @property
    def how(self) -> str:
        return list(self.of.damages)[self.number // len(self.of.forms) % len(self.of.damages)]


@dataclass(frozen=True)
class Outcome:
    """What became of a trial: OK, a reason or one of FAILURES; what was told; and the cost."""

    trial: Trial
    result: str
    told: str
    seconds: float
    peak_mb: float


def run_trials(home: Path, seed: int, count: int, suite: str = "any") -> Iterator[Outcome]:
    """Run so many trials, one after the other; home: a folder for their files."""
    write_good(home, suite)
    for number in range(count):
        yield run_trial(home, Trial(seed, number, suite))


def write_good(home: Path, suite: str = "any") -> None:
    """Write the undamaged files of a suite, and what they are converted to where that is compared."""
    for form, write in SUITES[suite].forms.items():
        file = write(home / "good" / form)
        (home / f"{form}.damage").write_text(str(file.relative_to(home / "good" / form)))
        if SUITES[suite].checked:
            expected = home / "expected" / form
            expected.mkdir(parents=True)
            told = _converted(home / "good" / form, expected, None)
            assert told == (OK, "")


def put_damaged(home: Path, trial: Trial, subject: Path) -> None:
    """Write a subject whose file is damaged as in a trial."""
    shutil.copytree(home / "good" / trial.form, subject)
    damage(subject / (home / f"{trial.form}.damage").read_text(), trial)


def run_trial(home: Path, trial: Trial) -> Outcome:
    """Damage a copy of the good files of the trial's form and convert it."""
    subject = home / "trial" / "subject"
    shutil.rmtree(subject.parent, ignore_errors=True)
    put_damaged(home, trial, subject)
    expected = home / "expected" / trial.form if trial.of.checked else None
    out = home / "trial" / "out"
    out.mkdir()
    result, told, seconds, peak_mb = limited_process.run(
        lambda: _converted(subject, out, expected), SECONDS
    )
    return Outcome(trial, result, told, seconds, peak_mb)


def run_cohort(home: Path, trials: list[Trial], seconds: float) -> tuple[str, str, float]:
    """Convert subjects, each damaged as in a trial, in one process as a shard.

    Returns OK, or what failed and what was told; and the peak memory (MB).
    """
    place = home / "cohort"
    shutil.rmtree(place, ignore_errors=True)
    rows = []
    for trial in trials:
        subject = f"S{trial.number:05d}"
        put_damaged(home, trial, place / subject)
        rows.append({"subject": subject} | _sheet_row(place / subject))
    result, told, _, peak_mb = limited_process.run(lambda: _cohort_converted(place, rows), seconds)
    return result, told, peak_mb


def _cohort_converted(place: Path, rows: list[dict[str, str]]) -> tuple[str, str]:
    sheet, out = place / "subjects.tsv", place / "convert.parquet"
    lines = ["\t".join(rows[0]), *("\t".join(row.values()) for row in rows)]
    sheet.write_text("\n".join(lines) + "\n", encoding="utf-8")
    subjects = [row["subject"] for row in rows]
    convert_dicom(sheet, subjects, place / "results", out, workers=0)
    found = pq.read_table(out, columns=["subject"])["subject"].to_pylist()
    return (OK, "") if found == subjects else (LOST, f"{len(subjects)} subjects, {len(found)} rows")


def _converted(subject: Path, out: Path, expected: Path | None) -> tuple[str, str]:
    """Convert a subject; expected: a folder with what its undamaged files are converted to."""
    try:
        convert_subject({"S": _sheet_row(subject)}, Task("S", {}), out)
    except SubjectFault as fault:
        named = str(subject) in fault.message
        return (NONSENSE if named else str(fault.reason)), fault.message
    for file in sorted((out / "image").iterdir()):
        volume = read_volume(file)
        steps = np.linalg.norm(volume.affine[:3, :3], axis=0)
        low, high = SPACING_RANGE_MM
        if not (np.isfinite(volume.affine).all() and low <= steps.min() <= steps.max() <= high):
            return NONSENSE, f"affine {volume.affine.tolist()}"
        if not (np.isfinite(volume.array).all() and np.abs(volume.array).max() <= LARGEST_VALUE):
            return NONSENSE, f"values from {volume.array.min()} to {volume.array.max()}"
    if expected is not None and _stacks_of(out) != _stacks_of(expected):
        return OTHER, "converted, but not to what the undamaged file gives"
    return OK, ""


def _stacks_of(folder: Path) -> dict[str, bytes]:
    """Return the volumes of a subject's folder by their names, uncompressed."""
    files = folder.rglob("*.nii.gz")
    return {str(f.relative_to(folder)): gzip.decompress(f.read_bytes()) for f in files}
