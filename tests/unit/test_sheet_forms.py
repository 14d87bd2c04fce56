"""Subject sheets as people keep them: encodings, delimiters, Excel, words for sex, other columns."""

import datetime
import io
import os
import re
import string
import warnings
import zipfile
from pathlib import Path

import openpyxl
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from paravert import sheet_workbook
from paravert.errors import InputError
from paravert.sheet import (
    CATEGORY,
    DATE,
    FILE_PATH,
    NUMBER,
    TEXT,
    YES_NO,
    read_sheet,
    scan_of,
    selected_scans,
    type_of,
    write_sheet,
)
from paravert.study.people import carried_columns

SHARED = Path(__file__).parents[3] / "shared"
CASES = Path(os.environ.get("PARAVERT_REAL_DATA", SHARED / "data")).parent / "cases/sheets"


def faults(path, *arguments):
    with pytest.raises(InputError) as caught:
        read_sheet(path, *arguments)
    return str(caught.value)


def told_lines(path, *arguments):
    """Return the faults of a sheet, one each, without what was expected."""
    return [
        line.strip().split(", expected")[0] for line in faults(path, *arguments).split("\n")[1:]
    ]


# --- the sheets at hand --------------------------------------------------------------------------

with_cases = pytest.mark.skipif(not CASES.is_dir(), reason="the sheets are not at hand")


@with_cases
@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        ("excel.xlsx", "an Excel workbook"),
        ("excel_semicolon_cp1252.csv", "Windows-1252"),
        ("excel_semicolon_utf8bom.csv", "UTF-8"),
        ("tabs_utf16.txt", "UTF-16"),
    ],
)
def test_a_sheet_from_excel_has_its_three_subjects(name, encoding):
    found = read_sheet(CASES / name)
    assert found.encoding == encoding
    assert [row["subject"] for row in found.rows] == ["007", "008", "009"]
    assert [row["sex"] for row in found.rows] == ["M", "M", "F"]
    assert [row["age_years"] for row in found.rows] == ["42.5", "42.6", ""]
    assert [row["height_cm"] for row in found.rows] == ["166", "166", ""]
    assert [float(row["weight_kg"] or 0) for row in found.rows] == [68, 0, 0]
    assert [row["site"] for row in found.rows] == ["Köln", "München", "Köln"]
    assert [row["Diagnosis"] for row in found.rows] == ["low back pain", "", "healthy control"]
    assert [row["visit"] for row in found.rows] == ["1", "2", "1"]
    types = {"Diagnosis": CATEGORY, "BMI": NUMBER, "Smoker": YES_NO}
    assert found.types == types
    assert all(Path(row["images"]).exists() for row in found.rows)


@with_cases
def test_all_faults_of_a_sheet_are_listed_at_once():
    assert told_lines(CASES / "many_faults.csv") == [
        "line 2, sex: 'x'",
        "line 2, age_years: 'abc'",
        "line 3, subject: 'S1' is already on line 2",
        "line 4, subject: '..'",
        "line 4, images: 'C:\\scans\\S3', a Windows path",
        "line 4, age_years: '-4'",
        "line 5, images: empty",
        "line 5, age_years: ','",
    ]


# --- text ----------------------------------------------------------------------------------------

