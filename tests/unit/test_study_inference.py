import numpy as np
import pandas as pd
import pytest

from paravert import codebook
from paravert.anatomy import MUSCLES, SIDES
from paravert.study.data_frames import in_order, read_frame
from paravert.study.inference import (
    MODEL_COLUMNS,
    StudyModel,
    fit_models,
    model_rows,
    term_label,
    term_unit,
)
from study_tables import write_cohort

MEN_MINUS_WOMEN = dict(zip(MUSCLES, (200.0, 90.0, 400.0, 150.0), strict=True))
PER_DECADE = dict(zip(MUSCLES, (-10.0, -5.0, 20.0, 0.0), strict=True))
RIGHT_MINUS_LEFT = 12.0
ALL_MUSCLES, PSOAS = (
    StudyModel("all", "csa_mean_mm2"),
    StudyModel("one", "csa_mean_mm2", MUSCLES[:1]),
)


def cohort(subjects, sd_subjects=60.0, sd_rows=30.0, seed=0):
    """Return a table of muscles with the effects above; each age once in each sex."""
    random = np.random.default_rng(seed)
    rows = []
    for number in range(subjects):
        man, age = number % 2, 25.0 + 30 * (number // 2) / max(1, subjects // 2 - 1)
        level = random.normal(0, sd_subjects)
        for muscle in MUSCLES:
            for side in SIDES:
                csa = 1000 + level + MEN_MINUS_WOMEN[muscle] * man
                csa += PER_DECADE[muscle] * (age - 40) / 10 + RIGHT_MINUS_LEFT * (side == "right")
                rows.append(
                    {
                        "subject": f"S{number:03d}",
                        "sex": "FM"[man],
                        "age_years": age,
                        "height_cm": 170.0 + random.normal(0, 8),
                        "weight_kg": 70.0 + random.normal(0, 8),
                        "muscle": muscle,
                        "side": side,
                        "csa_mean_mm2": csa + random.normal(0, sd_rows),
                    }
                )
    return in_order(pd.DataFrame(rows))


def terms(model, muscles, kind="fixed"):
    rows = pd.DataFrame(model_rows(model, muscles), columns=list(MODEL_COLUMNS))
    return rows[rows.kind == kind].set_index("term")


def test_planted_effects_are_found_within_their_errors():
    found = terms(ALL_MUSCLES, cohort(120))
    first = MUSCLES[0]
    planted = {
        "sex[T.M]": MEN_MINUS_WOMEN[first],
        "age_decades": PER_DECADE[first],
        "side[T.right]": RIGHT_MINUS_LEFT,
        **{f"sex[T.M]:muscle[T.{m}]": MEN_MINUS_WOMEN[m] - 200 for m in MUSCLES[1:]},
        **{f"age_decades:muscle[T.{m}]": PER_DECADE[m] + 10 for m in MUSCLES[1:]},
    }
    for term, effect in planted.items():
        row = found.loc[term]
        assert abs(row.estimate - effect) < 3 * row.standard_error, term
    assert found.loc["sex[T.M]", "p_value"] < 1e-6


def test_intervals_cover_the_planted_effect_at_about_the_nominal_rate():
    covered = 0
    for seed in range(150):
        row = terms(PSOAS, cohort(12, seed=seed)).loc["sex[T.M]"]
        covered += row.low_95 <= MEN_MINUS_WOMEN["psoas_major"] <= row.high_95
    assert 0.90 <= covered / 150 <= 0.99  # three binomial standard errors: 5 %


def test_balanced_sex_effect_is_the_difference_of_the_group_means():
    muscles = cohort(20)
    means = muscles.groupby(["muscle", "sex"], observed=True).csa_mean_mm2.mean().unstack()
    difference = means.M - means.F
    assert terms(PSOAS, muscles).loc["sex[T.M]", "estimate"] == pytest.approx(difference.iloc[0])
    over_all = terms(ALL_MUSCLES, muscles, kind="mean").loc["sex[T.M]"]
    assert over_all.estimate == pytest.approx(difference.mean())
    assert over_all.label == "men minus women, mean of the muscles"


def test_adjusting_for_body_size_finds_its_effect():
    muscles = cohort(80)
    muscles["csa_mean_mm2"] += 5 * muscles.height_cm
    model = StudyModel(
        "adjusted", "csa_mean_mm2", covariates=("sex", "age_decades", "height_10cm", "weight_10kg")
    )
    row = terms(model, muscles).loc["height_10cm"]
    assert abs(row.estimate - 50) < 3 * row.standard_error
    assert row.unit == "mm2 per 10 cm"


def test_subjects_without_covariates_are_left_out_and_counted():
    muscles = cohort(20)
    muscles.loc[muscles.subject.isin(["S003", "S004"]), "age_years"] = np.nan
    muscles.loc[muscles.subject == "S005", "sex"] = np.nan
    rows = model_rows(ALL_MUSCLES, muscles)
    assert {(row["n_subjects"], row["n_rows"]) for row in rows} == {(17, 136)}
    assert rows[0]["note"] == "3 subjects left out, sex or age_years unknown"


def test_missing_outcomes_take_out_rows_not_subjects():
    muscles = cohort(20)
    muscles.loc[muscles.index[:5], "csa_mean_mm2"] = np.nan
    row = model_rows(ALL_MUSCLES, muscles)[0]
    assert (row["n_subjects"], row["n_rows"]) == (20, 155)


def test_subjects_without_the_outcome_are_left_out_and_counted():
    muscles = cohort(20)
    muscles.loc[muscles.subject.isin(["S003", "S004"]), "csa_mean_mm2"] = np.nan
    row = model_rows(ALL_MUSCLES, muscles)[0]
    assert row["n_subjects"] == 18
    assert row["note"] == "2 subjects left out, no csa_mean_mm2"


@pytest.mark.parametrize(("subjects", "said"), [(0, "0 subjects"), (1, "1 subject"), (4, "4 subj")])
def test_too_few_subjects_give_a_note_instead_of_estimates(subjects, said):
    (row,) = model_rows(
        ALL_MUSCLES,
        cohort(20).query(
            "subject < @limit(@subjects)",
            local_dict={"limit": lambda n: f"S{n:03d}", "subjects": subjects},
        ),
    )
    assert row["note"].startswith(f"not fitted: {said}")
    assert row["note"].endswith("expected at least 5")
    assert "estimate" not in row


def test_one_sex_only_is_fitted_without_sex_and_says_so():
    muscles = cohort(20)
    rows = pd.DataFrame(model_rows(ALL_MUSCLES, muscles[muscles.sex == "F"]))
    (sex,) = rows[rows.term == "sex"].to_dict("records")
    assert sex["note"] == "left out of the model: sex is F in all rows"
    assert np.isnan(sex["estimate"])
    assert "age_decades" in set(rows.term)
    assert not rows.formula.str.contains("sex").any()


def test_an_outcome_without_variation_gives_a_note():
    (row,) = model_rows(ALL_MUSCLES, cohort(20).assign(csa_mean_mm2=500.0))
    assert row["note"] == "not fitted: no variation is left to estimate errors from"


def test_terms_are_told_in_words():
    levels = {"sex": ["F", "M"], "muscle": list(MUSCLES), "side": list(SIDES)}
    told = {
        "Intercept": "reference: women, psoas major, left; covariates at their mean",
        "sex[T.M]": "men minus women, in psoas major",
        "age_decades": "age, per decade, in psoas major",
        "side[T.right]": "right minus left",
        "sex[T.M]:muscle[T.multifidus]": "men minus women, multifidus minus psoas major",
        "height_10cm": "height, per 10 cm",
    }
    assert {term: term_label(term, levels) for term in told} == told
    alone = levels | {"muscle": ["multifidus"]}
    assert term_label("sex[T.M]", alone) == "men minus women"
    assert term_unit("age_decades:muscle[T.multifidus]", "mm2") == "mm2 per decade"
    assert term_unit("side[T.right]", "mm2") == "mm2"


@pytest.mark.parametrize("subjects", [0, 1, 2, 8])
def test_every_model_of_the_study_is_in_the_table(tmp_path, subjects):
    write_cohort(tmp_path / "cohort", subjects)
    fit_models(tmp_path / "cohort", tmp_path / "tables" / "models.csv")
    table = pd.read_csv(tmp_path / "tables" / "models.csv")
    assert list(table.columns) == list(MODEL_COLUMNS)
    assert table.groupby(["outcome", "model"]).ngroups == 12
    assert (table.estimate.notna().any()) == (subjects == 8)


def test_rows_of_a_cohort_come_in_the_order_of_the_muscles(tmp_path):
    write_cohort(tmp_path, 2)
    muscles = read_frame(tmp_path, codebook.MUSCLE_TABLE)
    assert muscles.muscle[:8].tolist() == [muscle for muscle in MUSCLES for _ in SIDES]
    assert muscles.side[:8].tolist() == list(SIDES) * 4
