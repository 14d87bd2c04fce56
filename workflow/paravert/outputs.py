"""Figures and tables of a study: names of their files, titles and captions.

The workflow and the report read these lists. This module imports nothing of the package.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Output:
    """One figure or table of the study, as the workflow makes it and the report shows it.

    name: name of its files, without suffix. title: heading in the report. caption: name, without
    suffix, of the .rst file in workflow/report that holds its caption.
    """

    name: str
    title: str
    caption: str


def _listed(*outputs: Output) -> dict[str, Output]:
    return {output.name: output for output in outputs}


EXPORTS = {"csv": "csv", "stata": "dta", "spss": "sav"}  # suffix of the files by format
FIGURES = _listed(
    Output("flow", "Flow of the subjects", "flow"),
    Output("fig1_network", "Figure 1. Network", "fig1_network"),
    Output("fig2_examples", "Figure 2. Examples", "fig2_examples"),
    Output("fig3_reconstructions", "Figure 3. Reconstructions", "fig3_reconstructions"),
    Output("fig4_iou", "Figure 4. Intersection over union", "fig4_iou"),
    Output("fig5_csa", "Figure 5. Cross-sectional area", "fig5_csa"),
    Output("fig6_fat_fraction", "Figure 6. Fat fraction", "fig6_fat_fraction"),
    Output("along_spine", "Along the spine", "along_spine"),
    Output("adjusted_means", "Adjusted means", "adjusted_means"),
    Output("site_effects", "Sites and scanners", "site_effects"),
    Output("specification_curve", "Specification curve", "specification_curve"),
    Output("centiles", "Centiles by age", "centiles"),
    Output("agreement", "Agreement of areas", "agreement"),
    Output("distributions", "Distributions of area and fat fraction", "distributions"),
)
# Of write_tables; fit_models writes MODEL_TABLES.
TABLES = _listed(
    Output("table1_iou", "Table 1. Intersection over union", "table1_iou"),
    Output("cohort", "Cohort", "cohort"),
    Output("level_coverage", "Subjects with a value at each level", "level_coverage"),
    Output("normal_values", "Normal values", "normal_values"),
    Output("published_values", "Published values", "published_values"),
    Output("agreement", "Agreement of areas", "agreement_table"),
    Output("reliability", "Reliability of areas", "reliability"),
    Output("flow", "Flow of the subjects", "flow"),
    Output("selection", "Analysed and not analysed", "selection"),
    Output("fat_methods", "Fat fraction by method", "fat_methods"),
)
MODEL_TABLES = _listed(
    Output("models", "Models", "models"),
    Output("contrasts", "Planned comparisons", "contrasts"),
    Output("adjusted_means", "Adjusted means", "adjusted_means"),
    Output("site_effects", "Sites and scanners", "site_effects"),
    Output("claims", "Findings of the paper", "claims"),
    Output("weighted_contrasts", "Contrasts weighted for missing subjects", "weighted_contrasts"),
    Output("specification_curve", "Specification curve", "specification_curve"),
)
