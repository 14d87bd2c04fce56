"""Models of the study: area, volume and fat fraction per muscle, by sex, age and side.

The questions are planned: each contrast belongs to a family, within which p values are corrected.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from statsmodels.stats.multitest import multipletests

from paravert.anatomy import MUSCLES, SIDES, level_number
from paravert.study.covariates import (
    LEAST_OF_CATEGORY,
    SCALES,
    SEX_WORDS,
    SPLINE_DF,
    column_of,
    independent_covariates,
    varying_covariates,
    with_model_covariates,
    without_small_categories,
)
from paravert.study.marginal_model import (
    COVARIANCE,
    ESTIMATOR,
    IDENTITY,
    LOGIT,
    QUOTED,
    Estimate,
    MarginalFit,
    NotFitted,
    fit_marginal,
    name_and_rest,
)
from paravert.study.result_tables import NO_FAMILY
from paravert.study.scans import scan_keys
from paravert.study.standard_level import too_few_at_level
from paravert.study.summary import counted

FAT = "fat_fraction"
CSA = "csa_mean_mm2"
TERM = re.compile(r"(?:muscle\[(\w+)\])?:?(.*)")  # name of a coefficient by patsy
LEVEL_PART = re.compile(r"(sex\[T\.M\]:)?level\[T\.(.+)\]")
ADJUSTED_AGES_YEARS = (30, 50, 70)
SPLINE_SUBJECTS = 100  # from here on age is a natural cubic spline
AGE_QUANTILES = (0.1, 0.9)  # the change per decade is the mean change between these ages
FATTY, LEAN = ("multifidus", "erector_spinae"), ("psoas_major", "quadratus_lumborum")
MODEL_COLUMNS = (
    "outcome", "model", "term", "kind", "label", "estimate", "unit", "standard_error", "low_95", "high_95",
    "df", "p_value", "family", "n_subjects", "n_sex", "n_category", "n_reference", "n_rows", "estimator", "link",
    "covariance", "formula", "note",
)  # fmt: skip
CONTRAST_COLUMNS = (
    "family", "outcome", "model", "muscle", "label", "estimate", "unit", "standard_error", "low_95", "high_95",
    "df", "p_value", "p_holm", "tests_in_family", "n_subjects", "n_sex", "n_rows", "estimator", "link", "covariance",
    "note",
)  # fmt: skip
MEAN_COLUMNS = (
    "outcome", "model", "muscle", "sex", "age_years", "estimate", "unit", "low_95", "high_95", "df",
    "family", "n_subjects", "n_sex", "n_rows", "estimator", "link", "covariance", "note",
)  # fmt: skip


@dataclass(frozen=True)
class ModelOutcome:
    """The outcome of a model: a column of the cohort table `muscles`, or of `models.level_data`.

    column: its name. unit: such as "mm2", "1" for fractions. link: of the model, IDENTITY ("identity";
    areas, volumes) or LOGIT ("logit"; fractions). by_level: whether the data have a row per vertebral
    level; the level is then a term of the model.
    """

    column: str
    unit: str
    link: str
    by_level: bool = False


OUTCOMES = (
    ModelOutcome(CSA, "mm2", IDENTITY),
    ModelOutcome("volume_ml", "ml", IDENTITY),
    ModelOutcome(FAT, "1", LOGIT),
)


LEVEL_OUTCOMES = (
    ModelOutcome("csa_at_level_mm2", "mm2", IDENTITY),
    ModelOutcome("fat_fraction_at_level", "1", LOGIT),
)
BY_LEVEL_OUTCOMES = (
    ModelOutcome("csa_by_level_mm2", "mm2", IDENTITY, by_level=True),
    ModelOutcome("fat_fraction_by_level", "1", LOGIT, by_level=True),
)
# {outcome over all slices: outcome by level}
BY_LEVEL = dict(zip((CSA, FAT), (one.column for one in BY_LEVEL_OUTCOMES), strict=True))


@dataclass(frozen=True)
class StudyModel:
    """A regression model of the study.

    name: its value in the column model of the tables. covariates: "sex", "age_decades",
    "height_10cm", "weight_10kg" (the latter three per decade, 10 cm, 10 kg), or other columns from
    `models.model_data`. Muscle and side enter every model in which they vary.
    """

    name: str
    covariates: tuple[str, ...]


SEX_AND_AGE = StudyModel("sex and age", ("sex", "age_decades"))
ADJUSTED = StudyModel(
    "adjusted",
    (
        *(*SEX_AND_AGE.covariates, "height_10cm", "weight_10kg"),
        *("site", "manufacturer", "field_strength"),
    ),
)


@dataclass(frozen=True)
class Family:
    """A planned question of the study: a family of contrasts whose p values are corrected together.

    name: its value in the column family of the tables. Its text before a comma chooses the comparison in
    `FittedModel.contrasts`: "sex" (men and women), "age", "side" or "muscles" (back muscles, and psoas
    major with quadratus lumborum); another text raises ValueError there. outcomes: values of
    `ModelOutcome.column`. Correction: Holm 1979.
    """

    name: str
    outcomes: tuple[str, ...]


FAMILIES = (
    Family("sex, area", (CSA,)),
    Family("sex, fat", (FAT,)),
    Family("age", (CSA, FAT)),
    Family("muscles, fat", (FAT,)),
    Family("side", (CSA, FAT)),
    Family("sex, area at a level", (LEVEL_OUTCOMES[0].column,)),
    Family("sex, fat at a level", (LEVEL_OUTCOMES[1].column,)),
    Family("sex, area by level", (BY_LEVEL_OUTCOMES[0].column,)),
    Family("sex, fat by level", (BY_LEVEL_OUTCOMES[1].column,)),
)


# --- a model and what is asked of it -------------------------------------------------------------


@dataclass(frozen=True)
class FittedModel:
    """A model of the study fitted to one outcome.

    model, outcome: what was fitted. data: rows of the fit, one per scan, muscle and side (and level),
    with a column per covariate of the model, numbers centred and scaled
    (`covariates.with_model_covariates`); if too few subjects have the level of the outcome, the rows
    with the outcome, without these columns. fit: coefficients and covariance; None if it could not be
    fitted. note: why not, and what was left out; "" if neither.
    """

    model: StudyModel
    outcome: ModelOutcome
    data: pd.DataFrame
    fit: MarginalFit | None
    note: str

    def noted(self, text: str) -> "FittedModel":
        """Return a copy with a text added to its note, after "; "; an empty text adds nothing."""
        return replace(self, note="; ".join(filter(None, [self.note, text])))

    def terms(self) -> list[dict]:
        """Return the coefficients of the model, one dict per coefficient, with keys of MODEL_COLUMNS.

        Among these: outcome, model, term (name by patsy), label (in words), estimate, standard_error,
        low_95, high_95 (on the scale of the link: unit of the outcome, or log odds), p_value (NaN for
        intercepts and splines), n_subjects, n_sex (for an intercept the subjects of the sex whose mean
        it is, for a difference of the sexes those of the smaller one; other terms lack this key),
        n_category and n_reference (subjects of a category of a covariate other than sex, and of its
        reference; other terms lack these keys), n_rows, note. n_subjects and n_rows are of the model,
        n_sex, n_category and n_reference of the term's muscle. A model that was not fitted has one dict
        with outcome, model, family and note only.
        """
        if self.fit is None:
            return [self._common() | {"note": f"not fitted: {self.note}"}]
        rows, first = [], SEX_WORDS["M" if self._sexes() == ["M"] else "F"]
        for index, term in enumerate(self.fit.terms):
            found = self.fit.estimate(np.eye(len(self.fit.terms))[index])
            muscle, what = TERM.fullmatch(term).groups()
            mean, difference = what in ("", "Intercept"), what.startswith("sex[")
            sexes = self._sexes()[: 1 + difference]
            rows.append(
                self._common()
                | ({"n_sex": self._fewest(muscle, sexes)} if mean or difference else {})
                | self._of_category(muscle, what)
                | {
                    "term": term,
                    "kind": "fixed",
                    "label": term_label(term, first)
                    + self._at_first_level(term)
                    + self._against(term),
                    "estimate": found.value,
                    "unit": self._link_unit(term),
                    "standard_error": found.standard_error,
                    "low_95": found.low_95,
                    "high_95": found.high_95,
                    "df": found.df,
                    "p_value": np.nan if mean or what.startswith("cr(") else found.p_value,
                    "formula": self.fit.formula,
                    "note": self.note,
                }
            )
        return rows

    def contrasts(self, families: Sequence[Family] = FAMILIES) -> list[dict]:
        """Return the planned comparisons of this outcome, one dict each with keys of CONTRAST_COLUMNS.

        Among these: family (the planned question), outcome, model, muscle, label (in words), estimate,
        unit, low_95, high_95 (areas and volumes in their unit, fat fractions as odds ratio),
        standard_error (of odds ratios that of the logarithm), p_value, n_subjects, n_sex (subjects of
        the smaller sex, where both are compared), note. p_holm and tests_in_family are missing;
        `corrected` adds them. families: planned questions; those without this outcome are skipped. A
        comparison that is impossible has a note and lacks the keys muscle, label and those of the
        estimate. muscle is "" where groups of muscles are compared. A model that was not fitted has one
        dict per family with outcome, model, family and note only.
        """
        rows = []
        for family in families:
            if self.outcome.column not in family.outcomes:
                continue
            common = self._common() | {"family": family.name}
            if self.fit is None:
                rows.append(common | {"note": f"not fitted: {self.note}"})
                continue
            rows += [common | row for row in self._contrasts_of(family.name)]
        return rows

    def adjusted_means(self) -> list[dict]:
        """Return the mean of the outcome per muscle, sex and age, adjusted for the other covariates.

        One dict per muscle, sex and age of 30, 50 and 70 years, with the keys MEAN_COLUMNS; among these
        estimate, low_95 and high_95 (95 % interval), in the unit of the outcome (fractions 0-1), and
        n_sex (subjects of this sex). Other covariates are averaged over the subjects, on the scale of
        the link. Ages beyond those of the subjects have a note in place of estimate and interval. Empty
        if the model was not fitted. Raises KeyError for a model without age_decades.
        """
        if self.fit is None:
            return []
        low, high = self._age_range()
        rows = []
        for muscle in self._muscles():
            for sex in self._sexes():
                for age in ADJUSTED_AGES_YEARS:
                    row = self._common() | {
                        "muscle": muscle,
                        "sex": sex,
                        "age_years": age,
                        "unit": self.outcome.unit,
                        "n_sex": self._fewest(muscle, [sex]),
                    }
                    if not low <= age <= high:
                        row["note"] = f"outside the ages of the subjects, {low:g} to {high:g} years"
                    else:
                        weights = self.fit.mean_weights(
                            muscle=muscle, sex=sex, age_decades=self._decades(age)
                        )
                        found = self.fit.estimate(weights)
                        ends = (
                            ("estimate", found.value),
                            ("low_95", found.low_95),
                            ("high_95", found.high_95),
                        )
                        row |= {name: self.fit.response(value) for name, value in ends}
                        row["df"] = found.df
                    rows.append(row)
        return rows

    def _contrasts_of(self, family: str) -> Iterator[dict]:
        match family.partition(",")[0]:
            case "sex":
                return self._sex_contrasts()
            case "age":
                return self._age_contrasts()
            case "side":
                return self._side_contrasts()
            case "muscles":
                return self._muscle_contrast()
            case other:
                raise ValueError(f"no comparison of {other!r}")

    def _sex_contrasts(self) -> Iterator[dict]:
        if self._sexes() != ["F", "M"]:
            yield {"note": f"only {SEX_WORDS[self._sexes()[0]]} in the data"}
            return
        mean = self.fit.mean_weights
        for muscle in self._muscles():
            weights = mean(muscle=muscle, sex="M") - mean(muscle=muscle, sex="F")
            label = (
                f"men {self._compared()} women, {_words(muscle)}{self._mean_over_levels(muscle)}"
            )
            yield self._contrast(weights, label, muscle) | {
                "n_sex": self._fewest(muscle, self._sexes())
            }

    def _age_contrasts(self) -> Iterator[dict]:
        if "age_decades" not in self.model.covariates:
            yield {"note": "the model has no age"}
            return
        low, high = np.quantile(self._ages(), AGE_QUANTILES)
        if not high > low:
            who = "all" if self._ages().nunique() < 2 else "most"
            yield {"note": f"{who} subjects have the same age"}
            return
        for muscle in self._muscles():
            old, young = (
                self.fit.mean_weights(muscle=muscle, age_decades=self._decades(age))
                for age in (high, low)
            )
            label = f"per decade of age, {_words(muscle)}"
            yield self._contrast((old - young) * 10 / (high - low), label, muscle, per="decade")

    def _side_contrasts(self) -> Iterator[dict]:
        if self.data["side"].nunique() < len(SIDES):
            yield {"note": "one side in the data"}
            return
        mean = self.fit.mean_weights
        for muscle in self._muscles():
            weights = mean(muscle=muscle, side="left") - mean(muscle=muscle, side="right")
            yield self._contrast(
                weights, f"left {self._compared()} right, {_words(muscle)}", muscle
            )

    def _muscle_contrast(self) -> Iterator[dict]:
        if len(self._muscles()) < len(MUSCLES):
            yield {"note": "not all muscles in the data"}
            return
        back, lean = (
            np.mean([self.fit.mean_weights(muscle=muscle) for muscle in group], axis=0)
            for group in (FATTY, LEAN)
        )
        yield self._contrast(back - lean, "back muscles against psoas major and quadratus lumborum")

    def _compared(self) -> str:
        """Return the word between two groups: of an odds ratio, or of a difference."""
        return "against" if self.outcome.link == LOGIT else "minus"

    def _contrast(self, weights: np.ndarray, label: str, muscle: str = "", per: str = "") -> dict:
        found = self.fit.estimate(weights)
        shown = self.difference(found)
        return shown | {
            "muscle": muscle,
            "label": label,
            "unit": f"{shown['unit']} per {per}" if per else shown["unit"],
            "standard_error": found.standard_error,
            "p_value": found.p_value,
            "note": self.note,
        }

    def difference(self, found: Estimate) -> dict:
        """Return a difference of two means as it is reported: {estimate, low_95, high_95, df, unit}.

        found: the difference on the link's scale, from `MarginalFit.estimate`. For areas and volumes
        it stays in their unit; for a fat fraction, the difference of log odds becomes an odds ratio.
        """
        ratio = self.outcome.link == LOGIT
        ends = {"estimate": found.value, "low_95": found.low_95, "high_95": found.high_95}
        shown = {name: float(np.exp(end)) if ratio else end for name, end in ends.items()}
        return shown | {"df": found.df, "unit": "odds ratio" if ratio else self.outcome.unit}

    def basis(self) -> dict:
        """Return what the estimates are based on: {estimator, link, covariance, n_subjects, n_rows}.

        Raises AttributeError if the model was not fitted.
        """
        return {
            "estimator": ESTIMATOR,
            "link": self.fit.link,
            "covariance": COVARIANCE,
            "n_subjects": self.fit.n_subjects,
            "n_rows": self.fit.n_rows,
        }

    def category_subjects(self, muscle: str | None, factor: str) -> dict[str, int]:
        """Return the number of subjects of each category of a covariate, {category: subjects}.

        muscle: counted are subjects with this muscle; None: with any. factor: name of the covariate.
        """
        own = self.data if muscle is None else self.data[self.data["muscle"] == muscle]
        return own.drop_duplicates(["subject", factor])[factor].value_counts().to_dict()

    def _of_category(self, muscle: str | None, what: str) -> dict[str, int]:
        """Return n_category and n_reference of a coefficient of a category other than the sex; {} of others."""
        name, rest = name_and_rest(what)
        if name == "sex" or name not in self.model.covariates or name not in self.fit.categories:
            return {}
        sizes = self.category_subjects(muscle, name)
        category = rest.removeprefix("[T.").removesuffix("]")
        reference = self.fit.categories[name][0]
        return {"n_category": sizes[category], "n_reference": sizes[reference]}

    def _common(self) -> dict:
        common = {"outcome": self.outcome.column, "model": self.model.name, "note": self.note}
        return common | {"family": NO_FAMILY} | (self.basis() if self.fit else {})

    def _link_unit(self, term: str) -> str:
        unit = "log odds" if self.outcome.link == LOGIT else self.outcome.unit
        name = TERM.fullmatch(term)[2]
        if name in SCALES:
            return f"{unit} per {SCALES[name][2]}"
        is_number = name not in ("", "Intercept") and not name.endswith("]")  # of a category
        return f"{unit} per 1" if is_number else unit

    def _levels(self, muscle: str) -> list[str]:
        """Return the levels of a muscle in the model, from cranial to caudal; empty without levels."""
        of_muscle = self.fit.within[muscle]
        return sorted(set(of_muscle.get("level", ())), key=level_number)

    def _mean_over_levels(self, muscle: str) -> str:
        levels = self._levels(muscle)
        if len(levels) < 2:
            return f", {levels[0]}" if levels else ""
        return f", mean over {levels[0]} to {levels[-1]}"

    def _at_first_level(self, term: str) -> str:
        """Return at which level a coefficient compares women, or the sexes; "" if at none."""
        muscle, what = TERM.fullmatch(term).groups()
        levels = self._levels(muscle) if muscle else []
        compared = what in ("", "Intercept", "sex[T.M]")
        return f", at {levels[0]}" if levels and compared else ""

    def _against(self, term: str) -> str:
        """Return with which category a coefficient of another one is compared; "" if it is no such."""
        name, _ = name_and_rest(TERM.fullmatch(term)[2])
        if name == "sex" or name not in self.model.covariates:
            return ""
        return "".join(f", against {first}" for first in self.fit.categories.get(name, [])[:1])

    def _muscles(self) -> list[str]:
        return list(self.data["muscle"].cat.categories)

    def _sexes(self) -> list[str]:
        return list(self.data["sex"].cat.categories)

    def _fewest(self, muscle: str | None, sexes: Sequence[str]) -> int:
        """Return the number of subjects with a muscle (None: any) of the rarer of the sexes."""
        own = self.data if muscle is None else self.data[self.data["muscle"] == muscle]
        counts = own.groupby("sex", observed=True)["subject"].nunique()
        return int(counts[counts.index.isin(sexes)].min())

    def _ages(self) -> pd.Series:
        return self.data.drop_duplicates("subject")["age_years"]

    def _age_range(self) -> tuple[float, float]:
        return self._ages().min(), self._ages().max()

    def _decades(self, age_years: float) -> float:
        one = self.data.iloc[0]  # ages were centred before levels that few have were left out
        return one["age_decades"] + (age_years - one["age_years"]) / SCALES["age_decades"][1]


def fit_model(
    model: StudyModel,
    outcome: ModelOutcome,
    data: pd.DataFrame,
    weights: pd.Series | None = None,
) -> FittedModel:
    """Fit a regression model of the study to one outcome; return it with a note on what was left out.

    data: table of muscles with covariates, from `models.model_data`, one row per scan, muscle and side.
    weights: one per subject of data, indexed by it; None: all 1. Left out are covariates (but not sex
    and age) that are unknown for all, do not vary or are determined by others; rows in which the
    outcome, or another covariate of the model, is unknown; subjects of categories too small to be
    pooled (`covariates.without_small_categories`); muscles whose outcome does not vary; and muscles
    whose regression cannot be fitted, unless that is so for the others, too. From SPLINE_SUBJECTS (100)
    on age is a spline, unless it has at most SPLINE_DF + 1 (4) different values. An outcome at a level
    (LEVEL_OUTCOMES) is fitted only if enough subjects have it (`too_few_at_level`), because scans cover
    different ranges. An outcome by level (BY_LEVEL_OUTCOMES) has a row per level, too, in the column
    level; a level is left out of a muscle where fewer than LEAST_OF_CATEGORY (5) women or men have it.
    The fit of the result is None if the model cannot be fitted.
    """
    rows = data.dropna(subset=[outcome.column])
    at_level = outcome in LEVEL_OUTCOMES
    if at_level and (
        note := too_few_at_level(rows["subject"].nunique(), data["subject"].nunique())
    ):
        return FittedModel(model, outcome, rows, None, note)
    covariates, notes = varying_covariates(rows, model.covariates, SEX_AND_AGE.covariates)
    columns = [column_of(name) for name in covariates]
    known = rows.dropna(subset=columns)
    notes += _left_out(rows, known, f"{' or '.join(columns)} unknown")
    notes += _left_out(data, rows, f"no {outcome.column}")
    spread = known.groupby("muscle", observed=True)[outcome.column].nunique()
    notes += [f"{_words(name)} left out: no variation" for name in spread.index[spread < 2]]
    known = known[known["muscle"].isin(spread.index[spread > 1])]
    known, left_out = without_small_categories(known, covariates)
    notes += left_out
    known = with_model_covariates(known, covariates)
    covariates, left_out = independent_covariates(known, covariates, SEX_AND_AGE.covariates)
    notes += left_out
    if outcome.by_level:
        known, left_out = _with_common_levels(known)
        notes += left_out
    enough = known["subject"].nunique() >= SPLINE_SUBJECTS
    curved = enough and known["age_years"].nunique() > SPLINE_DF + 1
    splines = {"age_decades": SPLINE_DF} if curved else {}
    try:
        fit = fit_marginal(
            outcome.column, known, covariates, outcome.link, splines, weights, outcome.by_level
        )
    except NotFitted as reason:
        if reason.muscle and known["muscle"].nunique() > 1:
            rest = fit_model(model, outcome, data[data["muscle"] != reason.muscle], weights)
            if rest.fit is not None:
                return rest.noted(f"{_words(reason.muscle)} left out: {reason}")
        return FittedModel(model, outcome, known, None, "; ".join([str(reason), *notes]))
    return FittedModel(model, outcome, known, fit, "; ".join(notes))


def _left_out(rows: pd.DataFrame, kept: pd.DataFrame, why: str) -> list[str]:
    """Return texts that count the subjects of whom no scan is kept, and those of whom some are not."""
    scans, left = (
        part.drop_duplicates(scan_keys(part))["subject"].value_counts() for part in (rows, kept)
    )
    counts = {"": len(scans) - len(left), "some scans of ": int((left < scans[left.index]).sum())}
    return [f"{of}{counted(n, 'subject')} left out, {why}" for of, n in counts.items() if n]


def _with_common_levels(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows of the levels that enough subjects of each sex have, and a note on the others."""
    keys, sexes = ["muscle", "level"], rows["sex"].nunique()
    of_sex = rows.drop_duplicates([*keys, "sex", "subject"]).groupby([*keys, "sex"], observed=True)
    counts = of_sex.size().groupby(level=keys, observed=True)
    enough = (counts.min() >= LEAST_OF_CATEGORY) & (counts.size() == sexes)
    if enough.all():
        return rows, []
    rare = [f"{_words(muscle)} {level}" for muscle, level in enough.index[~enough]]
    rare = rare if enough.any() else ["all levels"]
    why = f"fewer than {LEAST_OF_CATEGORY} women or men have these levels"
    kept = pd.MultiIndex.from_frame(rows[keys]).isin(enough.index[enough])
    rows = rows[kept]
    factors = rows.select_dtypes("category")
    rows = rows.assign(**{name: factors[name].cat.remove_unused_categories() for name in factors})
    return rows, [f"{', '.join(rare)} left out: {why}"]


