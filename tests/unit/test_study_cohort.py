"""Gathering: every subject of the sheet is one row of the ledger, whatever became of it."""

import csv
import json

import pandas as pd
import pytest

from made_from import CONFIGURATION
from one_slice_shards import write_shard
from paravert import codebook, plan, steps, tables
from paravert.errors import InputError
from paravert.records import Outcome
from paravert.study import cohort
from paravert.study.cohort import (
    covariate_differences,
    gather_cohort,
    merged_outcome,
    with_differences,
)
from paravert.study.summary import accept_ledger, summary_line, summary_of
from study_tables import write_card


@pytest.fixture
def gather(tmp_path):
    write_card(tmp_path / "model.json", trained_on="wax", note="Not real.")

    def run(sheet_subjects, **options):
        sheet = tmp_path / "sheet.csv"
        lines = [
            f"{subject},images/{subject},F,{40 + n},170" for n, subject in enumerate(sheet_subjects)
        ]
        for subject in sheet_subjects:
            (tmp_path / "images" / subject).mkdir(parents=True, exist_ok=True)
        sheet.write_text("\n".join(["subject,images,sex,age_years,height_cm", *lines]))
        gather_cohort(
            sheet,
            tmp_path / "shards",
            tmp_path / "cohort",
            "otsu_subject",
            json.dumps(CONFIGURATION),
            model=tmp_path / "model.safetensors",
            model_sha256="0" * 64,
            subjects_per_shard=64,
            **options,
        )
        tables = codebook.COHORT_TABLES
        return {t.name: pd.read_parquet(tmp_path / f"cohort/{t.name}.parquet") for t in tables}

    return run


def test_everybody_is_in_the_ledger_and_the_analysed_in_the_tables(tmp_path, gather):
    write_shard(tmp_path / "shards/0", analysed=["S1", "S2"], quarantined=["S3"])
    tables = gather(["S1", "S2", "S3"])
    assert list(tables["ledger"].status) == ["analysed", "analysed", "quarantined"]
    assert list(tables["subjects"].subject) == ["S1", "S2"]
    assert list(tables["subjects"].age_years) == [40, 41]
    assert len(tables["slices"]) == 16
    assert len(tables["muscles"]) == 16
    series = tables["series"]
    assert series.subject.tolist() == ["S1", "S1", "S2", "S2"]
    assert series.series_reason.tolist()[:1] == ["non-axial"]
    assert series.chosen.tolist() == [False, True] * 2
    assert series.age_years.tolist() == [40, 40, 41, 41]
    assert tables["subjects"].volume_ml.iloc[0] == pytest.approx(8 * 50 * 4 / 1000)
    assert tables["subjects"].n_warnings.iloc[0] == 1
    assert tables["slices"].attrs["model_notice"] == "The model was trained on wax. Not real."


def test_the_run_id_differs_with_the_version_of_a_step(tmp_path, gather, monkeypatch):
    write_shard(tmp_path / "shards/0", analysed=["S1"])
    ids = [gather(["S1"])["subjects"].attrs["run_id"] for _ in range(2)]
    raised = steps.VERSIONS | {"draw_figures": steps.VERSIONS["draw_figures"] + 1}
    monkeypatch.setattr(steps, "VERSIONS", raised)
    assert ids[0] == ids[1] != gather(["S1"])["subjects"].attrs["run_id"]


def test_covariates_that_differ_from_the_header_are_a_warning_of_their_subject(
    tmp_path, gather, caplog
):
    header = {"header_sex": "F", "header_age_years": 40.0}  # of all; the sheet says 40, 41 and 42
    write_shard(tmp_path / "shards/0", analysed=["S1", "S2", "S3"], header=header)
    with caplog.at_level("INFO"):
        tables = gather(["S1", "S2", "S3"])
    ledger = tables["ledger"].set_index("subject")
    code = "covariate-differs-from-header"
    assert [code in warnings for warnings in ledger.warnings] == [False, False, True]
    assert ledger.message["S3"] == "age_years differs from PatientAge (0010,1010) by 2.0"
    assert list(tables["subjects"].n_warnings) == [1, 1, 2]
    assert list(tables["subjects"].age_years) == [40, 41, 42]
    assert f"S3: {ledger.message['S3']}" in caplog.text


