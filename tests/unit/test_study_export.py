"""What opens the tables elsewhere finds the same values, what they mean, and where they come from."""

import json
import shutil
import subprocess

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from paravert import codebook, tables
from paravert.outputs import EXPORTS
from paravert.study.export import add_stata_notes, export_tables, variable_names
from paravert.tables import Column
from study_tables import cohort_rows

PROVENANCE = {
    "software_version": "1.2.3",
    "model_sha256": "a" * 64,
    "configuration_sha256": "b" * 64,
    "run_id": "0123456789ab",
}
LONG = (
    "a meaning of more than eighty characters, which Stata would refuse as the label of a variable"
)
FINDINGS = tuple(
    "a finding in more words than a label of SPSS has room for; " * 3 + end for end in "ab"
)
CARRIED = (
    Column("finding", tables.TEXT, meaning="category, from the sheet", allowed=FINDINGS),
    Column("if", tables.TEXT, meaning=LONG, allowed=("high", "low")),
    Column("Körpergröße im Sitzen", tables.NUMBER, "cm", "number, from the sheet"),
    Column("smoker", tables.FLAG, meaning="yes/no, from the sheet"),
    Column("comment", tables.TEXT, meaning="text, from the sheet"),
)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Cohort tables of six subjects and one that was quarantined, with other columns of the sheet."""
    folder = tmp_path_factory.mktemp("cohort")
    cohort_tables = codebook.tables_with(CARRIED)
    rows = cohort_rows(6, quarantined=1)
    for number, row in enumerate(rows["subjects"] + rows["ledger"]):
        row["if"] = ("low", "high", None)[number % 3]
        row["Körpergröße im Sitzen"] = 80.0 + number if number % 2 else None
        row["finding"] = (*FINDINGS, None)[number % 3]
        row["smoker"] = (True, False, None)[number % 3]
        row["comment"] = None if number % 2 else "ä; “quoted”, twice" * 20
    for table in cohort_tables:
        data = tables.from_rows(table, rows[table.name])
        tables.write(folder / f"{table.name}.parquet", table, data, PROVENANCE)
    codebook.write_datapackage(folder / "datapackage.json", PROVENANCE, cohort_tables)
    return folder


@pytest.fixture(scope="module")
def exported(cohort):
    """The folder of the exports in every format."""
    pytest.importorskip("pyreadstat")
    out = cohort / "exports"
    export_tables(cohort, list(EXPORTS), out)
    return out


NAMES = [table.name for table in codebook.COHORT_TABLES]


@pytest.mark.parametrize("name", NAMES)
def test_csv_has_the_same_values_in_pandas_and_duckdb(cohort, tmp_path, name):
    export_tables(cohort, ["csv"], tmp_path)
    expected = pd.read_parquet(cohort / f"{name}.parquet")
    file = tmp_path / f"csv/{name}.csv"
    found = pd.read_csv(file)
    assert list(found) == list(expected)
    for column in expected:
        values = expected[column]
        if column == "warnings":
            values = values.map(" ".join).replace("", np.nan)
        same = found[column].isna() == values.isna()
        assert same.all(), column
        known = values.notna()
        assert found[column][known].tolist() == values[known].tolist(), column
    count = duckdb.sql(f"SELECT count(*) FROM read_csv('{file}')").fetchall()[0][0]
    assert count == len(expected)


def test_csv_comes_with_its_description_and_provenance(cohort, tmp_path):
    export_tables(cohort, ["csv"], tmp_path)
    package = json.loads((tmp_path / "csv/datapackage.json").read_text())
    assert {name: package[name] for name in PROVENANCE} == PROVENANCE
    assert {one["path"] for one in package["resources"]} == {f"{name}.csv" for name in NAMES}
    assert all((tmp_path / "csv" / one["path"]).is_file() for one in package["resources"])


def decoded(frame, labels, types):
    """Return a frame of codes with the words that they stand for."""
    for name, words in labels.items():
        frame[name] = frame[name].map(words, na_action="ignore")
    for name in types:
        frame[name] = frame[name].replace("", None)
    return frame


@pytest.mark.parametrize("kind", ["stata", "spss"])
@pytest.mark.parametrize("name", NAMES)
def test_stata_and_spss_have_the_same_values_and_labels(cohort, exported, name, kind):
    import pyreadstat

    file = exported / kind / f"{name}.{EXPORTS[kind]}"
    read = {"stata": pyreadstat.read_dta, "spss": pyreadstat.read_sav}[kind]
    found, meta = read(file)
    expected = pd.read_parquet(cohort / f"{name}.parquet")
    schema = pq.read_schema(cohort / f"{name}.parquet")
    assert list(found) == variable_names(expected)
    for column, variable in zip(expected, found, strict=True):
        values, cells = expected[column], found[variable]
        if column == "warnings":
            values = values.map(" ".join)
        if labels := meta.variable_value_labels.get(variable):
            cells = cells.map(labels, na_action="ignore")
            if schema.field(column).type == tables.FLAG:
                values = values.map({True: "yes", False: "no"}, na_action="ignore")
        values, cells = (one.replace("", None) for one in (values, cells))
        assert (values.isna() == cells.isna()).all(), column
        known = values.notna()
        assert cells[known].tolist() == values[known].tolist(), column
        meaning = schema.field(column).metadata[b"meaning"].decode()
        label = meta.column_names_to_labels[variable]
        assert 0 < len(label) <= 80
        assert label.removesuffix("...").startswith(meaning[:60])
        notes = " ".join("\n".join(meta.notes).split())
        assert kind == "stata" or " ".join(meaning.split()) in notes
    told = "\n".join(meta.notes)
    for value in PROVENANCE.values():
        assert value in told.replace("\n", "")
    assert meta.file_label == "paravert 1.2.3, run 0123456789ab"


def test_an_own_category_has_its_words_as_value_labels(exported):
    import pyreadstat

    _, meta = pyreadstat.read_dta(exported / "stata/subjects.dta")
    assert meta.variable_value_labels["v_if"] == {1: "high", 2: "low"}
    assert meta.column_names_to_labels["v_if"] == f"{LONG[:77]}..."
    _, meta = pyreadstat.read_dta(exported / "stata/muscles.dta")
    assert list(meta.variable_value_labels["side"].values()) == ["left", "right"]


def test_pandas_reads_the_stata_file_that_got_notes(exported):
    found = pd.read_stata(exported / "stata/muscles.dta")
    assert found.muscle.cat.categories[0] == "psoas_major"
    with pd.read_stata(exported / "stata/muscles.dta", iterator=True) as reader:
        assert reader.variable_labels()["csa_mean_mm2"].startswith("mean csa_mm2 over the slices")


def test_the_notes_of_stata_have_the_whole_meaning_of_each_variable(exported):
    content = (exported / "stata/subjects.dta").read_bytes()
    characteristics = content.partition(b"<characteristics>")[2].partition(b"</characteristics>")[0]
    parts = [part.partition(b"<ch>")[2] for part in characteristics.split(b"</ch>")[:-1]]
    found = {}
    for part in parts:
        variable, key = (part[start : start + 129].split(b"\0")[0] for start in (4, 133))
        assert int.from_bytes(part[:4], "little") == len(part) - 4
        found[variable.decode(), key.decode()] = part[262:-1].decode()
    assert found["v_if", "note0"] == "1"
    assert found["v_if", "note1"] == f"v_if (if): {LONG}"
    assert found["_dta", "note0"] == "5"


def test_a_file_of_another_format_gets_no_notes(tmp_path):
    pyreadstat = pytest.importorskip("pyreadstat")
    pyreadstat.write_dta(pd.DataFrame({"x": [1.0]}), tmp_path / "old.dta", version=12)
    with pytest.raises(ValueError, match="not a Stata file of format 118"):
        add_stata_notes(tmp_path / "old.dta", tmp_path / "new.dta", {})


def has_haven():
    if not shutil.which("Rscript"):
        return False
    asked = ["Rscript", "-e", "quit(status = !requireNamespace('haven', quietly = TRUE))"]
    return subprocess.run(asked, check=False, capture_output=True).returncode == 0


@pytest.mark.skipif(not has_haven(), reason="needs R with haven")
@pytest.mark.parametrize("kind", ["stata", "spss"])
def test_haven_reads_values_and_labels(cohort, exported, kind):
    file = exported / kind / f"muscles.{EXPORTS[kind]}"
    read = {"stata": "read_dta", "spss": "read_sav"}[kind]
    code = f"""
        m <- haven::{read}("{file}")
        cat(sprintf("%.17g", sum(m$volume_ml)), attr(m$volume_ml, "label"),
            as.character(haven::as_factor(m$muscle[1])), sep = "\n")
    """
    done = subprocess.run(["Rscript", "-e", code], capture_output=True, text=True, check=True)
    total, label, muscle = done.stdout.splitlines()
    expected = pd.read_parquet(cohort / "muscles.parquet")
    assert float(total) == pytest.approx(expected.volume_ml.sum(), rel=1e-12)
    assert label.startswith("sum of csa_mm2 x slab_mm")
    assert muscle == expected.muscle[0]


def test_names_are_valid_and_different_whatever_their_case():
    names = [
        "bmi",
        "BMI",
        "if",
        "strL",
        "str5",
        "Größe (cm)",
        "1st",
        "_n",
        "x" * 40,
        "x" * 41,
        "漢" * 30,
    ]
    found = variable_names(names)
    assert found[:8] == ["bmi", "BMI_2", "v_if", "v_strL", "v_str5", "Größe__cm_", "v_1st", "v__n"]
    assert found[8:10] == ["x" * 32, "x" * 28 + "_2"]
    assert len({name.lower() for name in found}) == len(names)
    assert all(len(name) <= 32 and len(name.encode()) <= 64 for name in found)


def test_names_that_recur_are_numbered():
    assert variable_names(["a", "A", "a", "a"]) == ["a", "A_2", "a_3", "a_4"]


def test_tables_without_rows_are_written(cohort, tmp_path):
    pytest.importorskip("pyreadstat")
    empty = shutil.copytree(cohort, tmp_path / "cohort", ignore=shutil.ignore_patterns("exports"))
    for table in codebook.tables_with(CARRIED):
        file = empty / f"{table.name}.parquet"
        tables.write(file, table, tables.from_rows(table, []), PROVENANCE)
    export_tables(empty, list(EXPORTS), tmp_path / "out")
    assert len(pd.read_csv(tmp_path / "out/csv/overlap.csv")) == 0
    assert len(pd.read_stata(tmp_path / "out/stata/overlap.dta")) == 0
