"""The tables of the cohort, every column with unit and meaning, and their description in files."""

import csv
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from paravert.anatomy import MUSCLES
from paravert.errors import Caution, Reason
from paravert.tables import (
    ABSENT,
    ALL_FAT_METHODS,
    AREA_COLUMNS,
    DIXON,
    DIXON_COLUMNS,
    FAT_COLUMNS,
    FAT_REASONS,
    FLAG,
    HEADER_COLUMNS,
    HEADLINES,
    LABELS_COLUMNS,
    LABELS_DIGEST,
    LEVEL_COLUMNS,
    MUSCLE,
    NO_LEVELS,
    NO_SUCH_LEVEL,
    NOT_COVERED,
    NOT_LABELLED,
    NUMBER,
    OUTCOME,
    OVERLAP_COLUMNS,
    REVIEW_FAILED,
    SEPARABILITY_COLUMNS,
    SEQUENCE_COLUMNS,
    SERIES_COLUMNS,
    SIDE,
    SLICE_COLUMNS,
    STACK,
    SUBJECT,
    TEXT,
    TEXTS,
    VISIT,
    WHOLE,
    Column,
    Table,
    count,
    flag,
    fraction,
    level,
    quantity,
)

INTRODUCTION = """# Data dictionary

The tables of a study, one Parquet file each in `results/cohort/`. Unknown is null, fractions are
0-1, slices are counted from 0 from caudal to cranial, left and right are the subject's own.
Unit and meaning of every column are in the files, too: `DataFrame.attrs` in pandas, the field
metadata in pyarrow, `parquet_kv_metadata()` in DuckDB. `codebook.csv` and `datapackage.json` beside
the tables say the same. How to open them in pandas, DuckDB, R and Stata, with ten examples:
[tables](../docs/tables.md). Which volumes, labels and previews belong to a subject: `results/subjects/`.
`subjects` and `ledger` end with the other columns of the subject sheet; `codebook.csv` describes them.
If the sheet has visits, every table has the column `visit` after `subject`, and both are part of its key: what
is said of a subject then holds for the subject at a visit.

This file is written by `python -m paravert write_dictionary`.
"""
COLUMN_HEADER = "| column | type | unit | meaning | values |\n|---|---|---|---|---|"
CODEBOOK_HEADER = (
    *("table", "column", "type", "unit", "required", "minimum", "maximum", "allowed", "meaning"),
)
FRICTIONLESS_TYPES = {
    TEXT: "string",
    WHOLE: "integer",
    NUMBER: "number",
    FLAG: "boolean",
    TEXTS: "array",
}

COVARIATE_COLUMNS = (
    Column("sex", TEXT, meaning="sex, from the sheet", allowed=("F", "M")),
    Column("age_years", NUMBER, "year", meaning="age, from the sheet", minimum=0, maximum=120),
    quantity("height_cm", "cm", "height, from the sheet"),
    quantity("weight_kg", "kg", "weight, from the sheet"),
    Column("site", TEXT, meaning="place of the scan, from the sheet"),
    Column("study_group", TEXT, meaning="group in the study, column group of the sheet"),
)
BMI = Column(
    "bmi_kg_m2", NUMBER, "kg/m2", minimum=0,
    meaning="body mass index, weight_kg over squared height_cm; null if either is unknown",
)  # fmt: skip

# The automatic flags (study.flags) are based on these columns, as measured before the review.
QUALITY_COLUMNS = (
    fraction(
        "predicted_iou_lowest",
        "lowest predicted_iou of a muscle and side in a slice that shows it; null if none is predicted",
    ),
    fraction(
        "border_fraction_highest", "highest border_fraction of a muscle and side in a slice"
    ),
    fraction(
        "area_jump_highest",
        "largest change of csa_mm2 of a muscle and side between neighbouring slices, over its largest "
        "csa_mm2 in the stack; null without two slices",
    ),
    fraction(
        "side_ratio_lowest",
        "volume of the smaller side over that of the larger, of the muscle where it is lowest",
    ),
    Column(
        "fat_outlier_sd", NUMBER, "SD",
        meaning="externally studentised residual of the fat fraction in a linear model of sex and age "
        "over all scans; null if one of these is, or with fewer than 10 scans",
    ),
)  # fmt: skip
# "stack" and "group" are reserved names in pandas and SQL.
STACK_AND_SLICE = (SUBJECT, replace(STACK, name="stack_id"), *SLICE_COLUMNS[2:])

