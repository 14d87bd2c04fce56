"""The snippets of docs/tables.md run, each as it stands, and say what is in the tables."""

import ast
import json
import re
import shutil
import subprocess
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from paravert import codebook, tables
from paravert.study.centiles import fit_centiles
from paravert.study.describe import write_tables
from paravert.study.export import export_tables
from paravert.study.models import fit_models
from study_tables import cohort_rows

PAGE = Path(__file__).parents[2] / "docs/tables.md"
FENCE = re.compile(r"```(python|sql|r|stata)\n(.*?)```", re.DOTALL)
OPENING, _, QUESTIONS = PAGE.read_text().partition("## Ten questions")
INTRODUCTION, *SECTIONS = re.split(r"^### (?=\d)", QUESTIONS, flags=re.MULTILINE)
BLOCKS = {
    int(section.split(".")[0]): [match.groups() for match in FENCE.finditer(section)]
    for section in SECTIONS
}
((_, IMPORTS),) = [match.groups() for match in FENCE.finditer(INTRODUCTION)]
PROVENANCE = {
    "software_version": "1.2.3",
    "model_sha256": "a" * 64,
    "configuration_sha256": "b" * 64,
    "run_id": "0123456789ab",
}
WOMEN_AND_MEN = 130  # centiles need 60 of a sex
LARGER_SITE_MM2 = 40.0  # by which areas of the second site are larger
GROWTH = 0.9  # volume at the second visit over that at the first
YEARS = 2.0


def simulated_rows():
    """Return rows of a cohort of two sites, a quarter of whose subjects came twice."""
    rows = cohort_rows(WOMEN_AND_MEN, quarantined=4)
    site = {
        row["subject"]: "north" if number % 3 else "south"
        for number, row in enumerate(rows["ledger"])
    }
    for name, found in rows.items():
        for row in found:
            row |= {"site": site[row["subject"]], "visit": "1"}
            if name == "muscles":
                row |= {"volume_l3_l5_ml": 0.6 * row["volume_ml"], "volume_l3_l5_reason": None}
            if "csa_mean_mm2" in row and row["site"] == "south":
                row["csa_mean_mm2"] += LARGER_SITE_MM2
        again = [row | {"visit": "2"} for row in found if int(row["subject"][1:]) % 4 == 0]
        for row in again:
            if name == "muscles":
                row["volume_l3_l5_ml"] *= GROWTH
        rows[name] = found + again
    for row in rows["subjects"] + rows["ledger"]:
        row["years_since_first"] = YEARS if row["visit"] == "2" else 0.0
    for row in rows["levels"]:  # the simulated slices end above L4/5
        if row["level"] == "L3/4":
            row |= {"level": "L4/5", "level_position": 4.5}
    muscle = next(row for row in rows["muscles"] if row["muscle"] == "psoas_major")
    muscle |= {"fat_fraction": None, "fat_fraction_reason": "fat-not-bright"}
    return rows


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The folder of a finished study, with an external table beside its results."""
    folder = tmp_path_factory.mktemp("study")
    cohort, found = folder / "results/cohort", folder / "results/tables"
    years = tables.Column("years_since_first", tables.NUMBER, "year", "number, from the sheet")
    cohort_tables, rows = codebook.tables_with((years,), visits=True), simulated_rows()
    for table in cohort_tables:
        data = tables.from_rows(table, rows[table.name])
        tables.write(cohort / f"{table.name}.parquet", table, data, PROVENANCE)
    codebook.write_datapackage(cohort / "datapackage.json", PROVENANCE, cohort_tables)
    fit_models(cohort, found / "models.csv", bootstrap_samples=20)
    fit_centiles(cohort, found / "centiles.parquet", bootstrap_samples=2)
    write_tables(cohort, found, bootstrap_samples=20)
    export_tables(cohort, ["csv"], cohort)
    subjects = pd.read_parquet(cohort / "subjects.parquet").query("visit == '1'")
    laboratory = pd.DataFrame({"subject": subjects.subject, "crp": 10 * subjects.fat_fraction})
    laboratory.to_csv(folder / "laboratory.csv", index=False)
    return folder


@pytest.fixture
def asked(study, monkeypatch):
    """Return a function that runs a block in the study's folder and returns its last value."""
    monkeypatch.chdir(study)

    def run(language, text):
        if language == "sql":
            return duckdb.sql(text).df()
        names = {}
        exec(IMPORTS, names)
        *statements, last = ast.parse(text).body
        exec(compile(ast.Module(statements, []), PAGE.name, "exec"), names)
        return eval(compile(ast.Expression(last.value), PAGE.name, "eval"), names)

    return run


