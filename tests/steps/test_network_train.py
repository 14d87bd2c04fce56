"""Training: split, loop, resuming and the step, on discs that are easy to learn."""

import itertools
import json
import re
import resource
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from network_subjects import disc_stack, make_cohort
from paravert.anatomy import LABELS, MUSCLES
from paravert.errors import InputError
from paravert.imaging.label_maps import slice_overlap
from paravert.imaging.volume import read_volume, write_volume
from paravert.network import batches, fit
from paravert.network import pretrain as pretrain_rule
from paravert.network.architecture import Architecture
from paravert.network.batches import Crops, EpochLoader
from paravert.network.calibration import BINS, Calibration
from paravert.network.contrast import SEQUENCES
from paravert.network.fit import Training, mix_weights
from paravert.network.model_file import learnt_from, write_split
from paravert.network.predict import Predictor, device_kind
from paravert.network.pretrain import calibrate_network, pretrain_network
from paravert.network.samples import (
    Sample,
    completed,
    samples_of,
    split_by_subject,
    subjects_with_truth,
)
from paravert.network.settings import Settings, read_section, settings_and_start
from paravert.network.train import train_network
from paravert.network.unet import Model, UNet, load_model, save_model
from paravert.provenance import file_sha256
from paravert.shard_tables import read_outcomes
from paravert.synthesis.anatomies import draw_anatomies
from trainings import loop_settings, section_of

SMALL = loop_settings(
    architecture=Architecture(width=4, levels=3, dropout=0.03),
    size_px=32,
    spacing_mm=4.0,
    loss="cross_entropy_iou",
    batch_size=4,
    epochs=4,
    learning_rate=0.01,
)
CPU = torch.device("cpu")
MODELS = Path(__file__).parents[2] / "models"


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def samples(count, first_seed=0):
    return [
        sample
        for seed in range(first_seed, first_seed + count)
        for sample in samples_of(*disc_stack(seed), spacing_mm=4.0)
    ]


def train(convert, folder, out, **changes):
    """Train on the subjects of a shard's table; sheet and folder of shards are written beside it."""
    shard = convert.parent / "shards/0"
    shard.mkdir(parents=True, exist_ok=True)
    shutil.copy(convert, shard)
    sheet = write_sheet(convert.parent, [one.subject for one in read_outcomes(convert)])
    section = section_of("train_network", **changes)
    train_network(sheet, shard.parent, folder, out, section, threads=1)


def write_sheet(folder, subjects):
    sheet = folder / "sheet.csv"
    sheet.write_text("subject,images\n" + "".join(f"{name},{name}\n" for name in subjects))
    return sheet


def pretrain(anatomies, validation, out, workers=0, **changes):
    section = section_of("pretrain_network", **changes)
    pretrain_network(anatomies, validation, out, section, threads=1, workers=workers)


def kill_after_an_epoch(monkeypatch, train):
    """Call a training, and interrupt it once it has written its first checkpoint."""
    save = fit.Training._save

    def saved(training, path):
        save(training, path)
        raise InterruptedError

    with monkeypatch.context() as patched:
        patched.setattr(fit.Training, "_save", saved)
        with pytest.raises(InterruptedError):
            train()


# --- samples and batches -------------------------------------------------------------------------


def test_a_slice_without_labels_is_not_trained_on():
    image, truth = disc_stack(1)
    drawn = truth.array.copy()
    drawn[1] = 0
    assert len(samples_of(image, truth.with_array(drawn), 4.0)) == len(drawn) - 1


def loader_of(some, settings=SMALL, workers=0):
    return EpochLoader(Crops(some, settings), workers)


def test_batches_follow_from_seed_and_epoch_whatever_the_number_of_processes():
    some = samples(2)
    loader = loader_of(some)
    one, other = list(loader.epoch(5)), list(loader.epoch(6))
    with loader_of(some, workers=1) as worker:
        again = [list(worker.epoch(number)) for number in (6, 5)][1]
    assert len(one) == len(loader) == len(some) // 4
    for a, b in zip(one, again, strict=True):
        assert torch.equal(a[0], b[0])
        assert torch.equal(a[1], b[1])
    assert not torch.equal(one[0][0], other[0][0])


