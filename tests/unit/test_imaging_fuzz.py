"""Files with random damage end in ok or a reason: the short form of benchmark/fuzz_conversion.py."""

import random

import pytest

from damaged_files import DAMAGES, FAILURES, FORMS, OK, run_trials

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


def test_some_damage_is_harmless_and_some_is_not(outcomes):
    harmless = sum(outcome.result == OK for outcome in outcomes)
    assert 0.2 * TRIALS < harmless < 0.8 * TRIALS


@pytest.mark.parametrize("how", list(DAMAGES))
def test_damage_does_change_the_bytes(how):
    content, chance = bytes(range(256)) * 8, random.Random(1)
    assert all(DAMAGES[how](content, place, chance) != content for place in range(0, 2048, 64))
