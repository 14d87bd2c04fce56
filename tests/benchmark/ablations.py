"""What each choice of the training on synthetic slices is worth, one changed at a time.

python tests/benchmark/ablations.py ANATOMIES VALIDATION TABLE.csv [--epochs 5] [--only NAME ...]
    [--start-from MODEL]

ANATOMIES and VALIDATION are tables of draw_anatomies of two seeds. Every row is a network on
coarse pixels, trained from scratch on as many slices and judged, on its own pixels, on synthetic
slices with every randomisation, of people it did not see; with PARAVERT_REAL_DATA also by Dice on the
real volunteer's water and fat image. Its cost stands beside it: minutes of processor time without the
drawing. A table that is there already is gone on with; docs/ablations.csv is the one to look at.
With --start-from, every row continues a model, on its own pixels, with a learning rate of .0004: what a
changed randomisation is worth shows in a tenth of the time of a training from scratch. Rows with another
network or other pixels are left out.
"""

import argparse
import csv
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY / part) for part in ("workflow", "tests")]

from paravert.anatomy import MUSCLES  # noqa: E402
from paravert.network import artefacts, contrast, fit, septa  # noqa: E402
from paravert.network import randomised as slices  # noqa: E402
from paravert.network.architecture import Architecture  # noqa: E402
from paravert.network.batches import (  # noqa: E402
    EpochLoader,  # noqa: E402
    SyntheticSlices,
    held_out_samples,
)
from paravert.network.predict import Predictor  # noqa: E402
from paravert.network.pretrain import HELD_OUT, HELD_OUT_SEEDS, scored  # noqa: E402
from paravert.network.randomised import Anatomies, PicturePose  # noqa: E402
from paravert.network.settings import Settings  # noqa: E402
from paravert.network.unet import GpuUNet, Model, UNet, load_model  # noqa: E402
from paravert.network.validate import by_muscle  # noqa: E402
from real_scans import mean_dice  # noqa: E402
from trainings import loop_settings  # noqa: E402

CPU = torch.device("cpu")
BASE = loop_settings(
    "pretrain_network",
    architecture=Architecture(width=16, dropout=0.0),
    size_px=96,
    spacing_mm=2.4,
    loss="cross_entropy_iou",
    finish_with_iou_fraction=0.2,
    batch_size=8,
    average=0.99,
)
EPOCH = 3200  # slices


