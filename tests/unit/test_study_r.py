"""The models of the study against R: the scripts in tests/frozen/r wrote their results there."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from paravert.study.data_frames import with_ordered_categories
from paravert.study.inference import CSA, FAT, OUTCOMES, SEX_AND_AGE, corrected, fit_model
from paravert.study.quantile_regression import CENTILES, centile_curves
from paravert.study.selection import weighted_contrasts
from paravert.study.variance_components import variance_components

EFFECTIVE_N = 19.9252377019  # told by marginal_models.R
FROZEN = Path(__file__).parents[1] / "frozen/r"
FITTED = [outcome for outcome in OUTCOMES if outcome.column in (CSA, FAT)]


@pytest.fixture(scope="module")
def fits():
    data = with_ordered_categories(pd.read_csv(FROZEN / "cohort.csv"))
    return [fit_model(SEX_AND_AGE, outcome, data) for outcome in FITTED]


def test_contrasts_are_those_of_r(fits):
    expected = pd.read_csv(FROZEN / "contrasts.csv", keep_default_na=False)
    expected = expected.set_index(["family", "outcome", "muscle"])
    rows = corrected([row for fit in fits for row in fit.contrasts()])
    found = pd.DataFrame(rows).set_index(["family", "outcome", "muscle"])
    assert set(found.index) == set(expected.index)
    found = found.loc[expected.index]
    compare_on_link(found, expected, "estimate", "low_95", "high_95")
    for name in ("standard_error", "p_value", "p_holm"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, err_msg=name)


def compare_on_link(found, expected, *names):
    """Compare estimate, lower and upper end, of the columns `names`, with those of R."""
    is_ratio = expected.index.get_level_values("outcome") == FAT
    for name, of_r in zip(names, ("link_estimate", "link_low", "link_high"), strict=True):
        on_link = np.where(is_ratio, np.log(np.where(is_ratio, found[name], 1.0)), found[name])
        np.testing.assert_allclose(on_link, expected[of_r], rtol=1e-6, atol=1e-9, err_msg=name)


def test_contrasts_weighted_for_missing_subjects_are_those_of_r(fits):
    keys = ["family", "outcome", "muscle"]
    expected = pd.read_csv(FROZEN / "weighted_contrasts.csv", keep_default_na=False)
    people = pd.read_csv(FROZEN / "people.csv")
    status = people.inside.map({1: "analysed", 0: "quarantined"})
    ledger = people.drop(columns="inside").assign(status=status)
    data = with_ordered_categories(pd.read_csv(FROZEN / "cohort.csv"))
    found = weighted_contrasts(ledger, data, fits).set_index(keys)
    assert set(found.n_subjects) == {22}
    assert set(found.n_missing) == {25}
    assert set(found.predictors) == {"sex, age_years, weight_kg"}
    np.testing.assert_allclose(found.effective_n, EFFECTIVE_N, rtol=1e-9)
    expected = expected.set_index(keys).loc[found.index]
    compare_on_link(found, expected, "weighted", "weighted_low_95", "weighted_high_95")
    moved = (found.weighted - found.complete_cases) / found.complete_cases
    assert moved.abs().max() > 0.05


def test_adjusted_means_are_those_of_r(fits):
    keys = ["outcome", "muscle", "sex", "age_years"]
    expected = pd.read_csv(FROZEN / "adjusted_means.csv").set_index(keys)
    found = pd.DataFrame([row for fit in fits for row in fit.adjusted_means()]).set_index(keys)
    for name in ("estimate", "low_95", "high_95"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-6, err_msg=name)


def test_centile_curves_are_those_of_quantreg():
    subjects = pd.read_csv(FROZEN / "quantile_subjects.csv")
    expected = pd.read_csv(FROZEN / "quantile_curves.csv")
    expected = expected.pivot(index="age_years", columns="centile", values="log_area")
    assert tuple(expected.columns) == CENTILES
    age, value = subjects["age_years"].to_numpy(dtype=float), np.log(subjects["area_mm2"])
    grid = expected.index.to_numpy(dtype=float)
    found = centile_curves(age, value.to_numpy(), grid, samples=2, seed=1).value
    np.testing.assert_allclose(found, np.sort(expected, axis=1), rtol=1e-8)


@pytest.mark.parametrize("outcome", [CSA, FAT])
def test_variance_components_are_those_of_lme4(outcome):
    expected = pd.read_csv(FROZEN / "variance_components.csv", index_col=["outcome", "term"])
    expected = expected.estimate.loc[outcome]
    data = with_ordered_categories(pd.read_csv(FROZEN / "cohort.csv"))
    found = pd.DataFrame(variance_components(data, outcome, seed=1)).set_index("term").estimate
    # The side of areas is at zero; the optimisers end some 1e-6 above it.
    np.testing.assert_allclose(found[expected.index], expected, rtol=1e-4, atol=1e-5)
