"""Numbers that every step makes of frozen inputs, with the version that made them.

python tests/frozen/record.py

writes them anew after a version in `paravert.steps` was raised; it refuses where numbers changed
and the version did not. `tests/steps/test_versions.py` compares them.
"""

import json
import math
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

HOME = Path(__file__).parent
sys.path[:0] = [str(HOME.parents[1] / "workflow"), str(HOME.parent)]

import nibabel as nib  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from skimage.io import imread  # noqa: E402

from made_from import AXIAL_MODEL, CONFIGURATION, LEVELS_MODEL  # noqa: E402
from paravert import codebook, tables  # noqa: E402
from paravert.imaging.convert import convert_dicom  # noqa: E402
from paravert.measure.area import measure_area  # noqa: E402
from paravert.measure.dicomseg import dicomseg  # noqa: E402
from paravert.measure.fat import measure_fat  # noqa: E402
from paravert.measure.preview import draw_preview  # noqa: E402
from paravert.measure.score_overlap import score_overlap  # noqa: E402
from paravert.network.find_levels import find_levels  # noqa: E402
from paravert.network.segment import segment_muscles  # noqa: E402
from paravert.steps import VERSIONS  # noqa: E402
from paravert.study.centiles import fit_centiles  # noqa: E402
from paravert.study.cohort import gather_cohort  # noqa: E402
from paravert.study.describe import write_tables  # noqa: E402
from paravert.study.models import fit_models  # noqa: E402
from study_tables import cohort_rows, write_cohort  # noqa: E402

RECORDED = HOME / "numbers.json"
MODEL = HOME.parents[1] / CONFIGURATION["model"]["file"]
SHA256 = CONFIGURATION["model"]["sha256"]
POINTS = HOME / "points.csv"
SHEET = (
    "subject,images,truth,levels,sex,age_years\n"
    f"FROZEN,{HOME}/dicom,{HOME}/truth.nii.gz,{POINTS},F,50\n"
)
# Relative. The network's labels differ in a few pixels from processor to processor.
TOLERANCE = {"segment_muscles": 0.02, "draw_preview": 0.02}
CENTILE_SUBJECTS = 130  # at least 60 of a sex
DEFAULT_TOLERANCE = 1e-6

Numbers = dict[str, float]


def numbers_of_steps(folder: Path) -> dict[str, Numbers]:
    """Return the numbers of every step that is watched, computed in an empty folder."""
    return dict(_shard_steps(folder)) | dict(_cohort_steps(folder))


def _shard_steps(folder: Path) -> Iterator[tuple[str, Numbers]]:
    sheet, subjects, shard = folder / "sheet.csv", folder / "subjects", folder / "shards/0"
    sheet.write_text(SHEET)
    home = subjects / "FROZEN"
    convert, segment = shard / "convert.parquet", shard / "segment.parquet"
    convert_dicom(sheet, ["FROZEN"], subjects, convert)
    image = np.asarray(nib.load(home / "image/stack-01.nii.gz").dataobj)
    yield "convert_dicom", _of_table(home / "slices.parquet") | _of_array(image)
    segment_muscles(convert, subjects, segment, MODEL, SHA256, "cpu")
    labels = np.asarray(nib.load(home / "labels/stack-01.nii.gz").dataobj)
    counts = np.bincount(labels.ravel(), minlength=9)[1:]
    yield "segment_muscles", {f"label {n}": float(c) for n, c in enumerate(counts, start=1)}
    levels = shard / "levels.parquet"
    find_levels(segment, sheet, subjects, levels)
    draw_preview(segment, subjects, shard / "preview.parquet", levels)
    yield "draw_preview", _of_array(imread(home / "preview.png"))
    # The truth takes the place of the network's labels: what follows is exact on every processor.
    sheet.write_text(
        SHEET.replace("truth,", "labels,truth,").replace("/dicom,", f"/dicom,{HOME}/truth.nii.gz,")
    )
    convert_dicom(sheet, ["FROZEN"], subjects, convert)
    segment_muscles(convert, subjects, segment, MODEL, SHA256, "cpu")
    find_levels(segment, sheet, subjects, levels, *LEVELS_MODEL, *AXIAL_MODEL)
    yield "find_levels", _of_table(levels)
    for step, name in ((measure_area, "area"), (measure_fat, "fat"), (score_overlap, "overlap")):
        step(segment, subjects, shard / f"{name}.parquet")
        yield step.__name__, _of_table(shard / f"{name}.parquet")
    dicomseg(segment, subjects, shard / "dicomseg.parquet", SHA256)
    yield "dicomseg", _of_table(shard / "dicomseg.parquet")
    draw_preview(segment, subjects, shard / "preview.parquet", levels)
    gather_cohort(
        sheet,
        folder / "shards",
        folder / "cohort",
        CONFIGURATION["gather_cohort"]["fat_fraction"],
        json.dumps(CONFIGURATION),
        MODEL,
        SHA256,
    )
    files = [
        folder / "cohort" / f"{name}.parquet"
        for name in ("slices", "levels", "muscles", "subjects")
    ]
    yield (
        "gather_cohort",
        {f"{file.stem} {key}": value for file in files for key, value in _of_table(file).items()},
    )


