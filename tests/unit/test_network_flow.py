"""Subjects that share batches and threads: the same labels as one after the other, bit for bit."""

from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from network_subjects import disc_stack

from paravert import shards
from paravert.anatomy import MUSCLES
from paravert.errors import Reason, SubjectFault
from paravert.imaging.volume import Volume, read_volume, write_volume
from paravert.network import flow as flow_module
from paravert.network.architecture import Architecture
from paravert.network.clean import cleaned
from paravert.network.confidence import Calibration
from paravert.network.flow import AHEAD, Segmenter
from paravert.network.memory import out_of_memory
from paravert.network.model import Model, load_model, save_model
from paravert.network.predict import Piece, Predictor, Prepared
from paravert.network.unet import UNet
from paravert.network.waiting import Waiting, halves
from paravert.subject_folder import SubjectFolder

CPU = torch.device("cpu")
SIZES = ((64, 56), (50, 56), (80, 70), (64, 56), (33, 40))  # of the subjects, two of them alike


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    torch.manual_seed(7)
    network = UNet(Architecture(width=4, levels=4))
    network.head.weight.data *= 20  # an untrained network with an opinion at every pixel
    path = tmp_path_factory.mktemp("model") / "toy.safetensors"
    as_it_is = Calibration({muscle: ((0.0, 1.0), (0.0, 1.0)) for muscle in MUSCLES})
    save_model(path, Model(network, 3.0, as_it_is))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Five subjects of several sizes and numbers of slices; the third has two stacks."""
    folder = tmp_path_factory.mktemp("subjects")
    for number, (rows, columns) in enumerate(SIZES):
        image, _ = disc_stack(number)
        array = np.pad(image.array, ((0, number), (0, 30), (0, 30)), mode="reflect")
        volume = Volume(np.ascontiguousarray(array[:, :rows, :columns]), image.affine)
        for stack in (1, 2) if number == 2 else (1,):
            write_volume(SubjectFolder(folder / f"S{number}").stack_file("image", stack), volume)
    return folder


def begun(scratch: Path, subjects):
    for subject in subjects:
        home = scratch / subject
        home.mkdir(parents=True)
        yield shards.Begun(shards.Task(subject, {}), home)


def labels_of(home: Path) -> dict[str, np.ndarray]:
    """Return labels and predicted IoU by file."""
    return {
        file.name: np.load(file) if file.suffix == ".npy" else read_volume(file).array
        for file in sorted((home / "labels").iterdir())
    }


def segmented(folder, model_file, scratch, *, order=(0, 1, 2, 3, 4), **options):
    """Return each subject's labels and product."""
    segmenter = Segmenter(folder, model_file, CPU, **options)
    subjects = begun(scratch, [f"S{number}" for number in order])
    done = {one.task.subject: product for one, product in segmenter.flow(subjects)}
    assert len(done) == len(order)
    return {name: (labels_of(scratch / name), done[name]) for name in sorted(done)}


@pytest.fixture(scope="module")
def one_by_one(folder, model_file):
    """What the predictor says of each stack alone, cleaned."""
    predictor = Predictor(load_model(model_file), CPU)
    found = {}
    for home in sorted(folder.iterdir()):
        for file in sorted((home / "image").iterdir()):
            image = read_volume(file)
            spacing_mm = image.pixel_spacing_mm
            apart_mm = image.slice_spacing_mm
            predicted = predictor.stack_predicted(image.array, spacing_mm, apart_mm=apart_mm)
            found[home.name, file.name], _ = cleaned(predicted.labels)
            iou_file = SubjectFolder(home).predicted_iou_file(int(file.name[6:8])).name
            found[home.name, iou_file] = predicted.expected_iou  # its calibration changes nothing
    return found


def assert_same(found, expected):
    assert {(name, file) for name, (labels, _) in found.items() for file in labels} == set(expected)
    for name, (labels, _) in found.items():
        for file, array in labels.items():
            np.testing.assert_array_equal(array, expected[name, file])


