"""What fine-tuning on a lab's own masks is worth: ten phantom subjects with masks, five without.

python tests/benchmark/own_data.py [--minutes 5] [--seed 7001] [--drawn MUSCLE ...] [--folder FOLDER]

Runs the three commands of docs/training.md on phantoms that no model was trained on,
and compares the labels of the five before and after with their truth. With --drawn the masks show
these muscles alone.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import nibabel
import numpy as np

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY / part) for part in ("workflow", "tests")]

from paravert.anatomy import LABELS, MUSCLES  # noqa: E402
from paravert.imaging.label_maps import slice_overlap  # noqa: E402
from paravert.network.validate import by_muscle  # noqa: E402
from studies import MODEL, Study, copy_of_the_workflow  # noqa: E402

WITH_MASKS, WITHOUT = 10, 5
NAMES = [f"T{number:04d}" for number in range(1, WITH_MASKS + WITHOUT + 1)]


def lab(folder: Path, seed: int, minutes: float) -> Study:
    """Return a study of phantoms, the first of which have masks."""
    folder.mkdir(parents=True)
    copy_of_the_workflow(folder)
    study = Study(folder)
    for number, name in enumerate(NAMES):
        home = folder / "results/phantoms" / name
        truth = {"truth": str(home / "truth.nii.gz")} if number < WITH_MASKS else {}
        study.add(name, home / "dicom", **truth)
    study.settings |= {
        "subjects_per_shard": 4,
        "make_phantoms": {"seed": seed, "volunteers": len(NAMES)},
        "train_network": {
            "start_from": MODEL["file"],
            "loss": "cross_entropy_iou",
            "learning_rate": 0.0003,
            "minutes": minutes,
        },
    }
    return study


def erase(study: Study, drawn: list[str]) -> None:
    """Have the masks of a study show no other muscles, in copies beside the sheet."""
    told(study, "--", "results/phantoms/truth.parquet")
    values = [label.value for label in LABELS if label.muscle in drawn]
    for row in study.rows[:WITH_MASKS]:
        mask = nibabel.load(row["truth"])
        array = np.asarray(mask.dataobj)
        copy = study.folder / f"{row['subject']}.nii.gz"
        kept = np.where(np.isin(array, values), array, 0)
        nibabel.save(nibabel.Nifti1Image(kept, mask.affine, mask.header), copy)
        row["truth"] = str(copy)


def told(study: Study, *arguments: str) -> None:
    """Run Snakemake to its end, and say so."""
    print("snakemake --configfile study.yaml", *arguments, flush=True)
    done = study.run(*arguments)
    if done.returncode:
        raise SystemExit(done.stderr[-5000:])
    print("  " + done.stderr.strip().splitlines()[-1], flush=True)


def overlap(study: Study) -> np.ndarray:
    """Return the IoU of the subjects without masks by slice and label, where the truth is drawn."""
    found = []
    for name in NAMES[WITH_MASKS:]:
        home = study.folder / "results"
        labels = nibabel.load(home / "subjects" / name / "labels/stack-01.nii.gz")
        truth = nibabel.load(home / "phantoms" / name / "truth.nii.gz")
        assert np.allclose(labels.affine, truth.affine, atol=0.01), name
        given, drawn = (np.asarray(image.dataobj).T for image in (labels, truth))
        kept = (drawn != 0).any(axis=(1, 2))
        found.append(slice_overlap(given[kept], drawn[kept]).iou)
    return np.concatenate(found)


def main() -> None:
    """Print the median IoU before and after."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--minutes", type=float, default=5.0)
    options.add_argument("--seed", type=int, default=7001)
    options.add_argument("--drawn", nargs="+", choices=MUSCLES, default=MUSCLES, metavar="MUSCLE")
    options.add_argument("--folder", type=Path, help="where to work, and to leave all; must be new")
    given = options.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp())
    study = lab(folder / "study", given.seed, given.minutes)
    if set(given.drawn) != set(MUSCLES):
        erase(study, given.drawn)
    told(study)
    before = by_muscle(overlap(study))
    told(study, "--", "train_network")
    told(study, "--configfile", "study.yaml", "results/models/own.yaml")
    after = by_muscle(overlap(study))
    print(f"median IoU of {WITHOUT} subjects without masks, before and after")
    for muscle in MUSCLES:
        pair = [one[muscle]["median_iou"] for one in (before, after)]
        print(f"  {muscle:20s} {pair[0]:.3f} {pair[1]:.3f}")
    if given.folder is None:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