def test_an_epoch_shows_every_slice_at_most_once(monkeypatch):
    marked = [Sample(np.full((32, 32), float(i), np.float16), np.full((32, 32), 1, np.uint8))
              for i in range(12)]  # fmt: skip
    monkeypatch.setattr(batches, "training_crop", lambda image, truth, *_: (image, truth))
    shown = torch.cat([images for images, _ in loader_of(marked).epoch(3)])
    assert sorted(shown[:, 0, 0, 0].tolist()) == list(range(12))


def test_a_loader_leaves_torchs_own_random_numbers_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    assert len(list(loader_of(samples(1)).epoch(0))) == 1
    assert torch.equal(torch.rand(3), expected)


# --- the loop ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def learnt():
    torch.set_num_threads(1)
    settings = loop_settings(
        architecture=Architecture(width=8, levels=4),
        size_px=32,
        spacing_mm=4.0,
        loss="cross_entropy_iou",
        finish_with_iou_fraction=0.2,
        batch_size=4,
        epochs=14,
        learning_rate=0.003,
    )
    run = Training(settings, loader_of(samples(20), settings), samples(3, first_seed=100), CPU)
    run.run()
    return run


def test_a_batch_with_a_huge_gradient_does_not_throw_the_weights_back():
    run = Training(SMALL, loader_of(samples(4), SMALL), [], CPU)
    images, truth = next(iter(loader_of(samples(4), SMALL).epoch(0)))
    run._step(1e4 * images, truth, 0.1)
    moments = [state["exp_avg"] for state in run.optimiser.state.values()]
    moved = float(torch.stack([one.norm() for one in moments]).norm())
    assert moved == pytest.approx(
        0.1 * fit.MOST_STEP_GRADIENT_NORM, rel=1e-3
    )  # Adam's beta1 is 0.9


@pytest.mark.parametrize("loss", ["iou", "cross_entropy_iou"])
def test_a_training_that_diverges_is_told_and_not_published(loss):
    settings = replace(SMALL, loss=loss, learning_rate=1e4)
    with pytest.raises(InputError, match="training: the loss became .*; lower the learning rate"):
        Training(settings, loader_of(samples(4), settings), [], CPU).run()


def test_a_toy_problem_is_learnt(learnt):
    curve = learnt.progress.curve
    assert curve[-1]["training_loss"] < 0.3 * curve[0]["training_loss"]
    assert curve[-1]["validation_iou"] > 0.8
    assert curve[-1]["share_done"] == 1
    assert curve[-1]["learning_rate"] < 1e-4


def test_left_and_right_are_told_apart(learnt):
    image, truth = disc_stack(200)
    model = Model(learnt.network.eval(), 4.0)
    labels = Predictor(model, CPU).stack_labels(image.array, (2.0, 2.5), apart_mm=5.0)
    iou = slice_overlap(labels, truth.array).iou
    for index, label in enumerate(LABELS):
        assert np.nanmedian(iou[:, index]) > 0.6, label.name


def test_resuming_gives_the_network_of_an_uninterrupted_training_bit_for_bit(tmp_path):
    some, held = samples(4), samples(1, first_seed=100)
    whole = Training(SMALL, loader_of(some, SMALL), held, CPU)
    whole.run()
    checkpoint = tmp_path / "model.checkpoint"

    class Killed(Exception):
        pass

    def kill(progress):
        if progress.epoch == 2:
            raise Killed

    with pytest.raises(Killed):
        Training(SMALL, loader_of(some, SMALL), held, CPU).run(checkpoint, after_epoch=kill)
    resumed = Training(SMALL, loader_of(some, SMALL), held, CPU)
    resumed.run(checkpoint)
    assert resumed.progress.epoch == 4
    for a, b in zip(whole.network.parameters(), resumed.network.parameters(), strict=True):
        assert torch.equal(a, b)
    losses = [[row["training_loss"] for row in run.progress.curve] for run in (whole, resumed)]
    assert losses[0] == losses[1]


def test_a_checkpoint_of_other_settings_or_data_is_refused(tmp_path):
    some = samples(1)
    checkpoint = tmp_path / "model.checkpoint"
    Training(SMALL, loader_of(some, SMALL), [], CPU).run(checkpoint)
    other = Settings(**{**vars(SMALL), "learning_rate": 0.02})
    with pytest.raises(InputError, match="other settings, data or code"):
        Training(other, loader_of(some, other), [], CPU).run(checkpoint)
    with pytest.raises(InputError, match="other settings, data or code"):
        Training(SMALL, loader_of(some, SMALL), [], CPU, made_of="other data").run(checkpoint)