def test_the_ledger_has_the_messages_of_all_steps_of_an_analysed_subject():
    one, two = (Outcome("S1", "analysed", "f", message=text) for text in ("slices", "no fat"))
    bad = Outcome("S1", "quarantined", "f", stage="s", reason="no-dicom", message="nothing")
    assert merged_outcome([one, two]).message == "slices; no fat"
    assert merged_outcome([one, bad]).message == "nothing"
    assert merged_outcome([Outcome("S1", "analysed", "f")]).message is None


def test_a_cohort_of_which_nobody_could_be_analysed_has_empty_tables(tmp_path, gather):
    write_shard(tmp_path / "shards/0", quarantined=["S1"])
    tables = gather(["S1"])
    assert list(tables["ledger"].reason) == ["no-dicom"]
    assert all(len(tables[name]) == 0 for name in ("slices", "muscles", "subjects", "overlap"))


def test_a_subject_that_a_late_step_quarantines_leaves_no_rows(tmp_path, gather):
    write_shard(tmp_path / "shards/0", analysed=["S1"], quarantined=["S2"], stage="score_overlap")
    tables = gather(["S1", "S2"])
    assert set(tables["slices"].subject) == {"S1"}
    assert tables["ledger"].set_index("subject").stage["S2"] == "score_overlap"


def test_a_subject_is_held_out_unless_it_was_trained_on_or_its_labels_were_given(tmp_path, gather):
    write_shard(tmp_path / "shards/0", analysed=["S1", "S2", "S3", "S4"], given=["S4"])
    split = tmp_path / "model.split.csv"
    split.write_text("subject,part\nS1,training\nS2,validation\nS9,training\n")
    overlap = gather(["S1", "S2", "S3", "S4"])["overlap"]
    told = overlap.groupby("subject").held_out.agg(["all", "any"])
    assert told["all"].to_dict() == {"S1": False, "S2": True, "S3": True, "S4": False}
    assert (told["all"] == told["any"]).all()
    split.unlink()
    overlap = gather(["S1", "S2", "S3", "S4"])["overlap"]
    assert set(overlap.subject[overlap.held_out]) == {"S1", "S2", "S3"}


def test_a_split_file_without_its_columns_is_told(tmp_path, gather):
    write_shard(tmp_path / "shards/0", analysed=["S1"])
    for text in ("who,part\nS1,training\n", ""):
        (tmp_path / "model.split.csv").write_text(text)
        with pytest.raises(InputError, match="model.split.csv: columns .*expected"):
            gather(["S1"])


def test_the_images_of_a_subject_are_looked_for_once(tmp_path, gather, monkeypatch):
    write_shard(tmp_path / "shards/0", analysed=["S1", "S2"])
    looked_for, images_away = [], plan.images_away
    monkeypatch.setattr(
        plan, "images_away", lambda row: looked_for.append(row["subject"]) or images_away(row)
    )
    gather(["S1", "S2"])
    assert sorted(looked_for) == ["S1", "S2"]


def test_tables_of_a_plan_without_a_subject_are_refused(tmp_path, gather):
    write_shard(tmp_path / "shards/0", analysed=["S1"])
    with pytest.raises(InputError, match="convert.parquet: made from another sheet"):
        gather(["S1", "S2"])


def test_a_ledger_that_differs_from_the_plan_is_a_fault_of_the_program(tmp_path, gather):
    write_shard(tmp_path / "shards/0", analysed=["S1"])
    gather(["S1"])
    with pytest.raises(RuntimeError, match=r"lacks \['S2'\]"):
        cohort._check_all_subjects_are_listed(tmp_path / "cohort", {"0": ["S1", "S2"]})


def test_only_the_selected_subjects_are_gathered(tmp_path, gather):
    write_shard(tmp_path / "shards/0", analysed=["S2"])
    assert list(gather(["S1", "S2"], subjects="S2")["ledger"].subject) == ["S2"]


