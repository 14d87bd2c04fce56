"""Label maps of other networks: recoded, checked, and muscles that they do not have left unknown."""

import json
import re

import numpy as np
import pyarrow.parquet as pq
import pytest

from dicom_writer import Plan, labels_phantom, turn, write_nifti, write_series
from paravert.anatomy import SIDES
from paravert.errors import Caution
from paravert.imaging.convert import convert_dicom
from paravert.imaging.volume import read_volume
from paravert.label_sources import SOURCES, as_option
from paravert.subject_folder import SubjectFolder

PLAN = Plan()
SACRUM, LATISSIMUS, KIDNEY = 6160, 5141, 2
AUTOCHTHON = {5: 46, 6: 47, 7: 46, 8: 47}  # erector spinae and multifidus in one
TOTAL = {1: 48, 2: 49, **AUTOCHTHON}
MUSCLEMAP = {own: foreign for foreign, own in SOURCES["musclemap"].values.items()}
MUSCLEMAP_ABDOMEN = {8: 1, 7: 2, 6: 3, 5: 4, 2: 5, 1: 6, 4: 7, 3: 8}  # the regional model
TOTAL_OF_2_4 = {1: 46, 2: 47, 5: 44, 6: 45, 7: 44, 8: 45}


def foreign(values, organ=0, swapped=False):
    """Return a label function with another program's values, and an organ in front of the spine."""

    def function(points):
        found = labels_phantom(points * [-1, 1, 1] if swapped else points)
        labels = np.zeros(found.shape)
        for own, value in values.items():
            labels[found == own] = value
        x, y, _ = np.moveaxis(points, -1, 0)
        labels[(abs(x) < 8) & (abs(y + 40) < 10)] = organ
        return labels

    return function


def own_values(kept):
    return lambda points: np.where(np.isin(labels_phantom(points), kept), labels_phantom(points), 0)


def convert(home, labels_from, *functions, plans=(PLAN,), truth=False, dtype=np.int32):
    """Convert a subject with a label map per stack; return its row and its folder."""
    write_series(home / "images", list(plans))
    for number, (plan, function) in enumerate(zip(plans, functions, strict=True)):
        write_nifti(home / f"labels/{number}.nii.gz", plan, function, dtype=dtype)
        write_nifti(home / f"truth/{number}.nii.gz", plan, labels_phantom, dtype=np.uint8)
    (home / "sheet.csv").write_text(
        f"subject,images,labels,truth\nS1,images,labels,{'truth' if truth else ''}\n"
    )
    out = home / "convert.parquet"
    option = as_option(labels_from)
    convert_dicom(home / "sheet.csv", ["S1"], home / "results", out, labels_from=option)
    (row,) = pq.read_table(out).to_pylist()
    return row, SubjectFolder(home / "results/S1")


def given(folder, stack=1):
    return read_volume(folder.stack_file("given", stack)).array


def assert_values(array, function, plan=PLAN):
    # Both run from caudal to cranial, columns to the left.
    expected = np.stack([function(plan.points(index)) for index in range(plan.slices)])
    assert np.array_equal(array, expected)
    assert array.dtype == np.uint8


def test_values_of_musclemap_become_ours_and_other_organs_background(tmp_path):
    values = foreign(MUSCLEMAP, organ=SACRUM)
    row, folder = convert(tmp_path, "musclemap", values, truth=True)
    assert (row["status"], row["warnings"]) == ("analysed", [])
    assert_values(given(folder), labels_phantom)
    assert_values(read_volume(folder.stack_file("truth", 1)).array, labels_phantom)
    assert folder.not_labelled(1) == frozenset()


def test_totalsegmentator_gives_the_psoas_and_nothing_else(tmp_path):
    row, folder = convert(tmp_path, "totalsegmentator_mr", foreign(TOTAL, organ=KIDNEY))
    assert (row["status"], row["has_labels"]) == ("analysed", True)
    assert_values(given(folder), own_values((1, 2)))
    assert {muscle for muscle, _ in folder.not_labelled(1)} == {
        "quadratus_lumborum", "erector_spinae", "multifidus",
    }  # fmt: skip
    assert len(folder.not_labelled(1)) == 6
    assert json.loads((folder.home / "given/source.json").read_text()) == {
        "labels_from": "totalsegmentator_mr", "labels": [1, 2],
    }  # fmt: skip


