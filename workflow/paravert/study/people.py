"""The columns of the subject sheet as columns of the cohort tables."""

from collections.abc import Mapping, Sequence

import pandas as pd

from paravert import tables
from paravert.sheet import (
    CATEGORY,
    COVARIATES,
    N_LUMBAR,
    NOT_WRITTEN,
    NUMBER,
    NUMBER_COLUMNS,
    YEARS,
    YES,
    YES_NO,
    Sheet,
    scan_of,
)
from paravert.tables import Column

ARROW_TYPES = {NUMBER: tables.NUMBER, YES_NO: tables.FLAG}  # others: text


def covariates_of(rows: Sequence[Mapping[str, str]]) -> pd.DataFrame:
    """Return the covariates that paravert defines, one row per scan of the sheet.

    rows: `Sheet.rows` of the subject sheet: {column: text}, "" if unknown, sex F or M, numbers with a
    decimal point. Columns: sex, site, study_group (column group of the sheet) as text, None if unknown;
    age_years, height_cm, weight_kg and bmi_kg_m2 as float, NaN if unknown. The index is the name of the
    scan.
    """
    columns = {name: [row[name] or None for row in rows] for name in COVARIATES}
    types = {name: float if name in NUMBER_COLUMNS else object for name in COVARIATES}
    people = pd.DataFrame(columns, index=_scans(rows), dtype=object).astype(types)
    people = people.rename(columns={"group": "study_group"})
    people["bmi_kg_m2"] = people.weight_kg / (people.height_cm / 100) ** 2
    return people


def carried_columns(sheet: Sheet, meanings: Mapping[str, str]) -> tuple[Column, ...]:
    """Return descriptions of the sheet's columns that paravert does not define, except dates and paths.

    The column n_lumbar (number of lumbar vertebrae) is among them if it has values. The order is that
    of `Sheet.types`. sheet: from `sheet.read_sheet`. meanings: {column: text for the codebook}, upper
    and lower case not distinguished, added to the type of the column.
    """
    known = {N_LUMBAR: "lumbar vertebrae, which levels are counted by; unknown is 5"}
    known |= {str(name).lower(): text for name, text in meanings.items()}
    columns = []
    for name, kind in sheet.types.items():
        if kind not in NOT_WRITTEN:
            words = {row[name] for row in sheet.rows} - {""} if kind == CATEGORY else ()
            unit = "year" if name.lower() == YEARS else ""
            meaning = f"{kind}, from the sheet"
            if name.lower() in known:
                meaning = f"{meaning}: {known[name.lower()]}"
            arrow = ARROW_TYPES.get(kind, tables.TEXT)
            columns.append(Column(name, arrow, unit, meaning, allowed=tuple(sorted(words))))
    return tuple(columns)


def carried_values(rows: Sequence[Mapping[str, str]], columns: Sequence[Column]) -> pd.DataFrame:
    """Return the values of the columns from `carried_columns`, one row per scan of the sheet.

    rows: of the subject sheet, {column: text}, "" if unknown. columns: from `carried_columns`;
    numbers become float (NaN if unknown); yes/no True or False, and all else text (None if
    unknown), both with dtype object. The index is the name of the scan.
    """
    values = {column.name: [_value(row[column.name], column) for row in rows] for column in columns}
    types = {c.name: float if c.type == tables.NUMBER else object for c in columns}
    return pd.DataFrame(values, index=_scans(rows), dtype=object).astype(types)


def _value(cell: str, column: Column) -> float | bool | str | None:
    if not cell:
        return None
    if column.type == tables.NUMBER:
        return float(cell.replace(",", "."))
    return cell.lower() in YES if column.type == tables.FLAG else cell


def _scans(rows: Sequence[Mapping[str, str]]) -> pd.Index:
    return pd.Index([scan_of(row) for row in rows], name="subject", dtype=object)
