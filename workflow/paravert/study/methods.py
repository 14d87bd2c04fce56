"""The methods of a study in words, from its configuration, its run and its models."""

from collections.abc import Collection, Iterable, Mapping, Sequence

import pandas as pd
from patsy import ModelDesc

from paravert.study.cohort import EXCLUDED
from paravert.study.covariates import SCALES, SPLINE_DF
from paravert.study.inference import (
    ADJUSTED,
    AGE_QUANTILES,
    BY_LEVEL_OUTCOMES,
    CSA,
    LEVEL_OUTCOMES,
    OUTCOMES,
    SEX_AND_AGE,
    ModelOutcome,
)
from paravert.study.level_areas import NEAREST_MM, REACH_MM
from paravert.study.marginal_model import IDENTITY, LOGIT, name_and_rest
from paravert.study.result_tables import NOT_SHOWN, is_suppressed
from paravert.study.selection import TRUNCATED_PERCENT, told_first
from paravert.study.specifications import ALL_SECTIONS, UNFLAGGED
from paravert.study.standard_level import SCANS_COVER
from paravert.study.summary import capitalised, counted, counted_range
from paravert.tables import ALL_FAT_METHODS, DIXON, HEADLINES, LEVEL_SOURCES, NETWORK, SHEET

MODEL_OUTCOMES = (*OUTCOMES, *LEVEL_OUTCOMES, *BY_LEVEL_OUTCOMES)
GIVEN = "corrected by hand or made elsewhere"  # the tables do not tell which
# Names by the first word of an outcome's column.
MEASURE_WORDS = {"csa": "area", "volume": "volume", "fat": "fat fraction"}


def methods_paragraph(
    configuration: Mapping,
    run: Mapping[str, str],
    ledger: pd.DataFrame,
    subjects: pd.DataFrame,
    models: pd.DataFrame,
    weighted: pd.DataFrame,
    curve: pd.DataFrame,
    table1: pd.DataFrame,
    level: str = "",
    level_sources: Collection[str] = (),
    level_note: str = "",
) -> list[str]:
    """Return the sentences of a methods section for a publication, which describe this run.

    configuration: the resolved settings, {section: {setting: value}}, as in the run's
    configuration.yaml. run: metadata of the cohort tables, of which software_version is used. ledger
    (one row per scan of the sheet), subjects: cohort tables. models, weighted, curve: the tables
    models, weighted_contrasts and specification_curve of fit_models. table1: the table table1_iou of
    write_tables. level: name of the standard level, if scans are compared there; otherwise "".
    level_sources: keys of tables.LEVEL_SOURCES that levels of slices come from. level_note:
    `StandardLevel.note`, told if scans are not compared at the standard level.
    """
    fitted = models[
        models["model"].isin([SEX_AND_AGE.name, ADJUSTED.name]) & models["estimate"].notna()
    ]
    return [
        *_images(configuration, run, ledger),
        *_labels(configuration, subjects),
        *_measures(configuration, subjects),
        *_levels(level, level_sources, level_note, fitted),
        *_models(configuration, fitted, is_suppressed(models)),
        *_specifications(configuration, curve),
        *_weights(weighted),
        *_resampled(configuration, table1),
    ]


def _images(configuration: Mapping, run: Mapping[str, str], ledger: pd.DataFrame) -> list[str]:
    quarantined = ledger.loc[ledger["status"] == "quarantined", "reason"].value_counts()
    reasons = ", ".join(f"{reason} {count}" for reason, count in quarantined.items())
    unit, cohort = "subject", counted(len(ledger), "subject")
    if "visit" in ledger:
        unit = "scan"
        cohort = (
            f"{counted(ledger['subject'].nunique(), 'subject')} ({counted(len(ledger), 'scan')})"
        )
    sentences = [
        f"Axial lumbar MRI of {cohort} was processed with paravert"
        f" {run.get('software_version') or 'of unknown version'}."
    ]
    if faulty := int(quarantined.sum()):
        sentences.append(
            f"{_were(faulty, unit)} not analysed because their images or masks could not be used ({reasons})."
        )
    if excluded := int((ledger["status"] == EXCLUDED).sum()):
        sentences.append(f"{_were(excluded, unit)} excluded after review by eye.")
    return sentences


