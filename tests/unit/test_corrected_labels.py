"""Label maps that were corrected by hand, in a folder beside the sheet."""

import errno
import os
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from dicom_writer import Plan, labels_phantom, turn, write_nifti, write_series
from paravert import plan
from paravert.errors import SubjectFault
from paravert.imaging.convert import convert_dicom
from paravert.imaging.masks import read_masks
from paravert.imaging.volume import read_volume
from paravert.subject_folder import SubjectFolder

PLANS = [Plan(centre=(0, 0, z), slices=2).turned(turn("x", z / 3)) for z in (-60, 60)]
TOTAL = {1: 48, 2: 49}  # values of TotalSegmentator, which has the psoas alone
ROW = {"images": "", "labels": "nowhere.nii.gz"}


def without(*values):
    """Return the label function of the phantom without some of its values."""
    return lambda points: np.where(
        np.isin(labels_phantom(points), values), 0, labels_phantom(points)
    )


def total(points):
    own = labels_phantom(points)
    return np.select([own == value for value in TOTAL], list(TOTAL.values()), 0)


def convert(home, labels, corrected, labels_from="paravert"):
    """Convert a subject of two stacks; return its row and folder.

    labels, corrected: label functions of the files in either folder, by number of the stack.
    """
    write_series(home / "images", PLANS)
    for folder, functions in (("labels", labels), ("corrected/S1", corrected)):
        for stack, function in functions.items():
            file = home / folder / f"{stack}.nii.gz"
            write_nifti(file, PLANS[stack - 1], function, dtype=np.uint8)
    (home / "sheet.csv").write_text(f"subject,images,labels\nS1,images,{'labels' * bool(labels)}\n")
    out = home / "convert.parquet"
    convert_dicom(home / "sheet.csv", ["S1"], home / "results", out, labels_from=labels_from)
    (row,) = pq.read_table(out).to_pylist()
    return row, SubjectFolder(home / "results/S1")


def given(folder):
    """Return the label values of each stack that has labels."""
    files = {n: folder.stack_file("given", n) for n in folder.stack_numbers("given")}
    return {n: np.unique(read_volume(file).array).tolist() for n, file in files.items()}


def test_a_corrected_stack_wins_and_the_labels_of_the_other_stay(tmp_path):
    row, folder = convert(tmp_path, {1: without(8), 2: without(8)}, {2: without(7)})
    assert row["status"] == "analysed"
    assert given(folder) == {1: [0, 1, 2, 3, 4, 5, 6, 7], 2: [0, 1, 2, 3, 4, 5, 6, 8]}
    assert not (folder.home / "given/source.json").exists()


def test_a_corrected_stack_without_labels_in_the_sheet_leaves_the_other_to_the_network(tmp_path):
    row, folder = convert(tmp_path, {}, {2: without(7)})
    assert (row["status"], row["has_labels"]) == ("analysed", True)
    assert list(given(folder)) == [2]


def test_a_muscle_that_was_erased_from_the_networks_labels_is_absent_and_not_unknown(tmp_path):
    _, folder = convert(tmp_path, {}, {1: without(3, 4), 2: without(3, 4)})
    assert folder.not_labelled(1) == folder.not_labelled(2) == frozenset()


def test_a_muscle_that_neither_the_sheets_labels_nor_the_corrected_ones_show_is_unknown(tmp_path):
    _, folder = convert(tmp_path, {1: without(1, 2, 3, 4)}, {2: without(3, 4)})
    quadratus = {("quadratus_lumborum", side) for side in ("left", "right")}
    assert folder.not_labelled(1) == folder.not_labelled(2) == quadratus


@pytest.mark.parametrize("stacks", [(1,), (1, 2)])
def test_faults_of_labels_that_were_corrected_do_not_count(tmp_path, stacks):
    def faulty(points):  # partial, and with a value that does not exist
        return np.where(labels_phantom(points) == 1, 9, 0) * (points[..., 2] > PLANS[0].centre[2])

    labels, corrected = dict.fromkeys(stacks, faulty), dict.fromkeys(stacks, without(8))
    row, _ = convert(tmp_path, labels, corrected)
    assert (row["status"], row["warnings"]) == ("analysed", ["multi-stack"])


def test_a_fault_of_a_corrected_mask_names_it(tmp_path):
    labels = {1: labels_phantom, 2: labels_phantom}
    row, _ = convert(tmp_path, labels, {2: lambda points: labels_phantom(points) * 2})
    assert row["reason"] == "mask-unknown-label"
    assert row["message"].startswith("corrected: 4 values beside 0 to 8")


