"""The step segment_muscles: outputs, refused inputs, and settings that must not change a label."""

import logging
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from scipy.special import log_softmax

import paravert
from network_subjects import AFFINE, SLICE_MM, disc_stack, make_cohort
from paravert import shard_tables
from paravert.anatomy import LABELS, MUSCLES, OTHER_SIDE
from paravert.errors import Caution, InputError
from paravert.imaging.label_maps import swapped_muscles
from paravert.imaging.volume import Volume, read_volume, write_volume
from paravert.network import segment
from paravert.network.architecture import Architecture
from paravert.network.calibration import Calibration
from paravert.network.clean import cleaned
from paravert.network.model_file import ModelSettings, read_settings
from paravert.network.predict import Predictor, dixon_logits, read_model
from paravert.network.segment import SegmentedStack, segment_muscles, write_labels
from paravert.network.unet import GpuUNet, Model, UNet, load_model, save_model
from paravert.provenance import file_sha256
from paravert.subject_folder import SubjectFolder


@pytest.fixture
def model_file(tmp_path):
    torch.manual_seed(7)
    network = UNet(Architecture(width=4, levels=4))
    network.head.weight.data *= 20  # an untrained network with an opinion at every pixel
    path = tmp_path / "toy.safetensors"
    save_model(path, Model(network, 3.0))
    return path


@pytest.fixture
def cohort(tmp_path):
    return make_cohort(tmp_path, ["S1", "S2"])


def segmented(cohort, model_file, **options):
    out = cohort.parent / "segment.parquet"
    segment_muscles(
        cohort,
        cohort.parent / "subjects",
        out,
        model_file,
        file_sha256(model_file),
        **{"device": "cpu", **options},
    )
    return {row["subject"]: row for row in pq.read_table(out).to_pylist()}


def labels_of(cohort, subject, stack=1):
    return read_volume(
        SubjectFolder(cohort.parent / "subjects" / subject).stack_file("labels", stack)
    )


def test_every_stack_gets_labels_on_its_own_grid(cohort, model_file):
    rows = segmented(cohort, model_file)
    assert [row["labels_source"] for row in rows.values()] == ["network", "network"]
    assert all(row["removed_mm2"] > 0 for row in rows.values())
    labels = labels_of(cohort, "S1")
    assert labels.array.dtype == np.uint8
    assert labels.array.shape == disc_stack(0)[0].array.shape
    np.testing.assert_array_equal(labels.affine, AFFINE)
    assert set(np.unique(labels.array)) <= set(range(9))


def test_removed_area_is_that_of_the_changed_pixels(cohort, model_file):
    row = segmented(cohort, model_file)["S1"]
    untouched = segmented(cohort, model_file, keep_largest=False, fill_holes=False)["S1"]
    assert untouched["removed_mm2"] == 0
    raw = labels_of(cohort, "S1").array
    segmented(cohort, model_file, keep_largest=True, fill_holes=False)
    removed = (raw != labels_of(cohort, "S1").array).sum() * 2.0 * 2.5
    assert segmented(cohort, model_file, fill_holes=False)["S1"]["removed_mm2"] == removed
    assert row["removed_mm2"] >= removed


def test_a_model_comes_back_from_its_file_as_it_was(model_file):
    torch.manual_seed(7)
    network = UNet(Architecture(width=4, levels=4))
    network.head.weight.data *= 20
    model = load_model(model_file)
    assert model.spacing_mm == 3.0
    for a, b in zip(network.parameters(), model.network.parameters(), strict=True):
        assert b.dtype == torch.float32
        torch.testing.assert_close(a.half().float(), b)


def test_a_model_file_tells_its_settings(model_file):
    assert read_settings(model_file) == ModelSettings(Architecture(width=4, levels=4), 3.0)


def test_the_same_model_has_the_same_file(model_file, tmp_path):
    for index in range(5):
        again = tmp_path / f"{index}.safetensors"
        save_model(again, load_model(model_file))
        assert file_sha256(again) == file_sha256(model_file)


