"""How long a series of 40 slices of 512 x 512 takes to convert, beside bare decoders and dcm2niix.

python tests/benchmark/conversion_speed.py [FOLDER for the series]
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import dcm2niix
import numpy as np
import pydicom
from pydicom.pixels import get_decoder
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY / "workflow"), str(REPOSITORY / "tests")]

from dicom_writer import Plan, write_series  # noqa: E402
from gdcm_encoder import compress_file  # noqa: E402
from paravert.imaging.convert import read_images  # noqa: E402
from paravert.imaging.volume import write_volume  # noqa: E402
from paravert.subject_folder import SubjectFolder  # noqa: E402

PLAN = Plan(rows=512, columns=512, slices=40, row_spacing=0.5, column_spacing=0.5, gap=4)
NOISE = 20.0  # of 4095: real images do not compress like smooth ones
RUNS = 5
PLUGINS = {  # of pydicom, for the bare decoders
    ExplicitVRLittleEndian: "",
    RLELossless: "pydicom",
    JPEGLosslessSV1: "gdcm",
    JPEGLSLossless: "pyjpegls",
    JPEG2000Lossless: "pylibjpeg",
}


def write(folder: Path, syntax: UID) -> list[Path]:
    """Write the series; returns its files."""
    random = np.random.default_rng(1)

    def add_noise(data: pydicom.Dataset, _: int) -> None:
        values = np.frombuffer(data.PixelData, "<u2") + random.normal(0, NOISE, 512 * 512)
        data.PixelData = np.clip(values, 0, 4095).astype("<u2").tobytes()

    if syntax != JPEGLosslessSV1:
        return write_series(folder, PLAN, edit=add_noise, syntax=syntax)
    return [compress_file(file, syntax) for file in write_series(folder, PLAN, edit=add_noise)]


def decode(files: list[Path]) -> None:
    """Read the files one after the other and decode them, nothing else."""
    for file in files:
        data = pydicom.dcmread(file)
        syntax = data.file_meta.TransferSyntaxUID
        options = {"decoding_plugin": PLUGINS[syntax]}
        get_decoder(syntax).as_array(data, raw=True, **options)


def convert(folder: Path, out: Path) -> None:
    """Read a series and write its stacks, as the step does in process."""
    for number, stack in enumerate(read_images(str(folder)).stacks, start=1):
        write_volume(SubjectFolder(out).stack_file("image", number), stack.volume)


def command(folder: Path, out: Path) -> None:
    """Run convert_dicom as a rule does, the start of Python included."""
    sheet = out / "sheet.csv"
    sheet.write_text(f"subject,images\nA,{folder}\n")
    options = [
        "--sheet",
        sheet,
        "--subject",
        "A",
        "--folder",
        out,
        "--out",
        out / "convert.parquet",
    ]
    _run(sys.executable, "-m", "paravert", "convert_dicom", *options)


def run_dcm2niix(folder: Path, out: Path) -> None:
    """Run dcm2niix with its own compression, as a command."""
    _run(dcm2niix.bin, "-z", "i", "-b", "n", "-o", out, folder)


def _run(*words: object) -> None:
    done = subprocess.run(
        [str(word) for word in words],
        env={"PYTHONPATH": str(REPOSITORY / "workflow")},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)


def peak_mb(folder: Path) -> float:
    """Return the largest memory of a process that converts a series, and of its decoder."""
    told = (
        "import resource, sys; from pathlib import Path; sys.path[:0] = sys.argv[3:]\n"
        "from conversion_speed import convert; convert(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "from paravert.imaging import decoder_process\n"
        "decoder_process.stop_decoder()\n"
        "who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)\n"
        "print(max(resource.getrusage(one).ru_maxrss for one in who))"
    )
    with tempfile.TemporaryDirectory() as out:
        words = [sys.executable, "-c", told, folder, out, Path(__file__).parent]
        done = subprocess.run([str(w) for w in words], capture_output=True, text=True, check=True)
    return int(done.stdout) / 1024


def seconds(function: Callable, *arguments: object) -> float:
    """Return the median time of a function after a first run that is not counted."""
    taken = []
    for _ in range(RUNS + 1):
        with tempfile.TemporaryDirectory() as out:
            start = time.perf_counter()
            function(*arguments, *([Path(out)] if function is not decode else []))
            taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:])


def main(folder: Path) -> None:
    """Print a line for each transfer syntax."""
    print(f"40 slices of 512 x 512, seconds, median of {RUNS} runs; peak memory")
    print(f"{'':42s} {'decoder':>8s} {'read':>8s} {'convert':>8s} {'command':>8s} {'dcm2niix':>9s}")
    for syntax in PLUGINS:
        home = folder / syntax.keyword
        files = write(home, syntax)
        bare, read = seconds(decode, files), seconds(lambda home, _: read_images(str(home)), home)
        times = [bare, read, *(seconds(f, home) for f in (convert, command, run_dcm2niix))]
        told = " ".join(f"{taken:8.3f}" for taken in times)
        print(
            f"{syntax.keyword:42s} {told}  {peak_mb(home):5.0f} MB, read/decoder {read / bare:.2f}"
        )


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("folder", nargs="?", type=Path, help="where to write the series")
    with tempfile.TemporaryDirectory() as scratch:
        main(options.parse_args().folder or Path(scratch))
