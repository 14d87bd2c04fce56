"""Tables with units and meaning: how they are described, checked, written and read.

The tables between the steps are defined here, those of the cohort in `codebook`.
"""

import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from paravert.anatomy import MUSCLES, SIDES

SCHEMA_VERSION = "1"
TEXT, WHOLE, NUMBER, FLAG = pa.string(), pa.int32(), pa.float64(), pa.bool_()
TEXTS, NUMBERS = pa.list_(pa.string()), pa.list_(pa.float64())


@dataclass(frozen=True)
class Column:
    """A column: name, Arrow type, unit ("" where it has none), meaning, and what values it takes.

    required: never null. minimum, maximum: inclusive. allowed: the only values, if any are named.
    """

    name: str
    type: pa.DataType
    unit: str = ""
    meaning: str = ""
    required: bool = False
    minimum: float | None = None
    maximum: float | None = None
    allowed: tuple[str, ...] = ()

    def field(self) -> pa.Field:
        """Return the Arrow field, unit and meaning in its metadata."""
        metadata = {"unit": self.unit, "meaning": self.meaning}
        return pa.field(self.name, self.type, nullable=not self.required, metadata=metadata)


@dataclass(frozen=True)
class Table:
    """A table: the columns in order, those that name a row (keys), and what a row is.

    per_subject: the table has one row for each subject, quarantined or not.
    """

    name: str
    columns: tuple[Column, ...]
    keys: tuple[str, ...]
    meaning: str = ""
    per_subject: bool = False

    def schema(self) -> pa.Schema:
        """Return the Arrow schema with the metadata of every column."""
        return pa.schema([column.field() for column in self.columns])

    def description(self) -> dict:
        """Return what a reader should know of the table, JSON-able."""
        columns = {c.name: {"unit": c.unit, "meaning": c.meaning} for c in self.columns}
        return {"table": self.name, "meaning": self.meaning, "columns": columns}


def from_rows(table: Table, rows: Iterable[Mapping]) -> pa.Table:
    """Return rows (dicts by column name; what is left out is null) as an Arrow table.

    Raises KeyError when a row has a column that the table does not know.
    """
    rows = list(rows)
    names = {column.name for column in table.columns}
    for row in rows:
        if not names.issuperset(row):
            raise KeyError(f"{table.name} has no column {sorted(set(row) - names)}")
    return pa.Table.from_pylist(rows, schema=table.schema())


def check(table: Table, data: pa.Table) -> None:
    """Raise ValueError unless columns, types, nulls, ranges, values and keys are as described."""
    expected = table.schema()
    if data.schema.names != expected.names or data.schema.types != expected.types:
        raise ValueError(f"{table.name}: found {data.schema}, expected {expected}")
    for column in table.columns:
        fault = _fault_of(column, data[column.name])
        if fault:
            raise ValueError(f"{table.name}.{column.name}: {fault}")
    if data.num_rows and data.group_by(list(table.keys)).aggregate([]).num_rows != data.num_rows:
        raise ValueError(f"{table.name}: rows with the same {', '.join(table.keys)}")


def _fault_of(column: Column, values: pa.ChunkedArray) -> str | None:
    if column.required and values.null_count:
        return f"{values.null_count} nulls, expected none"
    if column.type == NUMBER and pc.any(pc.invert(pc.is_finite(values))).as_py():
        return "values that are not finite; unknown is null"
    known = pc.drop_null(values)
    if column.allowed and not set(pc.unique(known).to_pylist()) <= set(column.allowed):
        return f"values other than {', '.join(column.allowed)}"
    if len(known) and column.minimum is not None and pc.min(known).as_py() < column.minimum:
        return f"{pc.min(known).as_py()} is below {column.minimum}"
    if len(known) and column.maximum is not None and pc.max(known).as_py() > column.maximum:
        return f"{pc.max(known).as_py()} is above {column.maximum}"
    return None


def write(path: Path, table: Table, data: pa.Table, metadata: Mapping[str, str]) -> None:
    """Check a table and write it as Parquet, whole or not at all.

    Unit and meaning of each column go into the field metadata (pyarrow), into the key `columns` of
    the file (DuckDB: parquet_kv_metadata) and into PANDAS_ATTRS (pandas: DataFrame.attrs).
    """
    check(table, data)
    data = data.replace_schema_metadata(file_metadata(table, metadata))
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as scratch:
        draft = Path(scratch) / path.name
        pq.write_table(data, draft, compression="zstd")
        os.replace(draft, path)


