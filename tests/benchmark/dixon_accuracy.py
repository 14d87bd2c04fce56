"""Dixon: which part to segment, the noise floor, and a real volunteer: tables of docs/fat_domain.md.

PARAVERT_REAL_DATA=... python tests/benchmark/dixon_accuracy.py [--validation TABLE]

TABLE is one of draw_anatomies, of people that the model did not learn from: predicted IoU of synthetic pairs
of water and fat image.
Dice and error of the fat fraction with the labels of the shipped model, by the images it sees; error of
the noise rule on phantoms at three noise levels; single-image methods against Dixon in the volunteer.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import torch

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY / part) for part in ("workflow", "tests")]

from dixon_phantoms import dixon_stack  # noqa: E402
from made_from import CONFIGURATION  # noqa: E402
from paravert.anatomy import LABELS, SIDES  # noqa: E402
from paravert.imaging.label_maps import slice_overlap  # noqa: E402
from paravert.imaging.volume import Volume  # noqa: E402
from paravert.measure import dixon_fraction  # noqa: E402
from paravert.measure.dixon_fraction import dixon_columns, without_noise  # noqa: E402
from paravert.measure.fat import fat_fractions  # noqa: E402
from paravert.measure.fat_domain import domain_of, fat_contrast  # noqa: E402
from paravert.network import randomised  # noqa: E402
from paravert.network.calibration import calibration_error  # noqa: E402
from paravert.network.clean import cleaned  # noqa: E402
from paravert.network.contrast import drawn_contrast  # noqa: E402
from paravert.network.predict import Predictor, Prepared, dixon_logits  # noqa: E402
from paravert.network.unet import load_model  # noqa: E402
from paravert.tables import FAT_METHODS, UNKNOWN  # noqa: E402
from real_scans import DIXON, MASK, dice, read_nifti  # noqa: E402

VOLUNTEERS = (0, 7, 11, 16)
NOISE_TIMES = (0.5, 1.0, 2.0)
PAIRS, BATCH = 320, 8  # synthetic slices
SIZE_PX, SPACING_MM, CPU = 192, 1.2, torch.device("cpu")
SHAPES = ((SIZE_PX, SIZE_PX), (SIZE_PX, SIZE_PX))
BACK = slice(4, 8)  # erector spinae and multifidus, which the volunteer's manual masks have
Stack = tuple[np.ndarray, np.ndarray, np.ndarray, Volume]  # water, fat, true labels, geometry


def real_volunteer(data: Path) -> Stack:
    """Return TUM01 with its manual masks."""
    water, fat = (read_nifti(data / DIXON.format(kind)) for kind in ("water", "fat"))
    mask = read_nifti(data / MASK.format("water")).array
    labels = np.choose(mask, [0, 6, 8, 7, 5]).astype(np.uint8)
    return water.array.astype(np.float32), fat.array.astype(np.float32), labels, water


def predicted(
    predictor: Predictor,
    volume: Volume,
    images: Sequence[np.ndarray],
    together: Callable[..., np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Return the cleaned labels and their predicted IoU, (slices, 8), from the logits of some images.

    together: makes one array of logits of those of the images.
    """
    stacks = [
        predictor.prepared(image, volume.pixel_spacing_mm, apart_mm=volume.slice_spacing_mm)
        for image in images
    ]
    logits = map(together, *map(predictor.logits, stacks))
    made = predictor.predicted(stacks[0], logits)
    labels, _ = cleaned(made.labels, apart_mm=volume.slice_spacing_mm)
    return labels, predictor.model.calibration.predicted(made.expected_iou)


def by_muscle(columns: dict[str, np.ndarray], labels: np.ndarray, method: str) -> np.ndarray:
    """Return the fat fraction over all slices, (8,), weighted by area."""
    share = columns[f"fat_fraction_{method}"]
    area = np.stack([(labels == label.value).sum(axis=(1, 2)) for label in LABELS], axis=1)
    area = np.where(np.isnan(share), 0, area)
    with np.errstate(invalid="ignore"):
        return (np.nan_to_num(share) * area).sum(axis=0) / area.sum(axis=0)


