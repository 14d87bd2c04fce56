"""Fat / (fat + water): exact sums, the noise floor, and swapped fat and water."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from measure_scene import outlines

from dixon_phantoms import dixon_stack
from imaging_checks import convert_one
from made_from import CONFIGURATION
from paravert import shards, tables
from paravert.anatomy import label_value
from paravert.imaging.volume import Volume, read_volume, write_volume
from paravert.measure import dixon_fraction
from paravert.measure.dixon_fraction import (
    dixon_columns,
    find_swaps,
    no_dixon_columns,
    noise_sd,
    without_noise,
)
from paravert.measure.fat import measure_fat
from paravert.network.segment import segment_muscles
from paravert.shard_tables import read_outcomes
from paravert.subject_folder import SubjectFolder
from real_scans import DIXON, MASK, MASK_VALUES, judged, read_nifti

REPOSITORY = Path(__file__).parents[2]
MM = (1.0, 1.0)
ERODED, FRACTION, REASON = (f"{kind}_dixon" for kind in ("eroded", "fat_fraction", "reason"))
VOLUNTEER = 11  # the fattiest


@pytest.fixture(scope="module")
def phantom():
    return dixon_stack(VOLUNTEER)


def planted(share=0.1):
    """Water and fat of eight muscles in fat, without noise; air is 0."""
    labels = outlines(3)
    row, column = np.mgrid[: labels.shape[1], : labels.shape[2]]
    body = ((row - 65) / 66) ** 2 + ((column - 100) / 98) ** 2 <= 1
    fat = np.where(labels > 0, 100 * share, np.where(body, 95.0, 0.0))
    water = np.where(labels > 0, 100 * (1 - share), np.where(body, 5.0, 0.0))
    return water, fat, labels


# --- the fraction --------------------------------------------------------------------------------


def test_it_is_the_sum_of_fat_over_the_sum_of_both():
    random = np.random.default_rng(1)
    water, fat, labels = planted()
    water, fat = np.rint(random.uniform(200, 900, (2, *labels.shape)))
    columns = dixon_columns(water, fat, labels)
    for value in range(1, 9):
        for number in range(len(labels)):
            own = labels[number] == value
            expected = fat[number][own].sum() / (fat[number][own].sum() + water[number][own].sum())
            assert columns[FRACTION][number, value - 1] == pytest.approx(expected, abs=1e-12)
    assert (columns[REASON] == None).all()  # noqa: E711 an array


def test_columns_are_those_of_the_table():
    water, fat, labels = planted()
    names = {column.name for column in tables.DIXON_COLUMNS}
    assert set(dixon_columns(water, fat, labels)) == names == set(no_dixon_columns(labels))


def test_absent_blank_and_swapped_muscles_have_no_fraction_and_say_why():
    water, fat, labels = planted()
    labels[labels == 3] = 0
    water[1], fat[1] = 0, 0
    swapped = np.array([[False, False], [False, False], [True, False]])
    columns = dixon_columns(water, fat, labels, swapped)
    assert set(columns[REASON][:, 2]) == {"absent"}
    assert set(np.delete(columns[REASON][1], 2)) == {"single-value"}
    assert columns[REASON][2].tolist() == [
        *("fat-water-swapped", None, "absent", None),
        *("fat-water-swapped", None, "fat-water-swapped", None),
    ]
    for name in (FRACTION, ERODED):
        known = np.equal(columns[REASON], None)
        assert np.isfinite(columns[name][known]).all()
        assert np.isnan(columns[name][~known]).all()


def test_without_dixon_every_muscle_that_is_there_says_so():
    _, _, labels = planted()
    labels[labels == 3] = 0
    reason = no_dixon_columns(labels)[REASON]
    assert set(reason[:, 2]) == {"absent"}
    assert set(np.delete(reason, 2, axis=1).ravel()) == {"no-dixon"}


# --- the noise floor -----------------------------------------------------------------------------


def rician(signal, noise, pixels=200_000, seed=0):
    channels = np.random.default_rng(seed).normal(0, noise, (2, pixels))
    return np.hypot(signal + channels[0], channels[1])


@pytest.mark.parametrize(
    ("signal", "as_it_is", "corrected"),
    [(0, 1.25, 0.34), (0.5, 0.83, -0.01), (1, 0.55, -0.11), (2, 0.27, -0.02), (5, 0.10, -0.01)],
)
def test_the_mean_without_noise_floor_is_near_the_signal(signal, as_it_is, corrected):
    """In units of the noise's SD."""
    image = rician(signal, 1.0)
    assert image.mean() - signal == pytest.approx(as_it_is, abs=0.01)
    assert without_noise(image, 1.0).mean() - signal == pytest.approx(corrected, abs=0.02)


