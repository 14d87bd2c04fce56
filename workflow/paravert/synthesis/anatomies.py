"""Rule draw_anatomies: cross-sections of varied people, without contrast, to train a network on.

NEEDS a seed. MAKES a Parquet table with one row per section: person, vertebral level, tilt, slice
thickness, tissue maps of three layers of the slice, and the order in which muscle pixels turn to
fat. Contrast, fat fraction, position and artefacts are drawn each time a section is used
(`network.randomised`).
"""

import logging
import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer

from paravert.anatomy import LABEL_VALUES
from paravert.shards import worker_pool
from paravert.synthesis.body import Body, body_of
from paravert.synthesis.muscle_fat import fat_order
from paravert.synthesis.raster import PixelGrid, centred_grid
from paravert.synthesis.signal import BEHIND_SPINE_MM, muscle_points
from paravert.synthesis.solids import CutPlane
from paravert.synthesis.variation import varied_person
from paravert.tables import whole_file

log = logging.getLogger(__name__)

SIZE_PX, SPACING_MM = 512, 0.8  # 410 mm: as wide as the widest people
LAYERS = 3  # thirds of the slice thickness, from caudal to cranial
SECTION_LEVELS = (0.4, 6.4)  # above mid L1 to S1
TILT_SD_DEG, LARGEST_TILT_DEG, ANY_TILT_SHARE = 8.0, 25.0, 0.3
LEAN_SD_DEG, LARGEST_LEAN_DEG = 4.0, 12.0  # rotation about the anteroposterior axis
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
PACKING = "zstd"  # each row by itself, so that single sections can be read


def draw_anatomies(
    out: Annotated[Path, typer.Option(help="table to write (.parquet)")],
    people: Annotated[int, typer.Option(min=1, help="how many people, of 12 sections each")] = 600,
    seed: Annotated[int, typer.Option(min=0, help="the same seed draws the same people")] = 1,
    workers: Annotated[int, typer.Option(min=1, help="processes that share the people")] = 1,
) -> None:
    """Draw cross-sections of varied people, without contrast, to train a network on.

    Writes a Parquet table as `write_sections` does, with a row per section: person, vertebral level,
    tilt, slice thickness, and compressed maps of the tissues.
    """
    write_sections(out, people, seed, workers)


def write_sections(
    out: Path, people: int, seed: int, workers: int, steps: Sequence[float] = (0.0,)
) -> None:
    """Write the table of sections of synthetic people, a Parquet file with the rows of `sections_of`.

    Section: map of the tissues in an axial slice through a person, without contrast. out: the file,
    written completely or not at all; an older one is replaced, missing folders are made. people: their
    number, of 12 sections each (SECTIONS_PER_PERSON). seed: the same seed draws the same people; it is
    in the table's metadata under SEED_KEY. workers: number of processes, from 1. steps: offsets of each
    section towards the head, in slice thicknesses; the table has a row for each of them: (0.0, 1.0)
    adds the adjacent slice. Rows are in order of person, then as in `sections_of`. Raises
    InputError, before anything is drawn, if `out` is a folder; ChildProcessError if a worker process died.
    """
    columns = ANATOMY_COLUMNS.with_metadata({SEED_KEY: str(seed)})
    with (
        whole_file(out) as draft,
        pq.ParquetWriter(draft, columns, compression="none", use_dictionary=False) as table,
        worker_pool(workers) as pool,
    ):
        drawn = pool.map(partial(sections_of, seed, steps=steps), range(people), chunksize=4)
        for number, rows in enumerate(drawn, start=1):
            table.write_table(pa.Table.from_pylist(rows, schema=columns))
            if number % 25 == 0 or number == people:
                log.info("draw_anatomies: %d of %d people", number, people)


def sections_of(seed: int, index: int, steps: Sequence[float] = (0.0,)) -> list[dict]:
    """Return the sections of one synthetic person, each a dict with the columns ANATOMY_COLUMNS as keys.

    Section: map of the tissues in an axial slice, without contrast. Keys: person (`index`), level (1.0
    mid L1, 6.0 S1), tilt_deg (-25 to 25; positive: the posterior edge is raised towards the head),
    thickness_mm (of the slice, 2 to 10), maps (bytes, which `unpacked` turns into an array). seed: of
    the people. index: number of the person, from 0. steps: offsets towards the head, in slice
    thicknesses: (0.0, 1.0) adds the adjacent slice. There are 12 positions (SECTIONS_PER_PERSON): a
    random level in each twelfth of 0.4 to 6.4, ascending. Each gives one row per step, in the order of
    `steps`, all with the level of the position. Sections also lean to the left or right, by up to 12
    degrees, without a key. A pure function of its arguments.
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
    """Return the maps of one section (axial slice through a synthetic person), compressed with zstd.

    `unpacked` is the inverse. tissues: uint8 (LAYERS, SIZE_PX, SIZE_PX) = (3, 512, 512), labels 1-8 or
    values of `Tissue`; layers: thin parallel planes within the slice, from caudal to cranial. order: uint8
    (SIZE_PX, SIZE_PX), in which order muscle turns to fat as its fat fraction grows: within each
    muscle 255 first and 0 last; 0 outside.
    """
    whole = np.concatenate((tissues, order[None]))
    return pa.compress(whole.tobytes(), codec=PACKING, asbytes=True)


def unpacked(maps: pa.Buffer) -> np.ndarray:
    """Return the maps of one section (axial slice), uint8 (LAYERS + 1, SIZE_PX, SIZE_PX).

    maps: a cell of the column `maps` that draw_anatomies wrote, as bytes or Arrow buffer. The first
    LAYERS (3) of the result are thin parallel planes within the slice, from caudal to cranial: labels
    1-8 or values of `Tissue`; rows run towards the back, columns to the subject's left. The last is the
    order in which muscle turns to fat as its fat fraction grows: within each muscle 255 first and 0
    last; 0 outside. SIZE_PX is 512, the pixel size 0.8 mm (SPACING_MM).
    """
    shape = (LAYERS + 1, SIZE_PX, SIZE_PX)
    raw = pa.decompress(maps, decompressed_size=math.prod(shape), codec=PACKING)
    return np.frombuffer(raw, np.uint8).reshape(shape)


def _levels(rng: np.random.Generator) -> Iterator[float]:
    """Yield one random vertebral level in each of SECTIONS_PER_PERSON equal parts."""
    ends = np.linspace(*SECTION_LEVELS, SECTIONS_PER_PERSON + 1)
    for low, high in zip(ends, ends[1:], strict=False):
        yield float(rng.uniform(low, high))


def _plane(body: Body, level: float, tilt_deg: float, lean_deg: float) -> CutPlane:
    """Return a plane through the spine's axis at a level, centred on the body.

    tilt_deg: positive raises the posterior edge towards the head. lean_deg: positive raises the
    left edge.
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
    """Return tissues and order of fat of one section, as for `packed`.

    thickness_mm: slice thickness; the layers are the middles of its LAYERS equal parts.
    """
    offsets = thickness_mm * (np.arange(LAYERS) - LAYERS // 2) / LAYERS
    tissues = body.tissues([plane.moved(offset) for offset in offsets], grid)
    # A pixel that is muscle in several layers gets the order of the highest label value.
    muscle = np.where(tissues <= LABEL_VALUES[-1], tissues, 0).max(axis=0).ravel()
    order = np.zeros(muscle.size, np.uint8)
    ranks = fat_order(muscle_points(body, plane, grid, muscle))
    order[muscle > 0] = np.rint(255 * ranks).astype(np.uint8)
    return tissues, order.reshape(grid.shape)
