"""The study's tables as text for the report: few columns, rounded, with units."""

import html
import math
from collections.abc import Iterable, Mapping

import pandas as pd
from markupsafe import Markup

from paravert.anatomy import MUSCLES
from paravert.study.data_frames import ALL_SEXES, SEX_UNKNOWN
from paravert.study.published_values import NOT_BY_SEX, matching, read_published
from paravert.study.reliability import MASKS, VISITS
from paravert.study.result_tables import NOT_SHOWN, basis_sentences, is_suppressed
from paravert.study.selection import told_first
from paravert.study.standard_level import ALL_SLICES
from paravert.study.summary import capitalised, counted, counted_range

DASH = "–"
SEX_TITLES = {ALL_SEXES: "All", "F": "Women", "M": "Men", SEX_UNKNOWN: "Sex unknown"}
# Names by the first of these keys that occurs in a variable's name.
MEASURE_NAMES = {"csa": "CSA", "fat_fraction": "Fat fraction", "volume": "Volume"}
RANGE_NAMES = {"at_level": " at the standard level", "l3_l5": " from L3 to L5"}
UNIT_NAMES = {"mm2": "mm²", "mm2/m2": "mm²/m²", "kg/m2": "kg/m²", "year": "years", "1": "%"}
SELECTION_NAMES = {  # other columns of the sheet keep their names
    "sex": "Sex",
    "age_years": "Age, years",
    "height_cm": "Height, cm",
    "weight_kg": "Weight, kg",
    "bmi_kg_m2": "Body mass index, kg/m²",
    "site": "Site",
    "study_group": "Group",
    "reason": "Reason",
}
CENTILE_AGES_YEARS = (30, 50, 70)
PUBLISHED_SEXES = {"F": "women", "M": "men", NOT_BY_SEX: "not by sex"}
MOST_NAMED = 20  # subjects named beside a warning


def as_html(table: pd.DataFrame, prose: int = 0, empty: str = "Nothing to show.") -> Markup:
    """Return a table of text as an HTML element; text is escaped.

    table: its index levels become leading columns. prose: how many of its last columns (0, 1 or 2)
    contain sentences and are shown as paragraphs. empty: sentence in place of a table without rows.
    """
    if table.empty:
        return Markup(f'<p class="none">{html.escape(empty)}</p>')
    classes = ["labels-" + str(table.index.nlevels), f"prose-{prose}"]
    with pd.option_context("display.max_colwidth", None):
        text = table.reset_index().to_html(
            index=False, border=0, classes=classes, na_rep=DASH, justify="unset"
        )
    return Markup(f'<div class="scroll">{text}</div>')


# --- numbers -------------------------------------------------------------------------------------


def number_text(value: float | None, digits: int) -> str:
    """Return a number as text with `digits` decimals; a dash if it is null.

    Thousands are separated by commas. The minus sign is − (U+2212), not a hyphen.
    """
    if value is None or pd.isna(value):
        return DASH
    return f"{round(value, digits) + 0.0:,.{digits}f}".replace("-", "−")


def interval_text(low: float, high: float, digits: int) -> str:
    """Return an interval as "low to high", with `digits` decimals; a dash if an end is null."""
    if pd.isna(low) or pd.isna(high):
        return DASH
    return f"{number_text(low, digits)} to {number_text(high, digits)}"


def p_value_text(value: float) -> str:
    """Return a p value with three decimals, or "< 0.001" if it is below 0.001; a dash if it is null."""
    if pd.isna(value):
        return DASH
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _numbers(values: pd.Series, digits: int = 0) -> list[str]:
    return [number_text(value, digits) for value in values]


def _intervals(low: pd.Series, high: pd.Series, digits: int) -> list[str]:
    return [interval_text(*ends, digits) for ends in zip(low, high, strict=True)]


def _words(name: str) -> str:
    return str(name).replace("_", " ").capitalize()


def _scale(unit: str) -> tuple[float, int]:
    """Return the factor and digits with which values of a unit are shown; fractions as percent."""
    return {"1": (100, 1), "mm2": (1, 0), "ml": (1, 0)}.get(unit.split(" ")[0], (1, 1))


def _unit(unit: str) -> str:
    """Return a unit as it is shown; that of a fraction is percent."""
    first, *rest = unit.split(" ", 1)
    return " ".join([UNIT_NAMES.get(first, first), *rest])


def _difference_unit(unit: str) -> str:
    """Return the unit of differences, as it is shown; that of fractions is percentage points."""
    return _unit(unit).replace("%", "percentage points")


def _mean_sd(row: pd.Series) -> str:
    factor, digits = _scale(row["unit"])
    if row["unit"] == "year" and 0 < abs(row["mean"]) < 1:
        digits = 1 - math.floor(math.log10(abs(row["mean"])))  # two significant digits
    mean = number_text(row["mean"] * factor, digits)
    return mean if pd.isna(row["sd"]) else f"{mean} ± {number_text(row['sd'] * factor, digits)}"