TEXT_OF_TWO = "subject|images|age_years|site\n007|a|42{0}5|Köln\n008|b||Zürich\n"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize(
    ("codec", "encoding"),
    [
        ("utf-8", "UTF-8"),
        ("utf-8-sig", "UTF-8"),
        ("utf-16", "UTF-16"),
        ("cp1252", "Windows-1252"),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_encoding_and_delimiter_reads_alike(sheet, delimiter, codec, encoding, end):
    point = "." if delimiter == "," else ","
    text = TEXT_OF_TWO.format(point).replace("|", delimiter).replace("\n", end)
    found = read_sheet(sheet(text, codec))
    assert [(row["subject"], row["age_years"], row["site"]) for row in found.rows] == [
        ("007", "42.5", "Köln"),
        ("008", "", "Zürich"),
    ]
    assert found.encoding == encoding
    assert found.notices() == ([] if encoding == "UTF-8" else [f"read as {encoding}"])


def test_big_endian_utf_16_is_read(tmp_path):
    path = tmp_path / "sheet.txt"
    path.write_bytes(b"\xfe\xff" + "subject\timages\nS1\tä\n".encode("utf-16-be"))
    assert Path(read_sheet(path).rows[0]["images"]).name == "ä"


def test_names_of_columns_have_any_case_and_spaces_around(sheet):
    row = read_sheet(sheet(" SUBJECT ;Images; Age_Years ; Pain VAS\nS1;a;40;3\n")).rows[0]
    assert (row["subject"], row["age_years"], row["Pain VAS"]) == ("S1", "40", "3")


def test_lines_of_delimiters_alone_are_empty_also_before_the_header(sheet):
    found = read_sheet(sheet(";;\nsubject;images;age_years\n\n;;\nS1;a;41,5\n;;;;\n ; ;\n"))
    assert [(row["subject"], row["age_years"]) for row in found.rows] == [("S1", "41.5")]


@pytest.mark.parametrize(
    ("cells", "is_told"),
    [
        (["1,234", "987"], True),
        (["1,234", "2,345"], True),
        (["1.234", "987", ""], True),
        (["1.234", "2.345"], False),  # decimals of many programs
        (["1,234", "0,5"], False),
        (["1,234", "1500"], False),
    ],
)
def test_numbers_that_may_have_separators_of_thousands_are_told(sheet, cells, is_told):
    lines = [f"S{number};a;{cell}" for number, cell in enumerate(cells)]
    found = read_sheet(sheet("\n".join(["subject;images;steps", *lines])))
    assert found.types == {"steps": NUMBER}
    told = "column steps: 1,234 and 1.234 are read as a little more than 1, not as thousands"
    assert found.doubts == ((told,) if is_told else ())


def test_words_in_two_spellings_are_told(sheet):
    lines = ["S1,a,Ulm,Case,Low back,yes,m", "S2,b,ulm,Control,low  back,Yes,n", "S3,c,,,,,M"]
    found = read_sheet(sheet("\n".join(["subject,images,site,group,pain,smoker,mark", *lines])))
    assert found.doubts == (
        "column site: 'Ulm' and 'ulm' count as different, expected one spelling",
        "column pain: 'Low back' and 'low  back' count as different, expected one spelling",
        "column mark: 'M' and 'm' count as different, expected one spelling",
    )


def test_errors_of_excel_in_text_are_told_as_in_a_workbook(sheet):
    path = sheet("subject;images;bmi;note\nS1;a;#DIV/0!;# 3!\nS2;b; #WERT! ;#2\nS3;c;21,5;#N/A\n")
    assert told_lines(path) == ["line 2, bmi: the error #DIV/0!", "line 3, bmi: the error #WERT!"]


def test_relative_windows_paths_are_told_before_the_run(sheet):
    path = sheet("subject,images,truth\nS1,dicom\\A001,m/a.nii\nS2,./a\\b,masks\\S2.nii\n")
    assert told_lines(path) == [
        "line 2, images: 'dicom\\A001', a Windows path",
        "line 3, truth: 'masks\\S2.nii', a Windows path",
    ]


def test_commas_in_a_quoted_name_are_no_delimiters(sheet):
    path = sheet('subject;images;"pain, now, at night, in rest"\nS1;a;3\n')
    assert read_sheet(path).rows[0]["pain, now, at night, in rest"] == "3"


@pytest.mark.parametrize("word", ["", "NA", "n/a", "N/A", "na", ".", " . ", "#N/A", "#NV"])
def test_words_for_unknown_are_empty_cells(sheet, word):
    columns = "subject;images;sex;age_years;site;truth;visit;mine"
    row = read_sheet(sheet(f"{columns}\nS1;a{f';{word}' * 6}\n")).rows[0]
    assert {row[name] for name in columns.split(";")[2:]} == {""}
    told = faults(sheet(f"subject;images;x\n{word};{word};a\n"))
    assert "line 2, subject: " in told
    assert "line 2, images: " in told


def test_a_word_for_unknown_in_a_required_cell_is_told_as_such(sheet):
    assert "line 2, subject: 'NA' (unknown), expected a pseudonym" in faults(
        sheet("subject;images\nNA;a\n")
    )


SEXES = {"F": "F female f w FEMALE W Female", "M": "M male m Male"}


@pytest.mark.parametrize(
    ("word", "sex"), [(word, sex) for sex, words in SEXES.items() for word in words.split()]
)
def test_words_for_sex(sheet, word, sex):
    assert read_sheet(sheet(f"subject,images,sex\nS1,a,{word}\n")).rows[0]["sex"] == sex


@pytest.mark.parametrize("codes", [{1: "M", 2: "F"}, {"1": "M", "2": "F"}])
def test_codes_for_sex_need_a_setting(sheet, codes):
    path = sheet("subject,images,sex\nS1,a,1\nS2,a,2\nS3,a,w\n")
    assert [row["sex"] for row in read_sheet(path, "", codes).rows] == ["M", "F", "F"]
    assert told_lines(path) == ["line 2, sex: '1'", "line 3, sex: '2'"]
    assert "setting sex_codes" in faults(path)
    assert "line 2, sex: '3'" in faults(sheet("subject,images,sex\nS1,a,3\n"), "", codes)


def test_a_code_that_contradicts_a_word_for_sex_is_a_fault(sheet):
    assert "sex_codes: m already means M" in faults(sheet("subject,images\nS1,a\n"), "", {"m": "F"})


def test_empty_lines_and_columns_are_ignored(sheet):
    found = read_sheet(sheet("subject;images;;\n;;;\n\nS1;a;;\n \t \n;\nS2;b\n;;;\n"))
    assert [row["subject"] for row in found.rows] == ["S1", "S2"]
    assert found.types == {}


def test_subject_and_visit_together_are_unique(sheet):
    path = sheet(
        "subject,visit,images\nS1,1,a\nS1,2,b\nS2,1,c\nS2,1,d\nS3,,e\nS4,a_1,f\ns1,3,g\nS2,B,h\nS2,b,i"
    )
    assert told_lines(path) == [
        "line 5, subject: 'S2', visit '1', is already on line 4",
        "line 6, visit: empty",
        "line 7, visit: 'a_1'",
        "line 8, subject: 's1' is 'S1' on line 2",
        "line 10, subject: 'S2', visit 'b', is already on line 9",
    ]


def test_two_sexes_in_the_visits_of_a_subject_are_told(sheet):
    path = sheet(
        "subject,visit,images,sex\nS1,1,a,\nS1,2,b,w\nS1,3,c,M\nS2,1,d,m\nS2,2,e,male\nS2,3,f,F\nS3,1,g,F"
    )
    told = "column sex: F in one visit and M in another (S1, S2), expected one sex; models count them as both"
    assert read_sheet(path).doubts == (told,)
    assert read_sheet(sheet("subject,visit,images,sex\nS1,1,a,F\nS1,2,b,w\nS2,1,c,M")).doubts == ()


def test_scans_are_named_by_subject_and_visit(sheet):
    found = read_sheet(sheet("subject,visit,images\nA,2,a\nA_1,2,b\nA,10,c\n"))
    assert list(map(scan_of, found.rows)) == ["A_2", "A_1_2", "A_10"]
    assert selected_scans(found.rows, "A, A_1_2,nobody") == "A_2,A_10,A_1_2,nobody"
    assert selected_scans(found.rows, "") == ""
    found = read_sheet(sheet("subject,visit,images\nA_2,,a\nA,,b\n"))  # no visits
    assert list(map(scan_of, found.rows)) == ["A_2", "A"]
    told_lines_of_mixed = told_lines(sheet("subject,visit,images\nA_2,,a\nA,2,b\n"))
    assert told_lines_of_mixed == ["line 2, visit: empty"]  # so both cannot be named A_2


def test_years_since_the_first_visit_come_from_dates(sheet, tmp_path):
    text = (
        "subject,visit,images,Date\nA,b,a,2021-03-01\nA,a,b,01.03.2020\nA,c,c,01/03/2022\nB,1,d,\n"
    )
    found = read_sheet(sheet(text))
    assert [row["years_since_first"] for row in found.rows] == ["0.9993", "0.0000", "", ""]
    assert found.types == {"Date": DATE, "years_since_first": NUMBER}
    (doubt,) = found.doubts
    assert doubt.startswith("column Date: 1 of 3 cells are not read as dates, expected")
    assert "years_since_first is computed from the column date" in found.notices()
    write_sheet(tmp_path / "again.csv", found.rows)
    again = read_sheet(tmp_path / "again.csv")
    assert (again.rows, again.types) == (found.rows, found.types)
    own = read_sheet(
        sheet(
            "subject,visit,images,date,Years_since_first\nA,1,a,2020-01-01,0\nA,2,b,2021-01-01,1.5\n"
        )
    )
    assert [row["Years_since_first"] for row in own.rows] == ["0", "1.5"]
    assert "years_since_first" not in own.types
    alone = read_sheet(sheet("subject,images,date\nA,a,2021-03-01\n"))
    assert "years_since_first" not in alone.rows[0]


def test_years_that_are_no_numbers_are_told(sheet):
    text = "subject,visit,images,Years_since_first\nA,1,a,0\nA,2,b,2 years\n"
    told = "column Years_since_first: not used, as it holds other text than numbers"
    assert read_sheet(sheet(text)).doubts == (told,)
    assert read_sheet(sheet(text.replace(" years", ""))).doubts == ()


def test_years_come_from_dates_in_any_clear_form_and_others_are_told(sheet):
    text = "subject,visit,images,date\nA,1,a,2020/03/01\nA,2,b,20210301101500\n"
    found = read_sheet(sheet(text))
    assert [row["years_since_first"] for row in found.rows] == ["0.0000", "0.9993"]
    assert found.doubts == ()
    unclear = "subject,visit,images,date\nA,1,a,{}\nA,2,b,{}\n"
    for dates in (("01-03-2020", "01-03-2021"), ("2020-03", "2021-03")):
        found = read_sheet(sheet(unclear.format(*dates)))
        assert "years_since_first" not in found.rows[0]
        (doubt,) = found.doubts
        assert doubt.startswith("column date: 2 of 2 cells are not read as dates")


def test_a_sheet_that_is_written_for_jobs_reads_the_same(sheet, tmp_path):
    text = 'Subject;Images;Sex;"a,b;c;d;e;f";BMI;note\n007;x;w;1;24,7;"a ""b"", c"\n008;y;.;NA;;\n'
    found = read_sheet(sheet(text, "cp1252"), "", {1: "M"})
    write_sheet(tmp_path / "run.csv", found.rows)
    again = read_sheet(tmp_path / "run.csv")
    assert again.rows == found.rows
    assert again.types == found.types


# --- other columns -------------------------------------------------------------------------------

MANY = [f"text {number}" for number in range(51)]


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1", "2", ""], NUMBER),
        (["-1.5", "1e-05"], NUMBER),
        (["24,7", "3"], NUMBER),
        (["1,234", "1.5"], CATEGORY),
        (["007", "12"], CATEGORY),
        (["0", "0.5", "0,5"], CATEGORY),
        (["1234567890123456"], CATEGORY),
        (["1e999"], CATEGORY),
        (["yes", "No", ""], YES_NO),
        (["TRUE", "false"], YES_NO),
        (["y"], YES_NO),
        (["yes", "no", "perhaps"], CATEGORY),
        (["", ""], CATEGORY),
        ([], CATEGORY),
        (MANY[:50], CATEGORY),
        (MANY, TEXT),
        (["2024-02-29", ""], DATE),
        (["1.2.2024"], DATE),
        (["03/04/24", "unknown"], DATE),
        (["2024-02-29T10:20:30+01:00"], DATE),
        (["20240229", "19991231", ""], DATE),
        (["20240229", "20241331"], NUMBER),
        (["20240229", "not done"], DATE),
        (["20240229101500"], DATE),
        (["29-02-2024"], DATE),
        (["2024/02/29 10:00"], DATE),
        (["29. 2. 2024"], DATE),
        (["29-Feb-24", "?"], DATE),
        (["29FEB2024:10:15:00"], DATE),
        (["Sept. 3, 2024"], DATE),
        (["3. März 2024"], DATE),
        (["4.1.3", "2-3-4", "T12-L1", "3 months 2024", "may 20"], CATEGORY),
        (["1/2"], CATEGORY),
        (["", "/data/m"], FILE_PATH),
        (["//server/share", "none"], FILE_PATH),
        (["~/m"], FILE_PATH),
        (["C:\\m"], FILE_PATH),
        (["\\\\server\\m"], FILE_PATH),
        (["masks/Meier Hans.nii.gz", "yes"], FILE_PATH),
        (["masks\\a.nii"], FILE_PATH),
        (["~5", "left / right", "km/h", "3/4.5", "and/or etc.", "/"], CATEGORY),
    ],
)
def test_the_type_of_a_column_follows_from_its_cells(cells, kind):
    assert type_of(cells) == kind