def test_a_damaged_checkpoint_is_told_in_one_sentence(tmp_path):
    path = tmp_path / "model.checkpoint"
    fit.write_checkpoint(path, {"batch": 3}, "these data")
    assert fit.read_checkpoint(path, "these data") == {"batch": 3}
    whole = path.read_bytes()
    for content in (b"", b"text", b"\xff" * 64, whole[:-1], whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(InputError, match="damaged.*; delete the file to start the training"):
            fit.read_checkpoint(path, "these data")
    torch.save([1], path)  # of another program
    with pytest.raises(InputError, match="other settings, data or code"):
        fit.read_checkpoint(path, "these data")


def test_a_checkpoint_that_cannot_be_written_whole_leaves_the_old_one_and_is_told_as_such(tmp_path):
    path = tmp_path / "model.checkpoint"
    fit.write_checkpoint(path, {"batch": 3}, "these data")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))  # instead of a full disk
    try:
        with pytest.raises(OSError, match="File too large"):
            fit.write_checkpoint(path, {"weights": torch.zeros(10_000)}, "these data")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert fit.read_checkpoint(path, "these data") == {"batch": 3}


def test_a_time_budget_ends_the_training():
    budget = Settings(**{**vars(SMALL), "epochs": 1, "minutes": 0.01})
    run = Training(budget, loader_of(samples(1), budget), [], CPU)
    run.run()
    assert run.progress.curve[-1]["share_done"] == 1