# --- tables --------------------------------------------------------------------------------------


def table1_text(table: pd.DataFrame) -> pd.DataFrame:
    """Return Table 1 as text: IoU and Dice with the manual masks, by muscle and side (index).

    table: from `accuracy.table1_iou`; rows without slices are left out. Columns: subjects, slices, median
    IoU with its 95 % interval, quartiles and lowest, median IoU of the paper, median Dice.
    """
    own = table[table["n_slices"] > 0]
    return _by_side(
        own,
        {
            "Slices": _numbers(own["n_slices"]),
            "Median IoU": _numbers(own["iou_median"], 3),
            "95 % interval": _intervals(own["iou_low_95"], own["iou_high_95"], 3),
            "Quartiles": _intervals(own["iou_lower_quartile"], own["iou_upper_quartile"], 3),
            "Lowest": _numbers(own["iou_lowest"], 3),
            "Median IoU, paper": _numbers(own["iou_paper"], 3),
            "Median Dice": _numbers(own["dice_median"], 3),
        },
    )


def cohort_text(table: pd.DataFrame) -> pd.DataFrame:
    """Return the description of the cohort as text: a row per variable and level, a column per sex.

    table: from `describe.cohort_description`. Index: Variable, text such as "Multifidus, CSA at L3/4,
    mm²". Headings: such as "Women (n = 12)". Cells: mean ± SD (lowest to highest), of one subject the
    value, a dash without values. The last column, Missing, has the number of subjects (of all sexes)
    without a value; it is left out if the rows of all sexes are blank (`for_sharing`). Empty without
    subjects.
    """
    known = table[table["n_subjects"] > 0]
    if known.empty:
        return pd.DataFrame()
    counts = known.groupby("sex")["n_subjects"].max()
    titles = {
        sex: f"{SEX_TITLES[sex]} (n = {number_text(counts[sex], 0)})"
        for sex in SEX_TITLES
        if sex in counts
    }
    names = _variable(table) + _at(table["level"])
    names += ", " + table["unit"].map(_unit)
    frame = pd.DataFrame(
        {
            "Variable": pd.Categorical(names, names.unique(), ordered=True),
            "sex": pd.Categorical(table["sex"].map(titles), titles.values(), ordered=True),
            "text": table.apply(_mean_sd_range, axis=1),
            "missing": table["missing"],
        }
    ).dropna(subset=["sex"])
    shown = frame.pivot(index="Variable", columns="sex", values="text")
    shown.columns = list(shown.columns)
    if ALL_SEXES not in titles:  # blank in tables for sharing, as a part of them is
        return shown
    missing = frame[frame["sex"] == titles[ALL_SEXES]].set_index("Variable")["missing"]
    return shown.assign(Missing=missing.map(lambda count: number_text(count, 0)))


def _variable(table: pd.DataFrame) -> pd.Series:
    return table["variable"].map(_variable_name)


def _at(levels: pd.Series) -> pd.Series:
    """Return words for the level of a value: " at L3/4", " (all slices)", or "" if there is none."""
    at = (" at " + levels.astype(object)).where(levels != ALL_SLICES, f" ({ALL_SLICES})")
    return at.where(levels.notna(), "")


def _variable_name(name: str) -> str:
    if name == "bmi_kg_m2":
        return "Body mass index"
    measure = _measure(name)
    if measure is None:
        return _words(name.rsplit("_", 1)[0])
    muscle = next((muscle for muscle in MUSCLES if muscle in name), "all_muscles")
    return f"{_words(muscle)}, {measure if measure == 'CSA' else measure.lower()}"


def _measure(name: str) -> str | None:
    return next((measure for key, measure in MEASURE_NAMES.items() if key in name), None)


def _range(name: str) -> str:
    return next((words for key, words in RANGE_NAMES.items() if key in name), ", all slices")


def _mean_sd_range(row: pd.Series) -> str:
    """Return "mean ± SD (lowest to highest)"; a single value alone, a range only if it is told."""
    if row["n"] < 2 or pd.isna(row["lowest"]):
        return _mean_sd(row) if row["n"] else DASH
    factor, digits = _scale(row["unit"])
    return f"{_mean_sd(row)} ({interval_text(row['lowest'] * factor, row['highest'] * factor, digits)})"


