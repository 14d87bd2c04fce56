"""Centiles of area, volume and fat fraction by age and sex, and z-scores of subjects."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from scipy import stats

from paravert import __version__, codebook, tables
from paravert.anatomy import MUSCLES, level_number
from paravert.errors import InputError
from paravert.study.covariates import SEX_WORDS, SPLINE_DF, persons
from paravert.study.data_frames import SEX_CATEGORIES, read_frame, write_csv
from paravert.study.quantile_regression import CENTILES, MOST_RESAMPLED, centile_curves
from paravert.study.result_tables import BOOTSTRAP, LEAST_SHARED_SUBJECTS
from paravert.study.scans import first_scans, scan_keys
from paravert.study.standard_level import level_of_metadata
from paravert.tables import FLAG, MUSCLE, NUMBER, TEXT, WHOLE, Column, Table

log = logging.getLogger(__name__)

LEAST_SUBJECTS = 60  # of a sex
LEAST_YEARS = 1.0  # between youngest and oldest, as curves are told at the whole years around them
LOG, LOGIT = "log", "logit"
LEAST_FRACTION = 1e-4  # the logit of 0 and 1 is infinite; quantiles need ranks only
ESTIMATOR = f"quantile regression, natural cubic spline of age with {SPLINE_DF} degrees of freedom"
LEVEL_RULE = (
    "csa, csa_index: mean over all slices that show the muscle, left + right; volume: sum over all slices,"
    " left + right, which grows with the covered length; fat_fraction: volume-weighted over all slices"
    " and both sides; csa_level, fat_fraction_level: interpolated at"
)
Z_COLUMNS = (
    "subject", "sex", "age_years", "muscle", "measure", "value", "unit", "centile", "z", "extrapolated",
    "note",
)  # fmt: skip
SUBJECT_COLUMNS = ("subject", "sex", "age_years")
# What a row without a curve has in the columns of curves.
OF_CURVE = dict.fromkeys(("age_years", "centile", "value", "low_95", "high_95"), np.nan)
OF_CURVE |= dict.fromkeys(("crossed", "estimator", "covariance"))
NO_SHARED_AGE = f"no age with {LEAST_SHARED_SUBJECTS} subjects"


@dataclass(frozen=True)
class Measure:
    """A measure of muscles for which centiles by age are fitted.

    name: value of the column measure in the table of centiles. column: name of its column in the
    table of subjects, with {} in place of the muscle. unit: such as "mm2". scale: LOG ("log") or LOGIT
    ("logit"), the transformation by `to_scale` before centiles are fitted.
    """

    name: str
    column: str
    unit: str
    scale: str

    def column_of(self, muscle: str) -> str:
        """Return the name of the measure's column in the table of subjects, for one of MUSCLES."""
        return self.column.format(muscle)


MEASURES = (
    Measure("csa", "csa_{}_mm2", "mm2", LOG),
    Measure("csa_index", "csa_index_{}", "mm2/m2", LOG),
    Measure("csa_level", "csa_level_{}_mm2", "mm2", LOG),
    Measure("volume", "volume_{}_ml", "ml", LOG),
    Measure("fat_fraction", "fat_fraction_{}", "1", LOGIT),
    Measure("fat_fraction_level", "fat_level_{}", "1", LOGIT),
)
CENTILE_TABLE = Table(
    "centiles",
    (
        Column("sex", TEXT, meaning="sex", required=True, allowed=SEX_CATEGORIES),
        MUSCLE,
        Column(
            "measure", TEXT, required=True, allowed=codebook.CENTILE_MEASURES,
            meaning="csa: area, csa_index: area over squared height; each left + right",
        ),
        Column("unit", TEXT, meaning="unit of value, low_95 and high_95", required=True),
        Column(
            "scale", TEXT, required=True, allowed=(LOG, LOGIT),
            meaning="scale of the regression, and of the interpolation of z between centiles",
        ),
        Column("age_years", NUMBER, "year", meaning="age; null if not fitted", minimum=0),
        Column("centile", NUMBER, "1", "centile; null if not fitted", minimum=0, maximum=100),
        Column("value", NUMBER, meaning="value of the centile at this age"),
        Column("low_95", NUMBER, meaning="lower end of the pointwise 95 % band"),
        Column("high_95", NUMBER, meaning="upper end of the pointwise 95 % band"),
        Column("crossed", FLAG, meaning="whether curves crossed at this age and were rearranged"),
        Column(
            "n_subjects", WHOLE, "1", minimum=0,
            meaning=f"subjects with age and value; null below {LEAST_SHARED_SUBJECTS} in tables for sharing",
        ),
        Column("note", TEXT, meaning="why there are no centiles"),
        Column("estimator", TEXT, meaning="estimator of the centile"),
        Column("covariance", TEXT, meaning="where low_95 and high_95 come from"),
    ),
    keys=("sex", "muscle", "measure", "age_years", "centile"),
    meaning="a centile of a measure at an age",
)  # fmt: skip


