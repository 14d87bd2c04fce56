"""Areas at fixed vertebral levels, and volumes between them, from the slices of each subject."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from paravert.anatomy import LABELS, STANDARD_LEVELS, USUAL_LUMBAR, USUAL_PITCH_MM, level_name
from paravert.tables import ABSENT, NO_LEVELS, NO_SUCH_LEVEL, NOT_COVERED

REACH_MM = 15.0  # largest distance of the slices on both sides of a level
NEAREST_MM = 5.0  # a slice this near is used alone if there is none on the other side
# Slices tilted less are parallel across stacks: 100 mm beside the axis, positions are right within 0.2 mm.
TRANSVERSE_DEG = 0.1
# From the upper endplate of the first to the lower endplate of the last vertebra.
VOLUME_RANGES = {"volume_l1_l5": (0.63, 5.37), "volume_l3_l5": (2.63, 5.37)}
LABEL_KEYS = [(label.muscle, label.side) for label in LABELS]


@dataclass(frozen=True)
class _Column:
    """The slices of one subject with known level, along the vertebral column from cranial to caudal.

    parallel: (slices,), equal for parallel slices, whose positions can be compared: number of the
    stack, 0 for all transverse slices. level: (slices,), level_position of the table slices (1.0 mid
    L1). position_mm, slab_mm: (slices,), as in that table. area, fat: (slices, 8), csa_mm2 and
    fat_fraction of each label; NaN is unknown. area_reason, fat_reason: (slices, 8), why they are
    unknown; None where known.
    """

    parallel: np.ndarray
    level: np.ndarray
    position_mm: np.ndarray
    slab_mm: np.ndarray
    area: np.ndarray
    fat: np.ndarray
    area_reason: np.ndarray
    fat_reason: np.ndarray

    @cached_property
    def mm_per_level(self) -> float:
        """Length of a level (vertebra with disc) in mm, by parallel slices; a property.

        USUAL_PITCH_MM (35) without such slices.
        """
        order = np.lexsort((self.level, self.parallel))
        within = np.diff(self.parallel[order]) == 0
        levels = np.diff(self.level[order])[within].sum()
        return (
            float(-np.diff(self.position_mm[order])[within].sum() / levels)
            if levels > 0
            else USUAL_PITCH_MM
        )

    @cached_property
    def along_mm(self) -> np.ndarray:
        """Distance (mm) of each slice from the most cranial one along the spine, (slices,), rising caudally.

        A property. Between parallel neighbours from position_mm; between others the difference of their
        levels times mm_per_level.
        """
        within = self.parallel[1:] == self.parallel[:-1]
        levels = np.diff(self.level) * self.mm_per_level
        return np.append(0.0, np.cumsum(np.where(within, -np.diff(self.position_mm), levels)))

    def place_mm(self, level: np.ndarray) -> np.ndarray:
        """Return the distance (mm) of levels from the most cranial slice along the spine, (levels,).

        level: (levels,), such as 3.5 for L3/4. Positive caudal, negative cranial of that slice.
        Interpolated between slices; beyond the first and the last one, `mm_per_level` per level.
        """
        beyond = level - np.clip(level, self.level[0], self.level[-1])
        return np.interp(level, self.level, self.along_mm) + beyond * self.mm_per_level

    def neighbours(self, level: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the two slices next to each level (indices) and their weights, both (levels, 2).

        The cranial slice is first. level: (levels,), such as 3.5 for L3/4. The weights of a level add up to
        1: linear if slices on both sides are within REACH_MM (15 mm), otherwise 1 for a slice within
        NEAREST_MM (5 mm). If there is none they are all 0. Beyond the slices, both indices are those of the
        outermost one.
        """
        place = self.place_mm(level)
        last = len(self.level) - 1
        after = np.searchsorted(self.along_mm, place)
        pair = np.clip(np.stack((after - 1, after), axis=1), 0, last)
        gap = np.abs(self.along_mm[pair] - place[:, None])
        both = (after > 0) & (after <= last) & (gap.max(axis=1) <= REACH_MM)
        span = np.where(gap.sum(axis=1) > 0, gap.sum(axis=1), 1.0)
        between = np.stack((1 - gap[:, 0] / span, gap[:, 0] / span), axis=1)
        nearest = (gap.argmin(axis=1)[:, None] == (0, 1)) & (gap.min(axis=1) <= NEAREST_MM)[:, None]
        return pair, np.where(both[:, None], between, nearest.astype(float))

    def volumes_ml(self, first: float, last: float) -> np.ndarray | None:
        """Return the volume (ml) of label values 1 to 8 between two levels, (8,); None if not covered.

        first, last: levels as numbers, such as 3.5 for L3/4, first the cranial one. NaN for a label of
        unknown area in a slice that is used. Not covered: neighbouring slices are more than 30 mm apart
        anywhere between the levels, or an end is more than half a slab (at least 2.5 mm) beyond the
        outermost slice.
        """
        start, stop = self.place_mm(np.array([first, last]))
        half = np.maximum(self.slab_mm[[0, -1]], NEAREST_MM) / 2
        lacks = start < self.along_mm[0] - half[0] or stop > self.along_mm[-1] + half[1]
        inside = (self.along_mm[1:] > start) & (self.along_mm[:-1] < stop)
        if lacks or (np.diff(self.along_mm)[inside] > 2 * REACH_MM).any():
            return None
        between = self.along_mm[(self.along_mm > start) & (self.along_mm < stop)]
        places = np.concatenate(([start], between, [stop]))
        areas = [np.interp(places, self.along_mm, area) for area in self.area.T]
        return np.trapezoid(areas, places, axis=1) / 1000


