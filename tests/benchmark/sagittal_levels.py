"""How well a model finds and names discs in sagittal series: phantoms of other seeds, and real studies.

PARAVERT_REAL_DATA=... python tests/benchmark/sagittal_levels.py MODEL [--phantoms 20] [--seed 4711] [--pictures FOLDER]

Phantoms: how many are named rightly, wrongly or not at all, with a probability below LEAST_CLEAR ("uncertain", a
warning of find_levels) or not; of every second one the field of view is cut above L1 or below S1. Each is
also cut short: the field of view ends between L4/5 and the middle of S1, so that there is nothing to count from.
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
from collections import Counter
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY / part) for part in ("workflow", "tests")]

import torch  # noqa: E402
from skimage.io import imsave  # noqa: E402

from paravert.imaging.dicom import read_dicom  # noqa: E402
from paravert.imaging.geometry import LPS_TO_RAS  # noqa: E402
from paravert.imaging.image_stack import geometry_rows  # noqa: E402
from paravert.imaging.volume import Volume  # noqa: E402
from paravert.network.find_levels import SliceGeometry, levels_on_curve  # noqa: E402
from paravert.network.sagittal_levels import (  # noqa: E402
    LEAST_CLEAR,
    LEAST_USED,
    NamedDiscs,
    named_discs,
)
from paravert.network.sagittal_net import load_sagittal_network  # noqa: E402
from paravert.network.spine_curve import curve_through  # noqa: E402
from paravert.synthesis.body import body_of  # noqa: E402
from paravert.synthesis.protocol import (  # noqa: E402  # noqa: E402
    SAGITTAL_PIXEL_MM,
    SAGITTAL_SPACING_MM,
    protocol_of,
    sagittal_series,
)
from paravert.synthesis.volunteers import population_member  # noqa: E402

SEED = 4711
NEAR_MM = 12.0  # a point is that of the nearest disc, if it is nearer
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY / "workflow")}
LUMBAR = (1.5, 2.5, 3.5, 4.5, 5.5)
STUDIES = {
    "lumbar_study_cc0": ("T1_AX", ("T1_SAG", "T2_SAG", "STIR_SAG")),
    "lumbar_study_cc0_15t": ("T2_AX", ("T1_SAG", "T2_SAG")),
}


def phantom(seed: int, index: int) -> tuple[Volume, dict[float, np.ndarray]]:
    """Return the sagittal series of a phantom and the true centre of each lumbar disc, (3,) LPS."""
    person = population_member(seed, index)
    body, protocol = body_of(person), protocol_of(person, index)
    _, images = sagittal_series(body, protocol)
    array = np.stack([image for image, _ in reversed(images)])  # from left to right
    plane = images[-1][1]
    size = array.shape[1]
    corner = plane.centre - (size - 1) / 2 * SAGITTAL_PIXEL_MM * (plane.across + plane.down)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = (SAGITTAL_PIXEL_MM * axis for axis in (plane.across, plane.down))
    affine[:3, 2], affine[:3, 3] = np.array([-SAGITTAL_SPACING_MM, 0, 0]), corner
    turn = np.deg2rad(protocol.rotation_deg)
    c, s = np.cos(turn), np.sin(turn)
    spine = body.spine
    levels = np.array(LUMBAR)
    axis = np.column_stack((spine.middle(levels), spine.height_mm(levels)))
    places = axis @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]).T + protocol.offset_mm
    return Volume(array, LPS_TO_RAS @ affine), dict(zip(LUMBAR, places, strict=True))


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
    if found is None or found.name_probability < LEAST_USED:
        return "unknown"
    right = []
    for level, point in found.points.items():
        apart = {true: np.linalg.norm(point - place) for true, place in discs.items()}
        nearest = min(apart, key=apart.get)
        right += [level == nearest] if apart[nearest] <= NEAR_MM else []
    return "right" if right and all(right) else "wrong"


def judge_phantoms(network, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    near, counts, seconds = [], Counter(), []
    for index in range(count):
        volume, discs = phantom(seed, index)
        shorter = cut_short(volume, discs, rng)
        if index % 2:
            volume = cut(volume, discs, rng)
        for view, shown in (("sacrum seen", volume), ("cut short", shorter)):
            started = time.process_time()
            found = named_discs(network, shown)
            seconds.append(time.process_time() - started)
            told = verdict(found, discs)
            sure = (
                "" if told == "unknown" or found.name_probability >= LEAST_CLEAR else ", uncertain"
            )
            counts[view, told + sure] += 1
            points = found.points if told == "right" else {}
            apart = [
                np.linalg.norm(points[level] - place) if level in points else np.inf
                for level, place in discs.items()
            ]
            if view == "sacrum seen":
                near += [distance <= 5 for distance in apart]
            p = f"{found.name_probability:.3f}" if found else "none"
            print(
                f"phantom {index}, {view}: {told}, p {p}, farthest {max(apart):.1f} mm", flush=True
            )
    print(f"discs rightly named and within 5 mm: {np.mean(near):.3f}")
    for (view, told), number in sorted(counts.items()):
        print(f"{view}: {told}: {number} of {count}")
    print(f"processor time per series: mean {np.mean(seconds):.2f} s")


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
    given = parser.parse_args()
    torch.set_num_threads(1)
    network = load_sagittal_network(given.model)
    if data := os.environ.get("PARAVERT_REAL_DATA"):
        judge_studies(network, Path(data), given.pictures)
    judge_cost()
    judge_phantoms(network, given.phantoms, given.seed)


if __name__ == "__main__":
    main()
