"""Every measurement that a document quotes says how it is called."""

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmark"
PROGRAMS = [file for file in BENCHMARKS.glob("*.py") if "__main__" in file.read_text()]


def test_every_place_that_is_to_be_broken_on_purpose_is_there():
    names = runpy.run_path(str(BENCHMARKS / "converter_mutations.py"))
    for change in names["MUTATIONS"]:
        module = names["ROOT"] / names["IMAGING"] / f"{change.module}.py"
        names["mutated"](module.read_text(encoding="utf-8"), change)


@pytest.mark.long
def test_a_network_with_coordinates_as_inputs_predicts():
    names = runpy.run_path(str(BENCHMARKS / "ablations.py"))
    network = names["CoordinateUNet"](names["Architecture"](width=1, levels=2))
    predictor = names["predictor_of"](network, 1.0)
    labels = predictor.stack_labels(np.eye(16)[None], (1.0, 1.0), apart_mm=5.0)
    assert labels.shape == (1, 16, 16)


@pytest.mark.long
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.stem)
def test_a_benchmark_answers_help_with_its_usage(program, tmp_path):
    words = [sys.executable, program, "--help"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith(f"usage: {program.name}")
