"""What a fat fraction is called: by Dixon a fat fraction, from a single contrast a fat index."""

import pandas as pd

from paravert.study.summary import counted
from paravert.tables import DIXON

FAT_FRACTION, FAT_INDEX = "Fat fraction", "Fat index"


def fat_name(methods: pd.Series) -> str:
    """Return the name of a cohort's fat fractions: "Fat index" if all are from a single contrast.

    methods: column fat_fraction_method of the cohort table `subjects`. Otherwise, and without scans,
    "Fat fraction".
    """
    return FAT_INDEX if len(methods) and not (methods == DIXON).any() else FAT_FRACTION


def fat_note(methods: pd.Series) -> str:
    """Return a sentence for captions on what a cohort's fat fractions are; "" if all are by Dixon.

    methods: column fat_fraction_method of the cohort table `subjects`, one row per scan; "" without rows.
    """
    dixon, scans = int((methods == DIXON).sum()), len(methods)
    if dixon == scans:
        return ""
    if not dixon:
        return "Fat fractions are a fat index, from a single contrast."
    return (
        f"Fat fractions: {dixon:,} of {counted(scans, 'scan')} by Dixon, the others a fat index; not"
        " comparable."
    )
