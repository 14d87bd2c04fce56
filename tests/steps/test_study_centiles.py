"""Centiles of cohorts whose quantiles are known, z-scores of planted subjects, the command for others."""

import warnings

import numpy as np
import pandas as pd
import patsy
import pyarrow.parquet as pq
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.regression.quantile_regression import QuantReg

from paravert import __version__, codebook, tables
from paravert.__main__ import main
from paravert.anatomy import MUSCLES
from paravert.errors import InputError
from paravert.study.centiles import (
    CENTILE_TABLE,
    MEASURES,
    apply_centiles,
    centile_frame,
    fit_centiles,
    from_scale,
    to_scale,
    too_few,
    with_z_scores,
    z_of,
    z_scores,
)
from paravert.study.cohort import with_flags
from paravert.study.drawing.centile_curves import centile_points, draw_centiles
from paravert.study.flags import FLAGS
from paravert.study.quantile_regression import CENTILES, centile_curves, quantile_coefficients
from paravert.study.report_tables import as_html, centiles_text
from paravert.study.standard_level import LEVEL_METADATA, StandardLevel

NORMAL = stats.norm.ppf(np.array(CENTILES) / 100)
MEDIAN, SD, PER_YEAR, SD_PER_YEAR = 6.5, 0.12, -0.005, 0.001  # on the scale of the regression
MAN = 0.25


def truth(age, sex="F", z=0.0):
    """Return the value of a z-score on the scale of the regression."""
    years = np.asarray(age, dtype=float) - 50
    return MEDIAN + MAN * (sex == "M") + PER_YEAR * years + (SD + SD_PER_YEAR * years) * z


def people(women, men=0, seed=0):
    """Return a table of subjects; every measure has its own z, the same model on its own scale."""
    random = np.random.default_rng(seed)
    sex = np.array(["F"] * women + ["M"] * men)
    age = random.integers(20, 81, len(sex)).astype(float)
    frame = {"subject": [f"S{n:05d}" for n in range(len(sex))], "sex": sex, "age_years": age}
    for measure in MEASURES:
        for muscle in MUSCLES:
            drawn = random.normal(size=len(sex))
            value = np.where(sex == "M", truth(age, "M", drawn), truth(age, "F", drawn))
            shift = 0 if measure.scale == "log" else 8.0
            frame[measure.column_of(muscle)] = from_scale(value - shift, measure.scale)
    return pd.DataFrame(frame)


@pytest.fixture(scope="module")
def large():
    subjects = people(2500, 2500)
    return subjects, centile_frame(subjects, samples=2, seed=1)


def of_group(centiles, sex, measure, muscle="multifidus"):
    chosen = (centiles["sex"] == sex) & (centiles["measure"] == measure)
    return centiles[chosen & (centiles["muscle"] == muscle)]


# --- the regression ------------------------------------------------------------------------------


def test_the_median_of_engels_data_is_the_published_one():
    data = sm.datasets.engel.load_pandas().data
    design = sm.add_constant(data["income"].to_numpy())
    found = quantile_coefficients(design, data["foodexp"].to_numpy(), 0.5)
    np.testing.assert_allclose(found, [81.48225, 0.56018], rtol=1e-5)


@pytest.mark.parametrize("share", [0.03, 0.25, 0.5, 0.97])
def test_the_loss_is_never_above_that_of_statsmodels_and_the_curves_are_alike(share):
    random = np.random.default_rng(3)
    design = np.column_stack([np.ones(400), random.uniform(-1, 1, 400)])
    value = design @ [5.0, 0.4] + 0.1 * random.normal(size=400)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = QuantReg(value, design).fit(q=share).params
    found = quantile_coefficients(design, value, share)

    def loss(coefficients):
        rest = value - design @ coefficients
        return np.sum(rest * (share - (rest < 0)))

    assert loss(found) <= loss(theirs) + 1e-9
    np.testing.assert_allclose(design @ found, design @ theirs, atol=0.01)


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_the_unit_of_the_value_does_not_matter(unit):
    random = np.random.default_rng(6)
    design = np.column_stack([np.ones(300), random.uniform(-1, 1, 300)])
    value = design @ [5.0, 0.4] + 0.1 * random.normal(size=300)
    expected = quantile_coefficients(design, value, 0.9)
    found = quantile_coefficients(design, unit * value, 0.9)
    np.testing.assert_allclose(found / unit, expected, rtol=1e-8)


