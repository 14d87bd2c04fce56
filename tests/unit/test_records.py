import json

import pytest

from paravert.records import ANALYSED, Outcome, Result, ResultStore


@pytest.fixture
def place(tmp_path):
    return ResultStore(tmp_path / "S1", "segment_muscles", "segment.json", ("labels",))


def test_who_is_at_work_for_another_job_counts_as_no_death(place):
    with place.begun("made from this"):
        assert not place.count_crash("made from this")
    assert place.crashes("made from this") == 0


def test_a_file_that_was_gone_before_its_record_came_is_harmed(place):
    with place.begun("made from this") as scratch:
        place.put(scratch, Result(Outcome("S1", ANALYSED, "made from this"), []))
    record = json.loads((place.home / "segment.json").read_text())
    record["files"] = {"labels/stack-01.nii.gz": None}
    (place.home / "segment.json").write_text(json.dumps(record))
    assert place.stored().changed == ("labels/stack-01.nii.gz",)
    assert place.held("made from this") is None
