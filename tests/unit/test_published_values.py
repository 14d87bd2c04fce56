import pandas as pd
import pytest

from paravert.anatomy import MUSCLES
from paravert.study.published_values import (
    areas_at,
    areas_of_sides,
    matching,
    read_published,
    source_note,
)
from paravert.study.report_tables import normal_values_text

WITHOUT_SD = ("Khil 2020",)  # give means alone


def test_each_published_value_is_complete():
    found = read_published()
    texts = ["level", "age_years", "people", "scanner", "authors", "journal", "table", "link"]
    assert (found[texts].map(lambda text: isinstance(text, str) and text.strip() != "")).all(
        axis=None
    )
    assert found.loc[~found.source.isin(WITHOUT_SD), "sd"].notna().all()
    assert found[["n", "year", "mean"]].gt(0).all(axis=None)
    assert found.year.between(1980, 2030).all()
    assert set(found.sex) <= {"F", "M", "all"}
    assert set(found.side) <= {"left", "right", "mean", "sum"}
    assert {part for muscle in found.muscle for part in muscle.split("+")} <= set(MUSCLES)
    units = found.groupby("measure").unit.unique().map(list).to_dict()
    assert units == {"csa": ["mm2"], "fat_fraction": ["1"], "volume": ["ml"]}
    assert found.loc[found.unit == "1", "mean"].between(0, 1).all()
    assert not found.duplicated(
        ["measure", "muscle", "side", "level", "sex", "age_years", "source"]
    ).any()


def test_areas_of_a_side_are_the_mean_of_left_and_right():
    published = read_published()
    own = published[(published.muscle == "psoas_major") & (published.level == "L3/4")]
    found = areas_at("L3/4").set_index("muscle")
    assert len(own) == 2
    assert found.loc["psoas_major", "mean"] == pytest.approx(own["mean"].mean())
    assert set(areas_of_sides().level_position) == {1.5, 2.5, 3.5, 4.5, 5.5}
    assert "Ivanac 2026 (n = 30, 42.3 ± 8.3 years" in source_note(found.reset_index())


def test_published_values_stand_beside_normal_values_of_the_same_level():
    published = read_published()
    at_level = matching(published, "csa_at_level_mm2", "psoas_major", "left", "F", "L3/4")
    assert at_level["mean"].tolist() == [1452.07]
    means = matching(published, "fat_fraction", "multifidus", "right", "M", "all slices")
    assert means["mean"].tolist() == [0.1621]
    assert matching(published, "csa_mean_mm2", "psoas_major", "left", "F", "all slices").empty
    assert pd.isna(means["level_position"]).all()


def test_the_report_sets_published_values_beside_normal_values():
    row = {"muscle": "psoas_major", "side": "left", "n": 9, "sd": 1.0}
    area = {"measure": "csa_at_level_mm2", "unit": "mm2", "level": "L3/4", "mean": 900.0}
    fat = {"measure": "fat_fraction", "unit": "1", "level": "all slices", "mean": 0.05, "sd": 0.01}
    rows = [row | own | {"sex": sex} for own in (area, fat) for sex in ("F", "M")]
    shown = normal_values_text(pd.DataFrame(rows))
    assert list(shown.columns) == ["Women", "Men", "Published values"]
    texts = shown["Published values"].droplevel(["Muscle", "Side"])
    assert texts["CSA at L3/4, mm²"] == "not by sex 1,452 ± 429 (Ivanac 2026)"
    fat_text = texts["Fat fraction (all slices), %"]
    assert fat_text.startswith("women 6.0 ± 2.2; not by sex below 38 years 4.5 ± 1.5;")
    assert fat_text.endswith("men 5.1 ± 3.4 (Sollmann 2020, whole muscle)")