def _cohort_steps(folder: Path) -> Iterator[tuple[str, Numbers]]:
    cohort, out = folder / "simulated", folder / "tables"
    cohort.mkdir()
    write_cohort(cohort, 12, quarantined=2)
    out.mkdir()
    fit_models(cohort, out / "models.csv")
    yield "fit_models", _of_csv_files(out)
    write_tables(cohort, out, bootstrap_samples=100)
    yield "write_tables", _of_csv_files(out)
    subjects = cohort_rows(CENTILE_SUBJECTS)["subjects"]
    data = tables.from_rows(codebook.SUBJECT_TABLE, subjects)
    tables.write(cohort / "subjects.parquet", codebook.SUBJECT_TABLE, data, {})
    fit_centiles(cohort, out / "centiles.parquet", bootstrap_samples=5)
    yield "fit_centiles", _of_csv_files(out) | _of_table(out / "centiles.parquet")


def _of_csv_files(folder: Path) -> Numbers:
    """Return the numbers of the CSV files in a folder, and remove these."""
    found = {}
    for file in sorted(folder.glob("*.csv")):
        found |= {
            f"{file.stem} {key}": value for key, value in _of_frame(pd.read_csv(file)).items()
        }
        file.unlink()
    return found


def _of_table(path: Path) -> Numbers:
    return _of_frame(pq.read_table(path).to_pandas())


def _of_frame(frame: pd.DataFrame) -> Numbers:
    """Return for each column of numbers their count, and sums that tell their order."""
    numbers = {"rows": float(len(frame))}
    for name, column in frame.select_dtypes(["number", "bool"]).items():
        known = column.dropna()
        numbers[f"{name} known"] = float(len(known))
        numbers[name] = float((known.astype(float) * (1 + known.index % 7)).sum())
    return numbers


def _of_array(array: np.ndarray) -> Numbers:
    values = array.astype(float)
    numbers = {f"size of axis {axis}": float(size) for axis, size in enumerate(values.shape)}
    return numbers | {"mean": float(values.mean()), "SD": float(values.std())}


def differences(step: str, found: Numbers, recorded: Numbers) -> list[str]:
    """Return a sentence for each number that differs by more than its tolerance."""
    tolerance = TOLERANCE.get(step, DEFAULT_TOLERANCE)
    told = [
        f"{step}: {name} is {found.get(name)}, recorded {recorded.get(name)}"
        for name in sorted(found.keys() ^ recorded.keys())
    ]
    for name in sorted(found.keys() & recorded.keys()):
        if not math.isclose(found[name], recorded[name], rel_tol=tolerance, abs_tol=tolerance):
            told.append(f"{step}: {name} is {found[name]}, recorded {recorded[name]}")
    return told


def main() -> None:
    """Record the numbers of every step whose version was raised."""
    recorded = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        found = numbers_of_steps(Path(folder))
    for step, numbers in found.items():
        before = recorded.get(step)
        if before and before["version"] == VERSIONS[step]:
            told = differences(step, numbers, before["numbers"])
            if told:
                raise SystemExit("\n".join([*told, f"raise VERSIONS[{step!r}] first"]))
        recorded[step] = {"version": VERSIONS[step], "numbers": numbers}
    RECORDED.write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
