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

    Columns: measure (csa, volume, fat_fraction); muscle (two joined by + if the source has them
    together); side (left, right, mean, sum); level (a vertebra or disc, or a range); sex (F, M,
    all); n; age_years (range, or mean ± SD); mean, sd (null if not given), unit; people, scanner;
    authors, year, journal, table (in it), link; level_position, the level as a number, null for a
    range; source, such as "Si 2023".
    """
    found = pd.read_csv(FILE, dtype={"unit": str, "age_years": str})
    position = [level_number(level) for level in found["level"]]
    source = found["authors"].str.split().str[0] + " " + found["year"].astype(str)
    return found.assign(level_position=pd.Series(position, dtype=float), source=source)


def areas_of_sides() -> pd.DataFrame:
    """Return published areas of one side at single levels: mean and SD of left and right, averaged.

    One row per muscle, level, sex and source. Columns: KEYS, n, age_years, people, mean (mm2), sd
    (mm2).
    """
    found = read_published()
    found = found[(found["measure"] == "csa") & found["side"].isin(["left", "right"])]
    groups = found.dropna(subset=["level_position"]).groupby(KEYS, sort=False)
    told = groups[["n", "age_years", "people"]].first()
    return told.join(groups[["mean", "sd"]].mean()).reset_index()


def areas_at(level: str) -> pd.DataFrame:
    """Return published areas of one side at one level: the rows of `areas_of_sides` there.

    level: name of a vertebra or disc, such as "L3/4".
    """
    found = areas_of_sides()
    return found[found["level_position"] == level_number(level)]


def source_note(published: pd.DataFrame) -> str:
    """Return a sentence on the sources of rows, such as "Published values: Si 2023 (n = 336, ...).".

    published: rows with source, n, age_years, people and sex. "" without rows.
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

    published: from `read_published`. measure, muscle, side, sex, level: of the normal value. For a
    value at a level those at that level are returned, for a mean over all slices those over a range
    of levels; with those of sources that do not separate the sexes or that average the sides. Empty
    if no source has the measure.
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
