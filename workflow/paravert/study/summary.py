"""The summary of a run: how many subjects were analysed, how many quarantined, and why."""

import logging
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated

import typer

from paravert.errors import InputError
from paravert.shard_tables import read_shard_rows
from paravert.tables import REVIEW_FAILED

log = logging.getLogger(__name__)

# Metadata of the cohort tables if only some subjects of the sheet were selected: number of all of them.
IN_SHEET = "subjects_in_sheet"
ROUNDING_ERROR = 1e-9  # in floating point 0.29 x 100 is a little less than 29


def summary_line(reasons: list[str | None], subjects: int | None = None) -> str:
    """Return the summary of a run, such as "5 subjects: 4 analysed, 1 quarantined (no-dicom 1)".

    reasons: one per scan, None if it was analysed; "review-failed" counts as excluded, all others
    as quarantined. subjects: their number in a study with visits, whose line begins such as "2
    subjects, 5 scans: 4 scans analysed"; None if each subject has one scan.
    """
    counts = Counter(reason for reason in reasons if reason)
    excluded = counts.pop(REVIEW_FAILED, 0)
    quarantined = counts.total()
    told = counted(len(reasons), "subject")
    if subjects is not None:
        told = f"{counted(subjects, 'subject')}, {counted(len(reasons), 'scan')}"
    analysed = len(reasons) - quarantined - excluded
    unit = "" if subjects is None else f"{plural(analysed, 'scan')} "
    line = f"{told}: {analysed} {unit}analysed, {quarantined} quarantined"
    if by_reason := ", ".join(f"{reason} {count}" for reason, count in sorted(counts.items())):
        line = f"{line} ({by_reason})"
    return f"{line}, {excluded} excluded ({REVIEW_FAILED} {excluded})" if excluded else line


def summary_of(ledger: Path) -> str:
    """Return the summary of a run, one line, from its ledger (Parquet, one row per scan of the sheet).

    Such as "5 subjects: 4 analysed, 1 quarantined (no-dicom 1)".
    """
    return summary_line(*_reasons(ledger))


def _reasons(ledger: Path) -> tuple[list[str | None], int | None]:
    """Return the arguments of `summary_line`."""
    rows = read_shard_rows(ledger)
    subjects = len(set(rows["subject"].to_pylist())) if "visit" in rows.column_names else None
    return rows["reason"].to_pylist(), subjects


def counted(number: int, what: str) -> str:
    """Return a number with its noun, such as "1 scan", "2 scans" or "1,234 scans".

    what: the noun in singular; its plural is formed with "s".
    """
    return f"{number:,} {plural(number, what)}"


def capitalised(text: str) -> str:
    """Return a text, not empty, with its first letter in upper case and the others as they are."""
    return f"{text[0].upper()}{text[1:]}"


def plural(number: int, what: str) -> str:
    """Return a noun, given in singular, or for a number other than 1 its plural, formed with "s"."""
    return what if number == 1 else f"{what}s"


def counted_range(numbers: Collection[float], what: str) -> str:
    """Return the range of numbers with their noun, such as "2 scans" or "1 to 3 scans".

    numbers: at least one; they are rounded to whole numbers. what: the noun in singular; its plural is
    formed with "s".
    """
    ends = dict.fromkeys(f"{end:,.0f}" for end in (min(numbers), max(numbers)))
    return f"{' to '.join(ends)} {what}{'s' * (list(ends) != ['1'])}"


def subjects_in_sheet(metadata: Mapping[str, str]) -> int | None:
    """Return the number of subjects of the whole sheet, if only some were selected; otherwise None.

    metadata: of a cohort table, as text.
    """
    return int(metadata[IN_SHEET]) if IN_SHEET in metadata else None


def accept_ledger(
    ledger: Annotated[Path, typer.Option(help="The cohort's ledger.")],
    out: Annotated[Path, typer.Option(help="Text file for the summary line.")],
    max_quarantined_fraction: Annotated[
        float,
        typer.Option(min=0, help="Share of subjects (with visits: scans) that may be quarantined."),
    ] = 1.0,
) -> None:
    """Write the run's summary line, or fail if too many subjects were quarantined.

    A subject is quarantined if a fault of its images or files ended its analysis; where subjects have
    several visits, each scan counts. ledger: cohort/ledger.parquet of gather_cohort, a row per subject
    (scan) with the reason. out: text file in an existing folder, replaced if it exists: how many were
    analysed, and how many not, by reason. max_quarantined_fraction: 0-1; 1 accepts any number. Above
    it, raises InputError and writes nothing.
    """
    reasons, subjects = _reasons(ledger)
    line = summary_line(reasons, subjects)
    quarantined = sum(reason not in (None, REVIEW_FAILED) for reason in reasons)
    if quarantined > max_quarantined_fraction * len(reasons) + ROUNDING_ERROR:
        limit = f"expected at most a share of {max_quarantined_fraction:g} quarantined"
        raise InputError(ledger.name, f"{line}; {limit}")
    out.write_text(line + "\n", encoding="utf-8")
    log.info("accept_ledger: %s", line)
