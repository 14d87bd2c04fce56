import numpy as np
import pandas as pd
import patsy
import pytest

from paravert.anatomy import MUSCLES, SIDES
from paravert.study.data_frames import with_ordered_categories
from paravert.study.inference import CSA, OUTCOMES, SEX_AND_AGE, fit_model
from paravert.study.marginal_model import LOGIT, fit_marginal
from paravert.study.report_tables import weighted_texts
from paravert.study.selection import (
    SELECTION_COLUMNS,
    WEIGHTED_COLUMNS,
    NotWeighted,
    inclusion_weights,
    selection,
    weighted_contrasts,
)


@pytest.fixture
def ledger():
    """Return ten analysed and six quarantined subjects; one age and one sex are unknown."""
    ages = [30, 40, 50, 60, 70, 30, 40, 50, 60, np.nan] + [60, 70, 80, 60, 70, 80]
    return pd.DataFrame(
        {
            "subject": [f"S{number}" for number in range(16)],
            "status": ["analysed"] * 10 + ["quarantined"] * 6,
            "reason": [None] * 10 + ["mosaic"] * 4 + ["no-dicom"] * 2,
            "sex": ["F"] * 6 + ["M"] * 4 + ["F"] * 1 + ["M"] * 4 + [None],
            "age_years": ages,
            "smoker": [True] * 5 + [False] * 5 + [True] * 6,
            "pseudonym": [f"x{number}" for number in range(16)],
        }
    )


def of(table, variable, category=None):
    rows = table[table.variable == variable]
    (row,) = (
        rows[rows.category == category].to_dict("records") if category else rows.to_dict("records")
    )
    return row


def test_numbers_are_compared_by_mean_sd_and_standardised_difference(ledger):
    ledger = pd.concat([ledger] * 2, ignore_index=True)
    row = of(selection(ledger), "age_years")
    inside, outside = (ledger.age_years[ledger.status == s] for s in ("analysed", "quarantined"))
    assert row["analysed"] == pytest.approx(inside.mean())
    assert row["sd_not_analysed"] == pytest.approx(outside.std())
    pooled = np.sqrt((inside.var() + outside.var()) / 2)
    assert row["standardised_difference"] == pytest.approx(
        (inside.mean() - outside.mean()) / pooled
    )
    assert (row["n_analysed"], row["missing_analysed"]) == (18, 2)
    assert (row["n_not_analysed"], row["missing_not_analysed"]) == (12, 0)
    assert row["unit"] == "year"


def test_categories_are_compared_by_their_share_of_the_known_values(ledger):
    table = selection(ledger)
    row = of(table, "sex", "F")
    assert (row["analysed"], row["not_analysed"]) == (0.6, 0.2)
    expected = (0.6 - 0.2) / np.sqrt((0.6 * 0.4 + 0.2 * 0.8) / 2)
    assert row["standardised_difference"] == pytest.approx(expected)
    assert row["missing_not_analysed"] == 1
    assert of(table, "smoker", "True")["not_analysed"] == 1.0


def test_reasons_are_counted_and_identifiers_left_out(ledger):
    table = selection(pd.concat([ledger, ledger.assign(pseudonym="y" + ledger.pseudonym)]))
    assert of(table, "reason", "mosaic")["count_not_analysed"] == 8
    assert of(table, "sex", "F")["count_not_analysed"] == 2
    assert of(table, "reason", "no-dicom")["not_analysed"] == pytest.approx(1 / 3)
    assert "pseudonym" not in set(table.variable)
    assert list(table.columns) == list(SELECTION_COLUMNS)


def test_reasons_are_counted_by_site_where_there_are_several(ledger):
    assert not selection(ledger.assign(site="A")).variable.str.contains("site A").any()
    table = selection(ledger.assign(site=["A"] * 12 + ["B"] * 4))
    mosaic = of(table, "reason, site A", "mosaic")
    assert (mosaic["count_not_analysed"], mosaic["n_not_analysed"]) == (2, 2)
    assert of(table, "reason, site B", "mosaic")["not_analysed"] == 0.5
    assert of(table, "reason, site B", "no-dicom")["count_not_analysed"] == 2


@pytest.mark.parametrize("kept", ["analysed", "quarantined", "nobody"])
def test_one_group_alone_has_no_difference(ledger, kept):
    table = selection(ledger[ledger.status == kept])
    assert table.standardised_difference.isna().all()


# --- complete cases against inverse-probability weights ------------------------------------------


def people_of(**groups):
    """Return women of 50 years. groups: site to numbers of subjects in the model and missing."""
    rows = [
        {
            "subject": f"{site}{number}",
            "sex": "F",
            "age_years": 50.0,
            "site": site,
            "inside": number < n,
        }
        for site, (n, missing) in groups.items()
        for number in range(n + missing)
    ]
    people = pd.DataFrame(rows)
    return people.drop(columns="inside"), people["inside"].to_numpy()