# --- commands ------------------------------------------------------------------------------------


def fit_centiles(
    cohort: Annotated[Path, typer.Option(help="Folder of the cohort tables.")],
    out: Annotated[
        Path, typer.Option(help="Parquet file of the centiles; z_scores.csv is written beside it.")
    ],
    bootstrap_samples: Annotated[
        int, typer.Option(help="Samples of the bootstrap over subjects, for the bands.", min=2)
    ] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 1,
    share_tables: Annotated[
        bool, typer.Option(help="Leave out counts and ages of fewer than 5 subjects, and z-scores.")
    ] = False,
    level_standard: Annotated[
        str, typer.Option(help="Vertebra or disc of the measures at a level.")
    ] = "L3/4",
) -> None:
    """Fit centiles of area, volume and fat fraction by age and sex, and score the subjects.

    The centiles are fitted to the first scan of each subject. Writes the table of centiles
    (Parquet), for each whole year of age, and z_scores.csv with the centile and z-score of each
    scan; tables for sharing have no z-scores, which are of single persons. level_standard is noted in
    the Parquet file. Raises InputError if the cohort tables were made for another level.
    """
    made_for = level_of_metadata(cohort, codebook.SUBJECT_TABLE.name)
    if level_number(level_standard) != level_number(made_for):
        told = f"{level_standard}, expected {made_for}, for which the cohort tables were made"
        raise InputError("--level-standard", told)
    subjects = read_frame(cohort, codebook.SUBJECT_TABLE)
    centiles = centile_frame(first_scans(subjects), bootstrap_samples, seed)
    scores = z_scores(subjects, centiles)
    if share_tables:
        centiles, scores = centiles_for_sharing(centiles, first_scans(subjects)), scores[:0]
    data = pa.Table.from_pandas(centiles, CENTILE_TABLE.schema(), preserve_index=False)
    tables.write(out, CENTILE_TABLE, data, _metadata(centiles, made_for, bootstrap_samples))
    write_csv(out.parent / "z_scores.csv", scores)
    fitted = centiles.dropna(subset=["value"]).groupby(["sex", "muscle", "measure"]).ngroups
    log.info("fit_centiles: %d subjects, %d sets of curves", subjects["subject"].nunique(), fitted)


def apply_centiles(
    centiles: Annotated[Path, typer.Option(help="Parquet file that fit_centiles wrote.")],
    subjects: Annotated[
        Path,
        typer.Option(
            help="Parquet or CSV file with subject, sex, age_years and columns of measures, named as"
            " in the cohort's table of subjects."
        ),
    ],
    out: Annotated[Path, typer.Option(help="CSV file for the z-scores.")],
) -> None:
    """Write the centile and z-score of other subjects by the centiles of a study.

    The columns of the result are those of `z_scores`. A column visit tells several scans of a subject
    apart. Raises InputError for a file that is not the table of centiles, and for subjects that cannot
    be read, with a column missing, no measure, a sex other than F and M, text in place of numbers, a
    fat fraction below 0 or above 1, or several rows of one scan.
    """
    scores = z_scores(_read_subjects(subjects), _read_centiles(centiles))
    write_csv(out, scores)
    log.info("apply_centiles: %d values, %d scored", len(scores), scores["z"].notna().sum())


