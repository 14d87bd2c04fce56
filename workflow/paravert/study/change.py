"""Change of area, volume and fat fraction between the first and the last scan of a subject."""

import pandas as pd

from paravert.study.scans import in_order_of_visits, scan_keys, years_of

# Below this interval two scans are repeats of each other (reliability); from it on they show a change
# per year. No pair is both.
REPEAT_YEARS = 0.25
MEASURES = {"csa_mean_mm2": "mm2", "volume_ml": "ml", "fat_fraction": "1"}
CHANGE_COLUMNS = (
    "subject", "muscle", "side", "measure", "unit", "first_visit", "last_visit", "first", "last",
    "change", "years", "change_per_year",
)  # fmt: skip


def change_table(muscles: pd.DataFrame, subjects: pd.DataFrame) -> pd.DataFrame:
    """Return the change of each measure from the first to the last scan of each subject with several.

    muscles, subjects: the cohort tables. First and last: by years_since_first, or by the visit's name
    if it is not known for all scans of the subject. One row per subject, muscle, side and measure
    (csa_mean_mm2, volume_ml, fat_fraction). Columns: subject, muscle, side, measure, unit, first_visit,
    last_visit, first and last (the values, in unit), change (last - first), years between the scans,
    change_per_year, null also if years is below REPEAT_YEARS (0.25). Null is unknown. Without rows if
    the cohort has no visits.
    """
    if "visit" not in subjects:
        return pd.DataFrame(columns=list(CHANGE_COLUMNS))
    first, last = two_scans(muscles, subjects, (0, -1))
    elapsed = last["years"] - first["years"]
    parts = [
        pd.DataFrame(
            {
                "measure": measure,
                "unit": unit,
                "first_visit": first["visit"],
                "last_visit": last["visit"],
                "first": first[measure],
                "last": last[measure],
                "change": last[measure] - first[measure],
                "years": elapsed,
                "change_per_year": (last[measure] - first[measure])
                / elapsed.where(elapsed >= REPEAT_YEARS),
            }
        ).reset_index()
        for measure, unit in MEASURES.items()
    ]
    found = pd.concat(parts, ignore_index=True)[list(CHANGE_COLUMNS)]
    return found.sort_values(["subject", "muscle", "side", "measure"], ignore_index=True)


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
