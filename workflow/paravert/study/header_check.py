"""Covariates of the sheet against the image headers: do the images belong to the line of the sheet?

Asked where the cohort is gathered, so that a corrected covariate computes no image again.
"""

import pandas as pd

from paravert.errors import Caution
from paravert.imaging.frames import OLDEST_AGE_YEARS

AGE_TOLERANCE_YEARS = 1.0  # a header tells whole years, the sheet perhaps the age at another visit


def covariate_differences(people: pd.DataFrame, converted: pd.DataFrame) -> dict[str, str]:
    """Return what differs, in words, of each subject of whom something does.

    people: sex and age_years of the sheet by subject. converted: subject, header_sex and
    header_age_years, as in `tables.CONVERT`. What is unknown in either differs from nothing.
    """
    told = converted.set_index("subject")
    own = people.reindex(told.index)
    sex = own.sex.notna() & told.header_sex.notna() & (own.sex != told.header_sex)
    apart = _years_apart(own.age_years.astype(float), told.header_age_years.astype(float))
    age = apart > AGE_TOLERANCE_YEARS
    found = {}
    for subject in told.index[sex | age]:
        words = ["sex differs from PatientSex (0010,0040)"] if sex[subject] else []
        if age[subject]:
            words.append(f"age_years differs from PatientAge (0010,1010) by {apart[subject]:.1f}")
        found[subject] = "; ".join(words)
    return found


def _years_apart(sheet: pd.Series, header: pd.Series) -> pd.Series:
    """Return how far ages differ; a header of 90 stands for any age from there on."""
    oldest = (header == OLDEST_AGE_YEARS) & (sheet > OLDEST_AGE_YEARS)
    return (sheet - header).abs().where(~oldest, 0.0)


def with_differences(ledger: pd.DataFrame, differences: dict[str, str]) -> pd.DataFrame:
    """Return the ledger with the warning covariate-differs-from-header, and what it tells."""
    ledger = ledger.copy()
    for row in ledger.index[ledger.subject.isin(differences)]:
        told, before = differences[ledger.at[row, "subject"]], ledger.at[row, "message"]
        codes = {*ledger.at[row, "warnings"], str(Caution.COVARIATE_DIFFERS_FROM_HEADER)}
        ledger.at[row, "warnings"] = tuple(sorted(codes))
        ledger.at[row, "message"] = told if pd.isna(before) else f"{before}; {told}"
    return ledger
