"""Command train_axial_levels: a network that predicts axial slices' levels from muscle labels.

NEEDS two tables of draw_anatomies, one for training and one of other synthetic people for
validation. MAKES model.safetensors; with the same name .json (card), .yaml (configuration that
selects the model) and .curve.csv (learning curve); while it trains .checkpoint, from which a
training that was stopped goes on.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow.parquet as pq
import torch
import typer
from torch import nn
from torch.nn import functional

from paravert.anatomy import CLASSES, LABELS, MUSCLES
from paravert.errors import InputError
from paravert.network.axial_net import (
    BINS,
    CELL_MM,
    CELLS,
    CHANNELS,
    FORM,
    HIDDEN,
    SHARE_SCALE,
    WIDTH,
    slice_cells,
)
from paravert.network.randomised import (
    MIDDLE_LAYER,
    drawn_place,
    drawn_waves,
    picture_grid,
    placed,
    seed_of,
)
from paravert.network.worker_training import (
    Gradients,
    WorkerTraining,
    gradients,
    rise_and_cosine,
)
from paravert.provenance import digest, file_sha256
from paravert.steps import VERSIONS
from paravert.synthesis.anatomies import SIZE_PX as SECTION_PX
from paravert.synthesis.anatomies import SPACING_MM, unpacked
from paravert.synthesis.signal import BEHIND_SPINE_MM

log = logging.getLogger(__name__)

TRAINED_ON = "label maps of synthetic axial slices of phantom anatomy; no image of a person"
STEP = 2  # every second pixel of a section is kept
SIZE_PX, PIXEL_MM = 160, 2.0  # of the label maps: 320 mm
# Field of view: share of the maps that are cut, length of its sides, distance from the muscles.
CUT_SHARE, CUT_MM, CUT_OFF_SD_MM = 0.7, (150.0, 288.0), 12.0
LOG_SIDES_SD = 0.08  # of the length of its sides
# What a segmentation may miss: a muscle of one side; in PARTIAL_SHARE of the slices, as labels of others
# may not have all muscles, a muscle of both sides. LOG_AREA_SD: of the area of a muscle.
MISSED_SIDE, PARTIAL_SHARE, MISSED_MUSCLE, LOG_AREA_SD = 0.04, 0.1, 0.3, 0.1
SLICES = 32  # per batch
LEVEL_SD = 0.15  # of the target distribution over BINS: how sharply a slice shows its level
COLUMN_WEIGHT = 0.2  # in the loss; the level has 1
WEIGHT_DECAY = 1e-2
WARM_UP = 100  # batches until the full learning rate
HELD_OUT_BATCHES, HELD_OUT_SEED = 30, 7


@dataclass(frozen=True)
class SliceBatch:
    """Inputs of the network for a batch of slices, and the targets of its training.

    Torch tensors on the CPU. cells: inputs, as of `axial_net.slice_cells`, float32 (slices, 5, 32, 32).
    levels: true vertebral levels, float32 (slices,), 1.0 mid L1. column: middle of the vertebral column
    (its smooth deformation neglected), (down, right in the picture) from the middle of the muscles that
    are seen, in cells of 8 mm, float32 (slices, 2); 0 without muscles.
    """

    cells: torch.Tensor
    levels: torch.Tensor
    column: torch.Tensor


class AxialNet(nn.Module):
    """Convolutions over the cells of a slice, and linear layers for its level and the column's middle.

    Made without arguments, with random initial weights from torch's own generator.
    """

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(CHANNELS, WIDTH, kernel_size=3, padding=1), nn.GELU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(WIDTH, 2 * WIDTH, kernel_size=3, padding=1), nn.GELU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(2 * WIDTH, 2 * WIDTH, kernel_size=3, padding=1), nn.GELU(), nn.Flatten()),
            nn.Dropout(0.2),
            *(nn.Linear(2 * WIDTH * (CELLS // 4) ** 2, HIDDEN), nn.GELU()),
            nn.Linear(HIDDEN, len(BINS) + 2),
        )

    def forward(self, cells: torch.Tensor) -> torch.Tensor:
        """Return the logits of the vertebral levels in BINS, then the column's middle, float32 (batch, 26 + 2).

        BINS: levels 0.25 to 6.5 in steps of 0.25; 1.0 is mid L1. Middle of the vertebral column: (down,
        right) from the middle of the muscles, in cells of 8 mm. cells: float32 (batch, 5, 32, 32), from `slice_cells`.
        """
        return self.layers(SHARE_SCALE * cells)


class LabelSections:
    """The label maps of the sections of a table of synthetic people, at 1.6 mm, in memory.

    Section: map of the tissues of a synthetic person in an axial slice. len() is the number of
    sections. table: file (.parquet) of the command draw_anatomies; it is not checked. Attributes, in
    the table's order: levels, vertebral level of each section (1.0 mid L1), NumPy float32 (sections,);
    people, number of its person, NumPy int (sections,).
    """

    def __init__(self, table: Path):
        rows = pq.read_table(table, columns=["level", "person", "maps"])
        self.levels = rows["level"].to_numpy()
        self.people = rows["person"].to_numpy()
        maps = [
            unpacked(maps.as_buffer())[MIDDLE_LAYER, ::STEP, ::STEP].copy() for maps in rows["maps"]
        ]
        self._maps = torch.from_numpy(np.stack(maps))
        self._maps[self._maps >= CLASSES] = 0  # other tissues

    def __len__(self) -> int:
        return len(self.levels)

    def batch(self, numbers: np.ndarray, seed: Sequence[int]) -> SliceBatch:
        """Return slices of sections in random position, shape and field of view, some with missing labels.

        numbers: of the sections, one per slice, int (slices,), from 0. seed: whole numbers, of all random
        numbers. As in a segmentation, the label of a muscle side, or of both sides, may be missing, and
        areas deviate at random.
        """
        rng = np.random.default_rng([*seed, 91])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        cpu = torch.device("cpu")
        places = [drawn_place(rng) for _ in numbers]
        grid = picture_grid(SIZE_PX, PIXEL_MM, 1, cpu)
        points = placed(grid, places, drawn_waves(len(numbers), generator, cpu))
        size, middle = self._maps.shape[-1], (SECTION_PX - 1) / 2 / STEP
        x, y = (points / (SPACING_MM * STEP) + middle).round().clamp(0, size - 1).long().unbind(1)
        maps = self._maps[torch.from_numpy(numbers)[:, None, None], y, x].numpy()
        spine = np.array([0.0, -BEHIND_SPINE_MM])  # (x, y) in the section
        cells, column = [], []
        for labels, place in zip(maps, places, strict=True):
            right_down = np.linalg.solve(place.matrix, spine - place.centre_mm)
            own, off = _seen(labels, right_down[::-1], rng)
            cells.append(own)
            column.append(off)
        return SliceBatch(
            torch.from_numpy(np.stack(cells)),
            torch.from_numpy(self.levels[numbers]),
            torch.from_numpy(np.nan_to_num(np.stack(column)).astype(np.float32)),
        )


def _seen(
    labels: np.ndarray, spine_mm: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return the network's input for a label map, and where the column lies from its muscles, in cells.

    spine_mm: middle of the column, (down, right in the picture) from the middle of the map.
    """
    first = np.zeros(2, int)
    if rng.random() < CUT_SHARE:
        labels, first = _cut(labels, rng)
    missed = rng.random(CLASSES) < MISSED_SIDE
    if rng.random() < PARTIAL_SHARE:
        muscles = [name for name in MUSCLES if rng.random() < MISSED_MUSCLE]
        missed[[label.value for label in LABELS if label.muscle in muscles]] = True
    cells, middle = slice_cells(np.where(missed[labels], 0, labels), (PIXEL_MM, PIXEL_MM))
    cells[:-1] *= np.exp(rng.normal(0, LOG_AREA_SD, (len(MUSCLES), 1, 1)))
    from_middle = (middle + first - (SIZE_PX - 1) / 2) * PIXEL_MM
    return cells, (spine_mm - from_middle) / CELL_MM