def test_other_columns_like_own_absent_ones_are_doubted(sheet):
    found = read_sheet(
        sheet(
            "subject,images,truht,Age_year,age,lable,heart_rate,state,truth3,weight_kg,truth2x,truth2,truth\n"
            "S1,a,m/a.nii,30,31,m,60,x,m,70,,,\n"
        )
    )
    carried = "It is carried into the tables as it is"
    assert found.doubts == (
        f"column Age_year: did you mean age_years? {carried}",
        f"column age: did you mean age_years? {carried}",
        f"column lable: did you mean labels? {carried}",
    )
    told = read_sheet(sheet("subject,images,truht\nS1,a,m/a.nii\n"))
    assert told.notices() == [
        "other columns: truht (path)",
        "column truht: did you mean truth? It is not used",
        "columns with paths of files are not written into the tables",
    ]


def test_the_types_of_other_columns_are_told(sheet):
    found = read_sheet(sheet("subject,images,Smoker,born\nS1,a,yes,2000-01-01\n"))
    assert found.notices() == [
        "other columns: Smoker (yes/no), born (date)",
        "dates are not written into the tables",
    ]


# --- Excel ---------------------------------------------------------------------------------------


def workbook(path, rows, formats=None, title="people"):
    """Write a worksheet; formats: number formats by cell."""
    book = openpyxl.Workbook()
    book.active.title = title
    for row in rows:
        book.active.append(row)
    for place, number_format in (formats or {}).items():
        book.active[place].number_format = number_format
    book.save(path)
    return book


