"""The covariates of a model: which can be used, in which unit, and notes on those left out."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from paravert.study.scans import scan_keys
from paravert.study.summary import counted

SCALES = {  # covariate of a model: its column, its unit of change, that unit in words
    "age_decades": ("age_years", 10.0, "decade"),
    "height_10cm": ("height_cm", 10.0, "10 cm"),
    "weight_10kg": ("weight_kg", 10.0, "10 kg"),
}
# Functions in the formulas, which columns of these names would hide, and patsy's name of the intercept.
FORMULA_NAMES = ("Q", "cr", "Intercept")
SEX_WORDS = {"F": "women", "M": "men"}
ONE_PERSON = {"F": "woman", "M": "man"}
SPLINE_DF = 3  # degrees of freedom of a natural cubic spline of age
LEAST_OF_CATEGORY = 5  # subjects; smaller categories are pooled
OTHER = "other"


def persons(count: int, sex: str) -> str:
    """Return a number of women (F) or men (M) in words, such as "1 man" or "2 women"."""
    return f"{count:,} {ONE_PERSON[sex] if count == 1 else SEX_WORDS[sex]}"


def column_of(covariate: str) -> str:
    """Return the name of the table column that holds a covariate of a model.

    "age_decades" is in the column age_years, "height_10cm" in height_cm, "weight_10kg" in weight_kg
    (SCALES). Any other covariate has the name of its column.
    """
    return SCALES[covariate][0] if covariate in SCALES else covariate


def varying_covariates(
    data: pd.DataFrame, wanted: Sequence[str], asked: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Return the covariates that can be used because their values vary, and notes on those left out.

    data: one row per scan, muscle and side, with the column of each covariate (`column_of`). wanted:
    names of covariates. asked: names among them that are kept even if their values do not vary.
    FORMULA_NAMES (Q, cr, Intercept) are always left out: they are words of patsy's formula language. A
    name of SCALES that occurs in wanted once more is left out there, with a text: it is then the name
    of a column of the sheet. If other covariates have one column, such as age_decades and age_years,
    the first is kept, and the others have no text. Unknown values do not count as values. Returns
    (names in the order of wanted, a text per covariate left out); if data has no rows, covariates that
    do not vary have no text.
    """
    kept, notes = [], []
    for name in wanted:
        column = column_of(name)
        if name in FORMULA_NAMES or (name in SCALES and name in kept):
            notes.append(f"{name} left out: a word of the formula language, rename the column")
        elif column in map(column_of, kept):
            continue
        elif data[column].nunique() > 1 or name in asked:
            kept.append(name)
        elif len(data):
            why = "unknown" if data[column].isna().all() else "the same in all subjects"
            notes.append(f"{column} left out: {why}")
    return kept, notes


