"""Patterns that choose one of several axial series, checked against what conversion does with them."""

import os
import subprocess
import sys

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as some

from paravert.archive.assessment import Candidate
from paravert.archive.descriptions import as_configuration, chosen_series, propose

NAMES = ("t2_tse", "T1 (tra)", "pd", "", "scan*", "T2 İNCE", '"\U00020bb7"')


def examination(*descriptions, accepted=True):
    sequences = {"t2_tse": "T2", "T1 (tra)": "T1", "pd": "PD"}
    return tuple(
        Candidate((row,), text, sequences.get(text, "unknown"), accepted)
        for row, text in enumerate(descriptions)
    )


def test_of_equal_patterns_t2_comes_first():
    told = propose({"A": [examination("T1 (tra)", "t2_tse")]})
    assert told.texts == ("^t2_tse$",)
    assert [(p.text, p.sequence, p.alone) for p in told.others] == [(r"^t1 \(tra\)$", "T1", 1)]


def test_the_pattern_that_settles_most_comes_first():
    told = propose(
        {
            "A": [examination("T1 (tra)", "t2_tse")],
            "B": [examination("T1 (tra)", "pd")],
            "C": [examination("pd", "scan*")],
        }
    )
    assert told.texts == (r"^t1 \(tra\)$", "^pd$")
    counts = [(p.settles, p.alone, p.subjects) for p in told.patterns]
    assert counts == [(2, 2, 2), (1, 2, 2)]
    assert (told.subjects, told.settled) == (3, 3)


def test_a_series_that_conversion_refuses_settles_nobody():
    refused = examination("t2_tse", accepted=False)
    told = propose({"A": [refused + (Candidate((1,), "pd", "PD", True),)]})
    assert told.texts == ("^pd$",)


def test_all_visits_of_a_subject_must_be_settled():
    told = propose({"A": [examination("t2_tse", "pd"), examination("pd", "pd")]})
    assert told.texts == ()
    assert (told.subjects, told.settled) == (1, 0)


def visits(*sequences):
    """Return an examination per pair of sequences, those of the axial series "ax" and "sag t"."""
    return [
        (Candidate((0,), "ax", ax, True), Candidate((1,), "sag t", sag, True))
        for ax, sag in sequences
    ]


@pytest.mark.parametrize(
    ("sequences", "pattern"),
    [
        ((("T1", "T2"), ("T2", "T1")), "^ax$"),
        ((("T1", "T2"), ("PD", "T1")), "^sag t$"),
        ((("other", "unknown"), ("unknown", "other")), "^ax$"),
    ],
)
def test_of_equally_frequent_classes_the_preferred_one_counts_in_any_order(sequences, pattern):
    one = {str(number): visits(pair) for number, pair in enumerate(sequences)}
    two = {str(number): visits(pair) for number, pair in enumerate(reversed(sequences))}
    assert propose(one).texts == propose(two).texts == (pattern,)
    assert propose(one) == propose(two)


@pytest.mark.parametrize("seed", ["1", "2"])
def test_patterns_do_not_depend_on_the_hash_seed(seed):
    code = """
from test_archive_descriptions import propose, visits
print(*propose({"A": visits(("T1", "T2"), ("PD", "T1"))}).texts)
"""
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": paths}
    words = [sys.executable, "-c", code]
    assert subprocess.check_output(words, env=environment, text=True) == "^sag t$\n"


def test_nobody_without_competing_series_needs_a_pattern():
    assert propose({}).subjects == 0


@settings(max_examples=60, deadline=None)
@given(
    some.dictionaries(
        some.integers(0, 30),
        some.lists(
            some.lists(some.sampled_from(NAMES), min_size=2, max_size=4).map(
                lambda names: examination(*names)
            ),
            min_size=1,
            max_size=2,
        ),
        max_size=12,
    )
)
def test_a_proposal_settles_those_that_it_counts(cohort):
    told = propose({str(number): visits for number, visits in cohort.items()})
    settled = [v for v in cohort.values() if all(chosen_series(e, told.texts) for e in v)]
    assert told.settled == len(settled) == sum(pattern.settles for pattern in told.patterns)
    assert told.subjects == len(cohort)
    configured = yaml.safe_load(as_configuration(told))["convert_dicom"]["series_description"]
    assert tuple(configured) == told.texts
