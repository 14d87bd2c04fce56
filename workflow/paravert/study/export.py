"""The cohort tables as CSV, and as Stata and SPSS files with labels, value labels and notes."""

import json
import re
import shutil
import struct
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import typer

from paravert.errors import InputError
from paravert.outputs import EXPORTS
from paravert.shard_tables import damage_told
from paravert.tables import whole_file

PROVENANCE = ("software_version", "model_sha256", "configuration_sha256", "run_id")
NAME_LIMIT = 32  # characters of a variable's name in Stata
NAME_LIMIT_BYTES = 60  # in SPSS, with room for a number
LABEL_LIMIT = 80  # characters of a label in Stata
FILE_LABEL_LIMIT = 64  # bytes in SPSS
NOTE_LINE = 80  # bytes in SPSS
VALUE_LABEL_LIMIT = 120  # bytes in SPSS, which cuts longer ones
STATA_WORDS = (
    "_all", "_b", "byte", "_coef", "_cons", "double", "_dta", "float", "if", "in", "int", "long", "_n",
    "_pi", "_pred", "_rc", "_skip", "strl", "using", "with",
)  # fmt: skip
SPSS_WORDS = (
    "all", "and", "by", "eq", "ge", "gt", "le", "lt", "ne", "not", "or", "to", "with"
)  # fmt: skip
FLAG_LABELS = {0: "no", 1: "yes"}


def export_tables(
    cohort: Annotated[Path, typer.Option(help="Folder of the cohort tables.")],
    formats: Annotated[list[str], typer.Option(help="csv, stata or spss; once for each.")],
    out: Annotated[Path, typer.Option(help="Folder in which each format gets a folder.")],
) -> None:
    """Write the cohort tables as CSV, Stata (.dta) or SPSS (.sav) files.

    Each table becomes the file <out>/<format>/<table>.csv, .dta or .sav (missing folders are made,
    older files replaced); another format raises KeyError. Null is an empty cell in CSV, a missing
    number or an empty text in Stata and SPSS. Lists are joined by spaces. CSV is written in parts, with
    a datapackage.json that describes it; a table for Stata or SPSS is held in memory. Stata and SPSS
    files have labels with meaning and unit, value labels, and notes with the provenance of the run.
    Raises InputError if the folder has no datapackage.json of gather_cohort, or a table is missing or
    damaged.
    """
    package, provenance = _read_package(cohort / "datapackage.json")
    for name in formats:
        folder, suffix = out / name, EXPORTS[name]
        for resource in package["resources"]:
            source = cohort / resource["path"]
            file = folder / f"{resource['name']}.{suffix}"
            with whole_file(file) as draft, damage_told(source):
                if name == "csv":
                    _write_csv(draft, source)
                else:
                    _write_labelled(draft, source, resource, provenance)
        if name == "csv":
            _write_package(folder / "datapackage.json", package)


def _read_package(path: Path) -> tuple[dict, dict[str, str]]:
    """Return the description of the cohort tables, and the provenance in it."""
    try:
        package = json.loads(path.read_text(encoding="utf-8"))
        return package, {name: package[name] for name in PROVENANCE}
    except (OSError, ValueError, KeyError, TypeError) as error:
        told = f"may not be read ({error}), expected the description of gather_cohort"
        raise InputError(path, told) from None


# --- CSV -----------------------------------------------------------------------------------------


def _write_csv(path: Path, source: Path) -> None:
    """Write a Parquet file as CSV: UTF-8, null is an empty cell, lists are joined by spaces."""
    with pq.ParquetFile(source) as file:
        types = [
            (field.name, pa.string() if pa.types.is_list(field.type) else field.type)
            for field in file.schema_arrow
        ]
        with pa_csv.CSVWriter(path, pa.schema(types)) as writer:
            for number in range(file.num_row_groups):
                part = file.read_row_group(number)
                columns = [_without_lists(column) for column in part.columns]
                writer.write_table(pa.table(columns, schema=pa.schema(types)))


