"""How good labels are where synthetic slices have neighbours, as the slices of a scan do.

python tests/benchmark/synthetic_stacks.py MODEL VALIDATION [--people 40] [--pixel-mm 1.2] [--picture FILE.png]

VALIDATION is a table of draw_anatomies of people that the model did not learn from. Each of its
sections is drawn with the slices below and above it, a gap of a tenth of their thickness apart, in
one contrast with one set of faults. Even the noise is alike in the three: neighbours help less
than in a scan. The slice in the middle is judged, labelled as segment_muscles does by default, with
and without a say of the two. With --pixel-mm the stacks have pixels of this size, and labels are judged on
them, whatever the pixel size of the model: so models of different pixel sizes can be compared. The picture
shows a few stacks.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
import yaml
from PIL import Image

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY / part) for part in ("workflow", "tests")]

from overlap_lines import overlap_lines  # noqa: E402
from paravert.imaging.label_maps import Overlap, slice_overlap  # noqa: E402
from paravert.network.calibration import calibration_error  # noqa: E402
from paravert.network.predict import (  # noqa: E402
    NEIGHBOURS_MM,
    Predictor,
    Prepared,
    neighbour_weights,
)
from paravert.network.randomised import (  # noqa: E402
    Anatomies,
    Pictures,
    drawn_pictures,
    seed_of,
)
from paravert.network.unet import Model, load_model  # noqa: E402
from paravert.synthesis.anatomies import write_sections  # noqa: E402

CPU = torch.device("cpu")
FIELD_MM, SIZE_STEP_PX, SEED = 230.4, 32, 13
GAP = 0.1  # of the thickness
STEPS = (-(1 + GAP), 0.0, 1 + GAP)
MIDDLE = 1
LOW_IOU = 0.5
SECTION_IOU = yaml.safe_load((REPOSITORY / "config/config.yaml").read_text())["flags"][
    "section_iou"
]
SHOWN, GREY = 6, 40.0  # stacks in the picture; grey values of a standard deviation


@dataclass(frozen=True)
class Stack:
    """Three slices, float32 (3, rows, columns), the truth of the middle one, their distance, the person."""

    images: np.ndarray
    truth: np.ndarray
    apart_mm: float
    person: int


def drawn_sections(validation: Path, folder: Path, people: int | None = None) -> Path:
    """Return a table of the first people of another one (None: all), with three sections for each."""
    own = pq.read_table(validation, columns=["person"])["person"].unique()
    table = folder / "stacks.parquet"
    write_sections(table, people or len(own), seed_of(validation), os.cpu_count(), STEPS)
    return table


def stacks(table: Path, spacing_mm: float) -> Iterator[Stack]:
    """Yield the stacks whose middle shows a muscle."""
    source = Anatomies(table)
    columns = pq.read_table(table, columns=["thickness_mm", "person"])
    thickness_mm, person = (columns[name].to_numpy() for name in ("thickness_mm", "person"))
    for first in range(0, len(source), len(STEPS)):
        slices = [_drawn(source, first + step, first, spacing_mm) for step in range(len(STEPS))]
        assert len({one.contrasts[0].sequence for one in slices}) == 1
        truth = slices[MIDDLE].labels[0].numpy()
        if truth.any():
            images = torch.cat([one.images for one in slices]).numpy()
            yield Stack(images, truth, (1 + GAP) * float(thickness_mm[first]), int(person[first]))


def _drawn(source: Anatomies, number: int, stack: int, spacing_mm: float) -> Pictures:
    """Return the picture of one section; those of a stack are drawn from one seed."""
    return drawn_pictures(
        source,
        np.array([number]),
        seed=(SEED, stack),
        size_px=SIZE_STEP_PX * round(FIELD_MM / spacing_mm / SIZE_STEP_PX),
        spacing_mm=spacing_mm,
        device=CPU,
    )


def judged(model: Model, drawn: list[Stack], neighbours_mm: float) -> tuple[np.ndarray, Overlap]:
    """Return the predicted IoU, (stacks, 8), and the overlap found, of the middle slices."""
    return judged_by(Predictor(model, CPU, with_expected_iou=True), drawn, neighbours_mm)


def judged_by(
    predictor: Predictor, drawn: list[Stack], neighbours_mm: float
) -> tuple[np.ndarray, Overlap]:
    """Return the predicted IoU and the overlap of the middle slices, as `judged`."""
    labels, expected = [], []
    for stack in drawn:
        weights = neighbour_weights(stack.images, stack.apart_mm, neighbours_mm)
        shape = stack.truth.shape
        made = predictor.predicted(Prepared(stack.images, shape, shape, weights))
        labels.append(made.labels[MIDDLE])
        expected.append(made.expected_iou[MIDDLE])
    truth = np.stack([stack.truth for stack in drawn])
    predicted = predictor.model.calibration.predicted(np.stack(expected))
    return predicted, slice_overlap(np.stack(labels), truth)


def on_own_pixels(model: Model, drawn: list[Stack], pixel_mm: float) -> Overlap:
    """Return the overlap of the middle slices, on their pixels, whatever the pixel size of the model."""
    predictor, spacing_mm = Predictor(model, CPU), (pixel_mm, pixel_mm)
    labels = [
        predictor.stack_labels(stack.images, spacing_mm, apart_mm=stack.apart_mm)[MIDDLE]
        for stack in drawn
    ]
    return slice_overlap(np.stack(labels), np.stack([stack.truth for stack in drawn]))


def flagged_shares(predicted: np.ndarray, iou: np.ndarray, limit: float) -> tuple[float, float]:
    """Return the share of sections with IoU < .5 that are flagged, and that of the other sections.

    predicted, iou: (slices, 8). Flagged: the predicted IoU is below the limit, or 0 where the muscle may
    have been missed. The others include those in which the muscle is absent (IoU NaN).
    """
    flagged, low = predicted < limit, iou < LOW_IOU
    return float(flagged[low].mean()), float(flagged[~low].mean())


def show(drawn: list[Stack], file: Path) -> None:
    """Write some stacks, a row each."""
    rows = [np.hstack(stack.images) for stack in drawn[:: len(drawn) // SHOWN][:SHOWN]]
    grey = np.clip(np.vstack(rows) * GREY + 100, 0, 255)
    Image.fromarray(grey.astype(np.uint8)).save(file)


def main() -> None:
    """Print medians and lower quartiles, and the calibration error, for both."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("model", type=Path)
    options.add_argument("validation", type=Path)
    options.add_argument("--people", type=int, help="the first of VALIDATION; default: all")
    options.add_argument("--pixel-mm", type=float, help="of the stacks; default: the model's")
    options.add_argument("--picture", type=Path)
    given = options.parse_args()
    model = load_model(given.model)
    with tempfile.TemporaryDirectory() as folder:
        table = drawn_sections(given.validation, Path(folder), given.people)
        drawn = list(stacks(table, given.pixel_mm or model.spacing_mm))
    if given.picture:
        show(drawn, given.picture)
    if given.pixel_mm:
        found = on_own_pixels(model, drawn, given.pixel_mm)
        print(*overlap_lines(found, given.pixel_mm), sep="\n")
        return
    for neighbours_mm in (0.0, NEIGHBOURS_MM):
        predicted, overlap = judged(model, drawn, neighbours_mm)
        error = calibration_error(predicted, overlap.iou)
        low, others = flagged_shares(predicted, overlap.iou, SECTION_IOU)
        print(
            f"neighbours_mm {neighbours_mm}, {len(drawn)} stacks: calibration error {error:.3f};",
            end="",
        )
        print(f" flagged: {low:.0%} of sections with IoU < {LOW_IOU}, {others:.0%} of the others")
        print(*overlap_lines(overlap, model.spacing_mm), sep="\n", flush=True)


if __name__ == "__main__":
    main()
