"""The real scans at hand, of which no model has seen one: images, masks, and what Dice a model reaches."""

from pathlib import Path

import nibabel
import numpy as np
import pydicom

from paravert.anatomy import SIDES, label_value
from paravert.network.clean import cleaned
from paravert.network.predict import Predictor

DIXON = "tum01_dixon/TUM01_{}_img_L2-L5.nii.gz"
MASK = "tum01_dixon/TUM01_{}_manual_label_L2-L5.nii.gz"
MASK_VALUES = {
    ("erector_spinae", "right"): 1,
    ("multifidus", "right"): 2,
    ("multifidus", "left"): 3,
    ("erector_spinae", "left"): 4,
}
T1 = "lumbar_study_cc0/T1_AX"


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


def dixon_labels(predictor: Predictor, data: Path, kind: str) -> np.ndarray:
    """Return the cleaned labels of the volunteer's water or fat image."""
    images, spacing = read_nifti(data / DIXON.format(kind))
    return cleaned(predictor.stack_labels(images.astype(np.float32), spacing))[0]


def mean_dice(predictor: Predictor, data: Path, kind: str) -> dict[str, float]:
    """Return by muscle the Dice in the volunteer's water or fat image, mean of both sides."""
    mask, _ = read_nifti(data / MASK.format(kind))
    found = judged(dixon_labels(predictor, data, kind), mask)
    return {
        muscle: float(np.mean([found[muscle, side][0] for side in SIDES]))
        for muscle in dict.fromkeys(muscle for muscle, _ in MASK_VALUES)
    }


def judged(
    labels: np.ndarray, mask: np.ndarray
) -> dict[tuple[str, str], tuple[float, float, float]]:
    """Return by muscle and side: Dice, area against the mask's, share of it labelled as the other side."""
    found = {}
    for (muscle, side), value in MASK_VALUES.items():
        own = labels == label_value(muscle, side)
        other = labels == label_value(muscle, "left" if side == "right" else "right")
        truth = mask == value
        area, swapped = own.sum() / truth.sum(), (other & truth).sum() / truth.sum()
        found[muscle, side] = dice(own, truth), float(area), float(swapped)
    return found
