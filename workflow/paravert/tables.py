"""Tables with units and meaning: how they are described, checked and written.

The tables between the steps are defined here, those of the cohort in `codebook`.
"""

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from paravert.anatomy import MUSCLES, SIDES
from paravert.errors import InputError

SCHEMA_VERSION = "1"
TEXT, WHOLE, NUMBER, FLAG = pa.string(), pa.int32(), pa.float64(), pa.bool_()
TEXTS, NUMBERS = pa.list_(pa.string()), pa.list_(pa.float64())


@dataclass(frozen=True)
class Column:
    """The description of one column of a table.

    name: of the column. type: Arrow type, such as TEXT, WHOLE (int32), NUMBER (float64), FLAG
    (boolean), TEXTS or NUMBERS (lists). unit: such as "mm2"; "1" for counts and fractions, "" for
    none. meaning: text for the data dictionary. required: whether null is forbidden. minimum,
    maximum: limits, inclusive; None if there is none. allowed: the only values, besides null, that
    may occur; empty if any may.
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
        """Return the column as an Arrow field whose metadata hold `unit` and `meaning`."""
        metadata = {"unit": self.unit, "meaning": self.meaning}
        return pa.field(self.name, self.type, nullable=not self.required, metadata=metadata)


@dataclass(frozen=True)
class Table:
    """The description of a table: its columns and the key that identifies a row.

    name: of the table, and of its Parquet file. columns: in their order. keys: names of the columns
    that together identify a row. meaning: what one row is. per_subject: whether the table has one
    row for every subject, quarantined ones included.
    """

    name: str
    columns: tuple[Column, ...]
    keys: tuple[str, ...]
    meaning: str = ""
    per_subject: bool = False

    def schema(self) -> pa.Schema:
        """Return the Arrow schema of the table; the fields' metadata hold unit and meaning."""
        return pa.schema([column.field() for column in self.columns])


def from_rows(table: Table, rows: Iterable[Mapping]) -> pa.Table:
    """Return rows as an Arrow table with the schema of `table`; limits, nulls and keys are not checked.

    rows: dicts {column: value}; a missing column is null. Raises KeyError for a column that the
    table does not have, ArrowInvalid or ArrowTypeError for a value of another type.
    """
    rows = list(rows)
    names = {column.name for column in table.columns}
    if unknown := {name for row in rows for name in row} - names:
        raise KeyError(f"{table.name} has no column {sorted(unknown)}")
    return pa.Table.from_pylist(rows, schema=table.schema())


def check(table: Table, data: pa.Table) -> None:
    """Raise ValueError unless an Arrow table fits its description.

    table: the description. data: the rows. The error is about the first fault: other columns,
    another order or type, null in a required column, infinity or NaN in a column of numbers, a
    value outside the range or the allowed ones, or rows with the same key. Values within lists are
    not checked.
    """
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
    """Write an Arrow table as a Parquet file, completely or not at all.

    path: of the file; an older one is replaced, missing folders are made. table: its description. data:
    the rows, with `table.schema()`, such as from `from_rows`. metadata: further key-value metadata of
    the file. Unit and meaning of each column are stored in the field metadata (for pyarrow), as JSON in
    the file's key `columns` (for DuckDB) and in PANDAS_ATTRS (for DataFrame.attrs in pandas). Raises
    ValueError if the data do not fit the description, as `check`.
    """
    check(table, data)
    with whole_file(path) as draft:
        data = data.replace_schema_metadata(_file_metadata(table, metadata))
        pq.write_table(data, draft, compression="zstd")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a draft path that replaces the file `path` if the `with` block ends without error.

    The block must write the draft, which lies in a temporary folder beside `path`. Missing parent
    folders are made. After an error or a kill, `path` is unchanged: the old file, or none. Raises
    InputError, before the block, if `path` is a folder.
    """
    if path.is_dir():
        raise InputError(path, "a folder, expected a file or none")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as scratch:
        draft = Path(scratch) / path.name
        yield draft
        os.replace(draft, path)


@contextmanager
def whole_tables(
    folder: Path, tables: Sequence[Table], metadata: Mapping[str, str]
) -> Iterator[Callable[[Table, pa.Table], None]]:
    """Yield a function append(table, rows) that adds rows to Parquet tables; for a `with` block.

    folder: an existing one, where the files `<table name>.parquet`, also of tables without rows, appear
    or replace older ones when the block ends without error, one after the other; after an error in the
    block it is unchanged. tables: their descriptions; append takes no other table. metadata: further
    key-value metadata of every file; unit and meaning of each column are added. append raises ValueError
    if the rows do not fit the description (`check`); rows with the same key in different calls are not
    noticed.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix=".tables-") as scratch:
        drafts = {table.name: Path(scratch) / f"{table.name}.parquet" for table in tables}
        with ExitStack() as stack:
            writers = {}
            for table in tables:
                schema = table.schema().with_metadata(_file_metadata(table, metadata))
                writer = pq.ParquetWriter(drafts[table.name], schema, compression="zstd")
                writers[table.name] = stack.enter_context(writer)

            def append(table: Table, rows: pa.Table) -> None:
                check(table, rows)
                writers[table.name].write_table(rows.cast(writers[table.name].schema))

            yield append
        for draft in drafts.values():
            os.replace(draft, folder / draft.name)