def test_there_are_ten_questions_of_at_most_five_lines_each():
    assert sorted(BLOCKS) == list(range(1, 11))
    for blocks in BLOCKS.values():
        assert blocks
        for language, text in blocks:
            assert language in ("python", "sql")
            assert len([line for line in text.splitlines() if line.strip()]) <= 5


def read(name, visit="1"):
    frame = pd.read_parquet(f"results/cohort/{name}.parquet")
    return frame if visit is None else frame[frame.visit == visit]


def test_1_adjusted_mean_with_interval(asked):
    (found,) = [asked(*block) for block in BLOCKS[1]]
    assert found.sex.tolist() == ["F", "M"]
    assert (found.low_95 < found.estimate).all()
    assert (found.estimate < found.high_95).all()
    assert found.estimate.between(0.18, 0.27).all()  # 0.23 and 0.21 by construction
    assert found.estimate.iloc[0] > found.estimate.iloc[1]


def test_2_centile_of_a_woman(asked):
    (found,) = [asked(*block) for block in BLOCKS[2]]
    women = read("subjects").query("sex == 'F' and 37 <= age_years <= 57")
    below = 100 * (women.fat_fraction_multifidus < 0.25).mean()
    assert found == pytest.approx(below, abs=15)


def test_3_asymmetry(asked):
    (found,) = [asked(*block) for block in BLOCKS[3]]
    areas = read("muscles", visit=None).query("muscle == 'multifidus'")
    areas = areas.pivot(index=["subject", "visit"], columns="side", values="csa_mean_mm2")
    own = read("subjects", visit=None).asymmetry_multifidus
    assert found == pytest.approx((own.mean(), own.std(), (own.abs() > 0.1).mean()))
    assert abs(found[0]) < 0.02
    assert len(areas) == len(own)


def test_4_effect_of_site(asked):
    (found,) = [asked(*block) for block in BLOCKS[4]]
    assert len(found) == 4
    assert (found.category == "south").all()
    assert (found.reference == "north").all()
    assert ((found.low_95 < LARGER_SITE_MM2) & (found.high_95 > LARGER_SITE_MM2)).sum() >= 3


def test_5_area_at_l4_5(asked):
    (found,) = [asked(*block) for block in BLOCKS[5]]
    assert len(found) == 8
    levels = read("levels", visit=None).query("level == 'L4/5'")
    expected = levels.groupby(["muscle", "side"], observed=True).csa_mm2.mean()
    for row in found.itertuples():
        assert row.mean_mm2 == pytest.approx(expected[row.muscle, row.side])


def test_6_missing_values_and_their_reasons(asked):
    reasons, missing = [asked(*block) for block in BLOCKS[6]]
    assert reasons.to_dict("records") == [
        {"muscle": "psoas_major", "reason": "fat-not-bright", "muscle_sides": 1}
    ]
    assert missing.loc["quarantined", "age_years"] == 5  # four, one of them twice
    assert missing.loc["analysed", "site"] == 0


def test_7_who_is_not_analysed(asked):
    reasons, compared = [asked(*block) for block in BLOCKS[7]]
    assert reasons.scans.sum() == (read("ledger", visit=None).status == "quarantined").sum() > 0
    assert set(reasons.reason) == {"no-dicom", "truncated-pixels"}
    assert "site" in set(compared.variable)


