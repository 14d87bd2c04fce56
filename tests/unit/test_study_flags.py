"""Automatic flags: their values against planted ones, their thresholds, and the fat outlier."""

import json

import numpy as np
import pandas as pd
import pytest

from made_from import CONFIGURATION
from one_slice_shards import write_shard
from paravert import codebook
from paravert.anatomy import MUSCLES, SIDES
from paravert.study.cohort import gather_cohort
from paravert.study.data_frames import read_frame
from paravert.study.flags import (
    FLAGS,
    doubtful_sections,
    fat_outliers,
    flag_counts,
    flagged,
    scan_quality,
)
from paravert.study.report_tables import flags_text
from study_tables import cohort_rows, write_card

SLICES = 6
THRESHOLDS = CONFIGURATION["flags"]


def rows_of(subject="S1", area=1000.0):
    """Return slices of one scan, all muscles alike in every slice."""
    rows = [
        {"subject": subject, "stack": 1, "slice": number, "muscle": muscle, "side": side}
        for number in range(SLICES)
        for muscle in MUSCLES
        for side in SIDES
    ]
    same = {"csa_mm2": area, "pixels": 1000, "slab_mm": 4.0, "overlaps": False}
    same |= {"predicted_iou": 0.9, "border_fraction": 0.0, "fat_fraction": 0.2}
    return pd.DataFrame(rows).assign(**same)


def place(rows, muscle, side, *slices):
    own = (rows.muscle == muscle) & (rows.side == side)
    return own & rows["slice"].isin(slices or range(SLICES))


def test_a_scan_without_anything_unusual_has_no_flag():
    quality = scan_quality(rows_of()).loc["S1"]
    assert quality.to_dict() == {
        "predicted_iou_lowest": 0.9,
        "border_fraction_highest": 0.0,
        "area_jump_highest": 0.0,
        "side_ratio_lowest": 1.0,
        "fat_fraction": pytest.approx(0.2),
    }
    ledger = pd.DataFrame([quality]).assign(fat_outlier_sd=0.0, warnings=[("multi-stack",)])
    assert flagged(ledger, THRESHOLDS).warnings.tolist() == [("multi-stack",)]


def test_one_bad_section_is_seen_whatever_the_other_sections():
    rows = rows_of()
    rows.loc[place(rows, "multifidus", "left", 3), ["predicted_iou", "border_fraction"]] = 0.3, 0.4
    quality = scan_quality(rows).loc["S1"]
    assert quality.predicted_iou_lowest == 0.3
    assert quality.border_fraction_highest == 0.4


def test_the_fat_fraction_is_unknown_if_a_muscle_is_not_labelled():
    rows = pd.concat([rows_of("S1"), rows_of("S2"), rows_of("S3")], ignore_index=True)
    unknown = (rows.subject == "S1") & (rows.muscle == "multifidus")
    rows.loc[unknown, ["csa_mm2", "pixels", "fat_fraction"]] = np.nan
    absent = (rows.subject == "S2") & (rows.muscle == "multifidus")
    rows.loc[absent, ["csa_mm2", "pixels"]] = 0
    rows.loc[absent, "fat_fraction"] = np.nan
    found = scan_quality(rows).fat_fraction
    assert np.isnan(found["S1"])
    assert found[["S2", "S3"]].tolist() == pytest.approx([0.2, 0.2])


@pytest.mark.parametrize(
    ("slices", "area", "jump"),
    [
        ((2,), 400.0, 0.6),  # in the middle
        ((2, 3), 0.0, 1.0),  # a gap
        ((0, 1), 0.0, 0.0),  # the muscle begins later
        ((0, 5), 700.0, 0.3),  # it tapers
    ],
)
def test_a_jump_is_the_change_over_the_largest_area(slices, area, jump):
    rows = rows_of()
    own = place(rows, "psoas_major", "right", *slices)
    rows.loc[own, "csa_mm2"] = area
    assert scan_quality(rows).area_jump_highest["S1"] == pytest.approx(jump)