def _columns(slices: pd.DataFrame, *, once: bool) -> Iterator[tuple[str, _Column | None]]:
    """Yield subject and slices of each subject; None if no level is known.

    once: whether slices that cut one of an earlier stack are left out.
    """
    label = pd.MultiIndex.from_tuples(LABEL_KEYS).get_indexer(
        pd.MultiIndex.from_frame(slices[["muscle", "side"]])
    )
    known = slices.assign(label=label).sort_values(
        ["subject", "level_position", "stack", "slice", "label"]
    )
    known["parallel"] = known["stack"].where(known.tilt_deg >= TRANSVERSE_DEG, 0)
    per_slice = [
        known[name].to_numpy(float)[:: len(LABELS)]
        for name in ("parallel", "level_position", "position_mm", "slab_mm")
    ]
    per_label = [
        known[name].to_numpy(kind).reshape(-1, len(LABELS))
        for name, kind in (
            ("csa_mm2", float),
            ("fat_fraction", float),
            ("csa_reason", object),
            ("fat_fraction_reason", object),
        )
    ]
    subject = known.subject.to_numpy()[:: len(LABELS)]
    used = ~np.isnan(per_slice[1])
    if once:
        used &= ~known.overlaps.to_numpy(bool)[:: len(LABELS)]
    names, starts = np.unique(subject, return_index=True)
    for name, rows in zip(names, np.split(np.arange(len(subject)), starts[1:]), strict=True):
        own = rows[used[rows]]
        yield (
            name,
            _Column(*(values[own] for values in (*per_slice, *per_label))) if own.size else None,
        )


# --- areas at levels -------------------------------------------------------------------------------


def areas_at_levels(slices: pd.DataFrame) -> pd.DataFrame:
    """Return area and fat fraction of each muscle at each standard vertebral level.

    slices: one row per slice, muscle and side, from `aggregate.cohort_slices`, all eight muscles of
    each slice; its column subject names the scan. One row per scan, level (anatomy.STANDARD_LEVELS, L1
    to L5/S1), muscle and side. Columns: subject (the scan), level_position (number, 3.5 for L3/4),
    level (name with five lumbar vertebrae), muscle, side, slices (number used, 0 if there are none),
    csa_mm2, lean_csa_mm2, fat_fraction (0-1), level_reason (code as in codebook.LEVEL_TABLE, why a
    value is null; None if none is). Values are interpolated linearly along the spine between the slices
    on both sides, if both are within REACH_MM (15 mm); otherwise those of a slice within NEAREST_MM (5
    mm) are used; otherwise they are null. The fat fraction is weighted by area, and null where the
    muscle is absent, whose area is 0.
    """
    subjects, parts = [], []
    for subject, column in _columns(slices, once=False) if len(slices) else ():
        subjects.append(subject)
        parts.append(_not_known() if column is None else _at_levels(column))
    index = pd.MultiIndex.from_tuples(
        [
            (subject, level, level_name(level), *key)
            for subject in subjects
            for level in STANDARD_LEVELS
            for key in LABEL_KEYS
        ],
        names=["subject", "level_position", "level", "muscle", "side"],
    )
    table = pd.DataFrame(index=index).reset_index()
    for name, kind in _LEVEL_VALUES.items():
        values = [part[name].ravel() for part in parts]
        table[name] = pd.Series(np.concatenate(values) if values else [], dtype=kind)
    return table