def test_a_training_within_a_time_budget_goes_on_with_what_is_left_of_it(tmp_path, monkeypatch):
    clock = itertools.count(step=3.0)  # every look at the clock is three seconds later
    monkeypatch.setattr(fit, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    budget = replace(SMALL, minutes=1.0)
    checkpoint = tmp_path / "model.checkpoint"

    def kill(progress):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        Training(budget, loader_of(samples(4), budget), [], CPU).run(checkpoint, after_epoch=kill)
    resumed = Training(budget, loader_of(samples(4), budget), [], CPU)
    resumed.run(checkpoint)
    first, *rest = resumed.progress.curve
    assert 0 < first["share_done"] < 0.5
    assert rest
    seconds = [row["seconds"] for row in resumed.progress.curve]
    assert seconds[1] > 1.5 * seconds[0]
    assert 60 <= seconds[-1] < 60 + seconds[0]
    rates = [row["learning_rate"] for row in resumed.progress.curve]
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize("normalisation", ["batch", "instance", "group"])
def test_each_normalisation_learns(normalisation):
    architecture = Architecture(width=8, levels=3, normalisation=normalisation)
    settings = Settings(**{**vars(SMALL), "architecture": architecture, "epochs": 6})
    run = Training(settings, loader_of(samples(6), settings), [], CPU)
    run.run()
    curve = run.progress.curve
    assert curve[-1]["training_loss"] < 0.8 * curve[0]["training_loss"]


@pytest.mark.parametrize(
    "fault",
    [{"loss": "dice"}, {"size_px": 33}, {"epochs": 0}, {"validation_fraction": 1.0},
     {"finish_with_iou_fraction": -0.1}, {"learning_rate": 0},
     {"normalisation": "instance", "size_px": 32},
     {"normalisation": "batch", "size_px": 32, "batch_size": 1}],
)  # fmt: skip
def test_impossible_settings_are_refused(fault):
    with pytest.raises(InputError, match=next(iter(fault))):
        settings_and_start(read_section("train_network", section_of("train_network", **fault)))


# --- the step ------------------------------------------------------------------------------------


def test_a_model_and_its_card_come_out_of_a_cohort(tmp_path):
    convert = make_cohort(tmp_path, [f"S{index}" for index in range(5)])
    out = tmp_path / "models/toy.safetensors"
    options = {
        "width": 4, "levels": 3, "size_px": 32, "spacing_mm": 4.0, "loss": "cross_entropy_iou",
        "batch_size": 4, "epochs": 2, "device": "cpu", "trained_on": "discs",
    }  # fmt: skip
    train(convert, tmp_path / "subjects", out, **options)
    card = json.loads(out.with_suffix(".json").read_text())
    assert card["weights_sha256"] == file_sha256(out)
    assert card["trained_on"] == "discs"
    assert "Not a medical device" in card["note"]
    assert card["settings"]["architecture"]["levels"] == 3
    assert card["data"]["training_subjects"] + card["data"]["validation_subjects"] == 5
    assert set(card["validation_iou"]) == {label.name for label in LABELS}
    chosen = yaml.safe_load(out.with_suffix(".yaml").read_text())["model"]
    assert chosen == {"file": str(out), "sha256": file_sha256(out)}
    assert out.with_suffix(".curve.png").stat().st_size > 1000
    assert len(out.with_suffix(".curve.csv").read_text().splitlines()) == 3
    assert "validation" in out.with_suffix(".split.csv").read_text()
    assert not out.with_suffix(".checkpoint").exists()
    model = load_model(out)
    assert model.spacing_mm == 4.0
    assert model.network.architecture == Architecture(width=4, levels=3)
    before = out.read_bytes()
    train(convert, tmp_path / "subjects", out, **options)
    assert out.read_bytes() == before


def test_a_model_is_trained_on_from_another(tmp_path):
    convert = make_cohort(tmp_path, ["S1", "S2", "S3"])
    torch.manual_seed(3)
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    save_model(first, Model(UNet(Architecture(width=4, levels=3)), 4.0))
    options = {"size_px": 32, "batch_size": 4, "epochs": 1, "learning_rate": 1e-9}
    train(convert, tmp_path / "subjects", second, start_from=str(first), **options)
    before, after = load_model(first), load_model(second)
    assert after.network.architecture == before.network.architecture
    assert after.spacing_mm == 4.0
    for name, weights in before.network.state_dict().items():
        assert torch.allclose(after.network.state_dict()[name], weights, atol=1e-3)
    card = json.loads(second.with_suffix(".json").read_text())
    assert card["data"]["started_from_sha256"] == file_sha256(first)
    assert card["validation_iou_of_start"] == card["validation_iou"]  # nothing was learnt


def masks(tmp_path, change):
    """Change the truth of every subject: `change` takes its label map and returns another."""
    for file in sorted(tmp_path.glob("subjects/*/truth/stack-01.nii.gz")):
        truth = read_volume(file)
        write_volume(file, truth.with_array(change(truth.array)))


def test_masks_of_some_muscles_keep_the_accuracy_of_the_others(tmp_path, learnt, caplog):
    convert = make_cohort(tmp_path, [f"S{number}" for number in range(5)])
    masks(tmp_path, lambda array: np.where(array > 4, array, 0))
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    save_model(first, Model(learnt.network, 4.0))
    train(
        convert, tmp_path / "subjects", second, start_from=str(first), epochs=20,
        size_px=32, batch_size=4, loss="cross_entropy_iou", learning_rate=0.003,
    )  # fmt: skip
    image, truth = disc_stack(200)
    labels = Predictor(load_model(second), CPU).stack_labels(image.array, (2.0, 2.5), apart_mm=5.0)
    iou = np.nanmedian(slice_overlap(labels, truth.array).iou, axis=0)
    assert (iou > 0.6).all()
    card = json.loads(second.with_suffix(".json").read_text())
    found = {name: told["slices"] for name, told in card["validation_iou"].items()}
    assert found == {label.name: 4 * (label.value > 4) for label in LABELS}
    told = "muscles without annotation, the starting model's prediction is kept"
    assert re.search(rf"{told}: (S\d, ){{3}}S\d$", caplog.text, re.MULTILINE)
    assert "no validation mask contains the psoas major left: no IoU" in caplog.text
    assert "no validation mask contains the multifidus" not in caplog.text
    assert card["validation_iou_of_start"]["multifidus left"]["median_iou"] > 0.6


def test_a_network_from_scratch_needs_each_muscle_and_side_in_some_mask(tmp_path):
    convert = make_cohort(tmp_path, ["S1", "S2", "S3"])
    masks(tmp_path, lambda array: np.where((array == 3) | (array == 6), 0, array))
    told = "the quadratus lumborum left, erector spinae right; name a model that knows it"
    with pytest.raises(InputError, match=f"truth: no mask to train on contains {told}"):
        train(convert, tmp_path / "subjects", tmp_path / "m.safetensors", width=4)
    assert not (tmp_path / "m.safetensors").exists()


def test_a_mask_is_completed_by_what_a_model_finds_in_its_background():
    image, truth = disc_stack(1)
    drawn = np.array([label.value != 3 for label in LABELS])
    mask = np.where(truth.array == 3, 0, truth.array)
    mask[1] = 0  # nobody drew in this slice
    found = truth.array.copy()
    found[0, :, :2] = 3  # apart from the muscle: cleaned away, as in segmentation
    found[2][found[2] == 5] = 3  # where another muscle was drawn

    class Finder:
        def stack_labels(self, array, spacing_mm, apart_mm):
            return found

    expected = truth.array.copy()
    expected[1] = 0
    whole = completed(image, truth.with_array(mask), drawn, Finder())
    np.testing.assert_array_equal(whole.array, expected)


def test_muscles_with_too_few_validation_slices_keep_the_starting_models_curve(tmp_path, caplog):
    convert = make_cohort(tmp_path, ["S1", "S2", "S3"])
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    lines = Calibration({"multifidus": ((0.0, 1.0), (0.0, 0.5))})
    torch.manual_seed(1)  # of a network that finds some multifidus
    save_model(first, Model(UNet(Architecture(width=4, levels=3)), 4.0, lines))
    options = {"size_px": 32, "batch_size": 4, "epochs": 1, "start_from": str(first)}
    train(convert, tmp_path / "subjects", second, **options)
    knots = load_model(second).calibration.knots
    assert {muscle: [list(x) for x in line] for muscle, line in knots.items()} == {
        "multifidus": [[0.0, 1.0], [0.0, 0.5]]
    }
    kept = "IoU of multifidus keeps the starting model's calibration: under 60"
    assert kept in caplog.text
    without = "psoas major, quadratus lumborum, erector spinae"
    assert f"IoU of {without} is not predicted: under 60" in caplog.text
    card = json.loads(second.with_suffix(".json").read_text())
    assert card["data"]["calibration_error"] > 0  # of the line that is kept


def test_masks_without_a_label_are_told_before_anything_is_trained(tmp_path, caplog):
    convert = make_cohort(tmp_path, ["S1", "S2"])
    empty = tmp_path / "subjects/S2/truth/stack-01.nii.gz"
    write_volume(empty, read_volume(empty).with_array(np.zeros_like(read_volume(empty).array)))
    with pytest.raises(InputError, match="drawn in their masks: 1, expected at least 2"):
        train(convert, tmp_path / "subjects", tmp_path / "m.safetensors", width=4)
    assert "left out, nothing is drawn in the masks: S2" in caplog.text


def test_masks_that_were_deleted_are_not_taken_for_empty_ones(tmp_path):
    convert = make_cohort(tmp_path, ["S1", "S2", "S3"])
    shutil.rmtree(tmp_path / "subjects/S2")
    with pytest.raises(InputError, match="the converted masks of S2 are gone; run again with"):
        train(convert, tmp_path / "subjects", tmp_path / "m.safetensors", width=4)


def test_quarantined_subjects_are_named(tmp_path, caplog):
    faults = {f"R{number}": "no-dicom" for number in range(10, 20)}
    faults["S3"] = "mask-unknown-label"
    convert = make_cohort(tmp_path, ["S1", "S2"], quarantined=faults)
    train(convert, tmp_path / "subjects", tmp_path / "m.safetensors",
                  width=4, levels=3, size_px=32, spacing_mm=4.0, epochs=1)  # fmt: skip
    assert "left out, quarantined: S3 (mask-unknown-label), R10 (no-dicom), R11" in caplog.text
    assert caplog.text.count("no-dicom") == 9
    assert "R18 (no-dicom) and 1 more" in caplog.text


def test_a_training_is_not_resumed_with_other_masks(tmp_path, monkeypatch):
    convert = make_cohort(tmp_path, ["S1", "S2"])
    settings = {
        "width": 4,
        "levels": 3,
        "size_px": 32,
        "spacing_mm": 4.0,
        "epochs": 2,
    }
    given = (convert, tmp_path / "subjects", tmp_path / "m.safetensors")
    kill_after_an_epoch(monkeypatch, lambda: train(*given, **settings))
    masks(tmp_path, lambda array: np.roll(array, 1, axis=1))
    with pytest.raises(InputError, match="other settings, data or code"):
        train(*given, **settings)


def test_a_training_is_not_resumed_with_another_split(tmp_path, monkeypatch):
    names = [f"S{number}" for number in range(1, 6)]
    convert = make_cohort(tmp_path, names)
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    save_model(first, Model(UNet(Architecture(width=4, levels=3)), 4.0))
    settings = {"size_px": 32, "batch_size": 4, "epochs": 2, "start_from": str(first)}
    given = (convert, tmp_path / "subjects", second)
    kill_after_an_epoch(monkeypatch, lambda: train(*given, **settings))
    # The list of the starting model's subjects was forgotten at first.
    write_split(first, split_by_subject(names, 0.2, seed=1).validation, [])
    with pytest.raises(InputError, match="other settings, data or code"):
        train(*given, **settings)


def test_a_start_that_is_not_there_is_an_input_error(tmp_path):
    convert = make_cohort(tmp_path, ["S1", "S2"])
    absent = str(tmp_path / "absent.safetensors")
    with pytest.raises(InputError, match="no such model file"):
        train(convert, tmp_path, tmp_path / "m.safetensors", start_from=absent)


def test_training_subjects_of_the_first_model_do_not_validate_the_second(tmp_path):
    names = [f"S{number}" for number in range(1, 6)]
    convert = make_cohort(tmp_path, names)
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    save_model(first, Model(UNet(Architecture(width=4, levels=3)), 4.0))
    write_split(first, ["S1", "S2", "S4", "S5", "S9"], [])
    options = {"size_px": 32, "batch_size": 4, "epochs": 1, "start_from": str(first)}
    train(convert, tmp_path / "subjects", second, **options)
    rows = second.with_suffix(".split.csv").read_text().splitlines()
    parts = dict(row.split(",") for row in rows[1:])
    assert parts == dict.fromkeys([*names, "S9"], "training") | {"S3": "validation"}
    write_split(first, names, [])
    with pytest.raises(InputError, match="trained on every subject with truth"):
        train(convert, tmp_path / "subjects", second, **options)


def test_only_converted_subjects_with_truth_are_learnt_from(tmp_path):
    convert = make_cohort(tmp_path, ["S1", "S2", "S3"], without_truth=["S2"])
    assert subjects_with_truth([convert, convert]) == ["S1", "S3"]


def test_the_subjects_at_hand_are_learnt_from_whatever_tables_other_shards_left(tmp_path):
    names = ["S1", "S2", "S3", "S4", "WITHDRAWN"]
    for name in names:
        shard = tmp_path / "shards" / name
        shard.mkdir(parents=True)
        shutil.move(make_cohort(tmp_path, [name]), shard)
    out = tmp_path / "m.safetensors"
    toy = {"width": 4, "levels": 3, "size_px": 32, "spacing_mm": 4.0, "epochs": 1}
    train_network(
        write_sheet(tmp_path, names[:4]),
        tmp_path / "shards",
        tmp_path / "subjects",
        out,
        section_of("train_network", **toy),
        threads=1,
        subjects_per_shard=1,
        subjects="S1,S2,S4",
    )
    rows = out.with_suffix(".split.csv").read_text().splitlines()[1:]
    assert sorted(row.split(",")[0] for row in rows) == ["S1", "S2", "S4"]


def test_a_single_subject_with_truth_is_too_few(tmp_path):
    convert = make_cohort(tmp_path, ["S1", "S2"], without_truth=["S2"])
    with pytest.raises(InputError, match="in their masks: 1, expected at least 2"):
        train(convert, tmp_path / "subjects", tmp_path / "m.safetensors", width=4)


def test_a_faulty_setting_is_told_as_an_input_error(tmp_path):
    convert = make_cohort(tmp_path, ["S1", "S2"])
    with pytest.raises(InputError, match="multiple of 32"):
        train(convert, tmp_path, tmp_path / "m.safetensors", size_px=100)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_that_is_asked_for_and_absent_is_an_input_error():
    with pytest.raises(InputError, match="no GPU"):
        device_kind("cuda")
    assert device_kind("auto") == "cpu"


def test_an_unknown_device_is_an_input_error():
    with pytest.raises(InputError, match="expected one of auto, cpu, cuda"):
        device_kind("tpu")


# --- averaged weights ----------------------------------------------------------------------------


def test_the_network_that_is_kept_averages_the_weights_of_the_steps():
    settings = replace(SMALL, average=0.5, epochs=1)
    run = Training(settings, loader_of(samples(8), settings), [], CPU)
    taken = []
    step = run.optimiser.step

    def watched():
        step()
        taken.append(run._learner.head.bias.detach().clone())

    run.optimiser.step = watched
    run.run()
    expected = taken[0]
    for steps, weights in enumerate(taken[1:], start=1):
        kept = min(0.5, (1 + steps) / (10 + steps))
        expected = kept * expected + (1 - kept) * weights
    assert len(taken) > 2
    assert torch.allclose(run.network.head.bias, expected, atol=1e-6)
    assert not torch.allclose(run.network.head.bias, taken[-1], atol=1e-6)


def test_the_mean_of_two_networks_has_the_mean_of_their_running_means_too():
    own, start = (UNet(Architecture(width=4, levels=2, normalisation="batch")) for _ in range(2))
    layer = "encoder.0.convolutions.1.running_mean"
    own.state_dict()[layer].fill_(4.0)
    mix_weights(own, start, 0.25)
    assert own.state_dict()[layer].tolist() == [3.0] * 4


# --- synthetic slices ----------------------------------------------------------------------------


def test_training_and_validation_are_of_different_people(tmp_path):
    tables = [tmp_path / f"{part}.parquet" for part in ("training", "validation")]
    for table in tables:
        draw_anatomies(out=table, people=2, seed=5)
    with pytest.raises(InputError, match="the same people"):
        pretrain(*tables, tmp_path / "m.safetensors", width=4, levels=4, size_px=64)


def test_a_model_is_not_calibrated_on_the_people_that_it_learnt_from(tmp_path):
    table, model = tmp_path / "training.parquet", tmp_path / "model.safetensors"
    draw_anatomies(out=table, people=1, seed=5)
    shipped = json.loads((MODELS / "synthetic.json").read_text())
    card = shipped | {"data": {"anatomies_sha256": file_sha256(table)}}
    model.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(InputError, match="model.safetensors was trained on these people"):
        calibrate_network(model, table, model)


def test_a_faulty_card_of_the_start_is_told_before_the_training(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain_rule, "HELD_OUT", (1, 1, 1))
    monkeypatch.setattr(pretrain_rule, "fit", None)
    tables = [tmp_path / f"{part}.parquet" for part in ("training", "validation")]
    for seed, table in enumerate(tables):
        draw_anatomies(out=table, people=2, seed=seed)
    first = tmp_path / "first.safetensors"
    save_model(first, Model(UNet(Architecture(width=4, levels=3)), 4.0))
    first.with_suffix(".json").write_text("{}")
    with pytest.raises(InputError, match="first.json: a model's card without its settings"):
        pretrain(*tables, tmp_path / "m.safetensors", start_from=str(first), size_px=64)


def test_a_mean_with_the_start_needs_a_start(tmp_path):
    tables = [tmp_path / f"{part}.parquet" for part in ("training", "validation")]
    with pytest.raises(InputError, match="start_weight: 0.5 without start_from"):
        pretrain(*tables, tmp_path / "m.safetensors", start_weight=0.5)


@pytest.mark.long
def test_a_model_of_synthetic_slices_comes_with_its_card_and_reliability(
    tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(pretrain_rule, "HELD_OUT", (16, 96, 96))
    tables = [tmp_path / f"{part}.parquet" for part in ("training", "validation")]
    for seed, table in enumerate(tables):
        draw_anatomies(out=table, people=2, seed=seed)
    out = tmp_path / "model.safetensors"
    toy = {"width": 4, "levels": 4, "size_px": 64, "spacing_mm": 3.0}
    pretrain(*tables, out, workers=1, batches=4, epochs=2, **toy)
    assert load_model(out).spacing_mm == 3.0
    card = json.loads(out.with_suffix(".json").read_text())
    assert card["weights_sha256"] == file_sha256(out)
    assert card["data"]["slices_drawn"] == 2 * 4 * 8
    assert "no image of a person" in card["trained_on"]
    assert 0 <= card["data"]["calibration_error"] <= 1
    assert set(card["data"]["median_iou_by_sequence"]) <= set(SEQUENCES)
    for medians in card["data"]["median_iou_by_sequence"].values():
        assert set(medians) == set(MUSCLES)
    assert out.with_suffix(".reliability.png").stat().st_size > 1000
    rows = out.with_suffix(".reliability.csv").read_text().splitlines()
    assert len(rows) == 1 + BINS
    assert not out.with_suffix(".checkpoint").exists()

    # The last step alone, for weights without a calibration.
    bare, again = tmp_path / "bare.safetensors", tmp_path / "again.safetensors"
    own = load_model(out)
    save_model(bare, replace(own, calibration=Calibration({})))
    of_masks = {"validation_iou_of_start": {}, "data": card["data"] | {"validation_subjects": 3}}
    bare.with_suffix(".json").write_text(json.dumps(card | of_masks))
    write_split(bare, ["A"], ["B"])
    calibrate_network(bare, tables[1], again, threads=1)
    assert learnt_from(again) == {"A"}
    curves = load_model(again).calibration.knots
    assert curves
    assert curves.keys() == own.calibration.knots.keys()
    for muscle, curve in own.calibration.knots.items():
        np.testing.assert_allclose(curves[muscle], curve, atol=0.01)
    same = card | {"weights_sha256": file_sha256(again)}
    told = json.loads(again.with_suffix(".json").read_text())
    assert told.keys() == same.keys()
    assert told["data"].keys() == card["data"].keys()
    assert told["validation_iou_of_start"] is None
    assert told["weights_sha256"] == same["weights_sha256"] != card["weights_sha256"]
    assert told["data"]["calibration_error"] == pytest.approx(
        card["data"]["calibration_error"], abs=0.01
    )

    further = tmp_path / "further.safetensors"
    write_split(further, ["of an older model of this name"], [])
    start = {"start_from": str(out), "learning_rate": 1e-12, "average": 0.0}
    pretrain(*tables, further, size_px=64, batches=1, epochs=1, **start)
    assert load_model(further).spacing_mm == 3.0
    card = json.loads(further.with_suffix(".json").read_text())
    assert card["data"]["started_from_sha256"] == file_sha256(out)
    assert "no image of a person" in card["trained_on"]
    assert learnt_from(further) == set()
    before, after = (load_model(file).network.state_dict() for file in (out, further))
    assert before.keys() == after.keys()
    assert all(torch.allclose(before[key], after[key], atol=1e-6) for key in before)

    # A start from a model of people's images keeps the list of its subjects, and the card tells it.
    write_split(bare, ["A"], ["B"])
    bare.with_suffix(".json").write_text(json.dumps(card | {"trained_on": "12 volunteers"}))
    of_people = start | {"start_from": str(bare)}
    pretrain(*tables, further, size_px=64, batches=1, epochs=1, **of_people)
    assert learnt_from(further) == {"A"}
    told = json.loads(further.with_suffix(".json").read_text())["trained_on"]
    assert told.endswith("; the starting model on 12 volunteers")

    # One that was killed and started again comes to the same.
    caplog.set_level("INFO")
    settings = start | {
        "learning_rate": 0.01,
        "epochs": 3,
        "size_px": 64,
        "batches": 1,
    }
    pretrain(*tables, further, **settings)
    whole = further.read_bytes()
    kill_after_an_epoch(monkeypatch, lambda: pretrain(*tables, further, **settings))
    further.unlink()
    pretrain(*tables, further, **settings)
    assert "resumed after 1 epochs" in caplog.text
    assert json.loads(further.with_suffix(".json").read_text())["epochs_done"] == 3
    assert further.read_bytes() == whole

    # Half of the way that the same training goes.
    found = []
    for share in (0.0, 0.5):
        start |= {"learning_rate": 0.01, "start_weight": share}
        pretrain(*tables, further, size_px=64, batches=1, epochs=1, **start)
        found.append(load_model(further).network.state_dict())
    whole, half = found
    assert any((whole[key] - before[key]).abs().max() > 0.005 for key in before)
    for key in before:
        assert torch.allclose(half[key], (before[key] + whole[key]) / 2, atol=1e-3)
    assert json.loads(further.with_suffix(".json").read_text())["data"]["start_weight"] == 0.5