def test_values_on_a_line_have_that_line():
    design = np.column_stack([np.ones(80), np.linspace(20, 80, 80)])
    found = quantile_coefficients(design, design @ [7.0, -0.01], 0.03)
    np.testing.assert_allclose(found, [7.0, -0.01], atol=1e-9)


def test_a_quantile_without_covariates_is_that_of_the_sample():
    value = np.random.default_rng(0).permutation(np.arange(1.0, 102.0))
    found = quantile_coefficients(np.ones((101, 1)), value, 0.25)
    assert found == pytest.approx([np.quantile(value, 0.25)])


@pytest.mark.parametrize("sex", ["F", "M"])
@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.name)
def test_centiles_are_the_known_quantiles_of_the_model(large, sex, measure):
    rows = of_group(large[1], sex, measure.name)
    rows = rows[rows["age_years"].between(25, 75)]
    z = stats.norm.ppf(rows["centile"] / 100)
    shift = 0 if measure.scale == "log" else 8.0
    expected = truth(rows["age_years"], sex, z) - shift
    difference = (to_scale(rows["value"].to_numpy(), measure.scale) - expected) / SD
    outer = rows["centile"].isin([3, 97]).to_numpy()
    assert np.abs(difference)[~outer].max() < 0.2
    assert np.abs(difference)[outer].max() < 0.45
    assert np.sqrt(np.mean(difference**2)) < 0.1
    assert (rows["n_subjects"] == 2500).all()


def test_a_share_of_the_subjects_as_large_as_the_centile_lies_below_its_curve(large):
    subjects, centiles = large
    scores = z_scores(subjects, centiles)
    for centile in CENTILES:
        below = scores.groupby(["sex", "muscle", "measure"])["centile"].apply(
            lambda found, centile=centile: (found < centile).mean()
        )
        np.testing.assert_allclose(below, centile / 100, atol=0.004)


@pytest.mark.long
def test_bands_hold_the_known_curve_as_often_as_they_should():
    grid = np.array([30.0, 45.0, 60.0, 70.0])
    expected = truth(grid)[:, None] + (SD + SD_PER_YEAR * (grid - 50))[:, None] * NORMAL
    held = []
    for number in range(20):
        random = np.random.default_rng(number)
        age = random.uniform(20, 80, 150)
        found = centile_curves(age, truth(age, z=random.normal(size=150)), grid, 25, seed=number)
        held.append((found.low_95 <= expected) & (expected <= found.high_95))
    assert 0.88 <= np.mean(held) <= 0.99


def test_bands_of_a_cohort_four_times_as_large_are_half_as_wide():
    widths = []
    for count in (1000, 4000):
        random = np.random.default_rng(5)
        age = random.uniform(20, 80, count)
        found = centile_curves(
            age, truth(age, z=random.normal(size=count)), np.array([40.0, 50.0, 60.0]), 40, 1
        )
        widths.append((found.high_95 - found.low_95)[:, 2:5].mean())
    assert widths[0] / widths[1] == pytest.approx(2, rel=0.2)


def test_curves_that_cross_are_rearranged_and_flagged():
    random = np.random.default_rng(1)
    age = random.uniform(20, 80, 60)
    value = random.normal(size=60) * np.where(age < 50, 1.0, 0.02)
    grid = np.arange(20.0, 81.0)
    found = centile_curves(age, value, grid, 2, seed=1)
    assert found.crossed.any()
    assert not found.crossed.all()
    assert (np.diff(found.value, axis=1) >= 0).all()
    design = patsy.dmatrix("cr(age, df=3, constraints='center')", {"age": age})
    at_grid = patsy.build_design_matrices([design.design_info], {"age": grid})[0]
    design, at_grid = np.asarray(design), np.asarray(at_grid)
    plain = at_grid @ np.column_stack(
        [quantile_coefficients(design, value, c / 100) for c in CENTILES]
    )
    np.testing.assert_allclose(np.sort(plain, axis=1), found.value, atol=1e-8)
    np.testing.assert_array_equal((np.diff(plain, axis=1) < 0).any(axis=1), found.crossed)