def test_another_model_than_the_pinned_one_stops_the_run(cohort, model_file):
    with pytest.raises(InputError, match="SHA-256 is .* expected 0123"):
        segment_muscles(cohort, cohort.parent, cohort.parent / "out", model_file, "0123")


def test_a_missing_model_stops_the_run(cohort, tmp_path):
    with pytest.raises(InputError, match="no such model file"):
        segment_muscles(cohort, tmp_path, tmp_path / "out", tmp_path / "none.safetensors", "01")


def test_a_file_that_is_no_model_is_told(tmp_path):
    path = tmp_path / "text.safetensors"
    path.write_text("weights")
    with pytest.raises(InputError, match="not a model file"):
        load_model(path)


def test_a_subject_whose_images_were_deleted_is_not_analysed_without_a_slice(cohort, model_file):
    shutil.rmtree(cohort.parent / "subjects/S1/image")
    with pytest.raises(InputError, match="S1: its converted images are gone; run again with"):
        segmented(cohort, model_file)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_that_is_asked_for_and_absent_stops_the_run(cohort, model_file):
    with pytest.raises(InputError, match="no GPU"):
        segmented(cohort, model_file, device="cuda")


def test_labels_that_were_given_are_taken_as_they_are(cohort, model_file):
    home = cohort.parent / "subjects/S1"
    image, truth = disc_stack(0)
    spotted = truth.array.copy()
    spotted[0, 0, 0] = 1  # a stray that cleaning would take out
    write_volume(SubjectFolder(home).stack_file("given", 1), truth.with_array(spotted))
    rows = segmented(cohort, model_file)
    assert rows["S1"]["labels_source"] == "sheet"
    assert rows["S1"]["removed_mm2"] == 0
    assert rows["S2"]["labels_source"] == "network"
    np.testing.assert_array_equal(labels_of(cohort, "S1").array, spotted)


def test_a_stack_without_given_labels_is_left_to_the_network(cohort, model_file):
    home = cohort.parent / "subjects/S1"
    image, truth = disc_stack(0)
    write_volume(SubjectFolder(home).stack_file("image", 2), image)
    write_volume(SubjectFolder(home).stack_file("given", 1), truth)
    rows = segmented(cohort, model_file)
    assert rows["S1"]["labels_source"] == "sheet+network"
    assert rows["S1"]["computed_on"]
    assert rows["S2"]["labels_source"] == "network"
    np.testing.assert_array_equal(labels_of(cohort, "S1").array, truth.array)
    assert not np.array_equal(labels_of(cohort, "S1", 2).array, truth.array)


def test_device_and_threads_recompute_no_subject_and_cleaning_all(cohort, model_file, caplog):
    caplog.set_level(logging.INFO)

    def computed(**options):
        caplog.clear()
        segmented(cohort, model_file, **options)
        return sum(": computed" in message for message in caplog.messages)

    assert computed() == 2
    assert computed(threads=2, device="auto") == 0
    assert computed(fill_holes=False) == 2


def test_the_model_is_read_only_when_a_subject_needs_it(cohort, model_file, monkeypatch):
    segmented(cohort, model_file)
    segment._predictor.cache_clear()
    monkeypatch.setattr(segment, "read_model", None)
    segmented(cohort, model_file)


def test_left_and_right_are_those_of_the_patient():
    _, truth = disc_stack(3)
    assert swapped_muscles(truth) == []
    exchanged = truth.with_array(np.array(OTHER_SIDE, dtype=np.uint8)[truth.array])
    assert swapped_muscles(exchanged) == [label.muscle for label in LABELS[::2]]


def test_left_stays_left_in_any_storage_order():
    _, truth = disc_stack(3)
    affine = truth.affine.copy()
    turned = truth.array[:, ::-1, ::-1]  # columns towards the right, rows towards the front
    last = np.array([truth.array.shape[2] - 1, truth.array.shape[1] - 1, 0, 1])
    affine[:3, 3] = (truth.affine @ last)[:3]
    affine[:3, :2] *= -1
    assert swapped_muscles(Volume(turned, affine)) == []