def normal_values_text(table: pd.DataFrame) -> pd.DataFrame:
    """Return normal values as text, by measure, muscle and side (index), with a column per sex.

    table: from `describe.normal_values`; rows of all sexes together are left out. Cells: mean ± SD
    (number of values). The last column has the published values to compare
    (`published_values.matching`), as sentences. Empty without values.
    """
    known = table[(table["n"] > 0) & (table["sex"] != ALL_SEXES)]
    if known.empty:
        return pd.DataFrame()
    units = known["unit"].map(_unit)
    measures = known["measure"].map(_measure) + _at(known["level"]) + ", " + units
    frame = pd.DataFrame(
        {
            "Measure": pd.Categorical(measures, measures.unique(), ordered=True),
            "Muscle": pd.Categorical(known["muscle"], MUSCLES, ordered=True),
            "Side": known["side"],
            "sex": pd.Categorical(known["sex"], [s for s in SEX_TITLES if s in set(known["sex"])]),
            "text": known.apply(lambda row: f"{_mean_sd(row)} ({row['n']:.0f})", axis=1),
        }
    )
    index = ["Measure", "Muscle", "Side"]
    shown = frame.pivot(index=index, columns="sex", values="text")
    shown.columns = [SEX_TITLES[sex] for sex in shown.columns]
    published = read_published()
    texts = known.drop_duplicates(["measure", "muscle", "side"]).apply(
        lambda row: _published_beside(published, row), axis=1
    )
    beside = frame.loc[texts.index, index].assign(text=texts).set_index(index)["text"]
    shown["Published values"] = beside.reindex(shown.index)
    return shown.rename(index=_words, level="Muscle")


def _published_beside(published: pd.DataFrame, row: pd.Series) -> str:
    """Return the published values beside a row of the normal values, of both sexes; a dash if none."""
    place = [row[name] for name in ("measure", "muscle", "side")]
    own = pd.concat([matching(published, *place, sex, row["level"]) for sex in ("F", "M")])
    own = own[~own.index.duplicated()]
    texts = []
    for (source, level), rows in own.groupby(["source", "level"], sort=False):
        several = rows["sex"].duplicated(keep=False)
        ages = (" " + rows["age_years"] + " years").where(several, "")
        who = rows["sex"].map(PUBLISHED_SEXES) + ages
        values = "; ".join(f"{who[place]} {_mean_sd(value)}" for place, value in rows.iterrows())
        at = "" if level == row["level"] else f", {level}"
        texts.append(f"{values} ({source}{at})")
    return "; ".join(texts) or DASH


def published_values_text(table: pd.DataFrame) -> pd.DataFrame:
    """Return published normal values as text, one row each, by measure, muscle and side (index).

    table: from `published_values.read_published`. Columns: level, sex, number of people, age, mean ± SD
    in the unit that the measure's name ends with, people and scanner, source. The last two are
    sentences.
    """
    sources = table["authors"].str.split(",").str[0] + " et al. " + table["year"].astype(str)
    where = sources + ", " + table["journal"] + ", " + table["table"]
    shown = pd.DataFrame(
        {
            "Measure": table["measure"].map(_measure) + ", " + table["unit"].map(_unit),
            "Muscle": table["muscle"].str.replace("+", " + ").map(_words),
            "Side": table["side"],
            "Level": table["level"],
            "Sex": table["sex"].map(PUBLISHED_SEXES),
            "n": _numbers(table["n"]),
            "Age, years": table["age_years"],
            "Mean ± SD": table.apply(_mean_sd, axis=1),
            "People and scanner": table["people"] + "; " + table["scanner"],
            "Source": where + ", " + table["link"],
        }
    )
    return shown.set_index(["Measure", "Muscle", "Side"])


def level_coverage_text(table: pd.DataFrame) -> pd.DataFrame:
    """Return how many subjects have slices at each level: a row per sex, a column per level.

    table: from `standard_level.level_coverage`. Empty without subjects.
    """
    known = table[table["n_subjects"] > 0]
    if known.empty:
        return pd.DataFrame()
    counts = known["n_subjects"].map("{:,.0f}".format)
    sexes = known["sex"].map(SEX_TITLES) + " (n = " + counts + ")"
    texts = _numbers(known["n_covered"])
    frame = pd.DataFrame({"Subjects": sexes, "level": known["level"], "text": texts})
    shown = frame.pivot(index="Subjects", columns="level", values="text")
    shown.columns.name = None
    return shown.loc[sexes.unique(), known["level"].unique()]


def weighted_mean_sd(values: pd.Series, weights: pd.Series) -> tuple[float, float]:
    """Return weighted mean and SD of values, in their unit; the SD of one value is NaN.

    values: finite, at least one. weights: positive, with the same index. The squared SD is the
    weighted sum of squared deviations over sum(weights) - sum(weights^2) / sum(weights), which is
    unbiased if all values have one variance; with equal weights it is the usual SD (n - 1).
    """
    total = weights.sum()
    mean = (weights * values).sum() / total
    if len(values) < 2:
        return mean, math.nan
    squares = (weights * (values - mean) ** 2).sum()
    return mean, math.sqrt(squares / (total - (weights**2).sum() / total))


