"""The data dictionary: results/README.md, generated from the tables themselves."""

from pathlib import Path
from typing import Annotated

import typer

from paravert import codebook, tables
from paravert.errors import Caution, Reason

INTRODUCTION = """# Data dictionary

The tables of a study, one Parquet file each in `results/cohort/`. Unknown is null, fractions are
0-1, slices are counted from 0 from caudal to cranial, left and right are the subject's own.
Unit and meaning of every column are in the files, too: `DataFrame.attrs` in pandas, the field
metadata in pyarrow, `parquet_kv_metadata()` in DuckDB. `codebook.csv` and `datapackage.json` beside
the tables say the same. Which volumes, labels and previews belong to a subject: `results/subjects/`.

This file is written by `python -m paravert write_dictionary`.
"""
HEADER = "| column | type | unit | meaning | values |\n|---|---|---|---|---|"


def dictionary() -> str:
    """Return the data dictionary as Markdown."""
    parts = [INTRODUCTION, *(_section(table) for table in codebook.COHORT_TABLES), _codes()]
    return "\n".join(parts)


def _section(table: tables.Table) -> str:
    lines = [
        f"## {table.name}\n\nOne row: {table.meaning}. Key: {', '.join(table.keys)}.\n",
        HEADER,
    ]
    lines += [_row(column) for column in table.columns]
    return "\n".join(lines) + "\n"


def _row(c: tables.Column) -> str:
    ends = [f"{end:g}" if end is not None else "" for end in (c.minimum, c.maximum)]
    values = ", ".join(c.allowed) or (" to ".join(ends) if any(ends) else "")
    known = "never null" if c.required else ""
    told = "; ".join(part for part in (values.strip(), known) if part)
    return f"| {c.name} | {c.type} | {c.unit} | {c.meaning} | {told} |"


def _codes() -> str:
    reasons = ", ".join(f"`{reason}`" for reason in Reason)
    cautions = ", ".join(f"`{caution}`" for caution in Caution)
    return (
        "## Codes\n\nWhat each means and what can be done: [manual](../config/README.md#codes).\n\n"
        f"Reasons of quarantine: {reasons}.\n\nWarnings: {cautions}.\n"
    )


def write_dictionary(
    out: Annotated[Path, typer.Option(help="Markdown file to write.")] = Path("results/README.md"),
) -> None:
    """Write the data dictionary."""
    out.write_text(dictionary(), encoding="utf-8")
