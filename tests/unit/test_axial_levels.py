"""Levels from axial slices alone: the fit per subject, its uncertainty, the network's input, training, the step."""

import csv
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.numpy import save_file

from made_from import LEVELS_MODEL, MODEL, REPOSITORY
from paravert.anatomy import LABELS, SIDES
from paravert.errors import InputError
from paravert.imaging.convert import convert_dicom
from paravert.imaging.geometry import LPS_TO_RAS
from paravert.imaging.volume import Volume, read_volume
from paravert.network import (
    axial_levels,
    axial_net,
    find_levels,
    sagittal_levels,
    train_axial_levels,
    worker_training,
)
from paravert.network.axial_levels import SliceEvidence, levels_from_axial, levels_of_slices
from paravert.network.axial_net import (
    BINS,
    CELL_MM,
    CELLS,
    CHANNELS,
    FORM,
    load_axial_network,
    predicted_levels,
    slice_cells,
)
from paravert.network.find_levels import FoundLevels, SliceGeometry, differences
from paravert.network.level_model import AXIAL_FORM, SAGITTAL_FORM
from paravert.network.sagittal_levels import Naming
from paravert.network.segment import segment_muscles
from paravert.network.train_axial_levels import AxialNet, LabelSections
from paravert.provenance import file_sha256
from paravert.shard_tables import read_outcomes
from paravert.subject_folder import SubjectFolder
from paravert.synthesis.anatomies import draw_anatomies
from paravert.synthesis.phantoms import make_phantoms
from paravert.tables import AXIAL_LEVELS, SAGITTAL_LEVELS

PITCH_MM = 37.0


# --- the fit per subject ---------------------------------------------------------------------------


def column(level):
    """Return points of a curved column, (n, 3) LPS in mm, by level; PITCH_MM per level along it."""
    fine = np.linspace(-60, 300, 3601)  # mm towards the feet
    y = 12 * np.sin(fine / 70)
    along = np.append(0, np.cumsum(np.hypot(np.diff(fine), np.diff(y))))
    along -= np.interp(0, fine, along)
    wanted = np.asarray(level, float) * PITCH_MM
    z = np.interp(wanted, along, fine)
    return np.column_stack((np.zeros_like(z), 12 * np.sin(z / 70), -z))


def planes(points, tilt_deg):
    """Return affines (n, 4, 4) of slices through points; their middle lies 40 mm in front of the points."""
    tilt = np.deg2rad(np.broadcast_to(tilt_deg, len(points)))
    affines = np.zeros((len(points), 4, 4))
    affines[:, 0, 0], affines[:, 3, 3] = 1, 1
    affines[:, 1, 1], affines[:, 2, 1] = np.cos(tilt), np.sin(tilt)
    affines[:, 1, 2], affines[:, 2, 2] = -np.sin(tilt), np.cos(tilt)
    affines[:, :3, 3] = points - 100 * affines[:, :3, 0] - 140 * affines[:, :3, 1]
    return affines


def evidence(levels, points, rng, sd=0.5, off=0.0):
    """Return what a network sees that errs by sd in each slice, and by off in all."""
    seen = levels + off + rng.normal(0, sd, len(levels))
    probability = np.exp(-0.5 * ((BINS - seen[:, None]) / np.hypot(sd, 0.15)) ** 2)
    probability /= probability.sum(axis=1, keepdims=True)
    return SliceEvidence(probability, points + rng.normal(0, 3, points.shape) * (1, 1, 0))


@pytest.mark.parametrize("tilt_deg", [0, 15, -20])
def test_all_slices_of_a_stack_get_their_levels(tilt_deg):
    levels = np.arange(5.4, 0.6, -0.16)
    points = column(levels)
    rng = np.random.default_rng(1)
    found = levels_of_slices(evidence(levels, points, rng), planes(points, tilt_deg))
    assert np.abs(found.level - levels).max() < 0.35
    assert np.median(np.abs(found.level - levels)) < 0.2
    assert (np.diff(found.level) < 0).all()


