import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from paravert import codebook, tables
from paravert.anatomy import MUSCLES
from paravert.study.centiles import (
    CENTILE_TABLE,
    MEASURES,
    apply_centiles,
    centile_frame,
    centiles_for_sharing,
    fit_centiles,
    too_few,
    z_scores,
)
from paravert.study.describe import subject_flow, write_tables
from paravert.study.inference import LEVEL_OUTCOMES, SEX_AND_AGE, fit_model
from paravert.study.models import fit_models
from paravert.study.report_tables import weighted_texts
from paravert.study.result_tables import BASIS_COLUMNS, MODEL_ESTIMATOR, for_sharing
from paravert.study.selection import selection
from paravert.study.standard_level import StandardLevel
from study_tables import cohort_rows, write_cohort


def test_rows_of_few_subjects_are_blank_and_others_stay():
    table = pd.DataFrame(
        {
            "muscle": ["a", "b", "c", "d"],
            "n_subjects": [4, 5, 0, 22],
            "n_slices": [60, 70, 0, 80],
            "mean": [1.5, 2.5, np.nan, 3.5],
            "lowest": [1.0, 2.0, np.nan, 3.0],
        }
    )
    shared = for_sharing(table)
    assert shared.suppressed.tolist() == [True, False, False, False]
    assert shared.loc[0, ["n_subjects", "n_slices", "mean"]].isna().all()
    assert shared.muscle.tolist() == ["a", "b", "c", "d"]
    assert shared["mean"].tolist()[1::2] == [2.5, 3.5]
    assert shared.lowest.isna().all()
    assert shared.n_subjects.tolist()[1:] == [5, 0, 22]


def test_the_row_of_all_sexes_does_not_tell_that_of_three_men_by_subtraction():
    table = pd.DataFrame(
        {
            "variable": ["age_years"] * 3 + ["volume_ml"] * 3,
            "level": [None] * 3 + ["all slices"] * 3,
            "sex": ["all", "F", "M"] * 2,
            "n": [23, 20, 3, 13, 13, 0],
            "mean": [50.0, 48.0, 63.3, 300.0, 300.0, np.nan],
        }
    )
    shared = for_sharing(table)
    assert shared["mean"].isna().tolist() == [True, False, True, False, False, True]
    assert shared.suppressed.tolist() == [True, False, True, False, False, False]


def test_claims_for_sharing_tell_no_count_below_five():
    table = pd.DataFrame(
        {
            "found": [
                *("in 3 of 2,200 subjects", "in 9 of 11 men", "in 6 of 11 men", "in 2 of 3 men"),
                "by level: not fitted: 3 subjects, expected at least 5",
                f"men minus women: 3 mm2; {StandardLevel('L3/4', 22, 1, {'L3/4': 1}).ranges}",
            ],
            "n_subjects": [22, 11, 11, 3, np.nan, 22],
        }
    )
    assert for_sharing(table).found.tolist() == [
        "in fewer than 5 of 2,200 subjects", "in all but fewer than 5 of 11 men", "in 6 of 11 men",
        "fewer than 5 subjects", "by level: not fitted: fewer than 5 subjects, expected at least 5",
        "men minus women: 3 mm2; scans cover different ranges (fewer than 5 subjects have L3/4)",
    ]  # fmt: skip


@pytest.mark.parametrize(("known", "told"), [(3, "fewer than 5 subjects have"), (20, "20 % of")])
def test_notes_for_sharing_tell_no_share_of_few_subjects(known, told):
    muscles = pd.DataFrame(cohort_rows(100)["muscles"])
    muscles.loc[muscles.subject > f"S{known:04d}", "csa_at_level_mm2"] = np.nan
    fitted = fit_model(SEX_AND_AGE, LEVEL_OUTCOMES[0], muscles)
    (note,) = for_sharing(pd.DataFrame(fitted.terms())).note
    assert told in note


def ledger_of(analysed, reasons, **columns):
    """Return a ledger of analysed and other subjects; columns: values of all subjects, in this order."""
    rows = pd.DataFrame({"reason": [None] * analysed + reasons, "stage": "convert_dicom"})
    status = np.where(rows.reason.isna(), "analysed", "quarantined")
    status = np.where(rows.reason == "review-failed", "excluded", status)
    names = [f"S{n}" for n in rows.index]
    return rows.assign(subject=names, status=status, warnings=[[]] * len(rows), **columns)


REASONS = ["no-dicom"] * 9 + ["mosaic"] * 3 + ["blank-images"] * 7


def test_the_other_categories_do_not_tell_a_blank_one_by_subtraction():
    ledger = ledger_of(40, REASONS, smoker=["no", "yes"] * 20 + ["yes"] * 3 + ["no"] * 16)
    sites = np.where(np.arange(59) % 2, "A", "B")
    shared = for_sharing(selection(ledger.assign(site=sites)))
    shown = shared[~shared.suppressed].set_index(["variable", "category"]).count_not_analysed
    assert dict(shown) == {("site", "A"): 9, ("site", "B"): 10, ("reason", "no-dicom"): 9}
    assert shared.loc[shared.suppressed, ["n_analysed", "not_analysed"]].isna().all(axis=None)
    assert for_sharing(selection(ledger[["subject", "status", "reason"]][:0])).empty