def _file_metadata(table: Table, metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the key-value metadata of a table's file, `metadata` included."""
    columns = {c.name: {"unit": c.unit, "meaning": c.meaning} for c in table.columns}
    own = {"table": table.name, "meaning": table.meaning}
    attributes = {**own, "columns": columns, **metadata}  # DataFrame.attrs in pandas
    return {
        **own,
        "schema_version": SCHEMA_VERSION,
        **metadata,
        "columns": json.dumps(columns, ensure_ascii=False),
        "PANDAS_ATTRS": json.dumps(attributes, ensure_ascii=False),
    }


def fraction(name: str, meaning: str, *, minimum: float = 0) -> Column:
    """Return the description of a column of fractions: float64, unit "1", between `minimum` and 1.

    name, meaning: of the column. It may be null.
    """
    return Column(name, NUMBER, "1", meaning, minimum=minimum, maximum=1)


def quantity(name: str, unit: str, meaning: str, *, required: bool = False) -> Column:
    """Return the description of a column of numbers (float64) that are not negative.

    name, unit, meaning: of the column; unit such as "mm2". required: whether null is forbidden.
    """
    return Column(name, NUMBER, unit, meaning, required, minimum=0)


def count(name: str, meaning: str, *, required: bool = True, minimum: int = 0) -> Column:
    """Return the description of a column of whole numbers (int32, unit "1") of at least `minimum`.

    name, meaning: of the column. required: whether null is forbidden.
    """
    return Column(name, WHOLE, "1", meaning, required, minimum)


def flag(name: str, meaning: str, *, required: bool = True) -> Column:
    """Return the description of a column of booleans.

    name, meaning: of the column. required: whether null is forbidden.
    """
    return Column(name, FLAG, "", meaning, required)


# --- columns that several tables share -----------------------------------------------------------

FAT_METHODS = {
    "otsu_subject": "Otsu threshold over all eight muscles of the subject pooled",
    "otsu_muscle": "Otsu threshold over all slices of the muscle and side",
    "otsu_muscle_slice": "Otsu threshold over the muscle and side in this slice",
    "otsu_image": "Otsu threshold over all pixels of the subject's images",
    "linear": "signal between the subject's lean muscle (0) and fat beside the muscles (1)",
    "linear_spread": "signal between lean muscle (0), corrected for the fat that the spread of its signal tells, and fat beside the muscles (1)",
}
DIXON = "dixon"  # the method of Dixon images; where there are any, it gives the fat fraction
ALL_FAT_METHODS = FAT_METHODS | {DIXON: "sum of fat over sum of fat and water in the Dixon images"}
# What the column fat_fraction may be. Partial volume makes the outermost pixels of a muscle show some of the
# fat around it, which differs with the mask.
ERODED = "eroded_"
HEADLINES = FAT_METHODS | {
    f"{ERODED}{method}": f"{meaning}; without the muscle's outermost pixels, where others are left"
    for method, meaning in FAT_METHODS.items()
}
OTSU_METHODS = tuple(method for method in FAT_METHODS if method.startswith("otsu"))

ABSENT = "absent"  # reason code: no pixel of the muscle
REVIEW_FAILED = "review-failed"  # reason code: failed the review by eye (setting review.ratings)
NO_DIXON = "no-dixon"  # reason code: no Dixon images of water and fat
NOT_COVERED, NO_LEVELS = "not-covered", "no-levels"  # reason codes of values at levels
NO_SUCH_LEVEL = "no-such-level"  # likewise: in somebody with four or six lumbar vertebrae
NOT_LABELLED = "not-labelled"  # reason code: the given labels are not of this muscle
SEQUENCES = (
    "T1", "T2", "PD", "STIR", "fat-suppressed", "dixon-water", "dixon-fat", "in-phase",
    "opposed-phase", "unknown",
)  # fmt: skip
T1, T2, PD, STIR, FAT_SUPPRESSED, DIXON_WATER, DIXON_FAT, IN_PHASE, OPPOSED_PHASE, UNKNOWN = (
    SEQUENCES
)
HEADER, PIXELS = "header", "pixels"  # where the class of a sequence comes from

PLANES = ("axial", "sagittal", "coronal", "localizer", "unknown")  # of a series
PASSED_OVER = ("non-axial", "localizer", "no-orientation", "series-description")

NETWORK, SHEET, MIXED = "network", "sheet", "sheet+network"  # where labels come from

SUBJECT = Column("subject", TEXT, "", "pseudonym of the subject, as in the sheet", required=True)
VISIT = Column("visit", TEXT, "", "visit of the subject, as in the sheet", required=True)
STACK = Column(
    "stack", WHOLE, "", "stack of parallel, evenly spaced slices, from 1", required=True, minimum=1
)
SLICE = Column(
    "slice", WHOLE, "", "slice in its stack, caudal to cranial, from 0", required=True, minimum=0
)
MUSCLE = Column("muscle", TEXT, "", "muscle", required=True, allowed=MUSCLES)
SIDE = Column("side", TEXT, "", "the subject's own side", required=True, allowed=SIDES)
SLICE_COLUMNS = (SUBJECT, STACK, SLICE, MUSCLE, SIDE)
SLICE_KEYS = tuple(column.name for column in SLICE_COLUMNS)

OUTCOME = (
    SUBJECT,
    Column(
        "status", TEXT, "", "whether the subject was analysed, quarantined, or excluded after review",
        required=True, allowed=("analysed", "quarantined", "excluded"),
    ),
    Column("stage", TEXT, "", "rule that quarantined or excluded the subject; null if analysed"),
    Column("reason", TEXT, "", "code of the reason for quarantine or exclusion; null if analysed"),
    Column(
        "message", TEXT, "",
        "what was found and what was expected, of the reason or of a warning; else null",
    ),
    Column("warnings", TEXTS, "", "codes of what a reader should know of the subject"),
)  # fmt: skip

POSITION = Column(
    "position_mm", NUMBER, "mm", "centre of the slice along the stack's normal, towards the head",
    required=True,
)  # fmt: skip
TILT = Column(
    "tilt_deg", NUMBER, "degree", required=True, minimum=0, maximum=90,
    meaning="angle between the slice and the plane across the patient's long axis",
)  # fmt: skip
SLAB = quantity(
    "slab_mm", "mm", required=True,
    meaning="length that the slice stands for: distance of slice centres, or thickness if alone",
)  # fmt: skip
OVERLAPS = flag(
    "overlaps", "whether the slice cuts a slice of an earlier stack, so that volumes leave it out"
)

SHEET_LEVELS, SAGITTAL_LEVELS, AXIAL_LEVELS = "sheet", "sagittal", "axial"  # where levels come from
NO_LEVEL = "none"
LEVEL_SOURCES = {  # the first that knows the level of a slice is used
    SHEET_LEVELS: "points that the sheet names",
    SAGITTAL_LEVELS: "the discs in a sagittal series of the same study",
    AXIAL_LEVELS: "the axial slices alone",
}
LOWEST_LEVEL, HIGHEST_LEVEL = -1.0, 8.0  # T11 to S3; beyond, a level is unknown


def level(name: str, meaning: str) -> Column:
    """Return the description of a column of vertebral levels: 1 is mid L1, 4.5 disc L4/5, 6 mid S1.

    name, meaning: of the column. Values are numbers from -1.0 (T11, LOWEST_LEVEL) to 8.0 (S3,
    HIGHEST_LEVEL), or null.
    """
    return Column(name, NUMBER, "level", meaning, minimum=LOWEST_LEVEL, maximum=HIGHEST_LEVEL)


LEVEL_COLUMNS = (
    level(
        "level_position",
        "vertebral level of the slice where the middle of the vertebral column crosses it: 1 mid L1, "
        "4.5 disc L4/5, 6 S1; null if unknown",
    ),
    Column("level", TEXT, meaning="name of the vertebra or disc nearest to level_position"),
    quantity("level_sd", "level", "standard deviation of level_position; null if unknown"),
    Column(
        "level_source", TEXT, required=True, allowed=(*LEVEL_SOURCES, NO_LEVEL),
        meaning="where level_position comes from: "
        + ", ".join(f"{name} for {told}" for name, told in LEVEL_SOURCES.items()),
    ),
    *(level(f"level_{name}", f"level by {told}") for name, told in LEVEL_SOURCES.items()),
)  # fmt: skip

AREA_COLUMNS = (
    POSITION,
    TILT,
    SLAB,
    OVERLAPS,
    Column(
        "pixels", WHOLE, "1", minimum=0,
        meaning="pixels of the muscle; 0 if absent, null if unknown (csa_reason)",
    ),
    quantity(
        "csa_mm2", "mm2",
        "cross-sectional area in the image plane; 0 if absent, null if unknown (csa_reason)",
    ),
    quantity(
        "csa_axial_mm2", "mm2",
        "cross-sectional area times the cosine of the tilt; null if csa_mm2 is",
    ),
    quantity(
        "csa_across_mm2", "mm2",
        "cross-sectional area across the muscle's own direction, which runs through its centroids in the "
        "neighbouring slices of the stack; 0 if absent, null if csa_mm2 is or no neighbour shows the muscle",
    ),
    Column(
        "csa_reason", TEXT, allowed=(NOT_LABELLED, REVIEW_FAILED),
        meaning="why the area is null: the source of the given labels does not have this muscle, or it "
        "failed the review",
    ),
    Column(
        "labels_source", TEXT, required=True, allowed=(NETWORK, SHEET),
        meaning="where the labels of the stack come from: network, or sheet for a label map corrected by "
        "hand or made elsewhere",
    ),
    fraction(
        "border_fraction",
        "share of the muscle's outline that lies at the border of the image; null if absent or unknown",
    ),
    fraction(
        "predicted_iou",
        "IoU with a manual mask to be expected, as the network tells; of an absent muscle 0 if the "
        "network may have missed it, otherwise null; null if the labels were not its own, or if the "
        "model is not calibrated",
    ),
)  # fmt: skip

FAT_REASONS = (
    ABSENT, NOT_LABELLED, REVIEW_FAILED, "single-value", "no-fat-reference", "no-lean-reference", "fat-not-bright",
    "low-contrast", NO_DIXON, "fat-water-swapped",
)  # fmt: skip


def _of_method(method: str) -> tuple[Column, ...]:
    meaning = ALL_FAT_METHODS[method]
    return (
        fraction(f"fat_fraction_{method}", f"fat fraction: {meaning}"),
        fraction(
            f"{ERODED}{method}", f"the same in the muscle without its outermost pixels: {meaning}"
        ),
        Column(
            f"reason_{method}", TEXT, "", "why this fat fraction is null",
            allowed=FAT_REASONS,
        ),
    )  # fmt: skip


FAT_COLUMNS = tuple(column for method in FAT_METHODS for column in _of_method(method))
DIXON_COLUMNS = _of_method(DIXON)
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
        "variance between the two classes over total variance where the threshold was found",
    )
    for method in OTSU_METHODS
)

