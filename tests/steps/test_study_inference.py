from dataclasses import replace

import numpy as np
import pandas as pd
import patsy
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf
from scipy import stats
from scipy.special import logit

from paravert import codebook, tables
from paravert.anatomy import MUSCLES, SIDES, STANDARD_LEVELS, level_name
from paravert.study import variance_components as variance_components_module
from paravert.study.claims import paper_claims
from paravert.study.covariates import with_model_covariates, without_small_categories
from paravert.study.data_frames import read_frame, with_ordered_categories
from paravert.study.drawing.model_plots import site_effect_points
from paravert.study.inference import (
    ADJUSTED,
    BY_LEVEL_OUTCOMES,
    CONTRAST_COLUMNS,
    CSA,
    FAT,
    MEAN_COLUMNS,
    MODEL_COLUMNS,
    OUTCOMES,
    SEX_AND_AGE,
    StudyModel,
    corrected,
    fit_model,
    term_label,
)
from paravert.study.marginal_model import LOGIT, NotFitted, fit_marginal
from paravert.study.models import fit_models
from paravert.study.result_tables import for_sharing
from paravert.study.site_effects import site_effects
from paravert.study.variance_components import _mean_squares, variance_components
from study_tables import cohort_rows, write_cohort

MEAN_CSA_MM2 = dict(zip(MUSCLES, (600.0, 320.0, 1250.0, 550.0), strict=True))
MEN_MINUS_WOMEN = dict(zip(MUSCLES, (200.0, 90.0, 400.0, 150.0), strict=True))
PER_DECADE = dict(zip(MUSCLES, (-10.0, -5.0, 20.0, 0.0), strict=True))
LEFT_MINUS_RIGHT = dict(zip(MUSCLES, (-12.0, -6.0, -24.0, -10.0), strict=True))
MEAN_FAT_LOGIT = dict(zip(MUSCLES, (-3.0, -2.5, -1.8, -1.5), strict=True))
FAT_MEN_LOGIT, FAT_DECADE_LOGIT = -0.3, 0.2
AREA, VOLUME, FAT_FRACTION = OUTCOMES
BY_LEVEL_AREA, BY_LEVEL_FAT = BY_LEVEL_OUTCOMES