def test_slices_of_two_stacks_are_no_neighbours():
    rows = rows_of()
    rows.loc[rows["slice"] > 2, "stack"] = 2
    rows.loc[rows["slice"] > 2, "csa_mm2"] = 100.0
    assert scan_quality(rows).area_jump_highest["S1"] == 0
    assert scan_quality(rows[rows["slice"] == 0]).area_jump_highest.isna().all()


def test_the_ratio_is_that_of_volumes_and_0_if_a_side_is_absent():
    rows = rows_of()
    rows.loc[place(rows, "quadratus_lumborum", "left"), "csa_mm2"] = 400.0
    assert scan_quality(rows).side_ratio_lowest["S1"] == pytest.approx(0.4)
    rows.loc[place(rows, "quadratus_lumborum", "left"), "csa_mm2"] = 0.0
    assert scan_quality(rows).side_ratio_lowest["S1"] == 0
    for side, area in (("left", 0.0), ("right", 0.0)):
        rows.loc[place(rows, "quadratus_lumborum", side), "csa_mm2"] = area
    assert scan_quality(rows).side_ratio_lowest["S1"] == 1  # of the other muscles


def test_muscles_that_are_not_labelled_are_left_out():
    rows = rows_of()
    rows.loc[rows.muscle != "psoas_major", ["csa_mm2", "pixels", "fat_fraction"]] = np.nan
    rows.loc[rows.muscle != "psoas_major", ["border_fraction", "predicted_iou"]] = np.nan
    quality = scan_quality(rows).loc["S1"]
    assert quality.drop("fat_fraction").notna().all()
    assert quality.side_ratio_lowest == 1


def test_a_scan_is_alone_in_its_values():
    rows = [rows_of("S1", 700.0), rows_of("S2"), rows_of("S3", 1.1)]
    rows[1].loc[place(rows[1], "multifidus", "left", 3), "csa_mm2"] = 333.3
    together = scan_quality(pd.concat(rows, ignore_index=True))
    for own in rows:
        alone = scan_quality(own)
        pd.testing.assert_frame_equal(together.loc[alone.index], alone, check_exact=True)


def scans(count=40):
    return pd.DataFrame(cohort_rows(count, seed=3, truth=False)["subjects"]).set_index("subject")


def test_an_outlier_is_found_whatever_sex_and_age_explain():
    frame = scans()
    frame.loc["S0008", "fat_fraction"] += 0.2
    found = fat_outliers(frame)
    assert found["S0008"] > 5
    assert found.drop("S0008").abs().max() < 4


def test_an_outlier_is_the_residual_over_the_sd_without_the_scan_itself():
    frame = scans(20)
    found = fat_outliers(frame)["S0005"]
    design = np.column_stack([np.ones(20), frame.age_years, frame.sex == "M"]).astype(float)
    fat, own = frame.fat_fraction.to_numpy(), 4
    others = np.arange(20) != own
    beta, rest = np.linalg.lstsq(design[others], fat[others], rcond=None)[:2]
    spread = design[own] @ np.linalg.inv(design[others].T @ design[others]) @ design[own]
    expected = (fat[own] - design[own] @ beta) / np.sqrt(rest[0] / (19 - 3) * (1 + spread))
    assert found == pytest.approx(expected)


def test_without_age_or_in_a_small_cohort_there_is_no_outlier():
    frame = scans(12)
    frame.loc["S0001", "age_years"] = None
    assert fat_outliers(frame).isna().tolist() == [True] + [False] * 11
    assert fat_outliers(frame[:9]).isna().all()


@pytest.mark.parametrize("seed", range(6))
def test_the_only_man_is_no_outlier_of_himself(seed):
    random = np.random.default_rng(seed)
    frame = pd.DataFrame({"sex": ["F"] * 29 + ["M"], "age_years": random.uniform(20, 80, 30)})
    found = fat_outliers(frame.assign(fat_fraction=random.uniform(0.05, 0.3, 30)))
    assert found.isna().tolist() == [False] * 29 + [True]


