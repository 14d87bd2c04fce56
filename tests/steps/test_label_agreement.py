"""Label sets of other networks from the sheet to the cohort's tables, and two of them compared."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from whole_run import gathered

from dicom_writer import Plan, labels_phantom, write_nifti, write_series
from paravert.anatomy import LABELS, MUSCLES, SIDES
from paravert.errors import InputError
from paravert.imaging.convert import convert_dicom
from paravert.imaging.volume import Volume, read_volume, write_volume
from paravert.label_sources import SOURCES
from paravert.measure import slice_picture
from paravert.study.accuracy import limits_of_agreement
from paravert.study.label_agreement import compare_labels, label_agreement, subject_dice
from paravert.subject_folder import SubjectFolder
from paravert.tables import FAT_METHODS

SUBJECTS = ("S1", "S2", "S3")
MUSCLEMAP = {own: foreign for foreign, own in SOURCES["musclemap"].values.items()}
TOTAL = {1: 48, 2: 49, 5: 46, 6: 47, 7: 46, 8: 47}
PSOAS = {("psoas_major", side) for side in SIDES}


def plan_of(subject):
    return Plan(slices=4, row_spacing=3.0 + 0.1 * SUBJECTS.index(subject))


def coded(values, changed=lambda labels, points: labels):
    """Return a label function with a program's values, after a change of our own ones."""

    def function(points):
        own = changed(labels_phantom(points), points)
        return np.select([own == value for value in values], list(values.values()), 0)

    return function


def results_of(home, labels_from, function):
    """Run all steps on three subjects with labels of one source; return the folder of results."""
    lines = ["subject,images,labels,truth"]
    for subject in SUBJECTS:
        plan = plan_of(subject)
        write_series(home / subject, plan)
        write_nifti(home / f"{subject}.nii.gz", plan, function, dtype=np.int32)
        write_nifti(home / f"{subject}-truth.nii.gz", plan, labels_phantom, dtype=np.uint8)
        lines.append(f"{subject},{subject},{subject}.nii.gz,{subject}-truth.nii.gz")
    sheet = home / "sheet.csv"
    sheet.write_text("\n".join(lines) + "\n")
    return gathered(sheet, SUBJECTS, labels_from)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    return results_of(tmp_path_factory.mktemp("own"), "paravert", labels_phantom)


@pytest.fixture(scope="module")
def total(tmp_path_factory):
    home = tmp_path_factory.mktemp("total")
    return results_of(home, "totalsegmentator_mr", coded(TOTAL))


def table(results, name):
    return pd.read_parquet(results / f"cohort/{name}.parquet")


def of_psoas(frame):
    return [pair in PSOAS for pair in zip(frame["muscle"], frame["side"], strict=True)]


# --- unknown in every table ----------------------------------------------------------------------


def test_slices_of_muscles_that_are_not_labelled_are_null_with_a_reason(total, own):
    slices = table(total, "slices")
    known = slices[of_psoas(slices)]
    unknown = slices.drop(known.index)
    measures = ["pixels", "csa_mm2", "csa_axial_mm2", "lean_csa_mm2", "fat_fraction"]
    measures += [f"{kind}_{m}" for kind in ("fat_fraction", "eroded") for m in FAT_METHODS]
    assert len(unknown) == 3 * len(known) == 3 * 3 * 4 * 2
    assert unknown[measures].isna().all(axis=None)
    reasons = ["csa_reason", "fat_fraction_reason", *(f"reason_{m}" for m in FAT_METHODS)]
    assert (unknown[reasons] == "not-labelled").all(axis=None)
    assert known["csa_reason"].isna().all()
    whole = table(own, "slices")
    same = whole[of_psoas(whole)]
    assert known["csa_mm2"].tolist() == same["csa_mm2"].tolist()
    assert (known["csa_mm2"] > 0).all()


