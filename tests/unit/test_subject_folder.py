import os
import subprocess
import sys
from pathlib import Path

from paravert.subject_folder import GIVEN_FOLDER, IMAGE_FOLDER, LABELS_FOLDER, SubjectFolder

WORKFLOW = Path(__file__).parents[2] / "workflow"


def test_files_of_a_subject_are_those_that_users_find(tmp_path):
    folder = SubjectFolder(tmp_path)
    found = {
        folder.stack_file(IMAGE_FOLDER, 1),
        folder.stack_file(LABELS_FOLDER, 12),
        folder.predicted_iou_file(2),
        folder.slices_file,
        folder.preview_file,
    }
    assert {file.relative_to(tmp_path).as_posix() for file in found} == {
        "image/stack-01.nii.gz",
        "labels/stack-12.nii.gz",
        "labels/stack-02.predicted_iou.npy",
        "slices.parquet",
        "preview.png",
    }


def test_stacks_are_numbered_as_their_files_are_however_many(tmp_path):
    folder = SubjectFolder(tmp_path)
    numbers = [1, 2, 10, 99, 100, 101]
    (tmp_path / LABELS_FOLDER).mkdir()
    for number in reversed(numbers):
        folder.stack_file(LABELS_FOLDER, number).touch()
        folder.predicted_iou_file(number).touch()
    assert folder.stack_numbers(LABELS_FOLDER) == numbers
    assert folder.stack_numbers(GIVEN_FOLDER) == []


def test_paths_of_a_subject_are_told_without_reading_images():
    code = "import sys, paravert.subject_folder; print(*sys.modules)"
    command, env = [sys.executable, "-c", code], {**os.environ, "PYTHONPATH": str(WORKFLOW)}
    told = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
    assert not {"pydicom", "torch", "numpy", "nibabel"} & set(told.stdout.split())
