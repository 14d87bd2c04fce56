"""The tables of results: what their numbers rest on, small cells for sharing, and their files."""

import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from paravert.study.data_frames import ALL_SEXES, write_csv
from paravert.study.summary import capitalised, counted, counted_range

BASIS_COLUMNS = ("estimator", "link", "covariance", "df", "n_subjects", "n_rows", "unit", "family")
MODEL_ESTIMATOR = "model_estimator"  # where estimator is that of the fat fraction
NO_FAMILY = "none"  # no test, or p values that are not corrected
BOOTSTRAP = "bootstrap over subjects"
LEAST_RESAMPLED = 5  # subjects; of fewer there are too few different bootstrap samples
OF_PAIRS = {"covariance": "between subjects", "n_rows": "n_subjects"}
LEAST_SHARED_SUBJECTS = 5
FEWER = f"fewer than {LEAST_SHARED_SUBJECTS} subjects"
NOT_SHOWN = f"not shown: {FEWER}"
SHARE = r"\bin ([\d,]+) of ([\d,]+)(?= (?:subjects|men))"
IN_TEXTS = {  # what tables for sharing tell in place of texts
    r"\b1 subject( of [\d,]+)? has\b": rf"{FEWER}\1 have",
    rf"\b[1-{LEAST_SHARED_SUBJECTS - 1}] subjects?\b": FEWER,
    # These ages are those of the youngest and the oldest.
    r"(outside the ages of the subjects), \S+ to \S+ years": r"\1",
}
# What a table does not say in its rows: a text, or the name of a column with the same meaning.
STATED: dict[str, Mapping[str, str]] = {
    "table1_iou": {
        "estimator": "median over slices",
        "n_rows": "n_slices",
        "unit": "1",
    },
    "agreement": OF_PAIRS
    | {"estimator": "Bland-Altman limits; ICC(2,1) by two-way analysis of variance", "unit": "mm2"},
    "reliability": OF_PAIRS
    | {
        "estimator": "two-way analysis of variance (ICC, SEM); differences of pairs (bias, limits,"
        " trend, two one-sided t tests)"
    },
    "selection": {
        "estimator": "mean and SD, or share; standardised difference",
        "n_rows": "n_subjects",
    },
}


def too_few_to_resample(subjects: int) -> str | None:
    """Return a note that a bootstrap over so few subjects gives nothing; None from LEAST_RESAMPLED (5) on."""
    if subjects >= LEAST_RESAMPLED:
        return None
    return f"no interval: {counted(subjects, 'subject')}, expected at least {LEAST_RESAMPLED}"


def write_result(folder: Path, name: str, frame: pd.DataFrame, shared: bool) -> None:
    """Write a table of results as <folder>/<name>.csv, completely or not at all.

    Missing folders are made; an older file is replaced. frame: its rows; a table with estimates (a
    column estimator, or an entry in STATED) gets columns on what these rest on by `with_basis`. shared:
    whether numbers of fewer than 5 subjects are blanked by `for_sharing`.
    """
    told = with_basis(name, frame) if "estimator" in frame or name in STATED else frame
    write_csv(folder / f"{name}.csv", for_sharing(told) if shared else told)


