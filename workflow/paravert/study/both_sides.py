"""Left and right of a muscle, or all muscles, taken together: sums, and weighted fat fractions."""

from collections.abc import Sequence

import pandas as pd

from paravert.anatomy import SIDES


def fat_amount(size: pd.Series, fat_fraction: pd.Series) -> pd.Series:
    """Return size x fat fraction: 0 where the muscle is absent (size 0), null if one of them is unknown.

    size: area or volume, null if unknown. fat_fraction: 0 to 1, with the same index; null if unknown or
    if the muscle is absent. Where none is null, the sum of these amounts over the sum of the sizes is
    the fat fraction of several sides or muscles together.
    """
    size = size.astype(float)
    return (size * fat_fraction.astype(float)).mask(size == 0, 0.0)


def joined(
    rows: pd.DataFrame,
    keys: Sequence[str],
    sizes: Sequence[str],
    fat_fraction: str,
    parts: int = len(SIDES),
) -> pd.DataFrame:
    """Return sizes and fat fraction of several rows together, such as both sides of a muscle.

    rows: one row per side (or muscle and side) of each group. keys: columns, or names of levels of the
    index, that make a group; a group with a null among these is left out. sizes: columns of areas or
    volumes; the first weights the fat fraction. fat_fraction: name of the column of fat fractions (0-1).
    parts: number of known values that a group needs. Returns, indexed by keys, the sum of each size and
    the weighted fat fraction, under the same names. A value is null if that of a part is unknown. A
    part in which the muscle is absent (size 0) does not enter the fat fraction, which is null if all are.
    """
    values = rows[list(sizes)].astype(float)
    values[fat_fraction] = fat_amount(rows[sizes[0]], rows[fat_fraction])
    names = [name for name in keys if name in rows]
    groups = values.assign(**rows[names]).groupby(list(keys), observed=True, sort=False)
    sums = groups.sum(min_count=parts)
    weight = sums[sizes[0]]
    sums[fat_fraction] /= weight.where(weight > 0)
    return sums
