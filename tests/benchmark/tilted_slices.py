"""What is left of the tilt of a slice in the area of each muscle, after each correction.

python tests/benchmark/tilted_slices.py

Cuts the muscles of phantom volunteers (solids, so without pixels or labels) with planes tilted about the
left-right axis, through the vertebral column at every disc, three parallel slices 4 mm apart. The
direction of a muscle runs through its centroids in the slices on both sides. Compared with the muscle's
area in the horizontal plane through its own centroid, in that through the column's centre (the level of
the slice), and across the muscle's true direction.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY / "workflow"))

from paravert.anatomy import DISC_LEVELS, LABELS  # noqa: E402
from paravert.measure.area import muscle_directions  # noqa: E402
from paravert.synthesis.body import body_of  # noqa: E402
from paravert.synthesis.muscles import muscle_tubes  # noqa: E402
from paravert.synthesis.solids import CutPlane, Tube, axial_plane, signed_area  # noqa: E402
from paravert.synthesis.volunteers import volunteers  # noqa: E402

TILTS_DEG = (0.0, 10.0, 20.0, 30.0)
SPACING_MM = 4.0
LEAST_MM2 = 50.0  # smaller sections, of a muscle that ends there, are left out
LONG_AXIS = np.array([0.0, 0.0, 1.0])
STEP_MM = 1.0  # between the horizontal sections that give a muscle's true direction


def section(tube: Tube, plane: CutPlane) -> tuple[float, np.ndarray] | None:
    """Return area (mm2) and centroid (LPS mm) of a muscle in a plane; None if it is not met."""
    points = tube.sections([plane], (0.0,))[0].points
    if len(points) < 3:
        return None
    area = signed_area(points)
    u, v = points.T
    u1, v1 = np.roll(points, -1, axis=0).T
    cross = u * v1 - u1 * v
    middle = ((u + u1) @ cross, (v + v1) @ cross) / (6 * np.array(area))
    return abs(area), plane.centre + middle[0] * plane.across + middle[1] * plane.down


def across(direction: np.ndarray, through: np.ndarray) -> CutPlane:
    """Return the plane across a direction through a point."""
    right = np.array([1.0, 0.0, 0.0])
    down = np.cross(direction, right)
    down /= np.linalg.norm(down)
    return CutPlane(through, np.cross(down, direction), down)


def rows_of(tube: Tube, middle: np.ndarray, tilt_deg: float, noise: np.ndarray) -> dict | None:
    """Return the areas of a muscle near a disc, mm2 by name; None where it is small or ends."""
    plane = axial_plane(middle, tilt_deg)
    cuts = [section(tube, plane.moved(step * SPACING_MM)) for step in (-1, 0, 1)]
    if any(cut is None or cut[0] < LEAST_MM2 for cut in cuts):
        return None
    area, centre = cuts[1]
    at_level = section(tube, axial_plane(middle))
    at_muscle = section(tube, axial_plane(centre))
    beside = [section(tube, axial_plane(centre + step * LONG_AXIS)) for step in (-STEP_MM, STEP_MM)]
    if None in (at_level, at_muscle, *beside):
        return None
    true = beside[1][1] - beside[0][1]
    true /= np.linalg.norm(true)
    centroids = np.stack([cut[1] for cut in cuts])
    found = {}
    for name, error in (("", 0.0), (" with noise", noise)):
        direction = muscle_directions(centroids + error)[1]
        to_normal, to_axis = abs(direction @ plane.normal), abs(direction @ LONG_AXIS)
        found[f"horizontal by direction{name}"] = area * to_normal / to_axis
        found[f"across by direction{name}"] = area * to_normal
    return found | {
        "in the slice": area,
        "cosine": area * np.cos(np.deg2rad(tilt_deg)),
        "level": at_level[0],
        "own place": at_muscle[0],
        "true across": section(tube, across(true, centre))[0],
        "angle_deg": np.rad2deg(np.arccos(abs(true @ LONG_AXIS))),
    }


def measured(people: int, seed: int, noise_mm: float) -> pd.DataFrame:
    """Return the areas of all muscles, a row per volunteer, disc, tilt and label."""
    return pd.DataFrame(_measured(people, seed, noise_mm))


def _measured(people: int, seed: int, noise_mm: float) -> Iterator[dict]:
    random = np.random.default_rng(seed)
    for person in volunteers(seed)[:people]:
        spine = body_of(person).spine
        tubes = muscle_tubes(person, spine)
        for level in DISC_LEVELS:
            middle = np.append(spine.middle(level), spine.height_mm(level))
            for tilt in (*(-tilt for tilt in TILTS_DEG[1:]), *TILTS_DEG):
                for label in LABELS:
                    noise = random.normal(0, noise_mm, (3, 3))
                    row = rows_of(tubes[label.value], middle, tilt, noise)
                    if row is not None:
                        yield row | {"muscle": label.muscle, "tilt": abs(tilt), "level_at": level}


def error(rows: pd.DataFrame, found: str, reference: str) -> str:
    """Return the median of the relative error's size and its 95th percentile, %."""
    relative = 100 * (rows[found] / rows[reference] - 1).abs()
    return f"{relative.median():.1f} ({relative.quantile(0.95):.1f})"


COMPARISONS = {
    "none, own place": ("in the slice", "own place"),
    "cosine, own place": ("cosine", "own place"),
    "direction, own place": ("horizontal by direction", "own place"),
    "direction + noise, own place": ("horizontal by direction with noise", "own place"),
    "cosine, level": ("cosine", "level"),
    "direction, level": ("horizontal by direction", "level"),
    "cosine, true across": ("cosine", "true across"),
    "direction, true across": ("across by direction", "true across"),
    "direction + noise, true across": ("across by direction with noise", "true across"),
}


def main() -> None:
    """Print the errors per muscle and tilt."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--people", type=int, default=4)
    options.add_argument("--seed", type=int, default=2021)
    options.add_argument("--noise-mm", type=float, default=0.5, help="SD of a centroid's error")
    given = options.parse_args()
    rows = measured(given.people, given.seed, given.noise_mm)
    print("Median (95th percentile) of the relative error of the area, %; both signs of the tilt")
    table = {
        (muscle, f"{tilt:.0f}"): {name: error(own, *pair) for name, pair in COMPARISONS.items()}
        | {"n": len(own)}
        for (muscle, tilt), own in rows.groupby(["muscle", "tilt"])
    }
    print(pd.DataFrame(table).T.to_string())
    print("\nAngle between muscle and long axis, median, degrees")
    print(rows.groupby("muscle").angle_deg.median().round(1).to_string())


if __name__ == "__main__":
    main()