@pytest.mark.parametrize("flag", FLAGS, ids=lambda flag: flag.threshold)
def test_a_threshold_decides_on_the_warning_of_its_flag(flag):
    usual = {other.column: 1.0 if other.below else 0.0 for other in FLAGS}
    ledger = pd.DataFrame([usual | {flag.column: value} for value in (0.3, 0.301, None)])
    ledger["warnings"] = [()] * 3
    limits = THRESHOLDS | {flag.threshold: 0.3005}
    found = flagged(ledger, limits).warnings.tolist()
    code = (str(flag.caution),)
    assert found == ([code, (), ()] if flag.below else [(), code, ()])
    counts = flag_counts(ledger, limits).set_index("flag").loc[str(flag.caution)]
    assert (counts.scans, counts.flagged) == (2, 1)
    shown = flags_text(flag_counts(ledger, limits)).loc[str(flag.caution)].iloc[0]
    assert (shown["Flagged"], shown["%"]) == ("1", "50.0")


def gather(folder, flags=THRESHOLDS, **options):
    gather_cohort(
        folder / "sheet.csv",
        folder / "shards",
        folder / "cohort",
        "otsu_subject",
        json.dumps(CONFIGURATION | {"flags": flags}),
        folder / "model.safetensors",
        "0" * 64,
        **options,
    )
    return read_frame(folder / "cohort", codebook.LEDGER).set_index("subject")


@pytest.fixture
def study(tmp_path):
    lines = [f"S{n},i,F,{40 + n}" for n in range(1, 4)]
    (tmp_path / "sheet.csv").write_text("\n".join(["subject,images,sex,age_years", *lines]))
    (tmp_path / "i").mkdir()
    write_card(tmp_path / "model.json")
    write_shard(tmp_path / "shards/0", analysed=["S1", "S2"], quarantined=["S3"])
    return tmp_path


def test_values_and_warnings_stand_in_the_ledger_and_in_the_table_of_subjects(study):
    ledger = gather(study, THRESHOLDS | {"side_ratio": 1.0})
    assert ledger.side_ratio_lowest.tolist()[:2] == [1.0, 1.0]
    assert not any("sides-differ" in warnings for warnings in ledger.warnings)
    table = study / "shards/0/area.parquet"
    rows = pd.read_parquet(table)
    rows.loc[
        (rows.subject == "S2") & (rows.muscle == "multifidus") & (rows.side == "left"), "csa_mm2"
    ] = 10.0
    rewrite(table, rows)
    ledger = gather(study)
    assert [("sides-differ" in warnings) for warnings in ledger.warnings] == [False, True, False]
    for other in gather(study, THRESHOLDS | {"side_ratio": 0.1}).warnings:
        assert "sides-differ" not in other
    gather(study)
    subjects = read_frame(study / "cohort", codebook.SUBJECT_TABLE).set_index("subject")
    assert subjects.side_ratio_lowest["S2"] == pytest.approx(0.2)
    assert subjects.n_warnings.to_dict() == {"S1": 1, "S2": 2}
    ratings = study / "ratings.csv"
    header = "scan,rater,time,verdict,muscle,side,reason,note,fingerprint"
    ratings.write_text(f"{header}\nS2,A,10:30,fail,,,,,f\n")
    excluded = gather(study, ratings=[ratings])
    assert excluded.status["S2"] == "excluded"
    assert excluded.side_ratio_lowest["S2"] == pytest.approx(0.2)
    assert "sides-differ" in excluded.warnings["S2"]


def rewrite(table, rows):
    """Replace the rows of a shard table; its metadata stay."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pq.read_schema(table)
    pq.write_table(pa.Table.from_pandas(rows, schema=schema, preserve_index=False), table)


def test_a_section_is_doubtful_below_the_limit_and_unknown_without_a_predicted_iou(study):
    found = doubtful_sections(pd.Series([0.74, 0.75, np.nan]), 0.75)
    assert found.tolist() == [True, False, pd.NA]
    table = study / "shards/0/area.parquet"
    rows = pd.read_parquet(table)
    rows["predicted_iou"] = np.where(rows.muscle == "multifidus", 0.6, 0.8)
    rewrite(table, rows)
    gather(study, THRESHOLDS | {"section_iou": 0.7})
    slices = read_frame(study / "cohort", codebook.SLICES)
    assert (slices.doubtful == (slices.muscle == "multifidus")).all()