_LEVEL_VALUES = {
    "slices": "int32",
    "csa_mm2": float,
    "lean_csa_mm2": float,
    "fat_fraction": float,
    "level_reason": object,
}
_SHAPE = (len(STANDARD_LEVELS), len(LABELS))


def _not_known() -> dict[str, np.ndarray]:
    unknown = np.full(_SHAPE, np.nan)
    values = dict.fromkeys(("csa_mm2", "lean_csa_mm2", "fat_fraction"), unknown)
    return {
        "slices": np.zeros(_SHAPE),
        **values,
        "level_reason": np.full(_SHAPE, NO_LEVELS, object),
    }


def _at_levels(column: _Column) -> dict[str, np.ndarray]:
    """Return the values of one subject, (levels, 8) each."""
    pair, weight = column.neighbours(np.array(STANDARD_LEVELS))
    used = (weight > 0)[..., None]
    share = np.where(used, weight[..., None] * column.area[pair], 0.0)  # (levels, 2, 8)
    area = share.sum(axis=1)
    fat = np.where(share > 0, share * column.fat[pair], 0.0).sum(axis=1)
    covered = np.broadcast_to(used.any(axis=1), _SHAPE)
    lacks_fat = used & (share > 0) & np.isnan(column.fat[pair])
    with np.errstate(invalid="ignore", divide="ignore"):
        fraction = np.where(covered, fat / area, np.nan)
    lacks_area = used & np.isnan(column.area[pair])
    reason = _first_reason(lacks_fat, column.fat_reason[pair])
    reason = np.where(area == 0, ABSENT, reason)
    reason = np.where(np.isnan(area), _first_reason(lacks_area, column.area_reason[pair]), reason)
    return {
        "slices": np.broadcast_to((weight > 0).sum(axis=1)[:, None], _SHAPE),
        "csa_mm2": np.where(covered, area, np.nan),
        "lean_csa_mm2": np.where(covered, np.where(area == 0, 0.0, area - fat), np.nan),
        "fat_fraction": fraction,
        "level_reason": np.where(covered, reason, NOT_COVERED),
    }


def _first_reason(lacks: np.ndarray, reasons: np.ndarray) -> np.ndarray:
    """Return the first reason of the pairs that lack a value, (levels, 8); None where none does."""
    found = np.where(lacks[:, 0], reasons[:, 0], reasons[:, 1])
    return np.where(lacks.any(axis=1), found, None)


def weights_at_level(slices: pd.DataFrame, level: float) -> np.ndarray:
    """Return the weight of each row in the fat fraction of its muscle and side at a level.

    slices: one row per slice, muscle and side, from `aggregate.cohort_slices`, all eight muscles of
    each slice, of one or more scans (named by subject). level: such as 3.5 for L3/4. Returns float
    (rows,), not negative: the weight of the slice in the interpolation (see `areas_at_levels`) times
    its csa_mm2; 0 for slices that are not used, NaN for used ones of unknown area. The fat fraction at
    the level is the mean of the rows' fat fractions with these weights.
    """
    share = np.zeros(len(slices))
    rows = slices.assign(csa_mm2=np.arange(len(slices)))  # area of a column: the row's place
    for _, column in _columns(rows, once=False) if len(slices) else ():
        if column is not None:
            (pair,), (weight,) = column.neighbours(np.array([level]))
            np.add.at(share, column.area[pair].astype(int), np.repeat(weight[:, None], 8, axis=1))
    return np.where(share > 0, share * slices.csa_mm2.to_numpy(float), 0.0)


# --- volumes between levels ------------------------------------------------------------------------


