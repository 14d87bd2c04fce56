"""Pictures of what a model makes of real scans: those of docs/synthetic_model.md.

PARAVERT_REAL_DATA=... python tests/benchmark/model_pictures.py [MODEL] [--out docs]

dixon_water_overlay.jpg: water image of the volunteer, with the manual masks in white. t1_overlay.jpg: T1 at
0.3 T. Twelve slices each, from the feet upwards.
"""

import argparse
import os
import sys
from pathlib import Path

import numpy as np
from skimage.util import montage

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY / part) for part in ("workflow", "tests")]

from paravert.imaging.volume import Volume  # noqa: E402
from paravert.measure.slice_picture import (  # noqa: E402
    WHITE,
    SliceView,
    as_picture,
    draw_slice,
    windowed,
)
from paravert.network.predict import Predictor  # noqa: E402
from paravert.network.unet import load_model  # noqa: E402
from real_scans import (  # noqa: E402
    DIXON,
    MASK,
    T1,
    mask_labels,
    read_nifti,
    read_series,
    scan_labels,
)

SHIPPED = REPOSITORY / "models/synthetic.safetensors"
SLICES, GRID, SIZE_PX, WIDTH_MM = 12, (3, 4), (230, 300), 280.0


def slice_pictures(scan: Volume, labels: np.ndarray, truth: np.ndarray | None) -> list[np.ndarray]:
    """Return a picture of each slice, about the middle of its muscles; values are indices into PALETTE."""
    mm = WIDTH_MM / SIZE_PX[1]
    scale = tuple(mm / spacing for spacing in scan.pixel_spacing_mm)
    grey, found = windowed(scan.array), []
    for number, own in enumerate(labels):
        centre = tuple(place.mean() for place in np.nonzero(own))
        view = SliceView(centre, scale, SIZE_PX)
        mask = None if truth is None else truth[number]
        found.append(draw_slice(grey[number], own, mask, view))
    return found


def write_montage(path: Path, slices: list[np.ndarray]) -> None:
    """Write twelve of the pictures, evenly spaced by number, as one JPEG."""
    chosen = [slices[round(at)] for at in np.linspace(0, len(slices) - 1, SLICES)]
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas = montage(chosen, grid_shape=GRID, padding_width=2, fill=WHITE)
    as_picture(canvas).convert("RGB").save(path, quality=88)


def main() -> None:
    """Write both pictures."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("model", type=Path, nargs="?", default=SHIPPED)
    options.add_argument("--out", type=Path, default=REPOSITORY / "docs")
    given = options.parse_args()
    data, predictor = Path(os.environ["PARAVERT_REAL_DATA"]), Predictor(load_model(given.model))
    water = read_nifti(data / DIXON.format("water"))
    truth = mask_labels(read_nifti(data / MASK.format("water")).array)
    labels = scan_labels(predictor, water)
    write_montage(given.out / "dixon_water_overlay.jpg", slice_pictures(water, labels, truth))
    slices = []
    for stack in read_series(data / T1):
        slices += slice_pictures(stack, scan_labels(predictor, stack), None)
    write_montage(given.out / "t1_overlay.jpg", slices)


if __name__ == "__main__":
    main()