def test_mirror_images_and_neighbours_decide_unless_they_are_not_asked(
    folder, model_file, one_by_one, tmp_path
):
    for name, left_out in (("flip", False), ("neighbours_mm", 0.0)):
        found = segmented(folder, model_file, tmp_path / name, order=(0,), **{name: left_out})
        labels, _ = found["S0"]
        assert (labels["stack-01.nii.gz"] != one_by_one["S0", "stack-01.nii.gz"]).any()


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 100, None])
@pytest.mark.parametrize("cores", [1, 3])
def test_batch_and_cores_change_no_label(
    folder, model_file, one_by_one, tmp_path, batch_size, cores
):
    found = segmented(folder, model_file, tmp_path, batch_size=batch_size, cores=cores)
    assert_same(found, one_by_one)
    assert len(np.unique(found["S0"][0]["stack-01.nii.gz"])) > 2


@pytest.mark.parametrize("order", [(4, 3, 2, 1, 0), (3, 0, 4, 2, 1)])
def test_order_changes_no_label(folder, model_file, one_by_one, tmp_path, order):
    assert_same(segmented(folder, model_file, tmp_path, order=order, cores=2), one_by_one)


def test_company_changes_no_label_and_no_row(folder, model_file, tmp_path):
    together = segmented(folder, model_file, tmp_path / "together", batch_size=9)
    for number in range(len(SIZES)):
        alone = segmented(folder, model_file, tmp_path / f"{number}", order=(number,))
        assert alone[f"S{number}"][1] == together[f"S{number}"][1]


def test_slices_of_several_subjects_share_a_batch(folder, model_file, tmp_path, monkeypatch):
    shared = []

    def predicted(self, pieces, given=Predictor.predicted):
        shared.append(len({id(piece.stack) for piece in pieces}))
        return given(self, pieces)

    monkeypatch.setattr(Predictor, "predicted", predicted)
    segmented(folder, model_file, tmp_path, order=(0, 3), batch_size=100)
    assert shared == [2]


def error_of_the_processor():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50, dtype=torch.uint8)
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        error_of_the_processor(),
    ],
)
def test_memory_that_runs_out_changes_no_label(
    folder, model_file, one_by_one, tmp_path, monkeypatch, error
):
    sizes = []

    def predicted(self, pieces, given=Predictor.predicted):
        sizes.append(sum(map(len, pieces)))
        if sizes[-1] > 3:
            raise error
        return given(self, pieces)

    monkeypatch.setattr(Predictor, "predicted", predicted)
    segmenter = Segmenter(folder, model_file, CPU, 2, batch_size=8)
    for scratch in (tmp_path / "first", tmp_path / "again"):
        sizes.clear()
        subjects = begun(scratch, [f"S{number}" for number in range(5)])
        done = {one.task.subject: None for one, _ in segmenter.flow(subjects)}
        assert_same({name: (labels_of(scratch / name), None) for name in done}, one_by_one)
        assert (max(sizes) > 3) == (scratch.name == "first")  # how many fit is learnt once


def test_memory_that_does_not_suffice_for_one_slice_fails_the_job(
    folder, model_file, tmp_path, monkeypatch
):
    def predicted(self, pieces):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(Predictor, "predicted", predicted)
    with pytest.raises(torch.OutOfMemoryError):
        segmented(folder, model_file, tmp_path)


def test_only_want_of_memory_counts_as_such():
    assert not out_of_memory(RuntimeError("expected scalar type Float but found BFloat16"))


def test_a_fault_of_one_subject_costs_this_one_alone(
    folder, model_file, one_by_one, tmp_path, monkeypatch
):
    fault = SubjectFault(Reason.BLANK_IMAGES, "all values are 0")
    read = flow_module.read_stacks

    def read_stacks(home, predictor):
        if home.name == "S1":
            raise fault
        return read(home, predictor)

    monkeypatch.setattr(flow_module, "read_stacks", read_stacks)
    subjects = begun(tmp_path, [f"S{number}" for number in range(5)])
    segmenter = Segmenter(folder, model_file, CPU, 2)
    done = {one.task.subject: made for one, made in segmenter.flow(subjects)}
    assert done.pop("S1") is fault
    assert sorted(done) == ["S0", "S2", "S3", "S4"]
    rest = {key: labels for key, labels in one_by_one.items() if key[0] != "S1"}
    assert_same({name: (labels_of(tmp_path / name), None) for name in done}, rest)