def cohort(subjects, seed=0, sd=(0.09, 0.07, 0.04)):
    """Return a table of muscles with the effects above; sd: subject, muscle, side, of the mean."""
    random = np.random.default_rng(seed)
    man = np.arange(subjects) % 2
    age = 25.0 + 30 * (np.arange(subjects) // 2) / max(1, subjects // 2 - 1)
    height, of_subject = 170 + random.normal(0, 8, subjects), random.normal(size=subjects)
    parts = []
    for muscle in MUSCLES:
        of_muscle = random.normal(size=subjects)
        for side in SIDES:
            deviation = (
                sd[0] * of_subject + sd[1] * of_muscle + sd[2] * random.normal(size=subjects)
            )
            decades = (age - 40) / 10
            csa = MEAN_CSA_MM2[muscle] * (1 + deviation) + MEN_MINUS_WOMEN[muscle] * man
            csa += PER_DECADE[muscle] * decades - LEFT_MINUS_RIGHT[muscle] * (side == "right")
            fat = (
                MEAN_FAT_LOGIT[muscle]
                + FAT_MEN_LOGIT * man
                + FAT_DECADE_LOGIT * decades
                + deviation
            )
            parts.append(
                pd.DataFrame(
                    {
                        "subject": [f"S{number:03d}" for number in range(subjects)],
                        "sex": np.where(man, "M", "F"),
                        "age_years": age,
                        "height_cm": height,
                        "weight_kg": 70 + random.normal(0, 8, subjects),
                        "site": np.where(np.arange(subjects) % 3 == 0, "north", "south"),
                        "manufacturer": "one",
                        "field_strength": None,
                        "muscle": muscle,
                        "side": side,
                        CSA: csa,
                        "volume_ml": csa / 10,
                        FAT: 1 / (1 + np.exp(-fat)),
                    }
                )
            )
    return with_ordered_categories(pd.concat(parts, ignore_index=True)).sort_values(
        ["subject", "muscle", "side"], ignore_index=True
    )


def contrasts(data, family, outcome=AREA, model=SEX_AND_AGE):
    rows = pd.DataFrame(fit_model(model, outcome, data).contrasts())
    return rows[rows["family"] == family].set_index("muscle")


# --- the models ----------------------------------------------------------------------------------


@pytest.mark.parametrize("subjects", [60, 240])
def test_planted_effects_are_found_within_their_errors(subjects):
    data = cohort(subjects)
    for family, planted in (
        ("sex, area", MEN_MINUS_WOMEN),
        ("age", PER_DECADE),
        ("side", LEFT_MINUS_RIGHT),
    ):
        found = contrasts(data, family)
        assert list(found.index) == list(MUSCLES)
        for muscle, effect in planted.items():
            row = found.loc[muscle]
            assert abs(row.estimate - effect) < 3.5 * row.standard_error, (family, muscle)
            assert row.low_95 < row.estimate < row.high_95
    assert (contrasts(data, "sex, area").p_value < 1e-4).all()


def test_fat_is_compared_by_odds_ratios():
    data = cohort(240)
    for family, effect in (("sex, fat", FAT_MEN_LOGIT), ("age", FAT_DECADE_LOGIT)):
        found = contrasts(data, family, FAT_FRACTION)
        assert set(found.unit) <= {"odds ratio", "odds ratio per decade"}
        distance = np.abs(np.log(found.estimate) - effect)
        assert (distance < 3.5 * found.standard_error).all()
    muscles = contrasts(data, "muscles, fat", FAT_FRACTION).iloc[0]
    means = {m: logit(part[FAT].mean()) for m, part in data.groupby("muscle", observed=True)}
    crude = (means["multifidus"] + means["erector_spinae"]) / 2
    crude -= (means["psoas_major"] + means["quadratus_lumborum"]) / 2
    assert np.log(muscles.estimate) == pytest.approx(crude, rel=0.03)


def test_balanced_sex_effect_is_the_difference_of_the_group_means_and_its_t_test():
    data = cohort(20)
    model = StudyModel("sex", ("sex",))
    found = contrasts(data, "sex, area", model=model)
    means = data.groupby(["subject", "sex", "muscle"], observed=True)[CSA].mean().unstack("muscle")
    for muscle in MUSCLES:
        women, men = (means[muscle].xs(sex, level="sex") for sex in ("F", "M"))
        assert found.loc[muscle, "estimate"] == pytest.approx(men.mean() - women.mean())
        # Mancl and DeRouen divide each residual by 1 - leverage: with n per group, n - 1 over n.
        unbiased = stats.ttest_ind(men, women).statistic
        ratio = np.sqrt((len(men) - 1) / len(men))
        of_t = (men.mean() - women.mean()) / found.loc[muscle, "standard_error"]
        assert of_t == pytest.approx(unbiased * ratio, rel=0.01)
        assert found.loc[muscle, "df"] == 18


def test_side_is_compared_within_the_subjects():
    data = cohort(20, sd=(0.5, 0.3, 0.01))
    row = contrasts(data, "side").loc["psoas_major"]
    cells = data[data.muscle == "psoas_major"].pivot(index="subject", columns="side", values=CSA)
    paired = stats.ttest_rel(cells.left, cells.right)
    assert row.estimate == pytest.approx((cells.left - cells.right).mean())
    assert row.estimate / row.standard_error == pytest.approx(paired.statistic, rel=0.1)


def test_estimates_are_those_of_one_regression_per_muscle():
    data = cohort(40)
    data["age_decades"] = (data.age_years - data.age_years.mean()) / 10
    found = contrasts(data, "age")
    for muscle, part in data.groupby("muscle", observed=True):
        alone = smf.ols(
            f"{CSA} ~ sex + age_decades + side", part.assign(sex=part.sex.astype(str))
        ).fit()
        assert found.loc[muscle, "estimate"] == pytest.approx(alone.params["age_decades"])


@pytest.mark.parametrize("outcome", [AREA, FAT_FRACTION], ids=["identity", "logit"])
@pytest.mark.parametrize("subjects", [22, 260])
def test_estimates_and_errors_are_those_of_gee_in_statsmodels(subjects, outcome):
    data = cohort(subjects)
    data = data[~((data.subject < "S004") & (data.side == "left"))]  # unequal numbers of rows
    fitted = fit_model(ADJUSTED, outcome, data)
    response, design = patsy.dmatrices(fitted.fit.formula, fitted.data)
    families = sm.families.Binomial() if outcome.link == LOGIT else sm.families.Gaussian()
    of_subject = pd.factorize(fitted.data.subject)[0]
    gee = sm.GEE(np.ravel(response), np.asarray(design), of_subject, family=families)
    found = gee.fit(cov_type="bias_reduced", ctol=1e-10)
    names = design.design_info.column_names
    place = [names.index(term) for term in fitted.fit.terms]
    np.testing.assert_allclose(fitted.fit.coefficients, found.params[place], rtol=1e-6)
    np.testing.assert_allclose(
        fitted.fit.covariance, found.cov_params()[np.ix_(place, place)], rtol=1e-5, atol=1e-12
    )
    between = [name for name in names if "multifidus" in name and "side" not in name]
    assert set(fitted.fit.df.values()) == {subjects - len(between)}


def test_a_curve_of_age_is_followed_from_100_subjects_on():
    data = cohort(120, sd=(0.01, 0.01, 0.01))
    middle = 40.0
    data[CSA] += 40 * ((data.age_years - middle) / 10) ** 2
    fitted = fit_model(SEX_AND_AGE, AREA, data)
    assert "cr(age_decades" in fitted.fit.formula
    weights = [
        fitted.fit.mean_weights(muscle="multifidus", age_decades=(age - data.age_years.mean()) / 10)
        for age in (30, 40, 50)
    ]
    low, mid, high = (fitted.fit.estimate(one).value for one in weights)
    assert (low + high) / 2 - mid == pytest.approx(40, rel=0.1)
    assert "cr(" not in fit_model(SEX_AND_AGE, AREA, data[data.subject < "S060"]).fit.formula


def test_adjusting_for_body_size_finds_its_effect_and_says_what_is_left_out():
    data = cohort(80)
    data[CSA] += 5 * data.height_cm
    fitted = fit_model(ADJUSTED, AREA, data)
    rows = pd.DataFrame(fitted.terms()).set_index("term")
    row = rows.loc["muscle[multifidus]:height_10cm"]
    assert abs(row.estimate - 50) < 3 * row.standard_error
    assert (row.unit, row.label) == ("mm2 per 10 cm", "height, per 10 cm, multifidus")
    assert rows.label["muscle[multifidus]:site[T.north]"] == "site north, multifidus, against south"
    assert fitted.note == (
        "manufacturer left out: the same in all subjects; field_strength left out: unknown"
    )


def test_means_of_muscles_have_no_p_value_and_effects_have():
    rows = pd.DataFrame(fit_model(SEX_AND_AGE, AREA, cohort(40)).terms())
    means = rows.term.str.fullmatch(r"muscle\[\w+\]")
    assert means.sum() == 4
    assert rows[means].p_value.isna().all()
    assert rows[~means].p_value.notna().all()


def test_scans_without_a_covariate_are_counted_too():
    first = cohort(40).assign(visit="1")
    later = first[first.subject < "S030"].assign(visit="2", sex=None)
    later.loc[later.subject < "S010", "sex"] = first.sex
    never = first[first.subject == "S039"].assign(**{CSA: np.nan})
    data = pd.concat([first[first.subject < "S039"], later, never], ignore_index=True)
    fitted = fit_model(SEX_AND_AGE, AREA, with_ordered_categories(data))
    assert fitted.note == (
        "some scans of 20 subjects left out, sex or age_years unknown;"
        " 1 subject left out, no csa_mean_mm2"
    )
    assert (fitted.fit.n_subjects, fitted.fit.n_rows) == (39, (39 + 10) * 8)


def test_a_column_whose_name_looks_like_a_spline_has_p_values():
    data = cohort(40)
    of_subject = pd.Series(np.random.default_rng(1).normal(80, 9, 40), data.subject.unique())
    data["Scr(mg/dl)"] = data.subject.map(of_subject)
    model = StudyModel("adjusted", (*SEX_AND_AGE.covariates, "Scr(mg/dl)"))
    rows = pd.DataFrame(fit_model(model, AREA, data).terms())
    assert rows[rows.term.str.contains("Scr")].p_value.notna().sum() == 4


# --- vertebral levels ----------------------------------------------------------------------------

LEVELS = [level_name(position) for position in STANDARD_LEVELS]
PROFILE = dict(zip(LEVELS, np.linspace(0.3, 1.6, len(LEVELS)), strict=True))  # of the mean area
FAT_PROFILE = dict(zip(LEVELS, np.linspace(-0.5, 0.5, len(LEVELS)), strict=True))  # added, logit
CAUDAL = LEVELS[5:]


def level_rows(subjects, seed=0, short_women=True):
    """Return rows per level of a cohort: areas of both sexes times PROFILE, fat shifted.

    short_women: half of the women have no slices above L3/4.
    """
    data, random = cohort(subjects, seed), np.random.default_rng(seed)
    rows = data.merge(pd.DataFrame({"level": LEVELS}), how="cross")
    profile = rows.level.map(PROFILE)
    noise = 1 + random.normal(0, 0.03, len(rows))
    rows[BY_LEVEL_AREA.column] = rows[CSA] * profile * noise
    fat = logit(rows[FAT]) + rows.level.map(FAT_PROFILE)
    rows[BY_LEVEL_FAT.column] = 1 / (1 + np.exp(-fat))
    number = rows.subject.str[1:].astype(int)
    short = (number % 4 == 0) & short_women
    return with_ordered_categories(rows[~short | rows.level.isin(CAUDAL)])


def by_level(rows, outcome, family="sex, area by level"):
    found = pd.DataFrame(fit_model(SEX_AND_AGE, outcome, rows).contrasts())
    return found[found.family == family].set_index("muscle")


def test_the_sex_difference_is_unbiased_with_the_level_as_a_term_and_biased_without():
    without = replace(BY_LEVEL_AREA, by_level=False)
    errors = {BY_LEVEL_AREA: [], without: []}
    held = []
    for seed in range(30):
        rows = level_rows(60, seed)
        for outcome, own in errors.items():
            found = by_level(rows, outcome)
            truth = found.index.map(MEN_MINUS_WOMEN) * np.mean(list(PROFILE.values()))
            own.append((found.estimate - truth) / found.standard_error)
            if outcome.by_level:
                held.append((found.low_95 <= truth) & (truth <= found.high_95))
    with_level, without_level = (pd.DataFrame(own).mean() for own in errors.values())
    assert with_level.abs().max() < 3.5 / np.sqrt(30)
    assert without_level.max() < -1
    assert np.mean(held) > 0.9


def test_the_odds_ratio_of_the_sexes_is_that_at_equal_levels():
    rows = level_rows(400)
    found = by_level(rows, BY_LEVEL_FAT, "sex, fat by level")
    assert found.label["multifidus"] == "men against women, multifidus, mean over L1 to L5/S1"
    apart = np.log(found.estimate) - FAT_MEN_LOGIT
    assert (apart.abs() < 3.5 * found.standard_error).all()
    without = by_level(rows, replace(BY_LEVEL_FAT, by_level=False), "sex, fat by level")
    assert (np.log(without.estimate) < np.log(found.estimate) - 0.05).all()


def test_the_sex_difference_by_level_is_the_mean_of_those_at_each_level():
    rows = level_rows(40)
    found = by_level(rows, BY_LEVEL_AREA)
    each = [
        by_level(own, replace(BY_LEVEL_AREA, by_level=False)).estimate
        for own in (rows[rows.level == level] for level in LEVELS)
    ]
    np.testing.assert_allclose(found.estimate, np.mean(each, axis=0), rtol=0.01)
    assert found.label["multifidus"] == "men minus women, multifidus, mean over L1 to L5/S1"


def test_levels_of_few_women_or_men_are_left_out_and_that_is_said():
    rows = level_rows(40)
    rows = rows[(rows.level != "L1") | (rows.sex == "M") | (rows.subject < "S011")]
    rows = rows[(rows.muscle != "quadratus_lumborum") | (rows.level <= "L4/5")]
    fitted = fit_model(SEX_AND_AGE, BY_LEVEL_AREA, rows)
    told = ", ".join(f"{muscle.replace('_', ' ')} L1" for muscle in MUSCLES)
    assert fitted.note == f"{told} left out: fewer than 5 women or men have these levels"
    labels = pd.DataFrame(fitted.contrasts()).set_index("muscle").label
    assert labels["quadratus_lumborum"].endswith("mean over L1/2 to L4/5")
    assert labels["multifidus"].endswith("mean over L1/2 to L5/S1")
    terms = pd.DataFrame(fitted.terms()).set_index("term").label
    assert terms["muscle[multifidus]:sex[T.M]"] == "men minus women, multifidus, at L1/2"
    assert terms["muscle[multifidus]:level[T.L2]"] == (
        "women, L2 against the first level, multifidus"
    )
    assert pd.DataFrame(fitted.adjusted_means()).estimate.notna().any()


def test_adjusted_means_stand_at_their_age_though_a_level_of_the_oldest_is_left_out():
    rows = level_rows(40)
    oldest = level_rows(44)
    oldest = oldest[(oldest.subject > "S039") & (oldest.level == "L1")].assign(age_years=90.0)
    rows = rows[rows.level != "L1"]
    more = with_ordered_categories(pd.concat([rows, oldest], ignore_index=True))
    few, alone = (
        pd.DataFrame(fit_model(SEX_AND_AGE, BY_LEVEL_AREA, own).adjusted_means())
        for own in (more, with_ordered_categories(rows))
    )
    np.testing.assert_allclose(few.estimate, alone.estimate)


def test_one_level_alone_has_no_term():
    rows = level_rows(40)
    alone = by_level(rows[rows.level == "L4"], BY_LEVEL_AREA)
    assert alone.label["multifidus"] == "men minus women, multifidus, L4"
    assert alone.estimate.notna().all()


def test_without_levels_nothing_is_fitted():
    fitted = fit_model(SEX_AND_AGE, BY_LEVEL_AREA, level_rows(40)[:0])
    assert fitted.fit is None


# --- adjusted means ------------------------------------------------------------------------------


def test_adjusted_means_are_those_of_the_planted_model_within_their_intervals():
    rows = pd.DataFrame(fit_model(SEX_AND_AGE, AREA, cohort(400)).adjusted_means())
    known = rows.dropna(subset=["estimate"])
    assert set(known.age_years) == {30, 50}
    for row in known.itertuples():
        planted = MEAN_CSA_MM2[row.muscle] + MEN_MINUS_WOMEN[row.muscle] * (row.sex == "M")
        planted += PER_DECADE[row.muscle] * (row.age_years - 40) / 10
        planted -= LEFT_MINUS_RIGHT[row.muscle] / 2
        error = (row.high_95 - row.low_95) / (2 * 1.96)
        assert abs(row.estimate - planted) < 3.5 * error
    outside = rows[rows.age_years == 70]
    assert outside.estimate.isna().all()
    assert set(outside.note) == {"outside the ages of the subjects, 25 to 55 years"}


def test_adjusted_means_of_fat_are_fractions():
    rows = pd.DataFrame(fit_model(SEX_AND_AGE, FAT_FRACTION, cohort(40)).adjusted_means())
    known = rows.dropna(subset=["estimate"])
    assert ((known.low_95 > 0) & (known.low_95 < known.estimate) & (known.high_95 < 0.5)).all()
    young = known[(known.muscle == "multifidus") & (known.sex == "F") & (known.age_years == 30)]
    expected = 1 / (1 + np.exp(-(MEAN_FAT_LOGIT["multifidus"] - FAT_DECADE_LOGIT)))
    assert young.estimate.iloc[0] == pytest.approx(expected, rel=0.1)


def test_other_covariates_stand_at_their_mean_over_the_subjects():
    data = cohort(60)
    data[CSA] += 300 * (data.site == "south")
    fit = fit_model(StudyModel("site", ("sex", "site")), AREA, data).fit
    for sex in ("F", "M"):
        part = data[(data.muscle == "multifidus") & (data.sex == sex)]
        by_site = part.groupby("site")[CSA].mean()
        share = (data.drop_duplicates("subject").site == "south").mean()
        expected = by_site["south"] * share + by_site["north"] * (1 - share)
        found = fit.estimate(fit.mean_weights(muscle="multifidus", sex=sex)).value
        assert found == pytest.approx(expected, rel=0.01)


# --- what cannot be estimated --------------------------------------------------------------------


def test_subjects_without_covariates_are_left_out_and_counted():
    data = cohort(20)
    data.loc[data.subject.isin(["S003", "S004"]), "age_years"] = np.nan
    data.loc[data.subject == "S005", "sex"] = np.nan
    rows = fit_model(SEX_AND_AGE, AREA, data).terms()
    assert {(row["n_subjects"], row["n_rows"]) for row in rows} == {(17, 136)}
    assert rows[0]["note"] == "3 subjects left out, sex or age_years unknown"


def test_missing_outcomes_take_out_rows_not_subjects():
    data = cohort(20)
    data.loc[data.index[:5], CSA] = np.nan
    row = fit_model(SEX_AND_AGE, AREA, data).terms()[0]
    assert (row["n_subjects"], row["n_rows"]) == (20, 155)


def test_subjects_without_the_outcome_are_left_out_and_counted():
    data = cohort(20)
    data.loc[data.subject.isin(["S003", "S004"]), CSA] = np.nan
    row = fit_model(SEX_AND_AGE, AREA, data).terms()[0]
    assert row["n_subjects"] == 18
    assert row["note"] == "2 subjects left out, no csa_mean_mm2"


@pytest.mark.parametrize(("subjects", "said"), [(0, "0 subjects"), (1, "1 subject"), (4, "4 subj")])
def test_too_few_subjects_give_a_note_instead_of_estimates(subjects, said):
    data = cohort(20)
    fitted = fit_model(SEX_AND_AGE, AREA, data[data.subject < f"S{subjects:03d}"])
    (row,) = fitted.terms()
    assert row["note"].startswith(f"not fitted: {said}")
    assert row["note"].endswith("expected at least 5")
    assert "estimate" not in row
    assert {one["note"] for one in fitted.contrasts()} == {row["note"]}
    assert fitted.adjusted_means() == []


def test_one_sex_only_is_fitted_without_sex_and_says_so():
    data = cohort(20)
    women = data[data.sex == "F"]
    assert contrasts(women, "sex, area").note.tolist() == ["only women in the data"]
    assert contrasts(women, "age").estimate.notna().all()
    for sex, who in (("F", "women"), ("M", "men")):
        labels = [
            row["label"] for row in fit_model(SEX_AND_AGE, AREA, data[data.sex == sex]).terms()
        ]
        assert f"mean of {who}, left, at the mean of the covariates, multifidus" in labels


def test_an_outcome_without_variation_gives_a_note():
    (row,) = fit_model(SEX_AND_AGE, AREA, cohort(20).assign(**{CSA: 500.0})).terms()
    assert row["note"].startswith("not fitted: ")
    assert "psoas major left out: no variation" in row["note"]


def test_a_muscle_without_variation_leaves_the_others():
    data = cohort(20)
    data.loc[data.muscle == "psoas_major", FAT] = 0.0
    fitted = fit_model(SEX_AND_AGE, FAT_FRACTION, data)
    rows = pd.DataFrame(fitted.contrasts())
    assert fitted.note == "psoas major left out: no variation"
    assert set(rows[rows.family == "sex, fat"].muscle) == set(MUSCLES) - {"psoas_major"}
    assert rows[rows.family == "muscles, fat"].note.tolist() == ["not all muscles in the data"]


def test_terms_that_cannot_be_told_apart_are_not_fitted():
    data = cohort(20).assign(copy=lambda frame: (frame.sex == "M").astype(float))
    with pytest.raises(NotFitted, match="told apart"):
        fit_marginal(CSA, data, ["sex", "copy"])


# --- covariates ----------------------------------------------------------------------------------


def test_a_scanner_that_the_site_determines_is_left_out_and_the_model_is_fitted():
    data = cohort(60)
    data["manufacturer"] = data.site.map({"north": "one", "south": "two"})
    fitted = fit_model(ADJUSTED, AREA, data)
    assert "manufacturer left out: the other covariates determine it" in fitted.note
    assert "site" in fitted.fit.formula
    assert contrasts(data, "sex, area", model=ADJUSTED).estimate.notna().all()


def sited(**sizes):
    """Return a cohort with these numbers of subjects by site, men and women of all ages in each."""
    data = cohort(sum(sizes.values()), sd=(0.02, 0.02, 0.02))
    names = np.random.default_rng(1).permutation(np.repeat(list(sizes), list(sizes.values())))
    return data.assign(site=data.subject.map(dict(zip(data.subject.unique(), names, strict=True))))


@pytest.mark.parametrize("model", ["alone", "adjusted"])
def test_a_site_of_three_is_left_out_and_large_sites_keep_their_differences(model):
    data = sited(A=78, B=35, C=33, D=3)
    planted = {"B": 60.0, "C": -90.0, "D": 5000.0}
    data[CSA] += data.site.map(planted).fillna(0)
    chosen = StudyModel("alone", ("site",)) if model == "alone" else ADJUSTED
    fitted = fit_model(chosen, AREA, data)
    assert "3 subjects left out, their categories of site are too small" in fitted.note
    effects = site_effects(data, [fit_model(ADJUSTED, outcome, data) for outcome in OUTCOMES])
    own = effects[(effects.outcome == CSA) & (effects.model == model)]
    assert set(own.category) == {"B", "C"}
    assert set(own.reference) == {"A"}
    assert set(own.n_subjects) == {146}
    assert set(own.n_rows) == {146 * 8}
    assert own.groupby("category").n_category.unique().map(list).to_dict() == {"B": [35], "C": [33]}
    error = (own.estimate - own.category.map(planted)).abs()
    assert (error < 0.9 * (own.high_95 - own.low_95)).all()  # 3.5 standard errors
    assert set(site_effect_points(own).name) == {"site: B against A", "site: C against A"}
    labels = {row["label"] for row in fitted.terms()}
    assert {"site B, multifidus, against A", "site C, multifidus, against A"} <= labels


def test_small_sites_are_pooled_if_they_are_enough_together_and_large_ones_never():
    data = sited(A=3, B=4, C=5, D=48)
    assert without_small_categories(data, ["site"])[1] == []
    sites = with_model_covariates(data, ["site"]).site
    assert list(sites.cat.categories) == ["D", "other", "C"]  # the largest is the reference
    assert sites[data.site.isin(["A", "B"])].eq("other").all()
    assert sites[data.site == "C"].eq("C").all()
    fitted = fit_model(ADJUSTED, AREA, data)
    assert fitted.fit.n_subjects == 60
    assert "too small" not in fitted.note


def test_a_site_beside_which_there_are_few_others_is_no_covariate_and_nobody_is_left_out():
    data = sited(A=57, B=3)
    fitted = fit_model(ADJUSTED, AREA, data)
    assert fitted.fit.n_subjects == 60
    assert "site left out: no two categories have 5 subjects" in fitted.note
    assert "site" not in fitted.fit.formula


def test_subjects_left_out_for_one_covariate_may_make_categories_of_another_small():
    data = sited(A=30, B=30, C=2)
    few = data.subject.unique()[:3]  # three others have the second scanner
    two = data.site.eq("C") | data.subject.isin(few)
    data = data.assign(field_strength=np.where(two, "1.5 T", "3 T"))
    data["manufacturer"] = np.where(data.subject.isin(data.subject.unique()[10:40]), "one", "two")
    covariates = ["site", "manufacturer", "field_strength"]
    left, notes = without_small_categories(data, covariates)
    assert set(left.site) == {"A", "B"}
    assert len(notes) == 1  # one field strength alone is left with 5 subjects: it is no covariate
    prepared = with_model_covariates(left, covariates)
    assert set(prepared.field_strength) == {"other"}


def test_sites_that_are_all_small_have_no_effect_of_their_own():
    data = cohort(40)
    data["site"] = data.subject  # one subject each
    assert set(with_model_covariates(data, ["site"]).site) == {"other"}
    fitted = fit_model(ADJUSTED, AREA, data)
    assert "site left out: no two categories have 5 subjects" in fitted.note
    assert fitted.fit is not None


LOST = {
    "3 subjects, expected at least 6": lambda data: data.subject > "S002",
    "its terms cannot be told apart in these subjects": lambda data: data.site == "B",
    "single subjects determine terms of the model": lambda data: (
        (data.site == "B") & (data.subject > "S006")
    ),
}


@pytest.mark.parametrize("reason", LOST)
def test_a_muscle_whose_regression_cannot_be_fitted_is_left_out_alone(reason):
    data = cohort(40)
    data["site"] = np.where(data.subject.str[1:].astype(int) % 10 < 6, "A", "B")
    model = StudyModel("own", ("sex", "age_decades", "site"))
    lost = (data.muscle == "psoas_major") & LOST[reason](data)
    fitted = fit_model(model, AREA, data[~lost])
    assert fitted.note == f"psoas major left out: {reason}"
    others = fit_model(model, AREA, data[data.muscle != "psoas_major"])
    assert fitted.contrasts()[0]["muscle"] == "quadratus_lumborum"
    assert [row["estimate"] for row in fitted.terms()] == [
        row["estimate"] for row in others.terms()
    ]


def test_if_no_muscle_can_be_fitted_the_reason_is_told_once():
    data = cohort(22)
    fitted = fit_model(SEX_AND_AGE, AREA, data.assign(age_years=30.0 + 5 * (data.sex == "M")))
    assert (fitted.fit, fitted.note) == (None, "its terms cannot be told apart in these subjects")
    full = data.assign(**{FAT: data[FAT].where(data.sex == "F", 1.0)})
    fitted = fit_model(SEX_AND_AGE, OUTCOMES[2], full)
    assert (fitted.fit, fitted.note) == (None, "the estimating equations did not converge")


@pytest.mark.parametrize(
    ("ages", "formula", "note"),
    [
        ((46, 47), "muscle:age_decades", ""),
        ((*[46] * 19, 47), "muscle:age_decades", "most subjects"),
        ((46, 47, 48, 49, 50), "muscle:cr(age_decades, df=3, constraints='center')", ""),
        ((46,), "muscle:sex", "all subjects"),
    ],
)
def test_a_cohort_of_few_ages_has_a_line_of_age(ages, formula, note):
    data = cohort(120)
    data["age_years"] = np.array(ages, float)[data.subject.str[1:].astype(int) // 2 % len(ages)]
    fitted = fit_model(SEX_AND_AGE, AREA, data)
    assert fitted.fit.formula.endswith(f"{formula} + muscle:side")
    rows = [row for row in fitted.contrasts() if row["family"] == "age"]
    told = [f"{note} have the same age"] if note else [""] * len(MUSCLES)
    assert [row["note"] for row in rows] == told


def test_other_columns_of_the_sheet_are_covariates_whatever_their_names():
    data = cohort(60)
    random = np.random.default_rng(5)
    of_subject = pd.Series(random.normal(40, 8, 60), index=sorted(set(data.subject)))
    data["blood: HbA1c [%]"] = data.subject.map(of_subject)
    data["smokes now"] = np.where(data.subject.str[1:].astype(int) % 4 < 2, "yes", "no")
    data["packs"] = data.subject.map(of_subject**2)
    data["Q"] = data["smokes now"]
    data[CSA] += 3 * data["blood: HbA1c [%]"]
    model = StudyModel(
        "own", (*SEX_AND_AGE.covariates, "blood: HbA1c [%]", "packs", "smokes now", "Q")
    )
    fitted = fit_model(model, AREA, data)
    rows = pd.DataFrame(fitted.terms()).set_index("label")
    row = rows.loc["blood: HbA1c [%], per 1, multifidus"]
    assert abs(row.estimate - 3) < 3.5 * row.standard_error
    assert row.unit == "mm2 per 1"
    assert rows.loc["packs, per 1, multifidus", "unit"] == "mm2 per 1"
    assert rows.loc["smokes now yes, multifidus, against no", "unit"] == "mm2"
    assert fitted.note == "Q left out: a word of the formula language, rename the column"
    assert pd.DataFrame(fitted.adjusted_means()).estimate.notna().any()


@pytest.mark.parametrize("name", ["crp_\u00b5g", "cafe\u0301", "\ufb01eld", "patient's", "a[T.b]"])
def test_a_number_may_have_any_name(name):
    data = cohort(22)
    values = pd.Series(np.random.default_rng(5).normal(size=22), index=sorted(set(data.subject)))
    data[name] = data.subject.map(values)
    fitted = fit_model(StudyModel("own", (*SEX_AND_AGE.covariates, name)), AREA, data)
    assert f"{name}, per 1, multifidus" in [row["label"] for row in fitted.terms()]
    data[name] = np.where(data[name] > 0, "b]", "(a)")
    fitted = fit_model(StudyModel("own", (*SEX_AND_AGE.covariates, name)), AREA, data)
    large, small = data.drop_duplicates("subject")[name].value_counts().index
    label = f"{name} {small}, multifidus, against {large}"
    assert label in [row["label"] for row in fitted.terms()]


def test_names_of_the_models_own_terms_are_told_and_a_covariate_counts_once():
    data = cohort(22)
    own = np.random.default_rng(5).normal(170, 9, 22)
    data["height_cm"] = data.subject.map(dict(zip(sorted(set(data.subject)), own, strict=True)))
    data["age_decades"] = data["Intercept"] = data["height_cm"] ** 2
    names = ("height_10cm", "age_decades", "Intercept", "height_cm")
    fitted = fit_model(StudyModel("own", (*SEX_AND_AGE.covariates, *names)), AREA, data)
    told = "left out: a word of the formula language, rename the column"
    assert fitted.note == f"age_decades {told}; Intercept {told}"
    assert fitted.fit.formula.endswith("muscle:age_decades + muscle:height_10cm + muscle:side")


# --- families and tables -------------------------------------------------------------------------


def test_p_values_are_corrected_within_their_family_over_its_outcomes():
    rows = [
        {"family": "age", "outcome": CSA, "p_value": 0.01},
        {"family": "side", "outcome": CSA, "p_value": 0.01},
        {"family": "age", "outcome": FAT, "p_value": 0.04},
        {"family": "age", "outcome": FAT, "p_value": 0.03},
    ]
    found = pd.DataFrame(corrected(rows)).set_index(["family", "p_value"])
    assert found.loc[("age", 0.01), "p_holm"] == pytest.approx(0.03)
    assert found.loc[("age", 0.03), "p_holm"] == pytest.approx(0.06)
    assert found.loc[("age", 0.04), "p_holm"] == pytest.approx(0.06)
    assert found.loc[("side", 0.01), "p_holm"] == pytest.approx(0.01)
    assert found.loc["age", "tests_in_family"].tolist() == [3, 3, 3]


def test_terms_are_told_in_words():
    told = {
        "Intercept": "mean of women, left, at the mean of the covariates",
        "muscle[psoas_major]": "mean of women, left, at the mean of the covariates, psoas major",
        "muscle[psoas_major]:sex[T.M]": "men minus women, psoas major",
        "muscle[multifidus]:age_decades": "age, per decade, multifidus",
        "side[T.right]": "right minus left",
        "muscle[multifidus]:site[T.B]": "site B, multifidus",
        "muscle[multifidus]:Q('blood: HbA1c [%]')": "blood: HbA1c [%], per 1, multifidus",
        "muscle[multifidus]:Q('smokes now')[T.yes]": "smokes now yes, multifidus",
        "muscle[multifidus]:cr(age_decades, df=3, constraints='center')[0]": "age, spline 0, multifidus",
    }
    assert {term: term_label(term) for term in told} == told


@pytest.mark.parametrize("subjects", [0, 1, 2, 8, pytest.param(22, marks=pytest.mark.long)])
def test_every_model_of_the_study_is_in_the_tables(tmp_path, subjects):
    write_cohort(tmp_path / "cohort", subjects)
    fit_models(tmp_path / "cohort", tmp_path / "tables" / "models.csv", bootstrap_samples=20)
    models, found, means = (
        pd.read_csv(tmp_path / f"tables/{name}.csv")
        for name in ("models", "contrasts", "adjusted_means")
    )
    assert list(models.columns) == list(MODEL_COLUMNS)
    assert list(found.columns) == list(CONTRAST_COLUMNS)
    assert list(means.columns) == list(MEAN_COLUMNS)
    assert models.groupby(["outcome", "model"]).ngroups == 17
    # Eleven of each model, and the correlation of size and overlap, which needs no model.
    assert found.groupby(["family", "outcome", "model"]).ngroups == 23
    fitted = found[found.model != "Spearman correlation"]
    assert models.estimate.notna().any() == fitted.estimate.notna().any() == (subjects >= 8)


def test_results_over_all_slices_say_that_scans_cover_different_ranges(tmp_path):
    rows = cohort_rows(14)
    short = {"S0001", "S0002", "S0003"}  # 11 of 14 have L3/4, with 5 women
    unknown = {
        "muscles": {"csa_at_level_mm2": None, "fat_fraction_at_level": None},
        "levels": {"csa_mm2": None, "fat_fraction": None, "level_reason": "not-covered"},
    }
    for name, values in unknown.items():
        for row in rows[name]:
            row["site"] = "A" if int(row["subject"][1:]) % 4 < 2 else "B"
            row.update(values if row["subject"] in short else {})
    for table in codebook.COHORT_TABLES:
        data = tables.from_rows(table, rows[table.name])
        tables.write(tmp_path / f"cohort/{table.name}.parquet", table, data, {})
    fit_models(tmp_path / "cohort", tmp_path / "models.csv", bootstrap_samples=20)
    told = "scans cover different ranges (78 % of the subjects have L3/4)"
    by_level = {"csa_by_level_mm2", "fat_fraction_by_level"}
    for name in ("models", "contrasts", "adjusted_means", "site_effects", "weighted_contrasts"):
        found = pd.read_csv(tmp_path / f"{name}.csv")
        known = found[found.get("estimate", found.get("complete_cases")).notna()]
        whole = known.outcome.isin([outcome.column for outcome in OUTCOMES])
        assert whole.any(), name
        assert known.note[whole].str.contains(told, regex=False).all(), name
        others = found.drop(index=known.index[whole])
        assert not others.note.str.contains("ranges", na=False).any(), name
        beside = known.note.str.endswith("; see the rows by level") & known.note.notna()
        shown = {"models": 2, "contrasts": 2, "adjusted_means": 2}
        assert known.outcome[beside].nunique() == shown.get(name, 0), name
        if name == "contrasts":
            assert set(known.family[beside]) == {"sex, area", "sex, fat"}
            assert by_level < set(known.outcome)
    curve = pd.read_csv(tmp_path / "specification_curve.csv").dropna(subset=["estimate"])
    noted = curve.note.str.contains(told, regex=False, na=False)
    assert (noted == (curve.level_rule == "all slices")).all()  # slices at L3/4 are not blanked
    claims = pd.read_csv(tmp_path / "claims.csv").set_index("claim")
    area = claims.loc["Men have larger areas in all muscles"]
    assert area.found.startswith("men minus women by level: ")
    assert area.found.endswith(told)


def test_rows_of_a_cohort_come_in_the_order_of_the_muscles(tmp_path):
    write_cohort(tmp_path, 2)
    muscles = read_frame(tmp_path, codebook.MUSCLE_TABLE)
    assert muscles.muscle[:8].tolist() == [muscle for muscle in MUSCLES for _ in SIDES]
    assert muscles.side[:8].tolist() == list(SIDES) * 4


def test_rows_that_rest_on_few_men_are_blank_in_tables_for_sharing():
    data = cohort(30)
    data["sex"] = data["sex"].where(data.subject.isin(["S001", "S003"]), "F")
    fitted = fit_model(SEX_AND_AGE, AREA, data)
    for rows, few in (
        (fitted.contrasts(), lambda row: row["family"] == "sex, area"),
        (fitted.adjusted_means(), lambda row: row["sex"] == "M"),
        (fitted.terms(), lambda row: "sex[" in row["term"]),
    ):
        table = pd.DataFrame(rows)
        of_men = table.apply(few, axis=1)
        assert 0 < of_men.sum() < len(table)
        assert (for_sharing(table)["suppressed"] == of_men).all()
    found = paper_claims(pd.DataFrame(corrected(fitted.contrasts())), data, data.assign(iou=np.nan))
    men = found.set_index("claim").loc["Men have larger areas in all muscles"]
    assert (men.reproduced, men.n_sex) == ("not tested", 2)
    assert men.found.endswith("; fewer than 5 subjects")


# --- variance components -------------------------------------------------------------------------


def test_variance_components_are_those_planted():
    data = cohort(1600, sd=(0.09, 0.07, 0.04))
    women = data[data.sex == "F"].assign(age_years=30.0)
    women[CSA] -= (
        women.muscle.map(PER_DECADE).astype(float) * (data.age_years[women.index] - 40) / 10
    )
    found = pd.DataFrame(variance_components(women, CSA, seed=1)).set_index("term").estimate
    expected = {"sd_subject": 0.09, "sd_muscle": 0.07, "sd_side": 0.0, "sd_residual": 0.04}
    for term, value in expected.items():
        assert found[term] == pytest.approx(value, abs=0.006), term


@pytest.mark.parametrize("subjects", [22, 40, 150])
def test_without_a_component_at_zero_reml_gives_the_mean_squares(subjects, monkeypatch):
    data = cohort(subjects, seed=3)
    side = np.random.default_rng(1).normal(0, 0.05, (subjects, 2))
    index = data.subject.str[1:].astype(int), (data.side == "right").astype(int)
    data[CSA] *= 1 + side[index]
    found = pd.DataFrame(variance_components(data, CSA, seed=1)).estimate
    monkeypatch.setattr(variance_components_module, "_reml", _mean_squares)
    squares = pd.DataFrame(variance_components(data, CSA, seed=1)).estimate
    assert (squares > 0.01).all()
    np.testing.assert_allclose(found, squares, rtol=1e-4)


def test_variance_components_of_many_subjects_are_of_a_sample_and_that_is_said(monkeypatch):
    monkeypatch.setattr(variance_components_module, "MOST_SUBJECTS", 30)
    rows = variance_components(cohort(40), CSA, seed=1)
    assert {(row["n_subjects"], row["note"]) for row in rows} == {
        (30, "random sample of 30 of 40 subjects")
    }


def test_few_subjects_have_no_variance_components():
    (row,) = variance_components(cohort(8), CSA, seed=1)
    assert row["note"] == (
        "not estimated: 8 subjects with all muscles and sides, expected at least 10"
    )


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (lambda data: 0.5, "no variation is left within muscle and side"),
        (
            lambda data: data.groupby(["subject", "muscle"], observed=True)[CSA].transform("mean"),
            "no variation is left within muscle and side",
        ),
        (lambda data: data[CSA] * (data.muscle != "multifidus"), "a muscle is 0 in all subjects"),
    ],
)
def test_without_variation_there_are_no_variance_components(values, told):
    data = cohort(12)
    (row,) = variance_components(data.assign(**{CSA: values(data)}), CSA, seed=1)
    assert row["note"] == f"not estimated: {told}"