FAT_FRACTION_REASON = Column(
    "fat_fraction_reason", TEXT, meaning="why fat_fraction is null", allowed=FAT_REASONS
)
FAT_FRACTION = (
    fraction(
        "fat_fraction",
        "fat fraction: Dixon, or by the method that the configuration names, from a single contrast a fat index",
    ),
    fraction("fat_fraction_eroded", meaning="the same without the muscle's outermost pixels"),
    FAT_FRACTION_REASON,
)

SLICES = Table(
    "slices",
    (
        *STACK_AND_SLICE,
        *COVARIATE_COLUMNS,
        *LEVEL_COLUMNS,
        *AREA_COLUMNS,
        Column(
            "doubtful", FLAG,
            meaning="whether predicted_iou is below flags.section_iou: look at this section; null if "
            "predicted_iou is",
        ),
        quantity(
            "lean_csa_mm2", "mm2",
            "csa_mm2 x (1 - fat_fraction); null if csa_mm2 or the fat fraction is, 0 if absent",
        ),
        *FAT_FRACTION,
        *FAT_COLUMNS,
        *DIXON_COLUMNS,
        *SEPARABILITY_COLUMNS,
        *SEQUENCE_COLUMNS,
    ),
    keys=tuple(column.name for column in STACK_AND_SLICE),
    meaning="a muscle and side in one slice of a subject",
)  # fmt: skip

LEVEL_TABLE = Table(
    "levels",
    (
        SUBJECT,
        Column(
            "level_position", NUMBER, "level", required=True, minimum=1, maximum=5.5,
            meaning="vertebral level: 1 mid L1, 4.5 disc L4/5",
        ),
        Column("level", TEXT, meaning="name of this vertebra or disc", required=True),
        MUSCLE,
        SIDE,
        *COVARIATE_COLUMNS,
        count("slices", "slices from which the values are interpolated: 2, 1, or 0 if not covered"),
        quantity(
            "csa_mm2", "mm2",
            "csa_mm2 of the muscle at this level, interpolated between slices at most 15 mm away on both "
            "sides, or that of a slice at most 5 mm away; null if there are none (level_reason)",
        ),
        quantity(
            "lean_csa_mm2", "mm2",
            "likewise csa_mm2 x (1 - fat_fraction); 0 if the muscle is absent there",
        ),
        fraction("fat_fraction", "likewise, weighted by area; null if unknown (level_reason)"),
        Column(
            "level_reason", TEXT, allowed=(NOT_COVERED, NO_LEVELS, NO_SUCH_LEVEL, *FAT_REASONS),
            meaning="why values are null: no slices there, no levels known in the subject, no vertebra or "
            "disc of this name in somebody with four or six lumbar vertebrae, or the reason of the slices",
        ),
    ),
    keys=("subject", "level_position", "muscle", "side"),
    meaning="a muscle and side of a subject at a vertebra or disc from L1 to L5/S1",
)  # fmt: skip


def _range_columns(vertebrae: str, between: str) -> tuple[Column, ...]:
    return (
        quantity(
            f"volume_{between}_ml", "ml",
            f"volume {vertebrae}, csa_mm2 interpolated between slices; null if not covered completely "
            f"(volume_{between}_reason)",
        ),
        Column(
            f"volume_{between}_reason", TEXT,
            allowed=(NOT_COVERED, NO_LEVELS, NO_SUCH_LEVEL, NOT_LABELLED, REVIEW_FAILED),
            meaning=f"why volume_{between}_ml is null",
        ),
    )  # fmt: skip