OVERLAP_COLUMNS = (
    fraction(
        "iou",
        "intersection over union of prediction and truth; null if both are empty, or if the muscle is "
        "not labelled",
    ),
    fraction("dice", "Dice coefficient of prediction and truth; null if iou is"),
    Column(
        "overlap_reason", TEXT, allowed=(ABSENT, NOT_LABELLED),
        meaning="why iou and dice are null: absent in both, or the source of the given labels does not "
        "have this muscle",
    ),
    count("pixels_truth", "pixels of the truth"),
    Column(
        "pixels_prediction", WHOLE, "1", minimum=0,
        meaning="pixels of the prediction; null if the muscle is not labelled",
    ),
    Column(
        "pixels_truth2", WHOLE, "1", minimum=0,
        meaning="pixels of the second rater's mask; null if that shows nothing in the slice, or the muscle "
        "nowhere in the subject",
    ),
    fraction(
        "iou_raters",
        "IoU of both manual masks; null if pixels_truth2 is, or both are empty",
    ),
    flag("labels_given", "whether the labels of the stack were given in the sheet, not predicted"),
    Column("pixel_mm2", NUMBER, "mm2", "area of a pixel in the image plane", required=True),
)  # fmt: skip

# --- tables between the steps --------------------------------------------------------------------