# --- z-scores ------------------------------------------------------------------------------------


def test_z_is_exact_between_known_curves_and_beyond_them():
    z = np.array([-4.0, -1.88, -0.3, 0.0, 0.7, 1.5, 3.5])
    curves = np.tile(100 + 10 * NORMAL, (len(z), 1))
    np.testing.assert_allclose(z_of(100 + 10 * z, curves), z, atol=1e-12)


def test_z_of_a_value_on_several_curves_is_the_middle_of_theirs():
    curves = np.array([[90.0, 95.0, 100.0, 100.0, 100.0, 110.0, 110.0]] * 3)
    found = z_of(np.array([100.0, 110.0, 95.0]), curves)
    np.testing.assert_allclose(found, [0.0, NORMAL[5:].mean(), NORMAL[1]], atol=1e-12)


def test_z_is_unknown_where_the_curves_beside_it_coincide():
    curves = np.tile(100 + 10 * NORMAL, (2, 1))
    curves[0] = 80.0
    found = z_of(np.array([70.0, 70.0]), curves)
    assert np.isnan(found[0])
    assert found[1] == pytest.approx(-3)


@pytest.mark.parametrize("sex", ["F", "M"])
@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.name)
def test_planted_subjects_have_their_z(large, sex, measure):
    planted = np.array([-3.0, -1.5, 0.0, 1.0, 2.7])
    shift = 0 if measure.scale == "log" else 8.0
    value = from_scale(truth(40, sex, planted) - shift, measure.scale)
    own = pd.DataFrame({"subject": list("abcde"), "sex": sex, "age_years": 40.0})
    own[measure.column_of("multifidus")] = value
    found = z_scores(own, large[1])
    assert len(found) == 5
    np.testing.assert_allclose(found["z"][1:4], planted[1:4], atol=0.15)
    np.testing.assert_allclose(found["z"], planted, atol=0.5)
    np.testing.assert_allclose(found["centile"], 100 * stats.norm.cdf(found["z"]))
    assert found["extrapolated"].tolist() == [True, False, False, False, True]


def test_every_subject_without_z_has_a_reason(large):
    subjects = people(6).assign(sex=["F", None, "F", "F", "F", "M"])
    subjects["age_years"] = [50, 50, np.nan, 95, 50, 50]
    subjects.loc[4, "volume_multifidus_ml"] = 0.0
    subjects.loc[5, "volume_multifidus_ml"] = np.nan
    found = z_scores(subjects, large[1])
    assert len(found) == 6 * len(MUSCLES) * len(MEASURES)
    assert (found["z"].isna() == (found["note"] != "")).all()
    own = found[(found["muscle"] == "multifidus") & (found["measure"] == "volume")]
    expected = [
        "",
        "sex unknown",
        "age_years unknown",
        "age outside 20 to 80 years",
        *["no value"] * 2,
    ]
    assert own["note"].tolist() == expected
    assert not own["extrapolated"][1:].any()


def test_the_table_of_subjects_has_the_z_of_the_table_of_z_scores():
    assert tuple(measure.name for measure in MEASURES) == codebook.CENTILE_MEASURES
    subjects = people(70, 30, seed=5)
    long = z_scores(subjects, centile_frame(subjects, samples=0, seed=1))
    wide = with_z_scores(subjects.sample(frac=1, random_state=1)).sort_index()
    for (measure, muscle), own in long.groupby(["measure", "muscle"]):
        np.testing.assert_array_equal(wide[codebook.z_column(measure, muscle)], own["z"])
    assert wide.loc[wide.sex == "F", "z_csa_multifidus"].notna().all()
    assert wide.loc[wide.sex == "M", "z_csa_multifidus"].isna().all()


