import numpy as np
import pandas as pd
import pytest
from scipy import stats

from paravert.anatomy import MUSCLES, SIDES
from paravert.study.claims import _spearman, paper_claims, size_and_overlap
from paravert.study.data_frames import with_ordered_categories
from paravert.study.inference import CONTRAST_COLUMNS, CSA, FAT, corrected


def scored_slices(subjects=12, slope=0.0, sd_subjects=0.0, seed=0):
    """Return area and IoU of ten slices per muscle; sd_subjects: of what a subject's slices share."""
    random = np.random.default_rng(seed)
    rows = []
    for number in range(subjects):
        of_area, of_iou = random.normal(0, sd_subjects, 2)
        for muscle in MUSCLES:
            area = 500 * (1 + of_area) + random.uniform(0, 400, 10)
            iou = 0.8 + of_iou * 0.2 + slope * (area - 700) / 400 + random.normal(0, 0.05, 10)
            rows.append(
                pd.DataFrame(
                    {"subject": f"S{number}", "muscle": muscle, "area_mm2": area, "iou": iou}
                )
            )
    return pd.concat(rows, ignore_index=True)


def test_the_correlation_is_spearmans_over_slices_and_in_each_muscle():
    slices = scored_slices(slope=0.1)
    found = pd.DataFrame(size_and_overlap(slices, 200, 1)).set_index("muscle")
    whole = stats.spearmanr(slices.area_mm2, slices.iou).statistic
    assert found.loc["", "estimate"] == pytest.approx(whole)
    for muscle, own in slices.groupby("muscle"):
        expected = stats.spearmanr(own.area_mm2, own.iou).statistic
        assert found.loc[muscle, "estimate"] == pytest.approx(expected)
    assert (found.p_value < 1e-3).all()
    assert ((found.low_95 < found.estimate) & (found.estimate < found.high_95)).all()


def test_slices_of_one_subject_are_no_evidence_of_their_own():
    wrongly_found = 0
    for seed in range(60):
        slices = scored_slices(subjects=20, sd_subjects=0.5, seed=seed)
        (whole, *_) = size_and_overlap(slices, 200, 1)
        wrongly_found += whole["p_value"] < 0.05
        naive = stats.spearmanr(slices.area_mm2, slices.iou).pvalue
        assert whole["p_value"] > naive
    assert wrongly_found / 60 < 0.2  # the naive test: in more than half


def clustered_slices(random, subjects, rho):
    """Return 25 slices of each subject in one muscle; half of the variance is between subjects."""
    shape = (2, subjects, 25)
    area, other = np.sqrt(0.5) * (random.normal(size=(2, subjects, 1)) + random.normal(size=shape))
    values = {"area_mm2": area, "iou": rho * area + np.sqrt(1 - rho**2) * other}
    names = {"subject": np.repeat(np.arange(subjects), 25), "muscle": "multifidus"}
    return pd.DataFrame(names | {name: value.ravel() for name, value in values.items()})


@pytest.mark.parametrize("subjects", [5, 8, 22])
def test_few_subjects_reject_no_correlation_in_about_5_of_100(subjects):
    random, truth = np.random.default_rng(3), 6 / np.pi * np.arcsin(0.5 / 2)
    wrong, held = [], []
    for _ in range(500):
        found = _spearman(clustered_slices(random, subjects, 0.0), 200, 1)
        wrong.append(found["p_value"] < 0.05)
        assert wrong[-1] == (found["low_95"] > 0 or found["high_95"] < 0)
        assert found["df"] == subjects - 1
        found = _spearman(clustered_slices(random, subjects, 0.5), 200, 1)
        held.append(found["low_95"] <= truth <= found["high_95"])
    # Monte Carlo error .01. The normal reference rejects in .16, .13 and .08.
    assert np.mean(wrong) == pytest.approx(0.05, abs=0.04)
    assert np.mean(held) == pytest.approx(0.95, abs=0.04)


def test_p_is_that_of_t_on_fishers_scale():
    slices = clustered_slices(np.random.default_rng(4), 5, 0.5)
    (found, *_) = size_and_overlap(slices, 400, 1)
    drawn = np.random.default_rng(1).multinomial(5, np.full(5, 0.2), 400)
    ranks = slices[["area_mm2", "iou"]].rank().assign(subject=slices.subject)
    z = [
        np.arctanh(
            np.corrcoef(np.repeat(ranks.to_numpy()[:, :2], times[ranks.subject], axis=0).T)[0, 1]
        )
        for times in drawn
    ]
    centre, error = (
        np.arctanh(stats.spearmanr(slices.area_mm2, slices.iou).statistic),
        np.std(z, ddof=1),
    )
    assert found["p_value"] == pytest.approx(2 * stats.t.sf(abs(centre) / error, 4))
    ends = np.tanh(centre + np.array([-1, 1]) * stats.t.ppf(0.975, 4) * error)
    assert (found["low_95"], found["high_95"]) == pytest.approx(tuple(ends))