def test_an_absent_side_gives_no_warning():
    _, truth = disc_stack(3)
    only_left = truth.with_array(np.where(truth.array % 2 == 1, truth.array, 0))
    assert swapped_muscles(only_left) == []


def test_swapped_sides_are_a_warning(tmp_path):
    _, truth = disc_stack(0)
    exchanged = truth.with_array(np.array(OTHER_SIDE, dtype=np.uint8)[truth.array])
    for labels, warnings in ((truth, ()), (exchanged, (Caution.SIDES_SWAPPED,))):
        stack = SegmentedStack(1, labels, np.full((len(labels.array), 8), np.nan))
        written = write_labels([stack], tmp_path, "cpu float32", Calibration({}))
        assert written.warnings == warnings


@pytest.mark.parametrize(
    ("found", "given", "warned"),
    [([0], 0, True), ([0, 0], 0, True), ([0, 1], 0, False), ([0], 1, True), ([], 1, False)],
)
def test_a_network_that_finds_no_muscle_is_a_warning(tmp_path, found, given, warned):
    _, truth = disc_stack(0)
    iou = np.full((len(truth.array), 8), np.nan)
    maps = [(truth.with_array(truth.array * np.uint8(shown)), iou) for shown in found]
    maps += [(truth, None)] * given
    stacks = [SegmentedStack(number, *one) for number, one in enumerate(maps, start=1)]
    written = write_labels(stacks, tmp_path, "cpu float32", Calibration({}))
    assert written.warnings == ((Caution.NO_MUSCLE_FOUND,) if warned else ())
    assert ("another part of the body" in (written.note or "")) == warned


def test_the_predicted_iou_is_that_of_the_calibration(tmp_path):
    found = 0.5
    _, truth = disc_stack(0)
    stack = SegmentedStack(1, truth, np.full((len(truth.array), 8), 0.8))
    line = {"multifidus": ((0.0, 0.8), (0.0, found))}
    write_labels([stack], tmp_path, "cpu float32", Calibration(line))
    predicted = np.load(SubjectFolder(tmp_path).predicted_iou_file(1))
    assert predicted.shape == (len(truth.array), 8)
    assert predicted[:, 6:] == pytest.approx(found)
    assert np.isnan(predicted[:, :6]).all()


def test_a_muscle_that_shifts_between_slices_far_apart_is_kept_in_each(tmp_path):
    labels = np.zeros((2, 40, 40), np.uint8)
    labels[0, 5:15, 5:15] = labels[1, 20:28, 20:28] = 3
    far = Volume(labels, np.diag([-1.0, -1.0, 35.0, 1.0]))
    write_labels([SegmentedStack(1, far, np.full((2, 8), 0.8))], tmp_path, None, Calibration({}))
    assert (read_volume(SubjectFolder(tmp_path).stack_file("labels", 1)).array == labels).all()


def test_given_labels_have_no_predicted_iou(tmp_path):
    _, truth = disc_stack(0)
    write_labels([SegmentedStack(1, truth)], tmp_path)
    assert np.isnan(np.load(SubjectFolder(tmp_path).predicted_iou_file(1))).all()


def test_a_model_of_other_settings_has_another_file(model_file, tmp_path):
    other = replace(load_model(model_file), spacing_mm=3.5)
    save_model(tmp_path / "other.safetensors", other)
    assert file_sha256(tmp_path / "other.safetensors") != file_sha256(model_file)


