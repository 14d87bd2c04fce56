import numpy as np
import pandas as pd
import pytest

from paravert import codebook
from paravert.anatomy import LABELS, MUSCLES, SIDES
from paravert.study.accuracy import (
    BOTH,
    area_agreement,
    compared_areas,
    held_out_rows,
    nearest_slice_areas,
    subject_areas,
    table1_iou,
)
from paravert.study.aggregate import MEAN_FAT_COLUMNS, cohort_muscles
from paravert.study.data_frames import read_frame, with_ordered_categories
from paravert.study.describe import (
    cohort_description,
    distribution_summary,
    fat_methods,
    normal_values,
    subject_flow,
    write_tables,
)
from paravert.study.report_tables import fat_methods_text
from paravert.study.result_tables import for_sharing
from paravert.study.standard_level import ALL_SLICES, StandardLevel
from paravert.tables import FAT_METHODS
from study_tables import PIXEL_MM2, cohort_rows, write_cohort

TABLES = ("table1_iou", "cohort", "normal_values", "agreement", "flow", "fat_methods")


def overlap(scores):
    """Return an overlap table of psoas left; scores: IoU by subject."""
    rows = [
        {
            "subject": subject,
            "stack_id": 1,
            "slice": number,
            "muscle": "psoas_major",
            "side": "left",
        }
        | {"iou": iou, "dice": 2 * iou / (1 + iou)}
        for subject, values in scores.items()
        for number, iou in enumerate(values)
    ]
    return with_ordered_categories(pd.DataFrame(rows))


def frames(subjects, **options):
    rows = cohort_rows(subjects, **options)
    return {
        table.name: with_ordered_categories(pd.DataFrame(rows[table.name]))
        for table in codebook.COHORT_TABLES
    }


# --- Table 1 -------------------------------------------------------------------------------------


def test_table_1_has_the_quartiles_of_all_slices_that_show_the_muscle():
    scores = {"S1": [0.5, 0.6, np.nan], "S2": [0.7], "S3": [0.8, np.nan], "S4": [0.9], "S5": [0.7]}
    first = table1_iou(overlap(scores), samples=50, seed=1).iloc[0]
    assert (first.n_slices, first.n_subjects) == (6, 5)
    assert first[["iou_lower_quartile", "iou_median", "iou_upper_quartile"]].tolist() == [
        0.625, 0.7, 0.775,
    ]  # fmt: skip
    assert first.iou_lowest == 0.5
    assert first.dice_median == pytest.approx(1.4 / 1.7)
    assert 0.5 <= first.iou_low_95 < 0.7 < first.iou_high_95 <= 0.9
    assert first.covariance == "bootstrap over subjects"
    assert pd.isna(first.note)


def test_table_1_has_no_interval_of_four_subjects():
    scores = {f"S{n}": [0.6 + n / 20, 0.65 + n / 20] for n in range(4)}
    first = table1_iou(overlap(scores), samples=50, seed=1).iloc[0]
    assert first.iou_median == pytest.approx(0.7)
    assert first[["iou_low_95", "iou_high_95", "dice_low_95", "dice_high_95"]].isna().all()
    assert first.covariance is None
    assert first.note == "no interval: 4 subjects, expected at least 5"


def test_table_1_sets_the_paper_beside_every_muscle_and_side():
    table = table1_iou(overlap({"S1": [0.9]}), samples=10, seed=1)
    named = list(zip(table.muscle, table.side, strict=True))
    assert named == [(label.muscle, label.side) for label in LABELS]
    assert table.iou_paper.tolist() == [0.930, 0.935, 0.891, 0.892, 0.929, 0.923, 0.868, 0.862]
    assert table.n_slices.tolist() == [1] + [0] * 7


def test_table_1_is_the_same_for_any_order_of_rows():
    table = frames(6)["overlap"]
    mixed = table.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(table1_iou(mixed, 100, 1), table1_iou(table, 100, 1))


# --- agreement -----------------------------------------------------------------------------------