def test_sides_that_are_next_to_equal_have_no_variance_components():
    data = cohort(12)
    equal = data.groupby(["subject", "muscle"], observed=True)[CSA].transform("mean")
    noise = 1 + 4e-10 * np.random.default_rng(1).normal(size=len(data))
    (row,) = variance_components(data.assign(**{CSA: equal * noise}), CSA, seed=1)
    assert row["note"] == "not estimated: the optimiser did not converge"


def test_variance_components_of_women_and_men_of_one_age_each():
    data = cohort(22)
    same_age = data.assign(age_years=np.where(data.sex == "M", 40.0, 30.0))
    found = pd.DataFrame(variance_components(same_age, CSA, seed=1)).estimate
    squares = pd.DataFrame(variance_components(data.assign(age_years=35.0), CSA, seed=1)).estimate
    np.testing.assert_allclose(found, squares)


# --- sites and scanners --------------------------------------------------------------------------


def test_a_site_with_older_people_differs_alone_and_not_after_adjustment():
    data = cohort(120, sd=(0.02, 0.02, 0.02))
    old = data.age_years > 40
    data["site"] = np.where(old, "old", "young")
    data.loc[data.subject < "S010", "site"] = "young"  # the site does not follow from age
    data.loc[data.subject > "S110", "site"] = "old"
    data[CSA] += 60 * (data.age_years - 40) / 10
    fitted = [fit_model(ADJUSTED, outcome, data) for outcome in OUTCOMES]
    effects = site_effects(data, fitted).set_index(["outcome", "model", "muscle"]).sort_index()
    assert set(effects.factor) == {"site"}
    alone, after = (effects.loc[(CSA, model)] for model in ("alone", "adjusted"))
    assert (alone.estimate.abs() > 50).all()
    assert ((alone.low_95 > 0) | (alone.high_95 < 0)).all()
    assert (after.estimate.abs() < 40).all()
    assert ((after.low_95 < 0) & (after.high_95 > 0)).mean() >= 0.75


