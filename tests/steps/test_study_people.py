"""Other columns of the sheet: in the tables subjects and ledger, in the codebook, in the models."""

import csv
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from made_from import CONFIGURATION
from paravert import codebook, plan, tables
from paravert.anatomy import MUSCLES
from paravert.errors import InputError
from paravert.sheet import read_sheet
from paravert.study.cohort import bmi_differences, gather_cohort
from paravert.study.models import fit_models, model_data
from paravert.study.people import carried_columns, carried_values, covariates_of
from shard_tables import write_shards
from study_tables import cohort_rows, write_card, write_cohort

SUBJECTS = 12
HEADER = "Subject;Images;Sex;Height_cm;Weight_kg;Diagnosis;BMI;Smoker;Pain VAS;scan date;Scanner;Visit;stack"
LINES = [
    f"{number:03d};a{number};{'FM'[number % 2]};170;{70 if number else ''};"
    f"{('low back pain', 'none; so far', '')[number % 3]};{'24,2' if number != 5 else '29,9'};"
    f"{('yes', 'No', '.')[number % 3]};{number % 7},5;1.{number + 1}.2024;x{number % 2};{number % 2};{number + 1}"
    for number in range(SUBJECTS)
]
CARRIED = ["Diagnosis", "BMI", "Smoker", "Pain VAS", "Scanner", "stack"]


def sheet_text():
    lines = [line.replace("none; so far", '"none; so far"') for line in LINES]
    return "\n".join([HEADER, *lines])


@pytest.fixture(scope="module")
def gathered(tmp_path_factory):
    """Return the folder of the cohort of a sheet with other columns; subject 000 is quarantined."""
    folder = tmp_path_factory.mktemp("people")
    (folder / "sheet.csv").write_text(sheet_text(), encoding="cp1252")
    write_card(folder / "model.json")
    names = [f"{number:03d}_{number % 2}" for number in range(SUBJECTS)]
    write_shards(folder / "shards", plan.shard_plan(names, 4), 3)
    meanings = {"smoker": "smokes at the time of the scan"}
    gather_cohort(
        folder / "sheet.csv",
        folder / "shards",
        folder / "cohort",
        "otsu_subject",
        json.dumps(CONFIGURATION | {"columns": meanings}),
        folder / "model.safetensors",
        "0" * 64,
        4,
    )
    return folder / "cohort"


def test_other_columns_are_in_subjects_and_ledger_as_in_the_sheet(gathered):
    for name in ("subjects", "ledger"):
        table = pd.read_parquet(gathered / f"{name}.parquet").set_index("subject")
        assert list(table.columns[-len(CARRIED) :]) == CARRIED
        assert not [column for column in table if "date" in column.lower()]
        assert name == "subjects" or len(table) == SUBJECTS
        for subject, row in table.iterrows():
            number = int(subject)
            assert row["Pain VAS"] == number % 7 + 0.5
            assert row["Scanner"] == f"x{number % 2}"
            assert row["stack"] == number + 1
            assert row["visit"] == str(number % 2)
            if number % 3 == 2:
                assert pd.isna(row.Diagnosis)
                assert pd.isna(row.Smoker)
            else:
                assert row.Diagnosis == ("low back pain", "none; so far")[number % 3]
                assert row.Smoker == (number % 3 == 0)


def test_bmi_is_computed_where_height_and_weight_are_known(gathered):
    for name in ("subjects", "ledger"):
        table = pd.read_parquet(gathered / f"{name}.parquet").set_index("subject")
        assert table.bmi_kg_m2["001"] == pytest.approx(70 / 1.7**2)
        assert table.weight_kg["001"] == 70
        assert table.sex["001"] == "M"
    assert np.isnan(table.bmi_kg_m2["000"])  # of the ledger


def test_a_bmi_of_the_sheet_that_differs_is_a_warning_of_its_subject(gathered):
    ledger = pd.read_parquet(gathered / "ledger.parquet").set_index("subject")
    warned = [name for name, codes in ledger.warnings.items() if "bmi-differs" in codes]
    assert warned == ["005"]
    assert "bmi differs from weight and height by 5.7" in ledger.message["005"]


