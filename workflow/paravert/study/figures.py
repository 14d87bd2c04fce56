"""Draws the figures of the study, each as SVG and PNG beside the CSV it was drawn from."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from matplotlib.figure import Figure

from paravert import codebook
from paravert.network.card_file import Card, read_card
from paravert.outputs import FIGURES
from paravert.study.accuracy import SCORE_COLUMNS, held_out_rows, scored_pixel_areas
from paravert.study.centiles import CENTILE_TABLE
from paravert.study.data_frames import ORDERED, read_frame
from paravert.study.drawing import style
from paravert.study.drawing.accuracy_plots import (
    agreement_points,
    draw_agreement,
    draw_iou,
    iou_points,
)
from paravert.study.drawing.adjusted_means import adjusted_mean_points, draw_adjusted_means
from paravert.study.drawing.centile_curves import centile_points, draw_centiles
from paravert.study.drawing.diagrams import draw_flow, draw_network, flow_counts, network_layers
from paravert.study.drawing.examples import draw_examples, example_slices
from paravert.study.drawing.reconstructions import draw_reconstructions, reconstructed
from paravert.study.drawing.value_plots import (
    csa_points,
    distribution_points,
    draw_csa,
    draw_distributions,
    draw_fat_fraction,
    fat_points,
)
from paravert.study.inference import MEAN_COLUMNS
from paravert.tables import Table

log = logging.getLogger(__name__)

CSA_COLUMNS = (
    *("subject", "muscle", "side", "sex", "age_years", "slices"),
    *("csa_mean_mm2", "csa_sd_mm2", "volume_ml"),
)
Drawn = tuple[pd.DataFrame, Figure]  # the table that was drawn, and the figure


@dataclass(frozen=True)
class Cohort:
    """The cohort's tables that figures need. held_out: rows of overlap; pixels: `pixel_areas`."""

    subjects: pd.DataFrame
    muscles: pd.DataFrame
    overlap: pd.DataFrame
    held_out: pd.DataFrame
    pixels: pd.DataFrame
    ledger: pd.DataFrame


def draw_figures(
    cohort: Annotated[Path, typer.Option(help="Folder of the cohort tables.")],
    folder: Annotated[Path, typer.Option(help="Folder of the subjects' images and labels.")],
    model: Annotated[Path, typer.Option(help="Model file; its card lies beside it as JSON.")],
    out: Annotated[Path, typer.Option(help="Folder for the figures.")],
    adjusted_means: Annotated[
        Path | None, typer.Option(help="CSV file of fit_models; without it that figure is empty.")
    ] = None,
    centiles: Annotated[
        Path | None,
        typer.Option(help="Parquet file of fit_centiles; without it that figure is empty."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the choice of subjects and slices.")] = 1,
) -> None:
    """Draw the figures of the study from the cohort tables and the subjects' labels."""
    means = pd.read_csv(adjusted_means) if adjusted_means else pd.DataFrame(columns=MEAN_COLUMNS)
    curves = pd.read_parquet(centiles) if centiles else _empty(CENTILE_TABLE)
    makers = figure_makers(read_cohort(cohort), means, curves, folder, read_card(model), seed)
    with style.applied():
        for stem in FIGURES:
            frame, figure = makers[stem]()
            style.write_figure(figure, frame, out, stem)
            log.info("draw_figures: %s: %d rows", stem, len(frame))


def figure_makers(
    cohort: Cohort,
    means: pd.DataFrame,
    centiles: pd.DataFrame,
    folder: Path,
    card: Card,
    seed: int,
) -> dict[str, Callable[[], Drawn]]:
    """Return for each figure a function that returns its table and draws it."""

    def plain(data: pd.DataFrame, draw: Callable) -> Drawn:
        return data, draw(data)

    def with_pictures(data: tuple, draw: Callable) -> Drawn:
        return data[0], draw(*data)

    c = cohort
    return {
        "flow": lambda: plain(flow_counts(c.ledger, c.overlap), draw_flow),
        "fig1_network": lambda: plain(
            network_layers(card.architecture, card.size_px), draw_network
        ),
        "fig2_examples": lambda: with_pictures(
            example_slices(c.subjects, c.held_out, folder, seed), draw_examples
        ),
        "fig3_reconstructions": lambda: with_pictures(
            reconstructed(c.subjects, c.muscles, folder, seed), draw_reconstructions
        ),
        "fig4_iou": lambda: plain(iou_points(c.held_out, seed), draw_iou),
        "fig5_csa": lambda: plain(csa_points(c.muscles), draw_csa),
        "fig6_fat_fraction": lambda: plain(fat_points(c.subjects), draw_fat_fraction),
        "adjusted_means": lambda: plain(adjusted_mean_points(means), draw_adjusted_means),
        "centiles": lambda: plain(centile_points(c.subjects, centiles), draw_centiles),
        "agreement": lambda: plain(agreement_points(c.held_out, c.pixels), draw_agreement),
        "distributions": lambda: plain(distribution_points(c.subjects), draw_distributions),
    }


def read_cohort(folder: Path) -> Cohort:
    """Return the cohort's tables, rows in the order of their keys, text columns as text."""
    overlap = _read(folder, codebook.OVERLAP, SCORE_COLUMNS)
    return Cohort(
        subjects=_read(folder, codebook.SUBJECT_TABLE),
        muscles=_read(folder, codebook.MUSCLE_TABLE, CSA_COLUMNS),
        overlap=overlap,
        held_out=held_out_rows(overlap),
        pixels=scored_pixel_areas(folder, overlap),
        ledger=_read(folder, codebook.LEDGER),
    )


def _empty(table: Table) -> pd.DataFrame:
    return table.schema().empty_table().to_pandas()


def _read(folder: Path, table: Table, columns: tuple[str, ...] | None = None) -> pd.DataFrame:
    frame = read_frame(folder, table, columns)
    return frame.astype({name: object for name in ORDERED if name in frame})
