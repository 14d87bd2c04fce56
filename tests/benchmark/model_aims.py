"""One table of what a model reaches beside what it should reach, and beside the shipped model.

PARAVERT_REAL_DATA=... python tests/benchmark/model_aims.py VALIDATION [MODEL] [--people 24]

VALIDATION is a table of draw_anatomies of people that the model did not learn from. Hard stacks: synthetic
slices with every randomisation, between their neighbours (synthetic_stacks.py). Predicted IoU is judged
there on people with odd numbers, as it is fitted to those with even ones. Phantoms: 22 volunteers, rendered
without files. TUM01: the real volunteer with manual masks. One man on two scanners: consistency.py.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY / part) for part in ("workflow", "tests", "tests/benchmark")]

import consistency  # noqa: E402
from septum_causes import dixon_images  # noqa: E402
from synthetic_stacks import (  # noqa: E402
    SECTION_IOU,
    Stack,
    drawn_sections,
    flagged_shares,
    stacks,
)
from synthetic_stacks import judged as judged_stacks  # noqa: E402

from paravert.anatomy import LABELS, MUSCLES, SIDES  # noqa: E402
from paravert.imaging.label_maps import slice_overlap  # noqa: E402
from paravert.network.calibration import calibration_error, pooled  # noqa: E402
from paravert.network.clean import cleaned  # noqa: E402
from paravert.network.predict import NEIGHBOURS_MM, Predictor, read_model  # noqa: E402
from paravert.network.unet import load_model  # noqa: E402
from paravert.network.validate import by_muscle  # noqa: E402
from phantom_slices import PhantomSlices, phantom_slices  # noqa: E402
from real_scans import judged, mask_labels  # noqa: E402

SHIPPED = REPOSITORY / "models/synthetic.safetensors"
PHANTOM_SEED, PHANTOMS, PHANTOM_SLICES = 2021, 22, 6
TURNS = 5
BACK_MUSCLES = ("erector_spinae", "multifidus")
LEAST_MEDIAN, LEAST_QUARTILE = 0.82, 0.70
LEAST_DICE = {  # of BACK_MUSCLES
    "water": (0.93, 0.88),
    "fat": (0.93, 0.88),
    "in phase": (0.91, 0.85),
    "opposed phase": (0.91, 0.85),
}
LEAST_FLAGGED, MOST_OTHERS_FLAGGED, MOST_ERROR, MOST_ERROR_TUM01 = 0.9, 0.2, 0.03, 0.05
PHANTOM_LOSS, MOST_SLOWER, MOST_MB = 0.005, 1.3, 20.0

Figures = dict[str, float]
SPEED, SIZE = "processor ms per slice", "weights, MB"


def aims(shipped: Figures) -> dict[str, tuple[str, float]]:
    """Return by figure whether it should be at least (>=) or at most (<=) a value. shipped: its figures."""
    names = {muscle: muscle.replace("_", " ") for muscle in MUSCLES}
    found = {f"hard stacks: median IoU, {name}": (">=", LEAST_MEDIAN) for name in names.values()}
    for name in names.values():
        found[f"hard stacks: lower quartile, {name}"] = ">=", LEAST_QUARTILE
    found |= {
        "hard stacks: sections with IoU < .5 that are flagged": (">=", LEAST_FLAGGED),
        "hard stacks: other sections that are flagged": ("<=", MOST_OTHERS_FLAGGED),
        "hard stacks: calibration error": ("<=", MOST_ERROR),
    }
    for title in (f"phantoms: median IoU, {name}" for name in names.values()):
        found[title] = ">=", shipped[title] - PHANTOM_LOSS
    for kind, least in LEAST_DICE.items():
        for muscle, value in zip(BACK_MUSCLES, least, strict=True):
            found[f"TUM01 {kind}: Dice, {muscle.replace('_', ' ')}"] = ">=", value
    for muscle, name in names.items():
        title = f"two scanners: mean difference of areas, {name}"
        found[title] = "<=", consistency.AIMS[muscle]
    found |= {
        "TUM01: calibration error": ("<=", MOST_ERROR_TUM01),
        SPEED: ("<=", MOST_SLOWER * shipped[SPEED]),
        SIZE: ("<=", MOST_MB),
    }
    return found


def on_stacks(model: Path, drawn: list[Stack]) -> Figures:
    """Return accuracy and predicted IoU on hard synthetic stacks."""
    predicted, overlap = judged_stacks(load_model(model), drawn, NEIGHBOURS_MM)
    own = np.array([stack.person % 2 == 1 for stack in drawn])
    figures = {}
    for muscle, row in by_muscle(overlap.iou).items():
        name = muscle.replace("_", " ")
        figures[f"hard stacks: median IoU, {name}"] = row["median_iou"]
        figures[f"hard stacks: lower quartile, {name}"] = row["lower_quartile"]
    low, others = flagged_shares(predicted[own], overlap.iou[own], SECTION_IOU)
    error = calibration_error(predicted[own], overlap.iou[own])
    return figures | {
        "hard stacks: sections with IoU < .5 that are flagged": low,
        "hard stacks: other sections that are flagged": others,
        "hard stacks: calibration error": error,
    }


def on_phantoms(predictor: Predictor, phantoms: list[PhantomSlices]) -> Figures:
    """Return the median IoU of phantoms, whose slices are segmented without neighbours."""
    found = []
    for one in phantoms:
        labels = predictor.stack_labels(one.images, (one.pixel_mm, one.pixel_mm), apart_mm=np.inf)
        found.append(slice_overlap(cleaned(labels, apart_mm=0)[0], one.labels).iou)
    rows = by_muscle(np.concatenate(found))
    return {
        f"phantoms: median IoU, {muscle.replace('_', ' ')}": row["median_iou"]
        for muscle, row in rows.items()
    }


def on_volunteer(predictor: Predictor, data: Path) -> Figures:
    """Return Dice, mean of both sides, and the calibration error in the real volunteer's images."""
    figures, pairs = {}, []
    for kind, (image, mask, _) in dixon_images(data).items():
        made = predictor.stack_predicted(
            image.array, image.pixel_spacing_mm, apart_mm=image.slice_spacing_mm
        )
        labels, _ = cleaned(made.labels, apart_mm=image.slice_spacing_mm)
        dice = judged(labels, mask)
        for muscle in BACK_MUSCLES:
            mean = np.mean([dice[muscle, side][0] for side in SIDES])
            figures[f"TUM01 {kind}: Dice, {muscle.replace('_', ' ')}"] = float(mean)
        iou = slice_overlap(labels, mask_labels(mask)).iou
        drawn = [label.muscle in BACK_MUSCLES for label in LABELS]
        predicted = predictor.model.calibration.predicted(made.expected_iou)
        pairs.append((predicted[:, drawn], iou[:, drawn]))
    return figures | {"TUM01: calibration error": calibration_error(*pooled(pairs))}


