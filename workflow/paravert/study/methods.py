"""The methods of a study in words, from its configuration, its run and its models."""

from collections.abc import Mapping

import pandas as pd

from paravert.study.inference import ADJUSTED, AGE_QUANTILES, SEX_AND_AGE, SPLINE_DF
from paravert.study.marginal_model import SMALL_SAMPLE_SUBJECTS
from paravert.tables import FAT_METHODS, NETWORK


def methods_paragraph(
    configuration: Mapping,
    run: Mapping[str, str],
    ledger: pd.DataFrame,
    subjects: pd.DataFrame,
    models: pd.DataFrame,
) -> list[str]:
    """Return the sentences of a methods section that describes this run.

    configuration: the resolved settings. run: metadata of the cohort tables (software_version,
    run_id). ledger, subjects: the cohort's tables. models: the table of fit_models.
    """
    return [
        *_images(configuration, run, ledger),
        *_labels(configuration, subjects),
        *_measures(configuration),
        *_models(configuration, models),
    ]


def _images(configuration: Mapping, run: Mapping[str, str], ledger: pd.DataFrame) -> list[str]:
    quarantined = ledger.loc[ledger["status"] == "quarantined", "reason"].value_counts()
    reasons = ", ".join(f"{reason} {count}" for reason, count in quarantined.items())
    return [
        f"Axial lumbar MRI of {len(ledger)} subjects were processed with paravert"
        f" {run.get('software_version') or 'of unknown version'}.",
        f"{quarantined.sum()} subjects were not analysed because their images were faulty"
        f"{f' ({reasons})' if reasons else ''}.",
    ]


def _labels(configuration: Mapping, subjects: pd.DataFrame) -> list[str]:
    segmentation, model = configuration["segment_muscles"], configuration["model"]
    sentences = [
        "Psoas major, quadratus lumborum, erector spinae and multifidus were segmented on both sides,"
        f" slice by slice, by a 2-D U-Net (model SHA-256 {model['sha256'][:12]})."
    ]
    if given := int((subjects["labels_source"] != NETWORK).sum()):
        sentences.append(
            f"In {given} subjects label maps made elsewhere were used instead, in part or all."
        )
    averaged = ["its mirror image"] * segmentation["flip"]
    if segmentation["neighbours_mm"]:
        sd = f"{segmentation['neighbours_mm']:g} mm"
        averaged.append(f"the adjacent slices (Gaussian weights, SD {sd})")
    if averaged:
        sentences.append(f"Predictions were averaged over the slice, {' and '.join(averaged)}.")
    cleaned = ["only the largest connected region of a muscle and side was kept"]
    cleaned = (
        cleaned * segmentation["keep_largest"] + ["holes were filled"] * segmentation["fill_holes"]
    )
    if cleaned:
        text = " and ".join(cleaned)
        sentences.append(f"{text[0].upper()}{text[1:]}.")
    return sentences


def _measures(configuration: Mapping) -> list[str]:
    method = configuration["gather_cohort"]["fat_fraction"]
    return [
        "The cross-sectional area (CSA) is the number of pixels times their area, averaged over the slices"
        " that show the muscle.",
        f"The fat fraction is that of the method {method}: {FAT_METHODS[method]}."
        " From a single contrast, it is a fat index and not a measured share of fat.",
    ]


def _models(configuration: Mapping, models: pd.DataFrame) -> list[str]:
    fitted = models[
        models["model"].isin([SEX_AND_AGE.name, ADJUSTED.name]) & models["estimate"].notna()
    ]
    if fitted.empty:
        return ["No model was fitted."]
    few = (fitted["n_subjects"] < SMALL_SAMPLE_SUBJECTS).any()
    errors = (
        "Mancl and DeRouen's small-sample covariance and t intervals"
        if few
        else "the cluster-robust sandwich covariance and normal intervals"
    )
    curved = fitted["formula"].str.contains("cr(", regex=False).any()
    age = (
        f"a natural cubic spline with {SPLINE_DF} degrees of freedom"
        if curved
        else "a straight line"
    )
    numbers = [f"{percent:.0%}" for percent in AGE_QUANTILES]
    samples = configuration["write_tables"]["bootstrap_samples"]
    return [
        "Area, volume (identity link) and fat fraction (logit link) were compared by marginal models"
        " (generalised estimating equations, independent working correlation, clustered by subject) with"
        " sex, age and side per muscle.",
        f"Errors are from {errors}.",
        f"Age entered as {age}; its effect is the mean change per decade between the {numbers[0]} and"
        f" {numbers[1]} quantiles.",
        f"The models include {_range(fitted['n_subjects'])} subjects with complete data.",
        "p values of planned comparisons were corrected by Holm's method within each family.",
        f"Intervals of medians and of rank correlations are from {samples} bootstrap samples of subjects"
        f" (seed {configuration['seed']}).",
    ]


def _range(counts: pd.Series) -> str:
    return " to ".join(dict.fromkeys(f"{end:.0f}" for end in (counts.min(), counts.max())))