def with_basis(name: str, frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table of results with BASIS_COLUMNS, which say what its estimates rest on.

    BASIS_COLUMNS: estimator, link, covariance, df, n_subjects, n_rows, unit and family. name: of
    the table. frame: its rows. A column that it lacks is added from STATED[name], which gives a
    text or the name of a column to copy. Without an entry there, the column is null, and family is
    "none".
    """
    told = {"family": NO_FAMILY} | dict(STATED.get(name, {}))
    lacking = [column for column in BASIS_COLUMNS if column not in frame]
    added = {}
    for column in lacking:
        value = told.get(column)
        added[column] = frame.get(value, value)
    return frame.assign(**added)


def basis_sentences(frame: pd.DataFrame) -> list[str]:
    """Return how the estimates of a table were made, one sentence per kind of estimate.

    A sentence names estimator, link, covariance, degrees of freedom, and numbers of subjects and
    rows. frame: rows with BASIS_COLUMNS (some may be missing); rows without estimator, or of no
    subject, are ignored, as are 0 degrees of freedom. Where categories are compared with a
    reference (columns of these names), the numbers are "of a category". A column model_estimator,
    if there is one, is used in place of estimator.
    """
    told = frame.assign(estimator=frame[MODEL_ESTIMATOR]) if MODEL_ESTIMATOR in frame else frame
    known = told.reindex(columns=list(BASIS_COLUMNS)).dropna(subset=["estimator"])
    known = known[known["n_subjects"] != 0]
    kinds = known.groupby(["estimator", "link", "covariance"], dropna=False, sort=False)
    of = " of a category" if "category" in frame and "reference" in frame else ""
    return [_sentence(*kind, rows, of) for kind, rows in kinds]


def _sentence(
    estimator: str, link: str | None, covariance: str | None, rows: pd.DataFrame, of: str
) -> str:
    parts = [capitalised(estimator)]
    if pd.notna(link):
        parts.append(f"{link} link")
    if pd.notna(covariance):
        parts.append(f"errors: {covariance}")
    freedom = rows["df"].dropna().astype(float)
    if (freedom > 0).any():
        parts.append(f"t with {counted_range(freedom[freedom > 0], 'degree')} of freedom")
    for name, unit in (("n_subjects", "subject"), ("n_rows", "row")):
        if rows[name].notna().any():
            parts.append(f"{counted_range(rows[name].dropna().astype(float), unit)}{of}")
    return f"{'; '.join(parts)}."


def _of_the_same(frame: pd.DataFrame, small: pd.Series) -> pd.Series:
    """Return whether any row with the same texts, but for the sex, is small, bool (rows,)."""
    texts = frame.select_dtypes(exclude="number").drop(columns="sex")
    return small.groupby([texts[name] for name in texts], dropna=False).transform("any")


def _shared_share(found: re.Match) -> str:
    """Return a share of subjects that tells neither few of them nor few others."""
    part, whole = (int(number.replace(",", "")) for number in found.groups())
    few = f"fewer than {LEAST_SHARED_SUBJECTS}"
    if 0 < part < LEAST_SHARED_SUBJECTS:
        return f"in {few} of {found[2]}"
    if 0 < whole - part < LEAST_SHARED_SUBJECTS:
        return f"in all but {few} of {found[2]}"
    return found[0]


def _with_partners(small: pd.Series, counts: pd.DataFrame, whole: pd.Series) -> pd.Series:
    """Return small, bool (rows,), with further rows, so that differences tell no small count.

    counts: of subjects, a column per group of these. whole: what a row is a part of, null: of nothing.
    The number of a whole is known, so its small rows must not count 1 to 4 subjects together: its
    next larger rows join them.
    """
    small = small.copy()
    for _, parts in counts.groupby(whole):
        for count in (parts[name].sort_values() for name in parts):
            for row in count.index[count > 0]:
                if not 0 < count[small[count.index]].sum() < LEAST_SHARED_SUBJECTS:
                    break
                small[row] = True
    return small


def _parts_of_selection(table: pd.DataFrame, small: pd.Series) -> pd.Series:
    """Return which rows of `selection.selection` are blank, given those with small counts."""
    by_site = table["variable"].str.startswith("reason, site ")
    small = small | (by_site & small[by_site].any())  # the other sites and the sum would tell one
    counts = table[["count_analysed", "count_not_analysed"]]
    return _with_partners(small, counts, table["variable"].where(table["category"].notna()))


def _parts_of_flow(table: pd.DataFrame, small: pd.Series) -> pd.Series:
    """Return which rows of `describe.subject_flow` are blank, given those with small counts."""
    kind = table["kind"]
    parts_of_sheet = kind.isin(["analysed", "quarantined", "excluded"])
    small = small | ((kind == "sheet") & small[parts_of_sheet].any())
    return _with_partners(small, table[["subjects"]], kind.where(kind == "reason"))


def is_suppressed(table: pd.DataFrame) -> bool:
    """Return whether `for_sharing` blanked the numbers of any row of a table of results."""
    return "suppressed" in table and bool(table["suppressed"].any())


def for_sharing(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table of results without the numbers that are based on fewer than 5 subjects.

    frame: any table. In rows with a count (columns n, subjects, n_..., count_...) from 1 to 4 all
    numbers become null, and the text found becomes "fewer than 5 subjects". If a row of one sex is
    among them, so is that of all sexes (sex "all") with the same texts: the other rows, subtracted from
    it, would tell the blank one. For the same reason, of the categories and reasons of `selection` and
    the reasons of `subject_flow` the next larger one joins them, until they count 5 subjects or more;
    reasons by site are all null if one is, and so is the number of subjects in the sheet if that of the
    analysed, quarantined or excluded is. Number columns whose name ends with lowest or highest, values
    of one person, become null in all rows, and notes do not tell the lowest and highest age. "1
    subject" to "4 subjects" within the texts of note, left_out and found become "fewer than 5
    subjects", too. Within found "in 3 of 22 subjects" (or men) becomes "in fewer than 5 of 22
    subjects", "in 19 of 22" becomes "in all but fewer than 5 of 22". A boolean column suppressed marks
    the rows whose numbers are null.
    """
    counts = [
        name for name in frame if name in ("n", "subjects") or name.startswith(("n_", "count_"))
    ]
    small = ((frame[counts] > 0) & (frame[counts] < LEAST_SHARED_SUBJECTS)).any(axis=1)
    if "sex" in frame:
        small |= (frame["sex"] == ALL_SEXES) & _of_the_same(frame, small)
    if {"variable", "category"} <= set(frame):
        small = _parts_of_selection(frame, small)
    if "kind" in frame and "code" in frame:
        small = _parts_of_flow(frame, small)
    numbers = frame.select_dtypes("number").columns
    shared = frame.astype(dict.fromkeys(numbers, object))  # whole numbers stay whole
    shared.loc[small, numbers] = None
    shared[[name for name in numbers if name.endswith(("lowest", "highest"))]] = None
    for name in shared.columns.intersection(["note", "left_out", "found"]):
        shared[name] = shared[name].replace(IN_TEXTS, regex=True)
    if "found" in shared:  # claims: "in 3 of 22 subjects", or numbers of a model
        shared["found"] = shared["found"].str.replace(SHARE, _shared_share, regex=True)
        shared.loc[small, "found"] = FEWER
    return shared.assign(suppressed=small)
