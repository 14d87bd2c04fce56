from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

import paravert
from paravert.study.methods import MODEL_OUTCOMES, _models, methods_paragraph

WEIGHTS = {"weighted": 300.0, "n_missing": 12, "predictors": "sex, site", "effective_n": 18.2}
SETTINGS = Path(paravert.__file__).parent / "config/config.yaml"


ADJUSTED_FORMULA = "y ~ 0 + muscle + muscle:sex + muscle:age_decades + muscle:height_10cm + muscle:weight_10kg + muscle:Q('my site')"
BY_LEVEL_FORMULA = "y ~ 0 + muscle + muscle:level + muscle:sex:level"
BY_LEVEL = {"outcome": "csa_by_level_mm2", "formula": BY_LEVEL_FORMULA}
RANGES = "Means over all slices, whose ranges differ: 7 subjects of 10 have a value at L4."
CHOICES = ("linear", 0, "all sections", "all slices")


def curve_of(*ways, failed=()):
    """Return the specification curve of ways (estimator, erosion, cut, rule), some without an estimate."""
    names = ["estimator", "erosion_px", "quality_cut", "level_rule"]
    made = pd.DataFrame([*ways, *failed], columns=names)
    return made.assign(estimate=[1.2] * len(ways) + [np.nan] * len(failed))


def text_of(
    subjects=22,
    given=0,
    dixon=0,
    reasons=(),
    excluded=0,
    fitted="sex and age",
    outcome="csa_mean_mm2",
    formula="y ~ sex + age_decades + side",
    note=None,
    weights=None,
    level="",
    level_sources=(),
    level_note="",
    curve=None,
    intervals=True,
    estimate=1.0,
    suppressed=False,
    **changes,
):
    """Return the paragraph of a run; changes: section to settings that differ from the defaults."""
    settings = yaml.safe_load(SETTINGS.read_text())
    for section, values in changes.items():
        settings[section] = settings[section] | values if isinstance(values, dict) else values
    ledger = pd.DataFrame(
        [{"subject": f"S{n}", "status": "analysed", "reason": None} for n in range(subjects)]
        + [
            {"subject": f"Q{n}", "status": "quarantined", "reason": r}
            for n, r in enumerate(reasons)
        ]
        + [
            {"subject": f"E{n}", "status": "excluded", "reason": "review-failed"}
            for n in range(excluded)
        ]
    )
    sources = ["sheet"] * given + ["network"] * (subjects - given)
    models = pd.DataFrame(
        {
            "model": [fitted],
            "outcome": [outcome],
            "note": [note],
            "estimate": [estimate],
            "suppressed": [suppressed],
            "n_subjects": [subjects],
            "formula": [formula],
        }
    )
    methods = ["dixon"] * dixon + ["otsu_subject"] * (subjects - dixon)
    people = pd.DataFrame({"labels_source": sources, "fat_fraction_method": methods})
    return " ".join(
        methods_paragraph(
            settings,
            {"software_version": "9.8.7"},
            ledger,
            people,
            models,
            weighted_table(weights),
            curve_of(CHOICES) if curve is None else curve,
            pd.DataFrame({"iou_low_95": [None, 0.8] if intervals else [None]}),
            level,
            level_sources,
            level_note,
        )
    )


def test_scans_are_counted_where_subjects_have_visits():
    settings = yaml.safe_load(SETTINGS.read_text())
    ledger = pd.DataFrame({"subject": list("AAB"), "visit": list("121"), "status": "analysed"})
    people = ledger.assign(
        labels_source="network", fat_fraction_method=["dixon", "linear", "linear"]
    )
    models = pd.DataFrame(columns=["model", "outcome", "formula", "estimate"])
    table1 = pd.DataFrame({"iou_low_95": [None]})
    people_and_models = (people, models, weighted_table(None), curve_of(), table1)
    text = " ".join(methods_paragraph(settings, {}, ledger.assign(reason=None), *people_and_models))
    assert "MRI of 2 subjects (3 scans) was processed" in text
    assert "In 1 of 3 scans, which have Dixon images, it is" in text