def _metadata(centiles: pd.DataFrame, level: str, samples: int) -> dict[str, str]:
    known = centiles["age_years"].dropna()
    return {
        "software_version": __version__,
        "age_range_years": f"{known.min():g} to {known.max():g}" if len(known) else "",
        "largest_n_subjects": _told(centiles["n_subjects"].max()),
        "level_rule": f"{LEVEL_RULE} {level}",
        "estimator": f"{ESTIMATOR}, log or logit scale, crossing curves rearranged",
        "bands": f"pointwise 95 %, {samples} bootstrap samples of at most {MOST_RESAMPLED} subjects",
    }


def _people(count: float, sex: str) -> str:
    return f"{_told(count)} {SEX_WORDS[sex]}" if pd.isna(count) else persons(int(count), sex)


def _told(count: float) -> str:
    """Return a number of subjects as text; null is a suppressed one."""
    return f"fewer than {LEAST_SHARED_SUBJECTS}" if pd.isna(count) else f"{count:.0f}"


def _read_centiles(path: Path) -> pd.DataFrame:
    try:
        data = pq.read_table(path)
        for name in ("estimator", "covariance"):  # files of earlier versions lack these
            if name not in data.schema.names:
                data = data.append_column(name, pa.nulls(len(data), pa.string()))
        tables.check(CENTILE_TABLE, data)
    except (OSError, pa.ArrowInvalid, ValueError):
        raise InputError(path, "no table of centiles, expected the file of fit_centiles") from None
    return data.to_pandas()


def _read_subjects(path: Path) -> pd.DataFrame:
    """Return the table of another lab's subjects. Raises InputError where it cannot be used."""
    try:
        if path.suffix == ".parquet":
            frame = pd.read_parquet(path)
        else:
            frame = pd.read_csv(path, dtype={"subject": str, "visit": str, "sex": str})
    except (OSError, ValueError) as error:
        raise InputError(path, f"not readable ({error}), expected a Parquet or CSV file") from None
    measured = {m.column_of(muscle): m for m in MEASURES for muscle in MUSCLES}
    lacking = [name for name in SUBJECT_COLUMNS if name not in frame]
    if lacking:
        raise InputError(
            path, f"no column {', '.join(lacking)}, expected {', '.join(SUBJECT_COLUMNS)}"
        )
    known = [name for name in measured if name in frame]
    if not known:
        raise InputError(
            path, f"no measure, expected a column such as {', '.join(list(measured)[:2])}"
        )
    if frame.duplicated(scan_keys(frame)).any():
        raise InputError(path, "subjects with several rows, expected one each, or one per visit")
    if strange := set(frame["sex"].dropna()) - set(SEX_CATEGORIES):
        raise InputError(
            path, f"sex {', '.join(sorted(map(str, strange)))}, expected F, M or nothing"
        )
    for name in ("age_years", *known):
        if not pd.api.types.is_numeric_dtype(frame[name]):
            raise InputError(path, f"{name} holds text, expected numbers")
        fractions = name in measured and measured[name].scale == LOGIT
        if fractions and not frame[name].dropna().between(0, 1).all():
            told = "has values below 0 or above 1, expected fractions between 0 and 1"
            raise InputError(path, f"{name} {told}")
    return frame


# --- centiles ------------------------------------------------------------------------------------


def centile_frame(subjects: pd.DataFrame, samples: int, seed: int) -> pd.DataFrame:
    """Return the centiles of each measure by age, sex and muscle, with the columns of CENTILE_TABLE.

    subjects: the cohort table `subjects`, one scan per subject. samples: number of bootstrap samples
    for the 95 % bands; with 0 low_95 and high_95 are NaN. seed: of the bootstrap. One row per measure,
    muscle, sex, whole year of age (from the youngest's, rounded down, to the oldest's, rounded up), and
    centile (3, 10, 25, 50, 75, 90, 97). Columns: sex, muscle, measure, unit, scale (LOG or LOGIT, on
    which the curves were fitted), age_years, centile, value, low_95, high_95 (in `unit`), crossed
    (whether the curves crossed at this age and were sorted), n_subjects (of the sex, with age and
    value), note, and estimator and covariance (texts: how values and bands were made). If fewer than
    LEAST_SUBJECTS (60) of a sex have age and value (sizes: above 0), their ages span less than
    LEAST_YEARS (1), or the value is the same in all, that measure, muscle and sex have a single row,
    with null values and a note that says so. Measures are those of `codebook.CENTILE_MEASURES`; of a
    muscle both sides together. The column sex of subjects is F, M or null (not used).
    """
    return pd.concat(
        [
            _of_sex(subjects[subjects["sex"] == sex], sex, muscle, measure, samples, seed)
            for measure in MEASURES
            for muscle in MUSCLES
            for sex in SEX_CATEGORIES
        ],
        ignore_index=True,
    )[[column.name for column in CENTILE_TABLE.columns]]