@pytest.mark.parametrize(
    ("value", "number_format", "text"),
    [
        (7, "000", "007"),
        (7, "General", "7"),
        (7, "0", "7"),
        (7.0, "0.00", "7"),
        (12345, "000", "12345"),
        (7, '"S"000', "S007"),
        (7, "000;-000", "007"),
        (1234, "00-00", "12-34"),
        (12345, "00-00", "123-45"),
        (7, "\\S0\\_00", "S0_07"),
        (1234, "#,##0", "1234"),
        ("007", "General", "007"),
        (" S1 ", "General", "S1"),
        (123456789012, "General", "123456789012"),
    ],
)
def test_a_subject_in_excel_keeps_its_text(tmp_path, value, number_format, text):
    path = tmp_path / "sheet.xlsx"
    workbook(path, [["Subject", "Images"], [value, "a"]], {"A2": number_format})
    assert read_sheet(path).rows[0]["subject"] == text


def test_values_of_excel(tmp_path):
    path = tmp_path / "sheet.xlsx"
    when = datetime.datetime(2024, 2, 29)
    names = ["subject", "images", "age_years", "truth", "share", "smoker", "day", "late"]
    rows = [names, [1, "a", 42.5, "#N/A", 0.25, True, when, when.replace(hour=7)], [], [None] * 8]
    workbook(path, [*rows, [2, "b", 0.3, None, 1e-7, False, None, None]])
    found = read_sheet(path)
    first, last = found.rows
    assert (first["age_years"], first["truth"], first["share"]) == ("42.5", "", "0.25")
    assert (first["smoker"], first["day"], first["late"]) == (
        "TRUE",
        "2024-02-29",
        "2024-02-29T07:00:00",
    )
    assert (last["subject"], float(last["share"]), float(last["age_years"])) == (
        "2",
        1e-7,
        0.3,
    )
    assert found.types == {"share": NUMBER, "smoker": YES_NO, "day": DATE, "late": DATE}


