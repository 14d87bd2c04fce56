"""Hidden septa, fat lines within muscles, and equal fat in both back muscles, in training slices.

In real scans the fat between two muscles is often thinner than a pixel, broken or not visible at all,
while lines and dots of fat inside a muscle are, and the fat fraction of both muscles is the same beside it.
A network that in training always sees the septum, or a step of fat at it, mistakes something else for it in
a real scan (docs/septum.md).
"""

from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional

from paravert.anatomy import LABEL_VALUES, LABELS
from paravert.synthesis.tissues import TISSUES, Tissue

HIDDEN_SHARE, BROKEN_SHARE = 0.3, 0.4  # of the slices; in the others the septa are as drawn
REACH_PX = 2  # a septum has two muscles within this distance, in pixels of the section
HOLES = 24  # points per axis of the random field over the section that breaks septa
# Fat lines: share of muscle sides with them, their largest fat fraction, pixels across and along.
LINED_SHARE = {
    "psoas_major": 0.2,
    "quadratus_lumborum": 0.2,
    "erector_spinae": 0.5,
    "multifidus": 0.7,
}
LINE_FAT = (0.1, 0.7)
LINE_CELLS_PX = ((12, 40), (7, 9))  # subpixels across and along: lines; dots
LINE_WIDTH = 0.12  # in units of the random field, whose SD is about 1
# Islands of fat of 3 to 6 mm: subpixels per point of a random field of SD 1, its value at their rim and core.
ISLAND_CELL_PX, ISLAND_RIM, ISLAND_CORE = 10, 1.0, 1.6
# In EVEN_SHARE of the slices, erector spinae and multifidus have one fat fraction, which varies smoothly
# across both: SD of its logarithm, and subpixels per point of the field.
EVEN_SHARE, EVEN_SD, EVEN_CELL_PX = 0.4, 0.4, 8
BACK_LABELS = tuple(
    label.value for label in LABELS if label.muscle in ("erector_spinae", "multifidus")
)


def with_hidden_septa(
    maps: torch.Tensor, rng: np.random.Generator, generator: torch.Generator
) -> torch.Tensor:
    """Return maps in which septa between two muscles are, in some sections, replaced by muscle.

    Wholly in about 30 % of the sections, partly in 40 %. maps: sections (tissues of synthetic people in
    axial slices), uint8 (batch, LAYERS + 1, rows, columns), from `Anatomies.sections`: layers of label
    or tissue values, then the order in which pixels become fat; not changed. Hidden septa become muscle
    as by `without_septa`; the last map, the order, stays as it is. rng, generator: random numbers of
    NumPy (in which sections septa are hidden) and of PyTorch, on the device of maps (where they are
    broken).
    """
    n = len(maps)
    kind = rng.random(n)
    share = np.where(kind < HIDDEN_SHARE, 1.0, rng.uniform(0.1, 0.9, n))
    share[kind >= HIDDEN_SHARE + BROKEN_SHARE] = 0.0
    field = torch.rand((n, 1, HOLES, HOLES), generator=generator, device=maps.device)
    field = functional.interpolate(field, size=maps.shape[2:], mode="nearest")[:, 0]
    hidden = field < torch.from_numpy(share.astype(np.float32)).to(maps.device)[:, None, None]
    rows, columns = (_extent(maps[:, -1].amax(dim=(0, axis))) for axis in (2, 1))
    result = maps.clone()
    tissues = result[:, :-1, rows, columns]
    hidden = hidden[:, None, rows, columns]
    tissues.copy_(torch.where(hidden, without_septa(tissues), tissues))
    return result


def _extent(shown: torch.Tensor) -> slice:
    """Return the extent of the values above 0 of a vector; all of it if there is none."""
    found = shown.nonzero()[:, 0].tolist() or [0, len(shown) - 1]
    return slice(found[0], found[-1] + 1)


def without_septa(tissues: torch.Tensor) -> torch.Tensor:
    """Return tissues whose septa between two muscles are replaced by muscle, uint8, same shape.

    tissues: (..., rows, columns), labels 1-8 or values of `synthesis.tissues.Tissue`. A pixel of septum
    (Tissue.SEPTUM) with two muscles within 2 pixels (REACH_PX), also diagonally, gets the label of the
    nearest muscle, of equally near ones the higher label.
    """
    muscle = torch.where(tissues <= LABEL_VALUES[-1], tissues, 0)
    lowest = torch.where(muscle > 0, muscle, 255)
    nearest, highest = muscle, muscle
    for _ in range(REACH_PX):
        highest = _spread(highest, torch.maximum)
        lowest = _spread(lowest, torch.minimum)
        nearest = torch.where(nearest > 0, nearest, highest)
    between = (tissues == Tissue.SEPTUM) & (highest > lowest)
    return torch.where(between, nearest, tissues)


