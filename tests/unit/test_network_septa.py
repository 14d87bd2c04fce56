"""Hidden septa and fat lines within muscles of training slices."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from paravert.anatomy import LABEL_VALUES
from paravert.network import septa
from paravert.network.septa import fat_lines, with_even_fat, with_hidden_septa, without_septa
from paravert.synthesis.anatomies import LAYERS
from paravert.synthesis.tissues import Tissue

ROWS, COLUMNS = 60, 80


def two_muscles(width: int) -> torch.Tensor:
    """Return fat with erector spinae left of a septum and multifidus right of it, (60, 80)."""
    tissues = torch.full((ROWS, COLUMNS), int(Tissue.FAT), dtype=torch.uint8)
    tissues[10:50, 9:71] = Tissue.SEPTUM  # also around both
    tissues[11:49, 10:40] = 5
    tissues[11:49, 40 + width : 70] = 7
    return tissues


@pytest.fixture
def maps():
    maps = torch.zeros((40, LAYERS + 1, ROWS, COLUMNS), dtype=torch.uint8)
    maps[:, :LAYERS] = two_muscles(2)
    maps[:, LAYERS] = 100 * (maps[:, 0] <= LABEL_VALUES[-1])
    return maps


def drawn(maps, seed=1):
    return with_hidden_septa(maps, np.random.default_rng(seed), torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("width", [1, 2])
def test_a_septum_between_two_muscles_becomes_muscle_of_both_and_nothing_else_changes(width):
    before = two_muscles(width)
    after = without_septa(before)
    gap = after[13:47, 40 : 40 + width]
    assert set(gap.unique().tolist()) <= {5, 7}
    assert (gap[:, -1] == 7).all()
    changed = after != before
    changed[:, 38 : 42 + width] = False  # the septum with its ends at the rim
    assert not changed.any()


def test_the_rim_towards_fat_stays():
    before = two_muscles(2)
    after = without_septa(before)
    assert (after[20:40, 9] == Tissue.SEPTUM).all()
    assert (after[10, 15:35] == Tissue.SEPTUM).all()


def test_wide_fat_between_muscles_stays():
    before = two_muscles(7)
    assert (without_septa(before)[13:47, 42:45] == Tissue.SEPTUM).all()
    before[before == Tissue.SEPTUM] = int(Tissue.FAT)
    assert torch.equal(without_septa(before), before)


def test_septa_are_whole_broken_and_hidden_as_often_as_stated(maps):
    shares = []
    for seed in range(10):
        after = drawn(maps, seed)
        gap = after[:, :LAYERS, 13:47, 40:42]
        shares += (gap <= LABEL_VALUES[-1]).float().mean(dim=(1, 2, 3)).tolist()
    shares = np.array(shares)
    whole = 1 - septa.HIDDEN_SHARE - septa.BROKEN_SHARE
    assert (shares == 1).mean() == pytest.approx(septa.HIDDEN_SHARE, abs=0.1)
    assert (shares == 0).mean() == pytest.approx(whole, abs=0.1)
    broken = shares[(shares > 0) & (shares < 1)]
    assert broken.min() < 0.3
    assert broken.max() > 0.7


def test_sections_and_their_order_of_fat_are_not_changed_in_place(maps):
    before = maps.clone()
    after = drawn(maps)
    assert torch.equal(maps, before)
    assert torch.equal(after[:, LAYERS], before[:, LAYERS])
    assert torch.equal(drawn(maps), after)


def test_a_batch_without_muscle_stays_as_it_is():
    maps = torch.full((2, LAYERS + 1, ROWS, COLUMNS), int(Tissue.SEPTUM), dtype=torch.uint8)
    maps[:, LAYERS] = 0
    assert torch.equal(drawn(maps), maps)


def test_fat_lines_lie_within_muscles_and_most_of_a_muscle_stays_lean(maps):
    muscle = torch.where(maps[:, 0] <= LABEL_VALUES[-1], maps[:, 0], 0)
    fat = fat_lines(muscle, np.random.default_rng(2), torch.Generator().manual_seed(2))
    assert fat.shape == muscle.shape
    assert fat[muscle == 0].max() == 0
    assert fat.min() >= 0
    assert fat.max() <= septa.LINE_FAT[1]
    lined = torch.stack(
        [(fat * (muscle == 7)).amax(dim=(1, 2)), (fat * (muscle == 5)).amax(dim=(1, 2))]
    )
    shares = (lined > 0.01).float().mean(dim=1).tolist()
    assert shares[0] == pytest.approx(septa.LINED_SHARE["multifidus"], abs=0.2)
    assert shares[1] == pytest.approx(septa.LINED_SHARE["erector_spinae"], abs=0.2)
    assert fat[muscle > 0].mean() < 0.08


def test_fat_in_muscles_has_compact_islands_beside_lines_and_dots(monkeypatch):
    """A disc of 2 mm fits into an island, and hardly ever into a line or dot."""
    muscle = torch.full((40, 160, 160), 7, dtype=torch.uint8)  # 92 cm2
    monkeypatch.setattr(septa, "LINE_FAT", (0.6, 0.6))

    def compact():
        fat = fat_lines(muscle, np.random.default_rng(2), torch.Generator().manual_seed(2)) > 0.4
        eroded = (ndimage.binary_erosion(one, np.ones((4, 4), bool)) for one in fat.numpy())
        return np.mean([ndimage.label(one)[1] for one in eroded])

    with_islands = compact()
    assert 3 < with_islands < 10
    monkeypatch.setattr(septa, "ISLAND_RIM", 90.0)
    monkeypatch.setattr(septa, "ISLAND_CORE", 91.0)
    assert compact() < with_islands / 5


def test_even_fat_shows_no_step_between_the_muscles_and_keeps_their_mean():
    muscle = torch.zeros((200, 96, 96), dtype=torch.uint8)
    muscle[:, 20:80, 10:50], muscle[:, 20:80, 50:90], muscle[:, :10] = 5, 7, 1
    fraction = torch.where(muscle == 7, 0.4, 0.1) * (muscle > 0)
    given = np.random.default_rng(3), torch.Generator().manual_seed(3)
    after = with_even_fat(fraction, muscle, *given)
    even = (after != fraction).flatten(1).any(dim=1)
    assert even.float().mean() == pytest.approx(septa.EVEN_SHARE, abs=0.08)
    beside, behind = after[even, 20:80, 48:50], after[even, 20:80, 50:52]
    assert (beside.mean() - behind.mean()).abs() < 0.02
    assert after[even][muscle[even] >= 5].mean() == pytest.approx(0.25, rel=0.15)
    assert torch.equal(after[muscle < 5], fraction[muscle < 5])