def test_the_flow_for_sharing_tells_no_small_count_by_subtraction():
    overlap = pd.DataFrame({"subject": [], "held_out": np.array([], dtype=bool)})

    def shown(reasons):
        table = for_sharing(subject_flow(ledger_of(40, reasons), overlap))
        counts = table.dropna(subset=["subjects"]).query("subjects > 0")
        return dict(zip(counts.code.fillna(counts.kind), counts.subjects, strict=True))

    assert shown(REASONS) == {"sheet": 59, "analysed": 40, "quarantined": 19, "no-dicom": 9}
    assert shown(["no-dicom"] * 3) == {"analysed": 40}
    assert shown(["no-dicom"] * 9 + ["review-failed"] * 2) == {"analysed": 40, "quarantined": 9}


def know_analysed(cohort):
    """Write sex and age of the analysed subjects into the ledger."""
    people = pd.read_parquet(cohort / "subjects.parquet").set_index("subject")
    ledger = pd.read_parquet(cohort / "ledger.parquet")
    known = {name: ledger["subject"].map(people[name]) for name in ("sex", "age_years")}
    ledger.assign(**known).to_parquet(cohort / "ledger.parquet")


@pytest.mark.parametrize("shared", [True, pytest.param(False, marks=pytest.mark.long)])
def test_tables_for_sharing_hold_no_count_below_five(tmp_path, shared):
    write_cohort(tmp_path / "cohort", 8, quarantined=3)
    know_analysed(tmp_path / "cohort")
    write_tables(tmp_path / "cohort", tmp_path / "tables", 20, share_tables=shared)
    fit_models(tmp_path / "cohort", tmp_path / "tables/models.csv", None, 20, share_tables=shared)
    small = ages = 0
    for file in (tmp_path / "tables").glob("*.csv"):
        if file.stem == "published_values":  # of other studies
            continue
        table = pd.read_csv(file)
        assert ("suppressed" in table) == shared
        for name in table:
            if name in ("n", "subjects") or name.startswith(("n_subjects", "n_missing", "count_")):
                small += table[name].between(1, 4).sum()
            if name in ("note", "found"):
                small += table[name].astype(str).str.contains(r"\b[1-4] subjects?\b").sum()
            if shared and name.endswith(("lowest", "highest")):
                assert table[name].isna().all()
            if name == "note":
                ages += table[name].astype(str).str.contains(r"outside the ages .*\d").sum()
    assert (small == 0) == (ages == 0) == shared
    weighted = pd.read_csv(tmp_path / "tables/weighted_contrasts.csv")
    assert weighted.n_missing.isna().all() == shared
    told = "fewer than 5 subjects" if shared else "3 subjects"
    assert weighted.note.str.contains(f"no weight can stand for {told} of unknown sex").all()
    assert ("– missing" in weighted_texts(weighted)["note"]) == shared


def study_tables(tmp_path, shared=False):
    """Write the tables of a small study; return them by name."""
    write_cohort(tmp_path / "cohort", 14, quarantined=12)
    know_analysed(tmp_path / "cohort")
    write_tables(tmp_path / "cohort", tmp_path / "tables", 20, share_tables=shared)
    fit_models(tmp_path / "cohort", tmp_path / "tables/models.csv", None, 20, share_tables=shared)
    return {file.stem: pd.read_csv(file) for file in (tmp_path / "tables").glob("*.csv")}


WITH_BASIS = (
    *("table1_iou", "agreement", "reliability", "selection", "models", "contrasts", "claims"),
    *("adjusted_means", "site_effects", "weighted_contrasts", "specification_curve"),
)


def test_every_estimate_says_what_it_rests_on(tmp_path):
    found = study_tables(tmp_path)
    estimates = {"claims": "found", "table1_iou": "iou_median", "agreement": "bias_mm2"}
    estimates |= {"reliability": "sem", "selection": "unit", "weighted_contrasts": "complete_cases"}
    for name in WITH_BASIS:
        table = found[name]
        assert set(BASIS_COLUMNS) <= set(table), name
        known = table.dropna(subset=[estimates.get(name, "estimate")])
        assert table.columns.is_unique, name
        assert not table.columns.str.contains(r"\.\d$").any(), name  # as pandas names doubles
        if MODEL_ESTIMATOR in known:
            known = known.assign(estimator=known[MODEL_ESTIMATOR])
        if name == "claims":
            known = known[known.reproduced != "not tested"]
        for column in ("estimator", "n_subjects", "n_rows", "family"):
            assert known[column].notna().all(), (name, column)
        of_model = known[known.estimator.str.startswith("GEE")]
        assert of_model[["link", "covariance", "df", "unit"]].notna().all(axis=None), name
    assert len(found["contrasts"].dropna(subset=["estimate"])) > 40
    assert set(found["models"].family) == {"none"}