def change_text(table: pd.DataFrame) -> pd.DataFrame:
    """Return the change between first and last visit as text, by measure, muscle and side (index).

    table: from `change.change_table`; rows without a change are left out. Columns: change, change
    per year, years. Cells: mean ± SD over subjects (number of subjects with a value). Those of the
    change per year are weighted by years, as the noise of a change per year falls with the years
    between the scans: the mean is the sum of changes over the sum of years. Changes of a fat
    fraction are in percentage points.
    """
    columns = {"change": "Change", "change_per_year": "Change per year", "years": "Years"}
    known = table.dropna(subset=["change"])
    rows = []
    for (measure, muscle, side), own in known.groupby(["measure", "muscle", "side"], sort=False):
        unit = str(own["unit"].iloc[0])
        row = {
            "Measure": f"{_measure(measure)}{_range(measure)}, {_difference_unit(unit)}",
            "Muscle": _words(muscle),
            "Side": side,
        }
        for name, title in columns.items():
            values = own[name].dropna()
            if values.empty:
                row[title] = DASH
                continue
            weights = own["years"] if name == "change_per_year" else pd.Series(1.0, own.index)
            mean, sd = weighted_mean_sd(values, weights[values.index])
            shown = {"mean": mean, "sd": sd, "unit": "year" if name == "years" else unit}
            row[title] = f"{_mean_sd(pd.Series(shown))} ({len(values)})"
        rows.append(row)
    index = ["Measure", "Muscle", "Side"]
    order = pd.DataFrame(rows, columns=[*index, *columns.values()])
    return order.sort_values("Measure", kind="stable").set_index(index)


def centiles_text(table: pd.DataFrame) -> pd.DataFrame:
    """Return centiles at 30, 50 and 70 years as text: the median and, in brackets, the 3rd to 97th.

    table: from `centiles.centile_frame`. Index: measure, muscle and sex. Columns: number of subjects;
    one per age, a dash without centiles; Note, there only if needed, the reason. Empty without any
    centiles.
    """
    if table["value"].isna().all():
        return pd.DataFrame()
    names = {"csa": "CSA", "csa_index": "CSA over squared height", "csa_level": "CSA at level"}
    rows = []
    for (measure, muscle, sex), own in table.groupby(["measure", "muscle", "sex"], sort=False):
        factor, digits = _scale(own["unit"].iloc[0])
        row = {
            "Measure": f"{names.get(measure, _words(measure))}, {_unit(own['unit'].iloc[0])}",
            "Muscle": _words(muscle),
            "Sex": SEX_TITLES[sex],
            "Subjects": number_text(own["n_subjects"].iloc[0], 0),
        }
        for age in CENTILE_AGES_YEARS:
            at_age = factor * own[own["age_years"] == age].set_index("centile")["value"]
            low, middle, high = at_age.reindex([3, 50, 97])
            text = f"{number_text(middle, digits)} ({interval_text(low, high, digits)})"
            row[f"{age} years"] = DASH if pd.isna(middle) else text
        rows.append(row | {"Note": own["note"].fillna("").iloc[0]})
    shown = pd.DataFrame(rows).set_index(["Measure", "Muscle", "Sex"])
    return shown if shown["Note"].any() else shown.drop(columns="Note")


def agreement_text(table: pd.DataFrame) -> pd.DataFrame:
    """Return the agreement of areas by mask and prediction as text, by muscle and side (index).

    table: from `accuracy.area_agreement`, its order is kept; rows without subjects are left out. Columns:
    subjects; Area, the level ("L3/4", "all slices"); means of mask and prediction, bias and limits of
    agreement, all in mm2; ICC(2,1) with its 95 % interval; median absolute difference in percent.
    """
    own = table[table["n_subjects"] > 0]
    return _by_side(
        own,
        {
            "Area": list(own["level"]),
            "Mask, mean mm²": _numbers(own["truth_mean_mm2"]),
            "Prediction, mean mm²": _numbers(own["prediction_mean_mm2"]),
            "Bias, mm²": _numbers(own["bias_mm2"], 1),
            "Limits of agreement, mm²": _intervals(
                own["lower_limit_mm2"], own["upper_limit_mm2"], 1
            ),
            "ICC(2,1)": _numbers(own["icc_2_1"], 3),
            "95 % interval": _intervals(own["icc_low_95"], own["icc_high_95"], 3),
            "Median absolute difference, %": _numbers(own["median_absolute_difference_percent"], 1),
        },
    )


def _by_side(own: pd.DataFrame, columns: dict[str, list[str]]) -> pd.DataFrame:
    """Return columns of text, one per row of `own`, indexed by muscle and side."""
    index = [own["muscle"].map(_words).rename("Muscle"), own["side"].rename("Side")]
    return pd.DataFrame({"Subjects": _numbers(own["n_subjects"]), **columns}, index=index)


