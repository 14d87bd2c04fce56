"""The vertebral level at which areas are compared, and whether enough subjects have values there."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from paravert import codebook
from paravert.anatomy import MUSCLES, SIDES, STANDARD_LEVELS, level_name, level_number
from paravert.errors import InputError
from paravert.study.both_sides import joined
from paravert.study.data_frames import ALL_SEXES, by_sex, read_frame, read_metadata
from paravert.study.result_tables import LEAST_SHARED_SUBJECTS
from paravert.study.scans import of_scans
from paravert.study.summary import counted
from paravert.tables import NO_LEVELS, NO_SUCH_LEVEL, NOT_COVERED

LEAST_COVERED = 0.8  # share of the subjects that must have a value at the level
ALL_SLICES = "all slices"  # value of the column `level` for means over all slices of a subject
ALL_MUSCLES = "all"
SCANS_COVER = "scans cover"  # how `StandardLevel.ranges` begins
USUAL_LEVEL = "L3/4"  # also of older cohort tables, whose metadata do not name it
LEVEL_METADATA = "level_standard"  # key in the metadata of the cohort tables
AT_LEVEL = {"csa_at_level_mm2": "mm2", "fat_fraction_at_level": "1"}  # columns of muscles: unit
# The same levels are covered for all muscles, so the rows of one suffice.
ONE_MUSCLE = (("muscle", "==", MUSCLES[0]), ("side", "==", SIDES[0]))
COVERED_COLUMNS = (
    *("subject", "level_position", "level", "muscle", "side", "sex", "level_reason"),
)
COVERAGE_COLUMNS = ("level_position", "level", "sex", "n_subjects", "n_covered", "share")


@dataclass(frozen=True)
class StandardLevel:
    """The vertebral level at which the study compares scans, and how many subjects have values there.

    name: of the level, such as "L3/4". n_subjects: number of analysed subjects. n_covered: of these,
    with an area at the level. covered: {name of each level, L1 to L5/S1: number of subjects whose
    slices cover it}. The defaults are those of a study without subjects, where the level is not used.
    """

    name: str = USUAL_LEVEL
    n_subjects: int = 0
    n_covered: int = 0
    covered: Mapping[str, int] = field(default_factory=dict)

    @property
    def used(self) -> bool:
        """Whether areas are compared at this level: at least 80 % of the subjects have an area there.

        A property; False without subjects. If it is False, means over all slices are compared.
        """
        return _enough(self.n_covered, self.n_subjects)

    @property
    def shown(self) -> str:
        """What is compared: the name of the level if it is `used`, otherwise "all slices"; a property."""
        return self.name if self.used else ALL_SLICES

    @property
    def note(self) -> str:
        """A sentence on what is compared, for figures, captions and tables; "" without subjects; a property."""
        if not self.n_subjects:
            return ""
        share = f"{counted(self.n_covered, 'subject')} of {self.n_subjects:,}"
        have = "has" if self.n_covered == 1 else "have"
        if self.used:
            if self.n_covered == self.n_subjects:
                share, have = "all subjects", "have"
            return f"At {self.name}, where {share} {have} a value; means over all slices beside it."
        if not any(self.covered.values()):
            return "Means over all slices, whose ranges may differ: no vertebral levels are known."
        return (
            f"Means over all slices, whose ranges {'may ' * (not self.n_covered)}differ: {share} {have} a"
            f" value at {self.name},"
            f" {100 * LEAST_COVERED:.0f} % are needed."
        )

    @property
    def ranges(self) -> str:
        """Words for results over all slices: that scans cover different ranges; a property.

        Such as "scans cover different ranges (68 % of the subjects have L3/4)", by `subjects_have`;
        begins with SCANS_COVER. "" if the level is `used`, or without subjects. If nobody has the
        level, the ranges "may differ": slices of all may then end below it.
        """
        if self.used or not self.n_subjects:
            return ""
        if not any(self.covered.values()):
            return f"{SCANS_COVER} ranges that may differ (no vertebral levels are known)"
        if not self.n_covered:
            return f"{SCANS_COVER} ranges that may differ (no subject has {self.name})"
        have = subjects_have(self.n_covered, self.n_subjects)
        return f"{SCANS_COVER} different ranges ({have} {self.name})"

    @property
    def distribution(self) -> str:
        """A sentence on how many subjects have slices at each level; a property.

        "" if all subjects have slices at every level, or none at any.
        """
        counts = set(self.covered.values())
        if counts <= {0} or counts == {self.n_subjects}:
            return ""
        told = ", ".join(f"{name} {count:,}" for name, count in self.covered.items())
        return f"Subjects with a value at each level: {told}."


def read_covered(cohort: Path, scans: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the cohort table `levels` that say which levels a scan covers (COVERED_COLUMNS).

    Those of the left psoas major (ONE_MUSCLE), as the same levels are covered for all muscles. cohort:
    folder of the cohort tables. scans: one row per scan, with subject and visit; rows of other scans
    are left out, and the result has the column visit, too. In a study without visits all rows are
    returned.
    """
    return of_scans(read_frame(cohort, codebook.LEVEL_TABLE, COVERED_COLUMNS, ONE_MUSCLE), scans)


