import csv
import hashlib
import json
import os
import subprocess
import sys
import time
import warnings

import nibabel as nib
import numpy as np
import psutil
import pyarrow.parquet as pq
import pydicom
import pytest

from paravert.__main__ import main
from paravert.anatomy import LABELS, label_value
from paravert.errors import InputError
from paravert.imaging.convert import read_images
from paravert.synthesis import anatomies, dixon_signal, phantoms, protocol
from paravert.synthesis.phantoms import make_phantoms
from paravert.synthesis.volunteers import volunteers

PLAIN, TILTED, PACKED = "T0001", "T0003", "T0004"
SUBJECTS = [PLAIN, TILTED, PACKED]
LPS_TO_RAS = np.array([-1, -1, 1])


@pytest.fixture(scope="module")
def small():
    """Pictures of few pixels: a cohort in seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol, "MATRICES", ((96, 2.5),))
        patch.setattr(protocol, "SAGITTAL_MATRIX", 32)
        patch.setattr(protocol, "SAGITTAL_PIXEL_MM", 8.0)
        patch.setattr(protocol, "LOCALIZER_MATRIX", 32)
        patch.setattr(protocol, "LOCALIZER_PIXEL_MM", 10.0)
        yield


@pytest.fixture(scope="module")
def cohort(small, tmp_path_factory):
    out = tmp_path_factory.mktemp("cohort")
    make_phantoms(out, seed=9, volunteers=4, subject=SUBJECTS)
    return out


def series(cohort, subject, name="AX_T2"):
    files = [pydicom.dcmread(path) for path in (cohort / subject / "dicom" / name).iterdir()]
    normal = normal_of(files[0])
    return sorted(files, key=lambda file: float(np.array(file.ImagePositionPatient) @ normal))


def normal_of(file):
    row, column = np.reshape(np.array(file.ImageOrientationPatient, float), (2, 3))
    return np.cross(row, column)


def rows_of(cohort, name="truth.parquet"):
    return pq.read_table(cohort / name).to_pylist()


@pytest.mark.parametrize("subject", SUBJECTS)
def test_dicom_and_mask_place_every_pixel_at_the_same_point(cohort, subject):
    files = series(cohort, subject)
    mask = nib.load(cohort / subject / "truth.nii.gz")
    assert mask.shape == (96, 96, len(files))
    for number, file in enumerate(files):
        row, column = np.reshape(np.array(file.ImageOrientationPatient, float), (2, 3))
        down, across = (float(value) for value in file.PixelSpacing)
        for j, i in ((0, 0), (95, 0), (0, 95), (40, 71)):
            point = np.array(file.ImagePositionPatient) + row * across * i + column * down * j
            in_mask = mask.affine @ (i, j, number, 1)
            assert point * LPS_TO_RAS == pytest.approx(in_mask[:3], abs=1e-3)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_sform_and_qform_agree_and_values_are_labels(cohort, subject):
    mask = nib.load(cohort / subject / "truth.nii.gz")
    assert mask.get_data_dtype() == np.uint8
    assert mask.header["sform_code"] == mask.header["qform_code"] == 1
    assert mask.get_qform() == pytest.approx(mask.get_sform(), abs=1e-4)
    assert set(np.unique(np.asarray(mask.dataobj))) == set(range(9))


@pytest.mark.parametrize("subject", SUBJECTS)
def test_left_labels_lie_on_the_left_of_the_subject(cohort, subject):
    mask = nib.load(cohort / subject / "truth.nii.gz")
    labels = np.asarray(mask.dataobj)
    for muscle in {label.muscle for label in LABELS}:
        x = {}
        for side in ("left", "right"):
            voxels = np.argwhere(labels == label_value(muscle, side))
            x[side] = -nib.affines.apply_affine(mask.affine, voxels.mean(axis=0))[0]  # LPS
        assert x["left"] > x["right"] + 10


def test_slices_are_evenly_spaced_along_the_normal(cohort):
    for subject in SUBJECTS:
        files = series(cohort, subject)
        assert len(files) >= 20
        normal = normal_of(files[0])
        places = np.array([file.ImagePositionPatient for file in files], float)
        steps = np.diff(places, axis=0)
        spacing = float(files[0].SpacingBetweenSlices)
        assert steps @ normal == pytest.approx(spacing, abs=1e-4)
        assert np.linalg.norm(steps, axis=1) == pytest.approx(spacing, abs=1e-4)
        assert float(files[0].SliceThickness) <= spacing


def test_stack_reaches_from_l1_to_l5(cohort):
    for volunteer in volunteers(9, 4):
        if volunteer.subject in SUBJECTS:
            files = series(cohort, volunteer.subject)
            normal = normal_of(files[0])
            ends = [float(np.array(f.ImagePositionPatient) @ normal) for f in (files[0], files[-1])]
            lumbar_mm = (5.37 - 0.63) * 36.2 * volunteer.height_cm / 178 * normal[2]
            assert ends[1] - ends[0] >= lumbar_mm - 0.01


def test_some_stacks_are_tilted_some_have_gaps_some_are_compressed(cohort):
    assert normal_of(series(cohort, PLAIN)[0]) == pytest.approx((0, 0, 1))
    tilt = np.rad2deg(np.arccos(normal_of(series(cohort, TILTED)[0])[2]))
    assert 6 <= tilt <= 15
    syntax = series(cohort, PACKED)[0].file_meta.TransferSyntaxUID
    assert syntax == pydicom.uid.RLELossless
    made = [protocol.protocol_of(v, i) for i, v in enumerate(volunteers(9, 4))]
    assert any(p.acquisition.thickness_mm < 0.9 * p.spacing_mm for p in made)
    assert {p.bits for p in made} == {12, 16}
    assert {p.cranial_first for p in made} == {True, False}


def test_compressed_pixels_are_those_of_the_picture(cohort):
    for subject in (PLAIN, PACKED):
        file = series(cohort, subject)[10]
        assert file.pixel_array.shape == (96, 96)
        assert file.pixel_array.max() < 2**file.BitsStored
        assert file.pixel_array.max() == file.LargestImagePixelValue


def test_header_tells_the_volunteer_and_the_scanner(cohort):
    volunteer = volunteers(9, 4)[2]
    for name in ("AX_T2", "SAG_T2", "LOC"):
        for file in series(cohort, TILTED, name):
            assert file.SOPClassUID == pydicom.uid.MRImageStorage
            assert file.SOPInstanceUID == file.file_meta.MediaStorageSOPInstanceUID
            assert file.Modality == "MR"
            assert list(file.ImageType)[:2] == ["ORIGINAL", "PRIMARY"]
            assert file.PatientID == volunteer.subject
            assert file.PatientSex == volunteer.sex
            assert file.PatientAge == f"{volunteer.age_years:03d}Y"
            assert float(file.MagneticFieldStrength) == 3
            assert file.PixelRepresentation == 0


def test_one_study_three_series_and_no_uid_twice(cohort):
    studies, names, instances = set(), set(), []
    for name in ("AX_T2", "SAG_T2", "LOC"):
        files = series(cohort, PLAIN, name)
        studies |= {file.StudyInstanceUID for file in files}
        names |= {file.SeriesInstanceUID for file in files}
        instances += [file.SOPInstanceUID for file in files]
    assert (len(studies), len(names)) == (1, 3)
    assert len(set(instances)) == len(instances)
    assert all(uid.is_valid for uid in [*studies, *names, *instances])


def test_files_are_read_without_a_warning(cohort):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for path in (cohort / PACKED).rglob("*.dcm"):
            pydicom.dcmread(path).decode()


def test_file_names_do_not_follow_the_slices(cohort):
    numbers = [file.filename for file in series(cohort, PLAIN)]
    assert numbers != sorted(numbers)
    instances = [file.InstanceNumber for file in series(cohort, PLAIN)]
    assert sorted(instances) in (instances, instances[::-1])


def test_sagittal_and_localizer_planes_are_what_they_are_called(cohort):
    assert abs(normal_of(series(cohort, PLAIN, "SAG_T2")[0])[0]) == pytest.approx(1)
    normals = [np.abs(normal_of(file)).argmax() for file in series(cohort, PLAIN, "LOC")]
    assert sorted(normals) == [0, 1, 2]


def test_truth_table_agrees_with_the_masks(cohort):
    rows = [row for row in rows_of(cohort) if row["subject"] == TILTED]
    mask = np.asarray(nib.load(cohort / TILTED / "truth.nii.gz").dataobj)
    for label in LABELS:
        own = [r for r in rows if (r["muscle"], r["side"]) == (label.muscle, label.side)]
        assert [row["slice"] for row in own] == list(range(mask.shape[2]))
        counted = (mask == label.value).sum(axis=(0, 1)) * 2.5**2
        planted = np.array([row["csa_mm2"] for row in own])
        assert counted.sum() == pytest.approx(planted.sum(), rel=0.03)
        assert all((row["fat_fraction"] is None) == (row["csa_mm2"] == 0) for row in own)


def test_positions_in_the_truth_are_those_of_the_headers(cohort):
    rows = [row for row in rows_of(cohort) if row["subject"] == TILTED]
    places = sorted({(row["slice"], row["position_mm"]) for row in rows})
    files = series(cohort, TILTED)
    normal = normal_of(files[0])
    expected = [float(np.array(file.ImagePositionPatient) @ normal) for file in files]
    assert [place for _, place in places] == pytest.approx(expected, abs=1e-3)


def test_volume_is_the_sum_of_areas_times_the_distance(cohort):
    spacing = float(series(cohort, PLAIN)[0].SpacingBetweenSlices)
    rows = [row for row in rows_of(cohort) if row["subject"] == PLAIN]
    for muscle in rows_of(cohort, "truth_muscles.parquet"):
        if muscle["subject"] == PLAIN:
            key = (muscle["muscle"], muscle["side"])
            total = sum(r["csa_mm2"] for r in rows if (r["muscle"], r["side"]) == key)
            assert muscle["volume_ml"] == pytest.approx(total * spacing / 1000)


def test_every_column_of_the_truth_tells_its_meaning(cohort):
    for name in ("truth.parquet", "truth_muscles.parquet"):
        for field in pq.read_schema(cohort / name):
            assert field.metadata[b"meaning"]
            assert b"unit" in field.metadata


def test_sheet_names_files_that_are_there(cohort):
    with (cohort / "subjects.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [row["subject"] for row in rows] == SUBJECTS
    for row in rows:
        assert (cohort / row["images"]).is_dir()
        assert (cohort / row["truth"]).is_file()
        assert row["sex"] in ("F", "M")


def test_the_same_seed_gives_the_same_bytes(cohort, tmp_path):
    make_phantoms(tmp_path, seed=9, volunteers=4, subject=[PACKED])
    for path in sorted((tmp_path / PACKED).rglob("*")):
        if path.is_file():
            other = cohort / path.relative_to(tmp_path)
            assert digest(path) == digest(other), path.name


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_complete_subject_is_left_alone(cohort):
    before = {p: p.stat().st_mtime_ns for p in cohort.rglob("*.dcm")}
    make_phantoms(cohort, seed=9, volunteers=4, subject=[PLAIN])
    assert {p: p.stat().st_mtime_ns for p in cohort.rglob("*.dcm")} == before
    assert {row["subject"] for row in rows_of(cohort)} == set(SUBJECTS)


@pytest.mark.parametrize("name", [f"{PLAIN}/dicom/1.dcm", "subjects.tsv"])
def test_a_folder_or_sheet_of_others_is_not_replaced(tmp_path, name):
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("of a person")
    with pytest.raises(InputError, match=f"{name.split('/')[0]}: not made by make_phantoms"):
        make_phantoms(tmp_path, seed=9, volunteers=4, subject=[PLAIN, TILTED])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [file]


def test_phantoms_of_another_seed_are_made_anew(small, tmp_path):
    for seed in (9, 10):
        make_phantoms(tmp_path, seed=seed, volunteers=4, subject=[PLAIN])
        made = json.loads((tmp_path / PLAIN / "made.json").read_text())
        assert made["settings"]["seed"] == seed
    assert not list(tmp_path.glob(".*"))


def test_an_unknown_subject_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="T0099"):
        make_phantoms(tmp_path, seed=9, volunteers=4, subject=["T0099"])


def test_a_second_visit_is_the_same_body_in_another_position_on_another_scanner(small, tmp_path):
    second = f"{PLAIN}_2"
    make_phantoms(tmp_path, seed=9, volunteers=4, subject=[PLAIN, second])
    with (tmp_path / "subjects.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [(row["subject"], row["visit"]) for row in rows] == [(PLAIN, "1"), (PLAIN, "2")]
    assert rows[1]["images"] == f"{second}/dicom"
    files, others = (series(tmp_path, scan) for scan in (PLAIN, second))
    assert {file.PatientID for file in (*files, *others)} == {PLAIN}
    assert {float(file.MagneticFieldStrength) for file in others} == {1.5}
    assert files[0].Manufacturer != others[0].Manufacturer
    assert files[0].SpacingBetweenSlices != others[0].SpacingBetweenSlices
    assert files[0].ImagePositionPatient != others[0].ImagePositionPatient
    uids = [{one.StudyInstanceUID, one.SeriesInstanceUID} for one in (files[0], others[0])]
    assert not uids[0] & uids[1]
    muscles = rows_of(tmp_path, "truth_muscles.parquet")
    for muscle in muscles[: len(LABELS)]:
        (other,) = [
            row
            for row in muscles
            if row["subject"] == second
            and (row["muscle"], row["side"]) == (muscle["muscle"], muscle["side"])
        ]
        assert other["csa_mean_mm2"] == pytest.approx(muscle["csa_mean_mm2"], rel=0.08)
        assert other["fat_fraction"] == pytest.approx(muscle["fat_fraction"], rel=0.1)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (phantoms, ["make_phantoms", "--volunteers", "2", "--seed", "1"]),
        (anatomies, ["draw_anatomies", "--people", "2"]),
    ],
)
def test_a_worker_process_that_dies_is_told(tmp_path, monkeypatch, capsys, module, words):
    monkeypatch.setattr(module, "body_of", lambda *_: os._exit(1))
    assert main([*words, "--workers", "2", "--out", str(tmp_path / "out")]) == 1
    assert f"paravert {words[0]}: a worker process died" in capsys.readouterr().err


def test_a_folder_in_place_of_the_table_is_told_before_anything_is_drawn(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.delattr(anatomies, "sections_of")
    words = ["draw_anatomies", "--people", "1", "--out", str(tmp_path)]
    assert main(words) == 2
    assert f"{tmp_path}: a folder, expected a file or none" in capsys.readouterr().err


def test_a_file_in_place_of_the_folder_of_phantoms_is_told(tmp_path, capsys):
    file = tmp_path / "phantoms"
    file.touch()
    with pytest.raises(SystemExit, match="2"):
        main(["make_phantoms", "--seed", "1", "--out", str(file)])
    assert "Invalid value for '--out'" in capsys.readouterr().err


def test_workers_end_if_the_command_is_killed(tmp_path):
    words = [sys.executable, "-m", "paravert", "make_phantoms", "--volunteers", "2", "--seed", "1"]
    with subprocess.Popen([*words, "--workers", "2", "--out", str(tmp_path)]) as command:
        process = psutil.Process(command.pid)
        while not list(tmp_path.glob(".*.part/dicom")):
            assert command.poll() is None
            time.sleep(0.05)
        workers = process.children()
        command.kill()
    assert workers
    assert not psutil.wait_procs(workers, timeout=10)[1]


@pytest.mark.parametrize("scan", ["T0001_3", "T0001_1", "T0099_2"])
def test_a_scan_that_is_not_in_the_cohort_is_an_input_error(tmp_path, scan):
    with pytest.raises(InputError, match=scan):
        make_phantoms(tmp_path, seed=9, volunteers=4, subject=[scan])


@pytest.mark.parametrize(("index", "maker"), list(enumerate(dixon_signal.NAMINGS)))
def test_dixon_volunteers_are_written_as_makers_name_the_parts(
    small, tmp_path, monkeypatch, index, maker
):
    monkeypatch.setattr(dixon_signal, "VOLUNTEERS", {index: maker})
    name = volunteers(9, 4)[index].subject
    make_phantoms(tmp_path, seed=9, volunteers=4, subject=[name])
    images = read_images(str(tmp_path / name / "dicom"))
    (stack,) = images.stacks
    assert images.header["header_sequence"] == "dixon-fat"
    labels = nib.load(tmp_path / name / "truth.nii.gz").get_fdata().transpose(2, 1, 0)
    fat, water = stack.volume.array.astype(float), stack.water.astype(float)
    truth = {
        (row["muscle"], row["side"]): row for row in rows_of(tmp_path, "truth_muscles.parquet")
    }
    for label in LABELS:
        own = labels == label.value
        if label.muscle in ("erector_spinae", "multifidus"):  # thick enough at 3 mm a pixel
            found = fat[own].sum() / (fat[own].sum() + water[own].sum())
            expected = truth[label.muscle, label.side]["fat_fraction"]
            assert found == pytest.approx(expected, abs=0.08)
