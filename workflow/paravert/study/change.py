"""Change of area, volume and fat fraction between the first and the last scan of a subject."""

import pandas as pd

from paravert.study.scans import in_order_of_visits, scan_keys, years_of
from paravert.study.standard_level import AT_LEVEL

# Below this interval two scans are repeats of each other (reliability); from it on they show a change
# per year. No pair is both.
REPEAT_YEARS = 0.25
MEASURES = {"csa_mean_mm2": "mm2", "volume_ml": "ml", "fat_fraction": "1"}  # over all slices
RANGE_MEASURES = {**AT_LEVEL, "volume_l3_l5_ml": "ml"}  # the same range in all scans
RANGE_COLUMNS = ("coverage_mm", "level_from", "level_to")
# Scans show the same range if their coverages differ by at most this share of the larger, and their ends by
# so many levels.
COVERAGE_SHARE, END_LEVELS = 0.1, 0.5
CHANGE_COLUMNS = (
    "subject", "muscle", "side", "measure", "unit", "first_visit", "last_visit", "first", "last",
    "change", "years", "change_per_year",
)  # fmt: skip


def change_table(muscles: pd.DataFrame, subjects: pd.DataFrame) -> pd.DataFrame:
    """Return the change of each measure from the first to the last scan of each subject with several.

    muscles, subjects: the cohort tables. First and last: by years_since_first, or by the visit's name
    if it is not known for all scans of the subject. One row per subject, muscle, side and measure
    (those of RANGE_MEASURES and MEASURES). Columns: subject, muscle, side, measure, unit, first_visit,
    last_visit, first and last (the values, in unit), change (last - first; of MEASURES null if the scans
    show the muscle over different ranges), years between the scans, change_per_year, null also if years
    is below REPEAT_YEARS (0.25). Null is unknown. Without rows if the cohort has no visits.
    """
    if "visit" not in subjects:
        return pd.DataFrame(columns=list(CHANGE_COLUMNS))
    first, last = two_scans(muscles, subjects, (0, -1))
    elapsed = last["years"] - first["years"]
    same_range = _same_range(first, last)
    parts = []
    for measure, unit in {**RANGE_MEASURES, **MEASURES}.items():
        change = last[measure] - first[measure]
        change = change.where(same_range) if measure in MEASURES else change
        own = pd.DataFrame(
            {
                "measure": measure,
                "unit": unit,
                "first_visit": first["visit"],
                "last_visit": last["visit"],
                "first": first[measure],
                "last": last[measure],
                "change": change,
                "years": elapsed,
                "change_per_year": change / elapsed.where(elapsed >= REPEAT_YEARS),
            }
        )
        parts.append(own.reset_index())
    found = pd.concat(parts, ignore_index=True)[list(CHANGE_COLUMNS)]
    return found.sort_values(["subject", "muscle", "side", "measure"], ignore_index=True)


def _same_range(first: pd.DataFrame, last: pd.DataFrame) -> pd.Series:
    """Return whether two scans show a muscle over the same range; its ends count where they are known."""
    coverage = pd.concat([first["coverage_mm"], last["coverage_mm"]], axis=1)
    same = coverage.min(axis=1) >= (1 - COVERAGE_SHARE) * coverage.max(axis=1)
    for end in ("level_from", "level_to"):
        same &= ~((last[end] - first[end]).abs() > END_LEVELS)
    return same


def two_scans(
    muscles: pd.DataFrame, subjects: pd.DataFrame, places: tuple[int, int]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows of two scans of each subject that has several, as two frames with the same index.

    muscles, subjects: the cohort tables, with visits; in place of muscles also rows of one level of the
    table levels. places: which two scans: 0 is the first, 1 the second, -1 the last, by
    years_since_first if it is known for all scans of the subject, otherwise by the visit's name. The
    index is subject, muscle and side; the columns are the others of muscles, visit among them, and
    years (since the subject's first visit, NaN if unknown).
    """
    years = subjects[scan_keys(subjects)].assign(years=years_of(subjects))
    rows = in_order_of_visits(muscles, subjects).merge(years, on=scan_keys(subjects))
    several = rows.groupby("subject")["visit"].transform("nunique") > 1
    keys = ["subject", "muscle", "side"]
    groups = rows[several].groupby(keys, observed=True)
    first, second = (groups.nth(place).set_index(keys) for place in places)
    return first, second.loc[first.index]
