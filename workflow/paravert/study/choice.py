"""Which subjects a figure shows: few, from a seed, spread over the cohort."""

import numpy as np
import pandas as pd


def representatives(subjects: pd.DataFrame, order: str, count: int, seed: int) -> list[str]:
    """Return subjects, one at random from each of `count` equal parts of the cohort in order.

    In order: women, men, unknown, and within a sex ascending in the column `order`, unknown last.
    Fewer subjects than parts: all of them.
    """
    place = subjects["sex"].map({"F": 0, "M": 1}).fillna(2)
    ordered = subjects.assign(place=place).sort_values(["place", order, "subject"])["subject"]
    parts = np.array_split(ordered.to_numpy(), min(count, len(ordered)) or 1)
    random = np.random.default_rng(seed)
    return [str(random.choice(part)) for part in parts if len(part)]