def test_faults_of_a_workbook_have_the_numbers_of_its_rows(tmp_path):
    path = tmp_path / "sheet.xlsx"
    rows = [[], ["Subject", "Images", "Sex", "mine"], ["S1", "a", "x", "#REF!"], []]
    rows += [["S1", None, "F", "=1+1"], ["S3", "a\nb", "F", "c", "d"], ["S4", "a", "F", "x"]]
    book = workbook(path, [*rows, ["S5", "a", "F"]])
    book.active.merge_cells("D7:D8")
    book.save(path)
    assert told_lines(path) == [
        "line 3, Sex: 'x'",
        "line 3, mine: the error #REF!",
        "line 5, Subject: 'S1' is already on line 3",
        "line 5, Images: empty",
        "line 5, mine: a formula without a stored value; repair it in Excel",
        "line 6: 5 cells",
        "line 7, mine: the cells D7:D8 are merged",
    ]


def test_the_first_worksheet_or_the_one_that_is_named(tmp_path):
    path = tmp_path / "sheet.xlsx"
    book = workbook(path, [["subject", "images"], ["S1", "a"]])
    other = book.create_sheet("Second visit")
    other.append(["subject", "images"])
    other.append(["S2", "b"])
    book.save(path)
    assert read_sheet(path).rows[0]["subject"] == "S1"
    assert read_sheet(path, "second VISIT").rows[0]["subject"] == "S2"
    told = "no worksheet 'third' (sheet_name), expected among 'people', 'Second visit'"
    assert told in faults(path, "third")