def reliability_text(table: pd.DataFrame) -> pd.DataFrame:
    """Return the reliability of areas by mask and prediction as text, by muscle and side (index).

    table: from `reliability.mask_reliability`, or reliability.csv. Only rows of the source "masks"
    over all slices, with at least two subjects, are kept. Columns: subjects; ICC(3,1) and SEM, each
    with a 95 % interval; MDC95; CV in percent; p of the trend; margin and p of equivalence; limits of
    agreement of a slice. Areas in mm2.
    """
    own = over_all_slices(table, MASKS)
    return pd.DataFrame(
        {
            "Muscle": own["muscle"].map(_words),
            "Side": own["side"],
            "Subjects": _numbers(own["n_subjects"]),
            "ICC(3,1)": _numbers(own["icc_3_1"], 3),
            "95 % interval": _intervals(own["icc_3_1_low_95"], own["icc_3_1_high_95"], 3),
            "SEM, mm²": _numbers(own["sem"], 1),
            "95 % interval, mm²": _intervals(own["sem_low_95"], own["sem_high_95"], 1),
            "MDC95, mm²": _numbers(own["mdc_95"], 1),
            "CV, %": _numbers(100 * own["within_subject_cv"], 1),
            "p, trend": own["trend_p_value"].map(p_value_text),
            "Margin, mm²": _numbers(own["margin"], 0),
            "p, equivalence": own["equivalence_p_value"].map(p_value_text),
            "Limits of a slice, mm²": _intervals(
                own["slice_lower_limit"], own["slice_upper_limit"], 1
            ),
        }
    ).set_index(["Muscle", "Side"])


def over_all_slices(table: pd.DataFrame, source: str) -> pd.DataFrame:
    """Return the rows that the report shows: of a source, over all slices, with two subjects or more.

    table: reliability.csv. source: its value in the column source, such as MASKS ("masks").
    """
    of_source = (table["source"] == source) & (table["level"] == ALL_SLICES)
    return table[of_source & (table["n_subjects"] > 1)]


def paired_reliability_text(table: pd.DataFrame, source: str = VISITS) -> pd.DataFrame:
    """Return the reliability between visits or raters as text, by measure, muscle and side (index).

    table: reliability.csv. source: VISITS ("visits") or RATERS ("raters"). Only rows of this source
    over all slices, with at least two subjects, are kept; empty if there are none. Columns: subjects;
    ICC(2,1) with its 95 % interval; ICC(3,1); SEM; MDC95; CV in percent; bias and limits of agreement;
    p of the trend; margin and p of equivalence. SEM, bias and limits contain a 95 % interval; fat
    fractions are in percentage points.
    """
    own = over_all_slices(table, source)
    rows = [
        {
            "Measure": f"{_measure(row['measure'])}, {_difference_unit(row['unit'])}",
            "Muscle": _words(row["muscle"]),
            "Side": row["side"],
            "Subjects": number_text(row["n_subjects"], 0),
            "ICC(2,1)": number_text(row["icc_2_1"], 3),
            "95 % interval": interval_text(row["icc_2_1_low_95"], row["icc_2_1_high_95"], 3),
            "ICC(3,1)": number_text(row["icc_3_1"], 3),
            "SEM": _with_interval(row, "sem"),
            "MDC95": _measured(row, "mdc_95"),
            "CV, %": number_text(100 * row["within_subject_cv"], 1),
            "Bias": _with_interval(row, "bias"),
            "Lower limit": _with_interval(row, "lower_limit"),
            "Upper limit": _with_interval(row, "upper_limit"),
            "p, trend": p_value_text(row["trend_p_value"]),
            "Margin": _measured(row, "margin"),
            "p, equivalence": p_value_text(row["equivalence_p_value"]),
        }
        for row in own.to_dict("records")
    ]
    index = ["Measure", "Muscle", "Side"]
    return pd.DataFrame(rows).set_index(index) if rows else pd.DataFrame()


def _measured(row: Mapping, name: str) -> str:
    """Return a value in the row's unit, a fraction as percent."""
    factor, digits = _scale(row["unit"])
    return number_text(row[name] * factor, digits + 1)


def _with_interval(row: Mapping, name: str) -> str:
    if pd.isna(row[name]):
        return DASH
    low, high = (_measured(row, f"{name}_{end}_95") for end in ("low", "high"))
    return f"{_measured(row, name)} ({low} to {high})"


def fat_methods_text(table: pd.DataFrame) -> pd.DataFrame:
    """Return the mean fat fraction (%) by each method as text: a row per method, a column per muscle.

    table: from `describe.fat_methods`. Cells: mean (number of subjects). The last two columns,
    meaning and caveat, are sentences.
    """
    shown = pd.DataFrame({"Method": table["method"]})
    for muscle in MUSCLES:
        means = zip(100 * table[f"mean_{muscle}"], table[f"n_{muscle}"], strict=True)
        shown[f"{_words(muscle)}, %"] = [_mean_of(mean, count) for mean, count in means]
    return shown.assign(Meaning=table["meaning"], Caveat=table["caveat"]).set_index("Method")


