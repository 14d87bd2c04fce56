"""The tables of the cohort, which users build on: every column with unit and meaning."""

from paravert.anatomy import MUSCLES
from paravert.tables import (
    AREA_COLUMNS,
    FAT_COLUMNS,
    FAT_METHODS,
    FAT_REASONS,
    FLAG,
    HEADER_COLUMNS,
    LABELS_COLUMNS,
    MUSCLE,
    NUMBER,
    OUTCOME,
    OVERLAP_COLUMNS,
    SEPARABILITY_COLUMNS,
    SEQUENCE_COLUMNS,
    SIDE,
    SLICE_KEYS,
    SUBJECT,
    TEXT,
    WHOLE,
    Column,
    Table,
    fraction,
)

COVARIATES = (
    Column("sex", TEXT, meaning="sex, from the sheet", allowed=("F", "M")),
    Column("age_years", NUMBER, "year", meaning="age, from the sheet", minimum=0, maximum=120),
    Column("height_cm", NUMBER, "cm", meaning="height, from the sheet", minimum=0),
    Column("weight_kg", NUMBER, "kg", meaning="weight, from the sheet", minimum=0),
    Column("site", TEXT, meaning="place of the scan, from the sheet"),
    Column("group", TEXT, meaning="group in the study, from the sheet"),
)

FAT_FRACTION_REASON = Column(
    "fat_fraction_reason", TEXT, meaning="why fat_fraction is null", allowed=FAT_REASONS
)
FAT_FRACTION = (
    fraction("fat_fraction", meaning="fat fraction by the method that the configuration names"),
    fraction("fat_fraction_eroded", meaning="the same without the muscle's outermost pixels"),
    FAT_FRACTION_REASON,
)

SLICES = Table(
    "slices",
    (
        *SLICE_KEYS,
        *COVARIATES,
        *AREA_COLUMNS,
        Column(
            "lean_csa_mm2", NUMBER, "mm2", minimum=0,
            meaning="csa_mm2 x (1 - fat_fraction); null if the fat fraction is, 0 if absent",
        ),
        *FAT_FRACTION,
        *FAT_COLUMNS,
        *SEPARABILITY_COLUMNS,
        *SEQUENCE_COLUMNS,
    ),
    keys=tuple(column.name for column in SLICE_KEYS),
    meaning="a muscle and side in one slice of a subject",
)  # fmt: skip

MUSCLE_TABLE = Table(
    "muscles",
    (
        SUBJECT,
        MUSCLE,
        SIDE,
        *COVARIATES,
        Column("slices", WHOLE, "1", meaning="slices that show the muscle", required=True, minimum=0),
        Column(
            "csa_mean_mm2", NUMBER, "mm2", minimum=0,
            meaning="mean csa_mm2 over the slices that show the muscle; null if none does",
        ),
        Column(
            "csa_sd_mm2", NUMBER, "mm2", minimum=0,
            meaning="standard deviation of csa_mm2 over these slices (n - 1); null below two",
        ),
        Column("csa_max_mm2", NUMBER, "mm2", minimum=0, meaning="largest csa_mm2; null if none"),
        Column(
            "volume_ml", NUMBER, "ml", required=True, minimum=0,
            meaning="sum of csa_mm2 x slab_mm, slices that cut an earlier stack left out",
        ),
        Column(
            "coverage_mm", NUMBER, "mm", required=True, minimum=0,
            meaning="sum of slab_mm over the slices that show the muscle, likewise",
        ),
        *FAT_FRACTION,
        Column(
            "fat_fraction_valid", FLAG, required=True,
            meaning="whether every slice that shows the muscle has a fat fraction; false if none shows it",
        ),
        *(
            fraction(f"fat_fraction_{method}", meaning=f"volume-weighted fat fraction: {meaning}")
            for method, meaning in FAT_METHODS.items()
        ),
        Column(
            "lean_volume_ml", NUMBER, "ml", minimum=0,
            meaning="volume_ml x (1 - fat_fraction); null if the fat fraction is",
        ),
    ),
    keys=("subject", "muscle", "side"),
    meaning="a muscle and side of a subject over all slices",
)  # fmt: skip


def _per_muscle(muscle: str) -> tuple[Column, ...]:
    name = muscle.replace("_", " ")
    return (
        Column(f"csa_{muscle}_mm2", NUMBER, "mm2", meaning=f"{name}: csa_mean_mm2, left + right"),
        Column(
            f"csa_index_{muscle}", NUMBER, "mm2/m2",
            meaning=f"{name}: csa_mean_mm2, left + right, over squared height",
        ),
        Column(f"volume_{muscle}_ml", NUMBER, "ml", meaning=f"{name}: volume, left + right"),
        fraction(f"fat_fraction_{muscle}", meaning=f"{name}: volume-weighted over both sides"),
        Column(
            f"asymmetry_{muscle}", NUMBER, "1", minimum=-2, maximum=2,
            meaning=f"{name}: (left - right) / mean of both, of csa_mean_mm2; > 0: left is larger",
        ),
    )  # fmt: skip


SUBJECT_TABLE = Table(
    "subjects",
    (
        SUBJECT,
        *COVARIATES,
        *HEADER_COLUMNS,
        *SEQUENCE_COLUMNS,
        Column("n_stacks", WHOLE, "1", meaning="stacks", required=True, minimum=1),
        Column("n_slices", WHOLE, "1", meaning="slices in all stacks", required=True, minimum=1),
        Column(
            "coverage_mm", NUMBER, "mm", required=True, minimum=0,
            meaning="sum of slab_mm over all slices that cut no earlier stack",
        ),
        Column("volume_ml", NUMBER, "ml", required=True, meaning="volume of all eight muscles"),
        Column("lean_volume_ml", NUMBER, "ml", meaning="lean volume of all eight muscles"),
        fraction("fat_fraction", meaning="volume-weighted fat fraction of all eight muscles"),
        FAT_FRACTION_REASON,
        *(column for muscle in MUSCLES for column in _per_muscle(muscle)),
        *LABELS_COLUMNS,
        fraction(
            "separability", meaning="between-class over total variance of the pooled Otsu threshold"
        ),
        Column("n_warnings", WHOLE, "1", meaning="warnings in the ledger", required=True, minimum=0),
    ),
    keys=("subject",),
    meaning="an analysed subject",
)  # fmt: skip

OVERLAP = Table(
    "overlap",
    (
        *SLICE_KEYS,
        *COVARIATES,
        *OVERLAP_COLUMNS,
        Column(
            "held_out", FLAG, required=True,
            meaning="whether the labels come from the network, and the subject was not in its training data",
        ),
    ),
    keys=tuple(column.name for column in SLICE_KEYS),
    meaning="agreement of prediction and manual mask for a muscle and side in one slice; none for slices"
    " in which nothing is drawn, and muscles that are nowhere drawn in the subject",
)  # fmt: skip

LEDGER = Table(
    "ledger",
    OUTCOME,
    keys=("subject",),
    meaning="a subject of the sheet and what became of it",
    per_subject=True,
)

COHORT_TABLES = (SLICES, MUSCLE_TABLE, SUBJECT_TABLE, OVERLAP, LEDGER)
