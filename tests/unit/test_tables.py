import json

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from paravert import codebook, tables
from paravert.tables import NUMBER, SUBJECT, WHOLE, Column, Table

TABLE = Table(
    "areas",
    (
        SUBJECT,
        Column("csa_mm2", NUMBER, "mm2", meaning="area", minimum=0),
        Column("side", tables.TEXT, allowed=("left", "right"), required=True),
        Column("pixels", WHOLE, "1", meaning="pixels", maximum=100),
    ),
    keys=("subject", "side"),
    meaning="areas",
)
ROW = {"subject": "S1", "csa_mm2": 12.5, "side": "left", "pixels": 7}


def rows(*changes):
    return tables.from_rows(TABLE, [ROW | change for change in changes])


def test_a_table_comes_back_as_it_was_written(tmp_path):
    data = rows({}, {"side": "right", "csa_mm2": None})
    tables.write(tmp_path / "areas.parquet", TABLE, data, {})
    assert pq.read_table(tmp_path / "areas.parquet").to_pylist() == data.to_pylist()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ([{"csa_mm2": -1.0}], "csa_mm2: -1.0 is below 0"),
        ([{"csa_mm2": float("nan")}], "unknown is null"),
        ([{"side": "links"}], "side: values other than left, right"),
        ([{"side": None}], "side: 1 nulls"),
        ([{"pixels": 101}], "pixels: 101 is above 100"),
        ([{}, {}], "rows with the same subject, side"),
    ],
)
def test_what_a_column_does_not_allow_is_not_written(tmp_path, changes, told):
    with pytest.raises(ValueError, match=told):
        tables.write(tmp_path / "areas.parquet", TABLE, rows(*changes), {})
    assert not list(tmp_path.iterdir())


def test_a_column_that_the_table_does_not_know_is_a_fault():
    with pytest.raises(KeyError, match="fat"):
        tables.from_rows(TABLE, [{"fat": 1}])


def test_a_table_of_another_type_is_a_fault():
    data = rows({}).set_column(1, "csa_mm2", pa.array(["12"]))
    with pytest.raises(ValueError, match="expected"):
        tables.check(TABLE, data)


def test_tables_appear_together_or_not_at_all(tmp_path):
    def one_good_one_bad():
        with tables.whole_tables(tmp_path, [TABLE], {}) as append:
            append(TABLE, rows({}))
            append(TABLE, rows({"csa_mm2": -1.0}))

    with pytest.raises(ValueError, match="below"):
        one_good_one_bad()
    assert not list(tmp_path.iterdir())
    with tables.whole_tables(tmp_path, [TABLE], {}) as append:
        append(TABLE, rows({}))
        append(TABLE, rows({"subject": "S2"}))
    assert pq.read_table(tmp_path / "areas.parquet").num_rows == 2


@pytest.fixture(params=codebook.COHORT_TABLES, ids=lambda table: table.name)
def written(request, tmp_path):
    path = tmp_path / f"{request.param.name}.parquet"
    data = tables.from_rows(request.param, [])
    with tables.whole_tables(tmp_path, [request.param], {"run_id": "abc"}) as append:
        append(request.param, data)
    return request.param, path


def test_pyarrow_finds_unit_and_meaning_of_every_column(written):
    table, path = written
    schema = pq.read_schema(path)
    for column in table.columns:
        metadata = schema.field(column.name).metadata
        assert metadata[b"unit"].decode() == column.unit
        assert metadata[b"meaning"].decode() == column.meaning != ""


def test_pandas_finds_unit_and_meaning_of_every_column(written):
    table, path = written
    attributes = pd.read_parquet(path).attrs
    assert attributes["run_id"] == "abc"
    for column in table.columns:
        expected = {"unit": column.unit, "meaning": column.meaning}
        assert attributes["columns"][column.name] == expected


def test_duckdb_finds_unit_and_meaning_of_every_column(written):
    table, path = written
    found = duckdb.sql(f"SELECT key, value FROM parquet_kv_metadata('{path}')").fetchall()
    metadata = {bytes(key): bytes(value) for key, value in found}
    columns = json.loads(metadata[b"columns"])
    assert set(columns) == {column.name for column in table.columns}
    assert all(column["meaning"] for column in columns.values())


def test_no_column_has_a_name_that_pandas_or_sql_reserve():
    query = "SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category = 'reserved'"
    reserved = {word for (word,) in duckdb.sql(query).fetchall()}
    names = {column.name for table in codebook.COHORT_TABLES for column in table.columns}
    assert "group" in reserved
    assert not names & reserved
    assert not [name for name in names if hasattr(pd.DataFrame, name)]


NUMBERS_OF = ("stack_id", "slice", "series_number")  # they count nothing


def test_names_fit_into_stata_and_numbers_have_units():
    for table in codebook.COHORT_TABLES:
        for column in table.columns:
            assert len(column.name) <= 32
            numeric = column.type in (tables.NUMBER, tables.WHOLE)
            assert not numeric or column.unit or column.name in NUMBERS_OF, column.name
            for ending, unit in [("_mm2", "mm2"), ("_mm", "mm"), ("_ml", "ml"), ("_deg", "degree")]:
                if column.name.endswith(ending):
                    assert column.unit == unit