def lines_of(path, monkeypatch, *, plain):
    """Return the lines of a workbook as calamine reads them (plain), or as openpyxl does."""
    used = []
    with monkeypatch.context() as patch:
        if not plain:
            patch.setattr(sheet_workbook, "_is_plain", lambda archive, xml: False)
        read = sheet_workbook._plain_lines
        patch.setattr(sheet_workbook, "_plain_lines", lambda *found: used.append(1) or read(*found))
        lines, _ = sheet_workbook.read_workbook(path, path.read_bytes(), "")
    assert bool(used) == plain
    return lines


def test_plain_worksheets_are_read_as_openpyxl_reads_them(tmp_path, monkeypatch):
    path = tmp_path / "sheet.xlsx"
    day, time = datetime.date(1999, 12, 31), datetime.time(6, 30)
    rows = [["a", "b", " c "], [1, -0.5, 1e-7], [10**14, 2.0**-40, 1e300], [True, False, "007"]]
    rows += [[], [day, datetime.datetime(2024, 2, 29, 7, 1), time], ["", None, "x\ny"], [None, 3]]
    rows += [[datetime.timedelta(hours=30), "Körper & <b> €", "漢字 'x'"], ["1,5", "=", 123456.789]]
    workbook(path, [*rows, [], ["end", None, None, "further"]], {"B2": "0.00", "A3": "#,##0"})
    found = lines_of(path, monkeypatch, plain=True)
    assert found == lines_of(path, monkeypatch, plain=False)
    assert [line.number for line in found] == [1, 2, 3, 4, 6, 7, 8, 9, 10, 12]


