"""The benchmark that plants faults in the converter still finds the places for them."""

import importlib.util
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).parents[1] / "benchmark/converter_mutations.py"
SPEC = importlib.util.spec_from_file_location(FILE.stem, FILE)
mutations = sys.modules[FILE.stem] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(mutations)


@pytest.mark.parametrize("change", mutations.MUTATIONS, ids=lambda change: change.name)
def test_every_mutation_finds_its_place(change):
    text = (mutations.ROOT / mutations.IMAGING / f"{change.module}.py").read_text(encoding="utf-8")
    assert mutations.mutated(text, change) != text
