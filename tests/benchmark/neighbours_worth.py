"""What a say of the neighbouring slices is worth (`segment_muscles.neighbours_mm`).

python tests/benchmark/neighbours_worth.py MODEL [--volunteers 6]

Median IoU and lower quartile in phantom volunteers of a seed that nothing was trained on, cut into
slices 3 to 7 mm apart; with PARAVERT_REAL_DATA also Dice on the real volunteer, whose slices lie
4 mm apart.
"""

import argparse
import os
import sys
from pathlib import Path

import numpy as np
import torch

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY / part) for part in ("workflow", "tests")]

from paravert.imaging.label_maps import slice_overlap  # noqa: E402
from paravert.network.clean import cleaned  # noqa: E402
from paravert.network.predict import Predictor  # noqa: E402
from paravert.network.unet import load_model  # noqa: E402
from paravert.network.validate import by_muscle  # noqa: E402
from phantom_slices import PhantomSlices, phantom_stack  # noqa: E402
from real_scans import mean_dice  # noqa: E402

CPU = torch.device("cpu")
SEED, SLICES = 9002, 16
TRIED_MM = (0.0, 2.0, 3.5, 5.0)
APART_MM = (3.0, 4.0, 5.0, 7.0)


def iou(predictor: Predictor, stack: PhantomSlices, apart_mm: float) -> np.ndarray:
    """Return the IoU of a phantom's slices, (slices, 8)."""
    spacing_mm = (stack.pixel_mm, stack.pixel_mm)
    labels = predictor.stack_labels(stack.images, spacing_mm, apart_mm=apart_mm)
    return slice_overlap(cleaned(labels, apart_mm=apart_mm)[0], stack.labels).iou


def main() -> None:
    """Print a block for each distance of slices, and one for the real volunteer."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("model", type=Path)
    options.add_argument("--volunteers", type=int, default=6)
    given = options.parse_args()
    model = load_model(given.model)
    predictors = {mm: Predictor(model, CPU, neighbours_mm=mm) for mm in TRIED_MM}
    for apart_mm in APART_MM:
        people = range(given.volunteers)
        stacks = [
            phantom_stack(SEED, given.volunteers, index, apart_mm, SLICES) for index in people
        ]
        for mm, predictor in predictors.items():
            found = np.concatenate([iou(predictor, stack, apart_mm) for stack in stacks])
            print(f"slices {apart_mm} mm apart, neighbours_mm {mm}: {len(found)} slices", end=" ")
            for muscle, row in by_muscle(found).items():
                print(f" {muscle} {row['median_iou']:.3f} ({row['lower_quartile']:.3f})", end="")
            print(flush=True)
    if folder := os.environ.get("PARAVERT_REAL_DATA"):
        for kind in ("water", "fat"):
            for mm, predictor in predictors.items():
                found = mean_dice(predictor, Path(folder), kind)
                told = "  ".join(f"{muscle} {dice:.3f}" for muscle, dice in found.items())
                print(f"real {kind}, neighbours_mm {mm}: Dice {told}", flush=True)


if __name__ == "__main__":
    main()