@pytest.mark.parametrize(
    ("value", "number_format"),
    [
        ("=1+1", "General"),
        ("#REF!", "General"),
        (10**15, "General"),
        (7, "000"),
        ("_x0041_", "General"),
    ],
)
def test_what_calamine_would_read_otherwise_is_left_to_openpyxl(
    tmp_path, monkeypatch, value, number_format
):
    path = tmp_path / "sheet.xlsx"
    workbook(path, [["a"], [value]], {"A2": number_format})
    lines_of(path, monkeypatch, plain=False)
    with zipfile.ZipFile(path) as archive:
        assert not sheet_workbook._is_plain(archive, archive.read("xl/worksheets/sheet1.xml"))


@pytest.mark.parametrize("place", ["A1048576", "XFD2", "BA1"])
def test_a_cell_far_from_the_others_costs_no_memory(tmp_path, monkeypatch, place):
    path = tmp_path / "sheet.xlsx"
    book = workbook(path, [["a"], ["b"]])
    book.active[place] = "far"
    book.save(path)
    with zipfile.ZipFile(path) as archive:
        assert not sheet_workbook._is_plain(archive, archive.read("xl/worksheets/sheet1.xml"))


def test_meanings_of_columns_come_from_another_worksheet(tmp_path):
    path = tmp_path / "sheet.xlsx"
    book = workbook(
        path, [["subject", "images", "Smoker", "pain", "date"], ["S1", "a", "yes", 3, None]]
    )
    book.create_sheet("notes").append(["column", "remark"])
    described = book.create_sheet("codebook")
    for row in (
        ["Meaning", "unit", "Column"],
        ["smokes at\nthe scan", "", "smoker"],
        ["", "", "pain"],
    ):
        described.append(row)
    described.append(["who", None, "subject"])
    described.append(["not there", None, "nobody"])
    book.save(path)
    found = read_sheet(path)
    assert found.meanings == {"Smoker": "smokes at the scan"}
    assert "meanings of columns: Smoker" in found.notices()
    (column,) = [c for c in carried_columns(found, found.meanings) if c.name == "Smoker"]
    assert column.meaning == "yes/no, from the sheet: smokes at the scan"


def test_a_damaged_workbook_is_told_or_reads_the_same(tmp_path):
    path = tmp_path / "sheet.xlsx"
    workbook(path, [["subject", "images"], *([f"S{n}", "a"] for n in range(40))])
    content, rows = path.read_bytes(), read_sheet(path).rows
    results = set()
    for place in range(0, len(content), 37):
        for damaged in (
            content[:place],
            content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :],
        ):
            path.write_bytes(damaged)
            results.add(result_of(path, rows))
    assert results == {"read", "told"}


def result_of(path, rows):
    try:
        found = read_sheet(path).rows
    except InputError:
        return "told"
    return "read" if found == rows else "other rows"


def test_a_workbook_that_unpacks_to_very_much_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / "sheet.xlsx"
    workbook(path, [["subject", "images"], ["S1", "a"]])
    monkeypatch.setattr(sheet_workbook, "UNPACKED_LIMIT_BYTES", 1000)
    assert "when unpacked" in faults(path)


# --- any table -----------------------------------------------------------------------------------

# No € after an accented capital: in Windows-1252 these two bytes are also a letter in UTF-8.
LETTERS = string.ascii_letters + string.digits + "äöüßéÅñ -_()/+:;,.'\"%&#"
WORDS = st.text(LETTERS, min_size=1, max_size=12).map(str.strip).filter(bool)
IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,12}", fullmatch=True)
NUMBERS = st.floats(-1e8, 1e8).map(
    lambda number: float(f"{number:.15g}")
)  # openpyxl writes no more
FORMS = {
    "comma": {"sep": ",", "encoding": "utf-8"},
    "semicolon": {"sep": ";", "encoding": "utf-8-sig", "decimal": ","},
    "tab": {"sep": "\t", "encoding": "utf-16"},
    "semicolon, Windows-1252": {"sep": ";", "encoding": "cp1252", "decimal": ","},
    "tab, Windows-1252": {"sep": "\t", "encoding": "cp1252"},
    "comma, UTF-16": {"sep": ",", "encoding": "utf-16"},
    "Excel": {},
}
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)  # shrinking takes minutes
UNKNOWN = ("", ".", "na", "n/a")


