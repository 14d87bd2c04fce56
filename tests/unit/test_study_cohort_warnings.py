"""Sex and age of the sheet against those of the image header."""

import pandas as pd
import pytest

from paravert.study.cohort_warnings import covariate_differences, with_differences

CODE = "covariate-differs-from-header"


def differences(sheet, header):
    people = pd.DataFrame([sheet], columns=["sex", "age_years"], index=["S1"]).astype(
        {"sex": object, "age_years": float}
    )
    told = {"subject": "S1", "header_sex": header[0], "header_age_years": header[1]}
    return covariate_differences(people, pd.DataFrame([told]))


@pytest.mark.parametrize(
    ("sheet", "header"),
    [
        (("F", 61.0), ("F", 61.0)),
        (("F", 61.9), ("F", 61.0)),  # a header tells whole years
        (("F", 60.0), ("F", 61.0)),
        (("F", None), ("F", 61.0)),
        ((None, 61.0), ("M", 61.0)),
        (("F", 61.0), (None, None)),
        (("M", 97.0), ("M", 90.0)),  # 90 stands for 90 and more
        (("M", 89.0), ("M", 90.0)),
    ],
)
def test_what_agrees_or_is_unknown_is_not_told(sheet, header):
    assert differences(sheet, header) == {}


@pytest.mark.parametrize(
    ("sheet", "header", "told"),
    [
        (("F", 61.0), ("M", 61.0), "sex differs from PatientSex (0010,0040)"),
        (("F", 62.5), ("F", 61.0), "age_years differs from PatientAge (0010,1010) by 1.5"),
        (("F", 59.0), ("F", 61.0), "age_years differs from PatientAge (0010,1010) by 2.0"),
        (("M", 88.0), ("M", 90.0), "age_years differs from PatientAge (0010,1010) by 2.0"),
        (("M", 97.0), ("M", 88.0), "age_years differs from PatientAge (0010,1010) by 9.0"),
        (
            ("M", 30.0),
            ("F", 61.0),
            "sex differs from PatientSex (0010,0040); "
            "age_years differs from PatientAge (0010,1010) by 31.0",
        ),
    ],
)
def test_what_differs_is_told_in_words(sheet, header, told):
    assert differences(sheet, header) == {"S1": told}


def test_the_ledger_gets_warning_and_words_beside_what_it_has():
    ledger = pd.DataFrame(
        {
            "subject": ["S1", "S2"],
            "warnings": [("multi-stack",), ("multi-stack",)],
            "message": ["1 slice was set aside", None],
        }
    )
    told = with_differences(ledger, {"S1": "sex differs"}, CODE)
    assert list(told.warnings) == [(CODE, "multi-stack"), ("multi-stack",)]
    assert told.message[0] == "1 slice was set aside; sex differs"
    assert pd.isna(told.message[1])
    assert with_differences(ledger, {}, CODE).equals(ledger)