OLDEST_AGE_YEARS = 90.0  # ages above are set to this: very old people are identifiable by age
HEADER_COLUMNS = (
    Column("header_sex", TEXT, "", "sex in the image header (0010,0040)", allowed=("F", "M")),
    Column(
        "header_age_years", NUMBER, "year", minimum=0, maximum=90,
        meaning="age in the image header (0010,1010); 90 stands for 90 and more",
    ),
    Column("field_strength_t", NUMBER, "T", "magnetic field strength (0018,0087)"),
    Column("echo_time_ms", NUMBER, "ms", "echo time (0018,0081)"),
    Column("repetition_time_ms", NUMBER, "ms", "repetition time (0018,0080)"),
    Column("inversion_time_ms", NUMBER, "ms", "inversion time (0018,0082)"),
    Column("flip_angle_deg", NUMBER, "degree", "flip angle (0018,1314)"),
    Column("header_sequence", TEXT, "", "class of the sequence by the header", allowed=SEQUENCES),
    Column("manufacturer", TEXT, "", "manufacturer of the scanner (0008,0070)"),
)  # fmt: skip
LABELS_COLUMNS = (
    Column(
        "labels_source", TEXT, allowed=(NETWORK, SHEET, MIXED),
        meaning="network, or sheet for a label map corrected by hand or made elsewhere; sheet+network: "
        "stacks of both",
    ),
    Column("computed_on", TEXT, "", "device and number format of the network"),
    quantity(
        "removed_mm2", "mm2",
        "area that cleaning took out or filled in, over all slices and muscles",
    ),
)  # fmt: skip