def mean_logits(*images: np.ndarray) -> np.ndarray:
    """Return the mean of the logits of some images of a slice."""
    return np.mean(images, axis=0)


def images_of(water: np.ndarray, fat: np.ndarray, in_phase=None, opposed=None) -> dict:
    """Return by name what the network may see: images, and how their logits are combined."""
    return {
        "water": ([water], mean_logits),
        "fat": ([fat], mean_logits),
        "in phase": ([water + fat if in_phase is None else in_phase], mean_logits),
        "opposed phase": ([np.abs(water - fat) if opposed is None else opposed], mean_logits),
        "water and fat (`dixon_logits`)": ([water, fat], dixon_logits),
        "water and fat, mean logits": ([water, fat], mean_logits),
        "water and fat, 3 to 1": ([water, water, water, fat], mean_logits),
    }


def segmentation(predictor: Predictor, data: Path) -> None:
    """Print Dice, and error of the fat fraction, by the images that the network sees."""
    print(
        "| images | segmented from | Dice | fat fraction: mean error | MAE | largest of a muscle "
        "| of a side | calibration error |"
    )
    print("|---|---|---|---|---|---|---|---|")
    water, fat, labels, volume = real_volunteer(data)
    stacks = [(water, fat, labels, volume, images_of(water, fat))]
    phantoms = []
    for index in VOLUNTEERS:
        one = dixon_stack(index)
        parts = [one.images[part] for part in ("water", "fat", "in-phase", "opposed-phase")]
        place = Volume(parts[0], np.diag([-one.pixel_mm, -one.pixel_mm, 30.0, 1.0]))
        phantoms.append((*parts[:2], one.labels, place, images_of(*parts)))
    for title, group in (("TUM01", stacks), ("phantoms", phantoms)):
        for name in stacks[0][-1]:
            overlaps, errors, of_muscles, iou = [], [], [], []
            for water, fat, labels, volume, images in group:
                own, predicted_iou = predicted(predictor, volume, *images[name])
                shown = [label.value for label in LABELS if (labels == label.value).any()]
                known = [value - 1 for value in shown]
                iou.append((predicted_iou[:, known], slice_overlap(own, labels).iou[:, known]))
                overlaps += [dice(own == value, labels == value) for value in shown]
                found, true = (
                    by_muscle(dixon_columns(water, fat, one), one, "dixon") for one in (own, labels)
                )
                errors.append((found - true)[known])
                of_muscles.append(errors[-1].reshape(-1, len(SIDES)).mean(axis=1))
            error, of_muscle = np.concatenate(errors), np.concatenate(of_muscles)
            calibration = calibration_error(
                *(np.concatenate([a.ravel() for a in part]) for part in zip(*iou, strict=True))
            )
            print(
                f"| {title} | {name} | {np.mean(overlaps):.3f} | {error.mean():+.3f} | "
                f"{np.abs(error).mean():.3f} | {np.abs(of_muscle).max():.3f} | "
                f"{np.abs(error).max():.3f} | {calibration:.3f} |",
                flush=True,
            )


def synthetic_pairs(predictor: Predictor, table: Path) -> None:
    """Print median IoU, error of the predicted IoU and calibration error of synthetic slices, by images."""
    source = randomised.Anatomies(table)
    numbers = np.random.default_rng(0).choice(len(source), PAIRS, replace=False)
    found: dict[str, list] = {"water": [], "fat": [], "water and fat": []}
    for first in range(0, PAIRS, BATCH):
        slices = [
            _drawn(source, numbers[first : first + BATCH], kind)
            for kind in found
            if " " not in kind
        ]
        assert (slices[0].labels == slices[1].labels).all()
        logits = [list(predictor.logits(Prepared(one.images.numpy(), *SHAPES))) for one in slices]
        for own, of_images in zip(
            found.values(), [*logits, map(dixon_logits, *logits)], strict=True
        ):
            made = predictor.predicted(Prepared(slices[0].images.numpy(), *SHAPES), of_images)
            own.append(
                (made.expected_iou, slice_overlap(made.labels, slices[0].labels.numpy()).iou)
            )
    print("\n| synthetic slices | median IoU | predicted - measured IoU | calibration error |")
    print("|---|---|---|---|")
    for name, pairs in found.items():
        expected, iou = map(np.concatenate, zip(*pairs, strict=True))
        told = predictor.model.calibration.predicted(expected)
        bias = np.nanmean((told - iou)[told > 0])
        print(
            f"| {name} | {np.nanmedian(iou):.3f} | {bias:+.3f} | {calibration_error(told, iou):.3f} |"
        )


