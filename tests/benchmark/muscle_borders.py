"""Where a network draws the outer borders of the back muscles, beside a rater, and how sharp they are.

PARAVERT_REAL_DATA=... python tests/benchmark/muscle_borders.py VALIDATION [MODEL ...]

The images are those of the real volunteer TUM01 (Dixon). First table: share of multifidus and of erector
spinae by hand that the network gives to the other muscle or to none, and the reverse. Second: signal by
distance from the outer border of both muscles, relative to 0 within them and 1 in the brightest fat about
them, in TUM01 (masks by hand) and in training slices of people of VALIDATION, a table of draw_anatomies.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY / part) for part in ("workflow", "tests", "tests/benchmark")]

from septum_causes import ERECTOR, MULTIFIDUS, SIZE_PX, SPACING_MM, dixon_images  # noqa: E402

from paravert.network import randomised  # noqa: E402
from paravert.network.clean import cleaned  # noqa: E402
from paravert.network.contrast import drawn_contrast  # noqa: E402
from paravert.network.predict import Predictor, read_model  # noqa: E402
from real_scans import mask_labels  # noqa: E402

DISTANCES_MM = tuple(mm for mm in range(-4, 5) if mm)
DEEP_MM, ABOUT_MM = 6, 25
LEAST_PX = 500  # of both muscles in a slice
BATCHES, BATCH = 6, 8
SEQUENCES = {"fat": "dixon_fat", "in phase": "in_phase", "opposed phase": "opposed_phase"}
Slices = Iterable[tuple[np.ndarray, np.ndarray]]  # image, and whether a pixel is of the muscles


def shares(models: list[Path], data: Path) -> None:
    """Print the shares of the muscles' areas that differ from the masks by hand."""
    print("| model | image | muscle | to the other | to none | from the other | from none |")
    print("|---|---|---|---|---|---|---|")
    for model in models:
        predictor = Predictor(read_model(model))
        for kind, (image, mask, _) in dixon_images(data).items():
            apart_mm = image.slice_spacing_mm
            labels = predictor.stack_labels(image.array, image.pixel_spacing_mm, apart_mm=apart_mm)
            labels, _ = cleaned(labels, apart_mm=apart_mm)
            true = mask_labels(mask)
            for name, own, other in (("MF", MULTIFIDUS, ERECTOR), ("ES", ERECTOR, MULTIFIDUS)):
                (is_own, is_other), (made_own, made_other) = (
                    [np.isin(given, values) for values in (own, other)] for given in (true, labels)
                )
                wrong = (
                    is_own & made_other,
                    is_own & ~made_own & ~made_other,
                    made_own & is_other,
                    made_own & ~is_own & ~is_other,
                )
                told = " | ".join(f"{one.sum() / is_own.sum():.3f}" for one in wrong)
                print(f"| {model.stem} | {kind} | {name} | {told} |", flush=True)


def profile(slices: Slices, spacing_mm: tuple[float, float]) -> str:
    """Return the median signal at DISTANCES_MM from the border, outside positive, mean over the slices."""
    rows = []
    for image, inside in slices:
        if inside.sum() < LEAST_PX:
            continue
        inner, outer = (
            distance_transform_edt(one, sampling=spacing_mm) for one in (inside, ~inside)
        )
        away = np.where(inside, -inner, outer)
        if not (away < -DEEP_MM).any():
            continue
        dark = np.median(image[away < -DEEP_MM])
        bright = np.percentile(image[(away > 0) & (away < ABOUT_MM)], 97)
        if bright <= dark:  # nothing is shown around them
            continue
        relative = (image - dark) / (bright - dark)
        rows.append([np.median(relative[abs(away - mm) < 0.6]) for mm in DISTANCES_MM])
    return " | ".join(f"{value:+.2f}" for value in np.nanmean(rows, axis=0))


def drawn(validation: Path, sequence: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield training slices in a sequence, and where their labels are of the back muscles."""
    source, rng = randomised.Anatomies(validation), np.random.default_rng(5)
    shape = {"size_px": SIZE_PX, "spacing_mm": SPACING_MM, "device": torch.device("cpu")}
    with mock.patch.object(randomised, "drawn_contrast", lambda own: drawn_contrast(own, sequence)):
        for batch in range(BATCHES):
            numbers = rng.integers(len(source), size=BATCH)
            made = randomised.drawn_pictures(source, numbers, seed=(9, batch), **shape)
            yield from zip(made.images.numpy(), made.labels.numpy() >= ERECTOR[0], strict=True)


def profiles(validation: Path, data: Path) -> None:
    """Print the signal by distance from the border."""
    print("\n| slices | image |" + "".join(f" {mm:+d} mm |" for mm in DISTANCES_MM))
    print("|---|---|" + "---|" * len(DISTANCES_MM))
    images = dixon_images(data)
    for kind, sequence in SEQUENCES.items():
        image, mask, _ = images[kind]
        real = zip(image.array.astype(float), mask_labels(mask) >= ERECTOR[0], strict=True)
        print(f"| TUM01 | {kind} | {profile(real, image.pixel_spacing_mm)} |")
        made = profile(drawn(validation, sequence), (SPACING_MM, SPACING_MM))
        print(f"| training | {kind} | {made} |", flush=True)


def main() -> None:
    """Print the tables."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("validation", type=Path)
    options.add_argument("models", type=Path, nargs="*")
    given = options.parse_args()
    torch.set_num_threads(1)
    data = Path(os.environ["PARAVERT_REAL_DATA"])
    shares(given.models, data)
    profiles(given.validation, data)


if __name__ == "__main__":
    main()