def test_the_figure_needs_no_torch():
    code = (
        "import sys; import paravert.network.architecture, paravert.network.model_file; "
        "sys.exit('torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(paravert.__file__).parents[1])}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0


# --- subjects of several sizes, side by side -----------------------------------------------------

SIZES = ((64, 56), (50, 56), (80, 70), (64, 56), (33, 40))  # of the subjects, two of them alike


@pytest.fixture
def several(tmp_path):
    """Five subjects of several sizes and numbers of slices; the third has two stacks."""
    names = [f"S{number}" for number in range(len(SIZES))]
    table = make_cohort(tmp_path, names)
    for number, (rows, columns) in enumerate(SIZES):
        image, _ = disc_stack(number)
        array = np.pad(image.array, ((0, number), (0, 30), (0, 30)), mode="reflect")
        volume = Volume(np.ascontiguousarray(array[:, :rows, :columns]), image.affine)
        for stack in (1, 2) if number == 2 else (1,):
            write_volume(
                SubjectFolder(tmp_path / "subjects" / names[number]).stack_file("image", stack),
                volume,
            )
    return table


@pytest.fixture
def expecting_model(tmp_path):
    """A model file with a calibration that changes nothing."""
    torch.manual_seed(7)
    network = UNet(Architecture(width=4, levels=4))
    network.head.weight.data *= 20
    path = tmp_path / "expecting.safetensors"
    identity = Calibration({muscle: ((0.0, 1.0), (0.0, 1.0)) for muscle in MUSCLES})
    save_model(path, Model(network, 3.0, identity))
    return path


def all_labels(table):
    """Return labels and predicted IoU by subject and file."""
    return {
        (home.name, file.name): np.load(file) if file.suffix == ".npy" else read_volume(file).array
        for home in sorted((table.parent / "subjects").iterdir())
        for file in sorted((home / "labels").iterdir())
    }


def alone(table, predictor):
    """Return what the predictor makes of each stack alone, cleaned: as `all_labels`."""
    found = {}
    for home in sorted((table.parent / "subjects").iterdir()):
        for file in sorted((home / "image").iterdir()):
            image = read_volume(file)
            predicted = predictor.stack_predicted(
                image.array, image.pixel_spacing_mm, apart_mm=image.slice_spacing_mm
            )
            found[home.name, file.name], _ = cleaned(
                predicted.labels, apart_mm=image.slice_spacing_mm
            )
            iou_file = SubjectFolder(home).predicted_iou_file(int(file.name[6:8])).name
            found[home.name, iou_file] = predicted.expected_iou
    return found


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for key, array in found.items():
        np.testing.assert_array_equal(array, expected[key])


@pytest.mark.parametrize("threads", [1, 3])
def test_worker_processes_change_no_label(several, expecting_model, threads):
    segmented(several, expecting_model, threads=threads)
    found = all_labels(several)
    assert_same(found, alone(several, Predictor(read_model(expecting_model))))
    assert len(np.unique(found["S0", "stack-01.nii.gz"])) > 2


def test_dixon_images_are_segmented_from_water_and_fat(several, expecting_model):
    home = SubjectFolder(several.parent / "subjects/S1")
    fat = read_volume(home.stack_file("image", 1))
    water = fat.with_array(np.ascontiguousarray(fat.array.max() - fat.array))
    write_volume(home.stack_file("water", 1), water)
    segmented(several, expecting_model)
    predictor = Predictor(read_model(expecting_model))
    parts = [
        predictor.prepared(one.array, one.pixel_spacing_mm, apart_mm=one.slice_spacing_mm)
        for one in (water, fat)
    ]
    logits = map(dixon_logits, *map(predictor.logits, parts))
    expected, _ = cleaned(predictor.predicted(parts[0], logits).labels, apart_mm=SLICE_MM)
    found = all_labels(several)["S1", "stack-01.nii.gz"]
    assert (found == expected).mean() > 0.9999  # but for ties
    assert (
        found != cleaned(predictor.predicted(parts[1]).labels, apart_mm=SLICE_MM)[0]
    ).mean() > 0.001
    write_volume(home.stack_file("image", 1), water)
    write_volume(home.stack_file("water", 1), fat)
    (home.home / "segment.json").unlink()  # otherwise the result is kept
    segmented(several, expecting_model)
    np.testing.assert_array_equal(all_labels(several)["S1", "stack-01.nii.gz"], found)


@pytest.mark.parametrize("blank", ["water", "image"])
def test_a_slice_that_is_blank_in_one_dixon_image_is_segmented_from_the_other(
    several, expecting_model, blank
):
    home = SubjectFolder(several.parent / "subjects/S1")
    fat = read_volume(home.stack_file("image", 1))
    arrays = {"water": fat.array.max() - fat.array, "image": fat.array.copy()}
    arrays[blank][1] = 7
    for kind, array in arrays.items():
        write_volume(home.stack_file(kind, 1), fat.with_array(array))
    segmented(several, expecting_model)
    predictor = Predictor(read_model(expecting_model))
    parts = {
        kind: predictor.prepared(array, fat.pixel_spacing_mm, apart_mm=fat.slice_spacing_mm)
        for kind, array in arrays.items()
    }
    logits = list(map(dixon_logits, *map(predictor.logits, parts.values())))
    shown = parts["image" if blank == "water" else "water"]
    logits[1] = log_softmax(list(predictor.logits(shown))[1], axis=0)
    expected, _ = cleaned(predictor.predicted(shown, logits).labels, apart_mm=SLICE_MM)
    found = all_labels(several)["S1", "stack-01.nii.gz"]
    assert (found == expected).mean() > 0.9999  # but for ties


def test_background_needs_both_dixon_images():
    water = np.array([[0.1, 0.9, 0.0], [0.2, 0.4, 0.4], [0.9, 0.1, 0.0]]).T + 1e-9
    fat = np.array([[0.8, 0.2, 0.0], [0.2, 0.1, 0.7], [0.6, 0.3, 0.1]]).T + 1e-9
    offset_of_pixel = np.array([3.0, -2.0, 0.5])  # logits are known but for this
    found = dixon_logits(np.log(water) + offset_of_pixel, np.log(fat))
    np.testing.assert_allclose(
        np.exp(found), [[0.1, 0.2, 0.6], [0.18**0.5, 0.2, 0.03**0.5], [0, 0.28**0.5, 0]], atol=1e-4
    )
    assert found.argmax(axis=0).tolist() == [1, 2, 0]


@pytest.mark.parametrize("left_out", [{"flip": False}, {"neighbours_mm": 0.0}])
def test_mirror_images_and_neighbours_decide_unless_switched_off(cohort, model_file, left_out):
    segmented(cohort, model_file, **left_out)
    expected = alone(cohort, Predictor(load_model(model_file)))
    key = "S1", "stack-01.nii.gz"
    assert (all_labels(cohort)[key] != expected[key]).any()


def test_memory_that_does_not_suffice_costs_one_subject(cohort, model_file, monkeypatch):
    prepared = Predictor.prepared

    def short_of_memory(self, image, *given, **named):
        if np.array_equal(image, disc_stack(0)[0].array):
            raise MemoryError
        return prepared(self, image, *given, **named)

    monkeypatch.setattr(Predictor, "prepared", short_of_memory)
    segmented(cohort, model_file, threads=2)
    outcomes = shard_tables.read_outcomes(cohort.parent / "segment.parquet")
    assert {one.subject: one.reason for one in outcomes} == {"S1": "process-died", "S2": None}


def torch_predictor(model_file):
    """Return a predictor as on a GPU, on this processor."""
    predictor = Predictor(load_model(model_file))
    predictor._forward = GpuUNet(predictor.model.network, torch.device("cpu"))
    return predictor


def test_as_on_a_gpu_every_stack_has_the_labels_of_torch(several, expecting_model, monkeypatch):
    """All but the device: read ahead, computed by torch, written behind."""
    predictor = torch_predictor(expecting_model)
    monkeypatch.setattr(segment, "device_kind", lambda device: "cuda")
    monkeypatch.setattr(segment, "_predictor", lambda *given: predictor)
    rows = segmented(several, expecting_model, device="cuda")
    assert [row["labels_source"] for row in rows.values()] == ["network"] * len(SIZES)
    assert_same(all_labels(several), alone(several, predictor))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu_labels_are_nearly_those_of_the_processor(several, expecting_model):
    rows = segmented(several, expecting_model, device="cuda")
    assert {row["computed_on"] for row in rows.values()} == {"cuda float32"}
    expected = alone(several, torch_predictor(expecting_model))
    for key, array in all_labels(several).items():
        if array.dtype == np.uint8:
            assert (array == expected[key]).mean() > 0.99
