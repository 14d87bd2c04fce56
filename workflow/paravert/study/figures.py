"""Draws the figures of the study, each as SVG and PNG beside the CSV it was drawn from."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from matplotlib.figure import Figure

from paravert import codebook
from paravert.network.model_file import Card, read_card
from paravert.outputs import FIGURES
from paravert.study.accuracy import (
    SCORE_COLUMNS,
    compared_areas,
    held_out_rows,
)
from paravert.study.centiles import CENTILE_TABLE
from paravert.study.data_frames import ORDERED, read_csv, read_frame, read_metadata
from paravert.study.drawing import style
from paravert.study.drawing.accuracy_plots import (
    agreement_points,
    draw_agreement,
    draw_iou,
    iou_points,
)
from paravert.study.drawing.centile_curves import centile_points, draw_centiles
from paravert.study.drawing.diagrams import draw_flow, draw_network, flow_counts, network_layers
from paravert.study.drawing.examples import draw_examples, example_slices
from paravert.study.drawing.level_curves import draw_level_curves, level_means
from paravert.study.drawing.model_plots import (
    adjusted_mean_points,
    draw_adjusted_means,
    draw_site_effects,
    site_effect_points,
)
from paravert.study.drawing.reconstructions import draw_reconstructions, reconstructed
from paravert.study.drawing.specification_plot import (
    draw_specification_curve,
    specification_points,
)
from paravert.study.drawing.value_plots import (
    csa_points,
    distribution_points,
    draw_csa,
    draw_distributions,
    draw_fat_fraction,
    fat_points,
)
from paravert.study.fat_words import fat_name
from paravert.study.inference import MEAN_COLUMNS
from paravert.study.published_values import areas_at, areas_of_sides
from paravert.study.scans import first_scans, of_scans
from paravert.study.site_effects import EFFECT_COLUMNS
from paravert.study.specifications import CURVE_COLUMNS
from paravert.study.standard_level import (
    StandardLevel,
    both_sides_at_level,
    level_of_metadata,
    standard_level,
)
from paravert.study.summary import subjects_in_sheet
from paravert.tables import Table

log = logging.getLogger(__name__)

CSA_COLUMNS = (
    *("subject", "muscle", "side", "sex", "age_years", "slices"),
    *("csa_mean_mm2", "csa_sd_mm2", "volume_ml", "csa_at_level_mm2", "fat_fraction_at_level"),
    "csa_reason",
)
LEVEL_COLUMNS = (
    *("subject", "level_position", "level", "muscle", "side", "sex", "csa_mm2", "fat_fraction"),
    "level_reason",
)
Drawn = tuple[pd.DataFrame, Figure]  # the table that was drawn, and the figure


@dataclass(frozen=True)
class Cohort:
    """The cohort tables from which figures are drawn.

    subjects: one row per subject (first scan, as `read_cohort` chooses it). levels, muscles: of
    these scans, with LEVEL_COLUMNS and CSA_COLUMNS. overlap: scores against manual masks, of all
    scans, with SCORE_COLUMNS. held_out: its rows in which the network can be tested: it made the
    labels and was not trained on the subject. compared: {level: areas by mask and prediction}, from
    `accuracy.compared_areas`. level: vertebra or disc at which scans are compared; if its `used` is
    False, means over all slices are compared. ledger: one row per scan, analysed or not. in_sheet:
    number of subjects of the sheet if the run was told to take some of them, otherwise None. In the
    tables muscle, side and sex are text.
    """

    subjects: pd.DataFrame
    levels: pd.DataFrame
    muscles: pd.DataFrame
    overlap: pd.DataFrame
    held_out: pd.DataFrame
    compared: dict[str, pd.DataFrame]
    level: StandardLevel
    ledger: pd.DataFrame
    in_sheet: int | None

    @property
    def fat_name(self) -> str:
        """Name of the fat fractions: "Fat index" if all are from a single contrast, else "Fat fraction".

        A property, from column fat_fraction_method of `subjects`.
        """
        return fat_name(self.subjects["fat_fraction_method"])


def draw_figures(
    cohort: Annotated[Path, typer.Option(help="Folder of the cohort tables.")],
    folder: Annotated[Path, typer.Option(help="Folder of the subjects' images and labels.")],
    model: Annotated[Path, typer.Option(help="Model file; its card lies beside it as JSON.")],
    out: Annotated[Path, typer.Option(help="Folder for the figures.")],
    tables: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the tables of fit_models and fit_centiles; without it their figures are empty."
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the choice of subjects and slices.")
    ] = 1,
) -> None:
    """Draw the figures of the study from the cohort tables and the subjects' labels.

    Writes <name>.svg, <name>.png and <name>.csv (the values drawn) for each name in outputs.FIGURES.
    The folder `tables` also holds centiles.parquet of fit_centiles. Raises FileNotFoundError if it is
    given and a table is missing in it.
    """
    found = read_cohort(cohort)
    makers = figure_makers(found, folder, read_card(model), seed) | model_figures(tables, found)
    with style.applied():
        for stem in FIGURES:
            frame, figure = makers[stem]()
            style.write_figure(figure, frame, out, stem)
            log.info("draw_figures: %s: %d rows", stem, len(frame))


def figure_makers(
    cohort: Cohort, folder: Path, card: Card, seed: int
) -> dict[str, Callable[[], Drawn]]:
    """Return {name of a figure: function that returns the table it shows and the figure}.

    It has all names of outputs.FIGURES but those of `model_figures`. cohort: the tables, from
    `read_cohort`. folder: holds the `SubjectFolder` of each scan, with images and labels, named by
    `scans.scan_names`. card: description of the model. seed: of the choice of subjects, slices and
    points.
    """

    def drawn(draw: Callable[..., Figure], table: pd.DataFrame, *pictures: object) -> Drawn:
        return table, draw(table, *pictures)

    c = cohort
    return {
        "flow": lambda: drawn(draw_flow, flow_counts(c.ledger, c.overlap), c.in_sheet),
        "fig1_network": lambda: drawn(
            draw_network, network_layers(card.architecture, card.size_px)
        ),
        "fig2_examples": lambda: drawn(
            draw_examples,
            *example_slices(c.subjects, of_scans(c.held_out, c.subjects), folder, seed),
        ),
        "fig3_reconstructions": lambda: drawn(
            draw_reconstructions, *reconstructed(c.subjects, c.muscles, folder, seed)
        ),
        "fig4_iou": lambda: drawn(draw_iou, iou_points(c.held_out, seed)),
        "fig5_csa": lambda: drawn(
            draw_csa, csa_points(c.muscles, c.level), c.level, areas_at(c.level.name)
        ),
        "fig6_fat_fraction": lambda: drawn(
            draw_fat_fraction,
            fat_points(c.subjects, both_sides_at_level(c.muscles), c.level),
            c.level,
            c.fat_name,
        ),
        "agreement": lambda: drawn(draw_agreement, agreement_points(c.compared)),
        "along_spine": lambda: drawn(
            draw_level_curves, level_means(c.levels), areas_of_sides(), c.fat_name
        ),
        "distributions": lambda: drawn(
            draw_distributions, distribution_points(c.subjects), c.fat_name
        ),
    }


def model_figures(tables: Path | None, cohort: Cohort) -> dict[str, Callable[[], Drawn]]:
    """Return {name of a figure: function that returns its table and the figure} for figures of models.

    They are specification_curve, adjusted_means, site_effects and centiles. tables: folder of the
    tables of fit_models and fit_centiles; None: the figures show only a sentence. cohort: the
    cohort tables, from `read_cohort`. The functions raise FileNotFoundError for a missing table.
    """

    def read(name: str, columns: Iterable[str]) -> pd.DataFrame:
        if tables is None:
            return pd.DataFrame(columns=list(columns))
        path = tables / name
        return pd.read_parquet(path) if path.suffix == ".parquet" else read_csv(path)

    def adjusted_means() -> Drawn:
        points = adjusted_mean_points(read("adjusted_means.csv", MEAN_COLUMNS))
        return points, draw_adjusted_means(points, cohort.fat_name)

    def differences() -> Drawn:
        points = site_effect_points(read("site_effects.csv", EFFECT_COLUMNS))
        return points, draw_site_effects(points, cohort.fat_name)

    def centiles() -> Drawn:
        curves = read("centiles.parquet", CENTILE_TABLE.schema().names)
        points = centile_points(cohort.subjects, curves, cohort.level)
        return points, draw_centiles(points, cohort.level, cohort.fat_name)

    def specifications() -> Drawn:
        points = specification_points(read("specification_curve.csv", CURVE_COLUMNS))
        return points, draw_specification_curve(points)

    return {
        "specification_curve": specifications,
        "adjusted_means": adjusted_means,
        "site_effects": differences,
        "centiles": centiles,
    }


def read_cohort(folder: Path) -> Cohort:
    """Read the cohort tables from which figures are drawn and return them.

    folder: of the cohort tables. Rows are sorted by their keys; muscle, side and sex are text.
    Subjects, levels and muscles have the first analysed scan of each subject only, by years_since_first
    or, if that is not known for all analysed scans of the subject, by the visit's name.
    """
    overlap = _read(folder, codebook.OVERLAP, SCORE_COLUMNS)
    subjects = first_scans(_read(folder, codebook.SUBJECT_TABLE))
    levels = of_scans(_read(folder, codebook.LEVEL_TABLE, LEVEL_COLUMNS), subjects)
    muscles = of_scans(_read(folder, codebook.MUSCLE_TABLE, CSA_COLUMNS), subjects)
    level = standard_level(muscles, levels, level_of_metadata(folder))
    held_out = held_out_rows(overlap)
    return Cohort(
        subjects=subjects,
        levels=levels,
        muscles=muscles,
        overlap=overlap,
        held_out=held_out,
        compared=compared_areas(folder, held_out, level),
        level=level,
        ledger=_read(folder, codebook.LEDGER),
        in_sheet=subjects_in_sheet(read_metadata(folder / "ledger.parquet")),
    )


def _read(folder: Path, table: Table, columns: tuple[str, ...] | None = None) -> pd.DataFrame:
    frame = read_frame(folder, table, columns)
    return frame.astype({name: object for name in ORDERED if name in frame})