def centile_study(tmp_path, men, shared):
    """Fit centiles to 130 women and some men; return the table, its metadata and the z-scores."""
    rows = cohort_rows(260)
    people = [row for row in rows["subjects"] if row["sex"] == "F"]
    people += [row for row in rows["subjects"] if row["sex"] == "M"][:men]
    (tmp_path / "cohort").mkdir(parents=True)
    data = tables.from_rows(codebook.SUBJECT_TABLE, people)
    tables.write(tmp_path / "cohort/subjects.parquet", codebook.SUBJECT_TABLE, data, {})
    out = tmp_path / "centiles.parquet"
    fit_centiles(tmp_path / "cohort", out, 5, share_tables=shared)
    metadata = pq.read_schema(out).metadata
    return pd.read_parquet(out), metadata, pd.read_csv(tmp_path / "z_scores.csv"), people


def test_centiles_for_sharing_hold_nothing_of_fewer_than_five_subjects(tmp_path):
    whole, _, scores, people = centile_study(tmp_path / "whole", 3, shared=False)
    shared, metadata, no_scores, _ = centile_study(tmp_path / "shared", 3, shared=True)
    assert set(whole[whole.sex == "M"].n_subjects) == {3}
    assert whole[whole.sex == "M"].note.str.startswith("3 men").all()
    men = shared[shared.sex == "M"]
    assert men.n_subjects.isna().all()
    assert set(men.note) == {"fewer than 5 subjects of this sex"}
    assert not shared.n_subjects.between(1, 4).any()
    ages = np.sort([row["age_years"] for row in people if row["sex"] == "F"])
    women = shared[shared.sex == "F"].dropna(subset=["value"])
    assert women.age_years.min() >= ages[4]
    assert women.age_years.max() <= ages[-5]
    known = women.set_index(["muscle", "measure", "age_years", "centile"]).value
    same = whole[whole.sex == "F"].set_index(["muscle", "measure", "age_years", "centile"]).value
    pd.testing.assert_series_equal(known, same.loc[known.index])
    age_range = metadata[b"age_range_years"].decode().split(" to ")
    assert float(age_range[0]) >= ages[4]
    assert len(scores)
    assert no_scores.empty
    assert list(no_scores) == list(scores)


def shared_centiles(women_years, **values):
    """Return centiles for sharing, and the subjects: 70 women of these ages."""
    people = pd.DataFrame({"subject": [f"S{n:02}" for n in range(70)], "sex": "F"})
    people["age_years"] = women_years
    for measure in MEASURES:
        for muscle in MUSCLES:
            people[measure.column_of(muscle)] = np.linspace(0.1, 0.4, 70)
    people = people.assign(**values)
    return centiles_for_sharing(centile_frame(people, 0, 1), people), people


def test_the_fifth_youngest_is_one_of_those_that_the_curve_was_fitted_to():
    volumes = np.r_[np.zeros(4), np.linspace(90, 120, 66)]  # 0 has no logarithm
    column = "volume_psoas_major_ml"
    shared, _ = shared_centiles(np.arange(20, 90), **{column: volumes})
    fitted = shared[(shared.muscle == "psoas_major") & shared.value.notna()]
    lowest = fitted.groupby("measure").age_years.min()
    assert lowest["volume"] == 28
    assert lowest["csa"] == 24


def test_without_an_age_that_may_be_told_there_are_no_z_scores():
    ages = np.concatenate([[29.9] * 3, np.linspace(30.2, 30.8, 64), [31.1] * 3])
    shared, people = shared_centiles(ages)
    found = z_scores(people, shared)
    assert found.z.isna().all()
    assert set(found.note) == {"no centiles: no age with 5 subjects"}
    assert "has 0 women" not in too_few(shared)
    assert set(shared[shared.sex == "F"].n_subjects) == {70}
    tables.check(CENTILE_TABLE, pa.Table.from_pandas(shared, CENTILE_TABLE.schema()))


def test_the_report_says_fewer_than_five_where_the_count_is_suppressed(tmp_path):
    shared, *_ = centile_study(tmp_path, 3, shared=True)
    assert "130 women and fewer than 5 men" in too_few(shared)


def test_centiles_of_an_earlier_version_are_still_applied(tmp_path):
    centile_study(tmp_path, 3, shared=False)
    data = pq.read_table(tmp_path / "centiles.parquet").drop_columns(["estimator", "covariance"])
    pq.write_table(data, tmp_path / "old.parquet")
    apply_centiles(
        tmp_path / "old.parquet", tmp_path / "cohort/subjects.parquet", tmp_path / "z.csv"
    )
    assert pd.read_csv(tmp_path / "z.csv").z.notna().any()