def _mean_of(mean: float, count: float) -> str:
    return f"{number_text(mean, 1)} ({number_text(count, 0)})" if pd.notna(mean) else DASH


def specification_text(table: pd.DataFrame) -> pd.DataFrame:
    """Return the effects of sex and age on fat fractions as text, by family and effect (index).

    table: from `specifications.specification_curve`; rows without an estimate are left out.
    Columns: odds ratio with 95 % interval by the way in which the study measures fat (chosen),
    number of ways, lowest to highest odds ratio, number of ways whose 95 % interval is above 1, and
    below 1.
    """
    rows = []
    for (family, label), own in table.dropna(subset=["estimate"]).groupby(
        ["family", "label"], sort=False
    ):
        of_study = own[own["chosen"].astype(bool)]
        excluded = [(own["low_95"] > 1).sum(), (own["high_95"] < 1).sum()]
        chosen = [
            f"{number_text(row.estimate, 2)} ({interval_text(row.low_95, row.high_95, 2)})"
            for row in of_study.itertuples()
        ]
        rows.append(
            {
                "Family": _words(family),
                "Effect": label,
                "Study, OR": "".join(chosen) or DASH,
                "Ways": str(len(own)),
                "Lowest to highest": interval_text(own["estimate"].min(), own["estimate"].max(), 2),
                "Interval above 1": str(excluded[0]),
                "Interval below 1": str(excluded[1]),
            }
        )
    columns = ["Study, OR", "Ways", "Lowest to highest", "Interval above 1", "Interval below 1"]
    return pd.DataFrame(rows, columns=["Family", "Effect", *columns]).set_index(
        ["Family", "Effect"]
    )


def selection_text(table: pd.DataFrame) -> pd.DataFrame:
    """Return the covariates of analysed and not analysed subjects side by side as text.

    table: from `selection.selection`. Index: variable and category. Cells: mean ± SD, or % of the known
    values; in brackets the number of missing ones. Reasons: % of the subjects not analysed. The last
    column is the standardised difference.
    """
    shown = pd.DataFrame(
        {
            "Variable": [SELECTION_NAMES.get(name, name) for name in table["variable"]],
            "Category": table["category"].fillna(""),
            "Analysed (missing)": [_group(row, "analysed") for _, row in table.iterrows()],
            "Not analysed (missing)": [_group(row, "not_analysed") for _, row in table.iterrows()],
            "Standardised difference": _numbers(table["standardised_difference"], 2),
        }
    )
    return shown.set_index(["Variable", "Category"])


def _group(row: pd.Series, group: str) -> str:
    if pd.isna(row[group]):
        return DASH
    missing = row[f"missing_{group}"]
    known = "" if pd.isna(missing) else f" ({missing:.0f})"
    if not pd.isna(row["category"]):
        return f"{number_text(100 * row[group], 0)} %{known}"
    return f"{number_text(row[group], 1)} ± {number_text(row[f'sd_{group}'], 1)}{known}"


def claims_text(table: pd.DataFrame) -> pd.DataFrame:
    """Return the findings of the paper as text, with the result of this study, one row each.

    table: from `claims.paper_claims`. Index ("Here"): whether the study reproduces the finding. Columns:
    Finding, of the paper, and Found, the numbers of this study.
    """
    names = {"reproduced": "Here", "claim": "Finding", "found": "Found"}
    shown = table[[*names]].rename(columns=names).set_index("Here")
    return shown.assign(Found=shown["Found"].str.replace("mm2", UNIT_NAMES["mm2"]))


def contrast_texts(table: pd.DataFrame) -> list[dict[str, object]]:
    """Return the planned comparisons of each model: dicts with title, table (HTML) and note.

    table: contrasts.csv of fit_models. The note is sentences: what the estimates rest on, which
    comparisons could not be estimated and why, and the notes of the others.
    """
    return [_contrasts(str(model), rows) for model, rows in table.groupby("model", sort=False)]


def _contrasts(model: str, rows: pd.DataFrame) -> dict[str, object]:
    known = rows[rows["estimate"].notna()]
    texts = [
        (
            f"{_words(row.family)} ({row.tests_in_family:.0f})",
            row.label,
            number_text(row.estimate, _digits(row.unit)),
            interval_text(row.low_95, row.high_95, _digits(row.unit)),
            _unit(row.unit).replace("odds ratio", "OR"),
            p_value_text(row.p_value),
            p_value_text(row.p_holm),
        )
        for row in known.itertuples()
    ]
    columns = ["Family", "Comparison", "Estimate", "95 % interval", "Unit", "p", "p (Holm)"]
    shown = pd.DataFrame(texts, columns=columns).set_index(["Family", "Comparison"])
    missing = rows.loc[rows["estimate"].isna(), ["family", "note"]].fillna({"note": NOT_SHOWN})
    notes = [f"{row.family}: {row.note}" for row in missing.drop_duplicates().itertuples()]
    subjects = rows["n_subjects"].dropna()
    told = "" if subjects.empty else f", {counted_range(subjects, 'subject')}"
    return {
        "title": f"Model: {model}{told}",
        "table": as_html(shown, empty=_why_empty(rows, "No comparison could be estimated.")),
        "note": " ".join(
            [
                *basis_sentences(known),
                *_sentences(notes),
                *_sentences(dict.fromkeys("; ".join(known["note"].dropna()).split("; "))),
            ]
        ),
    }


