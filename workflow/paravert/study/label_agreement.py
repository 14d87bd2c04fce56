"""Agreement of two label sets of one cohort, such as those of two networks: area and Dice."""

import logging
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer

from paravert import codebook
from paravert.anatomy import BACKGROUND, CLASSES, LABEL_VALUES, LABELS
from paravert.errors import InputError
from paravert.imaging.geometry import corner_distance_mm
from paravert.imaging.label_maps import pair_counts
from paravert.imaging.masks import CORNER_TOLERANCE_MM
from paravert.imaging.volume import Volume, read_volume
from paravert.shards import worker_pool
from paravert.study.data_frames import read_frame, write_csv
from paravert.study.reliability import paired_statistics, shown_once
from paravert.study.scans import first_scans, of_scans, scan_keys, scan_names
from paravert.study.standard_level import (
    ALL_SLICES,
    level_of_metadata,
    too_few_at_level,
)
from paravert.subject_folder import LABELS_FOLDER, SubjectFolder
from paravert.tables import NOT_LABELLED

log = logging.getLogger(__name__)

SUBJECTS_AT_ONCE = 64  # of a worker process
# Prefixes of the statistics of `paired_statistics` that have the unit of the area, and other names here.
IN_MM2 = ("first_", "second_", "sem", "mdc", "bias", "sd", "lower_", "upper_", "margin")
ICC_COLUMNS = {"icc_2_1_low_95": "icc_low_95", "icc_2_1_high_95": "icc_high_95"}
AREA_COLUMNS = ("subject", "muscle", "side", "csa_mean_mm2", "csa_at_level_mm2", "csa_reason")


def compare_labels(
    first: Annotated[Path, typer.Option(help="Folder of all results with the first labels.")],
    second: Annotated[Path, typer.Option(help="Folder of all results with the second labels.")],
    out: Annotated[Path, typer.Option(help="CSV file to write.")],
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that read label maps; 0: this one.")
    ] = 1,
) -> None:
    """Compare the labels of two results of one cohort: Bland-Altman of area, and Dice.

    Writes a row per level, muscle and side (`label_agreement`); differences are second minus first, of
    a subject's area (mm2): at the standard level, if both results have the same one and at least 80 %
    of the subjects have areas there in each of them, and the mean over all slices. Both must have been
    made from the same images. Subjects analysed in only one of them are left out. Of several visits of
    a subject, the first by name is compared. Raises InputError for results without cohort tables, of
    other images, with visits in only one of them, or without a common subject; ChildProcessError if a
    worker process died.
    """
    areas_of = [_areas(first), _areas(second)]
    if len({tuple(scan_keys(areas)) for areas in areas_of}) > 1:
        raise InputError(
            second, f"visits in one of it and {first}, expected both with or both without"
        )
    areas = paired_areas(*areas_of)
    once = first_scans(areas[scan_keys(areas)].drop_duplicates())
    areas = of_scans(areas, once)
    subjects = sorted(scan_names(once))
    log.info("compare_labels: %d subjects in both results", len(subjects))
    if not subjects:
        raise InputError(second, f"no subject of {first}, expected results of the same cohort")
    dice = _dice_of_subjects(first, second, subjects, workers)
    names = {level_of_metadata(results / "cohort") for results in (first, second)}
    write_csv(out, label_agreement(areas, dice, names.pop() if len(names) == 1 else None))


def _areas(results: Path) -> pd.DataFrame:
    cohort = results / "cohort"
    if not (cohort / f"{codebook.MUSCLE_TABLE.name}.parquet").is_file():
        raise InputError(
            results, "no cohort/muscles.parquet, expected the results of a finished run"
        )
    return read_frame(cohort, codebook.MUSCLE_TABLE, AREA_COLUMNS)


# --- Dice ----------------------------------------------------------------------------------------


def _dice_of_subjects(
    first: Path, second: Path, subjects: Sequence[str], workers: int
) -> np.ndarray:
    """Return `subject_dice` of each subject, (subjects, 8). first, second: folders of all results."""
    homes = [
        [results / "subjects" / subject for subject in subjects] for results in (first, second)
    ]
    if workers <= 1:
        return np.array(list(map(subject_dice, *homes)))
    with worker_pool(workers) as pool:
        return np.array(list(pool.map(subject_dice, *homes, chunksize=SUBJECTS_AT_ONCE)))


