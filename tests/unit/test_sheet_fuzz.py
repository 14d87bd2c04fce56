"""Sheets with random damage lose no line: the short form of benchmark/fuzz_sheet.py."""

import pytest

from damaged_sheets import DAMAGES, FAILURES, FORMS, OK, TOLD, lines_of, run_trials
from paravert.sheet import read_sheet

TRIALS = 5 * len(FORMS) * len(DAMAGES)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    return list(run_trials(tmp_path_factory.mktemp("damaged"), seed=3, count=TRIALS))


def test_each_line_of_a_damaged_sheet_is_a_row_or_a_fault_is_told(outcomes):
    assert not [outcome for outcome in outcomes if outcome.result in FAILURES]


def test_some_damage_is_harmless_and_some_is_not(outcomes):
    for result in (OK, TOLD):
        assert sum(outcome.result == result for outcome in outcomes) > 0.1 * TRIALS


@pytest.mark.parametrize("form", FORMS)
def test_every_form_that_is_read_has_as_many_rows_as_lines(tmp_path, form):
    path = tmp_path / "sheet.csv"
    path.write_bytes(FORMS[form])
    assert len(read_sheet(path).rows) == len(lines_of(FORMS[form])) - 1 == 40
