import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from scipy import optimize, stats
from statsmodels.regression.mixed_linear_model import MixedLMParams

from paravert.study.mixed import NotFitted, degrees_of_freedom, fit_mixed, interval_and_p


def both_sides(subjects, sd_subjects, sd_sides, seed=0, sex_effect=40.0, side_effect=5.0):
    """Return y of both sides of each subject: women and men in turn."""
    random = np.random.default_rng(seed)
    sex = np.arange(subjects) % 2
    level = 300 + sex_effect * sex + random.normal(0, sd_subjects, subjects)
    left = level + random.normal(0, sd_sides, subjects)
    right = level + side_effect + random.normal(0, sd_sides, subjects)
    return pd.DataFrame(
        {
            "subject": np.tile([f"S{n}" for n in range(subjects)], 2),
            "sex": np.tile(np.where(sex, "M", "F"), 2),
            "side": np.repeat(["left", "right"], subjects),
            "y": np.concatenate([left, right]),
        }
    )


def found(fit, term):
    index = fit.names.index(term)
    error = np.sqrt(fit.covariance[index, index])
    return fit.estimates[index], error, fit.df[index]


def test_sex_in_a_balanced_design_is_the_t_test_of_the_subjects_means():
    data = both_sides(14, 20, 8)
    estimate, error, df = found(fit_mixed("y ~ sex + side", data), "sex[T.M]")

    means = data.groupby(["subject", "sex"]).y.mean()
    oracle = stats.ttest_ind(means.xs("M", level="sex"), means.xs("F", level="sex"))
    assert df == oracle.df == 12
    assert estimate / error == pytest.approx(oracle.statistic, rel=1e-4)
    low, high, p_value = interval_and_p(estimate, error, df)
    assert p_value == pytest.approx(oracle.pvalue, rel=1e-3)
    expected = oracle.confidence_interval()
    assert (low, high) == pytest.approx((expected.low, expected.high), rel=1e-4)


def test_side_in_a_balanced_design_is_the_paired_t_test():
    data = both_sides(14, 20, 8)
    estimate, error, _ = found(fit_mixed("y ~ side", data), "side[T.right]")
    left, right = (data[data.side == side].y.to_numpy() for side in ("left", "right"))
    oracle = stats.ttest_rel(right, left)
    assert estimate == pytest.approx(np.mean(right - left))
    assert estimate / error == pytest.approx(oracle.statistic, rel=1e-4)


def test_spread_is_that_of_the_analysis_of_variance():
    data = both_sides(400, 20, 8)
    fit = fit_mixed("y ~ sex + side", data)
    table = data.pivot(index="subject", columns="side", values="y")
    residual = np.var(table.right - table.left, ddof=1) / 2
    assert fit.sd_residual**2 == pytest.approx(residual, rel=1e-3)
    assert fit.sd_subjects == pytest.approx(20, rel=0.1)


def likeliest(data):
    """Return estimates, errors and variance between subjects by REML, straight from its formula."""
    design = np.column_stack([np.ones(len(data)), data.sex == "M", data.side == "right"])
    outcome = data.y.to_numpy()
    same_subject = data.subject.to_numpy()[:, None] == data.subject.to_numpy()[None, :]
    rows, terms = design.shape

    def at(ratio):
        inverse = np.linalg.inv(np.eye(rows) + ratio * same_subject)
        information = design.T @ inverse @ design
        estimates = np.linalg.solve(information, design.T @ inverse @ outcome)
        residual = outcome - design @ estimates
        variance = residual @ inverse @ residual / (rows - terms)
        minus_two_log_likelihood = (rows - terms) * np.log(variance) + np.linalg.slogdet(
            information
        )[1]
        minus_two_log_likelihood -= np.linalg.slogdet(inverse)[1]
        errors = np.sqrt(variance * np.diag(np.linalg.inv(information)))
        return minus_two_log_likelihood, estimates, errors, ratio * variance

    inner = optimize.minimize_scalar(
        lambda log_ratio: at(np.exp(log_ratio))[0], bounds=(-9, 6), method="bounded"
    )
    return min(at(0.0), at(np.exp(inner.x)), key=lambda found: found[0])


@pytest.mark.parametrize("sd_subjects", [0, 3, 20])
@pytest.mark.parametrize("seed", range(8))
def test_estimates_and_errors_are_those_of_the_likelihood_also_near_its_bound(sd_subjects, seed):
    data = both_sides(12, sd_subjects, 8, seed=seed).drop(index=[3, 4, 17])  # unbalanced
    fit = fit_mixed("y ~ sex + side", data)
    _, estimates, errors, variance = likeliest(data)
    np.testing.assert_allclose(fit.estimates, estimates, rtol=1e-4)
    np.testing.assert_allclose(np.sqrt(np.diag(fit.covariance)), errors, rtol=1e-4)
    assert fit.sd_subjects**2 == pytest.approx(variance, rel=1e-3, abs=0.1)


