"""The time that jobs ask for, against what was measured (docs/scale.md)."""

import re
from pathlib import Path

import pytest

from paravert.cluster import COHORT_SECONDS, JOB_MINUTES, cohort_minutes

SCALE = (Path(__file__).parents[2] / "docs/scale.md").read_text()
MEASURED = SCALE.partition("## The whole cohort")[2].partition("\n## ")[0]


def seconds_of_100_000(step):
    """Return what was measured with most subjects, in proportion."""
    (row,) = re.findall(rf"^\| {step}(?:, CSV)? \|(.*)\|$", MEASURED, re.MULTILINE)
    seconds = [re.match(r" *([\d.]+) s", cell) for cell in row.split("|")]
    cell, most = [(c, s) for c, s in zip(seconds, (1_000, 10_000, 100_000), strict=True) if c][-1]
    return float(cell[1]) * 100_000 / most


@pytest.mark.parametrize("step", COHORT_SECONDS)
def test_a_large_cohort_gets_ten_times_what_it_was_measured_to_take(step):
    granted = 60 * (cohort_minutes(step, 100_000) - JOB_MINUTES)
    assert granted >= 10 * seconds_of_100_000(step)


@pytest.mark.parametrize("step", COHORT_SECONDS)
def test_a_small_cohort_asks_for_minutes(step):
    assert cohort_minutes(step, 1_000) <= JOB_MINUTES + 1
