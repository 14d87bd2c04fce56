"""How well a model segments the real scans at hand, which it never saw: Dice, and pictures to look at.

PARAVERT_REAL_DATA=... python tests/benchmark/real_scans.py MODEL [FOLDER for the pictures]

A volunteer's Dixon water and fat image with manual masks of erector spinae and multifidus, and a T1
series without masks, of which there are only pictures.
"""

import os
import sys
from pathlib import Path

import matplotlib
import nibabel
import numpy as np
import pydicom
import torch

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402
from matplotlib.colors import ListedColormap  # noqa: E402

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY / "workflow"))

from paravert.anatomy import LABELS, label_value  # noqa: E402
from paravert.network.clean import cleaned  # noqa: E402
from paravert.network.model import load_model  # noqa: E402
from paravert.network.predict import Predictor  # noqa: E402

DIXON = "tum01_dixon/TUM01_{}_img_L2-L5.nii.gz"
MASK = "tum01_dixon/TUM01_{}_manual_label_L2-L5.nii.gz"
MASK_VALUES = {
    ("erector_spinae", "right"): 1,
    ("multifidus", "right"): 2,
    ("multifidus", "left"): 3,
    ("erector_spinae", "left"): 4,
}
T1 = "lumbar_study_cc0/T1_AX"
COLOURS = ListedColormap([(0, 0, 0, 0), *(label.colour for label in LABELS)])


def read_nifti(path: Path) -> tuple[np.ndarray, tuple[float, float]]:
    """Return (slices, rows, columns), rows to the back and columns to the left, and its spacing."""
    image = nibabel.as_closest_canonical(nibabel.load(path))
    array = np.asarray(image.dataobj)[::-1, ::-1].transpose(2, 1, 0)
    x, y, _ = image.header.get_zooms()
    return np.ascontiguousarray(array), (float(y), float(x))


def read_t1(folder: Path) -> tuple[np.ndarray, tuple[float, float]]:
    """Return the T1 slices in the order of their numbers, and their spacing."""
    files = [pydicom.dcmread(path) for path in folder.iterdir()]
    files.sort(key=lambda file: int(file.InstanceNumber))
    spacing = tuple(float(value) for value in files[0].PixelSpacing)
    return np.stack([file.pixel_array for file in files]).astype(np.float32), spacing


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Return twice the common part over both."""
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


def report(image: str, labels: np.ndarray, mask: np.ndarray) -> None:
    """Print Dice per muscle and side, and the share of each that lies on the wrong side."""
    for (muscle, side), value in MASK_VALUES.items():
        found = labels == label_value(muscle, side)
        other = labels == label_value(muscle, "left" if side == "right" else "right")
        truth = mask == value
        swapped = float((other & truth).sum()) / float(truth.sum())
        print(f"{image:6s} {muscle:15s} {side:5s} Dice {dice(found, truth):.3f}", end="  ")
        print(f"area {found.sum() / truth.sum():.2f} of the mask's, other side {swapped:.4f}")


def draw(path: Path, images: np.ndarray, labels: np.ndarray, mask: np.ndarray | None) -> None:
    """Draw twelve slices with what was found, and the outlines of the mask."""
    chosen = np.linspace(0, len(images) - 1, 12).round().astype(int)
    figure, axes = pyplot.subplots(3, 4, figsize=(20, 15))
    for axis, number in zip(axes.ravel(), chosen, strict=True):
        axis.imshow(images[number], cmap="gray", vmax=np.percentile(images[number], 99.5))
        shown = COLOURS(labels[number])
        shown[..., 3] *= 0.45
        axis.imshow(shown, interpolation="nearest")
        if mask is not None:
            axis.contour(mask[number], levels=[0.5, 1.5, 2.5, 3.5], colors="w", linewidths=0.7)
            rows, columns = np.nonzero(mask.any(axis=0))
            axis.set_xlim(columns.min() - 60, columns.max() + 60)
            axis.set_ylim(rows.max() + 30, rows.min() - 80)
        axis.set_title(f"slice {number}", fontsize=8)
        axis.axis("off")
    figure.subplots_adjust(0, 0, 1, 0.98, 0.01, 0.03)
    figure.savefig(path, dpi=60)
    pyplot.close(figure)


def main(model: str, folder: str = "") -> None:
    """Segment every scan, print what can be told and draw the rest."""
    data = Path(os.environ["PARAVERT_REAL_DATA"])
    cpu = torch.device("cpu")
    predictor = Predictor(load_model(Path(model), cpu), cpu)
    for kind in ("water", "fat"):
        images, spacing = read_nifti(data / DIXON.format(kind))
        mask, _ = read_nifti(data / MASK.format(kind))
        labels, _ = cleaned(predictor.stack_labels(images.astype(np.float32), spacing))
        report(kind, labels, mask)
        if folder:
            draw(Path(folder) / f"dixon_{kind}.png", images, labels, mask)
    images, spacing = read_t1(data / T1)
    labels, _ = cleaned(predictor.stack_labels(images, spacing))
    if folder:
        draw(Path(folder) / "t1.png", images, labels, None)


if __name__ == "__main__":
    main(*sys.argv[1:])