SERIES_COLUMNS = (
    Column(
        "series_number", WHOLE, required=True, minimum=1,
        meaning="series of the scan, from 1 in the order of the files",
    ),
    Column(
        "plane", TEXT, required=True, allowed=PLANES,
        meaning="plane of the slices by their orientation; localizer: several planes",
    ),
    Column(
        "sequence", TEXT, required=True, allowed=SEQUENCES,
        meaning="class of the sequence by the header; unknown if the slices differ",
    ),
    count("n_slices", "images of the series", minimum=1),
    quantity(
        "spacing_mm", "mm",
        "median distance of neighbouring slice positions along the normal of the first slice, slices of "
        "another plane left out; null of localizers, and if there are no two positions",
    ),
    flag("chosen", "whether the series was measured"),
    Column(
        "series_reason", TEXT, allowed=PASSED_OVER,
        meaning="why the series was not measured: its plane, or an axial series that the patterns of "
        "convert_dicom.series_description do not keep; null if chosen",
    ),
)  # fmt: skip


def _outcomes(name: str, meaning: str, *columns: Column) -> Table:
    """Return a table with a row per subject: its outcome and further columns."""
    return Table(name, (*OUTCOME, *columns), ("subject",), meaning, per_subject=True)


CONVERT = _outcomes(
    "convert",
    "a subject's images as they were converted",
    count("stacks", "stacks found", required=False, minimum=1),
    count("slices", "slices in all stacks", required=False, minimum=1),
    flag("has_truth", "whether a manual mask came with the images", required=False),
    flag(
        "has_labels", "whether a label map corrected by hand or made elsewhere is used, in one stack at least",
        required=False,
    ),
    Column("image_digests", TEXTS, "", "SHA-256 of the voxels of each stack"),
    Column(
        "series", pa.list_(pa.struct([column.field() for column in SERIES_COLUMNS])),
        meaning="series of the scan, see SERIES_COLUMNS",
    ),
    *HEADER_COLUMNS,
)  # fmt: skip
SEGMENT = _outcomes("segment", "a subject's labels as they were made", *LABELS_COLUMNS)
LABELS_DIGEST = Column(
    "labels_digest", TEXT,
    meaning="fingerprint of the subject's labels, which a rating of the review page quotes",
)  # fmt: skip
PREVIEW = _outcomes("preview", "a subject's pictures", LABELS_DIGEST)