def test_any_other_error_fails_the_job(folder, model_file, tmp_path, monkeypatch):
    def write_labels(*given, **named):
        raise ZeroDivisionError

    monkeypatch.setattr(flow_module, "write_labels", write_labels)
    with pytest.raises(ZeroDivisionError):
        segmented(folder, model_file, tmp_path, cores=2)


@pytest.mark.parametrize("cores", [1, 2])
def test_few_subjects_are_begun_at_a_time(folder, model_file, tmp_path, cores):
    most, started, finished = 0, count(), 0

    def subjects():
        nonlocal most
        for number in range(15):
            most = max(most, next(started) + 1 - finished)
            home = tmp_path / str(number)
            home.mkdir()
            yield shards.Begun(shards.Task("S0", {}), home)

    for _ in Segmenter(folder, model_file, CPU, cores).flow(subjects()):
        finished += 1
    assert finished == 15
    assert 1 < most <= cores + AHEAD + 1  # one more is asked for when one is handed over


def test_a_segmenter_takes_another_flow_after_the_first(folder, model_file, one_by_one, tmp_path):
    segmenter = Segmenter(folder, model_file, CPU)
    for name in ("S0", "S1"):
        ((one, _),) = segmenter.flow(begun(tmp_path, [name]))
        np.testing.assert_array_equal(
            labels_of(one.scratch)["stack-01.nii.gz"], one_by_one[name, "stack-01.nii.gz"]
        )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("batch_size", [1, 2, 7, None])
def test_on_a_gpu_batch_and_order_change_no_label(folder, model_file, tmp_path, batch_size):
    found = []
    for run, order in enumerate(((0, 1, 2, 3, 4), (3, 1, 4, 0, 2))):
        segmenter = Segmenter(folder, model_file, torch.device("cuda"), 2, batch_size=batch_size)
        scratch = tmp_path / str(run)
        for _ in segmenter.flow(begun(scratch, [f"S{number}" for number in order])):
            pass
        found.append({home.name: labels_of(home) for home in scratch.iterdir()})
    for name, labels in found[0].items():
        for file, array in labels.items():
            np.testing.assert_array_equal(array, found[1][name][file])


def stacks(*counts, grid=(8, 8)):
    return [Prepared(torch.zeros(slices, 1, *grid), grid, grid) for slices in counts]


def told(parts):
    return [(owner, piece.start, piece.stop) for owner, piece in parts]


def test_a_full_batch_takes_what_came_first_and_leaves_the_rest():
    waiting = Waiting(lambda grid: 4)
    for owner, stack in zip("ABC", stacks(3, 2, 4), strict=True):
        waiting.add(owner, stack)
    assert told(waiting.batch(full=True)) == [("A", 0, 3), ("B", 0, 1)]
    assert told(waiting.batch(full=True)) == [("B", 1, 2), ("C", 0, 3)]
    assert waiting.batch(full=True) == []
    assert told(waiting.batch(full=False)) == [("C", 3, 4)]
    assert waiting.batch(full=False) == []


def test_slices_of_different_grids_never_share_a_batch():
    waiting = Waiting(lambda grid: 100)
    for owner, grid in (("A", (8, 8)), ("B", (8, 16)), ("C", (8, 8))):
        waiting.add(owner, stacks(2, grid=grid)[0])
    batches = [told(waiting.batch(full=False)) for _ in range(3)]
    assert batches == [[("A", 0, 2), ("C", 0, 2)], [("B", 0, 2)], []]


@pytest.mark.parametrize("counts", [(2,), (3,), (1, 1), (1, 5, 2), (4, 1)])
def test_halves_hold_every_slice_once_and_differ_by_one_at_most(counts):
    whole = [
        (number, Piece(stack, 0, len(stack.slices))) for number, stack in enumerate(stacks(*counts))
    ]
    first, second = halves(whole)
    sizes = [sum(len(piece) for _, piece in half) for half in (first, second)]
    assert sizes[1] - sizes[0] in (0, 1)
    slices = [
        (owner, number)
        for owner, start, stop in told(first + second)
        for number in range(start, stop)
    ]
    assert slices == [(owner, n) for owner, slices in enumerate(counts) for n in range(slices)]
