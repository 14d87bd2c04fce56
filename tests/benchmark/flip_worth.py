"""What flipping is worth (`segment_muscles.flip`): IoU with and without, on synthetic and real slices.

python tests/benchmark/flip_worth.py MODEL VALIDATION [--slices 640]

VALIDATION is a table of draw_anatomies of people that the model did not learn from; its slices are
drawn with every randomisation; the median of sections of 2 cm2 or more stands beside that of all.
With PARAVERT_REAL_DATA, Dice on the real volunteer follows.
"""

import argparse
import os
import sys
from pathlib import Path

import torch

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY / part) for part in ("workflow", "tests")]

from overlap_lines import overlap_lines  # noqa: E402
from paravert.network.batches import held_out_samples  # noqa: E402
from paravert.network.calibration import calibration_error  # noqa: E402
from paravert.network.predict import Predictor  # noqa: E402
from paravert.network.pretrain import scored  # noqa: E402
from paravert.network.randomised import Anatomies  # noqa: E402
from paravert.network.unet import load_model  # noqa: E402
from real_scans import mean_dice  # noqa: E402

CPU = torch.device("cpu")
SIZE_PX, SEED = 192, 11


def main() -> None:
    """Print medians and lower quartiles, and the calibration error, for both."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("model", type=Path)
    options.add_argument("validation", type=Path)
    options.add_argument("--slices", type=int, default=640)
    given = options.parse_args()
    model = load_model(given.model)
    shape = {"size_px": SIZE_PX, "spacing_mm": model.spacing_mm}
    samples = held_out_samples(Anatomies(given.validation), given.slices, **shape, seed=SEED)
    for flip in (False, True):
        predictor = Predictor(model, CPU, flip=flip, neighbours_mm=0.0, with_expected_iou=True)
        expected, overlap = scored(predictor, samples)
        found, predicted = overlap.iou, model.calibration.predicted(expected)
        print("flipped" if flip else "plain", f"{len(samples)} synthetic slices", end=": ")
        print(f"calibration error {calibration_error(predicted, found):.3f}")
        print(*overlap_lines(overlap, model.spacing_mm), sep="\n", flush=True)
        if folder := os.environ.get("PARAVERT_REAL_DATA"):
            for kind in ("water", "fat"):
                for muscle, dice in mean_dice(predictor, Path(folder), kind).items():
                    print(f"  real, {kind:5s} {muscle:15s} Dice {dice:.3f}")


if __name__ == "__main__":
    main()
