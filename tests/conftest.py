"""The real material, where it is at hand, and subject sheets; keeps the garbage collector away from what all tests share."""

import gc
import os
from pathlib import Path

import pytest


def pytest_collection_finish():
    """Leave the modules that are imported, and the tests, out of every later garbage collection.

    statsmodels runs a full collection at each correction of p values.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def real_data():
    """The folder of real material."""
    home = os.environ.get("PARAVERT_REAL_DATA")
    if home is None:
        pytest.skip("PARAVERT_REAL_DATA is not set")
    return Path(home)


@pytest.fixture(scope="session")
def real_study(real_data):
    """The real lumbar study: an axial series of five stacks and three sagittal ones."""
    return real_data / "lumbar_study_cc0"


@pytest.fixture
def sheet(tmp_path):
    """A function that writes a subject sheet and returns its path."""

    def write(text, encoding="utf-8"):
        path = tmp_path / "subjects.tsv"
        path.write_bytes(text.encode(encoding))
        return path

    return write