def test_weights_are_the_share_in_the_model_over_that_of_the_site():
    found = inclusion_weights(*people_of(A=(40, 10), B=(20, 30)))
    assert found.weights["A0"] == pytest.approx(0.6 / 0.8)
    assert found.weights["B0"] == pytest.approx(0.6 / 0.4)
    assert found.effective_n == pytest.approx(60**2 / (40 * 0.75**2 + 20 * 1.5**2))
    assert (found.n_missing, found.predictors) == (40, ("site",))
    assert found.left_out == ("not predictors: sex, age_years",)


def test_weights_are_truncated_at_percentiles_0_1_and_99_9():
    random = np.random.default_rng(1)
    people, _ = people_of(A=(20_000, 0))
    people["weight_kg"] = random.normal(75, 12, 20_000)
    inside = random.uniform(size=20_000) < 1 / (1 + np.exp((people.weight_kg - 75) / 6))
    weights = inclusion_weights(people, inside.to_numpy()).weights
    ends = (weights == weights.min()).mean(), (weights == weights.max()).mean()
    assert ends == pytest.approx((0.001, 0.001), abs=0.0002)
    assert weights.mean() == pytest.approx(1)


def test_subjects_for_whom_nobody_can_stand_are_left_out_and_told():
    people, inside = people_of(A=(40, 10), B=(20, 30), C=(0, 7))
    people.loc[49, "age_years"] = np.nan
    people["height_cm"] = np.where(people.index == 0, np.nan, 170.0 + people.index % 9)
    found = inclusion_weights(people, inside)
    assert found.n_missing == 39
    assert found.left_out == (
        "1 subject of unknown sex or age_years",
        "7 subjects of site C, none in the model",
        "not predictors: sex, age_years, height_cm",
    )


def test_a_small_group_has_few_predictors_the_first_ones_of_the_sheet():
    random = np.random.default_rng(2)
    people, inside = people_of(A=(100, 5), B=(100, 5))
    people["sex"] = random.choice(["F", "M"], len(people))
    people["height_cm"], people["weight_kg"] = random.normal(170, 8, (2, len(people)))
    found = inclusion_weights(people, inside)
    assert found.predictors == ("sex", "site")
    assert found.left_out == ("not predictors: age_years, height_cm, weight_kg",)


@pytest.mark.parametrize("name", ["years_since_first", "Years_Since_First"])
def test_the_years_of_a_visit_are_no_predictor(name):
    people, inside = people_of(A=(40, 10), B=(20, 30))
    years = np.where(inside & (np.arange(len(people)) % 2 == 0), 1.0, 0.0)
    assert inclusion_weights(people.assign(**{name: years}), inside).predictors == ("site",)


@pytest.mark.parametrize(
    ("groups", "why"),
    [
        ({"A": (40, 0), "B": (20, 0)}, "nobody is missing"),
        (
            {"A": (40, 5), "B": (20, 4)},
            "60 subjects in the model, 9 subjects missing, expected at least 10",
        ),
        ({"A": (40, 20)}, "no covariate that varies is known for all subjects"),
    ],
)
def test_without_weights_the_reason_is_told(groups, why):
    with pytest.raises(NotWeighted, match=why):
        inclusion_weights(*people_of(**groups))


def test_subjects_without_sex_or_age_are_missing_and_no_weight_stands_for_them():
    people, inside = people_of(A=(40, 3))
    people.loc[~inside, "age_years"] = np.nan
    told = "no weight can stand for 3 subjects of unknown sex or age_years; nobody else is missing"
    with pytest.raises(NotWeighted, match=f"^{told}$"):
        inclusion_weights(people, inside)


def test_covariates_that_separate_the_missing_give_no_weights():
    people, inside = people_of(A=(40, 40))
    with pytest.raises(NotWeighted, match="separate"):
        inclusion_weights(people.assign(weight_kg=np.where(inside, 60.0, 90.0)), inside)


def incomplete_cohort(subjects, seed):
    """Return the areas of the subjects at hand, and a ledger in which heavy subjects are missing.

    Men are larger by 300 mm2; every 10 kg above the mean of their sex add 60 mm2. Twice as many women
    as men are of a weight that is often missing.
    """
    random = np.random.default_rng(seed)
    man = np.arange(subjects) % 2
    above = random.normal(0, 1.2, subjects)
    missing = random.uniform(size=subjects) < 1 / (1 + np.exp(2.2 - 1.8 * above - man))
    people = pd.DataFrame(
        {
            "subject": [f"S{number:05d}" for number in range(subjects)],
            "sex": np.where(man, "M", "F"),
            "age_years": random.uniform(20, 80, subjects),
            "weight_kg": 68 + 16 * man + 10 * above,
            "status": np.where(missing, "quarantined", "analysed"),
        }
    )
    areas = [
        people.assign(muscle=muscle, side=side).assign(
            **{CSA: 700 + 300 * man + 60 * above + random.normal(0, 50, subjects)}
        )
        for muscle in MUSCLES
        for side in SIDES
    ]
    return with_ordered_categories(pd.concat(areas, ignore_index=True)), people