def test_muscles_that_are_not_labelled_are_null_with_a_reason(total, own):
    muscles = table(total, "muscles")
    known = muscles[of_psoas(muscles)]
    unknown = muscles.drop(known.index)
    assert len(unknown) == 3 * 6
    measures = ["slices", "csa_mean_mm2", "csa_sd_mm2", "csa_max_mm2", "volume_ml", "coverage_mm"]
    measures += ["lean_volume_ml", "fat_fraction", "fat_fraction_eroded"]
    measures += [f"fat_fraction_{method}" for method in FAT_METHODS]
    assert unknown[measures].isna().all(axis=None)
    assert (unknown[["csa_reason", "fat_fraction_reason"]] == "not-labelled").all(axis=None)
    whole = table(own, "muscles")
    columns = ["slices", "csa_mean_mm2", "csa_sd_mm2", "volume_ml", "coverage_mm"]
    assert np.array_equal(known[columns], whole.loc[of_psoas(whole), columns])
    assert known["csa_reason"].isna().all()


def test_totals_of_a_subject_are_unknown_and_those_of_the_psoas_known(total, own):
    subjects, whole = table(total, "subjects"), table(own, "subjects")
    assert subjects[["volume_ml", "lean_volume_ml", "fat_fraction"]].isna().all(axis=None)
    assert whole[["volume_ml"]].notna().all(axis=None)
    for muscle in MUSCLES:
        columns = [f"csa_{muscle}_mm2", f"volume_{muscle}_ml", f"asymmetry_{muscle}"]
        if muscle == "psoas_major":
            assert np.array_equal(subjects[columns], whole[columns])
        else:
            assert subjects[[*columns, f"fat_fraction_{muscle}"]].isna().all(axis=None)
    assert (subjects["labels_source"] == "sheet").all()


def test_overlap_of_muscles_that_are_not_labelled_is_null_and_not_missed(total):
    overlap = table(total, "overlap")
    known = overlap[of_psoas(overlap)]
    unknown = overlap.drop(known.index)
    assert len(unknown) == 3 * 4 * 6
    assert unknown[["iou", "dice", "pixels_prediction"]].isna().all(axis=None)
    assert (unknown["overlap_reason"] == "not-labelled").all()
    assert (unknown["pixels_truth"] > 0).all()
    assert (known["iou"] == 1).all()
    assert known["overlap_reason"].isna().all()


def test_the_legend_of_a_preview_has_no_colour_for_what_is_unknown(total, own):
    colours = [slice_picture.pure_colour(label.value) for label in LABELS]
    for results, expected in ((own, [True] * 8), (total, [True] * 2 + [False] * 6)):
        with Image.open(results / "subjects/S1/preview.png") as picture:
            shown = np.asarray(picture)
        assert np.isin(colours, shown).tolist() == expected


def test_muscles_that_own_label_maps_never_show_are_unknown_in_every_table(tmp_path):
    back = coded({value: value for value in (5, 6, 7, 8)})
    results = results_of(tmp_path, "paravert", back)
    for name in ("slices", "muscles", "levels"):
        rows = table(results, name)
        unknown = rows[rows["muscle"].isin(["psoas_major", "quadratus_lumborum"])]
        areas = [column for column in rows if column.startswith(("csa_m", "volume_ml"))]
        assert unknown[areas].isna().all(axis=None), name
    assert (table(results, "muscles").csa_reason == "not-labelled").sum() == 3 * 4
    subjects = table(results, "subjects")
    assert subjects[["volume_ml", "volume_psoas_major_ml"]].isna().all(axis=None)
    assert (subjects["volume_multifidus_ml"] > 0).all()
    assert table(results, "slices").level_axial.isna().all()


def test_a_stack_without_given_labels_has_every_muscle(tmp_path):
    plans = [Plan(slices=2, centre=(0, 0, z)) for z in (-60, 60)]
    write_series(tmp_path / "images", plans)
    write_nifti(tmp_path / "labels.nii.gz", plans[0], coded(TOTAL), dtype=np.int32)
    (tmp_path / "sheet.csv").write_text("subject,images,labels\nS1,images,labels.nii.gz\n")
    shard, folder = tmp_path / "shards/0", tmp_path / "subjects"
    option = {"labels_from": "totalsegmentator_mr"}
    convert_dicom(tmp_path / "sheet.csv", ["S1"], folder, shard / "convert.parquet", **option)
    home = SubjectFolder(folder / "S1")
    assert home.stack_numbers("given") == [1]
    assert len(home.not_labelled(1)) == 6
    assert home.not_labelled(2) == frozenset()