MUSCLE_TABLE = Table(
    "muscles",
    (
        SUBJECT,
        MUSCLE,
        SIDE,
        *COVARIATE_COLUMNS,
        Column(
            "slices", WHOLE, "1", minimum=0,
            meaning="slices that show the muscle; null if it is labelled in none (csa_reason)",
        ),
        quantity(
            "csa_mean_mm2", "mm2",
            "mean csa_mm2 over the slices that show the muscle; null if none does",
        ),
        quantity(
            "csa_sd_mm2", "mm2",
            "standard deviation of csa_mm2 over these slices (n - 1); null below two",
        ),
        quantity("csa_max_mm2", "mm2", "largest csa_mm2; null if none"),
        Column(
            "csa_reason", TEXT, allowed=(ABSENT, NOT_LABELLED, REVIEW_FAILED),
            meaning="why csa_mean_mm2 is null: no slice shows the muscle, or the source of the given "
            "labels does not have it, or it failed the review",
        ),
        quantity(
            "volume_ml", "ml",
            "sum of csa_mm2 x slab_mm, slices that cut an earlier stack left out; null if the muscle is "
            "not labelled in one of them",
        ),
        quantity(
            "coverage_mm", "mm",
            "sum of slab_mm over the slices that show the muscle, likewise; null if slices is",
        ),
        *(
            level(f"level_{end}", f"level_position of the most {where} slice that shows the muscle")
            for end, where in (("from", "cranial"), ("to", "caudal"))
        ),
        quantity(
            "csa_at_level_mm2", "mm2",
            "csa_mm2 at the level that gather_cohort.level_standard names, as in the table levels: it can be "
            "compared between scans of different ranges; null if not covered",
        ),
        fraction("fat_fraction_at_level", meaning="fat fraction at that level, likewise"),
        *_range_columns("from the upper endplate of L1 to the lower endplate of L5", "l1_l5"),
        *_range_columns("from the upper endplate of L3 to the lower endplate of L5", "l3_l5"),
        *FAT_FRACTION,
        Column(
            "fat_fraction_valid", FLAG, required=True,
            meaning="whether every slice that shows the muscle has a fat fraction; false if none shows it",
        ),
        *(
            fraction(f"fat_fraction_{method}", meaning=f"volume-weighted fat fraction: {meaning}")
            for method, meaning in ALL_FAT_METHODS.items()
        ),
        quantity(
            "lean_volume_ml", "ml", "volume_ml x (1 - fat_fraction); null if the fat fraction is"
        ),
    ),
    keys=("subject", "muscle", "side"),
    meaning="a muscle and side of a subject over all slices",
)  # fmt: skip


CENTILE_MEASURES = (  # of study.centiles
    "csa", "csa_index", "csa_level", "volume", "fat_fraction", "fat_fraction_level",
)  # fmt: skip


def z_column(measure: str, muscle: str) -> str:
    """Return the name of a column of z-scores in the table subjects, such as "z_csa_multifidus".

    measure: one of CENTILE_MEASURES, such as "csa" or "fat_fraction_level"; muscle: one of
    anatomy.MUSCLES, such as "multifidus". "fat_fraction" is shortened to "fat", because Stata
    allows 32 characters.
    """
    return f"z_{measure.replace('fat_fraction', 'fat')}_{muscle}"


ONE_SIDE = "null if one is unknown, that of the other if the muscle is absent on one"