def _of_sex(
    people: pd.DataFrame, sex: str, muscle: str, measure: Measure, samples: int, seed: int
) -> pd.DataFrame:
    age = people["age_years"].to_numpy(dtype=float)
    value = to_scale(people[measure.column_of(muscle)].to_numpy(dtype=float), measure.scale)
    known = np.isfinite(age) & np.isfinite(value)
    age, value = age[known], value[known]
    common = {
        "sex": sex,
        "muscle": muscle,
        "measure": measure.name,
        "unit": measure.unit,
        "scale": measure.scale,
        "n_subjects": len(value),
    }
    note = None
    if len(value) < LEAST_SUBJECTS:
        note = f"{persons(len(value), sex)} with age and value, expected at least {LEAST_SUBJECTS}"
    elif np.ptp(age) < LEAST_YEARS:
        note = "all subjects are of the same age, within a year"
    elif np.ptp(value) == 0:
        note = "the value is the same in all subjects"
    if note:
        return pd.DataFrame([common | OF_CURVE | {"note": note}])
    grid = np.arange(np.floor(age.min()), np.ceil(age.max()) + 1)
    curves = centile_curves(age, value, grid, samples, seed)
    columns = {
        name: from_scale(getattr(curves, name), measure.scale).ravel()
        for name in ("value", "low_95", "high_95")
    }
    columns |= {
        "age_years": np.repeat(grid, len(CENTILES)),
        "centile": np.tile(np.array(CENTILES, dtype=float), len(grid)),
        "crossed": np.repeat(curves.crossed, len(CENTILES)),
    }
    told = {"note": None, "estimator": ESTIMATOR, "covariance": BOOTSTRAP if samples else None}
    return pd.DataFrame(columns | told).assign(**common)


def centiles_for_sharing(centiles: pd.DataFrame, subjects: pd.DataFrame) -> pd.DataFrame:
    """Return centiles in which each number is based on LEAST_SHARED_SUBJECTS (5) subjects or more.

    centiles: from `centile_frame`. subjects: the table that they were fitted to. Counts of 1 to 4
    subjects become null; the note says "fewer than 5". Ages below that of the fifth youngest and above
    that of the fifth oldest subject of the curve (its sex, with its measure) are left out, because the
    ends are ages of single persons; a curve without an age between them has a single row, with null
    values and a note that says so.
    """
    few = centiles["n_subjects"].between(1, LEAST_SHARED_SUBJECTS - 1)
    counts = centiles["n_subjects"].astype("Int32").mask(few)
    notes = centiles["note"].mask(few, f"fewer than {LEAST_SHARED_SUBJECTS} subjects of this sex")
    shared = centiles.assign(n_subjects=counts, note=notes)
    kept = centiles["value"].isna()
    for (sex, muscle, measure), rows in centiles[~kept].groupby(["sex", "muscle", "measure"]):
        own = subjects[subjects["sex"] == sex].dropna(subset=["age_years"])
        shown = next(one for one in MEASURES if one.name == measure)
        fitted = ~np.isnan(
            to_scale(own[shown.column_of(muscle)].to_numpy(dtype=float), shown.scale)
        )
        ages = np.sort(own["age_years"][fitted])[
            [LEAST_SHARED_SUBJECTS - 1, -LEAST_SHARED_SUBJECTS]
        ]
        kept[rows.index] = rows["age_years"].between(*ages)
        if not kept[rows.index].any():
            first = rows.index[0]
            kept[first] = True
            shared.loc[first, [*OF_CURVE]] = None
            shared.loc[first, "note"] = NO_SHARED_AGE
    return shared[kept]