def on_scanners(model: Path, data: Path) -> Figures:
    """Return the mean difference of areas of one man on two scanners."""
    return {
        f"two scanners: mean difference of areas, {muscle.replace('_', ' ')}": value
        for muscle, value in consistency.mean_differences(consistency.areas(model, data)).items()
    }


def milliseconds(predictors: list[Predictor], phantom: PhantomSlices) -> list[float]:
    """Return the processor time of a slice, ms, of each predictor, measured in turn."""
    taken: list[list[float]] = [[] for _ in predictors]
    for _ in range(TURNS):
        for own, predictor in zip(taken, predictors, strict=True):
            begin = time.process_time()
            predictor.stack_labels(phantom.images, (phantom.pixel_mm,) * 2, apart_mm=4.0)
            own.append(1000 * (time.process_time() - begin) / len(phantom.images))
    return [statistics.median(own) for own in taken]


def table(shipped: Figures, others: list[Figures]) -> str:
    """Return the table: figure, aim, shipped model, other models; bold where the aim is not reached."""
    lines = ["| | aim | shipped | new |" if others else "| | aim | shipped |"]
    lines.append("|---" * (3 + len(others)) + "|")
    for title, (sign, aim) in aims(shipped).items():
        cells = []
        for value in (one[title] for one in (shipped, *others)):
            reached = value >= aim if sign == ">=" else value <= aim
            cells.append(f"{value:.3f}" if reached else f"**{value:.3f}**")
        lines.append(f"| {title} | {sign} {aim:.3f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("validation", type=Path)
    options.add_argument("model", type=Path, nargs="?")
    options.add_argument("--people", type=int, default=24, help="whose stacks are drawn")
    given = options.parse_args()
    torch.set_num_threads(1)
    data = Path(os.environ["PARAVERT_REAL_DATA"])
    models = [SHIPPED, *filter(None, [given.model])]
    predictors = [Predictor(read_model(model), with_expected_iou=True) for model in models]
    phantoms = [
        phantom_slices(PHANTOM_SEED, PHANTOMS, index, PHANTOM_SLICES) for index in range(PHANTOMS)
    ]
    with tempfile.TemporaryDirectory() as folder:
        sections = drawn_sections(given.validation, Path(folder), given.people)
        drawn = list(stacks(sections, predictors[0].model.spacing_mm))
    figures = []
    for model, predictor, ms in zip(
        models, predictors, milliseconds(predictors, phantoms[0]), strict=True
    ):
        parts = (
            on_stacks(model, drawn),
            on_phantoms(predictor, phantoms),
            on_volunteer(predictor, data),
            on_scanners(model, data),
        )
        figures.append({SPEED: ms, SIZE: model.stat().st_size / 1e6})
        for part in parts:
            figures[-1] |= part
    print(table(figures[0], figures[1:]))


if __name__ == "__main__":
    main()