def test_a_bmi_is_compared_with_half_a_unit_of_tolerance():
    people = pd.DataFrame({"bmi_kg_m2": [25.0, 25.0, 25.0, np.nan]}, index=list("abcd"))
    carried = pd.DataFrame({"Bmi": [25.5, 25.51, np.nan, 30.0]}, index=list("abcd"))
    assert list(bmi_differences(people, carried)) == ["b"]
    assert bmi_differences(people, carried.rename(columns={"Bmi": "bmi_2010"})) == {}
    answers = pd.DataFrame({"bmi": [True, False, None, True]}, index=list("abcd"))
    assert bmi_differences(people, answers) == {}  # a question that was answered, not a BMI


def test_the_codebook_has_types_words_and_meanings(gathered):
    with (gathered / "codebook.csv").open(newline="", encoding="utf-8") as file:
        rows = {(row["table"], row["column"]): row for row in csv.DictReader(file)}
    found = {name: rows["ledger", name] for name in CARRIED}
    assert [found[name]["type"] for name in CARRIED[:3]] == ["string", "double", "bool"]
    assert found["Diagnosis"]["meaning"] == "category, from the sheet"
    assert found["Diagnosis"]["allowed"] == "low back pain; none; so far"
    assert found["BMI"]["meaning"] == "number, from the sheet"
    assert found["Smoker"]["meaning"] == "yes/no, from the sheet: smokes at the time of the scan"
    assert ("slices", "Smoker") not in rows
    field = pq.read_schema(gathered / "subjects.parquet").field("Smoker")
    assert field.metadata[b"meaning"].decode() == found["Smoker"]["meaning"]
    package = json.loads((gathered / "datapackage.json").read_text())
    (ledger,) = [resource for resource in package["resources"] if resource["name"] == "ledger"]
    fields = {field["name"]: field for field in ledger["schema"]["fields"]}
    assert fields["Diagnosis"]["constraints"] == {"enum": ["low back pain", "none; so far"]}
    assert fields["Smoker"]["type"] == "boolean"


def test_a_sheet_without_other_columns_gives_the_tables_of_the_data_dictionary():
    assert codebook.tables_with(()) == codebook.COHORT_TABLES


def test_no_date_and_no_long_list_of_texts_is_in_the_codebook(tmp_path):
    lines = [f"S{n},a,2024-01-{n % 28 + 1:02d},comment {n}" for n in range(60)]
    path = tmp_path / "sheet.csv"
    path.write_text("\n".join(["subject,images,scanned,note", *lines]))
    (column,) = carried_columns(read_sheet(path), {})
    assert (column.name, column.allowed, column.meaning) == ("note", (), "text, from the sheet")


def test_values_survive_arrow(tmp_path):
    path = tmp_path / "sheet.csv"
    path.write_text("subject,images,n,f,t,e\nS1,a,1.5,yes,x,\nS2,b,,,,\n")
    read = read_sheet(path)
    columns = carried_columns(read, {})
    table = tables.Table("one", columns, keys=())
    frame = carried_values(read.rows, columns)
    data = pa.Table.from_pandas(frame, schema=table.schema(), preserve_index=False)
    assert data.to_pylist() == [
        {"n": 1.5, "f": True, "t": "x", "e": None},
        dict.fromkeys("nfte"),
    ]
    assert covariates_of(read.rows).bmi_kg_m2.isna().all()


# --- names in the configuration ------------------------------------------------------------------


def test_names_in_the_configuration_are_those_of_the_sheet(tmp_path):
    path = tmp_path / "sheet.csv"
    lines = [f"S{n},a,2024-01-01,comment {n},yes" for n in range(60)]
    path.write_text("\n".join(["subject,images,scanned,note,Smoker", *lines]))
    read = read_sheet(path)
    read.check_names(["smoker", "note", "scanned"], ["SMOKER", "bmi_kg_m2", "site"])
    with pytest.raises(InputError, match=r"columns: no bmi, expected among scanned, note, Smoker"):
        read.check_names(["bmi"], [])
    for name in ("note", "scanned", "sex", "nothing"):
        with pytest.raises(
            InputError, match=f"fit_models.covariates: no {name}, expected among height_cm"
        ):
            read.check_names([], [name])