def weighted_texts(table: pd.DataFrame) -> dict[str, object]:
    """Return comparisons with weights for missing subjects: {"table": HTML, "note": sentences}.

    table: from `selection.weighted_contrasts`. Comparisons without a weighted estimate are left out
    of the table; the note describes the weights of each outcome, or says why there are none.
    """
    known = table[table["weighted"].notna()]
    texts = [
        (
            _words(row.family),
            row.label,
            number_text(row.complete_cases, _digits(row.unit)),
            interval_text(row.complete_cases_low_95, row.complete_cases_high_95, _digits(row.unit)),
            number_text(row.weighted, _digits(row.unit)),
            interval_text(row.weighted_low_95, row.weighted_high_95, _digits(row.unit)),
            _unit(row.unit).replace("odds ratio", "OR"),
            number_text(row.difference_in_standard_errors, 2),
        )
        for row in known.itertuples()
    ]
    columns = [
        *("Family", "Comparison", "Complete cases", "95 % interval", "Weighted"),
        *("95 % interval, weighted", "Unit", "Difference"),
    ]
    shown = pd.DataFrame(texts, columns=columns).set_index(["Family", "Comparison"])
    notes = basis_sentences(known)
    of_outcomes = told_first(table).drop_duplicates("outcome")
    notes += [_weights_note(row) for row in of_outcomes.itertuples()]
    empty = _why_empty(table, "No weighted comparison.")
    return {"table": as_html(shown, empty=empty), "note": " ".join(notes)}


def _weights_note(row: tuple) -> str:
    """Return sentences on the weights of an outcome. row: of `selection.weighted_contrasts`."""
    in_model = DASH if pd.isna(row.n_subjects) else counted(int(row.n_subjects), "subject")
    subjects = f"{in_model} in the model, {number_text(row.n_missing, 0)} missing"
    if pd.isna(row.weighted):
        why = NOT_SHOWN if pd.isna(row.note) else row.note
        return f"{_measure(row.outcome)}: {subjects}; {why}."
    left_out = "" if pd.isna(row.left_out) else f" Left out: {row.left_out}."
    left_out += "".join(f" {text}" for text in _sentences([row.note] if pd.notna(row.note) else []))
    return (
        f"{_measure(row.outcome)}: {subjects}; weights from {row.predictors},"
        f" {number_text(row.weight_lowest, 2)} to {number_text(row.weight_highest, 2)}, effective"
        f" number of subjects {number_text(row.effective_n, 0)}.{left_out}"
    )


def _sentences(notes: Iterable[str]) -> list[str]:
    """Return notes as sentences."""
    return [f"{capitalised(note)}." for note in notes if note]


def _digits(unit: str) -> int:
    return 2 if unit.startswith(("odds", "rho")) else 0


def model_texts(table: pd.DataFrame) -> list[dict[str, object]]:
    """Return each model of each outcome: dicts with title, terms (HTML table), formula and note.

    table: models.csv of fit_models; its order is kept.
    """
    return [
        _model(outcome, model, terms)
        for (outcome, model), terms in table.groupby(["outcome", "model"], sort=False)
    ]


def _why_empty(table: pd.DataFrame, otherwise: str) -> str:
    """Return the sentence in place of rows without an estimate; those for sharing may be blanked."""
    return f"{capitalised(NOT_SHOWN)}." if is_suppressed(table) else otherwise


def _where(outcome: str) -> str:
    """Return words for the place of an outcome; "" for means over all slices."""
    places = {"at_level": " at the standard level", "by_level": " by level"}
    return next((words for key, words in places.items() if key in outcome), "")


def _model(outcome: str, model: str, terms: pd.DataFrame) -> dict[str, object]:
    first, known = terms.iloc[0], terms[terms["estimate"].notna()]
    n = "" if pd.isna(first["n_subjects"]) else f" ({counted(int(first['n_subjects']), 'subject')})"
    rows = [
        (
            row.label,
            number_text(row.estimate * factor, digits + 1),
            interval_text(row.low_95 * factor, row.high_95 * factor, digits + 1),
            _difference_unit(row.unit),
            p_value_text(row.p_value),
        )
        for row in known.itertuples()
        for factor, digits in [_scale(str(row.unit))]
    ]
    columns = ["Term", "Estimate", "95 % interval", "Unit", "p"]
    return {
        "title": f"{_measure(outcome)}{_where(outcome)}, {model}{n}",
        "terms": as_html(
            pd.DataFrame(rows, columns=columns).set_index("Term"),
            empty=_why_empty(terms, "No fit."),
        ),
        "formula": "" if pd.isna(first["formula"]) else str(first["formula"]),
        "note": " ".join(
            [*basis_sentences(terms), *_sentences(terms["note"].dropna().unique()[:1])]
        ),
    }