def test_stacks_at_discs_angled_with_them_get_the_levels_of_the_discs():
    discs = np.array([5.5, 4.5, 3.5, 2.5, 1.5])
    tilts = np.array([20.0, 10, 0, -6, -10])
    levels = (discs[:, None] + np.array([0.12, 0, -0.12])).ravel()
    points = np.concatenate(
        [
            column([d])[0] + np.outer((-4.4, 0, 4.4), _normal(t))
            for d, t in zip(discs, tilts, strict=True)
        ]
    )
    affines = planes(points, np.repeat(tilts, 3))
    found = levels_of_slices(evidence(levels, points, np.random.default_rng(2)), affines)
    assert np.abs(found.level - levels).max() < 0.35


def _normal(tilt_deg):
    return np.array([0, -np.sin(np.deg2rad(tilt_deg)), np.cos(np.deg2rad(tilt_deg))])


def test_levels_fall_with_the_slices_however_the_network_errs():
    levels = np.arange(5.0, 1.0, -0.2)
    points = column(levels)
    rng = np.random.default_rng(3)
    noise = SliceEvidence(rng.dirichlet(np.ones(len(BINS)), len(levels)), points)
    found = levels_of_slices(noise, planes(points, 0))
    assert (np.diff(found.level) < 0).all()
    assert found.sd.min() > 0.3


def test_slices_of_which_the_network_is_wrong_do_not_move_the_others():
    levels = np.arange(5.4, 0.6, -0.16)
    points = column(levels)
    rng = np.random.default_rng(4)
    seen = evidence(levels, points, rng, sd=0.2)
    seen.probability[::3] = evidence(levels, points, rng, sd=0.2, off=1.5).probability[::3]
    found = levels_of_slices(seen, planes(points, 0))
    assert np.median(np.abs(found.level - levels)) < 0.25


def test_the_standard_deviation_is_that_of_the_errors():
    rng = np.random.default_rng(5)
    within, beyond = [], []
    for _ in range(60):
        first = rng.uniform(1.2, 5.4)
        levels = np.arange(first, max(first - 3, 0.6), -0.2)
        points = column(levels)
        off = rng.normal(0, axial_levels.PERSON_SD)
        found = levels_of_slices(evidence(levels, points, rng, off=off), planes(points, 0))
        error = np.abs(found.level - levels)
        within.append(np.mean(error <= found.sd))
        beyond.append(np.mean(error > 3 * found.sd))
    assert 0.55 < np.mean(within) < 0.9
    assert np.mean(beyond) < 0.02


def test_levels_do_not_depend_on_where_the_scanner_put_the_body():
    levels = np.array([1.0, 4.0])
    found = []
    for shift_mm in (0, 60, 120):
        points = column(levels) + (0, shift_mm, 0)
        seen = evidence(levels, points, np.random.default_rng(8), sd=0.1)
        found.append(levels_of_slices(seen, planes(points, 0)).level)
    np.testing.assert_allclose(found[1:], [found[0]] * 2, atol=1e-6)
    assert np.abs(found[0] - levels).max() < 0.3


def test_few_slices_are_less_certain_than_many():
    levels = np.arange(5.4, 0.6, -0.16)
    rng = np.random.default_rng(6)
    sds = []
    for own in (levels, levels[:2]):
        points = column(own)
        sds.append(levels_of_slices(evidence(own, points, rng), planes(points, 0)).sd.mean())
    assert sds[1] > 1.5 * sds[0]


def test_a_single_slice_has_a_level():
    points = column([3.0])
    found = levels_of_slices(
        evidence(np.array([3.0]), points, np.random.default_rng(7)), planes(points, 0)
    )
    assert abs(found.level[0] - 3) < 3 * found.sd[0]
    assert found.sd[0] > 0.3


# --- the network's input ---------------------------------------------------------------------------

SPACING_MM = (0.9, 1.3)


def boxes(middles, sizes_mm=(20, 30), shape=(250, 150)):
    """Return a label map with a box per label, and its area in mm2. middles: (row, column) by label."""
    labels = np.zeros(shape, np.uint8)
    rows, columns = (round(size / step) for size, step in zip(sizes_mm, SPACING_MM, strict=True))
    for value, (row, column) in middles.items():
        labels[row : row + rows, column : column + columns] = value
    return labels, rows * columns * np.prod(SPACING_MM)


