"""Sums and means by hand: two slices of known area, slab and fat fraction."""

import numpy as np
import pandas as pd
import pytest

from paravert.anatomy import MUSCLES, SIDES
from paravert.study.aggregate import (
    _lean_volume_ml,
    cohort_muscles,
    cohort_slices,
    cohort_subjects,
)
from paravert.tables import FAT_METHODS, HEADER_COLUMNS, OTSU_METHODS, SLICE_LEVELS, from_rows

CSA = {"left": (1000.0, 500.0), "right": (800.0, 400.0)}
FAT = {"left": (0.1, 0.4), "right": (0.2, 0.2)}
SLAB = (4.0, 6.0)
NO_LEVELS_KNOWN = from_rows(SLICE_LEVELS, []).to_pandas()


@pytest.fixture
def tables():
    """Area and fat rows of one subject: every muscle alike, multifidus right absent."""
    area, fat = [], []
    for index in (0, 1):
        for muscle in MUSCLES:
            for side in SIDES:
                absent = (muscle, side) == ("multifidus", "right")
                keys = {"subject": "S1", "stack": 1, "slice": index, "muscle": muscle, "side": side}
                csa = 0.0 if absent else CSA[side][index]
                area.append(
                    keys
                    | {
                        "position_mm": 0.0,
                        "tilt_deg": 0.0,
                        "slab_mm": SLAB[index],
                        "overlaps": False,
                        "pixels": int(csa),
                        "csa_mm2": csa,
                        "csa_axial_mm2": csa,
                        "csa_reason": None,
                    }
                )
                share = None if absent else FAT[side][index]
                row = dict(keys)
                for method in FAT_METHODS:
                    row[f"fat_fraction_{method}"] = share
                    row[f"eroded_{method}"] = share
                    row[f"reason_{method}"] = "absent" if absent else None
                row |= {
                    "fat_fraction_dixon": None,
                    "eroded_dixon": None,
                    "reason_dixon": "no-dixon",
                }
                row |= {f"separability_{method}": 0.8 for method in OTSU_METHODS}
                row |= {"sequence": "T2", "sequence_source": "header", "fat_contrast": 12.0}
                fat.append(row)
    return pd.DataFrame(area), pd.DataFrame(fat)


def muscle(rows, muscle="psoas_major", side="left"):
    return rows[(rows.muscle == muscle) & (rows.side == side)].iloc[0]


def test_volume_is_area_times_slab_and_fat_is_weighted_by_volume(tables):
    row = muscle(cohort_muscles(cohort_slices(*tables, NO_LEVELS_KNOWN, "otsu_subject")))
    assert row.slices == 2
    assert row.csa_mean_mm2 == pytest.approx(750)
    assert row.csa_sd_mm2 == pytest.approx(500 / np.sqrt(2))
    assert row.csa_max_mm2 == 1000
    assert row.volume_ml == pytest.approx((1000 * 4 + 500 * 6) / 1000)
    assert row.coverage_mm == 10
    assert row.fat_fraction == pytest.approx((0.1 * 4000 + 0.4 * 3000) / 7000)
    assert row.lean_volume_ml == pytest.approx(7 - 0.4 - 1.2)


def test_an_absent_muscle_has_volume_0_and_an_unknown_fat_fraction(tables):
    row = muscle(
        cohort_muscles(cohort_slices(*tables, NO_LEVELS_KNOWN, "otsu_subject")),
        "multifidus",
        "right",
    )
    assert row.slices == 0
    assert row.volume_ml == 0
    assert pd.isna(row.csa_mean_mm2)
    assert pd.isna(row.fat_fraction)
    assert row.fat_fraction_reason == "absent"


def test_a_muscle_is_valid_if_every_slice_that_shows_it_has_a_fat_fraction(tables):
    area, fat = tables
    psoas = (fat.muscle == "psoas_major") & (fat.side == "left")
    fat.loc[psoas & (fat.slice == 1), "fat_fraction_otsu_subject"] = np.nan
    fat.loc[psoas & (fat.slice == 1), "reason_otsu_subject"] = "low-contrast"
    rows = cohort_muscles(cohort_slices(area, fat, NO_LEVELS_KNOWN, "otsu_subject"))
    assert not muscle(rows).fat_fraction_valid
    assert muscle(rows).fat_fraction == pytest.approx(0.1)
    assert muscle(rows, side="right").fat_fraction_valid
    assert not muscle(rows, "multifidus", "right").fat_fraction_valid