class Writers:
    """Writes several tables chunk by chunk, each whole or not at all.

    A context manager: on a clean exit every file appears in the folder, otherwise none.
    Checks each chunk; that keys differ between chunks is the caller's care.
    """

    def __init__(self, folder: Path, tables: Iterable[Table], metadata: Mapping[str, str]):
        self._folder, self._tables, self._metadata = folder, tuple(tables), metadata

    def __enter__(self) -> "Writers":
        self._scratch = tempfile.TemporaryDirectory(dir=self._folder, prefix=".tables-")
        self._writers = {}
        for table in self._tables:
            schema = table.schema().with_metadata(file_metadata(table, self._metadata))
            draft = Path(self._scratch.name) / f"{table.name}.parquet"
            self._writers[table.name] = pq.ParquetWriter(draft, schema, compression="zstd")
        return self

    def add(self, table: Table, data: pa.Table) -> None:
        """Append rows to a table. Raises ValueError as `check` does."""
        check(table, data)
        self._writers[table.name].write_table(data.cast(self._writers[table.name].schema))

    def __exit__(self, kind, value, traceback) -> None:
        for writer in self._writers.values():
            writer.close()
        if kind is None:
            for table in self._tables:
                name = f"{table.name}.parquet"
                os.replace(Path(self._scratch.name) / name, self._folder / name)
        self._scratch.cleanup()