class CoordinateUNet(UNet):
    """The network with two more inputs: each pixel's place across and down, -1 to 1."""

    def __init__(self, architecture: Architecture):
        super().__init__(architecture)
        first = self.encoder[0].convolutions[0]
        self.encoder[0].convolutions[0] = torch.nn.Conv2d(3, first.out_channels, 3, padding=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        lines = (torch.linspace(-1, 1, size, device=image.device) for size in image.shape[2:])
        places = torch.stack(torch.meshgrid(*lines, indexing="ij")).expand(len(image), -1, -1, -1)
        return super().forward(torch.cat([image, places.to(image)], dim=1))


# --- randomisations left out ---------------------------------------------------------------------


def _one_sequence() -> None:
    drawn = contrast.drawn_contrast
    slices.drawn_contrast = lambda rng: drawn(rng, "t2")


def _no_free_contrast() -> None:
    contrast.SEQUENCES.pop(contrast.FREE)


def _without(*names: str) -> Callable[[], None]:
    """Return a function that has parts of `artefacts` change nothing."""
    neutral = {
        "coil_field": lambda points, rng: torch.ones(()),
        "saturation_band": lambda points, rng: torch.ones(()),
        "lateral_saturation": lambda points, rng: torch.ones(()),
        "small_field": lambda points, rng: torch.ones(points[:, 0].shape, dtype=torch.bool),
        "failing_saturation": lambda points, saturated, rng: torch.ones(()),
        "drawn_shifts_px": lambda spacing_mm, down, *_: np.zeros((len(down), 2), int),
        "wrapped": lambda images, *_: (images, torch.ones(images.shape, dtype=torch.bool)),
        "noisy": lambda images, *_: images,
        "field_of_view": lambda shape, rng: torch.ones(shape, dtype=torch.bool),
    }

    def taken_out() -> None:
        for name in names:
            setattr(artefacts, name, neutral.get(name, lambda images, *_: images))

    return taken_out


def _no_deformation() -> None:
    drawn = slices.drawn_waves
    slices.drawn_waves = lambda *given: [0 * wave for wave in drawn(*given)]


def _same_place() -> None:
    straight = PicturePose(np.eye(2), np.zeros(2), False)
    slices.drawn_place = lambda rng: straight


def _no_texture() -> None:
    slices._texture = lambda shape, device, generator: torch.zeros(shape, device=device)
    slices._septa = lambda tissue, *_: torch.ones(tissue.shape)


def _septa_as_drawn() -> None:
    septa.HIDDEN_SHARE = septa.BROKEN_SHARE = contrast.FAINT_SEPTUM_SHARE = 0.0


def _no_fat_lines() -> None:
    septa.LINED_SHARE = dict.fromkeys(septa.LINED_SHARE, 0.0)


def _no_even_fat() -> None:
    septa.EVEN_SHARE = 0.0


def _no_change_of_septa() -> None:
    _septa_as_drawn()
    _no_fat_lines()
    _no_even_fat()


def _no_surroundings() -> None:
    slices.with_surroundings = lambda maps, *_: maps


def _little_fat() -> None:
    slices.PERSON_LOGIT_SD = 0.0
    for muscle in slices.FAT_LOGIT:
        slices.FAT_LOGIT[muscle] = (-3.0, 0.0)


LEFT_OUT: dict[str, Callable[[], None]] = {
    "contrasts other than T2": _one_sequence,
    "free contrasts": _no_free_contrast,
    "uneven coils": _without("coil_field"),
    "saturation": _without("saturation_band", "lateral_saturation", "failing_saturation"),
    "chemical shift": _without("drawn_shifts_px"),
    "resolution": _without("blurred"),
    "motion": _without("ghosted", "moved"),
    "field of view": _without("wrapped", "field_of_view", "small_field"),
    "noise": _without("noisy"),
    "windowing": _without("as_stored"),
    "deformation": _no_deformation,
    "place": _same_place,
    "texture": _no_texture,
    "fatty muscle": _little_fat,
    "hidden septa": _septa_as_drawn,
    "fat lines within muscles": _no_fat_lines,
    "even fat": _no_even_fat,
    "hidden septa, fat lines, even fat": _no_change_of_septa,
    "structures beside the muscles": _no_surroundings,
}


class LessRandomSlices(SyntheticSlices):
    """Training slices without one of the randomisations; also in the process that draws them."""

    def __init__(self, *given, left_out: str | None):
        super().__init__(*given)
        self._left_out = left_out

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        if self._left_out is not None:
            LEFT_OUT[self._left_out]()


# --- rows ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A training: what differs from BASE, what is left out, and the network."""

    settings: Settings = BASE
    left_out: str | None = None
    network: type[UNet] = UNet

    @property
    def is_of_base(self) -> bool:
        """Whether its network and pixels are those of BASE, so that it can continue any model."""
        shape = self.settings.architecture, self.settings.size_px, self.settings.spacing_mm
        base = BASE.architecture, BASE.size_px, BASE.spacing_mm
        return self.network is UNet and shape == base


def _shape(**changes) -> Row:
    return Row(replace(BASE, architecture=replace(BASE.architecture, **changes)))


ROWS = {
    "as it is": Row(),
    "again, other seed": Row(replace(BASE, seed=2)),
    "loss: the paper's alone": Row(replace(BASE, loss="iou")),
    "loss: not the paper's at the end": Row(replace(BASE, finish_with_iou_fraction=0.0)),
    "normalisation: batch": _shape(normalisation="batch"),
    "normalisation: instance": _shape(normalisation="instance"),
    "normalisation: group": _shape(normalisation="group"),
    "coordinate channels": Row(network=CoordinateUNet),
    "width 8": _shape(width=8),
    "width 32": _shape(width=32),
    **{f"without: {name}": Row(left_out=name) for name in LEFT_OUT},
    "pixels of 3.6 mm": Row(replace(BASE, size_px=64, spacing_mm=3.6)),
    "pixels of 1.8 mm": Row(replace(BASE, size_px=128, spacing_mm=1.8)),
    "pixels of 1.2 mm": Row(replace(BASE, size_px=192, spacing_mm=1.2)),
}


def trained(row: Row, anatomies: Path, epochs: int, start: Model | None) -> fit.Training:
    """Return a training that has run to its end."""
    settings = replace(row.settings, epochs=epochs)
    if start is not None:
        own = {"architecture": start.network.architecture, "spacing_mm": start.spacing_mm}
        settings = replace(settings, size_px=192, learning_rate=0.0004, **own)
    fit.UNet = row.network
    given = anatomies, settings, CPU, EPOCH // settings.batch_size
    with EpochLoader(LessRandomSlices(*given, left_out=row.left_out), workers=1) as loader:
        run = fit.Training(settings, loader, [], CPU, start=start)
        run.run()
    return run


def predictor_of(network: UNet, spacing_mm: float) -> Predictor:
    """Return the predictor of a network, also of one whose input OpenVINO's graph does not have."""
    plain = UNet(network.architecture) if isinstance(network, CoordinateUNet) else network
    predictor = Predictor(Model(plain.eval(), spacing_mm), CPU)
    if plain is not network:
        predictor._forward = GpuUNet(network.eval(), CPU)
    return predictor


def measured(run: fit.Training, validation: Anatomies) -> dict[str, float]:
    """Return synthetic median IoU and lower quartile per muscle, and real Dice."""
    settings = run.settings
    shape = {"size_px": settings.size_px, "spacing_mm": settings.spacing_mm}
    samples = held_out_samples(validation, HELD_OUT[-1], **shape, seed=HELD_OUT_SEEDS[-1])
    predictor = predictor_of(run.network, settings.spacing_mm)
    own = by_muscle(scored(predictor, samples)[1].iou)
    row = {f"iou_{muscle}": own[muscle]["median_iou"] for muscle in MUSCLES}
    row |= {f"lower_quartile_{muscle}": own[muscle]["lower_quartile"] for muscle in MUSCLES}
    folder = os.environ.get("PARAVERT_REAL_DATA")
    if folder is None:
        return row
    for kind in ("water", "fat"):
        for muscle, dice in mean_dice(predictor, Path(folder), kind).items():
            row[f"dice_{kind}_{muscle}"] = round(dice, 4)
    return row


def main() -> None:
    """Train and validate what the table still lacks."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("anatomies", type=Path)
    options.add_argument("validation", type=Path)
    options.add_argument("table", type=Path)
    options.add_argument("--epochs", type=int, default=5, help=f"of {EPOCH} slices")
    options.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), metavar="NAME")
    options.add_argument("--start-from", type=Path, metavar="MODEL")
    given = options.parse_args()
    done = []
    if given.table.exists():
        with given.table.open(newline="") as file:
            done = list(csv.DictReader(file))
    validation = Anatomies(given.validation)
    start = load_model(given.start_from, CPU) if given.start_from else None
    for name in given.only:
        if start and not ROWS[name].is_of_base:
            print(f"{name}: left out, a model is continued with its own network and pixels")
            continue
        if any(row["row"] == name and int(row["epochs"]) == given.epochs for row in done):
            continue
        begin = time.process_time()
        run = trained(ROWS[name], given.anatomies, given.epochs, start)
        minutes = round((time.process_time() - begin) / 60, 2)
        cost = {"row": name, "epochs": given.epochs, "cpu_minutes": minutes}
        done.append(cost | measured(run, validation))
        print(done[-1], flush=True)
        with given.table.open("w", newline="") as file:
            writer = csv.DictWriter(file, max(done, key=len))
            writer.writeheader()
            writer.writerows(done)


if __name__ == "__main__":
    main()
