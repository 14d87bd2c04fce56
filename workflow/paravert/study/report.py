"""Writes the report of a study: one HTML file that needs no other file."""

import base64
import datetime
import io
import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pandas as pd
import pyarrow.parquet as pq
import typer
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from paravert import codebook
from paravert.outputs import FIGURES, MODEL_TABLES, TABLES
from paravert.study import report_tables
from paravert.study.accuracy import NO_HELD_OUT
from paravert.study.centiles import too_few
from paravert.study.data_frames import read_frame
from paravert.study.methods import methods_paragraph
from paravert.study.report_tables import DASH, as_html
from paravert.subject_folder import SubjectFolder

log = logging.getLogger(__name__)

TEMPLATES = Path(__file__).parents[1] / "report"
TITLE = "Lumbar paravertebral muscles"
NOTICE = "For research only: not a medical device, never for the care of a patient."
MOST_PREVIEWS = 200
MOST_QUARANTINED = 1000  # rows; all of them are in the ledger
LARGEST_SVG_BYTES = 2_000_000  # of larger figures the PNG is shown: browsers grow slow
PREVIEW_WIDTH_PX, PREVIEW_QUALITY = 760, 72
SECTIONS = {
    "run": "What was run",
    "methods": "Methods",
    "subjects": "Subjects",
    "cohort": "Cohort",
    "network": "Network",
    "segmentations": "Segmentations",
    "accuracy": "Accuracy",
    "muscles": "Muscles",
    "agreement": "Agreement of areas",
    "values": "Normal values",
    "centiles": "Centiles",
    "comparisons": "Comparisons",
    "models": "Models",
    "fat": "Fat fraction by method",
    "ledger": "Quarantined subjects and warnings",
    "previews": "Previews",
    "configuration": "Configuration",
}
# Keys of the cohort tables' metadata, and their names in the report.
RUN = {"software_version": "paravert", "run_id": "Run", "model_sha256": "Model, SHA-256"}
MODEL_NOTICE = "model_notice"


@dataclass(frozen=True)
class ReportFigure:
    """A figure in the report. source: data URI."""

    name: str
    title: str
    caption: str
    source: str


@dataclass(frozen=True)
class ReportPreview:
    """A subject's preview in the report. source: data URI."""

    subject: str
    source: str


def write_report(
    cohort: Annotated[Path, typer.Option(help="Folder of the cohort tables.")],
    tables: Annotated[Path, typer.Option(help="Folder of the study's CSV tables.")],
    figures: Annotated[Path, typer.Option(help="Folder of the figures.")],
    folder: Annotated[Path, typer.Option(help="Folder of the subjects with their previews.")],
    configuration: Annotated[Path, typer.Option(help="Resolved configuration (YAML).")],
    out: Annotated[Path, typer.Option(help="HTML file to write.")],
    study_name: Annotated[str, typer.Option(help="Name of the study, for the title.")] = "",
) -> None:
    """Write the report: tables, figures, ledger, previews and configuration in one HTML file."""
    ledger = read_frame(cohort, codebook.LEDGER)
    overlap = read_frame(cohort, codebook.OVERLAP, ["subject"])
    metadata = read_metadata(cohort / "ledger.parquet")
    previews, left_out = read_previews(folder, ledger)
    quarantined = ledger[ledger["status"] == "quarantined"].sort_values("subject")
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    content = {
        "title": study_name or TITLE,
        "subtitle": TITLE if study_name else "",
        "notices": [metadata.get(MODEL_NOTICE) or NOTICE],
        "sections": list(SECTIONS.items()),
        "numbers": counts(ledger, overlap),
        "run": [("Report of", date)]
        + [(name, metadata.get(key) or DASH) for key, name in RUN.items()],
        "figures": {name: read_figure(figures, name) for name in FIGURES},
        "tables": _study_tables(tables)
        | {
            "quarantined": as_html(
                report_tables.quarantined_text(quarantined[:MOST_QUARANTINED]), 2, "None."
            ),
            "warnings": as_html(report_tables.warnings_text(ledger), 1, "None."),
        },
        "captions": {
            name: read_caption(table.caption) for name, table in (TABLES | MODEL_TABLES).items()
        }
        | {"centiles": read_caption("centiles_table")},
        "methods": methods_paragraph(
            yaml.safe_load(configuration.read_text(encoding="utf-8")),
            metadata,
            ledger,
            read_frame(cohort, codebook.SUBJECT_TABLE, ["subject", "labels_source"]),
            _read_csv(tables, "models"),
        ),
        "contrasts": report_tables.contrast_texts(_read_csv(tables, "contrasts")),
        "models": report_tables.model_texts(_read_csv(tables, "models")),
        "quarantined_left_out": max(0, len(quarantined) - MOST_QUARANTINED),
        "previews": previews,
        "previews_left_out": left_out,
        "configuration": configuration.read_text(encoding="utf-8").strip(),
    }
    _write(out, render(content))
    log.info("write_report: %s: %d KB, %d previews", out.name, _kilobytes(out), len(previews))