# --- two label sets ------------------------------------------------------------------------------


def narrower(labels, points):
    """Take the lateral part from the left psoas, whose box reaches from x = 22 to 42 mm."""
    return np.where((labels == 1) & (points[..., 0] > 34), 0, labels)


@pytest.fixture(scope="module")
def musclemap(tmp_path_factory):
    home = tmp_path_factory.mktemp("musclemap")
    return results_of(home, "musclemap", coded(MUSCLEMAP, narrower))


@pytest.fixture(scope="module")
def compared(own, musclemap, tmp_path_factory):
    out = tmp_path_factory.mktemp("tables") / "label_agreement.csv"
    compare_labels(own, musclemap, out)
    return pd.read_csv(out).set_index(["muscle", "side"])


def test_the_same_labels_in_other_values_agree_wholly(compared):
    same = compared.drop(("psoas_major", "left"))
    assert list(compared.index) == [(label.muscle, label.side) for label in LABELS]
    assert (same[["n_subjects", "n_dice"]] == 3).all(axis=None)
    assert (same[["dice_mean", "dice_lowest", "dice_median"]] == 1).all(axis=None)
    assert (same[["bias_mm2", "sd_mm2", "lower_limit_mm2", "upper_limit_mm2"]] == 0).all(axis=None)
    assert compared["reason"].isna().all()


def test_a_known_difference_has_its_dice_and_bias(compared):
    first, second, dice = [], [], []
    for subject in SUBJECTS:
        plan = plan_of(subject)
        points = np.stack([plan.points(index) for index in range(plan.slices)])
        whole = labels_phantom(points) == 1
        part = narrower(labels_phantom(points), points) == 1
        assert 0 < part.sum() < whole.sum()
        pixel_mm2 = plan.row_spacing * plan.column_spacing
        first.append(whole.sum() / plan.slices * pixel_mm2)
        second.append(part.sum() / plan.slices * pixel_mm2)
        dice.append(2 * part.sum() / (part.sum() + whole.sum()))
    row = compared.loc[("psoas_major", "left")]
    assert row["first_mean_mm2"] == pytest.approx(np.mean(first), rel=1e-6)
    assert row["bias_mm2"] == pytest.approx(np.mean(second) - np.mean(first), rel=1e-6)
    limits = limits_of_agreement(np.array(second), np.array(first))
    told = [row["lower_limit_mm2"], row["upper_limit_mm2"]]
    assert told == pytest.approx([limits.lower, limits.upper], rel=1e-5)
    assert row["dice_mean"] == pytest.approx(np.mean(dice))
    assert row["dice_lowest"] == pytest.approx(min(dice))


def test_a_muscle_that_one_network_does_not_have_is_not_compared(own, total, tmp_path):
    compare_labels(own, total, tmp_path / "both.csv", workers=2)
    rows = pd.read_csv(tmp_path / "both.csv")
    known = rows[of_psoas(rows)]
    unknown = rows.drop(known.index)
    assert (known["dice_lowest"] == 1).all()
    assert (unknown["reason"] == "not-labelled").all()
    assert (unknown[["n_subjects", "n_dice", "df"]] == 0).all(axis=None)
    keys = ["level", "muscle", "side", "reason", "n_subjects", "n_dice", "df"]
    empty = unknown.drop(columns=keys)
    assert empty.isna().all(axis=None)


def test_a_muscle_that_one_network_did_not_find_has_a_dice_of_0(own, tmp_path):
    first, second = own / "subjects/S1", tmp_path / "S1"
    labels = np.zeros((4, 40, 48), dtype=np.uint8)
    file = SubjectFolder(first).stack_file("labels", 1)
    write_volume(
        SubjectFolder(second).stack_file("labels", 1), Volume(labels, read_volume(file).affine)
    )
    assert subject_dice(first, second).tolist() == [0.0] * 8
    assert np.isnan(subject_dice(second, second)).all()


def test_labels_on_other_voxels_are_refused(own, tmp_path):
    volume = read_volume(SubjectFolder(own / "subjects/S1").stack_file("labels", 1))
    moved = volume.affine.copy()
    moved[0, 3] += 1
    write_volume(
        SubjectFolder(tmp_path / "S1").stack_file("labels", 1), Volume(volume.array, moved)
    )
    with pytest.raises(InputError, match="stack 1 is on other voxels"):
        subject_dice(own / "subjects/S1", tmp_path / "S1")
    with pytest.raises(InputError, match="not the stacks of"):
        subject_dice(own / "subjects/S1", tmp_path / "S2")