def weighted_table(weights):
    """Return the table weighted_contrasts of an outcome; weights: its texts and numbers, or None."""
    row = {"outcome": "csa_mean_mm2", "weighted": np.nan, "n_subjects": 22, "n_missing": 0}
    return pd.DataFrame([row | (weights or {"note": "not weighted: nobody is missing"})])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "was processed with paravert 9.8.7."),
        ({"reasons": ("mosaic", "no-dicom", "mosaic")}, "(mosaic 2, no-dicom 1)"),
        ({"reasons": ("mosaic",)}, "MRI of 23 subjects was processed"),
        (
            {"reasons": ("mosaic",)},
            " 1 subject was not analysed because their images or masks could not be used",
        ),
        ({"subjects": 1}, "MRI of 1 subject was processed"),
        ({"subjects": 1}, "The models include 1 subject with complete data."),
        (
            {"level": "L4", "level_sources": ["axial"]},
            "level of each slice is from the axial slices alone. Areas and fat fractions of subjects"
            " are compared at L4, interpolated linearly between the slices within 15 mm on both sides",
        ),
        (
            {"level": "L4", "level_sources": ["axial", "sagittal", "none"]},
            "from the first of these that knows it: the discs in a sagittal series of the same study;"
            " the axial slices alone.",
        ),
        ({"excluded": 1}, " 1 subject was excluded after review by eye."),
        ({"given": 1}, "In 1 subject label maps"),
        ({"weights": WEIGHTS | {"n_missing": 1}}, "weights for 1 subject missing from"),
        (
            {"weights": {"note": None}},  # blanked for sharing
            "Comparisons of area were not shown: fewer than 5 subjects.",
        ),
        (
            {"estimate": np.nan, "suppressed": True},
            "Models are not shown: fewer than 5 subjects.",
        ),
        ({"estimate": np.nan}, "No model was fitted."),
        ({"given": 3}, "In 3 subjects label maps corrected by hand or made elsewhere were"),
        ({"dixon": 4}, "In 4 of 22 subjects, who have Dixon images"),
        ({"model": {"sha256": "0123456789abcdef"}}, "(model SHA-256 0123456789ab)"),
        ({"segment_muscles": {"neighbours_mm": 2.25}}, "SD 2.25 mm"),
        (
            {"segment_muscles": {"flip": True, "neighbours_mm": 0}},
            "over the slice, its mirror image.",
        ),
        ({"segment_muscles": {"keep_largest": False}}, "Holes were filled."),
        ({"gather_cohort": {"fat_fraction": "linear"}}, "method linear: signal between"),
        ({"write_tables": {"bootstrap_samples": 321}}, "from 321 bootstrap samples"),
        ({"fitted": "other"}, "bootstrap samples of subjects"),
        ({"seed": 77}, "(seed 77)"),
        (
            {
                "fit_models": {"quality_cut": 0.65},
                "curve": curve_of(CHOICES, ("linear", 0, "predicted IoU at least 0.65", "at L4")),
            },
            "mask (as it is), quality cut (none, sections of predicted IoU 0.65 or more) and level (all"
            " slices, L4) that could be fitted, 2 ways, as a specification curve.",
        ),
        (
            {
                "curve": curve_of(
                    CHOICES, ("linear", 1, *CHOICES[2:]), failed=[(*CHOICES[:3], "at L4")]
                )
            },
            "mask (as it is, eroded by a pixel), quality cut (none) and level (all slices) that could",
        ),
        (
            BY_LEVEL | {"level_note": RANGES, "level_sources": ["axial"]},
            "level of each slice is from the axial slices alone. Areas and fat fractions at a level are"
            " interpolated linearly between the slices within 15 mm on both sides, or those of a slice"
            " within 5 mm. Subjects are compared by means over all slices, whose ranges differ: 7 subjects"
            " of 10 have a value at L4. For the findings of the paper, men and women are therefore compared by"
            " level.",
        ),
        ({"level_note": RANGES}, " Subjects are compared by means over all slices, whose ranges"),
        (
            {"given": 22},
            "or of some of them, were corrected by hand or made elsewhere in all 22 subjects. The cross-",
        ),
        (
            {
                "weights": {
                    "note": "not weighted: nobody is missing; scans cover different ranges (x)"
                }
            },
            "Comparisons of area were not weighted: nobody is missing.",
        ),
        (
            BY_LEVEL | {"formula": "y ~ 0 + muscle + muscle:level"},
            "with the level, by muscle, as a",
        ),
        (
            {"formula": "y ~ 0 + muscle + muscle:age_decades"},
            "subject) with age per muscle.",
        ),
        ({"formula": "y ~ 0 + muscle + muscle:sex + muscle:side"}, "with sex and side per muscle."),
        ({"formula": "y ~ 0 + muscle"}, "subject) with a mean per muscle."),
        (
            {"fitted": "adjusted", "formula": "y ~ age_decades + Q('cr(mg/dl)')"},
            "An adjusted model adds cr(mg/dl), per muscle. Errors",
        ),
        ({"formula": "y ~ age_decades + Q('Scr(mg/dl)')"}, "Age entered as a straight line"),
        ({}, "Mancl and DeRouen"),
        ({"formula": "y ~ muscle:cr(age_decades, df=3)"}, "natural cubic spline with 3 degrees"),
        ({}, "Age entered as a straight line"),
        ({"excluded": 2}, "2 subjects were excluded after review by eye."),
        (BY_LEVEL, "Area at each vertebral level was modelled, too, with"),
        ({}, " Area (identity link) was compared by marginal models (generalised"),
        ({"outcome": "fat_fraction"}, " Fat fraction (logit link) was compared by"),
        (
            BY_LEVEL
            | {
                "note": "x; random sample of 2000 of 9000 subjects; 3 subjects left out",
            },
            "too (random sample of 2000 of 9000 subjects), with the level",
        ),
        (
            {"outcome": "csa_at_level_mm2", "gather_cohort": {"level_standard": "L4"}},
            "Area at L4, interpolated between slices, was compared likewise.",
        ),
        (
            {"fitted": "adjusted", "formula": ADJUSTED_FORMULA},
            "An adjusted model adds height, weight and my site, per muscle.",
        ),
        (
            {"fitted": "adjusted", "formula": """y ~ 0 + muscle + muscle:Q("patient's site")"""},
            "An adjusted model adds patient's site, per muscle.",
        ),
        ({}, "Comparisons of area were not weighted: nobody is missing."),
        (
            {"weights": WEIGHTS},
            "weights for 12 subjects missing from the model (logistic regression on sex, site;",
        ),
        (
            {"weights": WEIGHTS},
            "truncated at percentiles 0.1 and 99.9; effective number of subjects 18 of 22)",
        ),
    ],
)
def test_the_paragraph_says_what_the_run_did(given, said):
    assert said in text_of(**given)


