"""The figures of the study, each as SVG and PNG beside the CSV it was drawn from."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from matplotlib.figure import Figure

from paravert import codebook
from paravert.network.card_file import Card, read_card
from paravert.study import style
from paravert.study.accuracy import OVERLAP_COLUMNS, judging, scored_pixel_areas
from paravert.study.drawing import (
    agreement,
    csa,
    examples,
    fat_fraction,
    flow,
    iou,
    network,
    reconstructions,
)
from paravert.study.frames import ORDERED, read_frame
from paravert.tables import Table

log = logging.getLogger(__name__)

MUSCLE_COLUMNS = (
    *("subject", "muscle", "side", "sex", "age_years", "slices"),
    *("csa_mean_mm2", "csa_sd_mm2", "volume_ml"),
)
Drawn = tuple[pd.DataFrame, Figure]


@dataclass(frozen=True)
class Cohort:
    """What the figures need of the cohort's tables; pixels: their areas, as for the agreement."""

    subjects: pd.DataFrame
    muscles: pd.DataFrame
    overlap: pd.DataFrame
    pixels: pd.DataFrame
    ledger: pd.DataFrame


def draw_figures(
    cohort: Annotated[Path, typer.Option(help="Folder of the cohort tables.")],
    folder: Annotated[Path, typer.Option(help="Folder of the subjects' images and labels.")],
    model: Annotated[Path, typer.Option(help="Model file; its card lies beside it as JSON.")],
    out: Annotated[Path, typer.Option(help="Folder for the figures.")],
    seed: Annotated[int, typer.Option(help="Seed of the choice of subjects and slices.")] = 1,
) -> None:
    """Draw the figures of the study from the cohort tables and the subjects' labels."""
    tables = read_cohort(cohort)
    card = read_card(model)
    with style.applied():
        for stem, make in figures(tables, folder, card, seed):
            frame, figure = make()
            style.write_figure(figure, frame, out, stem)
            log.info("draw_figures: %s: %d rows", stem, len(frame))


def figures(
    cohort: Cohort, folder: Path, card: Card, seed: int
) -> Iterator[tuple[str, Callable[[], Drawn]]]:
    """Yield each figure's name with a function that returns its table and the figure."""
    yield "fig1_network", lambda: _plain(network, card.architecture, card.size_px)
    yield (
        "fig2_examples",
        lambda: _with_pictures(examples, cohort.subjects, judging(cohort.overlap), folder, seed),
    )
    yield (
        "fig3_reconstructions",
        lambda: _with_pictures(reconstructions, cohort.subjects, cohort.muscles, folder, seed),
    )
    yield "fig4_iou", lambda: _plain(iou, judging(cohort.overlap), seed)
    yield "fig5_csa", lambda: _plain(csa, cohort.muscles)
    yield "fig6_fat_fraction", lambda: _plain(fat_fraction, cohort.subjects)
    yield "agreement", lambda: _plain(agreement, judging(cohort.overlap), cohort.pixels)
    yield "flow", lambda: _plain(flow, cohort.ledger, cohort.overlap)


def _plain(module, *given) -> Drawn:
    frame = module.data(*given)
    return frame, module.draw(frame)


def _with_pictures(module, *given) -> Drawn:
    frame, pictures = module.data(*given)
    return frame, module.draw(frame, pictures)


def read_cohort(folder: Path) -> Cohort:
    """Read the cohort's tables, rows in the order of their keys, texts as texts."""
    overlap = _read(folder, codebook.OVERLAP, OVERLAP_COLUMNS)
    return Cohort(
        subjects=_read(folder, codebook.SUBJECT_TABLE),
        muscles=_read(folder, codebook.MUSCLE_TABLE, MUSCLE_COLUMNS),
        overlap=overlap,
        pixels=scored_pixel_areas(folder, overlap),
        ledger=_read(folder, codebook.LEDGER),
    )


def _read(folder: Path, table: Table, columns: tuple[str, ...] | None = None) -> pd.DataFrame:
    frame = read_frame(folder, table, columns)
    return frame.astype({name: object for name in ORDERED if name in frame})
