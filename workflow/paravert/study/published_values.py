"""Published normal values of area, volume and fat fraction, each with its source, for comparison."""

from pathlib import Path

import pandas as pd

from paravert.anatomy import level_number

FILE = Path(__file__).with_name("published_values.csv")
NOT_BY_SEX = "all"  # in the column sex: the source does not separate the sexes
KEYS = ["muscle", "level", "level_position", "sex", "source"]
OF_MEASURE = {  # measure of the normal values: measure of a source
    "csa_at_level_mm2": "csa",
    "fat_fraction_at_level": "fat_fraction",
    "fat_fraction": "fat_fraction",
}


def read_published() -> pd.DataFrame:
    """Return published normal values of muscles, one row each, from published_values.csv.

    Columns: measure (csa, volume, fat_fraction); muscle (several joined by + if the source reports them
    together); side (left, right, mean, sum); level (name of a vertebra or disc, or a range such as
    "whole muscle"); sex (F, M, all); n (number of people; of both sexes together where the column
    people says so); age_years (text, such as "20 to 69" or "42.3 ± 8.3"); mean, sd (null if not given),
    unit ("mm2", "ml", or "1" for fractions 0-1); people (text, who they were, such as "healthy
    volunteers"), scanner; authors, year, journal, table (of the article), link; level_position, the
    level as a number, null for a range; source, such as "Si 2023".
    """
    found = pd.read_csv(FILE, dtype={"unit": str, "age_years": str})
    position = [level_number(level) for level in found["level"]]
    source = found["authors"].str.split().str[0] + " " + found["year"].astype(str)
    return found.assign(level_position=pd.Series(position, dtype=float), source=source)


def areas_of_sides() -> pd.DataFrame:
    """Return published areas of one side at single levels, the mean of left and right.

    One row per muscle, level, sex and source. Columns: muscle, level, level_position, sex, source
    (KEYS), n, age_years and people as in `read_published`, mean and sd (mm2), each the mean of
    those of left and right. Values for a range of levels, or for both sides together, are left out.
    """
    found = read_published()
    found = found[(found["measure"] == "csa") & found["side"].isin(["left", "right"])]
    groups = found.dropna(subset=["level_position"]).groupby(KEYS, sort=False)
    told = groups[["n", "age_years", "people"]].first()
    return told.join(groups[["mean", "sd"]].mean()).reset_index()


def areas_at(level: str) -> pd.DataFrame:
    """Return published areas of one side at one level: rows of `areas_of_sides`, empty if none.

    level: name of a vertebra or disc, such as "L3/4".
    """
    found = areas_of_sides()
    return found[found["level_position"] == level_number(level)]


def source_note(published: pd.DataFrame) -> str:
    """Return a sentence on the sources of rows, such as "Published values: Si 2023 (n = 336, ...).".

    published: rows of `read_published` or `areas_of_sides`; source, n, age_years, people and sex
    are used, of the first row of each source. "" without rows.
    """
    sources = [
        f"{row.source} (n = {row.n}, {row.age_years} years, {row.people}"
        f"{', not by sex' * (row.sex == NOT_BY_SEX)})"
        for row in published.drop_duplicates("source").itertuples()
    ]
    return f"Published values: {'; '.join(sources)}." if sources else ""


def matching(
    published: pd.DataFrame, measure: str, muscle: str, side: str, sex: str, level: str
) -> pd.DataFrame:
    """Return the published values that can be compared with one of the study's normal values.

    published: from `read_published`. measure, muscle, side, sex, level: of the normal value, as in
    `describe.normal_values`; level is a name or "all slices". Rows of the same measure and muscle are
    returned if they match in side (or average the sides), sex (or do not separate the sexes) and
    level: for a value at a level the same level, for a mean over all slices any range of levels.
    Empty for csa_mean_mm2 and volume_ml, which are not compared.
    """
    if measure not in OF_MEASURE:
        return published[:0]
    position = level_number(level)
    at_level = published["level_position"]
    return published[
        (published["measure"] == OF_MEASURE[measure])
        & (published["muscle"] == muscle)
        & published["side"].isin([side, "mean"])
        & published["sex"].isin([sex, NOT_BY_SEX])
        & (at_level.isna() if position is None else at_level == position)
    ]