def test_the_gathered_subjects_have_z_scores_whatever_the_parts():
    subjects = people(66, seed=6)
    quality = {flag.column: np.nan for flag in FLAGS}
    ledger = subjects[["subject", "sex", "age_years"]].assign(**quality, fat_fraction=0.1)
    ledger["warnings"] = [()] * len(ledger)
    places = np.arange(len(subjects)) % 3
    parts = [{"subjects": subjects[places == n], "ledger": ledger[places == n]} for n in (2, 0, 1)]
    limits = {flag.threshold: 1.0 for flag in FLAGS}
    found = pd.concat([part["subjects"] for part in with_flags(parts, limits)]).sort_index()
    expected = with_z_scores(subjects)
    for name in (name for name in expected if name.startswith("z_")):
        np.testing.assert_array_equal(found[name], expected[name])
    assert found["z_fat_level_multifidus"].notna().all()


def test_fewer_than_60_of_a_sex_are_not_fitted_and_the_reason_is_in_both_tables():
    subjects = people(60, 59)
    centiles = centile_frame(subjects, samples=2, seed=1)
    men = centiles[centiles["sex"] == "M"]
    assert len(men) == len(MUSCLES) * len(MEASURES)
    assert (men["note"] == "59 men with age and value, expected at least 60").all()
    assert men[["value", "age_years", "centile"]].isna().all().all()
    women = centiles[centiles["sex"] == "F"]
    assert women["value"].notna().all()
    scores = z_scores(subjects, centiles)
    assert scores.loc[scores["sex"] == "F", "z"].notna().all()
    told = scores.loc[scores["sex"] == "M", "note"]
    assert (told == "no centiles: 59 men with age and value, expected at least 60").all()


@pytest.mark.parametrize("years", [0.0, 0.9])
def test_one_age_or_one_value_is_not_fitted(years):
    same = people(80).assign(age_years=50.6 + np.linspace(0, years, 80))
    centiles = centile_frame(same, samples=2, seed=1)
    told = centiles.loc[centiles["sex"] == "F", "note"]
    assert (told == "all subjects are of the same age, within a year").all()
    same = people(80).assign(**{MEASURES[0].column_of("multifidus"): 500.0})
    told = centile_frame(same, samples=0, seed=1)["note"].dropna()
    assert told[told.str.contains("the value is the same in all subjects")].size == 1


@pytest.mark.parametrize("oldest", [48.0, 49.5])
def test_subjects_within_few_years_have_their_z(oldest):
    random, count = np.random.default_rng(2), 300
    drawn = random.normal(size=count)
    subjects = people(count).assign(age_years=random.uniform(46.7, oldest, count))
    subjects[MEASURES[0].column_of("multifidus")] = np.exp(MEDIAN + SD * drawn)
    found = with_z_scores(subjects)["z_csa_multifidus"] - drawn
    assert np.sqrt((found**2).mean()) < 0.15


# --- files ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    home = tmp_path_factory.mktemp("centiles")
    subjects = people(120, 20, seed=4)
    subjects.loc[0, "age_years"], subjects.loc[1, "age_years"] = 20.0, 80.0
    subjects.to_parquet(home / f"{codebook.SUBJECT_TABLE.name}.parquet")
    fit_centiles(home, home / "centiles.parquet", bootstrap_samples=3)
    return home


def test_the_table_keeps_its_contract_and_says_what_made_it(study):
    data = pq.read_table(study / "centiles.parquet")
    tables.check(CENTILE_TABLE, data)
    told = {key.decode(): value.decode() for key, value in data.schema.metadata.items()}
    assert told["software_version"] == __version__
    assert told["age_range_years"] == "20 to 80"
    assert told["largest_n_subjects"] == "120"
    assert "all slices that show the muscle" in told["level_rule"]
    assert "3 bootstrap samples of at most 500 subjects" in told["bands"]
    assert data.schema.field("value").metadata


def test_another_level_than_that_of_the_cohort_is_refused(study, tmp_path):
    cohort = pq.read_table(study / "subjects.parquet").replace_schema_metadata(
        {LEVEL_METADATA: "L4"}
    )
    pq.write_table(cohort, tmp_path / "subjects.parquet")
    out = tmp_path / "centiles.parquet"
    told = "--level-standard: L3/4, expected L4, for which the cohort tables were made"
    with pytest.raises(InputError, match=told):
        fit_centiles(tmp_path, out, bootstrap_samples=2)
    assert not out.exists()
    fit_centiles(tmp_path, out, bootstrap_samples=2, level_standard="l4")
    assert pq.read_schema(out).metadata[b"level_rule"].endswith(b"interpolated at L4")


