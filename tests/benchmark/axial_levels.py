"""How well a model tells levels from the muscles in axial slices: phantoms of other seeds, real studies.

PARAVERT_REAL_DATA=... python tests/benchmark/axial_levels.py MODEL [--phantoms 30] [--seed 4711]
    [--cache FOLDER] [--pictures FOLDER] [--people TABLE] [--sagittal models/levels.safetensors]
    [--muscles models/synthetic.safetensors]

All slices are segmented by the network of --muscles. Phantoms: of every second one a part of the slices is cut away, a third at least is left. Error of the level of
each slice, share of errors within one and two standard deviations, and processor time. People: a table of draw_anatomies
of another seed; the label maps of a person's sections, each in another pose, make a stack. Real studies: the mean level
of each stack, and its difference from the level by the sagittal series of the same study.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY / part) for part in ("workflow", "tests", "tests/benchmark")]

from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from level_phantoms import STUDIES, geometry_of, kept_phantom, labelled  # noqa: E402
from paravert.imaging.dicom import read_dicom  # noqa: E402
from paravert.imaging.geometry import LPS_TO_RAS  # noqa: E402
from paravert.imaging.image_stack import geometry_rows  # noqa: E402
from paravert.imaging.volume import Volume  # noqa: E402
from paravert.network.axial_levels import (  # noqa: E402
    SliceEvidence,
    levels_from_axial,
    levels_of_slices,
)
from paravert.network.axial_net import load_axial_network, predicted_levels  # noqa: E402
from paravert.network.find_levels import (  # noqa: E402
    MOST_AXIAL_SD,
    FoundLevels,
    SliceGeometry,
    levels_on_curve,
)
from paravert.network.predict import Predictor  # noqa: E402
from paravert.network.randomised import seed_of  # noqa: E402
from paravert.network.sagittal_levels import named_discs  # noqa: E402
from paravert.network.sagittal_net import load_sagittal_network  # noqa: E402
from paravert.network.spine_curve import curve_through  # noqa: E402
from paravert.network.train_axial_levels import LabelSections  # noqa: E402
from paravert.network.unet import load_model  # noqa: E402
from paravert.synthesis.spine import DRAWN_HEIGHT_CM, PITCH_MM  # noqa: E402
from paravert.synthesis.volunteers import population_member  # noqa: E402

SEED = 4711


def some_slices(volume: Volume, true: np.ndarray, rng: np.random.Generator) -> tuple:
    """Return a random part of a stack, a third at least."""
    count = len(true)
    size = int(rng.integers(-(-count // 3), count + 1))
    first = int(rng.integers(0, count - size + 1))
    affine = volume.affine.copy()
    affine[:3, 3] += first * affine[:3, 2]
    return Volume(volume.array[first : first + size], affine), true[first : first + size]


def judge_phantoms(
    model: Path, muscles: Predictor, seed: int, count: int, cache: Path | None
) -> tuple:
    """Print and return true and found levels and their SD of all slices of phantoms."""
    rng = np.random.default_rng(seed)
    parts, seconds = [], []
    for index in range(count):
        volume, true = kept_phantom(seed, index, cache)
        if index % 2:
            volume, true = some_slices(volume, true, rng)
        labels = labelled(muscles, volume)
        started = time.process_time()
        found = levels_from_axial(model, [labels], geometry_of([labels]))
        seconds.append(time.process_time() - started)
        off = found.level - true
        print(
            f"phantom {index}: {len(true)} slices from {true[-1]:.1f} to {true[0]:.1f}, "
            f"error {np.nanmean(off):+.2f}, largest {np.nanmax(np.abs(off)):.2f}, "
            f"sd {np.nanmean(found.sd):.2f}"
        )
        parts.append((true, found.level, found.sd, np.full(len(true), index)))
    true, level, sd, person = (np.concatenate(part) for part in zip(*parts, strict=True))
    off = np.abs(level - true)
    tell("all slices", off, sd)
    tell(f"SD at most {MOST_AXIAL_SD}", off[sd <= MOST_AXIAL_SD], sd[sd <= MOST_AXIAL_SD])
    print(f"share of slices with SD at most {MOST_AXIAL_SD}: {np.mean(sd <= MOST_AXIAL_SD):.3f}")
    print(f"processor time per subject: median {np.median(seconds):.2f} s")
    return true, level, sd, person


def judge_people(model: Path, table: Path) -> None:
    """Print the errors of stacks made of the sections of people of a table of draw_anatomies."""
    network, sections, seed = load_axial_network(model), LabelSections(table), seed_of(table)
    off, sd = [], []
    for person in np.unique(sections.people):
        rng = np.random.default_rng([seed, person, 94])
        own = np.flatnonzero(sections.people == person)
        own = own[np.argsort(sections.levels[own])]
        if person % 2:
            size = int(rng.integers(len(own) // 3, len(own) + 1))
            own = own[int(rng.integers(len(own) - size + 1)) :][:size]
        batch = sections.batch(own, (seed, person))
        probability, _ = predicted_levels(network, batch.cells.numpy())
        levels = batch.levels.numpy()
        height = population_member(seed, person).height_cm
        places = np.outer(levels * PITCH_MM * height / DRAWN_HEIGHT_CM, (0, 0, -1.0))
        affines = np.repeat(np.eye(4)[None], len(own), axis=0)
        affines[:, :3, 3] = places
        found = levels_of_slices(SliceEvidence(probability, places), affines)
        off.append(np.abs(found.level - levels))
        sd.append(found.sd)
    off, sd = np.concatenate(off), np.concatenate(sd)
    tell("people, all slices", off, sd)
    tell(f"people, SD at most {MOST_AXIAL_SD}", off[sd <= MOST_AXIAL_SD], sd[sd <= MOST_AXIAL_SD])


def tell(what: str, off: np.ndarray, sd: np.ndarray) -> None:
    print(
        f"{what}: median error {np.nanmedian(off):.3f}, 95 % within {np.nanquantile(off, 0.95):.3f}, "
        f"within 1 SD {np.nanmean(off <= sd):.3f}, within 2 SD {np.nanmean(off <= 2 * sd):.3f}"
    )


def judge_studies(
    model: Path, muscles: Predictor, sagittal: Path, data: Path, pictures: Path | None
) -> None:
    """Print the levels of the stacks of real studies by axial slices and by the sagittal series."""
    for study, (axial, series) in STUDIES.items():
        with tempfile.TemporaryDirectory() as folder:
            for part in (axial, series[1]):
                Path(folder, part).symlink_to(data / study / part)
            images = read_dicom(Path(folder))
        rows = geometry_rows(images.stacks)
        stacks = [stack.volume for stack in images.stacks]
        geometry = SliceGeometry(
            np.array([row["stack"] for row in rows]),
            np.array([row["slice"] for row in rows]),
            LPS_TO_RAS @ np.array([row["affine"] for row in rows]).reshape(-1, 4, 4),
            np.array([stacks[row["stack"] - 1].array.shape[1:] for row in rows]),
        )
        found = levels_from_axial(model, [labelled(muscles, one) for one in stacks], geometry)
        discs = named_discs(load_sagittal_network(sagittal), images.sagittal)
        other = levels_on_curve(curve_through(discs.points), geometry).level
        for number in np.unique(geometry.stack):
            own = geometry.stack == number
            off = found.level[own] - other[own]
            print(
                f"{study} {series[1]} stack {number}: axial {np.nanmean(found.level[own]):.2f} "
                f"(SD {np.nanmean(found.sd[own]):.2f}), sagittal {np.nanmean(other[own]):.2f}, "
                f"largest difference {np.nanmax(np.abs(off)):.2f}"
            )
        if pictures:
            draw_study(pictures / f"{study}.png", stacks, geometry, found, other)


def draw_study(path: Path, stacks, geometry, found: FoundLevels, other: np.ndarray) -> None:
    """Draw the middle slice of each stack with its levels by both sources."""
    figure = Figure((3 * len(stacks), 3.4), layout="constrained")
    for number, stack in enumerate(stacks, start=1):
        own = np.flatnonzero(geometry.stack == number)
        middle = own[len(own) // 2]
        axes = figure.add_subplot(1, len(stacks), number)
        image = stack.array[len(stack.array) // 2].astype(float)
        axes.imshow(image, cmap="gray", vmax=np.percentile(image, 99.5))
        axes.set_title(
            f"axial {found.level[middle]:.2f} ± {found.sd[middle]:.2f}\nsagittal {other[middle]:.2f}",
            fontsize=9,
        )
        axes.axis("off")
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_png(path)


def draw_phantoms(path: Path, true, level, sd, person) -> None:
    """Draw the level found against the true one, a line per phantom."""
    figure = Figure((6, 6), layout="constrained")
    axes = figure.add_subplot()
    for index in np.unique(person):
        own = person == index
        axes.errorbar(true[own], level[own], sd[own], lw=0.6, alpha=0.7)
    axes.plot([0, 6.5], [0, 6.5], "k", lw=1)
    axes.set_xlabel("true level")
    axes.set_ylabel("level by axial slices, with its SD")
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_png(path)


def main() -> None:
    """Print how levels are found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--phantoms", type=int, default=30)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--people", type=Path)
    parser.add_argument("--sagittal", type=Path, default=REPOSITORY / "models/levels.safetensors")
    shipped = REPOSITORY / "models/synthetic.safetensors"
    parser.add_argument("--muscles", type=Path, default=shipped)
    given = parser.parse_args()
    muscles = Predictor(load_model(given.muscles))
    if given.people:
        judge_people(given.model, given.people)
    if given.phantoms:
        found = judge_phantoms(given.model, muscles, given.seed, given.phantoms, given.cache)
        if given.pictures:
            draw_phantoms(given.pictures / "phantoms.png", *found)
    if data := os.environ.get("PARAVERT_REAL_DATA"):
        judge_studies(given.model, muscles, given.sagittal, Path(data), given.pictures)


if __name__ == "__main__":
    main()
