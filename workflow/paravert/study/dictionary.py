"""What the columns of the cohort tables mean: data dictionary, codebook and data package."""

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from paravert import codebook, tables
from paravert.errors import Caution, Reason

# --- results/README.md ---------------------------------------------------------------------------

INTRODUCTION = """# Data dictionary

The tables of a study, one Parquet file each in `results/cohort/`. Unknown is null, fractions are
0-1, slices are counted from 0 from caudal to cranial, left and right are the subject's own.
Unit and meaning of every column are in the files, too: `DataFrame.attrs` in pandas, the field
metadata in pyarrow, `parquet_kv_metadata()` in DuckDB. `codebook.csv` and `datapackage.json` beside
the tables say the same. Which volumes, labels and previews belong to a subject: `results/subjects/`.
`subjects` and `ledger` end with the other columns of the subject sheet; `codebook.csv` describes them.

This file is written by `python -m paravert write_dictionary`.
"""
COLUMN_HEADER = "| column | type | unit | meaning | values |\n|---|---|---|---|---|"


def dictionary() -> str:
    """Return the data dictionary as Markdown."""
    parts = [INTRODUCTION, *(_section(table) for table in codebook.COHORT_TABLES), _codes()]
    return "\n".join(parts)


def _section(table: tables.Table) -> str:
    lines = [
        f"## {table.name}\n\nOne row: {table.meaning}. Key: {', '.join(table.keys)}.\n",
        COLUMN_HEADER,
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
    """Write the data dictionary, results/README.md, from the tables' definitions."""
    out.write_text(dictionary(), encoding="utf-8")


# --- beside the tables ---------------------------------------------------------------------------

CODEBOOK_HEADER = (
    *("table", "column", "type", "unit", "required", "minimum", "maximum", "allowed", "meaning"),
)


def write_codebook(path: Path, cohort_tables: Iterable[tables.Table]) -> None:
    """Write every column of the cohort tables with its unit and meaning as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(CODEBOOK_HEADER)
        for table in cohort_tables:
            for c in table.columns:
                ends = ["" if end is None else end for end in (c.minimum, c.maximum)]
                required = "yes" if c.required else ""
                allowed = "; ".join(c.allowed)
                row = [table.name, c.name, c.type, c.unit, required, *ends, allowed, c.meaning]
                writer.writerow(row)


FRICTIONLESS_TYPES = {
    tables.TEXT: "string",
    tables.WHOLE: "integer",
    tables.NUMBER: "number",
    tables.FLAG: "boolean",
    tables.TEXTS: "array",
}


def write_datapackage(
    path: Path, metadata: dict[str, str], cohort_tables: Iterable[tables.Table]
) -> None:
    """Write the Frictionless description of the cohort tables."""
    resources = []
    for table in cohort_tables:
        fields = [
            {
                "name": column.name,
                "type": FRICTIONLESS_TYPES[column.type],
                "unit": column.unit,
                "description": column.meaning,
                "constraints": _constraints(column),
            }
            for column in table.columns
        ]
        resources.append(
            {
                "name": table.name,
                "path": f"{table.name}.parquet",
                "format": "parquet",
                "description": table.meaning,
                "schema": {"fields": fields, "primaryKey": list(table.keys)},
            }
        )
    package = {"name": "paravert-cohort", **metadata, "resources": resources}
    path.write_text(json.dumps(package, indent=1, ensure_ascii=False), encoding="utf-8")


def _constraints(column: tables.Column) -> dict:
    found = {"required": column.required, "minimum": column.minimum, "maximum": column.maximum}
    found["enum"] = list(column.allowed)
    return {key: value for key, value in found.items() if value not in (None, False, [])}
