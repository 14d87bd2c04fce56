"""Large cohorts: no number depends on what is gathered together, and memory does not grow."""

import json
import tracemalloc

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from made_from import CONFIGURATION
from paravert import codebook, plan, tables
from paravert.study import cohort
from paravert.study.cohort import chunks, gather_cohort
from paravert.study.data_frames import read_by_scan, read_frame
from shard_tables import write_shards
from study_tables import cohort_rows, write_card


class Cohort:
    """A folder with a sheet and shard tables, and how it is gathered."""

    def __init__(self, folder, subjects, per_shard, slices=4):
        self.folder, self.per_shard = folder, per_shard
        self.names = [f"S{number:04d}" for number in range(subjects)]
        folder.mkdir()
        write_card(folder / "model.json")
        self.write_sheet(self.names)
        write_shards(folder / "shards", plan.shard_plan(self.names, per_shard), slices)

    def write_sheet(self, names):
        lines = [f"{name},{name},{'FM'[int(name[1:]) % 2]},{name[-2:]},170" for name in names]
        header = "subject,images,sex,age_years,height_cm"
        (self.folder / "sheet.csv").write_text("\n".join([header, *lines]))

    def gather(self):
        gather_cohort(
            self.folder / "sheet.csv",
            self.folder / "shards",
            self.folder / "cohort",
            "otsu_subject",
            json.dumps(CONFIGURATION),
            self.folder / "model.safetensors",
            "0" * 64,
            self.per_shard,
        )

    def tables(self):
        self.gather()
        return {t.name: read_frame(self.folder / "cohort", t) for t in codebook.COHORT_TABLES}


def assert_same_to_the_last_digit(one, other):
    assert len(one["slices"]) > 1000
    for name, frame in one.items():
        pd.testing.assert_frame_equal(frame, other[name], check_exact=True, obj=name)


def test_gathering_by_shard_equals_gathering_at_once(tmp_path, monkeypatch):
    study = Cohort(tmp_path / "study", subjects=60, per_shard=8)
    whole = study.tables()
    monkeypatch.setattr(cohort, "SUBJECTS_AT_ONCE", 1)
    assert_same_to_the_last_digit(study.tables(), whole)


@pytest.mark.parametrize("per_shard", [1, 64])
def test_no_number_depends_on_the_size_of_the_shards(tmp_path, per_shard):
    one = Cohort(tmp_path / "one", 60, per_shard=8)
    other = Cohort(tmp_path / "other", 60, per_shard=per_shard)
    assert_same_to_the_last_digit(one.tables(), other.tables())


def test_neither_the_order_of_the_sheet_nor_that_of_the_shards_matters(tmp_path, monkeypatch):
    study = Cohort(tmp_path / "study", 60, per_shard=8)
    before = study.tables()
    in_order = plan.shard_plan
    study.write_sheet(study.names[::-1])
    monkeypatch.setattr(plan, "shard_plan", lambda *given: dict(reversed(in_order(*given).items())))
    assert_same_to_the_last_digit(study.tables(), before)


def peak_bytes(study):
    """Return the most memory that gathering takes, in Python and in Arrow, after the sheet is read."""
    pool = pa.default_memory_pool()
    tracemalloc.start()
    try:
        before, largest = pool.bytes_allocated(), None
        make = cohort._rows_of_chunk

        def watched(*given):
            nonlocal largest
            if largest is None:
                tracemalloc.reset_peak()  # reading the sheet takes a buffer of 128 MiB
                largest = 0
            made = make(*given)
            largest = max(largest, pool.bytes_allocated() - before)
            return made

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cohort, "_rows_of_chunk", watched)
            study.gather()
        return tracemalloc.get_traced_memory()[1] + largest
    finally:
        tracemalloc.stop()


@pytest.mark.long
def test_memory_does_not_grow_with_the_number_of_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(cohort, "SUBJECTS_AT_ONCE", 24)
    few = Cohort(tmp_path / "few", 24, per_shard=8, slices=36)
    many = Cohort(tmp_path / "many", 240, per_shard=8, slices=36)
    assert len(list((few.folder / "shards").iterdir())) == 4
    assert len(list((many.folder / "shards").iterdir())) > 28
    few.gather()  # the first time takes more
    # Shards differ in size by chance; all at once would take ten times as much.
    assert peak_bytes(many) < 2.5 * peak_bytes(few)


def test_shards_are_gathered_together_up_to_a_number_of_subjects():
    plan = {"a": ["1", "2"], "b": ["3"], "c": ["4", "5", "6", "7"], "d": ["8"]}
    found = [shards for shards, _ in chunks(plan, most=3)]
    assert found == [["a", "b"], ["c"], ["d"]]
    assert [s for _, subjects in chunks(plan, most=3) for s in subjects] == list("12345678")


def write_in_row_groups(path, rows, size):
    data = tables.from_rows(codebook.SLICES, rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(data, path, row_group_size=size)


@pytest.mark.parametrize("size", [1, 7, 48, 100, 10_000])
def test_a_table_is_read_by_whole_subjects_wherever_its_row_groups_end(tmp_path, size):
    rows = cohort_rows(5)["slices"]
    write_in_row_groups(tmp_path / "slices.parquet", rows, size)
    parts = list(read_by_scan(tmp_path, codebook.SLICES, ("subject", "csa_mm2")))
    subjects = [subject for part in parts for subject in part["subject"].unique()]
    assert len(subjects) == len(set(subjects)) == 5
    areas = [area for part in parts for area in part["csa_mm2"]]
    assert areas == [row["csa_mm2"] for row in rows]


def test_a_subject_whose_rows_do_not_stand_together_is_a_fault(tmp_path):
    rows = cohort_rows(3)["slices"]
    write_in_row_groups(tmp_path / "slices.parquet", [*rows[1:], rows[0]], 10)
    with pytest.raises(ValueError, match="1 subjects whose rows"):
        list(read_by_scan(tmp_path, codebook.SLICES, ("subject",)))