def test_the_codebook_and_datapackage_name_every_column(tmp_path, gather):
    write_shard(tmp_path / "shards/0", analysed=["S1"])
    gather(["S1"])
    columns = {(t.name, c.name): c for t in codebook.COHORT_TABLES for c in t.columns}
    with (tmp_path / "cohort/codebook.csv").open(newline="") as file:
        book = {(row["table"], row["column"]): row for row in csv.DictReader(file)}
    package = json.loads((tmp_path / "cohort/datapackage.json").read_text())
    fields = {
        (resource["name"], field["name"]): field
        for resource in package["resources"]
        for field in resource["schema"]["fields"]
    }
    assert book.keys() == columns.keys() == fields.keys()
    for key, column in columns.items():
        assert book[key]["unit"] == fields[key]["unit"] == column.unit
        assert book[key]["meaning"] == fields[key]["description"] == column.meaning


def test_the_first_quarantine_counts_and_all_warnings_are_kept():
    steps = [
        Outcome("S1", "analysed", "a", ("multi-stack",)),
        Outcome("S1", "quarantined", "b", (), "segment_muscles", "blank-images", "all 0"),
        Outcome("S1", "quarantined", "c", ("sides-swapped",), "measure_area", "mosaic", "x"),
    ]
    merged = merged_outcome(steps)
    assert (merged.stage, merged.reason) == ("segment_muscles", "blank-images")
    assert merged.warnings == ("multi-stack", "sides-swapped")


def test_the_summary_counts_by_reason():
    reasons = [None, "no-dicom", None, "mosaic", "no-dicom"]
    expected = "5 subjects: 2 analysed, 3 quarantined (mosaic 1, no-dicom 2)"
    assert summary_line(reasons) == expected
    assert summary_line([None]) == "1 subject: 1 analysed, 0 quarantined"


@pytest.mark.parametrize(("limit", "accepted"), [(0.5, True), (0.49, False), (1.0, True)])
def test_the_share_of_quarantined_subjects_is_limited(tmp_path, gather, limit, accepted):
    write_shard(tmp_path / "shards/0", analysed=["S1"], quarantined=["S2"])
    gather(["S1", "S2"])
    ledger, out = tmp_path / "cohort/ledger.parquet", tmp_path / "summary.txt"
    if accepted:
        accept_ledger(ledger, out, limit)
        assert out.read_text() == "2 subjects: 1 analysed, 1 quarantined (no-dicom 1)\n"
    else:
        with pytest.raises(InputError, match="at most a share of 0.49"):
            accept_ledger(ledger, out, limit)
        assert not out.exists()


def test_a_limit_that_is_just_met_is_met(tmp_path):
    reasons = ["no-dicom"] * 29 + [None] * 71
    rows = [{"subject": f"S{n}", "status": "quarantined" if reason else "analysed", "reason": reason,
             "warnings": []} for n, reason in enumerate(reasons)]  # fmt: skip
    ledger = tmp_path / "ledger.parquet"
    tables.write(ledger, codebook.LEDGER, tables.from_rows(codebook.LEDGER, rows), {})
    accept_ledger(ledger, tmp_path / "summary.txt", 0.29)


CODE = "covariate-differs-from-header"


def differences(sheet, header):
    people = pd.DataFrame([sheet], columns=["sex", "age_years"], index=["S1"]).astype(
        {"sex": object, "age_years": float}
    )
    told = {"subject": "S1", "header_sex": header[0], "header_age_years": header[1]}
    return covariate_differences(people, pd.DataFrame([told]))


@pytest.mark.parametrize(
    ("sheet", "header"),
    [
        (("F", 61.0), ("F", 61.0)),
        (("F", 61.9), ("F", 61.0)),  # a header tells whole years
        (("F", 60.0), ("F", 61.0)),
        (("F", None), ("F", 61.0)),
        ((None, 61.0), ("M", 61.0)),
        (("F", 61.0), (None, None)),
        (("M", 97.0), ("M", 90.0)),  # 90 stands for 90 and more
        (("M", 89.0), ("M", 90.0)),
    ],
)
def test_what_agrees_or_is_unknown_is_not_told(sheet, header):
    assert differences(sheet, header) == {}


