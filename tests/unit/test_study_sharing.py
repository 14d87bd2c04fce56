import numpy as np
import pandas as pd
import pytest

from paravert.study.describe import for_sharing, write_tables
from paravert.study.models import fit_models
from paravert.study.report_tables import weighted_texts
from study_tables import write_cohort


def test_rows_of_few_subjects_are_blank_and_others_stay():
    table = pd.DataFrame(
        {
            "muscle": ["a", "b", "c", "d"],
            "n_subjects": [4, 5, 0, 22],
            "n_slices": [60, 70, 0, 80],
            "mean": [1.5, 2.5, np.nan, 3.5],
            "lowest": [1.0, 2.0, np.nan, 3.0],
        }
    )
    shared = for_sharing(table)
    assert shared.suppressed.tolist() == [True, False, False, False]
    assert shared.loc[0, ["n_subjects", "n_slices", "mean"]].isna().all()
    assert shared.muscle.tolist() == ["a", "b", "c", "d"]
    assert shared["mean"].tolist()[1::2] == [2.5, 3.5]
    assert shared.lowest.isna().all()
    assert shared.n_subjects.tolist()[1:] == [5, 0, 22]


def know_analysed(cohort):
    """Write sex and age of the analysed subjects into the ledger."""
    people = pd.read_parquet(cohort / "subjects.parquet").set_index("subject")
    ledger = pd.read_parquet(cohort / "ledger.parquet")
    known = {name: ledger["subject"].map(people[name]) for name in ("sex", "age_years")}
    ledger.assign(**known).to_parquet(cohort / "ledger.parquet")


@pytest.mark.parametrize("shared", [False, True])
def test_tables_for_sharing_hold_no_count_below_five(tmp_path, shared):
    write_cohort(tmp_path / "cohort", 8, quarantined=3)
    know_analysed(tmp_path / "cohort")
    write_tables(tmp_path / "cohort", tmp_path / "tables", 20, share_tables=shared)
    fit_models(tmp_path / "cohort", tmp_path / "tables/models.csv", None, 20, share_tables=shared)
    small = 0
    for file in (tmp_path / "tables").glob("*.csv"):
        if file.stem == "published_values":  # of other studies
            continue
        table = pd.read_csv(file)
        assert ("suppressed" in table) == shared
        for name in table:
            if name in ("n", "subjects") or name.startswith(("n_subjects", "n_missing", "count_")):
                small += table[name].between(1, 4).sum()
            if name == "note":
                small += table[name].astype(str).str.contains(r"\b[1-4] subjects?\b").sum()
            if shared and name.endswith(("lowest", "highest")):
                assert table[name].isna().all()
    assert (small == 0) == shared
    weighted = pd.read_csv(tmp_path / "tables/weighted_contrasts.csv")
    assert weighted.n_missing.isna().all() == shared
    told = "fewer than 5 subjects" if shared else "3 subjects"
    assert weighted.note.str.contains(f"without {told} of unknown sex").all()
    assert ("– missing" in weighted_texts(weighted)["note"]) == shared