def test_other_subjects_get_the_z_of_the_study(study, tmp_path):
    expected = pd.read_csv(study / "z_scores.csv", keep_default_na=False)
    subjects = pd.read_parquet(study / "subjects.parquet")
    subjects.to_csv(tmp_path / "subjects.csv", index=False)
    for file in (study / "subjects.parquet", tmp_path / "subjects.csv"):
        words = ["--centiles", study / "centiles.parquet", "--subjects", file]
        with pytest.raises(SystemExit, match="0"):
            main(["apply_centiles", *map(str, words), "--out", str(tmp_path / "z.csv")])
        found = pd.read_csv(tmp_path / "z.csv", keep_default_na=False)
        pd.testing.assert_frame_equal(found, expected)


def test_a_file_with_one_measure_gets_its_z_alone(study, tmp_path):
    own = pd.read_parquet(study / "subjects.parquet")
    own = own[["subject", "sex", "age_years", "fat_fraction_multifidus"]]
    own.to_csv(tmp_path / "own.csv", index=False)
    apply_centiles(study / "centiles.parquet", tmp_path / "own.csv", tmp_path / "z.csv")
    found = pd.read_csv(tmp_path / "z.csv")
    assert len(found) == 140
    assert set(found["measure"]) == {"fat_fraction"}


FAULTS = {
    "no column sex": lambda frame: frame.drop(columns="sex"),
    "no measure": lambda frame: frame[["subject", "sex", "age_years"]],
    "several rows": lambda frame: frame.assign(subject="S1"),
    "sex female": lambda frame: frame.assign(sex="female"),
    "age_years holds text": lambda frame: frame.assign(age_years="old"),
    "or above 1, expected fractions": lambda frame: frame.assign(fat_fraction_multifidus=17.0),
    "values below 0": lambda frame: frame.assign(fat_level_multifidus=-9.0),
}


@pytest.mark.parametrize("told", FAULTS)
def test_a_faulty_file_of_subjects_is_refused_with_what_was_found(study, tmp_path, told):
    frame = FAULTS[told](pd.read_parquet(study / "subjects.parquet"))
    frame.to_csv(tmp_path / "own.csv", index=False)
    with pytest.raises(InputError, match=told):
        apply_centiles(study / "centiles.parquet", tmp_path / "own.csv", tmp_path / "z.csv")
    assert not (tmp_path / "z.csv").exists()


@pytest.mark.parametrize("name", ["subjects.parquet", "z_scores.csv", "missing.parquet"])
def test_a_file_that_holds_no_centiles_is_refused(study, tmp_path, name):
    with pytest.raises(InputError, match="no table of centiles"):
        apply_centiles(study / name, study / "subjects.parquet", tmp_path / "z.csv")


# --- figure and report ---------------------------------------------------------------------------


def test_the_figure_has_the_points_of_small_studies_alone(large, study):
    centiles = pd.read_parquet(study / "centiles.parquet")
    points = centile_points(pd.read_parquet(study / "subjects.parquet"), centiles)
    drawn = points[points["kind"] == "subject"]
    assert len(drawn) == 120 * len(MUSCLES) * 3
    assert set(drawn["sex"]) == {"F"}
    assert len(draw_centiles(points).axes) == 3 * len(MUSCLES)
    many = centile_points(*large)
    assert set(many["kind"]) == {"centile"}
    assert len(draw_centiles(many).axes) == 6 * len(MUSCLES)