def test_cells_hold_the_areas_of_the_muscles_of_both_sides_about_their_middle():
    labels, area = boxes({1: (100, 120), 2: (100, 40), 7: (180, 90)})
    cells, middle = slice_cells(labels, SPACING_MM)
    areas = cells[:-1].sum((1, 2)) * CELL_MM**2
    assert areas == pytest.approx([2 * area, 0, 0, area], rel=1e-5)
    where = np.arange(CELLS) + 0.5 - CELLS / 2
    for axis in (0, 1):
        along = cells[:-1].sum((0, 2 - axis))
        assert abs(along @ where / along.sum()) < 0.1
        assert middle[axis] == pytest.approx(np.nonzero(labels)[axis].mean())
    most = np.prod(1 + np.array(SPACING_MM) / CELL_MM)  # whole pixels belong to a cell
    assert 0.9 < cells[0].max() <= most


def test_cells_tell_which_part_of_them_lies_in_the_image():
    labels, _ = boxes({1: (100, 120), 2: (100, 40)})
    cells, _ = slice_cells(labels, SPACING_MM)
    inside = cells[-1].sum() * CELL_MM**2
    height, width = np.array(labels.shape) * SPACING_MM
    assert inside == pytest.approx(height * min(width, CELLS * CELL_MM), rel=0.08)
    middle = slice(CELLS // 2 - 5, CELLS // 2 + 5)
    assert cells[-1, middle, middle].mean() == pytest.approx(1, abs=0.05)
    assert cells[-1, :, -1].max() < 0.05  # the image is narrower than the cells


def test_spacing_and_field_of_view_hardly_change_what_the_network_sees():
    labels, _ = boxes({1: (80, 110), 2: (80, 30), 5: (150, 60), 7: (150, 90)})
    fine = labels.repeat(2, axis=0).repeat(2, axis=1)
    one, _ = slice_cells(labels, SPACING_MM)
    other, _ = slice_cells(fine, tuple(np.array(SPACING_MM) / 2))
    moved, _ = slice_cells(np.roll(labels, 7, axis=0), SPACING_MM)
    assert np.abs(one[:-1] - other[:-1]).max() < 0.2
    assert np.allclose(one[:-1], moved[:-1], atol=1e-5)


def test_a_slice_without_muscles_tells_nothing():
    cells, middle = slice_cells(np.zeros((50, 50), np.uint8), SPACING_MM)
    assert not cells.any()
    assert np.isnan(middle).all()
    levels = np.arange(5.0, 2.0, -0.2)
    points = column(levels)
    seen = evidence(levels, points, np.random.default_rng(8), sd=0.1)
    seen.middle[:4] = np.nan
    seen.probability[:4] = np.eye(len(BINS))[3]
    found = levels_of_slices(seen, planes(points, 0))
    assert np.abs(found.level - levels).max() < 0.2
    seen.middle[:] = np.nan
    assert np.isnan(levels_of_slices(seen, planes(points, 0)).level).all()


@pytest.fixture
def untrained(tmp_path):
    """A network with random weights, in torch and from its model file."""
    torch.manual_seed(1)
    network = AxialNet().eval().half().float()  # the file has float16
    FORM.save(tmp_path / "a.safetensors", network)
    return network, load_axial_network(tmp_path / "a.safetensors")


def random_cells(count):
    return np.random.default_rng(9).random((count, CHANNELS, CELLS, CELLS), np.float32)


def test_a_mirrored_slice_has_the_same_level_and_a_mirrored_column(untrained):
    cells = random_cells(2)
    probability, middle = predicted_levels(untrained[1], cells)
    mirrored, turned = predicted_levels(untrained[1], cells[..., ::-1].copy())
    assert np.allclose(probability, mirrored, atol=1e-5)
    assert np.allclose(probability.sum(axis=1), 1, atol=1e-5)
    assert np.allclose(turned, middle * (1, -1), atol=1e-4)


def test_predictions_are_those_of_the_trained_network(untrained):
    network, held = untrained
    cells = random_cells(3)
    with torch.inference_mode():
        wanted = network(torch.from_numpy(cells)).numpy()
    assert np.abs(wanted).max() > 0.05
    assert np.allclose(held(cells)[0], wanted, atol=1e-5)


def test_other_files_than_a_model_are_refused(tmp_path):
    (tmp_path / "b.safetensors").write_bytes(b"no model")
    key = axial_net.FORM.key
    for number, told in enumerate(('{"format": 1}', "x", "[]")):
        save_file({"a": np.zeros(1)}, tmp_path / f"{number}.safetensors", {key: told})
    for other in (*tmp_path.glob("*.safetensors"), LEVELS_MODEL[0]):
        with pytest.raises(InputError, match="not a model"):
            load_axial_network(other)


@pytest.mark.parametrize(("form", "own"), [(AXIAL_FORM, "levels_axial"), (SAGITTAL_FORM, "levels")])
def test_a_model_of_another_kind_is_found_without_its_network(form, own):
    for name in ("levels_axial", "levels", "synthetic"):
        file = REPOSITORY / f"models/{name}.safetensors"
        if name == own:
            form.check(file)
        else:
            with pytest.raises(InputError, match="not a model that"):
                form.check(file)


# --- training --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Tables of one synthetic person each, of different seeds."""
    folder = tmp_path_factory.mktemp("people")
    for seed in (1, 2):
        draw_anatomies(folder / f"{seed}.parquet", people=1, seed=seed)
    return folder


def test_training_slices_show_muscles_about_the_column_and_depend_on_their_seed_alone(people):
    sections = LabelSections(people / "1.parquet")
    numbers = np.arange(len(sections))
    batch, again = (sections.batch(numbers, (1, 2)) for _ in range(2))
    for name in ("cells", "levels", "column"):
        assert torch.equal(getattr(batch, name), getattr(again, name))
    assert batch.cells.shape == (12, CHANNELS, CELLS, CELLS)
    assert np.array_equal(batch.levels, sections.levels)
    psoas = batch.cells[:, 0]
    seen = psoas.sum((1, 2)) > 3
    cells = torch.arange(CELLS) + 0.5 - CELLS / 2
    down, right = ((psoas.sum(axis) @ cells)[seen] / psoas.sum((1, 2))[seen] for axis in (2, 1))
    # The column lies between both psoas.
    assert (right - batch.column[seen, 1]).abs().median() < 1.5
    assert (down - batch.column[seen, 0]).abs().median() < 3


def test_a_training_writes_model_card_and_curve_and_goes_on_where_it_stopped(
    people, tmp_path, monkeypatch
):
    monkeypatch.setattr(worker_training, "LOG_EVERY", 2)
    monkeypatch.setattr(train_axial_levels, "HELD_OUT_BATCHES", 1)
    monkeypatch.setattr(train_axial_levels, "SLICES", 2)
    out = tmp_path / "own.safetensors"
    tables = people / "1.parquet", people / "2.parquet"
    train_axial_levels.train_axial_levels(*tables, out, batches=4, workers=0)
    card = json.loads(out.with_suffix(".json").read_text())
    assert card["weights_sha256"] == file_sha256(out)
    assert card["settings"]["batches"] == 4
    chosen = yaml.safe_load(out.with_suffix(".yaml").read_text())["find_levels"]
    assert chosen == {"axial_model": str(out), "axial_sha256": file_sha256(out)}
    assert batches_told(out) == ["2", "4"]
    assert not out.with_suffix(".checkpoint").exists()
    assert out.stat().st_size < 5e6

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(train_axial_levels.WorkerTraining, "publish", stop)
    with pytest.raises(KeyboardInterrupt):
        train_axial_levels.train_axial_levels(*tables, out, batches=2, workers=0)
    monkeypatch.undo()
    assert out.with_suffix(".checkpoint").exists()
    monkeypatch.setattr(train_axial_levels, "HELD_OUT_BATCHES", 1)
    monkeypatch.setattr(train_axial_levels, "SLICES", 2)
    with pytest.raises(InputError, match="other settings"):
        train_axial_levels.train_axial_levels(*tables, out, seed=2, batches=3, workers=0)
    train_axial_levels.train_axial_levels(*tables, out, batches=3, workers=0)
    assert batches_told(out) == ["2", "3"]


def test_a_training_that_diverges_is_told_and_not_published(people, tmp_path, monkeypatch):
    monkeypatch.setattr(train_axial_levels, "SLICES", 2)
    tables = people / "1.parquet", people / "2.parquet"
    out = tmp_path / "own.safetensors"
    how = {"batches": 4, "learning_rate": 1e30, "workers": 0}
    with pytest.raises(InputError, match="training: the loss became nan; lower the learning rate"):
        train_axial_levels.train_axial_levels(*tables, out, **how)
    assert not out.exists()


def batches_told(out):
    with out.with_suffix(".curve.csv").open(newline="") as file:
        return [row["batch"] for row in csv.DictReader(file)]


def test_the_same_people_for_training_and_validation_are_refused(people, tmp_path):
    table = people / "1.parquet"
    with pytest.raises(InputError, match="the same people"):
        train_axial_levels.train_axial_levels(table, table, tmp_path / "own.safetensors")


# --- the step --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """A phantom with its labels, and a network that was not trained."""
    folder = tmp_path_factory.mktemp("step")
    make_phantoms(folder / "phantoms", 11, 4, ["T0002"])
    home = "phantoms/T0002"
    (folder / "sheet.csv").write_text(f"subject,images,labels\nB,{home}/dicom,{home}/truth.nii.gz")
    convert, segment = (folder / f"shards/{name}.parquet" for name in ("convert", "segment"))
    convert_dicom(folder / "sheet.csv", ["B"], folder / "subjects", convert)
    segment_muscles(convert, folder / "subjects", segment, *MODEL, "cpu")
    torch.manual_seed(3)
    FORM.save(folder / "axial.safetensors", AxialNet())
    return folder


def rows_with(labelled, monkeypatch, level, sd, pinned=None, sagittal=()):
    """Return the rows of find_levels with an axial source that tells one level for all slices."""

    def told(model, stacks, geometry):
        assert [len(stack.array) for stack in stacks] == [len(geometry.stack)]
        count = len(geometry.stack)
        return FoundLevels(np.full(count, level), np.full(count, sd), find_levels.MOST_AXIAL_SD)

    monkeypatch.setattr(axial_levels, "levels_from_axial", told)
    model = labelled / "axial.safetensors"
    out = labelled / f"shards/{level}_{sd}.parquet"
    find_levels.find_levels(
        labelled / "shards/segment.parquet",
        labelled / "sheet.csv",
        labelled / "subjects",
        out,
        *sagittal,
        axial_model=model,
        axial_sha256=pinned or f"{level:.1f}{sd:.1f}".replace(".", "") * 16,
        workers=0,
    )
    return pq.read_table(out).to_pandas()


@pytest.fixture
def any_model(monkeypatch):
    """Let every SHA-256 be right, so that results with another one are made anew."""
    monkeypatch.setattr(find_levels, "check_sha256", lambda *given: None)


def test_certain_levels_from_axial_slices_are_used_and_uncertain_ones_told(
    labelled, monkeypatch, any_model
):
    rows = rows_with(labelled, monkeypatch, 3.2, 0.2)
    assert set(rows.level_source) == {"axial"}
    assert np.allclose(rows.level_position, 3.2)
    assert np.allclose(rows.level_sd, 0.2)
    rows = rows_with(labelled, monkeypatch, 3.2, 0.4)
    assert set(rows.level_source) == {"none"}
    assert rows.level_position.isna().all()
    assert np.allclose(rows.level_axial, 3.2)


@pytest.mark.parametrize(
    ("sure", "off", "used"),
    [(False, 1.0, "axial"), (False, 0.3, "sagittal"), (True, 1.0, "sagittal")],
)
def test_an_unclear_sagittal_series_that_the_muscles_contradict_is_told_not_used(
    labelled, monkeypatch, any_model, sure, off, used
):
    def from_sagittal(model, volume, geometry, n_lumbar, by_muscles):
        assert np.allclose(by_muscles.level, 3.2)
        count = len(geometry.stack)
        naming = Naming.SACRUM if sure else Naming.UNCLEAR
        return FoundLevels(np.full(count, 3.2 - off), np.full(count, 0.3)), naming

    monkeypatch.setattr(sagittal_levels, "levels_from_sagittal", from_sagittal)
    rows = rows_with(
        labelled, monkeypatch, 3.2, 0.2, sagittal=(LEVELS_MODEL[0], f"{used}{sure}{off}")
    )
    assert set(rows.level_source) == {used}
    assert np.allclose(rows.level_sagittal, 3.2 - off)
    assert np.allclose(rows.level_axial, 3.2)
    (told,) = read_outcomes(labelled / "shards/3.2_0.2.parquet")
    assert ("level-uncertain" in told.warnings) == (not sure or off > 0.5)
    assert ("differ by up to 1.0" in (told.message or "")) == (off > 0.5)


def test_labels_that_lack_muscles_tell_no_levels_and_name_no_discs(
    labelled, monkeypatch, any_model
):
    def from_sagittal(model, volume, geometry, n_lumbar, by_muscles):
        assert by_muscles is None
        count = len(geometry.stack)
        return FoundLevels(np.full(count, 2.7), np.full(count, 0.1)), Naming.SACRUM

    monkeypatch.setattr(sagittal_levels, "levels_from_sagittal", from_sagittal)
    psoas = frozenset({("psoas_major", side) for side in SIDES})
    monkeypatch.setattr(SubjectFolder, "not_labelled", lambda folder, stack: psoas)
    rows = rows_with(labelled, monkeypatch, 3.3, 0.2, sagittal=(LEVELS_MODEL[0], "lacking"))
    assert set(rows.level_source) == {"sagittal"}
    assert rows.level_axial.isna().all()


@pytest.mark.parametrize("side", SIDES)
def test_labels_of_one_side_tell_no_levels(labelled, monkeypatch, any_model, side):
    values = [label.value for label in LABELS if label.side == side]

    def of_side(path):
        volume = read_volume(path)
        return volume.with_array(volume.array * np.isin(volume.array, values))

    monkeypatch.setattr(find_levels, "read_volume", of_side)
    rows = rows_with(labelled, monkeypatch, 3.4, 0.2, pinned=side)
    assert rows.level_axial.isna().all()
    assert set(rows.level_source) == {"none"}


def test_another_model_than_the_pinned_one_is_refused(labelled, monkeypatch):
    with pytest.raises(InputError):
        rows_with(labelled, monkeypatch, 3.2, 0.2, pinned="0" * 64)


def test_sources_that_are_half_a_level_apart_are_told_if_both_are_certain():
    sagittal = FoundLevels(np.array([3.0, 2.0]), np.array([0.1, 0.1]))
    sources = {
        SAGITTAL_LEVELS: sagittal,
        AXIAL_LEVELS: FoundLevels(sagittal.level + 0.7, np.full(2, 0.2), find_levels.MOST_AXIAL_SD),
    }
    assert "sagittal and axial differ by up to 0.7" in differences(sources)
    sources[AXIAL_LEVELS] = FoundLevels(
        sagittal.level + 0.7, np.full(2, 0.4), find_levels.MOST_AXIAL_SD
    )
    assert differences(sources) == ""


def test_the_step_finds_levels_with_a_network_of_any_weights(labelled):
    labels, _ = boxes({1: (100, 120), 2: (100, 40), 7: (180, 90)})
    affine = np.diag([*SPACING_MM[::-1], 5.0, 1.0])
    stack = Volume(np.repeat(labels[None], 3, axis=0), LPS_TO_RAS @ affine)
    affines = np.repeat(affine[None], 3, axis=0)
    affines[:, 2, 3] = 5.0 * np.arange(3)
    geometry = SliceGeometry(np.ones(3, int), np.arange(3), affines, np.full((3, 2), labels.shape))
    found = levels_from_axial(labelled / "axial.safetensors", [stack], geometry)
    assert (np.diff(found.level) < 0).all()
    assert np.diff(found.level) == pytest.approx(-5 / 35, rel=0.1)
    assert (found.sd > 0.3).all()