def _were(number: int, what: str) -> str:
    return f"{counted(number, what)} {'was' if number == 1 else 'were'}"


def _labels(configuration: Mapping, subjects: pd.DataFrame) -> list[str]:
    segmentation, model = configuration["segment_muscles"], configuration["model"]
    if len(subjects) and (subjects["labels_source"] == SHEET).all():
        return [
            "Label maps of psoas major, quadratus lumborum, erector spinae and multifidus, or of some of them,"
            f" were {GIVEN} in {'all ' * (len(subjects) > 1)}{counted(len(subjects), _unit(subjects))}."
        ]
    sentences = [
        "Psoas major, quadratus lumborum, erector spinae and multifidus were segmented on both sides,"
        f" slice by slice, by a 2-D U-Net (model SHA-256 {model['sha256'][:12]})."
    ]
    if given := int((subjects["labels_source"] != NETWORK).sum()):
        sentences.append(
            f"In {counted(given, _unit(subjects))} label maps {GIVEN} were used instead, in part or all."
        )
    averaged = ["its mirror image"] * segmentation["flip"]
    if segmentation["neighbours_mm"]:
        sd = f"{segmentation['neighbours_mm']:g} mm"
        averaged.append(f"the adjacent slices (Gaussian weights, SD {sd})")
    if averaged:
        sentences.append(f"Predictions were averaged over the slice, {' and '.join(averaged)}.")
    cleaned = ["regions apart from the main one of a muscle and side were removed"]
    cleaned = (
        cleaned * segmentation["keep_largest"] + ["holes were filled"] * segmentation["fill_holes"]
    )
    if cleaned:
        sentences.append(f"{_named(cleaned)}.")
    return sentences


def _unit(subjects: pd.DataFrame) -> str:
    """Return what a row of the table of subjects is."""
    return "scan" if "visit" in subjects else "subject"


def _measures(configuration: Mapping, subjects: pd.DataFrame) -> list[str]:
    method = configuration["gather_cohort"]["fat_fraction"]
    unit = _unit(subjects)
    dixon = int((subjects["fat_fraction_method"] == DIXON).sum())
    index = " From a single contrast, it is a fat index and not a measured share of fat."
    of_dixon = (
        f" In {dixon} of {counted(len(subjects), unit)}, {'which' if unit == 'scan' else 'who'} have Dixon"
        f" images, it is the {ALL_FAT_METHODS[DIXON]},"
        " without correction for T1 and T2*."
    )
    return [
        "The cross-sectional area (CSA) is the number of pixels times their area, averaged over the slices"
        " that show the muscle.",
        f"The fat fraction is that of the method {method}: {HEADLINES[method]}."
        f"{index * (dixon < len(subjects))}{of_dixon * bool(dixon)}",
    ]


def _levels(level: str, sources: Collection[str], note: str, fitted: pd.DataFrame) -> list[str]:
    compared = [f"Subjects are compared by {note[0].lower()}{note[1:]}"] if note else []
    if not level and _of_levels(fitted).empty:
        return compared
    told = [told for name, told in LEVEL_SOURCES.items() if name in sources]
    known = (
        "; ".join(told) if len(told) < 2 else f"the first of these that knows it: {'; '.join(told)}"
    )
    source = f"The vertebral level of each slice is from {known}."
    how = (
        f"interpolated linearly between the slices within {REACH_MM:g} mm on both sides, or those of a"
        f" slice within {NEAREST_MM:g} mm"
    )
    if level:
        at_level = f"Areas and fat fractions of subjects are compared at {level}, {how}"
        return [source, f"{at_level}; means over all slices stand beside them."]
    by_level = (
        "For the findings of the paper, men and women are therefore compared by level."
        * _has_sexes(fitted)
    )
    return [
        source,
        f"Areas and fat fractions at a level are {how}.",
        *compared,
        *filter(None, [by_level]),
    ]


