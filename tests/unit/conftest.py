"""The real material, where it is at hand."""

import os
from pathlib import Path

import pytest


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
