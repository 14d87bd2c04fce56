"""What a network is trained on, to look at, and how fast it is drawn.

python tests/benchmark/training_slices.py ANATOMIES PICTURE.png [--size-px 192] [--spacing-mm 1.2]

ANATOMIES is a table of draw_anatomies. The picture shows 64 slices drawn at random; with
PARAVERT_REAL_DATA real ones stand among them, not told apart: their places are printed. Milliseconds
per slice are those of one core.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import matplotlib
import numpy as np
import torch

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY / part) for part in ("workflow", "tests")]

from paravert.network.grid import network_size, resampled, standardise  # noqa: E402
from paravert.network.randomised import Anatomies, drawn_pictures  # noqa: E402
from real_scans import DIXON, T1, read_nifti, read_series  # noqa: E402

SIDE, BATCH, BATCHES = 8, 16, 4
REAL = 8


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
        images, spacing = stack.array, stack.pixel_spacing_mm
        chosen = rng.integers(len(images))
        one = standardise(images[chosen : chosen + 1].astype(np.float32))
        picture = resampled(one, network_size(images.shape[1:], spacing, spacing_mm))[0]
        top, left = (max(0, (pixels - size_px) // 2) for pixels in picture.shape)
        found.append(picture[top : top + size_px, left : left + size_px])
    return found


def main(anatomies: Path, picture: Path, size_px: int, spacing_mm: float) -> None:
    """Draw slices, tell how long it took, and lay them out."""
    torch.set_num_threads(1)
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
    main(**vars(parser.parse_args()))