def test_a_perfect_correlation_has_no_interval():
    slices = clustered_slices(np.random.default_rng(5), 6, 1.0)
    (found, *_) = size_and_overlap(slices.assign(iou=slices.area_mm2), 50, 1)
    assert found["estimate"] == pytest.approx(1)
    assert found["note"].startswith("no interval: ")


def test_without_data_the_correlation_has_a_note():
    rows = size_and_overlap(scored_slices().iloc[:0], 200, 1)
    assert len(rows) == 5
    assert all(row["note"].startswith("not estimated") for row in rows)
    assert not any("estimate" in row for row in rows)


@pytest.mark.parametrize("subjects", [1, 2, 4])
def test_fewer_than_five_subjects_have_a_correlation_but_no_p_value(subjects):
    slices = scored_slices(subjects, slope=0.5)
    (whole, *_) = rows = size_and_overlap(slices, 200, 1)
    assert whole["estimate"] == pytest.approx(
        stats.spearmanr(slices.area_mm2, slices.iou).statistic
    )
    assert not {"low_95", "high_95", "p_value", "df", "covariance"} & set(whole)
    told = f"no interval: {subjects} subject{'s' * (subjects > 1)}, expected at least 5"
    assert {row["note"] for row in rows} == {told}
    claim = claims(rows, muscles_table(PAPER_ORDER)).loc["Larger areas go with a higher IoU"]
    assert claim.reproduced == "not tested"
    assert claim.found.endswith(f" rho; {told}")
    five = size_and_overlap(scored_slices(5, slope=0.5), 200, 1)
    found = verdicts(five, muscles_table(PAPER_ORDER))
    assert found["Larger areas go with a higher IoU"] == "yes"


# --- claims --------------------------------------------------------------------------------------


def contrast_rows(family, outcome, estimates, p_value):
    return [
        {
            "family": family,
            "outcome": outcome,
            "model": "sex and age",
            "muscle": muscle,
            "label": f"men against women, {muscle}",
            "estimate": estimate,
            "unit": "x",
            "p_value": p_value,
        }
        for muscle, estimate in zip(MUSCLES, estimates, strict=False)
    ]


def muscles_table(order):
    """Return areas of five men and five women; order: muscles from the largest."""
    return with_ordered_categories(
        pd.DataFrame(
            [
                {"subject": f"{sex}{n}", "sex": sex, "muscle": m, "side": side, CSA: 1000 / (k + 1)}
                for sex in "FM"
                for n in range(5)
                for k, m in enumerate(order[sex])
                for side in SIDES
            ]
        )
    )


PAPER_ORDER = {
    "M": ("erector_spinae", "psoas_major", "multifidus", "quadratus_lumborum"),
    "F": ("erector_spinae", "multifidus", "psoas_major", "quadratus_lumborum"),
}
NO_OVERLAP = pd.DataFrame({"muscle": [], "side": [], "iou": []})


def claims(contrasts, muscles, overlap=NO_OVERLAP, ranges=""):
    table = pd.DataFrame(corrected(contrasts), columns=list(CONTRAST_COLUMNS))
    return paper_claims(table, muscles, overlap, ranges).set_index("claim")


def verdicts(*tables):
    return claims(*tables).reproduced


@pytest.mark.parametrize(
    ("estimates", "p_value", "verdict"),
    [
        ((300, 80, 400, 100), 0.001, "yes"),
        ((300, 80, 400, 100), 0.04, "in direction only"),  # four tests: Holm .16
        ((-300, -80, -400, -100), 0.001, "no"),
        ((300, -80, 400, 100), 0.001, "in part"),
    ],
)
def test_a_claim_is_reproduced_if_direction_and_corrected_p_agree(estimates, p_value, verdict):
    found = verdicts(
        contrast_rows("sex, area", CSA, estimates, p_value), muscles_table(PAPER_ORDER)
    )
    assert found["Men have larger areas in all muscles"] == verdict
    assert found["The fat fraction rises with age"] == "not tested"


