"""What the slices below and above are worth as two more input channels of the network.

PARAVERT_REAL_DATA=... python tests/benchmark/neighbours_as_input.py STACKS VALIDATION OUT [--minutes 40]

The network of three slices starts from the shipped model: its weights of the slice itself are those of the
model, those of the two adjacent slices are 0. It is trained on stacks of three synthetic slices, and judged
on hard stacks (synthetic_stacks.py) and on the real volunteer TUM01, with and without averaging adjacent
slices as well. STACKS: table of the training people, three sections per place, drawn here if it is
absent. VALIDATION: table of draw_anatomies of other people. OUT: checkpoint (.pt), from which the same
command resumes. As many minutes of `pretrain_network` from the same model, with one slice as input, are the
run to compare with (docs/septum.md).
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY / part) for part in ("workflow", "tests", "tests/benchmark")]

from model_aims import SHIPPED, on_volunteer  # noqa: E402
from synthetic_stacks import MIDDLE, STEPS, drawn_sections, judged_by, stacks  # noqa: E402

from paravert.network import artefacts, fit  # noqa: E402
from paravert.network.batches import Batch, BatchKey, EpochLoader, SyntheticSlices  # noqa: E402
from paravert.network.predict import NEIGHBOURS_MM, Predictor, Prepared  # noqa: E402
from paravert.network.randomised import drawn_pictures  # noqa: E402
from paravert.network.unet import GpuUNet, Model, UNet, load_model  # noqa: E402
from paravert.network.validate import by_muscle  # noqa: E402
from paravert.synthesis.anatomies import write_sections  # noqa: E402
from trainings import loop_settings  # noqa: E402

CPU = torch.device("cpu")
PEOPLE, SEED, LEARNING_RATE, BATCHES = 240, 7, 0.0007, 400
ALONE_SHARE = (
    0.15  # of the training slices, which have themselves as neighbours, as at the end of a stack
)


class SyntheticStacks(SyntheticSlices):
    """Training batches whose channels are the slice below, the slice itself, and the one above."""

    def __getitem__(self, key: BatchKey) -> Batch:
        """Return the batch of a key: images, float32 (batch, 3, rows, columns), and labels of the middle."""
        settings = self._settings
        seed = (settings.seed, *key)
        rng = np.random.default_rng([*seed, 72])
        first = rng.integers(len(self._anatomies) // len(STEPS), size=settings.batch_size) * len(
            STEPS
        )
        alone = rng.random(settings.batch_size) < ALONE_SHARE
        channels = []
        for step in range(len(STEPS)):
            with _own_noise(seed, step):
                channels.append(
                    drawn_pictures(
                        self._anatomies,
                        first + step,
                        seed=seed,
                        size_px=settings.size_px,
                        spacing_mm=settings.spacing_mm,
                        device=CPU,
                    )
                )
        middle = channels[MIDDLE]
        assert all(
            one.sequence == other.sequence
            for channel in channels
            for one, other in zip(channel.contrasts, middle.contrasts, strict=True)
        )
        images = torch.stack([channel.images for channel in channels], dim=1)
        images[alone] = middle.images[alone, None].expand(-1, len(STEPS), -1, -1)
        return images, middle.labels


@contextmanager
def _own_noise(seed: tuple[int, ...], step: int) -> Iterator[None]:
    """Draw the noise of a slice from random numbers of its own, and the rest as in the other slices."""
    own = int(np.random.SeedSequence([*seed, 73, step]).generate_state(1)[0])
    noisy, generator = artefacts.noisy, torch.Generator().manual_seed(own)
    artefacts.noisy = lambda pictures, rng, _: noisy(pictures, rng, generator)
    try:
        yield
    finally:
        artefacts.noisy = noisy


def widened(start: Model) -> Model:
    """Return the model with three input channels, of which the outer two have weights of 0."""
    network = UNet(start.architecture, inputs=len(STEPS))
    weights = start.network.state_dict()
    first = "encoder.0.convolutions.0.weight"
    wide = torch.zeros_like(network.state_dict()[first])
    wide[:, MIDDLE] = weights[first][:, 0]
    network.load_state_dict(weights | {first: wide})
    return Model(network, start.spacing_mm)


class StackPredictor(Predictor):
    """Predictions of a network that reads a slice between its neighbours; at the ends, the slice itself."""

    def __init__(self, network: UNet, start: Model, neighbours_mm: float):
        super().__init__(start, CPU, neighbours_mm=neighbours_mm, with_expected_iou=True)
        self._forward = GpuUNet(network.eval(), CPU)  # OpenVINO's graph is of one channel

    def logits(self, stack: Prepared) -> Iterator[np.ndarray]:
        """Yield the logits of each slice, float32 (classes, rows, columns)."""
        below, above = stack.slices[:1], stack.slices[-1:]
        padded = np.concatenate([below, stack.slices, above])
        for number in range(len(stack.slices)):
            yield from self._of_batch(padded[None, number : number + len(STEPS)])


def told(predictor: Predictor, drawn: list, data: Path | None, neighbours_mm: float) -> None:
    """Print median and lower quartile of the IoU on hard stacks, and Dice on the volunteer."""
    found = by_muscle(judged_by(predictor, drawn, neighbours_mm)[1].iou)
    print(
        "hard stacks:",
        *(f"{m} {r['median_iou']:.3f} ({r['lower_quartile']:.3f})" for m, r in found.items()),
    )
    if data is not None:
        dice = on_volunteer(predictor, data)
        print(
            "TUM01:",
            *(f"{name[6:]} {value:.3f}" for name, value in dice.items() if "Dice" in name),
            flush=True,
        )


def main() -> None:
    """Train the network of three slices, and print what both networks reach."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("stacks", type=Path)
    options.add_argument("validation", type=Path)
    options.add_argument("out", type=Path)
    options.add_argument("--minutes", type=float, default=40)
    options.add_argument("--people", type=int, default=24, help="whose hard stacks are drawn")
    given = options.parse_args()
    folder = os.environ.get("PARAVERT_REAL_DATA")
    data = Path(folder) if folder else None
    if not given.stacks.exists():
        write_sections(given.stacks, PEOPLE, SEED, os.cpu_count(), STEPS)
    shipped = load_model(SHIPPED)
    settings = loop_settings(
        "pretrain_network",
        **{"architecture": shipped.architecture, "learning_rate": LEARNING_RATE},
        **{"finish_with_iou_fraction": 0.1, "minutes": given.minutes, "seed": 16},
    )
    settings = replace(settings, spacing_mm=shipped.spacing_mm)
    fit.UNet = partial(UNet, inputs=len(STEPS))
    with EpochLoader(SyntheticStacks(given.stacks, settings, CPU, BATCHES), workers=1) as loader:
        run = fit.Training(settings, loader, [], CPU, start=widened(shipped))
        run.run(given.out, lambda progress: print(progress.curve[-1], flush=True))
    print(f"{run.steps * settings.batch_size} training slices")
    with tempfile.TemporaryDirectory() as temporary:
        drawn = list(
            stacks(
                drawn_sections(given.validation, Path(temporary), given.people), shipped.spacing_mm
            )
        )
    for neighbours_mm in (0.0, NEIGHBOURS_MM):
        print(f"neighbours_mm {neighbours_mm}")
        for name, predictor in (
            ("one slice", Predictor(shipped, neighbours_mm=neighbours_mm, with_expected_iou=True)),
            ("three slices", StackPredictor(run.network, shipped, neighbours_mm)),
        ):
            print(name)
            told(predictor, drawn, data, neighbours_mm)


if __name__ == "__main__":
    main()
