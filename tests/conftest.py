"""The real material, where it is at hand, and subject sheets; the order of the tests; garbage collection."""

import gc
import os
from pathlib import Path

import pytest

FIRST_FILE = "test_study.py"


def pytest_collection_modifyitems(items):
    """Put the tests of whole studies, but for one file, behind those of single steps.

    The first of them makes a study that all of them copy, in a minute. In the meantime a second process has
    other files to work on, and does not wait for it.
    """
    items.sort(key=_place)


def _place(item):
    folder = item.path.parent.name
    return item.path.name != FIRST_FILE, folder != "steps", folder != "workflow"


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