def too_few(centiles: pd.DataFrame) -> str:
    """Return a sentence on why a study has no centiles: how many subjects it has, and needs.

    centiles: from `centile_frame` or `centiles_for_sharing`. The number of a sex is the largest
    n_subjects of its rows, 0 without rows; null reads "fewer than 5". If that is enough, the sentence
    gives the notes instead, such as that all subjects are of the same age.
    """
    enough = (centiles["n_subjects"] >= LEAST_SUBJECTS).fillna(False)
    if notes := list(centiles.loc[enough, "note"].dropna().unique()):
        return f"No centiles: {'; '.join(notes)}."
    counts = centiles.groupby("sex")["n_subjects"].max()
    found = " and ".join(_people(counts.get(sex, 0), sex) for sex in SEX_WORDS)
    needed = f"at least {LEAST_SUBJECTS} women or men of known age"
    return f"Centiles need {needed}; this study has {found}."


def to_scale(value: np.ndarray, scale: str) -> np.ndarray:
    """Return the logarithm or logit of values, same shape; centiles are fitted to the result.

    value: in the unit of the measure. scale: LOG ("log") gives the natural logarithm, NaN where the value
    is not above 0; LOGIT ("logit") gives log(p / (1 - p)), with p first limited to 0.0001 to 0.9999.
    """
    if scale == LOGIT:
        kept = np.clip(value, LEAST_FRACTION, 1 - LEAST_FRACTION)
        return np.log(kept / (1 - kept))
    return np.log(np.where(value > 0, value, np.nan))


def from_scale(value: np.ndarray, scale: str) -> np.ndarray:
    """Return the values whose logarithm or logit is given, same shape: the inverse of `to_scale`.

    value: logarithms or logits. scale: which of them, LOG ("log") or LOGIT ("logit").
    """
    return 1 / (1 + np.exp(-value)) if scale == LOGIT else np.exp(value)


# --- z-scores ------------------------------------------------------------------------------------


def z_scores(subjects: pd.DataFrame, centiles: pd.DataFrame) -> pd.DataFrame:
    """Return the centile and z-score of every scan, muscle and measure, one row each.

    subjects: columns subject, visit if subjects have several scans, sex (F, M or null), age_years, and
    measures named as in the cohort table `subjects`, at least one. A measure without a column gets no
    rows; an empty value gets a row with z NaN and a note. centiles: from `centile_frame` or
    `centiles_for_sharing`. Columns: subject, visit (if subjects has it), sex, age_years, muscle,
    measure, value, unit, centile (0 to 100), z, extrapolated, note ("" with a z). z is interpolated
    between the centile curves at the subject's age, of the logarithm or logit (`to_scale`).
    extrapolated: whether the value is below the 3rd or above the 97th centile, where z continues the
    line through the median and that centile. z and centile are NaN, with a reason in note, if sex, age
    or value is unknown, an area or volume is 0, the age is outside that of the curves, or there are no
    centiles or they coincide.
    """
    by_group = dict(iter(centiles.groupby(["sex", "muscle", "measure"], observed=True)))
    found = [
        _scored(subjects, muscle, measure, by_group)
        for measure in MEASURES
        for muscle in MUSCLES
        if measure.column_of(muscle) in subjects
    ]
    return pd.concat(found, ignore_index=True)[[*scan_keys(subjects), *Z_COLUMNS[1:]]]


def with_z_scores(subjects: pd.DataFrame) -> pd.DataFrame:
    """Return the table of subjects with a column of z-scores, for sex and age, per measure and muscle.

    subjects: the cohort table `subjects`, rows in any order, which the result keeps, with a unique
    index. The centiles are fitted to each subject's first scan (`scans.first_scans`: by
    years_since_first, or by the visit's name); every scan gets z-scores. The columns are named by
    `codebook.z_column`, such as z_csa_multifidus. z is NaN where `z_scores` gives none.
    """
    ordered = subjects.sort_values(scan_keys(subjects))
    centiles = centile_frame(first_scans(ordered), samples=0, seed=0)
    by_group = dict(iter(centiles.groupby(["sex", "muscle", "measure"], observed=True)))
    scores = {
        codebook.z_column(measure.name, muscle): _scored(ordered, muscle, measure, by_group)[
            "z"
        ].to_numpy()
        for measure in MEASURES
        for muscle in MUSCLES
    }
    return subjects.join(pd.DataFrame(scores, index=ordered.index))