def standard_level(muscles: pd.DataFrame, levels: pd.DataFrame, name: str) -> StandardLevel:
    """Return the standard level of the study, and how many subjects have a value there.

    muscles, levels: the cohort tables, one scan per subject; of levels the rows of the left psoas
    major (ONE_MUSCLE) suffice. name: of the level, such as "L3/4", that csa_at_level_mm2 of muscles
    was computed for (`level_of_metadata`); not checked. A subject has a value there if
    csa_at_level_mm2 of any muscle is known. levels gives the numbers of subjects at each level, as
    in `level_coverage`.
    """
    at_level = muscles.loc[muscles["csa_at_level_mm2"].notna(), "subject"]
    everybody = level_coverage(levels)
    everybody = everybody[everybody["sex"] == ALL_SEXES]
    covered = dict(zip(everybody["level"], everybody["n_covered"].astype(int), strict=True))
    return StandardLevel(name, muscles["subject"].nunique(), at_level.nunique(), covered)


def too_few_at_level(known: int, subjects: int) -> str:
    """Return a note if too few subjects have a value at the standard level; "" if enough have.

    known: number of subjects with a value there; enough are LEAST_COVERED (80 %) of subjects, the number
    of all, and at least one.
    """
    if _enough(known, subjects):
        return ""
    have = subjects_have(known, subjects)
    return f"{have} a value at that level, expected {100 * LEAST_COVERED:.0f} %"


def _enough(known: int, subjects: int) -> bool:
    return known / max(1, subjects) >= LEAST_COVERED


def subjects_have(known: int, subjects: int) -> str:
    """Return how many subjects have something, such as "68 % of the subjects have", rounded down.

    known: their number. Below LEAST_SHARED_SUBJECTS (5) it is told itself ("3 subjects have"): tables
    for sharing hide it, and a share would tell it. subjects: number of all.
    """
    if known < LEAST_SHARED_SUBJECTS:
        return f"{counted(known, 'subject')} {'has' if known == 1 else 'have'}"
    return f"{100 * known // subjects} % of the subjects have"


def level_coverage(levels: pd.DataFrame) -> pd.DataFrame:
    """Return how many subjects have slices at each vertebral level, by sex, with COVERAGE_COLUMNS.

    levels: the cohort table `levels`, or its rows of the left psoas major (ONE_MUSCLE), one scan per
    subject. n_covered counts subjects whose slices cover the level (level_reason is none of
    not-covered, no-levels and no-such-level), also if the area there is unknown. One row per sex (all,
    F, M, and unknown if there are any) and level from L1 to L5/S1, in this order: level_position
    (number), level (name), sex, n_subjects, n_covered, share (NaN without subjects).
    """
    once = levels[(levels["muscle"] == MUSCLES[0]) & (levels["side"] == SIDES[0])]
    once = once.assign(known=~once["level_reason"].isin([NOT_COVERED, NO_LEVELS, NO_SUCH_LEVEL]))
    rows = []
    for sex, own in by_sex(once):
        subjects = own["subject"].nunique()
        counts = own.groupby("level_position")["known"].sum()
        for position in STANDARD_LEVELS:
            count = int(counts.get(position, 0))
            share = count / subjects if subjects else np.nan
            rows.append((position, level_name(position), sex, subjects, count, share))
    return pd.DataFrame(rows, columns=list(COVERAGE_COLUMNS))


def standard_number(name: str) -> float:
    """Return the number of a vertebra or disc by its name, 3.5 for "L3/4"; InputError unless L1 to L5/S1."""
    number = level_number(name)
    if number not in STANDARD_LEVELS:
        raise InputError("level_standard", f"{name}, expected L1 to L5/S1")
    return number


def level_of_metadata(cohort: Path, table: str = codebook.MUSCLE_TABLE.name) -> str:
    """Return the name of the standard level, such as "L3/4", that the cohort tables were made with.

    cohort: folder of the cohort tables. table: name of the one whose metadata are read, without
    ".parquet". Each contains the level; "L3/4" if an older table does not. Raises InputError if the
    table is missing or damaged.
    """
    return read_metadata(cohort / f"{table}.parquet").get(LEVEL_METADATA, USUAL_LEVEL)


def both_sides_at_level(muscles: pd.DataFrame) -> pd.DataFrame:
    """Return area and fat fraction at the standard level, left and right together.

    muscles: the cohort table `muscles`, one scan per subject. One row per subject and muscle, and one
    with muscle "all" for all four. Columns: subject, sex, muscle, csa_at_level_mm2 (sum),
    fat_fraction_at_level (0-1, weighted by area). A value is null if that of a side (or muscle) is
    unknown; where a muscle is absent, its area is 0 and it does not enter the fat fraction, which is
    null if all are absent.
    """
    sex = muscles.astype({"sex": object}).groupby("subject", sort=False)["sex"].first()
    area, fat = AT_LEVEL
    parts = [
        joined(muscles.assign(**names), ["subject", "muscle"], [area], fat, count * len(SIDES))
        for names, count in (
            ({"muscle": muscles["muscle"].astype(object)}, 1),
            ({"muscle": ALL_MUSCLES}, len(MUSCLES)),
        )
    ]
    found = pd.concat(parts).reset_index()
    found["sex"] = found["subject"].map(dict(sex)).astype(object)
    return found[["subject", "sex", "muscle", *AT_LEVEL]]