def without_small_categories(
    data: pd.DataFrame, covariates: Sequence[str]
) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows without subjects of categories too small to be pooled, and notes on these.

    data: one row per scan, muscle and side, with subject and the column of each covariate
    (`column_of`). covariates: their names. Where the categories of `rare_categories` have fewer than
    LEAST_OF_CATEGORY (5) subjects together, these subjects are left out, with a text that counts
    them. Not concerned: numbers, sex, and covariates of which no two categories would be left.
    """
    notes = []
    names = [column_of(name) for name in covariates if _is_pooled(data, name)]
    while small := next(((name, own) for name in names if len(own := _too_few(data, name))), None):
        name, own = small
        data = data[~data["subject"].isin(own)]
        told = f"{counted(len(own), 'subject')} left out, their categories of {name} are too small"
        notes.append(f"{told}: fewer than {LEAST_OF_CATEGORY}, also together")
    return data, notes


def _is_pooled(data: pd.DataFrame, covariate: str) -> bool:
    return covariate != "sex" and not pd.api.types.is_numeric_dtype(data[column_of(covariate)])


def _too_few(data: pd.DataFrame, column: str) -> np.ndarray:
    """Return the subjects of rare categories if they are too few to be a category of their own."""
    people = data.drop_duplicates(["subject", column])
    rare = rare_categories(people[column])
    of_rare = people.loc[people[column].isin(rare), "subject"].unique()
    usable = people[column].nunique() - len(rare) > 1
    return of_rare if usable and len(of_rare) < LEAST_OF_CATEGORY else of_rare[:0]


def with_model_covariates(data: pd.DataFrame, covariates: Sequence[str]) -> pd.DataFrame:
    """Return a copy of the rows with a column per covariate, in the form that the models take.

    data: one row per scan, muscle and side; subject, and sex, muscle and side as categorical columns;
    no covariate unknown; from `without_small_categories`. covariates: names of the columns to set,
    each made from the column that `column_of` names: age_decades from age_years. Numbers are centred
    at the mean over subjects (first row of each); age_decades, height_10cm and weight_10kg are then
    divided by 10. Others, except sex, become categorical, the largest category first, which is the
    reference of the models; categories of few subjects (`rare_categories`) become "other", and all
    of them if one of the categories would still be too small. Unused categories of muscle, side and
    sex are removed.
    """
    prepared = data.assign(
        **{name: data[name].cat.remove_unused_categories() for name in ("sex", "muscle", "side")}
    )
    people = data.drop_duplicates("subject")
    for name in covariates:
        column = column_of(name)
        if _is_pooled(data, name):
            rare = rare_categories(data.drop_duplicates(["subject", column])[column])
            pooled = data[column].where(~data[column].isin(rare), OTHER)
            sizes = data.assign(pooled=pooled).drop_duplicates(["subject", "pooled"])["pooled"]
            sizes = sizes.value_counts().sort_index().sort_values(ascending=False, kind="stable")
            categories = list(sizes.index)
            if (sizes < LEAST_OF_CATEGORY).any():
                pooled, categories = pooled.where(pooled.isna(), OTHER), [OTHER]
            prepared[name] = pd.Categorical(pooled, categories=categories)
        elif name != "sex":
            step = SCALES[name][1] if name in SCALES else 1.0
            prepared[name] = (data[column] - people[column].mean()) / step
    return prepared


def rare_categories(values: pd.Series) -> list[str]:
    """Return the categories of a covariate that are pooled as "other", the smallest first.

    values: one entry per subject, its category; a subject with several categories has one for each.
    Null entries are not counted. They are the categories with fewer than LEAST_OF_CATEGORY (5)
    subjects.
    """
    counts = values.value_counts(ascending=True)
    return list(counts.index[counts < LEAST_OF_CATEGORY])


def independent_covariates(
    data: pd.DataFrame, covariates: Sequence[str], asked: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Return the covariates that those before them in the list do not determine, and notes on the others.

    data: rows from `with_model_covariates`. covariates: their names, in order of priority. asked:
    names among them that are always kept. Returns (names, a text per covariate left out). Example:
    if each site has one scanner, the site determines the scanner, which is left out. Tested by the
    rank of the design matrix over scans. A covariate with one category, too, is left out, without a
    text if data has no rows.
    """
    people = data.drop_duplicates(scan_keys(data))
    kept, notes, design = [], [], np.ones((len(people), 1))
    for name in covariates:
        added = np.column_stack([design, _columns(people[name])])
        grows = added.shape[1] > design.shape[1]
        if name in asked or (grows and np.linalg.matrix_rank(added) == added.shape[1]):
            kept.append(name)
            design = added
        elif grows:
            notes.append(f"{column_of(name)} left out: the other covariates determine it")
        elif len(people):
            notes.append(
                f"{column_of(name)} left out: no two categories have {LEAST_OF_CATEGORY} subjects"
            )
    return kept, notes


def _columns(values: pd.Series) -> np.ndarray:
    """Return a covariate as columns of a design, its first category as reference."""
    if pd.api.types.is_numeric_dtype(values):
        return values.to_numpy(dtype=float)[:, None]
    return pd.get_dummies(values.astype(str), drop_first=True).to_numpy(dtype=float)