@pytest.mark.parametrize("times", [0.5, 1.0, 2.0])
def test_the_noise_is_found_in_the_air(times):
    stack = dixon_stack(0, count=2, noise_times=times)
    found = noise_sd(stack.images["water"], stack.images["fat"])
    assert found == pytest.approx(stack.noise / np.sqrt(2), rel=0.02)  # two echoes are averaged


@pytest.mark.parametrize("kind", ["blank", "masked", "no air", "real part"])
def test_no_noise_is_found_where_the_air_does_not_show_it(phantom, kind):
    water, fat = phantom.images["water"].copy(), phantom.images["fat"].copy()
    body = water + fat > 8 * phantom.noise
    if kind == "blank":
        water[~body] = fat[~body] = 0
    elif kind == "masked":
        water[~body] = fat[~body] = 0.02
    elif kind == "no air":
        water, fat = water[:, 150:200, 100:200], fat[:, 150:200, 100:200]
    else:  # noise of one channel: |N(0, 1)| is no magnitude of two
        noise = np.abs(np.random.default_rng(1).normal(0, 0.02, (2, *water.shape)))
        water, fat = (np.where(body, i, n) for i, n in zip((water, fat), noise, strict=True))
    assert noise_sd(water, fat) == 0


def test_an_image_smaller_than_a_block_has_no_measurable_noise():
    image = np.random.default_rng(2).rayleigh(size=(30, 12, 40))
    assert noise_sd(image, image) == 0


def test_tissue_that_varies_from_water_to_fat_is_not_taken_for_noise():
    """With a share of fat drawn evenly, both images are distributed as noise and equally strong."""
    share = np.random.default_rng(3).random((2, 160, 160))
    share[:, :, 64:] = 0.1
    water, fat = 500 * (1 - share), 500 * share
    assert noise_sd(water, fat) == 0
    labels = np.full(share.shape, 5, np.uint8)
    assert dixon_columns(water, fat, labels)[FRACTION][:, 4] == pytest.approx(0.26, abs=0.01)


@pytest.mark.parametrize(
    ("times", "left", "floor"), [(0.5, 0.002, 0.005), (1.0, 0.002, 0.015), (2.0, 0.008, 0.04)]
)
def test_the_noise_floor_is_taken_out_of_phantoms(monkeypatch, times, left, floor):
    """Against the same images without noise; the largest error is that of psoas, the leanest."""
    errors, uncorrected = [], []
    for index in (0, VOLUNTEER):
        clean, noisy = dixon_stack(index, noise_times=1e-9), dixon_stack(index, noise_times=times)
        images = noisy.images["water"], noisy.images["fat"], noisy.labels
        errors.append(dixon_columns(*images)[FRACTION])
        monkeypatch.setattr(dixon_fraction, "noise_sd", lambda *_: 0.0)
        uncorrected.append(dixon_columns(*images)[FRACTION])
        true = dixon_columns(clean.images["water"], clean.images["fat"], clean.labels)[FRACTION]
        monkeypatch.undo()
        errors[-1] -= true
        uncorrected[-1] -= true
    error, before = (np.nanmean(np.concatenate(found), axis=0) for found in (errors, uncorrected))
    assert np.abs(error).max() < left
    assert before.max() > floor


@pytest.mark.parametrize("index", [0, 7, VOLUNTEER, 16])
def test_the_planted_fat_of_phantoms_is_found(index):
    """The outermost pixels of thin muscles show some of the fat around them."""
    stack = dixon_stack(index)
    columns = dixon_columns(stack.images["water"], stack.images["fat"], stack.labels)
    error = np.nanmean(columns[FRACTION] - stack.fat, axis=0)
    assert np.abs(error).max() < 0.035
    back = np.nanmean(columns[FRACTION] - stack.fat, axis=0)[4:]
    assert np.abs(back).max() < 0.01


# --- swaps ---------------------------------------------------------------------------------------


def swaps_of(stack, water, fat):
    return find_swaps(water, fat, stack.labels, (stack.pixel_mm, stack.pixel_mm))