def _study_tables(folder: Path) -> dict[str, str]:
    """Return the study's tables as HTML by name."""
    centiles = pd.read_parquet(folder / "centiles.parquet")
    nobody, no_masks = "No analysed subjects.", f"{NO_HELD_OUT}."
    return {
        "table1_iou": as_html(
            report_tables.table1_text(_read_csv(folder, "table1_iou")), empty=no_masks
        ),
        "cohort": as_html(report_tables.cohort_text(_read_csv(folder, "cohort")), empty=nobody),
        "agreement": as_html(
            report_tables.agreement_text(_read_csv(folder, "agreement")), empty=no_masks
        ),
        "reliability": as_html(
            report_tables.reliability_text(_read_csv(folder, "reliability")), empty=no_masks
        ),
        "normal_values": as_html(
            report_tables.normal_values_text(_read_csv(folder, "normal_values")), empty=nobody
        ),
        "centiles": as_html(report_tables.centiles_text(centiles), empty=too_few(centiles)),
        "claims": as_html(report_tables.claims_text(_read_csv(folder, "claims")), prose=2),
        "fat_methods": as_html(
            report_tables.fat_methods_text(_read_csv(folder, "fat_methods")), prose=2
        ),
    }


def render(content: dict) -> str:
    """Return the report as HTML; every text in `content` is escaped."""
    loader = FileSystemLoader(TEMPLATES)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    return environment.get_template("report.html.j2").render(content)


def counts(ledger: pd.DataFrame, overlap: pd.DataFrame) -> list[tuple[str, str]]:
    """Return the numbers of subjects at the head of the report, each with its name."""
    status = ledger["status"].value_counts()
    return [
        (f"{len(ledger):,}", "subjects in the sheet"),
        (f"{status.get('analysed', 0):,}", "analysed"),
        (f"{status.get('quarantined', 0):,}", "quarantined"),
        (f"{overlap['subject'].nunique():,}", "with a manual mask"),
    ]


def read_metadata(path: Path) -> dict[str, str]:
    """Return the key-value metadata of a Parquet file."""
    found = pq.read_schema(path).metadata or {}
    return {key.decode(): value.decode() for key, value in found.items()}


def read_figure(folder: Path, name: str) -> ReportFigure:
    """Return a figure with its title and caption."""
    figure = FIGURES[name]
    return ReportFigure(name, figure.title, read_caption(figure.caption), figure_uri(folder, name))


def read_caption(name: str) -> str:
    """Return a caption of workflow/report; Snakemake's own report has the same."""
    return (TEMPLATES / f"{name}.rst").read_text(encoding="utf-8").strip()


def read_previews(folder: Path, ledger: pd.DataFrame) -> tuple[list[ReportPreview], int]:
    """Return the previews of analysed subjects, and the number of those beyond MOST_PREVIEWS."""
    analysed = ledger.loc[ledger["status"] == "analysed", "subject"].sort_values()
    found = [(subject, SubjectFolder(folder / subject).preview_file) for subject in analysed]
    found = [(subject, path) for subject, path in found if path.is_file()]
    shown = [ReportPreview(subject, preview_uri(path)) for subject, path in found[:MOST_PREVIEWS]]
    return shown, len(found) - len(shown)


# --- pictures inside the file --------------------------------------------------------------------


def figure_uri(folder: Path, stem: str) -> str:
    """Return a figure as data URI: its SVG, or its PNG if the SVG is very large."""
    svg = folder / f"{stem}.svg"
    if svg.stat().st_size <= LARGEST_SVG_BYTES:
        return _uri(svg.read_bytes(), "image/svg+xml")
    return _uri((folder / f"{stem}.png").read_bytes(), "image/png")


def preview_uri(path: Path) -> str:
    """Return a picture as data URI: JPEG, at most PREVIEW_WIDTH_PX wide, without metadata."""
    with Image.open(path) as picture:
        reduced = picture.convert("RGB")
    reduced.thumbnail((PREVIEW_WIDTH_PX, 10 * PREVIEW_WIDTH_PX))
    buffer = io.BytesIO()
    reduced.save(buffer, format="JPEG", quality=PREVIEW_QUALITY, optimize=True)
    return _uri(buffer.getvalue(), "image/jpeg")


def _uri(content: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


# --- files ---------------------------------------------------------------------------------------


def _read_csv(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / f"{name}.csv", dtype={"unit": str})


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as scratch:
        draft = Path(scratch) / path.name
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, path)


def _kilobytes(path: Path) -> int:
    return path.stat().st_size // 1024