def area_table(truth, prediction, pixel_mm2=0.5):
    """Return the table overlap of psoas left; truth, prediction: pixels by subject and slice."""
    keys = {"stack_id": 1, "muscle": "psoas_major", "side": "left", "review_failed": False}
    keys["pixel_mm2"] = pixel_mm2
    counted = [
        keys | {"subject": subject, "slice": n, "pixels_truth": t, "pixels_prediction": p}
        for subject in truth
        for n, (t, p) in enumerate(zip(truth[subject], prediction[subject], strict=True))
    ]
    return with_ordered_categories(pd.DataFrame(counted))


def test_areas_are_pixels_times_the_area_of_a_pixel_over_the_slices_that_show_the_muscle():
    overlap = area_table({"S1": [100, 200, 0, 0, 90]}, {"S1": [120, 180, 60, 0, 0]})
    row = subject_areas(overlap).iloc[0]
    assert row.truth_mm2 == pytest.approx(0.5 * (100 + 200 + 90) / 3)
    assert row.prediction_mm2 == pytest.approx(0.5 * (120 + 180 + 60) / 3)
    near = nearest_slice_areas(overlap).iloc[0]
    assert near.truth_mm2 == pytest.approx(0.5 * (100 + 200 + 0 + 90) / 4)
    assert near.prediction_mm2 == pytest.approx(0.5 * (120 + 180 + 60 + 0) / 4)


def test_areas_of_masks_are_the_area_that_the_study_reports():
    random = np.random.default_rng(1)
    areas = random.integers(100, 900, 8) * (random.random(8) > 0.3)
    row = subject_areas(area_table({"S1": areas + 1}, {"S1": areas})).iloc[0]
    slices = pd.DataFrame(
        {"subject": "S1", "muscle": "psoas_major", "side": "left", "pixels": areas}
        | {"csa_mm2": 0.5 * areas, "slab_mm": 4.0, "overlaps": False, "csa_reason": None}
        | {"stack": 1, "slice": range(8), "fat_fraction_reason": None, "level_position": np.nan}
        | {"position_mm": 0.0, "tilt_deg": 0.0}
        | dict.fromkeys(MEAN_FAT_COLUMNS, 0.1)
    )
    others = [slices.assign(muscle=label.muscle, side=label.side) for label in LABELS]
    muscles = cohort_muscles(pd.concat(others, ignore_index=True))
    assert row.prediction_mm2 == pytest.approx(muscles.csa_mean_mm2.iloc[0])


def test_a_muscle_that_neither_shows_has_no_area():
    assert subject_areas(area_table({"S1": [0, 0]}, {"S1": [0, 0]})).empty


def test_what_failed_the_review_has_no_part_in_areas_but_in_table_1():
    overlap = area_table({"S1": [100], "S2": [200]}, {"S1": [100], "S2": [100]})
    overlap["review_failed"] = overlap.subject == "S2"
    assert area_agreement({ALL_SLICES: subject_areas(overlap)}).n_subjects[0] == 1
    scored = overlap.assign(iou=[1.0, 0.5], dice=[1.0, 0.67], held_out=True)
    assert table1_iou(scored, 20, 1).iou_median[0] == 0.75