def test_a_table_recodes_several_values_to_one_muscle(tmp_path):
    table = {11: ["erector_spinae", "left"], 12: ["erector_spinae", "right"]}
    table |= {13: ["erector_spinae", "left"], 14: ["erector_spinae", "right"]}
    values = {5: 11, 6: 12, 7: 13, 8: 14, 1: 99, 2: 98}
    row, folder = convert(tmp_path, table, foreign(values))
    assert row["status"] == "analysed"
    whole = {5: 5, 6: 6, 7: 5, 8: 6}
    assert_values(given(folder), lambda points: foreign(whole)(points).astype(np.uint8))
    assert ("multifidus", "left") in folder.not_labelled(1)
    assert ("erector_spinae", "left") not in folder.not_labelled(1)


def test_own_values_leave_no_source_behind(tmp_path):
    _, folder = convert(tmp_path, "paravert", labels_phantom)
    assert [file.name for file in (folder.home / "given").iterdir()] == ["stack-01.nii.gz"]
    assert folder.not_labelled(1) == frozenset()


def test_a_muscle_that_no_own_map_shows_on_either_side_is_not_labelled(tmp_path):
    row, folder = convert(tmp_path, "paravert", own_values((1, 5, 6, 7, 8)))  # no right psoas
    assert (row["status"], row["warnings"], row["has_labels"]) == ("analysed", [], True)
    assert folder.not_labelled(1) == {("quadratus_lumborum", side) for side in SIDES}
    assert json.loads((folder.home / "given/source.json").read_text()) == {
        "labels_from": "paravert", "labels": [1, 2, 5, 6, 7, 8],
    }  # fmt: skip


def test_a_muscle_that_one_of_the_own_maps_shows_is_absent_in_the_others(tmp_path):
    plans = [Plan(slices=2, centre=(0, 0, z)) for z in (-60, 60)]
    _, folder = convert(tmp_path, "paravert", own_values((1, 2)), labels_phantom, plans=plans)
    assert folder.stack_numbers("given") == [1, 2]
    assert folder.not_labelled(1) == folder.not_labelled(2) == frozenset()


@pytest.mark.parametrize(
    ("labels_from", "values"), [("musclemap", MUSCLEMAP), ("totalsegmentator_mr", TOTAL)]
)
def test_swapped_sides_are_found_by_the_affine(tmp_path, labels_from, values):
    row, _ = convert(tmp_path, labels_from, foreign(values, swapped=True))
    assert row["reason"] == "mask-side-mismatch"


@pytest.mark.parametrize(
    ("labels_from", "values", "told"),
    [
        ("musclemap", {1: LATISSIMUS}, "1 values, none of 5101, 5102, 5111, 5112, 5121, 5122"),
        ("musclemap", MUSCLEMAP_ABDOMEN, "such as 1, 2, 3, 4, 5"),
        ("musclemap", {own: own for own in range(1, 9)}, "whole-body model), such as 1, 2, 3"),
        ("totalsegmentator_mr", AUTOCHTHON, "2 values, none of 48, 49"),
        ("totalsegmentator_mr", TOTAL_OF_2_4, "TotalSegmentator 2.5 or later, total_mr), such as"),
        ("totalsegmentator_mr", TOTAL_OF_2_4 | {3: 52, 4: 53}, "2 values above 50, the largest of"),
        ("totalsegmentator_mr", TOTAL | {3: 51}, "1 values above 50"),
        ({300: ["psoas_major", "left"]}, {1: 3}, "none of 300 (the configured table), such as 3"),
        ("musclemap", MUSCLEMAP | {1: 5120.5}, "not whole numbers, such as 5120.5"),
    ],
)
def test_other_values_than_expected_are_told(tmp_path, labels_from, values, told):
    row, _ = convert(tmp_path, labels_from, foreign(values), dtype=np.float32)
    assert row["reason"] == "mask-unknown-label"
    assert told in row["message"]