def _drawn(source: randomised.Anatomies, numbers: np.ndarray, part: str) -> randomised.Pictures:
    """Return the water or fat images of sections; both of one section are equal in all else."""
    contrast = partial(drawn_contrast, sequence=f"dixon_{part}")
    with mock.patch.object(randomised, "drawn_contrast", contrast):
        return randomised.drawn_pictures(
            source,
            numbers,
            seed=(300, int(numbers[0])),
            size_px=SIZE_PX,
            spacing_mm=SPACING_MM,
            device=CPU,
        )


def noise_floor() -> None:
    """Print the error against the same images without noise, by muscle (mean of both sides)."""
    print(
        "\n| noise | rule | psoas | quadratus | erector | multifidus |\n|---|---|---|---|---|---|"
    )
    for times in NOISE_TIMES:
        errors: dict[str, list] = {"none": [], "as measured": []}
        for index in VOLUNTEERS:
            clean, noisy = (
                dixon_stack(index, noise_times=1e-9),
                dixon_stack(index, noise_times=times),
            )
            true = dixon_fraction._fractions(
                clean.images["water"], clean.images["fat"], clean.labels
            )
            water, fat = noisy.images["water"], noisy.images["fat"]
            sd = dixon_fraction.noise_sd(water, fat)
            for rule, noise in (("none", 0.0), ("as measured", sd)):
                parts = without_noise(water, noise), without_noise(fat, noise)
                errors[rule].append(dixon_fraction._fractions(*parts, noisy.labels) - true)
        for rule, found in errors.items():
            sides = np.nanmean(np.concatenate(found), axis=0).reshape(4, 2).mean(axis=1)
            print(f"| x {times:g} | {rule} | " + " | ".join(f"{e:+.4f}" for e in sides) + " |")


def single_images(data: Path) -> None:
    """Print the single-image methods on the volunteer's manual masks, against Dixon."""
    print("\n| image | method | bias | MAE | rank correlation over slices and muscles |")
    print("|---|---|---|---|---|")
    water, fat, labels, volume = real_volunteer(data)
    true = dixon_columns(water, fat, labels)["fat_fraction_dixon"][:, BACK]
    for name, image in {
        "fat": fat,
        "like T2 (0.2 water + fat)": 0.2 * water + fat,
        "in phase (water + fat)": water + fat,
        "water": water,
    }.items():
        seen = fat_contrast(image, labels, volume.pixel_spacing_mm)
        reason = domain_of(UNKNOWN, seen).reason
        columns = fat_fractions([image], [labels], [volume.pixel_spacing_mm], [reason])
        for method in FAT_METHODS:
            found = columns[f"fat_fraction_{method}"][:, BACK]
            known = np.isfinite(found) & np.isfinite(true)
            if not known.any():
                told = columns[f"reason_{method}"][:, BACK]
                print(
                    f"| {name} | {method} | null: {', '.join(sorted(set(told[told != 'absent'])))} | | |"
                )
                continue
            error = (found - true)[known]
            ranks = [np.argsort(np.argsort(v[known])) for v in (found, true)]
            r = np.corrcoef(*ranks)[0, 1]
            print(
                f"| {name} | {method} | {error.mean():+.3f} | {np.abs(error).mean():.3f} | {r:.2f} |"
            )


def main() -> None:
    """Print all tables."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    options.add_argument("--validation", type=Path)
    given = options.parse_args()
    predictor = Predictor(load_model(REPOSITORY / CONFIGURATION["model"]["file"]))
    if given.validation:
        synthetic_pairs(predictor, given.validation)
    data = Path(os.environ["PARAVERT_REAL_DATA"])
    noise_floor()
    single_images(data)
    print()
    segmentation(predictor, data)


if __name__ == "__main__":
    main()
