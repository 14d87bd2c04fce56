import numpy as np
import pandas as pd
import pytest

from paravert.study.selection import SELECTION_COLUMNS, selection


@pytest.fixture
def ledger():
    """Return ten analysed and six quarantined subjects; one age and one sex are unknown."""
    ages = [30, 40, 50, 60, 70, 30, 40, 50, 60, np.nan] + [60, 70, 80, 60, 70, 80]
    return pd.DataFrame(
        {
            "subject": [f"S{number}" for number in range(16)],
            "status": ["analysed"] * 10 + ["quarantined"] * 6,
            "reason": [None] * 10 + ["mosaic"] * 4 + ["no-dicom"] * 2,
            "sex": ["F"] * 6 + ["M"] * 4 + ["F"] * 1 + ["M"] * 4 + [None],
            "age_years": ages,
            "smoker": [True] * 5 + [False] * 5 + [True] * 6,
            "pseudonym": [f"x{number}" for number in range(16)],
        }
    )


def of(table, variable, category=None):
    rows = table[table.variable == variable]
    (row,) = (
        rows[rows.category == category].to_dict("records") if category else rows.to_dict("records")
    )
    return row


def test_numbers_are_compared_by_mean_sd_and_standardised_difference(ledger):
    ledger = pd.concat([ledger] * 2, ignore_index=True)
    row = of(selection(ledger), "age_years")
    inside, outside = (ledger.age_years[ledger.status == s] for s in ("analysed", "quarantined"))
    assert row["analysed"] == pytest.approx(inside.mean())
    assert row["sd_not_analysed"] == pytest.approx(outside.std())
    pooled = np.sqrt((inside.var() + outside.var()) / 2)
    assert row["standardised_difference"] == pytest.approx(
        (inside.mean() - outside.mean()) / pooled
    )
    assert (row["n_analysed"], row["missing_analysed"]) == (18, 2)
    assert (row["n_not_analysed"], row["missing_not_analysed"]) == (12, 0)
    assert row["unit"] == "year"


def test_categories_are_compared_by_their_share_of_the_known_values(ledger):
    table = selection(ledger)
    row = of(table, "sex", "F")
    assert (row["analysed"], row["not_analysed"]) == (0.6, 0.2)
    expected = (0.6 - 0.2) / np.sqrt((0.6 * 0.4 + 0.2 * 0.8) / 2)
    assert row["standardised_difference"] == pytest.approx(expected)
    assert row["missing_not_analysed"] == 1
    assert of(table, "smoker", "True")["not_analysed"] == 1.0


def test_reasons_are_counted_and_identifiers_left_out(ledger):
    table = selection(pd.concat([ledger, ledger.assign(pseudonym="y" + ledger.pseudonym)]))
    assert of(table, "reason", "mosaic")["count_not_analysed"] == 8
    assert of(table, "sex", "F")["count_not_analysed"] == 2
    assert of(table, "reason", "no-dicom")["not_analysed"] == pytest.approx(1 / 3)
    assert "pseudonym" not in set(table.variable)
    assert list(table.columns) == list(SELECTION_COLUMNS)


@pytest.mark.parametrize("kept", ["analysed", "quarantined", "nobody"])
def test_one_group_alone_has_no_difference(ledger, kept):
    table = selection(ledger[ledger.status == kept])
    assert table.standardised_difference.isna().all()