def test_a_corrected_mask_has_own_values_beside_those_of_another_program(tmp_path):
    """What the program cannot label is unknown, unless a person drew it."""
    labels, corrected = {1: total, 2: total}, {2: without(4, 5, 6, 7, 8)}
    row, folder = convert(tmp_path, labels, corrected, "totalsegmentator_mr")
    assert row["status"] == "analysed", row["message"]
    assert given(folder) == {1: [0, 1, 2], 2: [0, 1, 2, 3]}
    assert len(folder.not_labelled(1)) == 6
    assert folder.not_labelled(1) - folder.not_labelled(2) == {("quadratus_lumborum", "left")}


def test_corrected_masks_in_a_study_of_another_program_are_complete_without_its_labels(tmp_path):
    row, folder = convert(tmp_path, {}, {1: without(3), 2: without(3)}, "totalsegmentator_mr")
    assert row["status"] == "analysed", row["message"]
    assert folder.not_labelled(1) == folder.not_labelled(2) == frozenset()


def test_a_subject_is_converted_again_when_a_mask_is_corrected_and_only_then(tmp_path, caplog):
    caplog.set_level("INFO")
    _, folder = convert(tmp_path, {1: labels_phantom, 2: labels_phantom}, {})
    write_nifti(tmp_path / "corrected/S1/2.nii.gz", PLANS[1], without(7), dtype=np.uint8)
    for computed in (["S1"], []):
        caplog.clear()
        convert_dicom(tmp_path / "sheet.csv", ["S1"], folder.home.parent, tmp_path / "out.parquet")
        assert re.findall(r"(S1): computed", caplog.text) == computed
    assert given(folder)[2] == [0, 1, 2, 3, 4, 5, 6, 8]


def test_only_corrected_subjects_have_another_fingerprint(tmp_path):
    before = plan.conversion_inputs(ROW, [])
    assert "corrected" not in before
    (tmp_path / "stack-01.nii.gz").touch()
    after = plan.conversion_inputs(ROW, [], corrected=tmp_path)
    assert {key: after[key] for key in before} == before
    (tmp_path / "stack-01.nii.gz").write_text("other labels")
    assert plan.conversion_inputs(ROW, [], corrected=tmp_path)["corrected"] != after["corrected"]


def test_corrected_labels_that_may_not_be_read_are_not_passed_over(tmp_path, monkeypatch):
    folder, listed = tmp_path / "corrected/S1", os.listdir
    folder.mkdir(parents=True)
    (folder / "stack-01.nii.gz").touch()

    def fails(path="."):
        if Path(path) == folder:
            raise OSError(errno.EIO, "Input/output error")
        return listed(path)

    monkeypatch.setattr(os, "listdir", fails)
    monkeypatch.setattr(os, "scandir", fails)
    found, others = plan.corrected_labels(tmp_path / "sheet.csv", {"S1"})
    assert (found, others) == ({"S1": folder}, [])
    with pytest.raises(
        SubjectFault, match=r"corrected: a folder may not be read \(EIO\)"
    ) as caught:
        read_masks(folder, [], role="corrected")
    assert caught.value.passing


def test_what_is_used_for_no_scan_is_told(tmp_path):
    for name in (
        *("S1/stack-01.nii.gz", "A_2/stack-01.nii", "s3/stack-01.nii.gz", "S9/stack-01.nii"),
        *("S2/Segmentation.seg.nrrd", "S4/deeper/stack-01.nii.gz", ".DS_Store"),
    ):
        file = tmp_path / "corrected" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (tmp_path / "corrected/S3.nii.gz").touch()
    scans = {"S1", "S2", "S3", "S4", "A_1", "A_2"}
    found, others = plan.corrected_labels(tmp_path / "sheet.csv", scans)
    assert found == {name: tmp_path / "corrected" / name for name in ("A_2", "S1")}
    assert others == ["S2", "S3.nii.gz", "S4", "S9", "s3"]
    assert plan.corrected_labels(tmp_path / "corrected/sheet.csv", scans) == ({}, [])


def test_files_of_macos_are_no_corrections_and_upper_case_is(tmp_path):
    for name in ("S1/._stack-01.nii.gz", "S2/STACK.NII.GZ"):
        file = tmp_path / "corrected" / name
        file.parent.mkdir(parents=True)
        file.touch()
    found, others = plan.corrected_labels(tmp_path / "sheet.csv", {"S1", "S2"})
    assert (list(found), others) == (["S2"], ["S1"])