def test_the_regional_model_of_musclemap_is_not_taken_for_our_values(tmp_path):
    row, _ = convert(tmp_path, "paravert", foreign(MUSCLEMAP_ABDOMEN))
    assert row["reason"] == "mask-side-mismatch"


def test_a_map_without_any_label_is_treated_as_not_given(tmp_path):
    row, folder = convert(tmp_path, "musclemap", foreign({}))
    assert row["warnings"] == [Caution.MASK_EMPTY]
    assert not row["has_labels"]
    assert not (folder.home / "given").exists()


def test_a_slice_with_other_organs_alone_is_segmented_and_one_without_is_not(tmp_path):
    def below(function):
        return lambda points: np.where(points[..., 2] < PLAN.centre[2] + 1, function(points), 0)

    def organs_above(points):
        return np.where(points[..., 2] < PLAN.centre[2] + 1, foreign(TOTAL)(points), 2)

    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    row, _ = convert(tmp_path / "a", "totalsegmentator_mr", organs_above)
    assert row["warnings"] == []
    row, _ = convert(tmp_path / "b", "totalsegmentator_mr", below(foreign(TOTAL)))
    assert row["warnings"] == [Caution.MASK_PARTIAL]


def test_a_stack_without_the_muscles_is_kept_where_another_has_them(tmp_path):
    plans = [Plan(centre=(0, 0, z), slices=2).turned(turn("x", z / 3)) for z in (-60, 60)]
    functions = (foreign(TOTAL), foreign({}, organ=KIDNEY))
    row, folder = convert(tmp_path, "totalsegmentator_mr", *functions, plans=plans)
    assert row["warnings"] == [Caution.MULTI_STACK]
    assert folder.stack_numbers("given") == [1, 2]
    assert given(folder, 1).any()
    assert not given(folder, 2).any()


def test_another_source_converts_again_only_who_has_labels(tmp_path, caplog):
    write_series(tmp_path / "images", PLAN)
    write_nifti(tmp_path / "labels.nii.gz", PLAN, foreign(MUSCLEMAP), dtype=np.int32)
    sheet, out = tmp_path / "sheet.csv", tmp_path / "convert.parquet"
    sheet.write_text("subject,images,labels\nS1,images,labels.nii.gz\nS2,images,\n")
    caplog.set_level("INFO")
    for option in ("paravert", "musclemap", "musclemap"):
        caplog.clear()
        convert_dicom(sheet, ["S1", "S2"], tmp_path / "results", out, labels_from=option)
        computed = re.findall(r"(S\d): computed", caplog.text)
        rows = {row["subject"]: row["reason"] for row in pq.read_table(out).to_pylist()}
        told = rows["S1"], computed
        if option == "paravert":
            assert told == ("mask-unknown-label", ["S1", "S2"])
        else:
            assert rows["S1"] is None
            assert computed in (["S1"], [])
    assert computed == []


@pytest.mark.parametrize("workers", [1, 2])
def test_own_values_are_checked_in_worker_processes_too(tmp_path, workers):
    write_series(tmp_path / "images", PLAN)
    write_nifti(tmp_path / "own.nii.gz", PLAN, labels_phantom, dtype=np.uint8)
    write_nifti(tmp_path / "nine.nii.gz", PLAN, foreign({1: 1, 2: 9}), dtype=np.uint8)
    sheet, out = tmp_path / "sheet.csv", tmp_path / "convert.parquet"
    sheet.write_text("subject,images,labels\nS1,images,own.nii.gz\nS2,images,nine.nii.gz\n")
    convert_dicom(sheet, ["S1", "S2"], tmp_path / "results", out, workers=workers)
    assert [row["reason"] for row in pq.read_table(out).to_pylist()] == [None, "mask-unknown-label"]
    assert not (tmp_path / "results/S1/given/source.json").exists()