@pytest.mark.parametrize("index", [0, 7, VOLUNTEER, 16])
def test_swapped_images_are_found_whole_and_by_side(index):
    stack = dixon_stack(index)
    water, fat = stack.images["water"], stack.images["fat"]
    assert not swaps_of(stack, water, fat).sides.any()
    assert swaps_of(stack, water, fat).sentence is None
    turned = swaps_of(stack, fat, water)
    assert turned.whole
    assert "turned back" in turned.sentence
    half = water.shape[2] // 2
    left = np.arange(water.shape[2]) >= half
    partly = swaps_of(stack, np.where(left, fat, water), np.where(left, water, fat))
    assert not partly.whole
    assert partly.sides.tolist() == [[True, False]] * 4
    assert "left in 4 of 4 slices" in partly.sentence


def test_slices_that_are_swapped_are_told_apart(phantom):
    water, fat = phantom.images["water"].copy(), phantom.images["fat"].copy()
    water[1], fat[1] = phantom.images["fat"][1], phantom.images["water"][1]
    found = swaps_of(phantom, water, fat)
    assert found.sides.tolist() == [[False] * 2, [True] * 2, [False] * 2, [False] * 2]
    assert not found.whole


def test_a_lean_back_with_thick_skin_is_not_swapped():
    water, fat, labels = planted(0.03)
    skin = (labels == 0) & (water + fat > 0)
    water[skin], fat[skin] = 60, 5  # no layer of fat is left
    found = find_swaps(water, fat, labels, MM)
    assert not found.sides.any()
    assert not found.whole


# --- the step ------------------------------------------------------------------------------------


def measured(folder, water, fat, labels, header="dixon-fat"):
    """Run measure_fat on a subject with given labels; return its rows and outcome."""
    home = SubjectFolder(folder / "S1")
    affine = np.diag([-1.0, -1.0, 6.0, 1.0])
    for kind, array in (("image", fat), ("water", water), ("labels", labels)):
        write_volume(home.stack_file(kind, 1), Volume(array, affine))
    place = {"slab_mm": 6.0, "slab_source": "positions", "overlaps": False, "affine": [0.0] * 16}
    geometry = [
        place
        | {"stack": 1, "slice": n, "position_mm": 6.0 * n, "tilt_deg": 0.0, "warnings": []}
        | {"row_spacing_mm": 1.0, "column_spacing_mm": 1.0, "header_sequence": header}
        for n in range(len(labels))
    ]
    table = tables.from_rows(tables.GEOMETRY, geometry)
    tables.write(home.slices_file, tables.GEOMETRY, table, {})
    segment = folder / "segment.parquet"
    shards.work_through(
        "segment_muscles",
        [shards.Task("S1", {})],
        lambda task, scratch: shards.Product([{"labels_source": "sheet"}]),
        folder=folder,
        out=segment,
    )
    write_volume(home.stack_file("labels", 1), Volume(labels, affine))
    measure_fat(segment, folder, folder / "fat.parquet")
    rows = pq.read_table(folder / "fat.parquet").to_pylist()
    return rows, next(iter(read_outcomes(folder / "fat.parquet")))


def test_the_step_writes_the_fraction_without_warnings(tmp_path):
    water, fat, labels = planted(0.2)
    rows, outcome = measured(tmp_path, water, fat, labels)
    assert {round(row[FRACTION], 9) for row in rows} == {0.2}
    assert {row[REASON] for row in rows} == {None}
    assert outcome.warnings == ()


def test_the_step_turns_swapped_images_back_and_says_so(tmp_path):
    water, fat, labels = planted(0.2)
    rows, outcome = measured(tmp_path, fat, water, labels)
    assert {round(row[FRACTION], 9) for row in rows} == {0.2}
    assert outcome.warnings == ("fat-water-swapped",)
    assert outcome.message == "stack 1: fat and water were swapped, and were turned back"


def test_a_swapped_side_has_no_fraction(tmp_path):
    water, fat, labels = planted(0.2)
    half = np.arange(labels.shape[2]) < 100
    rows, outcome = measured(
        tmp_path, np.where(half, fat, water), np.where(half, water, fat), labels
    )
    assert {row[REASON] for row in rows if row["side"] == "right"} == {"fat-water-swapped"}
    assert {row[FRACTION] for row in rows if row["side"] == "right"} == {None}
    assert {round(row[FRACTION], 9) for row in rows if row["side"] == "left"} == {0.2}
    for method in tables.FAT_METHODS:  # the fat image is half a water image
        assert {row[f"reason_{method}"] for row in rows} == {"fat-water-swapped"}
    assert outcome.warnings == ("fat-water-swapped",)
    assert "right in 3 of 3 slices" in outcome.message


