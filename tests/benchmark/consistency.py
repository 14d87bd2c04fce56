"""How far a model's areas of one man agree between two scanners and sequences: 0.3 T, T1, and 1.5 T, T2.

PARAVERT_REAL_DATA=... python tests/benchmark/consistency.py MODEL

The two real studies are run through the workflow as two visits, with levels from their sagittal series.
There are no manual masks: the differences are those of labels, but also of the angle of the slices, of
the level at which the areas are interpolated, and of the sequence, which moves visible borders.
Areas: csa_mm2 at the discs, in the plane of the image, mean of the sides that neither image cuts off (`muscle-at-border`):
the field of view at 1.5 T is 180 mm wide and ends within the quadratus. Difference: 1.5 T minus 0.3 T, in per cent of
the mean of both.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import pandas as pd

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY / part) for part in ("workflow", "tests")]

from paravert.anatomy import MUSCLES  # noqa: E402
from paravert.provenance import file_sha256  # noqa: E402
from studies import Study, copy_of_the_workflow  # noqa: E402

SCANS = {"1": "lumbar_study_cc0", "2": "lumbar_study_cc0_15t"}  # visits of one man
LEVELS = REPOSITORY / "models/levels.safetensors"
DISCS = ("L5/S1", "L4/5", "L3/4", "L2/3", "L1/2")
NOT_JUDGED = "L5/S1"
MOST_AT_BORDER = 0.05  # border_fraction, as flags.border_fraction
AIMS = {  # largest mean |difference| over the discs from L4/5 up
    "psoas_major": 0.08,
    "quadratus_lumborum": 0.12,
    "erector_spinae": 0.08,
    "multifidus": 0.12,
}


def areas(model: Path, data: Path) -> pd.DataFrame:
    """Return a row per muscle and disc: muscle, level, sides, first_mm2, second_mm2, difference.

    sides: number of sides that neither image cuts off; first_mm2, second_mm2: their mean area at 0.3 T and 1.5 T,
    of both sides where no side is whole. difference: as a fraction of the mean of both. model: model file. data: folder of the real scans.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy_of_the_workflow(Path(folder))
        study = Study(Path(folder))
        for visit, images in SCANS.items():
            study.add("A001", data / images, visit=visit)
        study.settings |= {
            name: {key: str(file.resolve()), "sha256": file_sha256(file)}
            for name, key, file in (("model", "file", model), ("find_levels", "model", LEVELS))
        }
        done = study.run("--cores", "2", "results/cohort/levels.parquet")
        if done.returncode:
            raise SystemExit(done.stderr[-3000:])
        cohort = Path(folder) / "results/cohort"
        table, slices = (
            pd.read_parquet(cohort / f"{name}.parquet") for name in ("levels", "slices")
        )
    table = table[table.level.isin(DISCS)].astype({"muscle": str, "side": str})
    by_side = table.pivot(index=["muscle", "level", "side"], columns="visit", values="csa_mm2")
    by_side = by_side[by_side.sum(axis=1) > 0]
    near = slices.assign(level=slices.level_position.map(nearest_disc))
    at_border = near.astype({"muscle": str, "side": str}).groupby(["muscle", "level", "side"])
    whole = at_border.border_fraction.max().reindex(by_side.index) <= MOST_AT_BORDER
    groups = ["muscle", "level"]
    sides = whole.groupby(groups).sum()
    kept = whole | (sides.reindex(by_side.index.droplevel("side")) == 0).to_numpy()
    means = by_side[kept].groupby(groups).mean()
    rows = pd.DataFrame({"sides": sides, "first_mm2": means["1"], "second_mm2": means["2"]})
    rows["difference"] = 2 * (rows.second_mm2 - rows.first_mm2) / (rows.second_mm2 + rows.first_mm2)
    order = pd.MultiIndex.from_product([MUSCLES, DISCS], names=["muscle", "level"])
    return rows[rows.first_mm2 + rows.second_mm2 > 0].reindex(order).dropna().reset_index()


def nearest_disc(level: float) -> str | None:
    """Return the name of the disc whose area a slice at this level takes part in; None above L1 and if unknown."""
    names = dict(zip((5.5, 4.5, 3.5, 2.5, 1.5), DISCS, strict=True))
    return next((name for disc, name in names.items() if abs(level - disc) <= 0.5), None)


def mean_differences(table: pd.DataFrame) -> dict[str, float]:
    """Return the mean |difference| of each muscle, L5/S1 left out. table: as of `areas`."""
    above = table[table.level != NOT_JUDGED]
    return above.difference.abs().groupby(above.muscle).mean().to_dict()


def main() -> None:
    """Print the differences by level and muscle, and their means beside the aims."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    options.add_argument("model", type=Path)
    table = areas(options.parse_args().model, Path(os.environ["PARAVERT_REAL_DATA"]))
    print(
        "| muscle | level | whole sides | CSA, 0.3 T, mm² | 1.5 T | difference |\n|---|---|---|---|---|---|"
    )
    for row in table.itertuples():
        name = row.muscle.replace("_", " ")
        print(
            f"| {name} | {row.level} | {row.sides:.0f} | {row.first_mm2:.0f} | {row.second_mm2:.0f}",
            end="",
        )
        print(f" | {row.difference:+.0%} |")
    print("\nMean |difference| from L4/5 up (aim). Level and angle of the slices differ, too.")
    for muscle, found in mean_differences(table).items():
        print(f"  {muscle:20s} {found:.1%} ({AIMS[muscle]:.0%})")


if __name__ == "__main__":
    main()
