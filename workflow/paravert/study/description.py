"""What the cohort tables hold, written beside them: codebook and Frictionless data package."""

import csv
import json
from pathlib import Path

from paravert import codebook, tables

CODEBOOK_HEADER = (
    *("table", "column", "type", "unit", "required", "minimum", "maximum", "allowed", "meaning"),
)


def write_codebook(path: Path) -> None:
    """Write every column of the cohort tables with its unit and meaning as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(CODEBOOK_HEADER)
        for table in codebook.COHORT_TABLES:
            for c in table.columns:
                ends = ["" if end is None else end for end in (c.minimum, c.maximum)]
                required = "yes" if c.required else ""
                allowed = " ".join(c.allowed)
                row = [table.name, c.name, c.type, c.unit, required, *ends, allowed, c.meaning]
                writer.writerow(row)


FRICTIONLESS_TYPES = {
    tables.TEXT: "string",
    tables.WHOLE: "integer",
    tables.NUMBER: "number",
    tables.FLAG: "boolean",
    tables.TEXTS: "array",
}


def write_datapackage(path: Path, metadata: dict[str, str]) -> None:
    """Write the Frictionless description of the cohort tables."""
    resources = []
    for table in codebook.COHORT_TABLES:
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
