"""Scans of subjects: the keys of a scan in a data frame, its name, and each subject's first one.

In a study without visits each subject has one scan, and frames have no column visit.
"""

from collections.abc import Container, Mapping

import numpy as np
import pandas as pd

from paravert.sheet import YEARS, scan_name


def scan_keys(columns: Container[str]) -> list[str]:
    """Return the names of the columns that identify a scan: subject, and visit if there is one.

    columns: a data frame, or the names of its columns.
    """
    return ["subject", "visit"] if "visit" in columns else ["subject"]


def scan_names(frame: pd.DataFrame) -> pd.Series:
    """Return the name of each row's scan: the subject, or "subject_visit" such as A001_2.

    frame: columns subject, and visit if subjects have several scans; the result has its index.
    """
    if "visit" not in frame:
        return frame["subject"]
    pairs = zip(frame["subject"], frame["visit"], strict=True)
    return pd.Series([scan_name(*pair) for pair in pairs], index=frame.index, dtype=object)


def split_scans(frame: pd.DataFrame, scans: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
    """Return a frame with columns subject and visit, from one whose column subject names the scan.

    scans: {name of the scan: (subject, visit)}, for all scans of the frame; visit is "" in a study
    without visits, for which the frame is returned unchanged. subject and visit become the first
    columns; rows and index are kept.
    """
    if not any(visit for _, visit in scans.values()):
        return frame
    pairs = [scans[scan] for scan in frame["subject"]]
    found = frame.assign(
        subject=pd.Series([subject for subject, _ in pairs], index=frame.index, dtype=object),
        visit=pd.Series([visit for _, visit in pairs], index=frame.index, dtype=object),
    )
    return found[["subject", "visit", *found.columns.difference(["subject", "visit"], sort=False)]]


def in_order_of_visits(frame: pd.DataFrame, subjects: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a frame ordered by subject (as text) and then by visit.

    frame: columns subject and visit; the rows of a scan keep their order, the index is renumbered.
    A frame without the column visit is returned as it is. subjects: the cohort table `subjects`,
    one row per scan, with the column visit. Visits are ordered by years_since_first if it is known
    for all scans of the subject; otherwise by name, numbers in numerical order and before other
    names. Rows of scans that subjects lacks come last.
    """
    if "visit" not in frame:
        return frame
    order = _ordered(subjects)
    place = pd.Series(range(len(order)), index=pd.MultiIndex.from_frame(order))
    places = place.reindex(pd.MultiIndex.from_frame(frame[["subject", "visit"]])).to_numpy()
    return frame.iloc[places.argsort(kind="stable")].reset_index(drop=True)


def _ordered(subjects: pd.DataFrame) -> pd.DataFrame:
    """Return subject and visit of the scans, in the order of `in_order_of_visits`."""
    years = years_of(subjects)
    known = years.notna().groupby(subjects["subject"]).transform("all")
    visit = subjects["visit"].astype(str)
    ordered = subjects[["subject", "visit"]].assign(
        years=years.where(known, 0.0),
        number=pd.to_numeric(visit.where(visit.str.fullmatch("[0-9]+"))),
    )
    ordered = ordered.sort_values(["subject", "years", "number", "visit"], kind="stable")
    return ordered[["subject", "visit"]]


def years_of(subjects: pd.DataFrame) -> pd.Series:
    """Return the years since the subject's first visit (column years_since_first), NaN where unknown.

    subjects: the cohort table `subjects`, with this column, upper and lower case not distinguished;
    all NaN without it. The result has the index of subjects.
    """
    name = next((name for name in subjects if name.lower() == YEARS), None)
    if name is None:
        return pd.Series(float("nan"), index=subjects.index)
    return pd.to_numeric(subjects[name], errors="coerce").astype(float)


def first_scans(subjects: pd.DataFrame) -> pd.DataFrame:
    """Return the row of each subject's first scan, ordered by subject, with a new index from 0.

    subjects: one row per scan, such as the cohort table, with a unique index; without a column visit
    it is returned itself. First: by years_since_first if it is known for all scans of the subject,
    otherwise by the visit's name, numbers in numerical order and before other names.
    """
    if "visit" not in subjects:
        return subjects
    first = _ordered(subjects).drop_duplicates("subject").index
    return subjects.loc[first].sort_values("subject", ignore_index=True)


def of_scans(frame: pd.DataFrame, scans: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a frame that belong to the given scans.

    frame: with columns subject and visit; without visit it is returned as it is, and scans is not
    used. scans: one row per scan, with subject and visit.
    """
    if "visit" not in frame:
        return frame
    wanted = pd.MultiIndex.from_frame(scans[["subject", "visit"]])
    return frame[pd.MultiIndex.from_frame(frame[["subject", "visit"]]).isin(wanted)]


def sampled_subjects(subjects: pd.Series, most: int, seed: int) -> tuple[set[str], str]:
    """Return the names of all subjects, or of `most` random ones if there are more, and a note.

    subjects: names, repeated where a subject has several scans. seed: of the sample. The note says
    that it is a random sample, such as "random sample of 400 of 900 subjects"; "" without sampling.
    """
    names = np.sort(subjects.unique().astype(str))
    if len(names) <= most:
        return set(names), ""
    drawn = np.random.default_rng(seed).choice(names, most, replace=False)
    return set(drawn), f"random sample of {most} of {len(names)} subjects"
