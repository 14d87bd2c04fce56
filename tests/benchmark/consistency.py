"""How far a model's areas of one man agree between two scanners and sequences: 0.3 T, T1, and 1.5 T, T2.

PARAVERT_REAL_DATA=... python tests/benchmark/consistency.py MODEL

The two real studies are run through the workflow as two visits, with levels from their sagittal series.
There are no manual masks: the differences are those of labels, but also of the angle of the slices, of
the level at which the areas are interpolated, and of the sequence, which moves visible borders.
Areas: csa_mm2 at the discs, in the plane of the image, mean of left and right. Difference: 1.5 T minus 0.3 T, in per cent of
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
AIMS = {  # largest mean |difference| over the discs from L4/5 up
    "psoas_major": 0.08,
    "quadratus_lumborum": 0.12,
    "erector_spinae": 0.08,
    "multifidus": 0.12,
}


def areas(model: Path, data: Path) -> pd.DataFrame:
    """Return a row per muscle and disc: muscle, level, first_mm2, second_mm2, difference.

    first_mm2, second_mm2: area at 0.3 T and 1.5 T. difference: as a fraction of the mean of both.
    model: model file. data: folder of the real scans.
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
        table = pd.read_parquet(Path(folder) / "results/cohort/levels.parquet")
    table = table[table.level.isin(DISCS)]
    means = table.groupby(["muscle", "level", "visit"], observed=True).csa_mm2.mean().unstack()
    rows = pd.DataFrame({"first_mm2": means["1"], "second_mm2": means["2"]})
    rows["difference"] = (rows.second_mm2 - rows.first_mm2) / rows.mean(axis=1)
    order = pd.MultiIndex.from_product([MUSCLES, DISCS], names=["muscle", "level"])
    return rows[rows.first_mm2 + rows.second_mm2 > 0].reindex(order).dropna().reset_index()


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
    print("| muscle | level | CSA, 0.3 T, mm² | 1.5 T | difference |\n|---|---|---|---|---|")
    for row in table.itertuples():
        name = row.muscle.replace("_", " ")
        print(f"| {name} | {row.level} | {row.first_mm2:.0f} | {row.second_mm2:.0f}", end="")
        print(f" | {row.difference:+.0%} |")
    print("\nMean |difference| from L4/5 up (aim). Level and angle of the slices differ, too.")
    for muscle, found in mean_differences(table).items():
        print(f"  {muscle:20s} {found:.1%} ({AIMS[muscle]:.0%})")


if __name__ == "__main__":
    main()
