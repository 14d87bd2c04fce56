"""Reliability against published numbers, closed forms and simulated measurements of known error."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from paravert.anatomy import MUSCLES, SIDES
from paravert.study import report
from paravert.study.accuracy import absolute_agreement, area_agreement, limits_of_agreement
from paravert.study.reliability import (
    RELIABILITY_COLUMNS,
    clustered_limits,
    consistency,
    equivalence_p_value,
    mask_reliability,
    paired_statistics,
    rater_reliability,
    reliability,
    smallest_detectable_change,
    standard_error_of_measurement,
    visit_reliability,
    within_subject_variation,
)
from paravert.study.report_tables import paired_reliability_text
from paravert.study.result_tables import with_basis
from paravert.study.standard_level import ALL_SLICES
from study_tables import PIXEL_MM2, cohort_rows

FROZEN = Path(__file__).parents[1] / "frozen/r"
# Shrout and Fleiss 1979, Table 2: six targets, four judges.
SHROUT_FLEISS = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float
)
# Bland and Altman 1986: peak expiratory flow of 17 subjects, l/min; two readings by each meter.
LARGE_METER = np.array(
    [
        [494, 490], [395, 397], [516, 512], [434, 401], [476, 470], [557, 611], [413, 415], [442, 431],
        [650, 638], [433, 429], [417, 420], [656, 633], [267, 275], [478, 492], [178, 165], [423, 372],
        [427, 421],
    ],
    float,
)  # fmt: skip
MINI_METER = np.array(
    [
        [512, 525], [430, 415], [520, 508], [428, 444], [500, 500], [600, 625], [364, 460], [380, 390],
        [658, 642], [445, 432], [432, 420], [626, 605], [260, 227], [477, 467], [259, 268], [350, 370],
        [451, 443],
    ],
    float,
)  # fmt: skip


def test_icc_2_1_and_3_1_are_those_of_shrout_and_fleiss():
    assert absolute_agreement(SHROUT_FLEISS).icc == pytest.approx(0.29, abs=0.005)
    assert consistency(SHROUT_FLEISS).icc == pytest.approx(0.71, abs=0.005)


def test_icc_and_intervals_are_those_of_psych():
    ratings = pd.read_csv(FROZEN / "ratings.csv").to_numpy(dtype=float)
    expected = pd.read_csv(FROZEN / "icc.csv").set_index("type")
    for name, found in (("ICC2", absolute_agreement(ratings)), ("ICC3", consistency(ratings))):
        row = expected.loc[name]
        np.testing.assert_allclose([found.icc, found.low, found.high], row, rtol=1e-6, err_msg=name)


def test_limits_are_those_of_bland_and_altmans_peak_flow_data():
    large, mini = LARGE_METER[:, 0], MINI_METER[:, 0]
    found = limits_of_agreement(large, mini)
    assert found.bias == pytest.approx(-2.1, abs=0.05)
    assert found.sd == pytest.approx(38.8, abs=0.05)
    # The paper: bias and limits of 2 SD, rounded before.
    twice = 2 * found.sd
    assert (found.bias - twice, found.bias + twice) == pytest.approx((-79.7, 75.5), abs=0.15)
    assert found.bias - found.bias_error == pytest.approx(-22.0, abs=0.1)
    assert found.bias + found.bias_error == pytest.approx(17.8, abs=0.1)


@pytest.mark.parametrize(
    ("readings", "published"), [(LARGE_METER, 15.3), (MINI_METER, 19.9)], ids=["large", "mini"]
)
def test_within_subject_sd_of_the_meters_is_that_of_bland_and_altman_1999(readings, published):
    # Theirs holds the shift between the readings; the SEM does not, and stands beside it.
    sem, _, _ = standard_error_of_measurement(readings)
    n, shift = len(readings), np.diff(readings, axis=1).mean()
    assert np.sqrt((n - 1) / n * sem**2 + shift**2 / 2) == pytest.approx(published, abs=0.05)


def test_a_constant_bias_lowers_agreement_and_leaves_consistency_sem_and_mdc():
    random = np.random.default_rng(1)
    truth = random.normal(500, 80, 60)
    pairs = truth[:, None] + random.normal(0, 10, (60, 2))
    shifted = pairs + [0, 100]
    assert consistency(shifted).icc == pytest.approx(consistency(pairs).icc)
    assert absolute_agreement(shifted).icc < absolute_agreement(pairs).icc - 0.2
    sem = standard_error_of_measurement(shifted)
    assert sem == pytest.approx(standard_error_of_measurement(pairs))


def test_sem_and_mdc_find_the_planted_error():
    random = np.random.default_rng(2)
    pairs = random.normal(500, 80, 4000)[:, None] + random.normal(0, 10, (4000, 2))
    sem, low, high = standard_error_of_measurement(pairs)
    assert sem == pytest.approx(10, rel=0.03)
    assert low < 10 < high
    inside = np.abs(np.diff(pairs, axis=1)) < smallest_detectable_change(sem)
    assert inside.mean() == pytest.approx(0.95, abs=0.01)


def test_the_interval_of_the_sem_holds_it_as_often_as_it_should():
    random = np.random.default_rng(3)
    held = []
    for _ in range(1000):
        _, low, high = standard_error_of_measurement(random.normal(0, 10, (22, 2)))
        held.append(low <= 10 <= high)
    assert np.mean(held) == pytest.approx(0.95, abs=0.02)


def test_the_coefficient_of_variation_is_the_planted_share_of_the_mean():
    random = np.random.default_rng(4)
    truth = random.uniform(200, 1500, 5000)
    pairs = truth[:, None] * random.normal(1, 0.04, (5000, 2))
    assert within_subject_variation(pairs) == pytest.approx(0.04, rel=0.03)


def test_tost_is_the_larger_p_of_two_one_sided_tests():
    difference = np.random.default_rng(5).normal(3, 20, 30)
    expected = max(
        stats.ttest_1samp(difference, -12, alternative="greater").pvalue,
        stats.ttest_1samp(difference, 12, alternative="less").pvalue,
    )
    assert equivalence_p_value(difference, 12.0) == pytest.approx(expected)


def test_tost_calls_a_difference_as_large_as_the_margin_equivalent_in_5_of_100():
    random = np.random.default_rng(6)
    p_values = [equivalence_p_value(random.normal(10, 20, 40), 10.0) for _ in range(2000)]
    assert np.mean(np.array(p_values) < 0.05) == pytest.approx(0.05, abs=0.015)


def slices_of(random, subjects, between=12.0, within=20.0, bias=5.0):
    counts = random.integers(3, 12, subjects)
    names = np.repeat(np.arange(subjects), counts)
    return bias + random.normal(0, between, subjects)[names] + random.normal(
        0, within, len(names)
    ), names


def test_limits_of_single_slices_hold_95_of_100_slices():
    bias, sd, ends = clustered_limits(*slices_of(np.random.default_rng(7), 4000))
    assert bias == pytest.approx(5, abs=1)
    assert sd == pytest.approx(np.hypot(12, 20), rel=0.03)
    new, _ = slices_of(np.random.default_rng(8), 4000)
    inside = (ends["lower_limit"][0] < new) & (new < ends["upper_limit"][0])
    assert inside.mean() == pytest.approx(0.95, abs=0.01)


@pytest.mark.parametrize("subjects", [15, 40])
def test_intervals_of_these_limits_hold_the_known_ones(subjects):
    upper = 5 + 1.96 * np.hypot(12, 20)
    lower, random = 10 - upper, np.random.default_rng(9)
    held = []
    for _ in range(400):
        _, _, ends = clustered_limits(*slices_of(random, subjects))
        held.append(ends["upper_limit"][1] <= upper <= ends["upper_limit"][2])
        held.append(ends["lower_limit"][1] <= lower <= ends["lower_limit"][2])
    assert np.mean(held) == pytest.approx(0.95, abs=0.03)


def test_slices_of_a_subject_tell_less_than_as_many_independent_ones():
    difference, names = slices_of(np.random.default_rng(10), 20)
    _, _, ends = clustered_limits(difference, names)
    naive = limits_of_agreement(difference, np.zeros_like(difference))
    assert ends["upper_limit"][2] - ends["upper_limit"][1] > 2 * naive.limit_error


# --- the table -----------------------------------------------------------------------------------


def test_the_table_has_a_row_per_muscle_and_side_and_agrees_with_its_parts():
    rows = cohort_rows(22, seed=3)
    overlap = pd.DataFrame(rows["overlap"])
    slices = pd.DataFrame(rows["slices"])[["subject", "stack_id", "slice", "level"]]
    levels = mask_reliability(overlap, slices.drop_duplicates(ignore_index=True))
    assert tuple(levels.columns) == RELIABILITY_COLUMNS
    table = levels[levels["level"] == ALL_SLICES]
    assert len(table) == 3 * len(MUSCLES)
    assert (table["n_subjects"] == 22).all()
    row = table.set_index(["muscle", "side"]).loc[("multifidus", "left")]
    assert row["first_mean"] + row["bias"] == pytest.approx(row["second_mean"])
    assert row["sem"] == pytest.approx(row["sd"] / np.sqrt(2))
    assert row["mdc_95"] == pytest.approx(1.96 * row["sd"])
    assert row["lower_limit_low_95"] < row["lower_limit"] < row["bias"] < row["upper_limit"]
    assert row["margin"] == pytest.approx(0.05 * row["first_mean"])
    assert row["equivalent"] == (row["equivalence_p_value"] < 0.05)
    assert row["n_slices"] == 22 * 6
    assert row["slice_sd"] >= row["sd"] * 0.9
    both = table[table["side"] == "both"]
    assert (both["n_slices"] == 0).all()
    assert both["slice_sd"].isna().all()
    assert list(levels["level"].unique()) == [ALL_SLICES, "L3", "L3/4", "L4"]
    at_level = levels[(levels["level"] == "L4") & (levels["muscle"] == "multifidus")]
    own = pd.DataFrame(rows["overlap"]).merge(slices[slices["level"] == "L4"].drop_duplicates())
    own = own[(own["muscle"] == "multifidus") & (own["side"] == "left")]
    mean = own.groupby("subject")["pixels_truth"].mean().mean() * PIXEL_MM2
    assert at_level.set_index("side").loc["left", "first_mean"] == pytest.approx(mean)


def test_levels_that_only_people_with_four_or_six_lumbar_vertebrae_have_are_passed_over():
    rows = cohort_rows(6, seed=3)
    slices = pd.DataFrame(rows["slices"])[["subject", "stack_id", "slice", "level"]]
    slices = slices.drop_duplicates(ignore_index=True)
    slices.loc[slices["level"] == "L3", "level"] = "L5/6"
    levels = mask_reliability(pd.DataFrame(rows["overlap"]), slices)
    assert list(levels["level"].unique()) == [ALL_SLICES, "L3/4", "L4"]


def test_two_raters_are_compared_where_both_drew_whatever_the_network_says():
    rows = cohort_rows(20, seed=3)
    overlap = pd.DataFrame(rows["overlap"])
    slices = pd.DataFrame(rows["slices"])
    levels = slices[["subject", "stack_id", "slice", "level"]].drop_duplicates(ignore_index=True)
    drawn = overlap["slice"] > 1
    overlap["pixels_truth2"] = (overlap["pixels_truth"] + 30.0).where(drawn)
    overlap["pixels_prediction"] = 0
    overlap["review_failed"] = overlap["subject"] == overlap["subject"].iloc[0]
    table = rater_reliability(overlap, levels)
    assert set(table["source"]) == {"raters"}
    own = table[(table["level"] == ALL_SLICES) & (table["side"] == "left")]
    np.testing.assert_allclose(own["bias"], 30 * PIXEL_MM2)
    assert set(own["n_slices"]) == {20 * 4}
    assert (own["icc_2_1"] < own["icc_3_1"]).all()
    # A second rater who misses the smallest slice has a larger mean of the same others.
    first = overlap[overlap["slice"] > 1].drop(columns="pixels_truth2")
    smallest = first.groupby(["subject", "muscle", "side"])["pixels_truth"].transform("min")
    ends = first["pixels_truth"] == smallest
    found = rater_reliability(
        first.assign(pixels_truth2=first["pixels_truth"].where(~ends, 0.0)), levels
    )
    found = found[(found["level"] == ALL_SLICES) & (found["side"] == "left")].set_index("muscle")
    own = first[(first["muscle"] == "multifidus") & (first["side"] == "left")]
    means = [
        rows.groupby("subject")["pixels_truth"].mean().mean()
        for rows in (own, own[~ends[own.index]])
    ]
    assert found.loc["multifidus", "bias"] == pytest.approx(PIXEL_MM2 * (means[1] - means[0]))
    assert found.loc["multifidus", "slice_bias"] < 0 < found.loc["multifidus", "bias"]
    none = rater_reliability(overlap.assign(pixels_truth2=np.nan), levels)
    assert none.empty


@pytest.mark.parametrize("subjects", [0, 1])
def test_a_table_without_pairs_has_its_rows_and_nothing_else(subjects):
    columns = ["subject", "muscle", "side", "first", "second"]
    rows = [("S1", "multifidus", "left", 500.0, 510.0)][:subjects]
    pairs = pd.DataFrame(rows, columns=columns)
    table = reliability(pairs, pairs[:0], "csa", "mm2")
    assert len(table) == 12
    assert table["n_subjects"].sum() == subjects
    unknown = ["icc_2_1", "icc_3_1", "sem", "sd", "equivalence_p_value", "slice_sd"]
    assert table[unknown].isna().all().all()


@pytest.mark.parametrize("subjects", [2, 3, 4, 5])
def test_fewer_than_five_subjects_have_means_bias_and_limits_and_nothing_else(subjects):
    random = np.random.default_rng(12)
    first = random.normal(500, 80, subjects)
    second = first + random.normal(0, 10, subjects)
    found = paired_statistics(first, second)
    limits = limits_of_agreement(second, first)
    assert found["n_subjects"] == subjects
    assert found["first_mean"] == pytest.approx(first.mean())
    given = ["bias", "sd", "lower_limit", "upper_limit"]
    assert [found[name] for name in given] == [limits.bias, limits.sd, limits.lower, limits.upper]
    assert found["upper_limit_high_95"] == pytest.approx(limits.upper + limits.limit_error)
    need_five = [
        *("icc_2_1", "icc_3_1", "sem", "sem_low_95", "sem_high_95", "mdc_95", "within_subject_cv"),
        *("trend_slope", "trend_p_value", "equivalence_p_value", "equivalent"),
    ]
    assert {pd.isna(found[name]) for name in need_five} == {subjects < 5}
    areas = pd.DataFrame({"truth_mm2": first, "prediction_mm2": second})
    areas = areas.assign(subject=range(subjects), muscle="multifidus", side="left")
    row = area_agreement({ALL_SLICES: areas}).set_index(["muscle", "side"])
    row = row.loc[("multifidus", "left")]
    assert row["bias_mm2"] == pytest.approx(limits.bias)
    for name in ("icc_2_1", "icc_low_95", "icc_high_95"):
        assert pd.isna(row[name]) == (subjects < 5)


# --- visits --------------------------------------------------------------------------------------


def visits_of(subjects, years=None, random=None):
    """Return the tables of muscles, subjects and levels of two visits; errors of area: 20 mm2, second 6 mm2 larger.

    At L4 areas are half as large.

    years: of the second visit, by subject; None: no such column.
    """
    random = random or np.random.default_rng(11)
    people = [f"S{number:03d}" for number in range(subjects)]
    rows = []
    for subject in people:
        for muscle in MUSCLES:
            truth, fat = random.normal(600, 90), random.uniform(0.05, 0.3)
            for side in SIDES:
                rows += [
                    {
                        "subject": subject, "visit": visit, "muscle": muscle, "side": side,
                        "csa_mean_mm2": truth + random.normal(6 * (visit == "2"), 20),
                        "volume_ml": truth / 10, "fat_fraction": fat + random.normal(0, 0.01),
                    }
                    for visit in ("1", "2")
                ]  # fmt: skip
    muscles = pd.DataFrame(rows)
    scans = muscles[["subject", "visit"]].drop_duplicates(ignore_index=True)
    if years is not None:
        scans["years_since_first"] = [
            0.0 if row.visit == "1" else years[row.subject] for row in scans.itertuples()
        ]
    levels = muscles.assign(level="L4", csa_mm2=muscles["csa_mean_mm2"] / 2)
    return muscles, scans, levels.drop(columns=["csa_mean_mm2", "volume_ml"])


def test_reliability_between_visits_finds_the_planted_error():
    table = visit_reliability(*visits_of(400))
    assert tuple(table.columns) == RELIABILITY_COLUMNS
    assert set(table.source) == {"visits"}
    at_level = table[table.level == "L4"].set_index(["measure", "muscle", "side"])
    table = table[table.level == ALL_SLICES]
    assert table.groupby("measure").size().to_dict() == {
        "csa": 12,
        "volume": 12,
        "fat_fraction": 12,
    }
    assert set(table.n_subjects) == {400}
    rows = table.set_index(["measure", "muscle", "side"])
    for muscle in MUSCLES:
        for side in SIDES:
            area = rows.loc[("csa", muscle, side)]
            assert area["sem_low_95"] * 0.97 < 20 < area.sem_high_95 * 1.03
            assert area.bias == pytest.approx(6, abs=6)
            assert area.icc_2_1 == pytest.approx(90**2 / (90**2 + 20**2), abs=0.03)
            assert area.icc_2_1 < area.icc_3_1
            fat = rows.loc[("fat_fraction", muscle, side)]
            assert (fat.margin, fat.equivalent) == (0.02, True)
            assert fat["sem"] == pytest.approx(0.01, rel=0.15)
            half = at_level.loc[("csa", muscle, side)]
            assert half["sem"] == pytest.approx(area["sem"] / 2)
            assert half.icc_2_1 == pytest.approx(area.icc_2_1)
        both = rows.loc[("csa", muscle, "both")]
        sides = [rows.loc[("csa", muscle, side)] for side in SIDES]
        assert both.first_mean == pytest.approx(sum(side.first_mean for side in sides))
        assert both["sem"] == pytest.approx(20 * np.sqrt(2), rel=0.15)
        assert rows.loc[("fat_fraction", muscle, "both"), "sem"] == pytest.approx(0.007, rel=0.15)
    volume = table[table.measure == "volume"]
    np.testing.assert_allclose(volume["sem"], 0, atol=1e-9)
    np.testing.assert_allclose(volume.icc_2_1, 1)


def test_visits_more_than_three_months_apart_are_no_repeated_measurements():
    years = {f"S{number:03d}": 0.1 if number < 30 else 2.0 for number in range(50)}
    years["S000"] = 0.25  # has a change per year
    table = visit_reliability(*visits_of(50, years))
    assert set(table.n_subjects) == {29}
    assert set(table.level) == {ALL_SLICES, "L4"}


def test_visits_whose_names_are_not_in_order_are_no_repeated_measurements_either():
    muscles, scans, levels = visits_of(10, {f"S{number:03d}": 2.0 for number in range(10)})
    muscles, scans, levels = (
        pd.concat([rows, rows[rows.visit == "1"].assign(visit="start")], ignore_index=True).replace(
            {"visit": {"1": "pre", "2": "post"}}
        )
        for rows in (muscles, scans, levels)
    )
    scans.loc[scans.visit == "start", "years_since_first"] = np.nan  # so that names decide
    table = visit_reliability(muscles, scans, levels)
    assert set(table.n_subjects) == {0}


def test_a_subject_without_a_side_has_no_pair_of_both():
    muscles, scans, levels = visits_of(20)
    gone = (muscles.subject == "S003") & (muscles.side == "left") & (muscles.visit == "2")
    muscles.loc[gone, ["csa_mean_mm2", "fat_fraction"]] = np.nan
    table = visit_reliability(muscles, scans, levels[:0])
    table = table.set_index(["measure", "side"]).n_subjects
    for measure in ("csa", "fat_fraction"):
        for side, expected in (("left", 19), ("right", 20), ("both", 19)):
            assert set(table[measure, side]) == {expected}


def test_a_muscle_that_neither_visit_shows_is_no_perfect_measurement():
    muscles, scans, levels = visits_of(20)
    lowest = levels.assign(level="L5/S1")
    absent = lowest.muscle == "quadratus_lumborum"
    lowest.loc[absent, ["csa_mm2", "fat_fraction"]] = 0.0, np.nan
    some = levels.muscle.eq("psoas_major") & levels.subject.isin(["S003", "S004"])
    levels.loc[some, ["csa_mm2", "fat_fraction"]] = 0.0, np.nan
    once = some & levels.subject.eq("S004") & levels.visit.eq("2")  # a real disagreement stays
    levels.loc[once, "csa_mm2"] = 90.0
    table = visit_reliability(muscles, scans, pd.concat([levels, lowest], ignore_index=True))
    of_area = table[table.measure == "csa"].set_index(["level", "muscle", "side"])
    assert set(of_area.loc["L5/S1"].index.get_level_values("muscle")) == (
        set(MUSCLES) - {"quadratus_lumborum"}
    )
    for side in (*SIDES, "both"):
        own = of_area.loc[("L4", "psoas_major", side)]
        assert own.n_subjects == 19
        assert own.first_mean > 0
    assert (of_area["sem"] > 0).all()


def test_the_report_tells_the_subjects_of_the_rows_that_it_shows():
    muscles, scans, levels = visits_of(40)
    table = visit_reliability(muscles, scans, levels[levels.subject < "S010"])
    assert set(table.n_subjects) == {40, 10}
    shown = report._paired_reliability(with_basis("reliability", table), "visits")
    assert "t with 39 degrees of freedom; 40 subjects; 40 rows." in " ".join(shown.split())


def test_a_side_without_the_muscle_does_not_enter_the_fat_of_both():
    muscles, scans, levels = visits_of(20)
    absent = (muscles.subject == "S003") & (muscles.side == "left")
    muscles.loc[absent, ["csa_mean_mm2", "volume_ml", "fat_fraction"]] = [np.nan, 0.0, np.nan]
    levels.loc[absent, ["csa_mm2", "fat_fraction"]] = [0.0, np.nan]
    table = visit_reliability(muscles, scans, levels)
    table = table.set_index(["level", "measure", "side"]).sort_index()
    for level in (ALL_SLICES, "L4"):
        own = table.loc[level, "fat_fraction"]
        for side, expected in (("left", 19), ("right", 20), ("both", 20)):
            assert set(own.loc[side, "n_subjects"]) == {expected}
    right = muscles[(muscles.subject == "S003") & (muscles.side == "right")]
    other = visit_reliability(pd.concat([muscles[muscles.subject != "S003"], right]), scans, levels)
    other = (
        other.set_index(["level", "measure", "side"]).sort_index().loc[ALL_SLICES, "fat_fraction"]
    )
    assert set(other.loc["both", "n_subjects"]) == {19}


def test_the_report_shows_reliability_between_visits_in_the_unit_of_each_measure():
    shown = paired_reliability_text(visit_reliability(*visits_of(40))).reset_index()
    assert len(shown) == 36
    assert set(shown.Measure) == {"CSA, mm²", "Volume, ml", "Fat fraction, percentage points"}
    fat = shown[shown.Measure == "Fat fraction, percentage points"]
    assert set(fat.Margin) == {"2.00"}
    assert paired_reliability_text(visit_reliability(*visits_of(1))).empty