def test_a_fat_fraction_that_cannot_be_had_is_null_with_its_reason_everywhere(tables):
    area, fat = tables
    shown = area.pixels > 0
    for method in FAT_METHODS:
        fat.loc[shown, [f"fat_fraction_{method}", f"eroded_{method}"]] = np.nan
        fat.loc[shown, f"reason_{method}"] = "fat-not-bright"
    slices = cohort_slices(area, fat, NO_LEVELS_KNOWN, "otsu_subject")
    muscles = cohort_muscles(slices)
    assert muscle(muscles).fat_fraction_reason == "fat-not-bright"
    assert not muscles.fat_fraction_valid.any()
    assert muscles.lean_volume_ml.isna().all()
    row = subject_of(muscles, slices)
    assert pd.isna(row.fat_fraction)
    assert row.fat_fraction_reason == "fat-not-bright"
    assert pd.isna(row.lean_volume_ml)


@pytest.mark.parametrize(("second", "expected"), [("T2", "T2"), ("fat-suppressed", "unknown")])
def test_the_sequence_of_a_subject_is_that_of_all_its_stacks(tables, second, expected):
    area, fat = tables
    fat.loc[fat.slice == 1, "sequence"] = second
    fat.loc[fat.slice == 1, "fat_contrast"] = 5.0
    slices = cohort_slices(area, fat, NO_LEVELS_KNOWN, "otsu_subject")
    row = subject_of(cohort_muscles(slices), slices)
    assert row.sequence == expected
    assert row.fat_contrast == 5


def test_a_slice_that_cuts_an_earlier_stack_counts_for_area_and_not_for_volume(tables):
    area, fat = tables
    area.loc[area.slice == 1, "overlaps"] = True
    row = muscle(cohort_muscles(cohort_slices(area, fat, NO_LEVELS_KNOWN, "otsu_subject")))
    assert row.slices == 2
    assert row.csa_mean_mm2 == pytest.approx(750)
    assert row.volume_ml == pytest.approx(4)
    assert row.coverage_mm == 4
    assert row.fat_fraction == pytest.approx(0.1)


def test_a_muscle_that_is_labelled_in_one_stack_alone_has_areas_and_no_volume(tables):
    area, fat = tables
    unknown = (area.muscle == "psoas_major") & (area.slice == 1)
    area[["csa_mm2", "csa_axial_mm2", "pixels"]] = area[
        ["csa_mm2", "csa_axial_mm2", "pixels"]
    ].where(~unknown)
    area.loc[unknown, "csa_reason"] = "not-labelled"
    fat.loc[unknown, [f"fat_fraction_{method}" for method in FAT_METHODS]] = None
    fat.loc[unknown, [f"reason_{method}" for method in FAT_METHODS]] = "not-labelled"
    slices = cohort_slices(area, fat, NO_LEVELS_KNOWN, "otsu_subject")
    muscles = cohort_muscles(slices)
    row = muscle(muscles)
    assert (row.slices, row.csa_mean_mm2, row.coverage_mm) == (1, 1000, 4)
    assert row.fat_fraction == pytest.approx(0.1)
    assert row[["volume_ml", "lean_volume_ml", "csa_reason"]].isna().all()
    assert muscles[muscles.muscle != "psoas_major"].volume_ml.notna().all()
    assert muscle(muscles, "multifidus", "right").csa_reason == "absent"
    subject = subject_of(muscles, slices)
    assert np.isnan(subject.fat_fraction)
    assert subject.fat_fraction_reason == "not-labelled"


def test_the_configured_method_becomes_the_fat_fraction(tables):
    area, fat = tables
    fat["fat_fraction_linear"] = 0.3
    rows = cohort_slices(area, fat, NO_LEVELS_KNOWN, "linear")
    assert (rows.fat_fraction == 0.3).all()
    assert rows.fat_fraction_otsu_subject.iloc[0] == 0.1
    assert rows.lean_csa_mm2.iloc[0] == pytest.approx(700)


