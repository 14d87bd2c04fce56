"""What a network is trained on, to look at, and how fast it is drawn.

python tests/benchmark/training_slices.py ANATOMIES PICTURE.png [--size-px 192] [--spacing-mm 1.2] [--by-level]

ANATOMIES is a table of draw_anatomies. The picture shows 64 slices drawn at random; with
PARAVERT_REAL_DATA real ones stand among them, not told apart: their places are printed. Milliseconds
per slice are those of one core. --by-level (needs PARAVERT_REAL_DATA): a row per disc, L5/S1 to L1/2,
with a real slice of T1, T2 and Dixon water, each before three synthetic ones of its sequence, with the
spine in the middle and nothing cut off.
"""

import argparse
import os
import sys
import time
from functools import partial
from pathlib import Path
from unittest import mock

import matplotlib
import numpy as np
import pyarrow.parquet as pq
import torch

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY / part) for part in ("workflow", "tests")]

from paravert.imaging.volume import Volume  # noqa: E402
from paravert.network import artefacts, randomised  # noqa: E402
from paravert.network.contrast import drawn_contrast  # noqa: E402
from paravert.network.grid import network_size, resampled, standardise  # noqa: E402
from paravert.network.randomised import Anatomies, PicturePose, drawn_pictures  # noqa: E402
from real_scans import DIXON, STUDIES, T1, dixon_slice, read_nifti, read_series  # noqa: E402

SIDE, BATCH, BATCHES = 8, 16, 4
REAL = 8
STRAIGHT = PicturePose(np.eye(2), np.array([0.0, 10.0]), mirrored=False)
UNCUT = {
    "wrapped": lambda images, *_: (images, torch.ones(images.shape, dtype=torch.bool)),
    "field_of_view": lambda shape, rng: torch.ones(shape, dtype=torch.bool),
    "small_field": lambda points, rng: torch.ones(points[:, 0].shape, dtype=torch.bool),
}
DISCS = {5.5: 0, 4.5: 1, 3.5: 2, 2.5: 3, 1.5: 4}  # level: number of the studies' stack


def real_slices(size_px: int, spacing_mm: float, rng: np.random.Generator) -> list[np.ndarray]:
    """Return slices of the real scans on the network's grid, cut about their middle."""
    folder = os.environ.get("PARAVERT_REAL_DATA")
    if folder is None:
        return []
    stacks = [read_nifti(Path(folder) / DIXON.format(kind)) for kind in ("water", "fat")]
    stacks += read_series(Path(folder) / T1)
    found = []
    for number in range(REAL):
        stack = stacks[number % len(stacks)]
        found.append(on_grid(stack, rng.integers(len(stack.array)), size_px, spacing_mm))
    return found


def on_grid(stack: Volume, number: int, size_px: int, spacing_mm: float) -> np.ndarray:
    """Return one slice on the network's grid, cut about its middle."""
    one = standardise(stack.array[number : number + 1].astype(np.float32))
    size = network_size(stack.array.shape[1:], stack.pixel_spacing_mm, spacing_mm)
    picture = resampled(one, size)[0]
    top, left = (max(0, (pixels - size_px) // 2) for pixels in picture.shape)
    return picture[top : top + size_px, left : left + size_px]


def by_level(anatomies: Path, picture: Path, size_px: int, spacing_mm: float) -> None:
    """Lay out real and synthetic slices of each disc and sequence, cut about the back muscles."""
    data = Path(os.environ["PARAVERT_REAL_DATA"])
    source = Anatomies(anatomies)
    known = pq.read_table(anatomies, columns=["level", "tilt_deg"])
    level_of, tilt = (known[name].to_numpy() for name in ("level", "tilt_deg"))
    water = read_nifti(data / DIXON.format("water"))
    scans = {
        "t1": read_series(data / STUDIES["0.3 T T1"]),
        "t2": read_series(data / STUDIES["1.5 T T2"]),
    }
    figure, axes = pyplot.subplots(len(DISCS), 12, figsize=(36, 2.4 * len(DISCS)))
    for row, (level, number) in zip(axes, DISCS.items(), strict=True):
        near = np.argsort(np.abs(level_of - level) + 0.02 * np.abs(tilt))[:9]
        for place, sequence in enumerate(("t1", "t2", "dixon_water")):
            if sequence == "dixon_water":
                stack, middle = water, dixon_slice(level)
            else:
                stack = scans[sequence][number]
                middle = len(stack.array) // 2
            of_sequence = partial(drawn_contrast, sequence=sequence)
            with (
                mock.patch.multiple(artefacts, **UNCUT),
                mock.patch.multiple(
                    randomised, drawn_contrast=of_sequence, drawn_place=lambda rng: STRAIGHT
                ),
            ):
                drawn = drawn_pictures(
                    source,
                    near[3 * place : 3 * place + 3],
                    seed=(3, place, number),
                    size_px=size_px,
                    spacing_mm=spacing_mm,
                    device=torch.device("cpu"),
                ).images.numpy()
            shown = [on_grid(stack, middle, size_px, spacing_mm), *drawn] if middle >= 0 else drawn
            for axis, one in zip(
                row[4 * place + 4 - len(shown) : 4 * place + 4], shown, strict=True
            ):
                top = one.shape[0] // 3
                axis.imshow(one[top:, 20:-20], cmap="gray", vmax=np.percentile(one[top:], 99))
    for axis in axes.ravel():
        axis.axis("off")
    figure.subplots_adjust(0, 0, 1, 1, 0.01, 0.01)
    figure.savefig(picture, dpi=60)


def main(
    anatomies: Path, picture: Path, size_px: int, spacing_mm: float, *, levels: bool = False
) -> None:
    """Draw slices, tell how long it took, and lay them out."""
    torch.set_num_threads(1)
    if levels:
        by_level(anatomies, picture, size_px, spacing_mm)
        return
    source, rng = Anatomies(anatomies), np.random.default_rng(0)
    shape = {"size_px": size_px, "spacing_mm": spacing_mm, "device": torch.device("cpu")}
    drawn, seconds = [], []
    for batch in range(BATCHES):
        begin = time.perf_counter()
        numbers = rng.integers(len(source), size=BATCH)
        drawn += list(drawn_pictures(source, numbers, seed=(batch,), **shape).images.numpy())
        seconds.append(time.perf_counter() - begin)
    print(f"{1000 * min(seconds) / BATCH:.1f} ms per slice of {size_px} x {size_px}, best of 4")
    real = real_slices(size_px, spacing_mm, rng)
    places = rng.choice(SIDE**2, len(real), replace=False)
    for place, one in zip(places, real, strict=True):
        drawn[place] = one
    print("real:", sorted((int(p) // SIDE + 1, int(p) % SIDE + 1) for p in places))
    figure, axes = pyplot.subplots(SIDE, SIDE, figsize=(24, 24))
    for axis, one in zip(axes.ravel(), drawn, strict=True):
        axis.imshow(one, cmap="gray")
        axis.axis("off")
    figure.subplots_adjust(0, 0, 1, 1, 0.01, 0.01)
    figure.savefig(picture, dpi=50)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("anatomies", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--size-px", type=int, default=192)
    parser.add_argument("--spacing-mm", type=float, default=1.2)
    parser.add_argument("--by-level", dest="levels", action="store_true")
    main(**vars(parser.parse_args()))