def corrected(contrasts: list[dict]) -> list[dict]:
    """Return comparisons with p values corrected for multiple tests, in the order of FAMILIES.

    contrasts: dicts with keys of CONTRAST_COLUMNS, from `FittedModel.contrasts` of all outcomes of one
    model, or from `claims.size_and_overlap`; equal names of families are one family. Returns dicts with
    all these keys, NaN where unknown; families that are not in FAMILIES come last. Added: p_holm, the p
    value corrected for all tests of its family (Holm 1979), NaN without p value; tests_in_family, their
    number.
    """
    frame = pd.DataFrame(contrasts, columns=list(CONTRAST_COLUMNS))
    for _, family in frame.groupby("family"):
        tested = family["p_value"].dropna()
        frame.loc[family.index, "tests_in_family"] = len(tested)
        if len(tested):
            frame.loc[tested.index, "p_holm"] = multipletests(
                tested.to_numpy(float), method="holm"
            )[1]
    order = {family.name: place for place, family in enumerate(FAMILIES)}
    return frame.sort_values("family", key=lambda names: names.map(order), kind="stable").to_dict(
        "records"
    )


# --- words ---------------------------------------------------------------------------------------


def term_label(term: str, reference: str = SEX_WORDS["F"]) -> str:
    """Return a coefficient's name by patsy in words, such as "men minus women, psoas major".

    term: such as "muscle[psoas_major]:sex[T.M]". reference: the sex whose mean the model has,
    "women", or "men" in a study without women.
    """
    muscle, what = TERM.fullmatch(term).groups()
    told = _part(what, reference)
    return f"{told}, {_words(muscle)}" if muscle else told


def _part(part: str, reference: str) -> str:
    by_level = LEVEL_PART.fullmatch(part)
    if by_level:
        who = "men minus women" if by_level[1] else reference
        return f"{who}, {by_level[2]} against the first level"
    if part in SCALES:
        return f"{SCALES[part][0].rpartition('_')[0]}, per {SCALES[part][2]}"
    if part in ("", "Intercept"):
        return f"mean of {reference}, left, at the mean of the covariates"
    if part.startswith("cr("):
        return f"age, spline {part.rpartition('[')[2].removesuffix(']')}"
    name, rest = name_and_rest(part)
    name, level = name if QUOTED.match(part) else _words(name), rest[len("[T.") : -1]
    named = {"sex": "men minus women", "side": "right minus left"}
    return named.get(name, f"{name} {level}" if level else f"{name}, per 1")


def _words(name: str) -> str:
    return name.replace("_", " ")
