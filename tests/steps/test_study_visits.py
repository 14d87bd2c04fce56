"""Repeated visits: tables by subject and visit, numbers by subject."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from made_from import CONFIGURATION
from one_slice_shards import write_shard
from paravert import codebook, tables
from paravert.study.accuracy import held_out_rows, table1_iou
from paravert.study.centiles import centile_frame, fit_centiles, z_scores
from paravert.study.change import MEASURES, change_table
from paravert.study.cohort import gather_cohort
from paravert.study.covariates import with_model_covariates
from paravert.study.data_frames import read_by_scan, read_frame
from paravert.study.describe import subject_flow, write_tables
from paravert.study.drawing.accuracy_plots import agreement_points, draw_iou, iou_points
from paravert.study.drawing.diagrams import draw_flow, flow_counts
from paravert.study.drawing.value_plots import csa_points, distribution_points
from paravert.study.figures import read_cohort
from paravert.study.inference import ADJUSTED, OUTCOMES, SEX_AND_AGE, fit_model
from paravert.study.models import fit_models, model_data
from paravert.study.ratings import COLUMNS as RATING_COLUMNS
from paravert.study.report import counts
from paravert.study.report_tables import change_text, weighted_mean_sd
from paravert.study.scans import first_scans, in_order_of_visits, of_scans, scan_names
from paravert.study.selection import one_row_per_subject
from paravert.study.summary import accept_ledger, summary_of
from study_tables import cohort_rows, write_card

DIGEST = "f"  # of the labels, see rows_of
VISITS = (
    "subject,visit,images,sex,date\nA,2,a,F,2022-01-01\nA,10,a,F,2020-01-01\nB,1,b,M,\nC,1,c,F,\n"
)


@pytest.fixture
def gathered(tmp_path):
    """Return the folder of a cohort: A at visit 10 before visit 2, B once, C quarantined."""
    (tmp_path / "sheet.csv").write_text(VISITS)
    write_card(tmp_path / "model.json")
    (tmp_path / "model.split.csv").write_text("subject,part\nA,training\nC,validation\n")
    write_shard(tmp_path / "shards/0", analysed=["A_10", "A_2", "B_1"], quarantined=["C_1"])
    gather(tmp_path)
    return tmp_path / "cohort"


def gather(folder, **options):
    """Gather the shards and the sheet of a folder."""
    gather_cohort(
        folder / "sheet.csv",
        folder / "shards",
        folder / "cohort",
        "otsu_subject",
        json.dumps(CONFIGURATION),
        folder / "model.safetensors",
        "0" * 64,
        **options,
    )


def test_every_cohort_table_has_subject_and_visit(gathered):
    analysed = [("A", "10"), ("A", "2"), ("B", "1")]
    for table in codebook.COHORT_TABLES:
        frame = read_frame(gathered, table)
        assert list(frame.columns[:2]) == ["subject", "visit"]
        found = list(
            frame[["subject", "visit"]].drop_duplicates().itertuples(index=False, name=None)
        )
        assert found == analysed + [("C", "1")] * (table.name == "ledger")
    package = json.loads((gathered / "datapackage.json").read_text())
    assert all(r["schema"]["primaryKey"][:2] == ["subject", "visit"] for r in package["resources"])
    described = pd.read_csv(gathered / "codebook.csv")
    assert (described.column == "visit").sum() == len(codebook.COHORT_TABLES)


def test_one_visit_is_rated_and_the_other_is_kept(gathered):
    """A_2 fails as a whole, and one muscle of A_10."""
    rows = [f"A_2,R,10:30,fail,,,,,{DIGEST}", f"A_10,R,10:30,fail,multifidus,left,,,{DIGEST}"]
    ratings = gathered.parent / "ratings.csv"
    ratings.write_text("\n".join([",".join(RATING_COLUMNS), *rows]))
    gather(gathered.parent, ratings=[ratings])
    ledger = read_frame(gathered, codebook.LEDGER)
    assert dict(zip(scan_names(ledger), ledger.status, strict=True)) == {
        **{"A_10": "analysed", "A_2": "excluded"},
        **{"B_1": "analysed", "C_1": "quarantined"},
    }
    slices = read_frame(gathered, codebook.SLICES)
    assert set(scan_names(slices)) == {"A_10", "B_1"}
    failed = slices[slices.csa_reason == "review-failed"]
    assert set(scan_names(failed)) == {"A_10"}
    assert set(zip(failed.muscle, failed.side, strict=True)) == {("multifidus", "left")}
    line = "3 subjects, 4 scans: 2 scans analysed, 1 quarantined (no-dicom 1), 1 excluded (review-failed 1)"
    assert summary_of(gathered / "ledger.parquet") == line


def test_dates_are_not_in_the_tables_but_the_years_are(gathered):
    subjects = read_frame(gathered, codebook.SUBJECT_TABLE)
    assert "date" not in subjects
    assert subjects.years_since_first.iloc[:2].tolist() == [0.0, pytest.approx(2.0, abs=0.01)]


def test_all_visits_of_a_training_subject_are_not_held_out(gathered):
    overlap = read_frame(gathered, codebook.OVERLAP)
    assert overlap.groupby("subject").held_out.agg(["min", "max"]).values.tolist() == [
        [False, False],
        [True, True],
    ]


def test_subjects_and_scans_are_counted(gathered, tmp_path):
    line = "3 subjects, 4 scans: 3 scans analysed, 1 quarantined (no-dicom 1)"
    assert summary_of(gathered / "ledger.parquet") == line
    accept_ledger(gathered / "ledger.parquet", tmp_path / "summary.txt", 0.25)
    assert (tmp_path / "summary.txt").read_text() == line + "\n"
    ledger = read_frame(gathered, codebook.LEDGER)
    flow = subject_flow(ledger, read_frame(gathered, codebook.OVERLAP)).set_index("kind")
    assert flow.loc["sheet", ["subjects", "scans"]].tolist() == [3, 4]
    assert flow.loc["analysed", ["subjects", "scans"]].tolist() == [2, 3]
    assert flow.loc["scored", ["subjects", "scans"]].tolist() == [2, 3]
    assert flow.loc["reason", ["subjects", "scans"]].tolist() == [1, 1]


def test_a_selection_is_told_with_the_number_of_the_whole_sheet(tmp_path):
    (tmp_path / "sheet.csv").write_text(VISITS)
    write_card(tmp_path / "model.json")
    write_shard(tmp_path / "shards/0", analysed=["A_10", "A_2"])
    gather(tmp_path, subjects="A")
    found = read_cohort(tmp_path / "cohort")
    flow = draw_flow(flow_counts(found.ledger, found.overlap), found.in_sheet)
    told = [text.get_text() for text in flow.axes[0].texts]
    assert told[:2] == ["Selected (of 3 in the sheet)", "n = 1 (2 scans)"]
    assert counts(found.ledger, found.overlap, found.in_sheet)[:3] == [
        ("1", "subject selected (of 3 in the sheet)"),
        ("2", "scans selected"),
        ("2", "scans analysed"),
    ]


def test_the_first_scan_is_found_by_years_otherwise_by_name():
    frame = pd.DataFrame({"subject": list("AAABB"), "visit": ["10", "9", "x", "b", "a"]})
    assert in_order_of_visits(frame, frame).visit.tolist() == ["9", "10", "x", "a", "b"]
    dated = frame.assign(Years_since_first=[0.0, 1.0, 2.0, 0.0, np.nan])
    assert first_scans(dated).visit.tolist() == ["10", "a"]
    assert scan_names(frame).tolist() == ["A_10", "A_9", "A_x", "B_b", "B_a"]
    assert of_scans(frame, first_scans(dated)).visit.tolist() == ["10", "a"]
    without = frame[["subject"]].drop_duplicates()
    assert first_scans(without) is without
    assert scan_names(without).tolist() == ["A", "B"]


def test_a_subject_with_an_analysed_scan_counts_as_analysed():
    ledger = pd.DataFrame(
        {
            "subject": list("AABB"),
            "visit": list("1212"),
            "status": ["quarantined", "analysed", "quarantined", "quarantined"],
        }
    )
    rows = one_row_per_subject(ledger)
    assert rows[["subject", "visit", "status"]].values.tolist() == [
        ["A", "2", "analysed"],
        ["B", "1", "quarantined"],
    ]


# --- a cohort of which half the people came twice ------------------------------------------------


def write_visits(folder, subjects, twice, seed=0, changed=True):
    """Write cohort tables; the first `twice` subjects have a second scan, 2 years later.

    changed: whether areas are larger then, at another field strength.
    """
    rows = cohort_rows(subjects, seed)
    carried = tables.Column("years_since_first", tables.NUMBER, "year", "years")
    for table in codebook.tables_with([carried], visits=True):
        made = []
        for row in rows[table.name]:
            dated = table.name in ("subjects", "ledger")
            made.append({**row, "visit": "1"} | ({"years_since_first": 0.0} if dated else {}))
            if int(row["subject"][1:]) <= twice:
                again = {**made[-1], "visit": "2"} | ({"years_since_first": 2.0} if dated else {})
                if table.name == "subjects" and changed:
                    again["field_strength_t"] = 1.5
                if table.name == "muscles" and changed:
                    again["csa_mean_mm2"] = again["csa_mean_mm2"] + 10
                made.append(again)
        data = tables.from_rows(replace(table), made)
        tables.write(folder / f"{table.name}.parquet", table, data, {})


@pytest.fixture
def cohort(tmp_path):
    write_visits(tmp_path / "cohort", 24, twice=12)
    return tmp_path / "cohort"


def test_change_per_year_is_a_table(cohort, tmp_path):
    write_tables(cohort, tmp_path / "tables", 20)
    change = pd.read_csv(tmp_path / "tables/change.csv")
    assert len(change) == 12 * 8 * 6
    area = change[change.measure == "csa_mean_mm2"]
    assert np.allclose(area.change_per_year, 5.0)
    assert set(area.years) == {2.0}
    assert set(zip(change.first_visit, change.last_visit, strict=True)) == {(1, 2)}
    assert (change[change.measure == "volume_ml"].change == 0).all()
    write_tables(cohort, tmp_path / "shared", 20, share_tables=True)
    assert pd.read_csv(tmp_path / "shared/change.csv").empty


def test_change_without_years_has_no_rate(cohort):
    muscles, subjects = (
        read_frame(cohort, table) for table in (codebook.MUSCLE_TABLE, codebook.SUBJECT_TABLE)
    )
    change = change_table(muscles, subjects.drop(columns="years_since_first"))
    assert change.change.notna().groupby(change.measure).all()[list(MEASURES)].all()
    assert change[["years", "change_per_year"]].isna().all(axis=None)


@pytest.mark.parametrize(
    ("years", "rate", "shown"),
    [
        (7 / 365.25, None, "0.019 ± 0.000 (12)"),
        (0.24, None, "0.24 ± 0.00 (12)"),
        (0.25, 40.0, "0.25 ± 0.00 (12)"),
        (1.5, 10 / 1.5, "1.5 ± 0.0 (12)"),
    ],
)
def test_a_short_interval_has_a_change_but_no_rate(cohort, years, rate, shown):
    muscles, subjects = (
        read_frame(cohort, table) for table in (codebook.MUSCLE_TABLE, codebook.SUBJECT_TABLE)
    )
    subjects["years_since_first"] *= years / 2
    change = change_table(muscles, subjects)
    area = change[change.measure == "csa_mean_mm2"]
    assert np.allclose(area.change, 10)
    assert np.allclose(area.change_per_year, rate) if rate else area.change_per_year.isna().all()
    text = change_text(change).reset_index()
    assert set(text["Years"]) == {shown}
    assert set(text["Change per year"]) == {"–"} or rate
    assert set(text["Measure"]) == {
        f"{name}, {unit}"
        for name, unit in (
            ("CSA at the standard level", "mm²"),
            ("Fat fraction at the standard level", "percentage points"),
            ("CSA, all slices", "mm²"),
            ("Volume, all slices", "ml"),
            ("Fat fraction, all slices", "percentage points"),
        )
    }


@pytest.mark.parametrize(
    ("name", "later", "is_same"),
    [
        ("coverage_mm", lambda length: 0.91 * length, True),
        ("coverage_mm", lambda length: 1.12 * length, False),
        ("level_to", lambda level: level + 0.4, True),
        ("level_from", lambda level: level - 0.6, False),
    ],
)
def test_a_longer_stack_is_no_growth(cohort, name, later, is_same):
    muscles, subjects = (
        read_frame(cohort, table) for table in (codebook.MUSCLE_TABLE, codebook.SUBJECT_TABLE)
    )
    muscles = muscles.assign(level_from=2.0, level_to=5.0, coverage_mm=120.0)
    muscles = muscles.assign(csa_at_level_mm2=900.0, volume_l3_l5_ml=70.0)
    of_second = muscles["visit"] == "2"
    muscles.loc[of_second, name] = later(muscles.loc[of_second, name])
    change = change_table(muscles, subjects).set_index("measure").change
    for measure in ("csa_mean_mm2", "volume_ml", "fat_fraction"):
        assert change[measure].notna().all() == is_same
        assert change[measure].isna().all() != is_same
    assert (change[["csa_at_level_mm2", "volume_l3_l5_ml"]] == 0).all()


def test_descriptions_have_one_scan_per_subject(cohort, tmp_path):
    once = tmp_path / "once"
    write_visits(once, 24, twice=0)
    for folder in (cohort, once):
        write_tables(folder, tmp_path / "of" / folder.name, 20)
    for name in ("cohort", "normal_values", "fat_methods", "selection"):
        both = [pd.read_csv(tmp_path / "of" / f / f"{name}.csv") for f in ("cohort", "once")]
        if name == "selection":  # warnings and field strength differ between scans, not these
            both = [frame[frame.variable == "age_years"] for frame in both]
        pd.testing.assert_frame_equal(*both)


def test_models_take_all_scans_and_count_subjects(cohort, tmp_path):
    data, _ = model_data(cohort)
    assert len(data) == 36 * 8
    fit_models(cohort, tmp_path / "models.csv", bootstrap_samples=20)
    models = pd.read_csv(tmp_path / "models.csv")
    fitted = models[(models.kind != "spread") & models.estimate.notna()]
    assert set(fitted.n_subjects) == {24}
    assert set(fitted.n_rows) == {36 * 8}
    spread = models[models.kind == "spread"]
    assert set(spread.n_subjects.dropna()) == {24}
    contrasts = pd.read_csv(tmp_path / "contrasts.csv")
    assert contrasts.n_subjects.max() == 24
    effects = pd.read_csv(tmp_path / "site_effects.csv")
    of_strength = effects[effects.factor == "field_strength"]
    assert set(of_strength.n_category) == {12}
    assert set(of_strength.n_subjects) == {24}


def test_scans_that_are_copies_change_no_estimate_and_no_interval(tmp_path):
    """Only if subjects are the clusters and the units of the bootstrap."""
    found = []
    for name, twice in (("once", 0), ("copies", 24)):
        write_visits(tmp_path / name, 24, twice, changed=False)
        data, _ = model_data(tmp_path / name)
        fits = [
            fit_model(m, outcome, data) for m in (SEX_AND_AGE, ADJUSTED) for outcome in OUTCOMES
        ]
        overlap = held_out_rows(read_frame(tmp_path / name, codebook.OVERLAP))
        terms = pd.DataFrame([row for fitted in fits for row in fitted.terms()])
        found.append((terms, table1_iou(overlap, 20, seed=1)))
    (once, iou), (copies, iou_of_copies) = found
    numbers = ["estimate", "standard_error", "low_95", "high_95", "df", "p_value", "n_subjects"]
    assert once.standard_error.notna().sum() > 50
    pd.testing.assert_frame_equal(once[numbers], copies[numbers], rtol=1e-6, atol=1e-12)
    ends = ["iou_median", "iou_low_95", "iou_high_95", "n_subjects"]
    pd.testing.assert_frame_equal(iou[ends], iou_of_copies[ends])


def test_a_category_of_second_scans_counts_its_subjects(cohort):
    data, _ = model_data(cohort)
    found = with_model_covariates(data, ["field_strength"])
    assert set(found.field_strength) == {"3 T", "1.5 T"}  # 12 subjects each time, none is rare


def test_z_scores_are_per_scan_and_centiles_per_subject(cohort):
    subjects = read_frame(cohort, codebook.SUBJECT_TABLE)
    centiles = centile_frame(first_scans(subjects), 2, 1)
    assert centiles.n_subjects.max() == 12  # women
    scores = z_scores(subjects, centiles)
    assert list(scores.columns[:3]) == ["subject", "visit", "sex"]
    assert len(scores.drop_duplicates(["subject", "visit"])) == 36


def test_tables_are_read_scan_by_scan(cohort):
    parts = list(read_by_scan(cohort, codebook.SLICES, ("subject", "stack_id")))
    assert list(parts[0].columns) == ["subject", "stack_id", "visit"]
    assert sum(len(part) for part in parts) == 36 * 6 * 8


def test_figures_of_values_have_one_scan_per_subject_and_count_both(cohort):
    found = read_cohort(cohort)
    assert len(found.subjects) == 24
    assert len(csa_points(found.muscles)) == 24 * 8
    assert (
        not distribution_points(found.subjects).duplicated(["measure", "muscle", "subject"]).any()
    )
    points = iou_points(found.held_out, 1)
    assert (
        "n = 24, up to 216 slices" in draw_iou(points).axes[0].get_title()
    )  # 36 scans of 6 slices
    assert agreement_points(found.compared).groupby("muscle").size().tolist() == [24] * 4
    assert found.in_sheet is None
    flow = draw_flow(flow_counts(found.ledger, found.overlap))
    assert "n = 24 (36 scans)" in [text.get_text() for text in flow.axes[0].texts]
    assert [pair[0] for pair in counts(found.ledger, found.overlap)] == [
        "24",
        "36",
        "36",
        "0",
        "24",
    ]


def test_the_report_shows_the_mean_change_per_year(cohort):
    muscles, subjects = (
        read_frame(cohort, table) for table in (codebook.MUSCLE_TABLE, codebook.SUBJECT_TABLE)
    )
    shown = change_text(change_table(muscles, subjects)).reset_index()
    area = shown[shown.Measure == "CSA, all slices, mm²"]
    assert len(area) == 8
    assert set(area["Change"]) == {"10 ± 0 (12)"}
    assert set(area["Change per year"]) == {"5 ± 0 (12)"}
    assert set(area["Years"]) == {"2.0 ± 0.0 (12)"}


def test_the_mean_change_per_year_is_weighted_by_years():
    change = pd.DataFrame(
        {
            "measure": "csa_mean_mm2", "unit": "mm2", "muscle": "multifidus", "side": "left",
            "change": [-2.0, -78.0, 21.0, -14.0, 5.0], "years": [1.5, 2.0, 0.25, 0.1, np.nan],
        }
    )  # fmt: skip
    change["change_per_year"] = (change.change / change.years).where(change.years >= 0.25)
    row = change_text(change).iloc[0]
    assert row["Change"] == "−14 ± 38 (5)"
    rates, years = change.change_per_year[:3], change.years[:3]
    mean = (-2 - 78 + 21) / (1.5 + 2 + 0.25)
    sd = np.sqrt(np.average((rates - mean) ** 2, weights=years) / (1 - sum((years / 3.75) ** 2)))
    assert row["Change per year"] == f"−{-mean:.0f} ± {sd:.0f} (3)"


def test_the_weighted_sd_finds_that_of_the_values():
    random = np.random.default_rng(1)
    values, weights = random.normal(5, 10, (4000, 4)), pd.Series([0.25, 1.0, 2.0, 4.0])
    found = np.array([weighted_mean_sd(pd.Series(row), weights) for row in values])
    assert found[:, 0].mean() == pytest.approx(5, abs=0.3)
    assert (found[:, 1] ** 2).mean() == pytest.approx(100, rel=0.05)
    equal = weighted_mean_sd(pd.Series(values[0]), pd.Series(2.0, range(4)))
    assert equal == pytest.approx((values[0].mean(), values[0].std(ddof=1)))


def test_a_study_with_visits_and_nobody_analysed_has_its_tables(tmp_path):
    (tmp_path / "sheet.csv").write_text("subject,visit,images\nA,1,a\nA,2,b\n")
    write_card(tmp_path / "model.json")
    write_shard(tmp_path / "shards/0", quarantined=["A_1", "A_2"])
    cohort = tmp_path / "cohort"
    gather(tmp_path)
    write_tables(cohort, tmp_path, 20)
    fit_models(cohort, tmp_path / "models.csv", bootstrap_samples=20)
    fit_centiles(cohort, tmp_path / "centiles.parquet", 2)
    change = pd.read_csv(tmp_path / "change.csv")
    assert change.empty
    assert change_text(change).empty
    assert read_cohort(cohort).subjects.empty
    flow = pd.read_csv(tmp_path / "flow.csv").set_index("kind")
    assert flow.loc["quarantined", ["subjects", "scans"]].tolist() == [1, 2]