@pytest.mark.parametrize(
    ("sheet", "header", "told"),
    [
        (("F", 61.0), ("M", 61.0), "sex differs from PatientSex (0010,0040)"),
        (("F", 62.5), ("F", 61.0), "age_years differs from PatientAge (0010,1010) by 1.5"),
        (("F", 59.0), ("F", 61.0), "age_years differs from PatientAge (0010,1010) by 2.0"),
        (("M", 88.0), ("M", 90.0), "age_years differs from PatientAge (0010,1010) by 2.0"),
        (("M", 97.0), ("M", 88.0), "age_years differs from PatientAge (0010,1010) by 9.0"),
        (
            ("M", 30.0),
            ("F", 61.0),
            "sex differs from PatientSex (0010,0040); "
            "age_years differs from PatientAge (0010,1010) by 31.0",
        ),
    ],
)
def test_what_differs_is_told_in_words(sheet, header, told):
    assert differences(sheet, header) == {"S1": told}


def test_the_ledger_gets_warning_and_words_beside_what_it_has():
    ledger = pd.DataFrame(
        {
            "subject": ["S1", "S2"],
            "warnings": [("multi-stack",), ("multi-stack",)],
            "message": ["1 slice was set aside", None],
        }
    )
    told = with_differences(ledger, {"S1": "sex differs"}, CODE)
    assert list(told.warnings) == [(CODE, "multi-stack"), ("multi-stack",)]
    assert told.message[0] == "1 slice was set aside; sex differs"
    assert pd.isna(told.message[1])
    assert with_differences(ledger, {}, CODE).equals(ledger)


def rate(tmp_path, *lines):
    """Write a file of ratings: "scan verdict muscle side fingerprint", with - for an empty cell."""
    rows = [["" if word == "-" else word for word in line.split()] for line in lines]
    text = [
        f"{scan},A,10:30,{verdict},{muscle},{side},,,{fingerprint}"
        for scan, verdict, muscle, side, fingerprint in rows
    ]
    file = tmp_path / "ratings.csv"
    file.write_text(
        "\n".join(["scan,rater,time,verdict,muscle,side,reason,note,fingerprint", *text])
    )
    return [file]


def test_a_failed_scan_is_excluded_and_only_the_ledger_names_it(tmp_path, gather):
    write_shard(tmp_path / "shards/0", analysed=["S1", "S2"], quarantined=["S3"])
    found = gather(["S1", "S2", "S3"], ratings=rate(tmp_path, "S2 fail - - f"))
    ledger = found.pop("ledger").set_index("subject")
    assert list(ledger.status) == ["analysed", "excluded", "quarantined"]
    assert ledger.reason["S2"] == "review-failed"
    assert ledger.labels_digest["S2"] == "f"
    overlap = found.pop("overlap")
    assert overlap.review_failed.tolist() == [False] * 8 + [True] * 8
    assert overlap.iou.notna().all()  # the accuracy of the network counts them
    for name, rows in found.items():
        assert set(rows.subject) == {"S1"}, name
    assert summary_of(tmp_path / "cohort/ledger.parquet") == (
        "3 subjects: 1 analysed, 1 quarantined (no-dicom 1), 1 excluded (review-failed 1)"
    )


def test_an_excluded_scan_does_not_count_as_quarantined(tmp_path, gather):
    write_shard(tmp_path / "shards/0", analysed=["S1", "S2"])
    gather(["S1", "S2"], ratings=rate(tmp_path, "S2 fail - - f"))
    accept_ledger(tmp_path / "cohort/ledger.parquet", tmp_path / "summary.txt", 0.0)