def test_the_figure_shows_the_standard_level_where_it_is_used_and_has_centiles(large):
    subjects, centiles = large
    used, unused = (StandardLevel("L3/4", 5000, covered) for covered in (4000, 3999))
    means, at_level = ({"csa", "volume", "fat_fraction"}, {"csa_level", "volume", "fat_fraction_level"})  # fmt: skip
    points = centile_points(subjects, centiles, used)
    assert set(points["measure"]) == at_level
    assert set(centile_points(subjects, centiles, unused)["measure"]) == means
    not_fitted = centiles["value"].mask(centiles["measure"].isin(at_level - means))
    of_means = centile_points(subjects, centiles.assign(value=not_fitted), used)
    assert set(of_means["measure"]) == means
    figure = draw_centiles(points, used)
    labels = {axes.get_ylabel() for axes in figure.axes} - {""}
    rows = ("CSA at L3/4, cm²", "Volume, ml", "Fat fraction at L3/4, %")
    assert labels == {f"{sex} (n = 2,500)\n{row}" for sex in ("Women", "Men") for row in rows}


@pytest.mark.parametrize(
    ("fat", "why"),
    [
        (0.2, "the value is the same in all subjects"),
        (np.nan, "0 men with age and value, expected at least 60"),
    ],
)
def test_a_sex_without_centiles_of_a_measure_has_no_panels_there_and_that_is_told(fat, why):
    subjects = people(70, 70)
    subjects.loc[subjects["sex"] == "M", [f"fat_fraction_{muscle}" for muscle in MUSCLES]] = fat
    figure = draw_centiles(centile_points(subjects, centile_frame(subjects, samples=2, seed=1)))
    assert len(figure.axes) == 5 * len(MUSCLES)
    labels = {
        axes.get_ylabel().partition(" (")[0] for axes in figure.axes if "Fat" in axes.get_ylabel()
    }
    assert labels == {"Women"}
    (told,) = [text.get_text() for text in figure.texts if "no centiles" in text.get_text()]
    assert f"Men: no centiles of Fat fraction ({why})." in told.replace("\n", " ")


def test_names_of_centiles_do_not_overlap_at_the_ends_of_the_curves(large):
    subjects, centiles = large
    close = centiles.assign(
        **{end: 0.001 * centiles[end] for end in ("value", "low_95", "high_95")}
    )
    points = centile_points(subjects, centiles.where(centiles["muscle"] != "psoas_major", close))
    figure = draw_centiles(points)
    figure.canvas.draw()
    for axes in figure.axes:
        boxes = sorted((text.get_window_extent() for text in axes.texts), key=lambda box: box.y0)
        assert len(boxes) == 3
        for lower, upper in zip(boxes[:-1], boxes[1:], strict=True):
            assert upper.y0 > lower.y0 + 0.6 * lower.height


def test_one_person_is_told_in_singular():
    centiles = centile_frame(people(1, 1), samples=2, seed=1)
    assert set(centiles.note) == {
        f"1 {w} with age and value, expected at least 60" for w in ("woman", "man")
    }
    assert too_few(centiles).endswith("this study has 1 woman and 1 man.")


def test_a_small_study_is_told_how_many_it_needs():
    subjects = people(11, 11)
    centiles = centile_frame(subjects, samples=2, seed=1)
    told = "at least 60 women or men of known age; this study has 11 women and 11 men"
    assert told in too_few(centiles)
    figure = draw_centiles(centile_points(subjects, centiles))
    assert told in figure.texts[0].get_text()
    assert told in as_html(centiles_text(centiles), empty=too_few(centiles))


def test_a_study_of_one_age_is_not_told_that_it_has_too_few_subjects():
    subjects = people(70, 70).assign(age_years=47.0)
    centiles = centile_frame(subjects, samples=2, seed=1)
    told = "No centiles: all subjects are of the same age, within a year."
    assert too_few(centiles) == told
    figure = draw_centiles(centile_points(subjects, centiles))
    assert figure.texts[0].get_text() == told


def test_the_report_shows_medians_with_the_3rd_and_97th_centile(study):
    centiles = pd.read_parquet(study / "centiles.parquet")
    text = centiles_text(centiles)
    shown = text.loc[("CSA, mm²", "Multifidus", "Women"), "50 years"]
    own = of_group(centiles, "F", "csa").query("age_years == 50").set_index("centile")["value"]
    assert shown == f"{own[50]:,.0f} ({own[3]:,.0f} to {own[97]:,.0f})"
    note = text.loc[("Fat fraction, %", "Multifidus", "Men"), "Note"]
    assert note == "20 men with age and value, expected at least 60"