def _per_muscle(muscle: str) -> tuple[Column, ...]:
    name = muscle.replace("_", " ")
    return (
        Column(f"csa_{muscle}_mm2", NUMBER, "mm2", meaning=f"{name}: csa_mean_mm2, left + right"),
        Column(
            f"csa_index_{muscle}", NUMBER, "mm2/m2",
            meaning=f"{name}: csa_mean_mm2, left + right, over squared height",
        ),
        Column(
            f"csa_level_{muscle}_mm2", NUMBER, "mm2",
            meaning=f"{name}: csa_at_level_mm2 of the table muscles, left + right",
        ),
        Column(f"volume_{muscle}_ml", NUMBER, "ml", meaning=f"{name}: volume, left + right"),
        fraction(f"fat_fraction_{muscle}", meaning=f"{name}: volume-weighted over both sides; {ONE_SIDE}"),
        fraction(
            f"fat_level_{muscle}",
            meaning=f"{name}: fat_fraction_at_level, area-weighted over both sides; {ONE_SIDE}",
        ),
        Column(
            f"asymmetry_{muscle}", NUMBER, "1", minimum=-2, maximum=2,
            meaning=f"{name}: (left - right) / mean of both, of csa_mean_mm2; > 0: left is larger",
        ),
        *(
            Column(
                z_column(measure, muscle), NUMBER, "1",
                meaning=f"{name}: z-score of {measure} for sex and age by the study's own centiles; "
                "null with fewer than 60 subjects of the sex",
            )
            for measure in CENTILE_MEASURES
        ),
    )  # fmt: skip


SUBJECT_TABLE = Table(
    "subjects",
    (
        SUBJECT,
        *COVARIATE_COLUMNS,
        BMI,
        *HEADER_COLUMNS,
        *SEQUENCE_COLUMNS,
        count("n_stacks", "stacks", minimum=1),
        count("n_slices", "slices in all stacks", minimum=1),
        quantity(
            "coverage_mm", "mm", "sum of slab_mm over all slices that cut no earlier stack",
            required=True,
        ),
        Column(
            "volume_ml", NUMBER, "ml",
            meaning="volume of all eight muscles; null if one of them is not labelled",
        ),
        Column("lean_volume_ml", NUMBER, "ml", meaning="lean volume of all eight muscles"),
        fraction(
            "fat_fraction",
            "volume-weighted fat fraction of all eight muscles; null if that of one is unknown",
        ),
        FAT_FRACTION_REASON,
        Column(
            "fat_fraction_method", TEXT, required=True, allowed=(*HEADLINES, DIXON),
            meaning="method of the column fat_fraction of this subject: dixon where Dixon images are at hand, "
            "else the one that the configuration names",
        ),
        *(column for muscle in MUSCLES for column in _per_muscle(muscle)),
        *LABELS_COLUMNS,
        fraction(
            "separability", meaning="between-class over total variance of the pooled Otsu threshold"
        ),
        *QUALITY_COLUMNS,
        count("n_warnings", "warnings in the ledger"),
    ),
    keys=("subject",),
    meaning="an analysed subject",
)  # fmt: skip

OVERLAP = Table(
    "overlap",
    (
        *STACK_AND_SLICE,
        *COVARIATE_COLUMNS,
        *OVERLAP_COLUMNS,
        flag(
            "held_out",
            "whether the labels come from the network, and the subject was not in its training data",
        ),
        flag(
            "review_failed",
            "whether the scan, or this muscle and side, failed the review by eye; it has no areas then",
        ),
    ),
    keys=tuple(column.name for column in STACK_AND_SLICE),
    meaning="agreement of prediction and manual mask for a muscle and side in one slice; none for slices"
    " in which the (first) mask shows nothing, and muscles that it shows nowhere in the subject, also where the"
    " prediction or a second mask shows them",
)  # fmt: skip

SERIES = Table(
    "series",
    (SUBJECT, *SERIES_COLUMNS[:1], *COVARIATE_COLUMNS, *SERIES_COLUMNS[1:]),
    keys=("subject", "series_number"),
    meaning="a series among the images of an analysed subject, measured or passed over",
)

LEDGER = Table(
    "ledger",
    (*OUTCOME, LABELS_DIGEST, *QUALITY_COLUMNS, *COVARIATE_COLUMNS, BMI),
    keys=("subject",),
    meaning="a subject of the sheet and what became of it",
    per_subject=True,
)

COHORT_TABLES = (SLICES, LEVEL_TABLE, MUSCLE_TABLE, SUBJECT_TABLE, OVERLAP, SERIES, LEDGER)


