"""Warnings given when the cohort is gathered: images offline or shared, covariates that differ.

They are no part of the shard tables, so that a corrected covariate computes no image again.
"""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from paravert.errors import Caution, some_of
from paravert.imaging.frames import OLDEST_AGE_YEARS
from paravert.plan import images_away
from paravert.records import ANALYSED
from paravert.steps import STEPS

log = logging.getLogger(__name__)

AGE_TOLERANCE_YEARS = 1.0  # headers give whole years, the sheet perhaps the age at another visit
BMI_TOLERANCE = 0.5  # kg/m2; more than rounding of height and weight
Cautions = Mapping[str, set[Caution]]  # by subject


# --- images --------------------------------------------------------------------------------------


def image_warnings(
    folder: Path,
    by_shard: Mapping[str, Sequence[str]],
    rows: Mapping[str, Mapping[str, str]],
) -> Cautions:
    """Return images-offline and images-shared by subject.

    folder: of the shards. by_shard: subjects of each shard. rows: lines of the sheet by subject.
    """
    found: dict[str, set[Caution]] = defaultdict(set)
    owners: dict[bytes, list[str]] = defaultdict(list)
    columns = ["subject", "status", "image_digests"]
    for shard in by_shard:
        table = folder / shard / f"{STEPS['convert_dicom'].table.name}.parquet"
        for row in pq.read_table(table, columns=columns).to_pylist():
            if row["status"] == ANALYSED and images_away(rows[row["subject"]]):
                found[row["subject"]].add(Caution.IMAGES_OFFLINE)
            for digest in set(row["image_digests"] or ()):
                owners[digest].append(row["subject"])
    for group in sorted({tuple(sorted(group)) for group in owners.values() if len(group) > 1}):
        log.info("gather_cohort: the same images: %s", some_of(group))
        for subject in group:
            found[subject].add(Caution.IMAGES_SHARED)
    return found


# --- covariates ----------------------------------------------------------------------------------


def covariate_differences(people: pd.DataFrame, converted: pd.DataFrame) -> dict[str, str]:
    """Return a sentence for each subject whose sex or age differs between sheet and header.

    people: sex and age_years of the sheet by subject. converted: subject, header_sex and
    header_age_years, as in `tables.CONVERT`. A value that is null in either is not compared.
    """
    header = converted.set_index("subject")
    own = people.reindex(header.index)
    sex = own.sex.notna() & header.header_sex.notna() & (own.sex != header.header_sex)
    difference = _age_difference(own.age_years.astype(float), header.header_age_years.astype(float))
    age = difference > AGE_TOLERANCE_YEARS
    found = {}
    for subject in header.index[sex | age]:
        words = ["sex differs from PatientSex (0010,0040)"] if sex[subject] else []
        if age[subject]:
            words.append(
                f"age_years differs from PatientAge (0010,1010) by {difference[subject]:.1f}"
            )
        found[subject] = "; ".join(words)
    return found


def _age_difference(sheet: pd.Series, header: pd.Series) -> pd.Series:
    """Return the absolute difference in years; a header age of 90 means 90 or older."""
    oldest = (header == OLDEST_AGE_YEARS) & (sheet > OLDEST_AGE_YEARS)
    return (sheet - header).abs().where(~oldest, 0.0)


def bmi_differences(people: pd.DataFrame, carried: pd.DataFrame) -> dict[str, str]:
    """Return a sentence for each subject whose bmi in the sheet is not that of height and weight.

    people: bmi_kg_m2 by subject. carried: other columns of the sheet; its bmi has that name in any case.
    """
    found = {}
    for name in (column for column in carried if column.lower() == "bmi"):
        own = pd.to_numeric(carried[name], errors="coerce")
        difference = (own - people.bmi_kg_m2).abs()
        for subject in difference.index[difference > BMI_TOLERANCE]:
            found[subject] = f"bmi differs from weight and height by {difference[subject]:.1f}"
    return found


def with_differences(
    ledger: pd.DataFrame, differences: dict[str, str], caution: Caution
) -> pd.DataFrame:
    """Return the ledger with a warning and its message for each subject of differences."""
    ledger = ledger.copy()
    for row in ledger.index[ledger.subject.isin(differences)]:
        message, before = differences[ledger.at[row, "subject"]], ledger.at[row, "message"]
        codes = {*ledger.at[row, "warnings"], str(caution)}
        ledger.at[row, "warnings"] = tuple(sorted(codes))
        ledger.at[row, "message"] = message if pd.isna(before) else f"{before}; {message}"
    return ledger
