"""Every step that works per shard stays within the memory that its rule asks for."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from dicom_writer import Plan, write_series
from paravert import cluster, steps
from paravert.imaging.convert import read_images
from paravert.imaging.volume import write_volume

REPOSITORY = Path(__file__).parents[2]
SIZE, SLICES = 512, 40
SUBJECTS = ("S1", "S2", "S3")
MUSCLE = 40  # pixels along each side of a square one
# Runs a command and tells the largest memory of any of its processes, in KiB.
WATCH = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], capture_output=True, text=True)
sys.stderr.write(done.stderr)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(done.returncode)
"""


def muscles(shape):
    """Return eight squares, those of the left on the patient's left: later columns."""
    labels = np.zeros(shape, np.uint8)
    middle = SIZE // 2
    for number in range(4):
        rows = slice(middle + number * MUSCLE, middle + (number + 1) * MUSCLE)
        labels[:, rows, middle + MUSCLE : middle + 2 * MUSCLE] = 2 * number + 1
        labels[:, rows, middle - 2 * MUSCLE : middle - MUSCLE] = 2 * number + 2
    return labels


def peak_mb(*words):
    done = subprocess.run(
        [sys.executable, "-c", WATCH, sys.executable, "-m", "paravert", *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "workflow")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout) / 1024


@pytest.fixture(scope="module")
def peaks(tmp_path_factory):
    """The largest process of each step, with two at work on subjects of 40 slices of 512 x 512."""
    folder = tmp_path_factory.mktemp("memory")
    plan = Plan(rows=SIZE, columns=SIZE, slices=SLICES, row_spacing=0.6, column_spacing=0.6, gap=4)
    write_series(folder / "dicom", plan)
    volume = read_images(str(folder / "dicom")).stacks[0].volume
    write_volume(folder / "truth.nii.gz", volume.with_array(muscles(volume.array.shape)))
    with (folder / "sheet.csv").open("w", newline="") as file:
        rows = [[subject, folder / "dicom", folder / "truth.nii.gz"] for subject in SUBJECTS]
        csv.writer(file).writerows([["subject", "images", "truth"], *rows])
    subjects = ["--folder", folder / "subjects"]
    model = yaml.safe_load((REPOSITORY / "config/config.yaml").read_text())["model"]
    convert = ["--sheet", folder / "sheet.csv", "--workers", 2]
    for subject in SUBJECTS:
        convert += ["--subject", subject]
    segment = ["--convert", folder / "convert.parquet", "--threads", 2, "--model"]
    segment += [REPOSITORY / model["file"], "--model-sha256", model["sha256"]]
    after = ["--segment", folder / "segment.parquet", "--workers", 2]
    options = dict.fromkeys(steps.STEPS, after)
    options |= {"convert_dicom": convert, "segment_muscles": segment}
    options["find_levels"] = [*after, "--sheet", folder / "sheet.csv"]
    options["dicomseg"] = [*after, "--model-sha256", model["sha256"]]
    return {
        name: peak_mb(
            name, *options[name], *subjects, "--out", folder / f"{step.table.name}.parquet"
        )
        for name, step in steps.STEPS.items()
    }


@pytest.mark.long
@pytest.mark.parametrize("step", steps.STEPS)
def test_a_job_stays_within_the_memory_that_its_rule_asks_for(peaks, step):
    processes = 3  # two workers, and one that hands out the work
    assert processes * peaks[step] <= cluster.memory_mb(step, workers=2)