def tables_with(carried: Iterable[Column], visits: bool = False) -> tuple[Table, ...]:
    """Return the descriptions of the cohort tables of one study.

    They are in the order of COHORT_TABLES. carried: descriptions of further columns of the sheet
    (`study.people.carried_columns`); they are added at the end of the tables `subjects` and
    `ledger`. visits: whether the sheet has visits; every table then has the column `visit` after
    `subject`, and both are part of its key.
    """
    longer = {table.name for table in (SUBJECT_TABLE, LEDGER)}
    more = tuple(carried)
    found = tuple(
        replace(table, columns=table.columns + more) if table.name in longer else table
        for table in COHORT_TABLES
    )
    return tuple(map(_with_visit, found)) if visits else found


def _with_visit(table: Table) -> Table:
    columns = (SUBJECT, VISIT, *table.columns[1:])
    return replace(table, columns=columns, keys=("subject", "visit", *table.keys[1:]))


# --- how the tables are described in files --------------------------------------------------------


def dictionary() -> str:
    """Return the data dictionary as Markdown.

    It has a section per cohort table, then the codes of quarantine reasons and of warnings.
    """
    return "\n".join([INTRODUCTION, *map(_section, COHORT_TABLES), _codes()])


def _section(table: Table) -> str:
    title = f"## {table.name}\n\nOne row: {table.meaning}. Key: {', '.join(table.keys)}.\n"
    return "\n".join([title, COLUMN_HEADER, *map(_row, table.columns)]) + "\n"


def _row(c: Column) -> str:
    ends = [f"{end:g}" if end is not None else "" for end in (c.minimum, c.maximum)]
    values = ", ".join(c.allowed) or (" to ".join(ends) if any(ends) else "")
    known = "never null" if c.required else ""
    allowed = "; ".join(part for part in (values.strip(), known) if part)
    return f"| {c.name} | {c.type} | {c.unit} | {c.meaning} | {allowed} |"


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
    """Write the data dictionary (Markdown): columns of the cohort tables with unit and meaning.

    Each cohort table has a section; at the end are the codes of quarantine and warnings.
    The folder of the file is made if absent; an older file is replaced.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(dictionary(), encoding="utf-8")


def write_codebook(path: Path, cohort_tables: Iterable[Table]) -> None:
    """Write a CSV file with one row per column of the cohort tables: type, unit, limits, meaning.

    path: of the file, replaced if it exists. cohort_tables: their descriptions, such as from
    `tables_with`. The first line has the names: table, column, type (of Arrow, such as "double"), unit,
    required ("yes" or empty), minimum, maximum (empty if there is none), allowed (values separated by
    "; "), meaning.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(CODEBOOK_HEADER)
        for table in cohort_tables:
            for c in table.columns:
                required, allowed = "yes" if c.required else "", "; ".join(c.allowed)
                start = [table.name, c.name, c.type, c.unit, required]
                writer.writerow([*start, c.minimum, c.maximum, allowed, c.meaning])


def write_datapackage(path: Path, metadata: dict[str, str], cohort_tables: Iterable[Table]) -> None:
    """Write a description of the cohort tables as JSON in the format Frictionless Data Package.

    path: of the file, replaced if it exists. metadata: further properties of the package, such as
    {"software_version": ...}. cohort_tables: descriptions of the tables; each is listed as the file
    `<name>.parquet` beside `path`.
    """
    resources = [
        {
            "name": table.name,
            "path": f"{table.name}.parquet",
            "format": "parquet",
            "description": table.meaning,
            "schema": {
                "fields": [_package_field(column) for column in table.columns],
                "primaryKey": list(table.keys),
            },
        }
        for table in cohort_tables
    ]
    package = {"name": "paravert-cohort", **metadata, "resources": resources}
    path.write_text(json.dumps(package, indent=1, ensure_ascii=False), encoding="utf-8")


def _package_field(column: Column) -> dict:
    found = {"required": column.required, "minimum": column.minimum, "maximum": column.maximum}
    found["enum"] = list(column.allowed)
    return {
        "name": column.name,
        "type": FRICTIONLESS_TYPES[column.type],
        "unit": column.unit,
        "description": column.meaning,
        "constraints": {k: v for k, v in found.items() if v not in (None, False, [])},
    }