def _cut(labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return a random field of view of a label map, and its first (row, column)."""
    places = np.nonzero(labels)
    middle = np.array([p.mean() if len(p) else SIZE_PX / 2 for p in places])
    centre = middle + rng.normal(0, CUT_OFF_SD_MM / PIXEL_MM, 2)
    sides = rng.uniform(*CUT_MM) * np.exp(rng.normal(0, LOG_SIDES_SD, 2)) / PIXEL_MM
    first, last = (
        np.clip(np.rint(centre + sign * sides / 2).astype(int), 0, SIZE_PX) for sign in (-1, 1)
    )
    return labels[first[0] : last[0], first[1] : last[1]], first


def train_axial_levels(
    anatomies: Annotated[Path, typer.Option(help="table of draw_anatomies to train on")],
    validation: Annotated[Path, typer.Option(help="table of draw_anatomies of another seed")],
    out: Annotated[Path, typer.Option(help="model file to write (.safetensors)", dir_okay=False)],
    seed: Annotated[int, typer.Option(min=0, help="of the slices and first weights")] = 1,
    batches: Annotated[int, typer.Option(min=1, help="how many, of 32 slices each")] = 4000,
    minutes: Annotated[
        float, typer.Option(min=0, help="stop after this time as well; 0: no limit")
    ] = 0.0,
    learning_rate: Annotated[float, typer.Option(min=0, help="the highest; it falls to 0")] = 0.002,
    workers: Annotated[
        int,
        typer.Option(
            min=0, help="processes; each gradient is this many batches less one old; 0: a thread"
        ),
    ] = 1,
) -> None:
    """Train the network that predicts the level of an axial slice from its muscle labels.

    Beside the model file it writes, with the same name: .json (card: describes model and training),
    .yaml (configuration that selects the model), .curve.csv (learning curve). A training that was
    stopped resumes from its .checkpoint. Raises InputError if that is damaged or of another seed,
    learning rate or table, if both tables show the same people, or one is no table of draw_anatomies.
    """
    if (own := seed_of(validation)) == seed_of(anatomies):
        raise InputError(validation, f"seed {own} as in {anatomies}: the same people")
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    network = AxialNet().train()
    optimiser = torch.optim.AdamW(network.parameters(), learning_rate, weight_decay=WEIGHT_DECAY)
    out.parent.mkdir(parents=True, exist_ok=True)
    tables = {
        f"{name}_sha256": file_sha256(path)
        for name, path in (("anatomies", anatomies), ("validation", validation))
    }
    made_of = digest([seed, learning_rate, *tables.values(), VERSIONS["train_axial_levels"]])
    training = WorkerTraining(network, optimiser, out, made_of)

    def note(done: float, loss: float) -> None:
        row = {"batch": training.number, "loss": loss} | _accuracy(network, validation)
        training.curve.append(row)
        line = ", ".join(f"{name} {value:.3f}" for name, value in row.items())
        log.info("train_axial_levels: %.1f %%: %s", 100 * done, line)
        FORM.save(out, network)

    with _pool(workers) as pool:
        training.run(
            lambda weights, number: pool.submit(_gradients, weights, anatomies, seed, number),
            ahead=max(1, workers),
            batches=batches,
            minutes=minutes,
            learning_rate=lambda number, done: (
                learning_rate * rise_and_cosine((number + 1) / WARM_UP, done)
            ),
            note=note,
        )
        pool.shutdown(wait=False, cancel_futures=True)
    settings = {"seed": seed, "batches": training.number}
    settings |= {"learning_rate": learning_rate, "workers": workers} | tables
    results = {
        "validation": "single synthetic slices of people of another seed; errors in levels",
        "accuracy": training.curve[-1] if training.curve else None,
    }
    training.publish(FORM, ("axial_model", "axial_sha256"), TRAINED_ON, settings, results)


def _pool(workers: int) -> Executor:
    if workers:
        return ProcessPoolExecutor(workers, mp_context=get_context("forkserver"))
    return ThreadPoolExecutor(1)


@cache
def _sections(table: Path) -> LabelSections:
    return LabelSections(table)


@cache
def _own_network() -> AxialNet:
    """Return the network of this worker process."""
    torch.set_num_threads(1)
    return AxialNet().train()


def _gradients(weights: list[np.ndarray], anatomies: Path, seed: int, number: int) -> Gradients:
    """Return the loss of a batch and its gradients."""
    network, sections = _own_network(), _sections(anatomies)
    numbers = np.random.default_rng([seed, number, 93]).integers(len(sections), size=SLICES)
    batch = sections.batch(numbers, (seed, number))
    return gradients(network, weights, lambda: level_loss(network, batch))


def level_loss(network: AxialNet, batch: SliceBatch) -> torch.Tensor:
    """Return the loss of a batch: cross-entropy of the level, plus error of the column's middle.

    A scalar, the mean over all slices; a slice without muscles has the loss 0. The target of the
    level is a normal distribution over BINS (0.25 to 6.5 in steps of 0.25) about the true level, of
    SD 0.15 levels (LEVEL_SD). The error (smooth L1, in cells of 8 mm, sum of both axes) has the
    weight 0.2 (COLUMN_WEIGHT). network: its mode (training or evaluation) is not changed.
    """
    level, column = network(batch.cells).split((len(BINS), 2), dim=1)
    off = (torch.from_numpy(BINS).float() - batch.levels[:, None]) / LEVEL_SD
    target = (-0.5 * off**2).softmax(1)
    of_level = -(target * level.log_softmax(1)).sum(1)
    of_column = functional.smooth_l1_loss(column, batch.column, reduction="none").sum(1)
    shown = batch.cells[:, :-1].sum((1, 2, 3)) > 0
    return ((of_level + COLUMN_WEIGHT * of_column) * shown).mean()


@cache
def _held_out(validation: Path) -> list[SliceBatch]:
    sections = LabelSections(validation)
    rng = np.random.default_rng(HELD_OUT_SEED)
    return [
        sections.batch(rng.integers(len(sections), size=SLICES), (HELD_OUT_SEED, number))
        for number in range(HELD_OUT_BATCHES)
    ]


@torch.inference_mode()
def _accuracy(network: AxialNet, validation: Path) -> dict[str, float]:
    """Return how well single slices of other people are told."""
    network.eval()
    off, apart = [], []
    for batch in _held_out(validation):
        level, column = network(batch.cells).split((len(BINS), 2), dim=1)
        off.append(level.softmax(1) @ torch.from_numpy(BINS).float() - batch.levels)
        apart.append((column - batch.column).norm(dim=1) * CELL_MM)
    network.train()
    off, apart = torch.cat(off).abs().numpy(), torch.cat(apart).numpy()
    return {
        "level_error": float(np.median(off)),
        "level_error_95": float(np.quantile(off, 0.95)),
        "column_error_mm": float(np.median(apart)),
    }
