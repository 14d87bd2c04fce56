"""Files with random damage end in ok or a reason: the short form of benchmark/fuzz_conversion.py."""

import random

import pytest

from damaged_files import (
    DAMAGES,
    FAILURES,
    FORMS,
    OK,
    SUITES,
    Trial,
    run_cohort,
    run_trials,
    write_good,
)

pytestmark = pytest.mark.long

TRIALS = 2 * len(FORMS) * len(DAMAGES)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    return list(run_trials(tmp_path_factory.mktemp("damaged"), seed=3, count=TRIALS))


def test_every_form_in_every_kind_of_damage_is_tried_twice(outcomes):
    tried = [(outcome.trial.form, outcome.trial.how) for outcome in outcomes]
    assert all(tried.count((form, how)) == 2 for form in FORMS for how in DAMAGES)


def test_a_damaged_file_is_converted_or_has_a_reason_within_five_seconds_and_a_gigabyte(outcomes):
    failed = [outcome for outcome in outcomes if outcome.result in FAILURES]
    assert not failed


@pytest.mark.parametrize("suite", ["nifti", "gzip"])
def test_a_nifti_file_with_chosen_damage_is_converted_rightly_or_has_a_reason(suite, tmp_path):
    trials = 2 * len(SUITES[suite].forms) * len(SUITES[suite].damages)
    outcomes = list(run_trials(tmp_path, seed=3, count=trials, suite=suite))
    assert not [outcome for outcome in outcomes if outcome.result in FAILURES]
    assert 0 < sum(outcome.result == OK for outcome in outcomes) < trials


@pytest.mark.parametrize("suite", ["nifti", "gzip"])
def test_each_of_many_damaged_subjects_has_its_row(suite, tmp_path):
    write_good(tmp_path, suite)
    result, told, _ = run_cohort(tmp_path, [Trial(4, n, suite) for n in range(40)], seconds=60)
    assert (result, told) == (OK, "")


def test_some_damage_is_harmless_and_some_is_not(outcomes):
    harmless = sum(outcome.result == OK for outcome in outcomes)
    assert 0.2 * TRIALS < harmless < 0.8 * TRIALS


@pytest.mark.parametrize("how", list(DAMAGES))
def test_damage_does_change_the_bytes(how):
    content, chance = bytes(range(256)) * 8, random.Random(1)
    assert all(DAMAGES[how](content, place, chance) != content for place in range(0, 2048, 64))