@pytest.fixture(scope="module")
def contrasts_of_incomplete():
    """Return the contrasts of 3,000 subjects of whom a quarter are missing."""
    data, ledger = incomplete_cohort(3000, 5)
    at_hand = data[data.status == "analysed"]
    return weighted_contrasts(ledger, at_hand, [fit_model(SEX_AND_AGE, OUTCOMES[0], at_hand)])


def test_weights_undo_the_bias_of_complete_cases(contrasts_of_incomplete):
    table = contrasts_of_incomplete
    assert list(table.columns) == list(WEIGHTED_COLUMNS)
    sexes = table[table.family == "sex, area"]
    assert (sexes.complete_cases_high_95 < 300).all()
    assert ((sexes.weighted_low_95 < 300) & (sexes.weighted_high_95 > 300)).all()
    assert (sexes.difference_in_standard_errors > 1.5).all()
    row = sexes.iloc[0]
    assert row.n_subjects + row.n_missing == 3000
    assert row.n_rows == 8 * row.n_subjects
    assert row.effective_n < 0.95 * row.n_subjects
    assert row.predictors == "sex, age_years, weight_kg"


def test_the_report_tells_both_estimates_and_the_weights(contrasts_of_incomplete):
    told = weighted_texts(contrasts_of_incomplete)
    assert "men minus women, psoas major" in told["table"]
    assert "weights from sex, age_years, weight_kg, 0." in told["note"]


def test_without_anybody_missing_the_complete_cases_stand_alone():
    data, ledger = incomplete_cohort(60, 6)
    ledger["status"] = "analysed"
    table = weighted_contrasts(ledger, data, [fit_model(SEX_AND_AGE, OUTCOMES[0], data)])
    assert table.complete_cases.notna().all()
    assert table[["weighted", "effective_n"]].isna().all(axis=None)
    assert set(table.note) == {"not weighted: nobody is missing"}
    assert (
        weighted_texts(table)["note"]
        == "CSA: 60 subjects in the model, 0 missing; not weighted: nobody is missing."
    )


@pytest.mark.parametrize("subjects", [60, 260])
def test_equal_weights_change_nothing(subjects):
    data, _ = incomplete_cohort(subjects, 7)
    weights = pd.Series(2.5, index=data.subject.unique())
    plain, weighted = (
        pd.DataFrame(fit_model(SEX_AND_AGE, OUTCOMES[0], data, w).contrasts())
        for w in (None, weights)
    )
    numbers = ["estimate", "standard_error", "low_95", "high_95", "p_value"]
    pd.testing.assert_frame_equal(plain[numbers], weighted[numbers], rtol=1e-9)


@pytest.mark.parametrize("outcome", [OUTCOMES[0], OUTCOMES[2]], ids=["identity", "logit"])
def test_weighted_errors_are_those_of_the_formula(outcome):
    data, _ = incomplete_cohort(240, 8)
    random = np.random.default_rng(9)
    data[OUTCOMES[2].column] = random.beta(2, 12, len(data))
    weights = pd.Series(random.uniform(0.4, 3, 240), index=data.subject.unique())
    covariates, link = ["sex", "age_years"], outcome.link
    fit = fit_marginal(outcome.column, data, covariates, link, weights=weights)
    _, design = patsy.dmatrices(fit.formula, data)
    names = design.design_info.column_names
    design = np.asarray(design)[:, [names.index(term) for term in fit.terms]]
    weight = weights[data.subject].to_numpy()
    mean = design @ fit.coefficients
    slope = np.ones(len(data))
    if link == LOGIT:
        mean = 1 / (1 + np.exp(-mean))
        slope = mean * (1 - mean)
    residual = data[outcome.column].to_numpy() - mean
    bread = np.linalg.inv(design.T @ (design * (weight * slope)[:, None]))
    total, middle = np.zeros(len(names)), np.zeros(bread.shape)
    for rows in data.groupby("subject").indices.values():  # Mancl and DeRouen 2001, equation 4
        own = design[rows] * slope[rows, None]
        inverse = np.diag(weight[rows] / slope[rows])
        leverage = own @ bread @ own.T @ inverse
        total += own.T @ inverse @ residual[rows]
        score = own.T @ inverse @ np.linalg.solve(np.eye(len(rows)) - leverage, residual[rows])
        middle += np.outer(score, score)
    assert np.abs(total).max() < 1e-6
    np.testing.assert_allclose(fit.covariance, bread @ middle @ bread, rtol=1e-6, atol=1e-12)