def subject_of(muscles, slices, **at_level):
    """Return the subject of the rows. at_level: columns at the standard level, of the rows of muscles."""
    convert = {"subject": "S1", "stacks": 1, "slices": 2, "has_truth": True, "has_labels": False}
    convert |= dict.fromkeys(["status", "stage", "reason", "message", "warnings", "image_digests"])
    convert |= dict.fromkeys(column.name for column in HEADER_COLUMNS)
    segment = {
        "subject": ["S1"],
        "labels_source": ["network"],
        "computed_on": ["cpu"],
        "removed_mm2": [3.0],
    }
    people = pd.DataFrame({"sex": ["F"], "height_cm": [200.0]}, index=["S1"])
    left = muscles.side == "left"
    muscles = muscles.assign(
        csa_at_level_mm2=np.where(left, 300.0, 500.0),
        fat_fraction_at_level=np.where(left, 0.1, 0.3),
    ).assign(**at_level)
    rows = cohort_subjects(muscles, slices, pd.DataFrame([convert]), pd.DataFrame(segment), people)
    return rows.iloc[0]


def test_a_subject_adds_up_its_muscles(tables):
    slices = cohort_slices(*tables, NO_LEVELS_KNOWN, "otsu_subject")
    row = subject_of(cohort_muscles(slices), slices)
    assert row.n_slices == 2
    assert row.coverage_mm == 10
    assert row.volume_ml == pytest.approx(4 * 7.0 + 3 * 5.6)
    assert row.csa_psoas_major_mm2 == pytest.approx(750 + 600)
    assert row.csa_index_psoas_major == pytest.approx(1350 / 4)
    assert row.csa_level_psoas_major_mm2 == pytest.approx(800)
    assert row.fat_level_psoas_major == pytest.approx((30 + 150) / 800)
    assert row.asymmetry_psoas_major == pytest.approx(150 / 675)
    assert pd.isna(row.asymmetry_multifidus)
    assert row.fat_fraction_psoas_major == pytest.approx((1600 + 0.2 * 5600) / 12600)


@pytest.mark.parametrize("lost", ["size", "fat"])
def test_the_fat_of_both_sides_is_unknown_if_that_of_one_is(tables, lost):
    slices = cohort_slices(*tables, NO_LEVELS_KNOWN, "otsu_subject")
    muscles = cohort_muscles(slices)
    left = (muscles.muscle == "psoas_major") & (muscles.side == "left")
    at_level = pd.DataFrame(
        {"csa_at_level_mm2": 300.0, "fat_fraction_at_level": 0.2}, muscles.index
    )
    at_level.loc[left, "fat_fraction_at_level"] = np.nan
    muscles.loc[left, "fat_fraction"] = np.nan
    if lost == "size":  # as of a side that failed the review
        at_level.loc[left, "csa_at_level_mm2"] = np.nan
        muscles.loc[left, ["csa_mean_mm2", "volume_ml"]] = np.nan
    row = subject_of(muscles, slices, **at_level)
    unknown = ["fat_fraction_psoas_major", "fat_level_psoas_major", "fat_fraction"]
    assert row[unknown].isna().all()
    assert row.fat_fraction_erector_spinae == pytest.approx((1600 + 0.2 * 5600) / 12600)


def test_a_side_without_the_muscle_does_not_enter_the_fat_of_both(tables):
    slices = cohort_slices(*tables, NO_LEVELS_KNOWN, "otsu_subject")
    muscles = cohort_muscles(slices)  # multifidus right is absent
    absent = (muscles.muscle == "multifidus") & (muscles.side == "right")
    at_level = pd.DataFrame(
        {"csa_at_level_mm2": 300.0, "fat_fraction_at_level": 0.2}, muscles.index
    )
    at_level.loc[absent] = [0.0, np.nan]
    row = subject_of(muscles, slices, **at_level)
    assert row.fat_fraction_multifidus == pytest.approx(1600 / 7000)
    assert row.fat_level_multifidus == pytest.approx(0.2)
    assert row.fat_fraction == pytest.approx((4 * 1600 + 3 * 0.2 * 5600) / (4 * 7000 + 3 * 5600))


