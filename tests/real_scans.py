"""The real scans at hand, of which no model has seen one: images, masks, and what Dice a model reaches."""

from pathlib import Path

import nibabel
import numpy as np

from paravert.anatomy import SIDES, label_value
from paravert.imaging.dicom import read_dicom
from paravert.imaging.volume import Volume
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
# Slices of the Dixon volunteer, 4 mm apart: the discs L4/5, L3/4, L2/3 and L1/2 lie at slices 2.5, 11, 19 and 27
# (sagittal view; the iliac crests end at slice 0).
DIXON_L45, DIXON_SLICES_PER_LEVEL = 2.5, 8.2
T1 = "lumbar_study_cc0/T1_AX"
STUDIES = {"0.3 T T1": T1, "1.5 T T2": "lumbar_study_cc0_15t/T2_AX"}  # one man; a stack per disc


def read_nifti(path: Path) -> Volume:
    """Return an image or mask, rows to the back and columns to the left; its place is left out."""
    image = nibabel.as_closest_canonical(nibabel.load(path))
    array = np.asarray(image.dataobj)[::-1, ::-1].transpose(2, 1, 0)
    x, y, z = image.header.get_zooms()
    return Volume(np.ascontiguousarray(array), np.diag([-x, -y, z, 1.0]))


def mask_labels(mask: np.ndarray) -> np.ndarray:
    """Return the Dixon volunteer's manual mask as a label map, values of LABELS or 0."""
    return np.choose(mask.astype(int), (0, 6, 8, 7, 5)).astype(np.uint8)


def read_series(folder: Path) -> list[Volume]:
    """Return the stacks of a DICOM series, from the feet upwards."""
    return [stack.volume for stack in read_dicom(folder).stacks]


def dixon_slice(level: float) -> int:
    """Return the number of the Dixon volunteer's slice at a level (4.5: the disc L4/5); may lie outside."""
    return round(DIXON_L45 + DIXON_SLICES_PER_LEVEL * (4.5 - level))


def scan_labels(predictor: Predictor, scan: Volume) -> np.ndarray:
    """Return the cleaned labels of a stack."""
    images, apart_mm = scan.array.astype(np.float32), scan.slice_spacing_mm
    labels = predictor.stack_labels(images, scan.pixel_spacing_mm, apart_mm=apart_mm)
    return cleaned(labels, apart_mm=apart_mm)[0]


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Return twice the common part over both."""
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


def dixon_labels(predictor: Predictor, data: Path, kind: str) -> np.ndarray:
    """Return the cleaned labels of the volunteer's water or fat image."""
    return scan_labels(predictor, read_nifti(data / DIXON.format(kind)))


def mean_dice(predictor: Predictor, data: Path, kind: str) -> dict[str, float]:
    """Return by muscle the Dice in the volunteer's water or fat image, mean of both sides."""
    mask = read_nifti(data / MASK.format(kind)).array
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