def test_8_bmi_as_covariate(asked):
    (found,) = [asked(*block) for block in BLOCKS[8]]
    estimate, low, high = found
    assert low < estimate < high
    assert low < 0 < high  # BMI has no effect by construction


def test_9_change_between_visits(asked):
    (found,) = [asked(*block) for block in BLOCKS[9]]
    assert len(found) == 8
    twice = {row["subject"] for row in simulated_rows()["subjects"] if row["visit"] == "2"}
    assert (found["change", "count"] == len(twice)).all()
    first = read("muscles")[lambda frame: frame.subject.isin(twice)]
    expected = (GROWTH - 1) * first.groupby(["muscle", "side"]).volume_l3_l5_ml.mean()
    for key, row in found.iterrows():
        assert row["change", "mean"] == pytest.approx(expected[key])
        assert row["per_year", "mean"] == pytest.approx(expected[key] / YEARS)


def test_10_join_with_another_table(asked):
    (found,) = [asked(*block) for block in BLOCKS[10]]
    assert found.n[0] == len(read("subjects", visit=None))
    assert found.r[0] == pytest.approx(1)


# --- opening a table -----------------------------------------------------------------------------

TO_OPEN = [match.groups() for match in FENCE.finditer(OPENING)]


@pytest.mark.parametrize("text", [text for kind, text in TO_OPEN if kind == "python"])
def test_pandas_shows_meaning_and_run(asked, text):
    found = asked("python", text)
    assert found == ({"unit": "ml", "meaning": found[0]["meaning"]}, PROVENANCE["run_id"])


def test_duckdb_reads_values_and_provenance(asked):
    means, told = [asked(kind, text) for kind, text in TO_OPEN if kind == "sql"]
    assert len(means) == 8
    told = dict(zip(told.key, told.value, strict=True))
    assert {name: told[name] for name in PROVENANCE} == PROVENANCE
    assert json.loads(told["columns"])["volume_ml"]["unit"] == "ml"


def has_r_packages(text):
    if not shutil.which("Rscript"):
        return False
    names = re.findall(r"library\((\w+)\)", text)
    code = "".join(
        f"if (!requireNamespace('{name}', quietly = TRUE)) quit(status = 1);" for name in names
    )
    return (
        subprocess.run(["Rscript", "-e", f"{code} 0"], capture_output=True, check=False).returncode
        == 0
    )


@pytest.mark.parametrize("text", [text for kind, text in TO_OPEN if kind == "r"])
def test_r_reads_the_tables(study, text):
    if not has_r_packages(text):
        pytest.skip("needs R and the package")
    if ".dta" in text:
        pytest.importorskip("pyreadstat")
        export_tables(study / "results/cohort", ["stata"], study / "results/cohort")
    done = subprocess.run(
        ["Rscript", "-e", text], cwd=study, capture_output=True, text=True, check=True
    )
    means = (
        pd.read_parquet(study / "results/cohort/muscles.parquet").groupby("muscle").volume_ml.mean()
    )
    for muscle, mean in means.items():
        (line,) = [line for line in done.stdout.splitlines() if muscle in line]
        assert float(line.split()[-1]) == pytest.approx(mean, rel=1e-4)


@pytest.mark.skipif(not shutil.which("stata"), reason="needs Stata")
@pytest.mark.parametrize("text", [text for kind, text in TO_OPEN if kind == "stata"])
def test_stata_reads_the_tables(study, text):
    pytest.importorskip("pyreadstat")
    export_tables(study / "results/cohort", ["stata"], study / "results/cohort")
    (study / "open.do").write_text(text)
    subprocess.run(["stata", "-b", "do", "open.do"], cwd=study, check=True)
    log = (study / "open.log").read_text()
    assert "r(" not in log
    assert "sum of csa_mm2 x slab_mm" in " ".join(log.split())