def _spread(values: torch.Tensor, of_two: Callable) -> torch.Tensor:
    """Return the maximum or minimum over 3 x 3 pixels; of_two: torch.maximum or torch.minimum."""
    for axis in (-1, -2):
        size = values.shape[axis]
        before, after = values.narrow(axis, 0, size - 1), values.narrow(axis, 1, size - 1)
        pairs = of_two(before, after)
        ends = (values.narrow(axis, 0, 1), pairs, values.narrow(axis, size - 1, 1))
        padded = torch.cat(ends, dim=axis)
        values = of_two(padded.narrow(axis, 0, size), padded.narrow(axis, 1, size))
    return values


def with_even_fat(
    fraction: torch.Tensor,
    muscle: torch.Tensor,
    rng: np.random.Generator,
    generator: torch.Generator,
) -> torch.Tensor:
    """Return fat fractions that in some pictures do not differ between erector spinae and multifidus.

    fraction: 0-1, float32 (batch, rows, columns), not changed. muscle: label of each pixel, integer, same
    shape, 0 outside. rng, generator: random numbers of NumPy (in which pictures) and of PyTorch, on the
    device of fraction (the field). In these pictures the fraction of both muscles is their common mean
    (of both sides) times a smooth random field: neither its amount nor its pattern shows where one muscle
    ends.
    """
    n, rows, columns = fraction.shape
    even = torch.from_numpy(rng.random(n) < EVEN_SHARE).to(fraction.device)
    back = torch.isin(muscle, torch.tensor(BACK_LABELS, dtype=muscle.dtype, device=muscle.device))
    mean = (fraction * back).sum(dim=(1, 2)) / back.sum(dim=(1, 2)).clamp_min(1)
    size = (n, 1, rows // EVEN_CELL_PX, columns // EVEN_CELL_PX)
    field = torch.randn(size, generator=generator, device=fraction.device)
    field = functional.interpolate(field, size=(rows, columns), mode="bilinear")[:, 0]
    common = (mean[:, None, None] * torch.exp(EVEN_SD * field)).clamp_max(1)
    return torch.where(back & even[:, None, None], common, fraction)


def fat_lines(
    muscle: torch.Tensor, rng: np.random.Generator, generator: torch.Generator
) -> torch.Tensor:
    """Return the fat fraction of lines, dots and islands in muscles, 0-1, float32 (batch, rows, columns).

    It falls towards 0 beside them, and is 0 outside muscles. Lines run mostly from front to back,
    along the rows' axis, like the septum between multifidus and erector spinae. muscle: label of
    each pixel, integer, same shape, 0 outside. rng, generator: random numbers of NumPy (which
    muscles have lines) and of PyTorch, on the device of muscle (where they run).
    """
    n, rows, columns = muscle.shape
    depth = np.zeros((n, TISSUES), np.float32)
    for label in LABELS:
        lined = rng.random(n) < LINED_SHARE[label.muscle]
        depth[:, label.value] = lined * rng.uniform(*LINE_FAT, n)
    total = torch.zeros(muscle.shape, device=muscle.device)
    for across, along in LINE_CELLS_PX:
        size = (n, 2, rows // along + 2, columns // across + 2)
        field = torch.randn(size, generator=generator, device=muscle.device)
        field = functional.interpolate(field, size=(rows, columns), mode="bilinear")
        line, presence = field.unbind(1)
        total = torch.maximum(total, torch.exp(-line.abs() / LINE_WIDTH) * presence.clamp(0, 1))
    size = (n, 1, rows // ISLAND_CELL_PX + 2, columns // ISLAND_CELL_PX + 2)
    field = torch.randn(size, generator=generator, device=muscle.device)
    field = functional.interpolate(field, size=(rows, columns), mode="bilinear")[:, 0]
    islands = (field - ISLAND_RIM) / (ISLAND_CORE - ISLAND_RIM)
    total = torch.maximum(total, islands.clamp(0, 1))
    depths = torch.from_numpy(depth).to(muscle.device)
    return total * depths.gather(1, muscle.flatten(1).long()).view(muscle.shape)