def _scored(
    subjects: pd.DataFrame, muscle: str, measure: Measure, by_group: dict[tuple, pd.DataFrame]
) -> pd.DataFrame:
    frame = subjects[[*scan_keys(subjects), *SUBJECT_COLUMNS[1:]]].reset_index(drop=True)
    frame["value"] = subjects[measure.column_of(muscle)].to_numpy(dtype=float)
    frame = frame.assign(muscle=muscle, measure=measure.name, unit=measure.unit, z=np.nan, note="")
    for sex in SEX_CATEGORIES:
        curves = by_group.get((sex, muscle, measure.name))
        rows = frame.index[frame["sex"] == sex]
        if curves is None:
            # Files of earlier versions for sharing lack these rows.
            frame.loc[rows, "note"] = f"no centiles: {NO_SHARED_AGE}"
            continue
        if curves["value"].isna().all():
            frame.loc[rows, "note"] = f"no centiles: {curves['note'].iloc[0]}"
            continue
        age = frame.loc[rows, "age_years"].to_numpy(dtype=float)
        value = to_scale(frame.loc[rows, "value"].to_numpy(), measure.scale)
        frame.loc[rows, "z"] = z_of(value, _curves_at(age, curves, measure.scale))
        low, high = curves["age_years"].min(), curves["age_years"].max()
        frame.loc[rows[(age < low) | (age > high)], "note"] = (
            f"age outside {low:g} to {high:g} years"
        )
        frame.loc[rows[~np.isfinite(value)], "note"] = "no value"
    for name in ("sex", "age_years"):
        frame.loc[frame[name].isna(), "note"] = f"{name} unknown"
    outermost = [stats.norm.ppf(end / 100) for end in (CENTILES[0], CENTILES[-1])]
    scored = frame["z"].notna()
    frame.loc[~scored & (frame["note"] == ""), "note"] = "the centile curves coincide"
    return frame.assign(
        centile=100 * stats.norm.cdf(frame["z"]),
        extrapolated=~frame["z"].between(*outermost) & scored,
    )


def _curves_at(age_years: np.ndarray, curves: pd.DataFrame, scale: str) -> np.ndarray:
    """Return the centiles at ages, (ages, centiles), on the scale of the regression; nan outside."""
    grid = curves.pivot(index="age_years", columns="centile", values="value")
    values = to_scale(grid.to_numpy(), scale)
    ages = grid.index.to_numpy()
    return np.column_stack(
        [np.interp(age_years, ages, column, left=np.nan, right=np.nan) for column in values.T]
    )


def z_of(value: np.ndarray, curves: np.ndarray) -> np.ndarray:
    """Return the z-scores of values from centile curves, float (subjects,).

    value: (subjects,), logarithms or logits from `to_scale`, not the measured values. curves:
    (subjects, 7), on the same scale, the centiles 3, 10, 25, 50, 75, 90 and 97 at each subject's age,
    ascending; all seven NaN where they are unknown. Between two centiles z is interpolated linearly;
    a value on several centiles that coincide gets the middle of their z-scores. Beyond the outermost
    centile z continues the line through the median and that centile; NaN if these two are equal. NaN
    if the value or the curves are NaN.
    """
    of_centiles = stats.norm.ppf(np.array(CENTILES) / 100)
    last, median = len(CENTILES) - 1, CENTILES.index(50)
    below, up_to = (
        compare(value[:, None], curves).sum(axis=1) for compare in (np.greater, np.greater_equal)
    )
    middle = (of_centiles[np.clip(below, 0, last)] + of_centiles[np.clip(up_to - 1, 0, last)]) / 2
    lower = np.clip(up_to - 1, 0, last - 1)
    upper = np.where(value < curves[:, 0], median, lower + 1)
    lower = np.where(value > curves[:, last], median, lower)
    rows = np.arange(len(value))
    start, end = curves[rows, lower], curves[rows, upper]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = (value - start) / (end - start)
    z = of_centiles[lower] + share * (of_centiles[upper] - of_centiles[lower])
    return np.where(up_to > below, middle, np.where(start == end, np.nan, z))