def test_estimates_are_those_of_statsmodels_or_likelier():
    data = both_sides(60, 20, 8).drop(index=[3, 4, 17])
    fit = fit_mixed("y ~ sex + side", data)
    oracle = smf.mixedlm("y ~ sex + side", data, groups="subject").fit(reml=True)
    np.testing.assert_allclose(fit.estimates, oracle.fe_params, rtol=1e-4)
    assert fit.sd_residual**2 == pytest.approx(oracle.scale, rel=1e-3)
    assert fit.sd_subjects**2 == pytest.approx(oracle.cov_re.iloc[0, 0], rel=1e-3)
    ours = MixedLMParams.from_components(
        fe_params=fit.estimates, cov_re=np.array([[(fit.sd_subjects / fit.sd_residual) ** 2]])
    )
    assert oracle.model.loglike(ours) >= oracle.llf - 1e-9


def test_subjects_whose_rows_are_all_alike_are_told():
    data = both_sides(20, 20, 0, side_effect=0.0)
    fit = fit_mixed("y ~ sex", data)
    assert fit.notes == ("hardly any variation within subjects",)


def test_very_many_subjects_are_fitted_like_few():
    data = both_sides(30_000, 20, 8, sex_effect=40, side_effect=5)
    fit = fit_mixed("y ~ sex + side", data)
    assert found(fit, "sex[T.M]")[0] == pytest.approx(40, abs=4 * 2 * 20.8 / np.sqrt(30_000))
    assert found(fit, "side[T.right]")[0] == pytest.approx(5, abs=4 * 8 * np.sqrt(2 / 30_000))
    assert (fit.sd_subjects, fit.sd_residual) == pytest.approx((20, 8), rel=0.02)


def test_estimates_scale_with_the_unit():
    data = both_sides(14, 20, 8)
    in_mm2, in_m2 = (
        fit_mixed("y ~ sex + side", data.assign(y=data.y * factor)) for factor in (1, 1e-6)
    )
    np.testing.assert_allclose(in_m2.estimates * 1e6, in_mm2.estimates, rtol=1e-6)
    errors = [np.sqrt(np.diag(fit.covariance)) for fit in (in_m2, in_mm2)]
    np.testing.assert_allclose(errors[0] * 1e6, errors[1], rtol=1e-4)
    assert in_m2.notes == in_mm2.notes == ()


def test_no_variance_between_subjects_gives_least_squares_and_says_so():
    data = both_sides(40, 0, 8)
    of_sex = data.groupby("sex").y.transform("mean")
    data["y"] += of_sex - data.groupby("subject").y.transform("mean")
    fit = fit_mixed("y ~ sex + side", data)
    assert fit.sd_subjects == 0
    assert "no variance between subjects" in fit.notes[0]
    means = data.groupby("sex").y.mean()
    assert found(fit, "sex[T.M]")[0] == pytest.approx(means.M - means.F)


def test_one_row_per_subject_is_a_plain_regression():
    data = both_sides(30, 20, 8)
    left = data[data.side == "left"]
    estimate, error, df = found(fit_mixed("y ~ sex", left), "sex[T.M]")
    oracle = stats.ttest_ind(left[left.sex == "M"].y, left[left.sex == "F"].y)
    assert df == 28
    assert estimate / error == pytest.approx(oracle.statistic)


def test_terms_that_mean_the_same_are_not_fitted():
    data = both_sides(10, 20, 8).assign(man=lambda d: (d.sex == "M").astype(float))
    with pytest.raises(NotFitted, match="told apart"):
        fit_mixed("y ~ sex + man", data)


@pytest.mark.parametrize("outcome", [0.0, 7.0])
def test_an_outcome_that_does_not_vary_is_not_fitted(outcome):
    with pytest.raises(NotFitted, match="no variation"):
        fit_mixed("y ~ sex + side", both_sides(10, 20, 8).assign(y=outcome))


def test_terms_within_subjects_have_more_degrees_of_freedom():
    subjects = np.repeat(["a", "b", "c", "d"], 3)
    between = np.repeat([0.0, 1.0, 0.0, 1.0], 3)
    within = np.tile([0.0, 1.0, 2.0], 4)
    design = np.column_stack([np.ones(12), between, within])
    # 4 subjects - 2 terms; 12 rows - 4 subjects - 1 term.
    assert degrees_of_freedom(design, subjects).tolist() == [2, 2, 7]