def test_odds_ratios_below_one_mean_less_fat_in_men():
    rows = contrast_rows("sex, fat", FAT, (0.8, 0.7, 0.8, 0.9), 1e-4)
    found = claims(rows, muscles_table(PAPER_ORDER)).loc["The fat fraction is larger in women"]
    assert found.reproduced == "yes"
    assert found.found == (
        "men against women: 0.7 to 0.9 x; as claimed in 4 of 4, p (Holm) < .05 in 4"
    )


def test_large_differences_are_told_without_exponent():
    rows = contrast_rows("sex, area", CSA, (87.25, 300, 1234, 100), 1e-4)
    found = claims(rows, muscles_table(PAPER_ORDER)).loc["Men have larger areas in all muscles"]
    assert found.found.startswith("men against women: 87.2 to 1,230 x;")


def test_the_order_of_the_muscles_is_counted_in_subjects():
    found = verdicts([], muscles_table(PAPER_ORDER))
    assert found["Erector spinae is the largest muscle in all subjects"] == "yes"
    assert found["In men psoas major is the second largest"] == "yes"
    unknown = muscles_table(PAPER_ORDER)
    unknown.loc[unknown.subject == "F1", "sex"] = None
    largest = claims([], unknown).loc["Erector spinae is the largest muscle in all subjects"]
    assert largest.found == "in 10 of 10 subjects"
    turned = {"M": PAPER_ORDER["F"], "F": PAPER_ORDER["F"][::-1]}
    found = verdicts([], muscles_table(turned))
    assert found["Erector spinae is the largest muscle in all subjects"] == "in part"
    assert found["In men psoas major is the second largest"] == "no"


def test_a_subject_whose_sex_is_known_at_one_visit_counts_once():
    first = muscles_table(PAPER_ORDER).assign(visit="1")
    visits = pd.concat([first, first.assign(visit="2", sex=None)], ignore_index=True)
    found = claims([], with_ordered_categories(visits)).found
    assert found["Erector spinae is the largest muscle in all subjects"] == "in 10 of 10 subjects"
    assert found["In men psoas major is the second largest"] == "in 5 of 5 men"


def test_a_subject_of_whom_a_side_is_unknown_has_no_area_of_both_sides():
    table = muscles_table(PAPER_ORDER)
    lost = (table.subject == "M1") & (table.muscle == "psoas_major") & (table.side == "left")
    table.loc[lost, CSA] = np.nan
    found = claims([], table).found
    assert found["Erector spinae is the largest muscle in all subjects"] == "in 9 of 9 subjects"


def test_quartiles_are_compared_per_muscle_and_side():
    overlap = pd.DataFrame(
        {
            "subject": ["S1", "S2", "S3", "S4", "S5"] * 2,
            "muscle": ["psoas_major"] * 10,
            "side": ["left"] * 5 + ["right"] * 5,
            "iou": [0.8, 0.9, 0.9, 0.9, 0.9, 0.6, 0.6, 0.9, 0.9, 0.9],
        }
    )
    found = verdicts([], muscles_table(PAPER_ORDER), overlap)
    claim = "The lower quartile of the IoU is above .75 in every muscle and side"
    assert found[claim] == "in part"
    right = claims([], muscles_table(PAPER_ORDER), overlap[overlap.side == "left"]).loc[claim]
    assert right.reproduced == "in part"
    assert right.found == "0.900 to 0.900, in 1 measured muscle and side"
    few = claims([], muscles_table(PAPER_ORDER), overlap[overlap.subject < "S5"]).loc[claim]
    assert few.reproduced == "not tested"
    assert few.found.endswith("; fewer than 5 subjects")


BY_LEVEL = [
    contrast_rows("sex, area", CSA, (300, 80, 400, 100), 1e-4)
    + contrast_rows("sex, fat", FAT, (0.6, 0.5, 0.6, 0.7), 1e-4)
    + contrast_rows("age", FAT, (1.1, 1.2, 1.3, 1.4), 1e-4),
    contrast_rows("sex, area by level", "csa_by_level_mm2", (200, 50, 300, 90), 0.001)
    + contrast_rows("sex, fat by level", "fat_fraction_by_level", (0.8, 0.7, 0.8, 0.9), 0.04),
]
RANGES = "scans cover different ranges (68 % of the subjects have L3/4)"