@pytest.mark.parametrize(
    ("given", "unsaid"),
    [
        ({}, "made elsewhere"),
        ({}, "not analysed"),
        ({"segment_muscles": {"flip": False}}, "mirror image"),
        ({"segment_muscles": {"neighbours_mm": 0}}, "adjacent slices"),
        ({"segment_muscles": {"flip": False, "neighbours_mm": 0}}, "Predictions were averaged"),
        ({"segment_muscles": {"keep_largest": False}}, "regions apart from the main one"),
        ({"segment_muscles": {"fill_holes": False}}, "holes were filled"),
        ({"formula": "y ~ muscle:cr(age_decades, df=3)"}, "straight line"),
        ({"formula": "y ~ sex + side"}, "Age entered"),
        ({"formula": "y ~ Q('sex at birth')"}, "with sex"),
        ({}, "vertebral level was modelled"),
        ({}, "fat fraction (logit"),  # of STIR images, for example
        ({}, "excluded"),
        ({}, "interpolated"),
        ({"level_sources": ["axial"]}, "evel of each slice"),
        ({}, "adjusted model"),
        ({"fitted": "adjusted", "formula": "y ~ 0 + muscle + muscle:sex"}, "adjusted model"),
        ({}, "inverse-probability"),
        ({"weights": WEIGHTS}, "not weighted"),
        ({"curve": curve_of(failed=[CHOICES])}, "specification curve"),
        ({"intervals": False}, "bootstrap"),
        ({"given": 22}, "U-Net"),
        ({"given": 22}, "Predictions were averaged"),
        ({"level": "L4", "level_sources": ["axial"], "level_note": "At L4, where all"}, "At L4"),
        (BY_LEVEL | {"formula": "y ~ 0 + muscle + muscle:level"}, "men and women"),
    ],
)
def test_the_paragraph_leaves_out_what_the_run_did_not_do(given, unsaid):
    assert unsaid not in text_of(**given)


def test_the_measures_of_the_fitted_models_are_named():
    settings = yaml.safe_load(SETTINGS.read_text())
    columns = [o.column for o in MODEL_OUTCOMES]
    fitted = pd.DataFrame({"outcome": columns, "formula": "y ~ sex", "n_subjects": 9})
    text = " ".join(_models(settings, fitted.assign(model="m", note=None), suppressed=False))
    for told in (
        "Area, volume (identity link) and fat fraction (logit link) were compared by marginal",
        " Area and fat fraction at L3/4, interpolated between slices, were compared likewise.",
        " Area and fat fraction at each vertebral level were modelled, too, with",
    ):
        assert told in f" {text}"
    of_dark_fat = fitted[~fitted["outcome"].str.contains("fat")].assign(model="m", note=None)
    text = " ".join(_models(settings, of_dark_fat, suppressed=False))
    assert text.startswith("Area, volume (identity link) were compared")
    assert "fat fraction" not in text


def test_faults_of_masks_and_images_are_told_as_such():
    told = text_of(reasons=["unreadable-header", "no-dicom", "no-dicom"])
    assert (
        "3 subjects were not analysed because their images or masks could not be used"
        " (no-dicom 2, unreadable-header 1)." in told
    )
