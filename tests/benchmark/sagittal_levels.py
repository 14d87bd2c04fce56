"""How well a model finds and names discs in sagittal series: phantoms of other seeds, and real studies.

PARAVERT_REAL_DATA=... python tests/benchmark/sagittal_levels.py MODEL [--phantoms 20] [--seed 4711] [--pictures FOLDER] [--cache FOLDER]

Phantoms: how many are named rightly, wrongly or not at all, with a probability below LEAST_CLEAR ("uncertain", a
warning of find_levels) or not; of every second one the field of view is cut above L1 or below S1. Each is
also cut short: the field of view ends between L4/5 and the middle of S1, so that there is nothing to count from.
"with muscles": names that are not clear are weighed with the levels of the axial slices of the same phantom, segmented
by the network, as find_levels does.
Then the processor time of a series, and of starting a job. Real studies: of each sagittal series alone, the mean level
of each axial stack, which lie at L5/S1, L4/5, L3/4, L2/3 and L1/2.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY / part) for part in ("workflow", "tests")]

import torch  # noqa: E402
from skimage.io import imsave  # noqa: E402

from level_phantoms import (  # noqa: E402
    LUMBAR,
    STUDIES,
    geometry_of,
    kept_phantom,
    labelled,
    sagittal_phantom,
)
from paravert.imaging.dicom import read_dicom  # noqa: E402
from paravert.imaging.geometry import LPS_TO_RAS  # noqa: E402
from paravert.imaging.image_stack import geometry_rows  # noqa: E402
from paravert.imaging.volume import Volume  # noqa: E402
from paravert.network.axial_levels import levels_from_axial  # noqa: E402
from paravert.network.find_levels import SliceGeometry, levels_on_curve  # noqa: E402
from paravert.network.predict import Predictor  # noqa: E402
from paravert.network.sagittal_levels import (  # noqa: E402
    LEAST_CLEAR,
    NamedDiscs,
    disc_chain,
    named_discs,
)
from paravert.network.sagittal_net import load_sagittal_network  # noqa: E402
from paravert.network.spine_curve import curve_through  # noqa: E402
from paravert.network.unet import load_model  # noqa: E402

MODELS = REPOSITORY / "models"
SEED = 4711
NEAR_MM = 12.0  # a point is that of the nearest disc, if it is nearer
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY / "workflow")}


def cut(volume: Volume, discs: dict[float, np.ndarray], rng: np.random.Generator) -> Volume:
    """Return the volume without rows above T12/L1 or below S1, by chance."""
    z = (LPS_TO_RAS @ volume.affine)[2]
    row = {level: (place[2] - z[3]) / z[1] for level, place in discs.items()}
    pitch = row[2.5] - row[1.5]
    array = volume.array.copy()
    if rng.random() < 0.5:
        array[:, : int(max(0, row[1.5] - pitch * rng.uniform(1, 2)))] = 0
    else:
        array[:, int(row[5.5] + pitch * rng.uniform(1, 1.8)) :] = 0
    return volume.with_array(array)


def cut_short(volume: Volume, discs: dict[float, np.ndarray], rng: np.random.Generator) -> Volume:
    """Return the volume without rows below a place between L4/5 and the middle of S1: no sacrum to count from."""
    z = (LPS_TO_RAS @ volume.affine)[2]
    row = {level: (place[2] - z[3]) / z[1] for level, place in discs.items()}
    last = row[5.5] + rng.uniform(-1, 0.5) * (row[5.5] - row[4.5])
    return Volume(volume.array[:, : int(last)], volume.affine)


def verdict(found: NamedDiscs | None, discs: dict[float, np.ndarray]) -> str:
    """Return whether the discs have their names: "right", "wrong" or "unknown"."""
    if found is None:
        return "unknown"
    right = []
    for level, point in found.points.items():
        apart = {true: np.linalg.norm(point - place) for true, place in discs.items()}
        nearest = min(apart, key=apart.get)
        right += [level == nearest] if apart[nearest] <= NEAR_MM else []
    return "right" if right and all(right) else "wrong"


def judge_phantoms(network, count: int, seed: int, cache: Path | None) -> None:
    rng = np.random.default_rng(seed)
    muscles = Predictor(load_model(MODELS / "synthetic.safetensors"))
    near, counts, seconds = defaultdict(list), Counter(), []
    for index in range(count):
        volume, discs = sagittal_phantom(seed, index)
        shorter = cut_short(volume, discs, rng)
        if index % 2:
            volume = cut(volume, discs, rng)
        labels = labelled(muscles, kept_phantom(seed, index, cache)[0])
        geometry = geometry_of([labels])
        by_muscles = levels_from_axial(MODELS / "levels_axial.safetensors", [labels], geometry)
        for view, shown in (("sacrum seen", volume), ("cut short", shorter)):
            started = time.process_time()
            chain = disc_chain(network, shown)
            found = chain and chain.named(max(LUMBAR))
            seconds.append(time.process_time() - started)
            judge_names(f"phantom {index}, {view}", found, discs, counts, near)
            if chain and chain.probability.max() < LEAST_CLEAR:
                found = chain.updated_by(by_muscles, geometry).named(max(LUMBAR))
            judge_names(f"phantom {index}, {view}, with muscles", found, discs, counts, near)
    for what, shares in near.items():
        print(f"{what}: discs rightly named and within 5 mm: {np.mean(shares):.3f}")
    for (what, told), number in sorted(counts.items()):
        print(f"{what}: {told}: {number} of {count}")
    print(f"processor time per series: mean {np.mean(seconds):.2f} s")


def judge_names(
    what: str,
    found: NamedDiscs | None,
    discs: dict[float, np.ndarray],
    counts: Counter,
    near: dict[str, list],
) -> None:
    """Print whether the discs of a series have their names, and count it.

    what: the phantom, and what of it is judged. discs: their true places. counts, near: by what is judged; whether
    names are right, and whether each disc is named and within 5 mm.
    """
    told = verdict(found, discs)
    points = found.points if told == "right" else {}
    apart = [
        np.linalg.norm(points[level] - place) if level in points else np.inf
        for level, place in discs.items()
    ]
    sure = "" if told == "unknown" or found.name_probability >= LEAST_CLEAR else ", uncertain"
    judged = what.split(", ", 1)[1]
    counts[judged, told + sure] += 1
    near[judged] += [distance <= 5 for distance in apart]
    p = f"{found.name_probability:.3f}" if found else "none"
    print(f"{what}: {told}, p {p}, farthest {max(apart):.1f} mm", flush=True)


def judge_cost() -> None:
    """Print the processor time of starting: once per job that has a sagittal series, and without one."""
    for module in ("find_levels", "sagittal_levels"):
        code = f"import paravert.network.{module}, time; print(time.process_time())"
        done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, env=ENVIRONMENT)
        print(f"processor time of importing {module}: {float(done.stdout):.2f} s")


def judge_studies(network, data: Path, pictures: Path | None) -> None:
    for study, (axial, series) in STUDIES.items():
        for name in series:
            with tempfile.TemporaryDirectory() as folder:
                for part in (axial, name):
                    shutil.copytree(data / study / part, Path(folder, part))
                images = read_dicom(Path(folder))
            rows = geometry_rows(images.stacks)
            shapes = [stack.volume.array.shape[1:] for stack in images.stacks]
            geometry = SliceGeometry(
                np.array([row["stack"] for row in rows]),
                np.array([row["slice"] for row in rows]),
                LPS_TO_RAS @ np.array([row["affine"] for row in rows]).reshape(-1, 4, 4),
                np.array([shapes[row["stack"] - 1] for row in rows]),
            )
            found = named_discs(network, images.sagittal)
            if found is None:
                print(f"{study} {name}: no discs found")
                continue
            levels = levels_on_curve(curve_through(found.points), geometry).level
            means = [np.nanmean(levels[geometry.stack == n]) for n in np.unique(geometry.stack)]
            off = [abs(mean - true) for mean, true in zip(means, reversed(LUMBAR), strict=False)]
            told = " ".join(f"{mean:.2f}" for mean in means)
            right = len(means) == len(LUMBAR) and max(off) < 0.5
            print(
                f"{study} {name}: stacks at {told}, right {right}, p {found.name_probability:.3f}"
            )
            if pictures:
                draw(pictures / f"{study}_{name}.png", images.sagittal, found)


def draw(path: Path, volume: Volume, found: NamedDiscs) -> None:
    """Draw the slice through the column with a cross at each disc; its arm grows with the level."""
    to_index = np.linalg.inv(LPS_TO_RAS @ volume.affine)
    places = {level: to_index @ np.append(point, 1) for level, point in found.points.items()}
    middle = int(round(np.median([place[2] for place in places.values()])))
    image = volume.array[middle].astype(float)
    picture = np.repeat(np.clip(image / np.percentile(image, 99), 0, 1)[..., None], 3, axis=2)
    for level, place in places.items():
        row, column = int(place[1]), int(place[0])
        arm = 4 + 4 * int(round(level + 0.5))
        colour = (1, 0, 0) if level <= 5.5 else (0, 1, 0)
        picture[max(0, row - 1) : row + 2, max(0, column - 3) : column + arm] = colour
    path.parent.mkdir(parents=True, exist_ok=True)
    imsave(path, (255 * picture).astype(np.uint8))


def main() -> None:
    """Print how discs are found and named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--phantoms", type=int, default=20)
    parser.add_argument("--seed", type=int, default=SEED, help="of the phantoms")
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--cache", type=Path, help="folder that keeps the axial slices")
    given = parser.parse_args()
    torch.set_num_threads(1)
    network = load_sagittal_network(given.model)
    if data := os.environ.get("PARAVERT_REAL_DATA"):
        judge_studies(network, Path(data), given.pictures)
    judge_cost()
    judge_phantoms(network, given.phantoms, given.seed, given.cache)


if __name__ == "__main__":
    main()