def flags_text(table: pd.DataFrame) -> pd.DataFrame:
    """Return how many scans each automatic flag marks as text, by warning and title (index).

    table: from `flags.flag_counts`. Columns: condition ("below 0.8"), number of scans with a value,
    number of these that are flagged, and their percentage.
    """
    sign = table["below"].map({True: "below", False: "above"})
    share = 100 * table["flagged"] / table["scans"].where(table["scans"] > 0)
    return pd.DataFrame(
        {
            "Warning": table["flag"],
            "What": table["title"],
            "Flagged if": [f"{s} {t:g}" for s, t in zip(sign, table["threshold"], strict=True)],
            "Scans with a value": _numbers(table["scans"]),
            "Flagged": _numbers(table["flagged"]),
            "%": _numbers(share, 1),
        }
    ).set_index(["Warning", "What"])


def failures_text(table: pd.DataFrame) -> pd.DataFrame:
    """Return the share of failures among randomly drawn scans as text; no rows if none was rated.

    table: from `reading_list.share_of_failures`. Index: what was rated (scan, scan or muscle, one
    muscle), and which verdicts are counted. Columns: scans drawn at random, number of these that were
    rated, number with these verdicts, their percentage of the rated, and its 95 % interval.
    """
    known = table[table["rated"] > 0]
    shown = pd.DataFrame(
        {
            "What": known["what"].map(_words),
            "Rated": known["verdict"],
            "Drawn at random": _numbers(known["drawn"]),
            "Of these rated": _numbers(known["rated"]),
            "Number": _numbers(known["count"]),
            "%": _numbers(100 * known["share"], 1),
            "95 % interval": _intervals(
                100 * known["share_low_95"], 100 * known["share_high_95"], 1
            ),
        }
    )
    return shown.set_index(["What", "Rated"])


def raters_text(table: pd.DataFrame) -> pd.DataFrame:
    """Return the agreement of raters (Cohen's kappa) as text, by pair of raters and verdicts (index).

    table: from `ratings.agreement_of_raters`; pairs of raters without common scans are left out.
    Columns: scans that both rated, percentage with the same verdict, kappa, its 95 % interval.
    """
    known = table[table["scans"] > 0]
    shown = pd.DataFrame(
        {
            "Raters": known["first"] + " and " + known["second"],
            "Verdicts": known["categories"],
            "Scans": _numbers(known["scans"]),
            "Same verdict, %": _numbers(100 * known["agreement"], 1),
            "Cohen's kappa": _numbers(known["kappa"], 2),
            "95 % interval": _intervals(known["kappa_low"], known["kappa_high"], 2),
        }
    )
    return shown.set_index(["Raters", "Verdicts"])


def quarantined_text(ledger: pd.DataFrame) -> pd.DataFrame:
    """Return scans that were not analysed as text: subject and reason (index), what was found, stage.

    ledger: rows of the quarantined or excluded scans in the cohort table `ledger`, with names of scans in
    the column subject; none is left out.
    """
    columns = {
        "subject": "Subject",
        "reason": "Reason",
        "message": "What was found",
        "stage": "Stage",
    }
    return ledger[[*columns]].rename(columns=columns).set_index(["Subject", "Reason"])


def warnings_text(ledger: pd.DataFrame) -> pd.DataFrame:
    """Return the warnings of the cohort as text, the most frequent first: code (index), number, scans.

    ledger: the cohort table `ledger`, one row per scan, with names of scans in the column subject.
    Number: of the scans with the warning; at most MOST_NAMED (20) of them are named.
    """
    known = ledger[["subject", "warnings"]].explode("warnings").dropna(subset=["warnings"])
    subjects = known.sort_values("subject").groupby("warnings")["subject"].agg(list).reset_index()
    subjects["count"] = subjects["subject"].map(len)
    subjects = subjects.sort_values(["count", "warnings"], ascending=[False, True])
    return pd.DataFrame(
        {
            "Warning": subjects["warnings"],
            "Number": _numbers(subjects["count"]),
            "Subjects": subjects["subject"].map(_named),
        }
    ).set_index("Warning")


def _named(subjects: list[str]) -> str:
    names = ", ".join(subjects[:MOST_NAMED])
    more = len(subjects) - MOST_NAMED
    return f"{names} and {more:,} more" if more > 0 else names