@st.composite
def random_tables(draw):
    """Return a table as somebody may keep it, with columns of all types."""
    ids = draw(
        st.lists(
            IDS.filter(lambda name: name.lower() not in UNKNOWN),
            min_size=1,
            max_size=8,
            unique_by=str.lower,
        )
    )

    def column(values):
        return draw(st.lists(values, min_size=len(ids), max_size=len(ids)))

    words = WORDS.filter(lambda word: word.lower() not in UNKNOWN)
    known_words = st.one_of(st.none(), words)
    table = {
        draw(st.sampled_from(["subject", "Subject ", " SUBJECT"])): ids,
        "Images": column(
            st.from_regex(r"i[a-zäöü]{1,8}(/[A-Za-z0-9 ]{1,8}[a-z])?", fullmatch=True)
        ),
        "Sex": column(st.sampled_from([None, "F", "M", "female", "m", "w"])),
        "age_years": column(
            st.one_of(st.none(), NUMBERS.map(lambda number: abs(number) % 120 // 0.01 / 100))
        ),
    }
    for name in draw(st.lists(words, max_size=4, unique_by=str.lower)):
        table[f"my {name}"] = column(
            draw(st.sampled_from([known_words, st.one_of(st.none(), NUMBERS)]))
        )
    order = draw(st.permutations(list(table)))
    return pd.DataFrame({name: pd.Series(table[name]) for name in order})


def written(table, form):
    content = io.BytesIO()
    if form == "Excel":
        with warnings.catch_warnings(action="ignore"):
            table.to_excel(content, index=False)
    else:
        text = table.to_csv(
            index=False, **{k: v for k, v in FORMS[form].items() if k != "encoding"}
        )
        content.write(text.encode(FORMS[form]["encoding"]))
    return content.getvalue()


@pytest.mark.parametrize("form", FORMS)
@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck), phases=PHASES)
@given(table=random_tables())
def test_a_table_written_by_pandas_reads_back_equal(tmp_path, form, table):
    path = tmp_path / "sheet"
    path.write_bytes(written(table, form))
    found = read_sheet(path)
    assert len(found.rows) == len(table)
    for row, (_, expected) in zip(found.rows, table.iterrows(), strict=True):
        for name, value in expected.items():
            assert_cell(row, name.strip(), value, tmp_path)
    write_sheet(tmp_path / "run.csv", found.rows)
    again = read_sheet(tmp_path / "run.csv")
    assert (again.rows, again.types) == (found.rows, found.types)


def assert_cell(row, name, value, home):
    own = name.lower()
    if own == "images":
        assert row["images"] == os.path.normpath(home / value.strip())
    elif value is None or pd.isna(value):
        assert row[own if own in ("subject", "sex", "age_years") else name] == ""
    elif own == "sex":
        assert row["sex"] == ("F" if value[0] in "Ffw" else "M")
    elif own == "age_years":
        assert float(row["age_years"]) == value
    elif own == "subject":
        assert row["subject"] == value
    elif isinstance(value, float):
        assert float(row[name].replace(",", ".")) == value
    else:
        assert row[name] == value


def test_every_file_in_an_archive_of_excel_is_xml_that_openpyxl_wrote(tmp_path):
    """The tests above need workbooks with formulas as openpyxl writes them: without values."""
    path = tmp_path / "sheet.xlsx"
    workbook(path, [["subject", "images"], ["S1", "=1+1"]])
    with zipfile.ZipFile(path) as archive:
        assert re.search(rb"<f>1\+1</f><v ?/?>", archive.read("xl/worksheets/sheet1.xml"))