def test_lean_volume_of_a_subject_is_unknown_where_that_of_a_muscle_is(tables):
    area, fat = tables
    fat.loc[fat.muscle == "psoas_major", "fat_fraction_otsu_subject"] = None
    muscles = cohort_muscles(cohort_slices(area, fat, NO_LEVELS_KNOWN, "otsu_subject"))
    unknown = _lean_volume_ml(muscles).isna()
    assert (unknown == (muscles.muscle == "psoas_major")).all()  # an absent muscle adds 0


def test_an_eroded_method_leaves_out_the_rim_where_other_pixels_are_left(tables):
    area, fat = tables
    thin = (fat.muscle == "psoas_major") & (fat.side == "left")
    known = fat.reason_otsu_subject.isna()
    fat.loc[known, "eroded_otsu_subject"] = 0.05
    fat.loc[known & thin, "eroded_otsu_subject"] = None  # no pixel is left
    whole = cohort_slices(area, fat, NO_LEVELS_KNOWN, "otsu_subject")
    slices = cohort_slices(area, fat, NO_LEVELS_KNOWN, "eroded_otsu_subject")
    assert set(slices.fat_fraction_method) == {"eroded_otsu_subject"}
    thin = (slices.muscle == "psoas_major") & (slices.side == "left")
    pd.testing.assert_series_equal(slices.fat_fraction[thin], whole.fat_fraction[thin])
    assert set(slices.fat_fraction[~thin].dropna()) == {0.05}
    pd.testing.assert_series_equal(slices.fat_fraction_reason, whole.fat_fraction_reason)
    shown = slices[~thin & slices.fat_fraction.notna()]
    assert shown.lean_csa_mm2.to_numpy() == pytest.approx(0.95 * shown.csa_mm2)


def test_dixon_is_the_fat_fraction_of_subjects_who_have_it(tables):
    area, fat = tables
    other = [rows.assign(subject="S2") for rows in tables]
    dixon = fat.reason_otsu_subject.isna()
    fat.loc[dixon, ["fat_fraction_dixon", "eroded_dixon"]] = 0.33, 0.3
    fat["reason_dixon"] = fat.reason_otsu_subject
    swapped = dixon & (fat.muscle == "psoas_major") & (fat.side == "left")
    fat.loc[swapped, ["fat_fraction_dixon", "eroded_dixon"]] = None
    fat.loc[swapped, "reason_dixon"] = "fat-water-swapped"
    slices = cohort_slices(
        pd.concat([area, other[0]], ignore_index=True),
        pd.concat([fat, other[1]], ignore_index=True),
        NO_LEVELS_KNOWN,
        "otsu_subject",
    )
    first, second = (slices[slices.subject == name] for name in ("S1", "S2"))
    of_rim = cohort_slices(area, fat, NO_LEVELS_KNOWN, "eroded_otsu_subject")
    shown = of_rim[(of_rim.fat_fraction_method == "dixon") & of_rim.fat_fraction.notna()]
    assert set(shown.fat_fraction) == {0.33}  # of the whole mask
    assert set(first.fat_fraction_method) == {"dixon"}
    assert set(second.fat_fraction_method) == {"otsu_subject"}
    assert set(muscle(slices, "psoas_major", "right")[["fat_fraction", "fat_fraction_eroded"]]) == {
        0.33,
        0.3,
    }
    assert set(first.fat_fraction_reason.dropna()) == {"absent", "fat-water-swapped"}
    assert set(second.fat_fraction.dropna()) == {0.1, 0.4, 0.2}
    muscles = cohort_muscles(slices).set_index(["subject", "muscle", "side"])
    assert muscles.fat_fraction["S1", "psoas_major", "right"] == pytest.approx(0.33)
    assert not muscles.fat_fraction_valid["S1", "psoas_major", "left"]
    assert muscles.fat_fraction_reason["S1", "psoas_major", "left"] == "fat-water-swapped"
