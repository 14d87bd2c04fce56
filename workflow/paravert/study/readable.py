"""The study's tables as a reader wants them: few columns, rounded, units in the headers."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from paravert.anatomy import MUSCLES
from paravert.study.accuracy import NOBODY
from paravert.study.wording import UNKNOWN, number, p_value, points, scaled, shown_unit, span, words

SEXES = {"all": "All", "F": "Women", "M": "Men", "unknown": "Sex unknown"}
# In the order in which they are looked for: the first that a variable's name holds.
VARIABLES = {"csa_": "CSA", "fat_fraction": "fat fraction", "volume": "volume"}


@dataclass(frozen=True)
class Readable:
    """A table of texts. labels: leading columns that name a row; prose: columns of running text.

    empty: what is said where there are no rows.
    """

    header: list[str]
    rows: list[list[str]]
    labels: int = 1
    prose: tuple[int, ...] = ()
    empty: str = "Nothing to show."


def table1(frame: pd.DataFrame) -> Readable:
    """Return Table 1: IoU per muscle and side, the paper's value beside it."""
    header = [
        "Muscle", "Side", "Subjects", "Slices", "Median IoU", "95 % interval", "Quartiles",
        "Lowest", "Median IoU, paper", "Median Dice",
    ]  # fmt: skip
    rows = [
        [
            words(row.muscle), row.side, number(row.n_subjects, 0), number(row.n_slices, 0),
            number(row.iou_median, 3), span(row.iou_low_95, row.iou_high_95, 3),
            span(row.iou_lower_quartile, row.iou_upper_quartile, 3), number(row.iou_lowest, 3),
            number(row.iou_paper, 3), number(row.dice_median, 3),
        ]
        for row in frame[frame["n_slices"] > 0].itertuples()
    ]  # fmt: skip
    return Readable(header, rows, labels=2, empty=f"{NOBODY}.")


def cohort(frame: pd.DataFrame) -> Readable:
    """Return the description of the cohort: a row per variable, a column per sex."""
    sexes = _sexes(frame[frame["n_subjects"] > 0])
    counts = frame.groupby("sex")["n_subjects"].max()
    header = ["", *(f"{SEXES[sex]} (n = {counts[sex]:,})" for sex in sexes)]
    rows = []
    for (variable, unit), group in frame.groupby(["variable", "unit"], sort=False):
        by_sex = group.set_index("sex")
        cells = [_mean_sd_range(by_sex.loc[sex], unit) for sex in sexes]
        rows.append([f"{_variable(variable)}, {shown_unit(unit)}", *cells])
    return Readable(header, rows if sexes else [], empty="No analysed subjects.")


def _sexes(frame: pd.DataFrame) -> list[str]:
    return [sex for sex in SEXES if (frame["sex"] == sex).any()]


def _variable(name: str) -> str:
    if name == "bmi_kg_m2":
        return "Body mass index"
    for key, meaning in VARIABLES.items():
        if key in name:
            muscle = next((muscle for muscle in MUSCLES if muscle in name), None)
            return f"{words(muscle)}, {meaning}" if muscle else f"All muscles, {meaning}"
    return words(name.rsplit("_", 1)[0])


def _mean_sd_range(row: pd.Series, unit: str) -> str:
    factor, digits = scaled(unit)
    if not row["n"]:
        return UNKNOWN
    ends = span(row["lowest"] * factor, row["highest"] * factor, digits)
    return f"{_mean_sd(row, unit)} ({ends})"


def _mean_sd(row: pd.Series, unit: str) -> str:
    factor, digits = scaled(unit)
    mean = number(row["mean"] * factor, digits)
    return mean if pd.isna(row["sd"]) else f"{mean} ± {number(row['sd'] * factor, digits)}"


def normal_values(frame: pd.DataFrame) -> Readable:
    """Return the normal values: a row per muscle and side, a column per measure and sex."""
    known = frame[frame["n"] > 0]
    sexes = [sex for sex in _sexes(known) if sex != "all"]
    measures = list(dict.fromkeys(zip(frame["measure"], frame["unit"], strict=True)))
    header = ["Muscle", "Side"]
    header += [
        f"{SEXES[sex]}: {_measure(measure)}, {shown_unit(unit)}"
        for measure, unit in measures
        for sex in sexes
    ]
    found = frame.set_index(["muscle", "side", "measure", "sex"])
    rows = [
        [
            words(muscle),
            side,
            *(
                _mean_sd_count(found.loc[(muscle, side, measure, sex)], unit)
                for measure, unit in measures
                for sex in sexes
            ),
        ]
        for muscle, side in dict.fromkeys(zip(known["muscle"], known["side"], strict=True))
    ]
    return Readable(header, rows, labels=2, empty="No analysed subjects.")