def subject_dice(first: Path, second: Path) -> np.ndarray:
    """Return the Dice coefficient of label values 1 to 8 of a scan over all stacks, float (8,).

    first, second: the scan's folder in both results. 2 |A and B| / (|A| + |B|) over the voxels; NaN
    where both are empty, or where one of the two does not label the muscle in a stack. Raises
    InputError unless both have labels of the same stacks, on the same voxels.
    """
    files = SubjectFolder(first), SubjectFolder(second)
    numbers = files[0].stack_numbers(LABELS_FOLDER)
    if not numbers or numbers != files[1].stack_numbers(LABELS_FOLDER):
        raise InputError(second, f"not the stacks of {first}, expected labels of the same images")
    pairs, unknown = np.zeros((CLASSES, CLASSES), dtype=np.int64), set()
    for number in numbers:
        labels = [read_volume(one.stack_file(LABELS_FOLDER, number)) for one in files]
        if not _on_same_voxels(*labels):
            told = f"stack {number} is on other voxels than in {first}, expected the same images"
            raise InputError(second, told)
        inside = (labels[0].array | labels[1].array) != BACKGROUND  # most voxels are not
        pairs += pair_counts(*(one.array[inside] for one in labels))
        unknown |= files[0].not_labelled(number) | files[1].not_labelled(number)
    values = list(LABEL_VALUES)
    sizes = (pairs.sum(axis=0) + pairs.sum(axis=1))[values].astype(float)
    known = (sizes > 0) & [(label.muscle, label.side) not in unknown for label in LABELS]
    both = 2 * np.diagonal(pairs)[values]
    return np.divide(both, sizes, out=np.full(len(values), np.nan), where=known)


def _on_same_voxels(first: Volume, second: Volume) -> bool:
    shape = first.array.shape
    return shape == second.array.shape and (
        corner_distance_mm(first.affine, second.affine, shape[::-1]) <= CORNER_TOLERANCE_MM
    )


# --- the table -----------------------------------------------------------------------------------


def paired_areas(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Return the areas of two results side by side, one row per scan, muscle and side that both have.

    first, second: of the cohort table `muscles` of each result the columns subject, visit (in both or in
    neither), muscle, side, csa_mean_mm2, csa_at_level_mm2 and csa_reason. The last three end with _first
    and _second in the result. Raises pandas.errors.MergeError if a table has a row twice.
    """
    keys = [*scan_keys(first), "muscle", "side"]
    return first.merge(second, on=keys, suffixes=("_first", "_second"), validate="one_to_one")


def label_agreement(
    areas: pd.DataFrame, dice: np.ndarray, standard: str | None = None
) -> pd.DataFrame:
    """Return the agreement of two label sets, one row per level, muscle and side.

    areas: one row per subject, muscle and side, with csa_mean_mm2, csa_at_level_mm2 and csa_reason of
    both sets, ending with _first and _second. dice: (subjects, 8), entry k for label value k + 1,
    subjects in any order. standard: name of the standard level; None if the sets differ in it. Levels:
    "all slices", and standard, if at least LEAST_COVERED (80 %) of the subjects have areas there in
    each set. Columns: level, muscle, side; of the areas those of `reliability.paired_statistics`
    (second - first), with _mm2 at the end of names of values in mm2, and icc_low_95 and icc_high_95 in
    place of icc_2_1_low_95 and icc_2_1_high_95; n_dice, dice_mean, dice_lower_quartile, dice_median,
    dice_upper_quartile and dice_lowest over the subjects with a Dice; reason, "not-labelled" if a label
    set lacks the muscle in all subjects, else null. NaN where undefined. Pairs of areas with a null, or
    of which both are 0, are left out.
    """
    measures = {ALL_SLICES: "csa_mean_mm2"}
    names = [f"csa_at_level_mm2_{which}" for which in ("first", "second")]
    known = min(areas.loc[areas[name].notna(), "subject"].nunique() for name in names)
    if standard and not too_few_at_level(known, areas["subject"].nunique()):
        measures = {standard: "csa_at_level_mm2"} | measures
    rows = []
    for (level, measure), (label, own_dice) in product(
        measures.items(), zip(LABELS, dice.T, strict=True)
    ):
        own = areas[(areas["muscle"] == label.muscle) & (areas["side"] == label.side)]
        unknown = [
            (own[f"csa_reason_{which}"] == NOT_LABELLED).all() for which in ("first", "second")
        ]
        pair = [f"{measure}_first", f"{measure}_second"]
        pairs = shown_once(own[pair].astype(float).dropna(), pair)
        rows.append(
            {"level": level, "muscle": label.muscle, "side": label.side}
            | _area_agreement(*pairs.to_numpy().T)
            | _dice_summary(own_dice[~np.isnan(own_dice)])
            | {"reason": NOT_LABELLED if any(unknown) else None}
        )
    return pd.DataFrame(rows)


def _area_agreement(first: np.ndarray, second: np.ndarray) -> dict:
    """Return `paired_statistics` of areas in mm2; columns in mm2 end with the unit."""
    found = paired_statistics(first, second)
    return {
        ICC_COLUMNS.get(name, f"{name}_mm2" if name.startswith(IN_MM2) else name): value
        for name, value in found.items()
    }


def _dice_summary(dice: np.ndarray) -> dict:
    lower, median, upper = np.quantile(dice, [0.25, 0.5, 0.75]) if dice.size else [np.nan] * 3
    return {
        "n_dice": dice.size,
        "dice_mean": dice.mean() if dice.size else np.nan,
        "dice_lower_quartile": lower,
        "dice_median": median,
        "dice_upper_quartile": upper,
        "dice_lowest": dice.min() if dice.size else np.nan,
    }
