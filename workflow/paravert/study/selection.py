"""Who is missing: subjects that were analysed against those that were not."""

import numpy as np
import pandas as pd

from paravert import codebook, records
from paravert.study.scans import first_scans
from paravert.tables import LABELS_DIGEST, NUMBER, OUTCOME

MOST_CATEGORIES = 20  # a text with more of them is an identifier, not a group
OWN_COLUMNS = {
    "subject",
    "visit",
    *(column.name for column in (*OUTCOME, LABELS_DIGEST, *codebook.QUALITY_COLUMNS)),
}
SELECTION_COLUMNS = (
    "variable", "category", "unit", "n_analysed", "missing_analysed", "count_analysed", "analysed", "sd_analysed",
    "n_not_analysed", "missing_not_analysed", "count_not_analysed", "not_analysed", "sd_not_analysed",
    "standardised_difference",
)  # fmt: skip
UNITS = {column.name: column.unit for column in codebook.LEDGER.columns if column.type == NUMBER}


def one_row_per_subject(ledger: pd.DataFrame) -> pd.DataFrame:
    """Return a row per subject: of its first analysed scan, or of its first scan if none was.

    ledger: the cohort's table.
    """
    if "visit" not in ledger:
        return ledger
    analysed = first_scans(ledger[ledger["status"] == records.ANALYSED])
    others = first_scans(ledger[~ledger["subject"].isin(analysed["subject"])])
    return pd.concat([analysed, others], ignore_index=True)


def selection(ledger: pd.DataFrame) -> pd.DataFrame:
    """Return the covariates of analysed and not analysed subjects side by side (SELECTION_COLUMNS).

    ledger: the cohort's table, a row per subject. A number has one row: mean and SD (n - 1) of each
    group. Other columns have a row per category: its share of the known values of each group.
    missing: subjects without a value; n: with one; count: those of a row. standardised_difference:
    analysed minus not analysed over the pooled SD (Austin 2009). Each reason of the subjects that
    were not analysed has a row: their number and share.
    """
    inside = ledger["status"] == records.ANALYSED
    groups = ledger[inside], ledger[~inside]
    rows = []
    for name in ledger.columns.difference(OWN_COLUMNS, sort=False):
        values = [group[name] for group in groups]
        number = pd.api.types.is_numeric_dtype(ledger[name])
        if number and not pd.api.types.is_bool_dtype(ledger[name]):
            rows.append(_number(name, *values))
        elif 0 < ledger[name].nunique() <= MOST_CATEGORIES:
            rows += _categories(name, *values)
    rows += [
        {"variable": "reason", "category": reason, "unit": "1", "count_not_analysed": count}
        | {"n_not_analysed": len(groups[1]), "not_analysed": count / max(1, len(groups[1]))}
        for reason, count in groups[1]["reason"].value_counts().items()
    ]
    return pd.DataFrame(rows, columns=list(SELECTION_COLUMNS))


def _number(name: str, analysed: pd.Series, others: pd.Series) -> dict:
    groups = [values.astype(float) for values in (analysed, others)]
    means, deviations = ([float(getattr(v, part)()) for v in groups] for part in ("mean", "std"))
    pooled = np.sqrt(np.mean(np.square(deviations)))
    row = {"variable": name, "unit": UNITS.get(name, "")} | _counts(*groups)
    row |= {f"count_{group}": row[f"n_{group}"] for group in ("analysed", "not_analysed")}
    row |= {"analysed": means[0], "sd_analysed": deviations[0]}
    row |= {"not_analysed": means[1], "sd_not_analysed": deviations[1]}
    return row | {
        "standardised_difference": (means[0] - means[1]) / pooled if pooled > 0 else np.nan
    }


def _categories(name: str, analysed: pd.Series, others: pd.Series) -> list[dict]:
    groups = [values.dropna().astype(str) for values in (analysed, others)]
    common = {"variable": name, "unit": "1"} | _counts(analysed, others)
    rows = []
    for category in sorted(set().union(*map(set, groups))):
        shares = [
            float((values == category).mean()) if len(values) else np.nan for values in groups
        ]
        pooled = np.sqrt(np.mean([share * (1 - share) for share in shares]))
        difference = (shares[0] - shares[1]) / pooled if pooled > 0 else np.nan
        row = common | {"category": category, "analysed": shares[0], "not_analysed": shares[1]}
        row |= {"count_analysed": int((groups[0] == category).sum())}
        row |= {"count_not_analysed": int((groups[1] == category).sum())}
        rows.append(row | {"standardised_difference": difference})
    return rows


def _counts(analysed: pd.Series, others: pd.Series) -> dict[str, int]:
    return {
        "n_analysed": int(analysed.notna().sum()),
        "missing_analysed": int(analysed.isna().sum()),
        "n_not_analysed": int(others.notna().sum()),
        "missing_not_analysed": int(others.isna().sum()),
    }