def _of_levels(fitted: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of models with a row per vertebral level."""
    return fitted[fitted["outcome"].isin([outcome.column for outcome in BY_LEVEL_OUTCOMES])]


def _factors(fitted: pd.DataFrame) -> list[str]:
    """Return the names, by patsy, of all factors in the formulas of the models."""
    terms = [
        term
        for formula in fitted["formula"].dropna().unique()
        for term in ModelDesc.from_formula(formula).rhs_termlist
    ]
    return list(dict.fromkeys(factor.name() for term in terms for factor in term.factors))


def _is_spline(factor: str) -> bool:
    return factor.startswith("cr(")  # other columns of such a name are quoted


def _has_sexes(fitted: pd.DataFrame) -> bool:
    return "sex" in _factors(fitted)


def _models(configuration: Mapping, fitted: pd.DataFrame, suppressed: bool) -> list[str]:
    if fitted.empty:
        return [f"Models are {NOT_SHOWN}." if suppressed else "No model was fitted."]
    factors = _factors(fitted)
    has_age = "age_decades" in factors or any(map(_is_spline, factors))
    known = {"sex": "sex" in factors, "age": has_age, "side": "side" in factors}
    terms = [name for name, there in known.items() if there]
    links = []
    for link in (IDENTITY, LOGIT):
        if names := _measures_of(fitted, (o for o in MODEL_OUTCOMES if o.link == link)):
            links.append(f"{', '.join(names)} ({link} link)")
    return [
        f"{_named(links)} {_verb(_measures_of(fitted, MODEL_OUTCOMES))} compared by marginal models"
        " (generalised estimating equations, independent working correlation, clustered by subject) with"
        f" {_listed(terms) or 'a mean'} per muscle.",
        *_adjusted(fitted),
        *_by_level(configuration, fitted),
        "Errors are from Mancl and DeRouen's cluster-robust covariance, intervals from t distributions.",
        *[_age(factors)] * has_age,
        f"The models include {counted_range(fitted['n_subjects'], 'subject')} with complete data.",
        "p values of planned comparisons were corrected by Holm's method within each family.",
    ]


def _age(factors: Sequence[str]) -> str:
    """Return the sentence on the term of age."""
    age = "a straight line"
    if any(map(_is_spline, factors)):
        age = f"a natural cubic spline with {SPLINE_DF} degrees of freedom"
    low, high = (f"{percent:.0%}" for percent in AGE_QUANTILES)
    return (
        f"Age entered as {age}; its effect is the mean change per decade between the {low} and"
        f" {high} quantiles."
    )


def _listed(names: Sequence[str]) -> str:
    """Return names as a list in words, such as "sex, age and side"; "" without names."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def _specifications(configuration: Mapping, curve: pd.DataFrame) -> list[str]:
    """Return the sentence on the specification curve, with the choices that could be fitted."""
    known = curve[curve["estimate"].notna()]
    if known.empty:
        return []
    cut = f"sections of predicted IoU {configuration['fit_models']['quality_cut']:g} or more"
    words = {
        "mask": ("erosion_px", {0: "as it is", 1: "eroded by a pixel"}),
        "quality cut": ("quality_cut", {ALL_SECTIONS: "none", UNFLAGGED: UNFLAGGED}),
        "level": ("level_rule", {}),
    }
    choices = []
    for choice, (column, names) in words.items():
        values = known[column].unique()
        told = [
            names.get(v, cut if column == "quality_cut" else str(v).removeprefix("at "))
            for v in values
        ]
        choices.append(f"{choice} ({', '.join(told)})")
    ways = len(known.drop_duplicates(["estimator", *(column for column, _ in words.values())]))
    return [
        "The effects of sex and age on the fat fraction were repeated for every combination of estimator,"
        f" {', '.join(choices[:-1])} and {choices[-1]} that could be fitted, {counted(ways, 'way')}, as a"
        " specification curve."
    ]


def _measures_of(fitted: pd.DataFrame, outcomes: Iterable[ModelOutcome]) -> list[str]:
    """Return the names of the measures whose models were fitted, of these outcomes."""
    known = [outcome.column for outcome in outcomes if (fitted["outcome"] == outcome.column).any()]
    return list(dict.fromkeys(MEASURE_WORDS[column.partition("_")[0]] for column in known))


def _named(names: Sequence[str]) -> str:
    """Return names as the beginning of a sentence, such as "Area and fat fraction"."""
    return capitalised(" and ".join(names))


def _verb(names: Sequence[str]) -> str:
    return "was" if len(names) == 1 else "were"


def _adjusted(fitted: pd.DataFrame) -> list[str]:
    """Return the sentence on what the adjusted model has beside the terms of the other one."""
    common = {"muscle", "side", "level", *SEX_AND_AGE.covariates}
    names = [
        name_and_rest(name)[0]
        for name in _factors(fitted[fitted["model"] == ADJUSTED.name])
        if not _is_spline(name)
    ]
    added = [
        SCALES[name][0].rpartition("_")[0] if name in SCALES else name.replace("_", " ")
        for name in names
        if name not in common
    ]
    return [f"An adjusted model adds {_listed(added)}, per muscle."] if added else []


def _by_level(configuration: Mapping, fitted: pd.DataFrame) -> list[str]:
    sentences = []
    if names := _measures_of(fitted, LEVEL_OUTCOMES):
        told = f"{_named(names)} at {configuration['gather_cohort']['level_standard']}"
        sentences.append(f"{told}, interpolated between slices, {_verb(names)} compared likewise.")
    by_level = _of_levels(fitted)
    if not by_level.empty:
        sample = by_level["note"].str.extract("(random sample of .*? subjects)")[0].dropna()
        whom = f" ({sample.iloc[0]})" if len(sample) else ""
        names = _measures_of(by_level, BY_LEVEL_OUTCOMES)
        sentences.append(
            f"{_named(names)} at each vertebral level {_verb(names)} modelled, too{whom}, with the level, by"
            + (
                " muscle and sex, as a term: differences between the sexes are means over the levels."
                if _has_sexes(fitted)
                else " muscle, as a term."
            )
        )
    return sentences


def _weights(weighted: pd.DataFrame) -> list[str]:
    """Return a sentence per outcome on the weights for missing subjects; weighted: weighted_contrasts."""
    sentences = []
    for row in told_first(weighted).drop_duplicates("outcome").itertuples():
        outcome = "area" if row.outcome == CSA else "fat fraction"
        if pd.isna(row.weighted):
            note = NOT_SHOWN if pd.isna(row.note) else row.note  # blanked for sharing
            why = note.partition(f"; {SCANS_COVER}")[0]
            sentences.append(f"Comparisons of {outcome} were {why}.")
        else:
            low, high = TRUNCATED_PERCENT
            sentences.append(
                f"As a sensitivity analysis, comparisons of {outcome} were repeated with stabilised"
                f" inverse-probability weights for {counted(int(row.n_missing), 'subject')} missing from the model"
                f" (logistic regression on {row.predictors}; weights truncated at percentiles {low} and"
                f" {high}; effective number of subjects {row.effective_n:.0f} of {row.n_subjects:.0f})."
            )
    return sentences


def _resampled(configuration: Mapping, table1: pd.DataFrame) -> list[str]:
    """Return the sentence on intervals of overlap with masks, if there are any; table1: table1_iou."""
    if table1["iou_low_95"].isna().all():
        return []
    samples = configuration["write_tables"]["bootstrap_samples"]
    return [
        f"Intervals of medians are from {samples} bootstrap samples of subjects (seed"
        f" {configuration['seed']}); those of rank correlations are t intervals of Fisher's z with its SD over"
        " such samples."
    ]
