"""How well a model segments the real scans at hand, which it never saw: Dice, and pictures to look at.

PARAVERT_REAL_DATA=... python tests/benchmark/real_scan_dice.py MODEL [FOLDER for the pictures]

A volunteer's Dixon water and fat image with manual masks of erector spinae and multifidus, and a T1
series without masks, of which there are only pictures.
"""

import argparse
import os
import sys
from pathlib import Path

import matplotlib
import numpy as np
import torch

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402
from matplotlib.colors import ListedColormap  # noqa: E402

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY / part) for part in ("workflow", "tests")]

from paravert.anatomy import LABELS  # noqa: E402
from paravert.network.predict import Predictor  # noqa: E402
from paravert.network.unet import load_model  # noqa: E402
from real_scans import (  # noqa: E402
    DIXON,
    MASK,
    T1,
    dixon_labels,
    judged,
    read_nifti,
    read_series,
    scan_labels,
)

COLOURS = ListedColormap([(0, 0, 0, 0), *(label.colour for label in LABELS)])


def draw(path: Path, images: np.ndarray, labels: np.ndarray, mask: np.ndarray | None) -> None:
    """Draw twelve slices with what was found, and the outlines of the mask."""
    chosen = np.linspace(0, len(images) - 1, 12).round().astype(int)
    rows, columns = (slice(0, size) for size in images.shape[1:])
    if mask is not None:
        drawn_rows, drawn_columns = np.nonzero(mask.any(axis=0))
        rows = slice(drawn_rows.min() - 80, drawn_rows.max() + 30)
        columns = slice(drawn_columns.min() - 60, drawn_columns.max() + 60)
    height, width = images[0, rows, columns].shape
    figure, axes = pyplot.subplots(3, 4, figsize=(16, 12 * height / width))
    for axis, number in zip(axes.ravel(), chosen, strict=True):
        image = images[number, rows, columns]
        axis.imshow(image, cmap="gray", vmax=np.percentile(image, 99.5))
        shown = COLOURS(labels[number, rows, columns])
        shown[..., 3] *= 0.45
        axis.imshow(shown, interpolation="nearest")
        if mask is not None:
            outlines = mask[number, rows, columns]
            axis.contour(outlines, levels=[0.5, 1.5, 2.5, 3.5], colors="w", linewidths=0.7)
        axis.axis("off")
    figure.subplots_adjust(0, 0, 1, 1, 0.01, 0.01)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=75, pil_kwargs={"quality": 85})
    pyplot.close(figure)


def main(model: Path, folder: Path | None) -> None:
    """Segment every scan, print Dice where there is a mask, and draw pictures into the folder."""
    data = Path(os.environ["PARAVERT_REAL_DATA"])
    cpu = torch.device("cpu")
    predictor = Predictor(load_model(model, cpu), cpu)
    for kind in ("water", "fat"):
        labels = dixon_labels(predictor, data, kind)
        mask = read_nifti(data / MASK.format(kind)).array
        for (muscle, side), (dice, area, swapped) in judged(labels, mask).items():
            print(f"{kind:6s} {muscle:15s} {side:5s} Dice {dice:.3f}", end="  ")
            print(f"area {area:.2f} of the mask's, other side {swapped:.4f}")
        if folder:
            images = read_nifti(data / DIXON.format(kind)).array
            draw(folder / f"dixon_{kind}.jpg", images, labels, mask)
    stacks = read_series(data / T1)
    labels = np.concatenate([scan_labels(predictor, stack) for stack in stacks])
    if folder:
        images = np.concatenate([stack.array for stack in stacks])
        draw(folder / "t1.jpg", images, labels, None)


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("model", type=Path)
    options.add_argument("folder", nargs="?", type=Path, help="where to draw the pictures")
    main(**vars(options.parse_args()))
