"""The models of the study against R: the scripts in tests/frozen/r wrote their results there."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from paravert.study.data_frames import in_order
from paravert.study.inference import CSA, FAT, OUTCOMES, SEX_AND_AGE, corrected, fit_model
from paravert.study.quantile_regression import CENTILES, centile_curves
from paravert.study.variance_components import variance_components

FROZEN = Path(__file__).parents[1] / "frozen/r"
FITTED = [outcome for outcome in OUTCOMES if outcome.column in (CSA, FAT)]


@pytest.fixture(scope="module")
def fits():
    data = in_order(pd.read_csv(FROZEN / "cohort.csv"))
    return [fit_model(SEX_AND_AGE, outcome, data) for outcome in FITTED]


def test_contrasts_are_those_of_r(fits):
    expected = pd.read_csv(FROZEN / "contrasts.csv", keep_default_na=False)
    expected = expected.set_index(["family", "outcome", "muscle"])
    rows = corrected([row for fit in fits for row in fit.contrasts()])
    found = pd.DataFrame(rows).set_index(["family", "outcome", "muscle"])
    assert set(found.index) == set(expected.index)
    found = found.loc[expected.index]
    shown = np.where(expected.index.get_level_values("outcome") == FAT, 1, 0)
    for name, of_r in (
        ("estimate", "link_estimate"),
        ("low_95", "link_low"),
        ("high_95", "link_high"),
    ):
        on_link = np.where(shown, np.log(np.where(shown, found[name], 1.0)), found[name])
        np.testing.assert_allclose(on_link, expected[of_r], rtol=1e-6, atol=1e-9, err_msg=name)
    for name in ("standard_error", "p_value", "p_holm"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, err_msg=name)


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


def test_variance_components_are_those_of_lme4():
    expected = pd.read_csv(FROZEN / "variance_components.csv").set_index("term").estimate
    data = in_order(pd.read_csv(FROZEN / "cohort.csv"))
    found = pd.DataFrame(variance_components(data, FAT)).set_index("term").estimate
    np.testing.assert_allclose(found[expected.index], expected, rtol=1e-4)