def _without_lists(column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    return pc.binary_join(column, " ") if pa.types.is_list(column.type) else column


def _write_package(path: Path, package: dict) -> None:
    """Write the description of the CSV files (Frictionless Data Package)."""
    resources = [
        resource | {"path": f"{resource['name']}.csv", "format": "csv", "encoding": "utf-8"}
        for resource in package["resources"]
    ]
    text = json.dumps(package | {"resources": resources}, indent=1, ensure_ascii=False)
    with whole_file(path) as draft:
        draft.write_text(text, encoding="utf-8")


# --- Stata and SPSS ------------------------------------------------------------------------------


def _write_labelled(
    path: Path, source: Path, resource: Mapping, provenance: Mapping[str, str]
) -> None:
    """Write a Parquet file as Stata (.dta) or SPSS (.sav) file. resource: its description."""
    import pyreadstat

    fields = resource["schema"]["fields"]
    names = variable_names([field["name"] for field in fields])
    columns, value_labels = {}, {}
    for name, field in zip(names, fields, strict=True):
        column = pq.read_table(source, columns=[field["name"]]).column(0)
        columns[name], labels = _coded(column, field)
        if labels:
            value_labels[name] = labels
    frame = pd.DataFrame(columns)
    notes = {name: _note(name, field) for name, field in zip(names, fields, strict=True)}
    told = [f"{resource['name']}, one row: {resource['description']}"]
    told += [f"{key}: {value}" for key, value in provenance.items()]
    title = f"paravert {provenance['software_version']}, run {provenance['run_id']}"
    options = {
        "file_label": title[:FILE_LABEL_LIMIT],
        "column_labels": [_label(field) for field in fields],
        "variable_value_labels": value_labels,
    }
    if path.suffix == ".sav":
        lines = [*told, *notes.values()]
        wrapped = [part for line in lines for part in _wrapped(line)]
        pyreadstat.write_sav(frame, path, note=wrapped, row_compress=True, **options)
    else:
        plain = path.with_suffix(".draft")
        pyreadstat.write_dta(frame, plain, version=14, **options)
        add_stata_notes(plain, path, {"_dta": told} | {k: [v] for k, v in notes.items()})


def variable_names(names: Iterable[str]) -> list[str]:
    """Return names of columns in a form that Stata and SPSS accept, in the same order.

    Letters, digits and _ are kept, other characters become _. A name that does not begin with a
    letter or is a reserved word gets the prefix v_. Long names are cut to 32 characters (60 bytes).
    A name that would equal an earlier one, upper and lower case not distinguished, ends in _2, _3 ...
    """
    found: list[str] = []
    taken: set[str] = set()
    for name in names:
        plain = re.sub(r"\W", "_", name)
        if (
            not plain[:1].isalpha()
            or plain.lower() in (*STATA_WORDS, *SPSS_WORDS)
            or re.fullmatch(r"str\d+", plain)
        ):
            plain = f"v_{plain}"
        plain = plain[:NAME_LIMIT].encode()[:NAME_LIMIT_BYTES].decode(errors="ignore")
        number, own = 1, plain
        while plain.lower() in taken:
            number += 1
            plain = f"{own[: NAME_LIMIT - 4]}_{number}"
        taken.add(plain.lower())
        found.append(plain)
    return found


def _coded(column: pa.ChunkedArray, field: Mapping) -> tuple[pd.Series, dict[int, str]]:
    """Return the values of a column as Stata and SPSS hold them, and labels of its codes.

    Categories become numbers from 1 in the order of the codebook, unless a word is too long for a label;
    yes/no 1 and 0. Unknown: NaN, or an empty text.
    """
    labels: dict[int, str] = {}
    words = field["constraints"].get("enum", ())
    if words and max(len(word.encode()) for word in words) <= VALUE_LABEL_LIMIT:
        labels = dict(enumerate(words, 1))
        codes = pc.index_in(column, value_set=pa.array(words, pa.string()))
        column = pc.add(codes, 1)
    elif field["type"] == "boolean":
        labels, column = FLAG_LABELS, column.cast(pa.int32())
    elif field["type"] in ("array", "string"):
        column = pc.fill_null(_without_lists(column), "")
    return column.to_pandas(), labels


def _note(name: str, field: Mapping) -> str:
    """Return unit and whole meaning of a variable, and its name in the codebook if that is another."""
    known_as = "" if name == field["name"] else f" ({field['name']})"
    return f"{name}{known_as}{_unit(field)}: {field['description']}"


def _label(field: Mapping) -> str:
    room = LABEL_LIMIT - len(_unit(field))
    told = field["description"]
    return (told if len(told) <= room else f"{told[: room - 3]}...") + _unit(field)


def _unit(field: Mapping) -> str:
    return f" [{field['unit']}]" if field["unit"] else ""


def _wrapped(text: str) -> list[str]:
    """Return text in lines of at most NOTE_LINE bytes."""
    width = NOTE_LINE if text.isascii() else NOTE_LINE // 4  # UTF-8: up to 4 bytes a character
    return textwrap.wrap(text, width, break_on_hyphens=False)


# --- notes of Stata, which pyreadstat does not write ---------------------------------------------

CHARACTERISTICS, DATA = 8, 9  # places in the map of offsets, see `help dta`
OFFSETS = struct.Struct("<14Q")
NAME_BYTES = 129


def add_stata_notes(source: Path, path: Path, notes: Mapping[str, Sequence[str]]) -> None:
    """Write a copy of a Stata file with notes, which pyreadstat cannot write.

    source: the file without notes (format 118, little-endian). path: of the copy, another file than
    source. notes: {variable: texts}; those of the whole file under "_dta". Notes and other
    characteristics of source are not copied. Raises ValueError for a file of another format.
    Source: `help dta` of Stata.
    """
    with source.open("rb") as old, path.open("wb") as new:
        head = old.read(1024)
        start = head.find(b"<map>") + len(b"<map>")
        if b"<release>118</release>" not in head or b"<byteorder>LSF</byteorder>" not in head:
            raise ValueError(f"{source} is not a Stata file of format 118")
        offsets = list(OFFSETS.unpack_from(head, start))
        old.seek(0)
        before = old.read(offsets[CHARACTERISTICS])
        block = b"".join(
            _characteristic(name, key, text)
            for name, texts in notes.items()
            for key, text in [("note0", str(len(texts))), *_numbered(texts)]
        )
        block = b"<characteristics>" + block + b"</characteristics>"
        longer = len(block) - (offsets[DATA] - offsets[CHARACTERISTICS])
        offsets[DATA:] = [offset + longer for offset in offsets[DATA:]]
        new.write(before[:start] + OFFSETS.pack(*offsets) + before[start + OFFSETS.size :] + block)
        old.seek(offsets[DATA] - longer)
        shutil.copyfileobj(old, new)


def _numbered(texts: Sequence[str]) -> list[tuple[str, str]]:
    return [(f"note{number}", text) for number, text in enumerate(texts, 1)]


def _characteristic(name: str, key: str, text: str) -> bytes:
    content = b"".join(part.encode().ljust(NAME_BYTES, b"\0") for part in (name, key))
    content += text.encode() + b"\0"
    return b"<ch>" + struct.pack("<I", len(content)) + content + b"</ch>"
