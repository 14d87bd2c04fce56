"""The figures and tables of a study: names of their files, titles and captions.

The workflow and the report read these lists.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Output:
    """A figure or table of the study.

    name: of its file, without suffix. caption: name of its .rst file in workflow/report.
    """

    name: str
    title: str
    caption: str


def _listed(**titles: str | tuple[str, str]) -> dict[str, Output]:
    """Return outputs by name, from their titles; with its caption's name where it is another."""
    parts = {name: t if isinstance(t, tuple) else (t, name) for name, t in titles.items()}
    return {name: Output(name, *part) for name, part in parts.items()}


FIGURES = _listed(
    flow="Flow of the subjects",
    fig1_network="Figure 1. Network",
    fig2_examples="Figure 2. Examples",
    fig3_reconstructions="Figure 3. Reconstructions",
    fig4_iou="Figure 4. Intersection over union",
    fig5_csa="Figure 5. Cross-sectional area",
    fig6_fat_fraction="Figure 6. Fat fraction",
    agreement="Agreement of areas",
    distributions="Distributions of area and fat fraction",
)
# Of write_tables. fit_models writes MODELS.
TABLES = _listed(
    table1_iou="Table 1. Intersection over union",
    cohort="Cohort",
    normal_values="Normal values",
    agreement=("Agreement of areas", "agreement_table"),
    flow="Flow of the subjects",
    fat_methods="Fat fraction by method",
)
MODELS = Output("models", "Models", "models")