GEOMETRY = Table(
    "geometry",
    (
        STACK,
        SLICE,
        POSITION,
        TILT,
        SLAB,
        Column(
            "slab_source", TEXT, "", "where slab_mm comes from", required=True,
            allowed=("positions", "tag", "thickness"),
        ),
        quantity("thickness_mm", "mm", "slice thickness (0018,0050)"),
        Column("row_spacing_mm", NUMBER, "mm", "distance between rows", required=True),
        Column("column_spacing_mm", NUMBER, "mm", "distance between columns", required=True),
        Column(
            "affine", NUMBERS, "mm", required=True,
            meaning="4 x 4, row by row: (column, row, 0, 1) of this slice to RAS coordinates",
        ),
        Column("rescale_slope", NUMBER, "", "rescale slope (0028,1053) that was applied"),
        Column("rescale_intercept", NUMBER, "", "rescale intercept (0028,1052) that was applied"),
        OVERLAPS,
        Column(
            "header_sequence", TEXT, allowed=SEQUENCES,
            meaning="class of the sequence by the header of this slice",
        ),
        Column("warnings", TEXTS, "", "codes of what a reader should know of the slice"),
    ),
    keys=("stack", "slice"),
    meaning="a slice of one subject and where it lies",
)  # fmt: skip
SLICE_LEVELS = Table(
    "levels",
    (SUBJECT, STACK, SLICE, *LEVEL_COLUMNS),
    ("subject", "stack", "slice"),
    "vertebral level of a slice",
)
AREA = Table("area", (*SLICE_COLUMNS, *AREA_COLUMNS), SLICE_KEYS, "area of a muscle in a slice")
FAT = Table(
    "fat",
    (*SLICE_COLUMNS, *FAT_COLUMNS, *DIXON_COLUMNS, *SEPARABILITY_COLUMNS, *SEQUENCE_COLUMNS),
    SLICE_KEYS,
    "fat fraction of a muscle in a slice, by every method",
)
SHARD_OVERLAP = Table(
    "overlap",
    (*SLICE_COLUMNS, *OVERLAP_COLUMNS),
    SLICE_KEYS,
    "agreement of prediction and truth for a muscle in a slice",
)
DICOMSEG = Table(
    "dicomseg",
    (
        SUBJECT,
        STACK,
        count(
            "segments",
            "muscles and sides in the DICOM segmentation; 0 if there is no label and no file",
        ),
        count(
            "frames", "slices over all segments, those left out in which the muscle is absent"
        ),
        quantity(
            "image_error", "",
            "largest difference of a voxel in the DICOM images to the stack, in units of signal",
        ),
    ),
    keys=("subject", "stack"),
    meaning="a stack's labels as DICOM segmentation",
)  # fmt: skip