def test_where_ranges_differ_men_and_women_are_compared_by_level():
    found = claims(sum(BY_LEVEL, []), muscles_table(PAPER_ORDER), ranges=RANGES)
    area = found.loc["Men have larger areas in all muscles"]
    assert area.found == (
        f"men against women by level: 50 to 300 x; as claimed in 4 of 4, p (Holm) < .05 in 4; {RANGES}"
    )
    assert (area.reproduced, area.tested_by) == ("yes", "contrasts, family 'sex, area by level'")
    assert found.reproduced["The fat fraction is larger in women"] == "in direction only"
    assert found.reproduced["The fat fraction rises with age"] == "yes"
    of_slices = found.index.str.contains("IoU")
    assert found.found[~of_slices].str.endswith(f"; {RANGES}").all()
    assert not found.found[of_slices].str.contains("ranges").any()


def test_where_ranges_differ_and_no_level_was_fitted_the_sexes_are_not_compared():
    lacking = {"family": "sex, fat by level", "outcome": "fat_fraction_by_level"}
    lacking |= {"model": "sex and age", "note": "not fitted: 3 subjects, expected at least 5"}
    found = claims([*BY_LEVEL[0], lacking], muscles_table(PAPER_ORDER), ranges=RANGES)
    fat = found.loc["The fat fraction is larger in women"]
    assert fat.reproduced == "not tested"
    assert fat.found == f"by level: not fitted: 3 subjects, expected at least 5; {RANGES}"
    assert found.reproduced["Men have larger areas in all muscles"] == "not tested"


def test_muscles_that_are_not_measured_leave_a_claim_in_part_or_not_tested():
    known = muscles_table(PAPER_ORDER)
    known.loc[known.muscle.isin(["quadratus_lumborum", "erector_spinae"]), CSA] = None
    rows = contrast_rows("sex, area", CSA, (300, 80), 1e-4)
    rows += [
        {
            "family": "muscles, fat",
            "outcome": FAT,
            "model": "sex and age",
            "note": "not all muscles",
        }
    ]
    found = claims(rows, known)
    area = found.loc["Men have larger areas in all muscles"]
    assert area.found == (
        "men against women: 80 to 300 x; as claimed in 2 of 2 measured muscles, p (Holm) < .05 in 2"
    )
    assert area.reproduced == "in part"
    order = found.loc["In men psoas major is the second largest"]
    assert (order.found, order.reproduced) == ("no men with all muscles measured", "not tested")
    largest = found.loc["Erector spinae is the largest muscle in all subjects"]
    assert largest.found == "no subjects with all muscles measured"
    women = claims([], known[known.sex == "M"]).found
    assert women[women.index.str.startswith("In women")].tolist() == ["no women"]
    back = found.loc[found.index.str.startswith("The fat fraction is larger in multifidus")]
    assert back.found.tolist() == ["not all muscles"]


def test_claims_about_fewer_than_five_subjects_are_not_tested():
    known = muscles_table(PAPER_ORDER)
    found = claims([], known[known.subject.isin(["F0", "F1", "M0", "M1"])])
    counts = found[found.tested_by.str.startswith(("csa_mean", "means of women"))]
    assert set(counts.reproduced) == {"not tested"}
    assert counts.found.str.endswith("; fewer than 5 subjects").all()
    assert counts.found["In men psoas major is the second largest"].startswith("in 2 of 2 men")


def test_a_claim_is_not_tested_where_one_of_its_muscles_rests_on_three_men():
    rows = contrast_rows("sex, area", CSA, (300, 80, 400, 900), 1e-4)
    rows = [row | {"n_subjects": 22, "n_sex": 11} for row in rows]
    rows[-1]["n_sex"] = 3
    area = claims(rows, muscles_table(PAPER_ORDER)).loc["Men have larger areas in all muscles"]
    assert (area.reproduced, area.n_sex) == ("not tested", 3)
    assert area.found.endswith("; fewer than 5 subjects")


def test_a_claim_is_not_tested_where_one_side_was_drawn_in_three_subjects():
    left = {"muscle": "psoas_major", "side": "left", "iou": 0.9}
    overlap = pd.DataFrame({"subject": [f"S{n}" for n in range(8)]} | left)
    few = overlap.assign(side=["right"] * 3 + ["left"] * 5, iou=0.4)
    found = claims([], muscles_table(PAPER_ORDER), pd.concat([overlap, few[:3]]))
    drawn = found.loc["The lower quartile of the IoU is above .75 in every muscle and side"]
    assert (drawn.reproduced, drawn.n_subjects) == ("not tested", 3)