def test_a_constant_share_too_much_is_found_as_percentage_and_bias():
    truth = {"S1": [100, 300], "S2": [200, 400], "S3": [500, 700]}
    prediction = {name: [pixels * 11 // 10 for pixels in row] for name, row in truth.items()}
    row = area_agreement({ALL_SLICES: subject_areas(area_table(truth, prediction))}).iloc[0]
    assert (row.muscle, row.side, row.n_subjects) == ("psoas_major", "left", 3)
    assert row.median_absolute_difference_percent == pytest.approx(10)
    assert row.bias_mm2 == pytest.approx(0.5 * 0.1 * np.mean([200, 300, 600]))
    assert row.prediction_mean_mm2 - row.truth_mean_mm2 == pytest.approx(row.bias_mm2)


def test_both_sides_are_the_sum_of_left_and_right():
    tables = frames(3)
    areas = subject_areas(tables["overlap"])
    sums = areas[areas.side != BOTH].groupby(["subject", "muscle"]).truth_mm2.sum()
    both = areas[areas.side == BOTH].set_index(["subject", "muscle"]).truth_mm2
    pd.testing.assert_series_equal(both.sort_index(), sums.sort_index())


def test_agreement_of_a_cohort_has_all_muscles_and_sides_in_order():
    tables = frames(6)
    table = area_agreement({ALL_SLICES: subject_areas(tables["overlap"])})
    assert table.muscle.drop_duplicates().tolist() == list(MUSCLES)
    assert table.side.tolist() == [*SIDES, BOTH] * 4
    assert (table.icc_2_1 > 0.98).all()


def test_areas_of_masks_at_a_level_are_interpolated_between_slices(tmp_path):
    write_cohort(tmp_path, 3)
    overlap = held_out_rows(read_frame(tmp_path, codebook.OVERLAP))
    found = compared_areas(tmp_path, overlap, StandardLevel("L3/4", 3, 3))
    assert list(found) == ["L3/4", ALL_SLICES]
    own = "subject == 'S0002' and muscle == 'multifidus' and side == 'left'"
    counts = overlap.query(own).sort_values("slice", ascending=False)
    slices = read_frame(tmp_path, codebook.SLICES).query(own).sort_values("slice", ascending=False)
    at_level = found["L3/4"].query(own).iloc[0]
    for which in ("truth", "prediction"):
        areas = PIXEL_MM2 * counts[f"pixels_{which}"]
        expected = np.interp(3.5, slices.level_position, areas)
        assert at_level[f"{which}_mm2"] == pytest.approx(expected)
    few = compared_areas(tmp_path, overlap, StandardLevel("L3/4", 3, 2))
    assert list(few) == [ALL_SLICES]


def test_a_stack_in_which_the_network_finds_nothing_counts_with_an_area_of_0():
    overlap = area_table({"S1": [100, 300], "S2": [200, 400]}, {"S1": [100, 300], "S2": [0, 0]})
    row = area_agreement({ALL_SLICES: subject_areas(overlap)}).iloc[0]
    assert (row.n_subjects, row.prediction_mean_mm2) == (2, 0.5 * 200 / 2)
    assert row.bias_mm2 == -0.5 * 300 / 2


def test_masks_of_every_second_slice_are_compared_at_a_level(tmp_path):
    write_cohort(tmp_path, 3)
    overlap = held_out_rows(read_frame(tmp_path, codebook.OVERLAP))
    level = StandardLevel("L3/4", 3, 3)
    drawn = overlap[overlap["slice"] % 2 == 0]
    own = "subject == 'S0002' and muscle == 'multifidus' and side == 'left'"
    slices = read_frame(tmp_path, codebook.SLICES).query(own)
    slices = slices[slices["slice"] % 2 == 0].sort_values("slice", ascending=False)
    areas = drawn.query(own).sort_values("slice", ascending=False)["pixels_truth"] * PIXEL_MM2
    found = compared_areas(tmp_path, drawn, level)["L3/4"].query(own).iloc[0]
    assert found["truth_mm2"] == pytest.approx(np.interp(3.5, slices.level_position, areas))


def test_who_lacks_the_level_is_not_compared_there(tmp_path):
    write_cohort(tmp_path, 3)
    file = tmp_path / "levels.parquet"
    levels = pd.read_parquet(file)
    lacking = (levels["subject"] == "S0002") & (levels["level"] == "L3/4")
    levels.loc[lacking, "level_reason"] = "no-such-level"
    levels.to_parquet(file)
    overlap = held_out_rows(read_frame(tmp_path, codebook.OVERLAP))
    found = compared_areas(tmp_path, overlap, StandardLevel("L3/4", 3, 3))
    assert set(found["L3/4"]["subject"]) == {"S0001", "S0003"}
    assert set(found[ALL_SLICES]["subject"]) == {"S0001", "S0002", "S0003"}


# --- descriptions --------------------------------------------------------------------------------


def test_summary_of_one_to_five():
    found = distribution_summary(pd.Series([5, 1, 4, 2, 3, None]))
    assert found == {
        "n": 5, "missing": 1, "mean": 3, "sd": pytest.approx(np.sqrt(2.5)), "lowest": 1,
        "lower_quartile": 2, "median": 3, "upper_quartile": 4, "highest": 5,
    }  # fmt: skip


def test_cohort_description_counts_by_sex_and_tells_what_is_missing():
    subjects = frames(5)["subjects"]
    subjects.loc[4, ["sex", "height_cm"]] = None
    table = cohort_description(subjects, subjects, StandardLevel()).set_index(["variable", "sex"])
    assert table.n_subjects["age_years"].to_dict() == {"all": 5, "F": 2, "M": 2, "unknown": 1}
    assert table.loc[("height_cm", "all"), ["n", "missing"]].tolist() == [4, 1]
    first = subjects.iloc[1]
    assert table.loc[("bmi_kg_m2", "M"), "lowest"] <= first.weight_kg / (first.height_cm / 100) ** 2
    assert table.unit["csa_psoas_major_mm2"].tolist() == ["mm2"] * 4


def test_normal_values_are_those_of_the_group():
    muscles = frames(6)["muscles"]
    level = StandardLevel("L3/4", 6, 6)
    table = normal_values(muscles, level).set_index(["muscle", "side", "sex", "measure"])
    own = muscles.query("muscle == 'multifidus' and side == 'right' and sex == 'F'")
    found = table.loc[("multifidus", "right", "F", "csa_mean_mm2")]
    assert found["mean"] == pytest.approx(own.csa_mean_mm2.mean())
    assert found.sd == pytest.approx(own.csa_mean_mm2.std())
    assert found.n == 3
    at_level = table.loc[("multifidus", "right", "F", "csa_at_level_mm2")]
    assert at_level["mean"] == pytest.approx(own.csa_at_level_mm2.mean())
    assert (at_level.level, found.level) == ("L3/4", ALL_SLICES)
    few = normal_values(muscles, StandardLevel("L3/4", 6, 4))
    assert set(few.measure) == {"csa_mean_mm2", "volume_ml", "fat_fraction"}
    assert set(few.level) == {ALL_SLICES}


def test_fat_methods_stand_side_by_side_with_a_caveat_for_thresholds_per_muscle():
    muscles = frames(4)["muscles"]
    table = fat_methods(muscles, dict.fromkeys(muscles.subject, "otsu_subject")).set_index("method")
    assert list(table.index) == list(FAT_METHODS)
    assert (table.n_psoas_major == 4).all()
    assert table.mean_psoas_major["otsu_muscle"] > table.mean_psoas_major["otsu_subject"]
    for method in ("otsu_muscle", "otsu_muscle_slice"):
        assert "lean muscle" in table.caveat[method]
    muscles["fat_fraction"] = 0.125
    chosen = dict.fromkeys(muscles.subject, "eroded_otsu_muscle")
    with_own = fat_methods(muscles, chosen).set_index("method")
    assert list(with_own.index) == [*FAT_METHODS, "eroded_otsu_muscle"]
    assert with_own.mean_psoas_major["eroded_otsu_muscle"] == pytest.approx(0.125)
    assert with_own.caveat["eroded_otsu_muscle"] == table.caveat["otsu_muscle"]


def test_dixon_is_among_the_fat_methods_where_somebody_has_it():
    muscles = frames(4)["muscles"]
    first = muscles.subject == muscles.subject[0]
    muscles.loc[first, ["fat_fraction_dixon", "fat_fraction"]] = 0.2
    muscles.loc[~first, "fat_fraction"] = 0.4
    chosen = dict.fromkeys(muscles.subject, "eroded_linear_spread") | {muscles.subject[0]: "dixon"}
    table = fat_methods(muscles, chosen).set_index("method")
    assert list(table.index) == [*FAT_METHODS, "dixon", "eroded_linear_spread"]
    assert table.mean_psoas_major["dixon"] == pytest.approx(0.2)
    assert table.mean_psoas_major["eroded_linear_spread"] == pytest.approx(0.4)
    assert table.n_psoas_major["eroded_linear_spread"] == 3
    shown = fat_methods_text(table.reset_index())["Psoas major, %"]
    assert (shown["dixon"], shown["eroded_linear_spread"]) == ("20.0 (1)", "40.0 (3)")
    assert table.n_psoas_major["dixon"] == 1
    assert "T1 and T2*" in table.caveat["dixon"]
    assert table.n_without.to_dict() == dict.fromkeys(FAT_METHODS, 0) | {
        "dixon": 3,
        "eroded_linear_spread": 1,
    }


def test_tables_for_sharing_do_not_tell_the_fat_of_three_subjects_with_dixon_by_subtraction():
    muscles = frames(22)["muscles"]
    few = muscles.subject.isin(sorted(muscles.subject.unique())[:3])
    muscles.loc[few, "fat_fraction_dixon"] = muscles.fat_fraction[few]
    chosen = dict.fromkeys(muscles.subject, "eroded_linear_spread")
    chosen |= dict.fromkeys(muscles.subject[few], "dixon")
    shared = for_sharing(fat_methods(muscles, chosen)).set_index("method")
    assert shared.suppressed[["dixon", "eroded_linear_spread"]].all()
    assert not shared.suppressed[list(FAT_METHODS)].any()


def test_table_1_leaves_out_subjects_that_are_not_held_out():
    tables = frames(6, quarantined=1)
    overlap = tables["overlap"]
    known = overlap.subject.isin(sorted(overlap.subject.unique())[:2])
    overlap["held_out"] = ~known
    others = held_out_rows(overlap)
    table = table1_iou(others, 50, 1)
    assert (table.n_subjects == 4).all()
    assert table.iou_median.tolist() == [
        overlap[~known & (overlap.muscle == row.muscle) & (overlap.side == row.side)].iou.median()
        for row in table.itertuples()
    ]
    assert subject_flow(tables["ledger"], overlap).set_index("kind").subjects["judging"] == 4


def test_flow_accounts_for_every_subject_of_the_sheet():
    tables = frames(7, quarantined=3)
    table = subject_flow(tables["ledger"], tables["overlap"])
    totals = table[table.code.isna()].set_index("kind").subjects
    expected = {"sheet": 10, "analysed": 7, "scored": 7, "judging": 7, "quarantined": 3}
    assert totals.to_dict() == expected
    reasons = table[table.kind == "reason"]
    assert list(zip(reasons.code, reasons.subjects, strict=True)) == [
        ("no-dicom", 2), ("truncated-pixels", 1),
    ]  # fmt: skip
    assert set(reasons.stage) == {"convert_dicom"}
    (warning,) = table[table.kind == "warning"].to_dict("records")
    assert (warning["code"], warning["subjects"]) == ("spacing-tag-missing", 2)


# --- the step ------------------------------------------------------------------------------------


@pytest.mark.parametrize("subjects", [0, 1, 2])
@pytest.mark.parametrize("truth", [True, False])
def test_small_cohorts_give_every_table(tmp_path, subjects, truth):
    write_cohort(tmp_path / "cohort", subjects, truth=truth, quarantined=2)
    write_tables(tmp_path / "cohort", tmp_path / "tables", bootstrap_samples=20)
    made = {name: pd.read_csv(tmp_path / "tables" / f"{name}.csv") for name in TABLES}
    scored = subjects if truth else 0
    assert made["table1_iou"].n_subjects.tolist() == [scored] * 8
    assert made["table1_iou"].iou_median.isna().all() == (scored == 0)
    levels = ["L3/4", ALL_SLICES] if subjects else [ALL_SLICES]  # who has no levels has no subjects
    assert made["agreement"].n_subjects.tolist() == [scored] * 12 * len(levels)
    assert made["agreement"].level.unique().tolist() == levels
    assert len(made["normal_values"]) == 8 * 3 * (5 if subjects else 3)
    assert made["flow"].subjects[0] == subjects + 2


def test_the_change_of_visits_that_left_the_sheet_is_removed(tmp_path):
    write_cohort(tmp_path / "cohort", 1)
    change = tmp_path / "tables/change.csv"
    change.parent.mkdir()
    change.write_text("subject\nA001\n")
    write_tables(tmp_path / "cohort", change.parent, bootstrap_samples=20)
    assert not change.exists()


def test_tables_do_not_change_from_run_to_run(tmp_path):
    write_cohort(tmp_path / "cohort", 4, quarantined=1)
    for folder in ("first", "second"):
        write_tables(tmp_path / "cohort", tmp_path / folder, bootstrap_samples=50)
    for name in TABLES:
        first, second = (tmp_path / folder / f"{name}.csv" for folder in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()


def test_a_frame_keeps_muscles_that_nobody_has(tmp_path):
    write_cohort(tmp_path, 0)
    empty = read_frame(tmp_path, codebook.MUSCLE_TABLE)
    assert empty.muscle.cat.categories.tolist() == list(MUSCLES)
