"""The report of a study: one HTML file that needs nothing beside it."""

import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pandas as pd
import pyarrow.parquet as pq
import typer
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from paravert import codebook
from paravert.study import readable
from paravert.study.embedding import figure_uri, preview_uri
from paravert.study.frames import read_frame
from paravert.study.wording import UNKNOWN

log = logging.getLogger(__name__)

TEMPLATES = Path(__file__).parents[1] / "report"
TITLE = "Lumbar paravertebral muscles"
NOTICE = "For research only: not a medical device, never for the care of a patient."
MOST_PREVIEWS = 200
MOST_QUARANTINED = 1000  # rows; all of them are in the ledger
FIGURES = {
    "flow": "Flow of the subjects",
    "fig1_network": "Figure 1. Network",
    "fig2_examples": "Figure 2. Examples",
    "fig3_reconstructions": "Figure 3. Reconstructions",
    "fig4_iou": "Figure 4. Intersection over union",
    "fig5_csa": "Figure 5. Cross-sectional area",
    "fig6_fat_fraction": "Figure 6. Fat fraction",
    "agreement": "Agreement of areas",
}
TABLES = {
    "table1_iou": readable.table1,
    "cohort": readable.cohort,
    "agreement": readable.agreement,
    "normal_values": readable.normal_values,
    "fat_methods": readable.fat_methods,
}
TABLE_CAPTIONS = {name: name for name in (*TABLES, "models")} | {"agreement": "agreement_table"}
SECTIONS = {
    "run": "What was run",
    "subjects": "Subjects",
    "cohort": "Cohort",
    "network": "Network",
    "accuracy": "Accuracy",
    "agreement": "Agreement of areas",
    "muscles": "Muscles",
    "values": "Normal values",
    "models": "Models",
    "fat": "Fat fraction by method",
    "ledger": "Quarantined subjects and warnings",
    "previews": "Previews",
    "configuration": "Configuration",
}
# Keys of the cohort tables' metadata, and how the report calls them.
RUN = {"software_version": "paravert", "run_id": "Run", "model_sha256": "Model, SHA-256"}
MODEL_NOTICE = "model_notice"


@dataclass(frozen=True)
class Picture:
    """A figure in the report; source: data URI."""

    name: str
    title: str
    caption: str
    source: str


@dataclass(frozen=True)
class Preview:
    """A subject's preview in the report; source: data URI."""

    subject: str
    source: str


def write_report(
    cohort: Annotated[Path, typer.Option(help="Folder of the cohort tables.")],
    tables: Annotated[Path, typer.Option(help="Folder of the study's CSV tables.")],
    figures: Annotated[Path, typer.Option(help="Folder of the figures.")],
    folder: Annotated[Path, typer.Option(help="Folder of the subjects with their previews.")],
    configuration: Annotated[Path, typer.Option(help="Resolved configuration (YAML).")],
    out: Annotated[Path, typer.Option(help="HTML file to write.")],
) -> None:
    """Write the report: tables, figures, ledger, previews and configuration in one HTML file."""
    ledger = read_frame(cohort, codebook.LEDGER)
    overlap = read_frame(cohort, codebook.OVERLAP, ["subject"])
    metadata = read_metadata(cohort / "ledger.parquet")
    previews, left_out = read_previews(folder, ledger)
    quarantined = ledger[ledger["status"] == "quarantined"].sort_values("subject")
    told = {
        "title": TITLE,
        "notices": [metadata.get(MODEL_NOTICE) or NOTICE],
        "sections": list(SECTIONS.items()),
        "numbers": counts(ledger, overlap),
        "run": [(name, metadata.get(key) or UNKNOWN) for key, name in RUN.items()],
        "figures": {name: read_picture(figures, name) for name in FIGURES},
        "tables": {
            **{name: make(_read_csv(tables, name)) for name, make in TABLES.items()},
            "quarantined": readable.quarantined(quarantined[:MOST_QUARANTINED]),
            "warnings": readable.warnings(ledger),
        },
        "captions": {caption: read_caption(caption) for caption in TABLE_CAPTIONS.values()},
        "models": readable.models(_read_csv(tables, "models")),
        "quarantined_left_out": max(0, len(quarantined) - MOST_QUARANTINED),
        "previews": previews,
        "previews_left_out": left_out,
        "configuration": configuration.read_text(encoding="utf-8").strip(),
    }
    _write(out, render(told))
    log.info("write_report: %s: %d KB, %d previews", out.name, _kilobytes(out), len(previews))


def render(told: dict) -> str:
    """Return the report; every text in `told` is escaped."""
    loader = FileSystemLoader(TEMPLATES)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    return environment.get_template("report.html.j2").render(told)


def counts(ledger: pd.DataFrame, overlap: pd.DataFrame) -> list[tuple[str, str]]:
    """Return the numbers of subjects that the report opens with, each with its name."""
    status = ledger["status"].value_counts()
    return [
        (f"{len(ledger):,}", "subjects in the sheet"),
        (f"{status.get('analysed', 0):,}", "analysed"),
        (f"{status.get('quarantined', 0):,}", "quarantined"),
        (f"{overlap['subject'].nunique():,}", "with a manual mask"),
    ]


def read_metadata(path: Path) -> dict[str, str]:
    """Return the key-value metadata of a table's file; empty where it has none."""
    found = pq.read_schema(path).metadata or {}
    return {key.decode(): value.decode() for key, value in found.items()}


def read_picture(folder: Path, name: str) -> Picture:
    """Return a figure with its title and caption."""
    return Picture(name, FIGURES[name], read_caption(name), figure_uri(folder, name))


def read_caption(name: str) -> str:
    """Return a caption of workflow/report, the one that Snakemake's own report shows, too."""
    return (TEMPLATES / f"{name}.rst").read_text(encoding="utf-8").strip()


def read_previews(folder: Path, ledger: pd.DataFrame) -> tuple[list[Preview], int]:
    """Return the previews of the analysed subjects, and how many were left out as too many."""
    analysed = ledger.loc[ledger["status"] == "analysed", "subject"].sort_values()
    found = [(subject, folder / subject / "preview.png") for subject in analysed]
    found = [(subject, path) for subject, path in found if path.is_file()]
    shown = [Preview(subject, preview_uri(path)) for subject, path in found[:MOST_PREVIEWS]]
    return shown, len(found) - len(shown)


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