@pytest.mark.parametrize("with_visits", [0, 1])
def test_results_with_and_without_visits_are_not_compared(own, tmp_path, with_visits):
    muscles = pd.read_parquet(own / "cohort/muscles.parquet")
    folders = [tmp_path / "plain", tmp_path / "visits"]
    for folder, table in zip(folders, (muscles, muscles.assign(visit="1")), strict=True):
        (folder / "cohort").mkdir(parents=True)
        table.to_parquet(folder / "cohort/muscles.parquet")
    first, second = folders[with_visits], folders[1 - with_visits]
    with pytest.raises(InputError, match="visits in one of it and"):
        compare_labels(first, second, tmp_path / "out.csv")


def test_what_is_no_result_is_told(own, tmp_path):
    with pytest.raises(InputError, match="no cohort/muscles.parquet"):
        compare_labels(own, tmp_path, tmp_path / "out.csv")


def test_subjects_without_the_muscle_in_one_of_both_are_left_out_of_the_areas():
    areas = {f"S{number}": (100.0, 110.0 if number < 3 else 130.0) for number in range(6)}
    areas |= {"S6": (100.0, None), "S7": (0.0, 0.0)}  # absent in one, in both
    rows = [
        {"subject": name, "muscle": label.muscle, "side": label.side}
        | {"csa_mean_mm2_first": first, "csa_mean_mm2_second": second}
        | dict.fromkeys(("csa_at_level_mm2_first", "csa_at_level_mm2_second"))
        | {"csa_reason_first": None, "csa_reason_second": None if second else "absent"}
        for name, (first, second) in areas.items()
        for label in LABELS
    ]
    found = label_agreement(pd.DataFrame(rows), np.array([[0.9] * 8, [0.7] * 8, [0.0] * 8]))
    assert (found["n_subjects"] == 6).all()
    assert found["bias_mm2"].tolist() == pytest.approx([20] * 8)
    sd = np.sqrt(6 * 10**2 / 5)  # of differences 10 and 30
    assert found["sem_mm2"].tolist() == pytest.approx([sd / np.sqrt(2)] * 8)
    assert found["mdc_95_mm2"].tolist() == pytest.approx([1.96 * sd] * 8)
    assert found["margin_mm2"].tolist() == pytest.approx([5] * 8)
    assert (found["lower_limit_low_95_mm2"] < found["lower_limit_mm2"]).all()
    assert not found["equivalent"].any()
    assert (found["n_dice"] == 3).all()
    assert found["dice_mean"].tolist() == pytest.approx([1.6 / 3] * 8)
    assert found["reason"].isna().all()
    assert set(found["level"]) == {"all slices"}


@pytest.mark.parametrize(("covered", "levels"), [(4, ["L3/4", "all slices"]), (3, ["all slices"])])
def test_areas_are_compared_at_the_standard_level_where_most_have_it(covered, levels):
    rows = [
        {"subject": f"S{number}", "muscle": label.muscle, "side": label.side}
        | {"csa_mean_mm2_first": 100.0 + number, "csa_mean_mm2_second": 110.0 + number}
        | {f"csa_at_level_mm2_{which}": 50.0 + number for which in ("first", "second")}
        | {"csa_reason_first": None, "csa_reason_second": None}
        for number in range(5)
        for label in LABELS
    ]
    areas = pd.DataFrame(rows)
    areas.loc[areas["subject"] >= f"S{covered}", "csa_at_level_mm2_second"] = None
    found = label_agreement(areas, np.full((5, 8), 0.9), "L3/4")
    assert found["level"].unique().tolist() == levels
    bias = found.groupby("level")["bias_mm2"].unique().map(list).to_dict()
    assert bias == {level: [10.0 if level == "all slices" else 0.0] for level in levels}
    counts = found.groupby("level")["n_subjects"].unique().map(list).to_dict()
    assert counts == {level: [5 if level == "all slices" else covered] for level in levels}