def range_volumes(slices: pd.DataFrame, index: pd.MultiIndex) -> pd.DataFrame:
    """Return the volume (ml) of each muscle between fixed vertebral levels, and the levels it reaches.

    slices: one row per slice, muscle and side, from `aggregate.cohort_slices`, all eight muscles of
    each slice; its column subject names the scan. index: (subject, muscle, side) of the rows of the
    result, with these names; KeyError for a subject that slices lack. Columns: level_from and level_to,
    the levels (numbers such as 3.5 for L3/4; null if unknown or not shown) of the most cranial and most
    caudal slice that shows the muscle; volume_l1_l5_ml and volume_l3_l5_ml, from the upper endplate of
    L1 (L3) to the lower one of L5, and volume_..._reason (code as in codebook.MUSCLE_TABLE; None if the
    volume is known). Areas are interpolated between slices, without those that cut an earlier stack;
    the first and last slice each cover half of slab_mm, at least 2.5 mm, beyond their centre. A volume
    is null, with a reason, if no level is known, if slices in the range are more than 30 mm (2 x
    REACH_MM) apart or do not cover it, or if an area there is unknown.
    """
    shown = slices[slices.pixels > 0].groupby(index.names).level_position
    table = pd.DataFrame(index=index)
    table["level_from"], table["level_to"] = shown.min(), shown.max()
    found = dict(_columns(slices, once=True)) if len(slices) else {}
    subjects = index.get_level_values("subject")
    place = {key: number for number, key in enumerate(LABEL_KEYS)}
    labels = [
        place[key] for key in zip(*map(index.get_level_values, ("muscle", "side")), strict=True)
    ]
    for name, ends in VOLUME_RANGES.items():
        values = {subject: _volumes(column, ends) for subject, column in found.items()}
        rows = [values[subject][label] for subject, label in zip(subjects, labels, strict=True)]
        table[f"{name}_ml"] = np.array([volume for volume, _ in rows], float)
        table[f"{name}_reason"] = np.array([reason for _, reason in rows], object)
    return table


def _volumes(column: _Column | None, ends: tuple[float, float]) -> list[tuple[float, str | None]]:
    """Return volume (NaN if unknown) and reason of each label."""
    found = None if column is None else column.volumes_ml(*ends)
    if found is None:
        return [(np.nan, NO_LEVELS if column is None else NOT_COVERED)] * len(LABELS)
    why = [
        next((reason for reason, area in zip(*pair, strict=True) if np.isnan(area)), None)
        for pair in zip(column.area_reason.T, column.area.T, strict=True)
    ]
    return [(v, reason if np.isnan(v) else None) for v, reason in zip(found, why, strict=True)]


def without_missing_levels(
    levels: pd.DataFrame, muscles: pd.DataFrame, n_lumbar: pd.Series
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the tables of levels and muscles without values at levels that a subject does not have.

    levels: from `areas_at_levels`. muscles: one row per scan, muscle and side, from
    `aggregate.cohort_muscles`. n_lumbar: number of lumbar vertebrae, indexed by the name of the
    scan, as in the column subject of both tables; null is 5. Area, lean area and fat fraction of
    `levels` become null and slices 0, with the reason "no-such-level", if the vertebra or disc at
    that number has another name in this subject than with five lumbar vertebrae: with four, 5.0 is
    S1 and not L5; with six, 5.5 is L5/6. In `muscles` the volumes between fixed levels become null,
    with this reason, in scans with fewer than five, as they end at L5. Both tables are changed in
    place.
    """
    unusual = n_lumbar[n_lumbar.notna() & (n_lumbar != USUAL_LUMBAR)].astype(int)
    rows = levels[levels.subject.isin(unusual.index)]
    names = map(level_name, rows.level_position, rows.subject.map(unusual).astype(int))
    other = rows.index[rows.level.to_numpy() != np.array(list(names), object)]
    levels.loc[other, ["csa_mm2", "lean_csa_mm2", "fat_fraction"]] = np.nan
    levels.loc[other, "slices"] = 0
    levels.loc[other, "level_reason"] = NO_SUCH_LEVEL
    lacks_fifth = muscles.subject.isin(unusual.index[unusual < USUAL_LUMBAR])
    for name in VOLUME_RANGES:
        muscles.loc[lacks_fifth, f"{name}_ml"] = np.nan
        muscles.loc[lacks_fifth, f"{name}_reason"] = NO_SUCH_LEVEL
    return levels, muscles


def at_standard_level(muscles: pd.DataFrame, levels: pd.DataFrame, level: float) -> pd.DataFrame:
    """Return a copy of the table of muscles with the values at one vertebral level.

    muscles: one row per scan, muscle and side, from `aggregate.cohort_muscles`. levels: from
    `areas_at_levels`. In both the column subject names the scan. level: one of anatomy.STANDARD_LEVELS,
    such as 3.5 for L3/4. Added columns: csa_at_level_mm2 and fat_fraction_at_level, null if `levels`
    has no value there.
    """
    names = {"csa_mm2": "csa_at_level_mm2", "fat_fraction": "fat_fraction_at_level"}
    keys = ["subject", "muscle", "side"]
    own = levels.loc[levels.level_position == level, [*keys, *names]].rename(columns=names)
    return muscles.merge(own, on=keys, how="left", validate="one_to_one")