def file_metadata(table: Table, metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the key-value metadata of a table's file."""
    description = table.description()
    return {
        **{key: value for key, value in description.items() if key != "columns"},
        "schema_version": SCHEMA_VERSION,
        **metadata,
        "columns": json.dumps(description["columns"], ensure_ascii=False),
        "PANDAS_ATTRS": json.dumps({**description, **metadata}, ensure_ascii=False),
    }


def fraction(name: str, meaning: str, *, minimum: float = 0) -> Column:
    """Return a column of fractions between 0 (or a minimum below) and 1."""
    return Column(name, NUMBER, "1", meaning, minimum=minimum, maximum=1)


# --- columns that several tables share -----------------------------------------------------------

FAT_METHODS = {
    "otsu_subject": "Otsu threshold over all eight muscles of the subject pooled",
    "otsu_muscle": "Otsu threshold over all slices of the muscle and side",
    "otsu_muscle_slice": "Otsu threshold over the muscle and side in this slice",
    "otsu_image": "Otsu threshold over all pixels of the subject's images",
    "linear": "signal between the subject's lean muscle (0) and fat beside the muscles (1)",
}
OTSU_METHODS = tuple(method for method in FAT_METHODS if method.startswith("otsu"))

SEQUENCES = (
    "T1", "T2", "PD", "STIR", "fat-suppressed", "dixon-water", "dixon-fat", "in-phase",
    "opposed-phase", "unknown",
)  # fmt: skip
T1, T2, PD, STIR, FAT_SUPPRESSED, DIXON_WATER, DIXON_FAT, IN_PHASE, OPPOSED_PHASE, UNKNOWN = (
    SEQUENCES
)
HEADER, PIXELS = "header", "pixels"  # where the class of a sequence comes from

NETWORK, SHEET, MIXED = "network", "sheet", "sheet+network"  # where labels come from

SUBJECT = Column(
    "subject", TEXT, meaning="pseudonym of the subject, as in the sheet", required=True
)
STACK = Column(
    "stack",
    WHOLE,
    meaning="stack of parallel, evenly spaced slices, from 1",
    required=True,
    minimum=1,
)
SLICE = Column(
    "slice",
    WHOLE,
    meaning="slice in its stack, caudal to cranial, from 0",
    required=True,
    minimum=0,
)
MUSCLE = Column("muscle", TEXT, meaning="muscle", required=True, allowed=MUSCLES)
SIDE = Column("side", TEXT, meaning="the subject's own side", required=True, allowed=SIDES)
SLICE_KEYS = (SUBJECT, STACK, SLICE, MUSCLE, SIDE)

OUTCOME = (
    SUBJECT,
    Column(
        "status", TEXT, meaning="whether the subject was analysed or quarantined", required=True,
        allowed=("analysed", "quarantined"),
    ),
    Column("stage", TEXT, meaning="rule that quarantined the subject; null if analysed"),
    Column("reason", TEXT, meaning="code of the reason for quarantine; null if analysed"),
    Column(
        "message", TEXT,
        meaning="what was found and what was expected, of the reason or of a warning; else null",
    ),
    Column("warnings", TEXTS, meaning="codes of what a reader should know of the subject"),
)  # fmt: skip

POSITION = Column(
    "position_mm", NUMBER, "mm", meaning="centre of the slice along the stack's normal, towards the head",
    required=True,
)  # fmt: skip
TILT = Column(
    "tilt_deg", NUMBER, "degree", required=True, minimum=0, maximum=90,
    meaning="angle between the slice and the plane across the patient's long axis",
)  # fmt: skip
SLAB = Column(
    "slab_mm", NUMBER, "mm", required=True, minimum=0,
    meaning="length that the slice stands for: distance of slice centres, or thickness if alone",
)  # fmt: skip

OVERLAPS = Column(
    "overlaps", FLAG, required=True,
    meaning="whether the slice cuts a slice of an earlier stack, so that volumes leave it out",
)  # fmt: skip

AREA_COLUMNS = (
    POSITION,
    TILT,
    SLAB,
    OVERLAPS,
    Column("pixels", WHOLE, "1", meaning="pixels of the muscle; 0 if absent", required=True, minimum=0),
    Column(
        "csa_mm2", NUMBER, "mm2", required=True, minimum=0,
        meaning="cross-sectional area in the image plane; 0 if absent",
    ),
    Column(
        "csa_axial_mm2", NUMBER, "mm2", required=True, minimum=0,
        meaning="cross-sectional area times the cosine of the tilt",
    ),
    Column(
        "labels_source", TEXT, required=True, allowed=(NETWORK, SHEET),
        meaning="where the labels of the stack come from: network, or sheet for a label map made "
        "elsewhere",
    ),
    fraction(
        "predicted_iou",
        meaning="IoU with a manual mask to be expected, as the network tells; null if absent, if the "
        "labels were not its own, or if the model is not calibrated",
    ),
)  # fmt: skip

FAT_REASONS = (
    "absent", "single-value", "no-fat-reference", "no-lean-reference", "fat-not-bright",
    "low-contrast",
)  # fmt: skip
FAT_COLUMNS = tuple(
    column
    for method, meaning in FAT_METHODS.items()
    for column in (
        fraction(f"fat_fraction_{method}", meaning=f"fat fraction: {meaning}"),
        fraction(
            f"eroded_{method}",
            meaning=f"the same in the muscle without its outermost pixels: {meaning}",
        ),
        Column(
            f"reason_{method}", TEXT, meaning="why this fat fraction is null",
            allowed=FAT_REASONS,
        ),
    )
)  # fmt: skip
SEQUENCE_COLUMNS = (
    Column(
        "sequence", TEXT, allowed=SEQUENCES,
        meaning="class of the sequence by header and pixels; the pixels decide where they disagree on "
        "whether fat is bright; fat-suppressed by pixels may be STIR or Dixon water as well",
    ),
    Column(
        "sequence_source", TEXT, allowed=(HEADER, PIXELS),
        meaning="where the class comes from; null if neither tells",
    ),
    Column(
        "fat_contrast", NUMBER, "SD",
        meaning="signal of the fat behind the muscles minus that of muscle, in SD of muscle; null if "
        "no fat is to be seen there",
    ),
)  # fmt: skip
SEPARABILITY_COLUMNS = tuple(
    fraction(
        f"separability_{method}",
        meaning="variance between the two classes over total variance where the threshold was found",
    )
    for method in OTSU_METHODS
)

OVERLAP_COLUMNS = (
    fraction(
        "iou", meaning="intersection over union of prediction and truth; null if both are empty"
    ),
    fraction("dice", meaning="Dice coefficient of prediction and truth; null if both are empty"),
    Column("pixels_truth", WHOLE, "1", meaning="pixels of the truth", required=True, minimum=0),
    Column(
        "pixels_prediction",
        WHOLE,
        "1",
        meaning="pixels of the prediction",
        required=True,
        minimum=0,
    ),
    Column(
        "labels_given",
        FLAG,
        required=True,
        meaning="whether the labels of the stack were given in the sheet, not predicted",
    ),
)

# --- tables between the steps --------------------------------------------------------------------

HEADER_COLUMNS = (
    Column("header_sex", TEXT, meaning="sex in the image header (0010,0040)", allowed=("F", "M")),
    Column(
        "header_age_years", NUMBER, "year", minimum=0, maximum=90,
        meaning="age in the image header (0010,1010); 90 stands for 90 and more",
    ),
    Column("field_strength_t", NUMBER, "T", meaning="magnetic field strength (0018,0087)"),
    Column("echo_time_ms", NUMBER, "ms", meaning="echo time (0018,0081)"),
    Column("repetition_time_ms", NUMBER, "ms", meaning="repetition time (0018,0080)"),
    Column("inversion_time_ms", NUMBER, "ms", meaning="inversion time (0018,0082)"),
    Column("flip_angle_deg", NUMBER, "degree", meaning="flip angle (0018,1314)"),
    Column("header_sequence", TEXT, meaning="class of the sequence by the header", allowed=SEQUENCES),
    Column("manufacturer", TEXT, meaning="manufacturer of the scanner (0008,0070)"),
)  # fmt: skip

CONVERT = Table(
    "convert",
    (
        *OUTCOME,
        Column("stacks", WHOLE, "1", meaning="stacks found", minimum=1),
        Column("slices", WHOLE, "1", meaning="slices in all stacks", minimum=1),
        Column("has_truth", FLAG, meaning="whether a manual mask came with the images"),
        Column(
            "has_labels",
            FLAG,
            meaning="whether a label map made elsewhere is used, in one stack at least",
        ),
        Column("image_digests", TEXTS, meaning="SHA-256 of the voxels of each stack"),
        *HEADER_COLUMNS,
    ),
    keys=("subject",),
    meaning="a subject's images as they were converted",
    per_subject=True,
)

GEOMETRY = Table(
    "geometry",
    (
        STACK,
        SLICE,
        POSITION,
        TILT,
        SLAB,
        Column(
            "slab_source", TEXT, meaning="where slab_mm comes from", required=True,
            allowed=("positions", "tag", "thickness"),
        ),
        Column("thickness_mm", NUMBER, "mm", meaning="slice thickness (0018,0050)", minimum=0),
        Column("row_spacing_mm", NUMBER, "mm", meaning="distance between rows", required=True),
        Column("column_spacing_mm", NUMBER, "mm", meaning="distance between columns", required=True),
        Column(
            "affine", NUMBERS, "mm", required=True,
            meaning="4 x 4, row by row: (column, row, 0, 1) of this slice to RAS coordinates",
        ),
        Column("rescale_slope", NUMBER, meaning="rescale slope (0028,1053) that was applied"),
        Column("rescale_intercept", NUMBER, meaning="rescale intercept (0028,1052) that was applied"),
        OVERLAPS,
        Column(
            "header_sequence", TEXT, allowed=SEQUENCES,
            meaning="class of the sequence by the header of this slice",
        ),
        Column("warnings", TEXTS, meaning="codes of what a reader should know of the slice"),
    ),
    keys=("stack", "slice"),
    meaning="a slice of one subject and where it lies",
)  # fmt: skip

LABELS_COLUMNS = (
    Column(
        "labels_source", TEXT, allowed=(NETWORK, SHEET, MIXED),
        meaning="network, or sheet for a label map made elsewhere; sheet+network: stacks of both",
    ),
    Column("computed_on", TEXT, meaning="device and number format of the network"),
    Column(
        "removed_mm2", NUMBER, "mm2", minimum=0,
        meaning="area that cleaning took out or filled in, over all slices and muscles",
    ),
)  # fmt: skip

SEGMENT = Table(
    "segment",
    (
        *OUTCOME,
        *LABELS_COLUMNS,
    ),
    keys=("subject",),
    meaning="a subject's labels as they were made",
    per_subject=True,
)

AREA = Table(
    "area",
    (*SLICE_KEYS, *AREA_COLUMNS),
    keys=tuple(column.name for column in SLICE_KEYS),
    meaning="area of a muscle in a slice",
)
FAT = Table(
    "fat",
    (*SLICE_KEYS, *FAT_COLUMNS, *SEPARABILITY_COLUMNS, *SEQUENCE_COLUMNS),
    keys=tuple(column.name for column in SLICE_KEYS),
    meaning="fat fraction of a muscle in a slice, by every method",
)
SHARD_OVERLAP = Table(
    "overlap",
    (*SLICE_KEYS, *OVERLAP_COLUMNS),
    keys=tuple(column.name for column in SLICE_KEYS),
    meaning="agreement of prediction and truth for a muscle in a slice",
)
PREVIEW = Table(
    "preview", OUTCOME, keys=("subject",), meaning="a subject's preview picture", per_subject=True
)
DICOMSEG = Table(
    "dicomseg",
    (
        SUBJECT,
        STACK,
        Column(
            "segments", WHOLE, "1", required=True, minimum=0,
            meaning="muscles and sides in the DICOM segmentation; 0 if there is no label and no file",
        ),
        Column(
            "frames", WHOLE, "1", required=True, minimum=0,
            meaning="slices over all segments, those left out in which the muscle is absent",
        ),
        Column(
            "image_error", NUMBER, minimum=0,
            meaning="largest difference of a voxel in the DICOM images to the stack, in units of signal",
        ),
    ),
    keys=("subject", "stack"),
    meaning="a stack's labels as DICOM segmentation",
)  # fmt: skip
