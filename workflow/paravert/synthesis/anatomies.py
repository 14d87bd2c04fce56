"""Rule draw_anatomies: sections of varied people without contrast, for a network to learn from.

NEEDS a seed. MAKES a Parquet table, a row per section: who, where, and the tissues of three layers
of the slice with the order in which muscle turns to fat. Every contrast, fat fraction, position and
artefact is drawn later, anew each time a section is used (`network.randomised`).
"""

import logging
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer

from paravert.anatomy import LABEL_VALUES
from paravert.synthesis.body import Body, body_of
from paravert.synthesis.muscle_fat import MusclePoints, fat_order
from paravert.synthesis.raster import PixelGrid, centred_grid
from paravert.synthesis.signal import BEHIND_SPINE_MM, places
from paravert.synthesis.solids import CutPlane
from paravert.synthesis.variation import varied_person

log = logging.getLogger(__name__)

SIZE_PX, SPACING_MM = 512, 0.8  # 410 mm: the widest people, and air around the others
LAYERS = 3  # upper, middle and lower third of the slice
SECTION_LEVELS = (0.4, 6.4)  # above mid L1 to S1
TILT_SD_DEG, LARGEST_TILT_DEG, ANY_TILT_SHARE = 8.0, 25.0, 0.3
LEAN_SD_DEG, LARGEST_LEAN_DEG = 4.0, 12.0  # a side bend, or a subject who lies crooked
THICKNESS_MM = (2.0, 10.0)
SECTIONS_PER_PERSON = 12

ANATOMY_COLUMNS = pa.schema(
    [
        ("person", pa.int32()),
        ("level", pa.float32()),
        ("tilt_deg", pa.float32()),
        ("thickness_mm", pa.float32()),
        ("maps", pa.binary()),  # see `packed`
    ]
)
SEED_KEY = b"seed"  # in the table's metadata
PACKING = "zstd"  # row by row, so that a few sections are read without the others


def draw_anatomies(
    out: Annotated[Path, typer.Option(help="table to write (.parquet)")],
    people: Annotated[int, typer.Option(help="how many people, of 12 sections each")] = 600,
    seed: Annotated[int, typer.Option(help="the same seed draws the same people")] = 1,
    workers: Annotated[int, typer.Option(help="processes that share the people")] = 1,
) -> None:
    """Draw sections of varied people, the anatomy that a network is trained on."""
    write_sections(out, people, seed, workers)


def write_sections(
    out: Path, people: int, seed: int, workers: int, steps: Sequence[float] = (0.0,)
) -> None:
    """Write the table of so many people; steps: see `sections_of`."""
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = out.with_name(f".{out.name}.{os.getpid()}")
    columns = ANATOMY_COLUMNS.with_metadata({SEED_KEY: str(seed)})
    with (
        pq.ParquetWriter(draft, columns, compression="none", use_dictionary=False) as table,
        ProcessPoolExecutor(max_workers=workers) as pool,
    ):
        drawn = pool.map(partial(sections_of, seed, steps=steps), range(people), chunksize=4)
        for number, rows in enumerate(drawn, start=1):
            table.write_table(pa.Table.from_pylist(rows, schema=columns))
            if number % 25 == 0 or number == people:
                log.info("draw_anatomies: %d of %d people", number, people)
    draft.replace(out)


def sections_of(seed: int, index: int, steps: Sequence[float] = (0.0,)) -> list[dict]:
    """Return the rows of one person: a pure function of the arguments.

    steps: the slices to draw at each section, as distances from it towards the head, in its
    thickness.
    """
    body = body_of(*varied_person(seed, index))
    rng = np.random.default_rng([seed, index, 62])
    grid = centred_grid(SIZE_PX, SPACING_MM)
    rows = []
    for level in _levels(rng):
        tilt = float(np.clip(rng.normal(0, TILT_SD_DEG), -LARGEST_TILT_DEG, LARGEST_TILT_DEG))
        if rng.random() < ANY_TILT_SHARE:
            tilt = float(rng.uniform(-LARGEST_TILT_DEG, LARGEST_TILT_DEG))
        lean = float(np.clip(rng.normal(0, LEAN_SD_DEG), -LARGEST_LEAN_DEG, LARGEST_LEAN_DEG))
        thickness = float(rng.uniform(*THICKNESS_MM))
        plane = _plane(body, level, tilt, lean)
        rows += [
            {
                "person": index,
                "level": level,
                "tilt_deg": tilt,
                "thickness_mm": thickness,
                "maps": packed(*_section(body, plane.moved(step * thickness), grid, thickness)),
            }
            for step in steps
        ]
    return rows


def packed(tissues: np.ndarray, order: np.ndarray) -> bytes:
    """Return tissues, (LAYERS, SIZE_PX, SIZE_PX), and order of fat, (SIZE_PX, SIZE_PX), as bytes.

    Both uint8; in order 255 turns to fat first.
    """
    whole = np.concatenate((tissues, order[None]))
    return pa.compress(whole.tobytes(), codec=PACKING, asbytes=True)


def unpacked(maps: pa.Buffer) -> np.ndarray:
    """Return (LAYERS + 1, SIZE_PX, SIZE_PX), uint8: the layers' tissues, then the order of fat."""
    shape = (LAYERS + 1, SIZE_PX, SIZE_PX)
    raw = pa.decompress(maps, decompressed_size=math.prod(shape), codec=PACKING)
    return np.frombuffer(raw, np.uint8).reshape(shape)


def _levels(rng: np.random.Generator) -> Iterator[float]:
    """Yield levels spread over the lumbar spine, one in each of as many equal parts."""
    ends = np.linspace(*SECTION_LEVELS, SECTIONS_PER_PERSON + 1)
    for low, high in zip(ends, ends[1:], strict=False):
        yield float(rng.uniform(low, high))


def _plane(body: Body, level: float, tilt_deg: float, lean_deg: float) -> CutPlane:
    """Return a plane through the spine's axis; its middle lies a little before the spine.

    tilt_deg raises the back edge towards the head, lean_deg the left edge.
    """
    tilt, lean = np.deg2rad((tilt_deg, lean_deg))
    down = np.array([0.0, np.cos(tilt), np.sin(tilt)])
    across = np.array([np.cos(lean), 0.0, np.sin(lean)])
    across -= (across @ down) * down
    across /= np.linalg.norm(across)
    x, y = body.spine.middle(level)
    spine = np.array([x, y, float(body.spine.height_mm(level))])
    return CutPlane(spine + BEHIND_SPINE_MM * down, across, down)


def _section(
    body: Body, plane: CutPlane, grid: PixelGrid, thickness_mm: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return tissues, (LAYERS, rows, columns), and order of fat, (rows, columns), both uint8."""
    offsets = thickness_mm * (np.arange(LAYERS) - LAYERS // 2) / LAYERS
    tissues = body.tissues([plane.moved(offset) for offset in offsets], grid)
    # Muscle of any layer may turn to fat: the order is that of whichever layer shows it.
    muscle = np.where(tissues <= LABEL_VALUES[-1], tissues, 0).max(axis=0).ravel()
    inside = np.flatnonzero(muscle)
    order = np.zeros(muscle.size, np.uint8)
    where = places(body, plane, grid, inside)
    pixels = MusclePoints(body.volunteer, body.spine, muscle[inside], *where)
    order[inside] = np.rint(255 * fat_order(pixels)).astype(np.uint8)
    return tissues, order.reshape(grid.shape)
