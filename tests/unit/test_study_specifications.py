"""The specification curve: fat fractions by way, and the effects of each way."""

import numpy as np
import pandas as pd
import pytest

from paravert import codebook, tables
from paravert.anatomy import MUSCLES
from paravert.errors import Caution
from paravert.study import specifications
from paravert.study.data_frames import with_ordered_categories
from paravert.study.drawing import style
from paravert.study.drawing.specification_plot import (
    draw_specification_curve,
    specification_points,
)
from paravert.study.inference import OUTCOMES, SEX_AND_AGE, fit_model
from paravert.study.level_areas import areas_at_levels
from paravert.study.models import model_data
from paravert.study.report_tables import specification_text
from paravert.study.specifications import (
    ALL_SECTIONS,
    ALL_SLICES,
    CURVE_COLUMNS,
    Way,
    estimator_columns,
    fat_by_way,
    specification_curve,
)
from study_tables import cohort_rows, write_cohort

FLAT, KEYS = "otsu_muscle", ["subject", "muscle", "side"]
RULES = {ALL_SLICES: None, "at L3/4": 3.5}
PLANTED = -0.004  # of the second estimator, per year: its age effect has the other sign


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Return the folder of a cohort; its second estimator falls with age, one scan has a flag."""
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder, 12, seed=2)
    rows = cohort_rows(12, seed=2)
    for row in rows["slices"]:
        if row["pixels"]:
            row["predicted_iou"] = 0.5 if row["slice"] == 5 else 0.9
            row[f"fat_fraction_{FLAT}"] = 0.35 + PLANTED * row["age_years"]
            row[f"fat_fraction_{FLAT}"] += row["fat_fraction"] / 10
            row[f"eroded_{FLAT}"] = row[f"fat_fraction_{FLAT}"] - 0.01
    rows["ledger"][3]["warnings"] = [str(Caution.SIDES_DIFFER)]
    rows["ledger"][4]["warnings"] = [str(Caution.FAT_OUTLIER)]
    for table in (codebook.SLICES, codebook.LEDGER):
        data = tables.from_rows(table, rows[table.name])
        tables.write(folder / f"{table.name}.parquet", table, data, {})
    return folder


@pytest.fixture(scope="module")
def curve(cohort):
    with pytest.MonkeyPatch.context() as patch:
        two = {"otsu_subject": ("fat_fraction", "fat_fraction_eroded")}
        two[FLAT] = (f"fat_fraction_{FLAT}", f"eroded_{FLAT}")
        patch.setattr(specifications, "estimator_columns", lambda subjects: two)
        return specification_curve(cohort, model_data(cohort)[0], "L3/4", 0.8, seed=1)


def slices_of(subjects):
    rows = cohort_rows(subjects, seed=4)["slices"]
    return with_ordered_categories(tables.from_rows(codebook.SLICES, rows).to_pandas())


def way(rule, column="fat_fraction", cut=ALL_SECTIONS):
    return Way("otsu_subject", column, 0, cut, rule)


def test_fat_over_all_slices_is_the_volume_weighted_mean_of_those_that_pass():
    slices = slices_of(2)
    passed = {ALL_SECTIONS: np.full(len(slices), True), "cut": (slices["slice"] > 1).to_numpy()}
    ways = [way(ALL_SLICES), way(ALL_SLICES, cut="cut")]
    found = fat_by_way(slices, ways, passed, RULES)
    for chosen, own in zip(ways, (slices, slices[slices["slice"] > 1]), strict=True):
        own = own[own["pixels"] > 0].assign(fat=lambda rows: rows.csa_mm2 * rows.fat_fraction)
        sums = own.astype({"muscle": str, "side": str}).groupby(KEYS)[["fat", "csa_mm2"]].sum()
        expected = (sums["fat"] / sums["csa_mm2"]).reindex(found.index)
        np.testing.assert_allclose(found[chosen], expected)


def test_fat_at_a_level_is_that_of_the_table_levels_and_unknown_where_a_section_fails():
    slices = slices_of(3)
    lost = (slices["subject"] == "S0001") & (slices["slice"] == 3) & (slices["side"] == "left")
    slices.loc[lost, ["csa_mm2", "pixels"]] = np.nan
    passed = {ALL_SECTIONS: np.full(len(slices), True), "cut": (slices["slice"] != 3).to_numpy()}
    ways = [way("at L3/4"), way("at L3/4", cut="cut")]
    found = fat_by_way(slices, ways, passed, RULES)
    levels = areas_at_levels(slices.rename(columns={"stack_id": "stack"}))
    levels = levels[levels["level_position"] == 3.5].set_index(KEYS)["fat_fraction"]
    levels.index = levels.index.set_levels([level.astype(str) for level in levels.index.levels])
    np.testing.assert_allclose(found[ways[0]], levels.reindex(found.index))
    assert found[ways[0]].isna().sum() == len(MUSCLES)
    assert found[ways[1]].isna().all()


def test_the_chosen_way_has_the_effects_of_the_studys_model(cohort, curve):
    assert tuple(curve.columns) == CURVE_COLUMNS
    chosen = curve[curve["chosen"]].set_index(["family", "muscle"])
    data, _ = model_data(cohort)
    rows = fit_model(SEX_AND_AGE, OUTCOMES[2], data).contrasts()
    expected = pd.DataFrame(rows).set_index(["family", "muscle"])
    assert len(chosen) == 2 * len(MUSCLES)
    for name in ("estimate", "low_95", "high_95", "p_value"):
        np.testing.assert_allclose(chosen[name], expected.loc[chosen.index, name], rtol=1e-6)


def test_every_way_is_there_and_an_estimator_that_falls_with_age_reverses_the_effect(curve):
    ways = curve.groupby(["estimator", "erosion_px", "quality_cut", "level_rule"]).size()
    assert len(ways) == 2 * 2 * 3 * 2
    age = curve[(curve["family"] == "age") & (curve["level_rule"] == ALL_SLICES)]
    flat = age["estimator"] == FLAT
    assert (age.loc[flat, "high_95"] < 1).all()
    assert (age.loc[~flat, "estimate"] > 1).all()
    unflagged = curve[curve["quality_cut"] == "scans without flags"]
    assert set(unflagged["n_subjects"].dropna()) == {11}  # the fat outlier stays


def test_a_cut_that_leaves_nothing_out_is_told_and_not_fitted(tmp_path, monkeypatch):
    write_cohort(tmp_path, 8, seed=2)
    one = {"otsu_subject": ("fat_fraction", "fat_fraction_eroded")}
    monkeypatch.setattr(specifications, "estimator_columns", lambda subjects: one)
    monkeypatch.setattr(specifications, "MOST_SUBJECTS", 7)
    found = specification_curve(tmp_path, model_data(tmp_path)[0], "L5", 0.8, seed=1)
    told = found[found["note"] == "leaves nothing out"]
    assert set(told["quality_cut"]) == {"predicted IoU at least 0.8", "scans without flags"}
    at_level = found[found["level_rule"] == "at L5"]
    assert set(at_level["note"]) == {
        "0 subjects have a value at that level, expected 80 %; random sample of 7 of 8 subjects"
    }
    assert set(found["n_subjects"].dropna()) == {7}


@pytest.mark.parametrize(
    ("methods", "names"),
    [
        (["linear"], ["linear", "otsu_subject", "linear_spread"]),
        (["linear", "dixon"], ["dixon, else linear", "linear", "dixon"]),
        (["eroded_linear", "dixon"], ["dixon, else eroded_linear", "linear", "dixon"]),
        (["dixon"], ["dixon", "linear"]),
    ],
)
def test_the_estimator_of_the_study_comes_first_then_every_method_alone(methods, names):
    found = estimator_columns(pd.DataFrame({"fat_fraction_method": methods}))
    assert next(iter(found)) == names[0]
    assert found[names[0]] == ("fat_fraction", "fat_fraction_eroded")
    assert set(names) <= set(found)
    assert ("dixon" in found) == ("dixon" in methods)


def test_a_study_that_erodes_masks_is_among_the_eroded_ways(tmp_path):
    write_cohort(tmp_path, 12, seed=1)
    rows = cohort_rows(12, seed=1)["subjects"]
    for row in rows:
        row["fat_fraction_method"] = "eroded_otsu_subject"
    data = tables.from_rows(codebook.SUBJECT_TABLE, rows)
    tables.write(tmp_path / "subjects.parquet", codebook.SUBJECT_TABLE, data, {})
    assert next(iter(estimator_columns(data.to_pandas()).items())) == (
        "otsu_subject",
        ("fat_fraction_otsu_subject", "fat_fraction"),
    )
    found = specification_curve(tmp_path, model_data(tmp_path)[0], "L5", 0.8, seed=1)
    chosen = found[found["chosen"]]
    assert set(chosen["erosion_px"]) == {1}
    assert set(chosen["estimator"]) == {"otsu_subject"}
    assert set(chosen["level_rule"]) == {ALL_SLICES}


def test_the_figure_and_the_report_show_the_chosen_way_among_all(curve):
    points = specification_points(curve)
    assert len(points) == curve["estimate"].notna().sum()
    ordered = points.groupby(["family", "muscle"])["estimate"]
    assert all(own.is_monotonic_increasing for _, own in ordered)
    with style.applied():
        figure = draw_specification_curve(points)
        assert len(figure.axes) == 4 * len(MUSCLES)
        assert len(draw_specification_curve(points[:0]).axes) == 0
    shown = specification_text(curve).reset_index()
    assert len(shown) == 2 * len(MUSCLES)
    assert set(shown["Ways"]) == {"24"}


@pytest.mark.parametrize(("family", "name"), [("sex, fat", "Men : women"), ("age", "Per decade")])
def test_the_figure_has_no_panels_of_an_effect_without_values(curve, family, name):
    points = specification_points(curve[curve["family"] == family])
    points = points[points["muscle"] != "multifidus"]
    with style.applied():
        figure = draw_specification_curve(points)
    assert len(figure.axes) == 2 * len(MUSCLES)
    assert figure.axes[0].get_ylabel().startswith(name)
    told = {
        axes.get_title(loc="left") or axes.get_title(): [text.get_text() for text in axes.texts]
        for axes in figure.axes[: len(MUSCLES)]
    }
    assert list(told.values()) == [[], [], [], ["no values"]]
