"""Structures beside the muscles in training sections: where they lie, of what tissue, how often."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from paravert.anatomy import LABEL_VALUES, SIDES, label_value
from paravert.network import surroundings
from paravert.network.surroundings import LOOSE_FAT, SOFT, Section, with_surroundings
from paravert.synthesis.anatomies import LAYERS, SPACING_MM, sections_of, unpacked
from paravert.synthesis.tissues import Tissue
from paravert.synthesis.variation import varied_person

X, Y = np.meshgrid(surroundings.X_MM, surroundings.Y_MM)
BACK = [label_value(m, side) for m in ("erector_spinae", "multifidus") for side in SIDES]
MULTIFIDI = [label_value("multifidus", side) for side in SIDES]
QUADRATI = [label_value("quadratus_lumborum", side) for side in SIDES]
FRONT = [label_value(m, side) for m in ("psoas_major", "quadratus_lumborum") for side in SIDES]
ERECTORS = [label_value("erector_spinae", side) for side in SIDES]
BETWEEN = (*QUADRATI, *ERECTORS, Tissue.SEPTUM, Tissue.FASCIA)
AROUND = (Tissue.FAT, Tissue.FASCIA, Tissue.VISCERAL_FAT)


@pytest.fixture(scope="module")
def sections():
    """Return levels, (sections,), and maps, (sections, LAYERS + 1, rows, columns), of two people."""
    rows = [row for person in (0, 1) for row in sections_of(8, person)]
    maps = np.stack([unpacked(pa.py_buffer(row["maps"])) for row in rows])
    return np.array([row["level"] for row in rows]), torch.from_numpy(maps.copy())


def drawn(sections, name):
    """Return levels, and tissues before and after each section got one structure at its levels."""
    draw, _, (first, last) = next(s for s in surroundings.STRUCTURES if s[0].__name__ == name)
    levels, maps = sections
    here = (levels >= first) & (levels <= last)
    before = maps[torch.from_numpy(here), :LAYERS].numpy()
    after = before.copy()
    for number, (tissues, level) in enumerate(zip(after, levels[here], strict=True)):
        draw(Section(tissues, float(level), np.random.default_rng(number)))
    return levels[here], before, after


def from_mm(tissues, values):
    """Return the distance in mm of every pixel from tissues, 0 within them."""
    return SPACING_MM * distance_transform_edt(~np.isin(tissues, values))


@pytest.mark.parametrize(
    ("name", "tissues", "over"),
    [
        ("intertransverse_muscles", {Tissue.WALL_MUSCLE}, LOOSE_FAT),
        ("crura", {Tissue.WALL_MUSCLE}, SOFT),
        ("diaphragm", {Tissue.WALL_MUSCLE}, LOOSE_FAT),
        ("abdominal_wall", {Tissue.WALL_MUSCLE}, LOOSE_FAT),
        ("aponeurosis", {Tissue.FASCIA, Tissue.FAT}, AROUND),
        ("sacroiliac_fat", {Tissue.VISCERAL_FAT, Tissue.INTERSPINOUS}, {Tissue.HIP_MUSCLE}),
        ("iliolumbar_ligaments", {Tissue.LIGAMENT}, LOOSE_FAT),
        ("laminar_fat", {Tissue.EPIDURAL_FAT}, MULTIFIDI),
        ("fat_behind_quadratus", {Tissue.VISCERAL_FAT}, BETWEEN),
        ("smooth_back", set(BACK), (*LOOSE_FAT, Tissue.SEPTUM, Tissue.FASCIA)),
        ("dents", {Tissue.FAT}, (*BACK, Tissue.SEPTUM, Tissue.FASCIA)),
    ],
)
def test_a_structure_is_of_its_tissue_and_replaces_nothing_but_what_may_lie_there(
    sections, name, tissues, over
):
    _, before, after = drawn(sections, name)
    changed = before != after
    assert changed.any(axis=(1, 2, 3)).mean() >= 0.5  # in some there is no fat at its place
    assert set(np.unique(after[changed])) <= tissues
    assert set(np.unique(before[changed])) <= set(over)


def test_the_intertransversarii_lie_between_psoas_quadratus_and_facet_joint(sections):
    levels, before, after = drawn(sections, "intertransverse_muscles")
    new = (before != after)[:, 1]
    assert np.abs(X)[new.any(0)].min() > 16
    assert np.abs(X)[new.any(0)].max() < 72
    assert Y[new.any(0)].min() > 0
    assert Y[new.any(0)].max() < 45
    at_discs = np.abs(levels % 1 - 0.5) < 0.25
    sizes = new.sum((1, 2)) * SPACING_MM**2
    assert sizes[at_discs].mean() > 1.2 * sizes[~at_discs].mean()
    near = [
        np.percentile(from_mm(tissues[1], FRONT)[own], 20)
        for tissues, own in zip(before, new, strict=True)
        if own.any() and np.isin(tissues[1], FRONT).any()
    ]
    assert np.median(near) < 3


def test_the_crura_lie_on_the_front_of_the_vertebra_and_become_thinner_downwards(sections):
    levels, before, after = drawn(sections, "crura")
    for tissues, new in zip(before, (before != after)[:, 1], strict=True):
        assert not new[Y > 5].any()
        assert from_mm(tissues[1], surroundings.VERTEBRA)[new].max(initial=0) < 16
    sizes = (before != after)[:, 1].sum((1, 2)) * SPACING_MM**2
    assert sizes[levels < 1.5].mean() > 2 * sizes[levels > 2.3].mean()
    assert 150 < sizes[levels < 1.5].mean() < 1200


def test_the_diaphragm_is_a_sheet_in_front_of_psoas_and_quadratus(sections):
    _, before, after = drawn(sections, "diaphragm")
    areas = []
    for tissues, new in zip(before, (before != after)[:, 1], strict=True):
        muscle = np.isin(tissues[1], LABEL_VALUES)
        assert (muscle[::-1].cumsum(0)[::-1] > 0)[new].all()  # a muscle lies further back
        assert new.sum(0).max() * SPACING_MM < 6.5
        areas.append(new.sum() * SPACING_MM**2)
    assert 100 < np.median(areas) < 800


def test_the_abdominal_wall_begins_at_the_lateral_end_of_the_quadratus(sections):
    _, before, after = drawn(sections, "abdominal_wall")
    starts = []
    for tissues, new in zip(before, (before != after)[:, 1], strict=True):
        quadratus = np.isin(tissues[1], QUADRATI)
        for side in (1, -1):
            own = new & (side * X > 0)
            if own.any():
                end = (side * X)[quadratus & (side * X > 0)].max()
                starts.append((side * X)[own].min() - end)
                assert (side * X)[own].mean() > end
    assert len(starts) > 10
    assert -6 < np.median(starts) < 6


def test_the_aponeurosis_is_a_dark_line_behind_the_back_muscles(sections):
    _, before, after = drawn(sections, "aponeurosis")
    for tissues, painted in zip(before[:, 1], after[:, 1], strict=True):
        new = tissues != painted
        muscle = np.isin(tissues, BACK)
        assert not (muscle[::-1].cumsum(0)[::-1] > 0)[new].any()  # no muscle further back
        hind = np.where(muscle.any(0), (muscle * Y).max(0), np.inf)
        assert (Y - hind)[new].max() < 6.5
        assert (painted == Tissue.FASCIA).sum() != (tissues == Tissue.FASCIA).sum()


def test_behind_the_sacroiliac_joint_the_iliacus_gives_way_to_fat_medial_to_the_ilium(sections):
    _, before, after = drawn(sections, "sacroiliac_fat")
    for tissues, new in zip(before[:, 1], (before != after)[:, 1], strict=True):
        assert not new[Y < -10].any()
        if new.any():
            assert np.median(Y[new]) > 10
        ilium = np.abs(X) * (tissues == Tissue.ILIUM)
        for side in (1, -1):
            bone = np.where(side * X > 0, ilium, 0)
            inner = np.where(bone > 0, bone, np.inf).min(axis=1)
            own = new & (side * X > 0)
            assert (np.abs(X) < inner[:, None])[own].all()


def test_the_iliolumbar_ligament_runs_from_the_spine_to_the_ilium(sections):
    _, before, after = drawn(sections, "iliolumbar_ligaments")
    new = (before != after).any((0, 1))
    assert 28 < np.abs(X)[new].min() < np.abs(X)[new].max() < 98
    assert 0 < Y[new].min() < Y[new].max() < 50


def test_laminar_fat_is_a_rim_of_the_multifidus_beside_bone(sections):
    _, before, after = drawn(sections, "laminar_fat")
    lost = []
    for tissues, painted in zip(before[:, 1], after[:, 1], strict=True):
        new = tissues != painted
        assert from_mm(tissues, surroundings.BONE)[new].max(initial=0) < 10
        lost.append(new.sum() / max(np.isin(tissues, MULTIFIDI).sum(), 1))
    assert 0.03 < np.mean(lost) < 0.14
    assert max(lost) < 0.5


def test_islands_of_fat_lie_between_quadratus_and_erector_spinae(sections):
    _, before, after = drawn(sections, "fat_behind_quadratus")
    lost = []
    for tissues, painted in zip(before[:, 1], after[:, 1], strict=True):
        new = tissues != painted
        if not new.any():
            continue
        assert from_mm(tissues, QUADRATI)[new].max() < 6
        assert from_mm(tissues, ERECTORS)[new].max() < 6
        assert 4 < new.sum() * SPACING_MM**2 < 180
        lost.append(np.isin(tissues[new], QUADRATI).sum() / np.isin(tissues, QUADRATI).sum())
    assert len(lost) > 5
    assert np.mean(lost) < 0.08


def test_dents_are_shallow_and_lie_at_the_back_of_both_muscles_wherever_their_septum_ends(sections):
    _, before, after = drawn(sections, "dents")
    lost, hit = [], set()
    for tissues, painted in zip(before[:, 1], after[:, 1], strict=True):
        new = tissues != painted
        hit |= set(tissues[new].tolist())
        deep_mm = from_mm(tissues, (*AROUND, Tissue.EPIDURAL_FAT))[new]
        assert deep_mm.max() < 8
        lost.append(new.sum() / np.isin(tissues, BACK).sum())
    assert {*ERECTORS, *MULTIFIDI} <= hit
    assert 0.005 < np.mean(lost) < 0.08


def test_notches_at_the_back_are_filled_with_the_muscle_beside_them(sections):
    _, before, after = drawn(sections, "smooth_back")
    for tissues, painted in zip(before[:, 1], after[:, 1], strict=True):
        new = tissues != painted
        for value in BACK:
            own = new & (painted == value)
            others = [other for other in BACK if other != value]
            nearer = from_mm(tissues, [value])[own] <= from_mm(tissues, others)[own]
            assert nearer.all()
            assert from_mm(tissues, [value])[own].max(initial=0) < 10
    # A notch of 8 mm in a muscle's straight back is filled, one of 24 mm is not.
    for wide_px, filled in ((10, True), (30, False)):
        block = np.full((LAYERS, *X.shape), Tissue.FAT, np.uint8)
        block[:, (Y > 30) & (Y < 60) & (X > 10) & (X < 90)] = ERECTORS[1]
        notch = (Y[:, 0] > 50) & (Y[:, 0] < 60), np.abs(np.arange(len(X)) - 320) < wide_px / 2
        block[:, np.ix_(*notch)[0], np.ix_(*notch)[1]] = Tissue.FAT
        surroundings.smooth_back(Section(block, 3.0, np.random.default_rng()))
        share = (block[1][np.ix_(*notch)] == ERECTORS[1]).mean()
        assert (share > 0.8) == filled


def test_structures_are_drawn_as_often_as_stated_and_only_at_their_levels(sections, monkeypatch):
    seen = []
    noted = tuple(
        (lambda section, number=number: seen.append((number, section.level)), share, levels)
        for number, (_, share, levels) in enumerate(surroundings.STRUCTURES)
    )
    monkeypatch.setattr(surroundings, "STRUCTURES", noted)
    maps = sections[1][:1].expand(400, -1, -1, -1)
    levels = np.linspace(0.4, 6.4, 400)
    with_surroundings(maps, levels, np.random.default_rng(1))
    for number, (_, share, (first, last)) in enumerate(noted):
        own = [level for which, level in seen if which == number]
        assert first <= min(own) <= max(own) <= last
        within = ((levels >= first) & (levels <= last)).sum()
        assert len(own) / within == pytest.approx(share, abs=0.2 if within < 80 else 0.1)


def test_labels_become_fat_and_nothing_else_and_the_order_of_fat_stays(sections, monkeypatch):
    levels, maps = sections
    filling = surroundings.smooth_back
    kept = tuple(one for one in surroundings.STRUCTURES if one[0] is not filling)
    monkeypatch.setattr(surroundings, "STRUCTURES", kept)
    after = with_surroundings(maps.clone(), levels, np.random.default_rng(3))
    assert torch.equal(after[:, LAYERS], maps[:, LAYERS])
    labels = maps[:, :LAYERS] <= LABEL_VALUES[-1]
    labels &= maps[:, :LAYERS] > 0
    changed = labels & (after != maps)[:, :LAYERS]
    assert set(maps[:, :LAYERS][changed].tolist()) <= {*MULTIFIDI, *QUADRATI, *ERECTORS}
    fat = {int(Tissue.EPIDURAL_FAT), int(Tissue.VISCERAL_FAT), int(Tissue.FAT)}
    assert set(after[:, :LAYERS][changed].tolist()) == fat
    gained = (after[:, :LAYERS] <= LABEL_VALUES[-1]) & (after != maps)[:, :LAYERS]
    assert not gained.any()
    again = with_surroundings(maps.clone(), levels, np.random.default_rng(3))
    assert torch.equal(after, again)


def test_the_size_of_a_person_follows_from_the_width_of_the_vertebra(sections):
    levels, maps = sections
    sizes = np.array(
        [
            Section(one[:LAYERS].numpy(), float(level), np.random.default_rng()).size
            for one, level in zip(maps, levels, strict=True)
        ]
    )
    upper = levels < 5
    for person in (0, 1):
        own = np.arange(len(levels)) // 12 == person
        true = varied_person(8, person)[0].height_cm / 178
        assert np.median(sizes[own & upper]) == pytest.approx(true, abs=0.05)