def test_a_scanner_that_reads_larger_areas_differs_before_and_after_adjustment():
    data = cohort(120)
    scanner = data.subject.str[1:].astype(int) % 5 == 0
    data["manufacturer"] = np.where(scanner, "B", "A")
    data.loc[scanner, CSA] *= 1.3
    fitted = [fit_model(ADJUSTED, outcome, data) for outcome in OUTCOMES]
    effects = site_effects(data, fitted)
    own = effects[(effects.factor == "manufacturer") & (effects.outcome == CSA)]
    assert set(own.reference) == {"A"}
    assert set(own.n_category) == {24}
    assert set(own.n_subjects) == {120}
    assert set(own.n_rows) == {120 * 8}
    assert (own.low_95 > 0).all()
    assert own.groupby("model").size().to_dict() == {"adjusted": 4, "alone": 4}


def test_a_muscle_that_few_subjects_have_has_their_degrees_of_freedom_and_counts():
    data = cohort(24)
    number = data.subject.str[1:].astype(int)
    data["site"] = np.where(number % 4 < 2, "A", "B")
    few = sorted(data.subject[data.site == "B"].unique())[:4]
    lost = (data.muscle == "multifidus") & (data.site == "B") & ~data.subject.isin(few)
    data.loc[lost, CSA] = np.nan
    fitted = fit_model(StudyModel("sites", ("sex", "age_decades", "site")), AREA, data)
    for row in fitted.contrasts():
        if "muscle" in row:
            subjects = 12 + len(few) if row["muscle"] == "multifidus" else 24
            assert row["df"] == subjects - 4
            reach = stats.t.ppf(0.975, row["df"]) * row["standard_error"]
            assert row["high_95"] - row["estimate"] == pytest.approx(reach)
    terms = for_sharing(pd.DataFrame(fitted.terms(), columns=list(MODEL_COLUMNS)))
    of_site = terms[terms.term.str.contains("site", na=False)]
    effects = for_sharing(
        site_effects(data.assign(manufacturer="X", field_strength="3 T"), [fitted])
    )
    for found in (of_site.set_index("term"), effects.set_index("muscle")):
        of_few = found.index.str.contains("multifidus")
        assert found.estimate[of_few].isna().all()
        assert found.estimate[~of_few].notna().all()
        assert set(found.n_category[~of_few]) == {12}


def test_a_muscle_of_four_women_is_left_out():
    data = cohort(20)
    data = with_ordered_categories(data[data.sex == "F"])
    few = data.subject.isin(sorted(data.subject.unique())[:4])
    data.loc[(data.muscle == "multifidus") & ~few, CSA] = np.nan
    fitted = fit_model(SEX_AND_AGE, AREA, data)
    assert fitted.note.endswith("multifidus left out: 4 subjects, expected at least 5")
    assert "multifidus" not in set(fitted.data.muscle)


def test_one_site_and_scanner_have_no_differences():
    data = cohort(20).assign(site="one")
    fitted = [fit_model(ADJUSTED, outcome, data) for outcome in OUTCOMES]
    assert site_effects(data, fitted).empty