# --- a real volunteer ----------------------------------------------------------------------------


@pytest.mark.real
def test_the_fraction_of_the_real_volunteer_is_exact_on_manual_masks(real_data):
    water, fat = (read_nifti(real_data / DIXON.format(kind)) for kind in ("water", "fat"))
    mask = read_nifti(real_data / MASK.format("water")).array
    labels = np.choose(mask, [0, 6, 8, 7, 5]).astype(np.uint8)
    assert noise_sd(water.array, fat.array) == 0  # the air was masked
    columns = dixon_columns(water.array, fat.array, labels)
    order = [6, 8, 7, 5]  # label value of each value of the mask
    for value, label in zip(sorted(MASK_VALUES.values()), order, strict=True):
        for number in range(len(mask)):
            own = mask[number] == value
            f, w = (float(part.array[number][own].sum()) for part in (fat, water))
            found = columns[FRACTION][number, label - 1]
            assert found == pytest.approx(f / (f + w), abs=1e-9) or not own.any()


@pytest.mark.real
def test_swaps_of_the_real_volunteer_are_found(real_data):
    water, fat = (read_nifti(real_data / DIXON.format(kind)) for kind in ("water", "fat"))
    mask = read_nifti(real_data / MASK.format("water")).array
    labels = np.choose(mask, [0, 6, 8, 7, 5]).astype(np.uint8)
    spacing = water.pixel_spacing_mm
    water, fat = (part.array.astype(np.float32) for part in (water, fat))
    assert find_swaps(water, fat, labels, spacing).sentence is None
    assert find_swaps(fat, water, labels, spacing).whole
    left = np.arange(water.shape[2]) >= 200
    partly = find_swaps(np.where(left, fat, water), np.where(left, water, fat), labels, spacing)
    assert partly.sides.all(axis=0).tolist() == [True, False]
    assert not partly.sides[:, 1].any()


@pytest.mark.real
@pytest.mark.long
def test_the_files_of_the_real_volunteer_give_its_fat_with_the_networks_labels(real_data, tmp_path):
    """From the folder of NIfTI files to the fat fraction, by the labels of the network.

    The aim is .02 of the manual masks'. The shipped network misses it by .004 in multifidus (docs/fat_domain.md).
    """
    files, folder = tmp_path / "files", tmp_path / "results"
    files.mkdir()
    for kind in ("water", "fat"):
        (files / f"{kind}.nii.gz").symlink_to(real_data / DIXON.format(kind))
    converted = convert_one(tmp_path, "files")
    assert converted.row["warnings"] == ["dixon-origins-differ"]
    model = REPOSITORY / CONFIGURATION["model"]["file"]
    segment = tmp_path / "segment.parquet"
    sha256 = CONFIGURATION["model"]["sha256"]
    segment_muscles(tmp_path / "convert.parquet", folder, segment, model, sha256, "cpu")
    found = read_volume(converted.home / "labels/stack-01.nii.gz").array
    water, fat = (read_nifti(real_data / DIXON.format(kind)) for kind in ("water", "fat"))
    mask = read_nifti(real_data / MASK.format("water")).array
    overlaps = {key: judged(found, mask)[key][0] for key in MASK_VALUES}
    assert np.mean(list(overlaps.values())) > 0.9  # .912; of one image alone .895 at most
    measure_fat(segment, folder, tmp_path / "fat.parquet")
    rows = pq.read_table(tmp_path / "fat.parquet").to_pylist()
    for muscle in ("erector_spinae", "multifidus"):
        own = np.isin(mask, [MASK_VALUES[muscle, side] for side in ("left", "right")])
        f, w = (float(part.array[own].sum()) for part in (fat, water))
        shares, areas = [], []
        for row in rows:
            if row["muscle"] == muscle and row[FRACTION] is not None:
                value = label_value(muscle, row["side"])
                shares.append(row[FRACTION])
                areas.append((found[row["slice"]] == value).sum())
        assert np.average(shares, weights=areas) == pytest.approx(f / (f + w), abs=0.025)
