"""Headers per second and core that make_sheet reads.

python tests/benchmark/archive_speed.py [--files N] [--others N] [--workers N] [--folder F]

Writes an archive of small MR files with long headers, four axial or sagittal series of 25 slices per
person, and as many other files as it is told. Measures the whole command: listing, reading, the rules
of conversion, and writing. The files were just written, so that they are in the page cache.
"""

import argparse
import csv
import resource
import sys
import tempfile
import time
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY / "workflow"), str(REPOSITORY / "tests")]

from archives import SAGITTAL  # noqa: E402
from dicom_writer import Plan, save, slice_dataset, uid  # noqa: E402
from paravert.archive.make_sheet import make_sheet  # noqa: E402

SLICES = 25
SERIES = {"t2_sag": SAGITTAL, "t1_sag": SAGITTAL, "t2_tra": Plan(), "t1_tra": Plan()}
SMALL = {"rows": 16, "columns": 16, "slices": SLICES}
PRIVATE_BYTES = 8192  # such as Siemens' protocol
ELEMENTS = 150  # of a scanner's header, beside those of the phantom


def main() -> None:
    """Write the archive and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--files", type=int, default=20_000, help="MR files")
    parser.add_argument("--others", type=int, default=2_000, help="files that are not DICOM")
    parser.add_argument("--workers", type=int, default=1, help="processes that read")
    parser.add_argument("--folder", type=Path, help="where to write; a temporary one unless given")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=told.folder) as place:
        archive = Path(place, "archive")
        people = -(-told.files // (SLICES * len(SERIES)))
        for person in range(people):
            write_person(archive, person)
        for number in range(told.others):
            folder = archive / f"{number % people:05d}"
            (folder / f"note-{number}.txt").write_text("no image")
        measure(archive, Path(place, "sheet.csv"), told.workers)


def write_person(archive: Path, person: int) -> None:
    """Write four series of a person."""
    for number, (series, plan) in enumerate(SERIES.items(), start=1):
        for index in range(SLICES):
            data = slice_dataset(Plan(**{**vars(plan), **SMALL}), index, series)
            data.PatientID, data.StudyInstanceUID = f"ID{person}", uid("study", person)
            data.SeriesInstanceUID, data.SeriesNumber = uid(person, series), number
            data.StudyDate = "20200101"
            lengthen(data)
            file = archive / f"{person:05d}" / series / f"{index:04d}.dcm"
            save(data, file, ExplicitVRLittleEndian)


def lengthen(data: Dataset) -> None:
    """Add private elements, as scanners do."""
    block = data.private_block(0x0029, "PHANTOM", create=True)
    for number in range(ELEMENTS):
        block.add_new(number, "LO", f"value {number}")
    block.add_new(ELEMENTS, "OB", bytes(PRIVATE_BYTES))


def measure(archive: Path, sheet: Path, workers: int) -> None:
    """Run the command and print what it took."""
    files = sum(1 for path in archive.rglob("*.dcm"))
    began, before = time.perf_counter(), cpu_seconds()
    make_sheet(archive, sheet, workers=workers)
    wall, cpu = time.perf_counter() - began, cpu_seconds() - before
    with sheet.open(encoding="utf-8") as text:
        lines = sum(1 for _ in csv.DictReader(text))
    print(f"{files} headers, {lines} lines of the sheet, {workers} workers")
    print(f"wall {wall:.1f} s: {files / wall:.0f} headers/s")
    print(f"processor {cpu:.1f} s: {files / cpu:.0f} headers/s and core")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {own:.0f} MB, of a worker {peak:.0f} MB")


def cpu_seconds() -> float:
    """Return the processor time of this process and of its ended children."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(u.ru_utime + u.ru_stime for u in used)


if __name__ == "__main__":
    main()
