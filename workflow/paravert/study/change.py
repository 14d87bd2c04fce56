"""Change of area, volume and fat fraction between the first and the last scan of a subject."""

import numpy as np
import pandas as pd

from paravert.study.scans import in_order_of_visits, scan_keys, years_of

MEASURES = {"csa_mean_mm2": "mm2", "volume_ml": "ml", "fat_fraction": "1"}
CHANGE_COLUMNS = (
    "subject", "muscle", "side", "measure", "unit", "first_visit", "last_visit", "first", "last",
    "change", "years", "change_per_year",
)  # fmt: skip


def change_table(muscles: pd.DataFrame, subjects: pd.DataFrame) -> pd.DataFrame:
    """Return the change of each measure of each subject with several analysed scans (CHANGE_COLUMNS).

    muscles, subjects: the cohort's tables. first, last: values of the first and the last analysed scan
    (see `in_order_of_visits`), change: last - first, in unit. years: between the two, null if unknown;
    change_per_year: null, too, if it is not above 0. A row per subject, muscle, side and measure.
    """
    if "visit" not in subjects:
        return pd.DataFrame(columns=list(CHANGE_COLUMNS))
    years = subjects[scan_keys(subjects)].assign(years=years_of(subjects))
    rows = in_order_of_visits(muscles, subjects).merge(years, on=scan_keys(subjects))
    several = rows.groupby("subject")["visit"].transform("nunique") > 1
    groups = rows[several].groupby(["subject", "muscle", "side"], observed=True)
    first, last = (groups.nth(place).set_index(["subject", "muscle", "side"]) for place in (0, -1))
    last = last.loc[first.index]
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
                / elapsed.where(elapsed > 0, np.nan),
            }
        ).reset_index()
        for measure, unit in MEASURES.items()
    ]
    found = pd.concat(parts, ignore_index=True)[list(CHANGE_COLUMNS)]
    return found.sort_values(["subject", "muscle", "side", "measure"], ignore_index=True)
