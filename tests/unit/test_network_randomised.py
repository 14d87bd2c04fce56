"""Training slices: physics of the contrasts, places, artefacts, and the same slices every time."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from paravert.anatomy import LABEL_VALUES, LABELS, OTHER_SIDE
from paravert.errors import InputError
from paravert.network import artefacts, contrast
from paravert.network import randomised as slices
from paravert.network.architecture import Architecture
from paravert.network.batches import EpochLoader, SyntheticSlices, held_out_samples
from paravert.network.contrast import SEQUENCES, Contrast, drawn_contrast
from paravert.network.randomised import Anatomies, PicturePose, drawn_pictures, picture_grid, placed
from paravert.network.surroundings import with_surroundings
from paravert.synthesis.anatomies import ANATOMY_COLUMNS, SEED_KEY, SIZE_PX, SPACING_MM, sections_of
from paravert.synthesis.muscle_fat import RANKS, fat_by_rank
from paravert.synthesis.tissues import TISSUES, Tissue
from trainings import loop_settings

CPU = torch.device("cpu")
SETTINGS = loop_settings(
    architecture=Architecture(width=4, levels=4), size_px=64, spacing_mm=3.0, batch_size=4, seed=5
)
SHAPE = {"size_px": 96, "spacing_mm": 2.0, "device": CPU}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("anatomies") / "two.parquet"
    rows = [row for person in (0, 1) for row in sections_of(8, person)]
    columns = ANATOMY_COLUMNS.with_metadata({SEED_KEY: "8"})
    pq.write_table(pa.Table.from_pylist(rows, schema=columns), path)
    return path


@pytest.fixture(scope="module")
def anatomies(table):
    return Anatomies(table)


# --- contrasts -----------------------------------------------------------------------------------


def mean_signal(sequence, count=60):
    drawn = [drawn_contrast(np.random.default_rng(seed), sequence) for seed in range(count)]
    signal = np.median([np.abs(one.water + one.of_fat) for one in drawn], axis=0)
    lean, fat = (np.median([abs(getattr(one, name)) for one in drawn]) for name in ("lean", "fat"))
    return signal, lean, fat


@pytest.mark.parametrize(
    ("sequence", "least", "most"),
    [
        ("t1", 1.8, 6),
        ("t2", 2.0, 12),
        ("stir", 0.0, 0.6),
        ("t2_fat_saturated", 0.0, 1.6),
        ("dixon_water", 0.0, 0.5),
        ("dixon_fat", 6.0, np.inf),
        ("opposed_phase", 1.0, 6),
    ],
)
def test_fat_is_as_bright_against_muscle_as_the_sequence_has_it(sequence, least, most):
    _, lean, fat = mean_signal(sequence)
    assert least <= fat / lean <= most


def test_fluid_is_bright_in_t2_and_dark_in_t1():
    t1, lean, _ = mean_signal("t1")
    assert t1[Tissue.CSF] < lean
    t2, lean, fat = mean_signal("t2")
    assert t2[Tissue.CSF] > fat > lean
    stir, lean, fat = mean_signal("stir")
    assert stir[Tissue.CSF] > 2 * lean


def test_discs_are_as_dark_as_muscle_as_often_as_stated():
    drawn = [drawn_contrast(np.random.default_rng(seed), "t2") for seed in range(400)]
    dark = np.array([one.water[Tissue.NUCLEUS] < 1.7 * one.lean for one in drawn])
    assert dark.mean() == pytest.approx(contrast.DARK_DISC_SHARE, abs=0.07)
    for one in (one for one, own in zip(drawn, dark, strict=True) if own):
        assert one.water[Tissue.NUCLEUS] == one.water[Tissue.INNER_ANNULUS]
        assert one.water[Tissue.NUCLEUS] > 0.4 * one.lean
    with_rim = [one.water[Tissue.ANNULUS] == one.water[Tissue.NUCLEUS] for one in drawn]
    assert np.mean(with_rim) == pytest.approx(contrast.DARK_DISC_SHARE / 2, abs=0.06)


def test_fat_and_water_oppose_each_other_in_opposed_phase_and_after_an_inversion_alone():
    for sequence in SEQUENCES:
        drawn = [drawn_contrast(np.random.default_rng(seed), sequence) for seed in range(20)]
        opposed = {one.lean * one.fat < 0 for one in drawn}
        expected = {"opposed_phase": {True}, "stir": {True, False}}  # fat is near its null there
        assert opposed == expected.get(sequence, {False}), sequence


def test_free_contrasts_tell_muscle_from_fat():
    for seed in range(50):
        drawn = contrast._free(np.random.default_rng(seed))
        assert abs(drawn.water[LABEL_VALUES[0]] - drawn.fat) >= 0.15


@pytest.mark.parametrize("sequence", ["t1", "stir", "opposed_phase", "t2_fat_saturated"])
def test_the_fat_of_a_tissue_is_as_much_of_pure_fat_as_it_holds(sequence):
    drawn = contrast._physical(sequence, np.random.default_rng(2))
    rows = {int(tissue): row[3] for tissue, row in contrast.WATER_AND_FAT.items()}
    expected = np.array([rows.get(value, 0.0) for value in range(TISSUES)])
    assert drawn.of_fat == pytest.approx(expected * drawn.fat, abs=1e-9)
    assert (drawn.water >= 0).all() or sequence == "stir"
    assert (drawn.fat < 0) == (sequence == "opposed_phase")


def test_every_sequence_is_drawn_as_often_as_stated():
    rng = np.random.default_rng(3)
    drawn = [drawn_contrast(rng).sequence for _ in range(2000)]
    shares = np.array(list(SEQUENCES.values())) / sum(SEQUENCES.values())
    for sequence, share in zip(SEQUENCES, shares, strict=True):
        assert drawn.count(sequence) / 2000 == pytest.approx(share, abs=0.03)


def test_organs_look_like_muscle_now_and_then_and_kidneys_are_often_even():
    drawn = [drawn_contrast(np.random.default_rng(seed), "t2") for seed in range(400)]
    signal = np.array([one.water + one.of_fat for one in drawn])
    lean = np.array([one.lean for one in drawn])
    for tissue in (Tissue.LIVER, Tissue.SPLEEN, Tissue.BOWEL_FLUID):
        alike = np.abs(np.log(signal[:, tissue] / lean)) < 3 * contrast.LOG_TISSUE_SD
        only_water = np.array([one.of_fat[tissue] for one in drawn]) == 0
        assert (alike & only_water).mean() >= 0.8 * contrast.LIKE_MUSCLE_SHARE
    even = signal[:, Tissue.KIDNEY] == signal[:, Tissue.MEDULLA]
    expected = 1 - (1 - contrast.EVEN_KIDNEY_SHARE) * (1 - contrast.LIKE_MUSCLE_SHARE)
    assert even.mean() == pytest.approx(expected, abs=0.06)


def test_the_fat_of_the_cavity_is_partly_lean_in_the_slim(monkeypatch):
    seeds = range(300)
    monkeypatch.setattr(contrast, "SLIM_SHARE", 0.0)
    plain = [drawn_contrast(np.random.default_rng(seed), "dixon_fat") for seed in seeds]
    monkeypatch.undo()
    drawn = [drawn_contrast(np.random.default_rng(seed), "dixon_fat") for seed in seeds]
    fat = Tissue.VISCERAL_FAT
    left = np.array(
        [
            (one.of_fat[fat] / one.fat) / (before.of_fat[fat] / before.fat)
            for one, before in zip(drawn, plain, strict=True)
        ]
    )
    slim = left < 0.99
    assert slim.mean() == pytest.approx(contrast.SLIM_SHARE, abs=0.05)
    assert left[slim].min() >= 1 - contrast.SLIM_WATER[1] - 1e-5
    assert left[slim].max() <= 1 - contrast.SLIM_WATER[0] + 1e-5
    assert left[~slim] == pytest.approx(1.0, rel=1e-5)


def test_septa_are_faint_in_half_of_the_slices_down_to_the_signal_of_muscle():
    drawn = [drawn_contrast(np.random.default_rng(seed), "t1") for seed in range(400)]
    signal = np.array([one.water[Tissue.SEPTUM] + one.of_fat[Tissue.SEPTUM] for one in drawn])
    lean, fat = (np.array([getattr(one, name) for one in drawn]) for name in ("lean", "fat"))
    visible = (signal - lean) / (fat - lean)
    assert 0.3 < np.median(visible) < 0.6
    expected = contrast.FAINT_SEPTUM_SHARE * 0.15 / 0.55  # a septum is about half fat
    assert (visible < 0.15).mean() == pytest.approx(expected, abs=0.06)


# --- places --------------------------------------------------------------------------------------


def test_a_picture_that_is_not_moved_shows_the_middle_of_the_section():
    points = placed(
        picture_grid(4, 2.0, 1, CPU), [PicturePose(np.eye(2), np.zeros(2), False)], [WAVE]
    )
    assert points[0, 0, 0].tolist() == [-3, -1, 1, 3]
    assert points[0, 1, :, 0].tolist() == [-3, -1, 1, 3]


WAVE = torch.zeros(1, 2, 4, 4)


def test_subpixels_lie_evenly_about_their_pixel():
    fine, coarse = (picture_grid(5, 1.2, factor, CPU) for factor in (2, 1))
    means = torch.nn.functional.avg_pool2d(fine[None], 2)[0]
    assert torch.allclose(means, coarse, atol=1e-5)


# --- pictures ------------------------------------------------------------------------------------


@pytest.fixture
def bare(monkeypatch):
    """Nothing but the anatomy in a contrast: no artefact, no texture, no move, no fat in muscle."""
    still = PicturePose(np.eye(2), np.zeros(2), False)
    signal = np.linspace(0.1, 1, TISSUES).astype(np.float32)
    nothing = np.zeros(TISSUES, np.float32)
    plain = Contrast("plain", signal, nothing, nothing, 0.5, 0.9)
    monkeypatch.setattr(slices, "drawn_place", lambda rng: still)
    monkeypatch.setattr(slices, "drawn_waves", lambda *_: [WAVE])
    monkeypatch.setattr(slices, "drawn_contrast", lambda rng: plain)
    monkeypatch.setattr(slices, "_standardised", lambda images, rng: images)
    monkeypatch.setattr(slices, "_septa", lambda tissue, *_: torch.ones(tissue.shape))
    monkeypatch.setattr(slices, "with_hidden_septa", lambda maps, *_: maps)
    monkeypatch.setattr(slices, "fat_lines", lambda muscle, *_: torch.zeros(muscle.shape))
    monkeypatch.setattr(slices, "with_even_fat", lambda fraction, *_: fraction)
    for name in ("blurred", "ghosted", "moved", "as_stored"):
        monkeypatch.setattr(artefacts, name, lambda images, *_: images)
    whole = lambda images, *_: (images, torch.ones(images.shape, dtype=torch.bool))  # noqa: E731
    monkeypatch.setattr(artefacts, "wrapped", whole)
    monkeypatch.setattr(artefacts, "noisy", lambda images, *_: images)
    monkeypatch.setattr(artefacts, "soft_borders", lambda parts, *_: parts)
    monkeypatch.setattr(slices, "with_surroundings", lambda maps, *_: maps)
    for name in ("coil_field", "bright_rim", "saturation_band", "lateral_saturation"):
        monkeypatch.setattr(artefacts, name, lambda *_: torch.ones(()))
    unshifted = lambda spacing_mm, down, *_: np.zeros((len(down), 2), int)  # noqa: E731
    monkeypatch.setattr(artefacts, "drawn_shifts_px", unshifted)
    everything = lambda shape, rng: torch.ones(shape, dtype=torch.bool)  # noqa: E731
    monkeypatch.setattr(artefacts, "field_of_view", everything)
    monkeypatch.setattr(
        artefacts, "small_field", lambda points, rng: everything(points[:, 0].shape, rng)
    )
    lean = np.zeros((1, len(LABELS) + 1, RANKS), np.float32)
    monkeypatch.setattr(slices, "_drawn_fat", lambda *_: lean)
    return signal


def test_picture_and_labels_are_those_of_the_section(anatomies, bare):
    maps = anatomies.sections([5])[0].numpy()
    size = {"size_px": SIZE_PX // 2, "spacing_mm": 2 * SPACING_MM, "device": CPU}
    drawn = drawn_pictures(anatomies, np.array([5]), seed=(1,), **size)
    table = bare.copy()
    table[list(LABEL_VALUES)] = 0.5
    blocks = (
        table[maps[:3]].mean(axis=0).reshape(SIZE_PX // 2, 2, SIZE_PX // 2, 2).mean(axis=(1, 3))
    )
    assert drawn.images[0].numpy() == pytest.approx(blocks, abs=1e-5)
    quarters = maps[1].reshape(SIZE_PX // 2, 2, SIZE_PX // 2, 2)
    pure = (quarters == quarters[:, :1, :, :1]).all(axis=(1, 3))
    expected = np.where(quarters[:, 0, :, 0] <= 8, quarters[:, 0, :, 0], 0)
    assert (drawn.labels[0].numpy()[pure] == expected[pure]).all()


def test_structures_beside_the_muscles_have_the_signal_of_their_tissue(
    anatomies, bare, monkeypatch
):
    number = int(np.abs(anatomies.levels - 2.5).argmin())
    made = []

    def kept(*given):
        made.append(with_surroundings(*given))
        return made[-1]

    monkeypatch.setattr(slices, "with_surroundings", kept)
    size = {"size_px": SIZE_PX // 2, "spacing_mm": 2 * SPACING_MM, "device": CPU}
    image = drawn_pictures(anatomies, np.array([number]), seed=(1,), **size).images[0].numpy()
    painted = made[0][0]
    table = bare.copy()
    table[list(LABEL_VALUES)] = 0.5
    signal = table[painted[:3].numpy()].mean(axis=0).reshape(SIZE_PX // 2, 2, SIZE_PX // 2, 2)
    assert image == pytest.approx(signal.mean(axis=(1, 3)), abs=1e-5)
    assert (painted != anatomies.sections([number])[0]).sum() > 300


def test_labels_have_the_area_of_the_section(anatomies, bare):
    size = {"size_px": 320, "spacing_mm": 1.2, "device": CPU}
    found, truth = np.zeros((2, 9))
    for number in range(len(anatomies)):
        labels = drawn_pictures(anatomies, np.array([number]), seed=(1,), **size).labels.numpy()
        found += np.bincount(labels.ravel(), minlength=9) * 1.2**2
        tissues = anatomies.sections([number])[0, 1].numpy()
        truth += np.bincount(tissues.ravel(), minlength=9)[:9] * SPACING_MM**2
    assert found[1:] == pytest.approx(truth[1:], rel=0.012)


def test_a_mirrored_picture_has_its_sides_swapped(anatomies, bare, monkeypatch):
    straight = drawn_pictures(anatomies, np.array([5]), seed=(1,), **SHAPE)
    place = PicturePose(np.diag([-1.0, 1.0]), np.zeros(2), True)
    monkeypatch.setattr(slices, "drawn_place", lambda rng: place)
    mirrored = drawn_pictures(anatomies, np.array([5]), seed=(1,), **SHAPE)
    assert torch.allclose(mirrored.images, straight.images.flip(2), atol=1e-6)
    swapped = np.array(OTHER_SIDE, np.uint8)[straight.labels.flip(2).numpy()]
    assert (mirrored.labels.numpy() == swapped).all()
    left = straight.labels[0].numpy() == 5
    assert left.any()
    assert np.nonzero(left)[1].mean() > SHAPE["size_px"] / 2  # the subject's left lies on the right


def test_muscles_hold_fat_as_the_phantoms_do(monkeypatch):
    monkeypatch.setattr(slices, "FAT_SPREAD", (1.0, 1.0))
    drawn = slices._drawn_fat(40, np.random.default_rng(1))
    assert not drawn[:, 0].any()
    of_muscles = drawn[:, list(LABEL_VALUES)]
    assert of_muscles == pytest.approx(fat_by_rank(of_muscles.mean(axis=-1)), abs=1e-3)
    for label, means in zip(LABELS, of_muscles.mean(axis=-1).T, strict=True):
        expected = slices.FAT_LOGIT[label.muscle][0]
        assert np.median(np.log(means / (1 - means))) == pytest.approx(expected, abs=0.6)


def test_slices_follow_from_the_seed(anatomies):
    numbers = np.array([2, 9, 14])
    one, same, other = (
        drawn_pictures(anatomies, numbers, seed=(1, seed), **SHAPE) for seed in (4, 4, 5)
    )
    assert torch.equal(one.images, same.images)
    assert torch.equal(one.labels, same.labels)
    assert not torch.equal(one.images, other.images)


def test_slices_do_not_depend_on_the_number_of_threads(anatomies):
    before = torch.get_num_threads()
    drawn = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            small = SHAPE | {"size_px": 64}
            drawn.append(drawn_pictures(anatomies, np.arange(8), seed=(3,), **small).images)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*drawn)


def test_slices_are_finite_standardised_and_labelled(anatomies):
    for seed in range(6):
        drawn = drawn_pictures(anatomies, np.arange(24), seed=(seed,), **SHAPE)
        assert torch.isfinite(drawn.images).all()
        assert drawn.images.std((1, 2)).median() == pytest.approx(1.0, abs=0.3)
        assert int(drawn.labels.max()) <= 8
        assert (drawn.labels.flatten(1).amax(1) > 0).float().mean() > 0.7


# --- artefacts -----------------------------------------------------------------------------------


def test_noise_of_one_coil_without_signal_is_rayleigh(monkeypatch):
    class Quiet:
        def uniform(self, low, high, n):
            return np.full(n, np.log(0.05))

        def choice(self, values):
            return 1

        def random(self):
            return 1.0

    generator = torch.Generator().manual_seed(1)
    found = artefacts.noisy(torch.zeros(2, 200, 200), Quiet(), generator)
    assert found.mean().item() == pytest.approx(0.05 * np.sqrt(np.pi / 2), rel=0.01)


def test_soft_borders_are_a_ramp_about_the_border_and_nothing_else_changes(monkeypatch):
    for name, value in (("SOFT_SHARE", 1.0), ("SOFT_POINTS", (5,)), ("LEAST_SOFT", 1.0)):
        monkeypatch.setattr(artefacts, name, value)
    inside = torch.arange(40).repeat(2, 40, 1) < 20
    water, fat = inside.float(), (~inside).float() * 0.8
    soft = artefacts.soft_borders((water, fat), inside, np.random.default_rng(1))
    ramp = torch.tensor([1, 0.8, 0.6, 0.4, 0.2, 0])
    for part, expected in zip(soft, (ramp, 0.8 * (1 - ramp)), strict=True):
        assert part[0, 20, 17:23].tolist() == pytest.approx(expected.tolist(), abs=1e-6)
    far = torch.cat((torch.arange(17), torch.arange(23, 40)))
    assert torch.equal(soft[0][..., far], water[..., far])


def test_borders_are_soft_as_often_as_stated():
    inside = torch.arange(8).repeat(1, 8, 1) < 4
    rng = np.random.default_rng(2)
    changed = [
        not torch.equal(artefacts.soft_borders((inside.float(),), inside, rng)[0], inside.float())
        for _ in range(400)
    ]
    assert np.mean(changed) == pytest.approx(artefacts.SOFT_SHARE, abs=0.06)


def test_water_and_fat_cancel_where_a_blurred_voxel_holds_both(anatomies, bare, monkeypatch):
    """In opposed phase, signal is lost at the borders of muscle, more where the resolution is lower."""
    seen = []
    opposed = lambda rng: contrast.drawn_contrast(rng, "opposed_phase")  # noqa: E731
    monkeypatch.setattr(slices, "drawn_contrast", opposed)
    monkeypatch.setattr(artefacts, "blurred", lambda images, *_: seen.append(images) or images)
    for number in range(4):
        drawn_pictures(anatomies, np.array([number]), seed=(3, number), **SHAPE)
    for signed in seen:
        assert (signed < -0.05).float().mean() > 0.1
        assert (signed > 0.05).float().mean() > 0.1


def test_a_lower_resolution_keeps_the_mean_and_loses_detail():
    rng = np.random.default_rng(0)
    pictures = torch.rand(3, 64, 64)
    low = artefacts.blurred(pictures, artefacts.phase_runs_down(3, rng), rng)
    assert low.mean((1, 2)) == pytest.approx(pictures.mean((1, 2)), abs=0.01)
    assert (low.std((1, 2)) < pictures.std((1, 2))).all()


def test_some_fields_of_view_are_smaller_than_the_picture():
    inside = artefacts.field_of_view((400, 50, 60), np.random.default_rng(1))
    assert 0.1 < (~inside.flatten(1).all(1)).float().mean() < 0.25
    assert inside.float().mean() > 0.9


def test_outside_the_field_of_view_there_is_neither_signal_nor_label(anatomies, monkeypatch):
    half = torch.arange(SHAPE["size_px"]) < SHAPE["size_px"] // 2
    cut = lambda shape, rng: half[:, None].expand(shape[1:]).expand(shape)  # noqa: E731
    monkeypatch.setattr(artefacts, "field_of_view", cut)
    drawn = drawn_pictures(anatomies, np.arange(24), seed=(3,), **SHAPE)
    assert drawn.labels[:, half].any()
    assert not drawn.labels[:, ~half].any()
    beyond = drawn.images[:, ~half].flatten(1)
    assert torch.equal(beyond.amin(1), beyond.amax(1))


class Drawing(np.random.Generator):
    """Random numbers of which `random` is always the same: every fault in every picture, or none."""

    def __new__(cls, value):
        return super().__new__(cls, np.random.PCG64(1))

    def __init__(self, value):
        super().__init__(np.random.PCG64(1))
        self.value = value

    def random(self, n=None):
        return self.value if n is None else np.full(n, self.value)


NEAR = picture_grid(100, 2.0, 1, CPU)[None].expand(6, -1, -1, -1)


def test_a_saturation_band_darkens_the_belly_and_spares_the_back():
    left = artefacts.saturation_band(NEAR, Drawing(0.0))
    assert (left[:, :5].mean((1, 2)) < 0.6).all()
    assert left[:, 75:].min() > 0.97
    assert torch.equal(artefacts.saturation_band(NEAR, Drawing(1.0)), torch.ones(6, 100, 100))


def test_lateral_saturation_darkens_the_flanks_and_spares_the_spine():
    left = artefacts.lateral_saturation(NEAR, Drawing(0.0))
    x = NEAR[0, 0].abs()
    assert left[:, x < 25].min() > 0.97
    darkest = left.flatten(1).amin(1)
    assert (darkest < 0.75).all()
    assert (left[:, x > 90].amin(1) < 0.75).all()
    assert torch.equal(artefacts.lateral_saturation(NEAR, Drawing(1.0)), torch.ones(6, 100, 100))


def test_a_bright_rim_is_brightest_in_fat_and_fades_in_the_muscle_beneath():
    fat = torch.zeros((400, 100, 100), dtype=torch.bool)
    fat[:, 60:] = True
    rim = artefacts.bright_rim(fat, 1.2, np.random.default_rng(4))
    bright = rim.flatten(1).amax(1) > 1
    assert bright.float().mean() == pytest.approx(artefacts.RIM_SHARE, abs=0.08)
    assert torch.equal(rim[~bright], torch.ones_like(rim[~bright]))
    gain = rim[bright][:, 99, 50] - 1
    low, high = artefacts.RIM_GAIN
    assert low <= gain.min() < 0.2 < 0.7 < gain.max() <= high
    share = ((rim[bright][:, :60, 50] - 1) / gain[:, None]).flip(1)  # from the fascia to the front
    assert (share[:, 0] > 0.75).all()
    assert (share.diff(dim=1) <= 1e-6).all()
    assert share[:, 6].max() < 0.75  # 8 mm deep
    assert share[:, 24:].max() < 1e-6  # 29 mm


def test_a_small_field_of_view_is_a_square_about_the_spine():
    points = picture_grid(120, 2.0, 1, CPU)[None].expand(6, -1, -1, -1) + 10.0
    inside = artefacts.small_field(points, Drawing(0.0))
    for one in inside:
        rows, columns = one.any(1).nonzero()[:, 0], one.any(0).nonzero()[:, 0]
        assert one[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert 163 <= 2.0 * len(rows) <= 222
        assert len(rows) == len(columns)
        middle = points[0, :, rows.float().mean().int(), columns.float().mean().int()]
        assert (middle - torch.tensor(artefacts.SMALL_FIELD_AT_MM)).abs().max() < 35
    assert artefacts.small_field(points, Drawing(1.0)).all()
    shares = artefacts.small_field(points[:1].expand(400, -1, -1, -1), np.random.default_rng(2))
    share = (~shares.flatten(1).all(1)).float().mean()
    assert share == pytest.approx(artefacts.SMALL_FIELD_SHARE, abs=0.06)


def test_where_saturation_fails_fat_is_at_most_as_bright_as_without_it():
    saturated = np.array([0.05, 0.1, 0.2, 0.3, 0.1, 1.0])
    grown = artefacts.failing_saturation(NEAR, saturated, Drawing(0.0))
    bright = grown.flatten(1).numpy() * saturated[:, None]
    assert (bright.max(axis=1) <= 1 + 1e-5).all()
    assert (bright.max(axis=1)[:5] > 1.2 * saturated[:5]).all()
    assert torch.equal(grown[5], torch.ones(100, 100))
    spared = artefacts.failing_saturation(NEAR, saturated, Drawing(1.0))
    assert torch.equal(spared, torch.ones(6, 100, 100))


def test_chemical_shift_moves_fat_along_the_frequency_only():
    fat = torch.rand(6, 40, 40)
    down, everywhere = np.array([True, False] * 3), np.ones(6, bool)
    drawn = artefacts.drawn_shifts_px(0.1, down, everywhere, Drawing(0.0))
    assert (drawn[down, 1] == 0).all()
    assert (drawn[~down, 0] == 0).all()
    assert (np.abs(drawn).sum(axis=1) > 0).all()
    assert np.abs(drawn).max() <= 26
    for picture, own, (right, below) in zip(artefacts.shifted(fat, drawn), fat, drawn, strict=True):
        assert torch.equal(picture, own.roll(below, 0).roll(right, 1))
    assert not artefacts.drawn_shifts_px(0.1, down, everywhere, Drawing(1.0)).any()
    assert not artefacts.drawn_shifts_px(0.1, down, ~everywhere, Drawing(0.0)).any()
    assert not drawn_contrast(np.random.default_rng(1), "dixon_fat").shifts


@pytest.mark.parametrize(
    ("sequence", "fat_bounds"),
    [("t1", True), ("t2", True), ("opposed_phase", True), ("stir", False), ("dixon_water", False)],
)
def test_muscle_ends_where_the_brighter_of_fat_and_muscle_does(sequence, fat_bounds):
    drawn = [drawn_contrast(np.random.default_rng(seed), sequence) for seed in range(60)]
    assert np.mean([one.fat_bounds == fat_bounds for one in drawn]) > 0.8


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("shift", [(6, 0), (-6, 0), (0, 6), (0, -6)])
def test_labels_follow_the_edges_that_chemical_shift_shows(
    anatomies, bare, monkeypatch, shift, mirrored
):
    water, fat = np.full(TISSUES, 0.3, np.float32), np.zeros(TISSUES, np.float32)
    water[list(contrast.MOSTLY_FAT)], fat[list(contrast.MOSTLY_FAT)] = 0.0, 1.0
    drawn = Contrast("bright fat", water, fat, np.zeros(TISSUES, np.float32), 0.3, 1.0)
    place = PicturePose(np.diag([-1.0 if mirrored else 1.0, 1.0]), np.zeros(2), mirrored)
    monkeypatch.setattr(slices, "drawn_contrast", lambda rng: drawn)
    monkeypatch.setattr(slices, "drawn_place", lambda rng: place)
    still = drawn_pictures(anatomies, np.array([5]), seed=(1,), **SHAPE).labels
    monkeypatch.setattr(artefacts, "drawn_shifts_px", lambda *_: np.array([shift]))
    shown = drawn_pictures(anatomies, np.array([5]), seed=(1,), **SHAPE)
    bright = shown.images > 0.65
    share = {
        name: bright[labels > 0].float().mean()
        for name, labels in (("still", still), ("seen", shown.labels))
    }
    assert share["seen"] < 0.04 < 0.08 < share["still"]
    area = [int((labels > 0).sum()) for labels in (still, shown.labels)]
    assert area[1] == pytest.approx(area[0], rel=0.03)


def test_chemical_shift_moves_no_edge_between_muscle_and_what_is_not_fat():
    tissues = torch.full((1, SIZE_PX, SIZE_PX), int(Tissue.CORTEX), dtype=torch.uint8)
    tissues[:, 100:200, 100:150], tissues[:, 100:200, 150:200] = 5, 7
    place, still = [PicturePose(np.eye(2), np.zeros(2), False)], np.zeros((1, 2))
    points = picture_grid(SIZE_PX, SPACING_MM, 1, CPU)[None]
    found = slices._labels(tissues, points, still + 4 * SPACING_MM, place)
    assert torch.equal(found, slices._labels(tissues, points, still, place))
    assert set(found.unique().tolist()) == {0, 5, 7}


@pytest.mark.parametrize("of_fat", [0.9, -0.9])
def test_water_and_fat_of_a_voxel_are_those_of_its_layers(of_fat, monkeypatch):
    """Fat over two layers of muscle a quarter of which is fat, also where fat counts negative."""
    nothing = np.zeros(TISSUES, np.float32)
    water, fat = nothing.copy(), nothing.copy()
    water[5], water[Tissue.FAT], fat[Tissue.FAT] = 0.5, 0.05, of_fat
    quarter = np.tile(np.arange(RANKS) > 0.75 * (RANKS - 1), (1, len(LABELS) + 1, 1))
    quarter = quarter.astype(np.float32)
    monkeypatch.setattr(slices, "_drawn_fat", lambda *_: quarter)
    monkeypatch.setattr(slices, "_septa", lambda tissue, *_: torch.ones(tissue.shape))
    monkeypatch.setattr(slices, "fat_lines", lambda muscle, *_: torch.zeros(muscle.shape))
    monkeypatch.setattr(slices, "with_even_fat", lambda fraction, *_: fraction)
    maps = torch.zeros(1, 4, 64, 64, dtype=torch.uint8)
    maps[:, 0], maps[:, 1:3] = int(Tissue.FAT), 5
    maps[0, 3] = torch.linspace(0, 255, 64).round()[:, None]  # order of fat
    drawn = Contrast("two", water, fat, nothing, 0.5, of_fat)
    given = maps, [drawn], np.random.default_rng(1), torch.Generator().manual_seed(1)
    found = [part.mean().item() for part in slices._signal(*given)]
    share = float((maps[0, 3].float() / 255 > 0.75).float().mean())
    assert share == pytest.approx(0.25)
    assert found[0] == pytest.approx((0.05 + 2 * (1 - share) * 0.5) / 3, rel=1e-3)
    assert found[1] == pytest.approx((of_fat + 2 * share * of_fat) / 3, rel=1e-3)


def test_what_lies_beyond_the_field_wraps_to_its_other_edge():
    class All:
        def random(self, n):
            return np.zeros(n)

        def uniform(self, low, high):
            return 0.8

        def integers(self, low, high):
            return 1

    ramp = torch.arange(1.0, 11.0)[None, :, None].expand(1, 10, 4)
    pictures, inside = artefacts.wrapped(ramp, np.array([True]), All())
    assert pictures[0, :, 0].tolist() == [0, 2 + 10, 3, 4, 5, 6, 7, 8, 9 + 1, 0]
    assert inside[0, :, 0].tolist() == [False, *[True] * 8, False]
    across, _ = artefacts.wrapped(ramp.transpose(1, 2), np.array([False]), All())
    assert torch.equal(across, pictures.transpose(1, 2))


def test_a_file_that_is_no_table_of_anatomies_is_told(tmp_path):
    (tmp_path / "text.parquet").write_text("no table")
    pq.write_table(pa.table({"person": [1]}), tmp_path / "other.parquet")
    for name in ("text", "other", "absent"):
        with pytest.raises(InputError, match="not a table of draw_anatomies"):
            Anatomies(tmp_path / f"{name}.parquet")


def test_sections_of_some_people_can_be_kept(table):
    assert len(Anatomies(table, lambda people: people == 1)) == len(Anatomies(table)) // 2
    with pytest.raises(InputError, match="no section"):
        Anatomies(table, lambda people: people == 7)


# --- batches -------------------------------------------------------------------------------------


def batches_of(table, workers, epoch=1):
    with EpochLoader(SyntheticSlices(table, SETTINGS, CPU, 3), workers) as loader:
        return list(loader.epoch(epoch))


def test_batches_are_the_same_whatever_the_number_of_processes(table):
    one, two, other = batches_of(table, 0), batches_of(table, 2), batches_of(table, 0, epoch=2)
    assert len(one) == 3
    for (images, labels), (same, same_labels) in zip(one, two, strict=True):
        assert images.shape == (4, 1, 64, 64)
        assert torch.equal(images, same)
        assert torch.equal(labels, same_labels)
    assert not torch.equal(one[0][0], other[0][0])


def test_held_out_slices_show_a_muscle_and_stay_the_same(anatomies):
    first, again = (
        held_out_samples(
            anatomies, 10, size_px=SETTINGS.size_px, spacing_mm=SETTINGS.spacing_mm, seed=3
        )
        for _ in range(2)
    )
    assert 5 < len(first) <= 10
    for one, other in zip(first, again, strict=True):
        assert one.truth.any()
        assert (one.image == other.image).all()