# --- models --------------------------------------------------------------------------------------

EFFECT = 30.0  # mm2 per point of pain
SMOKING = -50.0


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Return the folder of a cohort of 40 subjects with effects of two other columns."""
    folder = tmp_path_factory.mktemp("cohort")
    random = np.random.default_rng(3)
    columns = (
        tables.Column("Pain VAS", tables.NUMBER),
        tables.Column("Smoker", tables.FLAG),
        tables.Column("C", tables.TEXT, allowed=("a:b", "own_9")),
        tables.Column("Scanner type", tables.TEXT),
    )
    names = [column.name for column in columns]
    rows = cohort_rows(40)
    values = {}
    for number, row in enumerate(rows["subjects"]):
        values[row["subject"]] = (
            float(random.integers(0, 10)),
            number % 4 < 2,
            ("a:b", "own_9")[number % 3 == 0],
            "one",
        )
        row |= dict(zip(names, values[row["subject"]], strict=True))
    rows["subjects"][7]["Pain VAS"] = None
    for row in rows["muscles"]:
        pain, smokes, *_ = values[row["subject"]]
        row["csa_mean_mm2"] += EFFECT * pain + SMOKING * smokes
    for table in codebook.tables_with(columns):
        data = tables.from_rows(table, rows[table.name])
        tables.write(folder / f"{table.name}.parquet", table, data, {})
    return folder


@pytest.fixture(scope="module")
def models(cohort):
    """Return the table of models with the other columns as covariates."""
    covariates = ["pain vas", "smoker", "c", "scanner type"]
    fit_models(cohort, cohort / "models.csv", covariates, bootstrap_samples=20)
    return pd.read_csv(cohort / "models.csv")


def test_models_find_the_effect_of_other_columns(models):
    found = models[(models.model == "adjusted") & (models.outcome == "csa_mean_mm2")]
    terms = found.set_index("label")
    for muscle in MUSCLES:
        words = muscle.replace("_", " ")
        for label, effect in (
            (f"Pain VAS, per 1, {words}", EFFECT),
            (f"Smoker no, {words}, against yes", -SMOKING),  # 19 and 20 subjects
            (f"C own_9, {words}, against a:b", 0),
        ):
            row = terms.loc[label]
            assert abs(row.estimate - effect) < 4 * row.standard_error, label
        assert terms.loc[f"Pain VAS, per 1, {words}", "unit"] == "mm2 per 1"
        assert terms.loc[f"C own_9, {words}, against a:b", "unit"] == "mm2"
    assert found.n_subjects.iloc[0] == 39
    assert "1 subject left out, sex or age_years or height_cm" in found.note.iloc[0]


def test_models_without_further_covariates_stay_as_they_are(cohort, models):
    fit_models(cohort, cohort / "plain.csv", bootstrap_samples=20)
    plain, wider = (
        table[table.model == "sex and age"] for table in (pd.read_csv(cohort / "plain.csv"), models)
    )
    pd.testing.assert_frame_equal(plain, wider)


def test_a_covariate_that_does_not_vary_is_left_out_by_its_name(models):
    notes = models.loc[models.model == "adjusted", "note"]
    assert notes.str.contains("Scanner type left out: the same in all subjects").all()


def test_the_models_take_the_group_of_the_sheet_by_its_name(tmp_path):
    write_cohort(tmp_path, 4)
    data, further = model_data(tmp_path, ["Group"])
    assert further == ["study_group"]
    assert "study_group" in data


def test_the_models_take_the_field_strength_of_the_sheet_if_it_is_asked_for(tmp_path):
    write_cohort(tmp_path, 4)
    subjects = pd.read_parquet(tmp_path / "subjects.parquet")
    subjects = subjects.assign(field_strength_t=None, field_strength=[1.5, 3.0, 1.5, 3.0])
    subjects.to_parquet(tmp_path / "subjects.parquet")
    assert model_data(tmp_path)[0].field_strength.isna().all()
    data, further = model_data(tmp_path, ["field_strength"])
    assert further == ["field_strength"]
    assert dict(zip(data.subject, data.field_strength, strict=True)) == dict(
        zip(subjects.subject, subjects.field_strength, strict=True)
    )
