"""From slices to muscles to subjects: sums, means and volume-weighted fat fractions."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from paravert.anatomy import MUSCLES, SIDES
from paravert.study.both_sides import fat_amount
from paravert.study.level_areas import range_volumes
from paravert.tables import (
    ABSENT,
    ALL_FAT_METHODS,
    DIXON,
    ERODED,
    HEADER_COLUMNS,
    LABELS_COLUMNS,
    NO_DIXON,
    NO_LEVEL,
    NOT_LABELLED,
    PIXELS,
    REVIEW_FAILED,
    SERIES_COLUMNS,
    SLICE_KEYS,
    UNKNOWN,
)

MUSCLE_KEYS = ["subject", "muscle", "side"]
MEAN_FAT_COLUMNS = (
    "fat_fraction",
    "fat_fraction_eroded",
    *(f"fat_fraction_{m}" for m in ALL_FAT_METHODS),
)


def cohort_slices(
    area: pd.DataFrame, fat: pd.DataFrame, levels: pd.DataFrame, method: str
) -> pd.DataFrame:
    """Return one row per slice, muscle and side of some subjects, with the columns of codebook.SLICES.

    area, fat, levels: rows of the shard tables tables.AREA, tables.FAT and tables.SLICE_LEVELS; their
    column subject names the scan. method: a method of tables.HEADLINES, such as "linear" or
    "eroded_linear" (without the mask's outermost pixels); its values become fat_fraction; where a value
    of an eroded method is null, that of the whole mask is used. In a scan with Dixon images
    fat_fraction is the Dixon value of the whole mask, null where a stack has no such images.
    fat_fraction_eroded is by the same method in the mask without its outermost pixels. lean_csa_mm2 is
    csa_mm2 * (1 - fat_fraction); 0 if the muscle is absent, null if unknown. stack_id is still named
    stack. Not yet there: visit, covariates and the column doubtful; added: fat_fraction_method ("dixon"
    or method, the same in all rows of a scan). Raises pandas.errors.MergeError for repeated keys.
    """
    rows = area.merge(fat, on=[*SLICE_KEYS], validate="one_to_one")
    rows = rows.merge(levels, on=["subject", "stack", "slice"], how="left", validate="many_to_one")
    rows["level_source"] = rows.level_source.fillna(NO_LEVEL)
    told = rows[f"fat_fraction_{DIXON}"].notna() | rows[f"reason_{DIXON}"].notna()
    dixon = rows.subject.isin(rows.subject[told & _has_dixon(rows)])
    rows["fat_fraction_method"] = np.where(dixon, DIXON, method)
    base = method.removeprefix(ERODED)
    whole, eroded = (
        rows[f"{kind}_{DIXON}"].where(dixon, rows[f"{kind}_{base}"]).astype(float)
        for kind in ("fat_fraction", "eroded")
    )
    without_rim = ~dixon & method.startswith(ERODED) & eroded.notna()
    rows["fat_fraction"] = eroded.where(without_rim, whole)
    rows["fat_fraction_eroded"] = eroded
    rows["fat_fraction_reason"] = rows[f"reason_{DIXON}"].where(dixon, rows[f"reason_{base}"])
    lean = rows.csa_mm2 * (1 - rows.fat_fraction)
    rows["lean_csa_mm2"] = lean.mask(rows.pixels == 0, 0.0)
    return rows


def _has_dixon(rows: pd.DataFrame) -> pd.Series:
    """Return which rows show that Dixon images of their subject are at hand."""
    return ~rows[f"reason_{DIXON}"].isin([ABSENT, NOT_LABELLED, NO_DIXON, REVIEW_FAILED])


def cohort_series(converted: pd.DataFrame) -> pd.DataFrame:
    """Return one row per image series of each scan, as codebook.SERIES without visit and covariates.

    converted: rows of the shard table tables.CONVERT, one per scan, whose name is in the column
    subject; its column series is a list of dicts, None gives no row. Columns: subject, series_number,
    plane, sequence, n_slices, spacing_mm, chosen (whether it was measured), series_reason (why not).
    Scans and series keep their order.
    """
    rows = [
        {"subject": subject} | row
        for subject, found in zip(converted.subject, converted.series, strict=True)
        for row in (() if found is None else found)
    ]
    return pd.DataFrame(rows, columns=["subject", *(column.name for column in SERIES_COLUMNS)])


@dataclass(frozen=True)
class _Groups:
    """Rows grouped by the entries of an index; sums do not depend on other entries.

    code: (rows,), position of each row's entry in the index. Rows are summed one after the other;
    sums of pandas depend on the other rows in the last digit. among, in the methods: (rows,) bool,
    the rows to use.
    """

    code: np.ndarray
    index: pd.Index

    def sums(self, values: pd.Series, among: np.ndarray) -> np.ndarray:
        """Return the sum of the values of each entry of the field index, in its order; 0 without rows.

        values: one per row of `code`. among: (rows,) bool, the rows to use; a null among these makes
        the sum of its entry NaN.
        """
        values = values.to_numpy(dtype=float)[among]
        return np.bincount(self.code[among], weights=values, minlength=len(self.index))

    def counts(self, among: np.ndarray) -> np.ndarray:
        """Return how many of the rows `among`, (rows,) bool, each entry of the field index has, (entries,)."""
        return np.bincount(self.code[among], minlength=len(self.index))

    def means(self, values: pd.Series, weights: pd.Series, among: np.ndarray) -> np.ndarray:
        """Return the weighted mean of the known values of each entry of the field index, in its order.

        values, weights: one per row of `code`. among: (rows,) bool, the rows to use. NaN if no value is
        known, the weights of the known ones add up to 0, or one of these is null.
        """
        known = among & values.notna().to_numpy()
        with np.errstate(invalid="ignore"):
            return self.sums(values.astype(float) * weights, known) / self.sums(weights, known)

    def joined_fat(self, fat: pd.Series, size: pd.Series, among: np.ndarray) -> np.ndarray:
        """Return the fat fraction of the rows of each entry together, by the rule of `both_sides.joined`.

        fat: fat fractions; size: volumes or areas; both one per row of `code`, null if unknown. among:
        (rows,) bool, the rows to use. NaN if a value is unknown or the muscle is absent in all rows.
        """
        with np.errstate(invalid="ignore"):
            return self.sums(fat_amount(size, fat), among) / self.sums(size, among)


def _groups(rows: pd.DataFrame, index: pd.Index) -> _Groups:
    keys = pd.MultiIndex.from_frame(rows[index.names]) if index.nlevels > 1 else rows[index.name]
    return _Groups(index.get_indexer(keys), index)


def cohort_muscles(slices: pd.DataFrame) -> pd.DataFrame:
    """Return one row per subject, muscle and side: areas, volume and fat fraction over all slices.

    slices: one row per slice, muscle and side, from `cohort_slices`. The columns are those of
    codebook.MUSCLE_TABLE but covariates and the values at the standard level; all eight muscles of
    each subject have a row. Areas are means, SD and maximum over the slices that show the muscle.
    Volume, coverage and (volume-weighted) fat fraction leave out slices that cut an earlier stack,
    where the same tissue would be counted twice. The volume is null if the area is unknown in one
    of the other slices, because the muscle is not labelled or failed the review. The fat fraction
    is that of the slices where it is known; fat_fraction_valid tells if these are all. A muscle
    that no slice shows has 0 slices, and volume 0 if it is unknown in none; its area is null. A
    muscle unknown in all slices has null in all of these; csa_reason says why.
    """
    groups = _groups(slices, _every_muscle(slices.subject.unique()))
    shown = (slices.pixels > 0).to_numpy()
    once = shown & ~slices.overlaps.to_numpy(dtype=bool)
    weight = slices.csa_mm2 * slices.slab_mm
    columns = _areas(groups, slices.csa_mm2, shown)
    unknown = slices.csa_reason.isin([NOT_LABELLED, REVIEW_FAILED]).to_numpy()
    failed = groups.counts((slices.csa_reason == REVIEW_FAILED).to_numpy()) > 0
    columns["volume_ml"] = groups.sums(weight, once) / 1000
    columns["coverage_mm"] = groups.sums(slices.slab_mm, once)
    columns |= {name: groups.means(slices[name], weight, once) for name in MEAN_FAT_COLUMNS}
    lacking = shown & slices.fat_fraction.isna().to_numpy()
    columns["fat_fraction_valid"] = (groups.counts(shown) > 0) & (groups.counts(lacking) == 0)
    rows = pd.DataFrame(columns, index=groups.index)
    nowhere = unknown.any() & (groups.counts(~unknown) == 0)
    unknown_reason = np.where(failed, REVIEW_FAILED, NOT_LABELLED)
    rows["csa_reason"] = np.where(nowhere, unknown_reason, np.where(rows.slices == 0, ABSENT, None))
    counted = groups.counts(unknown & ~slices.overlaps.to_numpy(dtype=bool)) == 0
    rows["volume_ml"] = rows.volume_ml.where(counted)
    for name in ("slices", "coverage_mm"):
        rows[name] = rows[name].mask(nowhere)
    rows["lean_volume_ml"] = rows.volume_ml * (1 - rows.fat_fraction)
    rows["fat_fraction_reason"] = _reasons(slices, MUSCLE_KEYS).reindex(groups.index)
    rows.loc[rows.fat_fraction.notna(), "fat_fraction_reason"] = None
    return rows.join(range_volumes(slices, groups.index)).reset_index()


def _areas(groups: _Groups, area: pd.Series, shown: np.ndarray) -> dict[str, np.ndarray]:
    count = groups.counts(shown)
    largest = np.full(len(count), -np.inf)
    np.maximum.at(largest, groups.code[shown], area.to_numpy(dtype=float)[shown])
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = groups.sums(area, shown) / count
        variance = groups.sums((area - mean[groups.code]) ** 2, shown) / (count - 1)
    return {
        "slices": count.astype("int32"),
        "csa_mean_mm2": mean,
        "csa_sd_mm2": np.sqrt(np.where(count > 1, variance, np.nan)),
        "csa_max_mm2": np.where(count > 0, largest, np.nan),
    }


def _every_muscle(subjects: np.ndarray) -> pd.MultiIndex:
    return pd.MultiIndex.from_product([subjects, MUSCLES, SIDES], names=MUSCLE_KEYS)


def _reasons(rows: pd.DataFrame, keys: list[str]) -> pd.Series:
    """Return why fat_fraction is null, by keys: "absent" only if no row has another reason."""
    known = rows.assign(absent=rows.fat_fraction_reason == "absent")
    known = known.dropna(subset=["fat_fraction_reason"]).sort_values("absent", kind="stable")
    return known.groupby(keys).fat_fraction_reason.first()


def _sequences(slices: pd.DataFrame) -> pd.DataFrame:
    """Return `tables.SEQUENCE_COLUMNS` by subject: unknown where stacks differ, the least contrast."""
    groups = slices.groupby("subject")
    found = groups[["sequence", "sequence_source"]].first()
    differ = groups.sequence.nunique() > 1
    found.loc[differ, ["sequence", "sequence_source"]] = [UNKNOWN, PIXELS]
    return found.assign(fat_contrast=groups.fat_contrast.min())


def cohort_subjects(
    muscles: pd.DataFrame,
    slices: pd.DataFrame,
    convert: pd.DataFrame,
    segment: pd.DataFrame,
    people: pd.DataFrame,
) -> pd.DataFrame:
    """Return one row per analysed subject: sums over muscles, areas per height squared, asymmetry, fat.

    muscles: one row per subject, muscle and side, from `cohort_muscles`, with the values added by
    `level_areas.at_standard_level`. slices: one row per slice, muscle and side, from
    `cohort_slices`. convert, segment: rows of the analysed scans in the shard tables tables.CONVERT
    and tables.SEGMENT. people: covariates, indexed by scan, from `people.covariates_of`. In all of
    these the column subject names the scan. The columns are those of codebook.SUBJECT_TABLE but
    n_warnings, z-scores and codebook.QUALITY_COLUMNS; rows are those of convert, in its order. A
    sum is null if a part is null; a fat fraction if volume (area) or fat fraction of a part is
    unknown, where a part in which the muscle is absent does not count.
    """
    rows = convert.rename(columns={"stacks": "n_stacks", "slices": "n_slices"}).set_index("subject")
    rows = rows[["n_stacks", "n_slices", *(column.name for column in HEADER_COLUMNS)]].join(people)
    rows = rows.join(segment.set_index("subject")[[column.name for column in LABELS_COLUMNS]])
    groups, everything = _groups(muscles, rows.index), np.full(len(muscles), True)
    rows["coverage_mm"] = _coverage_mm(slices, rows.index)
    rows["volume_ml"] = groups.sums(muscles.volume_ml, everything)
    rows["lean_volume_ml"] = groups.sums(_lean_volume_ml(muscles), everything)
    rows["fat_fraction"] = groups.joined_fat(muscles.fat_fraction, muscles.volume_ml, everything)
    reasons = _reasons(muscles, ["subject"]).reindex(rows.index)
    unknown = slices[slices.csa_reason.isin([NOT_LABELLED, REVIEW_FAILED])].groupby("subject")
    other = reasons.where(reasons != ABSENT).fillna(unknown.csa_reason.first())
    rows["fat_fraction_reason"] = other.fillna(reasons)
    rows.loc[rows.fat_fraction.notna(), "fat_fraction_reason"] = None
    rows = rows.join(_sequences(slices))
    rows["fat_fraction_method"] = slices.groupby("subject").fat_fraction_method.first()
    rows["separability"] = slices.groupby("subject").separability_otsu_subject.first()
    for muscle in MUSCLES:
        own = _muscle_of_subject(groups, muscles, (muscles.muscle == muscle).to_numpy())
        for name, values in own.items():
            rows[name.format(muscle)] = values
        rows[f"csa_index_{muscle}"] = rows[f"csa_{muscle}_mm2"] / (rows.height_cm / 100) ** 2
    return rows.reset_index()


def _coverage_mm(slices: pd.DataFrame, subjects: pd.Index) -> np.ndarray:
    once = slices[~slices.overlaps.astype(bool)].drop_duplicates(["subject", "stack", "slice"])
    return _groups(once, subjects).sums(once.slab_mm, np.full(len(once), True))


def _lean_volume_ml(muscles: pd.DataFrame) -> pd.Series:
    """Return the lean volume of each muscle: 0 if absent, null if its fat fraction is null."""
    return muscles.lean_volume_ml.mask(muscles.volume_ml == 0, 0.0).astype(float)


def _muscle_of_subject(
    groups: _Groups, muscles: pd.DataFrame, own: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the columns of one muscle by name pattern, each (subjects,).

    own: (rows of muscles,) bool, the rows of this muscle.
    """
    left, right = (
        groups.sums(muscles.csa_mean_mm2, own & (muscles.side == side).to_numpy()) for side in SIDES
    )
    both = left + right
    with np.errstate(invalid="ignore"):
        asymmetry = (left - right) / (both / 2)
    at_level = muscles.csa_at_level_mm2
    return {
        "csa_{}_mm2": both,
        "csa_level_{}_mm2": groups.sums(at_level, own),
        "fat_level_{}": groups.joined_fat(muscles.fat_fraction_at_level, at_level, own),
        "volume_{}_ml": groups.sums(muscles.volume_ml, own),
        "fat_fraction_{}": groups.joined_fat(muscles.fat_fraction, muscles.volume_ml, own),
        "asymmetry_{}": asymmetry,
    }