def test_a_failed_muscle_is_null_with_its_reason_in_every_table(tmp_path, gather):
    write_shard(tmp_path / "shards/0", analysed=["S1", "S2"])
    before = gather(["S1", "S2"])
    found = gather(["S1", "S2"], ratings=rate(tmp_path, "S2 fail multifidus left f"))
    overlap = found["overlap"].set_index(["subject", "muscle", "side"])
    assert overlap.review_failed.sum() == 1
    assert overlap.review_failed["S2", "multifidus", "left"]
    assert overlap.iou.notna().all()
    for name in ("slices", "muscles"):
        rows = found[name]
        out = (rows.subject == "S2") & (rows.muscle == "multifidus") & (rows.side == "left")
        pd.testing.assert_frame_equal(rows[~out], before[name][~out], check_dtype=False, obj=name)
        assert (rows.loc[out, "csa_reason"] == "review-failed").all()
        values = {
            "slices": ["pixels", "csa_mm2", "lean_csa_mm2", "fat_fraction", "fat_fraction_linear"],
            "muscles": ["slices", "csa_mean_mm2", "volume_ml", "coverage_mm", "fat_fraction"],
        }[name]
        assert rows.loc[out, values].isna().all(axis=None)
        assert (rows.loc[out, "fat_fraction_reason"] == "review-failed").all()
    subject = found["subjects"].set_index("subject").loc["S2"]
    unknown = ["volume_ml", "fat_fraction", "csa_multifidus_mm2", "asymmetry_multifidus"]
    assert subject[unknown].isna().all()
    assert subject.fat_fraction_reason == "review-failed"
    assert subject.csa_psoas_major_mm2 == 100


def test_a_rating_of_labels_that_have_changed_is_told_and_not_applied(tmp_path, gather):
    write_shard(tmp_path / "shards/0", analysed=["S1", "S2"])
    found = gather(["S1", "S2"], ratings=rate(tmp_path, "S2 fail - - older"))
    ledger = found["ledger"].set_index("subject")
    assert list(ledger.status) == ["analysed", "analysed"]
    assert "rating-outdated" in ledger.warnings["S2"]
    assert "rating-outdated" not in ledger.warnings["S1"]
    assert "changed since" in ledger.message["S2"]


def test_a_failed_scan_under_another_name_than_in_the_sheet_is_refused(tmp_path, gather):
    write_shard(tmp_path / "shards/0", analysed=["007", "012"], quarantined=["013"])
    sheet = ["007", "012", "013"]
    with pytest.raises(
        InputError, match=r"ratings.csv: .*: 7 \(in the sheet 0\d\d\); spreadsheets"
    ):
        gather(sheet, ratings=rate(tmp_path, "7 fail - - f"))
    accepted = rate(tmp_path, "gone fail - - older", "013 fail - - f", "012 pass - - f")
    found = gather(sheet, ratings=accepted)
    assert set(found["ledger"].status) == {"analysed", "quarantined"}


def test_ratings_of_scans_that_are_not_selected_are_accepted(tmp_path, gather):
    write_shard(tmp_path / "shards/0", analysed=["S2"])
    found = gather(["S1", "S2"], subjects="S2", ratings=rate(tmp_path, "S1 fail - - f"))
    assert list(found["ledger"].subject) == ["S2"]


def test_a_rule_that_names_nobody_is_refused(tmp_path, gather):
    write_shard(tmp_path / "shards/0", analysed=["S1", "S2"])
    ratings = rate(tmp_path, "S2 fail - - f")
    with pytest.raises(InputError, match="review.rule: 'a', expected any, all or .*: A"):
        gather(["S1", "S2"], ratings=ratings, rating_rule="a")
    assert gather(["S1", "S2"], ratings=ratings, rating_rule="A")["subjects"].subject.item() == "S1"


def test_the_tables_are_made_from_the_content_of_the_ratings(tmp_path, gather):
    write_shard(tmp_path / "shards/0", analysed=["S1", "S2"])
    digests = set()
    for verdict in ("pass", "fail"):
        gather(["S1", "S2"], ratings=rate(tmp_path, f"S2 {verdict} - - f"))
        digests.add(plan.made_from(tmp_path / "cohort/ledger.parquet"))
    assert len(digests) == 2


def test_a_file_of_ratings_that_is_not_there_is_told(tmp_path, gather):
    write_shard(tmp_path / "shards/0", analysed=["S1"])
    with pytest.raises(InputError, match=r"nowhere.csv: may not be read"):
        gather(["S1"], ratings=[tmp_path / "nowhere.csv"])