def _measure(name: str) -> str:
    return next(meaning for key, meaning in VARIABLES.items() if key in name)


def _mean_sd_count(row: pd.Series, unit: str) -> str:
    return f"{_mean_sd(row, unit)} ({row['n']:.0f})" if row["n"] else UNKNOWN


def agreement(frame: pd.DataFrame) -> Readable:
    """Return the agreement of areas, a row per muscle and side with subjects to compare."""
    header = [
        "Muscle", "Side", "Subjects", "Mask, mean mm²", "Prediction, mean mm²", "Bias, mm²",
        "Limits of agreement, mm²", "ICC(2,1)", "95 % interval", "Median difference, %",
    ]  # fmt: skip
    rows = [
        [
            words(row.muscle), row.side, number(row.n_subjects, 0), number(row.truth_mean_mm2, 0),
            number(row.prediction_mean_mm2, 0), number(row.bias_mm2, 1),
            span(row.lower_limit_mm2, row.upper_limit_mm2, 1), number(row.icc_2_1, 3),
            span(row.icc_low_95, row.icc_high_95, 3),
            number(row.median_absolute_difference_percent, 1),
        ]
        for row in frame[frame["n_subjects"] > 0].itertuples()
    ]  # fmt: skip
    return Readable(header, rows, labels=2, empty=f"{NOBODY}.")


def fat_methods(frame: pd.DataFrame) -> Readable:
    """Return the mean fat fraction per method and muscle, with what to beware of."""
    header = ["Method", *(f"{words(muscle)}, %" for muscle in MUSCLES), "Meaning", "Caveat"]
    rows = [
        [
            row["method"],
            *(number(100 * row[f"mean_{muscle}"], 1) for muscle in MUSCLES),
            row["meaning"],
            row["caveat"],
        ]
        for row in frame.to_dict("records")
    ]
    return Readable(header, rows, prose=(len(header) - 2, len(header) - 1))


@dataclass(frozen=True)
class ReadableModel:
    """A model's terms with its title, formula and what kept it from being fitted, if anything."""

    title: str
    table: Readable
    formula: str
    note: str


def models(frame: pd.DataFrame) -> list[ReadableModel]:
    """Return the terms of every model, in the order of the table."""
    return [
        _model(outcome, model, terms)
        for (outcome, model), terms in frame.groupby(["outcome", "model"], sort=False)
    ]


def _model(outcome: str, model: str, terms: pd.DataFrame) -> ReadableModel:
    first = terms.iloc[0]
    known = terms[terms["estimate"].notna()]
    rows = [_term(row) for row in known.itertuples()]
    n = "" if pd.isna(first["n_subjects"]) else f" ({first['n_subjects']:,.0f} subjects)"
    return ReadableModel(
        title=f"{words(_measure(outcome))}, {model}{n}".replace("Csa", "CSA"),
        table=Readable(["Term", "Estimate", "95 % interval", "Unit", "p"], rows, empty="No fit."),
        formula="" if pd.isna(first["formula"]) else str(first["formula"]),
        note="" if pd.isna(first["note"]) else str(first["note"]),
    )


def _term(row) -> list[str]:
    factor, digits = scaled(str(row.unit))
    digits += 1
    interval = span(row.low_95 * factor, row.high_95 * factor, digits)
    estimate = number(row.estimate * factor, digits)
    return [row.label, estimate, interval, points(str(row.unit)), p_value(row.p_value)]


def quarantined(ledger: pd.DataFrame) -> Readable:
    """Return quarantined subjects, rows of the ledger, with their reasons."""
    rows = [[row.subject, row.reason, row.message, row.stage] for row in ledger.itertuples()]
    header = ["Subject", "Reason", "What was found", "Stage"]
    return Readable(header, _as_text(rows), labels=2, prose=(2, 3), empty="None.")


def warnings(ledger: pd.DataFrame) -> Readable:
    """Return how many subjects carry each warning, the commonest first."""
    counts = ledger["warnings"].explode().dropna().value_counts()
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return Readable(
        ["Warning", "Subjects"], [[code, f"{count:,}"] for code, count in ordered], empty="None."
    )


def _as_text(rows: Sequence[Sequence]) -> list[list[str]]:
    return [[UNKNOWN if pd.isna(cell) else str(cell) for cell in row] for row in rows]
